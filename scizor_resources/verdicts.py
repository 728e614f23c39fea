"""Why expected bars stay open although providers were asked: verdicts, bar by bar.

What a provider says of a bar it does not deliver is told by the class of its error, never by its
sentence. Of several verdicts about one bar the one that promises most for a later try counts: a
provider that was down may have it, one that refused may have it under another plan, one that
answered without it may fill it in, and one whose history is too short never will.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt

from scizor_core.gaps import ABSENT, FEED_DOWN, OUTSIDE_HISTORY, REFUSED
from scizor_core.markets import Timeframe
from scizor_resources.errors import AuthError, BadRequest

_Mask = npt.NDArray[np.bool_]
_Times = npt.NDArray[np.datetime64]
_Ints = npt.NDArray[np.int64]

#: What a person has to read of a provider's sentence.
_LONGEST_DETAIL = 300

#: Verdicts from the least to the most promising one. A user's own file that lacks bars says nothing
#: about whether there were any; it counts where nobody else was asked.
_NONE, _NOT_IN_FILE, _TOO_OLD, _ANSWERED, _REFUSED, _DOWN = range(6)
_REASONS = {
    _NOT_IN_FILE: ABSENT,
    _TOO_OLD: OUTSIDE_HISTORY,
    _ANSWERED: ABSENT,
    _REFUSED: REFUSED,
    _DOWN: FEED_DOWN,
}


@dataclass(frozen=True)
class Finding:
    """Why expected bars of a symbol in `[start, end)` (UTC) are absent, if they are.

    Attributes:
        symbol: the symbol.
        start: start of the first bar.
        end: end of the last bar.
        reason: one of `scizor_core.gaps.REASONS`.
        detail: what was said, and by whom.
        source: the provider that said it; several that answered are joined by "+".
    """

    symbol: str
    start: datetime
    end: datetime
    reason: str
    detail: str
    source: str


def verdict_of(error: BaseException | None) -> str:
    """Return the reason that an error of a provider means for the bars asked for.

    A key, a plan or a spending cap refuses; a request that can never work (an unknown symbol) is
    an answer; everything else, an unknown cause included, is a provider that did not deliver.
    """
    return _REASONS[_code_of(error)]


def _code_of(error: BaseException | None) -> int:
    if isinstance(error, AuthError):
        return _REFUSED
    return _ANSWERED if isinstance(error, BadRequest) else _DOWN


@dataclass
class _OfSymbol:
    """Verdicts about one symbol, one per expected bar.

    Attributes:
        code: the most promising verdict.
        note: number of what was said with it, for refusals and failures.
        answered: the providers that answered without the bar, one bit each.
        too_old: those whose history does not reach back to it.
    """

    code: _Ints
    note: _Ints
    answered: _Ints
    too_old: _Ints


@dataclass
class Verdicts:
    """Collects what providers say of the bars they do not deliver.

    Attributes:
        timeframe: length of a bar.
        starts: expected bar starts.
        ends: their ends.
    """

    timeframe: Timeframe
    starts: _Times
    ends: _Times
    _symbols: dict[str, _OfSymbol] = field(default_factory=dict)
    _notes: list[tuple[str, str]] = field(default_factory=list)
    _sources: list[str] = field(default_factory=list)
    _reaches: dict[str, str] = field(default_factory=dict)

    def failed(
        self, symbol: str, bars: _Mask, source: str, error: BaseException | None, said: str
    ) -> None:
        """Note that a source failed for bars; `error` is None where its class is not known."""
        code = _code_of(error)
        self._notes.append((source, said))
        self._say(symbol, bars, code, source)
        mine = self._symbols.get(symbol)
        if mine is not None:
            mine.note[bars & (mine.code == code) & (mine.note < 0)] = len(self._notes) - 1

    def lacks(
        self, symbol: str, bars: _Mask, source: str, reach: "Reach | None", *, own_files: bool
    ) -> None:
        """Note that a source has answered without bars.

        Args:
            symbol: whose.
            bars: those asked for and not delivered.
            source: who.
            reach: how far back it goes, None for without limit.
            own_files: it has a user's files only.
        """
        if own_files:
            self._say(symbol, bars, _NOT_IN_FILE, source)
            return
        if reach is None:
            self._say(symbol, bars, _ANSWERED, source)
            return
        old = bars & (self.starts < reach.earliest)
        self._reaches[source] = reach.sentence(source, self.timeframe)
        self._say(symbol, old, _TOO_OLD, source)
        self._say(symbol, bars & ~old, _ANSWERED, source)

    def _say(self, symbol: str, bars: _Mask, code: int, source: str) -> None:
        if not bars.any():
            return
        mine = self._symbols.get(symbol)
        if mine is None:
            size = len(self.starts)
            zeros = [np.zeros(size, dtype=np.int64) for _ in range(3)]
            mine = _OfSymbol(zeros[0], np.full(size, -1, dtype=np.int64), zeros[1], zeros[2])
            self._symbols[symbol] = mine
        if source not in self._sources:
            self._sources.append(source)
        bit = 1 << self._sources.index(source)
        if code in (_ANSWERED, _NOT_IN_FILE):
            mine.answered[bars] |= bit
        elif code == _TOO_OLD:
            mine.too_old[bars] |= bit
        raised = bars & (mine.code < code)
        mine.code[raised] = code
        mine.note[raised] = -1

    def findings(self) -> list[Finding]:
        """Return the verdicts as intervals: bars in a row of which the same is to be said."""
        found = []
        for symbol, mine in self._symbols.items():
            said = np.flatnonzero(mine.code > _NONE)
            keys = np.stack([mine.code, mine.note, mine.answered, mine.too_old])[:, said]
            breaks = (np.diff(said) != 1) | (np.diff(keys, axis=1) != 0).any(axis=0)
            for run in np.split(said, np.flatnonzero(breaks) + 1):
                reason, detail, source = self._words(mine, int(run[0]))
                start, end = _instant(self.starts[run[0]]), _instant(self.ends[run[-1]])
                found.append(Finding(symbol, start, end, reason, detail, source))
        return found

    def _words(self, mine: _OfSymbol, bar: int) -> tuple[str, str, str]:
        code = int(mine.code[bar])
        if mine.note[bar] >= 0:
            source, said = self._notes[mine.note[bar]]
            return _REASONS[code], shortened(f"{source}: {said}"), source
        if code == _TOO_OLD:
            names = self._names(int(mine.too_old[bar]))
            sentence = "; ".join(self._reaches[name] for name in names)
            return _REASONS[code], shortened(sentence), "+".join(names)
        names = self._names(int(mine.answered[bar]))
        return _REASONS[code], f"asked {', '.join(names)}", "+".join(names)

    def _names(self, bits: int) -> list[str]:
        return [name for place, name in enumerate(self._sources) if bits >> place & 1]


@dataclass(frozen=True)
class Reach:
    """How far back a provider goes: its span, and the first bar start within it."""

    span: timedelta
    earliest: np.datetime64

    def sentence(self, source: str, timeframe: Timeframe) -> str:
        """Return it in words that are the same tomorrow."""
        hours = self.span.total_seconds() / 3600
        span = f"{self.span.days} days" if hours >= 48 else f"{hours:g} hours"  # noqa: PLR2004
        return f"{source} keeps {timeframe} bars for {span}"


def shortened(sentence: str) -> str:
    """Return a sentence on one line, cut where it is too long for a table."""
    line = " ".join(sentence.split())
    return line if len(line) <= _LONGEST_DETAIL else f"{line[: _LONGEST_DETAIL - 3]}..."


def _instant(value: np.datetime64) -> datetime:
    found: datetime = value.astype("datetime64[us]").astype(object).replace(tzinfo=UTC)
    return found
