"""Compare stored bars with the calendar, session by session, and keep the result."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any

import numpy as np
import pandas as pd

from scizor_core.instruments import WatchlistEntry
from scizor_core.markets import INTRADAY_TIMEFRAMES, Timeframe
from scizor_core.quality import (
    OUTLIER_LOOKBACK_BARS,
    expected_by,
    find_outliers,
    measure_coverage,
    quality_score,
)
from scizor_core.sessions import SessionCalendar, get_calendar
from scizor_resources.stores.quality import QualityStore
from scizor_resources.stores.reference import ReferenceStore
from scizor_resources.stores.warehouse import Warehouse


@dataclass(frozen=True)
class CompletenessReport:
    """What one measurement found.

    Attributes:
        sessions: rows measured (instrument x timeframe x session).
        changed: rows that were new or differ from what was stored.
        expected: bars the calendar expects in all of them.
        present: of those, stored.
        quiet: of those, known to have had no trade.
        missing: of those, absent for a reason not known yet.
        worst: the sessions with the most missing bars: symbol, timeframe, session, missing.
    """

    sessions: int
    changed: int
    expected: int
    present: int
    quiet: int
    missing: int
    worst: list[dict[str, Any]]


class CompletenessMeter:
    """Measures one market.

    Args:
        market: name of the market.
        warehouse: where bars are.
        reference: symbols and watchlist.
        quality: where the result goes.
        now: clock, aware; bars whose interval has not ended are not expected yet.
    """

    def __init__(
        self,
        market: str,
        *,
        warehouse: Warehouse,
        reference: ReferenceStore,
        quality: QualityStore,
        now: Callable[[], datetime],
    ) -> None:
        self.market = market
        self._warehouse, self._reference, self._quality = warehouse, reference, quality
        self._now = now
        self._calendar: SessionCalendar = get_calendar(market)

    def measure(
        self, start: date, end: date, *, daily: bool, symbols: Sequence[str] | None = None
    ) -> CompletenessReport:
        """Measure the sessions `start <= session_date < end`.

        Args:
            start: first session date.
            end: first date no longer measured.
            daily: daily bars if true, 1, 5 and 15 minute bars if not.
            symbols: only these, by default the watchlist and whatever has bars.

        Raises:
            InvalidInputError: a symbol that cannot be one of this market.
            UnknownSymbolError: a symbol that the platform does not know.
        """
        if symbols is not None:
            symbols = [each.symbol for each in self._reference.resolve(self.market, symbols)]
        timeframes: tuple[Timeframe, ...] = ("1d",) if daily else INTRADAY_TIMEFRAMES
        rows = [
            row
            for timeframe in timeframes
            for row in self._measure_timeframe(timeframe, start, end, symbols)
        ]
        changed = self._quality.write_completeness(rows)
        names = {
            each.instrument_id: each.symbol for each in self._reference.instruments(self.market)
        }
        worst = sorted(rows, key=lambda row: -row["missing"])[:10]
        return CompletenessReport(
            sessions=len(rows),
            changed=changed,
            expected=sum(row["expected"] for row in rows),
            present=sum(row["present"] for row in rows),
            quiet=sum(row["quiet"] for row in rows),
            missing=sum(row["missing"] for row in rows),
            worst=[
                {
                    "symbol": names[row["instrument_id"]],
                    "timeframe": row["timeframe"],
                    "session": str(row["session_date"]),
                    "missing": row["missing"],
                    "reason": row["reason"],
                }
                for row in worst
                if row["missing"]
            ],
        )

    def _measure_timeframe(
        self, timeframe: Timeframe, start: date, end: date, symbols: Sequence[str] | None
    ) -> list[dict[str, Any]]:
        bars = self._bars(timeframe, start, end)
        watched = {
            entry.symbol
            for entry in self._reference.watchlist(self.market, active_only=True)
            if _collects(entry, timeframe)
        }
        every = self._reference.instruments(self.market)
        with_bars = set(bars["instrument_id"])
        chosen = [
            each
            for each in every
            if (each.symbol in watched or each.instrument_id in with_bars)
            and (symbols is None or each.symbol in symbols)
        ]
        spans = self._spans(
            timeframe, [each.instrument_id for each in chosen if each.symbol not in watched]
        )
        outliers = self._outliers(timeframe, bars)
        quarantined = self._quarantined(timeframe, start, end)
        # A session without any trade has no daily bar and is not known to have been quiet.
        quiet = {} if timeframe == "1d" else self._no_trades(timeframe, start, end)
        present = _by_session(bars)
        nothing = pd.DatetimeIndex([], dtype="datetime64[us, UTC]")
        rows = []
        for session in self._calendar.sessions(start, end):
            day = datetime.combine(session.session_date, time(), UTC)
            expected = expected_by(self._calendar, day, timeframe, self._now())
            for each in chosen:
                key = (each.instrument_id, pd.Timestamp(session.session_date))
                absence = each.absence_on(session.session_date, session.session_date) or _outside(
                    spans.get(each.instrument_id), session.session_date
                )
                coverage = measure_coverage(
                    nothing if absence else expected,
                    present.get(key, nothing),
                    quiet.get(key, []),
                    timeframe,
                )
                refused = quarantined.get((each.symbol, session.session_date), 0)
                odd = outliers.get(key, 0)
                rows.append(
                    {
                        "instrument_id": each.instrument_id,
                        "timeframe": timeframe,
                        "session_date": session.session_date,
                        "expected": coverage.expected,
                        "present": coverage.present,
                        "quiet": coverage.quiet,
                        "missing": coverage.missing,
                        "not_fetched": 0 if coverage.present else coverage.missing,
                        "absent": coverage.missing if coverage.present else 0,
                        "unexpected": coverage.unexpected,
                        "outliers": odd,
                        "quarantined": refused,
                        "coverage": round(coverage.ratio, 6),
                        "score": quality_score(coverage, outliers=odd, quarantined=refused),
                        "reason": absence or _reason(coverage.present, coverage.missing),
                    }
                )
        return rows

    def _bars(self, timeframe: Timeframe, start: date, end: date) -> pd.DataFrame:
        if timeframe == "1d":
            window = datetime.combine(start, time(), UTC), datetime.combine(end, time(), UTC)
        else:
            bounds = self._calendar.window(start, end)
            if bounds is None:
                return self._warehouse.read_bars(timeframe, _EPOCH, _EPOCH, market=self.market)
            window = bounds
        return self._warehouse.read_bars(timeframe, *window, market=self.market)

    def _outliers(
        self, timeframe: Timeframe, bars: pd.DataFrame
    ) -> dict[tuple[int, pd.Timestamp], int]:
        if bars.empty:
            return {}
        first = bars["ts"].min()
        ids = [int(each) for each in bars["instrument_id"].unique()]
        earlier = self._warehouse.read_bars_around(
            timeframe, ids, first.to_pydatetime(), OUTLIER_LOOKBACK_BARS, before=True
        )
        found = find_outliers(pd.concat([each for each in (earlier, bars) if len(each)]), first)
        found = found.drop_duplicates(["instrument_id", "ts"])
        placed = found.merge(bars[["instrument_id", "ts", "session_date"]])
        counts = placed.groupby(["instrument_id", "session_date"]).size()
        return {(int(key[0]), key[1]): int(n) for key, n in counts.items()}  # type: ignore[index]  # the index has two levels

    def _spans(
        self, timeframe: Timeframe, instrument_ids: Sequence[int]
    ) -> dict[int, tuple[date, date]]:
        """Return first and last session with bars of instruments that nobody collects.

        What a user has imported is all there will be: nothing is expected around it.
        """
        if not instrument_ids:
            return {}
        return self._warehouse.sessions_with_bars(timeframe, instrument_ids)

    def _quarantined(
        self, timeframe: Timeframe, start: date, end: date
    ) -> dict[tuple[str, date], int]:
        with self._warehouse.connect() as connection:
            rows = connection.execute(
                "SELECT symbol, ts FROM quality.quarantine WHERE dataset = 'bars' "
                "AND market = %s AND timeframe = %s AND ts >= %s AND ts < %s",
                [
                    self.market,
                    timeframe,
                    datetime.combine(start, time(), UTC) - pd.Timedelta(days=1),
                    datetime.combine(end, time(), UTC) + pd.Timedelta(days=1),
                ],
            ).fetchall()
        if not rows:
            return {}
        frame = pd.DataFrame(rows)
        frame["ts"] = pd.to_datetime(frame["ts"], utc=True).astype("datetime64[us, UTC]")
        if timeframe == "1d":
            frame["day"] = frame["ts"].dt.tz_localize(None).dt.normalize()
        else:
            frame["day"] = self._calendar.place(frame["ts"])
        counts = frame.dropna(subset=["day"]).groupby(["symbol", "day"]).size()
        return {(str(key[0]), key[1].date()): int(n) for key, n in counts.items()}  # type: ignore[index]  # the index has two levels

    def _no_trades(
        self, timeframe: Timeframe, start: date, end: date
    ) -> dict[tuple[int, pd.Timestamp], list[tuple[pd.Timestamp, pd.Timestamp]]]:
        """Return the quiet intervals per instrument and session.

        What was seen at a finer timeframe counts for the coarser bars as well: a bucket of five
        minutes is quiet when all of its minutes are.
        """
        finer = INTRADAY_TIMEFRAMES[: INTRADAY_TIMEFRAMES.index(timeframe) + 1]
        with self._warehouse.connect() as connection:
            rows = connection.execute(
                "SELECT instrument_id, session_date, start_ts, end_ts FROM quality.gaps "
                "WHERE reason = 'no trades' AND timeframe = ANY(%s) "
                "AND session_date >= %s AND session_date < %s",
                [list(finer), start, end],
            ).fetchall()
        found: dict[tuple[int, pd.Timestamp], list[tuple[pd.Timestamp, pd.Timestamp]]] = {}
        for row in rows:
            key = (row["instrument_id"], pd.Timestamp(row["session_date"]))
            interval = pd.Timestamp(row["start_ts"]), pd.Timestamp(row["end_ts"])
            found.setdefault(key, []).append(interval)
        return found


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _by_session(bars: pd.DataFrame) -> dict[tuple[int, pd.Timestamp], pd.DatetimeIndex]:
    """Return the bar starts per instrument and session; `bars` come ordered by both."""
    if bars.empty:
        return {}
    ids, days = bars["instrument_id"].to_numpy(), bars["session_date"].to_numpy()
    edges = np.flatnonzero((ids[1:] != ids[:-1]) | (days[1:] != days[:-1])) + 1
    starts, ends = [0, *edges.tolist()], [*edges.tolist(), len(bars)]
    times = pd.DatetimeIndex(bars["ts"])
    return {
        (int(ids[start]), pd.Timestamp(days[start])): times[start:end]
        for start, end in zip(starts, ends, strict=True)
    }


def _collects(entry: WatchlistEntry, timeframe: Timeframe) -> bool:
    if timeframe == "1d":
        return True
    if timeframe == "1m":
        return entry.collect_1min
    return entry.collect_5min or entry.collect_1min


def _outside(span: tuple[date, date] | None, session_date: date) -> str | None:
    """Return why nothing is expected of an imported symbol on a day, None inside its span."""
    if span is None or span[0] <= session_date <= span[1]:
        return None
    if session_date < span[0]:
        return f"not on the watchlist; imported from {span[0]} on"
    return f"not on the watchlist; imported until {span[1]}"


def _reason(present: int, missing: int) -> str:
    if not missing:
        return "complete"
    return "not yet fetched" if not present else "absent in every source asked"
