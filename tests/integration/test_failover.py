"""Providers that die, fail for a moment and come back, while a range is being collected.

Real adapters and SDKs talk to the providers' labs on loopback and write to a real database. Each
venue has prices of its own, so that every stored bar shows where it came from. January 2022: New
York trades from 14:30 to 21:00 UTC, 390 minutes; crypto trades around the clock.
"""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

import dagster as dg
import pytest

from scizor_resources.budget.breaker import FAILURES_TO_OPEN, FIRST_REST_SECONDS, ValkeyBreaker
from scizor_resources.budget.limits import limits_of
from scizor_resources.pipeline.collect import CHUNK_DAYS, CollectReport
from scizor_resources.platform import Platform
from scizor_resources.providers.gate import Gate, Lane
from scizor_resources.settings import load_settings
from tests.contract.lab.alpaca import KEY_ID, SECRET, AlpacaLab
from tests.contract.lab.coinbase import CoinbaseLab
from tests.contract.lab.kraken import KrakenLab
from tests.contract.lab.server import HttpLab, Row, Seen, TransportFault
from tests.contract.lab.yahoo import YahooLab

from .helpers import query
from .test_assets import metadata_of, run

TUESDAY, WEDNESDAY, THURSDAY = date(2022, 1, 4), date(2022, 1, 5), date(2022, 1, 6)
FRIDAY, SATURDAY = date(2022, 1, 7), date(2022, 1, 8)
#: Tries that a call has before the gate gives it up.
TRIES = 3

Event = Literal["death"] | TransportFault


class Mortal(HttpLab):
    """A lab that dies, or has a fault, at given requests about data, and can be started again.

    Attributes:
        plan: number of a request about data, counted from 1 -> what becomes of it.
        is_dead: it does not listen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.plan: dict[int, Event] = {}
        self.is_dead = False
        self._connections: set[socket.socket] = set()
        self._counting = threading.Lock()
        self._count = 0

    def kill(self) -> None:
        """Die as a process does: listen no more, all connections broken."""
        self.is_dead = True
        self.stop()
        for connection in self._connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:  # the client was first
                continue
        self._connections.clear()

    def start_again(self) -> None:
        """Listen where it did before it died."""
        assert self._server is not None
        self._released.clear()
        self._server = ThreadingHTTPServer(
            self._server.server_address,  # type: ignore[arg-type]  # (host, port)
            self._server.RequestHandlerClass,
        )
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        self.is_dead = False

    def __exit__(self, *details: object) -> None:
        if not self.is_dead:
            super().__exit__(*details)

    def _handle(self, handler: BaseHTTPRequestHandler) -> None:
        self._connections.add(handler.connection)
        super()._handle(handler)

    def _next_fault(self, seen: Seen) -> TransportFault | None:
        if not self.concerns_data(seen):
            return None
        with self._counting:
            self._count += 1
            event = self.plan.get(self._count)
        if event == "death":
            self.kill()
            return None
        return event or super()._next_fault(seen)


class MortalCoinbase(Mortal, CoinbaseLab): ...


class MortalKraken(Mortal, KrakenLab): ...


class MortalYahoo(Mortal, YahooLab): ...


class MortalAlpaca(Mortal, AlpacaLab):
    def __init__(self) -> None:
        super().__init__()
        self.page_rows = 1000

    def concerns_data(self, seen: Seen) -> bool:
        return seen.path == "/v2/stocks/bars"


#: Provider -> its lab, and the name there of each symbol that is asked for.
CRYPTO = {
    "coinbase": (MortalCoinbase, {"BTC/USD": "BTC-USD", "ETH/USD": "ETH-USD"}),
    "kraken": (MortalKraken, {"BTC/USD": "XXBTZUSD", "ETH/USD": "XETHZUSD"}),
}
US = {
    "alpaca": (MortalAlpaca, {"AAPL": "AAPL", "BRK.B": "BRK.B"}),
    "yahoo": (MortalYahoo, {"AAPL": "AAPL", "BRK.B": "BRK-B"}),
}
MARKETS: dict[str, dict[str, tuple[type[Mortal], dict[str, str]]]] = {"crypto": CRYPTO, "us": US}
#: What a venue's prices have over the others'.
PREMIUM = {"coinbase": 0.0, "kraken": 0.25, "alpaca": 0.0, "yahoo": 0.25}


def minutes_of(market: str, *days: date) -> list[datetime]:
    """Return the starts of all minutes in which a market trades on these days."""
    first, count = ((14, 30), 390) if market == "us" else ((0, 0), 1440)
    opens = [datetime(day.year, day.month, day.day, *first, tzinfo=UTC) for day in days]
    return [start + timedelta(minutes=number) for start in opens for number in range(count)]


def row_of(venue: str, symbol: str, ts: datetime) -> Row:
    """Return the venue's bar of a minute."""
    base = 1000.0 + ts.day + (500.0 if symbol.startswith(("ETH", "BRK")) else 0.0)
    price = base + ts.hour + ts.minute / 64 + PREMIUM[venue]
    return Row(ts, price, price + 2, price - 1, price + 0.5, 400.0 + ts.minute)


