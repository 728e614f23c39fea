"""`scizor health` and `scizor dashboard` beside a platform that runs."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.shell import environment, eventually, free_port, scizor

pytestmark = [pytest.mark.slow, pytest.mark.timeout(420)]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The home of a `scizor up` that serves."""
    home = tmp_path_factory.mktemp("home of up")
    with (home / "up.out").open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "scizor_cli.main", "up", "--port", str(free_port())],
            env=environment(home),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        eventually(lambda: "The Dagster UI is at" in (home / "up.out").read_text(), 200)
        yield home
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(120)


def told(home: Path, *arguments: str) -> dict[str, str]:
    result = scizor(home, "health", "--json", *arguments)
    return {each["name"]: each["state"] for each in json.loads(result.stdout)["checks"]}


def test_a_platform_that_runs_is_healthy(home: Path) -> None:
    groups = ("--only", "servers,dagster,workers")
    # The daemon says that it lives some seconds after its start.
    eventually(lambda: set(told(home, *groups).values()) == {"ok"}, 90)
    assert scizor(home, "health", *groups, "--quiet", "--strict").stdout == ""


def test_every_process_of_up_is_named(home: Path) -> None:
    said = scizor(home, "health", "--only", "dagster").stdout
    for name in ("code-server", "worker", "webserver", "daemon"):
        assert name in said


def test_the_worker_of_this_machine_is_found(home: Path) -> None:
    assert told(home, "--only", "workers", "--here") == {"workers": "ok"}


def test_a_frame_goes_into_a_pipe(home: Path) -> None:
    result = scizor(home, "dashboard", "--once")
    assert result.returncode == 0, result.stderr
    assert "PostgreSQL ok" in result.stdout
    assert "workers 1" in result.stdout
    assert "CBA" in result.stdout


def test_a_frame_can_be_saved_as_a_picture(home: Path, tmp_path: Path) -> None:
    picture = tmp_path / "dashboard.svg"
    assert scizor(home, "dashboard", "--svg", str(picture)).returncode == 0
    assert picture.read_text().startswith("<svg")
