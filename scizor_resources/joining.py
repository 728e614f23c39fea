"""Join the servers that a platform already runs on: what a further worker does.

A worker starts no server and makes no schema: it would sit beside an empty platform of its own and
never be given anything to do.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import redis
import sqlalchemy as sa

from scizor_core.errors import ConfigError
from scizor_resources.embedded.servers import EmbeddedServers
from scizor_resources.endpoints import Endpoints
from scizor_resources.errors import ServerError, WarehouseError
from scizor_resources.settings import Settings
from scizor_resources.stores import schema

_CONNECT_TIMEOUT_SECONDS = 10
_VARIABLES = {"postgres": "SCIZOR_DATABASE_URL", "valkey": "SCIZOR_REDIS_URL"}
_OPTIONS = {"postgres": "--database", "valkey": "--broker"}


@contextmanager
def joined(settings: Settings) -> Iterator[Endpoints]:
    """Yield the servers of a platform that runs; embedded ones are held meanwhile.

    Args:
        settings: those servers that they do not name are the embedded ones of their home.

    Raises:
        ConfigError: a URL cannot be used, or the embedded servers would be meant and do not run.
        ServerError: the broker cannot be reached.
        WarehouseError: PostgreSQL cannot be reached, or its schema is not the one needed here.
    """
    database, broker = (
        None if configured is None else configured.get_secret_value()
        for configured in (settings.database_url, settings.redis_url)
    )
    servers = _embedded(settings, postgres=database is None, valkey=broker is None)
    try:
        if servers is not None:
            started = servers.start()
            database, broker = database or started.libpq_url, broker or started.redis_url
        if database is None or broker is None:
            raise AssertionError("each server is either configured or embedded")
        endpoints = Endpoints(database, broker)
        _check_broker(endpoints)
        _check_database(endpoints)
        yield endpoints
    finally:
        if servers is not None:
            servers.stop()


def _embedded(settings: Settings, *, postgres: bool, valkey: bool) -> EmbeddedServers | None:
    """Return the embedded servers that are meant, None where all are configured."""
    needed = [name for name, wanted in (("postgres", postgres), ("valkey", valkey)) if wanted]
    if not needed:
        return None
    servers = EmbeddedServers(settings.home, postgres=postgres, valkey=valkey)
    running = {each.name for each in servers.status() if each.running}
    missing = [name for name in needed if name not in running]
    if missing:
        variables = " and ".join(_VARIABLES[name] for name in needed)
        options = " and ".join(_OPTIONS[name] for name in needed)
        raise ConfigError(
            f"A worker joins a platform that runs, and none runs on {settings.home}. On the "
            "machine of `scizor up`, start that first, or set SCIZOR_HOME to its home; on another "
            f"one, say where its servers are with {options} (or {variables})."
        )
    return servers


def _check_broker(endpoints: Endpoints) -> None:
    try:
        with redis.Redis.from_url(
            endpoints.redis_url,
            socket_connect_timeout=_CONNECT_TIMEOUT_SECONDS,
            socket_timeout=_CONNECT_TIMEOUT_SECONDS,
        ) as client:
            client.ping()
    except (redis.RedisError, ValueError, OSError) as error:
        told = str(error).strip().rstrip(".") or type(error).__name__
        raise ServerError(
            f"The broker at {_shown(endpoints.redis_url)} cannot be reached: {told}. Check "
            f"--broker or SCIZOR_REDIS_URL.{_of_this_machine(endpoints.redis_url)}"
        ) from error


def _check_database(endpoints: Endpoints) -> None:
    engine = sa.create_engine(
        endpoints.sqlalchemy_url,
        poolclass=sa.NullPool,
        connect_args={"connect_timeout": _CONNECT_TIMEOUT_SECONDS},
    )
    if schema.current_revision(engine) is None:
        raise WarehouseError(
            f"The database {endpoints.shown} has no SCIZOR tables: is it the one that `scizor up` "
            "uses? A new one is set up with `scizor db upgrade`."
        )
    schema.require_current(engine)


def _shown(url: str) -> str:
    """Return where the broker is, without user, password and query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _of_this_machine(url: str) -> str:
    if url.startswith("unix:"):
        return " A unix socket reaches servers of this machine only."
    return ""
