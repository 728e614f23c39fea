"""The marts of protocols, sentiment and catalysts on hand-made rows, by figures worked out by hand.

dbt takes seconds to start, so one story is built once, its marts are written down after each
chapter, and each test reads in them:

past      a first build
again     a second build with nothing new
changed   a late story, a deleted one, a second report found, revised bars, retention
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
MARTS = {
    "protocol_momentum": "protocol, day",
    "sentiment_hourly": "instrument_id, kind, hour",
    "sentiment_vs_return": "instrument_id, kind, hour",
    "catalyst_event_reactions": "catalyst_event_id, instrument_id",
    "catalyst_reactions": "market, type, is_sample",
    "instrument_day": "instrument_id, session_date",
}
FIRST_ARRIVAL = datetime(2022, 6, 1, tzinfo=UTC)
SECOND_ARRIVAL = datetime(2022, 6, 2, tzinfo=UTC)
SHARE, COIN, SPLIT = 1, 2, 3
#: Sessions of 14:30 to 21:00 UTC: Monday, Wednesday to Friday, Monday and Tuesday.
SHARE_SESSIONS = [date(2022, 1, day) for day in (3, 5, 6, 7, 10, 11)]
FRIDAY, MONDAY, TUESDAY = date(2022, 1, 7), date(2022, 1, 10), date(2022, 1, 11)
WEEKEND, AFTER_CLOSE, SECOND_REPORT, AMENDMENT, IN_SESSION, NO_BAR_LEFT, COARSE, ACROSS = range(
    1, 9
)
IN_TIME, TOO_LATE = 9, 10

Row = dict[str, Any]
Chapter = dict[str, list[Row]]
Connection = psycopg.Connection[Any]


class Database(Protocol):
    """What these tests need of the fixture `database`."""

    @property
    def libpq_url(self) -> str: ...

    @property
    def dbt_env(self) -> dict[str, str]: ...


@dataclass
class Story:
    """The marts after each chapter, and the row versions of the incremental one."""

    past: Chapter
    past_versions: list[Row]
    again: Chapter
    again_versions: list[Row]
    changed: Chapter


_stories: list[Story] = []


@pytest.fixture
def story(request: pytest.FixtureRequest, tmp_path: Path) -> Story:
    """The story, told to the first test that asks and remembered for the others."""
    if not _stories:
        _stories.append(_tell(request.getfixturevalue("database"), tmp_path))
    return _stories[0]


def _tell(database: Database, target: Path) -> Story:
    with psycopg.connect(database.libpq_url, autocommit=True) as connection:
        _insert_markets(connection)
        _insert_bars(connection)
        _insert_protocols(connection)
        _insert_stories(connection)
        _insert_events(connection)
        _insert_on_chain(connection)
        _dbt(database, target)
        past, past_versions = _read(connection), _versions(connection)
        _dbt(database, target)
        again, again_versions = _read(connection), _versions(connection)
        _insert_the_changes(connection)
        _dbt(database, target)
        return Story(past, past_versions, again, again_versions, _read(connection))


def _dbt(database: Database, target: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "dbt.cli.main", "--no-use-colors", "build"],
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


def _read(connection: Connection) -> Chapter:
    return {
        mart: _rows(connection, f"SELECT * FROM marts.{mart} ORDER BY {key}")
        for mart, key in MARTS.items()
    }


def _versions(connection: Connection) -> list[Row]:
    """Every row of the incremental mart with the transaction that wrote it and its place."""
    return _rows(
        connection,
        "SELECT xmin::text, ctid::text, m.* FROM marts.instrument_day AS m "
        "ORDER BY instrument_id, session_date",
    )


def _rows(connection: Connection, query: str) -> list[Row]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query).fetchall()


def _at(day: int, clock: str) -> datetime:
    """Return an instant of January 2022, UTC."""
    return datetime.fromisoformat(f"2022-01-{day:02d}T{clock}+00:00")


def _insert(connection: Connection, table: str, **values: Any) -> None:
    names, marks = ", ".join(values), ", ".join(["%s"] * len(values))
    connection.execute(
        f"INSERT INTO {table} ({names}) VALUES ({marks})",
        list(values.values()),
    )


def _insert_markets(connection: Connection) -> None:
    for table in ("bars", "indicators"):
        connection.execute(
            f"CREATE TABLE market.{table}_2022_1 PARTITION OF market.{table} "
            "FOR VALUES FROM ('2022-01-01 00:00+00') TO ('2022-02-01 00:00+00')"
        )
    for instrument, market, symbol in (
        (SHARE, "us", "UUU"),
        (COIN, "crypto", "CCC/USD"),
        (SPLIT, "us", "SPL"),
    ):
        _insert(
            connection, "symbols",
            instrument_id=instrument, market=market, symbol=symbol, currency="USD",
        )  # fmt: skip
    sessions = [("us", day, _at(day.day, "14:30"), _at(day.day, "21:00")) for day in SHARE_SESSIONS]
    sessions += [
        ("crypto", date(2022, 1, day), _at(day, "00:00"), _at(day + 1, "00:00"))
        for day in range(1, 13)
    ]
    for market, day, opens, closes in sessions:
        _insert(
            connection, "public.sessions",
            market=market, session_date=day, open_at=opens, close_at=closes,
            updated_at=FIRST_ARRIVAL,
        )  # fmt: skip


def _bar(
    connection: Connection,
    instrument: int,
    timeframe: str,
    ts: datetime,
    prices: tuple[float, float],
    *,
    volume: float = 100,
    source: str = "yahoo",
) -> None:
    opens, closes = prices
    _insert(
        connection, "market.bars",
        instrument_id=instrument, timeframe=timeframe, ts=ts, session_date=ts.date(),
        open=opens, high=max(prices), low=min(prices), close=closes, volume=volume,
        source=source, ingested_at=FIRST_ARRIVAL,
    )  # fmt: skip


def _insert_bars(connection: Connection) -> None:
    for day, clock, opens, closes, volume in (
        (5, "14:30", 50, 50, 1000),
        (7, "14:30", 90, 90, 4),
        (7, "20:59", 90, 90, 8),
        # Nobody trades in the first minute of Monday, the one that weekend news waits for.
        (10, "14:31", 100, 101, 10),
        (10, "14:32", 101, 102, 20),
        (10, "14:35", 102, 103, 30),
        (10, "14:36", 103, 110, 1000),
        (10, "15:00", 110, 104, 40),
        (10, "15:01", 104, 120, 5),
        (10, "15:30", 120, 105, 50),
        (10, "16:02", 106, 107, 1),
        (10, "20:59", 107, 130, 60),
        (11, "14:30", 130, 131, 70),
        (11, "14:33", 200, 202, 5),
        (11, "14:37", 202, 190, 5),
    ):
        _bar(connection, SHARE, "1m", _at(day, clock), (opens, closes), volume=volume)
    for clock, opens, closes in (
        ("00:15", 10, 11),
        ("00:30", 11, 12),
        ("00:45", 12, 12.5),
        ("01:00", 12.5, 13),
    ):
        _bar(connection, COIN, "15m", _at(8, clock), (opens, closes), source="simulated")
    _bar(connection, SPLIT, "1m", _at(10, "14:31"), (100, 100))
    _bar(connection, SPLIT, "1m", _at(11, "14:30"), (50, 50))
    # The first bar that is stored of a session that began at 14:30.
    _bar(connection, SPLIT, "1m", _at(5, "16:00"), (90, 95))
    _insert(
        connection, "public.corporate_actions",
        instrument_id=SPLIT, ex_date=TUESDAY, kind="split", source="yahoo", ratio=2, applied=True,
        updated_at=FIRST_ARRIVAL,
    )  # fmt: skip
    for day, opens, closes in ((5, 50, 80), (6, 80, 90), (7, 90, 100), (10, 100, 130)):
        _bar(connection, SHARE, "1d", _at(day, "00:00"), (opens, closes))
    _bar(connection, SHARE, "1d", _at(11, "00:00"), (130, 143))
    _bar(connection, SPLIT, "1d", _at(10, "00:00"), (100, 100))
    for day in (8, 9):
        _bar(connection, COIN, "1d", _at(day, "00:00"), (10, 13), source="simulated")
    _insert(
        connection, "market.indicators",
        instrument_id=SHARE, timeframe="1d", ts=_at(10, "00:00"), session_date=MONDAY,
        source="yahoo", sma_20=99.5, rsi_14=55, warmup_bars=700, computed_at=FIRST_ARRIVAL,
    )  # fmt: skip
    connection.execute(
        "INSERT INTO quality.completeness VALUES "
        "(%s, '1d', %s, 1, 1, 0, 0, 0, 1, 0, 1, 87, '', %s)",
        (SHARE, MONDAY, FIRST_ARRIVAL),
    )


def _insert_protocols(connection: Connection) -> None:
    def put(
        protocol: str, metric: str, day: date, value: float, *, hours: int = 30, source: str = ""
    ) -> None:
        start = datetime(day.year, day.month, day.day, tzinfo=UTC)
        _insert(
            connection, "glass.protocol_fundamental_values",
            protocol=protocol, metric=metric, day=day, value_usd=value, is_final=hours >= 24,
            observed_at=start + timedelta(hours=hours), point_at=start,
            protocol_name=protocol.title(), source=f"{source}defillama",
        )  # fmt: skip

    for day in range(1, 15):
        put("aave", "fees", date(2022, 1, day), 10 if day <= 7 else 20)
        put("aave", "revenue", date(2022, 1, day), 2)
    for day, value in ((1, 1000), (7, 1000), (14, 2000), (31, 1500)):
        put("aave", "tvl", date(2022, 1, day), value)
    put("aave", "tvl", date(2022, 1, 8), 900, hours=10)
    put("aave", "tvl", date(2022, 1, 8), 1100, hours=40)
    for day, supply in ((1, 50), (8, 55)):
        put("chain:ethereum", "stablecoin_supply", date(2022, 1, day), supply, source="sample:")
    put("chain:ethereum", "chain_tvl", date(2022, 1, 8), 400, hours=12, source="sample:")


def _tell_story(
    connection: Connection,
    story_id: int,
    at: datetime,
    score: float,
    *,
    kind: str = "news",
    sources: tuple[str, ...] = ("finnhub",),
    instrument: int = SHARE,
    arrived: datetime = FIRST_ARRIVAL,
) -> None:
    label = "positive" if score > 0.1 else "negative" if score < -0.05 else "neutral"
    _insert(connection, "human.stories", story_id=story_id, kind=kind)
    for number, source in enumerate(sources):
        _insert(
            connection, "human.story_items",
            source=source, source_id=str(story_id), story_id=story_id, kind=kind,
            published_at=at + timedelta(minutes=number), observed_at=arrived, votes_at=arrived,
            # Only the first source's score counts.
            score=score if number == 0 else -1, label=label, confidence=0.9, scorer="lexicon",
            updated_at=arrived,
        )  # fmt: skip
        _insert(
            connection, "human.story_instruments",
            source=source, source_id=str(story_id), instrument_id=instrument, how="ticker",
            certainty=1,
        )  # fmt: skip


def _insert_stories(connection: Connection) -> None:
    _tell_story(connection, 1, _at(10, "15:10"), 0.5, sources=("newscatcher", "finnhub"))
    _tell_story(connection, 2, _at(10, "15:20"), -0.1)
    _tell_story(connection, 3, _at(7, "21:00"), 0.8)
    _tell_story(connection, 4, _at(7, "22:00"), 0.4)
    # The last minute that is too old for the base of Monday 15:00, and the first that is not.
    _tell_story(connection, 5, _at(3, "14:59"), -1)
    _tell_story(connection, 6, _at(3, "15:00"), 0)
    _tell_story(connection, 7, _at(10, "15:30"), 0.9, kind="social", sources=("sample:reddit",))
    _tell_story(connection, 8, _at(5, "18:00"), 0.2)
    _tell_story(connection, 9, _at(2, "00:30"), 0.7, instrument=COIN)
    _tell_story(connection, 11, _at(10, "14:40"), 0.6, instrument=SPLIT)
    # Published on Monday, seen on Tuesday, after its author had written something else.
    _tell_story(connection, 12, _at(10, "14:45"), -0.8, instrument=SPLIT)
    connection.execute(
        "UPDATE human.story_items SET edited_at = %(at)s, first_edited_at = %(at)s "
        "WHERE source_id = '12'",
        {"at": _at(11, "14:10")},
    )


def _insert_events(connection: Connection) -> None:
    def put(  # noqa: PLR0913  # the columns of an event
        event: int,
        kind: str,
        published: datetime,
        tradable: datetime,
        impact: int = 5,
        *,
        instrument: int = SHARE,
        source: str = "edgar",
        **values: Any,
    ) -> None:
        _insert(
            connection, "public.catalyst_events",
            catalyst_event_id=event, source=source, source_id=str(event), type=kind,
            title=kind, url="https://example.com", published_at=published, detected_at=published,
            impact=impact, updated_at=FIRST_ARRIVAL, **values,
        )  # fmt: skip
        _insert(
            connection, "public.catalyst_event_instruments",
            catalyst_event_id=event, instrument_id=instrument, first_tradable_at=tradable,
        )  # fmt: skip

    monday = _at(10, "14:30")
    put(WEEKEND, "merger", _at(8, "12:00"), monday, 8)
    put(AFTER_CLOSE, "earnings", _at(7, "21:30"), monday, 9, source="sample:edgar")
    put(SECOND_REPORT, "earnings", _at(7, "21:31"), monday, duplicate_of="sample:edgar 2")
    put(AMENDMENT, "merger", _at(8, "13:00"), monday, is_amendment=True)
    put(IN_SESSION, "merger", _at(11, "14:32:10"), _at(11, "14:33"))
    put(NO_BAR_LEFT, "merger", _at(11, "20:50"), _at(11, "20:50"), 6)
    put(COARSE, "listing", _at(8, "00:09:30"), _at(8, "00:10"), instrument=COIN)
    put(ACROSS, "split", _at(8, "12:00"), monday, instrument=SPLIT)
    put(IN_TIME, "guidance", _at(5, "15:29:10"), _at(5, "15:30"), instrument=SPLIT)
    put(TOO_LATE, "guidance", _at(5, "15:28:10"), _at(5, "15:29"), instrument=SPLIT)


def _insert_on_chain(connection: Connection) -> None:
    active, mvrv = "addresses/active_count", "market/mvrv"
    _metric(connection, "glassnode", active, 7, 90, hours=25)
    _metric(connection, "glassnode", active, 7, 100, hours=30)
    _metric(connection, "glassnode", active, 8, 120)
    _metric(connection, "sample:glassnode", mvrv, 7, 1.5)
    _metric(connection, "glassnode", mvrv, 8, 1.6, hours=12)
    _metric(connection, "nansen", "smart_money/holdings", 7, 7, resolution="snapshot")
    # Fetched for the first time when the session of the ninth was over.
    _metric(connection, "glassnode", "mining/hash_rate", 8, 7, hours=60)


def _metric(  # noqa: PLR0913  # the columns of a value
    connection: Connection,
    source: str,
    metric: str,
    day: int,
    value: float,
    *,
    hours: int = 30,
    resolution: str = "24h",
) -> None:
    ts = _at(day, "00:00")
    _insert(
        connection, "glass.on_chain_metric_values",
        source=source, metric=metric, asset="CCC", resolution=resolution, ts=ts, value=value,
        observed_at=ts + timedelta(hours=hours), is_final=hours >= 24 and resolution != "snapshot",
    )  # fmt: skip


def _insert_the_changes(connection: Connection) -> None:
    _tell_story(connection, 10, _at(11, "15:00"), 0.6, arrived=SECOND_ARRIVAL)
    connection.execute(
        "UPDATE human.story_items SET deleted_at = %s, updated_at = %s WHERE source_id = '2'",
        (SECOND_ARRIVAL, SECOND_ARRIVAL),
    )
    connection.execute(
        "UPDATE public.catalyst_events SET duplicate_of = 'edgar 9', updated_at = %s "
        "WHERE catalyst_event_id = %s",
        (SECOND_ARRIVAL, AFTER_CLOSE),
    )
    connection.execute(
        "UPDATE market.bars SET close = 95, ingested_at = %s "
        "WHERE instrument_id = %s AND timeframe = '1d' AND session_date = %s",
        (SECOND_ARRIVAL, SHARE, FRIDAY),
    )
    connection.execute(
        "UPDATE public.sessions SET close_at = %s, updated_at = %s WHERE session_date = %s",
        (_at(6, "18:00"), SECOND_ARRIVAL, date(2022, 1, 6)),
    )
    # A day later somebody writes the contrary.
    connection.execute(
        "INSERT INTO human.story_revisions (source, source_id, superseded_at, title, body, score, "
        "label) SELECT source, source_id, %s, '', '', score, label FROM human.story_items "
        "WHERE source_id = '11'",
        (_at(11, "15:00"),),
    )
    connection.execute(
        "UPDATE human.story_items SET score = -0.9, label = 'negative', edited_at = %s, "
        "updated_at = %s WHERE source_id = '11'",
        (_at(11, "15:00"), SECOND_ARRIVAL),
    )
    # Both after the close of the ninth.
    _metric(connection, "glassnode", "addresses/active_count", 8, 125, hours=50)
    _metric(connection, "glassnode", "mining/hash_rate", 8, 8, hours=70)
    # Retention: what is older than the sixth goes.
    connection.execute("DELETE FROM human.story_items WHERE published_at < '2022-01-06'")
    connection.execute("DELETE FROM glass.on_chain_metric_values WHERE ts < '2022-01-08'")


def _one(rows: list[Row], **key: Any) -> Row:
    [row] = [row for row in rows if all(row[name] == value for name, value in key.items())]
    return row


def _shown(row: Row, *names: str) -> list[Any]:
    return [
        pytest.approx(value, rel=1e-12) if isinstance(value, float) else value
        for value in (row[name] for name in names)
    ]


def _day(chapter: Chapter, day: date, instrument: int = SHARE) -> Row:
    return _one(chapter["instrument_day"], instrument_id=instrument, session_date=day)


def _reaction(story: Story, event: int) -> Row:
    return _one(story.past["catalyst_event_reactions"], catalyst_event_id=event)


def _hour(story: Story, mart: str, hour: datetime, kind: str = "news") -> Row:
    return _one(story.past[mart], instrument_id=SHARE, kind=kind, hour=hour)


def _momentum(story: Story, day: int, protocol: str = "aave") -> Row:
    return _one(story.past["protocol_momentum"], protocol=protocol, day=date(2022, 1, day))


def test_value_locked_is_compared_with_exactly_so_many_days_before(story: Story) -> None:
    changes = ("tvl_change_1d", "tvl_change_7d", "tvl_change_30d")
    assert _shown(_momentum(story, 8), *changes) == [0.1, 0.1, None]
    assert _shown(_momentum(story, 31), *changes) == [None, None, 0.5]


def test_a_sum_of_seven_days_needs_all_seven(story: Story) -> None:
    assert [_momentum(story, day)["fees_7d_usd"] for day in (6, 7, 13, 14)] == [None, 70, 130, 140]
    assert [_momentum(story, day)["fees_change_7d"] for day in (13, 14)] == [None, 1.0]
    assert _momentum(story, 31)["revenue_7d_usd"] is None


def test_fees_are_annualised_against_the_value_locked(story: Story) -> None:
    # 140 / 7 * 365 / 2000
    assert _momentum(story, 14)["fees_to_tvl"] == pytest.approx(3.65)


def test_a_chain_is_a_row_of_its_own_and_says_that_it_is_partial_and_a_sample(story: Story) -> None:
    names = ("tvl_usd", "stablecoin_supply_usd", "stablecoin_change_7d", "is_partial", "is_sample")
    assert _shown(_momentum(story, 8, "chain:ethereum"), *names) == [400, 55, 0.1, True, True]
    assert _shown(_momentum(story, 8), "is_partial", "is_sample") == [False, False]


def test_a_story_of_several_sources_counts_once_in_its_hour(story: Story) -> None:
    row = _hour(story, "sentiment_hourly", _at(10, "15:00"))
    assert _shown(row, "stories", "sources", "positive", "negative") == [2, 2, 1, 1]
    assert row["mean_score"] == pytest.approx(0.2)
    # Of 0.5 and -0.1: sqrt(2 * 0.3^2 / 1).
    assert row["dispersion"] == pytest.approx(0.3 * math.sqrt(2))


def test_the_base_is_what_was_said_in_the_168_hours_before(story: Story) -> None:
    row = _hour(story, "sentiment_hourly", _at(10, "15:00"))
    # 0.8, 0.4, 0.2 and 0.0, without the -1 of a minute before.
    assert row["base_stories"] == 4
    assert _shown(row, "base_mean", "change") == pytest.approx([0.35, -0.15])
    first = _hour(story, "sentiment_hourly", _at(3, "14:00"))
    assert _shown(first, "base_stories", "base_mean", "change") == [0, None, None]


def test_a_single_story_has_no_dispersion(story: Story) -> None:
    assert _hour(story, "sentiment_hourly", _at(7, "22:00"))["dispersion"] is None


def test_posts_are_counted_apart_and_samples_marked(story: Story) -> None:
    post = _hour(story, "sentiment_hourly", _at(10, "15:00"), "social")
    assert _shown(post, "stories", "mean_score", "is_sample") == [1, 0.9, True]
    assert not _hour(story, "sentiment_hourly", _at(10, "15:00"))["is_sample"]
    assert _hour(story, "sentiment_vs_return", _at(10, "15:00"), "social")["is_sample"]


def test_an_hour_does_not_see_its_own_return(story: Story) -> None:
    row = _hour(story, "sentiment_vs_return", _at(10, "15:00"))
    assert row["known_at"] == _at(10, "16:00")
    # Nobody trades at 16:00 sharp; the fall from 120 to 105 within the hour stays outside.
    assert _shown(row, "entry_ts", "entry_price") == [_at(10, "16:02"), 106]
    assert row["return_1h"] == pytest.approx(107 / 106 - 1)


def test_a_return_is_null_until_bars_reach_its_horizon(story: Story) -> None:
    assert _hour(story, "sentiment_vs_return", _at(10, "15:00"))["return_1d"] is None


def test_what_is_said_after_the_close_meets_the_next_session(story: Story) -> None:
    row = _hour(story, "sentiment_vs_return", _at(7, "22:00"))
    names = ("entry_ts", "entry_price", "return_1h", "return_1d")
    assert _shown(row, *names) == [_at(10, "14:31"), 100, pytest.approx(0.05), pytest.approx(0.31)]
    assert _shown(row, "next_session_date", "next_session_return") == [MONDAY, pytest.approx(0.3)]


def test_the_next_session_opens_after_the_hour(story: Story) -> None:
    row = _hour(story, "sentiment_vs_return", _at(10, "15:00"))
    assert _shown(row, "next_session_date", "next_session_return") == [TUESDAY, pytest.approx(0.1)]


def test_an_entry_comes_within_five_days(story: Story) -> None:
    row = _one(story.past["sentiment_vs_return"], instrument_id=COIN)
    assert _shown(row, "entry_ts", "entry_price", "return_1h") == [None, None, None]


@pytest.mark.parametrize("event", [WEEKEND, AFTER_CLOSE])
def test_an_event_of_the_weekend_or_the_evening_enters_by_the_first_trade_of_monday(
    story: Story, event: int
) -> None:
    row = _reaction(story, event)
    assert _shown(row, "timeframe", "entry_ts", "entry_price") == ["1m", _at(10, "14:31"), 100]


def test_a_horizon_ends_with_the_last_bar_that_is_over(story: Story) -> None:
    row = _reaction(story, WEEKEND)
    returns = [row[f"return_{name}"] for name in ("5m", "30m", "1h", "1d")]
    assert returns == pytest.approx([0.03, 0.04, 0.05, 0.31])
    assert [row[f"volume_{name}"] for name in ("5m", "30m", "1h", "1d")] == [60, 1100, 1155, 1286]


def test_volume_is_compared_with_that_of_the_five_days_before(story: Story) -> None:
    row = _reaction(story, WEEKEND)
    # Friday's bars have 4 and 8; Wednesday's 1,000 are a minute too old.
    ratios = [row[f"volume_ratio_{name}"] for name in ("5m", "30m", "1h", "1d")]
    assert ratios == pytest.approx([60 / 18, 1100 / 30, 1155 / 42, 1286 / 60])


def test_a_reaction_is_null_where_bars_end_before_the_horizon(story: Story) -> None:
    row = _reaction(story, IN_SESSION)
    assert _shown(row, "entry_ts", "entry_price") == [_at(11, "14:33"), 200]
    names = ("return_5m", "volume_5m", "return_30m", "volume_30m", "return_1d", "volume_ratio_1d")
    assert _shown(row, *names) == [pytest.approx(-0.05), 10, None, None, None, None]


def test_an_event_without_a_bar_left_in_its_session_has_no_reaction(story: Story) -> None:
    row = _reaction(story, NO_BAR_LEFT)
    assert _shown(row, "timeframe", "entry_ts", "return_5m") == [None, None, None]


def test_a_first_bar_half_an_hour_late_is_an_entry_and_a_later_one_is_none(story: Story) -> None:
    names = ("entry_ts", "entry_price", "no_entry_reason")
    assert _shown(_reaction(story, IN_TIME), *names) == [_at(5, "16:00"), 90, None]
    assert _shown(_reaction(story, TOO_LATE), *names) == [None, None, "first bar too late"]
    assert _reaction(story, NO_BAR_LEFT)["no_entry_reason"] == "no bar"


def test_cases_without_an_entry_are_counted_by_their_reason(story: Story) -> None:
    counts = ("cases", "cases_late", "cases_without_bar")
    guidance = _one(story.past["catalyst_reactions"], market="us", type="guidance")
    assert _shown(guidance, *counts) == [2, 1, 0]
    merger = _one(story.past["catalyst_reactions"], market="us", type="merger")
    assert _shown(merger, *counts) == [3, 0, 1]


def test_a_horizon_shorter_than_the_bars_is_null(story: Story) -> None:
    row = _reaction(story, COARSE)
    assert _shown(row, "timeframe", "entry_ts") == ["15m", _at(8, "00:15")]
    returns = [row[f"return_{name}"] for name in ("5m", "30m", "1h", "1d")]
    assert returns == [None, pytest.approx(0.2), pytest.approx(0.3), None]
    assert row["volume_ratio_30m"] is None
    assert row["is_simulated"]


def test_no_return_is_computed_across_a_split(story: Story) -> None:
    assert _shown(_reaction(story, ACROSS), "return_1h", "return_1d") == [0, None]


def test_second_reports_and_amendments_are_no_cases(story: Story) -> None:
    events = {row["catalyst_event_id"] for row in story.past["catalyst_event_reactions"]}
    assert events == {
        WEEKEND, AFTER_CLOSE, IN_SESSION, NO_BAR_LEFT, COARSE, ACROSS, IN_TIME, TOO_LATE,
    }  # fmt: skip


def test_reactions_are_summed_up_by_market_and_kind(story: Story) -> None:
    row = _one(story.past["catalyst_reactions"], market="us", type="merger")
    assert _shown(row, "cases", "cases_5m", "cases_30m", "is_sample") == [3, 2, 1, False]
    assert row["mean_impact"] == pytest.approx(19 / 3)
    # Of 0.03 and -0.05.
    names = ("mean_return_5m", "median_return_5m", "stddev_return_5m", "share_up_5m")
    assert [row[name] for name in names] == pytest.approx([-0.01, -0.01, 0.04 * math.sqrt(2), 0.5])
    assert _shown(row, "median_return_1d", "stddev_return_1d", "share_up_1d") == [
        pytest.approx(0.31), None, 1,
    ]  # fmt: skip


def test_samples_are_cases_of_their_own(story: Story) -> None:
    row = _one(story.past["catalyst_reactions"], type="earnings")
    assert _shown(row, "cases", "is_sample") == [1, True]


def test_a_day_brings_together_what_was_known_at_its_close(story: Story) -> None:
    row = _day(story.past, MONDAY)
    expected = {
        "market": "us", "symbol": "UUU", "close": 130, "return_raw": pytest.approx(0.3),
        "session_open_at": _at(10, "14:30"), "session_close_at": _at(10, "21:00"),
        "sma_20": 99.5, "rsi_14": 55, "sma_200": None,
        "news_stories": 3, "news_mean_score": pytest.approx(0.8 / 3),
        "social_stories": 1, "social_mean_score": 0.9, "social_dispersion": None,
        "events": 2, "max_impact": 9, "event_types": ["earnings", "merger"],
        "on_chain": None, "completeness_score": 87, "source": "yahoo", "is_simulated": False,
        "is_sample": True, "is_final": True,
    }  # fmt: skip
    assert {name: row[name] for name in expected} == expected


def test_a_story_at_the_close_is_of_that_session(story: Story) -> None:
    row = _day(story.past, FRIDAY)
    assert _shown(row, "news_stories", "news_mean_score", "events") == [1, 0.8, 0]
    assert row["event_types"] == []
    assert not row["is_sample"]


def test_a_session_without_a_daily_bar_has_no_row(story: Story) -> None:
    rows = story.past["instrument_day"]
    dates = [row["session_date"] for row in rows if row["instrument_id"] == SHARE]
    assert dates == SHARE_SESSIONS[1:]


def test_metrics_are_those_of_the_day_before(story: Story) -> None:
    eighth, ninth = (_day(story.past, date(2022, 1, day), COIN) for day in (8, 9))
    assert eighth["on_chain"] == {"addresses/active_count": 100, "market/mvrv": 1.5}
    # The other metric was asked for while the eighth still ran.
    assert ninth["on_chain"] == {"addresses/active_count": 120, "mining/hash_rate": 7}
    assert [eighth["is_sample"], ninth["is_sample"], ninth["is_simulated"]] == [True, False, True]


@pytest.mark.parametrize("mart", MARTS)
def test_a_second_build_changes_no_row(story: Story, mart: str) -> None:
    assert story.again[mart] == story.past[mart] != []


def test_a_second_build_writes_no_row_of_the_incremental_mart(story: Story) -> None:
    assert story.again_versions == story.past_versions != []


def test_a_late_story_rebuilds_its_session(story: Story) -> None:
    assert _day(story.past, TUESDAY)["news_stories"] == 0
    row = _day(story.changed, TUESDAY)
    assert _shown(row, "news_stories", "news_mean_score") == [1, 0.6]
    assert row["built_from_ingested_at"] == SECOND_ARRIVAL


def test_deleted_stories_and_second_reports_leave_their_session(story: Story) -> None:
    row = _day(story.changed, MONDAY)
    assert row["news_stories"] == 2
    assert row["news_mean_score"] == pytest.approx(0.45)
    assert _shown(row, "events", "max_impact", "event_types") == [1, 8, ["merger"]]


def test_a_revised_close_reaches_the_return_of_the_next_session(story: Story) -> None:
    assert _day(story.changed, MONDAY)["return_raw"] == pytest.approx(130 / 95 - 1)


def test_a_corrected_session_reaches_its_row(story: Story) -> None:
    assert _day(story.changed, date(2022, 1, 6))["session_close_at"] == _at(6, "18:00")


def test_a_metric_restated_after_the_close_stays_as_it_was_known_then(story: Story) -> None:
    row = _day(story.changed, date(2022, 1, 9), COIN)
    assert row["on_chain"] == {"addresses/active_count": 120, "mining/hash_rate": 7}


def _without_stamp(row: Row) -> Row:
    return {name: value for name, value in row.items() if name != "built_from_ingested_at"}


@pytest.mark.parametrize("mart", ["sentiment_hourly", "sentiment_vs_return"])
def test_an_edit_of_the_next_day_changes_no_past_hour(story: Story, mart: str) -> None:
    key = {"instrument_id": SPLIT, "hour": _at(10, "14:00")}
    row = _one(story.changed[mart], **key)
    assert row == _one(story.past[mart], **key)
    assert _shown(row, "stories", "mean_score") == [1, 0.6]


def test_an_edit_of_the_next_day_changes_no_past_session(story: Story) -> None:
    row = _day(story.changed, MONDAY, SPLIT)
    assert _without_stamp(row) == _without_stamp(_day(story.past, MONDAY, SPLIT))
    assert _shown(row, "news_stories", "news_mean_score") == [1, 0.6]


def test_a_text_that_was_seen_after_an_edit_counts_from_the_edit_on(story: Story) -> None:
    row = _one(story.past["sentiment_hourly"], instrument_id=SPLIT, hour=_at(11, "14:00"))
    assert _shown(row, "stories", "mean_score", "negative") == [1, -0.8, 1]


def test_what_retention_takes_away_stays_in_the_days_that_were_built(story: Story) -> None:
    names = ("news_stories", "news_mean_score")
    fifth = date(2022, 1, 5)
    assert _shown(_day(story.changed, fifth), *names) == [1, 0.2]
    eighth = date(2022, 1, 8)
    for name in ("on_chain", "is_sample"):
        assert _day(story.changed, eighth, COIN)[name] == _day(story.past, eighth, COIN)[name]
