"""The judgements over stored bars: each finds its own fault and names symbol, time and value."""

import json
from typing import Any

import pandas as pd
import pytest

from scizor_core.bar_checks import (
    SHOWN_ROWS,
    Finding,
    check_duplicates,
    check_inside_session,
    check_monotonic_time,
    check_ohlc,
    check_outliers,
    check_schema,
)

OPEN = pd.Timestamp("2022-01-04 14:30", tz="UTC")
BAD = 3
BAD_TIME = "2022-01-04 14:33:00+00:00"


def good_bars(count: int = 30) -> pd.DataFrame:
    """Return stored minutes of AAPL with nothing against them."""
    ts = pd.date_range(OPEN, periods=count, freq="min").as_unit("us")
    return pd.DataFrame(
        {
            "instrument_id": 1,
            "symbol": "AAPL",
            "timeframe": pd.Series(["1m"] * count, dtype="str"),
            "ts": ts,
            "session_date": pd.Timestamp("2022-01-04").as_unit("us"),
            "open": 100.0,
            "high": 101.0,
            "low": 99.0,
            "close": 100.5,
            "volume": 1000.0,
            "vwap": 100.2,
            "trade_count": pd.Series([5] * count, dtype="Int64"),
            "adj_close": float("nan"),
            "source": pd.Series(["yahoo"] * count, dtype="str"),
            "is_final": True,
            "ingested_at": pd.Timestamp("2022-01-05", tz="UTC").as_unit("us"),
        }
    )


def spoilt(**values: Any) -> pd.DataFrame:
    bars = good_bars()
    for name, value in values.items():
        bars.loc[BAD, name] = value
    return bars


CHECKS = {
    "schema": check_schema,
    "ohlc_consistency": check_ohlc,
    "duplicates": check_duplicates,
    "monotonic_time": check_monotonic_time,
    "inside_session": lambda bars: check_inside_session(bars, "us", "1m"),
    "outliers": lambda bars: check_outliers(bars, OPEN),
}


@pytest.mark.parametrize("name", list(CHECKS))
def test_good_bars_pass(name: str) -> None:
    assert CHECKS[name](good_bars()) == Finding(name, 0, [])


@pytest.mark.parametrize("name", list(CHECKS))
def test_no_bars_pass(name: str) -> None:
    assert CHECKS[name](good_bars().iloc[:0]).passed


@pytest.mark.parametrize(
    ("name", "values", "shown"),
    [
        ("schema", {"volume": -5.0}, {"column": "volume", "value": "-5.0"}),
        ("schema", {"close": float("inf"), "high": float("inf")}, {"value": "inf"}),
        ("schema", {"source": ""}, {"column": "source"}),
        ("schema", {"high": 98.0}, {"check": "high_is_highest"}),
        ("ohlc_consistency", {"high": 100.2}, {"high": 100.2, "close": 100.5}),
        ("ohlc_consistency", {"low": 100.2}, {"low": 100.2, "open": 100.0}),
        (
            "monotonic_time",
            {"ingested_at": pd.Timestamp("2022-01-04 14:32:59", tz="UTC")},
            {"ingested_at": "2022-01-04 14:32:59+00:00"},
        ),
        (
            "inside_session",
            {"session_date": pd.Timestamp("2022-01-05")},
            {"session_date": "2022-01-05 00:00:00"},
        ),
        ("outliers", {"close": 50.0, "low": 50.0}, {"rule": "price_change", "limit": 0.1}),
        ("outliers", {"high": 120.0}, {"rule": "spread", "value": 0.208955}),
    ],
)
def test_a_bad_value_is_found_with_symbol_time_and_value(
    name: str, values: dict[str, Any], shown: dict[str, Any]
) -> None:
    finding = CHECKS[name](spoilt(**values))
    assert (finding.name, finding.passed) == (name, False)
    rows = [row for row in finding.rows if row["ts"] == BAD_TIME]
    assert rows
    assert all(row["symbol"] == "AAPL" for row in rows)
    assert any(shown.items() <= row.items() for row in rows)


@pytest.mark.parametrize(
    ("time", "fault"),
    [
        ("2022-01-04 14:29", "outside every session of XNYS"),
        ("2022-01-04 21:00", "outside every session of XNYS"),
        ("2022-01-08 15:00", "outside every session of XNYS"),
        ("2022-01-04 14:33:30", "time is not the start of a 1m bar"),
    ],
)
def test_a_bar_off_the_grid_or_outside_the_session_is_found(time: str, fault: str) -> None:
    finding = check_inside_session(spoilt(ts=pd.Timestamp(time, tz="UTC")), "us", "1m")
    assert finding.count == 1
    assert finding.rows[0]["fault"] == fault


def test_a_daily_bar_on_a_closed_day_is_found() -> None:
    bars = good_bars(2).assign(
        ts=pd.DatetimeIndex(["2022-01-07", "2022-01-08"], tz="UTC").as_unit("us"),
        session_date=pd.DatetimeIndex(["2022-01-07", "2022-01-08"]).as_unit("us"),
    )
    finding = check_inside_session(bars, "us", "1d")
    assert [row["fault"] for row in finding.rows] == ["XNYS has no session on that date"]


def test_one_symbol_twice_under_two_ids_is_found() -> None:
    other = good_bars().iloc[[BAD]].assign(instrument_id=2)
    finding = check_duplicates(pd.concat([good_bars(), other], ignore_index=True))
    assert [(row["ts"], row["instrument_id"]) for row in finding.rows] == [
        (BAD_TIME, 1),
        (BAD_TIME, 2),
    ]


def test_time_that_runs_backwards_is_found() -> None:
    bars = good_bars()
    finding = check_monotonic_time(bars.iloc[[0, 1, 2, 4, 3, 5]])
    assert [row["ts"] for row in finding.rows] == [BAD_TIME]


def test_the_largest_outlier_comes_first() -> None:
    bars = good_bars()
    bars.loc[[5, 9], "high"] = [110.0, 150.0]
    values = [row["value"] for row in check_outliers(bars, OPEN).rows]
    assert values == sorted(values, reverse=True)
    assert len(values) == 2


def test_many_faults_are_counted_and_the_first_of_them_shown() -> None:
    finding = check_ohlc(good_bars(100).assign(high=1.0))
    assert (finding.count, len(finding.rows)) == (100, SHOWN_ROWS)


def test_a_contract_broken_in_two_rows_counts_two_rows() -> None:
    bars = good_bars()
    bars.loc[[3, 8], "volume"] = -1.0
    bars.loc[3, "vwap"] = -1.0
    assert check_schema(bars).count == 2


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_what_is_shown_is_plain_json(value: float) -> None:
    bars = spoilt(high=value, low=200.0)
    for check in CHECKS.values():
        json.dumps(check(bars).rows, allow_nan=False)
