"""What is special to Finnhub: months, stamps of days, quotes, splits, the earnings calendar.

Payloads are written by hand after the vendor's specification.
"""

import logging
import os
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from scizor_core.errors import InvalidInputError
from scizor_core.markets import Timeframe
from scizor_resources.errors import (
    AuthError,
    BadRequest,
    ProviderError,
    RateLimited,
    SchemaDrift,
)
from scizor_resources.providers.base import BarRequest, SymbolRef
from scizor_resources.providers.finnhub.source import FinnhubSource
from scizor_resources.providers.finnhub.symbols import from_finnhub_symbol, to_finnhub_symbol
from scizor_resources.providers.gate import Gate
from tests.contract.lab.finnhub import KEY, FinnhubLab, make_source
from tests.contract.lab.server import Reply, Row

#: Saturday; Friday's session in New York was 14:30 to 21:00 UTC.
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
OPEN = datetime(2026, 11, 20, 14, 30, tzinfo=UTC)
FRIDAY = datetime(2026, 11, 20, tzinfo=UTC)
SATURDAY = datetime(2026, 11, 21, tzinfo=UTC)

NO_ACCESS = "You don't have access to this resource."


def ask(
    *symbols: str,
    timeframe: Timeframe = "1m",
    start: datetime = OPEN,
    end: datetime = OPEN + timedelta(minutes=30),
) -> BarRequest:
    refs = tuple(SymbolRef(number + 1, symbol) for number, symbol in enumerate(symbols))
    return BarRequest("us", timeframe, start, end, refs)


@pytest.fixture
def lab() -> Iterator[FinnhubLab]:
    with FinnhubLab() as running:
        yield running


@pytest.fixture
def source(lab: FinnhubLab) -> Iterator[FinnhubSource]:
    opened = make_source(lab, Gate("finnhub", sleep=lambda _seconds: None), lambda: NOW, 5.0)
    yield opened
    opened.close()


# --- candles ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("timeframe", "resolution"), [("1m", "1"), ("5m", "5"), ("15m", "15"), ("1d", "D")]
)
def test_each_timeframe_has_its_resolution(
    lab: FinnhubLab, source: FinnhubSource, timeframe: Timeframe, resolution: str
) -> None:
    source.fetch_bars(ask("BRK-B", timeframe=timeframe, start=FRIDAY, end=SATURDAY))

    [seen] = lab.requests
    assert seen.query == {
        "symbol": "BRK.B",
        "resolution": resolution,
        "from": "1795132800",  # 2026-11-20 00:00 UTC
        "to": "1795219199",
    }


def test_minutes_are_asked_at_most_28_days_at_a_time(
    lab: FinnhubLab, source: FinnhubSource
) -> None:
    lab.put("AAPL", "1m", [Row(OPEN)])

    batch = source.fetch_bars(ask("AAPL", start=SATURDAY - timedelta(days=60), end=SATURDAY))

    spans = [int(seen.query["to"]) + 1 - int(seen.query["from"]) for seen in lab.requests]
    assert spans == [28 * 86_400, 28 * 86_400, 4 * 86_400]
    assert (len(batch.bars), batch.requests) == (1, 3)


def test_years_of_days_are_one_call(lab: FinnhubLab, source: FinnhubSource) -> None:
    start = datetime(2010, 1, 1, tzinfo=UTC)

    source.fetch_bars(ask("AAPL", timeframe="1d", start=start, end=SATURDAY))

    assert len(lab.requests) == 1


def test_a_daily_stamp_is_the_open_or_the_date_at_midnight_utc(
    lab: FinnhubLab, source: FinnhubSource
) -> None:
    lab.put(
        "AAPL",
        "1d",
        [
            Row(datetime(2026, 10, 29, 13, 30, tzinfo=UTC)),  # the open, summer time
            Row(datetime(2026, 10, 30, 4, 0, tzinfo=UTC)),  # midnight in New York
            Row(datetime(2026, 11, 2, 14, 30, tzinfo=UTC)),  # the open, winter time
            Row(datetime(2026, 11, 3, 0, 0, tzinfo=UTC)),  # the date
        ],
    )
    start, end = datetime(2026, 10, 29, tzinfo=UTC), datetime(2026, 11, 4, tzinfo=UTC)

    batch = source.fetch_bars(ask("AAPL", timeframe="1d", start=start, end=end))

    assert [ts.isoformat()[:16] for ts in batch.bars["ts"]] == [
        "2026-10-29T00:00",
        "2026-10-30T00:00",
        "2026-11-02T00:00",
        "2026-11-03T00:00",
    ]
    assert batch.rejected.empty


