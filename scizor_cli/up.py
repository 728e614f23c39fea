"""`scizor up`: servers, code server, webserver, daemon and one warm worker, until Ctrl-C."""

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import psutil
from rich.console import Console

from scizor_resources.dagster_home import prepare_dagster_home, process_environment
from scizor_resources.embedded.ports import describe_port_owner, port_is_free
from scizor_resources.errors import ServerError
from scizor_resources.platform import Platform
from scizor_resources.settings import Settings, load_settings

READY_TIMEOUT_SECONDS = 180
STOP_TIMEOUT_SECONDS = 20
#: A process that dies this often within a minute is not restarted again.
MAX_RESTARTS_PER_MINUTE = 3


@dataclass
class Child:
    """A process that `up` keeps running.

    Attributes:
        name: for people and for the log's file name.
        arguments: command line.
        process: the running process, None before the first start.
        starts: monotonic times of the starts in the last minute.
    """

    name: str
    arguments: list[str]
    process: subprocess.Popen[bytes] | None = None
    starts: list[float] = field(default_factory=list)


class Supervisor:
    """Starts children in sessions of their own, restarts what dies, stops all in order.

    Args:
        environment: environment of every child.
        directory: working directory of every child.
        log_directory: where each child's output goes.
        record: file that names the children, so that the next start finds the remains of a
            supervisor that was killed.
    """

    def __init__(
        self, environment: Mapping[str, str], directory: Path, log_directory: Path, record: Path
    ) -> None:
        self._environment, self._directory = dict(environment), directory
        self._log_directory, self._record = log_directory, record
        self._children: list[Child] = []
        log_directory.mkdir(parents=True, exist_ok=True)

    def clear_remains(self) -> int:
        """End processes that a killed supervisor has left behind; returns how many."""
        if not self._record.exists():
            return 0
        try:
            known = json.loads(self._record.read_text())
        except ValueError:
            known = []
        remains = [process for each in known if (process := _same_process(each)) is not None]
        _end(remains)
        self._record.unlink(missing_ok=True)
        return len(remains)

    def start(self, name: str, arguments: list[str]) -> None:
        """Start a child."""
        child = Child(name, arguments)
        self._children.append(child)
        self._spawn(child)

    def _spawn(self, child: Child) -> None:
        now = time.monotonic()
        child.starts = [*(at for at in child.starts if now - at < 60), now]  # noqa: PLR2004  # a minute
        with (self._log_directory / f"{child.name}.log").open("ab") as log:
            child.process = subprocess.Popen(
                child.arguments,
                env=self._environment,
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C is for the supervisor, which then stops its children in order.
                start_new_session=True,
            )
        self._write_record()

    def _write_record(self) -> None:
        running = []
        for child in self._children:
            if child.process is not None and child.process.poll() is None:
                try:
                    created = psutil.Process(child.process.pid).create_time()
                except psutil.NoSuchProcess:
                    continue
                running.append({"pid": child.process.pid, "created": created})
        self._record.write_text(json.dumps(running))

    def check(self, console: Console) -> None:
        """Restart what has died.

        Raises:
            ServerError: a child dies again and again.
        """
        for child in self._children:
            if child.process is None or child.process.poll() is None:
                continue
            log = self._log_directory / f"{child.name}.log"
            if len(child.starts) > MAX_RESTARTS_PER_MINUTE:
                raise ServerError(
                    f"The {child.name} ended {len(child.starts)} times within a minute "
                    f"(last exit code {child.process.returncode}). Its last words: "
                    f"{last_line(log)} The whole log: {log}"
                )
            console.print(
                f"[yellow]The {child.name} ended with code {child.process.returncode}; "
                f"starting it again (log: {log}).[/]"
            )
            self._spawn(child)

    def stop(self) -> None:
        """Stop all children, the last one started first."""
        processes = []
        for child in reversed(self._children):
            if child.process is not None and child.process.poll() is None:
                try:
                    processes.append(psutil.Process(child.process.pid))
                except psutil.NoSuchProcess:
                    continue
        _end(processes)
        for child in self._children:
            if child.process is not None:
                child.process.wait()
        self._record.unlink(missing_ok=True)


def _same_process(record: dict[str, float]) -> psutil.Process | None:
    """Return the recorded process if it still runs; a pid may have been given away since."""
    try:
        process = psutil.Process(int(record["pid"]))
        return process if abs(process.create_time() - record["created"]) < 1 else None
    except (psutil.NoSuchProcess, KeyError):
        return None


def _end(processes: list[psutil.Process]) -> None:
    """Ask processes and their descendants to stop, then make them."""
    descendants = []
    for process in processes:
        try:
            descendants += process.children(recursive=True)
            process.terminate()
        except psutil.NoSuchProcess:
            continue
    _, alive = psutil.wait_procs([*processes, *descendants], timeout=STOP_TIMEOUT_SECONDS)
    for process in alive:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(alive, timeout=5)


def last_line(log: Path) -> str:
    """Return the last line of a log that is not empty."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else "(none)"


def run_up(host: str | None = None, port: int | None = None) -> None:
    """Start everything, wait for Ctrl-C or SIGTERM, stop everything.

    Raises:
        ScizorError: something needed could not be started.
    """
    console = Console()
    settings = load_settings()
    host, port = host or settings.ui_host, port or settings.ui_port
    stopping = _stop_on_signals()
    supervisor = Supervisor({}, Path.cwd(), settings.home / "logs", settings.home / "up.json")
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
        supervisor = _supervisor(platform, settings, code_port := _free_port())
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


def _supervisor(platform: Platform, settings: Settings, code_port: int) -> Supervisor:
    home = prepare_dagster_home(settings, platform.endpoints, code_port)
    return Supervisor(
        process_environment(settings, platform.endpoints, home),
        home,
        settings.home / "logs",
        settings.home / "up.json",
    )


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
