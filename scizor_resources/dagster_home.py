"""The directory Dagster calls home: instance config and workspace, written from here.

The files hold no secret: they name environment variables that every process of the platform is
started with (`Endpoints.environment`).
"""

import os
from pathlib import Path

import psycopg
from psycopg import sql

from scizor_resources.endpoints import DAGSTER_SCHEMA, Endpoints
from scizor_resources.settings import Settings

_INSTANCE = """\
# Written by scizor at every start; edit scizor_resources/dagster_home.py instead.
# As dagster-postgres, over connections that are kept.
storage:
  custom:
    module: scizor_assets.storage
    class: PooledPostgresStorage
    config:
      postgres_url:
        env: SCIZOR_DAGSTER_DATABASE_URL

# Runs are executed by warm Celery workers: the one that `scizor up` starts, and every
# `scizor worker` that has joined.
run_launcher:
  module: scizor_assets.launcher
  class: WatchfulCeleryRunLauncher
  config:
    default_queue: backfill
    broker:
      env: SCIZOR_BROKER_URL
    backend:
      env: SCIZOR_BROKER_URL

# Gives each run its Celery queue: live from priority 1 on, else backfill.
run_coordinator:
  module: scizor_assets.coordinator
  class: LanedRunCoordinator
  config:
    dequeue_interval_seconds: 1
    max_concurrent_runs: {max_runs}
    tag_concurrency_limits:
      # What is left is for live runs, so that a backfill never fills all places.
      - key: dagster-celery/queue
        value: backfill
        limit: {max_backfill_runs}
      # Backfills that ask the same providers, on all workers together.
      - key: scizor/pool
        value:
          applyLimitPerUniqueValue: true
        limit: {pool_limit}
    # A run that cannot be handed over because Valkey is away goes back into the queue, however long
    # that takes; without this Dagster would fail it (`BrokerAway` of scizor_assets.launcher).
    max_user_code_failure_retries: 1000000
    user_code_failure_retry_delay: 5

# A run whose worker has gone must not stay "started". Waiting for a worker is no failure, so that
# the time to start is a day; the sensor lost_runs finds those that nobody will ever start.
run_monitoring:
  enabled: true
  start_timeout_seconds: 86400
  cancel_timeout_seconds: 60
  poll_interval_seconds: 15

# Again for a run that has gone with its worker or its database, which may happen to it more than
# once. A step that failed has said why, and trying again is for the step's own retry policy.
run_retries:
  enabled: true
  max_retries: 3
  retry_on_asset_or_op_failure: false

# Every event is in the storage; at DEBUG the worker's log would repeat them all.
python_logs:
  python_log_level: INFO

# Sensors side by side: one that takes long would keep the refresh of an open market waiting.
sensors:
  use_threads: true
  num_workers: 4

nux:
  enabled: false

telemetry:
  enabled: false
"""

_WORKSPACE = """\
# Written by scizor at every start: one code server for webserver and daemon.
load_from:
  - grpc_server:
      host: 127.0.0.1
      port: {port}
      location_name: scizor
"""


def prepare_dagster_home(
    settings: Settings, endpoints: Endpoints, code_server_port: int | None = None
) -> Path:
    """Write Dagster's home and make its schema; returns the directory.

    Args:
        settings: the platform's settings.
        endpoints: the servers.
        code_server_port: port for the workspace file, where a code server is going to run.
    """
    home = settings.home / "dagster"
    home.mkdir(parents=True, exist_ok=True)
    _write(home / "dagster.yaml", instance_config(settings))
    if code_server_port is not None:
        _write(home / "workspace.yaml", _WORKSPACE.format(port=code_server_port))
    with psycopg.connect(endpoints.libpq_url, autocommit=True) as connection:
        # Two shells may do this at once, and IF NOT EXISTS still races with itself.
        connection.execute("SELECT pg_advisory_lock(7249003)")
        connection.execute(
            sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(DAGSTER_SCHEMA))
        )
    return home


def instance_config(settings: Settings) -> str:
    """Return the text of dagster.yaml."""
    return _INSTANCE.format(
        max_runs=settings.max_runs,
        # A quarter of the places is kept for live runs, one at least.
        max_backfill_runs=settings.max_runs - max(settings.max_runs // 4, 1),
        pool_limit=settings.pool_limit,
    )


def process_environment(settings: Settings, endpoints: Endpoints, home: Path) -> dict[str, str]:
    """Return the environment for a process that works on this platform's Dagster instance."""
    return {
        **os.environ,
        **settings.environment,
        **endpoints.environment,
        "SCIZOR_HOME": str(settings.home),
        "DAGSTER_HOME": str(home),
        "DAGSTER_DISABLE_TELEMETRY": "1",
        # One INSERT for all partitions of an asset in a run instead of four statements for each.
        "DAGSTER_EVENT_BATCH_SIZE": "1000",
        # A tick of a sensor of runs looks at 5 of them by default: it would fall behind a backfill.
        "DAGSTER_RUN_STATUS_SENSOR_PROCESS_LIMIT": "100",
        "PYTHONUNBUFFERED": "1",
    }


def _write(path: Path, text: str) -> None:
    """Replace a file in one step; processes may be reading it."""
    if path.exists() and path.read_text() == text:
        return
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(text)
    temporary.replace(path)
