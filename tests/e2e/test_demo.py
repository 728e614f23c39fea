"""`scizor demo` from an empty home, with the real artefacts of the package registry."""

import re
import shlex
from pathlib import Path

import pytest

from tests.e2e.shell import scizor

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

_HASHES = """
    SELECT md5(string_agg(x::text, '|' ORDER BY x::text)) FROM {} AS x
"""
_TABLES = (
    "market.bars",
    "market.bar_revisions",
    "market.indicators",
    "quality.completeness",
    "quality.gaps",
    "quality.quarantine",
    "public.symbols",
    "public.watchlist",
    "marts.daily_bars",
    "marts.movers",
)


def answer(home: Path, sql: str) -> list[str]:
    done = scizor(home, "query", sql, "--format", "csv")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[1:]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("demo")
    done = scizor(home, "demo", timeout=600, chain_asx=None)
    assert done.returncode == 0, done.stdout + done.stderr
    return home


def shown_commands() -> list[tuple[list[str], list[str]]]:
    """Return the commands `query` and `bars` of the README with the table shown under each."""
    text = (Path(__file__).parents[2] / "README.md").read_text()
    found = []
    for block in re.findall(r"^    \$ \.venv/bin/scizor (.*(?:\n    .*)*)", text, re.MULTILINE):
        lines = [line.removeprefix("    ") for line in block.split("\n")]
        length = 1
        while "\n".join(lines[:length]).count('"') % 2:
            length += 1
        command = shlex.split(" ".join(lines[:length]))
        if command[0] in ("query", "bars"):
            found.append((command, lines[length:]))
    return found


@pytest.mark.parametrize(("command", "shown"), shown_commands())
def test_the_readme_shows_what_its_commands_say(
    home: Path, command: list[str], shown: list[str]
) -> None:
    done = scizor(home, *command)
    said = {" ".join(line.split()) for line in (done.stdout + done.stderr).splitlines()}
    assert shown
    assert [line for line in shown if " ".join(line.split()) not in said] == []


def test_every_daily_row_of_the_artefact_is_stored(home: Path) -> None:
    # 12,154 data rows in bokeh_sampledata 2026.1 stocks.csv.gz.
    sql = "SELECT count(*) FROM market_data_bars WHERE timeframe='1d' AND source<>'simulated'"
    assert answer(home, sql) == ["12154"]


def test_the_fall_of_apple_is_stored_as_it_was_traded(home: Path) -> None:
    # Nasdaq: AAPL closed at 53.50 on 2000-09-28 and at 25.75 on 2000-09-29, with no split.
    sql = (
        "SELECT close, round((100 * return_raw)::numeric, 1) FROM marts.daily_bars "
        "WHERE symbol = 'AAPL' AND session_date = '2000-09-29'"
    )
    assert answer(home, sql) == ["25.75,-51.9"]


def test_bitcoin_volume_adds_up_to_that_of_its_trades(home: Path) -> None:
    sql = "SELECT round(sum(volume)::numeric, 8), sum(trade_count) FROM crypto.bars_1m"
    assert answer(home, sql) == ["15.02983915,284"]


def test_every_broken_row_of_the_test_files_is_in_quarantine(home: Path) -> None:
    sql = (
        "SELECT origin, row_number FROM quality.quarantine "
        "WHERE reason <> 'outside every session of XNYS' ORDER BY 1"
    )
    assert answer(home, sql) == [
        "MSFT_T5_with_added_indice.csv,2",
        "RAND_T5_fails_on_high_low.csv,1",
        "f_AZN.L_H1_fails_on_vol_dtype.csv,1",
        "f_MSFT_H1_fails_on_no_data.csv,1",
    ]


def test_the_asx_portfolio_is_there_and_marked_as_simulated(home: Path) -> None:
    sql = "SELECT count(DISTINCT symbol), min(source), max(source) FROM asx.bars_5m"
    assert answer(home, sql) == ["18,simulated,simulated"]


def test_a_second_demo_changes_no_row(home: Path) -> None:
    before = [answer(home, _HASHES.format(table)) for table in _TABLES]

    assert scizor(home, "demo", timeout=600, chain_asx=None).returncode == 0

    assert [answer(home, _HASHES.format(table)) for table in _TABLES] == before
