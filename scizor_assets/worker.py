"""The Celery app of the workers that execute runs.

dagster-celery's packaged app knows only its own default broker, so the app is built here with
ours. Importing the definitions in the parent process is the point: each child starts with
everything loaded, and a run begins in about a second instead of seven to eleven.
"""

import importlib
import os
import sys
from collections.abc import Iterable
from typing import Any

import dagster as dg
from celery.signals import worker_ready
from dagster._cli.api import _execute_run_command_body
from dagster._grpc.types import ExecuteRunArgs
from dagster._serdes import unpack_value
from dagster_celery.config import TASK_EXECUTE_JOB_NAME
from dagster_celery.make_app import make_app
from dagster_celery.tasks import create_resume_job_task, create_task
from kombu.entity import Exchange, Queue

import scizor_assets.definitions
import scizor_assets.launcher
import scizor_assets.storage  # noqa: F401  # all three are loaded for their effect: children are warm
from scizor_core.markets import MARKETS
from scizor_resources.queues import BACKFILL, QUEUES
from scizor_resources.settings import get_settings

#: Tag with the name of the worker that executes a run.
WORKER_TAG = "scizor/worker"

# One day: a run that takes longer than Celery's default of one hour would be delivered again.
_VISIBILITY_SECONDS = 86_400

#: What a child would otherwise import in its first run, which takes a second or more.
_SDKS = {"yahoo": "yfinance", "kraken": "ccxt"}


def load_sdks(providers: Iterable[str]) -> None:
    """Import the SDKs of those providers that take long to load."""
    for provider in providers:
        if provider in _SDKS:
            importlib.import_module(_SDKS[provider])


load_sdks({name for market in MARKETS for name in get_settings().chain(market)})

app = make_app(  # type: ignore[no-untyped-call]  # dagster-celery is not typed here
    app_args={
        "broker": os.environ.get("SCIZOR_BROKER_URL"),
        "backend": os.environ.get("SCIZOR_BROKER_URL"),
    }
)
app.conf.update(
    worker_prefetch_multiplier=1,
    task_queues=[Queue(name, Exchange(name), name) for name in QUEUES],  # type: ignore[no-untyped-call]  # nor is kombu
    task_routes=None,
    task_default_queue=BACKFILL,
    # Late, so that a worker takes no more than it executes: what waits is free for the others.
    task_acks_late=True,
    task_reject_on_worker_lost=False,
    worker_max_tasks_per_child=100,
    worker_send_task_events=False,
    broker_connection_retry_on_startup=True,
    # A broker that is being restarted is waited for; runs go on meanwhile.
    broker_connection_max_retries=None,
    broker_transport_options={
        "visibility_timeout": _VISIBILITY_SECONDS,
        # The queues in the order given, not in turn.
        "queue_order_strategy": "priority",
    },
    result_expires=_VISIBILITY_SECONDS,
    worker_hijack_root_logger=False,
)

execute_plan = create_task(app)  # type: ignore[no-untyped-call]
resume_job = create_resume_job_task(app)


@app.task(bind=True, name=TASK_EXECUTE_JOB_NAME, track_started=True)  # type: ignore[untyped-decorator]  # nor Celery
def execute_job(self: Any, execute_job_args_packed: Any) -> int:
    """Execute a run, as dagster-celery's task does, and write on it which worker does."""
    args = unpack_value(execute_job_args_packed, as_type=ExecuteRunArgs)
    with dg.DagsterInstance.get() as instance:
        instance.add_run_tags(args.run_id, {WORKER_TAG: self.request.hostname})
        return _execute_run_command_body(
            instance=instance,
            run_id=args.run_id,
            write_stream_fn=lambda _event: None,
            set_exit_code_on_failure=args.set_exit_code_on_failure is not False,
        )


@worker_ready.connect  # type: ignore[untyped-decorator]  # nor Celery
def _tell(sender: Any, **_: Any) -> None:
    sys.stdout.write(f"Worker {sender.hostname} is ready.\n")
    sys.stdout.flush()
