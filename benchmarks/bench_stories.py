"""Measure what happens with texts: sentiment, instruments, which items are one story.

    python -m benchmarks.run stories

The texts are the labelled headlines of the tests, each with a number of its own behind it. Peer of
the scorer: VADER (`pip install vaderSentiment`), in the same process on the same texts; without
it the column stays empty.
"""

import csv
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.common import Figure, load_average
from scizor_core.mentions import MentionFinder, Nameable
from scizor_core.same_story import StoryItem, group
from scizor_core.sentiment.scorer import LexiconScorer

HEADLINES = Path(__file__).parent.parent / "tests" / "data" / "headlines.csv"
SINCE = datetime(2026, 11, 18, tzinfo=UTC)


def texts(count: int) -> list[str]:
    """Return so many headlines, no two of them equal."""
    with HEADLINES.open(encoding="utf-8") as file:
        given = [row["text"] for row in csv.DictReader(file)]
    return [f"{given[n % len(given)]} ({n})" for n in range(count)]


def instruments(count: int) -> list[Nameable]:
    """Return so many instruments with codes of four letters and invented names."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    codes = (a + b + c + "Q" for a in letters for b in letters for c in letters)
    return [
        Nameable(number, "us", code, f"{code.title()}ton Industries")
        for number, code in zip(range(1, count + 1), codes, strict=False)
    ]


def measure(count: int = 10_000, runs: int = 3) -> list[Figure]:
    """Return texts per second of each step, the best of the runs."""
    given = texts(count)
    scorer, finder = LexiconScorer(), MentionFinder(instruments(10_000))
    items = [
        StoryItem(("bench", str(n)), "news", SINCE + timedelta(seconds=8 * n), text)
        for n, text in enumerate(given)
    ]
    scored = _best(lambda: scorer.score(given), count, runs)
    return [
        _figure("sentiment of headlines", scored, _vader(given, runs), "VADER", ">= 1,000"),
        _figure(
            "instruments in headlines, of 10,000", _best(lambda: _find(finder, given), count, runs)
        ),
        _figure("headlines grouped into stories", _best(lambda: group(items), count, runs)),
    ]


def _find(finder: MentionFinder, given: list[str]) -> None:
    for text in given:
        finder.find(text)


def _vader(given: list[str], runs: int) -> float | None:
    try:
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer
    except ImportError:
        return None
    analyzer = SentimentIntensityAnalyzer()
    return _best(lambda: [analyzer.polarity_scores(text) for text in given], len(given), runs)


def _best(work: Callable[[], object], count: int, runs: int) -> float:
    seconds = []
    for _ in range(runs):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return count / min(seconds)


def _figure(
    what: str, value: float, peer: float | None = None, peer_name: str = "", target: str = ""
) -> Figure:
    name = peer_name if peer is not None else ""
    return Figure(what, value, "texts/s", peer, name, target, f"load {load_average():.1f}")
