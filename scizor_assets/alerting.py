"""Alerts: the job that evaluates and sends them, and what runs that fail or recover mean.

A job rather than an asset: its outcome is messages, not data, and there is nothing to
materialize again.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import dagster as dg

from scizor_assets.automation import is_under_way, schedule_status, sensor_status
from scizor_assets.common import failures
from scizor_core.alerts import Severity
from scizor_core.markets import MARKETS
from scizor_resources.alerts.evaluation import EvaluationReport, evaluate_alerts
from scizor_resources.alerts.store import AlertStore
from scizor_resources.platform import Platform

JOB_NAME = "alerts"
#: Kind of the alert about a run that has failed.
RUN_FAILED = "run_failed"
#: Runs with this priority keep open markets fresh; the others can wait.
LIVE_PRIORITY = 10
#: Successful evaluations are of no interest after that, and there is one every minute.
KEEP_RUNS = timedelta(days=1)
_RUNS_REMOVED_AT_ONCE = 20
_LONGEST_TEXT = 1000
# ---- the evaluation


@dg.op(
    name="evaluate_alert_rules",
    description=(
        "Measures, evaluates the rules of alert_rules, raises and resolves alerts, escalates "
        "those that nobody has acknowledged, sends the messages that are due."
    ),
)
def evaluate_alert_rules(
    context: dg.OpExecutionContext, platform: dg.ResourceParam[Platform]
) -> None:
    """Do one round of alerts."""
    with failures():
        report = evaluate_alerts(platform)
    context.add_output_metadata(_metadata(report))
    _remove_old_runs(context.instance, platform.now())


@dg.job(
    name=JOB_NAME,
    description="One round of alerts: measure, judge, escalate, send.",
    executor_def=dg.in_process_executor,
)
def alerts_job() -> None:
    """Do one round of alerts."""
    evaluate_alert_rules()


def _metadata(report: EvaluationReport) -> dict[str, Any]:
    judgement, delivery = report.judgement, report.delivery
    return {
        "values_judged": judgement.measured,
        "not_measured": dg.MetadataValue.json({**judgement.unmeasured, **report.not_measured}),
        "raised": dg.MetadataValue.json(judgement.raised),
        "worsened": dg.MetadataValue.json(judgement.worsened),
        "resolved": dg.MetadataValue.json(judgement.resolved),
        "escalated": report.escalated,
        "messages_sent": delivery.sent,
        "messages_held": delivery.held,
        "channels_failed": dg.MetadataValue.json(delivery.errors),
    }


def _remove_old_runs(instance: dg.DagsterInstance, now: datetime) -> None:
    old = dg.RunsFilter(
        job_name=JOB_NAME,
        statuses=[dg.DagsterRunStatus.SUCCESS],
        created_before=now - KEEP_RUNS,
    )
    for record in instance.get_run_records(old, limit=_RUNS_REMOVED_AT_ONCE, ascending=True):
        instance.delete_run(record.dagster_run.run_id)


@dg.schedule(
    name="alerts_evaluation",
    cron_schedule="* * * * *",
    job=alerts_job,
    default_status=schedule_status(),
    description=(
        "Every minute: evaluates the rules of alert_rules, escalates and sends alerts. Without it "
        "alerts are raised and kept, but nobody is told."
    ),
)
def alerts_evaluation(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Ask for a round of alerts, unless the last one is still under way."""
    if is_under_way(context.instance, {}, JOB_NAME):
        return dg.SkipReason("The last evaluation is still under way.")
    return dg.RunRequest(tags={"dagster/priority": str(LIVE_PRIORITY)})


# ---- runs that fail and recover


@dg.run_failure_sensor(
    name="run_failed_alert",
    default_status=sensor_status(),
    minimum_interval_seconds=15,
    # Runs of the command line belong to no code location.
    monitor_all_code_locations=True,
    description=(
        "A run that fails raises an alert, one for each asset and job however often it fails, "
        "until a later run of that asset succeeds."
    ),
)
def run_failed_alert(
    context: dg.RunFailureSensorContext, platform: dg.ResourceParam[Platform]
) -> None:
    """Raise the alerts of a failed run."""
    run = context.dagster_run
    planned = _assets(
        context.instance, run.run_id, dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
    )
    done = _assets(context.instance, run.run_id, dg.DagsterEventType.ASSET_MATERIALIZATION)
    absent = {step: sorted(planned[step] - done.get(step, set())) for step in planned}
    steps = {
        event.step_key: sentence_of(event)
        for event in context.get_step_failure_events()
        if event.step_key is not None
    }
    if not steps:
        # The run itself failed: its worker has gone, or it could not be started.
        said = (context.failure_event.message or "no reason was given.").strip().splitlines()[0]
        steps = {step: said for step, assets in absent.items() if assets} or {"": said}
    ended = _moment(context.instance, run.run_id, "end_time")
    for step, sentence in steps.items():
        raise_run_failed(platform.alerts, run, step, absent.get(step, []), sentence, ended)


