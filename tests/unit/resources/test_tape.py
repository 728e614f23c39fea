"""The tape as a provider: what it answers from imported and from hand-listed files."""

import json
from datetime import UTC, datetime, timedelta
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from scizor_core.errors import InvalidInputError
from scizor_core.markets import Timeframe
from scizor_resources.providers.base import (
    SOURCE_BAR_COLUMNS,
    BarBatch,
    BarRequest,
    SymbolRef,
    empty_bars,
)
from scizor_resources.providers.tape import TapeSource
from scizor_resources.tape import files as tape_files
from scizor_resources.tape.importer import ImportSpec, import_file
from scizor_resources.tape.manifest import read_manifest

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
HEADER = "time,open,high,low,close,volume\n"


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def bar(time: str, close: float = 11, volume: float = 100) -> str:
    return f"{time}Z,10,12,9,{close},{volume}\n"


def put(tape: Path, name: str, text: str, **spec: Any) -> None:
    """Import a file into `tape`; by default minutes of AAPL."""
    path = tape.parent / name
    path.write_text(text)
    described = {"market": "us", "symbol": "AAPL", "timeframe": "1m", **spec}
    import_file(path, ImportSpec(**described), tape, lambda: NOW)


def put_ticks(
    tape: Path, name: str, rows: list[tuple[str, float, float, str]], **spec: Any
) -> None:
    lines = [f"{time}Z,{price},{size},{trade_id}\n" for time, price, size, trade_id in rows]
    described = {"market": "crypto", "symbol": "BTC/USD", "timeframe": "tick", **spec}
    put(tape, name, "time,price,size,id\n" + "".join(lines), **described)


def ask(
    tape: Path,
    start: str,
    end: str,
    *symbols: str,
    market: str = "us",
    timeframe: Timeframe = "1m",
) -> BarBatch:
    refs = tuple(SymbolRef(n, symbol) for n, symbol in enumerate(symbols or ("AAPL",), start=1))
    request = BarRequest(market, timeframe, at(start), at(end), refs)
    return TapeSource(tape, lambda: NOW).fetch_bars(request)


def ask_btc(tape: Path, start: str, end: str, timeframe: Timeframe = "1m") -> BarBatch:
    return ask(tape, start, end, "BTC/USD", market="crypto", timeframe=timeframe)


@pytest.fixture
def tape(tmp_path: Path) -> Path:
    return tmp_path / "tape"


def write_manifest(tape: Path, *entries: Any) -> None:
    tape.mkdir(exist_ok=True)
    (tape / "manifest.json").write_text(json.dumps(list(entries)))


# Bars ---------------------------------------------------------------------------------------------


def test_bars_come_in_the_agreed_shape_with_their_label(tape: Path) -> None:
    put(tape, "a.csv", HEADER + bar("2026-03-02T15:00"), source_label="mine")
    batch = ask(tape, "2026-03-02", "2026-03-03")
    assert tuple(batch.bars.columns) == SOURCE_BAR_COLUMNS
    assert batch.bars.dtypes.to_dict() == empty_bars().dtypes.to_dict()
    assert batch.bars[["source", "is_final"]].to_numpy().tolist() == [["tape/mine", True]]
    assert batch.covered == []


def test_the_window_is_half_open(tape: Path) -> None:
    put(tape, "a.csv", HEADER + "".join(bar(f"2026-03-02T15:0{n}") for n in range(4)))
    batch = ask(tape, "2026-03-02T15:01", "2026-03-02T15:03")
    assert batch.bars["ts"].dt.minute.tolist() == [1, 2]


def test_the_later_entry_wins_where_two_overlap(tape: Path) -> None:
    put(tape, "a.csv", HEADER + bar("2026-03-02T15:00", 11) + bar("2026-03-02T15:01", 11))
    put(tape, "b.csv", HEADER + bar("2026-03-02T15:01", 10) + bar("2026-03-02T15:02", 10))
    batch = ask(tape, "2026-03-02", "2026-03-03")
    assert batch.bars["close"].tolist() == [11.0, 10.0, 10.0]


def test_a_large_file_is_read_by_window_with_the_same_answer(
    tape: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tape_files, "CACHED_ROWS", 2)
    put(tape, "a.csv", HEADER + "".join(bar(f"2026-03-02T15:0{n}") for n in range(4)))
    batch = ask(tape, "2026-03-02T15:01", "2026-03-02T15:03")
    assert batch.bars["ts"].dt.minute.tolist() == [1, 2]
    assert TapeSource(tape).symbols("us", "1m", at("2026-03-02T15:01"), at("2026-03-02T15:02"))


