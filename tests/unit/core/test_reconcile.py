"""Two sources over the same bar: what counts as a disagreement."""

import pandas as pd
import pytest

from scizor_core.reconcile import DISAGREEMENT_COLUMNS, find_disagreements

TS = pd.Timestamp("2020-08-28", tz="UTC")


def bar(source: str, factor: float = 1.0, *, close: float = 499.23, volume: float = 1e6):  # noqa: ANN201
    """Return AAPL's bar of the session before its 4-for-1 split, in some source's shares."""
    return pd.DataFrame(
        {
            "symbol": ["AAPL"],
            "ts": [TS],
            "source": [source],
            "open": [504.05 * factor],
            "high": [505.77 * factor],
            "low": [498.31 * factor],
            "close": [close * factor],
            "volume": [volume],
        }
    )


def test_the_same_prices_agree_whatever_the_volume() -> None:
    assert find_disagreements(bar("alpaca"), bar("tape", volume=3.0), "1d").empty


def test_a_price_that_differs_is_named_with_both_sources() -> None:
    (row,) = find_disagreements(bar("alpaca"), bar("tape", close=500.0), "1d").to_dict("records")

    assert (row["kept_source"], row["other_source"]) == ("alpaca", "tape")
    assert (row["kept"]["close"], row["other"]["close"]) == (499.23, 500.0)
    assert row["price_difference"] == pytest.approx(0.77 / 499.23)


def test_rounding_is_no_disagreement() -> None:
    assert find_disagreements(bar("alpaca"), bar("tape", close=499.25), "1d").empty


def test_a_split_that_one_source_has_taken_out_is_no_disagreement() -> None:
    assert find_disagreements(bar("alpaca"), bar("yahoo", 0.25), "1d").empty


def test_a_factor_between_two_sources_as_traded_is_one() -> None:
    assert len(find_disagreements(bar("alpaca"), bar("tape", 0.25), "1d")) == 1


def test_other_prices_in_other_shares_are_one() -> None:
    assert len(find_disagreements(bar("alpaca"), bar("yahoo", 0.25, close=470.0), "1d")) == 1


def test_bars_of_one_source_are_not_compared_with_each_other() -> None:
    assert find_disagreements(bar("alpaca"), bar("alpaca", close=500.0), "1d").empty


def test_a_sample_of_a_source_is_not_compared_with_all_of_that_sources_trades() -> None:
    sample = bar("ibkr:sampled", close=500.0)

    assert find_disagreements(bar("ibkr"), sample, "1d").empty
    assert len(find_disagreements(bar("yahoo"), sample, "1d")) == 1


def test_without_common_bars_there_is_nothing_to_say() -> None:
    later = bar("tape").assign(ts=TS + pd.Timedelta(days=1))
    found = find_disagreements(bar("alpaca"), later, "1d")
    assert found.empty
    assert list(found.columns) == list(DISAGREEMENT_COLUMNS)
