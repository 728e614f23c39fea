"""Stored bars against a second source, market by market.

Belongs here: the asset. Not here: whom to ask and how bars are compared
(`scizor_resources.pipeline.second_source`).
"""

from datetime import UTC, date, timedelta
from typing import Any

import dagster as dg
from pydantic import Field

from scizor_assets.common import OWNERS, failures
from scizor_core.errors import InvalidInputError
from scizor_core.markets import MARKETS, MarketSpec, Timeframe, check_timeframe
from scizor_resources.pipeline.second_source import Reconciliation, SecondSource
from scizor_resources.platform import Platform
from scizor_resources.providers.registry import PROVIDERS

#: Name of the field of the run config that a schedule sets.
RECONCILIATION_CONFIG = "until"


class ReconciliationConfig(dg.Config):
    """Run config of a comparison with a second source."""

    until: str | None = Field(
        default=None,
        description="First day that is no longer compared, such as 2026-11-21; by default today.",
    )
    days: int = Field(default=7, ge=1, le=366, description="How many days before it are compared.")
    symbols: list[str] | None = Field(
        default=None,
        description="Only these; by default the watchlist, 50 symbols a week by turns.",
    )
    timeframes: list[str] | None = Field(
        default=None,
        description="Only these; by default 5m and 1d, of markets with many venues 1d alone.",
    )


def compared_timeframes(market: MarketSpec) -> tuple[Timeframe, ...]:
    """Return what is compared by default.

    Venues of crypto have trades of their own: within five minutes their prices are apart by more
    than rounding, which says nothing about the bars.
    """
    return ("1d",) if market.asset_class == "crypto" else ("5m", "1d")


def build_reconciliation_asset(market: MarketSpec) -> dg.AssetsDefinition:
    """Return the asset `<market>/reconciliation`."""
    timeframes = compared_timeframes(market)

    @dg.asset(
        key=[market.name, "reconciliation"],
        deps=[dg.AssetKey([market.name, f"bars_{each}"]) for each in timeframes],
        group_name="quality",
        kinds={"python", "postgres"},
        owners=OWNERS,
        code_version="1",
        description=(
            f"Stored bars ({', '.join(timeframes)}) of market {market.name} of the last week "
            "against a second provider of its chain. Stored bars stay as they are; what differs "
            "by more than 0.05 % stands in quality.disagreements."
        ),
        metadata={"dagster/table_name": "quality.disagreements"},
    )
    def reconciliation(
        context: dg.AssetExecutionContext,
        config: ReconciliationConfig,
        platform: dg.ResourceParam[Platform],
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]  # generic in stubs only
        with failures():
            end = _date(config.until) or platform.now().astimezone(UTC).date()
            report = SecondSource(
                market.name,
                warehouse=platform.warehouse,
                reference=platform.reference,
                providers=platform.providers,
                # Nothing can be learnt from what is stored here anyway, or invented.
                sources=[
                    source
                    for source in platform.sources(market.name, "research")
                    if PROVIDERS[source.name].make and not PROVIDERS[source.name].is_local
                ],
                now=platform.now,
            ).compare(
                end - timedelta(days=config.days),
                end,
                [check_timeframe(each) for each in config.timeframes or timeframes],
                config.symbols,
                dagster_run_id=context.run.run_id,
            )
            if report.last_error is not None and not report.compared.total():
                raise report.last_error
        return dg.MaterializeResult(metadata=_metadata(report))

    return reconciliation


def _date(text: str | None) -> date | None:
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError:
        raise InvalidInputError(f"'{text}' is not a date: write it as 2026-11-21.") from None


def _metadata(report: Reconciliation) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "symbols_asked": len(report.symbols),
        "bars_compared": report.compared.total(),
        "bars_that_differ": report.differing.total(),
        "newly_found": report.newly_found,
        "by_timeframe": dg.MetadataValue.json(
            {
                timeframe: {
                    "compared": report.compared[timeframe],
                    "differ": report.differing[timeframe],
                    "only_stored": report.only_stored[timeframe],
                    "only_at_the_second_source": report.only_there[timeframe],
                }
                for timeframe in sorted(report.only_stored)
            }
        ),
        "sources_compared": dg.MetadataValue.json(dict(report.pairs)),
    }
    if report.agreement is not None:
        metadata["agreement"] = round(report.agreement, 6)
    if report.not_compared:
        metadata["not_compared"] = dg.MetadataValue.json(report.not_compared)
    if report.failures:
        metadata["provider_failures"] = dg.MetadataValue.json(report.failures)
    if report.empty_reason:
        metadata["empty_reason"] = report.empty_reason
    return metadata


RECONCILIATION_ASSETS: list[dg.AssetsDefinition] = [
    build_reconciliation_asset(market) for market in MARKETS.values()
]
