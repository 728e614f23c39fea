"""News and posts in PostgreSQL: stories, their items by source, what they are about, old texts.

What a source says of an item that it had before is followed: an edit replaces text and score and
leaves the old ones in `story_revisions`, a deletion empties the text and the old texts. What has
not changed is not touched. An answer that is older than what is stored changes nothing.
"""

import csv
import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from importlib import resources
from typing import Any, TypeAlias

import pandas as pd
import psycopg
from psycopg.types.json import Jsonb

from scizor_core.mentions import Mention
from scizor_core.same_story import REACH, Key, StoryItem, group
from scizor_core.schemas.stories import STORY_ITEM_COLUMNS, stories_frame
from scizor_core.stories import StoryKind
from scizor_resources.stores.story_changes import (
    CHANGING,
    COLUMNS,
    Change,
    Row,
    records,
    settle,
    story_item,
)
from scizor_resources.stores.warehouse import Warehouse

#: Two runs at once would make two stories of one; any constant will do.
_LOCK_KEY = 7_249_008

_Connection: TypeAlias = psycopg.Connection[dict[str, Any]]


@dataclass(frozen=True)
class StoriesWritten:
    """What a write came to, in items.

    Attributes:
        new: items that were not there.
        edited: items whose text differs from what was known; the old one is kept beside it.
        unchanged: items that were known as they are.
        deleted: items that are there no more, said by the source or absent in a complete answer.
        returned: items that had been deleted and are there again.
        merged: stories that turned out to be one with another.
        updated: items of which something else than the text differs: votes, address, score.
    """

    new: int = 0
    edited: int = 0
    unchanged: int = 0
    deleted: int = 0
    returned: int = 0
    merged: int = 0
    updated: int = 0

    def __add__(self, other: "StoriesWritten") -> "StoriesWritten":
        return StoriesWritten(
            *(getattr(self, each.name) + getattr(other, each.name) for each in fields(self))
        )


@dataclass(frozen=True)
class CompleteWindow:
    """A window of which a source has said everything.

    Attributes:
        source: as in the column.
        query_key: what was asked; only items that were last seen under the same one are judged.
        since: start of publication, aware.
        until: end, exclusive, aware.
        present: ids of all items that the source still has there.
        at: when it answered, aware.
    """

    source: str
    query_key: str
    since: datetime
    until: datetime
    present: Collection[str]
    at: datetime


