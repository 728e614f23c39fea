from datetime import UTC, date, datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scizor_core.bars import resample_bars
from scizor_core.sessions import get_calendar
from scizor_core.stream.engine import BarEngine, BarState, LiveBar
from scizor_core.stream.guards import SessionClock
from scizor_core.stream.trades import Condition, TradeBatch, make_batch
from scizor_core.ticks import build_bars

SECOND = 1_000_000
MINUTE = 60 * SECOND
#: Monday 2026-03-02 00:00 UTC, a day of crypto.
MIDNIGHT = int(datetime(2026, 3, 2, tzinfo=UTC).timestamp()) * SECOND
LATER = MIDNIGHT + 3600 * SECOND


def engine_of(symbols: int = 1, market: str = "crypto") -> BarEngine:
    engine = BarEngine()
    clock = SessionClock(get_calendar(market))
    for _ in range(symbols):
        engine.add_symbol(clock)
    return engine


def batch_of(*trades: tuple[float, float, float], ids: list[int] | None = None) -> TradeBatch:
    """Return trades of symbol 0: (seconds after midnight, price, size)."""
    return make_batch(
        [0] * len(trades),
        [MIDNIGHT + round(seconds * SECOND) for seconds, _, _ in trades],
        [price for _, price, _ in trades],
        [size for _, _, size in trades],
        ids,
    )


