"""Processes that are kept running: started, watched, started again, stopped in order."""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import psutil
from rich.console import Console

from scizor_resources.errors import ServerError

STOP_TIMEOUT_SECONDS = 20
#: A process that dies this often within a minute is not restarted again.
MAX_RESTARTS_PER_MINUTE = 3
#: A log longer than this is set aside as `<name>.log.1` before its process starts.
LOG_LIMIT_BYTES = 10 * 1024**2


@dataclass
class Child:
    """A process that `up` keeps running.

    Attributes:
        name: for people and for the log's file name.
        arguments: command line.
        needs: titles of the servers that it cannot start without.
        process: the running process, None before the first start.
        starts: monotonic times of the starts in the last minute.
        is_held: it has ended, and a server that it needs is away.
    """

    name: str
    arguments: list[str]
    needs: frozenset[str] = frozenset()
    process: subprocess.Popen[bytes] | None = None
    starts: list[float] = field(default_factory=list)
    is_held: bool = False


class Supervisor:
    """Starts children in sessions of their own, restarts what dies, stops all in order.

    Args:
        log_directory: where each child's output goes.
        record: file that names the children, so that the next start finds the remains of a
            supervisor that was killed.
    """

    def __init__(self, log_directory: Path, record: Path) -> None:
        self._log_directory, self._record = log_directory, record
        self._environment: dict[str, str] = {}
        self._directory = Path.cwd()
        self._children: list[Child] = []
        self._away: frozenset[str] = frozenset()
        self._lock: IO[str] | None = None
        log_directory.mkdir(parents=True, exist_ok=True)

    def equip(self, environment: Mapping[str, str], directory: Path) -> None:
        """Set the environment and the working directory of the children started from now on."""
        self._environment, self._directory = dict(environment), directory

    def claim(self, url: str) -> None:
        """Make this the only supervisor of its record until the process ends.

        Args:
            url: where people reach what runs here, told to whoever comes second.

        Raises:
            ServerError: another supervisor has it; the sentence says where it serves.
        """
        # The kernel lets go of the lock when its holder dies, so that it is never stale.
        lock = self._record.with_suffix(".lock").open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            holder = lock.read().strip() or "another process"
            lock.close()
            raise ServerError(
                f"`scizor up` already runs on this home: {holder}. Use that one, stop it with "
                "Ctrl-C, or set SCIZOR_HOME to another directory."
            ) from None
        lock.truncate(0)
        lock.write(f"{url} (process {os.getpid()})\n")
        lock.flush()
        self._lock = lock

    def clear_remains(self) -> int:
        """End processes that a killed supervisor has left behind; returns how many."""
        if not self._record.exists():
            return 0
        try:
            known = json.loads(self._record.read_text())
        except ValueError:
            known = []
        remains = [process for each in known if (process := _same_process(each)) is not None]
        _end(remains)
        self._record.unlink(missing_ok=True)
        return len(remains)

    def start(self, name: str, arguments: list[str], needs: Collection[str] = ()) -> None:
        """Start a child.

        Args:
            name: for people and for the log's file name.
            arguments: command line.
            needs: titles of the servers without which it ends; it is not started while one of
                them is away.
        """
        child = Child(name, arguments, frozenset(needs))
        self._children.append(child)
        self._spawn(child)

    @property
    def children(self) -> tuple[Child, ...]:
        """What was started, in that order."""
        return tuple(self._children)

    def _spawn(self, child: Child) -> None:
        child.starts.append(time.monotonic())
        path = self._log_directory / f"{child.name}.log"
        if path.exists() and path.stat().st_size > LOG_LIMIT_BYTES:
            path.replace(path.with_suffix(".log.1"))
        with path.open("ab") as log:
            child.process = subprocess.Popen(
                child.arguments,
                env=self._environment,
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C is for the supervisor, which then stops its children in order.
                start_new_session=True,
            )
        self._write_record()

    def _write_record(self) -> None:
        running = []
        for child in self._children:
            if child.process is not None and child.process.poll() is None:
                try:
                    created = psutil.Process(child.process.pid).create_time()
                except psutil.NoSuchProcess:
                    continue
                running.append({"name": child.name, "pid": child.process.pid, "created": created})
        self._record.write_text(json.dumps(running))

    def check(self, console: Console, away: Collection[str] = ()) -> None:
        """Restart what has died.

        Args:
            console: what has happened is said there.
            away: titles of the servers that cannot be used now. What needs one of them is started
                when it is back, and the deaths until then do not count.

        Raises:
            ServerError: a child dies again and again.
        """
        back, self._away = self._away - set(away), frozenset(away)
        for child in self._children:
            if child.needs & back:
                child.starts.clear()
            if child.process is not None and child.process.poll() is not None:
                self._restart(console, child)

    def _restart(self, console: Console, child: Child) -> None:
        if child.process is None:
            raise AssertionError("a child that was never started has not died")
        code, log = child.process.returncode, self._log_directory / f"{child.name}.log"
        if not child.is_held:
            _end_group(child.process.pid)
        missing = sorted(child.needs & self._away)
        if missing:
            if not child.is_held:
                child.is_held = True
                are_back = f"{' and '.join(missing)} {'are' if len(missing) > 1 else 'is'} back"
                console.print(
                    f"[yellow]The {child.name} ended with code {code}; it is started again when "
                    f"{are_back} (log: {log}).[/]"
                )
            return
        now = time.monotonic()
        child.starts = [at for at in child.starts if now - at < 60]  # noqa: PLR2004  # a minute
        if len(child.starts) > MAX_RESTARTS_PER_MINUTE:
            raise ServerError(
                f"The {child.name} ended {len(child.starts)} times within a minute "
                f"(last exit code {code}). Its last words: {last_line(log)} The whole log: {log}"
            )
        if not child.is_held:
            console.print(
                f"[yellow]The {child.name} ended with code {code}; starting it again "
                f"(log: {log}).[/]"
            )
        child.is_held = False
        self._spawn(child)

    def stop(self) -> None:
        """Stop all children, the last one started first."""
        processes = []
        for child in reversed(self._children):
            if child.process is not None and child.process.poll() is None:
                try:
                    processes.append(psutil.Process(child.process.pid))
                except psutil.NoSuchProcess:
                    continue
        _end(processes)
        for child in self._children:
            if child.process is not None:
                child.process.wait()
        self._record.unlink(missing_ok=True)


def _same_process(record: dict[str, Any]) -> psutil.Process | None:
    """Return the recorded process if it still runs; a pid may have been given away since."""
    try:
        process = psutil.Process(int(record["pid"]))
        return process if abs(process.create_time() - record["created"]) < 1 else None
    except (psutil.NoSuchProcess, KeyError):
        return None


def _end(processes: list[psutil.Process]) -> None:
    """Ask processes and their descendants to stop, then make them."""
    descendants = []
    for process in processes:
        try:
            descendants += process.children(recursive=True)
            process.terminate()
        except psutil.NoSuchProcess:
            continue
    _, alive = psutil.wait_procs([*processes, *descendants], timeout=STOP_TIMEOUT_SECONDS)
    for process in alive:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(alive, timeout=5)


def _end_group(process_id: int) -> None:
    """End what a child that was killed has left in its session.

    A worker's children go on with the run at hand, which nobody would know of any more.
    """
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process_id, signal.SIGKILL)


def last_line(log: Path) -> str:
    """Return the last line of a log that is not empty."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else "(none)"
