"""Connections to PostgreSQL that wait for their next user."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row

from scizor_resources.errors import WarehouseAway
from scizor_resources.stores.connection import Row

#: Connections that are kept; one is what a sensor or a step needs at a time.
KEPT = 1


class ConnectionPool:
    """Lends connections whose rows are dicts, each user one of its own.

    To connect costs 5 to 10 ms, which a run of a minute's bars would spend dozens of times. A
    connection comes back as if it were new: settings, locks, temporary tables of its last user are
    gone. One that has seen an error does not come back.

    Args:
        url: libpq URL.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._owner = os.getpid()
        self._idle: list[psycopg.Connection[Row]] = []
        # Their sockets are the parent's too: to close them here would end the parent's.
        self._of_parents: list[psycopg.Connection[Row]] = []

    def __del__(self) -> None:
        # Not every user of a warehouse closes it, and psycopg warns of connections left open.
        if getattr(self, "_idle", None):
            self.close()

    @contextmanager
    def lend(self) -> Iterator[psycopg.Connection[Row]]:
        """Lend a connection; commits at the end, rolls back and closes on an error.

        Raises:
            WarehouseAway: PostgreSQL cannot be reached.
        """
        connection = self._take() or self._connect()
        try:
            yield connection
            if not connection.closed:
                connection.commit()
        except BaseException:
            connection.close()
            raise
        self._put_back(connection)

    def close(self) -> None:
        """Close the connections that wait; the next user gets a new one."""
        with self._lock:
            self._leave_to_parent()
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _connect(self) -> psycopg.Connection[Row]:
        try:
            # What the server has prepared for one user is gone for the next.
            return psycopg.connect(self._url, prepare_threshold=None, row_factory=dict_row)
        except psycopg.OperationalError as error:
            raise WarehouseAway(
                f"PostgreSQL cannot be reached: {str(error).strip().splitlines()[0]}. Check that "
                "the server runs (`scizor status`) and SCIZOR_DATABASE_URL."
            ) from error

    def _take(self) -> psycopg.Connection[Row] | None:
        """Return a connection that is alive, None where none waits."""
        while True:
            with self._lock:
                self._leave_to_parent()
                if not self._idle:
                    return None
                connection = self._idle.pop()
            try:
                connection.execute("")
                connection.autocommit = False
            except psycopg.OperationalError:  # the server was restarted meanwhile
                connection.close()
            else:
                return connection

    def _put_back(self, connection: psycopg.Connection[Row]) -> None:
        if not connection.closed and not _is_new_again(connection):
            connection.close()
        with self._lock:
            self._leave_to_parent()
            if not connection.closed and len(self._idle) < KEPT:
                self._idle.append(connection)
                return
        connection.close()

    def _leave_to_parent(self) -> None:
        if self._owner != os.getpid():
            self._of_parents += self._idle
            self._idle, self._owner = [], os.getpid()


def _is_new_again(connection: psycopg.Connection[Any]) -> bool:
    """Take away all that a user has left; returns whether that could be done."""
    if connection.info.transaction_status != TransactionStatus.IDLE:
        return False
    try:
        connection.isolation_level = connection.read_only = connection.deferrable = None
        connection.row_factory = dict_row
        connection.autocommit = True
        connection.execute("DISCARD ALL")
    except psycopg.Error:
        return False
    return True
