"""`scizor query`: one SELECT, read-only, as table, CSV, JSON or Parquet."""

import re
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scizor_cli.output import (
    Format,
    console,
    is_simulated,
    note,
    output_file,
    render_table,
    text_output,
    write_csv,
    write_json,
)
from scizor_core.errors import InvalidInputError

if TYPE_CHECKING:
    from scizor_resources.read_only import Answer
    from scizor_resources.settings import Settings

EXAMPLES = (
    "Examples:\n\n"
    '  scizor query "SELECT * FROM marts.latest_prices"\n\n'
    "  scizor query \"SELECT ts, close, source FROM asx.bars_5m WHERE symbol = 'CBA'\" "
    "--format csv --output cba.csv\n\n"
    '  scizor query "SELECT * FROM asx.completeness WHERE missing > 0" --format json'
)
_PARQUET_CHUNK_ROWS = 65_536


def query(
    sql: Annotated[str, typer.Argument(help="One statement that returns rows.")],
    format_: Annotated[
        Format, typer.Option("--format", "-f", help="How to show the rows.")
    ] = Format.TABLE,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write there instead of to the screen.")
    ] = None,
    max_rows: Annotated[
        int, typer.Option(min=1, help="Longest table; the other formats have no limit.")
    ] = 100,
    timeout: Annotated[
        float, typer.Option(min=0, help="Seconds the server may take; 0 for no limit.")
    ] = 60.0,
) -> None:
    """Ask the database with SQL; nothing can be changed.

    Every asset is a relation: the key asx/bars_5m is the view asx.bars_5m. Simulated rows say so
    in the column source.
    """
    if format_ is Format.PARQUET and output is None:
        raise InvalidInputError("Parquet is no text: add --output FILE.")
    from scizor_resources.platform import Platform
    from scizor_resources.read_only import open_query

    with (
        Platform.open() as platform,
        open_query(platform.warehouse, sql, timeout_seconds=timeout) as answer,
    ):
        _warn_of_simulated(sql, answer.columns, platform.settings)
        if format_ is Format.TABLE:
            _show_table(answer, max_rows, output)
        else:
            count = _write(answer, format_, output)
            if output is not None:
                note(f"{count:,} rows written to {output}.")


def _show_table(answer: "Answer", max_rows: int, output: Path | None) -> None:
    rows = list(islice(answer.rows, max_rows + 1))
    shown = rows[:max_rows]
    with text_output(output) as stream:
        target = console()
        target.file = stream
        target.print(render_table(answer.columns, shown))
    cut = len(rows) > max_rows
    more = " (there are more: --max-rows, or --format csv for all of them)" if cut else ""
    note(f"{len(shown):,} rows{more}")
    if "source" in answer.columns:
        place = answer.columns.index("source")
        simulated = sum(is_simulated(row[place]) for row in shown)
        if simulated:
            note(
                f"Note: {simulated:,} of these {len(shown):,} rows are simulated or samples, not "
                "real data."
            )


def _write(answer: "Answer", format_: Format, output: Path | None) -> int:
    if format_ is Format.PARQUET and output is not None:
        return _write_parquet(answer, output)
    write = write_csv if format_ is Format.CSV else write_json
    with text_output(output) as stream:
        return write(answer.columns, answer.rows, stream)


def _write_parquet(answer: "Answer", output: Path) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = [_arrow_type(type_id) for type_id in answer.type_ids]
    schema = pa.schema(list(zip(answer.columns, types, strict=True)))
    count = 0
    with output_file(output) as draft, pq.ParquetWriter(draft, schema) as writer:
        while rows := list(islice(answer.rows, _PARQUET_CHUNK_ROWS)):
            arrays = [
                pa.array([_arrow_value(row[i], kind) for row in rows], type=kind)
                for i, kind in enumerate(types)
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            count += len(rows)
    return count


def _arrow_type(type_id: int) -> Any:
    """Return the Arrow type of a PostgreSQL type; what has none there becomes text."""
    import psycopg
    import pyarrow as pa

    known = psycopg.adapters.types.get(type_id)
    return {
        "bool": pa.bool_(),
        "int2": pa.int16(),
        "int4": pa.int32(),
        "int8": pa.int64(),
        "float4": pa.float32(),
        "float8": pa.float64(),
        "numeric": pa.float64(),
        "date": pa.date32(),
        "timestamp": pa.timestamp("us"),
        "timestamptz": pa.timestamp("us", tz="UTC"),
        "bytea": pa.binary(),
    }.get(known.name if known is not None else "", pa.string())


def _arrow_value(value: Any, kind: Any) -> Any:
    import json

    import pyarrow as pa

    if value is None:
        return None
    if pa.types.is_floating(kind):
        return float(value)
    if pa.types.is_string(kind) and not isinstance(value, str):
        return json.dumps(value, default=str) if isinstance(value, dict | list) else str(value)
    return value


def _warn_of_simulated(sql: str, columns: tuple[str, ...], settings: "Settings") -> None:
    """Say that rows may be simulated where the answer itself cannot tell."""
    from scizor_core.markets import MARKETS

    words = set(re.findall(r"\w+", sql.lower()))
    # A query that names markets is about those; one that names none may be about any.
    markets = [
        name for name in words & MARKETS.keys() or MARKETS if "simulated" in settings.chain(name)
    ]
    if markets and "source" not in columns:
        note(
            f"Note: this platform simulates market {', '.join(markets)}; select the column source "
            "to see which rows are simulated."
        )
