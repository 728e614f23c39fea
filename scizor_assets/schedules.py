"""What runs by itself: the intraday refresh while markets are open, the ledgers, retention.

The schedules are there in every profile, so that they can be switched on in the UI; with
`SCIZOR_PROFILE=live` they run from the start.
"""

from datetime import UTC, datetime, timedelta

import dagster as dg

from scizor_assets.automation import LAUNCHED_BY, is_under_way, schedule_status
from scizor_assets.catalyst import CATALYST_ASSETS
from scizor_assets.exchange import coinspot_prices
from scizor_assets.glass import GLASS_ASSETS
from scizor_assets.human import HUMAN_ASSETS
from scizor_assets.maintenance import retention
from scizor_assets.partitions import session_partitions
from scizor_core.markets import INTRADAY_TIMEFRAMES, MARKETS, MarketSpec
from scizor_core.sessions import Session, get_calendar
from scizor_resources.collectors import Collector, collectors_of, paced
from scizor_resources.settings import Settings, get_settings

#: Yahoo is 15 to 20 minutes late with Australian prices, and the closing auction prints after the
#: close: the session is refreshed until then.
AFTER_CLOSE = timedelta(minutes=40)
PARTITION = "dagster/partition"


def sessions_to_refresh(market: MarketSpec, at: datetime) -> list[Session]:
    """Return the sessions that trade at that instant or have just closed.

    Of a market that never closes there are two for a while after midnight: the last minutes of the
    day before are fetched after it.
    """
    day = at.astimezone(UTC).date()
    around = get_calendar(market.name).sessions(day - timedelta(days=1), day + timedelta(days=2))
    return [each for each in around if each.open <= at < each.close + AFTER_CLOSE]


def build_refresh_schedule(market: MarketSpec) -> dg.ScheduleDefinition:
    """Return the schedule that refreshes the running session of a market every five minutes."""
    job_name = f"{market.name}_session"

    @dg.schedule(
        name=f"{market.name}_intraday_refresh",
        cron_schedule="*/5 * * * *",
        job_name=job_name,
        default_status=schedule_status(),
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
        idle = [
            key for key in keys if not is_under_way(context.instance, {PARTITION: key}, job_name)
        ]
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


@dg.schedule(
    name="coinspot_prices_refresh",
    cron_schedule="*/5 * * * *",
    target=[coinspot_prices],
    default_status=schedule_status(),
    description="Looks at CoinSpot's prices every five minutes.",
)
def coinspot_refresh(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """Sample the present."""
    today = context.scheduled_execution_time.astimezone(UTC).date()
    return dg.RunRequest(partition_key=today.isoformat(), tags={"dagster/priority": "10"})


def due_collectors(asset: str, at: datetime, settings: Settings) -> list[Collector]:
    """Return the collectors of an asset that are set up and due at that instant."""
    return [
        each
        for each in (paced(known, settings) for known in collectors_of(asset))
        if each.is_due(at) and not each.missing(settings)
    ]


def collections_due(asset: str, at: datetime, settings: Settings) -> dict[str, list[str]]:
    """Return partition key -> names of the collectors to ask for it at that instant."""
    found: dict[str, list[str]] = {}
    for collector in due_collectors(asset, at, settings):
        for day in collector.days(at):
            found.setdefault(day.isoformat(), []).append(collector.name)
    return dict(sorted(found.items()))


def build_ledger_schedule(asset: dg.AssetsDefinition) -> dg.ScheduleDefinition:
    """Return the schedule of an asset that several sources feed, each at its own pace."""
    key = asset.key.to_user_string()
    name = f"{key.replace('/', '_')}_refresh"
    shortest = min(each.every for each in collectors_of(key))
    quarter = shortest < timedelta(hours=1)
    paces = ", ".join(f"{each.name} {each.schedule}" for each in collectors_of(key))

    @dg.schedule(
        name=name,
        cron_schedule="*/15 * * * *" if quarter else "0 * * * *",
        target=[asset],
        default_status=schedule_status(),
        description=f"Asks the sources of {key} that are set up: {paces} (UTC).",
    )
    def refresh(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest] | dg.SkipReason:
        at = context.scheduled_execution_time
        due = collections_due(key, at, get_settings())
        if not due:
            return dg.SkipReason(f"No source of {key} is set up and due at {at:%H:%M} UTC.")
        idle = [
            day
            for day in due
            if not is_under_way(context.instance, {LAUNCHED_BY: name, PARTITION: day})
        ]
        if not idle:
            return dg.SkipReason(f"The last run for {max(due)} is still under way.")
        return [
            dg.RunRequest(
                partition_key=day,
                run_config={
                    "ops": {
                        key.replace("/", "__"): {"config": {"sources": due[day], "lane": "live"}}
                    }
                },
                tags={"dagster/priority": "5", LAUNCHED_BY: name},
            )
            for day in idle
        ]

    return refresh


retention_nightly = dg.ScheduleDefinition(
    name="retention_nightly",
    cron_schedule="40 2 * * *",
    target=[retention],
    default_status=schedule_status(),
    description="Takes away what is older than its table's policy allows, at 02:40 UTC.",
)

SCHEDULES: list[dg.ScheduleDefinition] = [
    *(build_refresh_schedule(market) for market in MARKETS.values()),
    coinspot_refresh,
    *(build_ledger_schedule(asset) for asset in (*GLASS_ASSETS, *HUMAN_ASSETS, *CATALYST_ASSETS)),
    retention_nightly,
]
