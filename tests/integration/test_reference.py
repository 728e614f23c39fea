"""Symbols, listings and the watchlist in PostgreSQL."""

from concurrent.futures import ThreadPoolExecutor
from datetime import date

import pytest

from scizor_core.errors import InvalidInputError, UnknownMarketError, UnknownSymbolError
from scizor_core.instruments import WatchlistEntry
from scizor_resources.platform import Platform
from scizor_resources.stores.reference import ReferenceStore
from scizor_resources.stores.warehouse import Warehouse

from ..conftest import Database
from .helpers import execute, query

TIERS = {
    1: {"CBA", "BHP", "CSL", "WBC", "ANZ", "NAB", "WOW", "WES"},
    2: {"RIO", "MQG", "FMG", "TLS", "TCL", "COL"},
    3: {"XRO", "WTC", "APT", "ZIP"},
}


def everything(platform: Platform) -> list[list[dict]]:
    tables = ("symbols", "listings", "watchlist")
    return [query(platform, f"SELECT * FROM public.{name} ORDER BY 1, 2, 3") for name in tables]


def symbols_of(entries: list[WatchlistEntry]) -> set[str]:
    return {entry.symbol for entry in entries}


def test_the_portfolio_comes_in_three_tiers(platform: Platform) -> None:
    entries = platform.reference.watchlist()
    assert {tier: symbols_of([e for e in entries if e.priority == tier]) for tier in TIERS} == TIERS
    assert symbols_of([entry for entry in entries if entry.collect_1min]) == TIERS[1]
    assert all(entry.collect_5min and entry.active for entry in entries)


def test_seeding_twice_changes_nothing(platform: Platform) -> None:
    before = everything(platform)
    assert platform.reference.seed() == 0
    assert everything(platform) == before


def test_seeding_leaves_what_users_have_changed(platform: Platform) -> None:
    platform.reference.remove("asx", "ZIP")
    platform.reference.change("asx", "CBA", active=False)
    before = everything(platform)
    platform.reference.seed()
    assert everything(platform) == before


def test_two_processes_that_seed_at_once_seed_once(database: Database) -> None:
    stores = [ReferenceStore(Warehouse(database.libpq_url)) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        created = list(pool.map(lambda store: store.seed(), stores))
    assert sorted(created) == [0, 0, 18]
    assert len(stores[0].instruments("asx")) == 18
    assert len(stores[0].watchlist()) == 18


def test_afterpay_has_left_and_says_what_became_of_it(platform: Platform) -> None:
    (apt,) = platform.reference.instruments("asx", ["APT"])
    assert apt.delisted_on == date(2022, 1, 19)
    assert apt.successor == "acquired by Block, Inc. (ASX: XYZ, formerly SQ2)"
    assert query(platform, "SELECT status FROM public.symbols WHERE symbol = 'APT'") == [
        {"status": "delisted"}
    ]
    assert query(
        platform,
        "SELECT valid_to FROM public.listings AS l JOIN public.symbols AS s USING (instrument_id) "
        "WHERE s.symbol = 'APT'",
    ) == [{"valid_to": date(2022, 1, 19)}]


def test_a_listing_date_is_known_where_the_seed_file_has_one(platform: Platform) -> None:
    coles, cba = platform.reference.resolve("asx", ["COL", "CBA"])[::-1]
    assert coles.symbol == "COL"
    assert (coles.listed_from, cba.listed_from) == (date(2018, 11, 21), None)


def test_adding_makes_the_instrument(platform: Platform) -> None:
    added = platform.reference.add([WatchlistEntry("US", " aapl", 1, True)])
    assert added == [WatchlistEntry("us", "AAPL", 1, True)]
    (instrument,) = platform.reference.instruments("us")
    assert instrument.symbol == "AAPL"
    assert platform.reference.watchlist("us") == added


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ([WatchlistEntry("asx", "GMG"), WatchlistEntry("asx", "cba")], "CBA .asx. is in watchlist"),
        ([WatchlistEntry("asx", "GMG"), WatchlistEntry("asx", "gmg ")], "GMG .asx. is given twice"),
        ([WatchlistEntry("asx", "GMG"), WatchlistEntry("asx", "GMG!")], "is not a symbol"),
        ([WatchlistEntry("asx", "GMG"), WatchlistEntry("asx", "STO", 9)], "Tier 9 of STO"),
    ],
    ids=["stored", "given twice", "no symbol", "no tier"],
)
def test_entries_are_added_all_or_none(
    platform: Platform, entries: list[WatchlistEntry], sentence: str
) -> None:
    before = everything(platform)
    with pytest.raises(InvalidInputError, match=sentence):
        platform.reference.add(entries)
    assert everything(platform) == before


