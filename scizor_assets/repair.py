"""The sensor that asks again for what is absent, gap by gap, each at its own pace.

Belongs here: which runs are asked for. Not here: the back-off and the grouping
(`scizor_core.repair`), which gaps are due (`scizor_resources.stores.due_gaps`), and what a run
makes of a gap (`scizor_resources.pipeline`).
"""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus

from scizor_assets.automation import LAUNCHED_BY, UNDER_WAY, sensor_status
from scizor_assets.jobs import JOBS, assets_below, job_of
from scizor_assets.partitions import partitions_of
from scizor_core.cadence import sessions_to_refresh
from scizor_core.markets import INTRADAY_TIMEFRAMES, MARKETS, Timeframe, check_timeframe
from scizor_core.repair import Collection, DueGaps, RepairRun, plan_repairs, without_collected
from scizor_core.sessions import get_calendar
from scizor_resources.platform import Platform

NAME = "gap_repair"
#: Repair runs that are under way at one time; the rest of what is due waits.
MOST_RUNS = 10
#: Sessions so recent that a gap nobody has asked for is not left to the nightly backfill.
RECENT_SESSIONS = 3

_TICK_SECONDS = 30
_PRIORITY = "0"
_PARTITION = "dagster/partition"
_RANGE_START, _RANGE_END = (
    "dagster/asset_partition_range_start",
    "dagster/asset_partition_range_end",
)
#: Runs that are looked at for what they collect; of more than that the newest.
_MOST_RECORDS = 500
#: Days in which any market has three sessions.
_LOOK_BACK = timedelta(days=21)


@dg.sensor(
    name=NAME,
    jobs=JOBS,
    minimum_interval_seconds=_TICK_SECONDS,
    default_status=sensor_status(),
    description=(
        "Every 30 seconds: asks again for gaps that are due (quality.gaps, status open), newest "
        f"first, in at most {MOST_RUNS} runs at a time of exactly the symbols concerned. What a "
        "run leaves absent waits longer each time, until it is given up."
    ),
)
def gap_repair(
    context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]
) -> list[dg.RunRequest] | dg.SkipReason:
    """Ask for the runs that repair what is due."""
    at = platform.now()
    repairs = dg.RunsFilter(statuses=UNDER_WAY, tags={LAUNCHED_BY: NAME})
    room = MOST_RUNS - context.instance.get_runs_count(repairs)
    if room <= 0:
        return dg.SkipReason(f"{MOST_RUNS} repair runs are under way.")
    due = platform.due_gaps.due(at, recent_sessions(at), sessions_being_refreshed(at))
    reachable = [each for each in due if _has_partition(each)]
    if not reachable:
        return dg.SkipReason(
            "No gap is due."
            if not due
            else f"{_gaps(due)} due lie before SCIZOR_INTRADAY_START or SCIZOR_DAILY_START."
        )
    under_way = collections_under_way(context.instance)
    runs = plan_repairs(without_collected(reachable, under_way), at, room)
    if not runs:
        return dg.SkipReason(f"{_gaps(reachable)} due wait for runs that will fetch them.")
    return [request_of(run) for run in runs]


def request_of(run: RepairRun) -> dg.RunRequest:
    """Return the request for a repair run: the job's assets below its timeframe, its symbols."""
    assets = assets_below(run.market, run.timeframe)
    first, last = run.first.isoformat(), run.last.isoformat()
    tags = {"dagster/priority": _PRIORITY, LAUNCHED_BY: NAME}
    if first != last:
        tags |= {_RANGE_START: first, _RANGE_END: last}
    return dg.RunRequest(
        run_key=run.key,
        job_name=job_of(run.market, run.timeframe),
        asset_selection=[dg.AssetKey.from_user_string(asset) for asset in assets],
        partition_key=first if first == last else None,
        run_config={"ops": {asset.replace("/", "__"): _config(asset, run) for asset in assets}},
        tags=tags,
    )


def _config(asset: str, run: RepairRun) -> dict[str, Any]:
    # A run may wait for a while: who has left the watchlist by then is not asked for.
    bars = {"lane": "repair", "watched_only": True} if "/bars_" in asset else {}
    return {"config": {"symbols": list(run.symbols), **bars}}


