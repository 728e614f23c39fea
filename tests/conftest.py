"""Real servers for the tests: one PostgreSQL and Valkey, a fresh database for each test."""

import itertools
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

# The definitions read these once, when they are imported: few partitions make quick tests.
os.environ.setdefault("SCIZOR_INTRADAY_START", "2021-12-01")
os.environ.setdefault("SCIZOR_DAILY_START", "2000-01-01")
os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "1")
os.environ.setdefault("DBT_SEND_ANONYMOUS_USAGE_STATS", "0")

from scizor_resources.embedded.servers import EmbeddedServers
from scizor_resources.endpoints import Endpoints
from scizor_resources.platform import Platform
from scizor_resources.settings import load_settings
from scizor_resources.stores import schema
from scizor_resources.stores.reference import ReferenceStore
from scizor_resources.stores.warehouse import Warehouse

hypothesis_settings.register_profile(
    "suite", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("suite")

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Database:
    """A freshly migrated database of its own for one test."""

    endpoints: Endpoints

    @property
    def libpq_url(self) -> str:
        return self.endpoints.libpq_url

    @property
    def dbt_env(self) -> dict[str, str]:
        return self.endpoints.dbt_environment


@pytest.fixture(scope="session")
def embedded() -> Iterator[EmbeddedServers]:
    """The servers, started once for all tests."""
    with (
        tempfile.TemporaryDirectory(prefix="scizor test ") as home,
        EmbeddedServers(Path(home)) as running,
    ):
        yield running


@pytest.fixture(scope="session")
def servers(embedded: EmbeddedServers) -> Endpoints:
    """Where the servers are reached."""
    started = embedded.start()
    with psycopg.connect(started.libpq_url, autocommit=True) as connection:
        # No test outlives a power cut, and every one makes a database.
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("SELECT pg_reload_conf()")
    return Endpoints(started.libpq_url, started.redis_url)


def _create(servers: Endpoints, name: str, template: str) -> Endpoints:
    with psycopg.connect(servers.libpq_url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY file_copy')
    url = sa.make_url(servers.libpq_url).set(database=name)
    return Endpoints(url.render_as_string(hide_password=False), servers.redis_url)


@pytest.fixture(scope="session")
def migrated(servers: Endpoints) -> str:
    """Name of a template database with the schema and the seeded portfolio."""
    endpoints = _create(servers, "scizor_template", "template1")
    engine = sa.create_engine(endpoints.sqlalchemy_url, poolclass=sa.NullPool)
    schema.upgrade(engine)
    return "scizor_template"


@pytest.fixture(scope="session")
def seeded(servers: Endpoints, migrated: str) -> str:
    """Name of a template database that holds the ASX portfolio too."""
    endpoints = _create(servers, "scizor_seeded", migrated)
    ReferenceStore(Warehouse(endpoints.libpq_url)).seed()
    return "scizor_seeded"


def _drop(servers: Endpoints, name: str) -> None:
    with psycopg.connect(servers.libpq_url, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def database(servers: Endpoints, migrated: str) -> Iterator[Database]:
    """A fresh, migrated, empty database."""
    name = f"test_{next(_numbers)}"
    yield Database(_create(servers, name, migrated))
    _drop(servers, name)


@pytest.fixture(autouse=True)
def _no_instance_of_another_test() -> None:
    """Let Dagster forget the storage of an instance that is gone.

    It keeps the last one entered in a context variable; instances that tests do not leave in the
    order in which they entered them put a gone one back, and loading definitions then fails.
    """
    module = sys.modules.get("dagster._core.storage.defs_state.base")
    if module is not None:
        module._current_storage.set(None)


@pytest.fixture
def platform(
    servers: Endpoints, seeded: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Platform]:
    """An opened platform on a fresh seeded database; the environment points to it too."""
    name = f"test_{next(_numbers)}"
    endpoints = _create(servers, name, seeded)
    for variable, value in endpoints.environment.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("SCIZOR_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    with Platform.open(load_settings()) as opened:
        # Budgets, breakers and spending of other tests are none of this one's business.
        opened.link.call(lambda client: client.flushdb())
        # Later than all test data, and always the same.
        opened.now = lambda: datetime(2026, 11, 20, tzinfo=UTC)
        yield opened
    _drop(servers, name)
