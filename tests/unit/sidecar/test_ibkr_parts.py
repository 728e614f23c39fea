"""The parts of IBKR's feed that do no I/O: messages, books, lines, links, and who gets what."""

import asyncio
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scizor_core.stream.trades import NO_TIME
from scizor_sidecar.feeds.base import Stream
from scizor_sidecar.feeds.ibkr_book import DepthBook
from scizor_sidecar.feeds.ibkr_desk import Desk
from scizor_sidecar.feeds.ibkr_link import LinkNews, Links
from scizor_sidecar.feeds.ibkr_plan import Quota, key_of, make_plan
from scizor_sidecar.feeds.ibkr_wire import (
    BookRow,
    Confirmed,
    DataType,
    LiveTrade,
    ServerTime,
    Side,
    Unreadable,
    VolumeTick,
    read,
)
from scizor_sidecar.pipeline import FeedPipeline
from tests.unit.sidecar.fakes import Clock

_KINDS = ("1", "2", "4", "12", "13", "46", "49", "58", "81", "99", "9", "10", "52", "-1", "1e9", "")
_FIELDS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["nan", "inf", "-1", "0", "1", "2", "48", "1e400", "9" * 60, "1;2;3;4;5;6"]),
    st.integers().map(str),
    st.floats().map(str),
)


@given(st.sampled_from(_KINDS) | st.text(max_size=5), st.lists(_FIELDS, max_size=12))
def test_any_fields_are_read_without_an_error(kind: str, rest: list[str]) -> None:
    heard = read([kind, *rest])
    if isinstance(heard, LiveTrade | VolumeTick):
        assert heard.ts == NO_TIME or heard.ts > 0
    if isinstance(heard, BookRow) and heard.operation != 2:
        assert heard.price > 0


@given(st.lists(st.tuples(st.sampled_from(_KINDS), st.lists(_FIELDS, max_size=9)), max_size=30))
def test_whatever_is_read_can_be_handed_over(messages: list[tuple[str, list[str]]]) -> None:
    clock = Clock()

    async def hand_over() -> None:
        pipeline = FeedPipeline("ibkr", [], clock.now)
        desk = Desk(pipeline, clock.now, 5)
        key = ("asx", "CBA")
        desk.streams = {key: Stream(*key, 1, depth=True)}
        desk.open_line(key, is_new=True, holds=True)
        desk.open_book(key)
        for kind, rest in messages:
            heard = read([kind, *rest])
            if isinstance(heard, LiveTrade):
                desk.trade(key, heard)
            elif isinstance(heard, VolumeTick):
                desk.sampled_trade(key, heard)
            elif isinstance(heard, Side):
                desk.side(key, heard)
            elif isinstance(heard, BookRow):
                desk.book_row(key, heard)
        desk.release(key)
        desk.flush()
        pipeline.step()

    asyncio.run(hand_over())


@pytest.mark.parametrize(
    ("message", "heard"),
    [
        ("99|7|2|1772496000|100.5|3|0|ASX|", LiveTrade(7, 1_772_496_000_000_000, 100.5, 3, 0)),
        ("99|7|1|1772496000|100.5|3|3|ASX|XT", LiveTrade(7, 1_772_496_000_000_000, 100.5, 3, 3)),
        (
            "46|6|7|48|701.28;1;1348075471534;67854;701.46918464;true",
            VolumeTick(7, 1_348_075_471_000_000, 701.28, 1, 67854),
        ),
        ("46|6|7|45|1772496000", Confirmed(7)),
        ("1|6|7|1|99.5|200|1", Side(7, True, 99.5, 200)),
        ("1|6|7|9|99.5|0|0", Confirmed(7)),
        ("2|6|7|3|150", Side(7, False, None, 150)),
        ("12|1|7|0|0|1|99.5|10", BookRow(7, 0, 0, True, 99.5, 10)),
        ("13|1|7|2|ASX|1|0|99.5|10|1", BookRow(7, 2, 1, False, 99.5, 10)),
        ("58|1|7|3", DataType(7, 3)),
        ("81|7|0.01|a6|3", Confirmed(7)),
        ("49|1|1772496000", ServerTime(1_772_496_000_000_000)),
        ("46|6|7|48|701.28;1;1348075471534", Unreadable),
        ("12|1|7|0|0|1|-99.5|10", Unreadable),
        ("12|1|7", Unreadable),
        ("999", Unreadable),
    ],
)
def test_a_message_says_what_ibkrs_protocol_says(message: str, heard: object) -> None:
    found = read(message.split("|"))
    assert found == heard or (isinstance(heard, type) and isinstance(found, heard))


def test_the_volume_of_the_day_alone_is_no_trade() -> None:
    heard = read(["46", "6", "7", "48", ";0;1348075471534;67854;701.4;false"])
    assert isinstance(heard, VolumeTick)
    assert not heard.is_trade
    assert math.isnan(heard.price)


