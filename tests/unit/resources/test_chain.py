"""The chain: who is asked for what, in which order, and what is said when nobody has it."""

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from scizor_core.markets import TIMEFRAMES, Timeframe
from scizor_resources.chain import ChainAnswer, fetch_through
from scizor_resources.errors import BadRequest, ProviderError, TransientError
from scizor_resources.providers.base import (
    BarBatch,
    BarRequest,
    BarSource,
    Capabilities,
    SymbolRef,
    empty_rejected,
    normalise_bars,
)

# Four sessions of New York, 09:30 to 16:00, which is 14:30 to 21:00 UTC in January.
MONDAY = datetime(2022, 1, 10, tzinfo=UTC)
FRIDAY = datetime(2022, 1, 14, tzinfo=UTC)


class Fake:
    """A source with one bar at 15:00 of each day it has, or an error."""

    def __init__(
        self,
        name: str,
        days: dict[str, list[int]] | None = None,
        *,
        error: ProviderError | None = None,
        errors: dict[str, str] | None = None,
        covers: bool = False,
        timeframes: tuple[Timeframe, ...] = TIMEFRAMES,
        market: str = "us",
    ) -> None:
        self.name = name
        self.asked: list[BarRequest] = []
        self._days, self._error, self._errors = days or {}, error, errors or {}
        self._covers, self._timeframes, self._market = covers, timeframes, market

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(frozenset({self._market}), frozenset(self._timeframes))

    def fetch_bars(self, request: BarRequest) -> BarBatch:
        self.asked.append(request)
        if self._error is not None:
            raise self._error
        hour = timedelta(0) if request.timeframe == "1d" else timedelta(hours=15)
        rows = [
            {"symbol": ref.symbol, "ts": datetime(2022, 1, day, tzinfo=UTC) + hour}
            for ref in request.symbols
            for day in self._days.get(ref.symbol, [])
        ]
        rows = [row for row in rows if request.start <= row["ts"] < request.end]
        prices = dict.fromkeys(("open", "high", "low", "close", "volume"), 1.0)
        frame = pd.DataFrame(rows, columns=["symbol", "ts"]).assign(**prices, source=self.name)
        batch = BarBatch(normalise_bars(frame), empty_rejected(), requests=1, latency_seconds=0.5)
        present = set(batch.bars["symbol"])
        batch.errors = {
            ref.symbol: why for ref in request.symbols if (why := self._errors.get(ref.symbol))
        }
        batch.empty_reasons = {
            ref.symbol: "no such bars" for ref in request.symbols if ref.symbol not in present
        }
        if self._covers:
            batch.covered = [(ref.symbol, request.start, request.end) for ref in request.symbols]
        return batch

    def symbols_asked(self) -> list[list[str]]:
        return [[ref.symbol for ref in request.symbols] for request in self.asked]


def ask(*sources: BarSource, symbols: str = "AAPL", timeframe: Timeframe = "1m") -> ChainAnswer:
    refs = tuple(SymbolRef(number, name) for number, name in enumerate(symbols.split(), start=1))
    return fetch_through(list(sources), BarRequest("us", timeframe, MONDAY, FRIDAY, refs))


def got(answer: ChainAnswer) -> list[tuple[str, int, str]]:
    rows = answer.batch.bars.sort_values(["symbol", "ts"])
    return [(row.symbol, row.ts.day, row.source) for row in rows.itertuples()]


WHOLE = [10, 11, 12, 13]


def test_nobody_else_is_asked_where_the_first_source_has_everything() -> None:
    second = Fake("second", {"AAPL": WHOLE})
    answer = ask(Fake("first", {"AAPL": WHOLE}), second)
    assert got(answer) == [("AAPL", day, "first") for day in WHOLE]
    assert (second.asked, answer.asked, answer.batch.empty_reasons) == ([], ["first"], {})


def test_a_symbol_that_the_first_has_not_goes_to_the_next() -> None:
    second = Fake("second", {"MSFT": WHOLE})
    answer = ask(Fake("first", {"AAPL": WHOLE}), second, symbols="AAPL MSFT")
    assert second.symbols_asked() == [["MSFT"]]
    assert {row[2] for row in got(answer) if row[0] == "MSFT"} == {"second"}


