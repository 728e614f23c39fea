import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scizor_core.errors import InvalidInputError
from scizor_core.sentiment.lexicon import TRADING_VALENCES, VALENCES, split_phrases
from scizor_core.sentiment.lexicon_grammar import DIRECTIONS, MEASURES
from scizor_core.sentiment.lexicon_news import NEWS
from scizor_core.sentiment.lexicon_social import SOCIAL, TRADING_TALK
from scizor_core.sentiment.scorer import (
    MAX_CHARACTERS,
    NEUTRAL_BAND,
    LexiconScorer,
    Scorer,
    Sentiment,
)

SCORER = LexiconScorer()

# Any text, and texts of words that the scorer knows mixed with signs that upset parsers.
KNOWN = st.sampled_from(
    [*sorted(VALENCES), "not", "but", "despite", "fell", "rose", "profit", "loss", "from", "$ABC"]
    + ["EUR 3.2 mn", "compared to", "+5%", "9" * 400, ".", ",", "🚀", "\u202e", "\ud800", "عملة"]
)
TEXTS = st.one_of(st.text(), st.lists(KNOWN, max_size=40).map(" ".join))


def read(text: str) -> Sentiment:
    return SCORER.score([text])[0]


@pytest.mark.parametrize(
    "text",
    [
        "Quarterly figures of Acme Corp beat analysts' estimates",
        "Acme tops consensus, raises full-year guidance",
        "Acme wins a contract to build three ferries",
        "Results were better than expected in all regions",
        "Broker lifts price target on Acme",
        "Acme upgraded to buy",
        "Ether hits all-time high",
        "huge short squeeze loading",
        "this coin is going to the moon",
        "$XYZ 🚀🚀",
        "BTC chart 📈",
        "💎🙌",
        "looooong live $XYZ, mooooon soon",
    ],
)
def test_good_news_is_positive(text: str) -> None:
    assert read(text).label == "positive"


@pytest.mark.parametrize(
    "text",
    [
        "Acme issues profit warning",
        "Acme cuts guidance for the year",
        "Acme misses revenue forecasts",
        "Acme to lay off a tenth of its staff",
        "Shares of Acme plunge",
        "Lender files for bankruptcy",
        "Acme downgraded by two brokers",
        "Exchange halts withdrawals after exploit",
        "total rug pull, devs gone",
        "do not want to be the bag holder again",
        "SOL 📉",
        "$XYZ 🐻",
    ],
)
def test_bad_news_is_negative(text: str) -> None:
    assert read(text).label == "negative"


@pytest.mark.parametrize(
    "text",
    [
        "The annual general meeting takes place in Perth on 12 May 2026.",
        "Acme has 4,300 employees in eleven countries.",
        "The number of employees increased to 310 from 290.",
        "Jane Doe becomes chief financial officer on 1 March.",
        "Acme sold its 20 % stake in Beta to Gamma for an undisclosed sum.",
        "The plant makes pumps and valves for the paper industry.",
        "The results will be published at 8:30 a.m.",
        "Sales for the year were EUR 412 mn.",
        "Ten-year Treasury yields rose to 4.2 percent.",
        "The company has a long history and a short board.",
        "The token contract was deployed on mainnet on Tuesday.",
    ],
)
def test_a_plain_fact_is_neutral(text: str) -> None:
    assert read(text).label == "neutral"


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Operating profit rose", "positive"),
        ("Operating costs rose", "negative"),
        ("Net loss narrowed to $2 million", "positive"),
        ("Net loss widened to $9 million", "negative"),
        ("Unemployment falls in March", "positive"),
        ("Jobless claims climb again", "negative"),
        ("Profit fell to EUR 3.2 mn from EUR 5.1 mn", "negative"),
        ("Net debt was reduced by a third", "positive"),
        ("Acme cuts costs", "positive"),
        ("Acme cuts dividend", "negative"),
        ("Dividend cut at Acme", "negative"),
        ("A decline in costs was reported", "positive"),
        ("Profit before tax rose", "positive"),
        ("Sales growth slowed", "negative"),
        ("Inflation cools in June", "positive"),
        ("Orders above forecasts", "positive"),
        ("Margins below expectations", "negative"),
        ("Shares 0.4 pct lower at noon", "negative"),
    ],
)
def test_a_direction_takes_its_sign_from_what_it_acts_on(text: str, label: str) -> None:
    assert read(text).label == label


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Operating profit was EUR 4.0 mn compared to EUR 3.1 mn a year earlier", "positive"),
        ("Operating profit was EUR 3.1 mn compared with EUR 4.0 mn a year earlier", "negative"),
        ("Operating costs came to EUR 4.0 mn versus EUR 3.1 mn", "negative"),
        ("Pretax profit of EUR 1 mn compared to a loss of EUR 5 mn", "positive"),
        ("Pretax loss of EUR 1 mn compared to a profit of EUR 5 mn", "negative"),
        ("Profit was EUR 900 thousand against EUR 1.1 mn", "negative"),
        ("Net sales were EUR 80 mn compared to EUR 80 mn", "neutral"),
        ("The head office moved to Oslo from Bergen", "neutral"),
    ],
)
def test_two_figures_of_one_measure_are_compared(text: str, label: str) -> None:
    assert read(text).label == label


