"""Stories in PostgreSQL: one story from many sources, edits, deletions, retention, no names."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pandas as pd
import pytest

from scizor_core.errors import ContractError
from scizor_core.instruments import WatchlistEntry
from scizor_core.mentions import Hint, Mention
from scizor_core.retention import policies
from scizor_core.schemas.stories import stories_frame, validate_stories
from scizor_core.sentiment.scorer import LexiconScorer
from scizor_core.stories import Story, StoryKind
from scizor_resources.authors import author_hasher
from scizor_resources.pipeline.stories import StoryPipeline, StoryReport
from scizor_resources.platform import Platform
from scizor_resources.providers.stories import StoryBatch, StoryRequest, StorySieve
from scizor_resources.stores.stories import StoriesWritten, StoryStore

from .helpers import execute, query

MORNING = datetime(2026, 11, 18, 9, tzinfo=UTC)
DAY = datetime(2026, 11, 18, tzinfo=UTC)
HALF_HOUR = timedelta(minutes=30)
HEADLINE = "Commonwealth Bank posts record half year profit of $5.1bn"
AUTHOR = "very_private_person"
TABLES = ("stories", "story_items", "story_instruments", "story_revisions")


class Room:
    """A pipeline on a platform, a clock and what sources say."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.at = DAY + timedelta(days=1)
        self.store = StoryStore(platform.warehouse)
        self.pipeline = StoryPipeline(
            platform.reference, self.store, platform.quality, LexiconScorer(), lambda: self.at
        )

    def later(self, **step: float) -> None:
        self.at += timedelta(**step)

    def item(self, source_id: str, title: str = HEADLINE, **fields: Any) -> Story:
        values: dict[str, Any] = {
            "source": "cryptopanic",
            "kind": "news",
            "published_at": MORNING,
            "observed_at": self.at,
            "url": f"https://news.example/{source_id}",
        }
        return Story(source_id=source_id, title=title, **(values | fields))

    def request(self) -> StoryRequest:
        return StoryRequest(
            DAY - timedelta(days=20), DAY + timedelta(days=20), self.pipeline.nameables()
        )

    def give(
        self,
        *stories: Story,
        source: str = "cryptopanic",
        kind: StoryKind = "news",
        complete: bool = False,
        asked: Iterable[str] = ("all",),
        label: str = "",
        refused: Iterable[dict[str, Any]] = (),
    ) -> StoryReport:
        sieve = StorySieve(self.request())
        for story in stories:
            sieve.add(story, origin="GET /items")
        for payload in refused:
            sieve.refuse("it has no time", origin="GET /items", source=source, payload=payload)
        batch = sieve.done(complete=complete, asked=asked)
        return self.process(batch, kind, source=source, label=label)

    def process(
        self, batch: StoryBatch, kind: StoryKind = "news", *, source: str, label: str = ""
    ) -> StoryReport:
        return self.pipeline.process(batch, self.request(), kind, source=source, label=label)

    def rows(self, sql: str, *parameters: Any) -> list[dict[str, Any]]:
        return query(self.platform, sql, *parameters)

    def stored(self, source_id: str) -> dict[str, Any]:
        (row,) = self.rows("SELECT * FROM human.story_items WHERE source_id = %s", source_id)
        return row

    def state(self) -> list[dict[str, Any]]:
        """Return all rows with the system column that changes with every write."""
        return [
            row
            for table in TABLES
            for row in self.rows(f"SELECT xmin::text, * FROM human.{table} AS t ORDER BY t")
        ]

    def stories(self) -> list[list[str]]:
        """Return the stories as the sorted ids of their items."""
        rows = self.rows(
            "SELECT array_agg(source_id ORDER BY source_id) AS ids "
            "FROM human.story_items GROUP BY story_id ORDER BY 1"
        )
        return [row["ids"] for row in rows]


@pytest.fixture
def room(platform: Platform) -> Room:
    platform.reference.add([WatchlistEntry("us", "AAPL"), WatchlistEntry("crypto", "BTC/USD")])
    return Room(platform)


