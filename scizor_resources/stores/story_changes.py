"""What becomes of a stored item when its source says something of it again; nothing is written."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias

import pandas as pd

from scizor_core.same_story import Key, StoryItem
from scizor_core.schemas.stories import validate_stories

_TEXT = ("title", "body")
_JUDGED = ("score", "label", "confidence", "scorer")
_DETAILS = (
    "url",
    "canonical_url",
    "publisher",
    "author_hash",
    "language",
    "market",
    "published_at",
    "edited_at",
)
#: What of an item decides which story it is.
_LINKING = ("title", "body", "canonical_url", "publisher", "published_at")
#: What goes with a deletion: an address may repeat the title.
_EMPTIED = {"title": "", "body": "", "url": "", "canonical_url": ""}
CHANGING = (*_TEXT, *_JUDGED, *_DETAILS, "votes", "votes_at", "query_key", "deleted_at")
#: What stays as it was when the item was seen first.
_FIRST = ("source", "source_id", "story_id", "kind", "observed_at", "first_edited_at")
COLUMNS = (*_FIRST, *CHANGING)

Row: TypeAlias = dict[str, Any]
Links: TypeAlias = Mapping[int, tuple[str, float]]
Outcome: TypeAlias = Literal["new", "edited", "updated", "unchanged", "deleted", "returned"]


@dataclass
class Change:
    """What becomes of one item.

    Attributes:
        row: the item as it is to be stored; `story_id` is None where it has no story yet.
        outcome: what has happened to it.
        is_new: it is not stored yet.
        instruments: ids of what it is about.
        links: what it is about and how that was found, None where that stays as it is.
        links_since: the edit that brought those of the links that are new; None where the text
            had named them before.
        revision: text and score that it had before.
        is_relinked: it may belong to another story now.
        has_new_query: nothing but `query_key` differs.
    """

    row: Row
    outcome: Outcome
    is_new: bool = False
    instruments: frozenset[int] = frozenset()
    links: Links | None = None
    links_since: datetime | None = None
    revision: Row | None = None
    is_relinked: bool = False
    has_new_query: bool = False

    @property
    def key(self) -> Key:
        """Source and id there."""
        return self.row["source"], self.row["source_id"]


def records(items: pd.DataFrame) -> list[Row]:
    """Return the rows of a frame (columns `STORY_ITEM_COLUMNS`) as the table has them.

    Raises:
        ContractError: the frame breaks the contract.
    """
    return [_record(row) for row in validate_stories(items).to_dict("records")]


def _record(row: dict[Any, Any]) -> Row:
    """Return a row of the frame as the table has it."""
    record: Row = {
        str(name): value.to_pydatetime() if isinstance(value, pd.Timestamp) else value
        for name, value in row.items()
    }
    if pd.isna(row["edited_at"]):
        record["edited_at"] = None
    edited_at = record["edited_at"]
    record["first_edited_at"] = edited_at and min(edited_at, record["observed_at"])
    is_deleted = record.pop("is_deleted")
    record["votes"] = json.loads(record["votes"])
    record["votes_at"] = record["observed_at"]
    record["deleted_at"] = record["observed_at"] if is_deleted else None
    return record


def settle(row: Row, known: Row | None, mentions: Mapping[Key, Links]) -> Change:
    """Return what becomes of an item of an answer, given what is stored of it."""
    found: Links = mentions.get((row["source"], row["source_id"]), {})
    is_deleted = row["deleted_at"] is not None
    if known is None:
        return Change(
            row | {"story_id": None},
            "deleted" if is_deleted else "new",
            is_new=True,
            instruments=frozenset(found),
            links=found or None,
            is_relinked=not is_deleted,
        )
    kept = {name: known[name] for name in COLUMNS}
    if row["observed_at"] < known["known_at"]:
        return Change(kept, "unchanged")
    if is_deleted:
        if known["deleted_at"] is not None:
            return Change(kept, "unchanged")
        return Change(kept | _EMPTIED | {"deleted_at": row["deleted_at"]}, "deleted")
    return _followed(row, known, kept, found)


def _followed(row: Row, known: Row, kept: Row, found: Links) -> Change:
    """Return what becomes of a stored item that the source has in what may be a new version."""
    values = kept | {name: row[name] for name in _DETAILS}
    values |= {"deleted_at": None, "query_key": row["query_key"]}
    if row["votes"] != known["votes"]:
        values |= {"votes": row["votes"], "votes_at": row["votes_at"]}
    has_text = known["text_removed_at"] is None
    if has_text:
        values |= {name: row[name] for name in (*_TEXT, *_JUDGED)}
    is_edited = any(values[name] != known[name] for name in _TEXT)
    links: Links = dict(known["links"])
    if has_text:
        links = found if is_edited else {**links, **found}
    outcome: Outcome = "unchanged"
    if known["deleted_at"] is not None:
        outcome = "returned"
    elif is_edited:
        outcome = "edited"
    elif any(values[name] != known[name] for name in CHANGING if name != "query_key"):
        outcome = "updated"
    change = Change(
        values,
        outcome,
        instruments=frozenset(links),
        links=links if links != known["links"] else None,
        links_since=_edited_at(row, known) if is_edited else None,
        is_relinked=outcome == "returned"
        or any(values[name] != known[name] for name in _LINKING)
        or not set(links) <= set(known["links"]),
        has_new_query=outcome == "unchanged" and values["query_key"] != known["query_key"],
    )
    # The text of a deleted item is gone, its score is not: what is back may be another text.
    is_judged_anew = any(values[name] != known[name] for name in ("score", "label"))
    if is_edited and (known["title"] or known["body"] or is_judged_anew):
        change.revision = {name: known[name] for name in (*_TEXT, "score", "label")} | {
            "source": row["source"],
            "source_id": row["source_id"],
            "superseded_at": row["observed_at"],
        }
    return change


def _edited_at(row: Row, known: Row) -> datetime:
    """Return when a text that differs from the one known became public, as far as can be told.

    A time before the last look is that of an earlier edit.
    """
    edited_at: datetime | None = row["edited_at"]
    observed_at: datetime = row["observed_at"]
    if edited_at is None or not known["known_at"] < edited_at < observed_at:
        return observed_at
    return edited_at


def story_item(row: Row, instruments: Iterable[int]) -> StoryItem:
    """Return what of a row decides which story it is."""
    return StoryItem(
        key=(row["source"], row["source_id"]),
        kind=row["kind"],
        published_at=row["published_at"],
        title=row["title"],
        body=row["body"],
        canonical_url=row["canonical_url"],
        publisher=row["publisher"],
        instruments=frozenset(instruments),
    )