@pytest.mark.parametrize(
    "text",
    [
        "The unit is not profitable",
        "The unit is no longer profitable",
        "Acme fails to win approval",
        "This isn't bullish",
        "Profit did not rise",
    ],
)
def test_a_negation_turns_good_into_bad(text: str) -> None:
    assert read(text).score < 0


def test_a_negation_turns_bad_into_good() -> None:
    assert read("No layoffs at the plant").score > 0


def test_a_negation_ends_with_its_clause() -> None:
    assert read("This is not, they said, a robust quarter, yet robust").score > 0


def test_not_only_is_no_negation() -> None:
    assert read("Not only profitable").score == read("profitable").score


def test_intensifiers_and_dampeners_order_the_scores() -> None:
    slightly, plainly, sharply = SCORER.score(
        ["Profit rose slightly", "Profit rose", "Profit rose sharply"]
    )
    assert 0 < slightly.score < plainly.score < sharply.score


def test_the_clause_after_but_counts_more() -> None:
    assert read("Sales rose but profit fell").score < 0 < read("Profit fell but sales rose").score


@pytest.mark.parametrize(
    "text",
    ["Despite weak demand, profit rose", "Profit rose despite weak demand"],
)
def test_what_follows_despite_counts_less(text: str) -> None:
    assert read(text).label == "positive"


def test_a_signed_percentage_counts() -> None:
    assert read("$XYZ +4.5%").score > 0 > read("$XYZ -4.5%").score


def test_trading_talk_counts_only_in_a_post() -> None:
    assert read("long and adding $XYZ").label == "positive"
    assert read("a long story").score == 0


def test_repeating_a_phrase_adds_less_each_time() -> None:
    one, two, nine = SCORER.score(["bullish", "bullish bullish", "bullish " * 9])
    assert two.score - one.score > 0
    assert nine.score < 3 * one.score


@pytest.mark.parametrize("text", ["", "   ", "\n", "...", "\ufe0f"], ids=repr)
def test_a_text_without_words_is_neutral_with_no_confidence(text: str) -> None:
    assert read(text) == Sentiment(0.0, "neutral", 0.0)


def test_text_in_another_script_says_nothing() -> None:
    assert read("ارتفعت أسعار الأسهم اليوم") == Sentiment(0.0, "neutral", 0.0)


def test_an_emoji_in_right_to_left_text_counts() -> None:
    assert read("السهم 🚀").label == "positive"


