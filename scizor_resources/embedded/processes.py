"""Processes that outlive the one that started them: marked, found again and ended."""

import atexit
import contextlib
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from scizor_resources.embedded.kind import ServerKind

POLL_SECONDS = 0.02
STOP_TIMEOUT_SECONDS = 60.0
RELEASE_TIMEOUT_SECONDS = 15.0

#: Servers that this process started, so that they are reaped when they end.
_CHILDREN: dict[int, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True)
class Mark:
    """One process for ever: its id and its start in seconds since boot, as ids are used again."""

    pid: int
    started: float


def adopt(child: subprocess.Popen[bytes]) -> Mark:
    """Mark a server that this process has just started."""
    _CHILDREN[child.pid] = child
    return mark_of(child.pid)


@atexit.register
def _reap() -> None:
    """Take note of servers that have ended meanwhile; Popen warns of those it never asked about."""
    for child in _CHILDREN.values():
        child.poll()


def mark_of(pid: int) -> Mark:
    """Mark a live process. Counted since boot, a start is not moved by a change of the clock."""
    try:
        return Mark(pid, psutil.Process(pid).create_time() - psutil.boot_time())
    except psutil.NoSuchProcess:
        return Mark(pid, -1.0)


def is_alive(mark: Mark, process_name: str | None = None) -> bool:
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


def is_running(mark: Mark, kind: ServerKind) -> bool:
    """Say whether the marked process still runs and is the server it is said to be."""
    if mark.pid in _CHILDREN:  # between fork and exec it still has our own name
        return is_alive(mark)
    return is_alive(mark, kind.process_name)


def find_orphan(kind: ServerKind, directory: Path) -> Mark | None:
    """Find a server that runs on `directory` though the state does not know of it."""
    pid_file = directory / kind.pid_file
    try:
        lines = pid_file.read_text(encoding="utf-8", errors="replace").splitlines()
        mark = mark_of(int(lines[0]))
        # The third line of postmaster.pid is when that server started, in epoch seconds.
        started = float(lines[2]) if len(lines) > 2 else pid_file.stat().st_mtime
    except (OSError, ValueError, IndexError, OverflowError):
        return None
    if not is_alive(mark, kind.process_name):
        return None
    try:
        process = psutil.Process(mark.pid)
        try:
            return mark if Path(process.cwd()).samefile(directory) else None
        except psutil.AccessDenied:  # root without CAP_SYS_PTRACE, as in a container
            return mark if abs(process.create_time() - started) < 5 else None
    except (psutil.NoSuchProcess, OSError):
        return None


def terminate(mark: Mark, kind: ServerKind, *, in_order: bool = True) -> bool:
    """End a server in good order, or by force when it takes too long; say whether it is gone."""
    steps = [(kind.last_signal, RELEASE_TIMEOUT_SECONDS)]
    if in_order:
        steps.insert(0, (kind.stop_signal, STOP_TIMEOUT_SECONDS))
    for number, seconds in steps:
        if not is_running(mark, kind):
            return True
        with contextlib.suppress(ProcessLookupError):
            os.kill(mark.pid, number)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not is_running(mark, kind):
                return True
            time.sleep(POLL_SECONDS)
    return False
