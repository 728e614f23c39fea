"""Markets as data: names, symbols, timeframes."""

import pytest

from scizor_core.errors import InvalidInputError, UnknownMarketError
from scizor_core.markets import MARKETS, check_timeframe, get_market


@pytest.mark.parametrize(
    ("market", "given", "symbol"),
    [
        ("asx", " cba ", "CBA"),
        ("asx", "A2M", "A2M"),
        ("asx", "360", "360"),
        ("asx", "CBAPD", "CBAPD"),
        ("us", "aapl", "AAPL"),
        ("us", "brk.b", "BRK.B"),
        ("us", "F", "F"),
        ("crypto", "btc/usd", "BTC/USD"),
        ("crypto", "1INCH/USDT", "1INCH/USDT"),
    ],
)
def test_a_symbol_is_given_back_in_capitals(market: str, given: str, symbol: str) -> None:
    assert get_market(market).check_symbol(given) == symbol


@pytest.mark.parametrize(
    ("market", "given"),
    [
        ("asx", "CB"),
        ("asx", "CBA.AX"),
        ("asx", ""),
        ("us", "BTC/USD"),
        ("us", "A B"),
        ("us", "1A"),
        ("crypto", "BTCUSD"),
        ("crypto", "BTC/"),
        ("asx", "CBA\nBHP"),
    ],
)
def test_what_cannot_be_a_symbol_is_refused_with_an_example(market: str, given: str) -> None:
    with pytest.raises(InvalidInputError, match=f"is not a symbol of market '{market}'") as caught:
        get_market(market).check_symbol(given)
    assert get_market(market).example in str(caught.value)


@pytest.mark.parametrize("market", list(MARKETS.values()), ids=lambda market: market.name)
def test_the_examples_of_a_market_are_symbols_of_it(market: object) -> None:
    for example in market.example.split(" or "):  # type: ignore[attr-defined]
        assert market.check_symbol(example) == example  # type: ignore[attr-defined]


def test_a_market_is_found_in_any_case() -> None:
    assert get_market(" ASX ").name == "asx"


def test_an_unknown_market_is_answered_with_those_there_are() -> None:
    with pytest.raises(UnknownMarketError, match="'lse'. Known markets: asx, us, crypto"):
        get_market("lse")


def test_a_market_goes_by_the_name_it_is_filed_under() -> None:
    assert all(name == market.name for name, market in MARKETS.items())


def test_timeframes_are_told_from_what_is_none() -> None:
    assert [check_timeframe(each) for each in ("1m", "5m", "15m", "1d")] == [
        "1m",
        "5m",
        "15m",
        "1d",
    ]
    with pytest.raises(InvalidInputError, match="'2m' is not a timeframe. Use one of 1m, 5m, 15m"):
        check_timeframe("2m")