def bars_of(engine: BarEngine) -> dict[tuple[str, int], LiveBar]:
    """Return the bars given out, by timeframe and minutes after midnight."""
    return {(bar.timeframe, (bar.start - MIDNIGHT) // MINUTE): bar for bar in engine.changed()}


def test_a_minute_has_the_first_highest_lowest_and_last_price_and_all_the_volume():
    engine = engine_of()

    engine.process(batch_of((1, 10, 1), (20, 12, 2), (30, 9, 3), (59, 11, 4)), LATER)

    bar = bars_of(engine)["1m", 0]
    assert (bar.open, bar.high, bar.low, bar.close, bar.volume) == (10, 12, 9, 11, 10)
    assert bar.trade_count == 4
    # (10*1 + 12*2 + 9*3 + 11*4) / 10
    assert bar.vwap == pytest.approx(10.5)


def test_a_trade_at_the_end_of_a_minute_belongs_to_the_next_one():
    engine = engine_of()

    engine.process(batch_of((59.999999, 10, 1), (60, 11, 1)), LATER)

    bars = bars_of(engine)
    assert (bars["1m", 0].close, bars["1m", 1].open) == (10, 11)


def test_no_bar_is_made_where_nothing_traded():
    engine = engine_of()

    engine.process(batch_of((10, 10, 1), (200, 11, 1)), LATER)
    engine.close_until(LATER)

    assert sorted(minute for timeframe, minute in bars_of(engine) if timeframe == "1m") == [0, 3]


def test_trades_out_of_order_make_the_bar_of_their_own_times():
    engine = engine_of()

    engine.process(batch_of((30, 11, 1)), LATER)
    engine.process(batch_of((59, 12, 1), (5, 10, 1)), LATER)

    bar = bars_of(engine)["1m", 0]
    assert (bar.open, bar.close) == (10, 12)


def test_of_trades_with_one_time_the_lower_id_is_the_earlier_one():
    engine = engine_of()

    engine.process(batch_of((5, 12, 1), (5, 10, 1), ids=[8, 7]), LATER)

    bar = bars_of(engine)["1m", 0]
    assert (bar.open, bar.close) == (10, 12)


def test_a_trade_that_comes_again_counts_once():
    engine = engine_of()

    engine.process(batch_of((5, 10, 1), (5, 10, 1), (6, 11, 1), ids=[1, 1, 2]), LATER)
    intake = engine.process(batch_of((5, 10, 1), ids=[1]), LATER)

    assert bars_of(engine)["1m", 0].volume == 2
    assert (intake.repeated, intake.kept) == (1, 0)


def test_two_equal_trades_without_an_id_stay_two_and_a_second_pass_adds_none():
    engine = engine_of()
    trades = batch_of((5, 10, 1), (5, 10, 1))

    engine.process(trades, LATER)
    engine.begin_pass()
    again = engine.process(trades, LATER)

    assert bars_of(engine)["1m", 0].volume == 2
    assert again.repeated == 2


def test_a_bar_forms_until_its_interval_is_over_and_is_closed_then():
    engine = engine_of()
    engine.process(batch_of((5, 10, 1)), LATER)
    assert bars_of(engine)["1m", 0].state is BarState.FORMING

    engine.close_until(MIDNIGHT + 59 * SECOND)
    assert bars_of(engine) == {}
    engine.close_until(MIDNIGHT + 60 * SECOND)

    bars = bars_of(engine)
    assert bars["1m", 0].state is BarState.CLOSED
    assert bars["5m", 0].state is BarState.FORMING


def test_bars_of_five_and_fifteen_minutes_close_with_their_own_interval():
    engine = engine_of()
    engine.process(batch_of((5, 10, 1), (890, 12, 1)), LATER)

    engine.close_until(MIDNIGHT + 15 * MINUTE)

    bars = bars_of(engine)
    assert {bars[key].state for key in (("5m", 10), ("15m", 0))} == {BarState.CLOSED}
    assert (bars["15m", 0].open, bars["15m", 0].close) == (10, 12)


def test_forming_bars_above_can_wait_for_the_next_call_and_closed_ones_do_not():
    engine = engine_of()

    engine.process(batch_of((1, 10, 1)), LATER)
    minutes = [(bar.timeframe, bar.state) for bar in engine.changed(resting_above={0})]
    above = [(bar.timeframe, bar.state) for bar in engine.changed()]
    engine.process(batch_of((250, 11, 1)), LATER)
    engine.close_until(MIDNIGHT + 300 * SECOND)
    closed = {bar.timeframe: bar for bar in engine.changed(resting_above={0})}

    assert minutes == [("1m", BarState.FORMING)]
    assert above == [("5m", BarState.FORMING), ("15m", BarState.FORMING)]
    assert (closed["5m"].state, closed["5m"].close) == (BarState.CLOSED, 11)
    assert set(closed) == {"1m", "5m"}


def test_a_minute_of_a_resting_symbol_waits_while_it_forms_and_no_longer():
    engine = engine_of()

    engine.process(batch_of((1, 10, 1)), LATER)
    assert engine.changed(resting={0}) == []
    assert engine.has_waiting
    engine.close_until(MIDNIGHT + MINUTE)
    bars = {bar.timeframe: bar.state for bar in engine.changed(resting={0})}

    assert bars == {"1m": BarState.CLOSED, "5m": BarState.FORMING, "15m": BarState.FORMING}
    assert not engine.has_waiting


def test_a_late_trade_revises_the_closed_bar():
    engine = engine_of()
    engine.process(batch_of((5, 10, 1), (70, 11, 1)), LATER)
    engine.close_until(MIDNIGHT + MINUTE)
    engine.changed()

    intake = engine.process(batch_of((58, 15, 1)), LATER)

    bar = bars_of(engine)["1m", 0]
    assert (bar.state, bar.revision, bar.close, bar.high) == (BarState.REVISED, 1, 15, 15)
    assert intake.late == 1


def test_a_bar_whose_feed_was_away_is_provisional_until_the_interval_is_healed():
    engine = engine_of()
    engine.process(batch_of((5, 10, 1), ids=[1]), LATER)
    engine.begin_outage([0], MIDNIGHT + 30 * SECOND)
    engine.close_until(MIDNIGHT + MINUTE)
    assert bars_of(engine)["1m", 0].state is BarState.PROVISIONAL

    engine.resume([0], MIDNIGHT + 90 * SECOND)
    engine.process(
        batch_of((5, 10, 1), (40, 12, 2), (70, 13, 1), ids=[1, 2, 3]), LATER, healing=True
    )
    engine.close_until(MIDNIGHT + 2 * MINUTE)
    engine.end_outage([0], MIDNIGHT + 30 * SECOND, MIDNIGHT + 90 * SECOND)

    bars = bars_of(engine)
    assert (bars["1m", 0].state, bars["1m", 0].close, bars["1m", 0].volume) == (
        BarState.CLOSED,
        12,
        3,
    )
    assert bars["1m", 1].state is BarState.CLOSED


def test_a_minute_stays_provisional_while_a_part_of_its_outage_is_not_healed():
    engine = engine_of()
    engine.process(batch_of((5, 10, 1)), LATER)
    engine.begin_outage([0], MIDNIGHT + 10 * SECOND)
    engine.resume([0], MIDNIGHT + 50 * SECOND)

    engine.end_outage([0], MIDNIGHT + 10 * SECOND, MIDNIGHT + 30 * SECOND)

    assert bars_of(engine)["1m", 0].state is BarState.PROVISIONAL


def test_a_trade_out_of_the_price_counts_in_the_volume_and_sets_no_price():
    engine = engine_of()
    batch = make_batch(
        [0, 0], [MIDNIGHT + SECOND, MIDNIGHT + 2 * SECOND], [10.0, 99.0], [1.0, 5.0],
        condition=[Condition.NONE, Condition.NOT_IN_PRICE],
    )  # fmt: skip

    engine.process(batch, LATER)

    bar = bars_of(engine)["1m", 0]
    assert (bar.high, bar.close, bar.volume, bar.vwap, bar.trade_count) == (10, 10, 6, 10, 2)


def test_trades_that_set_no_price_make_no_bar_alone():
    engine = engine_of()
    batch = make_batch([0], [MIDNIGHT], [10.0], [1.0], condition=[Condition.NOT_IN_PRICE])

    engine.process(batch, LATER)

    assert bars_of(engine) == {}


def test_the_same_minute_of_the_next_day_is_another_bar():
    engine = engine_of()

    engine.process(batch_of((5, 10, 1), (86_405, 20, 1)), LATER + 86_400 * SECOND)

    bars = bars_of(engine)
    assert (bars["1m", 0].close, bars["1m", 1440].close) == (10, 20)


def test_the_last_minute_before_the_close_and_the_auction_are_bars_and_what_follows_is_refused():
    engine = engine_of(market="asx")
    # 2026-03-02: Sydney is eleven hours ahead of UTC, so that the ASX closes at 05:00 UTC.
    close = MIDNIGHT + 5 * 3600 * SECOND
    at = [close - SECOND, close + 10 * MINUTE, close + 20 * MINUTE]

    intake = engine.process(make_batch([0] * 3, at, [10.0] * 3, [1.0] * 3), close + 3600 * SECOND)

    assert {bar.start for bar in engine.changed() if bar.timeframe == "1m"} == {
        close - MINUTE,
        close + 10 * MINUTE,
    }
    assert intake.refused_by == ["outside_session"]


def test_minutes_are_forgotten_in_the_end_but_not_those_of_an_open_outage():
    engine = engine_of(2)
    both = make_batch([0, 1], [MIDNIGHT] * 2, [10.0, 10.0], [1.0, 1.0])
    engine.process(both, LATER)
    engine.begin_outage([1], MIDNIGHT)

    engine.close_until(MIDNIGHT + 2 * 3600 * SECOND)
    engine.changed()

    assert engine.minute_bar(0, MIDNIGHT) is None
    assert engine.minute_bar(1, MIDNIGHT) is not None


def test_a_trade_of_a_forgotten_minute_is_handed_back_and_makes_no_bar_of_too_few_trades():
    engine = engine_of()
    engine.process(batch_of((5, 10, 1), (6, 20, 2), ids=[1, 2]), LATER)
    engine.close_until(MIDNIGHT + 2 * 3600 * SECOND)
    engine.changed()

    intake = engine.process(
        batch_of((7, 30, 4), (7200, 40, 1), ids=[3, 4]), LATER * 2, healing=True
    )

    assert (intake.forgotten.price.tolist(), intake.kept) == ([30.0], 1)
    assert {minute for timeframe, minute in bars_of(engine) if timeframe == "1m"} == {120}


def test_bars_above_are_whole_when_stored_minutes_are_put_back():
    before, after = engine_of(), engine_of()
    before.process(batch_of((5, 10, 1)), LATER)
    minute = before._symbols[0].minutes[MIDNIGHT].minute

    after.restore(0, MIDNIGHT, minute)
    after.process(batch_of((70, 12, 3)), LATER)

    bar = bars_of(after)["5m", 0]
    assert (bar.open, bar.close, bar.volume) == (10, 12, 4)


trades = st.lists(
    st.tuples(
        st.integers(0, 20 * 60 * 1000),  # milliseconds after midnight
        st.integers(900, 1100),  # price in cents
        st.integers(1, 50),
    ),
    min_size=1,
    max_size=120,
)


@settings(max_examples=60, deadline=None)
@given(rows=trades, data=st.data())
def test_any_chunks_order_and_repetition_make_the_bars_of_the_batch_pipeline(
    rows: list[tuple[int, int, int]], data: st.DataObject
):
    rows = sorted(rows)
    frame = pd.DataFrame(
        {
            "ts": pd.to_datetime([MIDNIGHT + ms * 1000 for ms, _, _ in rows], unit="us", utc=True),
            "price": [cents / 100 for _, cents, _ in rows],
            "size": [float(size) for _, _, size in rows],
            "trade_id": [str(number) for number in range(len(rows))],
            "row_number": range(1, len(rows) + 1),
        }
    )
    frame["ts"] = frame["ts"].astype("datetime64[us, UTC]")
    expected = build_bars(frame, "1m").assign(
        instrument_id=0, session_date=date(2026, 3, 2), source="tape", is_final=True
    )
    sent = data.draw(st.permutations([*range(len(rows)), *data.draw(
        st.lists(st.integers(0, len(rows) - 1), max_size=20)
    )]))  # fmt: skip
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=6)))
    engine = engine_of()
    for first, last in zip([0, *cuts], [*cuts, len(sent)], strict=True):
        chosen = sent[first:last]
        engine.process(
            make_batch(
                [0] * len(chosen),
                [MIDNIGHT + rows[each][0] * 1000 for each in chosen],
                [rows[each][1] / 100 for each in chosen],
                [float(rows[each][2]) for each in chosen],
                list(chosen),
            ),
            LATER,
            healing=True,
        )
    engine.close_until(LATER)

    found: dict[str, list[LiveBar]] = {}
    for bar in engine.changed():
        found.setdefault(bar.timeframe, []).append(bar)
    for timeframe in ("1m", "5m", "15m"):
        wanted = expected if timeframe == "1m" else resample_bars(expected, timeframe)
        mine = sorted(found[timeframe], key=lambda bar: bar.start)
        assert [bar.start for bar in mine] == wanted["ts"].astype("int64").tolist()
        for column in ("open", "high", "low", "close", "volume", "vwap", "trade_count"):
            np.testing.assert_allclose(
                [getattr(bar, column) for bar in mine],
                wanted[column].to_numpy(dtype="float64"),
                rtol=1e-12,
            )


