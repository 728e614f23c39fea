"""The Celery app of the workers that execute runs.

dagster-celery's packaged app knows only its own default broker, so the app is built here with
ours. Importing the definitions in the parent process is the point: each child starts with
everything loaded, and a run begins in about a second instead of seven to eleven.
"""

import os

from dagster_celery.make_app import make_app
from dagster_celery.tasks import create_execute_job_task, create_resume_job_task, create_task

import scizor_assets.definitions  # noqa: F401  # loaded for its effect: children are warm

# One day: a run that takes longer than Celery's default of one hour would be delivered again.
_VISIBILITY_SECONDS = 86_400

app = make_app(  # type: ignore[no-untyped-call]  # dagster-celery is not typed here
    app_args={
        "broker": os.environ.get("SCIZOR_BROKER_URL"),
        "backend": os.environ.get("SCIZOR_BROKER_URL"),
    }
)
app.conf.update(
    worker_prefetch_multiplier=1,
    task_default_queue="dagster",
    task_acks_late=True,
    task_reject_on_worker_lost=False,
    worker_max_tasks_per_child=100,
    worker_send_task_events=False,
    broker_connection_retry_on_startup=True,
    broker_transport_options={"visibility_timeout": _VISIBILITY_SECONDS},
    result_expires=_VISIBILITY_SECONDS,
    worker_hijack_root_logger=False,
)

execute_plan = create_task(app)  # type: ignore[no-untyped-call]
execute_job = create_execute_job_task(app)
resume_job = create_resume_job_task(app)
