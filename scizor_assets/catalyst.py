"""Events that move prices, with the first bar that can know of them, and their checks.

Belongs here: the assets of group `catalyst` and the turning of findings into check results. Not
here: how filings are fetched and read (`scizor_resources.providers.edgar`), what is an event and
when it can be traded on (`scizor_core.catalysts`).
"""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, time, timedelta
from typing import Any

import dagster as dg
import pandas as pd

from scizor_assets.check_results import contract_result, finding_result
from scizor_assets.common import OWNERS, failures, row_counts
from scizor_assets.partitions import day_partitions, window_of_run
from scizor_core.bar_checks import SHOWN_ROWS, Finding
from scizor_core.schemas.catalysts import validate_catalysts
from scizor_core.sessions import get_calendar
from scizor_resources.pipeline.accounts import ProviderRun, sample_run
from scizor_resources.platform import Platform
from scizor_resources.providers.edgar.collect import collect
from scizor_resources.providers.edgar.events import EventBatch, events_of
from scizor_resources.providers.edgar.symbols import MARKET
from scizor_resources.stores.catalysts import CatalystsWritten

#: A check that runs on its own, without a partition, looks at this much of the newest data.
UNPARTITIONED_DAYS = 35
_KEY = dg.AssetKey(["catalyst", "catalyst_events"])


@dg.asset(
    key=_KEY,
    partitions_def=day_partitions(),
    # EDGAR answers with whole years: many days cost as many calls as one.
    backfill_policy=dg.BackfillPolicy.single_run(),
    group_name="catalyst",
    kinds={"python", "postgres"},
    owners=OWNERS,
    code_version="1",
    freshness_policy=dg.FreshnessPolicy.time_window(
        fail_window=timedelta(days=3), warn_window=timedelta(days=2)
    ),
    description=(
        "Filings of watched US companies with the SEC as events, by the UTC day of their "
        "publication: kind, impact from 1 to 10 by the rules in catalyst_rules, and the first bar "
        "after the publication. Amendments name what they amend; count where not is_amendment. "
        "SQL: catalyst.catalyst_events, catalyst.instrument_events."
    ),
    metadata={"dagster/table_name": "catalyst.catalyst_events"},
)
def catalyst_events(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult:  # type: ignore[type-arg]  # generic in stubs only
    """Fetch the filings of the days, keep those that are events."""
    with failures():
        watched = _watched(platform)
    if reason := _nothing_to_ask(platform, watched):
        return dg.MaterializeResult(metadata={"rows": 0, "empty_reason": reason})
    since, until = context.partition_time_window
    keys = context.partition_keys
    run = ProviderRun(
        asset=_KEY.to_user_string(),
        partition=keys[0] if len(keys) == 1 else f"{keys[0]}...{keys[-1]}",
        dagster_run_id=context.op_execution_context.run_id,
        started_at=platform.now(),
    )
    with (
        failures(),
        sample_run(platform.providers, "edgar", run, platform.now) as account,
        closing(platform.edgar_filings()) as edgar,
    ):
        account.gate = edgar.gate
        found = collect(edgar, watched, since, until)
        account.records = found.filings
        batch = events_of(
            found.companies,
            found.instruments,
            platform.catalysts.rules("edgar"),
            since=since,
            until=until,
            calendar=get_calendar(MARKET),
            detected_at=platform.now(),
        )
        written = platform.catalysts.write(batch.events)
        quarantined = platform.quality.quarantine("catalysts", MARKET, "event", found.rejected)
        if found.failure is not None:
            raise found.failure  # what came is stored; the day is not complete without the rest
    events = batch.events.drop_duplicates(["source", "source_id"])
    return dg.MaterializeResult(
        metadata={
            **row_counts(len(events), context),
            **_metadata(batch, events, written),
            **found.metadata(),
            "symbols_asked": sorted(watched),
            "rows_refused": len(found.rejected),
            "rows_newly_quarantined": quarantined,
            "provider_requests": edgar.gate.counts.requests,
            "provider_latency_seconds": round(edgar.gate.counts.seconds, 3),
        }
    )


def _watched(platform: Platform) -> dict[str, int]:
    """Return symbol -> id of the US instruments on the watchlist that are still listed."""
    symbols = {entry.symbol for entry in platform.reference.watchlist(MARKET, active_only=True)}
    return {
        each.symbol: each.instrument_id
        for each in platform.reference.instruments(MARKET, sorted(symbols))
        if each.delisted_on is None
    }


def _nothing_to_ask(platform: Platform, watched: dict[str, int]) -> str | None:
    if not platform.settings.edgar_user_agent:
        return (
            "SEC EDGAR is not configured: set SCIZOR_EDGAR_USER_AGENT to company name and contact "
            "address"
        )
    return None if watched else "no symbol of market us is on the watchlist"


def _metadata(batch: EventBatch, events: pd.DataFrame, written: CatalystsWritten) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "events": int((~events["is_amendment"]).sum()),
        "amendments": int(events["is_amendment"].sum()),
        "events_by_type": {str(name): int(n) for name, n in events["type"].value_counts().items()},
        "filings_by_form": batch.filings_by_form,
        "filings_skipped": batch.skipped,
        "rows_written": written.events,
        "instruments_written": written.links,
    }
    if events.empty:
        metadata["empty_reason"] = "no event of a watched symbol was published"
    else:
        metadata["first_published_at"] = events["published_at"].min().isoformat()
        metadata["last_published_at"] = events["published_at"].max().isoformat()
    return metadata