def test_symbols_without_bars_are_told_why(tape: Path) -> None:
    put(tape, "a.csv", HEADER + bar("2026-03-02T15:00"))
    batch = ask(tape, "2026-03-03", "2026-03-04", "AAPL", "IBM")
    assert batch.empty_reasons == {
        "AAPL": "the tape has nothing for AAPL 1m in this window, its rows lie between "
        "2026-03-02 15:00 and 2026-03-02 15:00 UTC",
        "IBM": "the tape has nothing for IBM 1m",
    }


def test_a_directory_that_is_not_there_is_an_empty_tape(tape: Path) -> None:
    assert ask(tape, "2026-03-03", "2026-03-04").empty_reasons == {
        "AAPL": "the tape has nothing for AAPL 1m"
    }


def test_an_import_is_seen_by_a_source_that_is_already_open(tape: Path) -> None:
    source = TapeSource(tape, lambda: NOW)
    assert source.entries() == []
    put(tape, "a.csv", HEADER + bar("2026-03-02T15:00"))
    assert [entry.symbol for entry in source.entries()] == ["AAPL"]


# Trades -------------------------------------------------------------------------------------------


def test_trades_are_built_into_the_timeframe_asked_for(tape: Path) -> None:
    rows = [
        ("2026-03-02T15:01:10", 10, 1, "1"),
        ("2026-03-02T15:01:50", 12, 3, "2"),
        ("2026-03-02T15:04:00", 11, 4, "3"),
        ("2026-03-02T15:05:00", 13, 8, "4"),
    ]
    put_ticks(tape, "t.csv", rows, source_label="x")
    minutes = ask_btc(tape, "2026-03-02", "2026-03-03").bars
    assert minutes["volume"].tolist() == [4.0, 4.0, 8.0]
    assert minutes["trade_count"].tolist() == [2, 1, 1]
    assert minutes["vwap"].tolist() == [11.5, 11.0, 13.0]
    fives = ask_btc(tape, "2026-03-02", "2026-03-03", "5m").bars
    assert fives[["open", "close", "volume"]].to_numpy().tolist() == [[10, 11, 8], [13, 13, 8]]
    assert set(fives["source"]) == {"tape/x"}


def test_the_minutes_between_first_and_last_trade_are_covered(tape: Path) -> None:
    rows = [("2026-03-02T15:01:10", 10.0, 1.0, "1"), ("2026-03-02T15:04:59", 11.0, 4.0, "2")]
    put_ticks(tape, "t.csv", rows)
    batch = ask_btc(tape, "2026-03-02", "2026-03-03")
    assert batch.covered == [("BTC/USD", at("2026-03-02T15:01"), at("2026-03-02T15:05"))]
    batch = ask_btc(tape, "2026-03-02T15:02", "2026-03-02T15:03")
    assert batch.covered == [("BTC/USD", at("2026-03-02T15:02"), at("2026-03-02T15:03"))]
    assert batch.bars.empty


def test_nights_are_not_covered(tape: Path) -> None:
    rows = [("2026-03-02T20:58:00", 10.0, 1.0, "1"), ("2026-03-03T14:31:00", 11.0, 4.0, "2")]
    put_ticks(tape, "t.csv", rows, market="us", symbol="AAPL")
    covered = ask(tape, "2026-03-02", "2026-03-04").covered
    assert covered == [
        ("AAPL", at("2026-03-02T20:58"), at("2026-03-02T21:00")),
        ("AAPL", at("2026-03-03T14:30"), at("2026-03-03T14:32")),
    ]


def test_no_daily_bar_is_made_of_a_part_of_a_session(tape: Path) -> None:
    rows = [("2026-03-02T15:00:10", 10.0, 1.0, "1"), ("2026-03-02T15:29:00", 11.0, 4.0, "2")]
    put_ticks(tape, "t.csv", rows)
    batch = ask_btc(tape, "2026-03-01", "2026-04-01", "1d")
    assert batch.bars.empty
    assert batch.empty_reasons == {
        "BTC/USD": "1d: the trades of 2026-03-02 cover 00:30 of 24:00 hours; a daily bar of them "
        "would be invented"
    }


