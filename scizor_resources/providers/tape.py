"""The tape: bars and trades from files on disk, as a provider like any other.

Files are what an import has kept or what a user has listed in `manifest.json` by hand. Where
entries overlap the later one wins. Trades are built into bars when they are asked for.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd

from scizor_core.errors import InvalidInputError
from scizor_core.markets import MARKETS, TIMEFRAMES, Timeframe, check_timeframe
from scizor_core.sessions import Session, get_calendar
from scizor_core.ticks import TICK_COLUMNS, build_bars
from scizor_resources.providers.base import (
    BarBatch,
    BarRequest,
    Capabilities,
    empty_bars,
    empty_rejected,
    normalise_bars,
)
from scizor_resources.tape.files import EntryFile, read_entry
from scizor_resources.tape.manifest import MANIFEST_NAME, TapeEntry, describe, read_manifest

#: How far from open and close the trades of a session may begin and end to make its daily bar.
DAILY_TOLERANCE = timedelta(minutes=15)

_MINUTE = timedelta(minutes=1)
_LONGEST_SOURCE = 64

Window = tuple[datetime, datetime]


@dataclass
class _Answer:
    """What the tape has for one symbol."""

    bars: pd.DataFrame | None = None
    rejected: list[pd.DataFrame] = field(default_factory=list)
    covered: list[Window] = field(default_factory=list)
    reason: str = ""
    files: int = 0


class TapeSource:
    """Bars from the files of a tape directory.

    Args:
        directory: the directory with `manifest.json`; it need not exist yet.
        now: clock, aware; rows of hand-written entries after it are refused.
    """

    def __init__(
        self, directory: Path, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._directory = directory
        self._now = now

    @property
    def name(self) -> str:
        """The provider's name."""
        return "tape"

    @property
    def capabilities(self) -> Capabilities:
        """Every market and timeframe: what a file holds decides."""
        return Capabilities(
            markets=frozenset(MARKETS), timeframes=frozenset(TIMEFRAMES), own_files=True
        )

    def entries(self, market: str | None = None, timeframe: str | None = None) -> list[TapeEntry]:
        """Return the entries in the manifest's order.

        Args:
            market: only those of that market.
            timeframe: only those from which its bars can be had, trades included; "tick" for
                trades alone.

        Raises:
            InvalidInputError: the manifest cannot be used.
        """
        return [
            entry
            for _, entry in self._numbered()
            if (market is None or entry.market == market)
            and (timeframe is None or entry.timeframe in (timeframe, "tick"))
        ]

    def symbols(
        self, market: str, timeframe: Timeframe, start: datetime, end: datetime
    ) -> list[str]:
        """Return the symbols with data in `[start, end)`, sorted.

        Trades count for every timeframe. For "1d" the window is of session dates. A symbol whose
        file cannot be read is listed, so that asking for it tells why.

        Raises:
            InvalidInputError: the manifest cannot be used.
        """
        found: set[str] = set()
        for number, entry in self._numbered():
            if entry.symbol in found or entry.market != market:
                continue
            if entry.timeframe not in (timeframe, "tick"):
                continue
            window: Window | None = (start, end)
            if entry.timeframe == "tick":
                window = _tick_window(market, timeframe, start, end)
            try:
                if window is not None and self._open(number, entry).holds(*window):
                    found.add(entry.symbol)
            except InvalidInputError:
                found.add(entry.symbol)
        return sorted(found)

    def trades_span(self, market: str, symbol: str) -> Window | None:
        """Return the times of a symbol's first and last trade, None where there are no trades.

        Raises:
            InvalidInputError: the manifest or a file cannot be used.
        """
        spans = [span for opened in self._trades_of(market, symbol) if (span := opened.span())]
        if not spans:
            return None
        return min(first for first, _ in spans), max(last for _, last in spans)

    def trades(self, market: str, symbol: str, start: datetime, end: datetime) -> pd.DataFrame:
        """Return a symbol's trades in `[start, end)`, columns `TICK_COLUMNS`, ordered by ts.

        Where files overlap the later one wins.

        Raises:
            InvalidInputError: the manifest or a file cannot be used.
        """
        found = _merged_ticks(self._trades_of(market, symbol), (start, end))
        return found.sort_values("ts", kind="stable", ignore_index=True)

    def _trades_of(self, market: str, symbol: str) -> list[EntryFile]:
        return [
            self._open(number, entry)
            for number, entry in self._numbered()
            if (entry.market, entry.symbol, entry.timeframe) == (market, symbol, "tick")
        ]

    def fetch_bars(self, request: BarRequest) -> BarBatch:
        """Return the bars of the window, refused rows, and where every trade was seen.

        `covered` are the times between the first and the last trade of each file, in whole
        minutes. A 5m or 15m bar at their edge holds the trades that there are.

        Raises:
            InvalidInputError: the manifest cannot be used, or no symbol asked for has a file that
                can be read; the message names file and entry.
        """
        began = time.perf_counter()
        numbered = self._numbered()
        batch = BarBatch(bars=empty_bars(), rejected=empty_rejected())
        frames: list[pd.DataFrame] = []
        refused: list[pd.DataFrame] = []
        failure: InvalidInputError | None = None
        for ref in request.symbols:
            mine = [
                (number, entry)
                for number, entry in numbered
                if (entry.market, entry.symbol) == (request.market, ref.symbol)
                and entry.timeframe in (request.timeframe, "tick")
            ]
            try:
                answer = self._answer(ref.symbol, request, mine)
            except InvalidInputError as error:
                failure = error
                batch.errors[ref.symbol] = str(error)
                continue
            refused.extend(frame for frame in answer.rejected if not frame.empty)
            batch.covered.extend((ref.symbol, *window) for window in answer.covered)
            batch.requests += answer.files
            if answer.bars is None:
                batch.empty_reasons[ref.symbol] = answer.reason
            else:
                frames.append(answer.bars.assign(symbol=ref.symbol))
        if failure is not None and len(batch.errors) == len(request.symbols):
            raise failure
        if frames:
            batch.bars = normalise_bars(pd.concat(frames, ignore_index=True))
        if refused:
            batch.rejected = pd.concat(refused, ignore_index=True)
        batch.latency_seconds = time.perf_counter() - began
        return batch

    def _numbered(self) -> list[tuple[int, TapeEntry]]:
        return list(enumerate(read_manifest(self._directory), start=1))

    def _open(self, number: int, entry: TapeEntry) -> EntryFile:
        try:
            return read_entry(self._directory / entry.file, entry, self._now())
        except InvalidInputError as error:
            place = describe(self._directory / MANIFEST_NAME, number, "file")
            raise InvalidInputError(f"{place}: {error}") from error

    def _answer(
        self, symbol: str, request: BarRequest, mine: list[tuple[int, TapeEntry]]
    ) -> _Answer:
        market, timeframe = request.market, check_timeframe(request.timeframe)
        if not mine:
            return _Answer(reason=f"the tape has nothing for {symbol} {timeframe}")
        answer = _Answer(files=len(mine))
        window = (request.start, request.end)
        parts: list[tuple[int, pd.DataFrame]] = []
        ticks: list[tuple[int, TapeEntry, EntryFile]] = []
        ranges: list[Window] = []
        for number, entry in mine:
            opened = self._open(number, entry)
            span = opened.span()
            if span is not None:
                ranges.append(span)
            if entry.timeframe == "tick":
                ticks.append((number, entry, opened))
            else:
                answer.rejected.append(opened.rejected(*window))
                parts.append((number, opened.rows(*window).assign(source=entry.source)))
        if ticks:
            built = self._built(market, timeframe, window, ticks, answer)
            parts.append((max(number for number, _, _ in ticks), built))
        filled = [frame for _, frame in sorted(parts, key=lambda part: part[0]) if len(frame)]
        if filled:
            bars = pd.concat(filled, ignore_index=True).drop_duplicates("ts", keep="last")
            answer.bars = bars.assign(is_final=True)
        elif not answer.reason:
            answer.reason = _nothing_here(symbol, timeframe, ranges)
        return answer

    def _built(
        self,
        market: str,
        timeframe: Timeframe,
        window: Window,
        ticks: list[tuple[int, TapeEntry, EntryFile]],
        answer: _Answer,
    ) -> pd.DataFrame:
        calendar = get_calendar(market)
        spans = [span for _, _, opened in ticks if (span := opened.span()) is not None]
        seen = _merged((_floor(first), _floor(last) + _MINUTE) for first, last in spans)
        reach = _tick_window(market, timeframe, *window)
        if reach is None or not seen:
            return pd.DataFrame(columns=["ts"])
        answer.rejected.extend(opened.rejected(*reach) for _, _, opened in ticks)
        source = _joined(entry.source for _, entry, _ in ticks)
        trades = _merged_ticks([opened for _, _, opened in ticks], reach)
        # One day more on either side: a session's date is not its UTC date.
        low, high = (max(reach[0], seen[0][0]), min(reach[1], seen[-1][1]))
        days = timedelta(days=1)
        sessions = calendar.sessions((low - days).date(), (high + 2 * days).date())
        if timeframe != "1d":
            auction = timedelta(minutes=calendar.market.closing_auction_minutes)
            answer.covered = _covered(seen, sessions, reach, auction)
            return build_bars(trades, timeframe).assign(source=source)
        whole, partial = _whole_sessions(seen, sessions, window)
        dates = pd.to_datetime([each.session_date for each in whole], utc=True)
        answer.covered = [(day.to_pydatetime(), (day + days).to_pydatetime()) for day in dates]
        bars = build_bars(trades, timeframe, calendar)
        bars = bars[bars["ts"].isin(dates)]
        if bars.empty and partial:
            answer.reason = partial[0]
        return bars.assign(source=source)


