"""Answers of real providers, and answers with real faults, on their way into the database.

Recordings are served byte for byte by a server that the base URL of the provider points to; what
has to be stored is read from the recording here, without any of the platform's parsers. They are
not part of the repository: set SCIZOR_RECORDINGS to the directory that has them. The faulty answers
below are written by hand and always checked. Nothing that is sent may vanish: each row is stored,
in quarantine with a reason, or counted as not asked for.
"""

import csv
import gzip
import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import pytest

from scizor_resources.pipeline.collect import CollectReport
from scizor_resources.platform import Platform
from scizor_resources.settings import load_settings
from tests.contract.lab.alpaca import KEY_ID, SECRET, AlpacaLab, AlpacaRow
from tests.contract.lab.binance import BinanceLab
from tests.contract.lab.ibkr import IbkrLab
from tests.contract.lab.kraken import candle
from tests.contract.lab.server import HttpLab, Reply, Row, Seen
from tests.contract.yahoo_server import COOKIE, CRUMB, Series, YahooServer

from .helpers import query
from .test_assets import checks_of, metadata_of, run

RECORDINGS = os.environ.get("SCIZOR_RECORDINGS", "")
needs_recordings = pytest.mark.skipif(
    not RECORDINGS,
    reason="set SCIZOR_RECORDINGS to a directory of recorded payloads (yahoo/, binance/, ...)",
)

#: Bar start -> open, high, low, close, volume.
Bars = dict[datetime, tuple[float, float, float, float, float]]
Point = Callable[..., None]


class Replay(HttpLab):
    """Answers each path with the same bytes, whatever the query."""

    def __init__(self, answers: dict[str, bytes]) -> None:
        super().__init__()
        self._answers = answers

    def respond(self, seen: Seen) -> Reply:
        body = self._answers.get(seen.path)
        if body is None:
            return Reply(b"", 404, {"Set-Cookie": f"{COOKIE}; Path=/; Max-Age=31536000"})
        return Reply(body)


