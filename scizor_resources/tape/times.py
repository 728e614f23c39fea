"""Times and numbers as files write them, read without guessing.

A time may be ISO with or without an offset, a date alone, or an epoch in seconds, milliseconds,
microseconds or nanoseconds. Whatever cannot be one certain instant is not read, and says why.
"""

from dataclasses import dataclass
from datetime import tzinfo

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

#: What a naive time needs and does not have, what a change of daylight saving makes of a time.
NO_OFFSET = "time has no offset and no time zone was given"
AMBIGUOUS = "time occurs twice, when daylight saving time ends"
NONEXISTENT = "time does not exist, daylight saving time skips it"

#: Epochs below the first bound are seconds, below the second milliseconds, and so on. Seconds
#: reach the first bound in the year 5138; milliseconds have passed it since 1973.
_EPOCH_BOUNDS = (1e11, 1e14, 1e17)
_MICROSECONDS_PER_UNIT = (1e6, 1e3, 1.0, 1e-3)

_EPOCH = r"^[0-9]+(?:\.[0-9]+)?$"
_COMPACT_DATE = r"^(?:19|20)[0-9]{6}$"
_ISO = r"^[0-9]{4}[-/][0-9]{1,2}[-/][0-9]{1,2}(?:$|[Tt ])"
_OFFSET = r"(?:[Zz]|[+-][0-9]{2}(?::?[0-9]{2})?)$"
_NUMBER = r"^[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?$"
_GROUPED = r"^[+-]?[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?$"
_DECIMAL_COMMA = r"^[+-]?(?:[0-9]+|[0-9]{1,3}(?:\.[0-9]{3})+)(?:,[0-9]+)$"

Instants = npt.NDArray[np.datetime64]


@dataclass
class Times:
    """Times of a column.

    Attributes:
        utc: datetime64[us] instants in UTC, NaT where there is none.
        reasons: why there is none, "" where it is simply missing or cannot be read.
        naive: rows whose time carried neither an offset nor an epoch.
    """

    utc: Instants
    reasons: npt.NDArray[np.object_]
    naive: npt.NDArray[np.bool_]


def read_numbers(cells: pa.ChunkedArray, *, decimal_comma: bool = False) -> npt.NDArray[np.float64]:
    """Return float64, NaN where a cell is blank or is not a number.

    Args:
        cells: text or numbers.
        decimal_comma: read 1.234,5 as 1234.5, where the file separates fields by semicolons.
    """
    if not pa.types.is_string(cells.type) and not pa.types.is_large_string(cells.type):
        try:
            return _to_float(pc.cast(cells, pa.float64(), safe=False))
        except pa.ArrowException:
            return np.full(len(cells), np.nan)
    text = pc.utf8_trim_whitespace(cells)
    try:
        return _to_float(pc.cast(text, pa.float64()))
    except pa.ArrowInvalid:
        pass
    if decimal_comma:
        comma = pc.match_substring_regex(text, _DECIMAL_COMMA)
        plain = pc.replace_substring(pc.replace_substring(text, ".", ""), ",", ".")
        text = pc.if_else(comma, plain, text)
    grouped = pc.match_substring_regex(text, _GROUPED)
    text = pc.if_else(grouped, pc.replace_substring(text, ",", ""), text)
    readable = pc.match_substring_regex(text, _NUMBER)
    return _to_float(pc.cast(pc.if_else(readable, text, None), pa.float64()))


