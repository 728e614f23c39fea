"""The hot store: the last bars, quote and indicators of each live instrument, in Valkey.

The bars of an instrument and timeframe are one string of equally long records, oldest first, so
that the last 500 are one read, and a change of the newest bar writes 98 bytes. The sidecar alone
writes (`HotSeries` is its copy); everybody reads. Keys carry the version of the layout.
"""

import bisect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from scizor_core.indicators import INDICATOR_COLUMNS
from scizor_core.markets import Timeframe
from scizor_resources.budget.link import ValkeyAway, ValkeyLink

#: Another layout of the records is another version; old keys expire by themselves.
VERSION = 1
#: Bars that are kept of an instrument and timeframe.
KEPT_BARS = 500
#: The string is cut back to `KEPT_BARS` when it has so many.
_MOST_BARS = 600
#: States in the order of their codes.
#: A bar that is withdrawn is in no string; only what is published tells of it.
STATES: tuple[str, ...] = ("forming", "closed", "revised", "provisional", "withdrawn")
FINAL_STATES = frozenset({1, 2})

_RECORD = Struct("<q6diiHB31s")
#: The first record is no bar; it says from when on nothing is missing.
_HEADER_START = -1
RECORD_BYTES = _RECORD.size
_LONGEST_SOURCE = 31
_DTYPE = np.dtype(
    [
        ("start", "<i8"),
        *((name, "<f8") for name in ("open", "high", "low", "close", "volume", "vwap")),
        ("trade_count", "<i4"),
        ("session_day", "<i4"),
        ("revision", "<u2"),
        ("state", "u1"),
        ("source", f"S{_LONGEST_SOURCE}"),
    ]
)
_QUOTE = Struct("<q4dB")
_INDICATORS = Struct(f"<q{len(INDICATOR_COLUMNS)}d")
_COUNT_END, _REVISION_END = 2**31 - 1, 2**16 - 1
_NAN = float("nan")
_TEXT = pd.StringDtype("pyarrow", na_value=np.nan)

#: One change: key, offset, bytes, milliseconds to live.
Change = tuple[str, int, bytes, int]
#: In place of an offset: the whole value; or only that the key lives on.
WHOLE, TOUCH = -1, -2

_CHANGE = Struct("<iI")
#: Makes changes in one step; answers which keys were not there any more to be changed. Each
#: argument is offset and milliseconds, four bytes each, and the value.
WRITE_SCRIPT = """
local lost = {}
for i, key in ipairs(KEYS) do
    local offset, life = struct.unpack('<i4I4', ARGV[i])
    if offset == -1 then
        redis.call('SET', key, string.sub(ARGV[i], 9), 'PX', life)
    elseif offset == -2 then
        if redis.call('PEXPIRE', key, life) == 0 then lost[#lost + 1] = i end
    elseif redis.call('STRLEN', key) < math.max(offset, 1) then
        lost[#lost + 1] = i
    else
        redis.call('SETRANGE', key, offset, string.sub(ARGV[i], 9))
        redis.call('PEXPIRE', key, life)
    end
end
return lost
"""


def script_arguments(changes: Sequence[Change]) -> list[str | bytes]:
    """Return keys and arguments of `WRITE_SCRIPT`."""
    keys = [key for key, _, _, _ in changes]
    return [*keys, *(_CHANGE.pack(offset, life) + value for _, offset, value, life in changes)]


def bars_key(market: str, symbol: str, timeframe: str) -> str:
    """Return the key of the bars of an instrument and timeframe."""
    return f"scizor:hot:{VERSION}:bars:{market}:{symbol}:{timeframe}"


def quote_key(market: str, symbol: str) -> str:
    """Return the key of the last quote of an instrument."""
    return f"scizor:hot:{VERSION}:quote:{market}:{symbol}"


def indicators_key(market: str, symbol: str, timeframe: str) -> str:
    """Return the key of the newest indicators of an instrument and timeframe."""
    return f"scizor:hot:{VERSION}:indicators:{market}:{symbol}:{timeframe}"


def changes_channel(market: str) -> str:
    """Return the channel on which the changes of a market's bars are published."""
    return f"scizor:hot:{VERSION}:changes:{market}"


