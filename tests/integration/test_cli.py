"""The commands against a real database, in this process."""

import csv
import io
import json
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from scizor_cli import main
from scizor_core.alerts import Severity
from scizor_core.markets import Timeframe
from scizor_core.sessions import get_calendar
from scizor_resources.platform import Platform

# A Tuesday in Sydney's daylight saving time: open 23:00 UTC the day before, close 05:00 UTC.
SESSION = date(2021, 12, 7)

Store = Callable[..., None]

# Importing dagster-dbt and its like warns of what they themselves have not moved on from.
LIBRARIES_OF_DAGSTER = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def run(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main.app, [str(each) for each in arguments])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def store(platform: Platform) -> Store:
    """Write plain bars: 10 to open, 11 to close, a cent more per bar."""

    def write(
        symbol: str = "CBA",
        market: str = "asx",
        timeframe: Timeframe = "5m",
        source: str = "tape/test",
        session: date = SESSION,
    ) -> None:
        instrument, _ = platform.reference.ensure(market, symbol)
        ts = get_calendar(market).expected(session, timeframe)
        rise = pd.Series(range(len(ts))) / 100
        platform.warehouse.write_bars(
            pd.DataFrame(
                {
                    "instrument_id": instrument.instrument_id,
                    "timeframe": pd.Series(timeframe, index=rise.index, dtype="str"),
                    "ts": ts,
                    "session_date": pd.Series(
                        pd.Timestamp(session), index=rise.index, dtype="datetime64[us]"
                    ),
                    "open": 10 + rise,
                    "high": 12 + rise,
                    "low": 9 + rise,
                    "close": 11 + rise,
                    "volume": 100.0,
                    "vwap": float("nan"),
                    "trade_count": pd.Series(pd.NA, index=rise.index, dtype="Int64"),
                    "adj_close": float("nan"),
                    "source": pd.Series(source, index=rise.index, dtype="str"),
                    "is_final": True,
                }
            )
        )

    return write


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


# --- watchlist ----------------------------------------------------------------------------------


def test_the_seeded_watchlist_is_listed_with_the_symbol_that_left(platform: Platform) -> None:
    entries = json.loads(run("watchlist", "list", "--json").stdout)
    assert len(entries) == 18
    (apt,) = [each for each in entries if each["symbol"] == "APT"]
    assert apt["delisted_on"] == "2022-01-19"
    assert "delisted 2022-01-19" in run("watchlist", "list").stdout


def test_an_added_symbol_is_created_and_listed(platform: Platform) -> None:
    result = run("watchlist", "add", "aapl", "--market", "us", "--tier", "1", "--notes", "fruit")
    assert "Added AAPL (us, tier 1, 1m+5m+1d)" in result.stdout
    assert "new to the platform" in result.stdout
    entry = platform.reference.get_entry("us", "AAPL")
    assert (entry.priority, entry.collect_1min, entry.notes) == (1, True, "fruit")


def test_adding_what_is_there_is_refused_and_adds_nothing_else(platform: Platform) -> None:
    result = run("watchlist", "add", "PLS", "CBA", code=1)
    assert "CBA (asx) is in watchlist 'default' already" in result.stderr
    assert len(platform.reference.watchlist()) == 18


