"""The tape's `manifest.json`: which file holds what.

The importer writes it; a user may write it by hand for a directory of CSV or Parquet files. Every
mistake in it is answered with the file, the entry and the field.
"""

import json
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

from filelock import FileLock
from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from scizor_core.errors import InvalidInputError, ScizorError
from scizor_core.markets import get_market
from scizor_resources.tape.parse import RowSpec, TapeTimeframe

MANIFEST_NAME = "manifest.json"
LOCK_TIMEOUT_SECONDS = 60.0

TapeFormat = Literal["csv", "parquet", "normalised"]


class TapeEntry(BaseModel):
    """One file of the tape.

    Attributes:
        file: path of the file, relative to the tape directory.
        market: name of the market.
        symbol: symbol of all rows.
        timeframe: a bar timeframe, or "tick" for trades.
        format: "csv" (plain or gzip) and "parquet" are read as they came, each time; "normalised"
            is Parquet that the importer wrote. Unset: told by the file's name.
        columns: field -> column; what is not named is guessed from the header. For an import: the
            columns that were used.
        timezone: IANA zone of times without an offset.
        source_label: short name of where the data came from.
        added_at: when the entry was made.
        sha256: digest of the file as it was brought.
        original_name: name of that file.
        rows: good rows.
        first_ts: time of the first good row.
        last_ts: time of the last good row.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str = Field(min_length=1)
    market: str
    symbol: str
    timeframe: TapeTimeframe
    format: TapeFormat = "csv"
    columns: dict[str, str] = Field(default_factory=dict)
    timezone: str | None = None
    source_label: str = ""
    added_at: AwareDatetime | None = None
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    original_name: str | None = None
    rows: int | None = Field(None, ge=0)
    first_ts: AwareDatetime | None = None
    last_ts: AwareDatetime | None = None

    @model_validator(mode="before")
    @classmethod
    def _told_by_name(cls, data: Any) -> Any:
        if isinstance(data, dict) and "format" not in data:
            name = str(data.get("file", "")).lower()
            parquet = name.endswith((".parquet", ".pq"))
            return {**data, "format": "parquet" if parquet else "csv"}
        return data

    @field_validator("file")
    @classmethod
    def _inside(cls, value: str) -> str:
        path = Path(value)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError("must be a path inside the tape directory")
        return value

    @field_validator("market")
    @classmethod
    def _known_market(cls, value: str) -> str:
        return _checked(lambda: get_market(value).name)

    @field_validator("symbol")
    @classmethod
    def _possible_symbol(cls, value: str, info: ValidationInfo) -> str:
        market = info.data.get("market")
        return value if market is None else _checked(lambda: get_market(market).check_symbol(value))

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str | None) -> str | None:
        return None if value is None else _checked(lambda: check_timezone(value))

    @field_validator("source_label")
    @classmethod
    def _short_label(cls, value: str) -> str:
        return _checked(lambda: check_label(value))

    @property
    def source(self) -> str:
        """The `source` of rows from this entry."""
        return f"tape/{self.source_label}" if self.source_label else "tape"

    def row_spec(self) -> RowSpec:
        """Return what the rows of the file are."""
        return RowSpec(
            market=self.market,
            symbol=self.symbol,
            timeframe=self.timeframe,
            columns=self.columns,
            timezone=self.timezone,
            source=self.source,
        )


def check_timezone(name: str) -> str:
    """Return `name` if it is an IANA time zone.

    Raises:
        InvalidInputError: it is not.
    """
    try:
        return ZoneInfo(name).key
    except (KeyError, ValueError, OSError):
        raise InvalidInputError(
            f"'{name}' is not a time zone; use an IANA name such as Australia/Sydney or UTC."
        ) from None


def check_label(label: str) -> str:
    """Return `label` without blanks around it if it can be part of a `source`.

    Raises:
        InvalidInputError: too long, or with characters that would confuse a source's name.
    """
    label = label.strip()
    if len(label) > 40 or any(not (char.isalnum() or char in "._-") for char in label):
        raise InvalidInputError(
            f"'{label}' is not a source label: at most 40 letters, digits, dots, dashes and "
            "underscores."
        )
    return label


def read_manifest(tape_dir: Path) -> tuple[TapeEntry, ...]:
    """Return the entries of a tape directory in order, none where there is no manifest.

    Raises:
        InvalidInputError: the manifest cannot be used, or names a file that is not there.
    """
    path = tape_dir / MANIFEST_NAME
    try:
        status = path.stat()
    except FileNotFoundError:
        return ()
    entries = _load(path, status.st_mtime_ns, status.st_size)
    for number, entry in enumerate(entries, start=1):
        if not (tape_dir / entry.file).is_file():
            raise InvalidInputError(
                f"{describe(path, number, 'file')}: there is no file {tape_dir / entry.file}."
            )
    return entries


def add_entry(
    tape_dir: Path, entry: TapeEntry, same: Callable[[TapeEntry], bool]
) -> tuple[TapeEntry, bool]:
    """Append `entry` to the manifest unless one like it is there.

    Readers see the old manifest or the new one, never a half; writers wait for each other.

    Args:
        tape_dir: the tape directory; made where it is missing.
        entry: the entry to append.
        same: says whether an entry is the one to append already.

    Returns:
        The entry that the manifest now has, and whether it was there before.

    Raises:
        InvalidInputError: the manifest that is there cannot be used.
    """
    tape_dir.mkdir(parents=True, exist_ok=True)
    path = tape_dir / MANIFEST_NAME
    with FileLock(path.with_suffix(".lock"), timeout=LOCK_TIMEOUT_SECONDS):
        entries = read_manifest(tape_dir)
        for known in entries:
            if same(known):
                return known, True
        document = [
            each.model_dump(mode="json", exclude_defaults=True) for each in (*entries, entry)
        ]
        draft = path.with_suffix(f".{os.getpid()}.tmp")
        with draft.open("w", encoding="utf-8") as stream:
            stream.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(path)
    return entry, False


def describe(path: Path, number: int, field: str) -> str:
    """Return how messages name a place in the manifest."""
    return f"{path}, entry {number}, field '{field}'"


@lru_cache(maxsize=8)
def _load(path: Path, modified_ns: int, size: int) -> tuple[TapeEntry, ...]:
    del modified_ns, size  # part of the cache's key
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise InvalidInputError(
            f"{path} is not JSON: {error.msg} (line {error.lineno}, column {error.colno})."
        ) from None
    except UnicodeDecodeError:
        raise InvalidInputError(f"{path} is not text in UTF-8.") from None
    if not isinstance(document, list):
        raise InvalidInputError(f"{path} has to be a list of entries: [{{...}}, {{...}}].")
    return tuple(_entry(path, number, item) for number, item in enumerate(document, start=1))


def _entry(path: Path, number: int, item: Any) -> TapeEntry:
    if not isinstance(item, dict):
        raise InvalidInputError(f"{path}, entry {number}: has to be an object {{...}}.")
    try:
        return TapeEntry.model_validate(item)
    except ValidationError as error:
        problems = "; ".join(
            f"field '{'.'.join(str(part) for part in each['loc'])}': "
            f"{each['msg'].removeprefix('Value error, ')}"
            for each in error.errors()
        )
        raise InvalidInputError(f"{path}, entry {number}, {problems}.") from None


def _checked(call: Callable[[], str]) -> str:
    """Turn our own errors into the kind that pydantic collects per field."""
    try:
        return call()
    except ScizorError as error:
        raise ValueError(str(error).rstrip(".")) from None