class World:
    """The platform, with a chain of providers whose labs run.

    Attributes:
        platform: the platform.
        market: name of the market.
        labs: provider -> lab, in the order of the chain.
        seconds: what the circuit breakers take for the present.
    """

    def __init__(
        self, platform: Platform, market: str, labs: dict[str, Mortal], monkeypatch: Any
    ) -> None:
        self.platform, self.market, self.labs = platform, market, labs
        monkeypatch.setenv(f"SCIZOR_CHAIN_{market.upper()}", ",".join(labs))
        monkeypatch.setenv("SCIZOR_ALPACA_API_KEY", KEY_ID)
        monkeypatch.setenv("SCIZOR_ALPACA_SECRET", SECRET)
        monkeypatch.setenv("SCIZOR_PROVIDER_TIMEOUT_SECONDS", "1.5")
        for name, lab in labs.items():
            monkeypatch.setenv(f"SCIZOR_{name.upper()}_BASE_URL", lab.url)
            monkeypatch.setenv(f"SCIZOR_{name.upper()}_REQUESTS_PER_MINUTE", "100000")
        monkeypatch.setattr(platform, "settings", load_settings())
        monkeypatch.setattr(platform, "now", lambda: datetime(2022, 1, 10, tzinfo=UTC))
        self.seconds = 0.0
        make_gate = platform.gate

        def gate(provider: str, lane: Lane = "backfill") -> Gate:
            made = make_gate(provider, lane)
            made.sleep = lambda _seconds: None
            return made

        def breaker(provider: str) -> ValkeyBreaker:
            title = limits_of(provider).title
            return ValkeyBreaker(platform.link, provider, title, clock=lambda: self.seconds)

        monkeypatch.setattr(platform, "gate", gate)
        monkeypatch.setattr(platform, "breaker", breaker)
        for symbol in self.symbols:
            platform.reference.ensure(market, symbol)

    @property
    def symbols(self) -> list[str]:
        return list(next(iter(MARKETS[self.market].values()))[1])

    @property
    def first(self) -> Mortal:
        """The lab of the provider that is asked first."""
        return next(iter(self.labs.values()))

    @property
    def second(self) -> Mortal:
        return list(self.labs.values())[1]

    def put(self, *days: date, without: tuple[str, datetime, datetime] | None = None) -> None:
        """Let the venues have every minute of these days, but for a provider's gap."""
        for name, lab in self.labs.items():
            for symbol, wire in MARKETS[self.market][name][1].items():
                rows = [
                    row_of(name, symbol, ts)
                    for ts in minutes_of(self.market, *days)
                    if without is None or name != without[0] or not without[1] <= ts < without[2]
                ]
                lab.put(wire, "1m", rows)

    def collect(self, start: date, end: date, *symbols: str) -> CollectReport:
        return self.platform.collector(self.market, "1m").collect(
            start, end, list(symbols or self.symbols)
        )

    def stored(self, symbol: str) -> dict[datetime, str]:
        """Return minute -> provider, and check that each bar is that provider's."""
        rows = query(
            self.platform,
            "SELECT b.ts, b.open, b.high, b.low, b.close, b.volume, b.source FROM market.bars AS b "
            "JOIN public.symbols AS s USING (instrument_id) "
            "WHERE s.symbol = %s AND b.timeframe = '1m' ORDER BY b.ts",
            symbol,
        )
        assert len({row["ts"] for row in rows}) == len(rows)
        for row in rows:
            row["source"] = row["source"].partition("-")[0]  # "alpaca-iex" says the feed too
            venue = row_of(row["source"], symbol, row["ts"])
            found = [row[name] for name in ("open", "high", "low", "close", "volume")]
            assert found == [venue.open, venue.high, venue.low, venue.close, venue.volume]
        return {row["ts"].astimezone(UTC): row["source"] for row in rows}