class HotBar(NamedTuple):
    """A bar in the hot store; `start` in microseconds UTC, `state` a code of `STATES`."""

    start: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    vwap: float | None
    trade_count: int
    session_day: int
    revision: int
    state: int
    source: str

    def packed(self) -> bytes:
        """Return its record."""
        start, *prices, vwap, count, day, revision, state, source = self
        return _RECORD.pack(
            start, *prices, _NAN if vwap is None else vwap, min(count, _COUNT_END), day,
            min(revision, _REVISION_END), state, source.encode()[:_LONGEST_SOURCE],
        )  # fmt: skip


class HotSeries:
    """The writer's copy of one string: says which bytes of it a bar changes.

    Args:
        key: where it stands in Valkey.
        live_ms: how long it is to live after each change.
    """

    def __init__(self, key: str, live_ms: int) -> None:
        self.key, self.live_ms = key, live_ms
        self.complete_from: int | None = None
        #: Start -> source of bars that there are no more; PostgreSQL may have them a little longer.
        self._withdrawn: dict[int, str] = {}
        self._starts: list[int] = []
        self._data = bytearray(_header(None))

    def __len__(self) -> int:
        return len(self._starts)

    @property
    def last(self) -> int | None:
        """Start of the newest bar."""
        return self._starts[-1] if self._starts else None

    def put(self, bar: HotBar) -> Change | None:
        """Take a bar; returns what changes in Valkey, None where nothing does."""
        record = bar.packed()
        if self._withdrawn:
            self._withdrawn.pop(bar.start, None)
        if not self._starts or bar.start > self._starts[-1]:
            if len(self._starts) >= _MOST_BARS:
                self._cut()
                self._append(bar.start, record)
                return self.whole()
            self._append(bar.start, record)
            return self._change(len(self._starts), record)
        place = bisect.bisect_left(self._starts, bar.start)
        if self._starts[place] == bar.start:
            at = (place + 1) * RECORD_BYTES
            if self._data[at : at + RECORD_BYTES] == record:
                return None
            self._data[at : at + RECORD_BYTES] = record
            return self._change(place + 1, record)
        if place == 0 and len(self._starts) >= KEPT_BARS:
            return None
        self._starts.insert(place, bar.start)
        at = (place + 1) * RECORD_BYTES
        self._data[at:at] = record
        return self.whole()

    def withdraw(self, start: int, source: str) -> Change | None:
        """Take a bar out; returns what changes in Valkey, None where it is not there."""
        self._withdrawn[start] = source
        place = bisect.bisect_left(self._starts, start)
        if place == len(self._starts) or self._starts[place] != start:
            return None
        del self._starts[place]
        at = (place + 1) * RECORD_BYTES
        del self._data[at : at + RECORD_BYTES]
        return self.whole()

    def put_stored(self, bars: Iterable[HotBar]) -> bool:
        """Take in bars of PostgreSQL that the copy lacks, and final ones that it has otherwise.

        Those are of another source, or in place of provisional ones: repaired by a provider.

        Returns:
            Whether any of them was taken; then `whole` is to be written.
        """
        places = range(RECORD_BYTES, len(self._data), RECORD_BYTES)
        records = {
            start: bytes(self._data[at : at + RECORD_BYTES])
            for start, at in zip(self._starts, places, strict=True)
        }
        before = dict(records)
        for bar in bars:
            if self._withdrawn.get(bar.start) == bar.source:
                continue
            known = records.get(bar.start)
            if known is None or (
                bar.state in FINAL_STATES
                and (_is_provisional(known) or _source_of(known) != bar.source.encode())
            ):
                records[bar.start] = bar.packed()
        if records == before:
            return False
        self._starts = sorted(records)[-KEPT_BARS:]
        self._data[RECORD_BYTES:] = b"".join(records[start] for start in self._starts)
        return True

    def set_complete_from(self, instant: int | None) -> Change | None:
        """Say from when on no bar is missing, microseconds UTC; None: that is not known."""
        if self.complete_from == instant:
            return None
        self.complete_from = instant
        record = _header(instant)
        self._data[:RECORD_BYTES] = record
        return self._change(0, record)

    def whole(self) -> Change:
        """Return the change that writes all of it."""
        return self.key, WHOLE, bytes(self._data), self.live_ms

    def touch(self) -> Change:
        """Return the change that lets it live on."""
        return self.key, TOUCH, b"", self.live_ms

    def _append(self, start: int, record: bytes) -> None:
        self._starts.append(start)
        self._data += record

    def _cut(self) -> None:
        gone = len(self._starts) - KEPT_BARS + 1
        del self._starts[:gone]
        del self._data[RECORD_BYTES : (gone + 1) * RECORD_BYTES]

    def _change(self, place: int, record: bytes) -> Change:
        if len(self._starts) == 1:
            return self.whole()
        return self.key, place * RECORD_BYTES, record, self.live_ms


