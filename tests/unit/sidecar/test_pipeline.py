import asyncio
from datetime import timedelta

import pytest

from scizor_core.stream.engine import BarState
from scizor_core.stream.trades import NO_TIME
from scizor_sidecar.feeds.connection import FeedState
from scizor_sidecar.pipeline import FORMING_SECONDS, MOST_WAITING, FeedPipeline
from tests.unit.sidecar.fakes import BTC, CBA, ETH, Clock, Recorder, eventually

SECOND = 1_000_000


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def made() -> tuple[FeedPipeline, Recorder, Clock]:
    clock, recorder = Clock(), Recorder()
    pipeline = FeedPipeline("kraken", [recorder], clock.now, monotonic=clock.monotonic)
    return pipeline, recorder, clock


def at(clock: Clock, seconds: float = 0) -> int:
    return round((clock.at.timestamp() + seconds) * SECOND)


def test_trades_of_several_instruments_become_bars_of_each_in_one_window():
    pipeline, recorder, clock = made()

    pipeline.trades([BTC, ETH, BTC], [at(clock)] * 3, [10, 20, 11], [1, 1, 1], [1, 1, 2])
    pipeline.step()

    (window,) = recorder.windows
    minutes = {bar.stream: bar.bar for bar in window.bars if bar.bar.timeframe == "1m"}
    assert (minutes[BTC].close, minutes[BTC].volume, minutes[ETH].close) == (11, 2, 20)
    assert {bar.source for bar in window.bars} == {"kraken"}


def test_a_minute_that_forms_is_given_out_at_once_and_then_when_it_has_rested():
    pipeline, recorder, clock = made()
    pipeline.trades([BTC], [at(clock)], [10], [1], [1])
    pipeline.step()

    pipeline.trades([BTC, ETH], [at(clock)] * 2, [11, 20], [1, 1], [2, 3])
    pipeline.step()
    came = at(clock)
    clock.at += timedelta(seconds=2 * FORMING_SECONDS)
    pipeline.step()

    given = [
        [(bar.stream, bar.bar.close) for bar in window.bars if bar.bar.timeframe == "1m"]
        for window in recorder.windows
    ]
    assert given == [[(BTC, 10)], [(ETH, 20)], [(BTC, 11)]]
    assert {bar.received_at for bar in recorder.windows[-1].bars} == {came}


@pytest.mark.anyio
async def test_what_rests_is_given_out_although_nothing_more_comes():
    clock, recorder = Clock(), Recorder()
    pipeline = FeedPipeline("kraken", [recorder], clock.now)
    for number, price in enumerate((10, 11)):
        pipeline.trades([BTC], [at(clock)], [price], [1], [number])
        pipeline.step()

    running = asyncio.ensure_future(pipeline.run())
    await eventually(
        lambda: 11 in {bar.bar.close for window in recorder.windows for bar in window.bars}  # noqa: PLR2004
    )
    running.cancel()


def test_a_minute_ends_by_the_clock_where_no_trade_follows():
    pipeline, recorder, clock = made()
    pipeline.connecting()
    pipeline.connected()
    pipeline.trades([BTC], [at(clock)], [10], [1], [1])
    pipeline.step()

    clock.at += timedelta(seconds=63)
    pipeline.step()

    states = {bar.bar.timeframe: bar.bar.state for bar in recorder.windows[-1].bars}
    assert states["1m"] is BarState.CLOSED


def test_no_minute_ends_by_the_clock_while_the_feed_is_away():
    pipeline, recorder, clock = made()
    pipeline.connecting()
    pipeline.connected()
    pipeline.trades([BTC], [at(clock)], [10], [1], [1])
    pipeline.step()
    pipeline.disconnected(FeedState.WAITING, "the connection broke")

    clock.at += timedelta(seconds=63)
    pipeline.step()

    assert len(recorder.windows) == 1


def test_price_steps_that_the_feed_learns_as_it_connects_judge_what_follows():
    clock, steps = Clock(), {}
    pipeline = FeedPipeline(
        "kraken", [], clock.now, price_steps=lambda stream: steps.get(stream.symbol, ())
    )
    pipeline.trades([BTC], [at(clock)], [10.07], [1], [1])
    pipeline.step()
    steps["BTC/USD"] = ((0.0, 0.1),)
    pipeline.connecting()
    pipeline.connected()

    pipeline.trades([BTC, BTC], [at(clock)] * 2, [10.08, 10.1], [1, 1], [2, 3])
    pipeline.step()

    assert pipeline.counts.by_rule == {"off_tick": 1}
    assert pipeline.counts.trades == 3


