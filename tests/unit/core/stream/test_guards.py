from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scizor_core.markets import MARKETS, PriceSteps
from scizor_core.sessions import get_calendar
from scizor_core.stream.engine import BarEngine
from scizor_core.stream.guards import Limits, SessionClock, TradeGuard, Verdict, judge_quote
from scizor_core.stream.trades import NO_TIME, make_batch

SECOND = 1_000_000


def us(*moment: int) -> int:
    return int(datetime(*moment, tzinfo=UTC).timestamp()) * SECOND  # type: ignore[misc,arg-type]


NOW = us(2026, 3, 2, 12)


def guard_of(market: str = "crypto", price_steps: PriceSteps = ()) -> TradeGuard:
    guard = TradeGuard()
    guard.set_price_steps(guard.add(SessionClock(get_calendar(market))), price_steps)
    return guard


def rule_of(guard: TradeGuard, ts: int, price: float, size: float = 1.0, **more: int) -> str:
    return guard.judge(make_batch([0], [ts], [price], [size]), NOW, **more).rule_name(0)


@pytest.mark.parametrize("price", [0.0, -1.0, float("nan"), float("inf")])
def test_a_price_that_is_none_is_quarantined(price: float):
    guard = guard_of()

    judged = guard.judge(make_batch([0], [NOW], [price], [1.0]), NOW)

    assert judged.rule_name(0) == "bad_price"
    assert judged.verdict[0] == Verdict.QUARANTINE


@pytest.mark.parametrize("size", [0.0, -1.0, float("nan"), float("inf")])
def test_a_size_that_is_none_is_quarantined(size: float):
    assert rule_of(guard_of(), NOW, 10.0, size) == "bad_size"


@pytest.mark.parametrize("ts", [NO_TIME, 0, us(1980, 1, 1), 2**63 - 1], ids=str)
def test_a_time_that_is_none_is_quarantined(ts: int):
    assert rule_of(guard_of(), ts, 10.0) == "bad_time"


def test_a_trade_from_the_future_is_quarantined_and_one_of_a_fast_clock_is_not():
    assert rule_of(guard_of(), NOW + 6 * SECOND, 10.0) == "future_time"
    assert rule_of(guard_of(), NOW + 4 * SECOND, 10.0) == ""


def test_a_trade_far_behind_the_feeds_newest_is_stale_unless_it_was_asked_for():
    guard = guard_of()
    old = make_batch([0], [NOW - 301 * SECOND], [10.0], [1.0])

    assert guard.judge(old, NOW, NOW).rule_name(0) == "stale_time"
    assert guard.judge(old, NOW, NOW, healing=True).rule_name(0) == ""


@pytest.mark.parametrize(
    ("moment", "rule"),
    [
        # Sydney is eleven hours ahead: the session runs from 10:00 (23:00 UTC) to 16:00 (05:00).
        ((2026, 3, 1, 22, 59, 59), "outside_session"),
        ((2026, 3, 1, 23, 0, 0), ""),
        ((2026, 3, 2, 5, 12, 59), ""),
        ((2026, 3, 2, 5, 13, 0), "outside_session"),
        ((2026, 2, 28, 0, 0, 0), "outside_session"),
    ],
    ids=["before the open", "the open", "the auction", "after the auction", "Saturday"],
)
def test_a_trade_outside_of_the_session_is_quarantined(moment: tuple[int, ...], rule: str):
    assert rule_of(guard_of("asx"), us(*moment), 100.0) == rule


def test_a_jump_of_more_than_ten_percent_is_flagged_and_counts():
    guard = guard_of()

    judged = guard.judge(make_batch([0] * 3, [NOW] * 3, [100.0, 110.0, 121.1], [1.0] * 3), NOW)

    assert [judged.rule_name(row) for row in range(3)] == ["", "", "price_jump"]
    assert judged.verdict[2] == Verdict.FLAG
    assert guard.last_price(0) == 121.1


def test_a_price_off_its_tick_is_flagged():
    guard = guard_of(price_steps=((0.0, 0.01),))

    assert rule_of(guard, NOW, 10.01) == ""
    assert rule_of(guard, NOW, 10.015) == "off_tick"
    assert rule_of(guard_of(price_steps=((0.0, 0.1),)), NOW, 98_765.43) == "off_tick"
    assert rule_of(guard_of(price_steps=((0.0, 0.1),)), NOW, 98_765.4) == ""


@pytest.mark.parametrize(
    ("price", "rule"),
    [
        # The exchange's steps: 0.1 cent below 10 cents, half a cent below 2 dollars, then a cent;
        # trades halfway between bid and ask have half of it.
        *((0.0445, ""), (0.0447, "off_tick"), (0.4125, ""), (0.413, "off_tick")),
        *((1.9975, ""), (1.999, "off_tick"), (2.0, ""), (171.425, ""), (171.423, "off_tick")),
    ],
)
def test_the_step_of_a_price_on_the_asx_depends_on_the_price(price: float, rule: str):
    assert rule_of(guard_of(price_steps=MARKETS["asx"].price_steps), NOW, price) == rule


def test_a_size_of_more_than_five_times_the_usual_is_flagged_once_the_usual_is_known():
    guard = guard_of()
    assert rule_of(guard, NOW, 10.0, 1.0) == ""
    assert rule_of(guard, NOW, 10.0, 50.0) == ""
    guard = guard_of()
    guard.judge(make_batch([0] * 20, [NOW] * 20, [10.0] * 20, [2.0] * 20), NOW)

    assert rule_of(guard, NOW, 10.0, 10.0) == ""
    assert rule_of(guard, NOW, 10.0, 10.7) == "size_spike"


@pytest.mark.parametrize(
    ("bid", "ask", "verdict", "rule"),
    [
        (10.0, 10.4, Verdict.ACCEPT, None),
        (10.0, 10.6, Verdict.FLAG, "wide_spread"),
        (10.0, 9.9, Verdict.QUARANTINE, "crossed_quote"),
        (float("nan"), 9.9, Verdict.ACCEPT, None),
    ],
    ids=["usual", "wide", "crossed", "one side"],
)
def test_quotes_are_judged(bid: float, ask: float, verdict: Verdict, rule: str | None):
    assert judge_quote(bid, ask, Limits()) == (verdict, rule)


anything = st.tuples(
    st.integers(0, 2),
    st.one_of(st.integers(NOW - 600 * SECOND, NOW + 10 * SECOND), st.integers(-(2**63), 2**63 - 1)),
    st.floats(),
    st.floats(),
    st.one_of(st.none(), st.integers(), st.text(max_size=12)),
    st.integers(0, 3),
)


@settings(max_examples=150, deadline=None)
@given(rows=st.lists(anything, max_size=40))
def test_whatever_comes_each_row_is_kept_repeated_or_quarantined(rows: list[tuple]):
    engine = BarEngine()
    for market in ("crypto", "asx", "us"):
        number = engine.add_symbol(SessionClock(get_calendar(market)))
        engine.guard.set_price_steps(number, ((0.0, 0.01),))
    columns = list(zip(*rows, strict=True)) or [()] * 6
    with np.errstate(all="ignore"):
        intake = engine.process(make_batch(*columns[:5], condition=columns[5]), NOW)
    engine.close_until(NOW)

    assert intake.received == len(rows)
    counted = intake.kept + intake.repeated + len(intake.quarantined) + len(intake.forgotten)
    assert counted == len(rows)
    for bar in engine.changed():
        assert 0 < bar.low <= bar.open <= bar.high < float("inf")
        assert bar.low <= bar.close <= bar.high
        assert bar.volume >= 0
