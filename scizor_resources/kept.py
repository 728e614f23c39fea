"""Opened platforms that wait for their next use in this process.

To open one takes 50 ms and three connections (settings, schema), which a sensor would spend on
every tick and a worker on every run.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from scizor_resources.platform import Platform
from scizor_resources.settings import profile_path

#: A process does one or two things at a time: a worker's child a run, the code server its sensors.
KEPT = 2

#: What the settings of a process were read from.
_Origin: TypeAlias = tuple[object, ...]


class KeptPlatforms:
    """Lends opened platforms, each user one of its own.

    One is opened anew where the settings may have changed since, where PostgreSQL has been migrated
    or does not answer, after an error, and in a forked child. Where the process itself would hold
    embedded servers none is kept, so that they stop when nobody uses them.

    Args:
        open_platform: opens one with the settings of the process.
    """

    def __init__(self, open_platform: Callable[[], Platform] = Platform.open) -> None:
        self._open = open_platform
        self._lock = threading.Lock()
        self._owner = os.getpid()
        self._idle: list[tuple[_Origin, Platform]] = []
        # Their sockets are the parent's too: to close them here would end the parent's.
        self._of_parents: list[tuple[_Origin, Platform]] = []

    @contextmanager
    def lend(self) -> Iterator[Platform]:
        """Lend a platform.

        Raises:
            ScizorError: as `Platform.open`.
        """
        origin = _origin()
        platform = self._take(origin) or self._open()
        now = platform.now
        try:
            yield platform
            platform.rest()
        except BaseException:
            platform.close()
            raise
        platform.now = now
        self._put_back(origin, platform)

    def close(self) -> None:
        """Close those that wait."""
        with self._lock:
            self._leave_to_parent()
            idle, self._idle = self._idle, []
        for _, platform in idle:
            platform.close()

    def _take(self, origin: _Origin) -> Platform | None:
        while True:
            with self._lock:
                self._leave_to_parent()
                if not self._idle:
                    return None
                kept_origin, platform = self._idle.pop()
            if kept_origin == origin and platform.is_usable():
                return platform
            platform.close()

    def _put_back(self, origin: _Origin, platform: Platform) -> None:
        with self._lock:
            self._leave_to_parent()
            if platform.servers is None and len(self._idle) < KEPT:
                self._idle.append((origin, platform))
                return
        platform.close()

    def _leave_to_parent(self) -> None:
        if self._owner != os.getpid():
            self._of_parents += self._idle
            self._idle, self._owner = [], os.getpid()


def _origin() -> _Origin:
    """Return the variables and files that settings are read from, as they are now."""
    variables = tuple(sorted(each for each in os.environ.items() if each[0].startswith("SCIZOR_")))
    home = Path(os.environ.get("SCIZOR_HOME", ".scizor"))
    files = (Path(".env").absolute(), profile_path(home).absolute())
    return variables, tuple((path, _written(path)) for path in files)


def _written(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None
