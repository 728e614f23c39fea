"""What is special to Alpaca: pages over many symbols, feeds, hours as days, corporate actions.

Payloads are written by hand after the vendor's documents. Times are given as UTC instants, worked
out from New York's clock changes of 2026 (summer time ends on 1 November).
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from scizor_core.errors import ConfigError, ContractError, InvalidInputError
from scizor_core.markets import Timeframe
from scizor_resources.errors import (
    AuthError,
    ProviderError,
    RateLimited,
    SchemaDrift,
    TransientError,
)
from scizor_resources.providers.actions import CorporateAction
from scizor_resources.providers.alpaca.source import AlpacaSource, symbols_per_batch
from scizor_resources.providers.alpaca.symbols import from_alpaca_symbol, to_alpaca_symbol
from scizor_resources.providers.base import BarBatch, BarRequest, SymbolRef
from scizor_resources.providers.gate import Gate, NoLimits
from scizor_resources.providers.rows import AskWindow
from tests.contract.lab.alpaca import KEY_ID, SECRET, AlpacaLab, AlpacaRow, make_source
from tests.contract.lab.server import HTML_PAGE, Reply, Row

#: Saturday; Friday's session in New York was 14:30 to 21:00 UTC.
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
OPEN = datetime(2026, 11, 20, 14, 30, tzinfo=UTC)
FRIDAY = datetime(2026, 11, 20, tzinfo=UTC)
SATURDAY = datetime(2026, 11, 21, tzinfo=UTC)

RECENT_SIP = "subscription does not permit querying recent SIP data"


def minutes(count: int, start: datetime = OPEN, close: float = 10.5) -> list[AlpacaRow]:
    return [AlpacaRow(start + timedelta(minutes=number), close=close) for number in range(count)]


def ask(
    *symbols: str,
    market: str = "us",
    timeframe: Timeframe = "1m",
    start: datetime = OPEN,
    end: datetime = OPEN + timedelta(minutes=30),
) -> BarRequest:
    refs = tuple(SymbolRef(number + 1, symbol) for number, symbol in enumerate(symbols))
    return BarRequest(market, timeframe, start, end, refs)


@pytest.fixture
def lab() -> Iterator[AlpacaLab]:
    with AlpacaLab(page_rows=10_000) as running:
        yield running


@pytest.fixture
def open_source(lab: AlpacaLab) -> Iterator[Callable[..., AlpacaSource]]:
    opened: list[AlpacaSource] = []

    def open_one(feed: str = "iex", gate: Gate | None = None) -> AlpacaSource:
        gate = gate or Gate("alpaca", sleep=lambda _seconds: None)
        opened.append(make_source(lab, gate, lambda: NOW, 5.0, feed))
        return opened[-1]

    yield open_one
    for source in opened:
        source.close()


@pytest.fixture
def source(open_source: Callable[..., AlpacaSource]) -> AlpacaSource:
    return open_source()


def count_of(batch: BarBatch) -> dict[str, int]:
    return {str(name): int(count) for name, count in batch.bars["symbol"].value_counts().items()}


# --- pages and batches --------------------------------------------------------------------


def test_a_symbol_split_over_pages_is_put_together(lab: AlpacaLab, source: AlpacaSource) -> None:
    lab.page_rows = 4
    lab.put("AAPL", "1m", minutes(6))
    lab.put("BRK.B", "1m", minutes(3))

    batch = source.fetch_bars(ask("AAPL", "BRK.B"))

    assert count_of(batch) == {"AAPL": 6, "BRK.B": 3}
    assert batch.rejected.empty
    assert batch.errors == {}


def test_each_page_is_one_call_through_the_gate(lab: AlpacaLab, source: AlpacaSource) -> None:
    lab.page_rows = 4
    lab.put("AAPL", "1m", minutes(9))

    batch = source.fetch_bars(ask("AAPL"))

    assert [each.query.get("page_token") for each in lab.requests] == [None, "page-4", "page-8"]
    assert batch.requests == source.gate.counts.requests == 3


def test_many_symbols_are_one_request(lab: AlpacaLab, source: AlpacaSource) -> None:
    for symbol in ("AAPL", "BRK.B", "MSFT"):
        lab.put(symbol, "1m", minutes(2))

    batch = source.fetch_bars(ask("MSFT", "AAPL", "BRK-B"))

    assert [each.query["symbols"] for each in lab.requests] == ["AAPL,BRK.B,MSFT"]
    assert count_of(batch) == {"AAPL": 2, "BRK-B": 2, "MSFT": 2}


def test_more_symbols_than_fit_are_asked_in_batches_of_100(
    lab: AlpacaLab, source: AlpacaSource
) -> None:
    symbols = [f"S{number:03d}" for number in range(205)]
    request = ask(*symbols, timeframe="1d", start=FRIDAY, end=SATURDAY)

    batch = source.fetch_bars(request)

    assert [len(each.query["symbols"].split(",")) for each in lab.requests] == [100, 100, 5]
    assert len(batch.empty_reasons) == 205


@pytest.mark.parametrize(
    ("market", "timeframe", "days", "expected"),
    [
        ("us", "1m", 31, 2),  # 44,640 rows each
        ("us", "1m", 1, 69),  # 1,440 rows each
        ("us", "1d", 365, 100),
        ("crypto", "1d", 365, 11),  # of hours: 8,760 rows each
        ("crypto", "1d", 7300, 1),
    ],
)
def test_a_batch_is_small_where_each_symbol_brings_much(
    market: str, timeframe: Timeframe, days: int, expected: int
) -> None:
    window = AskWindow(market, "X", timeframe, FRIDAY - timedelta(days=days), FRIDAY)

    assert symbols_per_batch(window) == expected


def test_a_long_minute_window_is_asked_in_pieces_of_31_days(
    lab: AlpacaLab, source: AlpacaSource
) -> None:
    source.fetch_bars(ask("AAPL", start=FRIDAY - timedelta(days=40), end=FRIDAY))

    assert [each.query["start"][:10] for each in lab.requests] == ["2026-10-11", "2026-11-11"]
    assert lab.requests[0].query["end"] == "2026-11-10T23:59:59+00:00"


def test_bars_of_earlier_batches_are_kept_when_a_later_one_fails(
    lab: AlpacaLab, source: AlpacaSource
) -> None:
    symbols = [f"S{number:03d}" for number in range(101)]
    row = lab.wire(AlpacaRow(FRIDAY + timedelta(hours=5)))
    lab.script.replies = [
        Reply({"bars": {"S000": [row]}, "next_page_token": None}),
        *[Reply({"message": "internal server error occurred"}, 500)] * 3,
    ]

    batch = source.fetch_bars(ask(*symbols, timeframe="1d", start=FRIDAY, end=SATURDAY))

    assert count_of(batch) == {"S000": 1}
    assert list(batch.errors) == ["S100"]
    assert (batch.requests, batch.retries) == (4, 2)


def test_a_failing_page_fails_every_symbol_of_its_batch(
    lab: AlpacaLab, source: AlpacaSource
) -> None:
    page = {"bars": {"AAPL": [lab.wire(AlpacaRow(OPEN))]}, "next_page_token": "page-1"}
    lab.script.replies = [Reply(page), *[Reply({"message": "internal server error"}, 500)] * 3]

    with pytest.raises(TransientError):
        source.fetch_bars(ask("AAPL", "MSFT"))


# --- what is asked ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("timeframe", "wire"), [("1m", "1Min"), ("5m", "5Min"), ("15m", "15Min"), ("1d", "1Day")]
)
def test_stocks_are_asked_raw_from_one_feed(
    lab: AlpacaLab, source: AlpacaSource, timeframe: Timeframe, wire: str
) -> None:
    source.fetch_bars(ask("AAPL", timeframe=timeframe, start=FRIDAY, end=SATURDAY))

    [seen] = lab.requests
    assert seen.path == "/v2/stocks/bars"
    assert seen.query["timeframe"] == wire
    assert (seen.query["adjustment"], seen.query["feed"]) == ("raw", "iex")
    assert seen.query["limit"] == "10000"


def test_a_window_is_asked_up_to_its_last_second(lab: AlpacaLab, source: AlpacaSource) -> None:
    source.fetch_bars(ask("AAPL"))

    [seen] = lab.requests
    assert seen.query["start"] == "2026-11-20T14:30:00+00:00"
    assert seen.query["end"] == "2026-11-20T14:59:59+00:00"


def test_sessions_are_asked_from_midnight_in_new_york(lab: AlpacaLab, source: AlpacaSource) -> None:
    start, end = datetime(2026, 10, 30, tzinfo=UTC), datetime(2026, 11, 3, tzinfo=UTC)

    source.fetch_bars(ask("AAPL", timeframe="1d", start=start, end=end))

    [seen] = lab.requests
    assert seen.query["start"] == "2026-10-30T04:00:00+00:00"
    assert seen.query["end"] == "2026-11-03T04:59:59+00:00"


def test_a_daily_bar_has_its_session_date_on_both_sides_of_the_clock_change(
    lab: AlpacaLab, source: AlpacaSource
) -> None:
    friday = AlpacaRow(datetime(2026, 10, 30, 4, 0, tzinfo=UTC))
    monday = AlpacaRow(datetime(2026, 11, 2, 5, 0, tzinfo=UTC))
    lab.put("AAPL", "1d", [friday, monday])
    start, end = datetime(2026, 10, 30, tzinfo=UTC), datetime(2026, 11, 3, tzinfo=UTC)

    bars = source.fetch_bars(ask("AAPL", timeframe="1d", start=start, end=end)).bars

    assert [ts.isoformat() for ts in bars["ts"]] == [
        "2026-10-30T00:00:00+00:00",
        "2026-11-02T00:00:00+00:00",
    ]


# --- what comes back ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("feed", "expected"),
    [("iex", "alpaca-iex"), ("sip", "alpaca"), ("delayed_sip", "alpaca-delayed_sip")],
)
def test_a_row_says_which_feed_it_is_from(
    lab: AlpacaLab, open_source: Callable[..., AlpacaSource], feed: str, expected: str
) -> None:
    lab.put("AAPL", "1m", minutes(1))

    bars = open_source(feed).fetch_bars(ask("AAPL")).bars

    assert list(bars["source"]) == [expected]
    assert lab.requests[0].query["feed"] == feed


def test_a_crypto_row_has_no_feed(lab: AlpacaLab, source: AlpacaSource) -> None:
    lab.put("BTC/USD", "1m", minutes(1))

    bars = source.fetch_bars(ask("BTC/USD", market="crypto")).bars

    assert list(bars["source"]) == ["alpaca"]
    assert "feed" not in lab.requests[0].query


def test_average_price_and_trades_come_along(lab: AlpacaLab, source: AlpacaSource) -> None:
    lab.put("AAPL", "1m", [AlpacaRow(OPEN, vwap=10.125, trade_count=42)])

    [bar] = source.fetch_bars(ask("AAPL")).bars.to_dict("records")

    assert (bar["vwap"], bar["trade_count"]) == (10.125, 42)


def test_the_average_price_of_a_bar_without_volume_is_missing(
    lab: AlpacaLab, source: AlpacaSource
) -> None:
    row = AlpacaRow(OPEN, volume=0, vwap=0, trade_count=0)
    lab.put("BTC/USD", "1m", [row])

    bars = source.fetch_bars(ask("BTC/USD", market="crypto")).bars

    assert bars["vwap"].isna().all()
    assert list(bars["volume"]) == [0.0]


def test_rows_without_average_price_and_trades_are_bars(
    lab: AlpacaLab, source: AlpacaSource
) -> None:
    lab.put("AAPL", "1m", [Row(OPEN)])

    bars = source.fetch_bars(ask("AAPL")).bars

    assert bars[["vwap", "trade_count"]].isna().all(axis=None)
    assert len(bars) == 1


def test_minutes_before_the_open_are_counted_and_left(lab: AlpacaLab, source: AlpacaSource) -> None:
    lab.put("AAPL", "1m", minutes(35, start=OPEN - timedelta(minutes=30)))

    batch = source.fetch_bars(ask("AAPL", start=OPEN - timedelta(hours=1)))

    assert len(batch.bars) == 5
    assert batch.ignored == {"outside the regular session": 30}


@pytest.mark.parametrize("bars", [None, {}, {"AAPL": None}, {"AAPL": []}])
def test_an_answer_without_bars_is_a_stated_result(
    lab: AlpacaLab, source: AlpacaSource, bars: Any
) -> None:
    lab.script.replies = [Reply({"bars": bars, "next_page_token": None})]

    batch = source.fetch_bars(ask("AAPL"))

    assert batch.bars.empty
    assert "Alpaca has no 1m bars of AAPL" in batch.empty_reasons["AAPL"]


GOOD_ROW = {"t": "2026-11-20T14:30:00Z", "o": 1, "h": 2, "l": 1, "c": 2, "v": 5}


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ([], "no 'bars'"),
        ({"trades": {}}, "no 'bars'"),
        ({"bars": []}, "by symbol"),
        ({"bars": {"AAPL": {}}}, "not a list"),
        ({"bars": {"TSLA": [GOOD_ROW]}}, "'TSLA', which was not asked for"),
        ({"bars": {"AAPL": [5]}}, "not an object with a time"),
        ({"bars": {"AAPL": [{**GOOD_ROW, "t": 1795000000}]}}, "not an object with a time"),
        ({"bars": {"AAPL": [{"t": GOOD_ROW["t"], "o": 1}]}}, "no high, low, close, volume"),
        ({"bars": {}, "next_page_token": 7}, "next_page_token is not text"),
    ],
)
def test_an_answer_of_another_shape_is_schema_drift(
    lab: AlpacaLab, source: AlpacaSource, answer: Any, found: str
) -> None:
    lab.script.replies = [Reply(answer)]

    with pytest.raises(SchemaDrift, match=found):
        source.fetch_bars(ask("AAPL"))


def test_pages_that_lead_back_are_schema_drift(lab: AlpacaLab, source: AlpacaSource) -> None:
    lab.script.replies = [Reply({"bars": {}, "next_page_token": "page-1"})] * 5

    with pytest.raises(SchemaDrift, match="leads back"):
        source.fetch_bars(ask("AAPL"))

    assert len(lab.requests) == 2


# --- days of crypto -----------------------------------------------------------------------

CRYPTO_START = datetime(2026, 11, 18, tzinfo=UTC)
HOURS = [
    AlpacaRow(CRYPTO_START, 100.0, 104.0, 99.0, 103.0, 2.0, 102.0, 5),
    AlpacaRow(CRYPTO_START + timedelta(hours=1), 103.0, 110.0, 101.0, 108.0, 6.0, 106.0, 7),
    AlpacaRow(CRYPTO_START + timedelta(hours=23), 108.0, 109.0, 90.0, 95.0, 0.0, 0.0, 0),
    AlpacaRow(CRYPTO_START + timedelta(hours=24), 95.0, 96.0, 94.0, 94.5, 1.0, 95.0, 1),
]


def fetch_days(source: AlpacaSource) -> BarBatch:
    end = CRYPTO_START + timedelta(days=2)
    request = ask("BTC/USD", market="crypto", timeframe="1d", start=CRYPTO_START, end=end)
    return source.fetch_bars(request)


def test_a_crypto_day_is_the_utc_day_made_of_hours(lab: AlpacaLab, source: AlpacaSource) -> None:
    lab.put("BTC/USD", "1h", HOURS)

    first, second = fetch_days(source).bars.to_dict("records")

    assert lab.requests[0].query["timeframe"] == "1Hour"
    assert lab.requests[0].query["start"] == "2026-11-18T00:00:00+00:00"
    assert first["ts"] == CRYPTO_START
    assert [first[name] for name in ("open", "high", "low", "close")] == [100.0, 110.0, 90.0, 95.0]
    assert (first["volume"], first["trade_count"]) == (8.0, 12)
    assert second["close"] == 94.5


def test_the_average_price_of_a_day_weighs_its_hours_by_volume(
    lab: AlpacaLab, source: AlpacaSource
) -> None:
    lab.put("BTC/USD", "1h", HOURS)

    # (2 * 102 + 6 * 106) / 8; the hour without volume has no average price
    assert fetch_days(source).bars["vwap"].iloc[0] == 105.0


def test_a_day_with_an_unknown_hour_is_refused(lab: AlpacaLab, source: AlpacaSource) -> None:
    lab.put("BTC/USD", "1h", [HOURS[0], replace(HOURS[1], high=None), *HOURS[2:]])

    batch = fetch_days(source)

    assert list(batch.bars["ts"]) == [CRYPTO_START + timedelta(days=1)]
    [row] = batch.rejected.to_dict("records")
    assert "null row" in row["reason"]
    assert "hours" in row["payload"]


def test_a_repeated_hour_counts_once(lab: AlpacaLab, source: AlpacaSource) -> None:
    lab.put("BTC/USD", "1h", HOURS)
    lab.data_faults.add("duplicate_rows")

    batch = fetch_days(source)

    assert batch.bars["volume"].iloc[0] == 8.0
    assert batch.ignored == {"repeated hourly row of a day": 1}


def test_hours_out_of_order_make_the_same_day(lab: AlpacaLab, source: AlpacaSource) -> None:
    lab.put("BTC/USD", "1h", HOURS)
    lab.data_faults.add("out_of_order")

    first = fetch_days(source).bars.iloc[0]

    assert (first["open"], first["close"]) == (100.0, 95.0)


# --- refusals -----------------------------------------------------------------------------


def test_recent_sip_bars_are_a_bad_request_with_advice(
    lab: AlpacaLab, open_source: Callable[..., AlpacaSource]
) -> None:
    lab.script.replies = [Reply({"message": RECENT_SIP}, 403)] * 3

    batch = open_source("sip").fetch_bars(ask("AAPL", "MSFT"))

    assert set(batch.errors) == {"AAPL", "MSFT"}
    assert RECENT_SIP in batch.errors["AAPL"]
    assert "15 minutes" in batch.errors["AAPL"]
    assert len(lab.requests) == 1


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply({"message": "unauthorized."}, 401), AuthError),
        (Reply({"message": "forbidden."}, 403), AuthError),
        (Reply({"code": 40110000, "message": "request is not authorized"}, 403), AuthError),
        (Reply(HTML_PAGE, 403), AuthError),
        (Reply({"message": "too many requests."}, 429), RateLimited),
        (Reply(b"", 502), TransientError),
        (Reply(b"", 302), SchemaDrift),
    ],
    ids=["401", "403", "403 with code", "403 HTML", "429", "empty 502", "redirect"],
)
def test_a_refusal_has_its_name_whatever_its_body(
    lab: AlpacaLab, source: AlpacaSource, reply: Reply, kind: type[ProviderError]
) -> None:
    lab.script.replies = [reply] * 3

    with pytest.raises(kind) as caught:
        source.fetch_bars(ask("AAPL"))

    assert caught.value.status == reply.status
    assert caught.value.endpoint == "/v2/stocks/bars"


def test_a_symbol_that_is_called_invalid_does_not_spoil_the_others(
    lab: AlpacaLab, source: AlpacaSource
) -> None:
    lab.put("AAPL", "1m", minutes(3))
    lab.put("C", "1m", minutes(2))
    lab.script.replies = [Reply({"message": "invalid symbol: BAD.WS"}, 400)]

    batch = source.fetch_bars(ask("AAPL", "BAD.WS", "C"))

    assert count_of(batch) == {"AAPL": 3, "C": 2}
    assert list(batch.errors) == ["BAD.WS"]
    assert lab.requests[1].query["symbols"] == "AAPL,C"


def test_a_code_of_another_market_is_an_error_of_its_own(
    lab: AlpacaLab, source: AlpacaSource
) -> None:
    lab.put("AAPL", "1m", minutes(3))

    batch = source.fetch_bars(ask("BTC/USD", "AAPL"))

    assert count_of(batch) == {"AAPL": 3}
    assert "not a symbol of market 'us'" in batch.errors["BTC/USD"]


class Listening(NoLimits):
    """A budget that keeps the headers it is told."""

    def __init__(self) -> None:
        self.headers: list[Mapping[str, str]] = []

    def learn(self, headers: Mapping[str, str]) -> None:
        self.headers.append(headers)


def test_the_budget_learns_from_the_headers_of_an_answer(
    lab: AlpacaLab, open_source: Callable[..., AlpacaSource]
) -> None:
    budget = Listening()
    lab.script.replies = [Reply({"bars": {}}, headers={"X-RateLimit-Remaining": "199"})]

    open_source(gate=Gate("alpaca", budget=budget)).fetch_bars(ask("AAPL"))

    assert [each["X-RateLimit-Remaining"] for each in budget.headers] == ["199"]


# --- keys ---------------------------------------------------------------------------------


def test_stocks_without_a_key_are_refused_before_any_request(lab: AlpacaLab) -> None:
    source = AlpacaSource(Gate("alpaca"), base_url=lab.url, now=lambda: NOW)

    with pytest.raises(AuthError, match="without a key"):
        source.fetch_bars(ask("AAPL"))

    assert lab.requests == []


def test_crypto_needs_no_key(lab: AlpacaLab) -> None:
    lab.put("BTC/USD", "1m", minutes(2))
    source = AlpacaSource(Gate("alpaca"), base_url=lab.url, now=lambda: NOW)

    batch = source.fetch_bars(ask("BTC/USD", market="crypto"))

    assert len(batch.bars) == 2
    assert "apca-api-key-id" not in lab.requests[0].headers
    source.close()


def test_half_a_key_is_refused() -> None:
    with pytest.raises(ConfigError, match="belong together"):
        AlpacaSource(Gate("alpaca"), key=SecretStr(KEY_ID), now=lambda: NOW)


def test_an_unknown_feed_is_refused() -> None:
    with pytest.raises(ConfigError, match="'nasdaq' is not a feed"):
        AlpacaSource(Gate("alpaca"), feed="nasdaq", now=lambda: NOW)


def test_the_key_shows_nowhere(
    lab: AlpacaLab, source: AlpacaSource, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    lab.script.replies = [Reply({"message": f"key {KEY_ID} with {SECRET} is wrong"}, 401)]

    with pytest.raises(AuthError) as caught:
        source.fetch_bars(ask("AAPL"))

    [seen] = lab.requests
    assert seen.headers["apca-api-key-id"] == KEY_ID
    assert seen.headers["apca-api-secret-key"] == SECRET
    shown = [str(caught.value), repr(caught.value), repr(source), repr(vars(source)), caplog.text]
    shown += [seen.path, repr(seen.query)]
    for text in shown:
        assert KEY_ID not in text
        assert SECRET not in text


# --- corporate actions --------------------------------------------------------------------

SPLIT = {"symbol": "AAPL", "old_rate": 1, "new_rate": 4, "ex_date": "2020-08-31",
         "process_date": "2020-08-31", "cusip": "037833100"}  # fmt: skip
REVERSE = {"symbol": "BRK.B", "old_rate": 8, "new_rate": 1, "ex_date": "2020-08-10",
           "process_date": "2020-08-10"}  # fmt: skip
STOCK = {"symbol": "MSBC", "rate": 0.05, "ex_date": "2020-08-19", "process_date": "2020-08-19"}
CASH = {"symbol": "AAPL", "rate": 0.82, "special": False, "foreign": False,
        "ex_date": "2020-08-07", "process_date": "2020-08-13"}  # fmt: skip


def fetch_august(source: AlpacaSource) -> list[CorporateAction]:
    return source.fetch_corporate_actions(
        ["AAPL", "BRK-B", "MSBC"], date(2020, 8, 1), date(2020, 9, 1)
    )


def test_corporate_actions_of_all_pages_are_read(lab: AlpacaLab, source: AlpacaSource) -> None:
    lab.script.action_pages = [
        {"forward_splits": [SPLIT], "cash_dividends": [CASH]},
        {"reverse_splits": [REVERSE], "stock_dividends": [STOCK]},
    ]

    actions = fetch_august(source)

    assert [(each.symbol, str(each.ex_date), each.kind) for each in actions] == [
        ("AAPL", "2020-08-07", "dividend"),
        ("AAPL", "2020-08-31", "split"),
        ("BRK.B", "2020-08-10", "split"),
        ("MSBC", "2020-08-19", "split"),
    ]
    dividend, split, reverse, stock = actions
    assert (dividend.cash_amount, dividend.currency) == (0.82, "USD")
    assert (split.ratio_from, split.ratio_to) == (1.0, 4.0)
    assert (reverse.ratio_from, reverse.ratio_to) == (8.0, 1.0)
    assert (stock.ratio_from, stock.ratio_to) == (1.0, 1.05)
    assert split.payload == SPLIT
    assert {(each.market, each.source) for each in actions} == {("us", "alpaca")}


def test_actions_are_chosen_by_ex_date_though_asked_by_the_day_of_processing(
    lab: AlpacaLab, source: AlpacaSource
) -> None:
    early = {**CASH, "ex_date": "2020-07-31"}
    late = {**CASH, "ex_date": "2020-09-01"}
    paid_late = {**CASH, "ex_date": "2020-08-31", "process_date": "2020-10-15"}
    lab.script.action_pages = [{"cash_dividends": [early, late, paid_late]}]

    actions = fetch_august(source)

    assert [str(each.ex_date) for each in actions] == ["2020-08-31"]
    [seen] = lab.requests
    assert (seen.path, seen.query["symbols"]) == ("/v1/corporate-actions", "AAPL,BRK.B,MSBC")
    assert seen.query["types"] == "forward_split,reverse_split,stock_dividend,cash_dividend"
    assert seen.query["start"] < "2020-08-01"
    assert seen.query["end"] > "2020-10-15"


def test_no_corporate_actions_are_no_error(lab: AlpacaLab, source: AlpacaSource) -> None:
    lab.script.replies = [Reply({"corporate_actions": None, "next_page_token": None})]

    assert fetch_august(source) == []


@pytest.mark.parametrize(
    "page",
    [
        {"forward_splits": [{**SPLIT, "old_rate": 0}]},
        {"forward_splits": [{"symbol": "AAPL", "ex_date": "2020-08-31"}]},
        {"cash_dividends": [{**CASH, "ex_date": None}]},
        {"cash_dividends": [{**CASH, "rate": "n/a"}]},
        {"cash_dividends": ["AAPL"]},
    ],
    ids=["zero", "no ratio", "no date", "no number", "no object"],
)
def test_a_corporate_action_that_cannot_be_read_is_schema_drift(
    lab: AlpacaLab, source: AlpacaSource, page: Any
) -> None:
    lab.script.action_pages = [page]

    with pytest.raises(SchemaDrift, match="a row of"):
        fetch_august(source)


def test_corporate_actions_need_a_key(lab: AlpacaLab) -> None:
    source = AlpacaSource(Gate("alpaca"), base_url=lab.url, now=lambda: NOW)

    with pytest.raises(AuthError, match="/v1/corporate-actions without a key"):
        fetch_august(source)


def test_a_dividend_needs_a_currency() -> None:
    with pytest.raises(ContractError, match="needs two positive ratios"):
        CorporateAction("AAPL", "us", date(2020, 8, 7), "dividend", "alpaca", cash_amount=0.82)


# --- symbols ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("market", "symbol", "wire"),
    [("us", "AAPL", "AAPL"), ("us", "BRK.B", "BRK.B"), ("crypto", "BTC/USD", "BTC/USD")],
)
def test_symbols_map_both_ways(market: str, symbol: str, wire: str) -> None:
    assert to_alpaca_symbol(market, symbol) == wire
    assert from_alpaca_symbol(market, wire) == symbol


def test_a_share_class_with_a_dash_has_a_dot_at_alpaca() -> None:
    assert to_alpaca_symbol("us", "brk-b") == "BRK.B"


@pytest.mark.parametrize("convert", [to_alpaca_symbol, from_alpaca_symbol])
def test_there_are_no_symbols_of_the_asx(convert: Callable[[str, str], str]) -> None:
    with pytest.raises(InvalidInputError, match="only us and crypto"):
        convert("asx", "CBA")
