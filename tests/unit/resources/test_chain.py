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
    """A source with every minute of each day it has but those of `gaps`, or an error.

    A gap is (day, first minute, last minute) counted from the open; `breaks_off` is an instant
    from which on it fails, with what came before kept.
    """

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
        gaps: tuple[tuple[int, int, int], ...] = (),
        price: float = 1.0,
        whole_sessions_only: bool = False,
    ) -> None:
        self.name, self._gaps, self._price = name, gaps, price
        self._whole = whole_sessions_only
        self.asked: list[BarRequest] = []
        self._days, self._error, self._errors = days or {}, error, errors or {}
        self._covers, self._timeframes, self._market = covers, timeframes, market

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            frozenset({self._market}),
            frozenset(self._timeframes),
            whole_sessions_only=self._whole,
        )

    def fetch_bars(self, request: BarRequest) -> BarBatch:
        self.asked.append(request)
        if self._error is not None:
            raise self._error
        rows = [
            {"symbol": ref.symbol, "ts": ts}
            for ref in request.symbols
            for day in self._days.get(ref.symbol, [])
            for ts in self._times(day, request.timeframe)
        ]
        rows = [row for row in rows if request.start <= row["ts"] < request.end]
        prices = dict.fromkeys(("open", "high", "low", "close", "volume"), self._price)
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

    def _times(self, day: int, timeframe: Timeframe) -> list[datetime]:
        midnight = datetime(2022, 1, day, tzinfo=UTC)
        if timeframe == "1d":
            return [midnight]
        minutes = set(range(390)) - {
            minute
            for gap_day, first, last in self._gaps
            if gap_day == day
            for minute in range(first, last + 1)
        }
        opening = midnight + timedelta(hours=14, minutes=30)
        return [opening + timedelta(minutes=minute) for minute in sorted(minutes)]

    def symbols_asked(self) -> list[list[str]]:
        return [[ref.symbol for ref in request.symbols] for request in self.asked]


def ask(*sources: BarSource, symbols: str = "AAPL", timeframe: Timeframe = "1m") -> ChainAnswer:
    refs = tuple(SymbolRef(number, name) for number, name in enumerate(symbols.split(), start=1))
    return fetch_through(
        list(sources), BarRequest("us", timeframe, MONDAY, FRIDAY, refs), now=FRIDAY
    )


def got(answer: ChainAnswer) -> list[tuple[str, int, str]]:
    """Return symbol, day and source of the bars, each once."""
    rows = answer.batch.bars.sort_values(["symbol", "ts"])
    assert not rows.duplicated(["symbol", "ts"]).any()
    days = rows.assign(day=rows["ts"].dt.day)[["symbol", "day", "source"]].drop_duplicates()
    return list(days.itertuples(index=False, name=None))


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
def test_a_session_that_one_source_has_is_not_asked_of_another(timeframe: Timeframe) -> None:
    answer = ask(
        Fake("first", {"AAPL": [11, 12]}), Fake("second", {"AAPL": WHOLE}), timeframe=timeframe
    )
    assert got(answer) == [
        ("AAPL", 10, "second"),
        ("AAPL", 11, "first"),
        ("AAPL", 12, "first"),
        ("AAPL", 13, "second"),
    ]


def at(day: int, minute: int) -> datetime:
    """Return a minute of a session, counted from the open."""
    return datetime(2022, 1, day, 14, 30, tzinfo=UTC) + timedelta(minutes=minute)


def test_only_a_hole_inside_a_session_is_asked_of_the_next() -> None:
    second = Fake("second", {"AAPL": WHOLE})
    answer = ask(Fake("first", {"AAPL": WHOLE}, gaps=((11, 60, 89),)), second)
    assert [(r.start, r.end) for r in second.asked] == [(at(11, 60), at(11, 90))]
    bars = answer.batch.bars
    assert len(bars) == 4 * 390
    assert set(bars.loc[bars["source"] == "second", "ts"]) == {at(11, n) for n in range(60, 90)}


def test_a_few_quiet_minutes_are_no_hole() -> None:
    second = Fake("second", {"AAPL": WHOLE})
    ask(Fake("first", {"AAPL": WHOLE}, gaps=((11, 60, 73), (12, 0, 3))), second)
    assert second.asked == []


def test_where_a_source_broke_off_even_one_minute_is_asked_of_the_next() -> None:
    second = Fake("second", {"AAPL": WHOLE})
    first = Fake(
        "first", {"AAPL": WHOLE}, gaps=((13, 385, 389),), errors={"AAPL": "connection lost"}
    )
    answer = ask(first, second)
    assert [(r.start, r.end) for r in second.asked] == [(at(13, 385), at(13, 390))]
    assert len(answer.batch.bars) == 4 * 390


