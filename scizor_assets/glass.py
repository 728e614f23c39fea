"""On-chain values as they were known: fundamentals of protocols, and their checks.

Belongs here: the assets of group `glass` and the turning of findings into check results. Not here:
how values are fetched and read (`scizor_resources.providers.defillama`), the judgement itself
(`scizor_core.schemas.fundamentals`).
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, date, timedelta
from typing import Any

import dagster as dg
import pandas as pd

from scizor_assets.check_results import contract_result, finding_result
from scizor_assets.common import OWNERS, failures, row_counts
from scizor_assets.partitions import dates_of, day_partitions, window_of_run
from scizor_core.bar_checks import SHOWN_ROWS, Finding
from scizor_core.schemas.fundamentals import find_jumps, validate_fundamentals
from scizor_resources.pipeline.accounts import ProviderRun, sample_run
from scizor_resources.platform import Platform
from scizor_resources.providers.defillama.client import FundamentalsBatch
from scizor_resources.stores.fundamentals import FundamentalsWritten

#: A check that runs on its own, without a partition, looks at this much of the newest data.
UNPARTITIONED_DAYS = 35
_DAY = timedelta(days=1)
_KEY = dg.AssetKey(["glass", "protocol_fundamentals"])


@dg.asset(
    key=_KEY,
    partitions_def=day_partitions(),
    # DefiLlama answers with whole histories: many days cost as many calls as one.
    backfill_policy=dg.BackfillPolicy.single_run(),
    group_name="glass",
    kinds={"python", "postgres"},
    owners=OWNERS,
    code_version="1",
    freshness_policy=dg.FreshnessPolicy.time_window(
        fail_window=timedelta(days=3), warn_window=timedelta(days=2)
    ),
    description=(
        "Value locked, fees, revenue and exchange volume of DeFi protocols per UTC day, in USD, "
        "from DefiLlama. Borrowed, pool2, staked and otherwise double counted value is left out. "
        "A restated value is kept beside the old one; the running day is partial. "
        "SQL: glass.protocol_fundamentals, protocol_fundamentals."
    ),
    metadata={"dagster/table_name": "glass.protocol_fundamentals"},
)
def protocol_fundamentals(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult:  # type: ignore[type-arg]  # generic in stubs only
    """Fetch the days, keep what is new or restated."""
    start, end = dates_of(context.partition_time_window)
    keys = context.partition_keys
    protocols = platform.settings.defillama_protocols
    run = ProviderRun(
        asset=_KEY.to_user_string(),
        partition=keys[0] if len(keys) == 1 else f"{keys[0]}...{keys[-1]}",
        dagster_run_id=context.op_execution_context.run_id,
        started_at=platform.now(),
    )
    with (
        failures(),
        sample_run(platform.providers, "defillama", run, platform.now) as account,
        closing(platform.defillama()) as llama,
    ):
        account.gate = llama.gate
        found = llama.fetch(protocols, start, end)
        account.records = len(found.values)
        quarantined = platform.quality.quarantine(
            "protocol_fundamentals", "crypto", "1d", found.rejected
        )
        written = platform.fundamentals.write(found.values)
        if found.failure is not None:
            raise found.failure  # what came is stored; the day is not complete without the rest
    return dg.MaterializeResult(
        metadata={
            **row_counts(len(found.values), context),
            **_metadata(found, written),
            "rows_newly_quarantined": quarantined,
            "protocols_asked": dg.MetadataValue.json(list(protocols)),
            "provider_requests": llama.gate.counts.requests,
            "provider_latency_seconds": round(llama.gate.counts.seconds, 3),
        }
    )


def _metadata(found: FundamentalsBatch, written: FundamentalsWritten) -> dict[str, Any]:
    values = found.values
    metadata: dict[str, Any] = {
        "rows_new": written.new,
        "rows_restated": written.restated,
        "rows_unchanged": written.unchanged,
        "rows_partial": int((~values["is_final"]).sum()),
        "rows_refused": len(found.rejected),
        "series_without_values": dg.MetadataValue.json(found.empty_reasons),
        "series_unknown": dg.MetadataValue.json(found.unknown),
    }
    if values.empty:
        metadata["empty_reason"] = "DefiLlama has no value of these protocols for these days"
    else:
        metadata["first_day"] = values["day"].min().date().isoformat()
        metadata["last_day"] = values["day"].max().date().isoformat()
    return metadata


_CHECKS: dict[str, str] = {
    "schema": "Stored values keep the contract of protocol_fundamentals.",
    "freshness": (
        "Each protocol has its value locked of the last day, and its other series have theirs, "
        "fetched after that day was over: a warning that lists those absent or partial."
    ),
    "jumps": (
        "Value locked 1.5 times, fees, revenue and volume 10 times the day before, or as small a "
        "part of it: a warning that lists them, largest first. They are stored as they came."
    ),
}


@dg.multi_asset_check(
    name="glass_protocol_fundamentals_checks",
    specs=[
        dg.AssetCheckSpec(name, asset=_KEY, description=description)
        for name, description in _CHECKS.items()
    ],
    can_subset=True,
)
def protocol_fundamentals_checks(
    context: dg.AssetCheckExecutionContext, platform: dg.ResourceParam[Platform]
) -> Iterator[dg.AssetCheckResult]:
    """Judge the days of the run, or the newest ones; one query serves all checks."""
    today = platform.now().astimezone(UTC).date()
    start, end = window_of_run(context, day_partitions()) or (
        today - timedelta(days=UNPARTITIONED_DAYS),
        today,
    )
    with failures():
        read = platform.fundamentals.read(start - timedelta(days=UNPARTITIONED_DAYS), end)
    values = read[read["day"] >= pd.Timestamp(start)].reset_index(drop=True)
    wanted = {each.name for each in context.selected_asset_check_keys}
    if "schema" in wanted:
        yield contract_result(_KEY, validate_fundamentals, values)
    if "freshness" in wanted:
        protocols = platform.settings.defillama_protocols
        yield _warning("freshness", _stale(read, protocols, end - _DAY, today), len(values))
    if "jumps" in wanted:
        yield _warning("jumps", find_jumps(read, start), len(values))


def _stale(
    values: pd.DataFrame, protocols: Sequence[str], day: date, today: date
) -> list[dict[str, Any]]:
    """Return the series without a value of that day, or, once it is over, only a partial one.

    Every protocol has value locked; its other series are those that have been seen.
    """
    watched = values[values["protocol"].isin(list(protocols))]
    last: dict[tuple[str, str], dict[Any, Any]] = {(each, "tvl"): {} for each in protocols}
    for row in watched.groupby(["protocol", "metric"]).tail(1).to_dict("records"):
        last[row["protocol"], row["metric"]] = row
    found = []
    for (protocol, metric), row in last.items():
        absent = not row or row["day"].date() < day
        if absent or (day < today and not row["is_final"]):
            found.append(
                {
                    "protocol": protocol,
                    "metric": metric,
                    "day": day.isoformat(),
                    "fault": "no value" if absent else "fetched while the day ran",
                    "last_day": row["day"].date().isoformat() if row else None,
                }
            )
    return found


def _warning(name: str, found: list[dict[str, Any]], rows_checked: int) -> dg.AssetCheckResult:
    finding = Finding(name, len(found), found[:SHOWN_ROWS])
    return finding_result(_KEY, finding, dg.AssetCheckSeverity.WARN, rows_checked)


GLASS_ASSETS: list[dg.AssetsDefinition] = [protocol_fundamentals]
GLASS_CHECKS: list[dg.AssetChecksDefinition] = [protocol_fundamentals_checks]