@pytest.fixture
def running() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def point(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> Iterator[Point]:
    """Make a provider the only one of a market, and send its calls to an address."""

    def change(market: str, provider: str, url: str, *symbols: str, **variables: str) -> None:
        monkeypatch.setenv(f"SCIZOR_CHAIN_{market.upper()}", provider)
        monkeypatch.setenv(f"SCIZOR_{provider.upper()}_BASE_URL", url)
        monkeypatch.setenv(f"SCIZOR_{provider.upper()}_REQUESTS_PER_MINUTE", "100000")
        for name, value in variables.items():
            monkeypatch.setenv(f"SCIZOR_{name.upper()}", value)
        monkeypatch.setattr(platform, "settings", load_settings())
        for symbol in symbols:
            platform.reference.ensure(market, symbol)

    # What Valkey remembers of providers outlives a test's database.
    platform.link.call(lambda client: client.flushdb())
    yield change
    platform.link.call(lambda client: client.flushdb())


def collect(
    platform: Platform, market: str, timeframe: Any, symbol: str, start: date, end: date
) -> CollectReport:
    return platform.collector(market, timeframe).collect(start, end, [symbol])


def stored_rows(platform: Platform, symbol: str) -> list[dict[str, Any]]:
    return query(
        platform,
        "SELECT b.* FROM market.bars AS b JOIN public.symbols AS s USING (instrument_id) "
        "WHERE s.symbol = %s ORDER BY b.ts",
        symbol,
    )


def stored(platform: Platform, symbol: str) -> Bars:
    return {
        row["ts"]: (row["open"], row["high"], row["low"], row["close"], row["volume"])
        for row in stored_rows(platform, symbol)
    }


def quarantined(platform: Platform) -> list[dict[str, Any]]:
    return query(
        platform, "SELECT symbol, ts, reason, source, payload FROM quality.quarantine ORDER BY ts"
    )


def midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


# --- recordings -----------------------------------------------------------------------------


def recording(name: str) -> bytes:
    return (Path(RECORDINGS) / name).read_bytes()


def yahoo_body(name: str) -> bytes:
    """Return the body of an answer that was recorded with its request and headers."""
    text = recording(f"yahoo/{name}").decode()
    start = text.index("{", text.index('"bodyJson"'))
    _, end = json.JSONDecoder().raw_decode(text, start)
    return text[start:end].encode()


def yahoo_answers(ticker: str, body: bytes) -> dict[str, bytes]:
    return {"/v1/test/getcrumb": CRUMB.encode(), f"/v8/finance/chart/{ticker}": body}


def charted(body: bytes) -> tuple[Bars, list[float]]:
    """Return the daily bars and the adjusted closes of a chart without null rows."""
    (result,) = json.loads(body)["chart"]["result"]
    zone = ZoneInfo(result["meta"]["exchangeTimezoneName"])
    (quote,) = result["indicators"]["quote"]
    days = [datetime.fromtimestamp(at, zone).date() for at in result["timestamp"]]
    values = zip(*(quote[name] for name in ("open", "high", "low", "close", "volume")), strict=True)
    bars = {midnight(day): tuple(row) for day, row in zip(days, values, strict=True)}
    return bars, result["indicators"]["adjclose"][0]["adjclose"]


CHARTS = [
    # AAPL's first day is the one of its split, 4 to 1.
    ("chart-AAPL-2020-08-31-to-2020-11-07.json", "us", "AAPL", "AAPL", 49),
    ("chart-AAPL.json", "us", "AAPL", "AAPL", 1),
    ("historical-via-chart-MSFT-dividends-2021-02-01-to-2022-01-31.csv.json", "us", "MSFT", "MSFT",
     252),
    ("historical-via-chart-NVDA-split-2021-02-01-to-2022-01-31.csv.json", "us", "NVDA", "NVDA",
     252),
    ("chart-BTC-USD-2020-01-01-to-2020-01-03.json", "crypto", "BTC/USD", "BTC-USD", 3),
]  # fmt: skip


@needs_recordings
@pytest.mark.parametrize(
    ("name", "market", "symbol", "ticker", "count"), CHARTS, ids=[each[0] for each in CHARTS]
)
def test_a_recorded_chart_of_yahoo_is_stored_bar_by_bar(
    platform: Platform,
    point: Point,
    running: ExitStack,
    name: str,
    market: str,
    symbol: str,
    ticker: str,
    count: int,
) -> None:
    body = yahoo_body(name)
    lab = running.enter_context(Replay(yahoo_answers(ticker, body)))
    point(market, "yahoo", lab.url, symbol)
    expected, adjusted = charted(body)
    first, last = min(expected).date(), max(expected).date()

    report = collect(platform, market, "1d", symbol, first, last + timedelta(days=1))

    assert len(expected) == count
    assert stored(platform, symbol) == expected
    rows = stored_rows(platform, symbol)
    assert [row["adj_close"] for row in rows] == adjusted
    assert {(row["source"], row["session_date"] == row["ts"].date()) for row in rows} == {
        ("yahoo", True)
    }
    assert (report.rows, report.refused, report.ignored, report.missing) == (count, 0, {}, {})


@needs_recordings
def test_recorded_rows_outside_the_range_are_counted_and_not_stored(
    platform: Platform, point: Point, running: ExitStack
) -> None:
    body = yahoo_body("chart-AAPL-2020-08-31-to-2020-11-07.json")
    lab = running.enter_context(Replay(yahoo_answers("AAPL", body)))
    point("us", "yahoo", lab.url, "AAPL")
    expected, _ = charted(body)

    # September had 21 sessions.
    report = collect(platform, "us", "1d", "AAPL", date(2020, 9, 1), date(2020, 10, 1))

    september = {ts: bar for ts, bar in expected.items() if ts.month == 9}
    assert stored(platform, "AAPL") == september
    assert len(september) == 21
    assert report.ignored == {"outside the window": 49 - 21}


@needs_recordings
def test_recorded_splits_and_dividends_are_stored(
    platform: Platform, point: Point, running: ExitStack
) -> None:
    body = yahoo_body("chart-AAPL-2020-08-31-to-2020-11-07.json")
    lab = running.enter_context(Replay(yahoo_answers("AAPL", body)))
    point("us", "yahoo", lab.url, "AAPL")
    collect(platform, "us", "1d", "AAPL", date(2020, 8, 31), date(2020, 11, 7))

    platform.action_collector().collect(["AAPL"])

    rows = query(
        platform,
        "SELECT ex_date, kind, ratio, amount, applied FROM public.corporate_actions ORDER BY 1",
    )
    assert [tuple(row.values()) for row in rows] == [
        (date(2020, 8, 31), "split", 4.0, None, True),
        (date(2020, 11, 6), "dividend", None, 0.205, True),
    ]


@needs_recordings
def test_recorded_klines_of_binance_are_stored_bar_by_bar(
    platform: Platform, point: Point, running: ExitStack
) -> None:
    body = recording("binance/http_spot_market_klines.json")
    answers = {
        "/api/v3/exchangeInfo": recording("binance/http_spot_market_exchange_info.json"),
        "/api/v3/klines": body,
    }
    lab = running.enter_context(Replay(answers))
    point("crypto", "binance", lab.url, "BTC/USDT")
    klines = json.loads(body)

    # A day is two calls, of which each is given all rows.
    collect(platform, "crypto", "1m", "BTC/USDT", date(2021, 10, 22), date(2021, 10, 23))

    assert stored(platform, "BTC/USDT") == {
        datetime.fromtimestamp(row[0] / 1000, UTC): tuple(float(each) for each in row[1:6])
        for row in klines
    }
    rows = stored_rows(platform, "BTC/USDT")
    assert len(rows) == 10
    assert [row["trade_count"] for row in rows] == [row[8] for row in klines]
    turnover = [float(row[7]) for row in klines]
    assert [row["vwap"] * row["volume"] for row in rows] == pytest.approx(turnover, rel=1e-6)
    assert quarantined(platform) == []


@needs_recordings
@pytest.mark.parametrize("provider", ["coinbase", "ccxt_coinbase"])
def test_recorded_candles_of_coinbase_are_stored_bar_by_bar(
    platform: Platform, point: Point, running: ExitStack, provider: str
) -> None:
    body = recording("coinbase_advanced/http_candles.json")
    root = "/api/v3/brokerage/market/products"
    answers = {
        root: recording("coinbase_advanced/http_products.json"),
        f"{root}/BTC-USD/candles": body,
    }
    lab = running.enter_context(Replay(answers))
    point("crypto", provider, lab.url, "BTC/USD")

    # The recording has two candles, of an hour each; minutes begin there too.
    collect(platform, "crypto", "1m", "BTC/USD", date(2024, 4, 4), date(2024, 4, 5))

    names = ("open", "high", "low", "close", "volume")
    assert stored(platform, "BTC/USD") == {
        datetime.fromtimestamp(int(each["start"]), UTC): tuple(float(each[name]) for name in names)
        for each in json.loads(body)["candles"]
    }
    assert len(stored_rows(platform, "BTC/USD")) == 2
    assert quarantined(platform) == []


@needs_recordings
def test_a_recorded_list_of_krakens_pairs_leads_to_the_pairs_candles(
    platform: Platform, point: Point, running: ExitStack
) -> None:
    # No candles were recorded, so these are written by hand.
    now = platform.now()
    minutes = [now - timedelta(minutes=number) for number in (5, 4, 3)]
    rows = [Row(ts, 60_000.0, 60_002.0, 59_999.0, 60_001.0, 1.5) for ts in minutes]
    candles = {"error": [], "result": {"XBTUSDT": [candle(row) for row in rows], "last": 0}}
    answers = {
        "/0/public/AssetPairs": recording("kraken/http_asset_pairs.json"),
        "/0/public/OHLC": json.dumps(candles).encode(),
        "/0/public/Trades": json.dumps(
            {"error": [], "result": {"XBTUSDT": [], "last": "0"}}
        ).encode(),
    }
    lab = running.enter_context(Replay(answers))
    point("crypto", "kraken", lab.url, "BTC/USDT")

    collect(platform, "crypto", "1m", "BTC/USDT", minutes[0].date(), now.date())

    assert stored(platform, "BTC/USDT") == dict.fromkeys(
        minutes, (60000.0, 60002.0, 59999.0, 60001.0, 1.5)
    )
    assert {seen.query["pair"] for seen in lab.requests if "pair" in seen.query} == {"XBTUSDT"}


class RecordedGateway(IbkrLab):
    """Answers with recorded bars, which were kept as objects, in the gateway's frames."""

    def __init__(self, bars: list[dict[str, Any]]) -> None:
        super().__init__()
        self._recorded = bars
        self.put("MSFT", "1m", [])

    def _bars(self, request_id: str, query: dict[str, str]) -> tuple[Any, ...]:
        names = ("open", "high", "low", "close", "volume", "average", "barCount")
        fields = [
            str(each)
            for bar in self._recorded
            for each in (int(recorded_instant(bar).timestamp()), *(bar[name] for name in names))
        ]
        return (17, request_id, "", query["end"], len(self._recorded), *fields)


def recorded_instant(bar: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(bar["date"]).replace(tzinfo=UTC)


@needs_recordings
def test_recorded_bars_of_ibkr_are_stored_bar_by_bar_and_extended_hours_are_not(
    platform: Platform, point: Point, running: ExitStack
) -> None:
    bars = [
        json.loads(line)
        for line in gzip.decompress(recording("ibkr/bars.json.gz")).decode().splitlines()
    ]
    lab = running.enter_context(RecordedGateway(bars))
    point("us", "ibkr", lab.url, "MSFT")

    report = collect(platform, "us", "1m", "MSFT", date(2021, 1, 5), date(2021, 1, 6))

    regular = [bar for bar in bars if "14:30" <= bar["date"][11:16] < "21:00"]
    names = ("open", "high", "low", "close", "volume")
    assert len(regular) == 218
    assert stored(platform, "MSFT") == {
        recorded_instant(bar): tuple(bar[name] for name in names) for bar in regular
    }
    rows = stored_rows(platform, "MSFT")
    assert [row["vwap"] for row in rows] == [bar["average"] for bar in regular]
    assert [row["trade_count"] for row in rows] == [bar["barCount"] for bar in regular]
    assert report.ignored == {"outside the window": 405 - 218}


# --- faults in the values -------------------------------------------------------------------

#: Sessions of New York in January 2022; the 17th was a holiday.
JANUARY = [
    date(2022, 1, day) for day in range(1, 32) if date(2022, 1, day).weekday() < 5 and day != 17
]
NEW_YORK = ZoneInfo("America/New_York")
SYDNEY = ZoneInfo("Australia/Sydney")
#: open, high, low, close, volume, adjusted close
PLAIN: tuple[Any, ...] = (100.0, 101.0, 99.0, 100.5, 1_000_000, 100.5)

YahooRow = tuple[Any, ...]


def opened(day: date, zone: ZoneInfo = NEW_YORK) -> int:
    """Return the instant that Yahoo gives a daily row."""
    hour, minute = (9, 30) if zone is NEW_YORK else (10, 0)
    return int(datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone).timestamp())


def january(**changed: tuple[Any, ...]) -> list[YahooRow]:
    """Return rows of January 2022, `PLAIN` but for the days (`d12=...`) given."""
    return [(opened(day), *changed.get(f"d{day.day}", PLAIN)) for day in JANUARY]


def times(factor: float, row: tuple[Any, ...] = PLAIN) -> tuple[Any, ...]:
    return (*(price * factor for price in row[:4]), row[4], row[5] * factor)


class Look:
    """What a run of `<market>/bars_1d` has said and stored."""

    def __init__(self, platform: Platform, market: str, symbol: str, partition: str) -> None:
        with dg.DagsterInstance.ephemeral() as instance:
            asset = f"{market}/bars_1d"
            result = run(platform, instance, [asset], partition, symbols=[symbol])
        self.metadata: dict[str, Any] = metadata_of(result, asset)
        self.checks = {name.partition(":")[2]: each for name, each in checks_of(result).items()}

    @property
    def outliers(self) -> list[tuple[str, str, str, float]]:
        """The rows that the outlier check names: symbol, day, rule, value."""
        check = self.checks["outliers"]
        if check.passed:
            return []
        assert check.severity == dg.AssetCheckSeverity.WARN
        rows: Any = check.metadata["first_rows"].value
        return [(row["symbol"], row["ts"][:10], row["rule"], row["value"]) for row in rows]

    @property
    def accounted(self) -> int:
        """Rows that were stored, refused, or left and counted."""
        left = sum(self.metadata.get("rows_not_asked_for", {}).values())
        return int(self.metadata["rows"] + self.metadata["rows_refused"] + left)


@pytest.fixture
def yahoo(running: ExitStack) -> YahooServer:
    return running.enter_context(YahooServer(datetime(2026, 11, 20, tzinfo=UTC)))


@pytest.fixture
def look(platform: Platform, point: Point, yahoo: YahooServer) -> Callable[..., Look]:
    """Let Yahoo have daily rows of AAPL, run January 2022 and look at what came of it."""

    def run_january(rows: list[YahooRow]) -> Look:
        yahoo.put(Series("AAPL", "1d", rows))
        point("us", "yahoo", yahoo.base_url, "AAPL")
        return Look(platform, "us", "AAPL", "2022-01-01")

    return run_january


def test_sound_rows_are_stored_and_nothing_is_said_of_them(
    platform: Platform, look: Callable[..., Look]
) -> None:
    seen = look(january())

    assert stored(platform, "AAPL") == {midnight(day): PLAIN[:5] for day in JANUARY}
    assert (seen.outliers, quarantined(platform)) == ([], [])
    assert all(check.passed for check in seen.checks.values())


def test_a_bar_in_another_unit_is_stored_and_flagged_with_symbol_time_and_value(
    platform: Platform, look: Callable[..., Look]
) -> None:
    seen = look(january(d12=times(100)))

    assert stored(platform, "AAPL")[midnight(date(2022, 1, 12))] == times(100)[:5]
    assert seen.outliers == [
        ("AAPL", "2022-01-12", "price_change", 99.0),
        ("AAPL", "2022-01-13", "price_change", -0.99),
    ]
    assert seen.accounted == len(JANUARY) == 20


def test_a_single_price_in_another_unit_is_quarantined_with_its_reason(
    platform: Platform, look: Callable[..., Look]
) -> None:
    seen = look(january(d12=(100.0, 101.0, 99.0, 10_050.0, 1_000_000, 10_050.0)))

    (row,) = quarantined(platform)
    assert (row["symbol"], row["ts"]) == ("AAPL", midnight(date(2022, 1, 12)))
    assert row["reason"] == "high is below close"
    assert row["payload"]["close"] == "10050.0"
    assert midnight(date(2022, 1, 12)) not in stored(platform, "AAPL")
    assert (seen.metadata["rows"], seen.metadata["rows_refused"]) == (19, 1)


def test_a_fall_to_a_quarter_without_a_split_is_flagged(
    platform: Platform, look: Callable[..., Look]
) -> None:
    fallen = {f"d{day.day}": times(0.25) for day in JANUARY if day.day >= 12}

    seen = look(january(**fallen))

    assert seen.outliers == [("AAPL", "2022-01-12", "price_change", -0.75)]
    assert len(stored(platform, "AAPL")) == 20
    assert query(platform, "SELECT 1 FROM public.corporate_actions") == []


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ((None, None, None, None, None, None), "open, high, low, close, volume"),
        ((100.0, None, 99.0, 100.5, 1_000_000, 100.5), "high"),
        ((100.0, 101.0, 99.0, 100.5, None, 100.5), "volume"),
    ],
    ids=["all", "a price", "the volume"],
)
def test_a_null_row_is_quarantined_with_its_reason(
    platform: Platform, look: Callable[..., Look], values: tuple[Any, ...], names: str
) -> None:
    seen = look(january(d12=values))

    (row,) = quarantined(platform)
    assert (row["ts"], row["reason"]) == (
        midnight(date(2022, 1, 12)),
        f"null row: no value for {names}",
    )
    assert row["source"] == "yahoo"
    assert row["payload"]["timestamp"] == str(opened(date(2022, 1, 12)))
    assert sorted(stored(platform, "AAPL")) == [midnight(day) for day in JANUARY if day.day != 12]
    assert seen.accounted == 20


