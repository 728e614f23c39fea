"""YahooSource through the real yfinance against a stand-in server on loopback.

Payloads are written by hand. Session times and dates are given as UTC instants, worked out from
the exchanges' published hours, so that they do not depend on the conversions under test.
"""

import json
import os
import socket
import warnings
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import pytest

from scizor_core.errors import InvalidInputError
from scizor_core.markets import Timeframe
from scizor_resources.errors import (
    AuthError,
    BadRequest,
    ProviderError,
    RateLimited,
    SchemaDrift,
    TransientError,
)
from scizor_resources.providers.base import (
    REJECTED_COLUMNS,
    SOURCE_BAR_COLUMNS,
    BarBatch,
    BarRequest,
    SymbolRef,
)
from scizor_resources.providers.gate import Gate
from scizor_resources.providers.rows import AskWindow
from scizor_resources.providers.yahoo.actions import parse_actions
from scizor_resources.providers.yahoo.chart import parse_chart
from scizor_resources.providers.yahoo.client import YahooSettings
from scizor_resources.providers.yahoo.source import YahooSource
from scizor_resources.providers.yahoo.symbols import from_yahoo_symbol, to_yahoo_symbol
from tests.contract.yahoo_server import (
    COOKIE,
    CRUMB,
    CUT_CONNECTION,
    CUT_JSON,
    INVALID_CRUMB,
    SERVER_ERROR,
    TOO_MANY_REQUESTS,
    WILL_BE_BACK,
    Fault,
    Row,
    Series,
    YahooServer,
    chart_error,
)

SATURDAY_NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
FRIDAY_OPEN = datetime(2026, 11, 20, 14, 30, tzinfo=UTC)  # 09:30 in New York, winter time
FRIDAY_CLOSE = datetime(2026, 11, 20, 21, 0, tzinfo=UTC)
FRIDAY = datetime(2026, 11, 20, tzinfo=UTC)
SATURDAY = datetime(2026, 11, 21, tzinfo=UTC)


def utc(year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0) -> int:
    """Return the epoch seconds of a UTC time."""
    return int(datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp())


def minute_row(minute: int, close: float = 10.5, *, second: int = 0) -> Row:
    """Return a 1m row, counted in minutes from Friday's open in New York."""
    return (utc(2026, 11, 20, 14, 30) + 60 * minute + second, 10.0, 11.0, 9.0, close, 100 + minute)


#: AAPL around the end of daylight saving on 2026-11-01; the open moves from 13:30 to 14:30 UTC.
US_DAILY: list[Row] = [
    (utc(2026, 10, 29, 13, 30), 164.97999572753906, 166.69000244140625, 162.14999389648438,
     164.32000732421875, 91162800, 161.90234375),
    (utc(2026, 10, 30, 13, 30), 163.83999633789062, 165.1199951171875, 160.8699951171875,
     160.07000732421875, 90009200, 157.71507263183594),
    (utc(2026, 11, 2, 14, 30), 160.5, 163.5, 159.75, 162.7400016784668, 141147500,
     160.34564208984375),
]  # fmt: skip
US_DATES = ["2026-10-29", "2026-10-30", "2026-11-02"]

#: CBA.AX around the start of daylight saving in Sydney on 2026-10-04: a 10:00 open is 00:00 UTC
#: of the same date before it, and 23:00 UTC of the date before after it.
ASX_DAILY: list[Row] = [
    (utc(2026, 10, 1), 150.0, 151.5, 149.25, 151.0, 1_500_000, 148.9),
    (utc(2026, 10, 2), 151.0, 152.0, 150.5, 151.75, 1_600_000, 149.6),
    (utc(2026, 10, 4, 23), 151.8, 153.0, 151.2, 152.5, 1_700_000, 150.3),
    (utc(2026, 10, 5, 23), 152.5, 152.6, 150.0, 150.1, 1_800_000, 148.0),
]
ASX_DATES = ["2026-10-01", "2026-10-02", "2026-10-05", "2026-10-06"]


@pytest.fixture
def server() -> Iterator[YahooServer]:
    with YahooServer(now=SATURDAY_NOON) as running:
        yield running


class Waits:
    """Stands in for `time.sleep`; remembers what it was asked to wait."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


def make_source(
    base_url: str,
    tmp_path: Path,
    *,
    now: datetime = SATURDAY_NOON,
    sleep: Waits | None = None,
) -> YahooSource:
    return YahooSource(
        Gate("yahoo", sleep=sleep or Waits()),
        YahooSettings(
            base_url=base_url,
            cache_dir=tmp_path / "yahoo",
            timeout_seconds=5.0,
        ),
        now=lambda: now,
    )


def ask(
    market: str, timeframe: Timeframe, start: datetime, end: datetime, *symbols: str
) -> BarRequest:
    refs = tuple(SymbolRef(number, symbol) for number, symbol in enumerate(symbols, start=1))
    return BarRequest(market, timeframe, start, end, refs)


def fetch_minutes(server: YahooServer, tmp_path: Path, rows: list[Row], **series: Any) -> BarBatch:
    """Fetch Friday's 1m bars of AAPL, with these rows on the server."""
    now = series.pop("now", SATURDAY_NOON)
    server.put(Series("AAPL", "1m", rows, **series))
    source = make_source(server.base_url, tmp_path, now=now)
    return source.fetch_bars(ask("us", "1m", FRIDAY, SATURDAY, "AAPL"))


def fetch_daily(server: YahooServer, tmp_path: Path, *symbols: str) -> BarBatch:
    """Fetch daily US bars of the end of October 2026."""
    start, end = datetime(2026, 10, 29, tzinfo=UTC), datetime(2026, 11, 3, tzinfo=UTC)
    source = make_source(server.base_url, tmp_path)
    return source.fetch_bars(ask("us", "1d", start, end, *symbols))


