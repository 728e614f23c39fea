"""What starts backfills by itself: changes of the watchlist, and the night.

Belongs here: when a backfill is asked for, and for which symbols. Not here: its plan
(`scizor_core.backfill`) and its runs (`scizor_assets.backfill_runs`).
"""

import base64
import json
import zlib
from datetime import UTC

import dagster as dg
from dagster._core.definitions.assets.job.asset_job import IMPLICIT_ASSET_JOB_NAME

from scizor_assets.automation import LAUNCHED_BY, is_under_way, schedule_status, sensor_status
from scizor_assets.backfill_runs import (
    NEW_SYMBOL_PRIORITY,
    NIGHTLY_PRIORITY,
    backfill_name,
    runs_of,
)
from scizor_assets.jobs import JOBS
from scizor_core.markets import MARKETS, TIMEFRAMES, MarketSpec, Timeframe
from scizor_resources.backfill import BackfillPlanner
from scizor_resources.backfill_progress import SYMBOL
from scizor_resources.platform import Platform

WATCHLIST_CHANGES = "watchlist_changes"
#: New symbols of a market that one tick takes up; the rest is new at the next one.
MOST_NEW_SYMBOLS = 200
#: A night's calls fit into so many seconds: from 01:00 to well before any open.
NIGHT_SECONDS = 6 * 3600.0
#: Runs of one night.
MOST_NIGHTLY_RUNS = 200
_TICK_SECONDS = 15

#: Market -> symbol -> the timeframes that it is kept in.
Watched = dict[str, dict[str, frozenset[Timeframe]]]


# ---- changes of the watchlist


@dg.sensor(
    name=WATCHLIST_CHANGES,
    jobs=JOBS,
    minimum_interval_seconds=_TICK_SECONDS,
    default_status=sensor_status(),
    description=(
        "Every 15 seconds: a symbol that is new on the watchlist, active again or kept in a "
        "further timeframe is backfilled, alone and newest first, ahead of the nightly backfill; "
        "of one that has left, runs that still wait are cancelled. Coins that an announced "
        "listing has put on the watchlist are among the new ones."
    ),
)
def watchlist_changes(
    context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]
) -> list[dg.RunRequest] | dg.SkipReason:
    """Ask for backfills of what is new; cancel those of what has left."""
    planners = {market: BackfillPlanner(platform, market) for market in MARKETS}
    now: Watched = {market: planner.watched() for market, planner in planners.items()}
    before = read_cursor(context.cursor)
    if before is None:
        before = with_bars(platform, now)
    cancelled = _cancel(context.instance, before, now)
    new, known = changes(before, now)
    requests: list[dg.RunRequest] = []
    for market, wanted in new.items():
        plan = planners[market].plan(wanted)
        for note in (*plan.notes, *(each.sentence for each in plan.unreachable)):
            context.log.info(note)
        name = backfill_name(market, "watchlist", platform.now())
        runs = runs_of(plan, name, WATCHLIST_CHANGES, NEW_SYMBOL_PRIORITY, watched_only=True)
        requests += [run.request() for run in runs]
    context.update_cursor(write_cursor(known))
    if requests:
        return requests
    what = sum(len(symbols) for symbols in new.values())
    if what:
        return dg.SkipReason(f"Nothing of {what} new symbols is absent that a provider reaches.")
    left = f" {cancelled} runs of symbols that have left were cancelled." if cancelled else ""
    return dg.SkipReason(f"Nothing is new on the watchlist.{left}")


def changes(before: Watched, now: Watched) -> tuple[Watched, Watched]:
    """Return what is new, at most `MOST_NEW_SYMBOLS` a market, and what is known from now on."""
    new: Watched = {}
    known: Watched = {}
    for market, symbols in now.items():
        earlier = before.get(market, {})
        added = {
            symbol: timeframes - earlier.get(symbol, frozenset())
            for symbol, timeframes in symbols.items()
            if timeframes - earlier.get(symbol, frozenset())
        }
        taken = dict(list(added.items())[:MOST_NEW_SYMBOLS])
        if taken:
            new[market] = taken
        known[market] = {
            symbol: timeframes if symbol in taken else timeframes & earlier.get(symbol, timeframes)
            for symbol, timeframes in symbols.items()
            if symbol in taken or symbol not in added or symbol in earlier
        }
    return new, known