@dg.run_status_sensor(
    name="run_recovered",
    run_status=dg.DagsterRunStatus.SUCCESS,
    default_status=sensor_status(),
    minimum_interval_seconds=15,
    # Runs of the command line belong to no code location.
    monitor_all_code_locations=True,
    description="A run that succeeds closes the alerts about earlier failures of its assets.",
)
def run_recovered(context: dg.RunStatusSensorContext, platform: dg.ResourceParam[Platform]) -> None:
    """Resolve the alerts that a successful run puts right."""
    standing = platform.alerts.of_kind(RUN_FAILED)
    if not standing:
        return
    run = context.dagster_run
    started = _moment(context.instance, run.run_id, "start_time")
    done = _assets(context.instance, run.run_id, dg.DagsterEventType.ASSET_MATERIALIZATION)
    assets = set[str]().union(*done.values())
    for alert in standing:
        detail = alert["detail"]
        wanted = set(detail["assets"])
        is_same = wanted <= assets if wanted else detail["job"] == run.job_name
        if is_same and started >= datetime.fromisoformat(detail["failed_at"]):
            note = f"run {run.run_id[:8]} succeeded"
            platform.alerts.resolve(RUN_FAILED, (detail["job"], detail["subject"]), note)


def raise_run_failed(
    alerts: AlertStore,
    run: dg.DagsterRun,
    step: str,
    assets: Sequence[str],
    sentence: str,
    failed_at: datetime,
) -> None:
    """Raise the alert about one step of a failed run.

    Args:
        alerts: where it goes.
        run: the run.
        step: key of the step that failed, "" where the run itself did.
        assets: what it should have materialized and has not.
        sentence: why it failed.
        failed_at: when, aware.
    """
    is_live = int(run.tags.get("dagster/priority", "0")) >= LIVE_PRIORITY
    subject = assets[0] if len(assets) == 1 else step or run.job_name
    partition = run.tags.get("dagster/partition", "")
    detail: dict[str, Any] = {
        "job": run.job_name,
        "subject": subject,
        "assets": list(assets),
        "partition": partition,
        "run_id": run.run_id,
        "failed_at": failed_at.isoformat(),
    }
    markets = {each.partition("/")[0] for each in assets} & set(MARKETS)
    if len(markets) == 1:
        detail["market"] = markets.pop()
    alerts.raise_(
        RUN_FAILED,
        Severity.HIGH if is_live else Severity.MEDIUM,
        f"{subject}{f' {partition}' if partition else ''} failed: {sentence[:_LONGEST_TEXT]}",
        (run.job_name, subject),
        **detail,
    )


def sentence_of(event: dg.DagsterEvent) -> str:
    """Return why a step failed: the sentence of its `dg.Failure`, else the error's first line."""
    data = event.step_failure_data
    if data.user_failure_data is not None and data.user_failure_data.description:
        return str(data.user_failure_data.description)
    error = data.error
    while error is not None and error.cause is not None:
        error = error.cause
    lines = (error.message if error is not None else "").strip().splitlines()
    return lines[0] if lines else "no reason was given."


def _assets(
    instance: dg.DagsterInstance, run_id: str, kind: dg.DagsterEventType
) -> dict[str, set[str]]:
    """Return step -> the assets of its events of a kind, as users write them."""
    found: dict[str, set[str]] = {}
    for record in instance.get_records_for_run(run_id, of_type=kind).records:
        event = record.event_log_entry.dagster_event
        if event is not None and event.asset_key is not None:
            found.setdefault(event.step_key or "", set()).add(event.asset_key.to_user_string())
    return found


def _moment(
    instance: dg.DagsterInstance, run_id: str, which: Literal["start_time", "end_time"]
) -> datetime:
    seconds = getattr(instance.get_run_record_by_id(run_id), which, None)
    return datetime.now(UTC) if seconds is None else datetime.fromtimestamp(seconds, UTC)


ALERT_JOBS = [alerts_job]
ALERT_SCHEDULES = [alerts_evaluation]
ALERT_SENSORS = [run_failed_alert, run_recovered]