def assert_same_numbers(bars: pd.DataFrame, rows: list[Row], *, adjusted: bool) -> None:
    """Compare prices and volumes with the rows of the payload, exactly."""
    names = ["open", "high", "low", "close", "volume"] + (["adj_close"] if adjusted else [])
    assert bars[names].to_numpy().tolist() == [
        list(map(float, row[1 : len(names) + 1])) for row in rows
    ]


# --- bars ---------------------------------------------------------------------------------


def test_daily_us_bars_are_stored_as_the_payload_says(server: YahooServer, tmp_path: Path) -> None:
    server.put(Series("AAPL", "1d", US_DAILY))

    batch = fetch_daily(server, tmp_path, "AAPL")

    assert_same_numbers(batch.bars, US_DAILY, adjusted=True)
    assert list(batch.bars["ts"]) == [pd.Timestamp(date, tz="UTC") for date in US_DATES]
    assert set(batch.bars["source"]) == {"yahoo"}
    assert set(batch.bars["symbol"]) == {"AAPL"}
    assert batch.bars["is_final"].all()
    assert (batch.empty_reasons, batch.errors, len(batch.rejected)) == ({}, {}, 0)


def test_a_sydney_session_keeps_its_date_on_both_sides_of_a_dst_change(
    server: YahooServer, tmp_path: Path
) -> None:
    server.put(Series("CBA.AX", "1d", ASX_DAILY, timezone="Australia/Sydney"))
    start, end = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 10, 7, tzinfo=UTC)

    batch = make_source(server.base_url, tmp_path).fetch_bars(ask("asx", "1d", start, end, "CBA"))

    assert list(batch.bars["ts"]) == [pd.Timestamp(date, tz="UTC") for date in ASX_DATES]
    assert_same_numbers(batch.bars, ASX_DAILY, adjusted=True)
    assert set(batch.bars["symbol"]) == {"CBA"}


def test_a_daily_window_of_one_sydney_session_has_that_session_only(
    server: YahooServer, tmp_path: Path
) -> None:
    server.put(Series("CBA.AX", "1d", ASX_DAILY, timezone="Australia/Sydney"))
    start, end = datetime(2026, 10, 5, tzinfo=UTC), datetime(2026, 10, 6, tzinfo=UTC)

    batch = make_source(server.base_url, tmp_path).fetch_bars(ask("asx", "1d", start, end, "CBA"))

    assert list(batch.bars["close"]) == [152.5]


def test_minute_bars_are_utc_microseconds_without_an_adjusted_close(
    server: YahooServer, tmp_path: Path
) -> None:
    rows = [minute_row(0, 10.123456789), minute_row(1), minute_row(2)]

    batch = fetch_minutes(server, tmp_path, rows)

    assert_same_numbers(batch.bars, rows, adjusted=False)
    assert str(batch.bars["ts"].dtype) == "datetime64[us, UTC]"
    assert list(batch.bars["ts"]) == [
        pd.Timestamp(FRIDAY_OPEN) + pd.Timedelta(minutes=step) for step in range(3)
    ]
    assert batch.bars["adj_close"].isna().all()
    assert tuple(batch.bars.columns) == SOURCE_BAR_COLUMNS


def test_a_crypto_day_is_its_utc_date(server: YahooServer, tmp_path: Path) -> None:
    rows = [(utc(2026, 11, day), 9.0, 9.9, 8.5, 9.5, 18565664997, 9.5) for day in (18, 19)]
    server.put(Series("BTC-USD", "1d", rows, timezone="UTC", instrument="CRYPTOCURRENCY"))
    start, end = datetime(2026, 11, 18, tzinfo=UTC), datetime(2026, 11, 20, tzinfo=UTC)
    request = ask("crypto", "1d", start, end, "BTC/USD")

    batch = make_source(server.base_url, tmp_path).fetch_bars(request)

    assert list(batch.bars["ts"]) == [
        pd.Timestamp("2026-11-18", tz="UTC"),
        pd.Timestamp("2026-11-19", tz="UTC"),
    ]
    assert list(batch.bars["volume"]) == [18565664997.0, 18565664997.0]


def test_bars_equal_the_history_that_yfinance_itself_reads(
    server: YahooServer, tmp_path: Path
) -> None:
    server.put(Series("CBA.AX", "1d", ASX_DAILY, timezone="Australia/Sydney"))
    start, end = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 10, 7, tzinfo=UTC)
    source = make_source(server.base_url, tmp_path)
    bars = source.fetch_bars(ask("asx", "1d", start, end, "CBA")).bars

    history = history_of_yfinance(server, tmp_path, "CBA.AX", "2026-10-01", "2026-10-07")

    assert list(history.index.date) == list(bars["ts"].dt.date)
    for theirs, ours in {"Open": "open", "Close": "close", "Adj Close": "adj_close"}.items():
        assert list(history[theirs]) == list(bars[ours])


def history_of_yfinance(
    server: YahooServer, tmp_path: Path, ticker: str, start: str, end: str
) -> pd.DataFrame:
    """Ask the same server through `Ticker.history`, set to keep prices as they come."""
    import yfinance
    from curl_cffi.requests import Session
    from yfinance.data import YfData

    class Redirected(Session):
        def request(self, method: Any, url: str, *args: Any, **kwargs: Any) -> Any:
            path = "/" + url.split("/", 3)[3] if url.count("/") > 2 else "/"
            return super().request(method, server.base_url + path, *args, **kwargs)

    yfinance.set_tz_cache_location(str(tmp_path / "reference"))
    YfData.cache_get.cache_clear()
    hidden = yfinance.config.debug.hide_exceptions
    yfinance.config.debug.hide_exceptions = False
    try:
        with Redirected() as session, warnings.catch_warnings():
            warnings.simplefilter("ignore", pd.errors.Pandas4Warning)
            return yfinance.Ticker(ticker, session=session).history(
                start=start, end=end, interval="1d", auto_adjust=False, keepna=True
            )
    finally:
        yfinance.config.debug.hide_exceptions = hidden
        YfData.cache_get.cache_clear()