def recent_sessions(at: datetime) -> dict[str, date]:
    """Return market -> date of the third last session that has begun."""
    today = at.astimezone(UTC).date()
    found = {}
    for market in MARKETS:
        around = get_calendar(market).sessions(today - _LOOK_BACK, today + timedelta(days=2))
        begun = [session.session_date for session in around if session.open <= at]
        if begun:
            found[market] = begun[-RECENT_SESSIONS:][0]
    return found


def sessions_being_refreshed(at: datetime) -> list[tuple[str, date]]:
    """Return market and date of sessions whose refresh asks for what is absent anyway."""
    return [
        (market.name, session.session_date)
        for market in MARKETS.values()
        for session in sessions_to_refresh(market, at)
    ]


def collections_under_way(instance: dg.DagsterInstance) -> list[Collection]:
    """Return what runs and backfills that wait or are being executed will collect."""
    repairs = instance.get_run_records(
        dg.RunsFilter(statuses=UNDER_WAY, tags={LAUNCHED_BY: NAME}), limit=_MOST_RECORDS
    )
    every = instance.get_run_records(dg.RunsFilter(statuses=UNDER_WAY), limit=_MOST_RECORDS)
    runs = {record.dagster_run.run_id: record.dagster_run for record in (*repairs, *every)}
    found = [each for run in runs.values() for each in _collections_of(run)]
    for backfill in instance.get_backfills(
        filters=BulkActionsFilter(statuses=[BulkActionStatus.REQUESTED])
    ):
        # Which partitions are left would take the whole graph: those of the market are.
        for market, timeframes in _bars(backfill.asset_selection or ()).items():
            every_day = (date.min, date.max)
            found.append(
                Collection(market, frozenset(timeframes), *every_day, symbols=None, is_repair=False)
            )
    return found


def _collections_of(run: dg.DagsterRun) -> list[Collection]:
    first = run.tags.get(_RANGE_START) or run.tags.get(_PARTITION)
    last = run.tags.get(_RANGE_END) or first
    if first is None or last is None:
        return []
    keys = run.asset_selection
    if keys is None:  # a job by name
        keys = frozenset(
            dg.AssetKey.from_user_string(asset)
            for market in MARKETS
            for finest in (INTRADAY_TIMEFRAMES[0], check_timeframe("1d"))
            if run.job_name == job_of(market, finest)
            for asset in assets_below(market, finest)
        )
    return [
        Collection(
            market,
            frozenset(timeframes),
            date.fromisoformat(first),
            date.fromisoformat(last),
            _symbols(run, market, timeframes),
            is_repair=run.tags.get(LAUNCHED_BY) == NAME,
        )
        for market, timeframes in _bars(keys).items()
    ]


def _bars(keys: Iterable[dg.AssetKey]) -> dict[str, set[Timeframe]]:
    """Return market -> timeframes of the bars among some assets."""
    found: dict[str, set[Timeframe]] = {}
    for key in keys:
        market, _, name = key.to_user_string().partition("/")
        if market in MARKETS and name.startswith("bars_"):
            found.setdefault(market, set()).add(check_timeframe(name.removeprefix("bars_")))
    return found


def _symbols(
    run: dg.DagsterRun, market: str, timeframes: Iterable[Timeframe]
) -> frozenset[str] | None:
    """Return the symbols that a run is narrowed to, None where some of its bars are not."""
    ops: Any = run.run_config.get("ops") or {}
    chosen: set[str] = set()
    for timeframe in timeframes:
        op = ops.get(f"{market}__bars_{timeframe}") or {}
        symbols = (op.get("config") or {}).get("symbols")
        if symbols is None:
            return None
        chosen.update(symbols)
    return frozenset(chosen)


def _has_partition(due: DueGaps) -> bool:
    partitions = partitions_of(MARKETS[due.market], due.timeframe)
    return partitions.has_partition_key(due.partition.isoformat())


def _gaps(due: Iterable[DueGaps]) -> str:
    count = sum(each.gaps for each in due)
    return f"{count} gap{'s' * (count != 1)}"


REPAIR_SENSORS = [gap_repair]