# --- one story ----------------------------------------------------------------------------


def three_sources(room: Room) -> dict[str, Story]:
    return {
        "cryptopanic": room.item("1", url="https://www.afr.com/x?utm_source=panic"),
        "finnhub": room.item(
            "2",
            "CBA in the green",
            source="finnhub",
            url="https://afr.com/x/",
            hints=(Hint("CBA", "asx"),),
            published_at=MORNING + HALF_HOUR,
        ),
        "newscatcher": room.item(
            "3",
            f"{HEADLINE} - Reuters",
            source="newscatcher",
            publisher="reuters.com",
            published_at=MORNING + 2 * HALF_HOUR,
        ),
    }


def test_one_story_of_three_sources_is_one_row_with_its_sources(room: Room) -> None:
    for source, story in three_sources(room).items():
        room.give(story, source=source)

    (row,) = room.rows("SELECT * FROM human.news_sentiment")
    assert (row["sources"], row["symbols"], row["title"]) == (
        ["cryptopanic", "finnhub", "newscatcher"],
        ["CBA"],
        HEADLINE,
    )
    assert row["published_at"] == MORNING
    assert len(room.rows("SELECT * FROM human.story_sources")) == 3


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_the_order_of_arrival_does_not_change_the_stories(
    room: Room, order: tuple[int, ...]
) -> None:
    # The third joins the first two, which have nothing in common; the fourth is another story.
    page = "https://afr.com/x"
    items = [
        room.item("1"),
        room.item("2", "CBA in the green", url=page),
        room.item("3", url=page),
        room.item("4", HEADLINE.replace("5.1", "4.9")),
    ]
    written = [room.give(items[place]).written for place in (*order, 3)]

    assert room.stories() == [["1", "2", "3"], ["4"]]
    assert len(room.rows("SELECT * FROM human.stories")) == 2
    last_of_three = max(order.index(0), order.index(1)) < order.index(2)
    assert sum(each.merged for each in written) == int(last_of_three)


def test_items_of_one_answer_are_joined_as_those_of_several_are(room: Room) -> None:
    page = "https://afr.com/x"
    room.give(
        room.item("1"), room.item("2", "CBA in the green", url=page), room.item("3", url=page)
    )
    assert room.stories() == [["1", "2", "3"]]


def test_headlines_of_different_companies_are_different_stories(room: Room) -> None:
    room.give(
        room.item("1", "Trading halt", hints=(Hint("CBA", "asx"),)),
        room.item("2", "Trading halt", hints=(Hint("BHP", "asx"),)),
    )
    assert room.stories() == [["1"], ["2"]]


def test_samples_are_no_sources_of_real_stories(room: Room) -> None:
    room.give(room.item("1"))
    room.give(room.item("1"), label="sample")

    assert [(row["sources"], row["is_sample"]) for row in room.rows(
        "SELECT * FROM human.news_sentiment ORDER BY story_id"
    )] == [(["cryptopanic"], False), (["sample:cryptopanic"], True)]  # fmt: skip


def test_two_runs_at_once_make_one_story(room: Room) -> None:
    room.pipeline.nameables()
    with ThreadPoolExecutor(2) as pool:
        list(
            pool.map(
                lambda source: room.give(room.item(source, source=source), source=source),
                ["finnhub", "newscatcher"],
            )
        )
    assert room.stories() == [["finnhub", "newscatcher"]]


# --- reruns -------------------------------------------------------------------------------


def test_a_rerun_changes_no_row(room: Room) -> None:
    def run() -> StoryReport:
        return room.give(
            room.item("1", votes={"positive": 3, "important": 1.5}, body="Shares rose."),
            room.item("2", "Bitcoin and Apple fall"),
            complete=True,
        )

    run()
    before = room.state()
    room.later(hours=1)
    report = run()

    assert room.state() == before
    assert report.written == StoriesWritten(unchanged=2)


