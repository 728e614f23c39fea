"""`scizor worker` beside `scizor up`: two workers share the runs, and one may die of it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from scizor_resources.embedded.servers import EmbeddedServers
from tests.e2e.shell import environment, eventually, free_port, scizor
from tests.e2e.test_up import Running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

_SETTINGS = {"SCIZOR_CHAIN_CRYPTO": "simulated", "SCIZOR_WORKER_CONCURRENCY": "1"}
_LAUNCH = """
mutation Launch($params: ExecutionParams!) {
  launchPipelineExecution(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
  }
}
"""
_RUN = """
query Run($id: ID!) {
  runOrError(runId: $id) { ... on Run { status startTime endTime tags { key value } } }
}
"""
_RETRIES = """
query Retries($filter: RunsFilter!) {
  runsOrError(filter: $filter) { ... on Runs { results { runId status } } }
}
"""
_CONTENT = """
    SELECT count(*) AS bars, count(DISTINCT (symbol, ts)) AS distinct_bars,
           md5(string_agg(row(symbol, ts, open, high, low, close, volume)::text, '|'
                          ORDER BY symbol, ts)) AS hash
    FROM crypto.bars_1m WHERE session_date >= '{first}' AND session_date <= '{last}'
"""


class Platform(Running):
    """`scizor up` with one worker that does one run at a time."""

    def start(self, sessions: list[str], tags: dict[str, str] | None = None) -> str:
        """Launch `crypto/bars_1m` of some sessions; returns the run's id."""
        span = {
            "dagster/asset_partition_range_start": sessions[0],
            "dagster/asset_partition_range_end": sessions[-1],
        }
        chosen = {"dagster/partition": sessions[0]} if len(sessions) == 1 else span
        params = {
            "selector": {
                "repositoryLocationName": "scizor",
                "repositoryName": "__repository__",
                "pipelineName": "__ASSET_JOB",
                "assetSelection": [{"path": ["crypto", "bars_1m"]}],
                "assetCheckSelection": [],
            },
            "runConfigData": {},
            "mode": "default",
            "executionMetadata": {
                "tags": [
                    {"key": key, "value": value}
                    for key, value in {**chosen, **(tags or {})}.items()
                ]
            },
        }
        answer: Any = self.graphql(_LAUNCH, {"params": params})["launchPipelineExecution"]
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return str(answer["run"]["runId"])

    def run(self, run_id: str) -> dict[str, Any]:
        found: Any = self.graphql(_RUN, {"id": run_id})["runOrError"]
        return {**found, "tags": {each["key"]: each["value"] for each in found["tags"]}}

    def worker_of(self, run_id: str) -> str | None:
        run = self.run(run_id)
        return run["tags"].get("scizor/worker") if run["status"] == "STARTED" else None

    def retry_of(self, run_id: str) -> str | None:
        tags = [{"key": "dagster/parent_run_id", "value": run_id}]
        answer: Any = self.graphql(_RETRIES, {"filter": {"tags": tags}})["runsOrError"]
        return str(answer["results"][0]["runId"]) if answer["results"] else None

    def content(self, first: str, last: str) -> dict[str, Any]:
        statement = _CONTENT.format(first=first, last=last)
        answer = scizor(self.home, "query", statement, "--format", "json")
        assert answer.returncode == 0, answer.stderr
        (row,) = json.loads(answer.stdout)
        return dict(row)

    @contextmanager
    def worker(
        self, name: str, *options: str, home: Path | None = None
    ) -> Iterator[subprocess.Popen[str]]:
        """Run `scizor worker` until it has joined, and end it afterwards."""
        log = self.home / f"{name}.out"
        with log.open("w") as output:
            process = subprocess.Popen(
                [*COMMAND, "worker", "--name", f"{name}@test", *options],
                env={**environment(home or self.home), **_SETTINGS},
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
            )

        def has_joined() -> bool:
            assert process.poll() is None, log.read_text()
            return "is ready" in log.read_text()

        try:
            eventually(has_joined, 120)
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.send_signal(signal.SIGINT)
                process.wait(60)


COMMAND = [sys.executable, "-m", "scizor_cli.main"]


def sessions(first: str, count: int) -> list[str]:
    start = date.fromisoformat(first)
    return [(start + timedelta(days=day)).isoformat() for day in range(count)]


def ended(platform: Platform, *run_ids: str) -> Callable[[], list[str] | None]:
    def look() -> list[str] | None:
        found = [platform.finished(run_id) for run_id in run_ids]
        return [each for each in found if each] if all(found) else None

    return look


