"""Whoever looks after PostgreSQL and Valkey while the platform runs.

Embedded servers that have died are started again; configured ones are somebody else's to start,
and are waited for. Either way it is said once that a server is away, and once that it is back.
"""

import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import psycopg
import redis

from scizor_resources.embedded.servers import EmbeddedServers, ServerStatus
from scizor_resources.endpoints import Endpoints
from scizor_resources.errors import ServerError

POSTGRES, VALKEY = "PostgreSQL", "Valkey"
#: Where an embedded server's status has another name.
_NAMES = MappingProxyType({POSTGRES: "postgres", VALKEY: "valkey"})
_VARIABLES = MappingProxyType({POSTGRES: "SCIZOR_DATABASE_URL", VALKEY: "SCIZOR_REDIS_URL"})
_ENDED = "its process has ended"
_LOOK_SECONDS = 0.5
#: A process that is there need not answer; to ask costs PostgreSQL a new process each time.
_ASK_SECONDS = 5.0
_ANSWER_SECONDS = 3
_LONGEST_REST_SECONDS = 60.0

Probe = Callable[[], str | None]


class Startable(Protocol):
    """What the keeper needs of the embedded servers."""

    def status(self) -> list[ServerStatus]:
        """Say which servers run."""

    def start(self) -> object:
        """Start those that do not run.

        Raises:
            ServerError: one does not come up.
        """


@dataclass
class _Watched:
    """One server.

    Attributes:
        probe: says why it cannot be used, None when it can.
        is_embedded: ours to start again.
        why: why it cannot be used now, None while it can.
        since: when it was first found away, in monotonic seconds.
        ask_at: when it is asked next.
        rest_seconds: how long the next failed start is rested for.
        start_at: when it may be started next.
        advice: what a start that failed said last.
    """

    probe: Probe
    is_embedded: bool
    why: str | None = None
    since: float = 0.0
    ask_at: float = 0.0
    rest_seconds: float = 1.0
    start_at: float = 0.0
    advice: str = ""


class ServerKeeper:
    """Looks after the servers in a thread of its own, as a recovery may take minutes.

    Args:
        servers: the embedded servers that this process holds, None where all are configured.
        embedded: titles of those that are embedded.
        probes: title -> says why the server cannot be used, None when it can.
        clock: seconds that only go forward.
    """

    def __init__(
        self,
        servers: Startable | None,
        embedded: frozenset[str],
        probes: Mapping[str, Probe],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._servers = servers
        self._watched = {
            title: _Watched(probe, title in embedded) for title, probe in probes.items()
        }
        self._clock = clock
        self._sentences: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._away: frozenset[str] = frozenset()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def away(self) -> frozenset[str]:
        """Titles of the servers that cannot be used now."""
        return self._away

    def news(self) -> list[str]:
        """Return what happened since the last call, in sentences."""
        told = []
        while not self._sentences.empty():
            told.append(self._sentences.get())
        return told

    def start(self) -> None:
        """Begin to look after the servers."""
        self._thread = threading.Thread(target=self._run, name="server-keeper", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Look no further; returns when a start that is under way has come to its end."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while not self._stopping.is_set():
            self.look()
            self._stopping.wait(_LOOK_SECONDS)

    def look(self) -> None:
        """Look once at each server, and start what has died and is ours."""
        running = self._running()
        for title, each in self._watched.items():
            if self._stopping.is_set():
                return
            has_died = each.is_embedded and title not in running
            if has_died:
                self._found(title, each, _ENDED)
                self._start_again(title, each)
            if has_died or each.why is not None or self._clock() >= each.ask_at:
                each.ask_at = self._clock() + _ASK_SECONDS
                self._found(title, each, each.probe())

    def _running(self) -> set[str]:
        if self._servers is None:
            return set()
        names = {each.name for each in self._servers.status() if each.running}
        return {title for title, name in _NAMES.items() if name in names}

    def _start_again(self, title: str, each: _Watched) -> None:
        if self._servers is None or self._clock() < each.start_at:
            return
        try:
            self._servers.start()
        except ServerError as error:
            each.start_at = self._clock() + each.rest_seconds
            each.rest_seconds = min(2 * each.rest_seconds, _LONGEST_REST_SECONDS)
            if str(error) != each.advice:
                each.advice = str(error)
                self._sentences.put(f"{title} could not be started again: {error}")
        else:
            each.rest_seconds, each.start_at, each.advice = 1.0, 0.0, ""

    def _found(self, title: str, each: _Watched, why: str | None) -> None:
        if why is not None and each.why is None:
            each.since = self._clock()
            self._sentences.put(
                f"{title} cannot be used: {why}. Everything waits for it; "
                f"{_remedy(title, each, why)}."
            )
        elif why is None and each.why is not None:
            self._sentences.put(
                f"{title} is back after {self._clock() - each.since:.0f} s. Runs that it has cut "
                "off are found and launched again within a minute."
            )
        each.why = why
        self._away = frozenset(name for name, one in self._watched.items() if one.why is not None)


def _remedy(title: str, each: _Watched, why: str) -> str:
    if not each.is_embedded:
        return f"start it again where it runs, or correct {_VARIABLES[title]}"
    return "it is started again" if why == _ENDED else "it comes back by itself"


def keeper_of(servers: EmbeddedServers | None, endpoints: Endpoints) -> ServerKeeper:
    """Return the keeper of a platform's servers."""
    embedded = frozenset(
        title for title in _NAMES if servers is not None and servers.needs(_NAMES[title])
    )
    client = redis.Redis.from_url(
        endpoints.redis_url,
        socket_connect_timeout=_ANSWER_SECONDS,
        socket_timeout=_ANSWER_SECONDS,
    )

    def ask_postgres() -> str | None:
        try:
            psycopg.connect(endpoints.libpq_url, connect_timeout=_ANSWER_SECONDS).close()
        except psycopg.Error as error:
            return _first_line(error)
        return None

    def ask_valkey() -> str | None:
        try:
            client.ping()
        except (redis.RedisError, OSError) as error:
            return _first_line(error)
        return None

    return ServerKeeper(servers, embedded, {POSTGRES: ask_postgres, VALKEY: ask_valkey})


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