def test_no_data_is_a_stated_result(lab: FinnhubLab, source: FinnhubSource) -> None:
    lab.replies = [Reply({"c": None, "s": "no_data", "t": None})]

    batch = source.fetch_bars(ask("AAPL"))

    assert "Finnhub has no 1m bars of AAPL" in batch.empty_reasons["AAPL"]


def test_minutes_after_the_close_are_counted_and_left(
    lab: FinnhubLab, source: FinnhubSource
) -> None:
    close = OPEN + timedelta(hours=6, minutes=30)
    lab.put("AAPL", "1m", [Row(close + timedelta(minutes=number - 1)) for number in range(4)])

    batch = source.fetch_bars(ask("AAPL", end=SATURDAY))

    assert len(batch.bars) == 1
    assert batch.ignored == {"outside the regular session": 3}


def test_daily_prices_are_declared_as_adjusted(source: FinnhubSource) -> None:
    assert source.capabilities.adjusted
    assert source.capabilities.needs_key


LISTS: dict[str, Any] = {name: [1] for name in ("t", "o", "h", "l", "c", "v")}


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ([], "'s' is None"),
        ({"s": "error"}, "'s' is 'error'"),
        ({"s": "ok"}, "'t' is not a list"),
        ({"s": "ok", **LISTS, "l": [1, 2]}, "'l' does not have one value"),
        ({"s": "ok", **LISTS, "v": None}, "'v' does not have one value"),
    ],
)
def test_an_answer_of_another_shape_is_schema_drift(
    lab: FinnhubLab, source: FinnhubSource, answer: Any, found: str
) -> None:
    lab.replies = [Reply(answer)]

    with pytest.raises(SchemaDrift, match=found):
        source.fetch_bars(ask("AAPL"))


# --- refusals -----------------------------------------------------------------------------


@pytest.mark.parametrize("status", [403, 401, 200])
def test_a_plan_without_candles_is_an_auth_error_with_advice(
    lab: FinnhubLab, source: FinnhubSource, status: int
) -> None:
    lab.replies = [Reply({"error": NO_ACCESS}, status)]

    with pytest.raises(AuthError, match="The plan of this key.*candles") as caught:
        source.fetch_bars(ask("AAPL", "MSFT"))

    assert NO_ACCESS.rstrip(".") in str(caught.value)
    assert len(lab.requests) == 1


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply({"error": "API limit reached. Please try again later."}, 200), RateLimited),
        (Reply({"error": "Invalid API key"}, 401), AuthError),
        (Reply({"error": "Wrong resolution"}, 422), BadRequest),
        (Reply({"error": "Symbol not supported"}, 200), BadRequest),
    ],
    ids=["limit", "key", "422", "words alone"],
)
def test_a_refusal_has_the_name_that_its_words_mean(
    lab: FinnhubLab, source: FinnhubSource, reply: Reply, kind: type[ProviderError]
) -> None:
    lab.replies = [reply]

    with pytest.raises(kind):
        source.fetch_quote("AAPL")


def test_without_a_key_nothing_is_asked(lab: FinnhubLab) -> None:
    source = FinnhubSource(Gate("finnhub"), base_url=lab.url, now=lambda: NOW)

    with pytest.raises(AuthError, match="without a key"):
        source.fetch_bars(ask("AAPL"))

    assert lab.requests == []


