"""Jobs people launch by name from the UI; everything else is launched by asset."""

import dagster as dg

from scizor_core.markets import INTRADAY_TIMEFRAMES, MARKETS, Timeframe


def assets_below(market: str, timeframe: Timeframe) -> tuple[str, ...]:
    """Return what has to run for new bars of a timeframe, as users write asset keys.

    These are the bars of it and of those made of them, their indicators, and completeness.
    """
    order = ("1d",) if timeframe == "1d" else INTRADAY_TIMEFRAMES
    group = order[order.index(timeframe) :]
    return (
        *(f"{market}/bars_{each}" for each in group),
        *(f"{market}/indicators_{each}" for each in group),
        f"{market}/{'completeness_1d' if timeframe == '1d' else 'completeness'}",
    )


#: Finest timeframe of each job, and what it has in one partition.
_JOBS: tuple[tuple[Timeframe, str], ...] = (("1m", "session"), ("1d", "month of daily bars"))


def job_of(market: str, timeframe: Timeframe) -> str:
    """Return the name of the job that has the assets of a market's timeframe."""
    return f"{market}_daily" if timeframe == "1d" else f"{market}_session"


JOBS = [
    dg.define_asset_job(
        job_of(market.name, timeframe),
        selection=dg.AssetSelection.assets(
            *map(dg.AssetKey.from_user_string, assets_below(market.name, timeframe))
        ),
        description=f"One {unit} of {market.name}: bars, indicators, completeness, with checks.",
    )
    for timeframe, unit in _JOBS
    for market in MARKETS.values()
]
