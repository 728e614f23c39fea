"""IbkrSource through the real ib_async against a stand-in gateway on loopback.

Session times are given as UTC instants, worked out from the exchanges' published hours: New York
09:30 to 16:00, Sydney 10:00 to 16:00, with the changes of daylight saving in between.
"""

import asyncio
import gzip
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from scizor_core.errors import ConfigError, InvalidInputError
from scizor_core.markets import Timeframe
from scizor_core.sessions import get_calendar
from scizor_core.ticks import TICK_COLUMNS, build_bars, tick_faults
from scizor_resources.errors import (
    AuthError,
    BadRequest,
    ProviderError,
    RateLimited,
    SchemaDrift,
    TransientError,
)
from scizor_resources.providers.base import BarBatch, BarRequest, SymbolRef
from scizor_resources.providers.gate import Gate, NoLimits
from scizor_resources.providers.ibkr import source as source_module
from scizor_resources.providers.ibkr.source import IbkrSource, weight_of
from scizor_resources.providers.ibkr.symbols import from_ibkr_symbol, to_ibkr_symbol
from scizor_resources.providers.ibkr.verdicts import kind_of
from tests.contract.lab.ibkr import NO_DATA, IbkrLab, Trade
from tests.contract.lab.server import Row

SATURDAY_NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
FRIDAY_OPEN = datetime(2026, 11, 20, 14, 30, tzinfo=UTC)  # 09:30 in New York, winter time
FRIDAY = datetime(2026, 11, 20, tzinfo=UTC)
SATURDAY = datetime(2026, 11, 21, tzinfo=UTC)
SERVICE = "Historical Market Data Service error message:"


@pytest.fixture
def lab() -> Iterator[IbkrLab]:
    with IbkrLab() as running:
        yield running


class Sources:
    """Makes sources and closes them at the end."""

    def __init__(self) -> None:
        self.made: list[IbkrSource] = []

    def __call__(
        self, base_url: str, *, now: datetime = SATURDAY_NOON, budget: Any = None, **settings: Any
    ) -> IbkrSource:
        gate = Gate("ibkr", sleep=lambda _seconds: None, budget=budget or NoLimits())
        source = IbkrSource(
            gate, base_url=base_url, now=lambda: now, **{"timeout_seconds": 5.0, **settings}
        )
        self.made.append(source)
        return source


@pytest.fixture
def connect() -> Iterator[Sources]:
    sources = Sources()
    yield sources
    for source in sources.made:
        source.close()


def ask(
    market: str, timeframe: Timeframe, start: datetime, end: datetime, *symbols: str
) -> BarRequest:
    refs = tuple(SymbolRef(number, symbol) for number, symbol in enumerate(symbols, start=1))
    return BarRequest(market, timeframe, start, end, refs)


def series(
    start: datetime, count: int, step: timedelta = timedelta(minutes=1), price: float = 100.0
) -> list[Row]:
    return [
        Row(
            start + number * step,
            price + number,
            price + number + 1,
            price + number - 1,
            price + number + 0.5,
            1000.0 + number,
        )
        for number in range(count)
    ]


def fetch_friday(source: IbkrSource, *symbols: str) -> BarBatch:
    """Fetch Friday's 1m bars of US symbols, AAPL by default."""
    return source.fetch_bars(ask("us", "1m", FRIDAY, SATURDAY, *(symbols or ("AAPL",))))


