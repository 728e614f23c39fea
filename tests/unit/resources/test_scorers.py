"""The scorer that the settings ask for, and a model behind the same two members."""

from typing import Any

import pytest

from scizor_core.errors import ConfigError
from scizor_core.sentiment.scorer import LexiconScorer, Sentiment
from scizor_resources.scorers import ModelScorer, make_scorer
from scizor_resources.settings import Settings


def answer(positive: float, neutral: float, negative: float) -> list[dict[str, Any]]:
    """Return what a text classifier with three labels says of one text."""
    return [
        {"label": "positive", "score": positive},
        {"label": "neutral", "score": neutral},
        {"label": "NEGATIVE", "score": negative},
    ]


class Classifier:
    """Answers with what it was given; remembers what it was asked."""

    def __init__(self, *answers: list[dict[str, Any]]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def __call__(self, texts: list[str]) -> list[list[dict[str, Any]]]:
        self.asked += texts
        return list(self.answers)


def test_without_a_model_texts_are_scored_by_the_lexicon() -> None:
    assert isinstance(make_scorer(Settings()), LexiconScorer)


def test_a_model_that_is_not_installed_says_what_to_install() -> None:
    with pytest.raises(ConfigError, match=r"pip install -e '\.\[model\]'"):
        make_scorer(Settings(sentiment_model="ProsusAI/finbert"))


@pytest.mark.parametrize(
    ("given", "sentiment"),
    [
        (answer(0.75, 0.25, 0.0), Sentiment(0.75, "positive", 0.75)),
        (answer(0.125, 0.25, 0.625), Sentiment(-0.5, "negative", 0.625)),
        (answer(0.25, 0.5, 0.25), Sentiment(0.0, "neutral", 0.5)),
    ],
)
def test_the_score_is_the_chance_of_good_less_that_of_bad(
    given: list[dict[str, Any]], sentiment: Sentiment
) -> None:
    assert ModelScorer("m", Classifier(given)).score(["Profit rises"]) == [sentiment]


def test_an_empty_text_is_neutral_and_not_asked_about() -> None:
    classifier = Classifier(answer(1.0, 0.0, 0.0))
    found = ModelScorer("m", classifier).score(["", "Up", "  "])
    assert [each.label for each in found] == ["neutral", "positive", "neutral"]
    assert classifier.asked == ["Up"]


def test_the_name_of_the_model_stands_beside_its_scores() -> None:
    assert ModelScorer("ProsusAI/finbert", Classifier()).name == "model:ProsusAI/finbert"