@pytest.fixture
def worlds(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> Iterator["Worlds"]:
    # What Valkey remembers of providers outlives a test's database.
    forget = partial(platform.link.call, lambda client: client.flushdb())
    forget()
    with ExitStack() as running:
        yield Worlds(platform, monkeypatch, running)
    forget()


class Worlds:
    """Starts labs and makes the world of them."""

    def __init__(self, platform: Platform, monkeypatch: Any, running: ExitStack) -> None:
        self._platform, self._monkeypatch, self._running = platform, monkeypatch, running

    def make(self, market: str, *chain: str) -> World:
        labs = {name: self._running.enter_context(MARKETS[market][name][0]()) for name in chain}
        return World(self._platform, market, labs, self._monkeypatch)


# --- death in mid-range ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("market", "chain", "dies_at"),
    [
        # Coinbase has 300 candles a call: five calls a day and symbol.
        pytest.param("crypto", ("coinbase", "kraken"), 3, id="coinbase, in the first symbol"),
        pytest.param("crypto", ("coinbase", "kraken"), 14, id="coinbase, in the second symbol"),
        pytest.param("crypto", ("kraken", "coinbase"), 16, id="kraken, among its pages of trades"),
        pytest.param("us", ("yahoo", "alpaca"), 2, id="yahoo, at the second symbol"),
    ],
)
def test_a_range_whose_first_provider_dies_is_completed_by_the_second(
    worlds: Worlds, market: str, chain: tuple[str, str], dies_at: int
) -> None:
    world = worlds.make(market, *chain)
    world.put(TUESDAY, WEDNESDAY)
    world.first.plan[dies_at] = "death"

    report = world.collect(TUESDAY, THURSDAY)

    expected = minutes_of(market, TUESDAY, WEDNESDAY)
    stored = {symbol: world.stored(symbol) for symbol in world.symbols}
    assert {symbol: list(found) for symbol, found in stored.items()} == dict.fromkeys(
        world.symbols, expected
    )
    sources = {source for found in stored.values() for source in found.values()}
    assert sources == set(chain)
    assert world.first.is_dead
    assert report.missing == {}
    assert report.error is None


def test_what_came_before_the_death_stays_and_only_the_rest_is_asked_of_the_second(
    worlds: Worlds,
) -> None:
    world = worlds.make("crypto", "coinbase", "kraken")
    world.put(TUESDAY)
    world.first.plan[3] = "death"

    world.collect(TUESDAY, WEDNESDAY, "BTC/USD")

    # Two answers of 300 minutes.
    by_minute = list(world.stored("BTC/USD").values())
    assert by_minute == ["coinbase"] * 600 + ["kraken"] * 840
    hole = datetime(2022, 1, 4, 10, tzinfo=UTC).timestamp()
    since = [int(seen.query["since"]) for seen in world.second.data_requests]
    assert min(since) // 10**9 >= hole - 1


def test_a_few_minutes_that_the_first_provider_died_before_are_asked_of_the_second(
    worlds: Worlds,
) -> None:
    world = worlds.make("crypto", "coinbase", "kraken")
    now = datetime(2022, 1, 4, 20, 10, tzinfo=UTC)
    world.platform.now = lambda: now
    world.put(TUESDAY)
    for lab in world.labs.values():
        lab.rows = {key: [row for row in rows if row.ts < now] for key, rows in lab.rows.items()}
    world.first.plan[5] = "death"

    world.collect(TUESDAY, WEDNESDAY, "BTC/USD")

    # Four answers of five hours; ten minutes would pass for quiet ones in a sound answer.
    stored = world.stored("BTC/USD")
    assert list(stored) == minutes_of("crypto", TUESDAY)[: 20 * 60 + 10]
    assert list(stored.values()) == ["coinbase"] * 1200 + ["kraken"] * 10


