"""Importing files: what is understood, what is refused, and that doing it again changes nothing."""

import csv
import gzip
import io
from datetime import UTC, date, datetime
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scizor_core.errors import InvalidInputError, UnknownMarketError
from scizor_resources.providers.base import REJECTED_COLUMNS
from scizor_resources.tape.columns import parse_columns
from scizor_resources.tape.importer import ImportReport, ImportSpec, import_file
from scizor_resources.tape.manifest import read_manifest
from scizor_resources.tape.parse import ParsedRows, RowSpec, parse_rows
from scizor_resources.tape.read import read_table

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
HEADER = "Date,Open,High,Low,Close,Volume\n"
GOOD = "10,12,9,11,100"


def load(
    tmp_path: Path, content: str | bytes, spec: ImportSpec | None = None, name: str = "data.csv"
) -> ImportReport:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return import_file(path, spec or ImportSpec("us", "AAPL", "1m"), tmp_path / "tape", lambda: NOW)


def parsed_times(times: list[str], timeframe: str = "1m", **changes: str) -> ParsedRows:
    """Parse one bar per time, crypto unless told otherwise, quoting what needs it."""
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow(["time", "open", "high", "low", "close", "volume"])
    writer.writerows([each, 10, 12, 9, 11, 100] for each in times)
    spec = {"market": "crypto", "symbol": "BTC/USD", "timeframe": timeframe, **changes}
    raw = read_table(stream.getvalue().encode(), "data.csv")
    return parse_rows(raw, RowSpec(**spec), NOW)  # type: ignore[arg-type]


def only_time(text: str, timeframe: str = "1m", **changes: str) -> str:
    return str(parsed_times([text], timeframe, **changes).good["ts"].iloc[0])


def only_reason(report: ImportReport | ParsedRows) -> str:
    assert len(report.rejected) == 1
    return str(report.rejected["reason"].iloc[0])


# Files --------------------------------------------------------------------------------------------


def test_a_plain_csv_of_daily_bars_is_imported(tmp_path: Path) -> None:
    report = load(
        tmp_path,
        HEADER + f"2026-03-02,{GOOD}\n2026-03-03,{GOOD}\n",
        ImportSpec("us", "aapl", "1d", source_label="mine"),
    )
    assert (report.good_rows, len(report.rejected), report.already_imported) == (2, 0, False)
    assert report.first_ts == datetime(2026, 3, 2, tzinfo=UTC)
    assert report.session_dates == [date(2026, 3, 2), date(2026, 3, 3)]
    assert report.entry is not None
    assert (report.entry.symbol, report.entry.source, report.entry.rows) == ("AAPL", "tape/mine", 2)


def test_session_dates_of_minutes_are_the_exchange_dates(tmp_path: Path) -> None:
    report = load(
        tmp_path, HEADER + f"2026-03-01T23:00:00Z,{GOOD}\n", ImportSpec("asx", "CBA", "1m")
    )
    assert report.session_dates == [date(2026, 3, 2)]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("\ufeff" + HEADER + f"2026-03-02T15:00Z,{GOOD}\n", id="byte order mark"),
        pytest.param(HEADER.lower() + f'"2026-03-02T15:00Z",{GOOD}\n', id="quotes, lower case"),
        pytest.param(
            "Date;Open;High;Low;Close;Volume\n2026-03-02T15:00Z;10,0;12;9;11;1.000,5\n",
            id="semicolons and decimal commas",
        ),
        pytest.param("t\to\th\tl\tc\tv\n2026-03-02T15:00Z\t10\t12\t9\t11\t1\n", id="tabs, short"),
        pytest.param(
            HEADER.replace("\n", "\r\n") + f"\r\n2026-03-02T15:00Z,{GOOD}\r\n\r\n",
            id="windows line ends and blank lines",
        ),
        pytest.param(HEADER + '2026-03-02T15:00Z,10,12,9,11,"1,234,567"\n', id="grouped digits"),
        pytest.param(
            'Time,Open,High,Low,Close,Vol,Note\n2026-03-02T15:00Z,10,12,9,11,5,"a\nb"\n',
            id="line break inside a quoted field",
        ),
    ],
)
def test_csv_dialects_are_understood(tmp_path: Path, content: str) -> None:
    report = load(tmp_path, content)
    assert report.good_rows == 1
    assert report.rejected.empty