class StoryStore:
    """Access to schema `human` and to the aliases of instruments."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse

    def aliases(self) -> dict[tuple[str, str], tuple[str, ...]]:
        """Return (market, symbol) -> other names, as users have them.

        Symbols that have none at all get those that come with the platform first, so that one of
        several that was deleted stays so.
        """
        with self._warehouse.connect() as connection, connection.cursor() as cursor:
            stored = cursor.execute(_ALIASES).fetchall()
            known = {(row["market"], row["symbol"]) for row in stored}
            absent = [
                row for row in default_aliases() if (row["market"], row["symbol"]) not in known
            ]
            if absent:
                cursor.executemany(
                    "INSERT INTO public.symbol_aliases (market, symbol, alias) VALUES "
                    "(%(market)s, %(symbol)s, %(alias)s) ON CONFLICT DO NOTHING",
                    absent,
                )
                stored = cursor.execute(_ALIASES).fetchall()
        found: dict[tuple[str, str], tuple[str, ...]] = {}
        for row in stored:
            key = row["market"], row["symbol"]
            found[key] = (*found.get(key, ()), row["alias"])
        return found

    def known(self, keys: Iterable[Key]) -> set[Key]:
        """Return those of some (source, source_id) that are stored."""
        with self._warehouse.connect() as connection:
            rows = connection.execute(
                f"SELECT source, source_id FROM human.story_items AS i {_OF_KEYS}",  # noqa: S608  # names are constants
                _arrays(keys),
            ).fetchall()
        return {(row["source"], row["source_id"]) for row in rows}

    def write(
        self,
        items: pd.DataFrame,
        mentions: Sequence[tuple[str, str, Mention]] = (),
        *,
        complete: Sequence[CompleteWindow] = (),
    ) -> StoriesWritten:
        """Keep items, join them to stories and follow deletions, all or nothing.

        Args:
            items: columns `STORY_ITEM_COLUMNS`; texts without names of users.
            mentions: source, id and an instrument that the item is about. Of an item whose text
                is as it was they are added to those known, otherwise they replace them.
            complete: windows of which everything was said.

        Raises:
            ContractError: the frame breaks the contract; nothing is written.
        """
        rows = [] if items.empty else records(items)
        if not rows and not complete:
            return StoriesWritten()
        found: dict[Key, dict[int, tuple[str, float]]] = defaultdict(dict)
        for source, source_id, mention in mentions:
            found[source, source_id][mention.instrument_id] = (mention.how, mention.certainty)
        with self._warehouse.connect() as connection:
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK_KEY])
            written = StoriesWritten()
            if rows:
                stored = _stored(connection, [(row["source"], row["source_id"]) for row in rows])
                changes = [
                    settle(row, stored.get((row["source"], row["source_id"])), found)
                    for row in rows
                ]
                written = _write_changes(connection, changes)
            for window in complete:
                written += _follow(connection, window)
        return written

    def follow_deletions(  # noqa: PLR0913  # what a `CompleteWindow` has, for callers without items
        self,
        source: str,
        query_key: str,
        since: datetime,
        until: datetime,
        present: Collection[str],
        at: datetime,
    ) -> StoriesWritten:
        """Mark items as deleted that a complete answer no longer has, and lift that of others.

        The texts of deleted items are emptied; they come back with the next write.

        Args:
            source: as in the column.
            query_key: what was asked.
            since: start of publication, aware.
            until: end, exclusive, aware.
            present: ids of all items that the source still has there.
            at: when it answered, aware.
        """
        window = CompleteWindow(source, query_key, since, until, present, at)
        return self.write(stories_frame([]), complete=[window])

    def read(self, kind: StoryKind, since: datetime, until: datetime) -> pd.DataFrame:
        """Return items with `since <= published_at < until`, deleted ones too.

        Returns:
            Columns `STORY_ITEM_COLUMNS`, by time of publication, source and id.
        """
        with self._warehouse.connect() as connection:
            rows = connection.execute(
                "SELECT *, deleted_at IS NOT NULL AS is_deleted FROM human.story_items "
                "WHERE kind = %s AND published_at >= %s AND published_at < %s",
                [kind, since, until],
            ).fetchall()
        return stories_frame(
            [
                {name: row[name] for name in STORY_ITEM_COLUMNS}
                | {"votes": json.dumps(row["votes"])}
                for row in rows
            ]
        )


def default_aliases() -> list[dict[str, str]]:
    """Return the aliases that come with the platform (`seeds/symbol_aliases.csv`)."""
    path = resources.files("scizor_resources").joinpath("seeds/symbol_aliases.csv")
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


# --- many items ---------------------------------------------------------------------------


def _stored(connection: _Connection, keys: Sequence[Key]) -> dict[Key, Row]:
    """Return what is stored of some items, with their links and the time that it was known at."""
    rows = connection.execute(_STORED, _arrays(keys)).fetchall()
    links: dict[Key, dict[int, tuple[str, float]]] = defaultdict(dict)
    for row in connection.execute(_STORED_LINKS, _arrays(keys)):
        links[row["source"], row["source_id"]][row["instrument_id"]] = (
            row["how"],
            row["certainty"],
        )
    return {
        (row["source"], row["source_id"]): row
        | {"links": links.get((row["source"], row["source_id"]), {})}
        for row in rows
    }


def _write_changes(connection: _Connection, changes: Sequence[Change]) -> StoriesWritten:
    merged = _find_stories(connection, changes)
    differing = ("edited", "updated", "deleted", "returned")
    with connection.cursor() as cursor:
        cursor.executemany(_INSERT, [_bound(each.row) for each in changes if each.is_new])
        cursor.executemany(
            _UPDATE,
            [_bound(each.row) for each in changes if not each.is_new and each.outcome in differing],
        )
        cursor.executemany(_UPDATE_QUERY, [each.row for each in changes if each.has_new_query])
        cursor.executemany(
            _INSERT_REVISION, [each.revision for each in changes if each.revision is not None]
        )
        _write_links(cursor, changes)
    _empty_revisions(connection, [each.key for each in changes if each.outcome == "deleted"])
    counts = Counter(each.outcome for each in changes)
    return StoriesWritten(
        **{str(outcome): count for outcome, count in counts.items()}, merged=merged
    )


def _bound(row: Row) -> Row:
    return row | {"votes": Jsonb(row["votes"])}


def _write_links(cursor: psycopg.Cursor[dict[str, Any]], changes: Sequence[Change]) -> None:
    changed = [
        (each.key, each.links, each.links_since) for each in changes if each.links is not None
    ]
    cursor.executemany(
        "DELETE FROM human.story_instruments WHERE source = %s AND source_id = %s "
        "AND NOT instrument_id = ANY(%s)",
        [(*key, list(links)) for key, links, _ in changed],
    )
    cursor.executemany(
        "INSERT INTO human.story_instruments AS i "
        "(source, source_id, instrument_id, how, certainty, since) "
        "VALUES (%s, %s, %s, %s, %s, %s) "
        "ON CONFLICT (source, source_id, instrument_id) DO UPDATE "
        "SET how = excluded.how, certainty = excluded.certainty "
        "WHERE (i.how, i.certainty) IS DISTINCT FROM (excluded.how, excluded.certainty)",
        [
            (*key, instrument_id, *link, since)
            for key, links, since in changed
            for instrument_id, link in links.items()
        ],
    )


def _find_stories(connection: _Connection, changes: Sequence[Change]) -> int:
    """Give every new item its story, and make one of stories that turn out to be one.

    Returns:
        Number of stories that were merged into others.
    """
    touched = {each.key: each for each in changes if each.is_relinked}
    items = [story_item(each.row, each.instruments) for each in touched.values()]
    stories = {
        key: each.row["story_id"]
        for key, each in touched.items()
        if each.row["story_id"] is not None
    }
    # What the same answer deletes is no candidate either.
    hidden = {each.key for each in changes if each.outcome == "deleted"} | set(touched)
    for row in _candidates(connection, items):
        candidate = story_item(row, row["instruments"])
        if candidate.key not in hidden:
            items.append(candidate)
            stories[candidate.key] = row["story_id"]
    together: dict[int, list[Key]] = defaultdict(list)
    for key, story_id in stories.items():
        together[story_id].append(key)
    groups = [
        keys for keys in group(items, together.values()) if not touched.keys().isdisjoint(keys)
    ]
    # An item that comes deleted has no text to be compared.
    groups += [[each.key] for each in changes if each.is_new and not each.is_relinked]
    new = {each.key: each for each in changes if each.is_new}
    merged: dict[int, int] = {}
    homeless: dict[str, list[list[Change]]] = defaultdict(list)
    for keys in groups:
        known = sorted({stories[key] for key in keys if key in stories})
        arrivals = [new[key] for key in keys if key in new]
        if not known:
            homeless[arrivals[0].row["kind"]].append(arrivals)
            continue
        merged |= dict.fromkeys(known[1:], known[0])
        for each in arrivals:
            each.row["story_id"] = known[0]
    for kind, found in homeless.items():
        found.sort(
            key=lambda arrivals: min((each.row["published_at"], each.key) for each in arrivals)
        )
        for arrivals, story_id in zip(found, _create(connection, kind, len(found)), strict=True):
            for each in arrivals:
                each.row["story_id"] = story_id
    _merge(connection, merged)
    return len(merged)


def _candidates(connection: _Connection, items: Sequence[StoryItem]) -> list[Row]:
    """Return the stored items that may be one story with some of these."""
    rows: list[Row] = []
    for kind in sorted({item.kind for item in items}):
        times = [item.published_at for item in items if item.kind == kind]
        window = {"kind": kind, "first": min(times) - REACH, "last": max(times) + REACH}
        rows += connection.execute(_CANDIDATES, window).fetchall()
    return rows


def _create(connection: _Connection, kind: str, count: int) -> list[int]:
    """Return the ids of so many new stories."""
    rows = connection.execute(
        "INSERT INTO human.stories (kind) SELECT %s FROM generate_series(1, %s) RETURNING story_id",
        [kind, count],
    ).fetchall()
    return sorted(row["story_id"] for row in rows)


def _merge(connection: _Connection, merged: Mapping[int, int]) -> None:
    """Move the items of stories to others and remove the stories that are empty then."""
    if not merged:
        return
    connection.execute(
        "UPDATE human.story_items AS i SET story_id = m.target, updated_at = now() "
        "FROM unnest(%s::bigint[], %s::bigint[]) AS m (emptied, target) "
        "WHERE i.story_id = m.emptied",
        [list(merged), list(merged.values())],
    )
    connection.execute("DELETE FROM human.stories WHERE story_id = ANY(%s)", [list(merged)])


def _follow(connection: _Connection, window: CompleteWindow) -> StoriesWritten:
    """Mark what a complete answer no longer has as deleted, and lift that of what it has again."""
    values = {
        "source": window.source,
        "query_key": window.query_key,
        "since": window.since,
        "until": window.until,
        "present": list(window.present),
        "at": window.at,
    }
    gone = connection.execute(_DELETE_ABSENT, values).fetchall()
    _empty_revisions(connection, [(window.source, row["source_id"]) for row in gone])
    returned = connection.execute(
        "UPDATE human.story_items SET deleted_at = NULL, updated_at = now() WHERE source = "
        "%(source)s AND source_id = ANY(%(present)s) AND deleted_at < %(at)s",
        values,
    ).rowcount
    return StoriesWritten(deleted=len(gone), returned=returned)


def _empty_revisions(connection: _Connection, keys: Sequence[Key]) -> None:
    if keys:
        connection.execute(
            f"UPDATE human.story_revisions AS i SET title = '', body = '' {_FROM_KEYS} "  # noqa: S608  # names are constants
            "AND (i.title, i.body) <> ('', '')",
            _arrays(keys),
        )


def _arrays(keys: Iterable[Key]) -> dict[str, list[str]]:
    given = list(keys)
    return {"sources": [key[0] for key in given], "ids": [key[1] for key in given]}


def _listed(names: Iterable[str], pattern: str) -> str:
    return ", ".join(pattern.format(name) for name in names)


_KEYS = "unnest(%(sources)s::text[], %(ids)s::text[]) AS k (source, source_id)"
_OF_KEYS = f"JOIN {_KEYS} USING (source, source_id)"
_FROM_KEYS = f"FROM {_KEYS} WHERE i.source = k.source AND i.source_id = k.source_id"
_ALIASES = "SELECT market, symbol, alias FROM public.symbol_aliases ORDER BY market, symbol, alias"
_STORED = f"""
SELECT i.*, greatest(i.observed_at, i.votes_at, i.deleted_at, (
    SELECT max(r.superseded_at) FROM human.story_revisions AS r
    WHERE r.source = i.source AND r.source_id = i.source_id
)) AS known_at
FROM human.story_items AS i {_OF_KEYS}
"""  # noqa: S608  # names are constants of this module
_STORED_LINKS = f"SELECT i.* FROM human.story_instruments AS i {_OF_KEYS}"  # noqa: S608  # names are constants
# The texts of news are long and are not compared.
_CANDIDATES = """
SELECT i.source, i.source_id, i.story_id, i.kind, i.published_at, i.title,
    CASE WHEN i.kind = 'social' THEN i.body ELSE '' END AS body, i.canonical_url, i.publisher,
    ARRAY(
        SELECT n.instrument_id FROM human.story_instruments AS n
        WHERE n.source = i.source AND n.source_id = i.source_id
    ) AS instruments
