"""Bars of every market and timeframe, from one factory.

Belongs here: the bars assets. Not here: how bars are fetched, checked and written
(`scizor_resources.pipeline.collect`).
"""

from dataclasses import asdict
from datetime import timedelta
from typing import Any

import dagster as dg

from scizor_assets.backfill_runs import progress_metadata, still_watched
from scizor_assets.common import OWNERS, CollectConfig, failures, finest_first, row_counts
from scizor_assets.partitions import dates_of, partitions_of
from scizor_core.markets import MARKETS, TIMEFRAMES, MarketSpec, Timeframe
from scizor_resources.pipeline.accounts import ProviderRun, collector_runs
from scizor_resources.pipeline.collect import CollectReport
from scizor_resources.platform import Platform
from scizor_resources.settings import get_settings

#: Partitions one run of a backfill takes: a provider's window at most, and few enough that the
#: about 50 ms of event writing per key do not dominate.
PARTITIONS_PER_RUN: dict[Timeframe, int] = {"1m": 20, "5m": 20, "15m": 20, "1d": 180}

_ORIGIN: dict[Timeframe, str] = {
    "1m": "asked of the market's provider chain",
    "5m": "resampled from 1m where 1m is stored for the session, else asked of the provider chain",
    "15m": "resampled from 5m",
    "1d": "asked of the market's provider chain; as traded, with the provider's adjusted close",
}
_UPSTREAM: dict[Timeframe, Timeframe] = {"5m": "1m", "15m": "5m"}


def build_bars_asset(market: MarketSpec, timeframe: Timeframe) -> dg.AssetsDefinition:
    """Return the asset `<market>/bars_<timeframe>`."""
    upstream = _UPSTREAM.get(timeframe)
    deps = (
        [dg.AssetKey([market.name, f"bars_{upstream}"])]
        if upstream
        else [dg.AssetKey(["reference", "watchlist"])]
    )
    if timeframe == "1m":
        # What is streamed stands in the same table, under the feed's name.
        deps.append(dg.AssetKey(["streaming", "live_bars"]))
    if timeframe == "5m" and "coinspot" in get_settings().chain(market.name):
        # Its bars are made of what was sampled.
        deps.append(dg.AssetKey(["exchange", "coinspot_prices"]))

    @dg.asset(
        key=[market.name, f"bars_{timeframe}"],
        deps=deps,
        partitions_def=partitions_of(market, timeframe),
        backfill_policy=dg.BackfillPolicy.multi_run(PARTITIONS_PER_RUN[timeframe]),
        group_name="bars",
        kinds={"python", "postgres"},
        owners=OWNERS,
        code_version="1",
        op_tags=finest_first(timeframe),
        freshness_policy=dg.FreshnessPolicy.time_window(
            fail_window=timedelta(days=5), warn_window=timedelta(days=4)
        ),
        description=(
            f"Bars of {timeframe} of market {market.name}: {_ORIGIN[timeframe]}. Each row passes "
            "the contract before it is written; refused rows stand in quality.quarantine with "
            f"the reason. SQL: {market.name}.bars_{timeframe}; ts is the bar's start, UTC."
        ),
        metadata={"dagster/table_name": f"{market.name}.bars_{timeframe}"},
    )
    def bars(
        context: dg.AssetExecutionContext,
        config: CollectConfig,
        platform: dg.ResourceParam[Platform],
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]  # generic in stubs only
        start, end = dates_of(context.partition_time_window)
        began = platform.now()
        is_repair = config.lane == "repair"
        symbols = config.symbols
        if symbols is not None and config.watched_only:
            symbols = still_watched(platform, market.name, symbols)
        window = market.name, timeframe, start, end, symbols
        with failures(config.retries):
            gaps = platform.due_gaps.open_gaps(*window) if is_repair else []
            report = platform.collector(market.name, timeframe, config.lane).collect(
                start, end, symbols, config.providers
            )
            keys = context.partition_keys
            run = ProviderRun(
                asset=context.asset_key.to_user_string(),
                partition=keys[0] if len(keys) == 1 else f"{keys[0]}...{keys[-1]}",
                dagster_run_id=context.op_execution_context.run_id,
                started_at=began,
            )
            platform.providers.record(collector_runs(report, run, platform.now()))
            # A repair has said in the ledger what it was told, and when it is tried again.
            if report.error is not None and not report.rows and not is_repair:
                raise report.error
            outcome = platform.due_gaps.outcome(timeframe, gaps) if is_repair else None
        metadata = _metadata(report, row_counts(report.rows, context))
        if outcome is not None:
            metadata |= {f"gaps_{name}": count for name, count in asdict(outcome).items()}
        metadata |= progress_metadata(context, platform)
        skipped = platform.not_configured(market.name)
        if skipped:
            metadata["providers_not_configured"] = dg.MetadataValue.json(skipped)
        return dg.MaterializeResult(metadata=metadata)

    return bars


def _metadata(report: CollectReport, rows: dict[str, int]) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        **rows,
        "rows_inserted": report.written.inserted,
        "rows_changed": report.written.changed,
        "rows_unchanged": report.written.unchanged,
        "rows_refused": report.refused,
        "rows_newly_quarantined": report.quarantined,
        "symbols_asked": len(report.asked),
        "symbols_got": len(report.got),
        "symbols_missing": dg.MetadataValue.json(report.missing),
        "sources": dg.MetadataValue.json(report.sources),
        "providers": dg.MetadataValue.json(
            {name: asdict(calls) for name, calls in report.calls.items()}
        ),
        "provider_requests": report.requests,
        "provider_latency_seconds": round(report.latency_seconds, 3),
    }
    if report.written.protected:
        metadata["rows_simulated_not_written_over_real"] = report.written.protected
    if report.held_back:
        metadata["rows_not_written_over_a_better_source"] = report.held_back
    if report.disagreements:
        metadata["bars_that_sources_disagree_on"] = report.disagreements
    if report.ignored:
        metadata["rows_not_asked_for"] = dg.MetadataValue.json(report.ignored)
    if report.incomplete:
        metadata["symbols_broken_off"] = dg.MetadataValue.json(report.incomplete)
    if report.failures:
        metadata["provider_failures"] = dg.MetadataValue.json(report.failures)
    if report.first_ts is not None and report.last_ts is not None:
        metadata["first_ts"] = report.first_ts.isoformat()
        metadata["last_ts"] = report.last_ts.isoformat()
    if report.empty_reason:
        metadata["empty_reason"] = report.empty_reason
    return metadata


BARS_ASSETS: list[dg.AssetsDefinition] = [
    build_bars_asset(market, timeframe) for market in MARKETS.values() for timeframe in TIMEFRAMES
]
