"""The dbt marts on hand-made rows, against figures worked out by hand.

dbt takes seconds to start, so one story is built once, its marts are written down after each
chapter, and each test reads in them:

past      a first build
again     a second build with nothing new
changed   new sessions, revised bars, a session that arrived late, a changed code
full      the same rows with --full-refresh
"""

import math
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import psycopg
import pytest
from psycopg.rows import dict_row

PROJECT_DIR = Path(__file__).parents[2] / "dbt_project"
INCREMENTAL_MARTS = (
    "daily_bars",
    "intraday_session_summary",
    "movers",
    "volatility",
    "data_quality",
)
VIEWED_MARTS = ("latest_prices", "indicator_snapshot")
FIRST_ARRIVAL = datetime(2022, 6, 1, tzinfo=UTC)
SECOND_ARRIVAL = datetime(2022, 6, 2, tzinfo=UTC)
#: Sessions of the long series, one a day: 61 closes make the 60 returns of the longest window.
LONG_SESSIONS = [date(2022, 1, 1) + timedelta(days=number) for number in range(61)]
OPENING = datetime(2022, 1, 4, 23, 0, tzinfo=UTC)
#: Sessions around a split, after the long series, whose ranks they leave alone.
SPLIT_SESSIONS = [date(2022, 3, day) for day in (14, 15, 16, 17)]

Row = dict[str, Any]
Chapter = dict[str, list[Row]]


class Database(Protocol):
    """What these tests need of the fixture `database`."""

    @property
    def libpq_url(self) -> str: ...

    @property
    def dbt_env(self) -> dict[str, str]: ...


@dataclass
class Story:
    """The marts after each chapter, and the row versions where a later build may not touch them."""

    past: Chapter
    past_versions: Chapter
    again_versions: Chapter
    changed: Chapter
    full: Chapter


_stories: list[Story] = []


@pytest.fixture
def story(request: pytest.FixtureRequest, tmp_path: Path) -> Story:
    """The story, told to the first test that asks and remembered for the others."""
    if not _stories:
        _stories.append(_tell(request.getfixturevalue("database"), tmp_path))
    return _stories[0]


def _tell(database: Database, target: Path) -> Story:
    with psycopg.connect(database.libpq_url, autocommit=True) as connection:
        _insert_the_past(connection)
        _dbt(database, target, "build")
        past, past_versions = _read(connection), _versions(connection)
        _dbt(database, target, "build")
        again_versions = _versions(connection)
        _insert_the_changes(connection)
        _dbt(database, target, "build")
        changed = _read(connection)
        _dbt(database, target, "build", "--full-refresh")
        return Story(past, past_versions, again_versions, changed, _read(connection))


