"""Adjustment factors, against published series and figures worked out by hand."""

import re
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scizor_core.adjust import (
    SPLIT_ADJUSTED_SOURCES,
    Dividend,
    Evidence,
    Report,
    Split,
    StoredPrice,
    basis_date,
    basis_dates,
    contradiction,
    dividend_factor,
    dividend_factors,
    is_split_adjusted,
    is_unit_ratio,
    judge,
    rewrite_ratio,
    split_factors,
)
from scizor_core.markets import Timeframe

ROOT = Path(__file__).parents[3]
NEW_YORK = "America/New_York"

# The splits of Apple since 2005, as its investor relations list them.
APPLE = [Split(date(2005, 2, 28), 2), Split(date(2014, 6, 9), 7), Split(date(2020, 8, 31), 4)]


def days(*texts: str) -> np.ndarray:
    return np.array(texts, dtype="datetime64[D]")


def raw(day: date, price: float) -> StoredPrice:
    return StoredPrice(day, price, day)


def test_a_raw_price_is_divided_by_every_later_split() -> None:
    closes = np.array([645.57, 499.23, 129.04])
    adjusted = closes * split_factors(days("2014-06-06", "2020-08-28", "2020-08-31"), APPLE)
    # The closes that Yahoo and Nasdaq publish for these sessions.
    assert adjusted == pytest.approx([23.056072, 124.807503, 129.04], rel=1e-6)


def test_the_session_of_the_ex_date_is_in_new_shares() -> None:
    factors = split_factors(days("2020-08-30", "2020-08-31"), APPLE)
    assert factors.tolist() == [0.25, 1.0]


def test_a_reverse_split_raises_earlier_prices() -> None:
    assert split_factors(days("2020-01-01"), [Split(date(2021, 1, 1), 0.1)]).tolist() == [10.0]


def test_a_dividend_lowers_by_its_share_of_the_close_before() -> None:
    # Microsoft in 2021: adjusted closes over closes, as recorded from Yahoo on the first and the
    # last session, and the closes before the four ex-dates.
    paid = [
        Dividend(date(2021, 2, 17), 0.56),
        Dividend(date(2021, 5, 19), 0.56),
        Dividend(date(2021, 8, 18), 0.56),
        Dividend(date(2021, 11, 17), 0.62),
    ]
    closes = [
        raw(date(2021, 2, 16), 243.699997),
        raw(date(2021, 5, 18), 243.080002),
        raw(date(2021, 8, 17), 293.079987),
        raw(date(2021, 11, 16), 339.510010),
    ]
    [factor] = dividend_factors(days("2021-02-01"), paid, closes, [])
    published = (231.186478 / 239.649994) / (299.866119 / 308.260010)
    assert factor == pytest.approx(published, rel=1e-6)


def test_a_split_and_a_dividend_together_follow_the_published_example() -> None:
    # Microsoft in February 2003, the example in Yahoo's explanation of adjusted closes: a split
    # of 2 for 1 on the 18th, 0.08 on the 19th after a close of 24.96.
    splits = [Split(date(2003, 2, 18), 2)]
    sessions = days("2003-02-12", "2003-02-13", "2003-02-14", "2003-02-18", "2003-02-19")
    closes = np.array([46.22, 46.99, 48.30, 24.96, 24.53])
    paid, before = [Dividend(date(2003, 2, 19), 0.08)], [raw(date(2003, 2, 18), 24.96)]
    factors = split_factors(sessions, splits) * dividend_factors(sessions, paid, before, splits)
    assert (closes * factors).round(2).tolist() == [23.04, 23.42, 24.07, 24.88, 24.53]


def test_an_amount_is_compared_in_the_shares_of_its_close() -> None:
    # 0.82 before a split of 4 for 1 is 0.205 of today's shares. Apple closed at 476.12 or 119.03.
    dividend, splits = Dividend(date(2020, 8, 7), 0.82), [APPLE[2]]
    as_traded = raw(date(2020, 8, 6), 476.12)
    fetched_later = StoredPrice(date(2020, 8, 6), 119.03, date(2020, 9, 1))
    expected = pytest.approx(1 - 0.205 / 119.03, rel=1e-12)
    assert dividend_factor(dividend, as_traded, splits) == expected
    assert dividend_factor(dividend, fetched_later, splits) == expected


def test_a_dividend_without_an_earlier_close_lowers_nothing() -> None:
    factors = dividend_factors(days("2020-01-02"), [Dividend(date(2021, 1, 4), 1.0)], [None], [])
    assert factors.tolist() == [1.0]