def _tick_window(
    market: str, timeframe: Timeframe, start: datetime, end: datetime
) -> Window | None:
    """Return the instants of trades that make the bars of a window; None without a session."""
    if timeframe != "1d":
        return start, end
    return get_calendar(market).window(start.date(), end.date())


def _merged_ticks(files: list[EntryFile], reach: Window) -> pd.DataFrame:
    """Return the trades of several files once each; between its ends the later file wins."""
    kept: list[pd.DataFrame] = []
    for opened in files:
        rows = opened.rows(*reach)
        span = opened.span()
        if span is None:
            continue
        first, last = (pd.Timestamp(bound) for bound in span)
        ids = set(rows["trade_id"].dropna()) if kept else set()
        for position, earlier in enumerate(kept):
            anonymous = earlier["trade_id"].isna() & earlier["ts"].isin([first, last])
            inside = (earlier["ts"] > first) & (earlier["ts"] < last)
            kept[position] = earlier[~(inside | anonymous | earlier["trade_id"].isin(ids))]
        kept.append(rows)
    filled = [frame for frame in kept if len(frame)]
    if not filled:
        return kept[0] if kept else pd.DataFrame(columns=list(TICK_COLUMNS))
    return pd.concat(filled, ignore_index=True)


def _whole_sessions(
    seen: list[Window], sessions: list[Session], window: Window
) -> tuple[list[Session], list[str]]:
    """Return the sessions that the trades cover, and a sentence for each covered in part."""
    whole: list[Session] = []
    partial: list[str] = []
    for session in sessions:
        if not window[0].date() <= session.session_date < window[1].date():
            continue
        parts = [
            (max(first, session.open), min(last, session.close))
            for first, last in seen
            if first < session.close and last > session.open
        ]
        if any(
            first - session.open <= DAILY_TOLERANCE and session.close - last <= DAILY_TOLERANCE
            for first, last in parts
        ):
            whole.append(session)
        elif parts:
            held = sum(((last - first) for first, last in parts), timedelta())
            partial.append(
                f"1d: the trades of {session.session_date} cover {_clock(held)} of "
                f"{_clock(session.close - session.open)} hours; a daily bar of them would be "
                "invented"
            )
    return whole, partial


