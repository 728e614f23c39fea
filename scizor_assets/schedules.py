"""What runs by itself while markets are open: the intraday refresh of the live profile.

The schedules are there in every profile, so that they can be switched on in the UI; with
`SCIZOR_PROFILE=live` they run from the start.
"""

from datetime import UTC, datetime, timedelta

import dagster as dg

from scizor_assets.exchange import coinspot_prices
from scizor_assets.partitions import session_partitions
from scizor_core.markets import INTRADAY_TIMEFRAMES, MARKETS, MarketSpec
from scizor_core.sessions import Session, get_calendar
from scizor_resources.settings import get_settings

#: Yahoo is 15 to 20 minutes late with Australian prices, and the closing auction prints after the
#: close: the session is refreshed until then.
AFTER_CLOSE = timedelta(minutes=40)
_UNDER_WAY = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]


def sessions_to_refresh(market: MarketSpec, at: datetime) -> list[Session]:
    """Return the sessions that trade at that instant or have just closed.

    Of a market that never closes there are two for a while after midnight: the last minutes of the
    day before are fetched after it.
    """
    day = at.astimezone(UTC).date()
    around = get_calendar(market.name).sessions(day - timedelta(days=1), day + timedelta(days=2))
    return [each for each in around if each.open <= at < each.close + AFTER_CLOSE]


def _status() -> dg.DefaultScheduleStatus:
    live = get_settings().profile == "live"
    return dg.DefaultScheduleStatus.RUNNING if live else dg.DefaultScheduleStatus.STOPPED


def build_refresh_schedule(market: MarketSpec) -> dg.ScheduleDefinition:
    """Return the schedule that refreshes the running session of a market every five minutes."""
    job_name = f"{market.name}_session"

    @dg.schedule(
        name=f"{market.name}_intraday_refresh",
        cron_schedule="*/5 * * * *",
        job_name=job_name,
        default_status=_status(),
        description=(
            f"Every five minutes while {market.name} is open, and for 40 minutes after: bars, "
            "indicators and completeness of the running session, ahead of backfills."
        ),
    )
    def refresh(
        context: dg.ScheduleEvaluationContext,
    ) -> list[dg.RunRequest] | dg.SkipReason:
        sessions = sessions_to_refresh(market, context.scheduled_execution_time)
        if not sessions:
            return dg.SkipReason(f"{market.name} is closed.")
        keys = [session.session_date.isoformat() for session in sessions]
        idle = [key for key in keys if not _is_under_way(context.instance, job_name, key)]
        if not idle:
            return dg.SkipReason(f"The last refresh of {keys[-1]} is still under way.")
        known = [key for key in idle if session_partitions(market).has_partition_key(key)]
        if not known:
            return dg.SkipReason(f"{idle[-1]} lies before SCIZOR_INTRADAY_START.")
        lane = {"config": {"lane": "live"}}
        ops = {f"{market.name}__bars_{each}": lane for each in INTRADAY_TIMEFRAMES}
        return [
            dg.RunRequest(
                partition_key=key, run_config={"ops": ops}, tags={"dagster/priority": "10"}
            )
            for key in known
        ]

    return refresh


def _is_under_way(instance: dg.DagsterInstance, job_name: str, key: str) -> bool:
    runs = dg.RunsFilter(job_name=job_name, statuses=_UNDER_WAY, tags={"dagster/partition": key})
    return bool(instance.get_run_records(runs, limit=1))


@dg.schedule(
    name="coinspot_prices_refresh",
    cron_schedule="*/5 * * * *",
    target=[coinspot_prices],
    default_status=_status(),
    description="Looks at CoinSpot's prices every five minutes.",
)
def coinspot_refresh(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """Sample the present."""
    today = context.scheduled_execution_time.astimezone(UTC).date()
    return dg.RunRequest(partition_key=today.isoformat(), tags={"dagster/priority": "10"})


SCHEDULES: list[dg.ScheduleDefinition] = [
    *(build_refresh_schedule(market) for market in MARKETS.values()),
    coinspot_refresh,
]