def test_a_dividend_above_the_price_has_no_factor() -> None:
    assert dividend_factor(Dividend(date(2021, 1, 5), 12.0), raw(date(2021, 1, 4), 10), []) is None


@given(
    st.lists(
        st.tuples(st.dates(date(2000, 1, 1), date(2020, 1, 1)), st.sampled_from([0.1, 0.5, 2, 7])),
        max_size=6,
    ),
    st.lists(st.dates(date(2000, 1, 1), date(2020, 1, 1)), min_size=1, max_size=20),
)
def test_factors_are_the_product_over_later_splits(
    steps: list[tuple[date, float]], sessions: list[date]
) -> None:
    splits = [Split(day, ratio) for day, ratio in steps]
    factors = split_factors(np.array(sessions, dtype="datetime64[D]"), splits)
    for session, factor in zip(sessions, factors, strict=True):
        expected = 1.0
        for day, ratio in steps:
            expected /= ratio if day > session else 1
        assert factor == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("source", "timeframe", "expected"),
    [
        ("yahoo", "1d", True),
        ("ibkr", "1m", True),
        ("finnhub", "1d", True),
        ("finnhub", "5m", False),
        ("alpaca-iex", "1d", False),
        ("tape/yahoo", "1d", False),
        ("yahoo/file", "1d", True),
        ("tape+yahoo", "5m", False),
        ("ibkr+yahoo", "5m", True),
    ],
)
def test_a_source_is_adjusted_by_its_name_and_timeframe(
    source: str, timeframe: Timeframe, expected: bool
) -> None:
    assert is_split_adjusted(source, timeframe) is expected


def test_the_marts_know_the_same_adjusted_sources() -> None:
    model = (ROOT / "dbt_project/models/staging/stg_bars_daily.sql").read_text()
    [names] = re.findall(r"bars\.source ~ '\^\(([a-z|]+)\)", model)
    assert set(names.split("|")) == {
        name for name, timeframes in SPLIT_ADJUSTED_SOURCES.items() if "1d" in timeframes
    }


@pytest.mark.parametrize(
    ("source", "ingested_at", "expected"),
    [
        ("alpaca", "2020-09-05T00:00:00+00:00", "2020-08-28"),
        ("yahoo", "2020-09-05T00:00:00+00:00", "2020-09-04"),
        # 23:00 of the 30th in New York: the splits of the 31st were not in it.
        ("yahoo", "2020-08-31T03:00:00+00:00", "2020-08-30"),
        ("simulated", "2020-08-28T00:00:00+00:00", "9999-12-31"),
    ],
)
def test_the_basis_of_an_adjusted_bar_is_the_exchange_date_it_was_fetched(
    source: str, ingested_at: str, expected: str
) -> None:
    session, arrived = date(2020, 8, 28), datetime.fromisoformat(ingested_at)
    assert str(basis_date(session, source, arrived, "1d", NEW_YORK)) == expected
    frame = pd.DataFrame(
        {
            "session_date": pd.to_datetime([session]),
            "source": [source],
            "ingested_at": pd.to_datetime([arrived]),
        }
    )
    assert basis_dates(frame, "1d", NEW_YORK).astype(str).tolist() == [expected]


def test_no_bars_have_no_basis() -> None:
    frame = pd.DataFrame(
        {
            "session_date": pd.to_datetime([]),
            "source": pd.Series([], dtype="str"),
            "ingested_at": pd.to_datetime([], utc=True),
        }
    )
    assert len(split_factors(basis_dates(frame, "1d", NEW_YORK), APPLE)) == 0


# ---- is it credible


@pytest.mark.parametrize(
    ("opening", "fall"),
    [(127.58, None), (95.0, 499.23 / 95.0), (499.0, 499.23 / 499.0)],
    ids=["it opened at a quarter", "it fell by far more", "it did not move"],
)
def test_a_split_that_prices_contradict_is_found(opening: float, fall: float | None) -> None:
    found = contradiction(
        APPLE[2], raw(date(2020, 8, 28), 499.23), raw(date(2020, 8, 31), opening), APPLE[:2]
    )
    assert found == (None if fall is None else pytest.approx(fall))


def test_a_close_that_has_the_split_in_it_says_nothing() -> None:
    fetched_later = StoredPrice(date(2020, 8, 28), 124.81, date(2020, 9, 1))
    assert contradiction(APPLE[2], fetched_later, raw(date(2020, 8, 31), 127.58), []) is None


def test_prices_weeks_away_say_nothing() -> None:
    far = raw(date(2020, 10, 1), 499.0)
    assert contradiction(APPLE[2], raw(date(2020, 8, 28), 499.23), far, []) is None


