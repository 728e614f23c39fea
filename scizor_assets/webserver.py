"""The Dagster webserver, as `scizor up` starts it: one that survives a restart of PostgreSQL.

It keeps its connections, other than daemon and workers. After a restart each would cost the first
request that gets it an error, and a launch that fails between two of them leaves a run behind
which was made and never queued.
"""

from typing import Any

import sqlalchemy as sa
from dagster_webserver.cli import main
from sqlalchemy.pool import ConnectionPoolEntry, Pool, PoolProxiedConnection


def check_connection(
    connection: Any, _entry: ConnectionPoolEntry, _proxy: PoolProxiedConnection
) -> None:
    """Ask whether a connection still works before it is used.

    Raises:
        sqlalchemy.exc.DisconnectionError: it does not; SQLAlchemy then opens another one.
    """
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        connection.rollback()
    except connection.Error as error:
        raise sa.exc.DisconnectionError from error


if __name__ == "__main__":
    sa.event.listen(Pool, "checkout", check_connection)
    main()  # type: ignore[no-untyped-call]  # dagster-webserver is not typed here
