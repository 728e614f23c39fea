"""The parts of a session's score beside its completeness, from what is stored of it."""

from datetime import UTC, date, datetime, time, timedelta

import numpy as np
import pandas as pd

from scizor_core.gaps import LATE_ARRIVAL
from scizor_core.markets import TIMEFRAME_MINUTES, Timeframe
from scizor_core.quality import (
    OUTLIER_LOOKBACK_BARS,
    agreement_ratio,
    find_outliers,
    provider_delay,
    validity_ratio,
)
from scizor_core.sessions import get_calendar
from scizor_resources.pipeline.gap_work import ScoreParts
from scizor_resources.stores.gaps import Place
from scizor_resources.stores.warehouse import Warehouse

#: A bar is timely that came within so many times its length after its end.
TIMELY_BARS = 2

_PLACE = ["instrument_id", "session_date"]


def measure_parts(
    warehouse: Warehouse,
    market: str,
    timeframe: Timeframe,
    bars: pd.DataFrame,
    window: tuple[date, date],
    instruments: dict[int, str],
) -> dict[Place, ScoreParts]:
    """Return (instrument_id, session date) -> the parts of the score, where there is any to tell.

    Args:
        warehouse: where earlier bars, refused rows and disagreements are.
        market: name of the market.
        timeframe: timeframe of the bars.
        bars: stored bars of the sessions, columns `READ_BAR_COLUMNS`.
        window: first session date, and the first one no longer measured.
        instruments: instrument_id -> symbol of those that are measured.
    """
    stored = _count(bars)
    outliers = _count(_outliers(warehouse, timeframe, bars))
    disputed = _count(_disputed(warehouse, timeframe, bars))
    timely = _timeliness(market, timeframe, bars)
    refused = _refused(warehouse, market, timeframe, *window)
    rejected = {
        (own, day): count
        for own, symbol in instruments.items()
        for day, count in refused.get(symbol, {}).items()
    }
    return {
        place: ScoreParts(
            outliers=outliers.get(place, 0),
            quarantined=rejected.get(place, 0),
            validity=validity_ratio(
                stored=stored.get(place, 0),
                refused=rejected.get(place, 0),
                outliers=outliers.get(place, 0),
            ),
            agreement=agreement_ratio(stored=stored.get(place, 0), disputed=disputed.get(place, 0)),
            timeliness=timely.get(place, 1.0),
        )
        for place in stored.keys() | rejected.keys()
    }


def _count(rows: pd.DataFrame) -> dict[Place, int]:
    if rows.empty:
        return {}
    ids, days = rows["instrument_id"].to_numpy(), rows["session_date"].to_numpy()
    keys, counts = np.unique(
        np.stack([ids.astype(np.int64), days.astype("datetime64[D]").astype(np.int64)]),
        axis=1,
        return_counts=True,
    )
    dates = keys[1].astype("datetime64[D]").astype(object)
    return {
        (int(own), day): int(count) for own, day, count in zip(keys[0], dates, counts, strict=True)
    }


def _outliers(warehouse: Warehouse, timeframe: Timeframe, bars: pd.DataFrame) -> pd.DataFrame:
    if bars.empty:
        return bars
    first = bars["ts"].min()
    ids = [int(each) for each in bars["instrument_id"].unique()]
    earlier = warehouse.read_bars_around(
        timeframe, ids, first.to_pydatetime(), OUTLIER_LOOKBACK_BARS, before=True
    )
    found = find_outliers(pd.concat([each for each in (earlier, bars) if len(each)]), first)
    found = found.drop_duplicates(["instrument_id", "ts"])
    return found.merge(bars[["instrument_id", "ts", "session_date"]])


def _disputed(warehouse: Warehouse, timeframe: Timeframe, bars: pd.DataFrame) -> pd.DataFrame:
    """Return the stored bars that another source has differently."""
    if bars.empty:
        return bars
    with warehouse.connect() as connection:
        rows = connection.execute(
            "SELECT DISTINCT instrument_id, ts FROM quality.disagreements "
            "WHERE timeframe = %s AND instrument_id = ANY(%s) AND ts BETWEEN %s AND %s",
            [
                timeframe,
                [int(each) for each in bars["instrument_id"].unique()],
                bars["ts"].min().to_pydatetime(),
                bars["ts"].max().to_pydatetime(),
            ],
        ).fetchall()
    if not rows:
        return bars.iloc[:0]
    found = pd.DataFrame(rows)
    found["ts"] = pd.to_datetime(found["ts"], utc=True).astype("datetime64[us, UTC]")
    return found.merge(bars[["instrument_id", "ts", "session_date"]], on=["instrument_id", "ts"])


def _timeliness(market: str, timeframe: Timeframe, bars: pd.DataFrame) -> dict[Place, float]:
    """Return the share of bars that came in time, of those that came while their session traded.

    What was fetched later is history, which is never late.
    """
    if bars.empty or timeframe == "1d":
        return {}
    days = bars["session_date"]
    calendar = get_calendar(market)
    closes = {}
    for day in days.unique():
        session = calendar.session(pd.Timestamp(day).date())
        closes[day] = pd.NaT if session is None else pd.Timestamp(session.close)
    until = pd.to_datetime(days.map(closes), utc=True) + LATE_ARRIVAL
    live = bars[(bars["ingested_at"] <= until) & (bars["ingested_at"] >= bars["ts"])]
    if live.empty:
        return {}
    length = timedelta(minutes=TIMEFRAME_MINUTES[timeframe])
    delays = {each: provider_delay(each) for each in live["source"].unique()}
    allowed = length * (1 + TIMELY_BARS) + pd.to_timedelta(live["source"].map(delays))
    late = live[live["ingested_at"] - live["ts"] > allowed]
    counted, missed = _count(live), _count(late)
    return {place: 1 - missed.get(place, 0) / count for place, count in counted.items()}


def _refused(
    warehouse: Warehouse, market: str, timeframe: Timeframe, start: date, end: date
) -> dict[str, dict[date, int]]:
    """Return symbol -> session date -> rows in quarantine."""
    day = timedelta(days=1)
    with warehouse.connect() as connection:
        rows = connection.execute(
            "SELECT symbol, ts FROM quality.quarantine WHERE dataset = 'bars' "
            "AND market = %s AND timeframe = %s AND ts >= %s AND ts < %s",
            [
                market,
                timeframe,
                datetime.combine(start, time(), UTC) - day,
                datetime.combine(end, time(), UTC) + day,
            ],
        ).fetchall()
    if not rows:
        return {}
    frame = pd.DataFrame(rows)
    frame["ts"] = pd.to_datetime(frame["ts"], utc=True).astype("datetime64[us, UTC]")
    if timeframe == "1d":
        frame["day"] = frame["ts"].dt.tz_localize(None).dt.normalize()
    else:
        frame["day"] = get_calendar(market).place(frame["ts"])
    found: dict[str, dict[date, int]] = {}
    for symbol, placed in frame.dropna(subset=["day"])[["symbol", "day"]].itertuples(index=False):
        days = found.setdefault(str(symbol), {})
        days[placed.date()] = days.get(placed.date(), 0) + 1
    return found