# --- rows that are no bars ----------------------------------------------------------------


def test_a_null_row_is_rejected_and_its_neighbours_are_kept(
    server: YahooServer, tmp_path: Path
) -> None:
    null_row = (utc(2026, 11, 20, 14, 31), None, None, None, None, None)

    batch = fetch_minutes(server, tmp_path, [minute_row(0), null_row, minute_row(2)])

    assert len(batch.bars) == 2
    assert tuple(batch.rejected.columns) == REJECTED_COLUMNS
    [rejected] = batch.rejected.to_dict("records")
    assert rejected["reason"] == "null row: no value for open, high, low, close, volume"
    assert rejected["ts"] == pd.Timestamp("2026-11-20T14:31Z")
    assert rejected["row_number"] == 2
    assert rejected["payload"]["open"] == "null"
    assert rejected["payload"]["timestamp"] == str(utc(2026, 11, 20, 14, 31))


def test_a_missing_volume_is_not_taken_for_zero(server: YahooServer, tmp_path: Path) -> None:
    no_volume = (*minute_row(1)[:5], None)

    batch = fetch_minutes(server, tmp_path, [minute_row(0), no_volume])

    assert list(batch.rejected["reason"]) == ["null row: no value for volume"]
    assert len(batch.bars) == 1


def test_the_first_of_two_rows_of_one_session_after_a_dst_change_is_kept(
    server: YahooServer, tmp_path: Path
) -> None:
    again = (utc(2026, 10, 5), 1.0, 1.0, 1.0, 1.0, 1, 1.0)  # 11:00 in Sydney, the same session
    rows = [*ASX_DAILY[:3], again, ASX_DAILY[3]]
    server.put(Series("CBA.AX", "1d", rows, timezone="Australia/Sydney"))
    start, end = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 10, 7, tzinfo=UTC)

    batch = make_source(server.base_url, tmp_path).fetch_bars(ask("asx", "1d", start, end, "CBA"))

    assert_same_numbers(batch.bars, ASX_DAILY, adjusted=True)
    assert list(batch.rejected["reason"]) == ["repeated row: the first row of this 1d bar was kept"]
    assert list(batch.rejected["row_number"]) == [4]


def test_a_daily_row_at_23_hours_of_the_evening_before_is_the_next_session(
    server: YahooServer, tmp_path: Path
) -> None:
    rows = [(utc(2026, 10, 30, 3), 1.0, 2.0, 0.5, 1.5, 10, 1.5)]  # 2026-10-29 23:00 New York
    server.put(Series("AAPL", "1d", rows))

    batch = fetch_daily(server, tmp_path, "AAPL")

    assert list(batch.bars["ts"]) == [pd.Timestamp("2026-10-30", tz="UTC")]


def test_the_live_row_at_a_non_interval_time_is_rejected_with_its_reason(
    server: YahooServer, tmp_path: Path
) -> None:
    rows = [minute_row(0), minute_row(1), minute_row(1, 99.0, second=37)]

    batch = fetch_minutes(server, tmp_path, rows)

    assert list(batch.bars["close"]) == [10.5, 10.5]
    assert list(batch.rejected["reason"]) == [
        "live price appended by Yahoo: its time is not the start of a 1m bar"
    ]


def test_the_live_row_of_a_daily_chart_does_not_replace_the_session(
    server: YahooServer, tmp_path: Path
) -> None:
    live = (utc(2026, 11, 2, 21, 0, 1), *US_DAILY[2][1:5], 141_147_999, 160.0)
    meta = {"regularMarketTime": live[0]}
    server.put(Series("AAPL", "1d", [*US_DAILY, live], meta=meta))

    batch = fetch_daily(server, tmp_path, "AAPL")

    assert_same_numbers(batch.bars, US_DAILY, adjusted=True)
    assert list(batch.rejected["reason"]) == [
        "live price appended by Yahoo: the first row of this 1d bar was kept"
    ]


def test_rows_at_and_after_the_end_are_cut(server: YahooServer, tmp_path: Path) -> None:
    rows = [minute_row(0), minute_row(1), minute_row(2)]
    server.put(Series("AAPL", "1m", rows, honour_window=False))
    request = ask("us", "1m", FRIDAY, FRIDAY_OPEN + timedelta(minutes=1), "AAPL")

    batch = make_source(server.base_url, tmp_path).fetch_bars(request)

    assert list(batch.bars["ts"]) == [pd.Timestamp(FRIDAY_OPEN)]
    assert len(batch.rejected) == 0


def test_rows_after_an_early_close_are_rejected(server: YahooServer, tmp_path: Path) -> None:
    close = utc(2026, 11, 20, 14, 32)
    periods = [[{"start": utc(2026, 11, 20, 14, 30), "end": close, "gmtoffset": -18000}]]
    rows = [minute_row(0), minute_row(1), minute_row(2)]

    batch = fetch_minutes(server, tmp_path, rows, meta={"tradingPeriods": periods})

    assert len(batch.bars) == 2
    assert list(batch.rejected["reason"]) == ["outside the regular session"]


