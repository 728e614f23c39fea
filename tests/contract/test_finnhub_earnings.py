"""Finnhub's earnings calendar as events: dates to come, figures reported, never a time too early.

Payloads are written by hand after the vendor's specification.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from scizor_core.catalysts import CatalystRule, RuleTable
from scizor_core.mentions import Nameable
from scizor_core.schemas.catalysts import validate_catalysts
from scizor_core.sessions import get_calendar
from scizor_resources.errors import AuthError, RateLimited, SchemaDrift
from scizor_resources.providers.events import EventFindings, EventRequest
from scizor_resources.providers.finnhub.earnings import (
    MOST_ROWS,
    FinnhubEarnings,
    events_of,
    published_at,
)
from scizor_resources.providers.finnhub.wire import EarningsRelease
from scizor_resources.providers.gate import Gate
from scizor_resources.stores.catalysts import default_rules
from tests.contract.lab.finnhub import KEY, FinnhubLab
from tests.contract.lab.server import Reply

RULES = RuleTable(rule for rule in default_rules() if rule.source == "finnhub_earnings")
APPLE, TESLA = Nameable(1, "us", "AAPL", "Apple Inc."), Nameable(2, "us", "TSLA")
BERKSHIRE = Nameable(3, "us", "BRK.B")
WEDNESDAY = datetime(2026, 11, 18, tzinfo=UTC)
#: New York is five hours behind UTC: 09:30 to 16:00 is 14:30 to 21:00.
EVENING = datetime(2026, 11, 18, 23, tzinfo=UTC)


def release(symbol: str = "AAPL", day: str = "2026-11-18", **changes: Any) -> dict[str, Any]:
    """Return a release as on the wire."""
    return {
        "symbol": symbol,
        "date": day,
        "hour": "amc",
        "year": 2026,
        "quarter": 4,
        "epsEstimate": 1.5,
        "epsActual": 1.65,
        "revenueEstimate": 90_000_000_000,
        "revenueActual": 94_930_000_000,
    } | changes


def to_come(symbol: str = "AAPL", day: str = "2026-11-25", **changes: Any) -> dict[str, Any]:
    return release(symbol, day, epsActual=None, revenueActual=None, **changes)


def request(
    *instruments: Nameable,
    since: datetime = WEDNESDAY,
    until: datetime | None = None,
    rules: RuleTable = RULES,
) -> EventRequest:
    watched = instruments or (APPLE,)
    return EventRequest(since, until or since + timedelta(days=1), watched, rules)


@pytest.fixture
def lab() -> Iterator[FinnhubLab]:
    with FinnhubLab() as running:
        yield running


def fetch(
    lab: FinnhubLab, asked: EventRequest, now: datetime = EVENING, key: str | None = KEY
) -> EventFindings:
    source = FinnhubEarnings(
        Gate("finnhub", sleep=lambda _seconds: None),
        base_url=f"{lab.url}/api/v1",
        key=None if key is None else SecretStr(key),
        timeout_seconds=1.5,
        now=lambda: now,
    )
    try:
        return source.fetch(asked)
    finally:
        source.close()


# --- figures reported ---------------------------------------------------------------------


def test_a_report_is_an_event_with_figures_and_surprise(lab: FinnhubLab) -> None:
    lab.earnings = [release()]

    found = fetch(lab, request())

    (event,) = validate_catalysts(found.events).to_dict("records")
    assert (event["source"], event["source_id"]) == ("finnhub_earnings", "AAPL-2026Q4")
    assert (event["form"], event["type"], event["instrument_id"]) == ("reported", "earnings", 1)
    assert event["title"] == "AAPL: Earnings reported, Q4 2026"
    assert event["description"] == (
        "EPS 1.65 USD, estimate 1.5, surprise +10.0 %; "
        "revenue 94,930,000,000 USD, estimate 90,000,000,000; after the close"
    )
    assert event["url"] == ""
    assert event["report_date"].date() == date(2026, 11, 18)
    assert event["published_at"] == datetime(2026, 11, 18, 21, tzinfo=UTC)
    assert event["first_tradable_at"] == datetime(2026, 11, 19, 14, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("day", "hour", "public"),
    [
        ("2026-11-18", "bmo", "2026-11-18T14:30"),
        ("2026-11-18", "amc", "2026-11-18T21:00"),
        ("2026-11-18", "dmh", "2026-11-18T21:00"),
        ("2026-11-18", "", "2026-11-18T21:00"),
        # Summer time ended on 1 November.
        ("2026-10-30", "bmo", "2026-10-30T13:30"),
        ("2026-11-02", "bmo", "2026-11-02T14:30"),
        # The day after Thanksgiving closes at 13:00 local time.
        ("2026-11-27", "amc", "2026-11-27T18:00"),
        # Thanksgiving, and a Saturday.
        ("2026-11-26", "amc", "2026-11-27T14:30"),
        ("2026-11-21", "bmo", "2026-11-23T14:30"),
    ],
)
def test_the_part_of_the_day_says_from_when_a_report_counts(
    day: str, hour: str, public: str
) -> None:
    made = EarningsRelease("AAPL", date.fromisoformat(day), hour, 2026, 4, 1.5, 1.6, None, None)
    assert published_at(made, get_calendar("us")) == datetime.fromisoformat(public).replace(
        tzinfo=UTC
    )


def test_a_report_of_a_closed_day_belongs_to_the_window_of_the_next_open(lab: FinnhubLab) -> None:
    lab.earnings = [release(day="2026-11-21")]
    monday = datetime(2026, 11, 23, tzinfo=UTC)

    found = fetch(lab, request(since=monday), now=monday + timedelta(days=1))
    before = fetch(lab, request(since=monday - timedelta(days=2)), now=monday)

    assert list(found.events["source_id"]) == ["AAPL-2026Q4"]
    assert before.events.empty


def test_figures_that_came_early_wait_for_the_time_from_which_they_count(lab: FinnhubLab) -> None:
    lab.earnings = [release(hour="bmo")]

    early = fetch(lab, request(), now=WEDNESDAY + timedelta(hours=12))
    later = fetch(lab, request(), now=WEDNESDAY + timedelta(hours=15))

    assert early.skipped == {"it counts from a later time on": 1}
    assert list(later.events["published_at"]) == [datetime(2026, 11, 18, 14, 30, tzinfo=UTC)]


def test_a_day_gone_by_without_figures_is_no_event(lab: FinnhubLab) -> None:
    lab.earnings = [to_come(day="2026-11-18", hour="bmo")]

    found = fetch(lab, request())

    assert found.events.empty
    assert found.skipped == {"its day has gone by without figures": 1}


def test_of_two_releases_about_one_quarter_the_later_counts(lab: FinnhubLab) -> None:
    lab.earnings = [release(epsActual=2.0), release(day="2026-11-17", hour="amc")]

    found = fetch(lab, request(since=WEDNESDAY - timedelta(days=1), until=EVENING))

    assert list(validate_catalysts(found.events)["description"].str[:8]) == ["EPS 2 US"]


def test_an_estimate_of_zero_has_no_surprise_in_percent(lab: FinnhubLab) -> None:
    lab.earnings = [release(epsEstimate=0, epsActual=0.1, revenueActual=None, hour="")]

    found = fetch(lab, request())

    assert list(found.events["description"]) == ["EPS 0.1 USD, estimate 0"]


# --- dates to come ------------------------------------------------------------------------


def test_a_date_to_come_is_news_when_it_is_seen(lab: FinnhubLab) -> None:
    lab.earnings = [to_come(day="2026-11-25")]
    noon = WEDNESDAY + timedelta(hours=17, seconds=5)

    found = fetch(lab, request(), now=noon)

    (event,) = validate_catalysts(found.events).to_dict("records")
    assert event["source_id"] == "AAPL-2026Q4-scheduled-2026-11-25"
    assert (event["form"], event["type"]) == ("scheduled", "earnings_scheduled")
    assert event["title"] == "AAPL: Date of earnings, Q4 2026, 2026-11-25"
    assert event["description"] == "on 2026-11-25 after the close; EPS estimate 1.5 USD"
    assert event["published_at"] == noon
    assert event["first_tradable_at"] == WEDNESDAY + timedelta(hours=17, minutes=1)


def test_dates_to_come_are_asked_for_only_where_the_window_holds_the_present(
    lab: FinnhubLab,
) -> None:
    lab.earnings = [to_come(day="2026-11-25")]

    past = fetch(lab, request(), now=WEDNESDAY + timedelta(days=1))
    fetch(lab, request(), now=EVENING)

    assert past.events.empty
    assert [seen.query["to"] for seen in lab.requests] == ["2026-11-18", "2026-12-18"]


def test_dates_more_than_thirty_days_ahead_are_no_events(lab: FinnhubLab) -> None:
    lab.earnings = [to_come(day="2026-12-18"), to_come("TSLA", day="2026-12-19")]

    found = fetch(lab, request(APPLE, TESLA, until=WEDNESDAY + timedelta(days=60)))

    assert list(found.events["instrument_id"]) == [1]


def test_the_date_of_today_is_to_come_until_it_counts(lab: FinnhubLab) -> None:
    lab.earnings = [to_come(day="2026-11-18", hour="amc")]

    found = fetch(lab, request(), now=WEDNESDAY + timedelta(hours=15))

    assert list(found.events["form"]) == ["scheduled"]


# --- asking -------------------------------------------------------------------------------


def test_few_symbols_are_asked_for_one_by_one(lab: FinnhubLab) -> None:
    lab.earnings = [release("BRK.B"), release("MSFT")]

    found = fetch(lab, request(APPLE, BERKSHIRE, Nameable(4, "us", "BRK-B")), now=EVENING)

    assert [seen.query["symbol"] for seen in lab.requests] == ["AAPL", "BRK.B"]
    # Two spellings of one symbol are two instruments of one event.
    assert list(found.events["instrument_id"]) == [3, 4]
    assert found.events["source_id"].nunique() == 1


def test_of_many_symbols_the_calendar_is_read_by_day(lab: FinnhubLab) -> None:
    many = tuple(Nameable(n, "us", f"A{n}") for n in range(1, 100))
    lab.earnings = [release("A7"), release("MSFT")]

    found = fetch(lab, request(*many), now=WEDNESDAY + timedelta(days=1))

    # The day, and a week before it for what was reported on closed days.
    assert [(seen.query["from"], seen.query["to"]) for seen in lab.requests] == [
        (f"2026-11-{day}", f"2026-11-{day}") for day in range(11, 19)
    ]
    assert list(found.events["instrument_id"]) == [7]
    assert found.skipped == {"no ticker on the watchlist": 1}


def test_many_symbols_are_asked_for_one_by_one_where_that_is_less(lab: FinnhubLab) -> None:
    many = tuple(Nameable(n, "us", f"A{n}") for n in range(1, 61))
    years = request(*many, since=WEDNESDAY - timedelta(days=700), until=WEDNESDAY)

    fetch(lab, years)

    assert len(lab.requests) == 60


def test_an_answer_as_long_as_the_limit_is_said(lab: FinnhubLab) -> None:
    lab.earnings = [release("MSFT")] * MOST_ROWS
    many = tuple(Nameable(n, "us", f"A{n}") for n in range(1, 100))

    found = fetch(lab, request(*many), now=WEDNESDAY + timedelta(days=1))

    assert found.notes == ["the answer for 2026-11-18 has 1500 rows and may be cut short"]


def test_without_watched_us_symbols_nothing_is_asked(lab: FinnhubLab) -> None:
    found = fetch(lab, request(Nameable(1, "asx", "CBA")))

    assert lab.requests == []
    assert "watchlist" in found.notes[0]


# --- what goes wrong ----------------------------------------------------------------------


def test_without_a_key_nothing_is_asked(lab: FinnhubLab) -> None:
    with pytest.raises(AuthError, match="SCIZOR_FINNHUB_API_KEY"):
        fetch(lab, request(), key=None)
    assert lab.requests == []


def test_a_wrong_key_ends_the_asking(lab: FinnhubLab) -> None:
    with pytest.raises(AuthError) as caught:
        fetch(lab, request(APPLE, TESLA), key="wrong0key")
    assert "wrong0key" not in f"{caught.value!r} {caught.value.__cause__!r}"
    assert len(lab.requests) == 1


def test_a_plan_without_the_calendar_is_said(lab: FinnhubLab) -> None:
    lab.replies = [Reply({"error": "You don't have access to this resource."}, 403)]
    with pytest.raises(AuthError, match="plan of this key does not have the earnings calendar"):
        fetch(lab, request())


def test_a_used_up_limit_leaves_what_came(lab: FinnhubLab) -> None:
    lab.replies = [Reply({"earningsCalendar": [release()]}), lab.error("rate_limited")]

    found = fetch(lab, request(APPLE, TESLA, BERKSHIRE))

    assert list(found.events["instrument_id"]) == [1]
    assert list(found.errors) == ["BRK.B"]
    assert isinstance(found.failure, RateLimited)
    assert len(lab.requests) == 2


@pytest.mark.parametrize("name", ["epsActual", "epsEstimate", "date", "symbol", "hour"])
def test_a_field_that_is_called_otherwise_is_drift(lab: FinnhubLab, name: str) -> None:
    lab.earnings = [release()]
    changed = {("new_" + key if key == name else key): value for key, value in release().items()}
    lab.replies = [Reply({"earningsCalendar": [changed]})]

    with pytest.raises(SchemaDrift, match=name):
        fetch(lab, request())


@pytest.mark.parametrize(
    "changes",
    [{"date": "soon"}, {"date": "1970-01-01"}, {"date": "2099-01-01"}, {"quarter": None}],
    ids=str,
)
def test_a_release_that_cannot_be_read_costs_only_itself(
    lab: FinnhubLab, changes: dict[str, Any]
) -> None:
    lab.replies = [Reply({"earningsCalendar": [release(quarter=3), release(**changes)]})]

    found = fetch(lab, request())

    assert list(found.events["source_id"]) == ["AAPL-2026Q3"]
    assert list(found.rejected["symbol"]) == ["AAPL"]


def test_what_a_user_has_ruled_out_is_counted(lab: FinnhubLab) -> None:
    lab.earnings = [release()]
    none = CatalystRule("reported", "", "earnings", "Earnings", None, "finnhub_earnings")

    found = fetch(lab, request(rules=RuleTable([none])))

    assert found.events.empty
    assert found.skipped == {"left out by the rules": 1}


# --- no look-ahead ------------------------------------------------------------------------

_WEEKS = st.sampled_from(
    [
        date(2026, 3, 6),  # clocks go forward on Sunday the 8th
        date(2026, 10, 30),  # and back on Sunday the 1st
        date(2026, 11, 25),  # Thanksgiving and a half day
        date(2025, 12, 23),  # a half day and Christmas
        date(2001, 9, 10),  # closed for days
    ]
)
_DAYS = st.builds(lambda week, n: week + timedelta(days=n), _WEEKS, st.integers(0, 7)) | st.dates(
    date(1995, 1, 1), date(2026, 11, 1)
)
_RELEASES = st.builds(
    EarningsRelease,
    symbol=st.just("AAPL"),
    report_date=_DAYS,
    hour=st.sampled_from(["bmo", "amc", "dmh", None]),
    year=st.just(2026),
    quarter=st.integers(1, 4),
    eps_estimate=st.none() | st.floats(-10, 10),
    eps_actual=st.none() | st.floats(-10, 10),
    revenue_estimate=st.none(),
    revenue_actual=st.none(),
)


@settings(max_examples=40)
@given(made=_RELEASES, seconds=st.integers(-40 * 86_400, 10 * 86_400))
def test_no_event_is_known_before_it_is_public(made: EarningsRelease, seconds: int) -> None:
    calendar = get_calendar("us")
    midnight = datetime.combine(made.report_date, datetime.min.time(), UTC)
    now = midnight + timedelta(seconds=seconds)
    wide = request(since=now - timedelta(days=60), until=now + timedelta(days=60))

    events, _ = events_of([made], wide, {"AAPL": [APPLE]}, now=now)

    for event in validate_catalysts(events).to_dict("records"):
        assert event["published_at"] <= event["detected_at"] == now
        assert event["first_tradable_at"] >= event["published_at"]
        first = event["first_tradable_at"].to_pydatetime()
        assert calendar.is_open(first)
        if event["form"] == "reported":
            session = calendar.session(made.report_date)
            # Prices of its day know of a report only where it came before the open.
            if session is not None and made.hour != "bmo":
                assert first >= session.close
            assert first >= (session.open if session is not None else midnight)


@settings(max_examples=15)
@given(made=_RELEASES)
def test_a_report_lies_in_the_window_of_exactly_one_day(made: EarningsRelease) -> None:
    reported = replace(made, eps_actual=1.0)
    now = datetime(2026, 12, 31, tzinfo=UTC)
    first = datetime.combine(made.report_date, datetime.min.time(), UTC)

    found = [
        len(events_of([reported], request(since=day), {"AAPL": [APPLE]}, now=now)[0])
        for day in (first + timedelta(days=n) for n in range(-1, 9))
    ]

    assert sum(found) == 1