def test_a_minute_that_is_withdrawn_leaves_the_bars_above_which_are_made_anew():
    engine = engine_of()
    engine.process(batch_of((10, 10, 1), (70, 15, 1), (400, 12, 1)), LATER)
    engine.close_until(MIDNIGHT + 15 * MINUTE)
    engine.changed()

    engine.withdraw(0, MIDNIGHT + MINUTE)

    bars = bars_of(engine)
    assert {key: bar.state for key, bar in bars.items()} == {
        ("1m", 1): BarState.WITHDRAWN,
        ("5m", 0): BarState.CLOSED,
        ("15m", 0): BarState.CLOSED,
    }
    assert (bars["5m", 0].high, bars["5m", 0].volume) == (10, 1)
    assert (bars["15m", 0].high, bars["15m", 0].volume) == (12, 2)


def test_bars_above_of_which_nothing_is_left_are_withdrawn_too_and_once():
    engine = engine_of()
    engine.process(batch_of((70, 15, 1)), LATER)
    engine.close_until(MIDNIGHT + 15 * MINUTE)
    engine.changed()

    engine.withdraw(0, MIDNIGHT + MINUTE)

    assert {key: bar.state for key, bar in bars_of(engine).items()} == {
        ("1m", 1): BarState.WITHDRAWN,
        ("5m", 0): BarState.WITHDRAWN,
        ("15m", 0): BarState.WITHDRAWN,
    }
    assert bars_of(engine) == {}


def test_a_minute_that_trades_again_after_it_was_withdrawn_has_a_bar():
    engine = engine_of()
    engine.process(batch_of((70, 15, 1)), LATER)
    engine.close_until(MIDNIGHT + 15 * MINUTE)
    engine.withdraw(0, MIDNIGHT + MINUTE)

    engine.process(batch_of((80, 16, 1)), LATER)

    assert {bar.open for bar in bars_of(engine).values()} == {16}


def test_a_minute_that_loses_its_only_price_is_withdrawn():
    engine, other = engine_of(), engine_of()
    engine.process(batch_of((70, 15, 1), (80, 15, 1)), LATER)
    engine.close_until(MIDNIGHT + 15 * MINUTE)
    engine.changed()
    odd = batch_of((80, 15, 1))
    other.process(
        TradeBatch(
            odd.symbol, odd.ts, odd.price, odd.size, odd.trade_id, odd.order,
            np.array([Condition.NOT_IN_PRICE]),
        ),
        LATER,
    )  # fmt: skip

    engine.replace(0, MIDNIGHT + MINUTE, other.minutes(0)[MIDNIGHT + MINUTE])

    assert bars_of(engine)["1m", 1].state is BarState.WITHDRAWN