def test_the_closing_auction_of_sydney_is_inside_the_session(
    server: YahooServer, tmp_path: Path
) -> None:
    # 10:00 to 16:00 in Sydney on 2026-11-20 is 23:00 to 05:00 UTC; the auction prints at 16:10.
    periods = [[{"start": utc(2026, 11, 19, 23), "end": utc(2026, 11, 20, 5)}]]
    rows = [(utc(2026, 11, 20, 5, 10), 10.0, 10.0, 10.0, 10.0, 5_000)]
    meta = {"tradingPeriods": periods}
    server.put(Series("CBA.AX", "1m", rows, timezone="Australia/Sydney", meta=meta))
    request = ask("asx", "1m", FRIDAY, SATURDAY, "CBA")

    batch = make_source(server.base_url, tmp_path).fetch_bars(request)

    assert list(batch.bars["volume"]) == [5_000.0]


def test_the_last_minute_of_a_crypto_day_is_inside_it(server: YahooServer, tmp_path: Path) -> None:
    periods = [[{"start": utc(2026, 11, 20), "end": utc(2026, 11, 20, 23, 59)}]]
    rows = [(utc(2026, 11, 20, 23, 59), 10.0, 10.0, 10.0, 10.0, 5)]
    server.put(Series("BTC-USD", "1m", rows, timezone="UTC", meta={"tradingPeriods": periods}))
    request = ask("crypto", "1m", FRIDAY, SATURDAY, "BTC/USD")

    batch = make_source(server.base_url, tmp_path).fetch_bars(request)

    assert len(batch.bars) == 1


# --- final or still running ---------------------------------------------------------------


def test_the_last_candle_is_not_final_while_its_minute_runs(
    server: YahooServer, tmp_path: Path
) -> None:
    now = FRIDAY_OPEN + timedelta(minutes=2, seconds=30)
    rows = [minute_row(0), minute_row(1), minute_row(2)]
    meta = {"regularMarketTime": int(now.timestamp())}

    batch = fetch_minutes(server, tmp_path, rows, now=now, meta=meta)

    assert list(batch.bars["is_final"]) == [True, True, False]


def test_the_last_candle_of_a_late_feed_is_not_final_though_its_minute_is_over(
    server: YahooServer, tmp_path: Path
) -> None:
    now = FRIDAY_OPEN + timedelta(minutes=22, seconds=30)  # the feed is 20 minutes late
    meta = {"regularMarketTime": utc(2026, 11, 20, 14, 32, 30)}
    rows = [minute_row(0), minute_row(1), minute_row(2)]

    batch = fetch_minutes(server, tmp_path, rows, now=now, meta=meta)

    assert list(batch.bars["is_final"]) == [True, True, False]


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (FRIDAY_CLOSE - timedelta(minutes=1), [True, False]),
        (FRIDAY_CLOSE + timedelta(minutes=1), [True, True]),
    ],
    ids=["before the close", "after the close"],
)
def test_a_session_is_final_once_it_has_closed(
    server: YahooServer, tmp_path: Path, now: datetime, expected: list[bool]
) -> None:
    regular = {"start": int(FRIDAY_OPEN.timestamp()), "end": int(FRIDAY_CLOSE.timestamp())}
    meta = {
        "regularMarketTime": int(now.timestamp()),
        "currentTradingPeriod": {"regular": regular},
    }
    rows = [(utc(2026, 11, day, 14, 30), 1.0, 2.0, 0.5, 1.5, 10, 1.5) for day in (19, 20)]
    server.put(Series("AAPL", "1d", rows, meta=meta))
    request = ask("us", "1d", datetime(2026, 11, 19, tzinfo=UTC), SATURDAY, "AAPL")

    batch = make_source(server.base_url, tmp_path, now=now).fetch_bars(request)

    assert list(batch.bars["is_final"]) == expected


# --- empty, with its reason ---------------------------------------------------------------


def test_minutes_of_a_weekend_are_empty_with_a_reason(server: YahooServer, tmp_path: Path) -> None:
    server.put(Series("AAPL", "1m", []))
    request = ask("us", "1m", datetime(2026, 11, 14, tzinfo=UTC),
                  datetime(2026, 11, 15, tzinfo=UTC), "AAPL")  # fmt: skip

    batch = make_source(server.base_url, tmp_path).fetch_bars(request)

    assert batch.bars.empty
    assert batch.errors == {}
    assert batch.empty_reasons == {
        "AAPL": "Yahoo has no 1m bars of AAPL from 2026-11-14 00:00 to 2026-11-15 00:00 UTC."
    }


def test_a_window_without_one_usable_row_says_how_many_were_rejected(
    server: YahooServer, tmp_path: Path
) -> None:
    null_row = (utc(2026, 11, 20, 14, 31), None, None, None, None, None)

    batch = fetch_minutes(server, tmp_path, [null_row])

    assert "1 were rejected" in batch.empty_reasons["AAPL"]


@pytest.mark.parametrize(("timeframe", "days"), [("1m", 30), ("5m", 60), ("15m", 60)])
def test_a_window_out_of_reach_is_empty_with_a_reason_and_without_a_request(
    server: YahooServer, tmp_path: Path, timeframe: Timeframe, days: int
) -> None:
    end = SATURDAY_NOON - timedelta(days=days)
    request = ask("us", timeframe, end - timedelta(days=1), end, "AAPL", "MSFT")

    batch = make_source(server.base_url, tmp_path).fetch_bars(request)

    assert server.seen == []
    assert set(batch.empty_reasons) == {"AAPL", "MSFT"}
    assert f"Yahoo keeps {timeframe} bars for {days} days" in batch.empty_reasons["AAPL"]
    assert (len(batch.bars), batch.errors, batch.requests) == (0, {}, 0)