TODAY = date(2020, 12, 1)


def verdicts(
    reports: list[Report], evidence: dict[date, Evidence] | None = None
) -> list[tuple[bool, str, str]]:
    found = judge(reports, evidence or {}, "USD", TODAY)
    return [(each.applied, each.kind, each.note) for each in found]


def test_the_preferred_source_counts_and_others_are_kept() -> None:
    split = Split(date(2020, 8, 31), 4)
    assert verdicts([Report("finnhub", split), Report("yahoo", split)]) == [
        (False, "", "as yahoo has it"),
        (True, "", ""),
    ]


def test_another_amount_or_date_is_a_disagreement() -> None:
    assert verdicts(
        [
            Report("yahoo", Dividend(date(2020, 11, 6), 0.205), "USD"),
            Report("alpaca", Dividend(date(2020, 11, 9), 0.21), "USD"),
        ]
    ) == [
        (False, "disagreement", "alpaca counts and has ex-date 2020-11-09, 0.21"),
        (True, "", ""),
    ]


def test_rounding_is_no_disagreement() -> None:
    day = date(2014, 5, 8)
    # 3.29 a share before a split of 7 for 1 and one of 4 for 1, as Yahoo gives it back.
    found = verdicts(
        [
            Report("yahoo", Dividend(day, 0.1175 * 28), "USD"),
            Report("alpaca", Dividend(day, 3.29), "USD"),
        ]
    )
    assert [kind for _, kind, _ in found] == ["", ""]


def test_two_dividends_of_one_source_are_two() -> None:
    found = verdicts(
        [
            Report("yahoo", Dividend(date(2020, 11, 6), 0.2), "USD"),
            Report("yahoo", Dividend(date(2020, 11, 9), 3.0), "USD"),
        ]
    )
    assert [applied for applied, _, _ in found] == [True, True]


def test_where_prices_contradict_the_preferred_source_the_next_counts() -> None:
    day = date(2020, 8, 31)
    prices = Evidence(raw(date(2020, 8, 28), 499.23), raw(day, 127.58))
    found = verdicts(
        [Report("alpaca", Split(day, 40)), Report("yahoo", Split(day, 4))], {day: prices}
    )
    assert [(applied, kind) for applied, kind, _ in found] == [(False, "contradicted"), (True, "")]
    assert found[0][2] == (
        "prices contradict it: 499.23 on 2020-08-28 to 127.58 on 2020-08-31 is a factor of 3.913, "
        "not 40"
    )


def test_what_is_to_come_does_not_count_yet() -> None:
    assert verdicts([Report("yahoo", Split(date(2020, 12, 2), 4))]) == [(False, "", "to come")]


def test_a_dividend_in_another_currency_does_not_count() -> None:
    [(applied, _, note)] = verdicts([Report("yahoo", Dividend(date(2020, 9, 3), 0.55), "AUD")])
    assert (applied, note) == (False, "paid in AUD, prices are in USD")


def test_a_dividend_above_the_price_does_not_count() -> None:
    day = date(2020, 11, 6)
    prices = Evidence(raw(date(2020, 11, 5), 119.03))
    [(applied, kind, _)] = verdicts([Report("yahoo", Dividend(day, 205.0), "USD")], {day: prices})
    assert (applied, kind) == (False, "contradicted")


# ---- rewritten histories


def closes(*values: float) -> "pd.Series[float]":
    index = pd.date_range("2020-08-03", periods=len(values), freq="D", tz=UTC)
    return pd.Series(values, index=index)


@pytest.mark.parametrize(
    ("fresh", "ratio"),
    [
        ((100, 101, 102, 103, 104, 105), None),
        ((25, 25.25, 25.5, 25.75, 26, 26.25), 4.0),
        # The last one has been collected again already.
        ((25, 25.25, 25.5, 25.75, 26, 105), 4.0),
        ((25, 25.25, 25.5, 25.75, 104, 105), None),
        ((25, 50.5, 25.5, 51.5, 26, 52.5), None),
        ((1, 1.01, 1.02, 1.03, 1.04, 1.05), 100.0),
    ],
    ids=["equal", "a quarter", "five of six", "four only", "no common factor", "another unit"],
)
def test_a_rewritten_history_has_one_factor(fresh: tuple[float, ...], ratio: float | None) -> None:
    assert rewrite_ratio(closes(100, 101, 102, 103, 104, 105), closes(*fresh)) == ratio


def test_a_hundredfold_is_a_unit_and_a_quarter_is_not() -> None:
    assert [is_unit_ratio(each) for each in (100.0, 0.01, 4.0, 0.25)] == [True, True, False, False]
