"""XPosts against its lab: queries, the seven days, edits, X's ways of saying no."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from string import ascii_uppercase
from typing import Any

import pytest

from scizor_core.mentions import Hint, Nameable
from scizor_resources.authors import author_hasher
from scizor_resources.errors import AuthError, BadRequest, RateLimited, SchemaDrift
from scizor_resources.providers.gate import Gate
from scizor_resources.providers.stories import StoryBatch, StoryRequest
from scizor_resources.providers.x.posts import build_queries, cashtags

from .lab.ledgers import NOW, SINCE, UNTIL, Item
from .lab.server import Reply
from .lab.x_ledger import TOPICS, USAGE_CAP, XLab, invalid_request, make_client

#: Seven hundred stocks: codes enough for several queries.
MANY = tuple(
    Nameable(number, "us", f"Q{first}{second}X")
    for number, (first, second) in enumerate(
        (first, second) for first in ascii_uppercase for second in ascii_uppercase
    )
)


@pytest.fixture
def lab() -> Iterator[XLab]:
    with XLab() as running:
        yield running


def post(post_id: str, hour: float, text: str = "$BTC up", **more: Any) -> Item:
    return Item(post_id, SINCE + timedelta(hours=hour), text, **more)


def fetch(
    lab: XLab,
    since: datetime = SINCE,
    until: datetime = UNTIL,
    topics: tuple[Nameable, ...] = TOPICS,
    **more: Any,
) -> StoryBatch:
    client = make_client(lab, Gate("x", sleep=lambda _seconds: None), **more)
    try:
        return client.fetch(StoryRequest(since, until, topics))
    finally:
        client.close()


def ids(batch: StoryBatch) -> list[str]:
    return [story.source_id for story in batch.stories]


# --- queries ------------------------------------------------------------------------------


def test_posts_are_asked_for_by_cashtag_without_names_of_people(lab: XLab) -> None:
    fetch(lab)
    [seen] = lab.requests

    assert seen.path == "/2/tweets/search/recent"
    assert seen.query == {
        "query": "($AAPL OR $BTC OR $CBA) -is:retweet lang:en",
        "max_results": "100",
        "start_time": "2026-11-18T00:00:00Z",
        "end_time": "2026-11-19T00:00:00Z",
        "tweet.fields": "created_at,public_metrics,lang,author_id,entities,referenced_tweets,"
        "withheld",
    }


def test_codes_that_do_not_fit_go_into_further_queries(lab: XLab) -> None:
    fetch(lab, topics=MANY)
    queries = [seen.query["query"] for seen in lab.requests]

    assert all(len(query) <= 512 for query in queries)
    asked = [word for query in queries for word in query.split() if "$" in word]
    assert sorted(word.strip("()$") for word in asked) == sorted(each.symbol for each in MANY)
    # "$QAAX OR " has nine characters and 491 remain of 512: 54 codes a query, 676 codes.
    assert len(queries) == 13


def test_a_code_of_several_markets_is_asked_for_once() -> None:
    assert cashtags(["CBA", "CBA", "btc"]) == (["BTC", "CBA"], [])


def test_what_is_no_cashtag_would_spoil_the_query_and_is_said(lab: XLab) -> None:
    topics = (Nameable(1, "crypto", "1INCH/USD"), Nameable(2, "asx", "A2M"), TOPICS[0])
    batch = fetch(lab, topics=topics)

    assert lab.requests[0].query["query"].startswith("($BTC)")
    assert batch.notes == ["X has no cashtags for 1INCH, A2M."]
    assert batch.complete


def test_a_share_class_is_written_with_a_dot() -> None:
    assert build_queries(cashtags(["BRK-B"])[0]) == ["($BRK.B) -is:retweet lang:en"]


def test_nothing_to_ask_for_is_a_reason(lab: XLab) -> None:
    batch = fetch(lab, topics=())

    assert batch.empty_reason == "no watched instrument has a cashtag"
    assert lab.requests == []


# --- the window ---------------------------------------------------------------------------


def test_the_end_lies_at_least_ten_seconds_back(lab: XLab) -> None:
    fetch(lab, until=NOW + timedelta(hours=18))

    assert NOW - datetime.fromisoformat(lab.requests[0].query["end_time"]) >= timedelta(seconds=10)


def test_a_window_of_last_month_is_empty_without_a_call(lab: XLab) -> None:
    batch = fetch(lab, SINCE - timedelta(days=30), SINCE - timedelta(days=29))

    assert "seven days" in str(batch.empty_reason)
    assert not batch.complete
    assert lab.requests == []


def test_of_a_window_that_begins_too_early_the_rest_is_asked_for(lab: XLab) -> None:
    lab.items = [post("1", 1)]
    batch = fetch(lab, SINCE - timedelta(days=30))

    assert ids(batch) == ["1"]
    assert not batch.complete
    assert "seven days" in batch.notes[0]
    start = datetime.fromisoformat(lab.requests[0].query["start_time"])
    assert timedelta(days=6, hours=23) < NOW - start < timedelta(days=7)


def test_a_window_that_has_just_begun_is_empty_without_a_call(lab: XLab) -> None:
    batch = fetch(lab, NOW - timedelta(seconds=5), NOW + timedelta(hours=1))

    assert "just begun" in str(batch.empty_reason)
    assert lab.requests == []


def test_parts_of_seconds_at_the_edges_are_kept(lab: XLab) -> None:
    part = timedelta(milliseconds=500)
    fetch(lab, SINCE + part, UNTIL + part)

    query = lab.requests[0].query
    assert (query["start_time"], query["end_time"]) == (
        "2026-11-18T00:00:00Z",
        "2026-11-19T00:00:01Z",
    )


# --- posts --------------------------------------------------------------------------------


def test_a_post_becomes_a_story(lab: XLab) -> None:
    lab.items = [post("1859876543210987654", 1, "AT&T <3 $BTC @trader 🚀")]
    [story] = fetch(lab).stories

    assert (story.source, story.kind, story.publisher) == ("x", "social", "x.com")
    assert story.source_id == "1859876543210987654"
    assert (story.title, story.body) == ("", "AT&T <3 $BTC @user 🚀")
    assert story.url == "https://x.com/i/web/status/1859876543210987654"
    assert story.language == "en"
    assert story.hints == (Hint("BTC"),)
    assert story.votes == {"retweet_count": 2.0, "like_count": 7.0, "impression_count": 900.0}
    assert story.edited_at is None
    assert story.author_hash == author_hasher(b"key of the lab", "x")("771859876543210987654")


def test_an_edited_post_keeps_the_id_of_its_first_version(lab: XLab) -> None:
    lab.items = [post("30", 2)]
    lab.fields["30"] = {"edit_history_tweet_ids": ["9", "10", "30"]}
    [story] = fetch(lab).stories

    assert story.source_id == "9"
    assert story.edited_at == SINCE + timedelta(hours=2)
    assert story.url.endswith("/30")


@pytest.mark.parametrize("hours", [(1, 2), (2, 1)], ids=["newest first", "newest last"])
def test_of_two_versions_of_a_post_the_newest_counts(lab: XLab, hours: tuple[int, int]) -> None:
    lab.items = [post("9", hours[0], "first"), post("10", hours[1], "second")]
    lab.fields = {each: {"edit_history_tweet_ids": ["9", "10"]} for each in ("9", "10")}
    [story] = fetch(lab).stories

    assert (story.source_id, story.body) == ("9", "second")


def test_a_post_found_by_two_queries_is_one(lab: XLab) -> None:
    lab.items = [post("1", 1)]
    batch = fetch(lab, topics=MANY[:80])

    assert len(lab.requests) == 2
    assert ids(batch) == ["1"]


def test_withdrawn_posts_are_counted_each_once(lab: XLab) -> None:
    lab.items = [post("1", 1)]
    lab.withdrawn = ["5", "6"]
    batch = fetch(lab, topics=MANY[:80])

    assert batch.notes == ["X left out 2 posts that are deleted or protected."]
    assert batch.complete


@pytest.mark.parametrize(
    ("withheld", "is_deleted"),
    [
        ({"copyright": True, "country_codes": ["XY"]}, True),
        ({"copyright": False, "country_codes": ["XX"]}, True),
        ({"copyright": False, "country_codes": ["DE"]}, False),
    ],
    ids=["copyright", "everywhere", "one country"],
)
def test_a_post_withheld_everywhere_has_no_text(
    lab: XLab, withheld: dict[str, Any], is_deleted: bool
) -> None:
    lab.items = [post("1", 1)]
    lab.fields["1"] = {"withheld": withheld}
    [story] = fetch(lab).stories

    assert story.is_deleted is is_deleted
    assert (story.body == "") is is_deleted


@pytest.mark.parametrize(
    "fields",
    [
        {"id": 1859876543210987654},
        {"created_at": "2026-11-18T01:00:00"},
        {"created_at": None},
        {"text": None},
        {"text": ""},
    ],
    ids=["number as id", "no zone", "no time", "no text", "empty text"],
)
def test_a_post_that_cannot_be_read_costs_only_itself(lab: XLab, fields: dict[str, Any]) -> None:
    lab.items = [post("1", 1), post("2", 2, author="Trader_1")]
    lab.fields["2"] = fields
    batch = fetch(lab)

    assert ids(batch) == ["1"]
    assert len(batch.rejected) == 1
    assert "Trader_1" not in str(batch.rejected.to_dict("records"))


@pytest.mark.parametrize("lang", ["und", "qme", None, 5])
def test_a_language_that_is_none_is_not_named(lab: XLab, lang: Any) -> None:
    lab.items = [post("1", 1)]
    lab.fields["1"] = {"lang": lang}

    assert fetch(lab).stories[0].language == ""


@pytest.mark.parametrize(
    "answer",
    [
        {},
        [],
        {"meta": {"result_count": 3}},
        {"meta": {}},
        {"data": {}, "meta": {"result_count": 0}},
        {"meta": {"result_count": 0, "next_token": 5}},
    ],
    ids=["empty", "list", "no data", "no count", "data is no list", "token is no text"],
)
def test_an_answer_of_another_shape_is_drift(lab: XLab, answer: Any) -> None:
    lab.answers = [Reply(answer)]
    with pytest.raises(SchemaDrift):
        fetch(lab)


def test_a_page_that_names_itself_as_the_next_is_drift(lab: XLab) -> None:
    lab.answers = [Reply({"meta": {"result_count": 0, "next_token": "same"}})] * 5
    batch = fetch(lab)

    assert isinstance(batch.failure, SchemaDrift)
    assert len(lab.requests) == 2


def test_an_answer_in_part_is_not_complete(lab: XLab) -> None:
    lab.answers = [Reply({"meta": {"result_count": 0}, "errors": [{"title": "Operational"}]})]
    batch = fetch(lab)

    assert not batch.complete
    assert batch.notes == ["X answered in part only: Operational."]


# --- refusals -----------------------------------------------------------------------------

CREDITS = {"title": "CreditsDepleted", "detail": "No credits", "status": 402}


@pytest.mark.parametrize(
    ("body", "status"),
    [(USAGE_CAP, 429), (USAGE_CAP, 403), (CREDITS, 402)],
    ids=["429", "403", "402"],
)
def test_what_was_paid_for_and_is_used_up_is_said_and_not_tried_again(
    lab: XLab, body: dict[str, Any], status: int
) -> None:
    lab.answers = [Reply(body, status, {"Retry-After": "1"})] * 9
    with pytest.raises(AuthError, match="used up") as caught:
        fetch(lab, topics=MANY[:80])

    assert len(lab.requests) == 1
    assert USAGE_CAP["account_id"] not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"errors": [{"code": 88, "message": "Rate limit exceeded"}]}, 429),
        ({"errors": [{"code": 88, "message": "Rate limit exceeded"}]}, 200),
        ({"title": "Too Many Requests", "detail": "Too Many Requests", "status": 429}, 429),
    ],
    ids=["code", "code with 200", "problem"],
)
def test_too_many_calls_are_known_in_both_shapes(
    lab: XLab, body: dict[str, Any], status: int
) -> None:
    lab.answers = [Reply(body, status, {"x-rate-limit-reset": "540"})]
    with pytest.raises(RateLimited) as caught:
        fetch(lab)

    assert caught.value.retry_after == 540


def test_an_app_that_is_not_enrolled_is_told_in_the_words_of_x(lab: XLab) -> None:
    body = {"title": "Client Forbidden", "detail": "Attach the app to a Project.", "status": 403}
    lab.answers = [Reply(body, 403)]
    with pytest.raises(AuthError, match="Attach the app to a Project"):
        fetch(lab)


def test_a_query_that_x_does_not_understand_does_not_keep_the_others(lab: XLab) -> None:
    lab.items = [post("1", 1)]
    lab.answers = [invalid_request("no viable alternative at character '$'")]
    batch = fetch(lab, topics=MANY[:80])

    assert ids(batch) == ["1"]
    assert len(batch.errors) == 1
    assert isinstance(batch.failure, BadRequest)
    assert "no viable alternative" in str(batch.failure)
    assert not batch.complete


def test_a_refusal_on_a_later_page_keeps_what_came(lab: XLab) -> None:
    lab.items = [post("1", 1)]
    data = [{"id": "7", "text": "$BTC", "created_at": "2026-11-18T05:00:00.000Z", "author_id": "3"}]
    lab.answers = [
        Reply({"data": data, "meta": {"result_count": 1, "next_token": "b1"}}),
        lab.error("rate_limited"),
    ]
    batch = fetch(lab, topics=MANY[:80])

    assert ids(batch) == ["7"]
    assert len(batch.errors) == 2
    assert isinstance(batch.failure, RateLimited)
    assert len(lab.requests) == 2


def test_without_a_token_nothing_is_asked(lab: XLab) -> None:
    with pytest.raises(AuthError, match="SCIZOR_X_BEARER_TOKEN"):
        fetch(lab, bearer=None)

    assert lab.requests == []
