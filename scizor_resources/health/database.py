"""One connection to PostgreSQL that can change nothing and waits for nothing long."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from psycopg.rows import dict_row

from scizor_resources.errors import WarehouseError

Row = dict[str, Any]

#: psycopg takes less than two seconds for two.
CONNECT_TIMEOUT_SECONDS = 2
STATEMENT_TIMEOUT_SECONDS = 5


class Database:
    """A connection that is opened when it is needed, kept, and opened anew after an error.

    Attributes:
        queries: statements so far.
        seconds: time spent waiting for their answers.
    """

    def __init__(self) -> None:
        self.queries = 0
        self.seconds = 0.0
        self._url = ""
        self._connection: psycopg.Connection[Row] | None = None

    def use(self, url: str) -> None:
        """Ask this server from now on."""
        if url != self._url:
            self.close()
            self._url = url

    def rows(self, sql: str, given: Mapping[str, Any] | Sequence[Any] = ()) -> list[Row]:
        """Return what a query finds.

        Raises:
            WarehouseError: PostgreSQL cannot be reached, refuses, or takes too long.
        """
        began = time.perf_counter()
        try:
            # psycopg takes literals only, against injection; these are constants of this package.
            found = self._opened().execute(sql.encode(), given or None).fetchall()
        except psycopg.Error as error:
            if self._connection is None or isinstance(error, psycopg.OperationalError):
                self.close()
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise WarehouseError(lines[0].strip().rstrip(".")) from error
        finally:
            self.queries += 1
            self.seconds += time.perf_counter() - began
        return found

    def close(self) -> None:
        """Close the connection; the next query opens another one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _opened(self) -> psycopg.Connection[Row]:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(
                self._url,
                autocommit=True,
                # Plans are made for the values asked: a generic one cannot leave partitions out.
                prepare_threshold=None,
                row_factory=dict_row,
                connect_timeout=CONNECT_TIMEOUT_SECONDS,
            )
            # By a query: a pooler between us and the server would refuse start options.
            self._connection.execute(
                "SELECT set_config('default_transaction_read_only', 'on', false), "
                "set_config('statement_timeout', %s, false), set_config('jit', 'off', false), "
                "set_config('max_parallel_workers_per_gather', '0', false), "
                "set_config('application_name', 'scizor health', false)",
                [f"{STATEMENT_TIMEOUT_SECONDS}s"],
            )
        return self._connection
