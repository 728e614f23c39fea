"""`scizor up` with a live feed: the sidecar beside the others, watched, and seen by Dagster."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scizor_resources.embedded.servers import EmbeddedServers
from tests.contract.lab.ws_exchanges import LoopbackExchange
from tests.e2e.at_work import COMMAND, SYMBOLS, AtWork
from tests.e2e.shell import environment, eventually, free_port
from tests.integration.streamed import recent_tape

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

_LIVE_BARS = """
query Live {
  assetOrError(assetKey: {path: ["streaming", "live_bars"]}) {
    ... on Asset { assetMaterializations(limit: 5) {
      metadataEntries { label }
    } }
  }
}
"""


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AtWork]:
    home, port, page = tmp_path_factory.mktemp("home"), free_port(), free_port()
    tape = recent_tape(SYMBOLS, 60_000, 60)
    with (
        LoopbackExchange("kraken", tape, per_second=300) as exchange,
        (home / "up.out").open("w") as output,
    ):
        variables = {
            **environment(home),
            "SCIZOR_CHAIN_CRYPTO": "simulated",
            "SCIZOR_STREAM_CRYPTO": "kraken",
            "SCIZOR_KRAKEN_WS_URL": exchange.urls.ws,
            "SCIZOR_KRAKEN_BASE_URL": exchange.urls.rest,
            "SCIZOR_KRAKEN_REQUESTS_PER_MINUTE": "60000",
            "SCIZOR_SIDECAR_PORT": str(page),
        }
        process = subprocess.Popen(
            [*COMMAND, "up", "--port", str(port)],
            env=variables,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        )
        running = AtWork(process, home, port, EmbeddedServers(home))
        try:
            eventually(running.serves, 240)
            subprocess.run(
                [*COMMAND, "watchlist", "add", *SYMBOLS, "--market", "crypto", "--tier", "1"],
                env=variables,
                stdout=subprocess.DEVNULL,
                check=True,
                timeout=120,
            )
            yield running
        finally:
            process.terminate()
            process.wait(90)


def status(up: AtWork) -> dict[str, Any] | None:
    told = subprocess.run(
        [sys.executable, "-m", "scizor_cli.main", "status", "--json"],
        env=environment(up.home),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    streaming: dict[str, Any] | None = json.loads(told.stdout)["streaming"]
    return streaming


def streamed(up: AtWork) -> int:
    ((bars,),) = up.ask("SELECT count(*) FROM market.bars WHERE source = 'kraken' AND is_final")
    return int(bars)


def test_what_is_put_on_the_watchlist_is_streamed_without_a_restart(up: AtWork) -> None:
    assert eventually(lambda: streamed(up), 180)


def test_status_tells_of_it(up: AtWork) -> None:
    found = eventually(lambda: status(up), 60)

    assert found["feeds"]["kraken"]["state"] == "connected"


def test_its_page_is_served(up: AtWork) -> None:
    found = eventually(lambda: status(up), 60)
    with urllib.request.urlopen(f"{found['url']}/", timeout=10) as answer:
        assert answer.status == 200


def test_dagster_is_told_of_the_bars_that_are_stored(up: AtWork) -> None:
    def told() -> list[Any]:
        found: Any = up.graphql(_LIVE_BARS, {})["assetOrError"]
        return found.get("assetMaterializations", []) if found else []

    entries = eventually(told, 120)[0]["metadataEntries"]

    labels = {each["label"] for each in entries}
    assert {"market", "bars", "symbols", "timeframes", "indicators_written"} <= labels


def test_a_sidecar_that_is_killed_is_started_again_and_goes_on(up: AtWork) -> None:
    (before,) = up.children("scizor_cli.main sidecar")
    stored = streamed(up)
    before.kill()

    eventually(lambda: "The sidecar ended with code -9; starting it again" in up.said(), 60)
    (after,) = eventually(lambda: up.children("scizor_cli.main sidecar"), 60)
    assert after.pid != before.pid
    assert eventually(lambda: streamed(up) > stored, 180)


def test_the_log_has_no_traceback(up: AtWork) -> None:
    log = up.home / "logs" / "sidecar.log"
    assert Path(log).exists()
    assert "Traceback" not in log.read_text()