def _header(complete_from: int | None) -> bytes:
    since = _NAN if complete_from is None else float(complete_from)
    return _RECORD.pack(_HEADER_START, since, *[0.0] * 5, 0, 0, 0, 0, b"")


def _is_provisional(record: bytes) -> bool:
    return STATES[record[-_LONGEST_SOURCE - 1]] == "provisional"


def _source_of(record: bytes) -> bytes:
    return record[-_LONGEST_SOURCE:].rstrip(b"\0")


def pack_quote(
    ts: int, bid: float, ask: float, bid_size: float | None, ask_size: float | None, verdict: int
) -> bytes:
    """Return a quote as bytes."""
    sizes = (_NAN if each is None else each for each in (bid_size, ask_size))
    return _QUOTE.pack(ts, bid, ask, *sizes, verdict)


def pack_indicators(start: int, values: npt.NDArray[np.float64]) -> bytes:
    """Return the indicators of the bar that begins at `start`, in order of `INDICATOR_COLUMNS`."""
    return _INDICATORS.pack(start, *values.tolist())


@dataclass(frozen=True)
class HotBars:
    """The bars of an instrument and timeframe as they were read, oldest first.

    Attributes:
        records: one row a bar.
        complete_from: from this instant on (microseconds UTC) no bar is missing; None: not known.
    """

    records: npt.NDArray[Any]
    complete_from: int | None

    def __len__(self) -> int:
        return len(self.records)

    def last(self, count: int) -> "HotBars":
        """Return the last bars."""
        return HotBars(self.records[-count:], self.complete_from)

    def between(self, start: int, end: int) -> "HotBars":
        """Return the bars with `start <= bar < end`, microseconds UTC."""
        starts = self.records["start"]
        low, high = np.searchsorted(starts, [start, end])
        return HotBars(self.records[low:high], self.complete_from)

    def final(self) -> "HotBars":
        """Return the bars that are stored too: all but those that still form."""
        return HotBars(self.records[self.records["state"] != 0], self.complete_from)

    def frame(self) -> pd.DataFrame:
        """Return them as a frame.

        Returns:
            Index `ts` (datetime64[us, UTC]); session_date, open, high, low, close, volume, vwap,
            trade_count, adj_close (NaN), source, is_final, state.
        """
        rows = self.records
        state = rows["state"]
        columns = {
            "session_date": rows["session_day"].astype("datetime64[D]").astype("datetime64[us]"),
            **{
                name: np.ascontiguousarray(rows[name])
                for name in ("open", "high", "low", "close", "volume", "vwap")
            },
            "trade_count": pd.arrays.IntegerArray(
                rows["trade_count"].astype(np.int64), np.zeros(len(rows), dtype=np.bool_)
            ),
            "adj_close": np.full(len(rows), np.nan),
            "source": _words(rows["source"]),
            "is_final": (state == 1) | (state == 2),
            "state": _coded(state.astype(np.int32), list(STATES)),
        }
        index = pd.DatetimeIndex(rows["start"].astype("datetime64[us]"), name="ts")
        return pd.DataFrame(columns, index=index.tz_localize("UTC"), copy=False)


