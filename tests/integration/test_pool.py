"""Connections that are lent, on a real PostgreSQL."""

import multiprocessing
from contextlib import suppress

import psycopg
import pytest

from scizor_resources.errors import WarehouseAway
from scizor_resources.stores.pool import KEPT, ConnectionPool
from tests.conftest import Database


@pytest.fixture
def pool(database: Database):
    made = ConnectionPool(database.libpq_url)
    yield made
    made.close()


def backend(pool: ConnectionPool) -> int:
    with pool.lend() as connection:
        return connection.info.backend_pid


def open_connections(database: Database) -> int:
    with psycopg.connect(database.libpq_url) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchone()
    assert row is not None
    return int(row[0])


def test_the_next_user_gets_the_same_connection(pool: ConnectionPool) -> None:
    assert len({backend(pool) for _ in range(5)}) == 1


def test_two_users_at_a_time_have_a_connection_each(pool: ConnectionPool) -> None:
    with pool.lend() as one, pool.lend() as other:
        assert one.info.backend_pid != other.info.backend_pid


def test_only_so_many_connections_are_kept(pool: ConnectionPool, database: Database) -> None:
    with pool.lend(), pool.lend(), pool.lend():
        assert open_connections(database) == 3
    assert open_connections(database) == KEPT


def test_what_a_user_has_written_is_there_for_the_next(pool: ConnectionPool) -> None:
    with pool.lend() as connection:
        connection.execute("CREATE TABLE public.noted AS SELECT 7 AS number")
    with pool.lend() as connection:
        assert connection.execute("SELECT number FROM public.noted").fetchall() == [{"number": 7}]


def test_what_a_user_wrote_before_an_error_is_not_there(pool: ConnectionPool) -> None:
    with suppress(ValueError), pool.lend() as connection:
        connection.execute("CREATE TABLE public.noted AS SELECT 7 AS number")
        raise ValueError
    with pool.lend() as connection:
        found = connection.execute("SELECT to_regclass('public.noted') AS found").fetchone()
    assert found == {"found": None}


def test_a_connection_that_has_seen_an_error_is_not_lent_again(pool: ConnectionPool) -> None:
    before = backend(pool)
    with suppress(psycopg.Error), pool.lend() as connection:
        connection.execute("SELECT 1/0")
    assert backend(pool) != before


@pytest.mark.parametrize(
    ("statement", "question"),
    [
        pytest.param(
            "SET statement_timeout = 4321",
            "SELECT current_setting('statement_timeout') = '4321ms' AS left_over",
            id="setting",
        ),
        pytest.param(
            "SELECT pg_advisory_lock(4321)",
            "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory') AS left_over",
            id="lock",
        ),
        pytest.param(
            "CREATE TEMPORARY TABLE mine AS SELECT 1",
            "SELECT to_regclass('mine') IS NOT NULL AS left_over",
            id="temporary table",
        ),
        pytest.param(
            "LISTEN news",
            "SELECT EXISTS (SELECT pg_listening_channels()) AS left_over",
            id="subscription",
        ),
    ],
)
def test_nothing_of_the_last_user_is_left(
    pool: ConnectionPool, statement: str, question: str
) -> None:
    with pool.lend() as connection:
        connection.execute(statement)
        before = connection.info.backend_pid
    with pool.lend() as connection:
        assert connection.info.backend_pid == before
        assert connection.execute(question).fetchall() == [{"left_over": False}]


def test_a_statement_that_one_user_repeats_works_for_the_next(pool: ConnectionPool) -> None:
    for _ in range(2):
        with pool.lend() as connection:
            for number in range(20):
                row = connection.execute("SELECT %s::int AS number", [number]).fetchone()
                assert row == {"number": number}


def test_a_connection_in_another_mode_comes_back_in_the_usual_one(pool: ConnectionPool) -> None:
    with pool.lend() as connection:
        connection.autocommit = True
        connection.row_factory = psycopg.rows.tuple_row
    with pool.lend() as connection:
        assert not connection.autocommit
        assert connection.execute("SELECT 1 AS one").fetchone() == {"one": 1}


def test_a_connection_that_a_user_has_closed_is_not_lent_again(pool: ConnectionPool) -> None:
    with pool.lend() as connection:
        connection.close()
    with pool.lend() as connection:
        assert connection.execute("SELECT 1 AS one").fetchone() == {"one": 1}


def test_a_restart_of_the_server_is_not_noticed_by_the_next_user(
    pool: ConnectionPool, database: Database
) -> None:
    before = backend(pool)
    with psycopg.connect(database.libpq_url) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [before])
    assert backend(pool) != before


def test_a_server_that_is_not_there_is_said_so(database: Database) -> None:
    pool = ConnectionPool("postgresql://nobody@127.0.0.1:1/nothing?connect_timeout=2")
    with pytest.raises(WarehouseAway, match="scizor status"), pool.lend():
        pass


def test_a_forked_child_leaves_its_parents_connection_alone(pool: ConnectionPool) -> None:
    before = backend(pool)
    context = multiprocessing.get_context("fork")
    receiving, sending = context.Pipe(duplex=False)

    def in_child() -> None:
        sending.send(backend(pool))
        pool.close()

    child = context.Process(target=in_child)
    child.start()
    of_child = receiving.recv()
    child.join()
    assert of_child != before
    assert backend(pool) == before