def test_pages_that_came_before_the_death_are_not_half_a_symbol(
    worlds: Worlds, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Alpaca pages a window's symbols together: who loses a page has no answer.
    monkeypatch.setitem(CHUNK_DAYS, "1m", 2)
    world = worlds.make("us", "alpaca", "yahoo")
    assert isinstance(world.first, AlpacaLab)
    world.first.page_rows = 500
    world.put(TUESDAY, WEDNESDAY, THURSDAY, FRIDAY)
    world.first.plan[6] = "death"  # of four pages a piece of two sessions

    world.collect(TUESDAY, SATURDAY)

    for symbol in world.symbols:
        stored = world.stored(symbol)
        assert list(stored) == minutes_of("us", TUESDAY, WEDNESDAY, THURSDAY, FRIDAY)
        assert list(stored.values()) == ["alpaca"] * 780 + ["yahoo"] * 780


def test_run_metadata_and_accounts_tell_of_both_providers(worlds: Worlds) -> None:
    world = worlds.make("crypto", "coinbase", "kraken")
    world.put(TUESDAY)
    world.first.plan[3] = "death"
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(
            world.platform, instance, ["crypto/bars_1m"], str(TUESDAY), symbols=["BTC/USD"]
        )
    metadata: dict[str, Any] = metadata_of(result, "crypto/bars_1m")
    runs = {
        row["provider"]: row for row in query(world.platform, "SELECT * FROM public.collector_runs")
    }

    assert metadata["sources"] == {"coinbase": 600, "kraken": 840}
    assert metadata["providers"]["coinbase"]["records"] == 600
    assert "could not be reached" in metadata["providers"]["coinbase"]["error"]
    assert metadata["providers"]["kraken"]["error"] is None
    coinbase, kraken = runs["coinbase"], runs["kraken"]
    assert (coinbase["status"], coinbase["records"]) == ("partial", 600)
    # Two answers, and a call that was tried again.
    assert (coinbase["requests"], coinbase["retries"]) == (2 + TRIES, TRIES - 1)
    assert "could not be reached" in coinbase["error"]
    assert (kraken["status"], kraken["error"]) == ("success", None)
    assert kraken["records"] >= 840
    assert {row["dagster_run_id"] for row in runs.values()} == {result.run_id}


def test_a_run_that_no_provider_answers_fails_and_each_of_them_is_accounted_for(
    worlds: Worlds,
) -> None:
    world = worlds.make("crypto", "coinbase", "kraken")
    world.put(TUESDAY)
    for lab in world.labs.values():
        lab.kill()
    with (
        dg.DagsterInstance.ephemeral() as instance,
        pytest.raises(dg.Failure, match="could not be reached") as caught,
    ):
        run(world.platform, instance, ["crypto/bars_1m"], str(TUESDAY), symbols=["BTC/USD"])

    assert caught.value.allow_retries
    runs = query(world.platform, "SELECT provider, status FROM public.collector_runs ORDER BY 1")
    assert runs == [
        {"provider": "coinbase", "status": "failed"},
        {"provider": "kraken", "status": "failed"},
    ]
    assert world.stored("BTC/USD") == {}


# --- back again -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("market", "chain", "dies_at"),
    [("crypto", ("coinbase", "kraken"), 3), ("us", ("alpaca", "yahoo"), 1)],
    ids=["crypto", "us"],
)
def test_a_provider_that_is_back_answers_the_next_range(
    worlds: Worlds, market: str, chain: tuple[str, str], dies_at: int
) -> None:
    world = worlds.make(market, *chain)
    world.put(TUESDAY, WEDNESDAY)
    world.first.plan[dies_at] = "death"
    symbol = world.symbols[0]
    world.collect(TUESDAY, WEDNESDAY, symbol)
    asked_before = len(world.second.data_requests)
    assert asked_before

    world.first.start_again()
    report = world.collect(WEDNESDAY, THURSDAY, symbol)

    stored = world.stored(symbol)
    assert list(stored) == minutes_of(market, TUESDAY, WEDNESDAY)
    assert {stored[ts] for ts in minutes_of(market, WEDNESDAY)} == {chain[0]}
    assert len(world.second.data_requests) == asked_before
    assert set(report.calls) == {chain[0]}


def test_a_range_run_again_is_the_first_providers_and_the_seconds_bars_are_kept_as_revisions(
    worlds: Worlds,
) -> None:
    world = worlds.make("crypto", "coinbase", "kraken")
    world.put(TUESDAY)
    world.first.plan[3] = "death"
    world.collect(TUESDAY, WEDNESDAY, "BTC/USD")

    world.first.start_again()
    world.collect(TUESDAY, WEDNESDAY, "BTC/USD")

    assert list(world.stored("BTC/USD").values()) == ["coinbase"] * 1440
    kept = query(
        world.platform, "SELECT source, count(*) AS n FROM market.bar_revisions GROUP BY 1"
    )
    assert kept == [{"source": "kraken", "n": 840}]