def test_each_of_several_short_holes_of_a_source_that_broke_off_is_filled() -> None:
    second = Fake("second", {"AAPL": WHOLE})
    gaps = ((11, 60, 63), (12, 100, 104), (13, 385, 389))
    first = Fake("first", {"AAPL": WHOLE}, gaps=gaps, errors={"AAPL": "connection lost"})
    answer = ask(first, second)
    assert len(answer.batch.bars) == 4 * 390
    assert answer.incomplete == {}


def test_bars_that_break_off_and_that_nobody_else_has_are_told() -> None:
    first = Fake(
        "first", {"AAPL": WHOLE}, gaps=((13, 385, 389),), errors={"AAPL": "connection lost"}
    )
    answer = ask(first, Fake("second"))
    assert answer.incomplete == {"AAPL": "connection lost"}


def test_the_first_minutes_of_a_session_go_to_the_next_where_the_first_has_none() -> None:
    second = Fake("second", {"AAPL": WHOLE})
    request = BarRequest("us", "1m", at(12, 0), at(13, 390), (SymbolRef(1, "AAPL"),))
    answer = fetch_through([Fake("first", {"AAPL": [12]}), second], request, now=at(13, 5))
    assert [(r.start, r.end) for r in second.asked] == [(at(13, 0), at(13, 5))]
    assert len(answer.batch.bars) == 390 + 5


def test_days_that_have_not_begun_are_not_asked_of_the_next() -> None:
    second = Fake("second", {"AAPL": WHOLE})
    request = BarRequest("us", "1d", MONDAY, FRIDAY, (SymbolRef(1, "AAPL"),))
    fetch_through([Fake("first", {"AAPL": [10, 11]}), second], request, now=at(11, 5))
    assert second.asked == []


def test_what_a_source_has_seen_to_be_quiet_is_no_hole() -> None:
    second = Fake("second", {"AAPL": WHOLE})
    ask(Fake("first", {"AAPL": WHOLE}, gaps=((11, 60, 189),), covers=True), second)
    assert second.asked == []


def test_a_symbol_with_many_holes_is_asked_for_once() -> None:
    gaps = tuple((11, first, first + 19) for first in range(20, 360, 40))
    second = Fake("second", {"AAPL": WHOLE})
    answer = ask(Fake("first", {"AAPL": WHOLE}, gaps=gaps), second)
    assert [(r.start, r.end) for r in second.asked] == [(at(11, 20), at(11, 360))]
    assert len(answer.batch.bars) == 4 * 390


def test_invented_bars_do_not_fill_a_session_that_has_real_ones() -> None:
    invented = Fake("invented", {"AAPL": WHOLE}, whole_sessions_only=True)
    answer = ask(Fake("first", {"AAPL": [10, 11]}, gaps=((11, 60, 189),)), invented)
    assert [(r.start, r.end) for r in invented.asked] == [(at(12, 0), at(13, 390))]
    assert got(answer) == [
        ("AAPL", 10, "first"),
        ("AAPL", 11, "first"),
        ("AAPL", 12, "invented"),
        ("AAPL", 13, "invented"),
    ]


def test_minutes_that_have_not_ended_are_not_asked_of_the_next() -> None:
    second = Fake("second", {"AAPL": WHOLE})
    request = BarRequest("us", "1m", at(13, 0), at(13, 390), (SymbolRef(1, "AAPL"),))
    first = Fake("first", {"AAPL": WHOLE}, gaps=((13, 100, 389),))
    fetch_through([first, second], request, now=at(13, 100))
    assert second.asked == []


def test_a_bar_that_two_sources_have_differently_is_kept_for_reconciliation() -> None:
    gaps = ((11, 20, 39), (11, 60, 79), *((11, n, n + 15) for n in range(100, 220, 20)))
    first = Fake("first", {"AAPL": WHOLE}, gaps=gaps, price=10.0)
    answer = ask(first, Fake("second", {"AAPL": WHOLE}, price=10.1))
    bars, apart = answer.batch.bars, answer.disagreements
    assert bars["ts"].is_unique
    # The second was asked from minute 20 to 215, in which the first has what is in no gap.
    had = set(range(20, 216)) - {n for _, start, end in gaps for n in range(start, end + 1)}
    assert set(apart["ts"]) == {at(11, n) for n in had}
    assert set(bars.loc[bars["ts"].isin(apart["ts"]), "close"]) == {10.0}
    assert (apart["kept_source"].iloc[0], apart["other_source"].iloc[0]) == ("first", "second")
    assert apart["price_difference"].iloc[0] == pytest.approx(0.01)


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
        (12, 13),
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
