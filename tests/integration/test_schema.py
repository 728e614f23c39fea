"""The schema: set up, checked, upgraded; and the public queries that users know by heart."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta

import psycopg
import pytest
import sqlalchemy as sa

from scizor_resources.endpoints import Endpoints
from scizor_resources.errors import WarehouseError
from scizor_resources.platform import Platform
from scizor_resources.settings import Settings
from scizor_resources.stores import schema

from ..conftest import Database
from .helpers import collector, query, simulated

EVERYTHING = (
    "SELECT COUNT(*) as total_bars, COUNT(DISTINCT symbol) as total_symbols FROM market_data_bars;"
)
METADATA = (
    "SELECT symbol, total_bars_stored, earliest_data_date, latest_data_date FROM symbol_metadata "
    "ORDER BY total_bars_stored DESC LIMIT 10;"
)
STALENESS = (
    "SELECT symbol, MAX(timestamp) as latest_bar, NOW() - MAX(timestamp) as staleness "
    "FROM market_data_bars GROUP BY symbol ORDER BY staleness ASC LIMIT 10;"
)


@pytest.fixture
def empty(servers: Endpoints) -> Endpoints:
    """A database without any schema."""
    with psycopg.connect(servers.libpq_url, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS test_without_schema WITH (FORCE)")
        connection.execute("CREATE DATABASE test_without_schema")
    url = sa.make_url(servers.libpq_url).set(database="test_without_schema")
    return Endpoints(url.render_as_string(hide_password=False), servers.redis_url)


def engine_of(endpoints: Endpoints) -> sa.Engine:
    return sa.create_engine(endpoints.sqlalchemy_url, poolclass=sa.NullPool)


def set_revision(database: Database, revision: str) -> None:
    with psycopg.connect(database.libpq_url, autocommit=True) as connection:
        connection.execute("UPDATE public.scizor_schema_version SET version_num = %s", [revision])


def test_the_public_queries_run_as_they_are_written(platform: Platform) -> None:
    collector(platform, "5m", simulated()).collect(
        date(2022, 1, 4), date(2022, 1, 6), ["CBA", "ZIP"]
    )
    assert query(platform, EVERYTHING) == [{"total_bars": 288, "total_symbols": 2}]
    best = query(platform, METADATA)
    assert {row["symbol"]: row["total_bars_stored"] for row in best[:2]} == {"CBA": 144, "ZIP": 144}
    assert (best[0]["earliest_data_date"], best[0]["latest_data_date"]) == (
        date(2022, 1, 4),
        date(2022, 1, 5),
    )
    assert len(best) == 10
    stale = query(platform, STALENESS)
    # The last five minutes before 16:00 in Sydney.
    assert {row["latest_bar"] for row in stale} == {datetime(2022, 1, 5, 4, 55, tzinfo=UTC)}
    assert all(row["staleness"] > timedelta(days=1000) for row in stale)


def test_the_public_queries_answer_on_an_empty_database(platform: Platform) -> None:
    assert query(platform, EVERYTHING) == [{"total_bars": 0, "total_symbols": 0}]
    assert {row["total_bars_stored"] for row in query(platform, METADATA)} == {0}
    assert query(platform, STALENESS) == []


def test_every_asset_key_of_a_market_is_a_relation(platform: Platform) -> None:
    for market in ("asx", "us", "crypto"):
        for timeframe in ("1m", "5m", "15m", "1d"):
            for kind in ("bars", "indicators"):
                assert query(platform, f"SELECT * FROM {market}.{kind}_{timeframe}") == []
        for name in ("completeness", "completeness_1d"):
            assert query(platform, f"SELECT * FROM {market}.{name}") == []
    assert len(query(platform, "SELECT * FROM reference.instruments")) == 18
    assert len(query(platform, "SELECT * FROM reference.watchlist")) == 18


def test_indicators_are_public_in_long_form(platform: Platform) -> None:
    assert (
        query(
            platform,
            "SELECT symbol, timeframe, timestamp, indicator_name, indicator_value "
            "FROM market_data_indicators",
        )
        == []
    )


def test_an_empty_database_has_no_revision_and_is_set_up(empty: Endpoints) -> None:
    engine = engine_of(empty)
    assert schema.current_revision(engine) is None
    with pytest.raises(WarehouseError, match="is at revision none, .* Run `scizor db upgrade`"):
        schema.require_current(engine)
    assert schema.upgrade(engine) == (None, schema.latest_revision())
    schema.require_current(engine)


def test_upgrading_twice_changes_nothing(database: Database) -> None:
    latest = schema.latest_revision()
    assert schema.upgrade(engine_of(database.endpoints)) == (latest, latest)


def test_two_that_upgrade_at_once_upgrade_once(empty: Endpoints) -> None:
    with ThreadPoolExecutor(2) as pool:
        after = list(pool.map(lambda _: schema.upgrade(engine_of(empty))[1], range(2)))
    assert after == [schema.latest_revision()] * 2
    schema.require_current(engine_of(empty))


def test_two_that_open_an_empty_platform_at_once_both_find_the_portfolio(empty: Endpoints) -> None:
    def opened(_: int) -> int:
        settings = Settings(database_url=empty.libpq_url, redis_url=empty.redis_url)
        with Platform.open(settings) as platform:
            return len(platform.reference.watchlist())

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(opened, range(2))) == [18, 18]


def test_a_schema_that_is_newer_says_to_install_the_newer_version(database: Database) -> None:
    set_revision(database, "9999")
    engine = engine_of(database.endpoints)
    for verb in (schema.require_current, schema.upgrade):
        with pytest.raises(
            WarehouseError, match="revision 9999, which this version of scizor does"
        ):
            verb(engine)


def test_an_older_schema_says_what_to_run(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    latest = schema.latest_revision()
    monkeypatch.setattr(schema, "latest_revision", lambda: "9999")
    message = f"is at revision {latest}, .* needs 9999. Run `scizor db upgrade`"
    with pytest.raises(WarehouseError, match=message):
        schema.require_current(engine_of(database.endpoints))


def test_a_server_out_of_reach_is_named_without_its_password() -> None:
    endpoints = Endpoints("postgresql://scizor:s3cret@127.0.0.1:1/market", "redis://127.0.0.1:1/0")
    with pytest.raises(
        WarehouseError, match="PostgreSQL at .*127.0.0.1:1/market cannot be used"
    ) as c:
        schema.current_revision(engine_of(endpoints))
    assert "Check SCIZOR_DATABASE_URL" in str(c.value)
    assert "s3cret" not in str(c.value)


def test_a_database_that_does_not_exist_is_named(servers: Endpoints) -> None:
    url = sa.make_url(servers.libpq_url).set(database="nowhere")
    endpoints = Endpoints(url.render_as_string(hide_password=False), servers.redis_url)
    with pytest.raises(WarehouseError, match='database "nowhere" does not exist'):
        schema.upgrade(engine_of(endpoints))


def test_a_failed_upgrade_leaves_nothing_behind(empty: Endpoints) -> None:
    with psycopg.connect(empty.libpq_url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA quality")  # what the migration wants to make, too
    with pytest.raises(
        WarehouseError, match='schema "quality" already exists. Nothing was changed'
    ):
        schema.upgrade(engine_of(empty))
    with psycopg.connect(empty.libpq_url) as connection:
        left = connection.execute("SELECT to_regclass('public.symbols')").fetchone()
    assert left == (None,)