def test_votes_move_their_own_stamp_and_no_text(room: Room) -> None:
    room.give(room.item("1", votes={"positive": 3}))
    room.later(hours=1)

    report = room.give(room.item("1", votes={"positive": 4}))

    assert report.written == StoriesWritten(updated=1)
    row = room.stored("1")
    assert (row["votes"], row["votes_at"]) == ({"positive": 4}, room.at)
    assert row["observed_at"] == room.at - timedelta(hours=1)
    assert room.rows("SELECT * FROM human.story_revisions") == []


def test_an_instrument_that_is_watched_later_is_found_in_what_comes_again(room: Room) -> None:
    story = room.item("1", "Bitcoin and Microsoft fall")
    room.give(story)
    room.platform.reference.add([WatchlistEntry("us", "MSFT")])

    assert room.give(story).written == StoriesWritten(unchanged=1)
    (row,) = room.rows("SELECT symbols FROM human.news_sentiment")
    assert sorted(row["symbols"]) == ["BTC/USD", "MSFT"]


# --- edits and deletions ------------------------------------------------------------------


def test_an_edit_takes_the_new_score_and_keeps_the_old_text(room: Room) -> None:
    room.give(room.item("1", "Apple profit rises, shares surge"))
    old = room.stored("1")
    room.later(hours=1)

    report = room.give(room.item("1", "Bitcoin plunges after massive hack", edited_at=room.at))

    assert report.written == StoriesWritten(edited=1)
    new = room.stored("1")
    assert (old["label"], new["label"]) == ("positive", "negative")
    assert (new["title"], new["edited_at"]) == ("Bitcoin plunges after massive hack", room.at)
    (revision,) = room.rows("SELECT * FROM human.story_revisions")
    assert (revision["title"], revision["score"], revision["superseded_at"]) == (
        "Apple profit rises, shares surge",
        old["score"],
        room.at,
    )
    (row,) = room.rows("SELECT symbols FROM human.news_sentiment")
    assert row["symbols"] == ["BTC/USD"]


def test_an_edit_after_which_no_watched_instrument_is_named_is_followed(room: Room) -> None:
    room.give(room.item("1", "Apple profit rises"))
    room.later(hours=1)
    report = room.give(room.item("1", "Orchards have a good year"))
    assert report.written == StoriesWritten(edited=1)
    assert room.stored("1")["title"] == "Orchards have a good year"


def test_an_answer_older_than_what_is_known_changes_nothing(room: Room) -> None:
    early = room.item("1", "Apple profit rises")
    room.later(hours=1)
    room.give(room.item("1", "Apple profit rises a lot"))
    before = room.state()

    assert room.give(early).written == StoriesWritten(unchanged=1)
    assert room.state() == before


def test_a_deleted_item_loses_its_texts_and_stays_out_of_the_views(room: Room) -> None:
    room.give(room.item("1", "Apple profit rises"))
    room.later(hours=1)
    room.give(room.item("1", "Apple profit rises a lot"))
    room.later(hours=1)

    report = room.give(room.item("1", "", is_deleted=True))

    assert report.written == StoriesWritten(deleted=1)
    row = room.stored("1")
    assert (row["title"], row["body"], row["deleted_at"]) == ("", "", room.at)
    assert [each["title"] for each in room.rows("SELECT title FROM human.story_revisions")] == [""]
    assert room.rows("SELECT * FROM human.news_sentiment") == []
    before = room.state()
    room.later(hours=1)
    assert room.give(room.item("1", "", is_deleted=True)).written == StoriesWritten(unchanged=1)
    assert room.state() == before


def test_what_a_complete_answer_no_longer_has_is_deleted_and_comes_back(room: Room) -> None:
    both = [room.item("1", "Apple profit rises"), room.item("2", "Bitcoin plunges")]
    room.give(*both, complete=True)
    room.later(hours=1)

    gone = room.give(room.item("1", "Apple profit rises"), complete=True)

    assert gone.written == StoriesWritten(unchanged=1, deleted=1)
    assert (room.stored("2")["deleted_at"], room.stored("2")["title"]) == (room.at, "")
    room.later(hours=1)
    back = room.give(*(room.item(each.source_id, each.title) for each in both), complete=True)
    assert back.written == StoriesWritten(unchanged=1, returned=1)
    assert (room.stored("2")["deleted_at"], room.stored("2")["title"]) == (None, "Bitcoin plunges")
    assert room.rows("SELECT * FROM human.story_revisions") == []


