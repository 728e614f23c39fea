"""Files of the archive: Parquet, one for each market, timeframe and UTC month.

`bars/market=us/timeframe=1m/2024-01.parquet` below the archive's root, a directory or a bucket. A
file is never written over: its next version is `2024-01.2.parquet`, and which one counts stands in
`market.archive_files`. In a directory it is written under a temporary name, forced to disk and
renamed; an object store shows an object only when it is whole.

Rows are sorted by instrument and time. A row group holds whole instruments, so that one symbol is
read without the others.
"""

import hashlib
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from scizor_core.archive import VolumeSegment, volume_segment
from scizor_core.errors import ConfigError
from scizor_core.markets import Timeframe
from scizor_resources.errors import ArchiveError
from scizor_resources.stores.tables import BARS

_TS = pa.timestamp("us", tz="UTC")

#: Columns of a file: all of `market.bars`, and the symbol that the instrument had when written.
SCHEMA: pa.Schema = pa.schema(
    [
        BARS.arrow_schema.field("instrument_id"),
        ("symbol", pa.string()),
        *(field for field in BARS.arrow_schema if field.name != "instrument_id"),
        (BARS.stamp, _TS),
    ]
)

#: Rows of a row group at least, unless that would make too many groups: each costs a reader about
#: 20 microseconds of metadata.
ROW_GROUP_ROWS = 8_000
_MOST_ROW_GROUPS = 1_000
_OPEN_FILES = 256
_BLOCK_BYTES = 1 << 22
_NAME = re.compile(r"(?P<month>\d{4}-\d{2})(?:\.(?P<version>\d+))?\.parquet")


@dataclass(frozen=True)
class MonthKey:
    """Bars that one file holds.

    Attributes:
        market: name of the market.
        timeframe: timeframe of the bars.
        month: first of the month, UTC.
    """

    market: str
    timeframe: Timeframe
    month: date

    def __str__(self) -> str:
        return f"{self.market} {self.timeframe} {self.month:%Y-%m}"

    @property
    def directory(self) -> str:
        """Where its files lie, below the root."""
        return f"bars/market={self.market}/timeframe={self.timeframe}"

    def path(self, version: int) -> str:
        """Return the path of a version of its file, below the root."""
        number = "" if version == 1 else f".{version}"
        return f"{self.directory}/{self.month:%Y-%m}{number}.parquet"


def version_of(path: str) -> int:
    """Return which version of a month's file a path means."""
    found = _NAME.fullmatch(path.rpartition("/")[2])
    return int(found["version"] or 1) if found else 1


def is_temporary(path: str) -> bool:
    """Say whether a path is that of a file which has not got its name yet."""
    name = path.rpartition("/")[2]
    return name.startswith(".") and name.endswith(".tmp")


@dataclass(frozen=True)
class InstrumentFacts:
    """What a file holds of one instrument."""

    instrument_id: int
    rows: int
    first_ts: datetime
    last_ts: datetime
    first_session: date
    last_session: date
    segment: VolumeSegment


@dataclass(frozen=True)
class FileFacts:
    """What a file holds.

    Attributes:
        rows: its rows.
        bytes: its size.
        sha256: digest of its bytes.
        last_ingested_at: when the last of its bars arrived.
        instruments: what it holds of each instrument, ascending.
    """

    rows: int
    bytes: int
    sha256: str
    last_ingested_at: datetime
    instruments: tuple[InstrumentFacts, ...]


class FileMissingError(ArchiveError):
    """A file of the archive is not there, or no longer."""