def closed_port() -> int:
    """Return a port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        port: int = held.getsockname()[1]
    return port


# --- symbols and contracts ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("market", "symbol", "ticker"),
    [("asx", "CBA", "CBA"), ("us", "AAPL", "AAPL"), ("us", "BRK.B", "BRK B")],
)
def test_symbols_map_both_ways(market: str, symbol: str, ticker: str) -> None:
    assert to_ibkr_symbol(market, symbol) == ticker
    assert from_ibkr_symbol(market, ticker) == symbol


def test_a_symbol_of_a_market_that_is_not_served_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="does not serve market 'crypto'"):
        to_ibkr_symbol("crypto", "BTC/USD")


@pytest.mark.parametrize(
    ("market", "symbol", "expected"),
    [
        ("asx", "CBA", ("CBA", "STK", "ASX", "ASX", "AUD")),
        ("us", "BRK.B", ("BRK B", "STK", "SMART", "", "USD")),
    ],
    ids=["asx", "us"],
)
def test_a_market_has_its_exchange_and_currency_on_the_wire(
    lab: IbkrLab, connect: Sources, market: str, symbol: str, expected: tuple[str, ...]
) -> None:
    lab.listings[expected[0]] = [(17, expected[4], "NYSE")]

    connect(lab.url).contract_details(symbol, market=market)

    (seen,) = lab.asked("9")
    names = ("symbol", "secType", "exchange", "primaryExchange", "currency")
    assert tuple(seen.query[name] for name in names) == expected


def test_contract_details_tell_what_ibkr_knows(lab: IbkrLab, connect: Sources) -> None:
    lab.listings["CBA"] = [(4036818, "AUD", "ASX")]

    details = connect(lab.url).contract_details("CBA", market="asx")

    assert (details.contract_id, details.symbol, details.exchange) == (4036818, "CBA", "ASX")
    assert (details.primary_exchange, details.currency) == ("ASX", "AUD")
    assert (details.long_name, details.timezone) == ("CBA LIMITED", "Australia/Sydney")
    assert (details.minimum_tick, details.stock_type) == (0.01, "COMMON")


def test_bars_are_asked_for_by_the_contracts_id(lab: IbkrLab, connect: Sources) -> None:
    lab.put("AAPL", "1m", series(FRIDAY_OPEN, 3))
    lab.listings["AAPL"] = [(265598, "USD", "NASDAQ")]

    fetch_friday(connect(lab.url))

    assert [seen.query["conId"] for seen in lab.asked("20")] == ["265598"]


def test_a_contract_is_looked_up_once(lab: IbkrLab, connect: Sources) -> None:
    lab.put("AAPL", "1m", series(FRIDAY_OPEN, 3))
    source = connect(lab.url)

    fetch_friday(source)
    fetch_friday(source)

    assert (len(lab.asked("9")), len(lab.asked("20"))) == (1, 2)


def test_of_several_listings_the_one_at_home_in_the_market_is_taken(
    lab: IbkrLab, connect: Sources
) -> None:
    lab.listings["AAPL"] = [(1, "USD", "LSEETF"), (2, "MXN", "MEXI"), (3, "USD", "NASDAQ")]

    assert connect(lab.url).contract_details("AAPL", market="us").contract_id == 3


def test_listings_that_cannot_be_told_apart_are_refused(lab: IbkrLab, connect: Sources) -> None:
    lab.listings["AAPL"] = [(1, "USD", "NYSE"), (3, "USD", "NASDAQ")]

    with pytest.raises(BadRequest, match="2 listings of AAPL"):
        connect(lab.url).contract_details("AAPL", market="us")


def test_a_delisted_code_is_an_error_of_its_own_with_ibkrs_words(
    lab: IbkrLab, connect: Sources
) -> None:
    lab.put("AAPL", "1m", series(FRIDAY_OPEN, 3))

    batch = fetch_friday(connect(lab.url), "GONE", "AAPL")

    assert "error 200: No security definition" in batch.errors["GONE"]
    assert len(batch.bars) == 3


# --- bars ---------------------------------------------------------------------------------


def test_a_request_asks_for_trades_of_regular_hours_with_times_in_utc(
    lab: IbkrLab, connect: Sources
) -> None:
    lab.put("AAPL", "1m", series(FRIDAY_OPEN, 3))

    fetch_friday(connect(lab.url))

    (seen,) = lab.asked("20")
    names = ("end", "duration", "barSize", "whatToShow", "useRTH", "formatDate", "keep")
    assert [seen.query[name] for name in names] == [
        "20261120-21:00:00", "1 D", "1 min", "TRADES", "1", "2", "0",
    ]  # fmt: skip


def test_a_window_up_to_now_ends_with_the_gateways_present(lab: IbkrLab, connect: Sources) -> None:
    lab.put("AAPL", "1m", series(FRIDAY_OPEN, 3))
    source = connect(lab.url, now=FRIDAY_OPEN + timedelta(minutes=2, seconds=30))

    batch = fetch_friday(source)

    assert [seen.query["end"] for seen in lab.asked("20")] == [""]
    assert list(batch.bars["is_final"]) == [True, True, False]


def test_vwap_and_trade_count_come_along(lab: IbkrLab, connect: Sources) -> None:
    lab.put("AAPL", "1m", series(FRIDAY_OPEN, 1))

    bars = fetch_friday(connect(lab.url)).bars

    assert list(bars["vwap"]) == [100.5]
    assert list(bars["trade_count"]) == [7]


def test_the_vwap_of_a_bar_without_volume_is_missing(lab: IbkrLab, connect: Sources) -> None:
    lab.put("AAPL", "1m", [Row(FRIDAY_OPEN, volume=0.0)])

    bars = fetch_friday(connect(lab.url)).bars

    assert list(bars["volume"]) == [0.0]
    assert bars["vwap"].isna().all()


@pytest.mark.parametrize("column", ["open", "volume"])
def test_minus_one_is_no_value(lab: IbkrLab, connect: Sources, column: str) -> None:
    lab.put("AAPL", "1m", [Row(FRIDAY_OPEN, **{column: -1})])

    batch = fetch_friday(connect(lab.url))

    assert batch.bars.empty
    assert list(batch.rejected["reason"]) == [f"null row: no value for {column}"]


def test_daily_bars_keep_their_session_dates_across_a_change_of_daylight_saving(
    lab: IbkrLab, connect: Sources
) -> None:
    days = [datetime(2026, 10, day, tzinfo=UTC) for day in (1, 2, 5, 6, 7)]
    lab.put("CBA", "1d", [Row(day, close=10.0 + number / 10) for number, day in enumerate(days)])

    bars = connect(lab.url).fetch_bars(ask("asx", "1d", days[1], days[4], "CBA")).bars

    assert [ts.date().isoformat() for ts in bars["ts"]] == [
        "2026-10-02",
        "2026-10-05",
        "2026-10-06",
    ]
    assert set(bars["ts"].dt.hour) == {0}
    assert list(bars["close"]) == [10.1, 10.2, 10.3]
    # Midnight in Sydney at the beginning of 7 October, summer time.
    assert [seen.query["end"] for seen in lab.asked("20")] == ["20261006-13:00:00"]


def test_a_day_whose_close_has_not_come_is_not_final(lab: IbkrLab, connect: Sources) -> None:
    lab.put("AAPL", "1d", [Row(FRIDAY - timedelta(days=1)), Row(FRIDAY)])
    source = connect(lab.url, now=FRIDAY_OPEN + timedelta(hours=1))

    bars = source.fetch_bars(
        ask("us", "1d", FRIDAY - timedelta(days=1), FRIDAY + timedelta(days=10), "AAPL")
    ).bars

    assert list(bars["is_final"]) == [True, False]


# --- paging -------------------------------------------------------------------------------


def us_sessions(days: tuple[int, ...], step: timedelta, count: int) -> list[Row]:
    """Return rows of sessions in November 2026 after the change to winter time."""
    opens = [datetime(2026, 11, day, 14, 30, tzinfo=UTC) for day in days]
    return [row for open_ in opens for row in series(open_, count, step)]


@pytest.mark.parametrize("days_are_sessions", [True, False], ids=["sessions", "24 hours"])
@pytest.mark.parametrize(
    ("timeframe", "count"), [("1m", 390), ("5m", 78), ("15m", 26)], ids=["1m", "5m", "15m"]
)
def test_every_bar_comes_once_however_the_gateway_counts_days(
    lab: IbkrLab, connect: Sources, days_are_sessions: bool, timeframe: Timeframe, count: int
) -> None:
    lab.days_are_sessions = days_are_sessions
    step = timedelta(minutes=390 // count)
    rows = us_sessions((12, 13, 16, 17, 18, 19, 20), step, count)
    lab.put("AAPL", timeframe, rows)
    start = datetime(2026, 11, 12, tzinfo=UTC)

    bars = connect(lab.url).fetch_bars(ask("us", timeframe, start, SATURDAY, "AAPL")).bars

    assert list(bars["ts"]) == [pd.Timestamp(row.ts) for row in rows]
    assert list(bars["close"]) == [row.close for row in rows]


def test_minutes_are_asked_for_session_by_session_and_not_on_weekends(
    lab: IbkrLab, connect: Sources
) -> None:
    lab.put("AAPL", "1m", us_sessions((13, 16), timedelta(minutes=1), 390))
    start, end = datetime(2026, 11, 13, tzinfo=UTC), datetime(2026, 11, 17, tzinfo=UTC)

    connect(lab.url).fetch_bars(ask("us", "1m", start, end, "AAPL"))

    assert [(seen.query["end"], seen.query["duration"]) for seen in lab.asked("20")] == [
        ("20261113-21:00:00", "1 D"),
        ("20261116-21:00:00", "1 D"),
    ]


def test_a_utc_day_with_parts_of_two_sydney_sessions_brings_both(
    lab: IbkrLab, connect: Sources
) -> None:
    # Sydney's summer session is 23:00 to 05:00 UTC; the closing auction prints at 05:10.
    monday = datetime(2026, 11, 16, tzinfo=UTC)
    first = series(monday - timedelta(hours=1), 371)
    second = series(monday + timedelta(hours=23), 371)
    lab.put("CBA", "1m", [*first, *second])
    lab.days_are_sessions = True

    bars = (
        connect(lab.url)
        .fetch_bars(ask("asx", "1m", monday, monday + timedelta(days=1), "CBA"))
        .bars
    )

    assert list(bars["ts"]) == [pd.Timestamp(row.ts) for row in [*first[60:], *second[:60]]]


def test_a_week_of_five_minute_bars_is_one_request(lab: IbkrLab, connect: Sources) -> None:
    lab.put("AAPL", "5m", us_sessions((16, 17, 18, 19, 20), timedelta(minutes=5), 78))
    start = datetime(2026, 11, 16, tzinfo=UTC)

    batch = connect(lab.url).fetch_bars(ask("us", "5m", start, SATURDAY, "AAPL"))

    assert len(lab.asked("20")) == 1
    assert len(batch.bars) == 390


@pytest.mark.parametrize("days_are_sessions", [True, False], ids=["sessions", "24 hours"])
def test_years_of_daily_bars_are_asked_for_in_steps_of_a_year(
    lab: IbkrLab, connect: Sources, days_are_sessions: bool
) -> None:
    lab.days_are_sessions = days_are_sessions
    start, end = datetime(2023, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
    weekdays = [ts.to_pydatetime() for ts in pd.bdate_range(start, end, inclusive="left")]
    lab.put("AAPL", "1d", [Row(day) for day in weekdays])

    bars = connect(lab.url).fetch_bars(ask("us", "1d", start, end, "AAPL")).bars

    assert [ts.to_pydatetime() for ts in bars["ts"]] == weekdays
    assert len(lab.asked("20")) == 4
    assert all(int(seen.query["duration"].split()[0]) <= 365 for seen in lab.asked("20"))


def test_a_window_without_a_session_is_not_asked_for(lab: IbkrLab, connect: Sources) -> None:
    source = connect(lab.url, now=SATURDAY_NOON + timedelta(days=5))

    batch = source.fetch_bars(ask("us", "1m", SATURDAY, SATURDAY + timedelta(days=2), "AAPL"))

    assert "AAPL" in batch.empty_reasons["AAPL"]
    assert (lab.connections, batch.requests) == (0, 0)


# --- errors -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "words", "kind"),
    [
        (162, f"{SERVICE}Historical data request pacing violation", RateLimited),
        (322, "Error processing request.-'a' : Only 50 simultaneous API historical data requests "
         "allowed", RateLimited),
        (100, "Max rate of messages per second has been exceeded:max=50 rec=51", RateLimited),
        (162, f"{SERVICE}No market data permissions for ISLAND STK", AuthError),
        (10187, "Failed to request historical ticks:No market data permissions for ASX STK",
         AuthError),
        (354, "Requested market data is not subscribed", AuthError),
        (10089, "Requested market data requires additional subscription for API", AuthError),
        (10168, "Requested market data is not subscribed. Delayed market data is not enabled",
         AuthError),
        (162, f"{SERVICE}invalid step: 1", BadRequest),
        (162, f"{SERVICE}Time length exceed max.", BadRequest),
        (321, "Error validating request.-'bZ' : cause - Historical data bar size setting is "
         "invalid", BadRequest),
        (162, f"{SERVICE}HMDS server connection was broken", TransientError),
        (162, f"{SERVICE}Trading TWS session is connected from a different IP address",
         TransientError),
        (162, f"{SERVICE}API historical data query cancelled: 28", TransientError),
        (162, f"{SERVICE}something new", TransientError),
        (366, "No historical data query found for ticker id:5", TransientError),
        (504, "Not connected", TransientError),
    ],
)  # fmt: skip
def test_an_error_of_the_gateway_is_raised_by_its_kind(
    lab: IbkrLab, connect: Sources, code: int, words: str, kind: type[ProviderError]
) -> None:
    lab.put("AAPL", "1m", series(FRIDAY_OPEN, 3))
    lab.put("MSFT", "1m", series(FRIDAY_OPEN, 3))
    lab.answers["AAPL"] = (code, words)
    source = connect(lab.url)

    if kind is BadRequest:
        found = fetch_friday(source, "AAPL", "MSFT").errors["AAPL"]
    else:
        with pytest.raises(kind) as caught:
            fetch_friday(source)
        found = str(caught.value)
        assert type(caught.value) is kind
        assert (caught.value.provider, caught.value.status) == ("ibkr", code)

    assert f"error {code}" in found
    assert "AAPL" in found


def test_no_data_is_an_empty_answer_with_a_reason(lab: IbkrLab, connect: Sources) -> None:
    lab.put("AAPL", "1m", series(FRIDAY_OPEN, 3))
    lab.answers["AAPL"] = NO_DATA

    batch = fetch_friday(connect(lab.url))

    assert batch.bars.empty
    assert batch.errors == {}
    assert "IBKR has no 1m bars of AAPL" in batch.empty_reasons["AAPL"]


def test_the_words_of_a_gateway_in_another_language_are_understood() -> None:
    words = "Mensaje de error de los servicios de datos de mercado históricos:invalid step: 1"

    assert kind_of(162, words) is BadRequest


def test_a_message_165_does_not_end_the_request(lab: IbkrLab, connect: Sources) -> None:
    lab.put("AAPL", "1m", series(FRIDAY_OPEN, 3))
    lab.messages = [(165, "Historical Market Data Service query message:Please wait")]

    assert len(fetch_friday(connect(lab.url)).bars) == 3


def test_the_last_words_before_a_silence_are_told(lab: IbkrLab, connect: Sources) -> None:
    lab.put("AAPL", "1m", series(FRIDAY_OPEN, 3))
    lab.messages = [(165, "Historical Market Data Service query message:Please wait")]
    lab.inject("silence")

    with pytest.raises(TransientError, match="165, Historical Market Data Service query message"):
        fetch_friday(connect(lab.url, timeout_seconds=0.2))


def test_a_frame_that_cannot_be_read_is_schema_drift(lab: IbkrLab, connect: Sources) -> None:
    lab.put("AAPL", "1m", series(FRIDAY_OPEN, 3))
    lab.raw_answer = (17, 1, "", "", 2, "1795185000", "one", "2", "3", "4", "5", "6", "7")

    with pytest.raises(SchemaDrift, match="message 17 cannot be read"):
        fetch_friday(connect(lab.url))


def test_minutes_that_carry_dates_are_schema_drift(lab: IbkrLab, connect: Sources) -> None:
    lab.put("AAPL", "1m", series(FRIDAY_OPEN, 3))
    # The gateway numbers requests from the 1 of its greeting on; 1 are positions, 2 the contract.
    lab.raw_answer = (17, 2, "", "", 1, "20261120", 1, 2, 1, 1, 5, 1, 1)

    with pytest.raises(SchemaDrift, match="a bar's time is"):
        fetch_friday(connect(lab.url))


# --- the connection -----------------------------------------------------------------------


def test_the_connection_is_kept_between_calls(lab: IbkrLab, connect: Sources) -> None:
    lab.put("AAPL", "1m", series(FRIDAY_OPEN, 3))
    source = connect(lab.url)

    fetch_friday(source)
    fetch_friday(source)

    assert lab.connections == 1


def test_closing_hangs_up_and_the_next_call_connects_anew(lab: IbkrLab, connect: Sources) -> None:
    lab.put("AAPL", "1m", series(FRIDAY_OPEN, 3))
    source = connect(lab.url)
    fetch_friday(source)

    source.close()

    assert lab.closed.wait(5)
    assert len(fetch_friday(source).bars) == 3
    assert lab.connections == 2


def test_a_source_that_is_thrown_away_hangs_up(lab: IbkrLab) -> None:
    lab.put("AAPL", "1m", series(FRIDAY_OPEN, 3))
    source = IbkrSource(Gate("ibkr"), base_url=lab.url, now=lambda: SATURDAY_NOON)
    fetch_friday(source)

    del source

    assert lab.closed.wait(5)


def test_a_gateway_that_restarts_is_found_again(lab: IbkrLab, connect: Sources) -> None:
    lab.put("AAPL", "1m", series(FRIDAY_OPEN, 3))
    source = connect(lab.url)
    fetch_friday(source)

    lab.hang_up()
    assert lab.closed.wait(5)

    assert len(fetch_friday(source).bars) == 3


def test_a_client_id_in_use_leads_to_the_next(lab: IbkrLab, connect: Sources) -> None:
    lab.put("AAPL", "1m", series(FRIDAY_OPEN, 3))
    lab.taken_client_ids = {7, 8}

    fetch_friday(connect(lab.url, client_id=7))

    assert lab.client_ids == [9]


def test_client_ids_all_in_use_are_named(lab: IbkrLab, connect: Sources) -> None:
    lab.taken_client_ids = set(range(1, 20))

    with pytest.raises(TransientError, match="all ids from 1 to 8"):
        fetch_friday(connect(lab.url))


def test_without_a_port_the_usual_ones_are_tried_in_turn(
    lab: IbkrLab, connect: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.put("AAPL", "1m", series(FRIDAY_OPEN, 3))
    monkeypatch.setattr(source_module, "DEFAULT_PORTS", (closed_port(), lab.port))

    assert len(fetch_friday(connect("tcp://127.0.0.1")).bars) == 3


def test_ports_on_which_nobody_listens_are_named(
    connect: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    ports = (closed_port(), closed_port())
    monkeypatch.setattr(source_module, "DEFAULT_PORTS", ports)

    with pytest.raises(TransientError) as caught:
        fetch_friday(connect("tcp://127.0.0.1"))

    for port in ports:
        assert f"port {port} (refused)" in str(caught.value)


def test_a_server_that_is_no_gateway_is_an_error_and_not_waited_for_longer(
    connect: Sources,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]

        with pytest.raises(TransientError, match="no answer"):
            fetch_friday(connect(f"tcp://127.0.0.1:{port}", timeout_seconds=0.2))


def test_a_gateway_that_gives_us_volumes_in_lots_is_refused(lab: IbkrLab, connect: Sources) -> None:
    lab.server_version = 162

    with pytest.raises(SchemaDrift, match="lots of 100"):
        fetch_friday(connect(lab.url))


@pytest.mark.parametrize("url", ["http://127.0.0.1:4001", "tcp://", "tcp://host:port", ":4001"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="is not the address of an IBKR gateway"):
        IbkrSource(Gate("ibkr"), base_url=url)


def test_a_lost_link_ends_the_request_and_holds_the_next_ones_back(
    lab: IbkrLab, connect: Sources
) -> None:
    lab.put("AAPL", "1m", series(FRIDAY_OPEN, 3))
    lab.messages = [(1100, "Connectivity between IB and Trader Workstation has been lost.")]
    lab.general = {1100}
    lab.inject("silence")

    with pytest.raises(TransientError, match="was not sent: the gateway reports 1100"):
        fetch_friday(connect(lab.url))

    assert len(lab.data_requests) == 1


@pytest.mark.parametrize("code", [1101, 1102])
def test_requests_go_on_when_the_link_is_back(lab: IbkrLab, connect: Sources, code: int) -> None:
    lab.put("AAPL", "1m", series(FRIDAY_OPEN, 3))
    source = connect(lab.url)
    lab.messages, lab.general = [(1100, "Connectivity has been lost.")], {1100}
    with pytest.raises(TransientError):
        fetch_friday(source)

    lab.messages = []
    lab.say(code, "Connectivity between IB and Trader Workstation has been restored.")

    assert len(fetch_friday(source).bars) == 3
    assert lab.connections == 1


def test_the_source_works_inside_a_running_loop(lab: IbkrLab, connect: Sources) -> None:
    lab.put("AAPL", "1m", series(FRIDAY_OPEN, 3))
    source = connect(lab.url)

    async def main() -> BarBatch:
        return fetch_friday(source)

    assert len(asyncio.run(main()).bars) == 3


def test_the_source_serves_several_threads(lab: IbkrLab, connect: Sources) -> None:
    symbols = ["AAPL", "MSFT", "NVDA", "AMZN"]
    for symbol in symbols:
        lab.put(symbol, "1m", series(FRIDAY_OPEN, 3, price=float(sum(symbol.encode()))))
    source = connect(lab.url)
    found: dict[str, list[float]] = {}

    def fetch(symbol: str) -> None:
        found[symbol] = list(fetch_friday(source, symbol).bars["open"])

    threads = [threading.Thread(target=fetch, args=(symbol,)) for symbol in symbols]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {symbol: opens[0] for symbol, opens in found.items()} == {
        symbol: float(sum(symbol.encode())) for symbol in symbols
    }
    assert lab.connections == 1


def test_a_forked_child_connects_for_itself_and_leaves_the_parents_connection_alone(
    lab: IbkrLab, connect: Sources
) -> None:
    lab.put("AAPL", "1m", series(FRIDAY_OPEN, 3))
    source = connect(lab.url)
    fetch_friday(source)
    reading, writing = os.pipe()

    child = os.fork()
    if child == 0:
        bars = -1
        try:
            bars = len(fetch_friday(source).bars)
            source.close()
        finally:
            os.write(writing, str(bars).encode())
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        in_child = pipe.read()
    os.waitpid(child, 0)

    assert in_child == "3"
    connections = lab.connections
    assert len(fetch_friday(source).bars) == 3
    assert lab.connections == connections


# --- pacing -------------------------------------------------------------------------------


class Requests(NoLimits):
    """A budget that remembers what it was asked for."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int, tuple[str, ...]]] = []

    def acquire(
        self, endpoint: str, *, weight: int = 1, keys: tuple[str, ...] = ()
    ) -> AbstractContextManager[object]:
        self.seen.append((endpoint, weight, keys))
        return nullcontext()