def test_an_empty_complete_answer_deletes_what_was_there(room: Room) -> None:
    room.give(room.item("1"), complete=True)
    room.later(hours=1)
    assert room.give(complete=True).written == StoriesWritten(deleted=1)


@pytest.mark.parametrize(
    "answer",
    [
        {"complete": False},
        {"complete": True, "asked": ("something else",)},
        {"complete": True, "source": "finnhub"},
        {"complete": True, "label": "sample"},
        {"complete": True, "refused": [{"id": "1"}]},
        {"complete": True, "refused": [{"title": "which one is not known"}]},
    ],
    ids=["incomplete", "other question", "other source", "sample", "unreadable", "unknown"],
)
def test_what_an_answer_cannot_tell_is_not_deleted(room: Room, answer: dict[str, Any]) -> None:
    room.give(room.item("1"), complete=True)
    room.later(hours=1)
    assert room.give(**answer).written.deleted == 0
    assert room.stored("1")["deleted_at"] is None


def test_an_item_outside_the_window_or_seen_after_the_answer_is_not_deleted(room: Room) -> None:
    room.give(room.item("1"))
    key = room.stored("1")["query_key"]

    def follow(since: datetime, at: datetime) -> int:
        return room.store.follow_deletions(
            "cryptopanic", key, since, since + timedelta(hours=1), [], at
        ).deleted

    assert follow(MORNING + timedelta(microseconds=1), room.at) == 0
    assert follow(MORNING - timedelta(hours=1), room.at) == 0
    assert follow(MORNING, room.at - timedelta(seconds=1)) == 0
    assert follow(MORNING, room.at) == 1


def test_deletions_are_undone_for_items_that_are_present_again(room: Room) -> None:
    room.give(room.item("1"))
    key = room.stored("1")["query_key"]
    window = (DAY, DAY + timedelta(days=1))
    room.store.follow_deletions("cryptopanic", key, *window, [], room.at)

    written = room.store.follow_deletions(
        "cryptopanic", key, *window, ["1"], room.at + timedelta(hours=1)
    )

    assert written == StoriesWritten(returned=1)
    assert room.stored("1")["deleted_at"] is None


def test_a_story_with_a_deleted_source_lives_on_with_the_others(room: Room) -> None:
    for source, story in three_sources(room).items():
        room.give(story, source=source)
    room.later(hours=1)
    room.give(room.item("1", "", is_deleted=True))

    (row,) = room.rows("SELECT * FROM human.news_sentiment")
    assert (row["sources"], row["title"]) == (["finnhub", "newscatcher"], "CBA in the green")


# --- what is not kept ---------------------------------------------------------------------


def test_items_about_nothing_watched_are_counted_and_not_stored(room: Room) -> None:
    report = room.give(
        room.item("1"),
        room.item("2", "The weather was fine"),
        room.item("3", "", is_deleted=True),
    )

    assert (report.items, report.stored, report.without_instrument, report.already_gone) == (
        3,
        1,
        1,
        1,
    )
    assert (report.first_published_at, report.last_published_at) == (MORNING, MORNING)
    assert room.stories() == [["1"]]


def test_what_cannot_be_used_goes_to_quarantine_once(room: Room) -> None:
    first = room.give(room.item("1"), refused=[{"id": "9"}])
    second = room.give(room.item("1"), refused=[{"id": "9"}])

    assert (first.quarantined, second.quarantined) == (1, 0)
    (row,) = room.rows("SELECT * FROM quality.quarantine")
    assert (row["dataset"], row["source"], row["payload"]) == (
        "news_sentiment",
        "cryptopanic",
        {"id": "9"},
    )


