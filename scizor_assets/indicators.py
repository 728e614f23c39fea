"""Indicators of every market and timeframe, from one factory.

Belongs here: the indicator assets. Not here: the formulas (`scizor_core.indicators`) and the
warm-up (`scizor_resources.pipeline.enrich`).
"""

from typing import Any

import dagster as dg

from scizor_assets.bars import PARTITIONS_PER_RUN
from scizor_assets.common import OWNERS, SymbolsConfig, failures, finest_first, row_counts
from scizor_assets.partitions import dates_of, partitions_of
from scizor_core.markets import MARKETS, TIMEFRAMES, MarketSpec, Timeframe
from scizor_resources.pipeline.enrich import enrich
from scizor_resources.platform import Platform


def build_indicators_asset(market: MarketSpec, timeframe: Timeframe) -> dg.AssetsDefinition:
    """Return the asset `<market>/indicators_<timeframe>`."""

    @dg.asset(
        key=[market.name, f"indicators_{timeframe}"],
        deps=[dg.AssetKey([market.name, f"bars_{timeframe}"])],
        partitions_def=partitions_of(market, timeframe),
        backfill_policy=dg.BackfillPolicy.multi_run(PARTITIONS_PER_RUN[timeframe]),
        group_name="indicators",
        kinds={"python", "postgres"},
        owners=OWNERS,
        code_version="1",
        op_tags=finest_first(timeframe),
        description=(
            f"One wide row of indicators per {timeframe} bar of market {market.name}, defined as "
            "in the library ta and warmed up by the bars of earlier sessions. "
            f"SQL: {market.name}.indicators_{timeframe}; columns in docs/indicators.md."
        ),
        metadata={"dagster/table_name": f"{market.name}.indicators_{timeframe}"},
    )
    def indicators(
        context: dg.AssetExecutionContext,
        config: SymbolsConfig,
        platform: dg.ResourceParam[Platform],
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]  # generic in stubs only
        start, end = dates_of(context.partition_time_window)
        with failures():
            report = enrich(
                platform.warehouse,
                platform.reference,
                market.name,
                timeframe,
                start,
                end,
                config.symbols,
            )
        metadata: dict[str, Any] = {
            **row_counts(report.rows, context),
            "symbols": report.symbols,
            "rows_inserted": report.written.inserted,
            "rows_changed": report.written.changed,
            "rows_unchanged": report.written.unchanged,
            "rows_refreshed_after_the_range": report.refreshed,
        }
        if report.first_ts is None or report.last_ts is None:
            metadata["empty_reason"] = f"no {timeframe} bars are stored for this partition"
        else:
            metadata["first_ts"] = report.first_ts.isoformat()
            metadata["last_ts"] = report.last_ts.isoformat()
        return dg.MaterializeResult(metadata=metadata)

    return indicators


INDICATORS_ASSETS: list[dg.AssetsDefinition] = [
    build_indicators_asset(market, timeframe)
    for market in MARKETS.values()
    for timeframe in TIMEFRAMES
]
