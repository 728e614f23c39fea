"""Raw tables out of CSV and Parquet files: every cell still as it stands in the file.

Nothing is interpreted here. Each row keeps its number, so that whatever is refused later can be
found in the file again.
"""

import csv
import gzip
import io
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from scizor_core.errors import InvalidInputError

FileFormat = Literal["csv", "parquet"]

_DELIMITERS = (",", ";", "\t", "|")
_SNIFFED_BYTES = 65_536
_BLOCK_BYTES = 1 << 24


@dataclass(frozen=True)
class BrokenRow:
    """A row that is not a row of this table: its number, what is wrong, its cells."""

    row_number: int
    reason: str
    payload: dict[str, str]


@dataclass(frozen=True)
class RawTable:
    """The cells of a file.

    Attributes:
        origin: name of the file, for messages and reports.
        names: column names as the file has them, stripped of blanks.
        table: one column per name, called "0", "1", ... by position; text for CSV.
        row_numbers: 1-based data row of each row (the header and blank lines are not counted).
        broken: rows with the wrong number of fields.
        decimal_comma: True where numbers may be written 1.234,5.
    """

    origin: str
    names: tuple[str, ...]
    table: pa.Table
    row_numbers: npt.NDArray[np.int64]
    broken: tuple[BrokenRow, ...] = ()
    decimal_comma: bool = False

    def column(self, name: str) -> pa.ChunkedArray:
        """Return the cells of the column of that name."""
        return self.table.column(self.names.index(name))

    def take(self, positions: npt.NDArray[np.int64]) -> "RawTable":
        """Return the table with the rows at those positions only; broken rows stay."""
        return RawTable(
            origin=self.origin,
            names=self.names,
            table=self.table.take(pa.array(positions)),
            row_numbers=self.row_numbers[positions],
            broken=self.broken,
            decimal_comma=self.decimal_comma,
        )

    def payloads(self, positions: npt.NDArray[np.int64]) -> list[dict[str, str]]:
        """Return the rows at those positions as received, "" where a cell is missing."""
        rows = self.table.take(pa.array(positions)).to_pylist()
        return [_payload(self.names, row.values()) for row in rows]


def read_content(path: Path) -> bytes:
    """Return the bytes of a file the user named.

    Raises:
        InvalidInputError: it is not there, is a directory, or cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise InvalidInputError(f"There is no file {path}.") from None
    except IsADirectoryError:
        raise InvalidInputError(f"{path} is a directory; name one file.") from None
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read: {error.strerror}.") from error


def read_table(content: bytes, origin: str, file_format: FileFormat | None = None) -> RawTable:
    """Return the cells of a CSV (plain or gzip) or Parquet file.

    Args:
        content: the file's bytes.
        origin: the file's name, for messages.
        file_format: what the file is; None: told by its first bytes and its name.

    Raises:
        InvalidInputError: empty, binary, cut short, or not of that format.
    """
    if not content:
        raise InvalidInputError(f"{origin} is empty.")
    if file_format is None:
        named_parquet = origin.lower().endswith((".parquet", ".pq"))
        file_format = "parquet" if content.startswith(b"PAR1") or named_parquet else "csv"
    if file_format == "parquet":
        return _read_parquet(content, origin)
    return _read_csv(content, origin)


def _read_parquet(content: bytes, origin: str) -> RawTable:
    try:
        table = pa.parquet.read_table(pa.BufferReader(content))
    except (pa.ArrowException, OSError) as error:
        raise InvalidInputError(
            f"{origin} cannot be read as Parquet: {str(error).splitlines()[0]}"
        ) from error
    return RawTable(
        origin=origin,
        names=_checked_names(origin, table.column_names),
        table=table.rename_columns([str(n) for n in range(table.num_columns)]),
        row_numbers=np.arange(1, table.num_rows + 1, dtype="int64"),
    )


def _read_csv(content: bytes, origin: str) -> RawTable:
    data = _utf8(_unzipped(content, origin), origin).lstrip(b"\r\n \t")
    if not data:
        raise InvalidInputError(f"{origin} is empty.")
    header = data[:_SNIFFED_BYTES].splitlines()[0].decode("utf-8", errors="replace")
    delimiter = max(_DELIMITERS, key=header.count)
    names = _checked_names(origin, next(csv.reader([header], delimiter=delimiter)))
    keys = [str(n) for n in range(len(names))]
    broken: list[BrokenRow] = []

    def skip(row: pa.csv.InvalidRow) -> str:
        cells = next(csv.reader([row.text], delimiter=delimiter))
        broken.append(
            BrokenRow(
                # pyarrow counts the header as row 1 and passes over blank lines.
                row_number=row.number - 1,
                reason=f"row has {row.actual_columns} fields, the header has {len(names)}",
                payload=_payload(names, cells),
            )
        )
        return "skip"

    try:
        table = pa.csv.read_csv(
            io.BytesIO(data),
            # Row numbers of refused rows are only known when one thread reads.
            read_options=pa.csv.ReadOptions(
                use_threads=False, block_size=_BLOCK_BYTES, column_names=keys, skip_rows=1
            ),
            parse_options=pa.csv.ParseOptions(
                delimiter=delimiter, newlines_in_values=b'"' in data, invalid_row_handler=skip
            ),
            convert_options=pa.csv.ConvertOptions(
                column_types=dict.fromkeys(keys, pa.string()), strings_can_be_null=False
            ),
        )
    except pa.ArrowException as error:
        raise InvalidInputError(
            f"{origin} cannot be read as CSV: {str(error).splitlines()[0]}"
        ) from error
    total = table.num_rows + len(broken)
    missing = np.array([row.row_number - 1 for row in broken], dtype="int64")
    numbers = np.delete(np.arange(1, total + 1, dtype="int64"), missing)
    return RawTable(
        origin=origin,
        names=names,
        table=table,
        row_numbers=numbers,
        broken=tuple(broken),
        decimal_comma=delimiter == ";",
    )


def _unzipped(content: bytes, origin: str) -> bytes:
    if not content.startswith(b"\x1f\x8b"):
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidInputError(f"{origin} is not a whole gzip file: {error}.") from error


def _utf8(data: bytes, origin: str) -> bytes:
    """Return text in UTF-8 without a mark, whatever Excel and old tools wrote."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", errors="replace").encode()
    sample = data[:_SNIFFED_BYTES]
    controls = sum(sample.count(bytes([code])) for code in range(32) if code not in (9, 10, 12, 13))
    if b"\0" in sample or controls * 50 > len(sample):
        raise InvalidInputError(
            f"{origin} is neither text nor Parquet; bring CSV (plain or .gz) or Parquet."
        )
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace").encode()
    return data.removeprefix(b"\xef\xbb\xbf")


def _checked_names(origin: str, names: Iterable[str]) -> tuple[str, ...]:
    stripped = tuple(name.strip() for name in names)
    seen: set[str] = set()
    for name in stripped:
        if name and name.casefold() in seen:
            raise InvalidInputError(f"{origin} has two columns called '{name}'; rename one.")
        seen.add(name.casefold())
    return stripped


def _payload(names: tuple[str, ...], cells: Iterable[object]) -> dict[str, str]:
    values = ["" if cell is None else str(cell) for cell in cells]
    labels = [name or f"column {position + 1}" for position, name in enumerate(names)]
    labels += [f"column {position + 1}" for position in range(len(names), len(values))]
    return dict(zip(labels, values, strict=False))