def test_trades_of_a_whole_session_make_its_daily_bar(tape: Path) -> None:
    # Sydney's session of 2 March 2026 is 23:00 to 05:00 UTC.
    rows = [("2026-03-01T23:14:00", 10.0, 1.0, "1"), ("2026-03-02T04:46:00", 11.0, 4.0, "2")]
    put_ticks(tape, "t.csv", rows, market="asx", symbol="CBA")
    batch = ask(tape, "2026-03-02", "2026-03-03", "CBA", market="asx", timeframe="1d")
    assert batch.bars[["ts", "open", "close", "volume"]].to_numpy().tolist() == [
        [pd.Timestamp("2026-03-02", tz="UTC"), 10.0, 11.0, 5.0]
    ]
    assert batch.covered == [("CBA", at("2026-03-02"), at("2026-03-03"))]


def test_trades_in_two_files_are_counted_once(tape: Path) -> None:
    first = [("2026-03-02T15:00:10", 10.0, 1.0, "1"), ("2026-03-02T15:00:20", 11.0, 2.0, "2")]
    second = [("2026-03-02T15:00:20", 11.0, 2.0, "2"), ("2026-03-02T15:00:30", 12.0, 4.0, "3")]
    put_ticks(tape, "a.csv", first)
    put_ticks(tape, "b.csv", second)
    bars = ask_btc(tape, "2026-03-02", "2026-03-03").bars
    assert bars[["volume", "trade_count"]].to_numpy().tolist() == [[7.0, 3]]


def test_between_its_ends_the_later_file_of_trades_replaces_the_earlier(tape: Path) -> None:
    put_ticks(tape, "a.csv", [(f"2026-03-02T15:00:{s}", 10.0, 1.0, "") for s in (10, 20, 30, 40)])
    put_ticks(tape, "b.csv", [(f"2026-03-02T15:00:{s}", 11.0, 8.0, "") for s in (20, 30)])
    assert ask_btc(tape, "2026-03-02", "2026-03-03").bars["volume"].tolist() == [18.0]


# Symbols ------------------------------------------------------------------------------------------


def test_symbols_are_those_with_data_in_the_window(tape: Path) -> None:
    put(tape, "a.csv", HEADER + bar("2026-03-02T15:00") + bar("2026-03-06T15:00"))
    put(tape, "b.csv", HEADER + bar("2026-03-04T15:00"), symbol="IBM")
    put_ticks(tape, "c.csv", [("2026-03-04T15:00:00", 1.0, 1.0, "1")], market="us", symbol="MSFT")
    source = TapeSource(tape, lambda: NOW)
    assert source.symbols("us", "1m", at("2026-03-04"), at("2026-03-05")) == ["IBM", "MSFT"]
    assert source.symbols("us", "1m", at("2026-03-02"), at("2026-03-03")) == ["AAPL"]
    assert source.symbols("us", "1d", at("2026-03-04"), at("2026-03-05")) == ["MSFT"]
    assert source.symbols("asx", "1m", at("2026-03-04"), at("2026-03-05")) == []


def test_entries_can_be_narrowed_to_market_and_timeframe(tape: Path) -> None:
    put(tape, "a.csv", HEADER + bar("2026-03-02T15:00"))
    put_ticks(tape, "c.csv", [("2026-03-04T15:00:00", 1.0, 1.0, "1")])
    source = TapeSource(tape, lambda: NOW)
    assert [entry.symbol for entry in source.entries()] == ["AAPL", "BTC/USD"]
    assert [entry.symbol for entry in source.entries("us")] == ["AAPL"]
    assert [entry.symbol for entry in source.entries(timeframe="5m")] == ["BTC/USD"]


# Manifests written by hand ------------------------------------------------------------------------

ENTRY = {"file": "a.csv", "market": "us", "symbol": "AAPL", "timeframe": "1m"}


def test_a_file_listed_by_hand_is_read_as_it_is(tape: Path) -> None:
    write_manifest(tape, {**ENTRY, "timezone": "America/New_York", "columns": {"ts": "When"}})
    (tape / "a.csv").write_text("When,o,h,l,c,v\n2026-03-02 10:00,10,12,9,11,5\n")
    batch = ask(tape, "2026-03-02", "2026-03-03")
    assert batch.bars["ts"].tolist() == [pd.Timestamp("2026-03-02T15:00Z")]


