"""Completeness of every market against its calendar.

Belongs here: assets that measure data. Not here: checks that judge it (`scizor_assets.checks`).
"""

from typing import Any

import dagster as dg

from scizor_assets.bars import PARTITIONS_PER_RUN
from scizor_assets.common import OWNERS, SymbolsConfig, failures, row_counts
from scizor_assets.partitions import dates_of, partitions_of
from scizor_core.markets import INTRADAY_TIMEFRAMES, MARKETS, MarketSpec, Timeframe
from scizor_resources.platform import Platform


def build_completeness_asset(market: MarketSpec, *, daily: bool) -> dg.AssetsDefinition:
    """Return the asset `<market>/completeness`, or `<market>/completeness_1d` if `daily`."""
    name = "completeness_1d" if daily else "completeness"
    timeframes: tuple[Timeframe, ...] = ("1d",) if daily else INTRADAY_TIMEFRAMES

    @dg.asset(
        key=[market.name, name],
        deps=[dg.AssetKey([market.name, f"bars_{timeframe}"]) for timeframe in timeframes],
        partitions_def=partitions_of(market, timeframes[0]),
        backfill_policy=dg.BackfillPolicy.multi_run(PARTITIONS_PER_RUN[timeframes[0]]),
        group_name="quality",
        kinds={"python", "postgres"},
        owners=OWNERS,
        code_version="1",
        description=(
            f"Bars of {', '.join(timeframes)} of market {market.name} against its calendar, per "
            "symbol and session: expected = present + quiet (a source saw that nothing traded) + "
            "excused (halted, outside every history, not listed) + missing; why stands in "
            f"{market.name}.gaps; with the quality score 0 to 100. SQL: {market.name}.{name}."
        ),
        metadata={"dagster/table_name": f"{market.name}.{name}"},
    )
    def completeness(
        context: dg.AssetExecutionContext,
        config: SymbolsConfig,
        platform: dg.ResourceParam[Platform],
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]  # generic in stubs only
        start, end = dates_of(context.partition_time_window)
        with failures():
            report = platform.completeness_meter(market.name).measure(
                start, end, daily=daily, symbols=config.symbols
            )
        metadata: dict[str, Any] = {
            **row_counts(report.sessions, context),
            "rows_changed": report.changed,
            "bars_expected": report.expected,
            "bars_present": report.present,
            "bars_quiet": report.quiet,
            "bars_excused": report.excused,
            "bars_missing": report.missing,
            "missing_by_reason": dg.MetadataValue.json(report.reasons),
            "gaps_changed": report.gaps_changed,
            "worst": dg.MetadataValue.json(report.worst),
        }
        if not report.sessions:
            metadata["empty_reason"] = "nothing is watched or stored for this partition"
        return dg.MaterializeResult(metadata=metadata)

    return completeness


QUALITY_ASSETS: list[dg.AssetsDefinition] = [
    build_completeness_asset(market, daily=daily)
    for market in MARKETS.values()
    for daily in (False, True)
]