def test_gzip_and_utf16_are_understood(tmp_path: Path) -> None:
    text = HEADER + f"2026-03-02T15:00Z,{GOOD}\n"
    assert load(tmp_path, gzip.compress(text.encode()), name="data.csv.gz").good_rows == 1
    assert load(tmp_path, text.encode("utf-16"), name="excel.csv").good_rows == 1


def test_parquet_with_typed_columns_is_understood(tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    index = pd.DatetimeIndex(["2026-03-02 10:00", "2026-03-02 10:01"], tz="America/New_York")
    pd.DataFrame(
        {"open": 10.0, "high": 12.0, "low": 9.0, "close": [11.0, None], "volume": 7}, index=index
    ).to_parquet(path)
    report = import_file(path, ImportSpec("us", "AAPL", "1m"), tmp_path / "tape", lambda: NOW)
    assert report.first_ts == datetime(2026, 3, 2, 15, 0, tzinfo=UTC)
    assert only_reason(report) == "close is missing or not a number"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "a.csv is empty"),
        ("a.csv", b" \n \n", "a.csv is empty"),
        ("a.csv", HEADER.encode(), "has a header and no rows"),
        ("a.csv", bytes(range(256)) * 20, "neither text nor Parquet"),
        ("a.parquet", b"PAR1 and then nothing", "cannot be read as Parquet"),
        ("a.csv.gz", gzip.compress(b"x" * 1_000, mtime=0)[:-20], "not a whole gzip file"),
        ("a.csv", b"Date,Open,High,Low,Close\n2026-03-02,1,1,1,1\n", "no column for volume"),
        ("a.csv", b"Close,close\n1,2\n", "two columns called 'close'"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_a_sentence(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        load(tmp_path, content, name=name)


def test_a_missing_file_and_a_directory_are_refused(tmp_path: Path) -> None:
    spec = ImportSpec("us", "AAPL", "1m")
    with pytest.raises(InvalidInputError, match="There is no file"):
        import_file(tmp_path / "none.csv", spec, tmp_path / "tape")
    with pytest.raises(InvalidInputError, match="is a directory"):
        import_file(tmp_path, spec, tmp_path / "tape")


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        (ImportSpec("moon", "AAPL", "1m"), UnknownMarketError),
        (ImportSpec("us", "not a symbol", "1m"), InvalidInputError),
        (ImportSpec("us", "AAPL", "2m"), InvalidInputError),
        (ImportSpec("us", "AAPL", "1m", timezone="Mars/Base"), InvalidInputError),
        (ImportSpec("us", "AAPL", "1m", source_label="a/b"), InvalidInputError),
        (ImportSpec("us", "AAPL", "1m", columns={"ts": "When"}), InvalidInputError),
        (ImportSpec("us", "AAPL", "1m", columns={"colour": "Date"}), InvalidInputError),
    ],
)
def test_a_description_that_cannot_be_used_is_refused(
    tmp_path: Path, spec: ImportSpec, error: type[Exception]
) -> None:
    with pytest.raises(error):
        load(tmp_path, HEADER + f"2026-03-02T15:00Z,{GOOD}\n", spec)


# Columns ------------------------------------------------------------------------------------------


def test_named_columns_override_the_guess(tmp_path: Path) -> None:
    text = HEADER.replace("Close", "Last,Close") + "2026-03-02T15:00Z,10,12,9,11,10.5,100\n"
    report = load(tmp_path, text, ImportSpec("us", "AAPL", "1m", {"close": "last"}))
    assert report.columns["close"] == "Last"
    kept = pd.read_parquet(tmp_path / "tape" / (report.entry.file if report.entry else ""))
    assert kept["close"].tolist() == [11.0]


