"""How answers look: tables for people, CSV, JSON and Parquet for programs."""

import csv
import json
import math
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from datetime import time as time_of_day
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import typer

from scizor_core.errors import InvalidInputError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

#: Wide enough that no table is cut where the output goes to a file or another program.
_PIPE_WIDTH = 100_000
_DECIMALS = 4
_SMALL_DECIMALS = 8


class Format(StrEnum):
    """Ways to show rows."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


def console(*, stderr: bool = False) -> "Console":
    """Return a console on stdout or stderr that never cuts what is piped elsewhere."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    if stream.isatty():
        return Console(file=stream, highlight=False)
    return Console(file=stream, highlight=False, width=_PIPE_WIDTH)


def note(text: str) -> None:
    """Tell something on stderr, so that it does not get into data on stdout."""
    typer.echo(text, err=True)


def is_simulated(source: object) -> bool:
    """Say whether a `source` tells of simulated data, or of hand-written samples."""
    return isinstance(source, str) and ("simulated" in source or source.startswith("sample:"))


def render_table(
    columns: Sequence[str], rows: Sequence[Sequence[Any]], *, title: str | None = None
) -> "Table":
    """Return a table with readable numbers and times; simulated rows stand out.

    Floats of a column share their decimals; times are UTC and say so with a Z.
    """
    from rich.table import Table

    table = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    formatted = [_format_column(name, [row[i] for row in rows]) for i, name in enumerate(columns)]
    for i, name in enumerate(columns):
        numeric = any(_is_number(row[i]) for row in rows)
        table.add_column(name, justify="right" if numeric else "left", no_wrap=True)
    for number, row in enumerate(rows):
        style = "yellow" if any(is_simulated(value) for value in row) else None
        table.add_row(*(_escape(column[number]) for column in formatted), style=style)
    return table


def _escape(text: str) -> str:
    return text.replace("[", r"\[")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def _format_column(name: str, values: Sequence[Any]) -> list[str]:
    floats = [float(v) for v in values if isinstance(v, float | Decimal) and math.isfinite(v)]
    decimals = decimals_of(floats)
    whole_seconds = all(
        not v.second and not v.microsecond for v in values if isinstance(v, datetime)
    )
    plain = name.endswith("_id") or name == "year"
    return [_format_value(value, decimals, plain=plain, minutes=whole_seconds) for value in values]


def decimals_of(values: Sequence[float]) -> int:
    """Return how many decimals show these values: at most 4, or 8 where all are below 1."""
    limit = _SMALL_DECIMALS if values and max(abs(v) for v in values) < 1 else _DECIMALS
    needed = 0
    for value in values:
        text = f"{value:.{limit}f}".rstrip("0")
        needed = max(needed, len(text.partition(".")[2]))
    return needed


def _format_value(value: Any, decimals: int, *, plain: bool, minutes: bool) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return str(value) if plain else f"{value:,}"
    if isinstance(value, float | Decimal):
        return f"{value:,.{decimals}f}"
    if isinstance(value, datetime):
        text = f"{value:%Y-%m-%d %H:%M}" if minutes else f"{value:%Y-%m-%d %H:%M:%S}"
        return f"{text}Z" if value.tzinfo is not None else text
    if isinstance(value, dict | list):
        return json.dumps(value, default=_plain)
    return " ".join(str(value).split()) if isinstance(value, str) else str(value)


def write_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]], stream: IO[str]) -> int:
    """Write rows as CSV, times in ISO format, nothing for NULL; returns the number of rows."""
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    count = 0
    for row in rows:
        writer.writerow([_csv_value(value) for value in row])
        count += 1
    return count


def _csv_value(value: Any) -> Any:
    if isinstance(value, dict | list):
        return json.dumps(value, default=_plain)
    plain = _plain(value)
    return ("true" if plain else "false") if isinstance(plain, bool) else plain


def write_json(columns: Sequence[str], rows: Iterable[Sequence[Any]], stream: IO[str]) -> int:
    """Write rows as a JSON array of objects; NaN becomes null; returns the number of rows."""
    stream.write("[")
    count = 0
    for row in rows:
        record = {name: _plain(value) for name, value in zip(columns, row, strict=True)}
        stream.write(",\n " if count else "\n ")
        stream.write(json.dumps(record, default=_plain, ensure_ascii=False))
        count += 1
    stream.write("\n]\n" if count else "]\n")
    return count


def _plain(value: Any) -> Any:
    """Return a value as JSON knows it."""
    if isinstance(value, Decimal):
        value = int(value) if value.is_finite() and value == value.to_integral() else float(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, date | time_of_day):
        return value.isoformat()
    if value is None or isinstance(value, bool | int | str | dict | list):
        return value
    if isinstance(value, bytes | memoryview):
        return bytes(value).hex()
    return str(value)


@contextmanager
def output_file(path: Path) -> Iterator[Path]:
    """Yield a path to write to; it becomes `path` in one step, when all went well.

    Raises:
        InvalidInputError: nothing can be written there.
    """
    if path.is_dir():
        raise InvalidInputError(f"{path} is a directory: name a file.")
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        draft.touch()
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be written: {error.strerror}.") from error
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def text_output(path: Path | None) -> Iterator[IO[str]]:
    """Yield stdout, or the file that takes its place."""
    if path is None:
        yield sys.stdout
        return
    with output_file(path) as draft, draft.open("w", encoding="utf-8", newline="") as stream:
        yield stream
