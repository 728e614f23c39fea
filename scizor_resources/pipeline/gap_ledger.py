"""The ledger of gaps: after each write, why every absent bar of a session is absent.

One transaction per update: what is stored of the sessions is read (keys only), compared with the
calendar, explained by `scizor_core.gap_reasons`, and what differs is written. An update that finds
nothing new writes nothing. A complete session has no gaps and costs one comparison.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, date, datetime, time, timedelta

from scizor_core.bars import FINER
from scizor_core.gap_grid import Grid, build_grid
from scizor_core.gaps import (
    ClosedGap,
    Gap,
    Lane,
    Micros,
)
from scizor_core.instruments import Instrument, WatchlistEntry, in_turn
from scizor_core.markets import Timeframe
from scizor_core.sessions import get_calendar
from scizor_resources.pipeline.gap_work import (
    Findings,
    Result,
    ScoreParts,
    Stored,
    Work,
    collects,
)
from scizor_resources.stores.gaps import CompletenessRow, GapStore, Place
from scizor_resources.stores.reference import ReferenceStore
from scizor_resources.stores.warehouse import Warehouse

_DAY = timedelta(days=1)


@dataclass
class LedgerUpdate:
    """What an update of the ledger came to.

    Attributes:
        rows: completeness of every instrument and session looked at.
        changed: of those, rows that are new or differ from what was stored.
        gaps_written: gaps that are new or differ.
        gaps_removed: gaps that are none any more, or part of another one.
        repaired: parts of gaps somebody had asked for whose bars have come.
        explained: parts of such gaps that have a reason now which needs no bars.
        open_gaps: gaps that will be asked for again.
        given_up: gaps that are not asked for any more.
    """

    rows: list[CompletenessRow] = field(default_factory=list)
    changed: int = 0
    gaps_written: int = 0
    gaps_removed: int = 0
    repaired: int = 0
    explained: int = 0
    open_gaps: int = 0
    given_up: int = 0

    def __add__(self, other: "LedgerUpdate") -> "LedgerUpdate":
        return LedgerUpdate(
            *(getattr(self, each.name) + getattr(other, each.name) for each in fields(self))
        )


class GapLedger:
    """Keeps `quality.gaps`, `quality.closed_gaps` and `quality.completeness`.

    Args:
        warehouse: bars and the ledger.
        reference: symbols and watchlist.
        now: clock, aware; bars whose interval has not ended are not expected yet.
    """

    def __init__(
        self, warehouse: Warehouse, reference: ReferenceStore, now: Callable[[], datetime]
    ) -> None:
        self._warehouse, self._reference, self._now = warehouse, reference, now

    def update(
        self,
        market: str,
        timeframe: Timeframe,
        sessions: Sequence[date],
        instrument_ids: Sequence[int],
        *,
        findings: Findings | None = None,
        lane: Lane = "backfill",
    ) -> LedgerUpdate:
        """Bring the ledger of some instruments and sessions up to date after a write.

        Args:
            market: name of the market.
            timeframe: length of the bars.
            sessions: session dates that were asked for or written.
            instrument_ids: the instruments concerned.
            findings: what was learned about absent bars.
            lane: `repair` counts as a try at each gap that stays open; `live` as one at those of
                a running session that are due.

        Raises:
            WarehouseError: PostgreSQL refused.
        """
        found = self._reference.by_id(instrument_ids)
        codes = sorted({each.symbol for each in found})
        wanted = set(instrument_ids)
        instruments = [
            each
            for each in in_turn(self._reference.instruments(market, codes))
            if each.instrument_id in wanted
        ]
        return self.record(market, timeframe, sessions, instruments, findings=findings, lane=lane)

    def record(
        self,
        market: str,
        timeframe: Timeframe,
        sessions: Sequence[date],
        instruments: Sequence[Instrument],
        *,
        findings: Findings | None = None,
        lane: Lane = "backfill",
        parts: Mapping[Place, ScoreParts] | None = None,
    ) -> LedgerUpdate:
        """Bring the ledger up to date; as `update`, for instruments whose listing is known.

        Args:
            market: name of the market.
            timeframe: length of the bars.
            sessions: session dates.
            instruments: the instruments, with the days on which they were listed.
            findings: what was learned about absent bars.
            lane: as in `update`.
            parts: (instrument_id, session date) -> the other parts of the score, measured anew;
                without it they stay as they are stored.

        Raises:
            WarehouseError: PostgreSQL refused.
        """
        grid = build_grid(get_calendar(market), sessions, timeframe, self._now())
        update = LedgerUpdate()
        if not grid.dates or not instruments:
            return update
        entries = {
            each.symbol: each
            for each in self._reference.watchlist(market, active_only=True)
            if collects(each, timeframe)
        }
        work = Work(market, grid, entries, findings or Findings(), lane, parts)
        with self._warehouse.transaction() as connection:
            store = GapStore(connection)
            store.take_turns(market, timeframe, grid.dates)
            stored = self._read(store, market, grid, instruments, entries)
            results = [work.explained(each, stored) for each in instruments]
            self._write(store, timeframe, results, stored, update, grid.now)
        return update

    def _read(
        self,
        store: GapStore,
        market: str,
        grid: Grid,
        instruments: Sequence[Instrument],
        entries: Mapping[str, WatchlistEntry],
    ) -> Stored:
        ids = [each.instrument_id for each in instruments]
        unwatched = [each.instrument_id for each in instruments if each.symbol not in entries]
        start, end = int(grid.opens[0]), int(grid.closes[-1])
        finer = FINER.get(grid.timeframe)
        return Stored(
            # After the turn was taken: what another writer had stored before is seen.
            times=self._warehouse.bar_times(grid.timeframe, *_window(market, grid), ids),
            spans=(
                self._warehouse.sessions_with_bars(grid.timeframe, unwatched) if unwatched else {}
            ),
            gaps=store.gaps(grid.timeframe, grid.dates, ids),
            finer=store.gaps(finer, grid.dates, ids) if finer is not None else {},
            rows=store.completeness(grid.timeframe, grid.dates, ids),
            halts=store.halts(ids, start, end),
            outages=store.outages(market, start, end),
        )

    def _write(
        self,
        store: GapStore,
        timeframe: Timeframe,
        results: Sequence[Result],
        stored: Stored,
        update: LedgerUpdate,
        now: Micros,
    ) -> None:
        gone: list[tuple[int, Gap]] = []
        changed: list[tuple[int, Gap]] = []
        closed: list[tuple[int, ClosedGap]] = []
        for result in results:
            before = {gap.start: gap for gap in stored.gaps.get(result.instrument_id, [])}
            starts = {gap.start for gap in result.gaps}
            gone += [(result.instrument_id, gap) for at, gap in before.items() if at not in starts]
            changed += [
                (result.instrument_id, gap) for gap in result.gaps if before.get(gap.start) != gap
            ]
            closed += [(result.instrument_id, each) for each in result.closed]
            update.rows += result.rows
            states = Counter(gap.status for gap in result.gaps)
            update.open_gaps += states["open"]
            update.given_up += states["given up"]
        rows = [
            row
            for row in update.rows
            if stored.rows.get((row.instrument_id, row.session_date)) != row
        ]
        store.delete(timeframe, gone)
        store.write(timeframe, changed)
        store.close(timeframe, closed, now)
        store.write_completeness(rows)
        update.changed, update.gaps_written, update.gaps_removed = (
            len(rows),
            len(changed),
            len(gone),
        )
        outcomes = Counter(each.outcome for _, each in closed)
        update.repaired, update.explained = outcomes["repaired"], outcomes["explained"]


def _window(market: str, grid: Grid) -> tuple[datetime, datetime]:
    first, last = grid.dates[0], grid.dates[-1]
    if grid.timeframe == "1d":
        return datetime.combine(first, time(), UTC), datetime.combine(last, time(), UTC) + _DAY
    window = get_calendar(market).window(first, last + _DAY)
    if window is None:
        raise AssertionError("the grid has sessions")
    return window