@pytest.mark.parametrize(
    "arguments",
    [
        ["add", "PLS"],
        ["remove", "CBA"],
        ["set", "CBA", "--tier", "3", "--no-collect-1m", "--inactive"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_dry_run_tells_and_changes_nothing(arguments: list[str], platform: Platform) -> None:
    before = platform.reference.watchlist()
    assert "Would" in run("watchlist", *arguments, "--dry-run").stdout
    assert platform.reference.watchlist() == before
    assert "Would" not in run("watchlist", *arguments).stdout
    assert platform.reference.watchlist() != before


def test_set_changes_what_is_named_and_nothing_else(platform: Platform) -> None:
    before = platform.reference.get_entry("asx", "CBA")
    assert "tier 1 -> 3" in run("watchlist", "set", "CBA", "--tier", "3").stdout
    after = platform.reference.get_entry("asx", "CBA")
    assert after.priority == 3
    assert (after.collect_1min, after.notes) == (before.collect_1min, before.notes)


def test_removing_keeps_the_instrument(platform: Platform) -> None:
    run("watchlist", "remove", "ZIP")
    assert [each.symbol for each in platform.reference.instruments("asx", ["ZIP"])] == ["ZIP"]
    result = run("watchlist", "remove", "ZIP", code=1)
    assert "is not in watchlist 'default'" in result.stderr


def test_an_exported_watchlist_comes_back_the_same(platform: Platform, tmp_path: Path) -> None:
    run("watchlist", "set", "CBA", "--notes", 'a "quoted", note', "--inactive")
    before = platform.reference.watchlist()
    file = tmp_path / "list.csv"
    run("watchlist", "export", str(file))
    assert file.read_text() == run("watchlist", "export").stdout
    for entry in before:
        platform.reference.remove(entry.market, entry.symbol, entry.name)
    run("watchlist", "import", str(file))
    assert platform.reference.watchlist() == before


def test_one_bad_line_keeps_the_whole_file_out(platform: Platform, tmp_path: Path) -> None:
    file = tmp_path / "list.csv"
    file.write_text("symbol,market\nPLS,asx\nC!A,asx\nCBA,asx\nAAPL,moon\n")
    result = run("watchlist", "import", str(file), code=1)
    assert "line 3: 'C!A' is not a symbol" in result.stderr
    assert "line 4: CBA (asx) is in watchlist 'default' already" in result.stderr
    assert "line 5: There is no market 'moon'" in result.stderr
    assert "nothing was changed" in result.stderr
    assert len(platform.reference.watchlist()) == 18


def test_existing_symbols_can_be_left_out_of_an_import(platform: Platform, tmp_path: Path) -> None:
    file = tmp_path / "list.csv"
    file.write_text("CBA\nPLS\n")
    assert "Left out 1" in run("watchlist", "import", str(file), "--skip-existing").stdout
    assert len(platform.reference.watchlist()) == 19


# --- query --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM watchlist",
        "WITH gone AS (DELETE FROM watchlist RETURNING symbol) SELECT * FROM gone",
        "SELECT 1; DELETE FROM watchlist",
        "SELECT 1; COMMIT; DELETE FROM watchlist",
        "DO $$ BEGIN SET LOCAL transaction_read_only = off; DELETE FROM watchlist; END $$",
        "COPY (SELECT 1) TO '/dev/null'",
    ],
)
def test_a_query_cannot_change_anything(sql: str, platform: Platform) -> None:
    run("query", sql, code=1)
    assert len(platform.reference.watchlist()) == 18


def test_a_query_cannot_make_itself_writable(platform: Platform) -> None:
    result = run("query", "SELECT set_config('transaction_read_only', 'off', true)", code=1)
    assert "must be set before any query" in result.stderr


def test_an_error_says_what_postgresql_says_and_where(platform: Platform) -> None:
    result = run("query", "SELECT symbol,\n  colour FROM symbols", code=1)
    assert result.stderr == (
        'PostgreSQL refused the query: column "colour" does not exist (line 2, column 3).\n'
    )


def test_a_query_that_takes_too_long_is_stopped(platform: Platform) -> None:
    result = run("query", "SELECT pg_sleep(30)", "--timeout", "0.2", code=1)
    assert "stopped after 0.2 s" in result.stderr


def test_json_has_numbers_as_numbers_and_times_in_utc(store: Store) -> None:
    store()
    sql = "SELECT ts, close, volume::numeric AS volume, vwap FROM asx.bars_5m ORDER BY ts LIMIT 1"
    assert json.loads(run("query", sql, "--format", "json").stdout) == [
        {"ts": "2021-12-06T23:00:00Z", "close": 11.0, "volume": 100, "vwap": None}
    ]


def test_csv_of_no_rows_is_the_header(platform: Platform) -> None:
    assert run("query", "SELECT 1 AS a WHERE false", "--format", "csv").stdout == "a\n"


def test_parquet_keeps_the_types(store: Store, tmp_path: Path) -> None:
    store()
    file = tmp_path / "bars.parquet"
    sql = "SELECT symbol, ts, session_date, close, trade_count, is_final FROM asx.bars_5m"
    run("query", sql, "--format", "parquet", "--output", str(file))
    table = pq.read_table(file)
    assert table.num_rows == 72
    assert [str(field.type) for field in table.schema] == [
        "string",
        "timestamp[us, tz=UTC]",
        "date32[day]",
        "double",
        "int64",
        "bool",
    ]


def test_a_long_table_is_cut_and_says_so(store: Store) -> None:
    store()
    result = run("query", "SELECT ts FROM asx.bars_5m", "--max-rows", "10")
    assert len(result.stdout.splitlines()) == 11
    assert "10 rows (there are more" in result.stderr


def test_simulated_rows_are_counted(store: Store) -> None:
    store(source="simulated")
    result = run("query", "SELECT ts, source FROM asx.bars_5m LIMIT 5")
    assert "5 of these 5 rows are simulated" in result.stderr


def test_an_answer_without_source_from_a_simulating_platform_says_so(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCIZOR_CHAIN_ASX", "tape,simulated")
    assert "this platform simulates market asx" in run("query", "SELECT 1 AS a").stderr


# --- bars ---------------------------------------------------------------------------------------


def test_bars_of_a_session_are_asked_for_by_its_exchange_date(store: Store) -> None:
    store()
    rows = rows_of(
        run(
            *("bars", "cba", "-t", "5m", "--start", "2021-12-07", "--end", "2021-12-08"),
            *("--format", "csv"),
        ).stdout
    )
    assert len(rows) == 72
    assert rows[0]["ts"] == "2021-12-06T23:00:00Z"
    assert rows[0]["session_date"] == "2021-12-07"


def test_the_table_shows_the_source_and_tells_simulated_bars(store: Store) -> None:
    store(source="simulated")
    result = run("bars", "CBA", "-t", "5m", "--last", "2")
    assert result.stdout.splitlines()[1].rstrip().endswith("simulated")
    assert "2 of these 2 bars are simulated" in result.stderr


def test_a_code_of_two_markets_asks_for_the_market(platform: Platform) -> None:
    platform.reference.ensure("us", "CSL")
    result = run("bars", "CSL", code=1)
    assert "several markets: asx, us" in result.stderr
    assert "--market asx" in result.stderr


def test_an_unknown_code_suggests_a_close_one(platform: Platform) -> None:
    assert "Did you mean CBA (asx)" in run("bars", "CBAA", code=1).stderr


def test_a_delisted_symbol_says_when_it_left(platform: Platform) -> None:
    result = run("bars", "APT", "--start", "2023-01-01")
    assert "APT is delisted: it last traded on 2022-01-19" in result.stderr
    assert "acquired by Block" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        pytest.param(
            ["CBA", "--start", "2021-12-11", "--end", "2021-12-13"], "no session", id="weekend"
        ),
        pytest.param(
            ["CBA", "--start", "2021-12-07"], "scizor materialize asx/bars_1d", id="never"
        ),
        pytest.param(["RIO", "-t", "1m"], "not collected", id="not collected"),
        pytest.param(["COL", "--end", "2018-01-01"], "not yet listed", id="not listed"),
        pytest.param(["CBA", "--start", "2090-01-01"], "in the future", id="future"),
    ],
)
def test_no_bars_is_explained(arguments: list[str], reason: str, platform: Platform) -> None:
    assert reason in run("bars", *arguments).stderr