def test_a_bid_of_minus_one_is_nobody() -> None:
    heard = read(["1", "6", "7", "1", "-1", "0", "1"])
    assert isinstance(heard, Side)
    assert heard.price is not None
    assert math.isnan(heard.price)


# ---- books


_CHANGES = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 5), st.floats(1, 1000), st.floats(1, 1000)),
    max_size=40,
)


@given(_CHANGES)
def test_a_book_is_the_list_that_its_changes_make(
    changes: list[tuple[int, int, float, float]],
) -> None:
    rows = 4
    book, expected = DepthBook(rows), list[tuple[float, float]]()
    for operation, position, price, size in changes:
        sound = book.apply(BookRow(1, position, operation, True, price, size))
        assert sound == (operation == 2 or position <= len(expected))
        if operation == 2:
            expected = expected[:position] + expected[position + 1 :]
        elif sound:
            rest = expected[position + 1 :] if operation == 1 else expected[position:]
            expected = [*expected[:position], (price, size), *rest][:rows]
        assert book.bids == expected
    assert book.asks == []


@pytest.mark.parametrize(
    ("bids", "asks", "is_ordered"),
    [
        ([99.5, 99.25], [100.5, 100.75], True),
        ([99.5, 99.5], [], True),
        ([], [], True),
        ([99.25, 99.5], [], False),
        ([], [100.75, 100.5], False),
        ([100.5], [100.5], False),
    ],
)
def test_a_book_is_shown_only_where_its_sides_are_ordered_and_apart(
    bids: list[float], asks: list[float], *, is_ordered: bool
) -> None:
    book = DepthBook(10)
    for is_bid, side in ((True, bids), (False, asks)):
        for position, price in enumerate(side):
            book.apply(BookRow(1, position, 0, is_bid, price, 1))
    assert book.is_ordered is is_ordered


# ---- links


def test_a_link_that_is_lost_is_back_with_or_without_its_subscriptions() -> None:
    links = Links()
    assert links.hear(1100, "lost") is LinkNews.LOST
    assert links.hear(2110, "lost") is None
    assert links.hear(1102, "restored") is LinkNews.BACK
    assert links.hear(1100, "lost") is LinkNews.LOST
    assert links.hear(1101, "restored") is LinkNews.BACK_WITHOUT_DATA
    assert links.why == ""


def test_a_link_that_is_back_does_not_bring_back_a_farm_that_it_says_is_not_connected() -> None:
    links = Links()
    links.hear(1100, "lost")
    links.hear(2103, "Market data farm connection is broken:hfarm")
    links.hear(2103, "Market data farm connection is broken:usfarm")
    words = "restored. Connected: usfarm. The following farms are not connected: hfarm."
    assert links.hear(1102, words) is None
    assert "hfarm" in links.why
    assert links.hear(2104, "Market data farm connection is OK:hfarm") is LinkNews.BACK


def test_data_do_not_bring_back_a_lost_link() -> None:
    links = Links()
    links.hear(1100, "lost")
    assert links.data_came() is None
    assert links.is_link_lost


# ---- who gets what


_STREAMS = st.frozensets(
    st.builds(
        lambda symbol, depth: Stream("asx", symbol, 1, depth),
        st.sampled_from([f"S{number:02d}" for number in range(60)]),
        st.booleans(),
    )
).map(lambda found: frozenset({key_of(each): each for each in found}.values()))


@given(_STREAMS, _STREAMS, st.integers(1, 50), st.integers(0, 5))
def test_a_plan_keeps_to_the_quota_and_what_is_there_keeps_its_place(
    first: frozenset[Stream], then: frozenset[Stream], lines: int, depths: int
) -> None:
    quota = Quota(lines, depths)
    before = make_plan(first, quota)
    after = make_plan(
        then,
        quota,
        lined=before.lines,
        ticked=before.tick_by_tick,
        booked=before.books,
    )
    for plan in (before, after):
        assert len(plan.lines) + len(plan.tick_by_tick) + len(plan.books) <= lines
        assert len(plan.tick_by_tick) <= quota.tick_by_tick
        assert len(plan.books) <= depths
        assert plan.tick_by_tick | plan.books <= set(plan.lines)
    wanted = {key_of(each) for each in then}
    assert set(after.lines) | set(after.left_out) == wanted
    assert wanted & set(before.lines) <= set(after.lines)
    assert after.tick_by_tick & set(before.lines) <= before.tick_by_tick


def test_the_limits_of_forty_lines_leave_room_for_three_books_and_three_times_tick_by_tick() -> (
    None
):
    quota = Quota(40, 3)
    assert (quota.limits.streams, quota.limits.depths, quota.tick_by_tick) == (34, 3, 3)