class ArchiveRoot:
    """The directory or bucket that holds the files.

    Args:
        url: a directory's path, or file://, s3://, gs:// and what else pyarrow knows.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._opened: tuple[pafs.FileSystem, str] | None = None
        self._readers: OrderedDict[tuple[str, str], _Reader] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def _place(self) -> tuple[pafs.FileSystem, str]:
        if self._opened is None:
            try:
                if "://" in self.url:
                    self._opened = pafs.FileSystem.from_uri(self.url)
                else:
                    self._opened = pafs.LocalFileSystem(), str(Path(self.url).absolute())
            except (pa.ArrowInvalid, OSError, NotImplementedError) as error:
                raise ConfigError(
                    f"SCIZOR_ARCHIVE_URL '{self.url}' cannot be used: {error}. Give a directory, "
                    "s3://bucket/prefix or gs://bucket/prefix."
                ) from error
        return self._opened

    @property
    def _files(self) -> pafs.FileSystem:
        return self._place[0]

    @property
    def _is_local(self) -> bool:
        return isinstance(self._files, pafs.LocalFileSystem)

    def _full(self, path: str) -> str:
        return f"{self._place[1].rstrip('/')}/{path}"

    def exists(self, path: str) -> bool:
        """Say whether there is a file of that path."""
        found = self._files.get_file_info(self._full(path))
        return bool(found.type == pafs.FileType.File)

    def listing(self) -> list[str]:
        """Return the paths of all files below `bars`, temporary ones too."""
        base = self._full("bars")
        selector = pafs.FileSelector(base, allow_not_found=True, recursive=True)
        skipped = len(self._full(""))
        return sorted(
            info.path[skipped:]
            for info in self._files.get_file_info(selector)
            if info.type == pafs.FileType.File
        )

    def remove(self, path: str) -> None:
        """Remove a file, if it is there."""
        if self.exists(path):
            self._files.delete_file(self._full(path))

    def sha256(self, path: str) -> str:
        """Return the digest of a file's bytes.

        Raises:
            FileMissingError: there is no such file.
        """
        digest = hashlib.sha256()
        with self._open(path) as stream:
            while block := stream.read(_BLOCK_BYTES):
                digest.update(block)
        return digest.hexdigest()

    def write(
        self,
        path: str,
        tables: Iterable[pa.Table],
        *,
        rows: int,
        at_step: Callable[[str], None],
    ) -> FileFacts:
        """Write a file that is not there yet.

        Args:
            path: where, below the root.
            tables: columns `SCHEMA`, whole instruments each, ascending by instrument and ts.
            rows: about how many rows there will be.
            at_step: called with "temporary file" when all is written and with "renamed".
        """
        directory, _, name = path.rpartition("/")
        self._files.create_dir(self._full(directory), recursive=True)
        draft = f"{directory}/.{name}.{os.getpid()}.tmp" if self._is_local else path
        facts = _Facts()
        with (
            self._files.open_output_stream(self._full(draft)) as sink,
            pq.ParquetWriter(sink, SCHEMA, **WRITE_OPTIONS) as writer,
        ):
            for group in _row_groups(tables, max(ROW_GROUP_ROWS, rows // _MOST_ROW_GROUPS)):
                writer.write_table(group, row_group_size=len(group))
                facts.add(group)
        if self._is_local:
            _force_to_disk(Path(self._full(draft)))
        at_step("temporary file")
        if self._is_local:
            Path(self._full(draft)).replace(self._full(path))
            _force_to_disk(Path(self._full(directory)))
        at_step("renamed")
        return facts.of(self._size(path), self.sha256(path))

    def facts(self, path: str) -> FileFacts:
        """Return what an existing file holds, by reading it.

        Raises:
            ArchiveError: it cannot be read.
        """
        facts = _Facts()
        for group in self.row_groups(path):
            facts.add(group)
        return facts.of(self._size(path), self.sha256(path))

    def rows_of(self, path: str) -> int:
        """Return how many rows a file says it has.

        Raises:
            FileMissingError: there is no such file.
            ArchiveError: it cannot be read.
        """
        with self._open(path) as stream, _readable(self._full(path)):
            return int(pq.read_metadata(stream).num_rows)

    def row_groups(self, path: str) -> Iterator[pa.Table]:
        """Yield the rows of a file, a row group at a time, columns `SCHEMA`.

        Raises:
            FileMissingError: there is no such file.
            ArchiveError: it cannot be read.
        """
        with self._open(path) as stream, _readable(self._full(path)):
            file = pq.ParquetFile(stream)
            for number in range(file.num_row_groups):
                yield file.read_row_group(number).cast(SCHEMA)

    def read(
        self, path: str, sha256: str, columns: Sequence[str], instrument_ids: Sequence[int]
    ) -> pa.Table:
        """Return some instruments of a file.

        Args:
            path: the file.
            sha256: digest that it is known by; it is kept open under it.
            columns: which columns, instrument_id among them.
            instrument_ids: which instruments.

        Raises:
            FileMissingError: there is no such file.
            ArchiveError: it cannot be read.
        """
        wanted = np.unique(np.asarray(instrument_ids, dtype=np.int64))
        with _readable(self._full(path)):
            return self._reader(path, sha256).read(wanted, columns)

    def _reader(self, path: str, sha256: str) -> "_Reader":
        """Return a file opened; to open it takes as long as to read a month of a symbol."""
        with self._lock:
            known = self._readers.get((path, sha256))
            if known is not None:
                self._readers.move_to_end((path, sha256))
                return known
        reader = _Reader(self._open(path))
        with self._lock:
            self._readers[path, sha256] = reader
            if len(self._readers) > _OPEN_FILES:
                self._readers.popitem(last=False)
        return reader

    def _open(self, path: str) -> pa.NativeFile:
        full = self._full(path)
        try:
            if self._is_local:
                return pa.memory_map(full)
            return self._files.open_input_file(full)
        except FileNotFoundError:
            raise FileMissingError(
                f"The archive's file {full} is not there. Bring it back from a backup; what it "
                "held is in no other place if its month is released."
            ) from None

    def _size(self, path: str) -> int:
        return int(self._files.get_file_info(self._full(path)).size)


#: Prices repeat within a month, so that a dictionary is small and quick to read; times and counts
#: are small as deltas. zstd on top of these doubles the work of a read for nothing: 100,000 bars
#: took 25 ms of CPU at 18.7 bytes a bar with it on every column, 12 ms at 18.6 on volumes alone.
WRITE_OPTIONS: dict[str, Any] = {
    "compression": {name: "zstd" if name == "volume" else "none" for name in SCHEMA.names},
    "compression_level": {"volume": 1},
    "use_dictionary": [
        *("instrument_id", "symbol", "timeframe", "session_date", "source", "ingested_at"),
        *("open", "high", "low", "close", "vwap", "adj_close"),
    ],
    "column_encoding": {"ts": "DELTA_BINARY_PACKED", "trade_count": "DELTA_BINARY_PACKED"},
    "write_statistics": ["instrument_id"],
}


class _readable:  # noqa: N801  # used as a function
    """Turn Arrow's errors into `ArchiveError`."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, pa.ArrowException | OSError):
            raise ArchiveError(
                f"The archive's file {self._path} cannot be read: {error}. Check it with "
                "`scizor archive verify`."
            ) from error