def test_sessions_that_the_first_has_not_go_to_the_next() -> None:
    second = Fake("second", {"AAPL": WHOLE})
    answer = ask(Fake("first", {"AAPL": [10, 13]}), second)
    assert [(r.start, r.end) for r in second.asked] == [
        (datetime(2022, 1, 11, 14, 30, tzinfo=UTC), datetime(2022, 1, 12, 21, tzinfo=UTC))
    ]
    assert got(answer) == [
        ("AAPL", 10, "first"),
        ("AAPL", 11, "second"),
        ("AAPL", 12, "second"),
        ("AAPL", 13, "first"),
    ]


@pytest.mark.parametrize("timeframe", ["1m", "1d"])
def test_a_session_is_never_mixed_from_two_sources(timeframe: Timeframe) -> None:
    answer = ask(
        Fake("first", {"AAPL": [11, 12]}), Fake("second", {"AAPL": WHOLE}), timeframe=timeframe
    )
    assert got(answer) == [
        ("AAPL", 10, "second"),
        ("AAPL", 11, "first"),
        ("AAPL", 12, "first"),
        ("AAPL", 13, "second"),
    ]


def test_symbols_with_the_same_hole_are_asked_together() -> None:
    second = Fake("second")
    ask(
        Fake("first", {"AAPL": [10, 11], "MSFT": [10, 11], "IBM": [10]}),
        second,
        symbols="AAPL IBM MSFT",
    )
    assert second.symbols_asked() == [["AAPL", "MSFT"], ["IBM"]]


def test_what_a_source_has_seen_counts_only_for_sessions_that_are_its_own() -> None:
    answer = ask(Fake("first", {"AAPL": [11]}), Fake("second", {"AAPL": WHOLE}, covers=True))
    assert [(first.day, last.day) for _, first, last in answer.batch.covered] == [
        (10, 10),
        (12, 12),
        (13, 13),
    ]


def test_a_source_that_fails_is_noted_and_the_next_is_asked() -> None:
    error = TransientError("It timed out.", provider="first")
    answer = ask(Fake("first", error=error), Fake("second", {"AAPL": WHOLE}))
    assert {row[2] for row in got(answer)} == {"second"}
    assert (answer.failures, answer.last_error) == ({"first": "It timed out."}, error)
    assert answer.asked == ["first", "second"]


def test_an_error_is_never_taken_for_an_empty_answer() -> None:
    answer = ask(Fake("first", error=BadRequest("No such symbol.", provider="first")))
    assert answer.failures == {"first": "No such symbol."}
    assert answer.batch.empty_reasons == {"AAPL": "first: No such symbol."}


def test_an_error_that_is_no_provider_s_is_not_swallowed() -> None:
    class Broken(Fake):
        def fetch_bars(self, request: BarRequest) -> BarBatch:
            raise ZeroDivisionError(request.market)

    with pytest.raises(ZeroDivisionError):
        ask(Broken("first"), Fake("second"))


def test_a_symbol_nobody_has_is_told_with_everybody_s_reason() -> None:
    answer = ask(
        Fake("first", errors={"AAPL": "its file is damaged"}),
        Fake("second", error=TransientError("It timed out.", provider="second")),
        Fake("third", timeframes=("1d",)),
        Fake("fourth", market="crypto"),
        Fake("fifth"),
    )
    assert answer.batch.empty_reasons == {
        "AAPL": "first: its file is damaged; second: It timed out.; "
        "third: does not serve us 1m; fourth: does not serve us 1m; fifth: no such bars"
    }
    assert answer.asked == ["first", "second", "fifth"]


def test_a_symbol_with_bars_has_no_reason() -> None:
    answer = ask(Fake("first"), Fake("second", {"AAPL": [10]}))
    assert answer.batch.empty_reasons == {}


def test_without_a_provider_that_is_the_reason() -> None:
    assert ask().batch.empty_reasons == {"AAPL": "no provider is configured"}


def test_calls_and_waiting_add_up() -> None:
    batch = ask(Fake("first"), Fake("second")).batch
    assert (batch.requests, batch.latency_seconds) == (2, 1.0)
