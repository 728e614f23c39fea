"""What a text said first, when it could be read, and for how long that is remembered."""

from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from scizor_core.instruments import WatchlistEntry
from scizor_core.retention import policies
from scizor_resources.platform import Platform
from scizor_resources.stores import schema

from .test_stories import MORNING, Room

GOOD, BAD = "Apple profit rises, shares surge", "Apple plunges after massive hack"
PUBLISHED = MORNING
VIEWS = sa.text(
    "SELECT schemaname || '.' || viewname AS name, definition FROM pg_views "
    "WHERE schemaname IN ('human', 'glass') OR viewname LIKE '%_sentiment' ORDER BY 1"
)


@pytest.fixture
def room(platform: Platform) -> Room:
    platform.reference.add([WatchlistEntry("us", "AAPL"), WatchlistEntry("crypto", "BTC/USD")])
    return Room(platform)


def told(room: Room, symbol: str = "AAPL") -> dict[str, Any]:
    """Return the one story about an instrument."""
    (row,) = room.rows("SELECT * FROM human.instrument_stories WHERE symbol = %s", symbol)
    return row


def first_words(room: Room, symbol: str = "AAPL") -> tuple[str, datetime]:
    row = told(room, symbol)
    assert (row["first_score"] > 0) == (row["first_label"] == "positive")
    return row["first_label"], row["text_public_at"]


def test_a_story_as_it_came_has_one_score_from_its_publication_on(room: Room) -> None:
    room.give(room.item("1", GOOD))

    row = told(room)
    assert (row["first_score"], row["first_label"]) == (row["score"], row["label"])
    assert row["text_public_at"] == PUBLISHED


def test_an_edited_text_keeps_its_first_score_and_time(room: Room) -> None:
    room.give(room.item("1", GOOD))
    room.later(hours=20)
    room.give(room.item("1", BAD, edited_at=room.at))

    assert told(room)["label"] == "negative"
    assert first_words(room) == ("positive", PUBLISHED)


def test_of_several_edits_the_first_version_counts(room: Room) -> None:
    for title in (GOOD, "Apple opens a shop", BAD):
        room.give(room.item("1", title))
        room.later(hours=1)

    assert first_words(room) == ("positive", PUBLISHED)


def test_a_text_that_was_edited_before_it_was_seen_counts_from_the_edit_on(room: Room) -> None:
    edited_at = room.at - timedelta(hours=2)
    room.give(room.item("1", BAD, edited_at=edited_at))
    assert first_words(room) == ("negative", edited_at)

    room.later(hours=1)
    room.give(room.item("1", GOOD, edited_at=room.at))
    assert first_words(room) == ("negative", edited_at)


def test_an_instrument_that_an_edit_brings_is_not_named_before_it(room: Room) -> None:
    room.give(room.item("1", GOOD))
    room.later(hours=20)
    room.give(room.item("1", "Apple and Bitcoin plunge", edited_at=room.at))

    assert first_words(room, "AAPL")[1] == PUBLISHED
    assert first_words(room, "BTC/USD")[1] == room.at


def test_an_instrument_that_is_watched_later_was_named_all_the_time(room: Room) -> None:
    story = room.item("1", "Apple and Microsoft surge")
    room.give(story)
    room.platform.reference.add([WatchlistEntry("us", "MSFT")])
    room.later(hours=20)
    room.give(story)

    assert first_words(room, "MSFT")[1] == PUBLISHED


def test_a_post_that_comes_back_with_another_text_keeps_its_first_score(room: Room) -> None:
    room.give(room.item("1", GOOD))
    room.later(hours=1)
    room.give(room.item("1", "", is_deleted=True))
    room.later(hours=1)
    room.give(room.item("1", BAD))

    assert told(room)["label"] == "negative"
    assert first_words(room) == ("positive", PUBLISHED)


def test_the_first_score_outlives_its_text(room: Room) -> None:
    room.give(room.item("1", GOOD))
    room.later(hours=1)
    room.give(room.item("1", BAD))
    (texts,) = [each for each in policies() if each.name == "story_texts"]

    room.platform.retention.apply([texts], PUBLISHED + timedelta(days=31), dry_run=False)

    assert room.rows("SELECT title, body FROM human.story_revisions") == [{"title": "", "body": ""}]
    assert first_words(room) == ("positive", PUBLISHED)


def test_the_first_score_goes_with_its_story(room: Room) -> None:
    room.give(room.item("1", GOOD))
    room.later(hours=1)
    room.give(room.item("1", BAD))
    (news,) = [each for each in policies() if each.name == "news_sentiment"]

    room.platform.retention.apply([news], PUBLISHED + timedelta(days=91), dry_run=False)

    assert room.rows("SELECT * FROM human.story_revisions") == []


def _migrate(platform: Platform, revision: str, *, up: bool) -> dict[str, str]:
    """Go to a revision and return the definitions of the views there."""
    engine = sa.create_engine(platform.endpoints.sqlalchemy_url, poolclass=sa.NullPool)
    config = Config()
    config.set_main_option("script_location", str(schema._MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        (command.upgrade if up else command.downgrade)(config, revision)
        return {row.name: row.definition for row in connection.execute(VIEWS)}


def test_an_upgrade_knows_of_stored_items_which_came_edited(room: Room) -> None:
    edited_at = room.at - timedelta(hours=2)
    room.give(room.item("1", GOOD, edited_at=edited_at))
    room.give(room.item("2", "Bitcoin plunges"))
    room.later(hours=1)
    room.give(room.item("2", "Bitcoin plunges a lot", edited_at=room.at))

    before = _migrate(room.platform, "0009", up=False)
    assert "human.instrument_stories" in before
    after = _migrate(room.platform, "0010", up=True)

    assert after.keys() == before.keys()
    rows = room.rows("SELECT source_id, first_edited_at FROM human.story_items ORDER BY 1")
    assert [row["first_edited_at"] for row in rows] == [edited_at, None]


def test_there_and_back_leaves_the_views_as_they_were(platform: Platform) -> None:
    before = _migrate(platform, "0009", up=False)
    _migrate(platform, "0010", up=True)
    assert _migrate(platform, "0009", up=False) == before
