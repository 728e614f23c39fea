from dataclasses import replace

import pytest

from scizor_sidecar.feeds.base import FeedLimits
from scizor_sidecar.subscriptions import Candidate, FeedOffer, Line, assign

CBA = Candidate("asx", "CBA", 1, 1, depth=True)
BHP = Candidate("asx", "BHP", 2, 2, depth=True)
XYZ = Candidate("asx", "XYZ", 3, 3)
IBKR = FeedOffer("ibkr", FeedLimits(streams=2, depths=1))
BACKUP = FeedOffer("backup", FeedLimits())


def feeds(lines: list[Line]) -> dict[str, str | None]:
    return {each.candidate.symbol: each.feed for each in lines}


def test_the_better_tiers_get_the_lines_there_are():
    lines = assign([XYZ, BHP, CBA], {"asx": [IBKR]})

    assert feeds(lines) == {"CBA": "ibkr", "BHP": "ibkr", "XYZ": None}


def test_who_gets_no_line_is_told_why():
    (line,) = [each for each in assign([XYZ, BHP, CBA], {"asx": [IBKR]}) if each.feed is None]

    assert line.why == "ibkr: all of its 2 lines are taken by better tiers"


def test_what_the_first_feed_has_no_line_for_goes_to_the_next():
    lines = assign([XYZ, BHP, CBA], {"asx": [IBKR, BACKUP]})

    assert feeds(lines)["XYZ"] == "backup"


def test_order_books_go_to_the_better_tiers_as_far_as_they_reach():
    lines = assign([BHP, CBA], {"asx": [IBKR]})

    assert {each.candidate.symbol: each.candidate.depth for each in lines} == {
        "CBA": True,
        "BHP": False,
    }


def test_who_gets_no_order_book_is_told_why():
    lines = assign([BHP, CBA, XYZ], {"asx": [IBKR, BACKUP]})
    alone = assign([CBA], {"asx": [BACKUP]})

    assert {each.candidate.symbol: each.no_book for each in lines} == {
        "CBA": "",
        "BHP": "ibkr: all of its 1 order books are taken",
        "XYZ": "",
    }
    assert [each.no_book for each in alone] == ["backup: has no order books"]


def test_what_a_provider_does_not_serve_goes_to_the_next():
    refusing = replace(IBKR, refused={("asx", "CBA"): "no subscription to its data"})

    assert feeds(assign([CBA], {"asx": [refusing, BACKUP]})) == {"CBA": "backup"}


def test_a_feed_that_is_refused_itself_takes_nothing():
    broken = replace(IBKR, problem="the key is wrong")

    (line,) = assign([CBA], {"asx": [broken]})

    assert (line.feed, line.why) == (None, "ibkr: the key is wrong")


def test_a_market_without_a_feed_is_told_so():
    (line,) = assign([CBA], {"asx": []})

    assert line.why == "no feed of market asx is configured"


def test_a_feed_of_two_markets_shares_its_lines_between_them():
    apple = Candidate("us", "AAPL", 4, 1)
    one = FeedOffer("alpaca", FeedLimits(streams=1))
    bitcoin = Candidate("crypto", "BTC/USD", 5, 2)

    lines = assign([bitcoin, apple], {"us": [one], "crypto": [one]})

    assert feeds(lines) == {"AAPL": "alpaca", "BTC/USD": None}


@pytest.mark.parametrize("order", [[CBA, BHP, XYZ], [XYZ, BHP, CBA]], ids=["best first", "last"])
def test_the_order_in_which_they_are_given_does_not_matter(order: list[Candidate]):
    assert assign(order, {"asx": [IBKR]}) == assign([BHP, XYZ, CBA], {"asx": [IBKR]})
