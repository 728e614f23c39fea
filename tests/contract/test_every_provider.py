"""The contract that every bar provider keeps, run against each adapter and its lab.

The adapters work through their real SDKs against servers on loopback; the faults are those that
real providers have shown. What a fault must lead to is the same for all of them.
"""

import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest

from scizor_resources.errors import AuthError, ProviderError, RateLimited, TransientError
from scizor_resources.providers.base import (
    REJECTED_COLUMNS,
    SOURCE_BAR_COLUMNS,
    BarBatch,
    BarRequest,
    SymbolRef,
)
from scizor_resources.providers.gate import Gate
from tests.contract import lab
from tests.contract.lab.labs import Provider
from tests.contract.lab.server import RETRY_AFTER_SECONDS, Row

_LABS = sorted(module.name for module in pkgutil.iter_modules(lab.__path__))
PROVIDERS: tuple[Provider, ...] = tuple(
    provider
    for name in _LABS
    for provider in getattr(importlib.import_module(f"tests.contract.lab.{name}"), "PROVIDERS", ())
)

#: Friday 2026-11-20, 15:00 UTC: New York has been open for half an hour. Sydney is closed.
NOW = datetime(2026, 11, 20, 15, 0, 30, tzinfo=UTC)
#: Where each market was open for the half hour asked for.
FIRST = {
    "us": datetime(2026, 11, 20, 14, 30, tzinfo=UTC),
    "crypto": datetime(2026, 11, 20, 14, 30, tzinfo=UTC),
    "asx": datetime(2026, 11, 20, 0, 0, tzinfo=UTC),
}
#: The longest wait for an answer: short, as silent servers use it up, and long for a busy machine.
TIMEOUT_SECONDS = 2.0


class Waits:
    """Stands in for `time.sleep`; remembers what it was asked to wait."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


class Setting:
    """A provider's lab, its adapter, and how the platform asks it."""

    def __init__(self, provider: Provider, running: Any) -> None:
        self.provider, self.lab, self.waits = provider, running, Waits()
        self.gate = Gate(provider.name, sleep=self.waits)
        self.first = FIRST[provider.market]
        minutes = 60 if provider.market == "asx" else 31
        self.now = self.first + timedelta(minutes=minutes, seconds=30)
        self.source = provider.source(running, self.gate, lambda: self.now, TIMEOUT_SECONDS)

    def minutes(self, count: int, start: datetime | None = None) -> list[Row]:
        first = start or self.first
        return [
            Row(
                first + timedelta(minutes=number),
                100.0 + number,
                101.0 + number,
                99.0 + number,
                100.5 + number,
                1000.0 + number,
            )
            for number in range(count)
        ]

    def put(self, rows: list[Row], symbol: int = 0) -> None:
        self.lab.put(self.provider.wire_symbols[symbol], "1m", rows)

    def fetch(self, *symbols: int, minutes: int = 31) -> BarBatch:
        chosen = symbols or (0,)
        return self.source.fetch_bars(
            BarRequest(
                self.provider.market,
                "1m",
                self.first,
                self.first + timedelta(minutes=minutes),
                tuple(SymbolRef(n + 1, self.provider.symbols[n]) for n in chosen),
            )
        )


@pytest.fixture(params=PROVIDERS, ids=lambda provider: provider.name)
def setting(request: pytest.FixtureRequest) -> Iterator[Setting]:
    provider: Provider = request.param
    skips = dict(provider.skips)
    fault = request.node.get_closest_marker("fault")
    if fault is not None and fault.args[0] in skips:
        pytest.skip(f"{provider.name}: {skips[fault.args[0]]}")
    with provider.lab() as running:
        setting = Setting(provider, running)
        yield setting
        close = getattr(setting.source, "close", None)
        if close is not None:
            close()


def closes(batch: BarBatch, symbol: str) -> list[float]:
    return list(batch.bars.loc[batch.bars["symbol"] == symbol, "close"])


