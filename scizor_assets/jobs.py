"""Jobs people launch by name from the UI; everything else is launched by asset."""

import dagster as dg

from scizor_core.markets import INTRADAY_TIMEFRAMES, MARKETS, MarketSpec


def session_assets(market: MarketSpec) -> dg.AssetSelection:
    """Return a market's intraday bars, indicators and completeness."""
    keys = [
        dg.AssetKey([market.name, f"{kind}_{timeframe}"])
        for kind in ("bars", "indicators")
        for timeframe in INTRADAY_TIMEFRAMES
    ]
    return dg.AssetSelection.assets(*keys, dg.AssetKey([market.name, "completeness"]))


JOBS = [
    dg.define_asset_job(
        f"{market.name}_session",
        selection=session_assets(market),
        description=f"One session of {market.name}: bars, indicators, completeness, with checks.",
    )
    for market in MARKETS.values()
]