def is_blank(cells: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """Mark cells that hold nothing, or a word for nothing."""
    if not pa.types.is_string(cells.type) and not pa.types.is_large_string(cells.type):
        nothing = pc.is_null(cells, nan_is_null=pa.types.is_floating(cells.type))
    else:
        text = pc.utf8_lower(pc.utf8_trim_whitespace(cells))
        words = pa.array(["", "nan", "null", "none", "na", "n/a", "-"])
        nothing = pc.fill_null(pc.is_in(text, value_set=words), True)  # noqa: FBT003
    return np.asarray(nothing.to_numpy(), dtype=bool)


def read_times(cells: pa.ChunkedArray, zone: tzinfo | None) -> Times:
    """Return the instants of a column of intraday times.

    Args:
        cells: text, whole numbers, dates or timestamps.
        zone: where naive times were taken; None where that is not known.
    """
    parsed = _parse(cells, as_written=False)
    reasons = np.full(len(parsed.utc), "", dtype=object)
    if parsed.naive.any():
        if zone is None:
            reasons[parsed.naive] = NO_OFFSET
            parsed.utc[parsed.naive] = np.datetime64("NaT")
        else:
            local, why = _localised(parsed.utc[parsed.naive], zone)
            parsed.utc[parsed.naive] = local
            reasons[parsed.naive] = why
    return Times(parsed.utc, reasons, parsed.naive)


def read_dates(cells: pa.ChunkedArray, zone: tzinfo | None, market_zone: tzinfo) -> Times:
    """Return the session dates of a column of daily times, as UTC midnights.

    The date counts as it is written, whatever its offset. An instant (an epoch, or a time of day
    in UTC) that is midnight in the given zone or at the exchange is that date. Any other time of
    day is left as it is, for the contract to refuse.

    Args:
        cells: text, whole numbers, dates or timestamps.
        zone: zone that was given for the file, or None.
        market_zone: zone of the exchange.
    """
    parsed = _parse(cells, as_written=True)
    utc: Instants = parsed.utc.copy()
    utc[~np.isnat(parsed.wall)] = parsed.wall[~np.isnat(parsed.wall)]
    off = ~np.isnat(utc) & (utc != utc.astype("datetime64[D]")) & ~parsed.naive
    for place in (zone, market_zone):
        if place is None or not off.any():
            continue
        local = pd.DatetimeIndex(parsed.utc).tz_localize("UTC").tz_convert(place).tz_localize(None)
        wall = local.to_numpy(dtype="datetime64[us]")
        midnight = off & (wall == wall.astype("datetime64[D]"))
        utc = np.where(midnight, wall, utc)
        off &= ~midnight
    return Times(utc, np.full(len(utc), "", dtype=object), np.zeros(len(utc), dtype=bool))


@dataclass
class _Parsed:
    """`utc` takes naive times as if they were UTC; `wall` is the time as written with an offset."""

    utc: Instants
    wall: Instants
    naive: npt.NDArray[np.bool_]


def _parse(cells: pa.ChunkedArray, *, as_written: bool) -> _Parsed:
    kind = cells.type
    size = len(cells)
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        naive = pa.types.is_date(kind) or kind.tz is None
        unit = pa.timestamp("us", None if naive else "UTC")
        utc = _to_instants(pc.cast(cells, unit, safe=False))
        if naive:
            return _Parsed(utc, _no_instants(size), ~np.isnat(utc))
        local = pc.local_timestamp(pc.cast(cells, pa.timestamp("us", kind.tz), safe=False))
        return _Parsed(utc, _to_instants(local), np.zeros(size, dtype=bool))
    if pa.types.is_floating(kind):
        cells = pc.cast(cells, pa.decimal128(38, 6), safe=False)
    if not pa.types.is_string(kind) and not pa.types.is_large_string(kind):
        cells = pc.cast(cells, pa.string())
    return _parse_text(pc.fill_null(pc.utf8_trim_whitespace(cells), ""), as_written=as_written)


def _parse_text(text: pa.ChunkedArray, *, as_written: bool) -> _Parsed:
    text = pc.replace_substring_regex(text, " ?UTC$", "Z")
    compact = _mask(pc.match_substring_regex(text, _COMPACT_DATE))
    epoch = _mask(pc.match_substring_regex(text, _EPOCH)) & ~compact
    written = _mask(pc.match_substring_regex(text, _ISO))
    offset = written & _mask(pc.match_substring_regex(text, ":[0-9]{2}.*" + _OFFSET))
    utc, wall = _no_instants(len(text)), _no_instants(len(text))
    if epoch.any():
        utc[epoch] = _from_epoch(text.filter(pa.array(epoch)))
    if compact.any():
        utc[compact] = _from_text(text.filter(pa.array(compact)), "%Y%m%d")
    if written.any():
        utc[written] = _from_text(text.filter(pa.array(written)), "ISO8601")
    if as_written and offset.any():
        bare = pc.replace_substring_regex(text.filter(pa.array(offset)), " ?" + _OFFSET, "")
        wall[offset] = _from_text(bare, "ISO8601")
    return _Parsed(utc, wall, ((written & ~offset) | compact) & ~np.isnat(utc))


def _from_text(text: pa.ChunkedArray, form: str) -> Instants:
    parsed = pd.to_datetime(text.to_pandas(), format=form, utc=True, errors="coerce")
    utc: Instants = parsed.dt.tz_localize(None).to_numpy(dtype="datetime64[us]")
    return utc


def _from_epoch(text: pa.ChunkedArray) -> Instants:
    digits = pc.match_substring_regex(text, r"^[0-9]{1,18}$|^1[0-9]{18}$")
    whole = pc.cast(pc.if_else(digits, text, "0"), pa.int64()).to_numpy()
    value = pc.cast(text, pa.float64()).to_numpy()
    unit = np.searchsorted(_EPOCH_BOUNDS, value, side="right")
    # Whole numbers stay whole: a double cannot hold a microsecond of this century in nanoseconds.
    scale = np.array(_MICROSECONDS_PER_UNIT)[unit]
    exact = np.where(scale >= 1, whole * np.maximum(scale, 1).astype("int64"), whole // 1_000)
    rounded = np.where(_mask(digits), 0, np.clip(np.rint(value * scale), 0, 4e15)).astype("int64")
    micros = np.where(_mask(digits), exact, rounded)
    return micros.astype("datetime64[us]")


def _localised(wall: Instants, zone: tzinfo) -> tuple[Instants, npt.NDArray[np.object_]]:
    naive = pd.DatetimeIndex(wall)
    local = naive.tz_localize(zone, ambiguous="NaT", nonexistent="NaT")
    reasons = np.full(len(wall), "", dtype=object)
    lost = np.isnat(local.to_numpy(dtype="datetime64[us]")) & ~np.isnat(wall)
    if lost.any():
        twice = naive[lost].tz_localize(zone, ambiguous="NaT", nonexistent="shift_forward").isna()
        reasons[lost] = np.where(twice, AMBIGUOUS, NONEXISTENT)
    utc = local.tz_convert("UTC").tz_localize(None).to_numpy(dtype="datetime64[us]")
    return utc, reasons


def _no_instants(size: int) -> Instants:
    return np.full(size, np.datetime64("NaT", "us"))


def _to_float(values: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    return np.array(values.to_numpy(), dtype="float64")


def _to_instants(values: pa.ChunkedArray) -> Instants:
    return np.array(values.to_numpy(), dtype="datetime64[us]")


def _mask(values: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    return np.asarray(values.to_numpy(), dtype=bool)