def test_a_provider_that_fails_again_and_again_is_left_alone_and_tried_again_by_time(
    worlds: Worlds,
) -> None:
    world = worlds.make("us", "alpaca", "yahoo")
    world.put(TUESDAY, WEDNESDAY, THURSDAY, FRIDAY)
    world.first.kill()
    for day in (TUESDAY, WEDNESDAY):
        world.collect(day, day + timedelta(days=1), "AAPL")
    world.first.start_again()
    asked_before = len(world.first.requests)

    early = world.collect(THURSDAY, FRIDAY, "AAPL")
    asked_while_open = len(world.first.requests) - asked_before
    world.seconds += FIRST_REST_SECONDS
    late = world.collect(FRIDAY, SATURDAY, "AAPL")

    assert FAILURES_TO_OPEN <= 2 * TRIES
    assert asked_while_open == 0
    assert "is left alone until" in early.failures["alpaca"]
    assert (early.sources, late.sources) == ({"yahoo": 390}, {"alpaca-iex": 390})
    assert late.failures == {}
    assert list(world.stored("AAPL")) == minutes_of("us", TUESDAY, WEDNESDAY, THURSDAY, FRIDAY)


# --- faults that pass -----------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["server_error", "silence"])
def test_a_fault_of_one_answer_is_got_over_without_the_second_provider(
    worlds: Worlds, fault: TransportFault
) -> None:
    world = worlds.make("crypto", "coinbase", "kraken")
    world.put(TUESDAY)
    world.first.plan[3] = fault

    report = world.collect(TUESDAY, WEDNESDAY, "BTC/USD")

    assert list(world.stored("BTC/USD").values()) == ["coinbase"] * 1440
    assert (report.calls["coinbase"].requests, report.calls["coinbase"].retries) == (6, 1)
    assert world.second.requests == []


def test_a_fault_that_lasts_fails_over_only_what_it_left_open(worlds: Worlds) -> None:
    world = worlds.make("crypto", "coinbase", "kraken")
    world.put(TUESDAY)
    # The third of five calls for BTC; those for ETH follow.
    world.first.plan |= dict.fromkeys(range(3, 3 + TRIES), "server_error")

    report = world.collect(TUESDAY, WEDNESDAY)

    assert list(world.stored("BTC/USD").values()) == ["coinbase"] * 600 + ["kraken"] * 840
    assert list(world.stored("ETH/USD").values()) == ["coinbase"] * 1440
    assert {seen.query["pair"] for seen in world.second.data_requests} == {"XXBTZUSD"}
    assert "500" in str(report.calls["coinbase"].error)


def test_a_silence_that_lasts_leaves_the_other_symbols_to_the_second_provider(
    worlds: Worlds,
) -> None:
    world = worlds.make("crypto", "coinbase", "kraken")
    world.put(TUESDAY)
    world.first.plan |= dict.fromkeys(range(3, 3 + TRIES), "silence")

    world.collect(TUESDAY, WEDNESDAY)

    # Each of them would have waited as long.
    assert list(world.stored("BTC/USD").values()) == ["coinbase"] * 600 + ["kraken"] * 840
    assert list(world.stored("ETH/USD").values()) == ["kraken"] * 1440
    assert len(world.first.data_requests) == 2 + TRIES


def test_a_hole_in_a_sound_answer_is_asked_of_the_second_provider_and_nothing_else(
    worlds: Worlds,
) -> None:
    world = worlds.make("us", "alpaca", "yahoo")
    first, last = (datetime(2022, 1, 4, hour, tzinfo=UTC) for hour in (16, 17))
    world.put(TUESDAY, WEDNESDAY, without=("alpaca", first, last))

    world.collect(TUESDAY, THURSDAY, "AAPL")

    stored = world.stored("AAPL")
    assert list(stored) == minutes_of("us", TUESDAY, WEDNESDAY)
    assert [ts for ts, source in stored.items() if source == "yahoo"] == [
        first + timedelta(minutes=number) for number in range(60)
    ]
    (asked,) = world.second.data_requests
    assert (int(asked.query["period1"]), int(asked.query["period2"])) == (
        int(first.timestamp()),
        int(last.timestamp()),
    )