def test_what_completeness_has_measured_is_told(platform: Platform) -> None:
    platform.completeness_meter("asx").measure(SESSION, SESSION + timedelta(days=1), daily=True)
    result = run("bars", "CBA", "--start", "2021-12-07", "--end", "2021-12-08")
    assert "not yet fetched (1 sessions)" in result.stderr


def test_a_time_without_a_zone_is_refused(platform: Platform) -> None:
    assert "has no time zone" in run("bars", "CBA", "--start", "2021-12-07T10:00", code=1).stderr


def test_a_png_and_a_terminal_chart_are_drawn(store: Store, tmp_path: Path) -> None:
    store(source="simulated")
    file = tmp_path / "cba.png"
    result = run("bars", "CBA", "-t", "5m", "--last", "20", "--plot", "--png", str(file))
    assert file.read_bytes().startswith(b"\x89PNG")
    assert "SIMULATED DATA - CBA (asx) 5m, 20 bars, AUD" in result.stdout


# --- status and schema --------------------------------------------------------------------------


def test_status_tells_schema_watchlist_and_freshness(store: Store) -> None:
    store()
    store(timeframe="1d", source="simulated")
    found = json.loads(CliRunner().invoke(main.app, ["status", "--json"]).stdout)
    assert found["schema_found"] == found["schema_needed"]
    assert sum(row["symbols"] for row in found["watchlist"]) == 18
    assert [
        (row["timeframe"], row["bars"], row["simulated_share"]) for row in found["freshness"]
    ] == [("5m", 72, 0.0), ("1d", 1, 1.0)]
    assert found["runs"] == []


def test_status_tells_the_newest_alerts(platform: Platform) -> None:
    title = "CBA is not known to yahoo any more."
    platform.alerts.raise_("listing_doubtful", Severity.MEDIUM, title, ["asx", "CBA"])
    assert title in run("status").stdout
    assert json.loads(run("status", "--json").stdout)["alerts"][0]["severity"] == "medium"


def test_a_schema_that_is_current_has_nothing_to_upgrade(platform: Platform) -> None:
    assert "nothing to do" in run("db", "upgrade").stdout