_CHECKS: dict[str, str] = {
    "schema": "Stored events keep the contract of catalyst_events.",
    "no_look_ahead": (
        "The first bar of an event starts at or after its publication, within a session."
    ),
    "amendments_linked": (
        "Amended reports name the report that they amend: a warning that lists those whose "
        "original is not plain."
    ),
}


@dg.multi_asset_check(
    name="catalyst_catalyst_events_checks",
    specs=[
        dg.AssetCheckSpec(name, asset=_KEY, description=description)
        for name, description in _CHECKS.items()
    ],
    can_subset=True,
)
def catalyst_events_checks(
    context: dg.AssetCheckExecutionContext, platform: dg.ResourceParam[Platform]
) -> Iterator[dg.AssetCheckResult]:
    """Judge the events of the run's days, or the newest ones; one query serves all checks."""
    today = platform.now().astimezone(UTC).date()
    first, last = window_of_run(context, day_partitions()) or (
        today - timedelta(days=UNPARTITIONED_DAYS),
        today + timedelta(days=1),
    )
    bounds = [datetime.combine(day, time(), UTC) for day in (first, last)]
    with failures():
        events = platform.catalysts.read(bounds[0], bounds[1])
        markets = platform.catalysts.markets(bounds[0], bounds[1])
    wanted = {each.name for each in context.selected_asset_check_keys}
    error, warn = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN
    if "schema" in wanted:
        yield contract_result(_KEY, validate_catalysts, events)
    if "no_look_ahead" in wanted:
        yield _result("no_look_ahead", error, events[_is_ahead(events, markets)], len(events))
    if "amendments_linked" in wanted:
        # Statements of holders name no period, and one number stands for all holders.
        reports = events["is_amendment"] & events["report_date"].notna()
        unlinked = events[reports & (events["amends"] == "")]
        yield _result("amendments_linked", warn, unlinked, len(events))


def _is_ahead(events: pd.DataFrame, markets: dict[int, str]) -> "pd.Series[bool]":
    """Say which first bars start before the publication, off the minute or outside a session."""
    starts = events["first_tradable_at"]
    wrong: pd.Series[bool] = (starts < events["published_at"]) | (starts.dt.floor("min") < starts)
    for market in sorted(set(markets.values())):
        ids = [instrument_id for instrument_id, name in markets.items() if name == market]
        outside = get_calendar(market).place(starts).isna()
        wrong |= events["instrument_id"].isin(ids) & outside
    return wrong


def _result(
    name: str, severity: dg.AssetCheckSeverity, found: pd.DataFrame, rows_checked: int
) -> dg.AssetCheckResult:
    rows = [
        {
            "source_id": row["source_id"],
            "form": row["form"],
            "published_at": row["published_at"].isoformat(),
            "first_tradable_at": row["first_tradable_at"].isoformat(),
        }
        for row in found.head(SHOWN_ROWS).to_dict("records")
    ]
    return finding_result(_KEY, Finding(name, len(found), rows), severity, rows_checked)


CATALYST_ASSETS: list[dg.AssetsDefinition] = [catalyst_events]
CATALYST_CHECKS: list[dg.AssetChecksDefinition] = [catalyst_events_checks]
