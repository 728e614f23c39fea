"""Yahoo's chart answer as bars: pure functions from decoded JSON to frames.

Nothing here does I/O or reads a clock. yfinance's own `Ticker.history` is not used for this step,
because it repairs without a trace: it drops rows whose timestamp is repeated, replaces or merges
the live row into the bar before it, drops rows outside the regular session and turns a missing
volume into 0 (read in the source of yfinance 1.7.0). Here every row that was received ends either
in `bars` or, with its reason, in `rejected`; rows outside the window asked for are counted in
`ignored`. `rows.judge_rows` is not used, because Yahoo itself says when each day's session was,
how late its feed runs and which row is a live price.
"""

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from scizor_core.markets import TIMEFRAME_MINUTES, MarketSpec, get_market
from scizor_resources.errors import SchemaDrift
from scizor_resources.providers.base import REJECTED_COLUMNS, empty_rejected, normalise_bars
from scizor_resources.providers.rows import (
    CLOCK_TOLERANCE,
    NEEDED_COLUMNS,
    OUTSIDE_SESSION,
    OUTSIDE_WINDOW,
    AskWindow,
    ParsedBars,
    nothing_parsed,
)
from scizor_resources.providers.yahoo.symbols import to_yahoo_symbol

SOURCE_NAME = "yahoo"
CHART_ENDPOINT = "/v8/finance/chart"

#: A row may still change until the feed itself has moved past it; prices of some exchanges come
#: 20 minutes late. yfinance treats a window as settled 30 minutes after its end, and so do we.
FEED_DELAY = timedelta(minutes=30)


def parse_chart(payload: Mapping[str, Any], window: AskWindow, *, now: datetime) -> ParsedBars:
    """Turn a decoded chart answer into bars and rejected rows.

    Intraday `ts` is Yahoo's timestamp. Daily timestamps are the instant at which the session
    opened, which for Sydney in summer is 23:00 UTC of the day before; so they are converted to
    the exchange's zone first and `ts` is that date at 00:00 UTC. Prices are taken as received:
    they carry the noise of 32-bit floats (166.69000244140625) and are not rounded.

    Rejected are, in this order: rows without a price or volume ("null row"), intraday rows
    outside the regular session, intraday rows off the grid of the timeframe (the live price that
    Yahoo appends), intraday rows from the future, and repeated rows, of which the first is kept.

    Args:
        payload: the whole answer, `{"chart": {"result": [...], "error": null}}`.
        window: what was asked.
        now: the present, UTC; decides `is_final` and what is the future.

    Returns:
        Bars of the window and the rejected rows. Both are empty where Yahoo has none, which it
        says by leaving out `timestamp`.

    Raises:
        SchemaDrift: the answer is not a chart, or is one of another ticker or interval.
    """
    result, meta = read_chart(payload, window)
    raw = _raw_rows(result, window)
    if raw.empty:
        return nothing_parsed()

    rows = _place_rows(raw, meta, window)
    inside = (rows["ts"] >= window.start) & (rows["ts"] < window.end)
    reasons = _reject_reasons(rows, meta, window, now=now).where(inside, OUTSIDE_WINDOW)
    rows["is_final"] = _final_rows(rows, meta, window, now=now)

    bars = rows[reasons == ""].assign(symbol=window.symbol, source=SOURCE_NAME)
    rejected = _rejected_frame(raw, rows, reasons.where(inside, ""), window)
    outside = int((~inside).sum())
    ignored = {OUTSIDE_WINDOW: outside} if outside else {}
    return ParsedBars(normalise_bars(bars), rejected, len(raw), ignored)


