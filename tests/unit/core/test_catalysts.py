"""The first bar after a publication, and the kind of event a filing is."""

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scizor_core.catalysts import CatalystRule, RuleTable, first_tradable_at, impact_of_value
from scizor_core.errors import ContractError
from scizor_core.markets import MARKETS
from scizor_core.schemas.catalysts import CATALYST_COLUMNS, catalysts_frame, validate_catalysts
from scizor_core.sessions import get_calendar


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


# --- the first bar ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("market", "published", "first"),
    [
        # New York, 09:30 to 16:00 local time.
        ("us", "2026-11-18T10:15:20-05:00", "2026-11-18T10:16:00-05:00"),
        ("us", "2026-11-18T10:15:00-05:00", "2026-11-18T10:15:00-05:00"),
        ("us", "2026-11-18T10:15:00.000001-05:00", "2026-11-18T10:16:00-05:00"),
        ("us", "2026-11-18T07:00:00-05:00", "2026-11-18T09:30:00-05:00"),
        ("us", "2026-11-18T15:59:00-05:00", "2026-11-18T15:59:00-05:00"),
        ("us", "2026-11-18T15:59:01-05:00", "2026-11-19T09:30:00-05:00"),
        ("us", "2026-11-18T16:05:00-05:00", "2026-11-19T09:30:00-05:00"),
        ("us", "2026-11-20T18:00:00-05:00", "2026-11-23T09:30:00-05:00"),
        ("us", "2026-11-21T12:00:00-05:00", "2026-11-23T09:30:00-05:00"),
        # The day after Thanksgiving closes at 13:00.
        ("us", "2026-11-25T17:00:00-05:00", "2026-11-27T09:30:00-05:00"),
        ("us", "2026-11-27T13:00:00-05:00", "2026-11-30T09:30:00-05:00"),
        # Weekends in which the clocks change.
        ("us", "2026-03-06T17:00:00-05:00", "2026-03-09T09:30:00-04:00"),
        ("us", "2026-10-30T17:00:00-04:00", "2026-11-02T09:30:00-05:00"),
        # Sydney, 10:00 to 16:00 local time; its clocks change on other weekends.
        ("asx", "2026-04-02T17:00:00+11:00", "2026-04-07T10:00:00+10:00"),
        ("asx", "2026-10-02T17:00:00+10:00", "2026-10-05T10:00:00+11:00"),
        ("asx", "2026-11-18T15:59:30+11:00", "2026-11-19T10:00:00+11:00"),
        ("asx", "2026-11-18T16:05:00+11:00", "2026-11-19T10:00:00+11:00"),
        # Coins trade always.
        ("crypto", "2026-11-21T23:59:30+00:00", "2026-11-22T00:00:00+00:00"),
    ],
)
def test_the_first_bar_after_a_publication(market: str, published: str, first: str) -> None:
    assert first_tradable_at(at(published), get_calendar(market)) == at(first)


_WEEKS_OF_CLOCK_CHANGES = [
    at(day)
    for day in (
        "2025-03-06T00:00+00:00",  # New York
        "2025-04-03T00:00+00:00",  # Sydney
        "2025-10-02T00:00+00:00",  # Sydney
        "2025-10-30T00:00+00:00",  # New York
        "2026-03-05T00:00+00:00",
        "2026-04-02T00:00+00:00",
        "2026-10-01T00:00+00:00",
        "2026-10-29T00:00+00:00",
    )
]
_ANY_TIME = st.datetimes(datetime(1995, 1, 1), datetime(2026, 10, 1), timezones=st.just(UTC))  # noqa: DTZ001  # hypothesis takes naive bounds
_CLOCK_CHANGE = st.builds(
    lambda week, seconds: week + timedelta(seconds=seconds),
    st.sampled_from(_WEEKS_OF_CLOCK_CHANGES),
    st.floats(0, 7 * 86_400),
)


@pytest.mark.parametrize("market", list(MARKETS))
@given(published=_ANY_TIME | _CLOCK_CHANGE)
def test_the_first_bar_is_the_next_bar_start_of_a_session(market: str, published: datetime) -> None:
    calendar = get_calendar(market)

    first = first_tradable_at(published, calendar)

    assert first is not None
    assert first >= published
    days = calendar.sessions(published.date() - timedelta(days=2), first.date() + timedelta(days=2))
    starts = {
        start.to_pydatetime()
        for day in days
        if day.open.date() >= published.date() - timedelta(days=2)
        for start in calendar.expected(day.session_date, "1m")
    }
    assert first in starts
    assert not any(published <= start < first for start in starts)