def kill_whole(process: subprocess.Popen[str]) -> None:
    """Kill a worker with all its processes at once, as a machine that loses its power does."""
    parent = psutil.Process(process.pid)
    for each in [parent, *parent.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    process.wait()


def child_at_work(process: subprocess.Popen[str]) -> psutil.Process:
    """Return the process of a worker that executes runs (concurrency 1)."""
    (main,) = psutil.Process(process.pid).children()
    (child,) = (each for each in main.children() if each.cmdline() == main.cmdline())
    return child


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    home = tmp_path_factory.mktemp("workers")
    port = free_port()
    with (home / "up.out").open("w") as output:
        process = subprocess.Popen(
            [*COMMAND, "up", "--port", str(port)],
            env={**environment(home), **_SETTINGS, "SCIZOR_POOL_LIMIT": "4"},
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        )
    running = Platform(process, home, port)

    def serves() -> bool:
        assert process.poll() is None, (home / "up.out").read_text()
        with contextlib.suppress(OSError):
            running.graphql("query { version }", {})
            return True
        return False

    try:
        eventually(serves, 240)
        names = ("BTC/USD", "ETH/USD")
        added = scizor(home, "watchlist", "add", *names, "--market", "crypto", "--tier", "1")
        assert added.returncode == 0, added.stderr
        yield running
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(120)


def test_runs_of_different_sessions_are_done_by_different_workers(platform: Platform) -> None:
    with platform.worker("second"):
        days = sessions("2022-01-01", 4)
        runs = [platform.start([day]) for day in days]

        assert eventually(ended(platform, *runs), 240) == ["SUCCESS"] * 4
    workers = {platform.run(run_id)["tags"]["scizor/worker"] for run_id in runs}
    assert len(workers) == 2
    assert "second@test" in workers


def test_a_worker_with_a_home_of_its_own_joins_by_the_addresses(
    platform: Platform, tmp_path: Path
) -> None:
    servers = {s.name: str(s.endpoint) for s in EmbeddedServers(platform.home).status()}
    addresses = ("--database", servers["postgres"], "--broker", servers["valkey"])
    guest = platform.worker("guest", *addresses, "--queues", "live", home=tmp_path / "guest")
    with guest, stopped(platform):
        eventually(lambda: waiting_workers(platform) == 1, 30)
        run_id = platform.start(["2022-01-05"], {"dagster/priority": "1"})
        assert eventually(lambda: platform.finished(run_id), 120) == "SUCCESS"
    assert platform.run(run_id)["tags"]["scizor/worker"] == "guest@test"


def test_backfills_of_a_market_keep_to_their_limit_on_all_workers_together(
    platform: Platform,
) -> None:
    with platform.worker("second", "--concurrency", "6"):
        runs = [platform.start([day]) for day in sessions("2022-01-11", 10)]
        eventually(ended(platform, *runs), 300)

    spans = [platform.run(run_id) for run_id in runs]
    moments = sorted(span["startTime"] for span in spans)
    at_once = [
        sum(span["startTime"] <= moment < span["endTime"] for span in spans) for moment in moments
    ]
    assert max(at_once) <= 4


def test_a_live_run_starts_next_though_twenty_backfills_wait(platform: Platform) -> None:
    waiting = [platform.start([day]) for day in sessions("2022-02-01", 20)]
    eventually(lambda: any(platform.worker_of(run_id) for run_id in waiting), 120)

    live = platform.start(["2022-02-21"], {"dagster/priority": "10"})

    eventually(ended(platform, live, *waiting), 600)
    begun = platform.run(live)["startTime"]
    created = float(
        scizor(
            platform.home,
            *("query", "--format", "csv"),
            "SELECT extract(epoch FROM create_timestamp) AS at FROM dagster.runs "
            f"WHERE run_id = '{live}'",
        ).stdout.split()[1]
    )
    overtook = [each for each in waiting if created < platform.run(each)["startTime"] < begun]
    # A run that ended in the second that the queue takes may let one more through.
    assert len(overtook) <= 1


def test_a_killed_worker_process_fails_its_run_which_is_done_again(platform: Platform) -> None:
    first, last = "2022-03-01", "2022-03-20"
    with platform.worker("victim") as victim:
        runs = [platform.start(sessions(day, 10)) for day in (first, "2022-03-11")]
        lost = eventually(
            lambda: next(
                (each for each in runs if platform.worker_of(each) == "victim@test"), None
            ),
            120,
        )
        child_at_work(victim).kill()

        assert eventually(lambda: platform.finished(lost), 60) == "FAILURE"
        retry = eventually(lambda: platform.retry_of(lost), 60)
        (other,) = set(runs) - {lost}
        assert eventually(ended(platform, retry, other), 300) == ["SUCCESS"] * 2

    stored = platform.content(first, last)
    assert stored["bars"] == stored["distinct_bars"] > 0
    assert stored == unbroken(platform, first, last, stored)


def test_a_killed_machine_fails_its_run_which_another_one_does(platform: Platform) -> None:
    first, last = "2022-04-01", "2022-04-20"
    with platform.worker("machine") as machine:
        runs = [platform.start(sessions(day, 10)) for day in (first, "2022-04-11")]
        lost = eventually(
            lambda: next(
                (each for each in runs if platform.worker_of(each) == "machine@test"), None
            ),
            120,
        )
        kill_whole(machine)

        assert eventually(lambda: platform.finished(lost), 60) == "FAILURE"
        retry = eventually(lambda: platform.retry_of(lost), 60)
        (other,) = set(runs) - {lost}
        assert eventually(ended(platform, retry, other), 300) == ["SUCCESS"] * 2

    assert platform.run(retry)["tags"]["scizor/worker"] != "machine@test"
    stored = platform.content(first, last)
    assert stored["bars"] == stored["distinct_bars"] > 0
    assert stored == unbroken(platform, first, last, stored)


def test_a_run_that_a_dead_worker_had_taken_and_not_begun_is_done_by_another(
    platform: Platform,
) -> None:
    with platform.worker("frozen", "--queues", "live") as frozen:
        # It takes the message, and its child, which would begin the run, does not move.
        child_at_work(frozen).send_signal(signal.SIGSTOP)
        with stopped(platform):
            eventually(lambda: waiting_workers(platform) == 1, 30)
            before = taken(platform)
            lost = platform.start(["2022-05-01"], {"dagster/priority": "10"})
            eventually(lambda: taken(platform) > before, 60)
            kill_whole(frozen)
        assert platform.status(lost) == "STARTING"
        assert eventually(lambda: platform.finished(lost), 60) == "FAILURE"
        retry = eventually(lambda: platform.retry_of(lost), 60)
        assert eventually(lambda: platform.finished(retry), 120) == "SUCCESS"


def test_a_worker_that_is_asked_to_stop_finishes_its_run(platform: Platform) -> None:
    with platform.worker("leaving") as leaving:
        runs = [platform.start(sessions(day, 10)) for day in ("2022-06-01", "2022-06-11")]
        own = eventually(
            lambda: next(
                (each for each in runs if platform.worker_of(each) == "leaving@test"), None
            ),
            120,
        )
        leaving.send_signal(signal.SIGTERM)

        assert leaving.wait(180) == 0
        assert platform.finished(own) == "SUCCESS"


def test_a_worker_that_is_asked_twice_stops_at_once_and_its_run_is_done_again(
    platform: Platform,
) -> None:
    with platform.worker("hurried") as hurried:
        runs = [platform.start(sessions(day, 20)) for day in ("2022-07-01", "2022-08-01")]
        own = eventually(
            lambda: next(
                (each for each in runs if platform.worker_of(each) == "hurried@test"), None
            ),
            120,
        )
        hurried.send_signal(signal.SIGTERM)
        eventually(lambda: "Again" in (platform.home / "hurried.out").read_text(), 10)
        hurried.send_signal(signal.SIGTERM)

        assert hurried.wait(30) == 0
        assert eventually(lambda: platform.finished(own), 60) == "FAILURE"
        retry = eventually(lambda: platform.retry_of(own), 60)
        assert eventually(lambda: platform.finished(retry), 300) == "SUCCESS"


def test_a_worker_of_a_home_where_nothing_runs_is_refused(tmp_path: Path) -> None:
    answer = scizor(tmp_path / "other", "worker")

    assert answer.returncode == 1
    assert "none runs on" in answer.stderr
    assert not (tmp_path / "other" / "postgres").exists()


@contextmanager
def stopped(platform: Platform) -> Iterator[None]:
    """Keep the worker of `up` from taking anything."""
    mains = [
        each
        for each in psutil.Process(platform.process.pid).children()
        if "scizor_assets.worker" in " ".join(each.cmdline())
    ]
    for each in mains:
        os.kill(each.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for each in mains:
            os.kill(each.pid, signal.SIGCONT)


def broker(platform: Platform) -> redis.Redis:
    (url,) = (s.endpoint for s in EmbeddedServers(platform.home).status() if s.name == "valkey")
    return redis.Redis.from_url(str(url))


def waiting_workers(platform: Platform) -> int:
    """Return how many workers wait at the broker for something to do."""
    with broker(platform) as client:
        return int(client.info("clients")["blocked_clients"])


def taken(platform: Platform) -> int:
    """Return how many messages workers have taken and not yet dealt with."""
    with broker(platform) as client:
        return int(client.hlen("unacked"))


def unbroken(platform: Platform, first: str, last: str, stored: dict[str, Any]) -> dict[str, Any]:
    """Return what the sessions hold when nobody is killed, computed anew in another home."""
    home = platform.home.parent / f"unbroken {first}"
    added = scizor(home, "watchlist", "add", "BTC/USD", "ETH/USD", "--market", "crypto")
    assert added.returncode == 0, added.stderr
    done = subprocess.run(
        [*COMMAND, "materialize", "crypto/bars_1m", "--range", f"{first}...{last}"]
        + ["--symbols", "BTC/USD,ETH/USD"],
        env={**environment(home), **_SETTINGS},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    other = Platform(platform.process, home, platform.port).content(first, last)
    assert other.keys() == stored.keys()
    return other
