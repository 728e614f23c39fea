"""Stored splits and dividends as catalyst events, and dates that stay as they were first seen."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scizor_core.catalysts import first_tradable_at
from scizor_core.mentions import Nameable
from scizor_core.schemas.catalysts import catalysts_frame, validate_catalysts
from scizor_core.sessions import get_calendar
from scizor_resources.platform import Platform
from scizor_resources.providers.action_events import ActionEvents, published_at
from scizor_resources.providers.actions import CorporateAction
from scizor_resources.providers.events import EventFindings, EventRequest

from .helpers import execute, query

#: Sydney is ten hours ahead of UTC in August: the session opens at 00:00.
EX_DATE = date(2026, 8, 19)
DAY = datetime(2026, 8, 19, tzinfo=UTC)
NOW = datetime(2026, 8, 20, tzinfo=UTC)


def nameable(platform: Platform, symbol: str = "CBA", market: str = "asx") -> Nameable:
    found = platform.reference.ensure(market, symbol)[0]
    return Nameable(found.instrument_id, market, symbol)


def store(
    platform: Platform,
    instrument: Nameable,
    *,
    seen: str,
    day: date = EX_DATE,
    amount: float | None = 2.5,
    ratio: float = 4,
    applied: bool = True,
) -> None:
    """Store a dividend, or without an amount a split, as if it had come at a time."""
    market, symbol = instrument.market, instrument.symbol
    action = (
        CorporateAction(symbol, market, day, "split", "yahoo", 1, ratio)
        if amount is None
        else CorporateAction(
            symbol, market, day, "dividend", "yahoo", cash_amount=amount, currency="AUD"
        )
    )
    platform.actions.write([(instrument.instrument_id, action)])
    execute(
        platform,
        "UPDATE public.corporate_actions SET applied = %s, first_seen_at = %s "
        "WHERE instrument_id = %s AND ex_date = %s AND kind = %s",
        applied,
        seen,
        instrument.instrument_id,
        day,
        action.kind,
    )


def fetch(
    platform: Platform, *watched: Nameable, since: datetime = DAY, days: int = 1
) -> EventFindings:
    rules = platform.catalysts.rules("corporate_actions")
    source = ActionEvents(platform.actions, now=lambda: NOW)
    return source.fetch(EventRequest(since, since + timedelta(days=days), watched, rules))


def only(findings: EventFindings) -> dict[str, Any]:
    (event,) = validate_catalysts(findings.events).to_dict("records")
    return event


def test_a_dividend_is_an_event_from_the_open_of_its_ex_date_on(platform: Platform) -> None:
    bank = nameable(platform)
    store(platform, bank, seen="2026-08-19T09:00Z")

    event = only(fetch(platform, bank))

    assert event["title"] == "CBA: dividend 2.50 AUD, ex 2026-08-19"
    assert event["description"] == "Cash dividend, as yahoo reports it"
    assert (event["source"], event["source_id"]) == (
        "corporate_actions",
        "asx:CBA:2026-08-19:dividend",
    )
    assert (event["form"], event["type"], event["impact"]) == ("dividend", "dividend", 3)
    assert (event["url"], event["items"]) == ("", "")
    assert event["report_date"].date() == EX_DATE
    assert event["published_at"] == DAY
    assert event["first_tradable_at"] == DAY


def test_a_dividend_that_was_known_before_counts_from_then_on(platform: Platform) -> None:
    bank = nameable(platform)
    store(platform, bank, seen="2026-08-12T09:00:30Z")

    of_ex_date = only(fetch(platform, bank))
    of_news = only(fetch(platform, bank, since=DAY - timedelta(days=7)))

    assert of_ex_date["published_at"] == datetime(2026, 8, 12, 9, 0, 30, tzinfo=UTC)
    # The session of the 12th has ended; the next one begins at midnight UTC.
    assert of_ex_date["first_tradable_at"] == datetime(2026, 8, 13, tzinfo=UTC)
    assert of_news == of_ex_date


def test_an_action_that_a_provider_reports_late_comes_with_the_day_that_brought_it(
    platform: Platform,
) -> None:
    bank = nameable(platform)
    store(platform, bank, seen="2026-08-21T09:00Z")
    store(platform, bank, seen="2026-08-21T09:00Z", day=date(2020, 8, 19))

    found = fetch(platform, bank, since=datetime(2026, 8, 21, tzinfo=UTC))

    assert only(found)["published_at"] == DAY


@pytest.mark.parametrize(
    ("ratio", "words"), [(4, "4 for 1"), (0.1, "1 for 10"), (1.5, "3 for 2"), (1.05, "21 for 20")]
)
def test_a_split_says_how_many_for_how_many(platform: Platform, ratio: float, words: str) -> None:
    apple = nameable(platform, "AAPL", "us")
    store(platform, apple, seen="2026-09-01T00:00Z", amount=None, ratio=ratio)

    event = only(fetch(platform, apple))

    assert event["title"] == f"AAPL: split {words}, ex 2026-08-19"
    # New York in summer: 09:30 is 13:30.
    assert event["published_at"] == DAY + timedelta(hours=13, minutes=30)


def test_an_ex_date_without_a_session_counts_from_the_next_open_on(platform: Platform) -> None:
    apple = nameable(platform, "AAPL", "us")
    store(platform, apple, seen="2026-11-20T00:00Z", day=date(2026, 7, 3))

    event = only(fetch(platform, apple, since=datetime(2026, 7, 3, tzinfo=UTC)))

    assert event["published_at"] == datetime(2026, 7, 6, 13, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("amount", "words"), [(0.205, "0.205"), (1, "1.00"), (0.123456, "0.123456")]
)
def test_an_amount_has_the_decimals_it_needs(platform: Platform, amount: float, words: str) -> None:
    bank = nameable(platform)
    store(platform, bank, seen="2026-08-19T09:00Z", amount=amount)

    assert f"dividend {words} AUD" in only(fetch(platform, bank))["title"]


def test_only_applied_actions_of_watched_instruments_are_events(platform: Platform) -> None:
    bank, miner = nameable(platform), nameable(platform, "BHP")
    store(platform, bank, seen="2026-08-19T09:00Z", applied=False)
    store(platform, miner, seen="2026-08-19T09:00Z")

    found = fetch(platform, bank)

    assert found.events.empty
    assert found.skipped == {"not on the watchlist": 1}
    assert found.notes


def test_what_a_user_has_ruled_out_is_counted(platform: Platform) -> None:
    bank = nameable(platform)
    store(platform, bank, seen="2026-08-19T09:00Z")
    platform.catalysts.rules("corporate_actions")
    execute(platform, "UPDATE catalyst_rules SET impact = NULL WHERE form = 'dividend'")

    assert fetch(platform, bank).skipped == {"left out by the rules": 1}


def test_the_same_actions_again_change_nothing(platform: Platform) -> None:
    bank = nameable(platform)
    store(platform, bank, seen="2026-08-12T09:00Z")

    first = platform.catalysts.write(fetch(platform, bank).events)
    again = platform.catalysts.write(fetch(platform, bank).events)

    assert (first.events, first.links) == (1, 1)
    assert (again.events, again.links) == (0, 0)


# --- dates that stay as they were first seen ----------------------------------------------


def scheduled(instrument: Nameable, at: datetime, **changes: object) -> dict[str, object]:
    return {
        "source": "finnhub_earnings",
        "source_id": "AAPL-2026Q4-scheduled-2026-11-25",
        "instrument_id": instrument.instrument_id,
        "type": "earnings_scheduled",
        "title": "AAPL: Date of earnings",
        "description": "EPS estimate 1.5 USD",
        "url": "",
        "form": "scheduled",
        "items": "",
        "filing_date": None,
        "report_date": "2026-11-25",
        "accepted_text": "2026-11-25",
        "published_at": at,
        "detected_at": at,
        "first_tradable_at": first_tradable_at(at, get_calendar("us")),
        "impact": 3,
        "is_amendment": False,
        "amends": "",
    } | changes


def test_a_date_keeps_the_time_and_the_words_of_when_it_was_first_seen(platform: Platform) -> None:
    apple = nameable(platform, "AAPL", "us")
    first, later = datetime(2026, 11, 18, 17, tzinfo=UTC), datetime(2026, 11, 19, 17, tzinfo=UTC)
    platform.catalysts.write(catalysts_frame([scheduled(apple, first)]))

    written = platform.catalysts.write(
        catalysts_frame([scheduled(apple, later, description="EPS estimate 9 USD")])
    )

    assert (written.events, written.links) == (0, 0)
    (row,) = query(platform, "SELECT * FROM catalyst.instrument_events")
    assert (row["published_at"], row["first_tradable_at"]) == (first, first)
    assert row["description"] == "EPS estimate 1.5 USD"


def test_a_changed_rule_reaches_a_date_that_was_seen_before(platform: Platform) -> None:
    apple = nameable(platform, "AAPL", "us")
    first, later = datetime(2026, 11, 18, 17, tzinfo=UTC), datetime(2026, 11, 19, 17, tzinfo=UTC)
    platform.catalysts.write(catalysts_frame([scheduled(apple, first)]))

    platform.catalysts.write(catalysts_frame([scheduled(apple, later, impact=5)]))

    (row,) = query(platform, "SELECT impact, published_at FROM catalyst_events")
    assert (row["impact"], row["published_at"]) == (5, first)


def test_a_report_whose_day_has_changed_moves(platform: Platform) -> None:
    apple = nameable(platform, "AAPL", "us")
    first, later = datetime(2026, 11, 18, 21, tzinfo=UTC), datetime(2026, 11, 19, 21, tzinfo=UTC)
    platform.catalysts.write(catalysts_frame([scheduled(apple, first, form="reported")]))

    platform.catalysts.write(catalysts_frame([scheduled(apple, later, form="reported")]))

    (row,) = query(platform, "SELECT * FROM catalyst.instrument_events")
    assert row["published_at"] == later
    assert row["first_tradable_at"] == datetime(2026, 11, 20, 14, 30, tzinfo=UTC)


# --- no look-ahead ------------------------------------------------------------------------

_WEEKS = [
    date(2026, 3, 6),  # New York's clocks go forward
    date(2026, 4, 3),  # Easter, and Sydney's go back
    date(2026, 10, 2),  # Sydney's go forward
    date(2026, 10, 30),  # New York's go back
    date(2026, 11, 25),  # Thanksgiving and a half day
    date(2025, 12, 23),  # half days and Christmas
]
_DAYS = st.builds(
    lambda week, n: week + timedelta(days=n), st.sampled_from(_WEEKS), st.integers(0, 7)
) | st.dates(date(1995, 1, 1), date(2026, 11, 1))


@pytest.mark.parametrize("market", ["asx", "us", "crypto"])
@given(ex_date=_DAYS, seconds=st.integers(-30 * 86_400, 30 * 86_400))
def test_no_action_is_known_before_it_was_seen_or_prices_show_it(
    market: str, ex_date: date, seconds: int
) -> None:
    calendar = get_calendar(market)
    seen = datetime.combine(ex_date, datetime.min.time(), UTC) + timedelta(seconds=seconds)

    public = published_at(ex_date, seen, calendar)

    assert public is not None
    first = first_tradable_at(public, calendar)
    assert first is not None
    assert first >= public
    assert calendar.is_open(first)
    (following, *_) = calendar.sessions(ex_date, ex_date + timedelta(days=8))
    assert public == (seen if seen < following.open else following.open)
    assert first <= max(following.open, first_tradable_at(seen, calendar) or first)
