"""Dagster's storage in PostgreSQL, with connections that are kept.

dagster-postgres connects anew for each statement: about 5 ms each, hundreds of times in a run. Here
all instances of a process share one pool. And Dagster looks for its tables whenever an instance is
opened, in each of its three storages; here once in a process.
"""

import os
import threading
from collections.abc import Mapping
from typing import Any, Self

import sqlalchemy as sa
from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage
from dagster_postgres.utils import pg_url_from_config

#: Connections of a process that are kept; what is needed beyond is opened and closed as before.
KEPT_CONNECTIONS = 3
#: Older ones are not used again.
_KEEP_SECONDS = 1800


class _Engines:
    """The engines of this process by URL; a forked child makes its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner = os.getpid()
        self._known: dict[str, sa.Engine] = {}
        # Their sockets are the parent's too: to close them here would end the parent's.
        self._of_parents: list[sa.Engine] = []

    def get(self, url: str) -> sa.Engine:
        with self._lock:
            if self._owner != os.getpid():
                self._of_parents += self._known.values()
                self._known, self._owner = {}, os.getpid()
            if url not in self._known:
                self._known[url] = sa.create_engine(
                    url,
                    isolation_level="AUTOCOMMIT",
                    pool_size=KEPT_CONNECTIONS,
                    max_overflow=-1,
                    # Used last, used next: the others grow old and are closed.
                    pool_use_lifo=True,
                    pool_recycle=_KEEP_SECONDS,
                    # The server may have been restarted meanwhile.
                    pool_pre_ping=True,
                )
            return self._known[url]


_ENGINES = _Engines()
_HAVE_TABLES: set[str] = set()


class PooledPostgresStorage(DagsterPostgresStorage):
    """Runs, events and ticks in PostgreSQL over the pool of the process."""

    def __init__(
        self,
        postgres_url: str,
        should_autocreate_tables: bool = True,
        inst_data: ConfigurableClassData | None = None,
    ) -> None:
        missing = should_autocreate_tables and postgres_url not in _HAVE_TABLES
        super().__init__(postgres_url, missing, inst_data)
        _HAVE_TABLES.add(postgres_url)
        for storage in (self._run_storage, self._event_log_storage, self._schedule_storage):
            storage._engine = _ENGINES.get(postgres_url)

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> Self:
        """Return the storage that dagster.yaml describes."""
        return cls(
            pg_url_from_config(config_value),
            config_value.get("should_autocreate_tables", True),
            inst_data,
        )
