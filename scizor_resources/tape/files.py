"""Reading the tape's files by window, with a small cache.

A run asks for one session after another: small files are kept in memory and sliced, large ones
are read with a filter on time.
"""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from threading import Lock

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from scizor_core.errors import InvalidInputError
from scizor_resources.providers.base import empty_rejected
from scizor_resources.tape.manifest import TapeEntry
from scizor_resources.tape.parse import parse_rows
from scizor_resources.tape.read import read_content, read_table

#: A frame of so many rows is about 25 MB; larger normalised files are read by window instead.
CACHED_ROWS = 300_000
CACHED_FILES = 64
CACHED_ROWS_IN_ALL = 3_000_000


@dataclass(frozen=True)
class EntryFile:
    """An entry's rows, in memory or on disk.

    Attributes:
        frame: all rows by ts; None where the file is read by window.
        path: the file.
        first: time of the first row, None without rows.
        last: time of the last row.
        refused: refused rows, columns `REJECTED_COLUMNS`.
        near: to which time each refused row belongs; NaT where that is not known.
    """

    frame: pd.DataFrame | None
    path: Path
    first: datetime | None
    last: datetime | None
    refused: pd.DataFrame
    near: npt.NDArray[np.datetime64]

    @property
    def rows_in_memory(self) -> int:
        """How many rows this keeps in memory."""
        return (0 if self.frame is None else len(self.frame)) + len(self.refused)

    def span(self) -> tuple[datetime, datetime] | None:
        """Return the times of the first and the last row, None without rows."""
        if self.first is None or self.last is None:
            return None
        return self.first, self.last

    def rows(self, start: datetime, end: datetime) -> pd.DataFrame:
        """Return the rows with `start <= ts < end`, by ts."""
        if self.frame is None:
            filters = [("ts", ">=", pd.Timestamp(start)), ("ts", "<", pd.Timestamp(end))]
            return _to_pandas(pa.parquet.read_table(self.path, filters=filters))
        low, high = self.frame["ts"].searchsorted([pd.Timestamp(start), pd.Timestamp(end)])
        return self.frame.iloc[int(low) : int(high)]

    def holds(self, start: datetime, end: datetime) -> bool:
        """Say whether a row lies in `[start, end)`."""
        if self.first is None or self.last is None or self.first >= end or self.last < start:
            return False
        if start <= self.first or self.last < end:
            return True
        return len(self.rows(start, end)) > 0

    def rejected(self, start: datetime, end: datetime) -> pd.DataFrame:
        """Return the refused rows that belong to `[start, end)`, and those of unknown time."""
        if self.refused.empty:
            return self.refused
        low, high = (np.datetime64(pd.Timestamp(at).tz_convert(None), "us") for at in (start, end))
        return self.refused[np.isnat(self.near) | ((self.near >= low) & (self.near < high))]


_cache: OrderedDict[tuple[object, ...], EntryFile] = OrderedDict()
_cache_lock = Lock()


def read_entry(path: Path, entry: TapeEntry, now: datetime) -> EntryFile:
    """Return the rows of an entry, from memory where the file has not changed.

    Args:
        path: the entry's file.
        entry: what it holds.
        now: the present instant; rows of raw files after it are refused.

    Raises:
        InvalidInputError: the file cannot be read as what the entry says.
    """
    try:
        status = path.stat()
    except OSError:
        raise InvalidInputError(f"There is no file {path}.") from None
    key = (path, status.st_mtime_ns, status.st_size, entry.sha256, repr(entry))
    with _cache_lock:
        if key in _cache:
            _cache.move_to_end(key)
            return _cache[key]
    normalised = entry.format == "normalised"
    opened = _open_normalised(path) if normalised else _open_raw(path, entry, now)
    with _cache_lock:
        _cache[key] = opened
        while len(_cache) > CACHED_FILES or (
            len(_cache) > 1
            and sum(each.rows_in_memory for each in _cache.values()) > CACHED_ROWS_IN_ALL
        ):
            _cache.popitem(last=False)
    return opened


def _open_raw(path: Path, entry: TapeEntry, now: datetime) -> EntryFile:
    content = read_content(path)
    if entry.sha256 is not None and hashlib.sha256(content).hexdigest() != entry.sha256:
        raise InvalidInputError(f"{path.name} has changed, its sha256 is not the entry's.")
    raw = read_table(content, path.name, "csv" if entry.format == "csv" else "parquet")
    parsed = parse_rows(raw, entry.row_spec(), now)
    times = parsed.good["ts"]
    return EntryFile(
        frame=parsed.good,
        path=path,
        first=times.iloc[0].to_pydatetime() if len(times) else None,
        last=times.iloc[-1].to_pydatetime() if len(times) else None,
        refused=parsed.rejected,
        near=parsed.near,
    )


def _open_normalised(path: Path) -> EntryFile:
    try:
        rows = pa.parquet.ParquetFile(path).metadata.num_rows
        small = rows <= CACHED_ROWS
        # Only the times are needed to know the ends of a large file.
        table = pa.parquet.read_table(path, columns=None if small else ["ts"])
        frame = _to_pandas(table)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise InvalidInputError(
            f"{path} is not Parquet that an import wrote: {str(error).splitlines()[0]}"
        ) from error
    return EntryFile(
        frame=frame if small else None,
        path=path,
        first=frame["ts"].iloc[0].to_pydatetime() if rows else None,
        last=frame["ts"].iloc[-1].to_pydatetime() if rows else None,
        refused=empty_rejected(),
        near=np.array([], dtype="datetime64[us]"),
    )


def _to_pandas(table: pa.Table) -> pd.DataFrame:
    frame: pd.DataFrame = table.to_pandas()
    return frame.assign(ts=frame["ts"].astype("datetime64[us, UTC]"))