def test_null_minutes_of_an_exchange_are_quarantined_and_the_others_stored(
    platform: Platform, point: Point, running: ExitStack
) -> None:
    lab = running.enter_context(BinanceLab())
    first = datetime(2022, 1, 4, tzinfo=UTC)
    rows = [Row(first + timedelta(minutes=number)) for number in range(60)]
    lab.put("BTCUSDT", "1m", rows)
    lab.data_faults.add("null_rows")
    point("crypto", "binance", lab.url, "BTC/USDT")

    collect(platform, "crypto", "1m", "BTC/USDT", date(2022, 1, 4), date(2022, 1, 5))

    (row,) = quarantined(platform)
    assert (row["ts"], row["reason"]) == (
        first + timedelta(minutes=30),
        "null row: no value for open, close",
    )
    assert sorted({*stored(platform, "BTC/USDT"), row["ts"]}) == [each.ts for each in rows]


def test_a_split_that_prices_contradict_is_not_applied_and_raises_an_alert(
    platform: Platform, point: Point, running: ExitStack
) -> None:
    lab = running.enter_context(AlpacaLab(page_rows=1000))
    days = [datetime(day.year, day.month, day.day, tzinfo=NEW_YORK) for day in JANUARY]
    lab.put("AAPL", "1d", [AlpacaRow(day, *PLAIN[:5], vwap=100.0) for day in days])
    split = {"symbol": "AAPL", "new_rate": 4, "old_rate": 1, "ex_date": "2022-01-12"}
    lab.script.action_pages = [{"forward_splits": [split]}]
    point("us", "alpaca", lab.url, "AAPL", alpaca_api_key=KEY_ID, alpaca_secret=SECRET)
    collect(platform, "us", "1d", "AAPL", date(2022, 1, 1), date(2022, 2, 1))

    report = platform.action_collector().collect(["AAPL"])

    # 100.5 on Tuesday, 100 at the open on Wednesday; 4 to 1 would have made it about 25.
    note = (
        "prices contradict it: 100.5 on 2022-01-11 to 100 on 2022-01-12 is a factor of 1.005, not 4"
    )
    assert report.not_applied == {"AAPL 2022-01-12 split alpaca": note}
    rows = query(platform, "SELECT ratio, applied, note FROM public.corporate_actions")
    assert rows == [{"ratio": 4.0, "applied": False, "note": note}]
    (alert,) = query(platform, "SELECT kind, title FROM public.alerts")
    assert alert["kind"] == "corporate_action_contradicted"
    assert note in alert["title"]
    assert stored(platform, "AAPL") == {midnight(day): PLAIN[:5] for day in JANUARY}