def test_bars_arrive_as_the_venue_has_them(setting: Setting) -> None:
    rows = setting.minutes(5)
    setting.put(rows)

    bars = setting.fetch().bars

    assert list(bars.columns) == list(SOURCE_BAR_COLUMNS)
    assert str(bars["ts"].dtype) == "datetime64[us, UTC]"
    assert list(bars["ts"]) == [pd.Timestamp(row.ts) for row in rows]
    for name in ("open", "high", "low", "close", "volume"):
        assert list(bars[name]) == [getattr(row, name) for row in rows]
    assert all(source.startswith(setting.source.name) for source in bars["source"])
    assert set(bars["symbol"]) == {setting.provider.symbols[0]}


def test_two_symbols_are_told_apart(setting: Setting) -> None:
    setting.put(setting.minutes(3), symbol=0)
    setting.put([replace(row, close=row.open - 0.5) for row in setting.minutes(4)], symbol=1)

    batch = setting.fetch(0, 1)

    assert closes(batch, setting.provider.symbols[0]) == [100.5, 101.5, 102.5]
    assert closes(batch, setting.provider.symbols[1]) == [99.5, 100.5, 101.5, 102.5]


def test_bars_outside_the_window_are_not_returned(setting: Setting) -> None:
    setting.put(setting.minutes(20))

    assert len(setting.fetch(minutes=10).bars) == 10


@pytest.mark.fault("partial_last")
def test_the_bar_that_still_runs_is_not_final(setting: Setting) -> None:
    running = setting.now.replace(second=0)
    setting.put([*setting.minutes(3), *setting.minutes(1, start=running)])

    bars = setting.fetch(minutes=90).bars

    assert list(bars["is_final"]) == [True, True, True, False]


@pytest.mark.fault("null_rows")
def test_a_null_row_is_refused_with_its_reason_and_the_rest_kept(setting: Setting) -> None:
    setting.put(setting.minutes(5))
    setting.lab.data_faults.add("null_rows")

    batch = setting.fetch()

    assert len(batch.bars) == 4
    (row,) = batch.rejected.to_dict("records")
    assert list(batch.rejected.columns) == list(REJECTED_COLUMNS)
    assert "null row" in row["reason"]
    assert row["ts"] == setting.first + timedelta(minutes=2)


@pytest.mark.fault("nan_text")
def test_nan_text_is_refused_with_its_reason_and_the_rest_kept(setting: Setting) -> None:
    setting.put(setting.minutes(5))
    setting.lab.data_faults.add("nan_text")

    batch = setting.fetch()

    assert len(batch.bars) == 4
    (row,) = batch.rejected.to_dict("records")
    assert "high, low" in row["reason"]


@pytest.mark.fault("duplicate_rows")
def test_a_repeated_row_is_refused_and_the_first_kept(setting: Setting) -> None:
    setting.put(setting.minutes(5))
    setting.lab.data_faults.add("duplicate_rows")

    batch = setting.fetch()

    assert len(batch.bars) == 5
    (row,) = batch.rejected.to_dict("records")
    assert "repeated row" in row["reason"]


@pytest.mark.fault("out_of_order")
def test_rows_out_of_order_are_put_in_order(setting: Setting) -> None:
    setting.put(setting.minutes(5))
    setting.lab.data_faults.add("out_of_order")

    batch = setting.fetch()

    assert batch.bars["ts"].is_monotonic_increasing
    assert closes(batch, setting.provider.symbols[0]) == [100.5, 101.5, 102.5, 103.5, 104.5]
    assert batch.rejected.empty


@pytest.mark.fault("page_limit")
def test_every_page_is_fetched(setting: Setting) -> None:
    assert setting.provider.page_rows is not None
    count = setting.provider.page_rows + 20
    # Of a market with sessions the half hour has to do, so that its lab's pages are short.
    start = setting.first
    if setting.provider.market == "crypto":
        start -= timedelta(minutes=count)
    setting.put(setting.minutes(count, start=start))
    request = BarRequest(
        setting.provider.market,
        "1m",
        start,
        start + timedelta(minutes=count),
        (SymbolRef(1, setting.provider.symbols[0]),),
    )

    bars = setting.source.fetch_bars(request).bars

    assert len(bars) == count
    assert bars["ts"].is_unique