def test_a_tape_of_last_year_has_its_own_time():
    pipeline, recorder, clock = made()
    pipeline.connecting()
    pipeline.connected()
    year = 365 * 86_400

    pipeline.trades([BTC, BTC], [at(clock, -year), at(clock, 70 - year)], [10, 11], [1, 1], [1, 2])
    pipeline.step()

    states = [bar.bar.state for bar in recorder.windows[-1].bars if bar.bar.timeframe == "1m"]
    assert states == [BarState.CLOSED, BarState.FORMING]


def test_a_trade_that_cannot_be_one_is_handed_on_as_refused_with_its_rule():
    pipeline, recorder, clock = made()

    pipeline.trades([BTC] * 3, [at(clock), at(clock), NO_TIME], [10, -1, 10], [1, 1, 1], [1, 2, 3])
    pipeline.step()

    intake = recorder.windows[0].intake
    assert intake is not None
    assert intake.refused_by == ["bad_price", "bad_time"]
    assert (pipeline.counts.trades, pipeline.counts.quarantined) == (1, 2)


def test_a_trade_of_the_asx_at_night_is_outside_of_its_session():
    pipeline, recorder, clock = made()

    # 12:00 UTC is 23:00 in Sydney.
    pipeline.trades([CBA, BTC], [at(clock)] * 2, [100, 10], [1, 1], [None, None])
    pipeline.step()

    intake = recorder.windows[0].intake
    assert intake is not None
    assert intake.by_rule == {"outside_session": 1}
    assert {bar.stream for bar in recorder.windows[0].bars} == {BTC}


def test_of_several_quotes_the_last_one_counts_and_a_crossed_one_does_not():
    pipeline, recorder, clock = made()

    pipeline.quote(BTC, at(clock), 10.5, 10.8)
    pipeline.quote(BTC, at(clock), 10.6, 10.9)
    pipeline.quote(BTC, at(clock), 12, 11)
    pipeline.step()

    (quote,) = recorder.windows[0].quotes
    assert (quote.bid, quote.ask) == (10.6, 10.9)
    assert pipeline.counts.by_rule == {"crossed_quote": 1}


def test_books_may_be_conflated_and_that_is_counted():
    pipeline, recorder, clock = made()

    pipeline.book(BTC, at(clock), [(10, 1)], [(11, 1)])
    pipeline.book(BTC, at(clock), [(10.5, 2)], [(11, 1)])
    pipeline.step()

    assert [book.bids for book in recorder.windows[0].books] == [((10.5, 2),)]
    assert (pipeline.counts.books, pipeline.counts.books_conflated) == (2, 1)


def test_a_full_queue_holds_the_feed_back_and_drops_nothing():
    async def play() -> tuple[bool, int]:
        pipeline, _, clock = made()
        rows = MOST_WAITING
        pipeline.trades([BTC] * rows, [at(clock)] * rows, [10.0] * rows, [1.0] * rows, range(rows))
        waits = asyncio.ensure_future(pipeline.room())
        await asyncio.sleep(0)
        held = not waits.done()
        pipeline.step()
        await waits
        return held, pipeline.counts.trades

    assert asyncio.run(play()) == (True, MOST_WAITING)


def sources(recorder: Recorder) -> dict[tuple[str, str, int], str]:
    """Return symbol, timeframe and start -> source of the newest state of each bar."""
    return {
        (bar.stream.symbol, bar.bar.timeframe, bar.bar.start): bar.source
        for window in recorder.windows
        for bar in window.bars
    }


def test_bars_of_a_sample_of_the_trades_say_so_in_their_source():
    pipeline, recorder, clock = made()
    pipeline.limited([ETH], {})

    pipeline.trades([BTC, ETH], [at(clock)] * 2, [10, 20], [1, 1], [1, 2])
    pipeline.step()

    found = {(symbol, source) for (symbol, *_), source in sources(recorder).items()}
    assert found == {("BTC/USD", "kraken"), ("ETH/USD", "kraken:sampled")}


def test_a_minute_that_was_made_of_all_its_trades_is_a_sample_no_longer():
    pipeline, recorder, clock = made()
    pipeline.limited([ETH], {})
    first = at(clock)
    clock.at += timedelta(seconds=60)
    pipeline.trades([ETH, ETH], [first, at(clock)], [20, 21], [1, 1], [1, 2])
    pipeline.step(last=True)
    number = pipeline.number(ETH)

    pipeline.engine.replace(number, first, pipeline.engine.minutes(number)[first])
    pipeline.mark_minute(number, first, is_sampled=False)
    pipeline.step(last=True)

    found = sources(recorder)
    assert found["ETH/USD", "1m", first] == "kraken"
    assert found["ETH/USD", "1m", first + 60 * SECOND] == "kraken:sampled"
    assert found["ETH/USD", "5m", first] == "kraken:sampled"