def read_chart(
    payload: Mapping[str, Any], window: AskWindow
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return the chart of an answer and its `meta`, checked to be about what was asked.

    Raises:
        SchemaDrift: the answer is not a chart, or is one of another ticker or interval.
    """
    result = _result_of(payload, window)
    return result, _meta_of(result, window)


def drift(window: AskWindow, found: str) -> SchemaDrift:
    """Return the error of a chart that does not have the agreed shape."""
    ticker = to_yahoo_symbol(window.market, window.symbol)
    return SchemaDrift(
        f"Yahoo's {window.timeframe} chart of {ticker} does not have the agreed shape: "
        f"{found}. The adapter has to be looked at before this answer can be used.",
        provider=SOURCE_NAME,
        endpoint=f"{CHART_ENDPOINT}/{ticker}",
        status=200,
    )


def _result_of(payload: Mapping[str, Any], window: AskWindow) -> Mapping[str, Any]:
    """Return `chart.result[0]`."""
    chart = payload.get("chart")
    results = chart.get("result") if isinstance(chart, Mapping) else None
    if not isinstance(results, list) or not results or not isinstance(results[0], Mapping):
        raise drift(window, "there is no chart.result[0]")
    return results[0]


def _meta_of(result: Mapping[str, Any], window: AskWindow) -> Mapping[str, Any]:
    meta = result.get("meta")
    if not isinstance(meta, Mapping) or not isinstance(meta.get("exchangeTimezoneName"), str):
        raise drift(window, "meta.exchangeTimezoneName is missing")
    asked = to_yahoo_symbol(window.market, window.symbol)
    ticker = meta.get("symbol", asked)
    if ticker != asked:
        raise drift(window, f"it is the chart of '{ticker}'")
    interval = meta.get("dataGranularity", window.timeframe)
    if interval != window.timeframe:
        raise drift(window, f"its interval is '{interval}'")
    return meta


def _raw_rows(result: Mapping[str, Any], window: AskWindow) -> pd.DataFrame:
    """Return the parallel arrays as one frame of objects, as received and in that order."""
    indicators: Any = result.get("indicators")
    try:
        quote = indicators["quote"][0]
        fields = {name: quote.get(name) for name in NEEDED_COLUMNS}
    except (TypeError, KeyError, IndexError, AttributeError):
        raise drift(window, "there is no indicators.quote[0]") from None

    timestamps = result.get("timestamp")
    if not timestamps:
        if any(values for values in fields.values()):
            raise drift(window, "it has prices without timestamps")
        return pd.DataFrame()
    if not all(isinstance(stamp, int) for stamp in timestamps):
        raise drift(window, "a timestamp is not a whole number of seconds")

    fields["adj_close"] = _adjusted_closes(indicators, window, len(timestamps))
    for name, values in fields.items():
        if not isinstance(values, list) or len(values) != len(timestamps):
            raise drift(window, f"'{name}' does not have one value for each timestamp")
    return pd.DataFrame({"timestamp": timestamps, **fields}, dtype="object")


def _adjusted_closes(indicators: Any, window: AskWindow, count: int) -> Any:
    """Return the adjusted closes of a daily chart; intraday charts have none."""
    adjusted = indicators.get("adjclose")
    if window.timeframe != "1d" or not adjusted:
        return [None] * count
    return adjusted[0].get("adjclose")


def _place_rows(raw: pd.DataFrame, meta: Mapping[str, Any], window: AskWindow) -> pd.DataFrame:
    """Return the rows with numbers for text, `ts`, `local` (exchange time) and `epoch`."""
    epoch = raw["timestamp"].astype("int64")
    instant = pd.to_datetime(epoch, unit="s", utc=True)
    local = instant.dt.tz_convert(meta["exchangeTimezoneName"])
    ts = instant
    if window.timeframe == "1d":
        ts = session_dates(local, get_market(window.market))
    numbers = {name: _numbers(raw[name]) for name in (*NEEDED_COLUMNS, "adj_close")}
    times = {"epoch": epoch, "local": local, "ts": ts.astype("datetime64[us, UTC]")}
    return pd.DataFrame({**numbers, **times}, index=raw.index)


def _numbers(values: "pd.Series[Any]") -> npt.NDArray[np.float64]:
    """Return values as received as numbers; NaN for what is none, and for infinity."""
    try:
        numbers = np.array(values.to_list(), dtype="float64")
    except (TypeError, ValueError):  # a text among them
        numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype="float64", na_value=np.nan)
    return np.where(np.isfinite(numbers), numbers, np.nan)


def session_dates(local: "pd.Series[pd.Timestamp]", spec: MarketSpec) -> "pd.Series[pd.Timestamp]":
    """Return the session dates at 00:00 UTC of daily rows given in exchange time.

    Around a change of daylight saving some daily rows stand at exactly 22:00 or 23:00 of the
    evening before (seen by yfinance for Sao Paulo, January 2022): they mean the next midnight. A
    market that never closes really trades at that hour, so its rows are left alone.
    """
    wall = local.dt.tz_localize(None)
    if spec.calendar != "24/7":
        evening = wall.dt.hour.isin([22, 23]) & (wall.dt.minute == 0) & (wall.dt.second == 0)
        wall = wall.where(~evening, wall + pd.Timedelta(hours=2))
    return wall.dt.normalize().dt.tz_localize("UTC")


def _reject_reasons(
    rows: pd.DataFrame, meta: Mapping[str, Any], window: AskWindow, *, now: datetime
) -> "pd.Series[str]":
    """Return one reason for each row, empty where the row is a bar."""
    reasons = pd.Series("", index=rows.index, dtype="object")
    missing = rows[list(NEEDED_COLUMNS)].isna().to_numpy()
    for place in np.flatnonzero(missing.any(axis=1)).tolist():
        names = ", ".join(np.array(NEEDED_COLUMNS)[missing[place]])
        reasons.iloc[place] = f"null row: no value for {names}"

    if window.timeframe != "1d":
        outside = _outside_regular_session(rows, meta, window)
        reasons = reasons.mask((reasons == "") & outside, OUTSIDE_SESSION)
        off_grid = rows["epoch"] % (TIMEFRAME_MINUTES[window.timeframe] * 60) != 0
        reasons = reasons.mask(
            (reasons == "") & off_grid,
            f"live price appended by Yahoo: its time is not the start of a {window.timeframe} bar",
        )
        ahead = rows["ts"] > now + CLOCK_TOLERANCE
        reasons = reasons.mask(
            (reasons == "") & ahead, "starts in the future: Yahoo's clock is ahead of ours"
        )

    good = rows[reasons == ""]
    repeated = good.index[good.duplicated("ts", keep="first")]
    for position in repeated:
        is_live = rows.loc[position, "epoch"] == meta.get("regularMarketTime")
        what = "live price appended by Yahoo" if is_live else "repeated row"
        reasons.loc[position] = f"{what}: the first row of this {window.timeframe} bar was kept"
    return reasons


def _outside_regular_session(
    rows: pd.DataFrame, meta: Mapping[str, Any], window: AskWindow
) -> "pd.Series[bool]":
    """Say which intraday rows lie before the open or after the close of their day.

    Yahoo sends some although they were not asked for, mostly on half days. The closing auction
    counts as regular. Days of which the answer names no trading period are not judged; a market
    that never closes has no session to be outside of.
    """
    periods = pd.DataFrame(_regular_periods(meta), columns=["start", "end"], dtype="int64")
    spec = get_market(window.market)
    if spec.calendar == "24/7" or periods.empty:
        return pd.Series(data=False, index=rows.index)
    start = pd.to_datetime(periods["start"], unit="s", utc=True)
    periods["date"] = start.dt.tz_convert(meta["exchangeTimezoneName"]).dt.date
    bounds = periods.groupby("date").agg({"start": "min", "end": "max"})
    dates = rows["local"].dt.date
    opens, closes = dates.map(bounds["start"]), dates.map(bounds["end"])
    seconds = TIMEFRAME_MINUTES[window.timeframe] * 60
    auction = spec.closing_auction_minutes * 60
    outside: pd.Series[bool] = (rows["epoch"] + seconds <= opens) | (
        rows["epoch"] >= closes + auction
    )
    return outside


def _regular_periods(meta: Mapping[str, Any]) -> list[tuple[int, int]]:
    """Return the regular trading periods as pairs of epoch seconds.

    Yahoo writes them as a list of days, each a list of periods, and as `{"regular": that list}`
    where it also tells of hours before and after.
    """
    days = meta.get("tradingPeriods") or []
    if isinstance(days, Mapping):
        days = days.get("regular") or []
    return [(period["start"], period["end"]) for day in days for period in day]


def _final_rows(
    rows: pd.DataFrame, meta: Mapping[str, Any], window: AskWindow, *, now: datetime
) -> "pd.Series[bool]":
    """Say which bars can no longer change: their end is past, on our clock and on the feed's.

    The feed's clock is the time of its last price. A bar that ended behind it, or `FEED_DELAY`
    before our clock, is final.
    """
    clock = int(now.timestamp())
    market_time = meta.get("regularMarketTime")
    feed = max(int(rows["epoch"].max()), market_time if isinstance(market_time, int) else 0)
    settled = min(clock, max(feed, clock - int(FEED_DELAY.total_seconds())))
    final: pd.Series[bool]
    if window.timeframe != "1d":
        final = rows["epoch"] + TIMEFRAME_MINUTES[window.timeframe] * 60 <= settled
        return final

    zone = meta["exchangeTimezoneName"]
    settled_date = pd.Timestamp(settled, unit="s", tz="UTC").tz_convert(zone).date()
    dates = rows["ts"].dt.date
    final = dates < settled_date
    regular = (meta.get("currentTradingPeriod") or {}).get("regular")
    spec = get_market(window.market)
    if regular and spec.calendar != "24/7":
        session = pd.Timestamp(regular["start"], unit="s", tz="UTC").tz_convert(zone).date()
        close = regular["end"] + spec.closing_auction_minutes * 60
        final |= (dates == session) & (close <= settled)
    return final


def _rejected_frame(
    raw: pd.DataFrame, rows: pd.DataFrame, reasons: "pd.Series[str]", window: AskWindow
) -> pd.DataFrame:
    """Return the rows that have a reason, columns `REJECTED_COLUMNS`."""
    positions = list(reasons.index[reasons != ""])
    if not positions:
        return empty_rejected()
    ticker = to_yahoo_symbol(window.market, window.symbol)
    return pd.DataFrame(
        {
            "symbol": window.symbol,
            "ts": rows.loc[positions, "ts"].array,
            "reason": reasons.loc[positions].array,
            "source": SOURCE_NAME,
            "origin": f"{CHART_ENDPOINT}/{ticker} interval {window.timeframe}",
            "row_number": [position + 1 for position in positions],
            "payload": [
                {name: json.dumps(value) for name, value in row.items()}
                for row in raw.loc[positions].to_dict("records")
            ],
        },
        columns=list(REJECTED_COLUMNS),
    )