def test_a_window_partly_out_of_reach_brings_the_rest_and_a_reason(
    server: YahooServer, tmp_path: Path
) -> None:
    server.put(Series("AAPL", "1m", [minute_row(0)]))
    request = ask("us", "1m", SATURDAY - timedelta(days=90), SATURDAY, "AAPL")

    batch = make_source(server.base_url, tmp_path).fetch_bars(request)

    assert len(batch.bars) == 1
    assert "out of reach" in batch.empty_reasons["AAPL"]
    assert batch.errors == {}


def test_a_window_in_the_future_is_not_asked_for(server: YahooServer, tmp_path: Path) -> None:
    start = SATURDAY + timedelta(days=2)
    request = ask("us", "1m", start, start + timedelta(days=1), "AAPL")

    batch = make_source(server.base_url, tmp_path).fetch_bars(request)

    assert server.seen == []
    assert "not past" in batch.empty_reasons["AAPL"]


# --- requests -----------------------------------------------------------------------------


def test_a_long_minute_window_is_asked_in_pieces_of_at_most_8_days(
    server: YahooServer, tmp_path: Path
) -> None:
    server.put(Series("AAPL", "1m", [minute_row(step) for step in range(390)]))
    start = SATURDAY - timedelta(days=20)

    batch = make_source(server.base_url, tmp_path).fetch_bars(
        ask("us", "1m", start, SATURDAY, "AAPL")
    )

    spans = [
        (int(seen.query["period1"]), int(seen.query["period2"])) for seen in server.charts_seen
    ]
    days = 86_400
    first = int(start.timestamp())
    assert spans == [
        (first, first + 8 * days),
        (first + 8 * days, first + 16 * days),
        (first + 16 * days, first + 20 * days),
    ]
    assert len(batch.bars) == 390


def test_a_daily_window_of_years_is_one_chart_call(server: YahooServer, tmp_path: Path) -> None:
    server.put(Series("AAPL", "1d", US_DAILY))
    request = ask("us", "1d", datetime(2010, 1, 1, tzinfo=UTC), SATURDAY, "AAPL")

    batch = make_source(server.base_url, tmp_path).fetch_bars(request)

    assert len(server.charts_seen) == 1
    assert len(batch.bars) == 3


def test_every_request_goes_to_the_base_url_and_is_counted(
    server: YahooServer, tmp_path: Path
) -> None:
    server.put(Series("AAPL", "1d", US_DAILY), Series("MSFT", "1d", US_DAILY))

    batch = fetch_daily(server, tmp_path, "AAPL", "MSFT")

    assert {f"http://{seen.host}" for seen in server.seen} == {server.base_url}
    assert batch.requests == len(server.seen)
    assert batch.latency_seconds > 0
    assert [seen.path for seen in server.charts_seen] == [
        "/v8/finance/chart/AAPL",
        "/v8/finance/chart/MSFT",
    ]


def test_a_redirect_does_not_lead_away_from_the_base_url(
    server: YahooServer, tmp_path: Path
) -> None:
    with YahooServer(now=SATURDAY_NOON) as elsewhere:
        server.fail("*", Fault(302, "", location=f"{elsewhere.base_url}/v8/finance/chart/AAPL"))

        with pytest.raises(SchemaDrift):
            fetch_daily(server, tmp_path, "AAPL")

        assert elsewhere.seen == []


def test_a_chart_call_carries_cookie_and_crumb_and_asks_for_regular_hours(
    server: YahooServer, tmp_path: Path
) -> None:
    server.put(Series("AAPL", "1d", US_DAILY))

    fetch_daily(server, tmp_path, "AAPL")

    [seen] = server.charts_seen
    assert seen.cookie == COOKIE
    assert seen.query["crumb"] == CRUMB
    assert seen.query["includePrePost"] == "false"
    assert seen.query["period1"] == str(utc(2026, 10, 29, 4))  # midnight in New York, summer
    assert seen.query["period2"] == str(utc(2026, 11, 3, 5))  # midnight in New York, winter


# --- faults -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "kind", "status"),
    [
        (TOO_MANY_REQUESTS, RateLimited, 429),
        (INVALID_CRUMB, AuthError, 401),
        (SERVER_ERROR, TransientError, 500),
        (CUT_JSON, TransientError, 200),
        (CUT_CONNECTION, TransientError, None),
        (WILL_BE_BACK, TransientError, 200),
        (Fault(200, '{"chart":{"result":[],"error":null}}'), SchemaDrift, 200),
        (Fault(200, "[]"), TransientError, 200),
        (Fault(404, "<html>no such page</html>", "text/html"), SchemaDrift, 404),
    ],
    ids=["429", "401", "500 HTML", "cut JSON", "cut connection", "down", "no result", "list",
         "404 HTML"],
)  # fmt: skip
def test_a_fault_of_the_provider_is_raised_by_its_kind(
    server: YahooServer, tmp_path: Path, fault: Fault, kind: type[ProviderError], status: int | None
) -> None:
    server.put(Series("AAPL", "1d", US_DAILY))
    server.fail("*", fault)

    with pytest.raises(kind) as caught:
        fetch_daily(server, tmp_path, "AAPL")

    assert type(caught.value) is kind
    assert caught.value.status == status
    assert caught.value.provider == "yahoo"
    assert "AAPL" in str(caught.value)


def test_an_unknown_symbol_is_an_error_of_its_own_with_yahoos_words(
    server: YahooServer, tmp_path: Path
) -> None:
    server.put(Series("AAPL", "1d", US_DAILY))

    batch = fetch_daily(server, tmp_path, "NOSUCH", "AAPL")

    assert list(batch.errors) == ["NOSUCH"]
    assert "No data found, symbol may be delisted" in batch.errors["NOSUCH"]
    assert len(batch.bars) == 3
    assert batch.empty_reasons == {}