@pytest.mark.fault("empty_page")
def test_no_rows_is_a_stated_result(setting: Setting) -> None:
    setting.put(setting.minutes(5))
    setting.lab.data_faults.add("empty_page")

    batch = setting.fetch()

    assert batch.bars.empty
    assert setting.provider.symbols[0] in batch.empty_reasons[setting.provider.symbols[0]]


@pytest.mark.fault("unknown_symbol")
def test_an_unknown_symbol_does_not_take_the_others_with_it(setting: Setting) -> None:
    setting.put(setting.minutes(3), symbol=0)

    batch = setting.fetch(0, 1)

    known, unknown = setting.provider.symbols
    assert len(closes(batch, known)) == 3
    assert closes(batch, unknown) == []
    assert (batch.errors.get(unknown) or batch.empty_reasons.get(unknown, "")).strip()


@pytest.mark.fault("clock_skew")
def test_a_bar_from_the_future_is_refused(setting: Setting) -> None:
    ahead = setting.now.replace(second=0) + timedelta(minutes=3)
    setting.put([*setting.minutes(2), *setting.minutes(1, start=ahead)])

    batch = setting.fetch(minutes=90)

    assert len(batch.bars) == 2
    (row,) = batch.rejected.to_dict("records")
    assert "future" in row["reason"]


@pytest.mark.fault("rate_limited")
def test_a_refusal_for_too_many_requests_has_that_name(setting: Setting) -> None:
    setting.put(setting.minutes(3))
    setting.lab.inject("rate_limited")

    with pytest.raises(RateLimited) as caught:
        setting.fetch()

    assert caught.value.provider == setting.source.name
    assert len(setting.lab.data_requests) == 1


@pytest.mark.fault("rate_limited_retry_after")
def test_a_rest_that_the_provider_asks_for_is_taken(setting: Setting) -> None:
    setting.put(setting.minutes(3))
    setting.lab.inject("rate_limited_retry_after", times=1)

    batch = setting.fetch()

    assert len(batch.bars) == 3
    assert RETRY_AFTER_SECONDS in setting.waits.seconds


@pytest.mark.fault("server_error")
def test_one_server_error_is_got_over(setting: Setting) -> None:
    setting.put(setting.minutes(3))
    setting.lab.inject("server_error", times=1)

    batch = setting.fetch()

    assert len(batch.bars) == 3
    assert batch.retries == 1


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(name, marks=pytest.mark.fault(name))
        for name in ("server_error", "cut_body", "slow_drip", "html", "silence")
    ],
)
def test_a_broken_answer_is_an_error_and_never_no_data(setting: Setting, fault: str) -> None:
    setting.put(setting.minutes(3))
    setting.lab.inject(fault)
    # That it is tried again is another test's claim, and silence takes its time.
    setting.gate.attempts = 1

    with pytest.raises(TransientError) as caught:
        setting.fetch()

    assert caught.value.provider == setting.source.name


@pytest.mark.fault("invalid_credentials")
def test_refused_credentials_are_an_error_of_that_name(setting: Setting) -> None:
    setting.put(setting.minutes(3))
    setting.lab.inject("invalid_credentials")

    with pytest.raises(AuthError):
        setting.fetch()


@pytest.mark.fault("refused")
def test_a_refused_connection_is_an_error_and_never_no_data(setting: Setting) -> None:
    setting.lab.stop()

    with pytest.raises(TransientError):
        setting.fetch()


@pytest.mark.fault("unknown_market")
def test_a_market_that_is_not_served_is_a_clear_refusal(setting: Setting) -> None:
    unserved = {"asx", "us", "crypto"} - setting.source.capabilities.markets
    if not unserved:
        pytest.skip(f"{setting.provider.name} serves every market")
    request = BarRequest(
        unserved.pop(),
        "1m",
        setting.first,
        setting.first + timedelta(minutes=5),
        (SymbolRef(1, "CBA"),),
    )

    with pytest.raises(ProviderError, match="does not serve"):
        setting.source.fetch_bars(request)
