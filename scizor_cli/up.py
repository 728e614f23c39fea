"""`scizor up`: servers, code server, webserver, daemon, a warm worker, the stream, until Ctrl-C."""

import contextlib
import os
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType

from rich.console import Console

from scizor_cli.supervisor import Supervisor
from scizor_cli.worker import worker_command
from scizor_core.markets import MARKETS
from scizor_resources.collectors import COLLECTORS, paced
from scizor_resources.dagster_home import prepare_dagster_home, process_environment
from scizor_resources.embedded.keeper import POSTGRES, VALKEY, ServerKeeper, keeper_of
from scizor_resources.embedded.ports import describe_port_owner, port_is_free
from scizor_resources.errors import ServerError
from scizor_resources.platform import Platform
from scizor_resources.reach import unreachable
from scizor_resources.settings import Settings, load_settings
from scizor_resources.streaming import is_wanted

READY_TIMEOUT_SECONDS = 180


@dataclass(frozen=True)
class Parts:
    """Everything that `up` keeps running, and where it says what happens to it."""

    console: Console
    supervisor: Supervisor
    keeper: ServerKeeper

    def look_after(self) -> None:
        """Restart what has died, and say so.

        Raises:
            ServerError: a process dies again and again, though both servers are there.
        """
        away = self.keeper.away
        for sentence in self.keeper.news():
            self.console.print(f"[yellow]{sentence}[/]")
        self.supervisor.check(self.console, away)


def run_up(
    host: str | None = None, port: int | None = None, *, live: bool = False, stream: bool = False
) -> None:
    """Start everything, wait for Ctrl-C or SIGTERM, stop everything.

    Args:
        host: address of the UI, by default that of the settings.
        port: port of the UI, by default that of the settings.
        live: refresh markets from providers that need no key.
        stream: start the streaming sidecar also where no live feed is set up: it plays the tape.

    Raises:
        ScizorError: something needed could not be started.
    """
    console = Console()
    if live:
        os.environ["SCIZOR_PROFILE"] = "live"
    settings = _with_tape(load_settings()) if stream else load_settings()
    host, port = host or settings.ui_host, port or settings.ui_port
    stopping = _stop_on_signals()
    supervisor = Supervisor(settings.home / "logs", settings.home / "up.json")
    supervisor.claim(f"http://{host}:{port}")
    remains = supervisor.clear_remains()
    if remains:
        console.print(f"[yellow]Ended {remains} processes that an earlier `up` had left behind.[/]")
    _require_free(port, f"`scizor up --port {port + 1}` or SCIZOR_UI_PORT")
    if is_wanted(settings):
        _require_free(settings.sidecar_port, "SCIZOR_SIDECAR_PORT")
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
        parts = Parts(console, supervisor, keeper_of(platform.servers, platform.endpoints))
        parts.keeper.start()
        try:
            with console.status("Loading the asset graph, starting a worker ..."):
                _start_children(parts, settings, (host, port), code_port, stopping)
            page = f"http://{settings.sidecar_host}:{settings.sidecar_port}"
            _serve(parts, host, port, page, stopping)
        finally:
            with console.status("Stopping ..."):
                parts.keeper.stop()
                supervisor.stop()
    finally:
        platform.close()
    console.print("Stopped.")


def _require_free(port: int, choices: str) -> None:
    if not port_is_free(port):
        owner = describe_port_owner(port) or "another program"
        raise ServerError(
            f"Port {port} is taken by {owner}. Stop it, or choose another port: {choices}."
        )


def _with_tape(settings: Settings) -> Settings:
    """Return the settings with the tape as the feed of every market, where none is chosen."""
    if is_wanted(settings):
        return settings
    os.environ.update({f"SCIZOR_STREAM_{market.upper()}": "tape" for market in MARKETS})
    return load_settings()


def _tell_of_live(console: Console, settings: Settings) -> None:
    """Say who is going to be asked, and who cannot be reached just now."""
    chains = {market: settings.chain(market) for market in MARKETS}
    for market, chain in chains.items():
        console.print(
            f"{market}: {', '.join(chain)}, while it is open tier 1 every minute, the others every "
            "five; after the close until what comes late is in"
        )
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
    parts: Parts,
    settings: Settings,
    address: tuple[str, int],
    code_port: int,
    stopping: Callable[[], bool],
) -> None:
    supervisor = parts.supervisor
    workspace = str(settings.home / "dagster" / "workspace.yaml")
    python = sys.executable
    supervisor.start(
        "code-server",
        [python, "-m", "dagster", "api", "grpc", "-m", "scizor_assets.definitions"]
        + ["-a", "defs", "-h", "127.0.0.1", "-p", str(code_port)],
        (POSTGRES,),
    )
    supervisor.start("worker", worker_command(settings.worker_concurrency), (POSTGRES, VALKEY))
    if is_wanted(settings):
        # It goes on without either server; to start it needs the watchlist.
        supervisor.start(
            "sidecar", [python, "-m", "scizor_cli.main", "sidecar", "--debug"], (POSTGRES,)
        )
    # Webserver and daemon that find no code server start with an error and look again only later.
    _wait_for_port(parts, code_port, stopping)
    supervisor.start(
        "webserver",
        [python, "-m", "scizor_assets.webserver", "-w", workspace]
        + ["-h", address[0], "-p", str(address[1])],
        (POSTGRES,),
    )
    supervisor.start(
        "daemon", [python, "-m", "dagster._daemon", "run", "-w", workspace], (POSTGRES,)
    )


def _wait_for_port(parts: Parts, port: int, stopping: Callable[[], bool]) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_SECONDS
    while not stopping() and time.monotonic() < deadline:
        parts.look_after()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.3)


def _serve(parts: Parts, host: str, port: int, page: str, stopping: Callable[[], bool]) -> None:
    url = f"http://{host}:{port}"
    deadline = time.monotonic() + READY_TIMEOUT_SECONDS
    with parts.console.status("Starting the Dagster UI, the daemon and a worker ..."):
        while not _answers(url) and not stopping():
            parts.look_after()
            if time.monotonic() > deadline:
                raise ServerError(
                    f"The Dagster UI did not answer at {url} within {READY_TIMEOUT_SECONDS} s. "
                    "See the logs in the home directory's folder logs."
                )
            time.sleep(0.5)
    if not stopping():
        parts.console.print(
            f"\n[bold green]The Dagster UI is at {url}[/]   (Ctrl-C stops everything)"
        )
        if any(child.name == "sidecar" for child in parts.supervisor.children):
            parts.console.print(f"[bold green]Live prices are at {page}[/]")
    while not stopping():
        parts.look_after()
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