def with_bars(platform: Platform, watched: Watched) -> Watched:
    """Return those of the watched symbols that have bars: what a first look takes as known."""
    found: Watched = {}
    for market, symbols in watched.items():
        with platform.warehouse.connect() as connection:
            rows = connection.execute(
                "SELECT s.symbol FROM public.symbols AS s WHERE s.market = %s AND EXISTS ("
                "SELECT 1 FROM quality.completeness AS c "
                "WHERE c.instrument_id = s.instrument_id AND c.present > 0)",
                [market],
            ).fetchall()
        stored = {row["symbol"] for row in rows}
        found[market] = {name: kept for name, kept in symbols.items() if name in stored}
    return found


def _cancel(instance: dg.DagsterInstance, before: Watched, now: Watched) -> int:
    """Cancel waiting runs that are for one symbol alone which has left; returns how many."""
    gone = [
        f"{market} {symbol}"
        for market, symbols in before.items()
        for symbol in symbols
        if symbol not in now.get(market, {})
    ]
    cancelled = 0
    for name in gone:
        waiting = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED]
        for record in instance.get_run_records(
            dg.RunsFilter(statuses=waiting, tags={SYMBOL: name})
        ):
            why = f"{name.partition(' ')[2]} is no longer on the watchlist."
            instance.report_run_canceling(record.dagster_run, message=why)
            instance.report_run_canceled(record.dagster_run, message=why)
            cancelled += 1
    return cancelled


def write_cursor(watched: Watched) -> str:
    """Return the watchlist as the sensor's cursor: packed, as every tick keeps a copy."""
    plain = {
        market: {symbol: sorted(timeframes) for symbol, timeframes in symbols.items()}
        for market, symbols in watched.items()
    }
    text = json.dumps(plain, separators=(",", ":"))
    return base64.b85encode(zlib.compress(text.encode())).decode()


def read_cursor(cursor: str | None) -> Watched | None:
    """Return the watchlist of a cursor, None where there is none."""
    if not cursor:
        return None
    plain: dict[str, dict[str, list[str]]] = json.loads(zlib.decompress(base64.b85decode(cursor)))
    return {
        market: {
            symbol: frozenset(each for each in TIMEFRAMES if each in timeframes)
            for symbol, timeframes in symbols.items()
        }
        for market, symbols in plain.items()
    }


# ---- the night


def build_nightly_backfill(market: MarketSpec) -> dg.ScheduleDefinition:
    """Return the schedule `<market>_nightly_backfill`."""
    name = f"{market.name}_nightly_backfill"

    @dg.schedule(
        name=name,
        cron_schedule="0 1 * * *",
        execution_timezone=market.timezone,
        # A schedule has one job, and only this one holds assets of days and of months.
        job_name=IMPLICIT_ASSET_JOB_NAME,
        default_status=schedule_status(),
        description=(
            f"At 01:00 in {market.timezone}: what of the watchlist has never been fetched, within "
            "SCIZOR_BACKFILL_DAILY_DAYS and SCIZOR_BACKFILL_INTRADAY_DAYS, newest first, as much "
            "as the providers' budgets allow in six hours; the next night goes on from there."
        ),
    )
    def nightly(
        context: dg.ScheduleEvaluationContext, platform: dg.ResourceParam[Platform]
    ) -> list[dg.RunRequest] | dg.SkipReason:
        if is_under_way(context.instance, {LAUNCHED_BY: name}):
            return dg.SkipReason(f"The last nightly backfill of {market.name} is still under way.")
        planner = BackfillPlanner(platform, market.name)
        whole = planner.plan()
        for note in whole.notes:
            context.log.info(note)
        if not whole.pieces:
            return dg.SkipReason(f"Nothing of {market.name} is left to fetch.")
        plan = planner.within(whole, NIGHT_SECONDS, MOST_NIGHTLY_RUNS)
        context.log.info(
            "%s of %s pieces, %s of %s sessions.",
            *(len(plan.pieces), len(whole.pieces), plan.sessions, whole.sessions),
        )
        at = context.scheduled_execution_time.astimezone(UTC)
        runs = runs_of(
            plan,
            backfill_name(market.name, "nightly", at),
            name,
            NIGHTLY_PRIORITY,
            watched_only=True,
        )
        return [run.request(with_job=False) for run in runs]

    return nightly


BACKFILL_SENSORS = [watchlist_changes]
BACKFILL_SCHEDULES = [build_nightly_backfill(market) for market in MARKETS.values()]