def test_an_old_schema_is_told_by_status_and_mended_by_upgrade(platform: Platform) -> None:
    with platform.warehouse.connect() as connection:
        names = connection.execute(
            "SELECT string_agg(quote_ident(nspname), ', ') AS names FROM pg_namespace "
            "WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'"
        ).fetchone()
        assert names is not None
        connection.execute(f"DROP SCHEMA {names['names']} CASCADE")
        connection.execute("CREATE SCHEMA public")
    assert "revision none" in run("db", "current").stdout
    assert "to revision" in run("db", "upgrade").stdout
    assert len(platform.reference.watchlist()) == 18


# --- import -------------------------------------------------------------------------------------


def daily_file(directory: Path) -> Path:
    file = directory / "pls.csv"
    file.write_text(
        "Date,Open,High,Low,Close,Volume\n"
        "2021-12-06,10,12,9,11,100\n"
        "2021-12-07,11,10,9,11,100\n"
        "2021-12-08,12,14,11,13,abc\n"
        "2021-12-11,12,14,11,13,100\n"
    )
    return file


def import_daily(file: Path, *more: str, code: int = 0) -> Result:
    return run(
        *("import", str(file), "--market", "asx", "--symbol", "pls", "--timeframe", "1d"),
        *more,
        code=code,
    )


def test_an_import_tells_good_rows_new_symbol_and_refused_rows(
    platform: Platform, tmp_path: Path
) -> None:
    rejects = tmp_path / "rejects.csv"
    result = import_daily(daily_file(tmp_path), "--no-materialize", "--rejects", str(rejects))
    assert "1 good 1d bars of PLS (asx)" in result.stdout
    assert "PLS is new: it was created in market asx" in result.stdout
    assert "row 2: high is below open" in result.stderr
    assert "row 4: XASX has no session on that date" in result.stderr
    assert [row["row_number"] for row in rows_of(rejects.read_text())] == ["2", "3", "4"]
    assert rows_of(rejects.read_text())[1]["Volume"] == "abc"
    with platform.warehouse.connect() as connection:
        count = connection.execute(
            "SELECT count(*) AS n FROM quality.quarantine WHERE symbol = 'PLS'"
        ).fetchone()
    assert count == {"n": 3}


def test_a_dry_run_of_an_import_keeps_nothing(platform: Platform, tmp_path: Path) -> None:
    assert "nothing was kept" in import_daily(daily_file(tmp_path), "--dry-run").stdout
    assert platform.reference.instruments("asx", ["PLS"]) == []
    assert not platform.settings.tape_directory.exists()


def test_a_file_without_a_good_row_is_an_error(platform: Platform, tmp_path: Path) -> None:
    file = tmp_path / "bad.csv"
    file.write_text("Date,Open,High,Low,Close,Volume\n2021-12-11,12,14,11,13,100\n")
    result = import_daily(file, code=1)
    assert "No row of bad.csv can be used" in result.stderr
    assert platform.reference.instruments("asx", ["PLS"]) == []


@LIBRARIES_OF_DAGSTER
def test_an_import_fills_the_tables_and_a_second_one_changes_nothing(
    platform: Platform, tmp_path: Path
) -> None:
    ts = get_calendar("asx").expected(SESSION, "1m")
    bars = pd.DataFrame({"ts": ts, "open": 10.0, "high": 12.0, "low": 9.0, "close": 11.0})
    file = tmp_path / "pls.parquet"
    bars.assign(volume=1.0).to_parquet(file)
    arguments = ("import", str(file), "--market", "asx", "--symbol", "PLS", "--timeframe", "1m")
    first = run(*arguments)
    assert "Stored bars of PLS in these sessions: 1m 360, 5m 72, 15m 24." in first.stdout
    with platform.warehouse.connect() as connection:
        before = connection.execute("SELECT max(ingested_at) AS at FROM market.bars").fetchone()
    assert "nothing changed" in run(*arguments).stdout
    with platform.warehouse.connect() as connection:
        after = connection.execute("SELECT max(ingested_at) AS at FROM market.bars").fetchone()
    assert before == after
    (latest, *_) = json.loads(CliRunner().invoke(main.app, ["status", "--json"]).stdout)["runs"]
    assert latest["status"] == "SUCCESS"
    assert latest["partition"] == "2021-12-07"
    assert "asx/bars_1" in latest["what"]


@LIBRARIES_OF_DAGSTER
def test_an_import_that_was_cut_off_is_taken_up_again(platform: Platform, tmp_path: Path) -> None:
    file = daily_file(tmp_path)
    import_daily(file, "--no-materialize")
    result = import_daily(file)
    assert "1 of its sessions are not filled" in result.stdout
    assert "Stored bars of PLS in these sessions: 1d 1." in result.stdout