def test_bad_rows_of_a_file_listed_by_hand_belong_to_the_window_around_them(tape: Path) -> None:
    write_manifest(tape, ENTRY)
    lines = [bar("2026-03-02T15:00"), "?,1,1,1,1,1\n", bar("2026-03-03T15:00"), "1,2\n"]
    (tape / "a.csv").write_text(HEADER + "".join(lines))
    monday = ask(tape, "2026-03-02", "2026-03-03").rejected
    assert monday[["row_number", "reason"]].to_numpy().tolist() == [
        [2, "time is missing or cannot be read"]
    ]
    tuesday = ask(tape, "2026-03-03", "2026-03-04").rejected
    assert tuesday["reason"].tolist() == ["row has 2 fields, the header has 6"]


def test_a_changed_file_is_read_again(tape: Path) -> None:
    write_manifest(tape, ENTRY)
    (tape / "a.csv").write_text(HEADER + bar("2026-03-02T15:00"))
    assert len(ask(tape, "2026-03-02", "2026-03-03").bars) == 1
    (tape / "a.csv").write_text(HEADER + bar("2026-03-02T15:00") + bar("2026-03-02T15:01"))
    assert len(ask(tape, "2026-03-02", "2026-03-03").bars) == 2


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"market": "moon"}, "field 'market': There is no market 'moon'"),
        ({"symbol": "???"}, "field 'symbol': '\\?\\?\\?' is not a symbol"),
        ({"timeframe": "2m"}, "field 'timeframe'"),
        ({"timezone": "Mars"}, "field 'timezone': 'Mars' is not a time zone"),
        ({"format": "xlsx"}, "field 'format'"),
        ({"file": "../a.csv"}, "field 'file': must be a path inside"),
        ({"file": "/etc/passwd"}, "field 'file': must be a path inside"),
        ({"file": "b.csv"}, "field 'file': there is no file"),
        ({"colour": "red"}, "field 'colour'"),
        ({"columns": {"ts": "Nope"}}, "no column 'Nope'"),
        ({"columns": ["ts"]}, "field 'columns'"),
        ({"source_label": "a b"}, "field 'source_label'"),
        ({"sha256": "0" * 64}, "a.csv has changed"),
        ({"added_at": "2026-01-01T00:00"}, "field 'added_at'"),
    ],
)
def test_every_mistake_names_manifest_entry_and_field(
    tape: Path, change: dict[str, Any], field: str
) -> None:
    write_manifest(tape, ENTRY, {**ENTRY, **change})
    (tape / "a.csv").write_text(HEADER + bar("2026-03-02T15:00"))
    with pytest.raises(InvalidInputError, match=rf"manifest\.json, entry 2, .*{field}"):
        ask(tape, "2026-03-02", "2026-03-03")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"file": }]', r"manifest\.json is not JSON: .*line 1, column"),
        ('{"file": "a.csv"}', "has to be a list of entries"),
        ('["a.csv"]', "entry 1: has to be an object"),
        ('[{"file": "a.csv"}]', "field 'market': Field required; field 'symbol'"),
    ],
)
def test_a_manifest_that_is_none_is_refused(tape: Path, text: str, message: str) -> None:
    tape.mkdir()
    (tape / "manifest.json").write_text(text)
    with pytest.raises(InvalidInputError, match=message):
        read_manifest(tape)


def test_one_broken_file_does_not_take_the_other_symbols_away(tape: Path) -> None:
    write_manifest(tape, {**ENTRY, "file": "b.csv"}, {**ENTRY, "symbol": "IBM"})
    (tape / "a.csv").write_text(HEADER + bar("2026-03-02T15:00"))
    (tape / "b.csv").write_text("nothing,of,use\n1,2,3\n")
    batch = ask(tape, "2026-03-02", "2026-03-03", "AAPL", "IBM")
    assert batch.bars["symbol"].tolist() == ["IBM"]
    assert "entry 1, field 'file': b.csv has no column for ts" in batch.errors["AAPL"]


# Writers ------------------------------------------------------------------------------------------


def test_imports_at_the_same_time_lose_no_entry(tape: Path) -> None:
    def one(number: int) -> None:
        time = (at("2026-03-02T15:00") + timedelta(minutes=number)).isoformat()[:16]
        put(tape, f"{number}.csv", HEADER + bar(time))

    with ThreadPool(8) as pool:
        pool.map(one, range(16))
    assert len(read_manifest(tape)) == 16
    assert len(ask(tape, "2026-03-02", "2026-03-03").bars) == 16
    assert not list(tape.rglob("*.tmp"))
