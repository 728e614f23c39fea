"""A PostgreSQL connection that is kept, and PostgreSQL's errors in our words."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import adbc_driver_postgresql.dbapi as adbc
import psycopg
from psycopg.rows import dict_row

from scizor_resources.errors import WarehouseAway, WarehouseError

#: What a merge may use to hash the staged rows, and a read to gather bars; with the 4 MB that
#: servers have by default both go to disk.
_WORK_MEMORY = "128MB"

Row = dict[str, Any]


#: What PostgreSQL says while it stops, starts or recovers; 08 is the class of lost connections.
_STOPPING = frozenset({"57P01", "57P02", "57P03"})
_LOST_CONNECTION = "08"
#: In libpq's words.
_CUT_OFF = (
    "terminating connection",
    "server closed the connection",
    "connection to server",
    "no connection to the server",
)


@contextmanager
def database_errors() -> Iterator[None]:
    """Turn the drivers' errors into `WarehouseError`.

    Raises:
        WarehouseAway: the connection was lost or refused.
        WarehouseError: any other refusal.
    """
    try:
        yield
    except (adbc.Error, psycopg.Error) as error:
        if is_away(error):
            raise WarehouseAway(f"PostgreSQL did not answer: {_first_line(error)}.") from error
        sentence = f"PostgreSQL refused or did not answer: {_first_line(error)}."
        raise WarehouseError(sentence) from error


@contextmanager
def lost_connections() -> Iterator[None]:
    """Turn the loss of a connection into `WarehouseAway`; other errors stay what they are.

    Raises:
        WarehouseAway: the connection was lost or refused.
    """
    try:
        yield
    except psycopg.Error as error:
        if not is_away(error):
            raise
        raise WarehouseAway(f"PostgreSQL did not answer: {_first_line(error)}.") from error


def is_away(error: BaseException) -> bool:
    """Say whether an error of a driver means that PostgreSQL is not there, for now."""
    if not isinstance(error, psycopg.OperationalError | adbc.Error):
        return False
    code = error.sqlstate or ""
    if code:
        return code in _STOPPING or code.startswith(_LOST_CONNECTION)
    # The ADBC driver has one class for a connection that was cut and for other failures.
    return isinstance(error, psycopg.OperationalError) or any(
        words in str(error) for words in _CUT_OFF
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


class KeptConnection:
    """One psycopg connection that is kept for the next caller; one caller at a time.

    Connecting costs 5 to 10 ms until the server's caches are warm, a read of a few rows 1 ms.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: psycopg.Connection[Row] | None = None
        self._owner = 0
        self._lock = threading.RLock()
        self._of_parents: list[psycopg.Connection[Row]] = []
        #: Names of the temporary tables that the connection has.
        self.temporary: set[str] = set()

    def __del__(self) -> None:
        # Not every user of a warehouse closes it, and psycopg warns of connections left open.
        if getattr(self, "_connection", None) is not None:
            self.close()

    @contextmanager
    def lend(self) -> Iterator[psycopg.Connection[Row]]:
        """Lend the connection (autocommit); one that has seen an error is not used again."""
        with self._lock, database_errors():
            connection = self._alive()
            try:
                yield connection
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Close the connection; the next caller gets a new one."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is None:
                return
            if self._owner == os.getpid():
                connection.close()
            else:
                # The socket is the parent's too: to close it here would end the parent's.
                self._of_parents.append(connection)

    def _alive(self) -> psycopg.Connection[Row]:
        if self._owner != os.getpid():
            self.close()
        if self._connection is not None:
            try:
                self._connection.execute("")
            except psycopg.OperationalError:  # the server was restarted meanwhile
                self.close()
        if self._connection is None:
            # Plans are made for the values asked: a generic one cannot leave partitions out.
            self._connection = psycopg.connect(
                self._url, autocommit=True, prepare_threshold=None, row_factory=dict_row
            )
            self._owner = os.getpid()
            self._connection.execute(f"SET work_mem = '{_WORK_MEMORY}'")
            # Workers would hand packed bars on at the price of packing them: no gain on two cores.
            self._connection.execute("SET max_parallel_workers_per_gather = 0")
            self.temporary = set()
        return self._connection
