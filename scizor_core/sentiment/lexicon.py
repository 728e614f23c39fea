"""The default words: flat mappings from phrase to valence, of news and of social posts.

The words themselves are in `lexicon_news` and `lexicon_social`, grouped by subject and valence so
that a person can read and edit them. They were written for this project and copied from no list.
"""

from collections.abc import Iterable

from scizor_core.sentiment.lexicon_news import NEWS
from scizor_core.sentiment.lexicon_social import SOCIAL, TRADING_TALK


def split_phrases(text: str) -> tuple[str, ...]:
    """Return the phrases of a comma-separated list; line breaks inside it count as blanks."""
    return tuple(phrase for part in text.split(",") if (phrase := " ".join(part.split())))


def flatten(groups: Iterable[tuple[float, str]]) -> dict[str, float]:
    """Return every phrase of `groups` with its valence; a later group wins over an earlier."""
    return {phrase: valence for valence, text in groups for phrase in split_phrases(text)}


VALENCES: dict[str, float] = flatten((*NEWS, *SOCIAL))
# Counted only in a text with a cashtag, a hashtag or an emoji that has a valence.
TRADING_VALENCES: dict[str, float] = flatten(TRADING_TALK)