def test_the_column_option_is_parsed() -> None:
    assert parse_columns(" ts=Date, adj_close=Adj Close ") == {
        "ts": "Date",
        "adj_close": "Adj Close",
    }


@pytest.mark.parametrize("text", ["Date", "ts=", "=Date", "ts=a,ts=b"])
def test_a_column_option_that_says_nothing_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError):
        parse_columns(text)


def test_of_two_times_the_plain_timestamp_is_read_and_the_report_says_so(tmp_path: Path) -> None:
    text = "exchange_timestamp,timestamp,price,qty\n1772460000000,1772463600000,5,1\n"
    report = load(tmp_path, text, ImportSpec("crypto", "BTC/USD", "tick"))
    assert report.columns["ts"] == "timestamp"
    assert report.notes == ("the time was read from 'timestamp', not from 'exchange_timestamp'",)


def test_a_date_and_a_time_of_day_are_read_together(tmp_path: Path) -> None:
    text = "Date,Time,Open,High,Low,Close,Volume\n2026-03-02,09:31," + GOOD + "\n"
    report = load(tmp_path, text, ImportSpec("us", "AAPL", "1m", timezone="America/New_York"))
    assert report.first_ts == datetime(2026, 3, 2, 14, 31, tzinfo=UTC)


def test_rows_of_several_symbols_are_never_taken_for_one(tmp_path: Path) -> None:
    text = "Ticker," + HEADER + f"AAPL,2026-03-02,{GOOD}\nIBM,2026-03-02,{GOOD}\n"
    with pytest.raises(InvalidInputError, match=r"several symbols .*AAPL, IBM.*symbol=Ticker"):
        load(tmp_path, text, ImportSpec("us", "AAPL", "1d"))


def test_the_symbol_column_picks_the_rows_and_keeps_their_numbers(tmp_path: Path) -> None:
    text = "Ticker," + HEADER + f"AAPL,2026-03-02,{GOOD}\nIBM,2026-03-02,x,1,1,1,1\n"
    report = load(tmp_path, text, ImportSpec("us", "IBM", "1d", {"symbol": "Ticker"}))
    assert report.good_rows == 0
    assert report.rejected["row_number"].tolist() == [2]


# Times --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-03-02T15:00:00Z", "2026-03-02 15:00:00+00:00"),
        ("2026-03-02 15:00:00+00:00", "2026-03-02 15:00:00+00:00"),
        ("2026-03-02 15:00:00 UTC", "2026-03-02 15:00:00+00:00"),
        ("2026-03-03T02:00+1100", "2026-03-02 15:00:00+00:00"),
        ("1772463600", "2026-03-02 15:00:00+00:00"),
        ("1772463600000", "2026-03-02 15:00:00+00:00"),
        ("1772463600000000", "2026-03-02 15:00:00+00:00"),
        ("1772463600000000000", "2026-03-02 15:00:00+00:00"),
        ("1772463600.0", "2026-03-02 15:00:00+00:00"),
    ],
)
def test_times_with_a_certain_instant_are_read(text: str, expected: str) -> None:
    assert only_time(text) == expected


def test_epochs_of_trades_keep_their_microseconds(tmp_path: Path) -> None:
    text = "time,price,size\n1772463600123456,5,1\n1772463600123456789,5,1\n"
    report = load(tmp_path, text, ImportSpec("crypto", "BTC/USD", "tick"))
    assert report.first_ts == report.last_ts == datetime(2026, 3, 2, 15, 0, 0, 123456, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "2026-03-02",
        "20260302",
        "2026-03-02 00:00:00-05:00",
        "2026-03-02T00:00:00Z",
        "1772409600",
        "2026-03-02T05:00:00Z",
        "1772427600000",
    ],
)
def test_a_daily_time_is_the_exchange_date_it_names(text: str) -> None:
    # 1772409600 is 2 March 00:00 UTC, 1772427600 is 2 March 00:00 in New York.
    assert only_time(text, "1d", market="us", symbol="AAPL") == "2026-03-02 00:00:00+00:00"