def test_the_budget_learns_the_identity_and_the_contract_of_each_request(
    lab: IbkrLab, connect: Sources
) -> None:
    lab.put("AAPL", "1m", series(FRIDAY_OPEN, 3))
    lab.listings["AAPL"] = [(265598, "USD", "NASDAQ")]
    lab.trades["AAPL"] = [Trade(FRIDAY_OPEN)]
    budget = Requests()
    source = connect(lab.url, budget=budget)

    fetch_friday(source)
    source.fetch_ticks("AAPL", FRIDAY_OPEN, FRIDAY_OPEN + timedelta(seconds=1), market="us")

    contract = "contract:AAPL,SMART,TRADES"
    assert budget.seen == [
        ("reqContractDetails", 1, ()),
        (
            "reqHistoricalData",
            1,
            ("same:265598|SMART|TRADES|1 min|1 D|20261120-21:00:00", contract),
        ),
        (
            "reqHistoricalTicks",
            1,
            ("same:265598|SMART|TRADES|ticks|20261120-14:30:00", contract),
        ),
    ]


def test_bid_and_ask_count_twice() -> None:
    assert (weight_of("BID_ASK"), weight_of("TRADES")) == (2, 1)


# --- trades -------------------------------------------------------------------------------


def test_every_trade_comes_once_over_pages_that_end_with_whole_seconds(
    lab: IbkrLab, connect: Sources
) -> None:
    # Three trades a second: the thousandth is the first of its second, which is completed.
    trades = [
        Trade(FRIDAY_OPEN + timedelta(seconds=number // 3), 100.0 + number, 1 + number)
        for number in range(2500)
    ]
    lab.trades["AAPL"] = trades

    ticks = connect(lab.url).fetch_ticks(
        "AAPL", FRIDAY_OPEN, FRIDAY_OPEN + timedelta(hours=1), market="us"
    )

    assert list(ticks["price"]) == [each.price for each in trades]
    assert list(ticks["ts"]) == [pd.Timestamp(each.ts) for each in trades]
    assert list(ticks["row_number"]) == list(range(1, 2501))
    assert [seen.query["start"] for seen in lab.asked("96")] == [
        "20261120-14:30:00", "20261120-14:35:34", "20261120-14:41:08", "20261120-14:43:54",
    ]  # fmt: skip


def test_trades_of_two_sessions_are_both_fetched(lab: IbkrLab, connect: Sources) -> None:
    thursday = FRIDAY_OPEN - timedelta(days=1)
    lab.trades["AAPL"] = [Trade(thursday, 1.0), Trade(FRIDAY_OPEN, 2.0)]

    ticks = connect(lab.url).fetch_ticks("AAPL", thursday, SATURDAY, market="us")

    assert list(ticks["price"]) == [1.0, 2.0]


def test_trades_make_bars(lab: IbkrLab, connect: Sources) -> None:
    lab.trades["AAPL"] = [
        Trade(FRIDAY_OPEN, 10.0, 100),
        Trade(FRIDAY_OPEN, 12.0, 300),
        Trade(FRIDAY_OPEN + timedelta(seconds=59), 11.0, 100),
    ]

    ticks = connect(lab.url).fetch_ticks("AAPL", FRIDAY, SATURDAY, market="us")

    assert tuple(ticks.columns[: len(TICK_COLUMNS)]) == TICK_COLUMNS
    (bar,) = build_bars(ticks, "1m").to_dict("records")
    assert (bar["open"], bar["high"], bar["low"], bar["close"]) == (10.0, 12.0, 10.0, 11.0)
    assert (bar["volume"], bar["vwap"], bar["trade_count"]) == (500.0, 11.4, 3)


def test_a_trade_without_price_is_found_by_the_checks(lab: IbkrLab, connect: Sources) -> None:
    lab.trades["AAPL"] = [Trade(FRIDAY_OPEN, -1, 0), Trade(FRIDAY_OPEN, 10.0, 5)]

    ticks = connect(lab.url).fetch_ticks("AAPL", FRIDAY, SATURDAY, market="us")

    faults = list(tick_faults(ticks, get_calendar("us")))
    assert "price is missing" in faults[0]
    assert faults[1] == ""


def test_a_trade_that_does_not_count_for_the_last_price_is_marked(
    lab: IbkrLab, connect: Sources
) -> None:
    lab.trades["AAPL"] = [
        Trade(FRIDAY_OPEN, mask=2, venue="FINRA", conditions="I"),
        Trade(FRIDAY_OPEN),
    ]

    ticks = connect(lab.url).fetch_ticks("AAPL", FRIDAY, SATURDAY, market="us")

    assert list(ticks["is_reported"]) == [False, True]
    assert list(ticks["venue"]) == ["FINRA", "NYSE"]
    assert list(ticks["conditions"]) == ["I", ""]


def test_no_trades_is_an_empty_frame_with_its_columns(lab: IbkrLab, connect: Sources) -> None:
    lab.listings["AAPL"] = [(1, "USD", "NASDAQ")]
    lab.answers["AAPL"] = NO_DATA

    ticks = connect(lab.url).fetch_ticks("AAPL", FRIDAY, SATURDAY, market="us")

    assert ticks.empty
    assert tuple(ticks.columns[: len(TICK_COLUMNS)]) == TICK_COLUMNS
    assert str(ticks["ts"].dtype) == "datetime64[us, UTC]"


# --- recordings of the live service -------------------------------------------------------

RECORDINGS = os.environ.get("SCIZOR_RECORDINGS", "")
needs_recordings = pytest.mark.skipif(
    not RECORDINGS,
    reason="set SCIZOR_RECORDINGS to a directory of recorded payloads (ibkr/*.json.gz)",
)


def read_recording(name: str) -> list[dict[str, Any]]:
    """Return the objects of a recording, one a line."""
    with gzip.open(Path(RECORDINGS) / "ibkr" / name, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


@needs_recordings
def test_recorded_bars_are_stored_as_recorded(lab: IbkrLab, connect: Sources) -> None:
    # The recording has times without a zone; they are taken for New York's.
    recorded = read_recording("bars.json.gz")
    local = pd.DatetimeIndex([each["date"] for each in recorded]).tz_localize("America/New_York")
    rows = [
        Row(
            ts.to_pydatetime().astimezone(UTC),
            *(each[name] for name in ("open", "high", "low", "close", "volume")),
        )
        for ts, each in zip(local, recorded, strict=True)
    ]
    lab.put("AAPL", "1m", rows)
    start, end = rows[0].ts - timedelta(days=1), rows[-1].ts + timedelta(days=1)

    batch = connect(lab.url).fetch_bars(ask("us", "1m", start, end, "AAPL"))

    days = local.strftime("%Y-%m-%d")
    regular = (local.strftime("%H:%M") >= "09:30") & (local.strftime("%H:%M") < "16:00")
    closed = ["2021-01-18", "2021-02-15"]
    wanted = [rows[i] for i in range(len(rows)) if regular[i] and days[i] not in closed]
    assert list(batch.bars["ts"]) == [pd.Timestamp(row.ts) for row in wanted]
    for column in ("open", "high", "low", "close", "volume"):
        assert list(batch.bars[column]) == [getattr(row, column) for row in wanted]
    assert batch.rejected.empty


@needs_recordings
def test_recorded_trades_are_fetched_as_recorded(lab: IbkrLab, connect: Sources) -> None:
    recorded = read_recording("trade_ticks.json.gz")
    trades = [
        Trade(
            datetime.fromisoformat(each["time"]),
            each["price"],
            each["size"],
            2 if each["tickAttribLast"]["unreported"] else 0,
            each["exchange"],
            each["specialConditions"],
        )
        for each in recorded
    ]
    lab.trades["CBA"] = trades
    # The hours of Sydney's session of 2 March 2022 with its closing auction: 23:00 to 05:13 UTC.
    start, end = datetime(2022, 3, 1, 23, tzinfo=UTC), datetime(2022, 3, 2, 5, 13, tzinfo=UTC)

    ticks = connect(lab.url).fetch_ticks("CBA", start, end, market="asx")

    inside = [each for each in trades if start <= each.ts < end]
    assert len(inside) > 0
    assert list(ticks["price"]) == [each.price for each in inside]
    assert list(ticks["size"]) == [each.size for each in inside]
