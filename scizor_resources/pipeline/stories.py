"""From what a source of news or posts has answered to stories in PostgreSQL.

What no watched instrument is found in is not kept: of a stream of posts that is most. Names of
people are gone before an answer comes here (`scizor_resources.providers.stories.StorySieve`).
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

import pandas as pd

from scizor_core.errors import ContractError, InvalidInputError, UnknownMarketError
from scizor_core.instruments import Instrument
from scizor_core.mentions import Mention, MentionFinder, Nameable
from scizor_core.same_story import canonical_url
from scizor_core.schemas.stories import stories_frame
from scizor_core.sentiment.scorer import Scorer
from scizor_core.stories import Story, StoryKind
from scizor_resources.providers.stories import StoryBatch, StoryRequest
from scizor_resources.stores.quality import QualityStore
from scizor_resources.stores.reference import ReferenceStore
from scizor_resources.stores.stories import CompleteWindow, StoriesWritten, StoryStore

#: Characters of the body that are scored after the title: the lead says what has happened, what
#: follows is background and other companies.
SCORED_BODY = 500
_LONGEST_LANGUAGE = 35

#: What stands in the column `dataset` of `quality.quarantine`.
DATASETS: dict[StoryKind, str] = {"news": "news_sentiment", "social": "social_sentiment"}


@dataclass
class StoryReport:
    """What became of an answer.

    Attributes:
        items: items of the window that the source had.
        stored: of those, the ones about a watched instrument, and the ones stored before.
        written: new, edited, unchanged, deleted, returned, updated items; merged stories.
        without_instrument: items in which no watched instrument was found; they are not kept.
        already_gone: items that were deleted before they were first seen; they are not kept.
        ambiguous: code -> items in which it stood and could have meant several things.
        outside: sound items outside the window.
        quarantined: items that cannot be used and were not in quarantine yet.
        first_published_at: of the stored items, None without any.
        last_published_at: of the stored items, None without any.
    """

    items: int = 0
    stored: int = 0
    written: StoriesWritten = StoriesWritten()
    without_instrument: int = 0
    already_gone: int = 0
    ambiguous: Counter[str] = field(default_factory=Counter)
    outside: int = 0
    quarantined: int = 0
    first_published_at: datetime | None = None
    last_published_at: datetime | None = None


class StoryPipeline:
    """Finds the instruments of items, scores and stores them, and follows deletions.

    Args:
        reference: symbols and watchlist.
        stories: where items go.
        quality: where items go that cannot be used.
        scorer: what gives texts their sentiment.
        now: clock, aware.
    """

    def __init__(
        self,
        reference: ReferenceStore,
        stories: StoryStore,
        quality: QualityStore,
        scorer: Scorer,
        now: Callable[[], datetime],
    ) -> None:
        self._reference = reference
        self._stories = stories
        self._quality = quality
        self._scorer = scorer
        self._now = now

    def nameables(self) -> tuple[Nameable, ...]:
        """Return the listed instruments of the active watchlist with the names that texts use.

        Aliases of a coin belong to each of its pairs.
        """
        aliases = self._stories.aliases()
        return tuple(
            Nameable(
                each.instrument_id,
                each.market,
                each.symbol,
                each.name,
                aliases.get((each.market, each.symbol.partition("/")[0]), ()),
            )
            for each in self._watched()
        )

    def process(
        self,
        batch: StoryBatch,
        request: StoryRequest,
        kind: StoryKind,
        *,
        source: str,
        label: str = "",
    ) -> StoryReport:
        """Store what a source has answered.

        Args:
            batch: the answer.
            request: what was asked.
            kind: news or social.
            source: name of the source.
            label: put before the source's name in what is stored: "sample" makes "sample:reddit".

        Raises:
            ContractError: an item breaks the contract, or is of another source or kind; nothing
                is stored.
        """
        _check_origin(batch.stories, source, kind)
        name = f"{label}:{source}" if label else source
        report = StoryReport(items=len(batch.stories), outside=batch.outside)
        kept, mentions = self._sort(batch.stories, request, name, report)
        items = self._frame(kept, name, batch.query_key)
        report.written = self._stories.write(
            items,
            [(name, source_id, mention) for source_id, mention in mentions],
            complete=self._complete(batch, request, name),
        )
        report.stored = len(items)
        if not items.empty:
            report.first_published_at = items["published_at"].min().to_pydatetime()
            report.last_published_at = items["published_at"].max().to_pydatetime()
        rejected = batch.rejected.assign(source=name)
        report.quarantined = self._quality.quarantine(DATASETS[kind], "", "event", rejected)
        return report

    def _watched(self) -> list[Instrument]:
        wanted: dict[str, set[str]] = {}
        for entry in self._reference.watchlist(active_only=True):
            wanted.setdefault(entry.market, set()).add(entry.symbol)
        found: list[Instrument] = []
        for market, symbols in sorted(wanted.items()):
            known = self._reference.instruments(market, sorted(symbols))
            for symbol in sorted(symbols - {each.symbol for each in known}):
                # A row added to the watchlist by SQL need not have an instrument yet, nor be one.
                with suppress(InvalidInputError, UnknownMarketError):
                    known.append(self._reference.ensure(market, symbol)[0])
            found += [each for each in known if each.delisted_on is None]
        return found

    def _sort(
        self, stories: Sequence[Story], request: StoryRequest, name: str, report: StoryReport
    ) -> tuple[list[Story], list[tuple[str, Mention]]]:
        """Return the items that are kept and what they are about; the others are counted."""
        known = {
            source_id
            for _, source_id in self._stories.known((name, each.source_id) for each in stories)
        }
        # What was asked for counts as watched; the watchlist knows more names of it.
        watched = {each.instrument_id: each for each in (*request.topics, *self.nameables())}
        finder = MentionFinder(watched.values())
        kept: list[Story] = []
        mentions: list[tuple[str, Mention]] = []
        for story in stories:
            found = finder.find(story.text, story.hints, story.market)
            report.ambiguous.update(found.ambiguous)
            if story.source_id not in known:
                if story.is_deleted:
                    report.already_gone += 1
                    continue
                if not found.found:
                    report.without_instrument += 1
                    continue
            kept.append(story)
            mentions += [(story.source_id, mention) for mention in found.found]
        return kept, mentions

    def _frame(self, stories: Sequence[Story], name: str, query_key: str) -> pd.DataFrame:
        scored = self._scorer.score([_scored_text(story) for story in stories])
        return stories_frame(
            [
                {
                    "source": name,
                    "source_id": story.source_id,
                    "kind": story.kind,
                    "title": "" if story.is_deleted else story.title,
                    "body": "" if story.is_deleted else story.body,
                    "url": story.url,
                    "canonical_url": canonical_url(story.url),
                    "publisher": story.publisher,
                    "author_hash": story.author_hash,
                    "language": story.language.strip().lower()[:_LONGEST_LANGUAGE],
                    "market": story.market or "",
                    "published_at": story.published_at,
                    "edited_at": story.edited_at,
                    "observed_at": story.observed_at,
                    "is_deleted": story.is_deleted,
                    "votes": json.dumps(_finite(story.votes), sort_keys=True),
                    "score": sentiment.score,
                    "label": sentiment.label,
                    "confidence": sentiment.confidence,
                    "scorer": self._scorer.name,
                    "query_key": query_key,
                }
                for story, sentiment in zip(stories, scored, strict=True)
            ]
        )

    def _complete(
        self, batch: StoryBatch, request: StoryRequest, name: str
    ) -> tuple[CompleteWindow, ...]:
        """Return the window in which absent items were deleted, none where that cannot be said."""
        present = {story.source_id for story in batch.stories if not story.is_deleted}
        refused = [payload.get("id") for payload in batch.rejected["payload"]]
        # An item that cannot be read is there all the same; one without an id may be any.
        if not batch.complete or not all(refused):
            return ()
        present |= {str(source_id) for source_id in refused}
        at = max([self._now(), *(story.observed_at for story in batch.stories)])
        window = CompleteWindow(
            name, batch.query_key, request.since, request.until, sorted(present), at
        )
        return (window,)


def _check_origin(stories: Sequence[Story], source: str, kind: StoryKind) -> None:
    for story in stories:
        if (story.source, story.kind) != (source, kind):
            raise ContractError(
                f"An answer of {source} with {kind} items holds one of {story.source} with kind "
                f"{story.kind}; nothing was stored. The source's client has to be corrected."
            )


def _scored_text(story: Story) -> str:
    return "" if story.is_deleted else f"{story.title}\n{story.body[:SCORED_BODY]}".strip()


def _finite(votes: object) -> dict[str, float]:
    if not isinstance(votes, dict):
        return {}
    return {str(name): count for name, count in votes.items() if math.isfinite(count)}
