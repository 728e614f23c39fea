"""Indicators that are carried on bar by bar, equal to `scizor_core.indicators` row by row.

The batch functions compute whole series; here each series is a slot with just as much memory as
its next row needs: the last 200 closes, the last 20 bars, and the state of each recursion. A step
carries any number of slots on at once, so that the close of a minute costs some hundred NumPy calls
whether five symbols end or five hundred.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from scizor_core.indicators import INDICATOR_COLUMNS
from scizor_core.stream.trades import Floats, Integers

_Table = npt.NDArray[np.float64]

_LONG, _SHORT = 200, 21
_SPANS = (10, 12, 20, 26, 50)
_EMA_CENTRES = np.array([(span - 1) / 2 for span in _SPANS])
_STRENGTH_CENTRES = np.array([8.0, 13.0])
_SIGNAL_SPAN, _SIGNAL_FIRST = 9, 25
_WILDER = 14


@dataclass(frozen=True)
class BarColumns:
    """One bar of each of some slots: equally long arrays.

    Attributes:
        session: the exchange's date as a day number, int64; `vwap` begins anew with it.
    """

    session: Integers
    high: Floats
    low: Floats
    close: Floats
    volume: Floats


@dataclass
class _State:
    """What the next row of each slot needs to know; the first axis is the slot.

    `close` holds the last 200 closes, the other tables the last 21 rows, newest last, NaN before
    the first bar.
    """

    count: Integers
    close: _Table
    high: _Table
    low: _Table
    volume: _Table
    typical: _Table
    fast: _Table
    ema: _Table
    first_close: Floats
    signal: Floats
    first_macd: Floats
    rises: _Table
    falls: _Table
    true_range: Floats
    moves: _Table
    directional: _Table
    adx: Floats
    obv: Floats
    session: Integers
    turnover: Floats
    traded: Floats

    @classmethod
    def empty(cls, slots: int) -> "_State":
        """Return the state of slots that have seen nothing."""

        def unknown(width: int) -> _Table:
            return np.full((slots, width), np.nan)

        def zero() -> Floats:
            return np.zeros(slots)

        return cls(
            count=np.zeros(slots, dtype=np.int64),
            close=unknown(_LONG),
            high=unknown(_SHORT),
            low=unknown(_SHORT),
            volume=unknown(_SHORT),
            typical=unknown(_SHORT),
            fast=unknown(3),
            ema=np.zeros((slots, len(_SPANS))),
            first_close=zero(),
            signal=zero(),
            first_macd=zero(),
            rises=np.zeros((slots, 2)),
            falls=np.zeros((slots, 2)),
            true_range=zero(),
            moves=np.zeros((slots, 3)),
            directional=unknown(_WILDER),
            adx=zero(),
            obv=zero(),
            session=np.full(slots, np.iinfo(np.int64).min, dtype=np.int64),
            turnover=zero(),
            traded=zero(),
        )

    def take(self, rows: Integers) -> "_State":
        """Return a copy of some slots."""
        return _State(**{each.name: getattr(self, each.name)[rows] for each in fields(self)})

    def put(self, rows: Integers, other: "_State") -> None:
        """Replace some slots."""
        for each in fields(self):
            getattr(self, each.name)[rows] = getattr(other, each.name)

    def grown(self, slots: int) -> "_State":
        """Return this state with room for so many slots."""
        bigger = _State.empty(slots)
        bigger.put(np.arange(len(self.count)), self)
        return bigger


class StreamingIndicators:
    """The indicators of many series, each carried on by its next bar."""

    def __init__(self) -> None:
        self._used = 0
        self._state = _State.empty(64)
        self._before = _State.empty(64)

    def add(self, slots: int = 1) -> Integers:
        """Return the numbers of so many new slots."""
        first, self._used = self._used, self._used + slots
        while self._used > len(self._state.count):
            size = 2 * len(self._state.count)
            self._state, self._before = self._state.grown(size), self._before.grown(size)
        return np.arange(first, self._used)

    def set_volume_base(self, slot: int, obv: float, previous_close: float) -> None:
        """Set what a slot knows before its first bar of on-balance volume.

        Args:
            slot: a slot that has seen no bar.
            obv: on-balance volume up to there.
            previous_close: close of the bar before, NaN where there is none.
        """
        self._state.obv[slot] = obv
        # Read by the volume alone: all else begins with the first bar of the slot.
        self._state.close[slot, -1] = previous_close

    def count(self, slot: int) -> int:
        """Return how many bars a slot has seen."""
        return int(self._state.count[slot])

    def update(self, slots: Integers, bars: BarColumns) -> _Table:
        """Carry slots on by one bar each.

        Args:
            slots: numbers of the slots, none twice.
            bars: the bar of each.

        Returns:
            One row a slot, columns as `INDICATOR_COLUMNS`; NaN where a value is not defined yet.
        """
        state = self._state.take(slots)
        self._before.put(slots, state)
        values = _advance(state, bars)
        self._state.put(slots, state)
        return values

    def revise(self, slots: Integers, bars: BarColumns) -> _Table:
        """Replace the last bar of slots; each must have been carried on before."""
        self._state.put(slots, self._before.take(slots))
        return self.update(slots, bars)

    def adopt(self, slots: Integers, other: "StreamingIndicators", theirs: Integers) -> None:
        """Go on in slots where slots of another one stand."""
        self._state.put(slots, other._state.take(theirs))
        self._before.put(slots, other._before.take(theirs))

    def peek(self, slots: Integers, bars: BarColumns) -> _Table:
        """Return what `update` would, and remember nothing: values of bars that still form."""
        return _advance(self._state.take(slots), bars)


def _advance(state: _State, bars: BarColumns) -> _Table:
    """Carry a state on in place and return the values."""
    with np.errstate(divide="ignore", invalid="ignore"):
        columns = _columns(state, bars)
    table = np.column_stack([columns[name] for name in INDICATOR_COLUMNS])
    table[np.isinf(table)] = np.nan
    return table


def _columns(state: _State, bars: BarColumns) -> dict[str, Floats]:
    high, low, close, volume = bars.high, bars.low, bars.close, bars.volume
    row = state.count  # position of this bar in its series, from 0
    typical = (high + low + close) / 3.0
    # What stood there before the slot's first bar is the base of on-balance volume.
    volume_before = state.close[:, -1].copy()
    before = np.where(row > 0, volume_before, np.nan)
    high_before = np.where(row > 0, state.high[:, -1], np.nan)
    low_before = np.where(row > 0, state.low[:, -1], np.nan)
    state.close[row == 0, -1] = np.nan
    for name, values in (
        ("close", close),
        ("high", high),
        ("low", low),
        ("volume", volume),
        ("typical", typical),
    ):
        _push(getattr(state, name), values)
    out = {f"sma_{bars_}": _mean(state.close, bars_) for bars_ in (10, 20, 50, 200)}
    out |= _averages(state, row, close)
    out["volume_sma_20"] = _mean(state.volume, 20)
    out |= _bands(state.close, out["sma_20"], close)
    out |= _strength(state, row, close, before)
    out |= _stochastic(state, close)
    out |= _directional(state, row, bars, (before, high_before, low_before))
    out |= _money_flow(state)
    out["obv"] = state.obv = state.obv + np.where(close < volume_before, -volume, volume)
    same = state.session == bars.session
    state.turnover = np.where(same, state.turnover, 0.0) + typical * volume
    state.traded = np.where(same, state.traded, 0.0) + volume
    state.session = bars.session.copy()
    out["vwap"] = state.turnover / state.traded
    state.count = row + 1
    return out


def _push(table: _Table, values: Floats) -> None:
    table[:, :-1] = table[:, 1:]
    table[:, -1] = values


def _mean(table: _Table, rows: int) -> Floats:
    """Return the mean of the last rows; equal values have exactly themselves as mean."""
    last = table[:, -rows:]
    mean = last.sum(axis=1) / rows
    return np.where((last == last[:, :1]).all(axis=1), last[:, 0], mean)


def _smooth(before: _Table | Floats, centre: Floats | float, x: _Table | Floats) -> _Table:
    return np.asarray((centre * before + x) / (centre + 1))


def _averages(state: _State, row: Integers, close: Floats) -> dict[str, Floats]:
    first = row == 0
    state.first_close = np.where(first, close, state.first_close)
    above = (close - state.first_close)[:, np.newaxis]
    state.ema = np.where(first[:, np.newaxis], above, _smooth(state.ema, _EMA_CENTRES, above))
    out: dict[str, Floats] = {}
    for number, span in enumerate(_SPANS):
        value = state.first_close + state.ema[:, number]
        out[f"ema_{span}"] = np.where(row >= span - 1, value, np.nan)
    macd = out["macd"] = out["ema_12"] - out["ema_26"]
    seeds = row == _SIGNAL_FIRST
    state.first_macd = np.where(seeds, macd, state.first_macd)
    above = np.where(row >= _SIGNAL_FIRST, macd - state.first_macd, 0.0)
    centre = (_SIGNAL_SPAN - 1) / 2
    state.signal = np.where(row > _SIGNAL_FIRST, _smooth(state.signal, centre, above), 0.0)
    shown = row >= _SIGNAL_FIRST + _SIGNAL_SPAN - 1
    out["macd_signal"] = np.where(shown, state.first_macd + state.signal, np.nan)
    out["macd_diff"] = macd - out["macd_signal"]
    return out


def _bands(closes: _Table, middle: Floats, close: Floats) -> dict[str, Floats]:
    squares = ((closes[:, -20:] - middle[:, np.newaxis]) ** 2).sum(axis=1)
    spread = 2 * np.sqrt(squares / 20)
    upper, lower = middle + spread, middle - spread
    return {
        "bb_high": upper,
        "bb_mid": middle,
        "bb_low": lower,
        "bb_width": (upper - lower) / middle * 100,
        "bb_percent": (close - lower) / np.where(upper == lower, np.nan, upper - lower),
    }


def _strength(state: _State, row: Integers, close: Floats, before: Floats) -> dict[str, Floats]:
    change = close - before
    for name, moved in (
        ("rises", np.where(change > 0, change, 0.0)),
        ("falls", np.where(change < 0, -change, 0.0)),
    ):
        smooth = _smooth(getattr(state, name), _STRENGTH_CENTRES, moved[:, np.newaxis])
        setattr(state, name, np.where((row == 0)[:, np.newaxis], moved[:, np.newaxis], smooth))
    out = {}
    for number, bars in enumerate((9, 14)):
        up, down = state.rises[:, number], state.falls[:, number]
        strength = np.where(down == 0, 100.0, 100 - 100 / (1 + up / down))
        out[f"rsi_{bars}"] = np.where(row >= bars - 1, strength, np.nan)
    return out


def _stochastic(state: _State, close: Floats) -> dict[str, Floats]:
    # NaN before the fourteenth bar makes these NaN, as there is no window yet.
    bottom = state.low[:, -_WILDER:].min(axis=1)
    top = state.high[:, -_WILDER:].max(axis=1)
    fast = 100 * (close - bottom) / (top - bottom)
    fast = np.where(np.isinf(fast), np.nan, fast)
    _push(state.fast, fast)
    return {"stoch_k": fast, "stoch_d": _mean(state.fast, 3)}


def _directional(
    state: _State, row: Integers, bars: BarColumns, before: tuple[Floats, Floats, Floats]
) -> dict[str, Floats]:
    close_before, high_before, low_before = before
    high, low = bars.high, bars.low
    span = np.fmax(high - low, np.fmax(np.abs(high - close_before), np.abs(low - close_before)))
    state.true_range = _wilder(state.true_range, span, row, _WILDER - 1)
    reach = np.maximum(high, close_before) - np.minimum(low, close_before)
    up, down = high - high_before, low_before - low
    steps = np.column_stack(
        [
            reach,
            np.where((up > down) & (up > 0), up, 0.0),
            np.where((down > up) & (down > 0), down, 0.0),
        ]
    )
    # The first row has no move: its NaN must not get into the sums.
    steps[row == 0] = 0.0
    state.moves = _wilder(state.moves, steps, row, _WILDER)
    total, plus, minus = state.moves.T
    defined = (total != 0) & (row >= _WILDER)
    positive = np.where(defined, 100 * (plus / total), 0.0)
    negative = np.where(defined, 100 * (minus / total), 0.0)
    both = positive + negative
    directional = np.where(both != 0, 100 * np.abs((positive - negative) / both), 0.0)
    state.adx = _wilder(state.adx, directional, row, 2 * _WILDER - 1)
    seen = row > _WILDER
    return {
        "atr_14": np.where(row >= _WILDER - 1, state.true_range, 0.0),
        "adx_14": np.where(row >= 2 * _WILDER - 1, state.adx, 0.0),
        "adx_pos_14": np.where(seen, positive, 0.0),
        "adx_neg_14": np.where(seen, negative, 0.0),
    }


def _wilder(before: _Table, values: _Table, row: Integers, first_row: int) -> _Table:
    """Carry on Wilder's average over 14, whose first value is the plain mean of 14 rows.

    Up to there `before` is the sum of the rows of that mean.
    """
    place = row if values.ndim == 1 else row[:, np.newaxis]
    in_sum = (place > first_row - _WILDER) & (place <= first_row)
    total = np.where(in_sum, before + values, 0.0)
    smooth = _smooth(before, _WILDER - 1, values)
    first = np.where(place == first_row, total / _WILDER, total)
    return np.where(place > first_row, smooth, first)


def _money_flow(state: _State) -> dict[str, Floats]:
    typical, volume = state.typical[:, -_WILDER - 1 :], state.volume[:, -_WILDER:]
    flow = typical[:, 1:] * volume
    gained = np.where(typical[:, 1:] > typical[:, :-1], flow, 0.0).sum(axis=1)
    lost = np.where(typical[:, 1:] < typical[:, :-1], flow, 0.0).sum(axis=1)
    index = 100 - 100 / (1 + gained / lost)
    whole = ~np.isnan(typical[:, 1])
    return {
        "mfi_14": np.where(whole, index, np.nan),
        "vwap_14": flow.sum(axis=1) / volume.sum(axis=1),
    }


def bar_columns(rows: Sequence[tuple[int, float, float, float, float]]) -> BarColumns:
    """Return bars given as (session day number, high, low, close, volume)."""
    table = np.array([row[1:] for row in rows], dtype=np.float64).reshape(-1, 4)
    session = np.array([row[0] for row in rows], dtype=np.int64)
    return BarColumns(session, table[:, 0], table[:, 1], table[:, 2], table[:, 3])
