"""`scizor up` as a user starts it: own servers, UI, daemon and worker in a directory of its own."""

import contextlib
import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.e2e.shell import environment, eventually, free_port, scizor

pytestmark = pytest.mark.timeout(420)

_LAUNCH = """
mutation Launch($params: ExecutionParams!) {
  launchPipelineExecution(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
  }
}
"""
_STATUS = "query Run($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"


@dataclass
class Running:
    process: subprocess.Popen[str]
    home: Path
    port: int

    def graphql(self, query: str, variables: dict[str, object]) -> dict[str, object]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/graphql",
            data=json.dumps({"query": query, "variables": variables}).encode(),
            headers={"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)["data"]

    def launch(self, assets: list[str], partition: str) -> str:
        params = {
            "selector": {
                "repositoryLocationName": "scizor",
                "repositoryName": "__repository__",
                "pipelineName": "__ASSET_JOB",
                "assetSelection": [{"path": asset.split("/")} for asset in assets],
                "assetCheckSelection": [],
            },
            "runConfigData": {},
            "mode": "default",
            "executionMetadata": {"tags": [{"key": "dagster/partition", "value": partition}]},
        }
        answer = self.graphql(_LAUNCH, {"params": params})["launchPipelineExecution"]
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return answer["run"]["runId"]

    def status(self, run_id: str) -> str:
        return self.graphql(_STATUS, {"id": run_id})["runOrError"]["status"]

    def finished(self, run_id: str) -> str | None:
        status = self.status(run_id)
        return status if status in ("SUCCESS", "FAILURE", "CANCELED") else None


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    home = tmp_path_factory.mktemp("a home with spaces")
    port = free_port()
    with (home / "up.out").open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "scizor_cli.main", "up", "--port", str(port)],
            env=environment(home),
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def serves() -> bool:
        assert process.poll() is None, (home / "up.out").read_text()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/server_info", timeout=2):
                return True
        except (urllib.error.URLError, OSError):
            return False

    try:
        eventually(serves, 180)
        yield Running(process, home, port)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def test_a_run_launched_from_the_ui_finishes_on_the_warm_worker(up: Running) -> None:
    run_id = up.launch(["asx/bars_5m", "asx/indicators_5m"], "2022-01-14")

    assert eventually(lambda: up.finished(run_id), 120) == "SUCCESS"
    answer = scizor(up.home, "query", "SELECT count(*) FROM asx.indicators_5m", "--format", "csv")
    assert int(answer.stdout.split()[1]) == 18 * 72


def test_a_second_shell_joins_the_servers_of_the_first(up: Running) -> None:
    answer = scizor(up.home, "query", "SELECT 1 AS one", "--format", "csv")

    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.split() == ["one", "1"]
    assert up.process.poll() is None


def test_a_second_up_on_the_same_port_says_who_has_it(up: Running) -> None:
    answer = scizor(up.home.parent / "other", "up", "--port", str(up.port))

    assert answer.returncode == 1
    assert f"Port {up.port} is taken by" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_second_up_on_the_same_home_leaves_the_first_alone(up: Running) -> None:
    answer = scizor(up.home, "up", "--port", str(free_port()))

    assert answer.returncode == 1
    assert f"http://127.0.0.1:{up.port}" in answer.stderr
    assert str(up.process.pid) in answer.stderr
    assert len(psutil.Process(up.process.pid).children()) >= 4


def test_a_child_that_dies_is_started_again(up: Running) -> None:
    def daemons() -> list[psutil.Process]:
        children = psutil.Process(up.process.pid).children()
        alive = [each for each in children if each.status() != psutil.STATUS_ZOMBIE]
        return [each for each in alive if "dagster._daemon" in each.cmdline()]

    (first,) = daemons()
    first.kill()

    second = eventually(lambda: [each for each in daemons() if each.pid != first.pid], 30)
    assert second[0].is_running()


@pytest.mark.slow
def test_a_run_whose_worker_is_killed_does_not_stay_started(up: Running) -> None:
    run_id = up.launch(["asx/bars_1m", "asx/indicators_1m", "asx/completeness"], "2022-01-17")
    eventually(lambda: up.status(run_id) == "STARTED", 60)

    for child in psutil.Process(up.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if "scizor_assets.worker" in " ".join(child.cmdline()):
                child.kill()

    assert eventually(lambda: up.finished(run_id), 120) == "FAILURE"
    again = up.launch(["asx/bars_1m"], "2022-01-17")
    assert eventually(lambda: up.finished(again), 120) == "SUCCESS"


def test_ctrl_c_stops_everything_it_started(up: Running) -> None:
    started = psutil.Process(up.process.pid).children(recursive=True)
    assert started

    up.process.send_signal(signal.SIGINT)

    assert up.process.wait(90) == 0
    assert [
        each for each in started if each.is_running() and each.status() != psutil.STATUS_ZOMBIE
    ] == []
    assert "not running" in scizor(up.home, "status").stdout