def test_one_symbol_may_stand_in_two_lists(platform: Platform) -> None:
    platform.reference.add([WatchlistEntry("asx", "CBA", name="mine")])
    assert {e.name for e in platform.reference.watchlist("asx") if e.symbol == "CBA"} == {
        "default",
        "mine",
    }


def test_changing_changes_what_was_named_and_nothing_else(platform: Platform) -> None:
    before = platform.reference.get_entry("asx", "TLS")
    after = platform.reference.change("asx", "tls", priority=1, collect_1min=True)
    assert (after.priority, after.collect_1min) == (1, True)
    assert (after.collect_5min, after.active, after.notes) == (
        before.collect_5min,
        before.active,
        before.notes,
    )
    assert platform.reference.get_entry("asx", "TLS") == after


def test_an_impossible_change_changes_nothing(platform: Platform) -> None:
    before = everything(platform)
    with pytest.raises(InvalidInputError, match="Tier 7 of TLS"):
        platform.reference.change("asx", "TLS", priority=7)
    assert everything(platform) == before


def test_removing_leaves_the_instrument(platform: Platform) -> None:
    platform.reference.remove("asx", "TLS")
    assert "TLS" not in symbols_of(platform.reference.watchlist())
    assert platform.reference.resolve("asx", ["TLS"])[0].symbol == "TLS"


@pytest.mark.parametrize("verb", ["change", "remove", "get_entry"])
def test_what_is_not_on_the_list_is_named(platform: Platform, verb: str) -> None:
    with pytest.raises(UnknownSymbolError, match=r"GMG \(asx\) is not in watchlist 'default'"):
        getattr(platform.reference, verb)("asx", "GMG")


def test_unknown_symbols_are_named_together_with_what_to_do(platform: Platform) -> None:
    with pytest.raises(UnknownSymbolError, match="has no GMG, STO here. Add it with `scizor watch"):
        platform.reference.resolve("asx", ["CBA", "sto", "gmg"])


def test_an_unknown_market_is_named(platform: Platform) -> None:
    with pytest.raises(UnknownMarketError, match="There is no market 'lse'"):
        platform.reference.ensure("lse", "VOD")


@pytest.mark.parametrize("spelling", ["GMG", "gmg", " Gmg "])
def test_a_row_added_by_sql_becomes_an_instrument_and_can_be_changed(
    platform: Platform, spelling: str
) -> None:
    execute(platform, "INSERT INTO public.watchlist (symbol) VALUES (%s)", spelling)
    assert "GMG" in symbols_of(platform.reference.watchlist("asx", active_only=True))
    instrument, created = platform.reference.ensure("asx", spelling)
    assert (instrument.symbol, created) == ("GMG", True)
    assert platform.reference.change("asx", "GMG", priority=3).priority == 3
    platform.reference.remove("asx", "GMG")
    assert "GMG" not in symbols_of(platform.reference.watchlist())


def test_a_known_symbol_is_not_made_again(platform: Platform) -> None:
    first, _ = platform.reference.ensure("crypto", "btc/usdt", "Bitcoin")
    again, created = platform.reference.ensure("crypto", "BTC/USDT")
    assert (again, created) == (first, False)
    assert query(platform, "SELECT currency FROM public.symbols WHERE market = 'crypto'") == [
        {"currency": "USDT"}
    ]


def test_a_symbol_made_by_two_at_once_is_one_instrument(platform: Platform) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: platform.reference.ensure("us", "AAPL"), range(4)))
    assert len({instrument.instrument_id for instrument, _ in made}) == 1
    assert sum(created for _, created in made) == 1


def test_a_code_of_a_delisted_instrument_is_not_made_again_by_itself(platform: Platform) -> None:
    instrument, created = platform.reference.ensure("asx", "APT")
    assert (instrument.name, created) == ("Afterpay", False)
