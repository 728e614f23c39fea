"""A PostgreSQL connection that is kept, and PostgreSQL's errors in our words."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import adbc_driver_postgresql.dbapi as adbc
import psycopg
from psycopg.rows import dict_row

from scizor_resources.errors import WarehouseError

#: What a merge may use to hash the staged rows, and a read to gather bars; with the 4 MB that
#: servers have by default both go to disk.
_WORK_MEMORY = "128MB"

Row = dict[str, Any]


@contextmanager
def database_errors() -> Iterator[None]:
    """Turn the drivers' errors into `WarehouseError`."""
    try:
        yield
    except (adbc.Error, psycopg.Error) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise WarehouseError(f"PostgreSQL refused or did not answer: {first}.") from error


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