def test_a_daily_time_within_a_day_is_refused() -> None:
    parsed = parsed_times(["2026-03-02T16:00:00-05:00"], "1d", market="us", symbol="AAPL")
    assert only_reason(parsed) == "daily time is not a session date at 00:00 UTC"


def test_naive_times_ask_for_a_zone() -> None:
    with pytest.raises(InvalidInputError, match=r"carry no offset \(row 1.*timezone UTC"):
        parsed_times(["2026-03-02 15:00"])


def test_naive_times_are_read_in_the_given_zone() -> None:
    assert only_time("2026-07-01 09:30", timezone="America/New_York") == "2026-07-01 13:30:00+00:00"


def test_one_naive_time_among_others_is_refused_alone() -> None:
    parsed = parsed_times(["2026-03-02 15:00", "2026-03-02T15:01Z"])
    assert only_reason(parsed) == "time has no offset and no time zone was given"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("2026-03-08 02:30", "time does not exist, daylight saving time skips it"),
        ("2026-11-01 01:30", "time occurs twice, when daylight saving time ends"),
    ],
)
def test_local_times_that_are_no_single_instant_are_refused(text: str, reason: str) -> None:
    parsed = parsed_times([text, "2026-03-02 10:00"], timezone="America/New_York")
    assert only_reason(parsed) == reason


@pytest.mark.parametrize("text", ["", "soon", "03/02/2026 10:00", "2026-13-45T00:00Z", "2026-03"])
def test_times_that_cannot_be_read_are_refused(text: str) -> None:
    parsed = parsed_times([text, "2026-03-02T15:00Z"])
    assert only_reason(parsed) == "time is missing or cannot be read"


def test_rows_of_the_future_are_refused() -> None:
    assert only_reason(parsed_times(["2026-11-21T12:01Z"])) == "time lies in the future"


# Rows ---------------------------------------------------------------------------------------------


def test_every_bad_row_is_told_with_its_number_reason_and_cells(tmp_path: Path) -> None:
    rows = [
        f"2026-03-02T15:00Z,{GOOD}",
        "2026-03-02T15:01Z,10,8,9,11,100",
        "2026-03-02T15:02Z,10,12,9,11,many",
        "2026-03-02T15:03Z,10,12,9",
        f"2026-03-02T15:00Z,{GOOD}",
        f"2026-03-02T22:00Z,{GOOD}",
        "",
        f"2026-03-02T15:04Z,{GOOD}",
    ]
    report = load(tmp_path, HEADER + "\n".join(rows) + "\n")
    assert tuple(report.rejected.columns) == REJECTED_COLUMNS
    assert report.good_rows == 2
    assert dict(zip(report.rejected["row_number"], report.rejected["reason"], strict=True)) == {
        2: "high is below low; high is below open; high is below close",
        3: "volume is missing or not a number",
        4: "row has 4 fields, the header has 6",
        5: "same time as row 1",
        6: "outside every session of XNYS",
    }
    assert report.rejected["payload"].iloc[1]["Volume"] == "many"
    assert report.rejected["payload"].iloc[2] == {
        "Date": "2026-03-02T15:03Z",
        "Open": "10",
        "High": "12",
        "Low": "9",
    }
    assert set(report.rejected["origin"]) == {"data.csv"}


def test_a_refused_row_does_not_make_a_good_one_a_duplicate(tmp_path: Path) -> None:
    report = load(tmp_path, HEADER + f"2026-03-02T15:00Z,x,1,1,1,1\n2026-03-02T15:00Z,{GOOD}\n")
    assert report.good_rows == 1


