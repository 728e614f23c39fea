"""What came of a backfill, read from its runs; and its runs as launches of this process."""

from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from scizor_assets.alerting import sentence_of
from scizor_assets.automation import LAUNCHED_BY
from scizor_assets.backfill_runs import BackfillRun
from scizor_assets.launch import Launch
from scizor_resources.backfill_progress import (
    BACKFILL,
    PROCESS,
    BackfillProgress,
    is_alive,
    progress_of,
    this_process,
)
from scizor_resources.platform import Platform

_BROKEN_OFF = "The command that executed this run has gone."


@dataclass(frozen=True)
class Outcome:
    """What came of a backfill.

    Attributes:
        progress: runs, rows, calls.
        is_over: all its runs have ended.
        without_data: (timeframe, symbol) -> why, for symbols that no run has brought any bar of.
        failures: run -> why it failed.
    """

    progress: BackfillProgress
    is_over: bool
    without_data: dict[tuple[str, str], str] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return it for programs."""
        return {
            **self.progress.as_dict(),
            "is_over": self.is_over,
            "without_data": [
                {"timeframe": timeframe, "symbol": symbol, "reason": reason}
                for (timeframe, symbol), reason in self.without_data.items()
            ],
            "failures": self.failures,
        }


def outcome_of(
    instance: dg.DagsterInstance, platform: Platform, backfill: str, *, is_over: bool
) -> Outcome:
    """Return what came of a backfill.

    Args:
        instance: where its runs are recorded.
        platform: the opened platform.
        backfill: its name.
        is_over: all its runs have ended.
    """
    progress = progress_of(platform.warehouse, backfill, platform.now())
    if progress is None:
        progress = BackfillProgress(backfill, "", 0, 0, 0, 0, 0, 0, 0, 0, None, 0.0)
    outcome = Outcome(progress, is_over)
    got: set[tuple[str, str]] = set()
    for record in instance.get_run_records(dg.RunsFilter(tags={BACKFILL: backfill})):
        run = record.dagster_run
        _read_bars(instance, run, got, outcome.without_data)
        if run.status == dg.DagsterRunStatus.FAILURE:
            outcome.failures[_title(run)] = _why(instance, run)
    for key in got:
        outcome.without_data.pop(key, None)
    return outcome


def _read_bars(
    instance: dg.DagsterInstance,
    run: dg.DagsterRun,
    got: set[tuple[str, str]],
    missing: dict[tuple[str, str], str],
) -> None:
    """Read which symbols a run has brought bars of, and why it has brought none of others."""
    kind = dg.DagsterEventType.ASSET_MATERIALIZATION
    for record in instance.get_records_for_run(run.run_id, of_type=kind).records:
        found = record.asset_materialization
        if found is None or "/bars_" not in found.asset_key.to_user_string():
            continue
        timeframe = found.asset_key.path[-1].removeprefix("bars_")
        if timeframe == "15m":  # derived: it is absent where 5m is
            continue
        absent: Any = found.metadata["symbols_missing"].value
        for symbol in _symbols(run):
            if symbol not in absent:
                got.add((timeframe, symbol))
        missing.update({(timeframe, symbol): str(why) for symbol, why in absent.items()})


def _symbols(run: dg.DagsterRun) -> list[str]:
    ops: Any = run.run_config.get("ops") or {}
    return [
        symbol
        for name, op in ops.items()
        if "__bars_" in name
        for symbol in (op.get("config") or {}).get("symbols") or ()
    ]


def _title(run: dg.DagsterRun) -> str:
    tags = run.tags
    first = tags.get("dagster/asset_partition_range_start") or tags.get("dagster/partition")
    last = tags.get("dagster/asset_partition_range_end") or first
    return f"{run.job_name} {first} to {last}, run {run.run_id[:8]}"


def _why(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    kind = dg.DagsterEventType.STEP_FAILURE
    events = [
        record.event_log_entry.dagster_event
        for record in instance.get_records_for_run(run.run_id, of_type=kind).records
    ]
    return " ".join(sentence_of(each) for each in events if each is not None) or (
        "the run ended before it could say why."
    )


# ---- runs that a command executes itself


def launch_of(run: BackfillRun) -> Launch:
    """Return a run of a backfill as a launch of this process."""
    return Launch(
        run.assets,
        run.piece.first.isoformat(),
        run.piece.last.isoformat(),
        run.piece.symbols,
        run.title,
        bars=run.bars_config,
        tags={**run.tags, PROCESS: this_process()},
    )


def end_broken_off(instance: dg.DagsterInstance) -> int:
    """Fail runs that a killed command has left behind as "started"; returns how many."""
    filters = dg.RunsFilter(
        statuses=[dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING],
        tags={LAUNCHED_BY: "cli"},
    )
    ended = 0
    for record in instance.get_run_records(filters):
        process = record.dagster_run.tags.get(PROCESS)
        if process is not None and not is_alive(process):
            instance.report_run_failed(record.dagster_run, _BROKEN_OFF)
            ended += 1
    return ended
