"""News items and posts as the platform knows them, and what of them is believed.

A source's item becomes a `Story`: pure data, without a name of a person. What has a time that
cannot be is refused with the reason (`why_refused`), never bent into shape.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

from scizor_core.mentions import Hint

StoryKind = Literal["news", "social"]

#: No source reaches further back; what is older has a broken time (1970 is the usual one).
FIRST_PUBLICATION = datetime(2000, 1, 1, tzinfo=UTC)
#: Clocks differ; what is further ahead of ours is in the future.
CLOCK_TOLERANCE = timedelta(minutes=10)
#: Of longer texts the beginning is kept.
LONGEST_TITLE = 500
LONGEST_BODY = 20_000
LONGEST_ID = 200
LONGEST_ADDRESS = 2_000


@dataclass(frozen=True)
class Story:
    """One item of one source.

    Attributes:
        source: name of the provider, "cryptopanic".
        source_id: the provider's id, as text.
        kind: news or social.
        published_at: UTC.
        observed_at: when the answer with it came, UTC.
        title: headline; empty for posts that have none.
        body: text, the beginning of a long one; empty where the source gives none.
        url: address of the item, empty where there is none.
        publisher: domain or forum it appeared in: "reuters.com", "r/ASX_Bets".
        author_hash: keyed hash of the author, empty where there is none.
        language: ISO 639-1 code, empty where the source does not say.
        edited_at: when it was last changed, UTC, None where the source does not say.
        hints: codes that the source attached.
        market: market that the place is about, None for any.
        votes: what readers of the source have said: name -> count.
        is_deleted: it is there no more, or its author or a moderator has emptied it.
    """

    source: str
    source_id: str
    kind: StoryKind
    published_at: datetime
    observed_at: datetime
    title: str = ""
    body: str = ""
    url: str = ""
    publisher: str = ""
    author_hash: str = ""
    language: str = ""
    edited_at: datetime | None = None
    hints: tuple[Hint, ...] = ()
    market: str | None = None
    votes: Mapping[str, float] = field(default_factory=dict)
    is_deleted: bool = False

    @property
    def text(self) -> str:
        """Title and body together."""
        return f"{self.title}\n{self.body}".strip()


def why_refused(story: Story) -> str | None:
    """Return why an item cannot be used, None where it can."""
    if not story.source_id:
        return "it has no id"
    if len(story.source_id) > LONGEST_ID:
        return f"its id is longer than {LONGEST_ID} characters"
    if story.published_at < FIRST_PUBLICATION:
        return f"published_at {story.published_at:%Y-%m-%d} lies before {FIRST_PUBLICATION.year}"
    if story.published_at > story.observed_at + CLOCK_TOLERANCE:
        return f"published_at {story.published_at:%Y-%m-%dT%H:%M:%SZ} lies in the future"
    if not story.text and not story.is_deleted:
        return "it has neither title nor text"
    return None


def clean(text: str, longest: int) -> str:
    """Return a text that PostgreSQL can keep: without NUL, lone surrogates and outer blanks."""
    head = text[: longest * 2].replace("\0", "")
    # A pair of surrogates that an answer has cut in two cannot be written as UTF-8.
    sound = head.encode("utf-8", "ignore").decode("utf-8")
    return sound.strip()[:longest]