def _covered(
    seen: list[Window], sessions: list[Session], reach: Window, auction: timedelta
) -> list[Window]:
    bounds = _merged((session.open, session.close + auction) for session in sessions)
    windows = (
        (max(first, opened, reach[0]), min(last, closed, reach[1]))
        for first, last in seen
        for opened, closed in bounds
    )
    return _merged(window for window in windows if window[0] < window[1])


def _merged(windows: Iterable[Window]) -> list[Window]:
    """Return the windows in order, those that touch as one."""
    out: list[Window] = []
    for first, last in sorted(windows):
        if out and first <= out[-1][1]:
            out[-1] = (out[-1][0], max(last, out[-1][1]))
        else:
            out.append((first, last))
    return out


def _joined(sources: Iterable[str]) -> str:
    joined = "+".join(sorted(set(sources)))
    return joined if len(joined) <= _LONGEST_SOURCE else "tape"


def _nothing_here(symbol: str, timeframe: Timeframe, ranges: list[Window]) -> str:
    if not ranges:
        return f"the tape has no good row for {symbol} {timeframe}"
    first, last = min(low for low, _ in ranges), max(high for _, high in ranges)
    return (
        f"the tape has nothing for {symbol} {timeframe} in this window, its rows lie between "
        f"{first:%Y-%m-%d %H:%M} and {last:%Y-%m-%d %H:%M} UTC"
    )


def _floor(at: datetime) -> datetime:
    return at.replace(second=0, microsecond=0)


def _clock(length: timedelta) -> str:
    minutes = int(length.total_seconds() // 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}"
