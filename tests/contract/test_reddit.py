"""RedditPosts against its lab: tokens, paging by time, subreddits that cannot be read."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from scizor_core.errors import ConfigError
from scizor_resources.authors import author_hasher
from scizor_resources.errors import AuthError, BadRequest, RateLimited, SchemaDrift
from scizor_resources.providers.gate import Gate
from scizor_resources.providers.stories import StoryBatch, StoryRequest

from .lab.ledgers import NOW, SINCE, UNTIL, Item
from .lab.reddit_ledger import CLIENT_PASS, RedditLab, listing, make_client, refusal
from .lab.server import HTML_PAGE, Reply

LONG_AGO = datetime(2024, 2, 1, tzinfo=UTC)
HTML = {"Content-Type": "text/html"}


@pytest.fixture
def lab() -> Iterator[RedditLab]:
    with RedditLab() as running:
        yield running


def post(number: int, hour: float, text: str = "Iron ore up", **more: Any) -> Item:
    return Item(str(number), SINCE + timedelta(hours=hour), text, **more)


def fetch(lab: RedditLab, *subreddits: str, **more: Any) -> StoryBatch:
    client = make_client(
        lab,
        Gate("reddit", sleep=lambda _seconds: None),
        subreddits=subreddits or ("stocks:us",),
        **more,
    )
    try:
        return client.fetch(StoryRequest(SINCE, UNTIL, ()))
    finally:
        client.close()


def ids(batch: StoryBatch) -> list[str]:
    return [story.source_id for story in batch.stories]


def paths(lab: RedditLab) -> list[str]:
    return [seen.path for seen in lab.requests]


# --- tokens -------------------------------------------------------------------------------


def test_one_token_serves_all_subreddits(lab: RedditLab) -> None:
    fetch(lab, "stocks:us", "ASX_Bets:asx")

    assert paths(lab) == ["/api/v1/access_token", "/r/stocks/new", "/r/ASX_Bets/new"]
    assert {seen.headers["user-agent"] for seen in lab.requests} == {"python:lab:1 (by the lab)"}


@pytest.mark.parametrize(("life_seconds", "tokens"), [(61, 1), (59, 2)], ids=["good", "ending"])
def test_a_token_that_is_about_to_end_is_renewed(
    lab: RedditLab, life_seconds: int, tokens: int
) -> None:
    lab.life_seconds = life_seconds
    fetch(lab, "stocks", "investing")

    assert lab.tokens == tokens


def test_a_token_that_has_ended_early_is_replaced_once(lab: RedditLab) -> None:
    lab.items = [post(1, 1)]
    lab.ended = {"T1"}

    assert ids(fetch(lab)) == ["1"]
    assert lab.tokens == 2


def test_a_second_token_that_is_refused_is_an_error(lab: RedditLab) -> None:
    lab.ended = {"T1", "T2", "T3"}
    with pytest.raises(AuthError, match="does not accept the token"):
        fetch(lab, "stocks", "investing")

    assert lab.tokens == 2


def test_a_wrong_secret_is_said_once_and_without_it(lab: RedditLab) -> None:
    with pytest.raises(AuthError, match="SCIZOR_REDDIT_CLIENT_SECRET") as caught:
        fetch(lab, "stocks", "investing", secret="not-the-secret")

    assert "not-the-secret" not in repr(caught.value)
    assert len(lab.requests) == 1


def test_without_an_app_nothing_is_asked(lab: RedditLab) -> None:
    with pytest.raises(AuthError, match="set SCIZOR_REDDIT_CLIENT_ID"):
        fetch(lab, secret=None)

    assert lab.requests == []


def test_a_token_answer_of_another_shape_is_drift(lab: RedditLab) -> None:
    lab.life_seconds = None
    with pytest.raises(SchemaDrift):
        fetch(lab)


def test_the_secret_does_not_show_in_the_client(lab: RedditLab) -> None:
    client = make_client(lab, Gate("reddit"))

    assert CLIENT_PASS not in repr(vars(client))


# --- reading back to the window's start ---------------------------------------------------


def test_reading_stops_with_the_page_that_is_older_than_the_window(lab: RedditLab) -> None:
    lab.page_size = 2
    lab.items = [post(n, hour) for n, hour in enumerate((-60, -50, -40, -30, 1, 2), start=1)]
    batch = fetch(lab)

    assert ids(batch) == ["5", "6"]
    assert batch.complete
    assert len(lab.data_requests) == 2


def test_an_old_post_kept_on_top_does_not_end_the_reading(lab: RedditLab) -> None:
    lab.page_size = 1
    lab.items = [Item("1", LONG_AGO, "Rules of this place"), post(2, 1), post(3, 2)]
    lab.fields["1"] = {"stickied": True}
    batch = fetch(lab)

    assert ids(batch) == ["2", "3"]
    assert batch.outside == 1


def test_a_post_on_top_and_one_for_adults_are_kept(lab: RedditLab) -> None:
    lab.items = [post(1, 1), post(2, 2)]
    lab.fields = {"1": {"stickied": True}, "2": {"over_18": True}}

    assert ids(fetch(lab)) == ["1", "2"]


def test_a_listing_that_ends_by_itself_is_complete(lab: RedditLab) -> None:
    lab.items = [post(1, 1)]
    batch = fetch(lab)

    assert batch.complete
    assert batch.notes == []


def test_a_listing_of_a_thousand_posts_is_not_complete(lab: RedditLab) -> None:
    lab.items = [post(1, 1)]
    lab.capped = True
    batch = fetch(lab)

    assert ids(batch) == ["1"]
    assert not batch.complete
    assert "r/stocks was not read back to 2026-11-18T00:00:00Z" in batch.notes[0]
    assert len(lab.data_requests) == 10


@pytest.mark.parametrize(
    "page",
    [listing(5), listing([], 5), Reply([]), Reply({"data": []})],
    ids=["no list", "number", "list", "no page"],
)
def test_a_listing_of_another_shape_is_drift(lab: RedditLab, page: Reply) -> None:
    lab.pages = [page]
    with pytest.raises(SchemaDrift):
        fetch(lab)


def test_a_page_that_names_itself_as_the_next_is_drift(lab: RedditLab) -> None:
    lab.pages = [listing([], "t3_1")] * 5

    assert isinstance(fetch(lab).failure, SchemaDrift)
    assert len(lab.data_requests) == 2


def test_a_listing_that_breaks_off_is_not_complete(lab: RedditLab) -> None:
    lab.pages = [listing([], "t3_1"), listing([])]
    batch = fetch(lab)

    assert not batch.complete
    assert "broke off" in batch.notes[0]


def test_a_subreddit_without_posts_is_complete(lab: RedditLab) -> None:
    assert fetch(lab).complete


# --- posts --------------------------------------------------------------------------------


def test_a_post_becomes_a_story_of_its_place(lab: RedditLab) -> None:
    lab.items = [post(1, 1, "Ask @someone about $BHP", author="Miner_1")]
    lab.fields["1"] = {"selftext": "It rose. 🚀"}
    [story] = fetch(lab, "ASX_Bets:asx").stories

    assert (story.source, story.kind, story.market) == ("reddit", "social", "asx")
    assert (story.title, story.body) == ("Ask @user about $BHP", "It rose. 🚀")
    assert story.publisher == "r/ASX_Bets"
    assert story.url == "https://www.reddit.com/r/ASX_Bets/comments/1/a_title/"
    assert story.published_at == SINCE + timedelta(hours=1)
    assert story.observed_at == NOW
    assert story.votes == {"score": 12.0, "upvote_ratio": 0.85, "num_comments": 3.0}
    assert story.author_hash == author_hasher(b"key of the lab", "reddit")("Miner_1")


def test_a_place_without_a_market_is_about_any(lab: RedditLab) -> None:
    lab.items = [post(1, 1)]

    assert fetch(lab, "stocks").stories[0].market is None


@pytest.mark.parametrize(
    "fields",
    [
        {"author": None, "selftext": "[deleted]"},
        {"author": "[deleted]", "title": "[deleted by user]", "selftext": "[removed]"},
        {"author": None, "title": "[removed]"},
        {"removed_by_category": "moderator"},
        {"removed_by_category": "automod_filtered", "selftext": "[removed]"},
    ],
    ids=["text", "by user", "title", "moderator", "robot"],
)
def test_a_post_that_was_taken_away_leaves_nothing_but_its_id(
    lab: RedditLab, fields: dict[str, Any]
) -> None:
    lab.items = [post(1, 1, author="Miner_1")]
    lab.fields["1"] = fields
    [story] = fetch(lab).stories

    assert story.is_deleted
    assert (story.text, story.url, story.author_hash, dict(story.votes)) == ("", "", "", {})


@pytest.mark.parametrize("author", [None, "[deleted]"])
def test_a_post_whose_author_has_left_stays(lab: RedditLab, author: str | None) -> None:
    lab.items = [post(1, 1)]
    lab.fields["1"] = {"author": author}
    [story] = fetch(lab).stories

    assert not story.is_deleted
    assert (story.text, story.author_hash) == ("Iron ore up", "")


@pytest.mark.parametrize(
    ("edited", "hours"),
    [(False, None), (True, None), ((SINCE + timedelta(hours=3)).timestamp(), 3), (0.0, None)],
    ids=["never", "long ago", "at three", "1970"],
)
def test_an_edit_has_its_time(lab: RedditLab, edited: Any, hours: int | None) -> None:
    lab.items = [post(1, 1)]
    lab.fields["1"] = {"edited": edited}

    expected = None if hours is None else SINCE + timedelta(hours=hours)
    assert fetch(lab).stories[0].edited_at == expected


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"created_utc": None}, "created_utc"),
        ({"created_utc": "1763424000"}, "created_utc"),
        ({"created_utc": 1e300}, "created_utc"),
        ({"id": None}, "id"),
        ({"title": {"a": 1}}, "title"),
    ],
    ids=["no time", "time as text", "time out of reach", "no id", "title"],
)
def test_a_post_that_cannot_be_read_costs_only_itself(
    lab: RedditLab, fields: dict[str, Any], reason: str
) -> None:
    lab.items = [post(1, 1), post(2, 2, author="Miner_1")]
    lab.fields["2"] = fields
    batch = fetch(lab)

    assert ids(batch) == ["1"]
    assert len(batch.rejected) == 1
    assert reason in batch.rejected["reason"][0]
    assert "Miner_1" not in str(batch.rejected.to_dict("records"))


def test_times_that_have_become_text_everywhere_are_drift(lab: RedditLab) -> None:
    lab.items = [post(1, 1), post(2, 2)]
    lab.fields = {each: {"created_utc": "2026-11-18T01:00:00Z"} for each in ("1", "2")}
    with pytest.raises(SchemaDrift, match="created_utc"):
        fetch(lab)


# --- subreddits ---------------------------------------------------------------------------

CLOSED = {
    "private": refusal(403, "private"),
    "banned": refusal(404, "banned"),
    "unknown": Reply(b"", 302, {"Location": "https://www.reddit.com/subreddits/search"}),
}


@pytest.mark.parametrize("place", list(CLOSED))
def test_a_subreddit_that_cannot_be_read_leaves_the_others_complete(
    lab: RedditLab, place: str
) -> None:
    lab.places = CLOSED
    lab.items = [post(1, 1)]
    batch = fetch(lab, place, "stocks")

    assert ids(batch) == ["1"]
    assert [note.partition(":")[0] for note in batch.notes] == [f"r/{place}"]
    assert "SCIZOR_REDDIT_SUBREDDITS" in batch.notes[0]
    assert batch.errors == {}
    assert batch.failure is None
    assert batch.complete


def test_a_subreddit_that_cannot_be_read_is_no_part_of_what_is_compared(lab: RedditLab) -> None:
    lab.places = CLOSED

    assert fetch(lab, "private", "stocks").query_key == fetch(lab, "stocks").query_key


@pytest.mark.parametrize("kind", ["rate_limited", "server_error"])
def test_a_subreddit_that_fails_for_a_while_keeps_its_part_of_what_is_compared(
    lab: RedditLab, kind: Any
) -> None:
    asked = fetch(lab, "stocks", "investing").query_key
    lab.places["investing"] = lab.error(kind)
    batch = fetch(lab, "stocks", "investing")

    assert list(batch.errors) == ["r/investing"]
    assert batch.query_key == asked
    assert not batch.complete


def test_a_subreddit_that_closes_while_it_is_read_is_an_error(lab: RedditLab) -> None:
    lab.pages = [listing([], "t3_1"), CLOSED["private"]]
    batch = fetch(lab)

    assert list(batch.errors) == ["r/stocks"]
    assert not batch.complete


def test_when_no_subreddit_can_be_read_that_is_an_error(lab: RedditLab) -> None:
    lab.places = CLOSED
    with pytest.raises(BadRequest, match="SCIZOR_REDDIT_SUBREDDITS"):
        fetch(lab, "private", "banned")


def test_a_refusal_for_all_ends_the_asking_and_keeps_what_came(lab: RedditLab) -> None:
    lab.items = [post(1, 1)]
    lab.places["investing"] = lab.error("rate_limited")
    batch = fetch(lab, "stocks", "investing", "wallstreetbets")

    assert ids(batch) == ["1"]
    assert set(batch.errors) == {"r/investing", "r/wallstreetbets"}
    assert isinstance(batch.failure, RateLimited)
    assert batch.failure.retry_after == 246
    assert len(lab.data_requests) == 2


def test_a_page_in_place_of_a_refusal_is_about_who_asks(lab: RedditLab) -> None:
    lab.places["stocks"] = Reply(HTML_PAGE, 403, HTML)
    with pytest.raises(AuthError, match="SCIZOR_REDDIT_USER_AGENT"):
        fetch(lab, "stocks", "investing")

    assert len(lab.data_requests) == 1


def test_a_profile_page_is_no_subreddit(lab: RedditLab) -> None:
    with pytest.raises(ConfigError, match="profile"):
        fetch(lab, "u_somebody")


def test_no_subreddit_is_a_reason(lab: RedditLab) -> None:
    client = make_client(lab, Gate("reddit"), subreddits=())
    batch = client.fetch(StoryRequest(SINCE, UNTIL, ()))

    assert batch.empty_reason == "no subreddit is named in SCIZOR_REDDIT_SUBREDDITS"
    assert lab.requests == []


def test_answers_compare_only_for_the_same_subreddits(lab: RedditLab) -> None:
    one, same, other = fetch(lab, "a1", "b1"), fetch(lab, "b1:us", "a1"), fetch(lab, "a1")

    assert one.query_key == same.query_key
    assert one.query_key != other.query_key
