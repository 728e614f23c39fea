"""Technical indicators of all instruments of a frame at once, equal to the library `ta`.

Every column is defined as `ta` 0.11.0 with `fillna=False` defines it, its quirks included;
`docs/indicators.md` lists them. The bars of all instruments stand one below the other in plain
arrays: a window is a sum of shifted arrays, and recursions run through all of them in blocks at
once, so the cost depends on the number of rows, hardly on how they are spread over instruments.

Two laws follow from how values are computed, and the tests hold both. A value depends on nothing
but the instrument's own bars up to that row. And a window's sum is built from that window's rows
alone: nothing is added to or taken from a running total, so no error drifts along the series.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from scizor_core.errors import ContractError, InvalidInputError

_Floats: TypeAlias = npt.NDArray[np.float64]
_Integers: TypeAlias = npt.NDArray[np.int64]
_Flags: TypeAlias = npt.NDArray[np.bool_]

KEY_COLUMNS: Final[tuple[str, ...]] = ("instrument_id", "ts", "session_date")

INDICATOR_COLUMNS: Final[tuple[str, ...]] = (
    "sma_10",
    "sma_20",
    "sma_50",
    "sma_200",
    "ema_10",
    "ema_12",
    "ema_20",
    "ema_26",
    "ema_50",
    "rsi_9",
    "rsi_14",
    "macd",
    "macd_signal",
    "macd_diff",
    "bb_high",
    "bb_mid",
    "bb_low",
    "bb_width",
    "bb_percent",
    "atr_14",
    "vwap",
    "vwap_14",
    "obv",
    "stoch_k",
    "stoch_d",
    "adx_14",
    "adx_pos_14",
    "adx_neg_14",
    "mfi_14",
    "volume_sma_20",
)

#: Weight that a bar may still have when it counts as forgotten.
_FORGOTTEN: Final = 1e-12

#: Earlier bars after which no column but `obv` knows where its series began. The slowest memory
#: is that of `ema_50`: its first bar weighs (49/51)^n after n bars, below 1e-12 from n = 691 on.
#: Wilder's columns forget at (13/14)^n (373 bars; 691 leave 6e-23), the twice smoothed `adx_14`
#: at about n/14 * (13/14)^(n - 14) (below 1e-20), and `sma_200` needs 199 bars.
WARMUP_BARS: Final[int] = math.ceil(math.log(_FORGOTTEN) / math.log(49 / 51))

_INPUT_COLUMNS: Final = (*KEY_COLUMNS, "high", "low", "close", "volume")
_VALUE_COLUMNS: Final = ["high", "low", "close", "volume"]
_WILDER: Final = 14
_BANDS: Final = 20
_BLOCK: Final = 128


def compute_indicators(bars: pd.DataFrame) -> pd.DataFrame:
    """Return all indicators of every bar, each instrument's series starting at its first row.

    Args:
        bars: one row per bar with instrument_id (int), ts (datetime64[us, UTC], the bar's start),
            session_date (datetime64, the exchange's date, without zone), high, low, close and
            volume (float64, finite); other columns are ignored. Each instrument's rows stand
            together, in ascending order of ts. A missing bar is simply no row: indicators count
            bars, not minutes.

    Returns:
        The same rows, order and index: instrument_id, ts, session_date, then `INDICATOR_COLUMNS`
        as float64. NaN where the value is not defined yet or divides by zero, never infinite.

    Raises:
        ContractError: a column is missing, a value is missing or infinite, or the rows are not
            in order.
    """
    return _compute(bars, None)


def compute_indicators_window(
    bars: pd.DataFrame, first_ts: pd.Timestamp, obv_base: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Return the indicators of the bars from `first_ts` on; earlier rows are warm-up.

    Args:
        bars: as for `compute_indicators`, warm-up rows included: `WARMUP_BARS` before `first_ts`
            per instrument, or all there are. They have to reach back to the beginning of the
            session that `first_ts` lies in, or `vwap` counts only a part of that session.
        first_ts: first instant wanted, with time zone.
        obv_base: index instrument_id; columns obv (shares, on-balance volume just before the
            instrument's first row in `bars`) and previous_close (close of the bar before that
            row; NaN if there is none, so that the row is the series' first and counts upwards).
            Instruments that are not in it start at zero.

    Returns:
        Rows with ts >= first_ts, otherwise as `compute_indicators`.

    Raises:
        InvalidInputError: `first_ts` has no time zone.
        ContractError: as `compute_indicators`; or `obv_base` lacks a column, repeats an
            instrument or has an obv that is not finite.
    """
    if first_ts.tzinfo is None:
        raise InvalidInputError(
            f"Indicators from {first_ts} on were asked for, but that time has no zone; "
            "give an instant in UTC."
        )
    values = _compute(bars, None if obv_base is None else _check_obv_base(obv_base))
    return values[values["ts"] >= first_ts]


def _compute(bars: pd.DataFrame, obv_base: pd.DataFrame | None) -> pd.DataFrame:
    _check_columns(bars)
    series = _Rows.of(bars["instrument_id"].to_numpy())
    _check_rows(bars, series)
    keys = bars[list(KEY_COLUMNS)]
    if bars.empty:
        return keys.assign(**{name: pd.Series(dtype="float64") for name in INDICATOR_COLUMNS})
    high, low, close, volume = (
        bars[name].to_numpy(dtype=np.float64, na_value=np.nan) for name in _VALUE_COLUMNS
    )
    typical = (high + low + close) / 3.0
    session = series.split(bars["session_date"].to_numpy())
    base = None if obv_base is None else obv_base.reindex(series.labels)
    with np.errstate(divide="ignore", invalid="ignore"):
        columns = {
            **_averages(series, close, volume),
            **_bands(series, close),
            **_strength(series, close),
            **_stochastic(series, high, low, close),
            **_true_range(series, high, low, close),
            **_directional(series, high, low, close),
            **_money_flow(series, typical, volume),
            "vwap": session.running_sum(typical * volume) / session.running_sum(volume),
            "obv": _on_balance(series, close, volume, base),
        }
    finite = {name: _without_infinity(columns[name]) for name in INDICATOR_COLUMNS}
    return pd.concat([keys, pd.DataFrame(finite, index=bars.index, copy=False)], axis=1)


def _averages(series: "_Rows", close: _Floats, volume: _Floats) -> dict[str, _Floats]:
    out = {f"sma_{bars}": series.mean(close, bars) for bars in (10, 20, 50, 200)}
    spans = (10, 12, 20, 26, 50)
    smooth = series.ema(close, spans)
    out |= {f"ema_{span}": values for span, values in zip(spans, smooth, strict=True)}
    out["macd"] = out["ema_12"] - out["ema_26"]
    out["macd_signal"] = series.ema(out["macd"], [9], first_row=25)[0]
    out["macd_diff"] = out["macd"] - out["macd_signal"]
    out["volume_sma_20"] = series.mean(volume, 20)
    return out


def _bands(series: "_Rows", close: _Floats) -> dict[str, _Floats]:
    middle = series.mean(close, _BANDS)
    squares = np.zeros_like(close)
    for back in range(_BANDS):
        squares += (_shifted(close, back) - middle) ** 2
    spread = 2 * np.sqrt(squares / _BANDS)
    upper, lower = middle + spread, middle - spread
    return {
        "bb_high": upper,
        "bb_mid": middle,
        "bb_low": lower,
        "bb_width": (upper - lower) / middle * 100,
        "bb_percent": (close - lower) / np.where(upper == lower, np.nan, upper - lower),
    }


def _strength(series: "_Rows", close: _Floats) -> dict[str, _Floats]:
    change = close - series.previous(close)
    rises = np.where(change > 0, change, 0.0)
    falls = np.where(change < 0, -change, 0.0)
    up_9, down_9, up_14, down_14 = series.smoothed([rises, falls] * 2, [8, 8, 13, 13])
    out: dict[str, _Floats] = {}
    for bars, up, down in ((9, up_9, down_9), (14, up_14, down_14)):
        strength = np.where(down == 0, 100.0, 100 - 100 / (1 + up / down))
        out[f"rsi_{bars}"] = np.where(series.position >= bars - 1, strength, np.nan)
    return out


def _stochastic(series: "_Rows", high: _Floats, low: _Floats, close: _Floats) -> dict[str, _Floats]:
    bottom = series.window(np.minimum, low, 14)
    top = series.window(np.maximum, high, 14)
    fast = _without_infinity(100 * (close - bottom) / (top - bottom))
    return {"stoch_k": fast, "stoch_d": series.mean(fast, 3)}


def _true_range(series: "_Rows", high: _Floats, low: _Floats, close: _Floats) -> dict[str, _Floats]:
    before = series.previous(close)
    # fmax passes over the NaN of the first row, whose true range is high - low.
    span = np.fmax(high - low, np.fmax(np.abs(high - before), np.abs(low - before)))
    return {"atr_14": series.wilder([span], first_row=_WILDER - 1)[0]}


def _directional(
    series: "_Rows", high: _Floats, low: _Floats, close: _Floats
) -> dict[str, _Floats]:
    before = series.previous(close)
    span = np.maximum(high, before) - np.minimum(low, before)
    up = high - series.previous(high)
    down = series.previous(low) - low
    rises = np.where((up > down) & (up > 0), up, 0.0)
    falls = np.where((down > up) & (down > 0), down, 0.0)
    # ta keeps sums where these are means; the ratios below are the same.
    total, plus, minus = series.wilder([span, rises, falls], first_row=_WILDER)
    positive = np.where(total != 0, 100 * (plus / total), 0.0)
    negative = np.where(total != 0, 100 * (minus / total), 0.0)
    both = positive + negative
    directional = np.where(both != 0, 100 * np.abs((positive - negative) / both), 0.0)
    # ta publishes the two directional indicators one bar after it has them.
    seen = series.position > _WILDER
    return {
        "adx_14": series.wilder([directional], first_row=2 * _WILDER - 1)[0],
        "adx_pos_14": np.where(seen, positive, 0.0),
        "adx_neg_14": np.where(seen, negative, 0.0),
    }


def _money_flow(series: "_Rows", typical: _Floats, volume: _Floats) -> dict[str, _Floats]:
    flow = typical * volume
    before = series.previous(typical)
    gained = series.window(np.add, np.where(typical > before, flow, 0.0), 14)
    lost = series.window(np.add, np.where(typical < before, flow, 0.0), 14)
    return {
        "mfi_14": 100 - 100 / (1 + gained / lost),
        "vwap_14": series.window(np.add, flow, 14) / series.window(np.add, volume, 14),
    }


def _on_balance(
    series: "_Rows", close: _Floats, volume: _Floats, base: pd.DataFrame | None
) -> _Floats:
    before = series.previous(close)
    if base is not None:
        before[series.starts] = base["previous_close"].to_numpy(dtype=np.float64)
    # No earlier close (NaN) compares as "not lower": the first bar counts upwards, as in ta.
    signed = np.where(close < before, -volume, volume)
    if base is not None:
        signed[series.starts] += base["obv"].fillna(0.0).to_numpy(dtype=np.float64)
    return series.running_sum(signed)


@dataclass(frozen=True)
class _Rows:
    """Rows of several series one below the other, and what may be computed along each.

    Attributes:
        labels: what each series is called, in order.
        starts: index of each series' first row.
        number: series that a row belongs to, counted from 0.
        position: row's place in its series, counted from 0.
    """

    labels: npt.NDArray[Any]
    starts: _Integers
    number: _Integers
    position: _Integers

    @classmethod
    def of(cls, labels: npt.NDArray[Any]) -> "_Rows":
        """Return the series in which neighbouring rows with the same label stand together."""
        first = np.ones(len(labels), dtype=np.bool_)
        first[1:] = labels[1:] != labels[:-1]
        return cls._starting(first, labels)

    @classmethod
    def _starting(cls, first: _Flags, labels: npt.NDArray[Any]) -> "_Rows":
        starts = np.flatnonzero(first).astype(np.int64)
        number = np.cumsum(first, dtype=np.int64) - 1
        return cls(labels[starts], starts, number, np.arange(len(labels)) - starts[number])

    def split(self, labels: npt.NDArray[Any]) -> "_Rows":
        """Return the pieces into which a change of `labels` cuts these series."""
        first = self.position == 0
        first[1:] |= labels[1:] != labels[:-1]
        return self._starting(first, labels)

    @cached_property
    def blocks(self) -> "_Blocks":
        """The blocks in which these series are smoothed."""
        return _Blocks.of(self)

    def previous(self, values: _Floats) -> _Floats:
        """Return the value one row before in the same series, NaN in its first row."""
        return np.where(self.position > 0, _shifted(values, 1), np.nan)

    def window(self, combine: np.ufunc, values: _Floats, rows: int) -> _Floats:
        """Return `combine` over each row and the `rows - 1` before it, NaN where too few are.

        Windows of 1, 2, 4, 8, ... rows are combined from two of half the size, and the wanted
        one from those that its binary digits name: 200 rows take nine steps, not 200.
        """
        block, size = values, 1
        whole: _Floats | None = None
        covered = 0
        while covered < rows:
            if rows & size:
                part = _shifted(block, covered)
                whole = part if whole is None else combine(whole, part)
                covered += size
            if covered < rows:
                block = combine(block, _shifted(block, size))
                size *= 2
        return np.where(self.position >= rows - 1, cast("_Floats", whole), np.nan)

    def mean(self, values: _Floats, rows: int) -> _Floats:
        """Return the mean of each row and the `rows - 1` before it, NaN where too few are.

        Equal values have exactly themselves as mean, so that flat prices have no deviation.
        """
        row = np.arange(len(values))
        changed = values != _shifted(values, 1)
        unchanged_rows = row - np.maximum.accumulate(np.where(changed, row, 0)) + 1
        mean = self.window(np.add, values, rows) / rows
        return np.where((unchanged_rows >= rows) & ~np.isnan(mean), values, mean)

    def ema(self, values: _Floats, spans: Sequence[int], first_row: int = 0) -> list[_Floats]:
        """Return exponential averages with weight 2 / (span + 1), NaN for span - 1 rows.

        The value in `first_row` is the seed. It is taken off before and put back after smoothing,
        so that the average of equal values is exactly that value.
        """
        seed_rows = np.minimum(self.starts + first_row, len(values) - 1)
        seed = values[seed_rows][self.number]
        smooth = self.smoothed(
            [values - seed] * len(spans), [(n - 1) / 2 for n in spans], first_row
        )
        return [
            np.where(self.position >= first_row + span - 1, seed + one, np.nan)
            for span, one in zip(spans, smooth, strict=True)
        ]

    def wilder(self, columns: Sequence[_Floats], first_row: int) -> list[_Floats]:
        """Return Wilder's averages over 14, zero before `first_row`, there the plain mean of 14."""
        seeded = [
            np.where(
                self.position == first_row, self.window(np.add, values, _WILDER) / _WILDER, values
            )
            for values in columns
        ]
        return self.smoothed(seeded, [_WILDER - 1] * len(columns), first_row)

    def smoothed(
        self, columns: Sequence[_Floats], centres: Sequence[float], first_row: int = 0
    ) -> list[_Floats]:
        """Return y = (centre * y_before + x) / (centre + 1) along each series, for each column.

        The value in `first_row` is the seed; what stands before does not count and gives zero.

        Every series is cut into blocks of `_BLOCK` rows. All blocks of all series are smoothed at
        the same time as if they began at zero; then each block's end is carried into the next,
        with the weight that is left of it. That needs `_BLOCK` steps and one per block of the
        longest series, whether there are many short series or one long one. The blocks lie where
        the series begins, so a value does not depend on what else is in the frame, to the last bit.
        """
        decay = np.array([centre / (centre + 1) for centre in centres])[:, np.newaxis]
        packed = np.zeros((len(columns), _BLOCK, self.blocks.count))
        seed, later = self.position == first_row, self.position > first_row
        for part, values, kept in zip(packed, columns, decay, strict=True):
            weight = np.where(later, 1 - kept, seed.astype(np.float64))
            part.reshape(-1)[self.blocks.slot] = np.where(weight > 0, values * weight, 0.0)
        for step in range(1, _BLOCK):
            packed[:, step] += packed[:, step - 1] * decay
        carried = np.zeros((len(columns), self.blocks.count))
        for later_blocks in self.blocks.by_rank[1:]:
            before = later_blocks - 1
            carried[:, later_blocks] = packed[:, -1, before] + carried[:, before] * decay**_BLOCK
        out: list[_Floats] = []
        powers = np.arange(1, _BLOCK + 1)
        for part, kept, carry in zip(packed, decay, carried, strict=True):
            part += np.multiply.outer(kept**powers, carry)
            out.append(part.reshape(-1)[self.blocks.slot])
        return out

    def running_sum(self, values: _Floats) -> _Floats:
        """Return the sum from the series' first row to each row (compensated, in C)."""
        groups = pd.Series(values, copy=False).groupby(self.number, sort=False)
        return np.asarray(groups.cumsum(), dtype=np.float64)


@dataclass(frozen=True)
class _Blocks:
    """Series cut into blocks of `_BLOCK` rows, to be laid out with one block in each column.

    Attributes:
        count: number of blocks of all series.
        slot: row's place in the laid out array of `_BLOCK` x `count`, counted along its rows.
        by_rank: for the first, second, ... block of a series, where such blocks are.
    """

    count: int
    slot: _Integers
    by_rank: list[_Integers]

    @classmethod
    def of(cls, rows: "_Rows") -> "_Blocks":
        """Return the blocks of `rows`."""
        lengths = np.diff(rows.starts, append=len(rows.position))
        counts = -(-lengths // _BLOCK)
        first_block = np.cumsum(counts) - counts
        count = int(counts.sum())
        block = first_block[rows.number] + rows.position // _BLOCK
        slot = rows.position % _BLOCK * count + block
        by_rank = [first_block[counts > rank] + rank for rank in range(int(counts.max()))]
        return cls(count, slot, by_rank)


def _shifted(values: _Floats, rows: int) -> _Floats:
    """Return `values` moved down by `rows`, NaN above; series are not told apart."""
    if rows == 0:
        return values
    out = np.full_like(values, np.nan)
    out[rows:] = values[:-rows]
    return out


def _without_infinity(values: _Floats) -> _Floats:
    infinite = np.isinf(values)
    return np.where(infinite, np.nan, values) if infinite.any() else values


def _check_columns(bars: pd.DataFrame) -> None:
    absent = [name for name in _INPUT_COLUMNS if name not in bars]
    if absent:
        raise ContractError(
            f"Indicators need the columns {', '.join(_INPUT_COLUMNS)}; "
            f"the bars lack {', '.join(absent)}."
        )


def _check_rows(bars: pd.DataFrame, series: _Rows) -> None:
    if len(np.unique(series.labels)) != len(series.labels):
        raise ContractError(
            "Indicators need each instrument's bars in one piece, but an instrument_id comes back "
            "after another one; sort the bars by instrument_id and ts."
        )
    for name in ("ts", "session_date"):
        if bars[name].isna().any():
            raise ContractError(f"Indicators need a {name} in every bar, but one is missing.")
    ts = bars["ts"].to_numpy(dtype="datetime64[us]")
    disordered = np.flatnonzero((ts[1:] <= ts[:-1]) & (series.position[1:] > 0))
    if disordered.size:
        row = bars.iloc[int(disordered[0]) + 1]
        raise ContractError(
            f"Indicators need each instrument's bars in ascending order of ts, but the bar of "
            f"instrument {row['instrument_id']} at {row['ts']} does not follow the one before it; "
            "sort the bars by instrument_id and ts and drop repeated ones."
        )
    for name in _VALUE_COLUMNS:
        wrong = ~np.isfinite(bars[name].to_numpy(dtype=np.float64, na_value=np.nan))
        if wrong.any():
            row = bars.iloc[int(np.argmax(wrong))]
            raise ContractError(
                f"Indicators need a finite {name} in every bar, but the bar of instrument "
                f"{row['instrument_id']} at {row['ts']} has {row[name]}."
            )


def _check_obv_base(obv_base: pd.DataFrame) -> pd.DataFrame:
    absent = [name for name in ("obv", "previous_close") if name not in obv_base]
    if absent:
        raise ContractError(
            f"The base of on-balance volume needs the columns obv and previous_close; "
            f"it lacks {', '.join(absent)}."
        )
    if not obv_base.index.is_unique:
        raise ContractError("The base of on-balance volume has an instrument twice.")
    if not np.isfinite(obv_base["obv"].to_numpy(dtype=np.float64, na_value=np.nan)).all():
        raise ContractError("The base of on-balance volume has an obv that is not finite.")
    return obv_base
