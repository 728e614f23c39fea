"""`scizor up`: servers, code server, webserver, daemon and one warm worker, until Ctrl-C."""

import contextlib
import os
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from types import FrameType

from rich.console import Console

from scizor_cli.supervisor import Supervisor
from scizor_cli.worker import worker_command
from scizor_core.markets import MARKETS
from scizor_resources.collectors import COLLECTORS, paced
from scizor_resources.dagster_home import prepare_dagster_home, process_environment
from scizor_resources.embedded.ports import describe_port_owner, port_is_free
from scizor_resources.errors import ServerError
from scizor_resources.platform import Platform
from scizor_resources.reach import unreachable
from scizor_resources.settings import Settings, load_settings

READY_TIMEOUT_SECONDS = 180


def run_up(host: str | None = None, port: int | None = None, *, live: bool = False) -> None:
    """Start everything, wait for Ctrl-C or SIGTERM, stop everything.

    Args:
        host: address of the UI, by default that of the settings.
        port: port of the UI, by default that of the settings.
        live: refresh markets from providers that need no key.

    Raises:
        ScizorError: something needed could not be started.
    """
    console = Console()
    if live:
        os.environ["SCIZOR_PROFILE"] = "live"
    settings = load_settings()
    host, port = host or settings.ui_host, port or settings.ui_port
    stopping = _stop_on_signals()
    supervisor = Supervisor(settings.home / "logs", settings.home / "up.json")
    supervisor.claim(f"http://{host}:{port}")
    remains = supervisor.clear_remains()
    if remains:
        console.print(f"[yellow]Ended {remains} processes that an earlier `up` had left behind.[/]")
    if not port_is_free(port):
        owner = describe_port_owner(port) or "another program"
        raise ServerError(
            f"Port {port} is taken by {owner}. Stop it, or choose another port: "
            f"`scizor up --port {port + 1}` or SCIZOR_UI_PORT."
        )
    if settings.profile == "live":
        _tell_of_live(console, settings)
    with console.status("Starting PostgreSQL and Valkey ..."):
        platform = Platform.open(settings, migrate=True)
    try:
        if settings.profile == "live":
            _tell_of_empty_markets(console, platform)
        code_port = _free_port()
        home = prepare_dagster_home(settings, platform.endpoints, code_port)
        supervisor.equip(process_environment(settings, platform.endpoints, home), home)
        try:
            with console.status("Loading the asset graph, starting a worker ..."):
                _start_children(console, supervisor, settings, (host, port), code_port, stopping)
            _serve(console, supervisor, host, port, stopping)
        finally:
            with console.status("Stopping ..."):
                supervisor.stop()
    finally:
        platform.close()
    console.print("Stopped.")


def _tell_of_live(console: Console, settings: Settings) -> None:
    """Say who is going to be asked, and who cannot be reached just now."""
    chains = {market: settings.chain(market) for market in MARKETS}
    for market, chain in chains.items():
        console.print(f"{market}: {', '.join(chain)}, every five minutes while it is open")
    ready = [paced(each, settings) for each in COLLECTORS if not each.missing(settings)]
    console.print(f"collectors: {', '.join(f'{each.name} {each.schedule}' for each in ready)}")
    if len(ready) < len(COLLECTORS):
        console.print(
            f"[dim]{len(COLLECTORS) - len(ready)} more collectors are not set up: "
            "scizor collectors list[/]"
        )
    asked = dict.fromkeys(
        [
            *(name for chain in chains.values() for name in chain),
            *(each.provider for each in ready),
        ]
    )
    with console.status("Looking whether the providers can be reached ..."):
        problems = unreachable(settings, list(asked))
    for name, why in problems.items():
        console.print(
            f"[yellow]{name}: {why}. What is stored is served; its refreshes fail with this reason "
            "until it can be reached.[/]"
        )


def _tell_of_empty_markets(console: Console, platform: Platform) -> None:
    for market in MARKETS.values():
        if not platform.reference.watchlist(market.name, active_only=True):
            symbol = market.example.split()[0]
            console.print(
                f"[yellow]{market.name}: nothing is on the watchlist yet. Add what you follow: "
                f"scizor watchlist add {symbol} --market {market.name}[/]"
            )


def _stop_on_signals() -> Callable[[], bool]:
    received: list[int] = []

    def remember(number: int, _frame: FrameType | None) -> None:
        received.append(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, remember)
    return lambda: bool(received)


def _start_children(
    console: Console,
    supervisor: Supervisor,
    settings: Settings,
    address: tuple[str, int],
    code_port: int,
    stopping: Callable[[], bool],
) -> None:
    workspace = str(settings.home / "dagster" / "workspace.yaml")
    python = sys.executable
    supervisor.start(
        "code-server",
        [python, "-m", "dagster", "api", "grpc", "-m", "scizor_assets.definitions"]
        + ["-a", "defs", "-h", "127.0.0.1", "-p", str(code_port)],
    )
    supervisor.start("worker", worker_command(settings.worker_concurrency))
    # Webserver and daemon that find no code server start with an error and look again only later.
    _wait_for_port(supervisor, console, code_port, stopping)
    supervisor.start(
        "webserver",
        [python, "-m", "dagster_webserver", "-w", workspace]
        + ["-h", address[0], "-p", str(address[1])],
    )
    supervisor.start("daemon", [python, "-m", "dagster._daemon", "run", "-w", workspace])


def _wait_for_port(
    supervisor: Supervisor, console: Console, port: int, stopping: Callable[[], bool]
) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_SECONDS
    while not stopping() and time.monotonic() < deadline:
        supervisor.check(console)
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.3)


def _serve(
    console: Console,
    supervisor: Supervisor,
    host: str,
    port: int,
    stopping: Callable[[], bool],
) -> None:
    url = f"http://{host}:{port}"
    deadline = time.monotonic() + READY_TIMEOUT_SECONDS
    with console.status("Starting the Dagster UI, the daemon and a worker ..."):
        while not _answers(url) and not stopping():
            supervisor.check(console)
            if time.monotonic() > deadline:
                raise ServerError(
                    f"The Dagster UI did not answer at {url} within {READY_TIMEOUT_SECONDS} s. "
                    "See the logs in the home directory's folder logs."
                )
            time.sleep(0.5)
    if not stopping():
        console.print(f"\n[bold green]The Dagster UI is at {url}[/]   (Ctrl-C stops everything)")
    while not stopping():
        supervisor.check(console)
        time.sleep(0.5)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/server_info", timeout=2) as answer:  # noqa: S310  # our own address
            return bool(answer.status == 200)  # noqa: PLR2004
    except (urllib.error.URLError, OSError):
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
