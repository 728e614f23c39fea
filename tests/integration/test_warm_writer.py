"""Live bars into PostgreSQL: what is stored, what is not, and the database away."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
import redis.asyncio

from scizor_core.sessions import get_calendar
from scizor_core.stream.engine import BarEngine, BarState
from scizor_core.stream.guards import SessionClock
from scizor_core.stream.trades import make_batch
from scizor_resources.platform import Platform
from scizor_resources.stores.tables import BARS
from scizor_sidecar import warm_writer
from scizor_sidecar.feeds.base import Stream
from scizor_sidecar.leadership import Leadership
from scizor_sidecar.lease import LEASE_SECONDS, Lease
from scizor_sidecar.live_indicators import IndicatorValues
from scizor_sidecar.permit import ALWAYS, Permit
from scizor_sidecar.pipeline import Window
from scizor_sidecar.spool import Spool
from scizor_sidecar.warm_writer import WarmWriter
from tests.unit.sidecar.fakes import eventually
from tests.unit.sidecar.streamed import MINUTE, closed, window

NOON = int(datetime(2026, 3, 2, 12, tzinfo=UTC).timestamp()) * 1_000_000
Play = Callable[["Setup"], Awaitable[None]]


class Setup:
    """A writer on a real database."""

    def __init__(
        self,
        platform: Platform,
        folder: Path,
        limit_bytes: int = 10**9,
        flush_seconds: float = 30,
        permit: Permit = ALWAYS,
    ) -> None:
        self.platform, self.folder = platform, folder
        self.said: list[str] = []
        self.until: dict[str, int] = {}
        self.spool = Spool(folder, limit_bytes)
        self.writer = WarmWriter(
            platform,
            self.spool,
            self._note,
            alert=self.said.append,
            flush_seconds=flush_seconds,
            permit=permit,
        )

    def _note(self, stream: Stream, ts: int) -> None:
        self.until[stream.symbol] = ts

    def bars(self, columns: str = "ts, close, source, is_final") -> list[tuple[Any, ...]]:
        return self.ask(f"SELECT {columns} FROM market.bars ORDER BY instrument_id, timeframe, ts")

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.platform.endpoints.libpq_url, autocommit=True) as connection:
            return connection.execute(query).fetchall()


def run(platform: Platform, folder: Path, play: Play, **options: Any) -> Setup:
    async def inside() -> Setup:
        setup = Setup(platform, folder, **options)
        await play(setup)
        await setup.writer.close()
        return setup

    return asyncio.run(inside())


@pytest.fixture
def btc(platform: Platform) -> Stream:
    instrument, _ = platform.reference.ensure("crypto", "BTC/USD")
    return Stream("crypto", "BTC/USD", instrument.instrument_id)


def refuse_writes(setup: Setup) -> None:
    """Take the database away from new connections, and cut those there are."""
    url = setup.platform.endpoints.libpq_url
    name = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
    server = psycopg.conninfo.make_conninfo(url, dbname="postgres")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s",
            [name],
        )


def allow_writes(setup: Setup) -> None:
    url = setup.platform.endpoints.libpq_url
    name = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
    server = psycopg.conninfo.make_conninfo(url, dbname="postgres")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')


def at(minute: int) -> datetime:
    return datetime.fromtimestamp((NOON + minute * MINUTE) / 1e6, UTC)


def test_a_closed_bar_is_stored_with_its_session_and_a_forming_one_is_not(
    platform: Platform, tmp_path: Path, btc: Stream
) -> None:
    async def play(setup: Setup) -> None:
        setup.writer.on_window(
            window(closed(btc, NOON), closed(btc, NOON + MINUTE, state=BarState.FORMING))
        )
        await setup.writer.flush()

    setup = run(platform, tmp_path, play)

    columns = "ts, session_date::text, open, high, low, close, volume, vwap, trade_count, is_final"
    assert setup.bars(columns) == [(at(0), "2026-03-02", 10, 11, 9, 10, 1, 10, 1, True)]
    assert setup.until == {"BTC/USD": NOON + MINUTE}


def test_a_revised_bar_leaves_its_old_values_in_the_revisions(
    platform: Platform, tmp_path: Path, btc: Stream
) -> None:
    async def play(setup: Setup) -> None:
        for close, state in ((10.0, BarState.CLOSED), (12.0, BarState.REVISED)):
            setup.writer.on_window(window(closed(btc, NOON, close=close, state=state)))
            await setup.writer.flush()
            # Again: nothing differs, nothing is written.
            setup.writer.on_window(window(closed(btc, NOON, close=close, state=state)))
            await setup.writer.flush()

    setup = run(platform, tmp_path, play)

    assert setup.bars("close, is_final") == [(12, True)]
    assert setup.ask("SELECT close FROM market.bar_revisions") == [(10,)]
    assert setup.writer.bars_written == 2


def test_a_provisional_bar_is_not_final_and_holds_the_watermark_until_it_is_healed(
    platform: Platform, tmp_path: Path, btc: Stream
) -> None:
    marks = []

    async def play(setup: Setup) -> None:
        setup.writer.on_window(
            window(
                closed(btc, NOON, state=BarState.PROVISIONAL),
                closed(btc, NOON + MINUTE),
            )
        )
        await setup.writer.flush()
        marks.append((setup.until["BTC/USD"], setup.bars("is_final")))
        setup.writer.on_window(window(closed(btc, NOON, trades=2)))
        await setup.writer.flush()
        marks.append((setup.until["BTC/USD"], setup.bars("is_final")))

    run(platform, tmp_path, play)

    assert marks == [
        (NOON, [(False,), (True,)]),
        (NOON + 2 * MINUTE, [(True,), (True,)]),
    ]


@pytest.mark.parametrize(
    ("stored", "comes", "state", "stays"),
    [
        # The chain of crypto is tape, kraken, coinbase, binance.
        ("kraken", "binance", BarState.CLOSED, True),
        ("binance", "kraken", BarState.CLOSED, False),
        ("binance", "kraken", BarState.PROVISIONAL, True),
        ("simulated", "binance", BarState.CLOSED, False),
        ("kraken", "simulated", BarState.CLOSED, True),
    ],
)
def test_a_bar_of_a_better_source_stays(
    platform: Platform,
    tmp_path: Path,
    btc: Stream,
    stored: str,
    comes: str,
    state: BarState,
    stays: bool,
) -> None:
    async def play(setup: Setup) -> None:
        setup.writer.on_window(window(closed(btc, NOON, source=stored)))
        await setup.writer.flush()
        setup.writer.on_window(window(closed(btc, NOON, close=12.0, source=comes, state=state)))
        await setup.writer.flush()

    setup = run(platform, tmp_path, play)

    assert setup.bars("source") == [(stored if stays else comes,)]


def test_a_part_of_a_minute_does_not_replace_the_whole_one(
    platform: Platform, tmp_path: Path, btc: Stream
) -> None:
    async def play(setup: Setup) -> None:
        setup.writer.on_window(window(closed(btc, NOON, trades=5)))
        await setup.writer.flush()
        part = closed(btc, NOON, close=12.0, trades=2, state=BarState.PROVISIONAL)
        setup.writer.on_window(window(part))
        await setup.writer.flush()

    setup = run(platform, tmp_path, play)

    assert setup.bars("close, is_final") == [(10, True)]


@pytest.mark.parametrize("taken_over", [True, False])
def test_a_holder_that_wakes_after_its_lease_stores_nothing_until_it_knows_that_it_is_still_its(
    platform: Platform, tmp_path: Path, btc: Stream, taken_over: bool
) -> None:
    clock = [0.0]

    async def inside() -> Setup:
        client = redis.asyncio.Redis.from_url(platform.endpoints.redis_url)
        lease = Lease(client, tmp_path.name, "frozen", monotonic=lambda: clock[0])
        leadership = Leadership(lease, lambda _: None, monotonic=lambda: clock[0])
        await leadership.acquire()
        setup = Setup(platform, tmp_path, flush_seconds=1, permit=leadership)
        setup.writer.on_window(window(closed(btc, NOON)))
        clock[0] = LEASE_SECONDS + 2
        if taken_over:
            await client.set(f"scizor:lease:{tmp_path.name}", "the next")
        await setup.writer.flush()
        await setup.writer.close()
        await client.aclose()
        return setup

    setup = asyncio.run(inside())

    assert setup.bars("ts") == ([] if taken_over else [(at(0),)])


def test_what_was_being_stored_when_it_froze_is_not_committed_before_that_is_known(
    platform: Platform, tmp_path: Path, btc: Stream
) -> None:
    class Frozen:
        """Was frozen while the first transaction went on, as is found at its end."""

        def __init__(self) -> None:
            self.looks: list[bool] = [False]
            self.asked: list[list[tuple[Any, ...]]] = []

        @property
        def is_sure(self) -> bool:
            return self.looks.pop(0) if self.looks else True

        async def sure(self) -> None:
            self.asked.append(setup.bars("ts"))

    permit = Frozen()
    setup = Setup(platform, tmp_path, permit=permit)

    async def inside() -> None:
        setup.writer.on_window(window(closed(btc, NOON)))
        await setup.writer.flush()
        await setup.writer.close()

    asyncio.run(inside())

    assert permit.asked == [[], [], []]
    assert setup.bars("ts") == [(at(0),)]


def test_an_outage_of_its_own_makes_a_final_bar_provisional(
    platform: Platform, tmp_path: Path, btc: Stream
) -> None:
    async def play(setup: Setup) -> None:
        for state in (BarState.CLOSED, BarState.PROVISIONAL):
            setup.writer.on_window(window(closed(btc, NOON, trades=5, state=state)))
            await setup.writer.flush()

    setup = run(platform, tmp_path, play)

    assert setup.bars("is_final") == [(False,)]


def test_a_final_bar_that_another_process_has_stored_since_does_not_become_provisional(
    platform: Platform, tmp_path: Path, btc: Stream
) -> None:
    async def play(old: Setup) -> None:
        new = Setup(platform, tmp_path / "new")
        for setup, minute, state in (
            (old, 0, BarState.CLOSED),
            (new, 1, BarState.CLOSED),
            (old, 1, BarState.PROVISIONAL),
        ):
            setup.writer.on_window(window(closed(btc, NOON + minute * MINUTE, state=state)))
            await setup.writer.flush()
        await new.writer.close()

    setup = run(platform, tmp_path / "old", play)

    assert setup.bars("is_final") == [(True,), (True,)]


def test_a_bar_counts_as_stored_when_its_newest_state_is(
    platform: Platform, tmp_path: Path, btc: Stream
) -> None:
    bar = (btc.instrument_id, "1m", NOON)
    marks = []

    async def play(setup: Setup) -> None:
        setup.writer.on_window(window(closed(btc, NOON)))
        await setup.writer.flush()
        marks.append(setup.writer.stored_of([bar]))
        setup.writer.on_window(window(closed(btc, NOON, close=12.0, state=BarState.REVISED)))
        marks.append(setup.writer.stored_of([bar]))
        storing = asyncio.ensure_future(setup.writer.flush())
        await asyncio.sleep(0)
        assert setup.writer.waiting == 0
        marks.append(setup.writer.stored_of([bar]))
        await storing
        marks.append(setup.writer.stored_of([bar]))
        refuse_writes(setup)
        setup.writer.on_window(window(closed(btc, NOON, close=13.0, state=BarState.REVISED)))
        await setup.writer.flush()
        marks.append(setup.writer.stored_of([bar]))
        allow_writes(setup)

    run(platform, tmp_path, play)

    assert marks == [{bar}, set(), set(), {bar}, set()]


def test_bars_that_break_the_contract_are_counted_and_cost_no_other_bar(
    platform: Platform, tmp_path: Path, btc: Stream
) -> None:
    async def play(setup: Setup) -> None:
        setup.writer.on_window(
            window(closed(btc, NOON, close=float("inf")), closed(btc, NOON + MINUTE))
        )
        await setup.writer.flush()

    setup = run(platform, tmp_path, play)

    assert (setup.bars("ts"), setup.writer.refused_bars) == ([(at(1),)], 1)


def test_while_the_database_is_away_bars_go_to_disk_and_come_back_in_order(
    platform: Platform, tmp_path: Path, btc: Stream
) -> None:
    async def play(setup: Setup) -> None:
        writer = setup.writer
        running = asyncio.ensure_future(writer.run())
        writer.on_window(window(closed(btc, NOON)))
        await writer.settled()
        refuse_writes(setup)
        for number in range(1, 4):
            writer.on_window(
                window(
                    closed(btc, NOON + number * MINUTE),
                    closed(btc, NOON, close=10.0 + number, state=BarState.REVISED),
                )
            )
            await eventually(lambda number=number: setup.spool.records == number)
        assert writer.away is not None
        assert setup.until == {"BTC/USD": NOON + MINUTE}
        allow_writes(setup)
        await writer.settled()
        running.cancel()

    setup = run(platform, tmp_path, play)

    assert setup.bars("ts, close") == [
        (at(0), 13), (at(1), 10), (at(2), 10), (at(3), 10)
    ]  # fmt: skip
    assert setup.until == {"BTC/USD": NOON + 4 * MINUTE}
    assert (setup.writer.away, setup.spool.records) == (None, 0)
    assert setup.said[-1] == "Bars can be stored again."


def test_what_was_on_disk_at_a_kill_is_stored_by_the_next_process(
    platform: Platform, tmp_path: Path, btc: Stream
) -> None:
    async def first(setup: Setup) -> None:
        refuse_writes(setup)
        setup.writer.on_window(window(closed(btc, NOON)))
        await setup.writer.flush()
        allow_writes(setup)

    async def second(setup: Setup) -> None:
        running = asyncio.ensure_future(setup.writer.run())
        await setup.writer.settled()
        running.cancel()

    run(platform, tmp_path, first)
    setup = run(platform, tmp_path, second)

    assert setup.bars("ts, close") == [(at(0), 10)]
    assert setup.until == {"BTC/USD": NOON + MINUTE}


def test_where_the_disk_is_full_too_bars_wait_in_memory(
    platform: Platform, tmp_path: Path, btc: Stream
) -> None:
    async def play(setup: Setup) -> None:
        refuse_writes(setup)
        setup.writer.on_window(window(closed(btc, NOON)))
        await setup.writer.flush()
        assert "has reached 10 bytes" in setup.said[-1]
        allow_writes(setup)
        await setup.writer.flush()

    setup = run(platform, tmp_path, play, limit_bytes=10)

    assert (setup.bars("ts"), setup.writer.lost_bars) == ([(at(0),)], 0)


def test_where_the_disk_is_full_too_indicators_and_refused_trades_wait_with_the_bars(
    platform: Platform, tmp_path: Path, btc: Stream
) -> None:
    engine = BarEngine()
    engine.add_symbol(SessionClock(get_calendar("crypto")))
    intake = engine.process(make_batch([0], [NOON], [-1.0], [1.0]), NOON)
    values = IndicatorValues(btc, "1m", NOON, 20_514, "kraken", np.full(30, 1.5), 7, is_final=True)

    async def play(setup: Setup) -> None:
        refuse_writes(setup)
        setup.writer.on_window(window(closed(btc, NOON)))
        setup.writer.on_indicators([values])
        setup.writer.on_window(Window("kraken", [btc], [], [], [], intake, (0, 0)))
        await setup.writer.flush()
        allow_writes(setup)
        await setup.writer.flush()

    setup = run(platform, tmp_path, play, limit_bytes=10)

    assert setup.ask("SELECT count(*) FROM market.indicators") == [(1,)]
    assert setup.ask("SELECT count(*) FROM quality.quarantine") == [(1,)]


def test_the_watermark_stays_before_a_bar_that_was_lost_until_it_is_made_again(
    platform: Platform, tmp_path: Path, btc: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warm_writer, "MOST_BARS", 1)
    marks = []

    async def play(setup: Setup) -> None:
        refuse_writes(setup)
        setup.writer.on_window(window(closed(btc, NOON), closed(btc, NOON + MINUTE)))
        await setup.writer.flush()
        allow_writes(setup)
        await setup.writer.flush()
        marks.append(setup.until["BTC/USD"])
        setup.writer.on_window(window(closed(btc, NOON)))
        await setup.writer.flush()
        marks.append(setup.until["BTC/USD"])

    setup = run(platform, tmp_path, play, limit_bytes=10)

    assert setup.writer.lost_bars == 1
    assert marks == [NOON, NOON + 2 * MINUTE]


def test_the_watermark_stays_before_a_bar_that_became_provisional_while_it_was_stored(
    platform: Platform, tmp_path: Path, btc: Stream
) -> None:
    async def play(setup: Setup) -> None:
        setup.writer.on_window(window(closed(btc, NOON), closed(btc, NOON + MINUTE)))
        storing = asyncio.ensure_future(setup.writer.flush())
        await asyncio.sleep(0)
        assert setup.writer.waiting == 0
        setup.writer.on_window(window(closed(btc, NOON, state=BarState.PROVISIONAL)))
        await storing

    setup = run(platform, tmp_path, play)

    assert setup.until == {"BTC/USD": NOON}


def test_refused_trades_are_quarantined_up_to_a_limit_and_counted_beyond(
    platform: Platform, tmp_path: Path, btc: Stream
) -> None:
    count = 130
    bad = make_batch([0] * count, [NOON] * count, [-1.0] * count, [1.0] * count, range(count))
    engine = BarEngine()
    engine.add_symbol(SessionClock(get_calendar("crypto")))
    intake = engine.process(bad, NOON)
    assert len(intake.quarantined) == count
    refused = Window("kraken", [btc], [], [], [], intake, (0, 0))

    async def play(setup: Setup) -> None:
        setup.writer.on_window(refused)
        await setup.writer.flush()

    setup = run(platform, tmp_path, play)

    rows = setup.ask(
        "SELECT count(*), min(symbol), min(dataset), min(reason), min(ts), "
        "min(payload ->> 'price') FROM quality.quarantine"
    )
    assert rows == [(100, "BTC/USD", "ticks", "bad_price", at(0), "-1.0")]
    assert setup.writer.refused_skipped == 30


def test_indicators_of_closed_bars_are_stored_and_those_of_held_back_bars_are_not(
    platform: Platform, tmp_path: Path, btc: Stream
) -> None:
    def made(minute: int, source: str) -> IndicatorValues:
        row = np.full(30, 1.5)
        return IndicatorValues(
            btc, "1m", NOON + minute * MINUTE, 20_514, source, row, 7, is_final=True
        )

    async def play(setup: Setup) -> None:
        setup.writer.on_window(window(closed(btc, NOON, source="kraken")))
        await setup.writer.flush()
        setup.writer.on_window(
            window(
                closed(btc, NOON, source="binance", close=12.0),
                closed(btc, NOON + MINUTE, source="binance"),
            )
        )
        setup.writer.on_indicators([made(0, "binance"), made(1, "binance")])
        await setup.writer.flush()

    setup = run(platform, tmp_path, play)

    rows = setup.ask("SELECT ts, sma_10, source, warmup_bars FROM market.indicators")
    assert rows == [(at(1), 1.5, "binance", 7)]


def test_indicators_that_break_the_contract_cost_no_bar(
    platform: Platform, tmp_path: Path, btc: Stream
) -> None:
    async def play(setup: Setup) -> None:
        row = np.full(30, np.inf)
        setup.writer.on_window(window(closed(btc, NOON)))
        setup.writer.on_indicators(
            [IndicatorValues(btc, "1m", NOON, 20_514, "kraken", row, 7, is_final=True)]
        )
        await setup.writer.flush()

    setup = run(platform, tmp_path, play)

    assert (setup.bars("ts"), setup.writer.refused_indicators) == ([(at(0),)], 1)
    assert "were not stored" in setup.said[-1]


def test_at_the_end_a_database_that_hangs_is_not_waited_for(
    platform: Platform, tmp_path: Path, btc: Stream
) -> None:
    async def play(setup: Setup) -> None:
        with psycopg.connect(setup.platform.endpoints.libpq_url) as other:
            # As long as this transaction lasts, no other writes bars of that month.
            other.execute("SELECT pg_advisory_xact_lock(%s, %s)", [BARS.lock, 2026 * 12 + 2])
            setup.writer.on_window(window(closed(btc, NOON + MINUTE)))
            await setup.writer.flush()
            assert setup.spool.records == 1

    run(platform, tmp_path, play, flush_seconds=1)


def test_a_bar_that_is_withdrawn_is_taken_out_with_its_indicators_and_its_values_are_kept(
    platform: Platform, tmp_path: Path, btc: Stream
) -> None:
    async def play(setup: Setup) -> None:
        setup.writer.on_window(
            window(closed(btc, NOON, close=10.0), closed(btc, NOON + MINUTE, close=11.0))
        )
        row = np.full(30, 1.5)
        setup.writer.on_indicators(
            [
                IndicatorValues(btc, "1m", start, 20_514, "kraken", row, 7, is_final=True)
                for start in (NOON, NOON + MINUTE)
            ]
        )
        await setup.writer.flush()
        setup.writer.on_window(window(closed(btc, NOON, state=BarState.WITHDRAWN)))
        await setup.writer.flush()

    setup = run(platform, tmp_path, play)

    assert setup.bars("ts, close") == [(at(1), 11.0)]
    assert setup.ask("SELECT ts FROM market.indicators") == [(at(1),)]
    assert setup.ask("SELECT ts, close FROM market.bar_revisions") == [(at(0), 10.0)]


def test_a_bar_of_another_source_is_not_withdrawn(
    platform: Platform, tmp_path: Path, btc: Stream
) -> None:
    async def play(setup: Setup) -> None:
        setup.writer.on_window(window(closed(btc, NOON, source="coinbase")))
        await setup.writer.flush()
        setup.writer.on_window(window(closed(btc, NOON, state=BarState.WITHDRAWN)))
        await setup.writer.flush()

    assert run(platform, tmp_path, play).bars("ts, source") == [(at(0), "coinbase")]


def test_a_withdrawal_that_waited_on_disk_takes_out_what_was_stored_before(
    platform: Platform, tmp_path: Path, btc: Stream
) -> None:
    async def play(setup: Setup) -> None:
        setup.writer.on_window(window(closed(btc, NOON), closed(btc, NOON + MINUTE)))
        await setup.writer.flush()
        refuse_writes(setup)
        setup.writer.on_window(window(closed(btc, NOON, state=BarState.WITHDRAWN)))
        await setup.writer.flush()
        assert setup.spool.records == 1
        allow_writes(setup)
        running = asyncio.ensure_future(setup.writer.run())
        await setup.writer.settled()
        running.cancel()

    assert run(platform, tmp_path, play).bars("ts") == [(at(1),)]
