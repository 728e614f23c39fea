"""Instruments and watchlist entries as records."""

from datetime import date

import pytest

from scizor_core.errors import InvalidInputError, UnknownMarketError
from scizor_core.instruments import Instrument, WatchlistEntry

APT = Instrument(
    1, "asx", "APT", listed_from=date(2017, 6, 29), delisted_on=date(2022, 1, 19), successor="Block"
)


@pytest.mark.parametrize(
    ("first", "last", "absence"),
    [
        (date(2022, 1, 20), date(2022, 1, 31), "delisted: last traded on 2022-01-19; Block"),
        (date(2022, 1, 19), date(2022, 1, 31), None),
        (date(2017, 1, 1), date(2017, 6, 28), "not yet listed: first traded on 2017-06-29"),
        (date(2017, 1, 1), date(2017, 6, 29), None),
        (date(2020, 1, 1), date(2020, 1, 1), None),
    ],
    ids=["after", "its last day", "before", "its first day", "while listed"],
)
def test_absence_is_told_with_its_reason(first: date, last: date, absence: str | None) -> None:
    assert APT.absence_on(first, last) == absence


def test_an_instrument_without_dates_is_never_absent() -> None:
    assert Instrument(2, "asx", "CBA").absence_on(date(1990, 1, 1), date(1990, 1, 1)) is None


def test_an_entry_is_checked_into_its_canonical_spelling() -> None:
    entry = WatchlistEntry(" ASX ", " cba", 1, notes=" n ", name=" mine ").checked()
    assert (entry.market, entry.symbol, entry.notes, entry.name) == ("asx", "CBA", "n", "mine")


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        (WatchlistEntry("asx", "CBA", 4), "Tier 4 of CBA does not exist"),
        (WatchlistEntry("asx", "C"), "'C' is not a symbol of market 'asx'"),
        (WatchlistEntry("asx", "CBA", name=" "), "The watchlist of CBA needs a name"),
    ],
    ids=["tier", "symbol", "name"],
)
def test_an_entry_that_cannot_be_is_refused(entry: WatchlistEntry, sentence: str) -> None:
    with pytest.raises(InvalidInputError, match=sentence):
        entry.checked()


def test_an_entry_of_an_unknown_market_is_refused() -> None:
    with pytest.raises(UnknownMarketError, match="There is no market 'lse'"):
        WatchlistEntry("lse", "VOD").checked()