FROM human.story_items AS i
WHERE i.kind = %(kind)s AND i.published_at BETWEEN %(first)s AND %(last)s AND i.deleted_at IS NULL
"""
_INSERT = (
    f"INSERT INTO human.story_items ({_listed(COLUMNS, '{}')}) "  # noqa: S608  # names are constants
    f"VALUES ({_listed(COLUMNS, '%({})s')})"
)
_OF_ROW = "WHERE source = %(source)s AND source_id = %(source_id)s"
_UPDATE = (
    f"UPDATE human.story_items SET {_listed(CHANGING, '{0} = %({0})s')}, updated_at = now() "  # noqa: S608  # names are constants
    f"{_OF_ROW}"
)
_UPDATE_QUERY = f"UPDATE human.story_items SET query_key = %(query_key)s {_OF_ROW}"  # noqa: S608  # names are constants
_INSERT_REVISION = """
INSERT INTO human.story_revisions (source, source_id, superseded_at, title, body, score, label)
VALUES (%(source)s, %(source_id)s, %(superseded_at)s, %(title)s, %(body)s, %(score)s, %(label)s)
ON CONFLICT (source, source_id, superseded_at) DO NOTHING
"""
# What was seen for the first time after this answer is not absent from it.
_DELETE_ABSENT = """
UPDATE human.story_items SET deleted_at = %(at)s, title = '', body = '', url = '',
    canonical_url = '', updated_at = now()
WHERE source = %(source)s AND query_key = %(query_key)s
    AND published_at >= %(since)s AND published_at < %(until)s
    AND deleted_at IS NULL AND observed_at <= %(at)s AND NOT source_id = ANY(%(present)s)
RETURNING source_id
"""
