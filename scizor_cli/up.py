"""`scizor up`: servers, code server, webserver, daemon and one warm worker, until Ctrl-C."""

import contextlib
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
from scizor_resources.dagster_home import prepare_dagster_home, process_environment
from scizor_resources.embedded.ports import describe_port_owner, port_is_free
from scizor_resources.errors import ServerError
from scizor_resources.platform import Platform
from scizor_resources.settings import Settings, load_settings

READY_TIMEOUT_SECONDS = 180


def run_up(host: str | None = None, port: int | None = None) -> None:
    """Start everything, wait for Ctrl-C or SIGTERM, stop everything.

    Raises:
        ScizorError: something needed could not be started.
    """
    console = Console()
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
    with console.status("Starting PostgreSQL and Valkey ..."):
        platform = Platform.open(settings, migrate=True)
    try:
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


def worker_command(concurrency: int) -> list[str]:
    """Return the command line of a worker that runs so many runs at once."""
    return [
        *(sys.executable, "-m", "celery", "-A", "scizor_assets.worker", "worker"),
        *("--pool", "prefork", "--concurrency", str(concurrency)),
        *("--queues", "dagster", "--loglevel", "warning", "--without-gossip", "--without-mingle"),
    ]


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