# --- faults that Yahoo has had --------------------------------------------------------------


def recorded_rows(name: str) -> dict[date, tuple[Any, ...]]:
    """Return the daily rows of a table, as Yahoo had them, by session."""
    columns = ("Open", "High", "Low", "Close", "Volume", "Adj Close")
    rows = csv.DictReader(recording(f"yahoo/{name}").decode().splitlines())
    return {
        datetime.fromisoformat(row["Date"]).date(): tuple(float(row[each]) for each in columns)
        for row in rows
    }


@needs_recordings
@pytest.mark.parametrize(
    ("name", "flagged"),
    [
        # Sterling in place of pence, for two weeks.
        (
            "AET-L-1d-100x-error.csv",
            {"2022-05-09": 14.550000190734863 / 0.14550000429153442 - 1, "2022-05-20": -0.99},
        ),
        # Prices before the 22nd were divided by a split of a week later once too often.
        (
            "DEX-AX-1d-bad-stock-split.csv",
            {"2023-05-22": 0.120290003716946 / 0.0529999993741512 - 1},
        ),
    ],
    ids=["100x", "bad split"],
)
def test_the_values_of_a_fault_that_yahoo_has_had_are_stored_and_flagged(
    platform: Platform, point: Point, yahoo: YahooServer, name: str, flagged: dict[str, float]
) -> None:
    rows = recorded_rows(name)
    month = f"{min(rows):%Y-%m}-01"
    wire = [(opened(day, SYDNEY), *values) for day, values in sorted(rows.items())]
    yahoo.put(Series("DEX.AX", "1d", wire, timezone="Australia/Sydney"))
    point("asx", "yahoo", yahoo.base_url, "DEX")

    seen = Look(platform, "asx", "DEX", month)

    inside = {day: values for day, values in rows.items() if f"{day:%Y-%m}-01" == month}
    assert stored(platform, "DEX") == {midnight(day): row[:5] for day, row in inside.items()}
    changes = {day: value for _, day, rule, value in seen.outliers if rule == "price_change"}
    assert changes == pytest.approx(flagged, abs=1e-5)
