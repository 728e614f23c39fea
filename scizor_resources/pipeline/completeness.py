"""Measure the stored bars of a market against its calendar, session by session, and keep it.

Collections keep the ledger of gaps as they write; this goes over it again with everything that the
score needs, and mends what has come to differ in another way.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from typing import Any

import pandas as pd

from scizor_core.gaps import OPEN_REASONS
from scizor_core.instruments import Instrument, in_turn
from scizor_core.markets import INTRADAY_TIMEFRAMES, Timeframe
from scizor_core.sessions import SessionCalendar, get_calendar
from scizor_resources.pipeline.gap_ledger import GapLedger, LedgerUpdate
from scizor_resources.pipeline.gap_work import collects
from scizor_resources.pipeline.score_parts import measure_parts
from scizor_resources.stores.gaps import CompletenessRow
from scizor_resources.stores.reference import ReferenceStore
from scizor_resources.stores.warehouse import Warehouse

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WORST = 10


@dataclass(frozen=True)
class CompletenessReport:
    """What one measurement found.

    Attributes:
        sessions: rows measured (instrument x timeframe x session).
        changed: rows that were new or differ from what was stored.
        expected: bars the calendar expects in all of them.
        present: of those, stored.
        quiet: of those, known to have had no trade.
        excused: of those, not to be had: halted, outside every history, not listed.
        missing: of those, absent for a reason that leaves them to be had.
        reasons: reason -> missing bars.
        gaps_changed: gaps that were written or removed.
        worst: the sessions with the most missing bars: symbol, timeframe, session, missing.
    """

    sessions: int
    changed: int
    expected: int
    present: int
    quiet: int
    excused: int
    missing: int
    reasons: dict[str, int] = field(default_factory=dict)
    gaps_changed: int = 0
    worst: list[dict[str, Any]] = field(default_factory=list)


class CompletenessMeter:
    """Measures one market.

    Args:
        market: name of the market.
        warehouse: where bars are.
        reference: symbols and watchlist.
        now: clock, aware; bars whose interval has not ended are not expected yet.
    """

    def __init__(
        self,
        market: str,
        *,
        warehouse: Warehouse,
        reference: ReferenceStore,
        now: Callable[[], datetime],
    ) -> None:
        self.market = market
        self._warehouse, self._reference = warehouse, reference
        self._ledger = GapLedger(warehouse, reference, now)
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
        total = LedgerUpdate()
        for timeframe in timeframes:
            total += self._measure_timeframe(timeframe, start, end, symbols)
        names = {
            each.instrument_id: each.symbol for each in self._reference.instruments(self.market)
        }
        return _report(total, names)

    def _measure_timeframe(
        self, timeframe: Timeframe, start: date, end: date, symbols: Sequence[str] | None
    ) -> LedgerUpdate:
        bars = self._bars(timeframe, start, end)
        chosen = self._chosen(timeframe, start, end, symbols, bars)
        ids = {each.instrument_id: each.symbol for each in chosen}
        parts = measure_parts(
            self._warehouse,
            self.market,
            timeframe,
            bars[bars["instrument_id"].isin(list(ids))],
            (start, end),
            ids,
        )
        dates = [each.session_date for each in self._calendar.sessions(start, end)]
        return self._ledger.record(self.market, timeframe, dates, chosen, parts=parts)

    def _chosen(
        self,
        timeframe: Timeframe,
        start: date,
        end: date,
        symbols: Sequence[str] | None,
        bars: pd.DataFrame,
    ) -> list[Instrument]:
        """Return what is watched, has bars, or was missed before and is not watched any more."""
        watched = {
            entry.symbol
            for entry in self._reference.watchlist(self.market, active_only=True)
            if collects(entry, timeframe)
        }
        concerned = set(bars["instrument_id"])
        with self._warehouse.connect() as connection:
            rows = connection.execute(
                "SELECT DISTINCT instrument_id FROM quality.completeness WHERE timeframe = %s "
                "AND session_date >= %s AND session_date < %s AND missing > 0",
                [timeframe, start, end],
            ).fetchall()
        concerned |= {row["instrument_id"] for row in rows}
        return [
            each
            for each in in_turn(self._reference.instruments(self.market))
            if (each.symbol in watched or each.instrument_id in concerned)
            and (symbols is None or each.symbol in symbols)
        ]

    def _bars(self, timeframe: Timeframe, start: date, end: date) -> pd.DataFrame:
        if timeframe == "1d":
            window = datetime.combine(start, time(), UTC), datetime.combine(end, time(), UTC)
        else:
            bounds = self._calendar.window(start, end)
            if bounds is None:
                return self._warehouse.read_bars(timeframe, _EPOCH, _EPOCH, market=self.market)
            window = bounds
        return self._warehouse.read_bars(timeframe, *window, market=self.market)


def _report(update: LedgerUpdate, names: dict[int, str]) -> CompletenessReport:
    rows = update.rows
    reasons: Counter[str] = Counter()
    for row in rows:
        counts = (row.feed_down, row.refused, row.absent, row.not_fetched)
        reasons.update(dict(zip(OPEN_REASONS, counts, strict=True)))
    worst = sorted(rows, key=lambda row: -row.missing)[:_WORST]
    return CompletenessReport(
        sessions=len(rows),
        changed=update.changed,
        expected=sum(row.expected for row in rows),
        present=sum(row.present for row in rows),
        quiet=sum(row.quiet for row in rows),
        excused=sum(row.halted + row.outside_history + row.delisted for row in rows),
        missing=sum(row.missing for row in rows),
        reasons={reason: count for reason, count in reasons.items() if count},
        gaps_changed=update.gaps_written + update.gaps_removed,
        worst=[_shown(row, names) for row in worst if row.missing],
    )


def _shown(row: CompletenessRow, names: dict[int, str]) -> dict[str, Any]:
    return {
        "symbol": names[row.instrument_id],
        "timeframe": row.timeframe,
        "session": str(row.session_date),
        "missing": row.missing,
        "reason": row.reason,
    }
