"""Files of symbols: what they may look like, and what is said of bad lines."""

import pytest

from scizor_cli.watchlist import describe_change, find_duplicates, parse_watchlist
from scizor_core.errors import InvalidInputError
from scizor_core.instruments import WatchlistEntry


def parse(text: str) -> list[WatchlistEntry]:
    parsed = parse_watchlist(text, "asx", "default")
    assert parsed.problems == []
    return [entry for _, entry in parsed.entries]


def test_a_full_header_fills_every_field() -> None:
    text = (
        "symbol,market,priority,collect_1min,collect_5min,active,notes,name\n"
        'aapl,us,1,yes,no,FALSE,"big, red",tech\n'
    )
    assert parse(text) == [WatchlistEntry("us", "AAPL", 1, True, False, False, "big, red", "tech")]


def test_a_plain_list_of_symbols_needs_no_header() -> None:
    assert parse("cba\n\n# banks\nBHP\n") == [
        WatchlistEntry("asx", "CBA"),
        WatchlistEntry("asx", "BHP"),
    ]


def test_a_header_with_symbol_alone_takes_the_defaults() -> None:
    assert parse("symbol\nCBA\n") == [WatchlistEntry("asx", "CBA", 2, False, True, True)]


def test_tier_1_collects_minutes_unless_the_file_says_otherwise() -> None:
    entries = parse("symbol,tier,collect_1m\nCBA,1,\nBHP,1,no\nRIO,2,\n")
    assert [entry.collect_1min for entry in entries] == [True, False, False]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        pytest.param("C!A,asx,1,,", "'C!A' is not a symbol of market 'asx'", id="symbol"),
        pytest.param("CBA,mars,1,,", "There is no market 'mars'", id="market"),
        pytest.param("CBA,asx,9,,", "Tier 9", id="tier"),
        pytest.param("CBA,asx,high,,", "'high' is not a tier", id="tier text"),
        pytest.param("CBA,asx,1,maybe,", "neither true nor false", id="boolean"),
        pytest.param(",asx,1,,", "has no symbol", id="no symbol"),
        pytest.param("CBA,asx,1,,,x,y", "7 cells where the header has 5", id="cells"),
    ],
)
def test_a_bad_line_is_told_with_its_number(row: str, reason: str) -> None:
    text = f"symbol,market,priority,collect_1min,notes\nBHP,asx,1,,\n{row}\n"
    parsed = parse_watchlist(text, "asx", "default")
    assert [line for line, _ in parsed.problems] == [3]
    assert reason in parsed.problems[0][1]


def test_every_bad_line_is_told() -> None:
    parsed = parse_watchlist("symbol\nA!\nCBA\nB!\n", "asx", "default")
    assert [line for line, _ in parsed.problems] == [2, 4]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("", "no symbol in it", id="empty"),
        pytest.param("symbol\n", "no symbol", id="header only"),
        pytest.param("symbol,colour\nCBA,red\n", "does not know colour", id="unknown column"),
        pytest.param("symbol,tier,priority\nCBA,1,1\n", "has priority twice", id="column twice"),
        pytest.param("CBA,asx\nBHP,asx\n", "no column 'symbol'", id="no header"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(text: str, reason: str) -> None:
    with pytest.raises(InvalidInputError, match=reason):
        parse_watchlist(text, "asx", "default")


def test_a_symbol_given_twice_is_a_problem_of_the_second_line() -> None:
    entries = [(2, WatchlistEntry("asx", "CBA")), (3, WatchlistEntry("asx", "CBA"))]
    assert find_duplicates(entries, set()) == [(3, "CBA (asx) is given twice.")]


def test_a_change_names_old_and_new_values_only_where_they_differ() -> None:
    old = WatchlistEntry("asx", "CBA", 2, collect_1min=False)
    new = WatchlistEntry("asx", "CBA", 1, collect_1min=True)
    assert describe_change(old, new) == "tier 2 -> 1, collect_1min no -> yes"
