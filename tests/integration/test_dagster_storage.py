"""Dagster's storage over a pool, on a real PostgreSQL."""

import dagster as dg
import psycopg
import pytest
import sqlalchemy as sa
from dagster._core.test_utils import create_run_for_test

from scizor_assets.storage import KEPT_CONNECTIONS, PooledPostgresStorage
from scizor_resources.dagster_home import prepare_dagster_home, process_environment
from scizor_resources.platform import Platform


@pytest.fixture
def home(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> Platform:
    """A platform whose Dagster instance the environment names."""
    directory = prepare_dagster_home(platform.settings, platform.endpoints)
    for name, value in process_environment(
        platform.settings, platform.endpoints, directory
    ).items():
        monkeypatch.setenv(name, value)
    return platform


def backends(platform: Platform) -> set[int]:
    """Return the server's processes that work for Dagster."""
    with psycopg.connect(platform.endpoints.libpq_url) as connection:
        rows = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
            "AND query ~ '(runs|event_logs|NOTIFY|alembic|job_ticks)' AND pid <> pg_backend_pid()"
        ).fetchall()
    return {pid for (pid,) in rows}


def test_instances_of_a_process_share_their_connections(home: Platform) -> None:
    found: set[int] = set()
    for _ in range(5):
        with dg.DagsterInstance.get() as instance:
            instance.get_runs()
            found |= backends(home)
    assert len(found) == 1


def test_only_so_many_connections_are_kept(home: Platform) -> None:
    with dg.DagsterInstance.get() as instance:
        engine = PooledPostgresStorage(home.endpoints.dagster_url).run_storage._engine
        instance.get_runs()
        lent = [engine.connect() for _ in range(KEPT_CONNECTIONS + 2)]
        for each in lent:
            each.execute(sa.text("SELECT 1 FROM runs LIMIT 1"))
            each.close()
        assert len(backends(home)) == KEPT_CONNECTIONS


def test_a_run_is_there_for_the_next_instance(home: Platform) -> None:
    with dg.DagsterInstance.get() as instance:
        run = create_run_for_test(instance, job_name="asx_session")
        instance.report_engine_event("noted", run)
    with dg.DagsterInstance.get() as instance:
        assert instance.get_run_by_id(run.run_id) is not None
        events = [each.message for each in instance.all_logs(run.run_id)]
    assert events == ["noted"]


def test_a_restart_of_the_server_is_not_noticed(home: Platform) -> None:
    with dg.DagsterInstance.get() as instance:
        instance.get_runs()
        with psycopg.connect(home.endpoints.libpq_url) as connection:
            for pid in backends(home):
                connection.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        assert instance.get_runs() == []


def test_a_new_database_gets_dagsters_tables(home: Platform) -> None:
    with dg.DagsterInstance.get(), psycopg.connect(home.endpoints.libpq_url) as connection:
        rows = connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'dagster'"
        ).fetchall()
    assert {"runs", "event_logs", "job_ticks"} <= {name for (name,) in rows}
