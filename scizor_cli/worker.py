"""`scizor worker`: one more worker for a platform that runs, here or on another machine."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from scizor_cli.output import note
from scizor_resources.queues import QUEUES

EXAMPLES = (
    "Examples:\n\n  scizor worker   (beside scizor up, on its home)\n\n"
    "  scizor worker --queues live --concurrency 1\n\n"
    "  scizor worker --database postgresql://scizor:password@db.example.org/scizor "
    "--broker redis://cache.example.org:6379/0"
)
#: Default of `--grace`: seconds that running runs get when the worker is asked to stop.
GRACE_SECONDS = 300.0
#: Seconds between a worker's being told to stop at once and its end by force.
_FORCE_SECONDS = 5.0
_POLL_SECONDS = 0.2


def worker(
    broker: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Valkey of the platform; default SCIZOR_REDIS_URL."),
    ] = None,
    database: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="PostgreSQL of the platform; default SCIZOR_DATABASE_URL."
        ),
    ] = None,
    concurrency: Annotated[
        int | None,
        typer.Option(
            min=1, max=256, help="Runs at the same time; default SCIZOR_WORKER_CONCURRENCY, 2."
        ),
    ] = None,
    queues: Annotated[
        str, typer.Option(help="Queues to take runs from; live goes first, whatever the order.")
    ] = ",".join(QUEUES),
    name: Annotated[
        str | None, typer.Option(help="Name among the workers; default worker-PROCESS@HOST.")
    ] = None,
    grace: Annotated[
        float,
        typer.Option(
            min=0, help="Seconds that running runs get to finish after the first signal to stop."
        ),
    ] = GRACE_SECONDS,
) -> None:
    """Join a platform that runs as one more worker, until Ctrl-C.

    The first Ctrl-C or SIGTERM lets running runs finish, the second stops at once.
    """
    from scizor_resources.dagster_home import prepare_dagster_home, process_environment
    from scizor_resources.joining import joined
    from scizor_resources.queues import check_queues
    from scizor_resources.settings import load_settings

    chosen = check_queues(queues.split(","))
    given = {"database_url": database, "redis_url": broker, "worker_concurrency": concurrency}
    settings = load_settings(**{key: value for key, value in given.items() if value is not None})
    full_name = node_name(name or f"worker-{os.getpid()}")
    with joined(settings) as endpoints:
        home = prepare_dagster_home(settings, endpoints)
        note(
            f"{full_name} joins {endpoints.shown}: queues {', '.join(chosen)}, "
            f"{settings.worker_concurrency} at a time. Ctrl-C stops it."
        )
        command = worker_command(settings.worker_concurrency, chosen, full_name)
        code = keep(command, process_environment(settings, endpoints, home), home, grace)
    if code:
        raise typer.Exit(code)


def node_name(name: str) -> str:
    """Return a worker's full name; names have to differ, so that each can be asked for its runs."""
    return name if "@" in name else f"{name}@{socket.gethostname()}"


def worker_command(
    concurrency: int, queues: tuple[str, ...] = QUEUES, name: str = "up@%h"
) -> list[str]:
    """Return the command line of a worker.

    Args:
        concurrency: runs at the same time.
        queues: what it takes from, the most urgent first.
        name: among the workers, `something@host`; %h is the host's name.
    """
    return [
        *(sys.executable, "-m", "celery", "--quiet", "-A", "scizor_assets.worker", "worker"),
        *("--pool", "prefork", "--concurrency", str(concurrency)),
        *("--queues", ",".join(queues), "--hostname", name),
        *("--loglevel", "warning", "--without-gossip", "--without-mingle"),
    ]


def keep(command: list[str], environment: dict[str, str], directory: Path, grace: float) -> int:
    """Run a worker until it ends or a second signal comes; returns the exit code.

    Args:
        command: command line of the worker.
        environment: of the worker.
        directory: working directory of the worker.
        grace: seconds between the first signal and the end by force.
    """
    received: list[int] = []

    def remember(number: int, _frame: FrameType | None) -> None:
        received.append(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, remember)
    # In a session of its own: Ctrl-C is for this process, which then stops it in order.
    process = subprocess.Popen(
        command,
        env=environment,
        cwd=directory,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline: float | None = None
    while process.poll() is None:
        if received and deadline is None:
            deadline = time.monotonic() + grace
            process.send_signal(signal.SIGTERM)
            note(f"Runs under way get {grace:g} s to finish. Again to stop at once.")
        if deadline is not None and (len(received) > 1 or time.monotonic() > deadline):
            _end(process)
            note("Stopped; runs that were under way fail within a minute and are started anew.")
            return 0
        time.sleep(_POLL_SECONDS)
    if deadline is None:
        note(f"The worker ended by itself with code {process.returncode}; see the lines above.")
        return 1
    note("Stopped.")
    return 0


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a worker and its children at once."""
    process.send_signal(signal.SIGQUIT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_FORCE_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