def test_there_is_no_first_bar_beyond_the_calendar() -> None:
    assert first_tradable_at(at("2400-01-01T00:00+00:00"), get_calendar("us")) is None


# --- rules --------------------------------------------------------------------------------

RULES = RuleTable(
    [
        CatalystRule("8-K", "", "company_report", "Current report", 4),
        CatalystRule("8-K", "2.02", "earnings", "Results", 8),
        CatalystRule("8-K", "5.02", "management_change", "Officers", 6),
        CatalystRule("8-K", "9.01", "exhibits", "Exhibits", 1),
        CatalystRule("10-K", "", "annual_report", "Annual report", 7),
        CatalystRule("10-K/A", "", "annual_report", "Annual report, amended", 3),
        CatalystRule("CORRESP", "", "correspondence", "Letter", None),
        CatalystRule("*", "", "other_filing", "Other", 1),
    ]
)


@pytest.mark.parametrize(
    ("form", "items", "impact"),
    [
        ("8-K", ("9.01", "2.02", "5.02"), 8),
        ("8-K", ("9.01",), 1),
        ("8-K", ("12",), 4),
        ("8-K", (), 4),
        ("8-K/A", ("2.02",), 8),
        ("10-K", (), 7),
        ("10-K/A", (), 3),
        ("POS AM", (), 1),
    ],
)
def test_the_highest_item_says_what_a_filing_is(
    form: str, items: tuple[str, ...], impact: int
) -> None:
    rule = RULES.match(form, items)
    assert rule is not None
    assert rule.impact == impact


def test_a_form_without_an_impact_is_no_event() -> None:
    assert RULES.match("CORRESP") is None


def test_without_a_rule_for_all_others_an_unknown_form_is_no_event() -> None:
    assert RuleTable([]).match("POS AM") is None


@pytest.mark.parametrize(
    ("impact", "value", "raised"),
    [
        (6, None, 6),
        (6, 0.0, 6),
        (6, 999_999.99, 6),
        (6, 1_000_000.0, 7),
        (6, 9_999_999.0, 7),
        (6, 10_000_000.0, 8),
        (9, 10_000_000.0, 10),
        (10, 1e12, 10),
    ],
)
def test_a_trade_of_much_money_matters_more(impact: int, value: float | None, raised: int) -> None:
    assert impact_of_value(impact, value) == raised


# --- contract -----------------------------------------------------------------------------


def event(**changes: object) -> pd.DataFrame:
    record: dict[str, object] = {
        "source": "edgar",
        "source_id": "0001318605-22-000015",
        "instrument_id": 1,
        "type": "earnings",
        "title": "Tesla, Inc.: Results (8-K)",
        "description": "2.02 Results",
        "url": "https://www.sec.gov/Archives/edgar/data/1318605/000131860522000015/a.htm",
        "form": "8-K",
        "items": "2.02",
        "filing_date": "2022-11-30",
        "report_date": None,
        "accepted_text": "2022-11-30T16:42:36.000Z",
        "published_at": at("2022-11-30T21:42:36+00:00"),
        "detected_at": at("2022-12-01T00:00:00+00:00"),
        "first_tradable_at": at("2022-12-01T14:30:00+00:00"),
        "impact": 8,
        "is_amendment": False,
        "amends": "",
    }
    return catalysts_frame([record | changes])


def test_an_event_keeps_the_contract() -> None:
    assert tuple(validate_catalysts(event()).columns) == CATALYST_COLUMNS


def test_an_event_without_a_page_of_its_own_keeps_the_contract() -> None:
    assert list(validate_catalysts(event(url=""))["url"]) == [""]


def test_no_events_keep_the_contract() -> None:
    assert validate_catalysts(catalysts_frame([])).empty


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"first_tradable_at": at("2022-11-30T21:42:00+00:00")}, "no_look_ahead"),
        ({"impact": 11}, "impact"),
        ({"impact": 0}, "impact"),
        ({"amends": "0001318605-22-000001"}, "only_amendments_amend"),
        ({"url": "javascript:alert(1)"}, "url"),
        ({"url": "https://"}, "url"),
        ({"type": "Earnings Call"}, "type"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_values_that_break_the_contract_are_named(changes: dict[str, object], named: str) -> None:
    with pytest.raises(ContractError, match=named):
        validate_catalysts(event(**changes))


def test_the_same_event_of_an_instrument_twice_breaks_the_contract() -> None:
    with pytest.raises(ContractError, match="uniqueness"):
        validate_catalysts(pd.concat([event(), event()], ignore_index=True))
