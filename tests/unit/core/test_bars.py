"""Coarser bars from finer ones, against bars worked out by hand, and the laws of it."""

import math

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scizor_core.bars import resample_bars

COLUMNS = ["ts", "open", "high", "low", "close", "volume", "vwap", "trade_count"]


def minutes(*rows: tuple, source: str = "a", instrument_id: int = 1) -> pd.DataFrame:
    frame = pd.DataFrame(list(rows), columns=COLUMNS)
    return frame.assign(
        instrument_id=instrument_id,
        ts=pd.to_datetime("2022-01-04 " + frame["ts"], utc=True).astype("datetime64[us, UTC]"),
        session_date=pd.Timestamp("2022-01-04").as_unit("us"),
        vwap=frame["vwap"].astype("float64"),
        trade_count=frame["trade_count"].astype("Int64"),
        source=source,
        is_final=True,
    )


HAND_MADE = minutes(
    ("14:30", 10.0, 10.5, 9.9, 10.2, 100, 10.1, 4),
    ("14:31", 10.2, 10.3, 9.5, 9.6, 300, 9.9, 6),
    ("14:34", 9.6, 11.0, 9.6, 10.9, 100, 10.5, 1),
    ("14:35", 10.9, 10.9, 10.8, 10.8, 50, 10.85, 2),
)


def test_a_bucket_is_first_open_highest_lowest_last_close_and_all_volume() -> None:
    bars = resample_bars(HAND_MADE, "5m")
    assert list(bars["ts"].dt.strftime("%H:%M")) == ["14:30", "14:35"]
    first = bars.iloc[0]
    assert [first[name] for name in ("open", "high", "low", "close", "volume", "trade_count")] == [
        10.0,
        11.0,
        9.5,
        10.9,
        500,
        11,
    ]


def test_the_vwap_is_weighted_by_volume() -> None:
    # (100 * 10.1 + 300 * 9.9 + 100 * 10.5) / 500
    assert resample_bars(HAND_MADE, "5m")["vwap"][0] == pytest.approx(10.06, rel=1e-12)


def test_a_traded_minute_without_a_vwap_leaves_the_bucket_without_one() -> None:
    known = minutes(("14:30", 1, 1, 1, 1, 5, 1.0, 1), ("14:31", 1, 1, 1, 1, 5, None, 1))
    assert math.isnan(resample_bars(known, "5m")["vwap"][0])


def test_a_minute_without_volume_has_no_weight() -> None:
    quiet = minutes(("14:30", 1, 1, 1, 1, 5, 1.0, 1), ("14:31", 1, 1, 1, 1, 0, None, 0))
    assert resample_bars(quiet, "5m")["vwap"][0] == 1.0


def test_trades_are_counted_only_where_each_minute_knows_its_own() -> None:
    bars = resample_bars(
        minutes(
            ("14:30", 1, 1, 1, 1, 5, 1.0, 3),
            ("14:31", 1, 1, 1, 1, 5, 1.0, None),
            ("14:35", 1, 1, 1, 1, 5, 1.0, 3),
        ),
        "5m",
    )
    assert bars["trade_count"].isna().tolist() == [True, False]
    assert bars["trade_count"][1] == 3


def test_a_bucket_is_final_when_all_its_minutes_are() -> None:
    running = HAND_MADE.assign(is_final=[True, False, True, True])
    assert resample_bars(running, "5m")["is_final"].tolist() == [False, True]


def test_an_edge_belongs_to_the_bucket_it_opens() -> None:
    bars = resample_bars(
        minutes(("14:44", 1, 1, 1, 1, 1, 1.0, 1), ("14:45", 2, 2, 2, 2, 2, 2.0, 1)), "15m"
    )
    assert list(bars["ts"].dt.strftime("%H:%M")) == ["14:30", "14:45"]
    assert list(bars["close"]) == [1, 2]


def test_no_bar_is_invented_where_no_finer_bar_is() -> None:
    bars = resample_bars(
        minutes(("14:30", 1, 1, 1, 1, 1, 1.0, 1), ("14:50", 1, 1, 1, 1, 1, 1.0, 1)), "5m"
    )
    assert list(bars["ts"].dt.strftime("%H:%M")) == ["14:30", "14:50"]
    assert resample_bars(HAND_MADE.iloc[:0], "5m").empty


def test_instruments_are_kept_apart_and_disorder_does_not_matter() -> None:
    other = minutes(("14:32", 50, 51, 49, 50, 7, 50.0, 1), instrument_id=2)
    mixed = pd.concat([other, HAND_MADE]).sample(frac=1, random_state=3)
    bars = resample_bars(mixed, "5m")
    assert list(bars["instrument_id"]) == [1, 1, 2]
    assert list(bars["open"]) == [10.0, 10.9, 50.0]


@pytest.mark.parametrize(
    ("sources", "joined"),
    [
        (["a", "a"], "a"),
        (["b", "a"], "a+b"),
        (["tape", "simulated"], "simulated+tape"),
        (["a", "simulated"], "simulated+a"),
        (["a+b", "a"], "a+b"),
    ],
    ids=["one", "two", "simulated first", "simulated before the alphabet", "joined before"],
)
def test_the_source_names_every_source_once(sources: list[str], joined: str) -> None:
    bars = resample_bars(HAND_MADE.iloc[:2].assign(source=sources), "5m")
    assert bars["source"].tolist() == [joined]


def test_a_long_list_of_sources_fits_the_column() -> None:
    many = pd.concat(
        [HAND_MADE.iloc[[0]].assign(source=f"tape/vendor number {n}") for n in range(9)]
    )
    many["ts"] = many["ts"] + pd.to_timedelta(range(len(many)), unit="s")
    assert len(resample_bars(many, "5m")["source"][0]) == 64


@st.composite
def sessions(draw: st.DrawFn) -> pd.DataFrame:
    at = sorted(draw(st.sets(st.integers(0, 389), min_size=1, max_size=80)))
    rows = []
    for minute in at:
        low = draw(st.floats(1, 100))
        high = low * draw(st.floats(1, 1.1))
        share = st.floats(0, 1)
        opened, closed, mean = (low + draw(share) * (high - low) for _ in range(3))
        clock = f"{(870 + minute) // 60:02d}:{(870 + minute) % 60:02d}"
        rows.append((clock, opened, high, low, closed, draw(st.integers(0, 10_000)), mean, 1))
    frame = minutes(*rows)
    return frame.assign(
        volume=frame["volume"].astype("float64"),
        source=draw(st.lists(st.sampled_from("abc"), min_size=len(at), max_size=len(at))),
    )


@settings(max_examples=30)
@given(sessions())
def test_by_way_of_five_minutes_is_the_same_as_straight_to_fifteen(bars: pd.DataFrame) -> None:
    straight = resample_bars(bars, "15m")
    detour = resample_bars(resample_bars(bars, "5m"), "15m")
    pd.testing.assert_frame_equal(detour, straight, rtol=1e-12)


@settings(max_examples=30)
@given(sessions(), st.integers(0, 79))
def test_later_minutes_change_no_earlier_bucket(bars: pd.DataFrame, cut: int) -> None:
    known = bars.iloc[: cut + 1]
    whole = resample_bars(bars, "5m")
    part = resample_bars(known, "5m")
    done = part[part["ts"] < known["ts"].max().floor("5min")].reset_index(drop=True)
    pd.testing.assert_frame_equal(done, whole.iloc[: len(done)], rtol=1e-12)
