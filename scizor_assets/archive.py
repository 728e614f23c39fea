"""Closed months of bars as files, and the schedule that sees to it every night.

Belongs here: the asset, its check and its schedule. Not here: how a month is written, verified and
released (`scizor_resources.stores.archive`).
"""

from collections.abc import Sequence
from datetime import date
from typing import Any

import dagster as dg
from pydantic import Field

from scizor_assets.automation import schedule_status
from scizor_assets.common import OWNERS, failures
from scizor_assets.partitions import month_partitions, window_of_run
from scizor_core.archive import parse_month
from scizor_core.errors import InvalidInputError
from scizor_core.markets import MARKETS, TIMEFRAMES, check_timeframe, get_market
from scizor_resources.platform import Platform
from scizor_resources.stores.archive import MonthReport

#: Months of one run, and runs of one night: a backlog of years is worked off over some nights.
MONTHS_PER_RUN = 12
MONTHS_PER_NIGHT = 24


class ArchiveConfig(dg.Config):
    """Run config of the archive."""

    dry_run: bool = Field(default=False, description="Say what would be done and do nothing.")
    release: bool = Field(
        default=False,
        description="Delete from PostgreSQL what is verified; daily bars stay in any case.",
    )
    markets: list[str] | None = Field(default=None, description="Only these; by default all.")
    timeframes: list[str] | None = Field(default=None, description="Only these; by default all.")


@dg.asset(
    key=["archive", "bars"],
    deps=[dg.AssetKey([market, f"bars_{each}"]) for market in MARKETS for each in TIMEFRAMES],
    partitions_def=month_partitions(),
    backfill_policy=dg.BackfillPolicy.multi_run(MONTHS_PER_RUN),
    group_name="archive",
    kinds={"python", "parquet"},
    owners=OWNERS,
    code_version="1",
    description=(
        "Bars of months that ended more than SCIZOR_ARCHIVE_AFTER_DAYS ago as Parquet, one file "
        "for each market, timeframe and UTC month, compared with PostgreSQL row by row. With "
        "release the bars leave PostgreSQL; they are still read by whoever asks the platform's "
        "reader. SQL: archive.bars, one row per file."
    ),
    metadata={"dagster/table_name": "archive.bars"},
)
def archive_bars(
    context: dg.AssetExecutionContext,
    config: ArchiveConfig,
    platform: dg.ResourceParam[Platform],
) -> dg.MaterializeResult:  # type: ignore[type-arg]  # generic in stubs only
    """Archive the months of the run."""
    with failures():
        reports = platform.archive.run(
            [parse_month(key) for key in context.partition_keys],
            markets=None if config.markets is None else _markets(config.markets),
            timeframes=(
                None
                if config.timeframes is None
                else [check_timeframe(each) for each in config.timeframes]
            ),
            release=config.release,
            dry_run=config.dry_run,
        )
    for report in reports:
        context.log.info("%s: %s %s", report.key, report.action, report.problem)
    refused = [report for report in reports if report.problem]
    if refused:
        raise dg.Failure(
            description=" ".join(report.problem for report in refused),
            metadata={"months": _table(reports)},
            allow_retries=False,
        )
    metadata: dict[str, Any] = {
        "dry_run": config.dry_run,
        "release": config.release,
        "files": sum(1 for report in reports if report.state),
        "rows": sum(report.rows for report in reports),
        "bytes": sum(report.bytes for report in reports),
        "rows_released": sum(report.rows for report in reports if report.state == "released"),
        "months": _table(reports),
    }
    if not reports:
        metadata["empty_reason"] = "no bars are stored or archived for this month"
    return dg.MaterializeResult(metadata=metadata)


def _markets(names: Sequence[str]) -> list[str]:
    return [get_market(name).name for name in names]


def _table(reports: Sequence[MonthReport]) -> dg.TableMetadataValue:
    schema = dg.TableSchema(
        columns=[
            dg.TableColumn("market"),
            dg.TableColumn("timeframe"),
            dg.TableColumn("month"),
            dg.TableColumn("action"),
            dg.TableColumn("state"),
            dg.TableColumn("rows", "int"),
            dg.TableColumn("bytes", "int"),
        ]
    )
    records = [
        dg.TableRecord(
            {
                "market": report.key.market,
                "timeframe": report.key.timeframe,
                "month": f"{report.key.month:%Y-%m}",
                "action": report.problem or report.action,
                "state": report.state or "not archived",
                "rows": report.rows,
                "bytes": report.bytes,
            }
        )
        for report in reports
    ]
    return dg.MetadataValue.table(records, schema)


@dg.asset_check(
    asset=archive_bars,
    name="verified",
    description=(
        "Each file's bytes have the digest on record, and it has the rows on record. Outside of a "
        "partition's run all files are read."
    ),
)
def archive_verified(
    context: dg.AssetCheckExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.AssetCheckResult:
    """Read the files of the run's months, or all of them."""
    window = window_of_run(context, month_partitions())
    with failures():
        keys = [
            month.key
            for month in platform.archive.months()
            if window is None or window[0] <= month.key.month < window[1]
        ]
        reports = platform.archive.verify(keys)
    wrong = [report for report in reports if report.problem]
    return dg.AssetCheckResult(
        passed=not wrong,
        severity=dg.AssetCheckSeverity.ERROR,
        description=" ".join(report.problem for report in wrong[:5]) or None,
        metadata={
            "files_checked": len(reports),
            "rows": sum(report.rows for report in reports),
            "files_wrong": len(wrong),
            "bytes": sum(report.bytes for report in reports),
        },
    )


def requests_for(months: Sequence[date], on: date, *, release: bool) -> list[dg.RunRequest]:
    """Return a run for each month that has a partition, the oldest first, as many as a night takes.

    Args:
        months: months that are due, ascending.
        on: day of the tick; a month may be due again another day.
        release: as in the run config.

    Raises:
        InvalidInputError: months are due, and none has a partition.
    """
    keys = [month.isoformat() for month in months]
    known = [key for key in keys if month_partitions().has_partition_key(key)]
    if keys and not known:
        raise InvalidInputError(
            f"Bars of {keys[0][:7]} are due, but lie before SCIZOR_DAILY_START: set it earlier."
        )
    config = {"ops": {"archive__bars": {"config": {"release": release}}}}
    return [
        dg.RunRequest(run_key=f"{key} on {on}", partition_key=key, run_config=config)
        for key in known[:MONTHS_PER_NIGHT]
    ]


@dg.schedule(
    name="archive_nightly",
    cron_schedule="20 3 * * *",
    target=[archive_bars],
    default_status=schedule_status(),
    description=(
        "Archives the months of bars that are due, at 03:20 UTC; with SCIZOR_ARCHIVE_RELEASE they "
        "leave PostgreSQL."
    ),
)
def archive_nightly(
    context: dg.ScheduleEvaluationContext, platform: dg.ResourceParam[Platform]
) -> list[dg.RunRequest] | dg.SkipReason:
    """Ask which months are due."""
    release = platform.settings.archive_release
    months = platform.archive.due(release=release)
    if not months:
        return dg.SkipReason("Every month of bars that is due is archived.")
    return requests_for(months, context.scheduled_execution_time.date(), release=release)


ARCHIVE_ASSETS: list[dg.AssetsDefinition] = [archive_bars]
ARCHIVE_CHECKS: list[dg.AssetChecksDefinition] = [archive_verified]
ARCHIVE_SCHEDULES: list[dg.ScheduleDefinition] = [archive_nightly]