def test_a_refused_chart_is_asked_for_once_and_not_again_by_yfinance(
    server: YahooServer, tmp_path: Path
) -> None:
    batch = fetch_daily(server, tmp_path, "NOSUCH")

    assert len(server.charts_seen) == 1
    assert batch.retries == 0


def test_a_refused_crumb_is_replaced_within_the_same_try(
    server: YahooServer, tmp_path: Path
) -> None:
    server.put(Series("AAPL", "1d", US_DAILY))
    server.fail("AAPL", replace(INVALID_CRUMB, times=1))

    batch = fetch_daily(server, tmp_path, "AAPL")

    assert len(batch.bars) == 3
    assert (batch.requests, batch.retries) == (len(server.seen), 0)


def test_an_unknown_symbol_alone_is_an_answer_and_not_raised(
    server: YahooServer, tmp_path: Path
) -> None:
    batch = fetch_daily(server, tmp_path, "NOSUCH")

    assert list(batch.errors) == ["NOSUCH"]
    assert batch.bars.empty


def test_a_422_is_an_error_of_the_symbol_with_yahoos_words(
    server: YahooServer, tmp_path: Path
) -> None:
    server.put(Series("AAPL", "1d", US_DAILY))
    server.fail("MSFT", Fault(422, chart_error("Unprocessable Entity", "1m data not available.")))

    batch = fetch_daily(server, tmp_path, "AAPL", "MSFT")

    assert "1m data not available" in batch.errors["MSFT"]
    assert len(batch.bars) == 3


def test_a_symbol_that_fails_while_others_succeed_is_listed(
    server: YahooServer, tmp_path: Path
) -> None:
    server.put(Series("AAPL", "1d", US_DAILY), Series("NVDA", "1d", US_DAILY))
    server.fail("MSFT", SERVER_ERROR)

    batch = fetch_daily(server, tmp_path, "AAPL", "MSFT", "NVDA")

    assert list(batch.errors) == ["MSFT"]
    assert set(batch.bars["symbol"]) == {"AAPL", "NVDA"}


def test_a_rate_limit_in_mid_run_lists_the_rest_and_asks_no_more(
    server: YahooServer, tmp_path: Path
) -> None:
    server.put(Series("AAPL", "1d", US_DAILY), Series("NVDA", "1d", US_DAILY))
    server.fail("MSFT", TOO_MANY_REQUESTS)

    batch = fetch_daily(server, tmp_path, "AAPL", "MSFT", "NVDA")

    assert list(batch.errors) == ["MSFT", "NVDA"]
    assert "/v8/finance/chart/NVDA" not in [seen.path for seen in server.charts_seen]


def test_bars_before_a_failing_piece_are_kept(server: YahooServer, tmp_path: Path) -> None:
    early = datetime(2026, 11, 2, tzinfo=UTC)
    row = (utc(2026, 11, 2, 14, 30), 1.0, 2.0, 0.5, 1.5, 10)
    server.put(Series("AAPL", "1m", [row]))
    source = make_source(server.base_url, tmp_path)
    server.fail("AAPL", replace(INVALID_CRUMB, after=1))

    batch = source.fetch_bars(ask("us", "1m", early, SATURDAY, "AAPL"))

    assert list(batch.bars["close"]) == [1.5]
    assert "Invalid Crumb" in batch.errors["AAPL"]


def test_a_transient_fault_is_tried_again_and_forgotten(
    server: YahooServer, tmp_path: Path
) -> None:
    server.put(Series("AAPL", "1d", US_DAILY))
    server.fail("AAPL", replace(CUT_JSON, times=2))
    waits = Waits()
    source = make_source(server.base_url, tmp_path, sleep=waits)

    batch = source.fetch_bars(ask("us", "1d", datetime(2026, 10, 29, tzinfo=UTC), SATURDAY, "AAPL"))

    assert len(batch.bars) == 3
    assert len(server.charts_seen) == 3
    assert len(waits.seconds) == 2
    assert waits.seconds[1] > waits.seconds[0] >= 1.0


def test_another_try_begins_with_a_new_crumb(server: YahooServer, tmp_path: Path) -> None:
    server.put(Series("AAPL", "1d", US_DAILY))
    server.fail("crumb", Fault(500, "Internal error", "text/plain", times=1))
    server.fail("AAPL", replace(CUT_JSON, times=1))

    fetch_daily(server, tmp_path, "AAPL")

    assert [seen.query["crumb"] for seen in server.charts_seen] == ["Internal error", CRUMB]


def test_a_fault_that_stays_is_tried_three_times(server: YahooServer, tmp_path: Path) -> None:
    server.fail("*", CUT_JSON)

    with pytest.raises(TransientError):
        fetch_daily(server, tmp_path, "AAPL")

    assert len(server.charts_seen) == 3


def test_a_refused_connection_names_the_host_and_what_to_do(tmp_path: Path) -> None:
    with socket.socket() as held:  # bound and never listening: nobody else can take the port
        held.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{held.getsockname()[1]}"
        source = make_source(f"http://{host}", tmp_path)

        with pytest.raises(TransientError, match="Check the network") as caught:
            source.fetch_bars(ask("us", "1d", FRIDAY, SATURDAY, "AAPL"))

    assert host in str(caught.value)


def test_a_crumb_that_is_refused_does_not_stop_the_charts(
    server: YahooServer, tmp_path: Path
) -> None:
    server.put(Series("AAPL", "1d", US_DAILY))
    server.fail("crumb", Fault(429, "Edge: Too Many Requests", "text/plain"))

    assert len(fetch_daily(server, tmp_path, "AAPL").bars) == 3


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"symbol": "AAPL.MX"}, "chart of 'AAPL.MX'"),
        ({"dataGranularity": "1mo"}, "interval is '1mo'"),
        ({"exchangeTimezoneName": None}, "exchangeTimezoneName"),
    ],
    ids=["another ticker", "another interval", "no zone"],
)
def test_an_answer_to_another_question_is_schema_drift(
    server: YahooServer, tmp_path: Path, change: dict[str, Any], found: str
) -> None:
    server.put(Series("AAPL", "1d", US_DAILY, meta=change))

    with pytest.raises(SchemaDrift, match=found):
        fetch_daily(server, tmp_path, "AAPL")


