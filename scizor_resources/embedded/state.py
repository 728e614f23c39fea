"""Who runs and who holds: `servers.json` in the home, changed under `servers.lock` only."""

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import filelock

from scizor_resources.embedded.accounts import replace_text
from scizor_resources.embedded.processes import Mark, is_alive
from scizor_resources.errors import ServerError

LOCK_TIMEOUT_SECONDS = 180.0


@dataclass
class State:
    """What `servers.json` says.

    Attributes:
        socket_directory: where the sockets of all running servers are, "" when none runs.
        servers: what runs, by the name of its kind.
        holders: who works with the servers; the last one to let go stops them all.
    """

    socket_directory: str = ""
    servers: dict[str, Mark] = field(default_factory=dict)
    holders: dict[str, Mark] = field(default_factory=dict)

    @property
    def sockets(self) -> Path:
        """The directory of the sockets as a path."""
        return Path(self.socket_directory)


def read_state(home: Path) -> State:
    """Read `servers.json` with its dead holders left out; a damaged file counts as empty."""
    try:
        stored = json.loads((home / "servers.json").read_text(encoding="utf-8"))
        state = State(
            socket_directory=stored["socket_directory"],
            servers={name: Mark(**mark) for name, mark in stored["servers"].items()},
            holders={name: Mark(**mark) for name, mark in stored["holders"].items()},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return State()
    state.holders = {name: mark for name, mark in state.holders.items() if is_alive(mark)}
    return state


def write_state(home: Path, state: State) -> None:
    """Write `servers.json`, whole or not at all."""
    replace_text(home / "servers.json", json.dumps(asdict(state), indent=1))


@contextlib.contextmanager
def locked(home: Path) -> Iterator[None]:
    """Let one process at a time start, join or stop the servers of `home`.

    Raises:
        ServerError: another process does not let go of the lock.
    """
    path = home / "servers.lock"
    try:
        with filelock.FileLock(path, timeout=LOCK_TIMEOUT_SECONDS):
            owner = home.stat()
            if os.geteuid() == 0 and path.lstat().st_uid != owner.st_uid:
                os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
            yield
    except filelock.Timeout as error:
        raise ServerError(
            f"Waited {LOCK_TIMEOUT_SECONDS:.0f} s for {path}, but another process keeps it "
            "locked. Look for a SCIZOR process that hangs and end it."
        ) from error