@pytest.mark.parametrize(
    ("column", "value", "named"),
    [
        ("score", 0.1, "label_fits_score"),
        ("label", "neutral", "label_fits_score"),
        ("votes", '{"a": "b"}', "votes_are_numbers"),
        ("observed_at", pd.Timestamp(MORNING - timedelta(minutes=11)), "not_from_the_future"),
        ("is_deleted", True, "deleted_items_have_no_text"),
    ],
)
def test_a_frame_that_breaks_the_contract_is_not_written(
    room: Room, column: str, value: Any, named: str
) -> None:
    room.give(room.item("1", "Apple profit rises, shares surge"))
    frame = room.store.read("news", DAY, DAY + timedelta(days=1))
    before = room.state()
    broken = frame.assign(**{column: value})

    with pytest.raises(ContractError, match=named):
        room.store.write(stories_frame(broken.to_dict("records")))

    assert room.state() == before


def test_an_answer_with_items_of_another_source_is_refused(room: Room) -> None:
    with pytest.raises(ContractError, match="one of cryptopanic"):
        room.give(room.item("1"), source="finnhub")


# --- texts and names ----------------------------------------------------------------------


def test_texts_are_removed_after_their_time_and_do_not_come_back(room: Room) -> None:
    room.give(room.item("1", "Apple profit rises, shares surge", body="Much to read."))
    room.later(hours=1)
    room.give(room.item("1", "Apple profit rises, shares soar", body="More to read."))
    young = room.item("2", "Bitcoin plunges", published_at=MORNING + HALF_HOUR)
    room.give(young)
    before, untouched = room.stored("1"), room.state()
    bound = MORNING + HALF_HOUR

    (policy,) = [each for each in policies() if each.name == "story_texts"]
    month_later = bound + timedelta(days=30)
    texts = room.platform.retention

    assert texts.apply([policy], month_later, dry_run=True)[0].due == 2  # and the old version
    assert room.state() == untouched
    assert texts.apply([policy], month_later, dry_run=False)[0].removed == 2
    assert texts.apply([policy], month_later, dry_run=False)[0].removed == 0

    row = room.stored("1")
    assert (row["title"], row["body"], row["text_removed_at"] is None) == ("", "", False)
    assert [row[name] for name in ("score", "label", "confidence")] == [
        before[name] for name in ("score", "label", "confidence")
    ]
    assert room.rows("SELECT title, body FROM human.story_revisions") == [{"title": "", "body": ""}]
    assert room.stored("2")["title"] == "Bitcoin plunges"
    emptied = room.state()
    room.later(hours=1)
    again = room.give(
        room.item("1", "Apple profit rises, shares soar", body="More to read."), young
    )
    assert again.written == StoriesWritten(unchanged=2)
    assert room.state() == emptied
    (shown,) = room.rows("SELECT * FROM human.news_sentiment WHERE is_text_removed")
    assert shown["symbols"] == ["AAPL"]


def test_no_name_of_an_author_is_anywhere_in_the_database(room: Room) -> None:
    hash_author = author_hasher(b"key", "reddit")
    posts = [
        room.item(
            str(number),
            "Thoughts on $AAPL",
            source="reddit",
            kind="social",
            body=f"As u/{AUTHOR} and @{AUTHOR} said on https://x.com/{AUTHOR}/status/1: {number}",
            url=f"https://www.reddit.com/user/{AUTHOR}/comments/{number}",
            author_hash=hash_author(AUTHOR),
            publisher="r/stocks",
        )
        for number in range(2)
    ]
    room.give(
        *posts, source="reddit", kind="social", refused=[{"id": "9", "title": f"by u/{AUTHOR}"}]
    )

    tables = room.rows(
        "SELECT c.oid::regclass::text AS name FROM pg_class AS c JOIN pg_namespace AS n "
        "ON n.oid = c.relnamespace WHERE n.nspname NOT LIKE 'pg\\_%%' "
        "AND n.nspname <> 'information_schema' AND c.relkind IN ('r', 'p')"
    )
    found = [
        table["name"]
        for table in tables
        if room.rows(f"SELECT 1 FROM {table['name']} AS t WHERE t::text ILIKE %s", f"%{AUTHOR}%")
    ]
    assert found == []
    assert room.stored("0")["author_hash"] == hash_author(AUTHOR.upper()) != ""