def _dbt(database: Database, target: Path, *arguments: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "dbt.cli.main", "--no-use-colors", *arguments],
        cwd=PROJECT_DIR,
        env={
            **os.environ,
            **database.dbt_env,
            "DBT_PROFILES_DIR": str(PROJECT_DIR),
            "DBT_TARGET_PATH": str(target / "target"),
            "DBT_LOG_PATH": str(target / "logs"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-4000:]


def _insert_the_past(connection: psycopg.Connection[Any]) -> None:
    for year, month in ((2021, 12), (2022, 1), (2022, 2), (2022, 3)):
        for table in ("bars", "indicators"):
            start, end = date(year, month, 1), date(year + month // 12, month % 12 + 1, 1)
            connection.execute(
                f"CREATE TABLE market.{table}_{year}_{month} PARTITION OF market.{table} "
                f"FOR VALUES FROM ('{start} 00:00+00') TO ('{end} 00:00+00')"
            )
    for instrument, (market, symbol) in enumerate(
        [
            ("asx", "AAA"),
            ("asx", "BBB"),
            ("us", "UUU"),
            ("crypto", "CCC/USD"),
            ("us", "RAW"),
            ("us", "FIT"),
        ],
        start=1,
    ):
        connection.execute(
            "INSERT INTO symbols (instrument_id, market, symbol, currency) "
            "VALUES (%s, %s, %s, 'X')",
            (instrument, market, symbol),
        )

    # A two for one split before the third session: -52 % as traded, -4 % adjusted.
    _bar(connection, 1, "1d", date(2022, 1, 3), (100, 101, 99, 100), adj_close=50)
    _bar(connection, 1, "1d", date(2022, 1, 4), (101, 111, 100, 110), adj_close=55)
    _bar(connection, 1, "1d", date(2022, 1, 5), (55, 56, 50.5, 52.8), adj_close=52.8)
    # Two sources, of which only the second adjusts, to half the price.
    _bar(connection, 2, "1d", date(2022, 1, 3), (10, 10, 10, 10), source="tape")
    _bar(connection, 2, "1d", date(2022, 1, 4), (10, 10.5, 10, 10.5), source="tape")
    _bar(connection, 2, "1d", date(2022, 1, 5), (11, 12, 11, 12), adj_close=6)
    _bar(connection, 2, "1d", date(2022, 1, 6), (12, 12.6, 12, 12.6), adj_close=6.3)
    # Closes of 100 and 110 in turn, every high 1.2 times the low, one session of triple volume.
    for number, session in enumerate(LONG_SESSIONS):
        for instrument, source in ((3, "yahoo"), (4, "simulated")):
            prices = (100, 114, 95, 110 if number % 2 else 100)
            volume = 300 if number == 20 else 100
            _bar(connection, instrument, "1d", session, prices, volume=volume, source=source)

    # Raw and adjusted bars of the same shares: a split of 2 for 1 before the third session, and
    # 1.10 for each new one before the fourth.
    for session, raw, adjusted in zip(
        SPLIT_SESSIONS, (100, 110, 55, 54), (50, 55, 55, 54), strict=True
    ):
        _bar(connection, 5, "1d", session, (raw, raw, raw, raw), source="tape/file")
        _bar(connection, 6, "1d", session, (adjusted,) * 4)
    for instrument in (5, 6):
        _action(connection, instrument, SPLIT_SESSIONS[2], ratio=2)
        _action(connection, instrument, SPLIT_SESSIONS[3], amount=1.1)
        _action(connection, instrument, SPLIT_SESSIONS[1], ratio=50, applied=False)

    session = date(2022, 1, 5)
    _minute(connection, session, 0, (55, 56, 54, 55), volume=100, vwap=55.2)
    _minute(connection, session, 1, (55, 55.5, 52.5, 54), volume=50)
    _minute(connection, session, 2, (54, 54, 54, 54), volume=0)
    for minute, average in ((0, 54.0), (1, 54.5)):
        connection.execute(
            "INSERT INTO market.indicators (instrument_id, timeframe, ts, session_date, source, "
            "sma_10, warmup_bars) VALUES (1, '1m', %s, %s, 'yahoo', %s, 700)",
            (OPENING + timedelta(minutes=minute), session, average),
        )
    for instrument, timeframe, expected, present in ((1, "1m", 360, 3), (4, "1d", 1, 1)):
        connection.execute(
            "INSERT INTO quality.completeness (instrument_id, timeframe, session_date, expected, "
            "present, quiet, missing, not_fetched, unexpected, outliers, quarantined, coverage, "
            "score, reason, updated_at) "
            "VALUES (%s, %s, %s, %s, %s, 0, %s, %s, 0, 1, 2, %s, 50, 'not yet fetched', %s)",
            (
                instrument, timeframe, session, expected, present, expected - present,
                expected - present, present / expected, FIRST_ARRIVAL,
            ),
        )  # fmt: skip
    connection.execute(
        "INSERT INTO quality.gaps (instrument_id, timeframe, session_date, start_ts, end_ts, "
        "reason, source, status, next_attempt_at) VALUES (1, '1m', %s, %s, %s, 'not yet fetched', "
        "'', 'open', %s)",
        (session, OPENING + timedelta(minutes=3), OPENING + timedelta(hours=6), SECOND_ARRIVAL),
    )


def _insert_the_changes(connection: psycopg.Connection[Any]) -> None:
    for number in range(1, 6):
        session = LONG_SESSIONS[-1] + timedelta(days=number)
        prices = (1000, 9000, 900, 1000 * number)
        _bar(connection, 3, "1d", session, prices, volume=1_000_000, arrived=SECOND_ARRIVAL)
    connection.execute(
        "UPDATE market.bars SET high = 122, close = 121, adj_close = 60.5, ingested_at = %s "
        "WHERE instrument_id = 1 AND timeframe = '1d' AND session_date = '2022-01-04'",
        (SECOND_ARRIVAL,),
    )
    connection.execute(
        "UPDATE market.bars SET high = 60, close = 60, volume = 50, ingested_at = %s "
        "WHERE instrument_id = 1 AND timeframe = '1m' AND ts = %s",
        (SECOND_ARRIVAL, OPENING + timedelta(minutes=2)),
    )
    # The close that the dividend is measured by, and a split after the bars were fetched.
    connection.execute(
        "UPDATE market.bars SET open = 44, high = 44, low = 44, close = 44, ingested_at = %s "
        "WHERE instrument_id = 5 AND session_date = %s",
        (SECOND_ARRIVAL, SPLIT_SESSIONS[2]),
    )
    _action(connection, 6, date(2022, 6, 10), ratio=5, seen=SECOND_ARRIVAL)
    # Restored with the stamp of its first arrival, which is older than every other.
    restored = datetime(2020, 1, 1, tzinfo=UTC)
    _bar(connection, 2, "1d", date(2021, 12, 31), (8, 8, 8, 8), source="tape", arrived=restored)
    connection.execute("UPDATE symbols SET symbol = 'CCD/USD' WHERE instrument_id = 4")


def _bar(
    connection: psycopg.Connection[Any],
    instrument: int,
    timeframe: str,
    session: date,
    prices: tuple[float, float, float, float],
    *,
    ts: datetime | None = None,
    volume: float = 100,
    vwap: float | None = None,
    adj_close: float | None = None,
    source: str = "yahoo",
    arrived: datetime = FIRST_ARRIVAL,
) -> None:
    ts = ts or datetime(session.year, session.month, session.day, tzinfo=UTC)
    values = (instrument, timeframe, ts, session, *prices, volume, vwap, adj_close, source, arrived)
    connection.execute(
        "INSERT INTO market.bars (instrument_id, timeframe, ts, session_date, open, high, low, "
        "close, volume, vwap, adj_close, source, ingested_at) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        values,
    )


def _action(
    connection: psycopg.Connection[Any],
    instrument: int,
    day: date,
    *,
    ratio: float | None = None,
    amount: float | None = None,
    applied: bool = True,
    seen: datetime = FIRST_ARRIVAL,
) -> None:
    connection.execute(
        "INSERT INTO public.corporate_actions (instrument_id, ex_date, kind, source, ratio, "
        "amount, applied, first_seen_at, updated_at) "
        "VALUES (%s, %s, %s, 'yahoo', %s, %s, %s, %s, %s)",
        (
            instrument, day, "dividend" if ratio is None else "split", ratio, amount, applied,
            seen, seen,
        ),
    )  # fmt: skip


def _minute(
    connection: psycopg.Connection[Any],
    session: date,
    minute: int,
    prices: tuple[float, float, float, float],
    *,
    volume: float,
    vwap: float | None = None,
) -> None:
    ts = OPENING + timedelta(minutes=minute)
    _bar(connection, 1, "1m", session, prices, ts=ts, volume=volume, vwap=vwap)


def _read(connection: psycopg.Connection[Any]) -> Chapter:
    return {
        mart: _rows(connection, f"SELECT * FROM marts.{mart}")
        for mart in (*INCREMENTAL_MARTS, *VIEWED_MARTS)
    }


def _versions(connection: psycopg.Connection[Any]) -> Chapter:
    """Every row with the transaction that wrote it and its place in the file."""
    return {
        mart: _rows(connection, f"SELECT xmin::text, ctid::text, m.* FROM marts.{mart} AS m")
        for mart in INCREMENTAL_MARTS
    }


def _rows(connection: psycopg.Connection[Any], query: str) -> list[Row]:
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(query).fetchall()
    for row in rows:
        row.pop("age", None)  # runs with the clock
    return sorted(
        rows,
        key=lambda row: (row["instrument_id"], row.get("timeframe", ""), row["session_date"]),
    )


def _of(rows: list[Row], instrument: int) -> list[Row]:
    return [row for row in rows if row["instrument_id"] == instrument]


def _column(rows: list[Row], instrument: int, name: str) -> list[Any]:
    return [row[name] for row in _of(rows, instrument)]


def _near(values: list[float | None]) -> list[Any]:
    return [None if value is None else pytest.approx(value, rel=1e-12) for value in values]


def test_returns_as_traded_show_a_split_and_adjusted_ones_do_not(story: Story) -> None:
    bars = story.past["daily_bars"]
    assert _column(bars, 1, "return_raw") == _near([None, 0.10, -0.52])
    assert _column(bars, 1, "return_adjusted") == _near([None, 0.10, -0.04])


def test_gap_and_range_are_measured_from_the_previous_close_and_the_open(story: Story) -> None:
    bars = story.past["daily_bars"]
    assert _column(bars, 1, "gap") == _near([None, 0.01, -0.5])
    assert _column(bars, 1, "range_percent") == _near([2.0, 100 * 11 / 101, 10.0])


def test_no_adjusted_return_is_computed_across_two_bases(story: Story) -> None:
    bars = story.past["daily_bars"]
    assert _column(bars, 2, "adjustment_source") == ["none", "none", "yahoo", "yahoo"]
    assert _column(bars, 2, "adjusted_close") == [10, 10.5, 6, 6.3]
    assert _column(bars, 2, "return_adjusted") == _near([None, 0.05, None, 0.05])


def test_splits_are_taken_out_of_raw_closes(story: Story) -> None:
    bars = story.past["daily_bars"]
    assert _column(bars, 5, "split_factor") == [0.5, 0.5, 1, 1]
    assert _column(bars, 5, "close_split_adjusted") == [50, 55, 55, 54]


def test_closes_that_came_adjusted_are_left_alone(story: Story) -> None:
    bars = story.past["daily_bars"]
    assert _column(bars, 6, "split_factor") == [1, 1, 1, 1]
    assert _column(bars, 6, "close_split_adjusted") == [50, 55, 55, 54]


@pytest.mark.parametrize("instrument", [5, 6])
def test_dividends_lower_the_closes_before(story: Story, instrument: int) -> None:
    bars = story.past["daily_bars"]
    # 1 - 1.10 / 55
    assert _column(bars, instrument, "dividend_factor") == _near([0.98, 0.98, 0.98, 1])
    assert _column(bars, instrument, "close_adjusted") == _near([49, 53.9, 53.9, 54])


@pytest.mark.parametrize("instrument", [5, 6])
def test_the_first_session_in_new_shares_is_marked(story: Story, instrument: int) -> None:
    marks = _column(story.past["daily_bars"], instrument, "is_split_day")
    assert marks == [False, False, True, False]


def test_without_corporate_actions_nothing_is_adjusted(story: Story) -> None:
    bars = _of(story.past["daily_bars"], 1)
    assert [row["close_adjusted"] for row in bars] == [row["close"] for row in bars]


def test_a_revised_close_before_a_dividend_moves_every_earlier_session(story: Story) -> None:
    bars = story.changed["daily_bars"]
    # 1 - 1.10 / 44
    assert _column(bars, 5, "dividend_factor") == _near([0.975, 0.975, 0.975, 1])


def test_a_new_split_reaches_the_sessions_already_built(story: Story) -> None:
    bars = story.changed["daily_bars"]
    assert _column(bars, 6, "split_factor") == [0.2, 0.2, 0.2, 0.2]
    # 1.10 / 5 against 55 / 5: the dividend was paid on five times fewer shares.
    assert _column(bars, 6, "close_adjusted") == _near([9.8, 10.78, 10.78, 10.8])


def test_an_intraday_session_is_summed_up_bar_by_bar(story: Story) -> None:
    [summary] = story.past["intraday_session_summary"]
    # (100 shares at 55.2 + 50 at the typical price (55.5 + 52.5 + 54) / 3) / 150
    assert summary["vwap"] == pytest.approx(54.8, rel=1e-12)
    assert summary["realised_volatility"] == pytest.approx(math.log(55 / 54), rel=1e-12)
    expected = {
        "market": "asx", "symbol": "AAA", "timeframe": "1m", "session_date": date(2022, 1, 5),
        "open": 55, "high": 56, "low": 52.5, "close": 54, "volume": 150, "vwap_basis": "mixed",
        "bars": 3, "first_ts": OPENING, "last_ts": OPENING + timedelta(minutes=2),
        "high_ts": OPENING, "low_ts": OPENING + timedelta(minutes=1),
        "source": "yahoo", "is_simulated": False,
    }  # fmt: skip
    assert {name: summary[name] for name in expected} == expected


def test_the_latest_price_is_the_intraday_one_of_the_newest_session(story: Story) -> None:
    [price] = _of(story.past["latest_prices"], 1)
    assert (price["timeframe"], price["ts"]) == ("1m", OPENING + timedelta(minutes=2))
    assert (price["close"], price["previous_close"]) == (54, 110)
    assert price["change_percent"] == pytest.approx(100 * (54 / 110 - 1), rel=1e-12)


def test_without_intraday_bars_the_latest_price_is_the_daily_close(story: Story) -> None:
    [price] = _of(story.past["latest_prices"], 2)
    assert (price["timeframe"], price["close"], price["previous_close"]) == ("1d", 12.6, 12)


def test_the_indicator_snapshot_has_the_newest_row_and_the_close_of_its_bar(story: Story) -> None:
    [snapshot] = story.past["indicator_snapshot"]
    assert snapshot["ts"] == OPENING + timedelta(minutes=1)
    assert (snapshot["sma_10"], snapshot["close"], snapshot["sma_20"]) == (54.5, 54, None)


def test_movers_are_ranked_within_their_market_and_session(story: Story) -> None:
    ranks = {
        (row["symbol"], row["session_date"].day): (row["rank_up"], row["rank_down"])
        for row in story.past["movers"]
        if row["market"] == "asx"
    }
    assert ranks == {
        ("AAA", 3): (None, None), ("BBB", 3): (None, None),
        ("AAA", 4): (1, 2), ("BBB", 4): (2, 1),
        ("AAA", 5): (1, 1), ("BBB", 5): (None, None),
        ("BBB", 6): (1, 1),
    }  # fmt: skip


def test_the_volume_ratio_leaves_its_own_session_out_of_the_average(story: Story) -> None:
    ratios = _column(story.past["movers"], 3, "volume_ratio")
    assert ratios[:20] == [None] * 20
    # 300 against twenty times 100; then 100 against nineteen times 100 and once 300.
    assert ratios[20:22] == _near([3.0, 100 / 110])


@pytest.mark.parametrize(("instrument", "sessions_a_year"), [(3, 252), (4, 365)])
def test_volatility_is_null_until_its_window_is_full(
    story: Story, instrument: int, sessions_a_year: int
) -> None:
    rows = story.past["volatility"]
    year = math.sqrt(sessions_a_year)
    # Log returns are ln 1.1 and -ln 1.1 in turn: mean 0, sample variance ln(1.1)^2 * n / (n - 1).
    twenty = math.log(1.1) * math.sqrt(20 / 19) * year
    sixty = math.log(1.1) * math.sqrt(60 / 59) * year
    parkinson = math.log(1.2) / math.sqrt(4 * math.log(2)) * year
    assert _column(rows, instrument, "close_to_close_20")[19:21] == _near([None, twenty])
    assert _column(rows, instrument, "close_to_close_60")[59:61] == _near([None, sixty])
    assert _column(rows, instrument, "parkinson_20")[18:20] == _near([None, parkinson])


def test_data_quality_counts_bars_and_says_which_are_simulated(story: Story) -> None:
    shown = ("symbol", "timeframe", "expected", "present", "missing", "source", "is_simulated")
    rows = [tuple(row[name] for name in shown) for row in story.past["data_quality"]]
    assert rows == [
        ("AAA", "1m", 360, 3, 357, "yahoo", False),
        ("CCC/USD", "1d", 1, 1, 0, "simulated", True),
    ]


@pytest.mark.parametrize("mart", INCREMENTAL_MARTS)
def test_a_second_build_writes_no_row(story: Story, mart: str) -> None:
    assert story.again_versions[mart] == story.past_versions[mart] != []


@pytest.mark.parametrize("mart", ["daily_bars", "movers", "volatility"])
def test_later_sessions_change_no_earlier_row(story: Story, mart: str) -> None:
    # Built anew from all rows: an incremental build would not have touched the earlier ones.
    rebuilt = [row for row in _of(story.full[mart], 3) if row["session_date"] <= LONG_SESSIONS[-1]]
    assert rebuilt == _of(story.past[mart], 3) != []


def test_a_revised_daily_bar_changes_its_own_return_and_the_next(story: Story) -> None:
    bars = story.changed["daily_bars"]
    assert _column(bars, 1, "return_raw") == _near([None, 0.21, 52.8 / 121 - 1])
    assert _column(bars, 1, "return_adjusted") == _near([None, 0.21, 52.8 / 60.5 - 1])


def test_a_revised_minute_changes_its_session(story: Story) -> None:
    [summary] = story.changed["intraday_session_summary"]
    # 50 more shares, at the typical price (60 + 54 + 60) / 3.
    assert summary["vwap"] == pytest.approx((5520 + 2700 + 58 * 50) / 200, rel=1e-12)
    assert (summary["close"], summary["high_ts"]) == (60, OPENING + timedelta(minutes=2))


def test_a_session_restored_with_an_old_stamp_is_found(story: Story) -> None:
    bars = story.changed["daily_bars"]
    assert _column(bars, 2, "return_adjusted") == _near([None, 0.25, 0.05, None, 0.05])


@pytest.mark.parametrize("mart", ["daily_bars", "movers", "volatility", "data_quality"])
def test_a_changed_code_reaches_the_rows_already_built(story: Story, mart: str) -> None:
    assert set(_column(story.changed[mart], 4, "symbol")) == {"CCD/USD"}


@pytest.mark.parametrize("mart", [*INCREMENTAL_MARTS, *VIEWED_MARTS])
def test_an_incremental_build_equals_a_full_one(story: Story, mart: str) -> None:
    assert story.changed[mart] == story.full[mart] != []
