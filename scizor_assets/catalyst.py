"""Events that move prices, with the first bar that can know of them, and their checks.

Belongs here: the assets of group `catalyst` and the turning of findings into check results. Not
here: how sources are asked and read (`scizor_resources.providers`), what is kept and linked
(`scizor_resources.pipeline.catalysts`), when an event can be traded on (`scizor_core.catalysts`).
"""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, timedelta
from typing import Any

import dagster as dg
import pandas as pd

from scizor_assets.check_results import (
    check_specs,
    contract_result,
    finding_result,
    wanted_checks,
)
from scizor_assets.common import OWNERS, failures, row_counts
from scizor_assets.ledgers import (
    SOURCES_CHECK,
    SOURCES_DESCRIPTION,
    LedgerConfig,
    ask_sources,
    run_of,
    sources_result,
)
from scizor_assets.partitions import bounds_of, day_partitions, window_of_check
from scizor_core.bar_checks import SHOWN_ROWS, Finding
from scizor_core.schemas.catalysts import catalysts_frame, validate_catalysts
from scizor_core.sessions import get_calendar
from scizor_resources.collectors import Collector
from scizor_resources.pipeline.accounts import Account
from scizor_resources.pipeline.catalysts import EventsKept
from scizor_resources.platform import Platform
from scizor_resources.providers.events import EventFindings

#: A check that runs on its own, without a partition, looks at this much of the newest data.
UNPARTITIONED_DAYS = 35
_KEY = dg.AssetKey(["catalyst", "catalyst_events"])
#: Sources whose events come from stored data, which samples do not touch.
_LOCAL = "corporate_actions"


@dg.asset(
    key=_KEY,
    deps=[dg.AssetKey(["reference", "corporate_actions"])],
    partitions_def=day_partitions(),
    # EDGAR answers with whole years: many days cost as many calls as one.
    backfill_policy=dg.BackfillPolicy.single_run(),
    group_name="catalyst",
    kinds={"python", "postgres"},
    owners=OWNERS,
    code_version="2",
    freshness_policy=dg.FreshnessPolicy.time_window(
        fail_window=timedelta(days=3), warn_window=timedelta(days=2)
    ),
    description=(
        "Filings with the SEC, announcements of CoinSpot, earnings dates, splits and dividends as "
        "events, by the UTC day of their publication: kind, impact from 1 to 10 by the rules in "
        "catalyst_rules, and the first bar after the publication. Amendments and second reports "
        "name what they repeat; count where counts. "
        "SQL: catalyst.catalyst_events, catalyst.instrument_events."
    ),
    metadata={"dagster/table_name": "catalyst.catalyst_events"},
)
def catalyst_events(
    context: dg.AssetExecutionContext,
    config: LedgerConfig,
    platform: dg.ResourceParam[Platform],
) -> dg.MaterializeResult:  # type: ignore[type-arg]  # generic in stubs only
    """Ask every source for the days, keep what is an event."""
    since, until = context.partition_time_window
    ledgers = platform.ledgers(until)
    parts: list[pd.DataFrame] = []

    def ask(collector: Collector, account: Account) -> dict[str, Any]:
        label = "" if collector.name == _LOCAL else ledgers.label
        with closing(ledgers.events(collector, platform.actions, config.lane)) as source:
            account.gate = source.gate
            found = source.fetch(platform.events.request(source.name, since, until))
        account.records = found.received
        kept = platform.events.keep(found, label)
        parts.append(kept.events)
        if found.failure is not None:
            raise found.failure  # what came is stored; the day is not complete without the rest
        return _facts(found, kept)

    with failures():
        asked = ask_sources(platform, run_of(context, platform), config.sources, ask)
        linked = platform.events.link()
        asked.raise_if_nobody_answered()
    events = pd.concat([catalysts_frame([]), *parts], ignore_index=True)
    metadata: dict[str, Any] = {
        **row_counts(len(events), context),
        "events": int((~events["is_amendment"]).sum()),
        "amendments": int(events["is_amendment"].sum()),
        "second_reports_linked": linked,
        "events_by_type": {str(name): int(n) for name, n in events["type"].value_counts().items()},
        **asked.metadata(),
    }
    if events.empty:
        metadata["empty_reason"] = asked.nobody() or "no event of a watched symbol was published"
    else:
        metadata["first_published_at"] = events["published_at"].min().isoformat()
        metadata["last_published_at"] = events["published_at"].max().isoformat()
    return dg.MaterializeResult(metadata=metadata)


def _facts(found: EventFindings, kept: EventsKept) -> dict[str, Any]:
    return {
        "events": len(kept.events),
        "rows_written": kept.written.events,
        "instruments_written": kept.written.links,
        "rows_refused": len(found.rejected),
        "rows_newly_quarantined": kept.quarantined,
        "skipped": found.skipped,
        **({"notes": found.notes} if found.notes else {}),
        **({"now_watched": list(kept.now_watched)} if kept.now_watched else {}),
        **found.metadata,
    }


_CHECKS: dict[str, str] = {
    SOURCES_CHECK: SOURCES_DESCRIPTION,
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
    specs=check_specs(_KEY, _CHECKS),
    can_subset=True,
)
def catalyst_events_checks(
    context: dg.AssetCheckExecutionContext, platform: dg.ResourceParam[Platform]
) -> Iterator[dg.AssetCheckResult]:
    """Judge the events of the run's days, or the newest ones; one query serves all checks."""
    today = platform.now().astimezone(UTC).date()
    start, end = bounds_of(window_of_check(context, today, UNPARTITIONED_DAYS))
    with failures():
        events = platform.catalysts.read(start, end)
        markets = platform.catalysts.markets(start, end)
    wanted = wanted_checks(context)
    error, warn = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN
    if SOURCES_CHECK in wanted:
        yield sources_result(platform, _KEY)
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
            "first_tradable_at": str(row["first_tradable_at"]),
        }
        for row in found.head(SHOWN_ROWS).to_dict("records")
    ]
    return finding_result(_KEY, Finding(name, len(found), rows), severity, rows_checked)


CATALYST_ASSETS: list[dg.AssetsDefinition] = [catalyst_events]
CATALYST_CHECKS: list[dg.AssetChecksDefinition] = [catalyst_events_checks]
