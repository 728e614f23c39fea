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


def session_to_refresh(market: MarketSpec, at: datetime) -> Session | None:
    """Return the session that trades at that instant or has just closed, None without one."""
    day = at.astimezone(UTC).date()
    around = get_calendar(market.name).sessions(day - timedelta(days=1), day + timedelta(days=2))
    running = [each for each in around if each.open <= at < each.close + AFTER_CLOSE]
    return running[-1] if running else None


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
    def refresh(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        session = session_to_refresh(market, context.scheduled_execution_time)
        if session is None:
            return dg.SkipReason(f"{market.name} is closed.")
        key = session.session_date.isoformat()
        if not session_partitions(market).has_partition_key(key):
            return dg.SkipReason(f"{key} lies before SCIZOR_INTRADAY_START.")
        under_way = context.instance.get_run_records(
            dg.RunsFilter(job_name=job_name, statuses=_UNDER_WAY, tags={"dagster/partition": key}),
            limit=1,
        )
        if under_way:
            return dg.SkipReason(f"The last refresh of {key} is still under way.")
        lane = {"config": {"lane": "live"}}
        return dg.RunRequest(
            partition_key=key,
            run_config={
                "ops": {f"{market.name}__bars_{each}": lane for each in INTRADAY_TIMEFRAMES}
            },
            tags={"dagster/priority": "10"},
        )

    return refresh


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
