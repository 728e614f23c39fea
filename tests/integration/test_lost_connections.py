"""PostgreSQL goes away in the middle: what is worth another try is tried again."""

import contextlib
from collections.abc import Callable
from datetime import date, timedelta

import dagster as dg
import psycopg
import pytest

from scizor_assets.common import failures
from scizor_resources.errors import WarehouseAway, WarehouseError, is_retryable
from scizor_resources.platform import Platform
from scizor_resources.stores.warehouse import Warehouse
from tests.integration.helpers import FixedSource, collector, flat

_END_OTHERS = (
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
)
_WORK: dict[str, Callable[[Platform], object]] = {
    "read by ADBC": lambda platform: platform.warehouse.read("SELECT 1 AS one"),
    "query": lambda platform: platform.reference.watchlist("asx"),
    "write": lambda platform: write(platform),
}


def write(platform: Platform) -> None:
    source, session = FixedSource(flat("CBA", ["2022-05-18T00:00"])), date(2022, 5, 18)
    report = collector(platform, "1m", source).collect(
        session, session + timedelta(days=1), ["CBA"]
    )
    assert report.rows == 1


def end_connections(platform: Platform) -> None:
    """End every connection of the platform, as a restart of PostgreSQL does."""
    with psycopg.connect(platform.endpoints.libpq_url, autocommit=True) as connection:
        connection.execute(_END_OTHERS)


@pytest.mark.parametrize("name", list(_WORK))
def test_after_a_restart_the_next_try_succeeds(platform: Platform, name: str) -> None:
    work = _WORK[name]
    work(platform)
    end_connections(platform)

    # A connection that was lent before is found dead at once, or by the first query.
    with contextlib.suppress(WarehouseAway):
        work(platform)
    work(platform)


def test_a_connection_that_is_cut_in_the_middle_is_an_error_worth_another_try(
    platform: Platform,
) -> None:
    def lose_it() -> None:
        with platform.warehouse.connect() as connection:
            end_connections(platform)
            connection.execute("SELECT 1")

    with pytest.raises(WarehouseAway) as caught:
        lose_it()
    assert is_retryable(caught.value)


def test_a_server_that_cannot_be_reached_is_worth_another_try() -> None:
    with (
        pytest.raises(WarehouseAway, match="cannot be reached"),
        Warehouse("postgresql://nobody@127.0.0.1:1/nothing").connect(),
    ):
        pass


def test_a_query_that_is_wrong_is_not_worth_another_try(platform: Platform) -> None:
    with pytest.raises(WarehouseError) as caught:
        platform.warehouse.read("SELECT nothing FROM nowhere")
    assert not is_retryable(caught.value)


def test_a_refusal_within_a_transaction_stays_what_it_is(platform: Platform) -> None:
    with pytest.raises(psycopg.errors.UndefinedTable), platform.warehouse.connect() as connection:
        connection.execute("SELECT * FROM nowhere")


def test_a_step_that_lost_its_connection_begins_anew(platform: Platform) -> None:
    tries = []

    @dg.asset(name="counted")
    def counted() -> None:
        with failures(), platform.warehouse.connect() as connection:
            tries.append(1)
            if len(tries) == 1:
                end_connections(platform)
            connection.execute("SELECT 1")

    assert dg.materialize([counted]).success
    assert len(tries) == 2
