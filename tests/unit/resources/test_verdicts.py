"""Why bars stay open although the chain was asked: by the class of what providers answered."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from scizor_core.gaps import ABSENT, FEED_DOWN, OUTSIDE_HISTORY, REFUSED
from scizor_core.markets import Timeframe
from scizor_resources.chain import fetch_through
from scizor_resources.errors import (
    AuthError,
    BadRequest,
    ProviderError,
    RateLimited,
    SchemaDrift,
    TransientError,
)
from scizor_resources.providers.base import (
    BarBatch,
    BarRequest,
    BarSource,
    Capabilities,
    SymbolRef,
)
from scizor_resources.verdicts import Finding, shortened

from .test_chain import FRIDAY, MONDAY, WHOLE, Fake, at


class Source(Fake):
    """A fake whose capabilities can be chosen, and which can fail for one symbol alone."""

    def __init__(
        self,
        name: str,
        days: dict[str, list[int]] | None = None,
        *,
        cause: Exception | None = None,
        max_age: timedelta | None = None,
        own_files: bool = False,
        **more: Any,
    ) -> None:
        super().__init__(name, days, **more)
        self._cause, self._max_age, self._own_files = cause, max_age, own_files

    @property
    def capabilities(self) -> Capabilities:
        ages: dict[Timeframe, timedelta] = {} if self._max_age is None else {"1m": self._max_age}
        return replace(super().capabilities, max_age=ages, own_files=self._own_files)

    def fetch_bars(self, request: BarRequest) -> BarBatch:
        batch = super().fetch_bars(request)
        if self._cause is not None:
            batch.errors = {ref.symbol: str(self._cause) for ref in request.symbols}
            batch.causes = {ref.symbol: self._cause for ref in request.symbols}
        return batch


def findings(*sources: BarSource, now: datetime = FRIDAY) -> list[Finding]:
    request = BarRequest("us", "1m", MONDAY, FRIDAY, (SymbolRef(1, "AAPL"),))
    return fetch_through(list(sources), request, now=now).findings


def said(found: list[Finding]) -> list[tuple[str, str]]:
    return [(each.reason, each.source) for each in found]


def error(kind: type[ProviderError]) -> ProviderError:
    return kind("No.", provider="first")


KINDS = [
    (TransientError, FEED_DOWN),
    (RateLimited, FEED_DOWN),
    (SchemaDrift, FEED_DOWN),
    (AuthError, REFUSED),
    (BadRequest, ABSENT),
]
IDS = [kind.__name__ for kind, _ in KINDS]


@pytest.mark.parametrize(("kind", "reason"), KINDS, ids=IDS)
def test_a_source_that_fails_as_a_whole_is_judged_by_the_class_of_its_error(
    kind: type[ProviderError], reason: str
) -> None:
    found = findings(Source("first", error=error(kind)))
    assert said(found) == [(reason, "first")]
    assert (found[0].start, found[0].end) == (at(10, 0), at(13, 390))
    assert found[0].detail == "first: No."


@pytest.mark.parametrize(("kind", "reason"), KINDS, ids=IDS)
def test_a_source_that_fails_for_one_symbol_is_judged_likewise(
    kind: type[ProviderError], reason: str
) -> None:
    assert said(findings(Source("first", cause=error(kind)))) == [(reason, "first")]


def test_an_error_of_unknown_class_is_a_feed_that_is_down() -> None:
    found = findings(Source("first", errors={"AAPL": "It broke."}))
    assert said(found) == [(FEED_DOWN, "first")]


def test_what_all_have_answered_without_is_absent_in_every_source() -> None:
    found = findings(Source("first", {"AAPL": [10, 12, 13]}), Source("second"))
    assert [(each.reason, each.start, each.end) for each in found] == [
        (ABSENT, at(11, 0), at(11, 390))
    ]
    assert found[0].detail == "asked first, second"


def test_short_absences_are_absent_in_every_source_too() -> None:
    found = findings(Source("first", {"AAPL": WHOLE}, gaps=((11, 60, 62),)), Source("second"))
    assert [(each.reason, each.start, each.end) for each in found] == [
        (ABSENT, at(11, 60), at(11, 63))
    ]
    assert found[0].detail == "asked first"


def test_what_lies_before_every_history_is_outside_of_it() -> None:
    found = findings(
        Source("first", max_age=timedelta(days=2)), Source("second", max_age=timedelta(days=1))
    )
    # Friday less two days is Wednesday.
    assert [(each.reason, each.start.day, each.end.day) for each in found] == [
        (OUTSIDE_HISTORY, 10, 11),
        (ABSENT, 12, 12),
        (ABSENT, 13, 13),
    ]
    assert found[0].detail == "first keeps 1m bars for 2 days; second keeps 1m bars for 24 hours"


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        (Source("second"), ABSENT),
        (Source("second", error=error(AuthError)), REFUSED),
        (Source("second", error=error(TransientError)), FEED_DOWN),
    ],
    ids=["absent", "refused", "down"],
)
def test_of_several_verdicts_the_most_promising_one_counts(second: Source, reason: str) -> None:
    old = Source("first", max_age=timedelta(hours=1))
    assert {each.reason for each in findings(old, second)} == {reason}
    other_way = Source("second", max_age=timedelta(hours=1))
    second.name = "first"
    assert {each.reason for each in findings(second, other_way)} == {reason}


def test_a_file_without_bars_says_nothing() -> None:
    assert findings(Source("tape", own_files=True)) == []


def test_a_file_that_has_a_session_is_the_truth_about_it() -> None:
    found = findings(Source("tape", {"AAPL": [11]}, gaps=((11, 100, 389),), own_files=True))
    assert [(each.reason, each.start, each.end) for each in found] == [
        (ABSENT, at(11, 100), at(11, 390))
    ]


def test_a_file_that_lacks_a_session_leaves_it_to_the_history_of_the_others() -> None:
    tape = Source("tape", own_files=True)
    found = findings(tape, Source("second", max_age=timedelta(hours=1)))
    assert said(found) == [(OUTSIDE_HISTORY, "second")]


def test_a_source_that_is_not_asked_has_no_verdict() -> None:
    assert findings(Source("first", timeframes=("1d",)), Source("second", market="asx")) == []


def test_what_a_source_has_fully_seen_is_not_absent() -> None:
    assert findings(Source("first", {"AAPL": [11]}, covers=True)) == []


def test_a_long_sentence_is_cut_and_stands_on_one_line() -> None:
    assert shortened("a\n  b") == "a b"
    assert len(shortened("x" * 1000)) == 300
