"""How values look, and that a file is written whole or not at all."""

import io
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from rich.console import Console

from scizor_cli.output import decimals_of, output_file, render_table, write_csv, write_json
from scizor_core.errors import InvalidInputError


def shown(columns: list[str], rows: list[list[object]]) -> list[list[str]]:
    stream = io.StringIO()
    Console(file=stream, width=1000).print(render_table(columns, rows))
    return [line.split("  ") for line in stream.getvalue().splitlines()]


def test_the_floats_of_a_column_share_their_decimals() -> None:
    lines = shown(["close"], [[1234.5], [17.25], [3.0]])
    assert [line[-1].strip() for line in lines] == ["close", "1,234.50", "17.25", "3.00"]


@pytest.mark.parametrize(
    ("values", "decimals"),
    [([1.0, 2.0], 0), ([1.25], 2), ([1.123456], 4), ([0.00012345], 8), ([], 0)],
)
def test_decimals_follow_the_values(values: list[float], decimals: int) -> None:
    assert decimals_of(values) == decimals


def test_instants_say_that_they_are_utc() -> None:
    lines = shown(["ts"], [[datetime(2026, 11, 20, 23, 5, tzinfo=UTC)]])
    assert lines[1] == ["2026-11-20 23:05Z"]


def test_ids_have_no_thousands_separator() -> None:
    assert shown(["instrument_id"], [[12345]])[1][-1].strip() == "12345"


def test_text_that_looks_like_markup_is_shown_as_it_is() -> None:
    assert shown(["notes"], [["[red]x[/red]"]])[1] == ["[red]x[/red]"]


def test_json_has_null_for_nan_and_iso_times() -> None:
    stream = io.StringIO()
    count = write_json(
        ["a", "b", "c", "d"],
        [[float("nan"), datetime(2026, 1, 2, tzinfo=UTC), Decimal("1.5"), date(2026, 1, 2)]],
        stream,
    )
    assert count == 1
    assert json.loads(stream.getvalue()) == [
        {"a": None, "b": "2026-01-02T00:00:00Z", "c": 1.5, "d": "2026-01-02"}
    ]


def test_json_of_no_rows_is_an_empty_array() -> None:
    stream = io.StringIO()
    write_json(["a"], [], stream)
    assert json.loads(stream.getvalue()) == []


def test_csv_leaves_null_empty() -> None:
    stream = io.StringIO()
    write_csv(["a", "b"], [[None, True]], stream)
    assert stream.getvalue() == "a,b\n,true\n"


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "rows.csv"
    target.write_text("old")

    def fail_half_way() -> None:
        with output_file(target) as draft:
            draft.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert [each.name for each in tmp_path.iterdir()] == ["rows.csv"]
    assert target.read_text() == "old"


def test_a_directory_that_is_not_there_is_told(tmp_path: Path) -> None:
    target = tmp_path / "absent" / "rows.csv"
    with pytest.raises(InvalidInputError, match="cannot be written"), output_file(target):
        pass
