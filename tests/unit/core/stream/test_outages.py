"""Bars around the times in which a feed was away, and those whose last minutes have no trade."""

from typing import Any

import pytest

from scizor_core.sessions import get_calendar
from scizor_core.stream.engine import BarEngine, BarState
from scizor_core.stream.guards import SessionClock
from scizor_core.stream.minutes import Minute
from scizor_core.stream.trades import MICROSECONDS, make_batch

MINUTE = 60 * MICROSECONDS
NOON = 1_772_452_800 * MICROSECONDS
NOW = NOON + 600 * MINUTE


@pytest.fixture
def engine() -> BarEngine:
    made = BarEngine()
    made.add_symbol(SessionClock(get_calendar("crypto")))
    return made


def trade(engine: BarEngine, minute: float, price: float = 10.0, **options: Any) -> Any:
    ts = NOON + int(minute * MINUTE)
    return engine.process(make_batch([0], [ts], [price], [1.0], [ts]), NOW, **options)


def states(engine: BarEngine) -> dict[tuple[str, int], BarState]:
    return {(bar.timeframe, (bar.start - NOON) // MINUTE): bar.state for bar in engine.changed()}


def test_a_bar_above_is_closed_at_its_end_although_its_last_minutes_have_no_trade(
    engine: BarEngine,
):
    trade(engine, 1)
    engine.close_until(NOON + 2 * MINUTE)
    assert states(engine)["5m", 0] is BarState.FORMING

    engine.close_until(NOON + 5 * MINUTE)

    assert states(engine) == {("5m", 0): BarState.CLOSED}


def test_a_bar_is_given_out_as_closed_once(engine: BarEngine):
    trade(engine, 1)
    for minute in range(2, 15):
        engine.close_until(NOON + minute * MINUTE)
    states(engine)

    engine.close_until(NOON + 15 * MINUTE)
    first = states(engine)
    engine.close_until(NOON + 40 * MINUTE)

    assert first == {("15m", 0): BarState.CLOSED}
    assert states(engine) == {}


def test_a_bar_above_is_provisional_where_the_feed_was_away_in_a_minute_without_a_trade(
    engine: BarEngine,
):
    trade(engine, 0.5)
    engine.begin_outage([0], NOON + 3 * MINUTE)
    engine.resume([0], NOON + 4 * MINUTE)
    engine.close_until(NOON + 5 * MINUTE)
    before = states(engine)
    engine.end_outage([0], NOON + 3 * MINUTE, NOON + 4 * MINUTE)

    assert (before["1m", 0], before["5m", 0]) == (BarState.CLOSED, BarState.PROVISIONAL)
    assert states(engine)["5m", 0] is BarState.CLOSED


def test_an_interval_that_is_abandoned_stays_provisional_when_another_is_healed(
    engine: BarEngine,
):
    for minute in (1, 6):
        trade(engine, minute)
    engine.begin_outage([0], NOON)
    engine.resume([0], NOON + 10 * MINUTE)
    engine.close_until(NOON + 10 * MINUTE)
    engine.abandon([0], NOON, NOON + 3 * MINUTE)
    engine.end_outage([0], NOON + 3 * MINUTE, NOON + 10 * MINUTE)
    found = states(engine)

    assert (found["1m", 1], found["1m", 6]) == (BarState.PROVISIONAL, BarState.CLOSED)


def test_a_minute_that_was_made_elsewhere_takes_the_place_of_the_own_one(engine: BarEngine):
    trade(engine, 1)
    engine.close_until(NOON + 2 * MINUTE)
    engine.changed()
    told = Minute(1.0, 4.0, 1.0, 2.0, 9.0, 9.0, 18.0, 7, (NOON + MINUTE, 0), (NOON + MINUTE, 0))
    engine.replace(0, NOON + MINUTE, told)
    (bar,) = (each for each in engine.changed() if each.timeframe == "1m")

    assert (bar.close, bar.volume, bar.trade_count) == (2.0, 9.0, 7)
    assert (bar.state, bar.revision) == (BarState.REVISED, 1)


def test_trades_from_before_a_symbol_begins_are_told_as_forgotten(engine: BarEngine):
    engine.begin_at(0, NOON)
    intake = trade(engine, -0.5)

    assert (intake.kept, len(intake.forgotten)) == (0, 1)
    assert engine.changed() == []


def test_equal_trades_without_ids_that_come_live_and_by_a_replay_count_as_often_as_they_happened(
    engine: BarEngine,
):
    def twins(count: int, **options: bool) -> int:
        ts = [NOON] * count
        batch = make_batch([0] * count, ts, [10.0] * count, [1.0] * count)
        return int(engine.process(batch, NOW, **options).kept)

    twins(1)
    engine.begin_pass(healing=True)
    # The replay tells both of which one has come live; the other one comes live afterwards.
    assert (twins(2, healing=True), twins(1)) == (1, 0)


def test_a_bar_above_stays_provisional_where_an_interval_was_abandoned(engine: BarEngine):
    trade(engine, 0.5)
    engine.begin_outage([0], NOON + 3 * MINUTE)
    engine.resume([0], NOON + 4 * MINUTE)
    engine.abandon([0], NOON + 3 * MINUTE, NOON + 4 * MINUTE)
    engine.close_until(NOON + 15 * MINUTE)
    found = states(engine)

    assert found["1m", 0] is BarState.CLOSED
    assert (found["5m", 0], found["15m", 0]) == (BarState.PROVISIONAL, BarState.PROVISIONAL)


def test_a_late_trade_of_an_abandoned_interval_makes_no_final_bar(engine: BarEngine):
    engine.begin_outage([0], NOON)
    engine.resume([0], NOON + 4 * MINUTE)
    engine.abandon([0], NOON, NOON + 4 * MINUTE)
    engine.close_until(NOON + 5 * MINUTE)
    trade(engine, 2)

    assert states(engine)["1m", 2] is BarState.PROVISIONAL


def test_what_was_abandoned_counts_as_others_do_once_it_is_healed(engine: BarEngine):
    trade(engine, 2)
    engine.begin_outage([0], NOON)
    engine.resume([0], NOON + 4 * MINUTE)
    engine.abandon([0], NOON, NOON + 4 * MINUTE)
    engine.close_until(NOON + 5 * MINUTE)
    before = states(engine)
    engine.end_outage([0], NOON, NOON + 4 * MINUTE)

    assert before["5m", 0] is BarState.PROVISIONAL
    assert set(states(engine).values()) == {BarState.CLOSED, BarState.FORMING}


def test_pieces_that_were_healed_before_the_rest_was_abandoned_stay_final(engine: BarEngine):
    for minute in (1, 6):
        trade(engine, minute)
    engine.begin_outage([0], NOON)
    engine.resume([0], NOON + 10 * MINUTE)
    engine.close_until(NOON + 10 * MINUTE)
    engine.end_outage([0], NOON, NOON + 5 * MINUTE)
    engine.abandon([0], NOON, NOON + 10 * MINUTE)
    found = states(engine)

    assert (found["1m", 1], found["1m", 6]) == (BarState.CLOSED, BarState.PROVISIONAL)


def test_trades_around_a_hole_count_once_however_much_comes_before_it_is_healed():
    engine = BarEngine(remember=100)
    for _ in range(2):
        engine.add_symbol(SessionClock(get_calendar("crypto")))
    trade(engine, 1)
    engine.begin_outage([0], NOON + MINUTE)
    engine.resume([0], NOON + 2 * MINUTE)
    for second in range(120, 620):
        ts = NOON + second * MICROSECONDS
        engine.process(make_batch([1], [ts], [10.0], [1.0], [second]), NOW)
    engine.begin_pass(healing=True)

    assert trade(engine, 1, healing=True).kept == 0