def test_the_key_shows_nowhere(
    lab: FinnhubLab, source: FinnhubSource, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    lab.replies = [Reply({"error": f"Invalid API key {KEY}"}, 401)]

    with pytest.raises(AuthError) as caught:
        source.fetch_bars(ask("AAPL"))

    [seen] = lab.requests
    assert seen.headers["x-finnhub-token"] == KEY
    shown = [str(caught.value), repr(caught.value), repr(source), repr(vars(source)), caplog.text]
    for text in (*shown, seen.path, repr(seen.query)):
        assert KEY not in text


# --- quotes, splits, earnings -------------------------------------------------------------


def test_a_quote_has_its_prices_and_time(lab: FinnhubLab, source: FinnhubSource) -> None:
    lab.quotes["AAPL"] = {"c": 261.74, "d": 1.5, "dp": 0.5764, "h": 263.31, "l": 260.68,
                          "o": 261.07, "pc": 260.24, "t": 1795208400}  # fmt: skip

    quote = source.fetch_quote("AAPL")

    assert (quote.price, quote.open, quote.high, quote.low) == (261.74, 261.07, 263.31, 260.68)
    assert (quote.previous_close, quote.change, quote.change_percent) == (260.24, 1.5, 0.5764)
    assert quote.ts == datetime(2026, 11, 20, 21, 0, tzinfo=UTC)


def test_a_quote_without_time_is_a_quote(lab: FinnhubLab, source: FinnhubSource) -> None:
    lab.quotes["AAPL"] = {"c": 2, "d": None, "dp": None, "h": 2, "l": 1, "o": 1, "pc": 1}

    assert source.fetch_quote("AAPL").ts is None


def test_a_quote_of_zeros_is_an_unknown_symbol(source: FinnhubSource) -> None:
    with pytest.raises(BadRequest, match="does not know the symbol 'NOSUCH'"):
        source.fetch_quote("NOSUCH")


@pytest.mark.parametrize("answer", [[], {"c": None}, {"c": "261"}])
def test_a_quote_without_prices_is_schema_drift(
    lab: FinnhubLab, source: FinnhubSource, answer: Any
) -> None:
    lab.replies = [Reply(answer)]

    with pytest.raises(SchemaDrift):
        source.fetch_quote("AAPL")


def test_splits_have_their_ratio_and_exclude_the_end(
    lab: FinnhubLab, source: FinnhubSource
) -> None:
    lab.splits = [
        {"symbol": "AAPL", "date": "2020-08-31", "fromFactor": 1, "toFactor": 4},
        {"symbol": "AAPL", "date": "2014-06-09", "fromFactor": 1, "toFactor": 7},
        {"symbol": "AAPL", "date": "2005-02-28", "fromFactor": 1, "toFactor": 2},
    ]

    splits = source.fetch_splits("AAPL", date(2005, 2, 28), date(2020, 8, 31))

    assert [(str(each.ex_date), each.ratio_from, each.ratio_to) for each in splits] == [
        ("2005-02-28", 1.0, 2.0),
        ("2014-06-09", 1.0, 7.0),
    ]
    assert {(each.kind, each.source, each.market) for each in splits} == {
        ("split", "finnhub", "us")
    }
    assert (lab.requests[0].query["from"], lab.requests[0].query["to"]) == (
        "2005-02-28",
        "2020-08-30",
    )


@pytest.mark.parametrize(
    "answer",
    [{}, [{"date": "2020-08-31"}], [{"date": "soon", "fromFactor": 1, "toFactor": 4}],
     [{"date": "2020-08-31", "fromFactor": 0, "toFactor": 4}]],
    ids=["no list", "no ratio", "no date", "zero"],
)  # fmt: skip
def test_splits_that_cannot_be_read_are_schema_drift(
    lab: FinnhubLab, source: FinnhubSource, answer: Any
) -> None:
    lab.replies = [Reply(answer)]

    with pytest.raises(SchemaDrift, match="/stock/split"):
        source.fetch_splits("AAPL", date(2020, 1, 1), date(2021, 1, 1))


# --- symbols ------------------------------------------------------------------------------


@pytest.mark.parametrize("symbol", ["AAPL", "BRK.B"])
def test_symbols_map_both_ways(symbol: str) -> None:
    assert from_finnhub_symbol("us", to_finnhub_symbol("us", symbol)) == symbol


@pytest.mark.parametrize("convert", [to_finnhub_symbol, from_finnhub_symbol])
@pytest.mark.parametrize(("market", "symbol"), [("asx", "CBA"), ("crypto", "BTC/USD")])
def test_only_symbols_of_the_us_are_mapped(
    convert: Callable[[str, str], str], market: str, symbol: str
) -> None:
    with pytest.raises(InvalidInputError, match="only us"):
        convert(market, symbol)


# --- the vendor's specification -----------------------------------------------------------

RECORDINGS = os.environ.get("SCIZOR_RECORDINGS", "")


@pytest.mark.skipif(
    not RECORDINGS,
    reason="set SCIZOR_RECORDINGS to a directory of recorded payloads (finnhub/openapi.yaml)",
)
@pytest.mark.parametrize(
    ("schema", "fields"),
    [
        ("StockCandles", {"s", "t", "o", "h", "l", "c", "v"}),
        ("Quote", {"c", "d", "dp", "h", "l", "o", "pc"}),
        ("Split", {"symbol", "date", "fromFactor", "toFactor"}),
        ("EarningRelease", {"symbol", "date", "hour", "year", "quarter", "epsEstimate",
                            "epsActual", "revenueEstimate", "revenueActual"}),
    ],
)  # fmt: skip
def test_the_fields_read_are_those_of_the_specification(schema: str, fields: set[str]) -> None:
    import yaml

    text = (Path(RECORDINGS) / "finnhub" / "openapi.yaml").read_text(encoding="utf-8")
    specified = yaml.load(text, Loader=yaml.CSafeLoader)["components"]["schemas"][schema]

    assert fields <= set(specified["properties"])
