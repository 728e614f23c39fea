"""Prices of exchanges that only show the present: sampled, stored, and marked as sampled."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from scizor_assets.check_results import (
    check_specs,
    contract_result,
    finding_result,
    wanted_checks,
)
from scizor_assets.common import OWNERS, failures
from scizor_assets.ledgers import (
    SOURCES_CHECK,
    SOURCES_DESCRIPTION,
    ask_sources,
    run_of,
    sources_result,
)
from scizor_assets.partitions import bounds_of, day_partitions, window_of_check
from scizor_core.bar_checks import SHOWN_ROWS, Finding
from scizor_core.schemas.samples import validate_samples
from scizor_resources.collectors import Collector
from scizor_resources.pipeline.accounts import Account
from scizor_resources.platform import Platform

_KEY = dg.AssetKey(["exchange", "coinspot_prices"])
_SOURCE = "coinspot"
#: Share of the five minutes of a day that a coin should have been seen in.
LEAST_COVERAGE = 0.95
#: Bid and ask further apart than this make the price between them doubtful.
WIDEST_SPREAD_PERCENT = 10.0
_SLOT = timedelta(minutes=5)


@dg.asset(
    key=_KEY,
    partitions_def=day_partitions(),
    group_name="exchange",
    kinds={"python", "postgres"},
    owners=OWNERS,
    code_version="1",
    freshness_policy=dg.FreshnessPolicy.time_window(
        fail_window=timedelta(days=1), warn_window=timedelta(hours=1)
    ),
    description=(
        "Prices of CoinSpot, which has no history: each run looks once and keeps the last look of "
        "each five minutes, with the spread between bid and ask. A day that is over cannot be "
        "sampled any more. SQL: exchange.coinspot_prices, price_data_5min."
    ),
    metadata={"dagster/table_name": "exchange.coinspot_prices"},
)
def coinspot_prices(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult:  # type: ignore[type-arg]  # generic in stubs only
    """Look at CoinSpot's prices once."""
    today = platform.now().date().isoformat()
    if context.partition_key != today:
        reason = f"CoinSpot shows the present only: prices can be sampled for {today} alone"
        return dg.MaterializeResult(metadata={"rows": 0, "empty_reason": reason})
    metadata: dict[str, Any] = {}

    def ask(_: Collector, account: Account) -> dict[str, Any]:
        with closing(platform.ledgers().coinspot_prices("live")) as prices:
            account.gate = prices.gate
            found = prices.sample()
        account.records = len(found.samples)
        metadata["rows"] = len(found.samples)
        metadata["rows_written"] = platform.samples.write(found.samples)
        metadata["rows_refused"] = len(found.rejected)
        metadata["rows_newly_quarantined"] = platform.quality.quarantine(
            "samples", "crypto", "5m", found.rejected
        )
        metadata["symbols"] = dg.MetadataValue.json(sorted(found.samples["symbol"]))
        return {}

    with failures():
        asked = ask_sources(platform, run_of(context, platform), None, ask)
        asked.raise_if_nobody_answered()
    return dg.MaterializeResult(metadata={**metadata, **asked.metadata()})


_CHECKS: dict[str, str] = {
    SOURCES_CHECK: SOURCES_DESCRIPTION,
    "schema": "Stored samples keep the contract of price_data_5min.",
    "coverage": (
        f"Each coin was seen in {100 * LEAST_COVERAGE:.0f} % of the five minutes of the day since "
        "the first look: a warning that lists those that were not."
    ),
    "spread": (
        f"Bid and ask are no more than {WIDEST_SPREAD_PERCENT:.0f} % apart and do not cross: a "
        "warning that lists the widest."
    ),
}


@dg.multi_asset_check(
    name="exchange_coinspot_prices_checks",
    specs=check_specs(_KEY, _CHECKS),
    can_subset=True,
)
def coinspot_prices_checks(
    context: dg.AssetCheckExecutionContext, platform: dg.ResourceParam[Platform]
) -> Iterator[dg.AssetCheckResult]:
    """Judge the days of the run, or the last day."""
    now = platform.now().astimezone(UTC)
    start, end = bounds_of(window_of_check(context, now.date(), 0))
    wanted = wanted_checks(context)
    warn = dg.AssetCheckSeverity.WARN
    if SOURCES_CHECK in wanted:
        yield sources_result(platform, _KEY)
    with failures():
        stored = platform.samples.stored(_SOURCE, start, end)
        if "schema" in wanted:
            yield contract_result(_KEY, validate_samples, stored)
        if "coverage" in wanted:
            seen = platform.samples.coverage(_SOURCE, start, min(end, now))
            yield finding_result(_KEY, _uncovered(seen, min(end, now)), warn, len(seen))
        if "spread" in wanted:
            rows = platform.samples.wide(_SOURCE, start, end, WIDEST_SPREAD_PERCENT)
            finding = Finding("spread", len(rows), rows[:SHOWN_ROWS])
            yield finding_result(_KEY, finding, warn, len(stored))


def _uncovered(seen: list[dict[str, Any]], end: datetime) -> Finding:
    """Return the coins that were seen in too few of the five minutes from the first look on."""
    if not seen:
        return Finding("coverage", 0, [])
    first = min(row["first"] for row in seen)
    slots = max(1, int((end - first) / _SLOT))
    rows = [
        {
            "symbol": row["symbol"],
            "seen": row["slots"],
            "of": slots,
            "percent": round(100 * row["slots"] / slots, 1),
        }
        for row in seen
        if row["slots"] < LEAST_COVERAGE * slots
    ]
    rows.sort(key=lambda row: (row["percent"], row["symbol"]))
    return Finding("coverage", len(rows), rows[:SHOWN_ROWS])


EXCHANGE_ASSETS: list[dg.AssetsDefinition] = [coinspot_prices]
EXCHANGE_CHECKS: list[dg.AssetChecksDefinition] = [coinspot_prices_checks]