class HotReader:
    """Reads the hot store. Without Valkey it has nothing, which is no error.

    Args:
        link: the way to Valkey.
    """

    def __init__(self, link: ValkeyLink) -> None:
        self._link = link

    def bars(self, market: str, symbol: str, timeframe: Timeframe) -> HotBars | None:
        """Return the bars of an instrument, None where there are none; one round trip."""
        answer = self._get(bars_key(market, symbol, timeframe))
        return None if answer is None else unpack_bars(answer)

    def quote(self, market: str, symbol: str) -> dict[str, float | int | None] | None:
        """Return the last quote: ts (microseconds UTC), bid, ask, bid_size, ask_size, verdict."""
        answer = self._get(quote_key(market, symbol))
        if answer is None or len(answer) != _QUOTE.size:
            return None
        ts, *values, verdict = _QUOTE.unpack(answer)
        names = ("bid", "ask", "bid_size", "ask_size")
        found = {name: _or_none(value) for name, value in zip(names, values, strict=True)}
        return {"ts": ts, **found, "verdict": verdict}

    def indicators(
        self, market: str, symbol: str, timeframe: Timeframe
    ) -> tuple[int, dict[str, float | None]] | None:
        """Return the newest indicators with the start of their bar, microseconds UTC."""
        answer = self._get(indicators_key(market, symbol, timeframe))
        if answer is None or len(answer) != _INDICATORS.size:
            return None
        start, *values = _INDICATORS.unpack(answer)
        named = zip(INDICATOR_COLUMNS, map(_or_none, values), strict=True)
        return start, dict(named)

    def _get(self, key: str) -> bytes | None:
        # The link's own client makes text of what it gets; redis-py has no typed way around it.
        def ask(client: Any) -> Any:
            return client.execute_command("GET", key, NEVER_DECODE=True)

        try:
            answer = self._link.call(ask)
        except ValkeyAway:
            return None
        return answer if isinstance(answer, bytes) else None


def unpack_bars(data: bytes) -> HotBars | None:
    """Return the bars of a string, None where it is none of this layout."""
    if len(data) < RECORD_BYTES or len(data) % RECORD_BYTES:
        return None
    rows = np.frombuffer(data, dtype=_DTYPE)
    if rows["start"][0] != _HEADER_START:
        return None
    since = float(rows["open"][0])
    bars = rows[1:]
    if not len(bars) or (bars["start"] <= 0).any():
        return None
    kept = bars[-KEPT_BARS:]
    if len(kept) == KEPT_BARS:
        # Where there are so many, older ones may have been cut off.
        since = max(since, float(kept["start"][0]))
    return HotBars(kept, None if np.isnan(since) else int(since))


def stored_bars(frame: pd.DataFrame) -> dict[int, list[HotBar]]:
    """Return bars out of PostgreSQL (columns `READ_BAR_COLUMNS`) by instrument, oldest first.

    Of an instrument only those count that follow the last whose source is too long to be kept.
    """
    starts = frame["ts"].dt.tz_localize(None).to_numpy(dtype="datetime64[us]").astype(np.int64)
    days = frame["session_date"].to_numpy(dtype="datetime64[D]").astype(np.int64)
    states = np.where(frame["is_final"].to_numpy(dtype=np.bool_), 1, 3)
    columns: Sequence[list[Any]] = [
        frame["instrument_id"].tolist(),
        starts.tolist(),
        *(frame[name].tolist() for name in ("open", "high", "low", "close", "volume", "vwap")),
        frame["trade_count"].fillna(0).astype("int64").tolist(),
        days.tolist(),
        states.tolist(),
        frame["source"].tolist(),
    ]
    out: dict[int, list[HotBar]] = {}
    for one, start, opened, high, low, close, volume, vwap, count, day, state, source in zip(
        *columns, strict=True
    ):
        bars = out.setdefault(one, [])
        if len(source.encode()) > _LONGEST_SOURCE:
            bars.clear()
            continue
        bars.append(
            HotBar(
                start,
                opened,
                high,
                low,
                close,
                volume,
                None if np.isnan(vwap) else vwap,
                count,
                day,
                0,
                state,
                source,
            )  # fmt: skip
        )
    return out


def _words(column: npt.NDArray[np.bytes_]) -> Any:
    if len(column) and (column == column[0]).all():
        return _coded(np.zeros(len(column), dtype=np.int32), [column[0].decode(errors="replace")])
    words, codes = np.unique(column, return_inverse=True)
    return _coded(codes.astype(np.int32), [word.decode(errors="replace") for word in words])


def _coded(codes: npt.NDArray[np.int32], words: list[str]) -> Any:
    """Return words by their codes as the text type of frames."""
    named = pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(words, pa.large_string()))
    # What `pd.array(..., dtype="str")` makes, at a twentieth of its cost.
    make: Any = pd.arrays.ArrowStringArray
    return make(named.cast(pa.large_string()), dtype=_TEXT)


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value