def test_a_name_in_place_of_a_hash_is_refused_without_being_repeated(room: Room) -> None:
    with pytest.raises(ContractError, match="no hash") as raised:
        room.give(room.item("1", author_hash=AUTHOR))
    assert AUTHOR not in str(raised.value)
    assert room.stories() == []


@pytest.mark.parametrize(
    "text",
    [
        "Apple 🍏🚀👨‍👩‍👧‍👦 to the moon",
        "سهم Apple يرتفع \u200f٣٪\u200f اليوم",
        "אפל Apple עולה ב־3%",
        "苹果 Apple 公司股价上涨",
        "e\u0301tude of Apple \ufeff\u2028 end",
    ],
)
def test_texts_in_any_script_are_stored_as_they_are(room: Room, text: str) -> None:
    room.give(room.item("1", text, body=text))
    row = room.stored("1")
    assert (row["title"], row["body"]) == (text, text)
    assert room.give(room.item("1", text, body=text)).written == StoriesWritten(unchanged=1)


def test_equal_posts_are_one_story_and_others_are_not(room: Room) -> None:
    def post(source_id: str, body: str) -> Story:
        return room.item(source_id, "", source="x", kind="social", body=body, url="")

    room.give(
        post("1", "$AAPL to the moon 🚀"),
        post("2", "$aapl to the  moon 🚀"),
        post("3", "$AAPL to the moon 🌑"),
        source="x",
        kind="social",
    )
    assert room.stories() == [["1", "2"], ["3"]]


# --- names of instruments, reading --------------------------------------------------------


def test_watched_instruments_come_with_their_aliases(room: Room) -> None:
    named = {each.symbol: each for each in room.pipeline.nameables()}
    assert named["BTC/USD"].aliases == ("Bitcoin",)
    assert "CommBank" in named["CBA"].aliases
    assert named["CBA"].name == "Commonwealth Bank of Australia"
    assert "APT" not in named  # has left the ASX


def test_aliases_that_users_change_stay_changed(room: Room) -> None:
    room.store.aliases()
    execute(room.platform, "DELETE FROM public.symbol_aliases WHERE alias = 'CommBank'")
    execute(room.platform, "INSERT INTO public.symbol_aliases VALUES ('us', 'AAPL', 'Cupertino')")
    aliases = room.store.aliases()
    assert aliases["asx", "CBA"] == ("Commonwealth Bank",)
    assert "Cupertino" in aliases["us", "AAPL"]


def test_what_is_read_keeps_the_contract(room: Room) -> None:
    room.give(room.item("1", votes={"positive": 2}), room.item("2", "Bitcoin plunges"))
    room.later(hours=1)
    room.give(room.item("2", "", is_deleted=True))

    read = room.store.read("news", DAY, DAY + timedelta(days=1))

    assert list(validate_stories(read)["is_deleted"]) == [False, True]
    assert room.store.read("social", DAY, DAY + timedelta(days=1)).empty


def test_a_mention_of_an_item_is_stored_with_how_it_was_found(room: Room) -> None:
    room.give(room.item("1", "Apple profit rises"))
    frame = room.store.read("news", DAY, DAY + timedelta(days=1))
    instrument = room.platform.reference.resolve("asx", ["BHP"])[0].instrument_id

    room.store.write(frame, [("cryptopanic", "1", Mention(instrument, "ticker", 0.6))])

    assert room.rows(
        "SELECT symbol, how, certainty FROM human.instrument_stories WHERE symbol = 'BHP'"
    ) == [{"symbol": "BHP", "how": "ticker", "certainty": 0.6}]
