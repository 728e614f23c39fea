"""`scizor up` with something to do: bars from a loopback provider, and what became of its runs."""

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg

from scizor_resources.embedded.servers import EmbeddedServers
from tests.e2e.formula_lab import FormulaLab
from tests.e2e.shell import environment, eventually, free_port
from tests.e2e.test_up import Running

SYMBOLS = ("BTC/USD", "ETH/USD")
COMMAND = [sys.executable, "-m", "scizor_cli.main"]
Runs = dict[str, list[str]]
_RUNS = """
    SELECT coalesce(root.value, r.run_id) AS run, array_agg(r.status ORDER BY r.id) AS statuses
    FROM dagster.runs AS r
    LEFT JOIN dagster.run_tags AS root
      ON root.run_id = r.run_id AND root.key = 'dagster/root_run_id'
    GROUP BY 1
"""
_ENDED = {"SUCCESS", "FAILURE", "CANCELED"}


@dataclass
class AtWork(Running):
    """`scizor up` at work.

    Attributes:
        servers: its servers, whoever has started them.
    """

    servers: EmbeddedServers

    def said(self) -> str:
        return " ".join((self.home / "up.out").read_text().split())

    def runs_on(self) -> None:
        assert self.process.poll() is None, self.said()

    def pid_of_server(self, name: str) -> int | None:
        return {each.name: each.pid for each in self.servers.status()}[name]

    def address(self, name: str) -> str:
        found = {each.name: each.endpoint for each in self.servers.status()}[name]
        assert found is not None, f"{name} does not run"
        return found

    def ask(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.address("postgres")) as connection:
            return connection.execute(sql, parameters).fetchall()

    def runs(self) -> Runs:
        """Return first run -> statuses of it and of its repetitions."""
        return {str(run): list(statuses) for run, statuses in self.ask(_RUNS)}

    def children(self, text: str) -> list[psutil.Process]:
        """Return processes that `up` started whose command line has a text, zombies apart."""
        found = []
        for each in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if text in " ".join(each.cmdline()) and each.status() != psutil.STATUS_ZOMBIE:
                    found.append(each)
        return found

    def await_success(self, seconds: float, before: frozenset[str] = frozenset()) -> Runs:
        """Return `runs` when every one has ended, in the end with success.

        Args:
            seconds: longest wait.
            before: runs that are none of this question's business.
        """

        def pending() -> Runs:
            self.runs_on()
            return {
                run: statuses
                for run, statuses in self.runs().items()
                if run not in before and not (set(statuses) <= _ENDED and "SUCCESS" in statuses)
            }

        try:
            eventually(lambda: not pending(), seconds)
        except AssertionError:
            raise AssertionError(f"not ended in time: {pending()}; {self.said()}") from None
        return {run: statuses for run, statuses in self.runs().items() if run not in before}

    def serves(self) -> bool:
        """Say whether the UI and the code server behind it answer."""
        self.runs_on()
        with contextlib.suppress(OSError):
            entries: Any = self.graphql(_LOCATION, {})["workspaceOrError"]
            found = [each["locationOrLoadError"] for each in entries["locationEntries"]]
            return [each and each["__typename"] for each in found] == ["RepositoryLocation"]
        return False


_LOCATION = """
query Location {
  workspaceOrError {
    ... on Workspace { locationEntries { locationOrLoadError { __typename } } }
  }
}
"""


@contextmanager
def platform_at_work(home: Path, servers: EmbeddedServers | None = None) -> Iterator[AtWork]:
    """Run `scizor up` on crypto from a loopback provider, until the block is left.

    Args:
        home: its home.
        servers: what its URLs name; None: it has embedded ones of its own.
    """
    port = free_port()
    home.mkdir(exist_ok=True)
    with FormulaLab() as lab, (home / "up.out").open("w") as output:
        variables = {
            **environment(home),
            "SCIZOR_CHAIN_CRYPTO": "coinbase",
            "SCIZOR_COINBASE_BASE_URL": lab.url,
            "SCIZOR_COINBASE_REQUESTS_PER_MINUTE": "60000",
        }
        if servers is not None:
            started = servers.start()
            variables["SCIZOR_DATABASE_URL"] = started.libpq_url
            variables["SCIZOR_REDIS_URL"] = started.redis_url
        process = subprocess.Popen(
            [*COMMAND, "up", "--port", str(port)],
            env=variables,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        )
        running = AtWork(process, home, port, servers or EmbeddedServers(home))
        try:
            eventually(running.serves, 240)
            subprocess.run(
                [*COMMAND, "watchlist", "add", *SYMBOLS, "--market", "crypto", "--tier", "1"],
                env=variables,
                stdout=subprocess.DEVNULL,
                timeout=180,
                check=True,
            )
            yield running
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(120)
