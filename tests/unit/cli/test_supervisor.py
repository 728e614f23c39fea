"""What `scizor up` does when a process of its own dies."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from rich.console import Console

from scizor_cli import supervisor
from scizor_cli.supervisor import MAX_RESTARTS_PER_MINUTE, Supervisor
from scizor_resources.errors import ServerError

DIES = [sys.executable, "-c", "raise SystemExit('what it said last')"]
LIVES = [sys.executable, "-c", "import signal; signal.pause()"]
LEAVES_A_CHILD = [
    sys.executable,
    "-c",
    "import subprocess, sys; "
    "print(subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()']).pid)",
]


class Watched:
    """A supervisor with one child, and what it has said."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.supervisor = Supervisor(home / "logs", home / "up.json")
        self.supervisor.equip(os.environ, home)
        self._words = StringIO()
        self.console = Console(file=self._words, width=500)

    def start(self, arguments: list[str], *needs: str) -> None:
        self.supervisor.start("part", arguments, needs)

    @property
    def pid(self) -> int:
        (child,) = self.supervisor.children
        assert child.process is not None
        return child.process.pid

    def wait(self) -> None:
        (child,) = self.supervisor.children
        assert child.process is not None
        child.process.wait()

    def check(self, *away: str) -> None:
        self.supervisor.check(self.console, away)

    @property
    def said(self) -> list[str]:
        return self._words.getvalue().splitlines()

    @property
    def log(self) -> str:
        return (self.home / "logs" / "part.log").read_text()


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    watched = Watched(tmp_path)
    yield watched
    watched.supervisor.stop()


def test_a_process_that_was_killed_is_started_again(watched: Watched) -> None:
    watched.start(LIVES)
    first = watched.pid
    os.kill(first, signal.SIGKILL)
    watched.wait()

    watched.check()

    assert watched.pid != first
    assert watched.said[0].startswith("The part ended with code -9; starting it again")


def test_a_process_that_ends_again_and_again_ends_it_all_with_its_last_words(
    watched: Watched,
) -> None:
    watched.start(DIES)
    for _ in range(MAX_RESTARTS_PER_MINUTE):
        watched.wait()
        watched.check()
    watched.wait()

    with pytest.raises(ServerError, match="ended 4 times .* what it said last"):
        watched.check()


def test_a_process_whose_server_is_away_is_started_when_it_is_back(watched: Watched) -> None:
    watched.start(DIES, "PostgreSQL")
    watched.wait()
    first = watched.pid
    watched.check("PostgreSQL")
    watched.check("PostgreSQL")
    assert watched.pid == first

    watched.check()

    assert watched.pid != first
    assert len(watched.said) == 1
    assert "it is started again when PostgreSQL is back" in watched.said[0]


def test_ends_while_a_server_was_away_do_not_count(watched: Watched) -> None:
    watched.start(DIES, "PostgreSQL")
    for _ in range(MAX_RESTARTS_PER_MINUTE):
        watched.wait()
        watched.check()

    watched.wait()
    watched.check("PostgreSQL")
    watched.check()

    watched.wait()
    watched.check()


def test_a_server_that_it_does_not_need_holds_nothing_up(watched: Watched) -> None:
    watched.start(DIES, "PostgreSQL")
    watched.wait()
    first = watched.pid

    watched.check("Valkey")

    assert watched.pid != first


def test_what_a_process_leaves_behind_is_ended_with_it(watched: Watched) -> None:
    watched.start(LEAVES_A_CHILD)
    watched.wait()
    left = psutil.Process(int(watched.log))

    watched.check()

    left.wait(10)


def test_ends_of_long_ago_do_not_count(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    watched.start(DIES)
    for _ in range(MAX_RESTARTS_PER_MINUTE):
        watched.wait()
        watched.check()
    watched.wait()
    now = time.monotonic() + 3600
    monkeypatch.setattr(supervisor, "time", SimpleNamespace(monotonic=lambda: now))

    watched.check()

    assert len(watched.said) == MAX_RESTARTS_PER_MINUTE + 1