def test_prices_without_timestamps_are_schema_drift() -> None:
    answer = Series("AAPL", "1d", US_DAILY).answer(0, utc(2027, 1, 1))
    del answer["chart"]["result"][0]["timestamp"]
    window = AskWindow("us", "AAPL", "1d", FRIDAY, SATURDAY)

    with pytest.raises(SchemaDrift, match="prices without timestamps"):
        parse_chart(answer, window, now=SATURDAY_NOON)


def test_arrays_of_different_length_are_schema_drift() -> None:
    answer = Series("AAPL", "1d", US_DAILY).answer(0, utc(2027, 1, 1))
    answer["chart"]["result"][0]["indicators"]["quote"][0]["low"].pop()
    window = AskWindow("us", "AAPL", "1d", FRIDAY, SATURDAY)

    with pytest.raises(SchemaDrift, match="'low'"):
        parse_chart(answer, window, now=SATURDAY_NOON)


# --- splits and dividends -----------------------------------------------------------------


def event(at: int, **fields: Any) -> dict[str, Any]:
    return {str(at): {"date": at, **fields}}


#: Apple paid 3.29 dollars a share on 2014-05-08, split 7 for 1 on 2014-06-09 and 4 for 1 on
#: 2020-08-31; Yahoo therefore tells of 3.29 / 28 = 0.1175 dollars.
APPLE_DIVIDEND = event(utc(2014, 5, 8, 13, 30), amount=0.1175)
APPLE_SPLITS = {
    **event(utc(2014, 6, 9, 13, 30), numerator=7, denominator=1, splitRatio="7:1"),
    **event(utc(2020, 8, 31, 13, 30), numerator=4, denominator=1, splitRatio="4:1"),
}


def test_splits_and_dividends_of_a_window_come_by_ex_date(
    server: YahooServer, tmp_path: Path
) -> None:
    events = {"dividends": APPLE_DIVIDEND, "splits": APPLE_SPLITS}
    server.put(Series("AAPL", "1d", US_DAILY, events=events))

    dividend, split = make_source(server.base_url, tmp_path).fetch_corporate_actions(
        "us", ["AAPL"], date(2014, 5, 8), date(2020, 8, 31)
    )

    assert (dividend.kind, dividend.ex_date) == ("dividend", date(2014, 5, 8))
    assert (split.kind, split.ex_date) == ("split", date(2014, 6, 9))
    assert (split.ratio_from, split.ratio_to) == (1.0, 7.0)
    assert (split.symbol, split.market, split.source) == ("AAPL", "us", "yahoo")


def test_a_dividend_is_what_a_share_of_that_time_received(
    server: YahooServer, tmp_path: Path
) -> None:
    events = {"dividends": APPLE_DIVIDEND, "splits": APPLE_SPLITS}
    server.put(Series("AAPL", "1d", US_DAILY, events=events))

    [dividend] = make_source(server.base_url, tmp_path).fetch_corporate_actions(
        "us", ["AAPL"], date(2014, 5, 1), date(2014, 6, 1)
    )

    assert dividend.cash_amount == pytest.approx(3.29)
    assert dividend.currency == "USD"
    assert dividend.payload["amount"] == 0.1175
    # Asked for beyond the window, up to the session that may have begun in Sydney.
    assert server.charts_seen[0].query["period2"] == str(utc(2026, 11, 23, 5))


def test_an_ex_date_is_the_session_date_of_the_exchange(
    server: YahooServer, tmp_path: Path
) -> None:
    # 10:00 in Sydney on 2026-02-18, summer time, is 23:00 UTC of the evening before.
    events = {"dividends": event(utc(2026, 2, 17, 23), amount=2.35, currency="AUD")}
    server.put(Series("CBA.AX", "1d", ASX_DAILY, timezone="Australia/Sydney", events=events))

    [dividend] = make_source(server.base_url, tmp_path).fetch_corporate_actions(
        "asx", ["CBA"], date(2026, 1, 1), date(2026, 11, 21)
    )

    assert dividend.ex_date == date(2026, 2, 18)
    assert (dividend.cash_amount, dividend.currency) == (2.35, "AUD")


def test_a_chart_without_events_has_no_actions(server: YahooServer, tmp_path: Path) -> None:
    server.put(Series("AAPL", "1d", US_DAILY))
    source = make_source(server.base_url, tmp_path)

    actions = source.fetch_corporate_actions("us", ["AAPL"], date(2026, 1, 1), date(2026, 11, 21))

    assert actions == []


@pytest.mark.parametrize(
    "events",
    [
        {"splits": event(utc(2026, 6, 9, 13, 30), numerator=7)},
        {"splits": event(utc(2026, 6, 9, 13, 30), numerator=0, denominator=1)},
        {"dividends": event(utc(2026, 6, 9, 13, 30), amount=None)},
        {"dividends": {"1": {"amount": 0.5}}},
        {"dividends": [0.5]},
    ],
    ids=["no denominator", "ratio of nought", "no amount", "no date", "list"],
)
def test_an_incomplete_event_is_schema_drift(
    server: YahooServer, tmp_path: Path, events: dict[str, Any]
) -> None:
    server.put(Series("AAPL", "1d", US_DAILY, events=events))
    source = make_source(server.base_url, tmp_path)

    with pytest.raises(SchemaDrift, match="event"):
        source.fetch_corporate_actions("us", ["AAPL"], date(2026, 1, 1), date(2026, 11, 21))


