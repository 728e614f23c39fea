"""The seam behind which every source of news and posts stands: request, answer, protocol.

A source answers with items, or says why there are none, or raises a `ProviderError`. It never
turns an error into an empty answer, and no name of an author leaves it: authors are hashed and
texts masked while the answer is read.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Protocol

import pandas as pd

from scizor_core.mentions import Nameable
from scizor_core.privacy import mask_address, mask_people
from scizor_core.stories import (
    LONGEST_ADDRESS,
    LONGEST_BODY,
    LONGEST_TITLE,
    Story,
    clean,
    why_refused,
)
from scizor_resources.errors import ProviderError
from scizor_resources.providers.base import REJECTED_COLUMNS, empty_rejected
from scizor_resources.providers.gate import Gate

_REFUSED_TEXT = 200


@dataclass(frozen=True)
class StoryRequest:
    """Items published in `since <= published_at < until` (UTC) about some instruments.

    Attributes:
        since: start, aware.
        until: end, exclusive, aware.
        topics: watched instruments; a source asks for those that it can serve.
    """

    since: datetime
    until: datetime
    topics: tuple[Nameable, ...]

    def of_market(self, *markets: str) -> tuple[Nameable, ...]:
        """Return the topics of some markets."""
        return tuple(topic for topic in self.topics if topic.market in markets)

    @property
    def coins(self) -> tuple[str, ...]:
        """Base currencies of the watched crypto instruments, each once, sorted."""
        return tuple(sorted({topic.symbol.split("/")[0] for topic in self.of_market("crypto")}))


@dataclass
class StoryBatch:
    """What a source answered.

    Attributes:
        stories: items of the window, each id once, in the order of publication.
        rejected: items that cannot be used, columns `REJECTED_COLUMNS`.
        outside: how many sound items lay outside the window.
        errors: query or symbol -> sentence, for each that failed while others did not.
        failure: the first of those errors that another try may mend or somebody has to look at.
        notes: sentences about what is not there: a cap on results, a history that is too short.
        complete: every item of the window that the source has for these topics is here, so that
            one that was there before and is not now has been taken away.
        query_key: what was asked, as a short digest; two answers compare only where it is equal.
        empty_reason: why there are no items, None where there are some.
    """

    stories: list[Story] = field(default_factory=list)
    rejected: pd.DataFrame = field(default_factory=empty_rejected)
    outside: int = 0
    errors: dict[str, str] = field(default_factory=dict)
    failure: ProviderError | None = None
    notes: list[str] = field(default_factory=list)
    complete: bool = False
    query_key: str = ""
    empty_reason: str | None = None


class StorySource(Protocol):
    """A provider of news or posts."""

    gate: Gate

    @property
    def name(self) -> str:
        """The provider's name, as in the `source` column."""

    def fetch(self, request: StoryRequest) -> StoryBatch:
        """Fetch the items of a window.

        Raises:
            ProviderError: nothing at all could be had; a query that fails while others succeed
                stands in `StoryBatch.errors` instead.
        """

    def close(self) -> None:
        """Close the connections; the next call opens them anew."""


@dataclass
class StorySieve:
    """Sorts the items of an answer: into the window, outside of it, or refused.

    Every item passes here, and here texts lose the names of people, so that no adapter can forget.

    Attributes:
        request: what was asked.
        batch: what has been sorted.
    """

    request: StoryRequest
    batch: StoryBatch = field(default_factory=StoryBatch)
    _seen: dict[str, Story] = field(default_factory=dict)
    _refused: list[dict[str, Any]] = field(default_factory=list)

    def add(self, story: Story, *, origin: str, number: int | None = None) -> None:
        """Sort an item; of two with the same id the later one counts.

        Args:
            story: as read, texts not yet masked.
            origin: the call it came from, without query and secrets.
            number: its place in the answer, from 1.
        """
        masked = _masked(story)
        reason = why_refused(masked)
        if reason is not None:
            self.refuse(
                reason,
                origin=origin,
                number=number,
                source=masked.source,
                payload={"id": masked.source_id[:_REFUSED_TEXT], "title": masked.title},
                at=masked.published_at,
            )
        elif self.request.since <= masked.published_at < self.request.until:
            self._seen[masked.source_id] = masked
        else:
            self.batch.outside += 1

    def refuse(  # noqa: PLR0913  # an item that cannot be read has no object to carry these
        self,
        reason: str,
        *,
        origin: str,
        source: str,
        payload: Mapping[str, Any],
        number: int | None = None,
        at: datetime | None = None,
    ) -> None:
        """Keep an item that cannot be used, with the reason.

        Args:
            reason: a short clause.
            origin: the call it came from.
            source: the provider.
            payload: what identifies the item; never an author.
            number: its place in the answer, from 1.
            at: its time, where it has one.
        """
        self._refused.append(
            {
                "symbol": "",
                "ts": at,
                "reason": reason,
                "source": source,
                "origin": origin,
                "row_number": number,
                "payload": {
                    key: mask_people(str(value))[:_REFUSED_TEXT] for key, value in payload.items()
                },
            }
        )

    def failed(self, what: str, error: ProviderError) -> None:
        """Note a query that failed while others did not."""
        self.batch.errors[what] = str(error)
        self.batch.failure = self.batch.failure or error

    def done(
        self, *, complete: bool, asked: Iterable[str], empty_reason: str | None = None
    ) -> StoryBatch:
        """Return what has been sorted.

        Args:
            complete: see `StoryBatch.complete`; it is not where a query failed.
            asked: what was asked, for `query_key`.
            empty_reason: why there are no items, if the source says so.
        """
        batch = self.batch
        batch.stories = sorted(
            self._seen.values(), key=lambda story: (story.published_at, story.source_id)
        )
        if self._refused:
            batch.rejected = pd.DataFrame(self._refused, columns=list(REJECTED_COLUMNS))
        batch.complete = complete and not batch.errors
        text = "\n".join(sorted(asked))
        batch.query_key = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
        if not batch.stories:
            refused = f"; {len(batch.rejected)} items were refused" if len(batch.rejected) else ""
            batch.empty_reason = (empty_reason or "nothing was published in the window") + refused
        return batch


def _masked(story: Story) -> Story:
    return replace(
        story,
        title=clean(mask_people(story.title[: LONGEST_TITLE * 2]), LONGEST_TITLE),
        body=clean(mask_people(story.body[: LONGEST_BODY * 2]), LONGEST_BODY),
        url=clean(mask_address(story.url), LONGEST_ADDRESS),
        publisher=clean(mask_address(story.publisher), LONGEST_TITLE),
    )