class _Reader:
    """An open file, and which instruments each of its row groups holds."""

    def __init__(self, stream: pa.NativeFile) -> None:
        self._file = pq.ParquetFile(stream, read_dictionary=["source"])
        self._lock = threading.Lock()
        metadata, column = self._file.metadata, SCHEMA.get_field_index("instrument_id")
        numbers = range(metadata.num_row_groups)
        statistics = [metadata.row_group(each).column(column).statistics for each in numbers]
        self._first = np.array([each.min for each in statistics], dtype=np.int64)
        self._last = np.array([each.max for each in statistics], dtype=np.int64)

    def read(self, wanted: npt.NDArray[np.int64], columns: Sequence[str]) -> pa.Table:
        """Return some columns, instrument_id among them, of some instruments, ascending."""
        below = np.searchsorted(wanted, self._first, side="left")
        above = np.searchsorted(wanted, self._last, side="right")
        groups = np.flatnonzero(above > below)
        with self._lock:
            # Several files at a time use the cores better than several columns do.
            found = self._file.read_row_groups(
                groups.tolist(), columns=list(columns), use_threads=False
            )
        if (self._first[groups] == self._last[groups]).all():
            return found
        return found.filter(pc.is_in(found["instrument_id"], pa.array(wanted, pa.int32())))


def _row_groups(tables: Iterable[pa.Table], least: int) -> Iterator[pa.Table]:
    """Yield tables of whole instruments, each of at least so many rows but the last."""
    waiting: list[pa.Table] = []
    count = 0
    for table in tables:
        ids = table["instrument_id"].to_numpy()
        edges = [*(np.flatnonzero(np.diff(ids)) + 1).tolist(), len(ids)]
        start = 0
        for edge in edges:
            if count + edge - start >= least:
                yield pa.concat_tables([*waiting, table.slice(start, edge - start)])
                waiting, count, start = [], 0, edge
        if start < len(ids):
            waiting.append(table.slice(start))
            count += len(ids) - start
    if waiting:
        yield pa.concat_tables(waiting)


class _Facts:
    """Gathers what a file holds while its row groups go by."""

    def __init__(self) -> None:
        self._rows = 0
        self._ingested: list[datetime] = []
        self._instruments: list[InstrumentFacts] = []

    def add(self, group: pa.Table) -> None:
        """Take a row group into account."""
        if not len(group):
            return
        self._rows += len(group)
        self._ingested.append(pc.max(group["ingested_at"]).as_py())
        ids = group["instrument_id"].to_numpy()
        close, volume = group["close"].to_numpy(), group["volume"].to_numpy()
        starts = np.flatnonzero(np.diff(ids, prepend=ids[0] - 1)).tolist()
        for start, end in zip(starts, [*starts[1:], len(ids)], strict=True):
            days = pc.min_max(group["session_date"].slice(start, end - start)).as_py()
            self._instruments.append(
                InstrumentFacts(
                    instrument_id=int(ids[start]),
                    rows=end - start,
                    first_ts=group["ts"][start].as_py(),
                    last_ts=group["ts"][end - 1].as_py(),
                    first_session=days["min"],
                    last_session=days["max"],
                    segment=volume_segment(close[start:end], volume[start:end]),
                )
            )

    def of(self, size: int, sha256: str) -> FileFacts:
        """Return what was gathered."""
        return FileFacts(self._rows, size, sha256, max(self._ingested), tuple(self._instruments))


def _force_to_disk(path: Path) -> None:
    """Wait until a file or directory would survive a power cut."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