def test_rows_that_are_all_bad_still_give_a_report(tmp_path: Path) -> None:
    report = load(tmp_path, HEADER + "2026-03-02T15:00Z,,,,,\n")
    assert (report.good_rows, report.first_ts, report.entry) == (0, None, None)
    assert only_reason(report).startswith("open is missing or not a number; high is missing")
    assert read_manifest(tmp_path / "tape") == ()


def test_optional_columns_may_be_blank_but_not_wrong(tmp_path: Path) -> None:
    text = HEADER.strip() + ",VWAP,Trades\n"
    rows = [f"{GOOD},10.5,3", f"{GOOD},,", f"{GOOD},nan,N/A", f"{GOOD},-1,3", f"{GOOD},10,2.5"]
    body = "\n".join(f"2026-03-02T15:0{n}Z,{row}" for n, row in enumerate(rows))
    report = load(tmp_path, text + body)
    assert report.good_rows == 3
    assert report.rejected["reason"].tolist() == [
        "vwap is not a number above zero",
        "trade_count is not a whole number",
    ]


def test_a_trade_id_seen_before_is_refused_with_the_row_it_was_seen_in(tmp_path: Path) -> None:
    text = "id,time,price,amount\n7,1772463600,5,1\n8,1772463601,5,1\n7,1772463602,6,1\n"
    report = load(tmp_path, text, ImportSpec("crypto", "BTC/USD", "tick"))
    assert report.good_rows == 2
    assert only_reason(report) == "trade id already seen in row 1"


def test_trades_without_ids_are_all_kept(tmp_path: Path) -> None:
    text = "time,price,amount\n1772463600,5,1\n1772463600,5,1\n"
    report = load(tmp_path, text, ImportSpec("crypto", "BTC/USD", "tick"))
    assert report.good_rows == 2


@given(
    cells=st.lists(
        st.tuples(*[st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]))] * 6),
        min_size=1,
        max_size=20,
    )
)
def test_whatever_stands_in_the_cells_every_row_is_good_or_told(
    cells: list[tuple[str, ...]],
) -> None:
    stream = io.StringIO()
    writer = csv.writer(stream, quoting=csv.QUOTE_ALL)
    writer.writerows([["ts", "open", "high", "low", "close", "volume"], *cells])
    raw = read_table(stream.getvalue().encode(), "data.csv")
    parsed = parse_rows(raw, RowSpec("us", "AAPL", "1m", timezone="UTC"), NOW)
    assert len(parsed.good) + len(parsed.rejected) == len(cells)


def test_many_bad_rows_keep_their_numbers(tmp_path: Path) -> None:
    minutes = pd.date_range("2026-03-02T00:00Z", periods=6_000, freq="min").strftime("%FT%RZ")
    rows = [f"{at},{GOOD}" if n % 3 else f"{at},{GOOD},more" for n, at in enumerate(minutes)]
    report = load(tmp_path, HEADER + "\n".join(rows), ImportSpec("crypto", "BTC/USD", "1m"))
    assert report.good_rows == 4_000
    assert report.rejected["row_number"].tolist() == list(range(1, 6_001, 3))


# Again --------------------------------------------------------------------------------------------


def test_the_same_content_again_changes_nothing(tmp_path: Path) -> None:
    text = HEADER + f"2026-03-02T15:00Z,{GOOD}\n2026-03-02T15:01Z,,,,,\n"
    load(tmp_path, text)
    before = (tmp_path / "tape" / "manifest.json").read_bytes()
    again = load(tmp_path, text, name="renamed.csv")
    assert (again.already_imported, again.good_rows, len(again.rejected)) == (True, 1, 1)
    assert (tmp_path / "tape" / "manifest.json").read_bytes() == before


def test_the_same_content_with_another_description_is_another_entry(tmp_path: Path) -> None:
    text = HEADER + f"2026-03-02T15:00Z,{GOOD}\n"
    load(tmp_path, text)
    load(tmp_path, text, ImportSpec("us", "IBM", "1m"))
    load(tmp_path, text, ImportSpec("us", "AAPL", "1m", source_label="other"))
    assert len(read_manifest(tmp_path / "tape")) == 3
