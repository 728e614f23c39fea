"""Which instruments a text is about: each rule of the module docstring, and laws over any text."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scizor_core.ambiguous_words import AMBIGUOUS_WORDS
from scizor_core.errors import UnknownMarketError
from scizor_core.mentions import (
    CERTAINTY,
    READ_LIMIT,
    Hint,
    Mention,
    MentionFinder,
    Mentions,
    Nameable,
)

WATCHED = (
    Nameable(1, "asx", "CBA", "Commonwealth Bank of Australia", ("CommBank",)),
    Nameable(2, "asx", "BHP", "BHP Group"),
    Nameable(3, "asx", "CSL", "CSL"),
    Nameable(4, "asx", "WOW", "Woolworths Group"),
    Nameable(5, "asx", "WBC", "Westpac Banking Corporation"),
    Nameable(6, "asx", "ANZ", "ANZ Group Holdings"),
    Nameable(7, "asx", "RIO", "Rio Tinto"),
    Nameable(8, "us", "RIO", "Rio Tinto plc"),
    Nameable(9, "asx", "ZIP", "Zip Co"),
    Nameable(10, "asx", "ALL", "Aristocrat Leisure Limited"),
    Nameable(11, "asx", "XYZ", "Block, Inc."),
    Nameable(12, "us", "XYZ", "Xylon Zinc"),
    Nameable(13, "asx", "SOL", "Washington H. Soul Pattinson and Company Limited"),
    Nameable(14, "asx", "360", "Life360"),
    Nameable(20, "us", "AAPL", "Apple Inc."),
    Nameable(21, "us", "BRK.B", "Berkshire Hathaway Inc. Class B"),
    Nameable(22, "us", "TGT", "Target Corporation"),
    Nameable(23, "us", "BBY", "Best Buy Co., Inc."),
    Nameable(24, "us", "MCD", "McDonald's Corporation"),
    Nameable(25, "us", "JNJ", "Johnson & Johnson"),
    Nameable(26, "us", "EBAY", "eBay Inc."),
    Nameable(27, "us", "T", "AT&T Inc.", ("AT&T",)),
    Nameable(28, "us", "GOOG", "Alphabet Inc. Class C"),
    Nameable(29, "us", "GOOGL", "Alphabet Inc. Class A"),
    Nameable(30, "us", "GAP", "Gap Inc."),
    Nameable(40, "crypto", "BTC/USD", "Bitcoin", ("bitcoin",)),
    Nameable(41, "crypto", "BTC/AUD"),
    Nameable(42, "crypto", "ETH/USD", "Ethereum"),
    Nameable(43, "crypto", "SOL/USD", "Solana"),
    Nameable(44, "crypto", "ONE/USD", "Harmony"),
    Nameable(45, "crypto", "AAVE/USD", "Aave"),
)
FINDER = MentionFinder(WATCHED)
IDS = frozenset(one.instrument_id for one in WATCHED)


def found(text: str, *hints: Hint, market: str | None = None) -> dict[int, str]:
    """Return instrument_id -> how."""
    return {one.instrument_id: one.how for one in FINDER.find(text, hints, market).found}


# --- Codes that the source attached -----------------------------------------------------------


def test_hint_with_a_market_is_that_instrument() -> None:
    assert found("", Hint("RIO", "us")) == {8: "provider"}


def test_hint_of_a_coin_is_every_pair_of_it() -> None:
    assert found("", Hint("BTC", "crypto")) == {40: "provider", 41: "provider"}


def test_hint_without_a_market_has_to_be_the_only_one() -> None:
    assert found("", Hint("aapl")) == {20: "provider"}
    assert FINDER.find("", [Hint("SOL")]) == Mentions((), ("SOL",))


def test_hint_without_a_market_is_settled_by_the_market_of_the_feed() -> None:
    assert found("", Hint("SOL"), market="crypto") == {43: "provider"}


def test_hint_without_a_market_is_settled_by_a_name_in_the_text() -> None:
    assert found("Solana is up", Hint("SOL")) == {43: "provider"}


def test_market_of_a_hint_goes_before_the_market_of_the_feed() -> None:
    assert found("", Hint("SOL", "asx"), market="crypto") == {13: "provider"}


@pytest.mark.parametrize(
    ("code", "expected"), [("ASX:BHP", 2), ("BHP.AX", 2), ("BRK-B", 21), ("ETH-USD", 42)]
)
def test_hint_may_come_in_the_spelling_of_its_provider(code: str, expected: int) -> None:
    assert found("", Hint(code)) == {expected: "provider"}


@pytest.mark.parametrize("hint", [Hint("RIO", "lse"), Hint("NOPE"), Hint(""), Hint("AAPL", "asx")])
def test_hint_that_nothing_fits_is_nothing(hint: Hint) -> None:
    assert FINDER.find("", [hint]) == Mentions((), ())


# --- Codes with their exchange ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ASX:BHP up", 2),
        ("asx:bhp up", 2),
        ("Miner BHP (ASX: BHP) said", 2),
        ("Apple (NASDAQ: AAPL) said", 20),
        ("(Nasdaq: $AAPL)", 20),
        ("NYSE:BRK.B", 21),
        ("NYSE: RIO", 8),
        ("(ASX/LSE: RIO)", 7),
        ("ASX code: ZIP", 9),
        ("BHP.AX fell", 2),
        ("AAPL.O fell", 20),
        ("(ASX: ALL)", 10),
        ("ASX:360", 14),
    ],
)
def test_code_with_its_exchange_is_qualified(text: str, expected: int) -> None:
    assert found(text) == {expected: "qualified"}


@pytest.mark.parametrize("text", ["LSE: RIO", "(TSX:BHP)", "RIO.L slides", "BHP.NZ", "NYSE: CBA"])
def test_code_of_another_exchange_is_nothing(text: str) -> None:
    assert found(text) == {}


def test_headline_about_the_exchange_is_no_code() -> None:
    assert found("ASX: ALL EYES ON THE RBA") == {}


# --- Cashtags ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [("$BHP!", {2}), ("$brk.b", {21}), ("($btc)", {40, 41}), ("$ONE", {44}), ("$t", {27})],
)
def test_cashtag_counts_in_any_case_and_for_words(text: str, expected: set[int]) -> None:
    assert found(text) == dict.fromkeys(expected, "cashtag")


@pytest.mark.parametrize("text", ["$5", "$100M", "$1T", "$360", "A$360", "US$5.10", "$", "$$$"])
def test_amount_is_no_cashtag(text: str) -> None:
    assert FINDER.find(text) == Mentions((), ())


def test_cashtags_written_together_are_all_read() -> None:
    assert found("$BHP$AAPL,$CSL") == {2: "cashtag", 20: "cashtag", 3: "cashtag"}


def test_cashtag_that_two_markets_have_is_ambiguous() -> None:
    assert FINDER.find("$SOL is up") == Mentions((), ("SOL",))


@pytest.mark.parametrize(("market", "expected"), [("asx", 13), ("crypto", 43), (" ASX ", 13)])
def test_market_of_the_feed_settles_a_cashtag(market: str, expected: int) -> None:
    assert found("$SOL is up", market=market) == {expected: "cashtag"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [("$SOL after BTC/USD", 43), ("ASX:BHP and $SOL", 13), ("Ethereum, then $SOL", 43)],
)
def test_another_mention_of_its_market_settles_a_cashtag(text: str, expected: int) -> None:
    assert found(text)[expected] == "cashtag"


def test_word_that_is_a_name_settles_a_cashtag() -> None:
    assert found("Block ($XYZ) reports") == {11: "cashtag"}


def test_code_of_an_instrument_that_is_found_is_not_ambiguous() -> None:
    assert FINDER.find("NYSE:RIO or $RIO").ambiguous == ()


def test_other_class_of_a_share_is_not_the_share() -> None:
    assert found("$AAPL.B") == {}


# --- Pairs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["BTC/USD", "BTC-USD", "btc/usd", "BTC_USD", "BTCUSD."])
def test_watched_pair_is_that_instrument(text: str) -> None:
    assert found(text) == {40: "pair"}


@pytest.mark.parametrize("text", ["BTC/EUR", "BTCUSDT", "btc-usdt"])
def test_other_pair_is_the_coin(text: str) -> None:
    assert found(text) == {40: "pair", 41: "pair"}


@pytest.mark.parametrize("text", ["ADA/USD", "AUD/USD", "ADAUSDT", "oneusd"])
def test_pair_of_no_watched_coin_is_nothing(text: str) -> None:
    assert found(text) == {}


# --- Names ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Commonwealth Bank of Australia cuts", {1}),
        ("Commonwealth Bank cuts", {1}),
        ("customers of commonwealth bank", {1}),
        ("CommBank's app", {1}),
        ("Westpac's app", {5}),
        ("Westpac’s app", {5}),
        ("Woolworths Group Limited", {4}),
        ("Woolworths", {4}),
        ("CSL Limited", {3}),
        ("Washington H. Soul Pattinson", {13}),
        ("Apple, and", {20}),
        ("APPLE", {20}),
        ("Berkshire Hathaway", {21}),
        ("McDonald's sells", {24}),
        ("McDonald's's", {24}),
        ("Johnson & Johnson", {25}),
        ("johnson and johnson", {25}),
        ("AT&T's network", {27}),
        ("bitcoin or Bitcoin", {40, 41}),
        ("Alphabet rises", {28, 29}),
    ],
)
def test_name_is_found(text: str, expected: set[int]) -> None:
    assert found(text) == dict.fromkeys(expected, "name")


@pytest.mark.parametrize(
    "text",
    [
        "the Commonwealth of Australia",
        "Commonwealth. Bank",
        "Commonwealth\n\nBank",
        "an apple a day",
        "Apple pie",
        "Pineapple",
        "Applesauce",
        "at t",
        "Bitcoin Cash",
        "ethereum",
        "Washington",
    ],
)
def test_what_only_resembles_a_name_is_nothing(text: str) -> None:
    assert found(text) == {}


def test_name_may_be_spelled_as_it_was_given() -> None:
    assert found("eBay") == {26: "name"}
    assert found("ebay") == {}


def test_longest_name_wins() -> None:
    finder = MentionFinder([Nameable(1, "crypto", "BTC/USD", "Bitcoin"),
                            Nameable(2, "crypto", "BCH/USD", "Bitcoin Cash")])  # fmt: skip
    assert [one.instrument_id for one in finder.find("Bitcoin Cash").found] == [2]


@pytest.mark.parametrize("text", ["Block rises", "Target hit", "Gap closed", "Zip it", "Harmony"])
def test_name_that_is_a_word_is_nothing_alone(text: str) -> None:
    assert found(text) == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [("Block, Inc. rises", 11), ("Block Inc", 11), ("Target Corp", 22), ("Zip Co", 9)],
)
def test_name_that_is_a_word_counts_with_its_legal_form(text: str, expected: int) -> None:
    assert found(text) == {expected: "name"}


def test_name_of_several_words_that_are_all_common_needs_capitals() -> None:
    assert found("Best Buy rises") == {23: "name"}
    assert found("the best buy of all") == {}


def test_name_of_two_listings_is_both() -> None:
    assert found("Rio Tinto said") == {7: "name", 8: "name"}


def test_name_of_two_listings_is_narrowed_by_market_or_by_exchange() -> None:
    assert found("Rio Tinto said", market="us") == {8: "name"}
    assert found("Rio Tinto (ASX: RIO) said") == {7: "qualified"}


def test_name_that_is_a_coins_code_counts_as_it_is_spelled() -> None:
    assert found("Aave") == {45: "name"}
    assert found("AAVE") == {45: "ticker"}


# --- Tickers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["BHP up", "BHP's mine", "(BHP)", "BHP, then", "#BHP", "BHP-led"])
def test_bare_code_is_a_ticker(text: str) -> None:
    assert found(text) == {2: "ticker"}


@pytest.mark.parametrize("text", ["bhp up", "Bhp", "BHPs", "XBHP", "_BHP", "BHP2"])
def test_code_in_another_word_or_case_is_nothing(text: str) -> None:
    assert found(text) == {}


def test_tickers_may_be_divided_by_strokes() -> None:
    assert found("BHP/CSL") == {2: "ticker", 3: "ticker"}


@pytest.mark.parametrize("text", ["BRK.B", "BRK-B", "BRK/B"])
def test_share_class_is_part_of_the_ticker(text: str) -> None:
    assert found(f"{text} is up") == {21: "ticker"}


@pytest.mark.parametrize("code", ["ZIP", "ALL", "ONE", "GAP", "WOW"])
def test_word_is_no_ticker_but_reported(code: str) -> None:
    assert FINDER.find(f"buy {code} now") == Mentions((), (code,))


def test_code_of_one_letter_is_neither_a_ticker_nor_reported() -> None:
    assert FINDER.find("Model T sells") == Mentions((), ())


def test_code_of_two_letters_is_no_ticker_but_reported() -> None:
    finder = MentionFinder([Nameable(1, "us", "QX", "Quexon")])
    assert finder.find("buy QX now") == Mentions((), ("QX",))


def test_text_in_capitals_has_no_tickers() -> None:
    assert FINDER.find("BHP SHARES CRASH AFTER PROFIT WARNING") == Mentions((), ("BHP",))


def test_list_of_tickers_is_not_a_text_in_capitals() -> None:
    assert found("BHP CSL CBA AAPL") == {2: "ticker", 3: "ticker", 1: "ticker", 20: "ticker"}


def test_market_of_the_feed_decides_only_between_markets() -> None:
    assert found("SOL and AAPL", market="asx") == {13: "ticker", 20: "ticker"}


def test_words_can_be_replaced() -> None:
    finder = MentionFinder(
        [Nameable(1, "asx", "BHP"), Nameable(2, "asx", "ZIP")], frozenset({"BHP"})
    )
    assert [one.instrument_id for one in finder.find("BHP or ZIP").found] == [2]


# --- All of them ------------------------------------------------------------------------------


def test_most_certain_way_is_kept_and_order_is_by_id() -> None:
    text = "AAPL: Apple ($AAPL, NASDAQ: AAPL) and BHP, $BHP"
    assert FINDER.find(text).found == (
        Mention(2, "cashtag", CERTAINTY["cashtag"]),
        Mention(20, "qualified", CERTAINTY["qualified"]),
    )


def test_certainties_fall_in_the_order_of_the_ways() -> None:
    ways = ["provider", "qualified", "cashtag", "pair", "name", "ticker"]
    assert list(CERTAINTY) == ways
    assert all(1 >= first > then > 0 for first, then in pairwise(CERTAINTY.values()))


@pytest.mark.parametrize(
    "text",
    [
        "https://example.com/BHP?x=$CSL",
        "see www.example.com/ASX:BHP",
        "mail Apple@example.com",
        "apple.com/CSL",
        "[post](https://example.com/$BHP)",
    ],
)
def test_addresses_are_not_read(text: str) -> None:
    assert FINDER.find(text) == Mentions((), ())


@pytest.mark.parametrize(
    "text", ["🚀$BHP🚀", "\u202b$BHP\u202c مرحبا", "买入$BHP了", "＄BHP", "\u200e$BHP\u200f"]
)
def test_code_is_found_in_any_script(text: str) -> None:
    assert found(text) == {2: "cashtag"}


def test_accent_may_be_written_as_one_character_or_two() -> None:
    finder = MentionFinder([Nameable(1, "us", "NSRGY", "Nestl\u00e9 SA")])
    assert len(finder.find("Nestle\u0301 rises").found) == 1


def test_text_beyond_the_limit_is_not_read() -> None:
    assert found("x " * (READ_LIMIT // 2) + "$BHP") == {}
    assert found("$BHP " + "x " * 500_000) == {2: "cashtag"}


def test_instrument_of_an_unknown_market_is_refused() -> None:
    with pytest.raises(UnknownMarketError):
        MentionFinder([Nameable(1, "moon", "CHE")])


def test_ambiguous_words_are_in_capitals() -> None:
    assert all(
        word.isalpha() and word == word.upper() and len(word) > 1 for word in AMBIGUOUS_WORDS
    )
    assert {"ONE", "GAS", "CAT", "NEAR", "CEO", "ETF", "YOLO", "ASX", "USD"} <= AMBIGUOUS_WORDS


PIECES = st.sampled_from(
    ["$", ":", "ASX", "NYSE: ", ".AX", "/", "-", "USD", " ", "\n", "'s", "https://", "@", "🚀"]
    + [one.symbol for one in WATCHED]
    + [one.name for one in WATCHED]
)
TEXTS = st.one_of(
    st.text(), st.lists(st.one_of(PIECES, st.text(max_size=3)), max_size=25).map("".join)
)
HINTS = st.lists(st.builds(Hint, st.one_of(PIECES, st.text()), st.none() | st.text()), max_size=3)
MARKETS = st.sampled_from([None, "asx", "us", "crypto", "nowhere"])


@given(TEXTS, HINTS, MARKETS)
def test_any_text_has_known_instruments_once_and_in_order(
    text: str, hints: list[Hint], market: str | None
) -> None:
    mentions = FINDER.find(text, hints, market)
    ids = [one.instrument_id for one in mentions.found]
    assert IDS.issuperset(ids)
    assert ids == sorted(set(ids))
    assert list(mentions.ambiguous) == sorted(set(mentions.ambiguous))
    assert all(one.certainty == CERTAINTY[one.how] for one in mentions.found)


@given(TEXTS, MARKETS)
def test_instrument_that_the_text_does_not_name_changes_nothing(
    text: str, market: str | None
) -> None:
    unrelated = (
        Nameable(90, "asx", "QJX", "Qujaxo Limited", ("Jaxoqu",)),
        Nameable(91, "us", "QJXW.B", "Wuqajo Zinc Corporation"),
        Nameable(92, "crypto", "QXJ/USD", "Xujaqo"),
    )
    widened = MentionFinder((*WATCHED, *unrelated))
    assert widened.find(text, (), market) == FINDER.find(text, (), market)


@given(TEXTS, MARKETS)
def test_order_of_the_instruments_does_not_matter(text: str, market: str | None) -> None:
    assert MentionFinder(WATCHED[::-1]).find(text, (), market) == FINDER.find(text, (), market)


@given(st.sampled_from([one for one in WATCHED if one.market != "crypto"]), MARKETS)
def test_every_stock_is_found_by_its_exchange(instrument: Nameable, market: str | None) -> None:
    exchange = {"asx": "ASX", "us": "NYSE"}[instrument.market]
    assert found(f"({exchange}: {instrument.symbol})", market=market) == {
        instrument.instrument_id: "qualified"
    }
