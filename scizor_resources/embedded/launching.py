"""Bringing a server up: its data prepared, its remains cleared, its process started and awaited."""

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from scizor_resources.embedded.accounts import Account, child_options, give_file, give_to
from scizor_resources.embedded.failures import start_error
from scizor_resources.embedded.kind import ServerKind
from scizor_resources.embedded.processes import (
    POLL_SECONDS,
    RELEASE_TIMEOUT_SECONDS,
    adopt,
    find_orphan,
    is_running,
    terminate,
)
from scizor_resources.embedded.programs import find_programs
from scizor_resources.embedded.state import State, write_state
from scizor_resources.errors import ServerError

LOG_LIMIT_BYTES = 10 * 1024**2
# Crash recovery replays up to max_wal_size of log; a server that still works on it is not stuck.
READY_TIMEOUT_SECONDS = 300.0
_LONGEST_PAUSE_SECONDS = 0.25


class Launcher:
    """Starts servers on the data of one home.

    Args:
        home: the home directory.
        state: is told of each process as soon as it exists, and written.
        account: whom the servers run as, None for the caller.
    """

    def __init__(self, home: Path, state: State, account: Account | None) -> None:
        self._home, self._state, self._account = home, state, account
        self._programs = find_programs(account)

    def start(self, kinds: Sequence[ServerKind]) -> None:
        """Start the servers side by side; returns when all of them answer.

        Raises:
            ServerError: the data cannot be used, or a server does not come up.
        """
        for kind in kinds:
            self._prepare_data(kind)
            self._clear_remains(kind)
        write_state(self._home, self._state)
        offsets = {kind.name: self._launch(kind) for kind in kinds}
        write_state(self._home, self._state)
        for kind in kinds:
            self._await_ready(kind, offsets[kind.name])

    def _data(self, kind: ServerKind) -> Path:
        return self._home / kind.name

    def _log(self, kind: ServerKind) -> Path:
        return self._home / f"{kind.name}.log"

    def _prepare_data(self, kind: ServerKind) -> None:
        directory = self._data(kind)
        if self._account is None and directory.exists():
            owner = directory.stat().st_uid
            if owner != os.geteuid():
                raise ServerError(
                    f"Tried to start {kind.title} on {directory}, but it belongs to user id "
                    f"{owner}; it was made when SCIZOR ran as another user. Run as that user, or "
                    f"hand it over: sudo chown -R {os.geteuid()} '{self._home}'."
                )
        kind.prepare_data(directory, self._programs, self._account)
        give_to(directory, self._account)

    def _clear_remains(self, kind: ServerKind) -> None:
        """Stop an orphan on this data and remove what a killed server left behind.

        PostgreSQL takes any live process of its user that has the number in `postmaster.pid` for
        a server, so that a number in use again would block the start for good.
        """
        directory, sockets = self._data(kind), self._state.sockets
        orphan = find_orphan(kind, directory)
        if orphan is not None:
            terminate(orphan, kind)
        if kind.listens(sockets):
            raise ServerError(
                f"Tried to start {kind.title} on the socket {sockets / kind.socket_name}, but "
                "another program already listens there. End that program and start again."
            )
        (directory / kind.pid_file).unlink(missing_ok=True)
        kind.remove_socket(sockets)

    def _launch(self, kind: ServerKind) -> int:
        """Start one server and enter it in the state; return where its words begin in its log."""
        directory, log_path = self._data(kind), self._log(kind)
        if log_path.exists() and log_path.stat().st_size > LOG_LIMIT_BYTES:
            log_path.replace(log_path.with_suffix(".log.1"))
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(log_path, flags, 0o600), "ab") as log:
            offset = log.tell()
            give_file(log.fileno(), self._home)
            child = subprocess.Popen(
                kind.arguments(self._programs, directory, self._state.sockets),
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A session of its own: Ctrl-C in the terminal reaches the owner only, who then
                # stops the servers after their clients.
                start_new_session=True,
                **child_options(self._account),
            )
        self._state.servers[kind.name] = adopt(child)
        return offset

    def _await_ready(self, kind: ServerKind, offset: int) -> None:
        """Wait until the server answers.

        A killed postmaster's children keep its shared memory for a moment, and PostgreSQL refuses
        to start until they are gone; that refusal alone is worth another try.
        """
        started, pause = time.monotonic(), POLL_SECONDS
        while not kind.answers(self._state.sockets):
            elapsed = time.monotonic() - started
            ended = not is_running(self._state.servers[kind.name], kind)
            if ended or elapsed > READY_TIMEOUT_SECONDS:
                said = self._said(kind, offset)
                in_use = ended and "is still in use" in said
                if not in_use or elapsed > RELEASE_TIMEOUT_SECONDS:
                    raise start_error(f"start {kind.title}", self._data(kind), said)
                offset = self._launch(kind)
                write_state(self._home, self._state)
            # Each question costs a PostgreSQL that recovers a process and a line of its log.
            time.sleep(pause)
            pause = min(1.5 * pause, _LONGEST_PAUSE_SECONDS)

    def _said(self, kind: ServerKind, offset: int) -> str:
        with self._log(kind).open("rb") as file:
            file.seek(offset)
            return file.read(LOG_LIMIT_BYTES).decode(errors="replace")