def test_actions_of_an_unknown_symbol_are_an_error(server: YahooServer, tmp_path: Path) -> None:
    source = make_source(server.base_url, tmp_path)

    with pytest.raises(BadRequest, match="may be delisted"):
        source.fetch_corporate_actions("us", ["NOSUCH"], date(2026, 1, 1), date(2026, 11, 21))


# --- symbols ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("market", "symbol", "ticker"),
    [
        ("asx", "CBA", "CBA.AX"),
        ("us", "AAPL", "AAPL"),
        ("us", "BRK.B", "BRK-B"),
        ("crypto", "BTC/USD", "BTC-USD"),
    ],
)
def test_symbols_map_both_ways(market: str, symbol: str, ticker: str) -> None:
    assert to_yahoo_symbol(market, symbol) == ticker
    assert from_yahoo_symbol(market, ticker) == symbol


def test_a_ticker_without_suffix_is_not_one_of_the_asx() -> None:
    with pytest.raises(InvalidInputError, match=r"\.AX"):
        from_yahoo_symbol("asx", "CBA")


# --- recordings of the live service -------------------------------------------------------

RECORDINGS = os.environ.get("SCIZOR_RECORDINGS", "")
needs_recordings = pytest.mark.skipif(
    not RECORDINGS,
    reason="set SCIZOR_RECORDINGS to a directory of recorded payloads (yahoo/chart-*.json)",
)


def read_recording(name: str) -> dict[str, Any]:
    """Return the chart body of a recording."""
    text = (Path(RECORDINGS) / "yahoo" / name).read_text(encoding="utf-8")
    body: dict[str, Any] = json.loads(text)["response"]["bodyJson"]
    return body


@needs_recordings
@pytest.mark.parametrize(
    ("name", "market", "symbol"),
    [
        ("chart-AAPL-2020-08-31-to-2020-11-07.json", "us", "AAPL"),
        ("historical-via-chart-MSFT-dividends-2021-02-01-to-2022-01-31.csv.json", "us", "MSFT"),
        ("historical-via-chart-NVDA-split-2021-02-01-to-2022-01-31.csv.json", "us", "NVDA"),
        ("chart-BTC-USD-2020-01-01-to-2020-01-03.json", "crypto", "BTC/USD"),
    ],
)
def test_every_bar_of_a_recording_is_stored_as_recorded(
    server: YahooServer, tmp_path: Path, name: str, market: str, symbol: str
) -> None:
    body = read_recording(name)
    result = body["chart"]["result"][0]
    server.put_body(result["meta"]["symbol"], "1d", json.dumps(body))
    start, end = datetime(2020, 1, 1, tzinfo=UTC), datetime(2022, 12, 31, tzinfo=UTC)

    batch = make_source(server.base_url, tmp_path).fetch_bars(ask(market, "1d", start, end, symbol))

    zone = ZoneInfo(result["meta"]["exchangeTimezoneName"])
    dates = [datetime.fromtimestamp(stamp, tz=zone).date() for stamp in result["timestamp"]]
    assert [instant.date() for instant in batch.bars["ts"]] == dates
    assert set(batch.bars["ts"].dt.hour) == {0}
    for column in ("open", "high", "low", "close", "volume"):
        assert list(batch.bars[column]) == result["indicators"]["quote"][0][column]
    assert list(batch.bars["adj_close"]) == result["indicators"]["adjclose"][0]["adjclose"]
    assert len(batch.rejected) == 0


@needs_recordings
def test_the_recorded_split_of_nvidia_is_read() -> None:
    body = read_recording("historical-via-chart-NVDA-split-2021-02-01-to-2022-01-31.csv.json")
    year = AskWindow(
        "us", "NVDA", "1d", datetime(2021, 1, 1, tzinfo=UTC), datetime(2022, 1, 1, tzinfo=UTC)
    )

    [split] = parse_actions(body, year)

    assert (split.ex_date, split.ratio_from, split.ratio_to) == (date(2021, 7, 20), 1.0, 4.0)


@needs_recordings
def test_the_recorded_dividends_of_microsoft_are_read() -> None:
    body = read_recording("historical-via-chart-MSFT-dividends-2021-02-01-to-2022-01-31.csv.json")
    year = AskWindow(
        "us", "MSFT", "1d", datetime(2021, 1, 1, tzinfo=UTC), datetime(2022, 1, 1, tzinfo=UTC)
    )

    dividends = parse_actions(body, year)

    assert [(each.ex_date, each.cash_amount) for each in dividends] == [
        (date(2021, 2, 17), 0.56),
        (date(2021, 5, 19), 0.56),
        (date(2021, 8, 18), 0.56),
        (date(2021, 11, 17), 0.62),
    ]


@needs_recordings
def test_a_recorded_weekend_of_minutes_is_empty_with_a_reason(
    server: YahooServer, tmp_path: Path
) -> None:
    name = "chart-AAPL-2025-02-01-to-2025-02-02-includePrePost-false-interval-1m.json"
    server.put_body("AAPL", "1m", json.dumps(read_recording(name)))
    now = datetime(2025, 2, 20, tzinfo=UTC)
    server.now = now
    start, end = datetime(2025, 2, 1, tzinfo=UTC), datetime(2025, 2, 2, tzinfo=UTC)

    batch = make_source(server.base_url, tmp_path, now=now).fetch_bars(
        ask("us", "1m", start, end, "AAPL")
    )

    assert "has no 1m bars of AAPL" in batch.empty_reasons["AAPL"]
    assert batch.errors == {}