def test_only_the_first_characters_of_a_long_text_are_read() -> None:
    filler = "word " * (MAX_CHARACTERS // 5)
    assert read(filler + "profit warning").score == 0
    assert read("profit warning " + filler * 200).label == "negative"


@pytest.mark.parametrize(
    "piece", ["but ", "vs ", ".", "9", "profit ", "not ", "$A ", "a'", "🚀", "fell "], ids=repr
)
def test_a_megabyte_of_one_thing_is_scored(piece: str) -> None:
    body = piece * (1_000_000 // len(piece))
    assert -1 <= read(body).score <= 1


def test_links_and_user_names_are_not_read() -> None:
    assert read("https://example.org/profit-warning @bullish www.crash.example").score == 0


def test_confidence_grows_with_the_evidence() -> None:
    assert read("Profit rose and margins improved").confidence > read("Profit rose").confidence


def test_confidence_falls_where_both_sides_have_evidence() -> None:
    assert read("Profit rose, shares plunged").confidence < read("Shares plunged").confidence


def test_the_default_scorer_has_its_documented_name() -> None:
    scorer: Scorer = SCORER
    assert scorer.name == "lexicon-1"


def test_another_lexicon_replaces_the_words() -> None:
    scorer = LexiconScorer({"purple cow": 2.0})
    assert [found.label for found in scorer.score(["Purple cow!", "profit warning"])] == [
        "positive",
        "neutral",
    ]


def test_another_lexicon_wins_over_the_grammar() -> None:
    assert LexiconScorer({"rose": -2.0}).score(["profit rose"])[0].score < 0


def test_another_lexicon_never_has_the_default_name() -> None:
    one, other = LexiconScorer({"gold": 1.0}), LexiconScorer({"gold": 2.0})
    assert len({SCORER.name, one.name, other.name}) == 3
    assert LexiconScorer({"gold": 1.0}).name == one.name
    assert LexiconScorer({"gold": 1.0}, name="mine-3").name == "mine-3"


@pytest.mark.parametrize("lexicon", [{"": 1.0}, {" - ": 1.0}, {"gold": math.nan}], ids=repr)
def test_a_useless_lexicon_entry_is_refused(lexicon: dict[str, float]) -> None:
    with pytest.raises(InvalidInputError, match="valence"):
        LexiconScorer(lexicon)


@pytest.mark.parametrize(
    "groups",
    [(*NEWS, *SOCIAL), TRADING_TALK, DIRECTIONS, MEASURES],
    ids=["words", "trading talk", "directions", "measures"],
)
def test_no_phrase_is_listed_twice(groups: tuple[tuple[object, str], ...]) -> None:
    phrases = [phrase for _, text in groups for phrase in split_phrases(text)]
    assert sorted(phrases) == sorted(set(phrases))


def test_valences_stay_on_their_scale() -> None:
    assert all(abs(valence) <= 3 for valence in (*VALENCES.values(), *TRADING_VALENCES.values()))


def test_every_listed_phrase_with_a_clear_valence_gets_its_label() -> None:
    clear = {phrase: valence for phrase, valence in VALENCES.items() if abs(valence) >= 1}
    wrong = [
        phrase
        for phrase, found in zip(clear, SCORER.score(list(clear)), strict=True)
        if found.label != ("positive" if clear[phrase] > 0 else "negative")
    ]
    assert wrong == []


@given(TEXTS)
def test_any_text_has_a_score_in_range_and_a_label_that_agrees(text: str) -> None:
    found = read(text)
    assert -1 <= found.score <= 1
    assert 0 <= found.confidence <= 1
    if abs(found.score) < NEUTRAL_BAND:
        assert found.label == "neutral"
    else:
        assert found.label == ("positive" if found.score > 0 else "negative")


@settings(max_examples=50)
@given(st.lists(TEXTS, max_size=8), st.randoms(use_true_random=False))
def test_a_score_depends_on_its_text_only(texts: list[str], chance: random.Random) -> None:
    shuffled = chance.sample(texts, len(texts))
    expected = dict(zip(texts, SCORER.score(texts), strict=True))
    assert SCORER.score(shuffled) == [expected[text] for text in shuffled]
