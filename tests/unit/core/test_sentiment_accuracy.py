"""The lexicon scorer against 300 texts that were written and labelled without looking at it.

The companies' news in `tests/data/headlines.csv` is invented. Each line has the label and the
score in [-1, 1] that a careful reader gives for the effect on the company or coin named.
"""

from pathlib import Path

import pandas as pd
import pytest

from scizor_core.sentiment.scorer import LexiconScorer

HEADLINES = Path(__file__).parents[2] / "data" / "headlines.csv"
LABELS = ("negative", "neutral", "positive")


@pytest.fixture(scope="module")
def judged() -> pd.DataFrame:
    """The labelled set, with what the scorer says of each text beside what the reader said."""
    frame = pd.read_csv(HEADLINES, encoding="utf-8")
    results = LexiconScorer().score(list(frame["text"]))
    return frame.assign(
        given_score=[result.score for result in results],
        given_label=[result.label for result in results],
    )


def test_labelled_set_is_sound() -> None:
    frame = pd.read_csv(HEADLINES, encoding="utf-8")
    assert len(frame) == 300
    assert frame["text"].is_unique
    sign = {"negative": -1, "neutral": 0, "positive": 1}
    assert ((frame["score"] > 0).astype(int) - (frame["score"] < 0).astype(int)).tolist() == [
        sign[label] for label in frame["label"]
    ]


def test_scorer_beats_the_majority_class(judged: pd.DataFrame) -> None:
    accuracy = (judged["label"] == judged["given_label"]).mean()
    assert accuracy > judged["label"].value_counts(normalize=True).max()


def test_scores_are_in_the_order_a_reader_gives(judged: pd.DataFrame) -> None:
    # Spearman's coefficient is Pearson's over average ranks.
    correlation = judged["score"].rank().corr(judged["given_score"].rank())
    assert correlation > 0.3


@pytest.mark.parametrize("label", LABELS)
def test_label_is_recalled_better_than_by_chance(judged: pd.DataFrame, label: str) -> None:
    # A guesser that gives this label as often as the scorer does would recall that share of it.
    recall = (judged.loc[judged["label"] == label, "given_label"] == label).mean()
    assert recall > max(1 / len(LABELS), (judged["given_label"] == label).mean())


def test_ten_thousand_headlines_score_as_they_do_one_by_one(judged: pd.DataFrame) -> None:
    texts = [f"{judged['text'][number % len(judged)]} ({number})" for number in range(10_000)]
    scorer = LexiconScorer()
    together = [(result.score, result.label) for result in scorer.score(texts)]
    alone = [(result.score, result.label) for text in texts for result in scorer.score([text])]
    assert together == alone
