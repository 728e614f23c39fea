"""What runs by the clock: after each market's close, weekly, monthly, nightly; the ledgers.

The schedules are there in every profile, so that they can be switched on in the UI; with
`SCIZOR_PROFILE=live` they run from the start. Open markets are refreshed by sensors
(`scizor_assets.intraday`).
"""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import dagster as dg

from scizor_assets.automation import LAUNCHED_BY, is_under_way, schedule_status
from scizor_assets.exchange import coinspot_prices
from scizor_assets.jobs import job_of
from scizor_assets.ledger_schedules import LEDGER_SCHEDULES
from scizor_assets.maintenance import retention
from scizor_assets.partitions import partitions_of
from scizor_assets.reconciliation import RECONCILIATION_ASSETS, RECONCILIATION_CONFIG
from scizor_assets.reference import corporate_actions, sessions
from scizor_core.cadence import session_closed_at
from scizor_core.markets import MARKETS, MarketSpec, Timeframe
from scizor_core.sessions import Session, get_calendar

#: By then the closing auction has printed and the providers that are 20 minutes late have it.
AFTER_CLOSE = timedelta(minutes=45)
DAILY_AFTER_CLOSE = timedelta(minutes=50)
ACTIONS_AFTER_CLOSE = timedelta(minutes=55)
_ACTIONS_LABEL = corporate_actions.key.to_user_string()


def closing_crons(market: MarketSpec, delay: timedelta) -> list[str]:
    """Return a cron line for each time of day, in the market's zone, so long after a close.

    Usual closes and those of half days; which of them is the one of a day, the calendar says.
    """
    closes = get_calendar(market.name).closing_times()
    times = sorted({(datetime.combine(date.min, each) + delay).time() for each in closes})
    return [f"{each.minute} {each.hour} * * *" for each in times]


def build_close_schedule(
    market: MarketSpec,
    name: str,
    delay: timedelta,
    request: Callable[[Session], dg.RunRequest | None],
    description: str,
    target: str | dg.AssetsDefinition,
) -> dg.ScheduleDefinition:
    """Return a schedule that runs once after each session of a market.

    Args:
        market: the market.
        name: name of the schedule.
        delay: how long after the close; half days close earlier.
        request: what is to be run after a session, None where it has no partition.
        description: what it does, without when.
        target: name of a job, or an asset.
    """
    minutes = int(delay / timedelta(minutes=1))
    until = "midnight UTC" if market.calendar == "24/7" else f"each close of {market.name}"
    job_name, assets = (target, None) if isinstance(target, str) else (None, [target])

    @dg.schedule(
        name=name,
        cron_schedule=closing_crons(market, delay),
        execution_timezone=market.timezone,
        job_name=job_name,
        target=assets,
        default_status=schedule_status(),
        description=f"{minutes} minutes after {until}, half days too: {description}",
    )
    def after_close(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        close = context.scheduled_execution_time - delay
        session = session_closed_at(market, close)
        if session is None:
            local = close.astimezone(ZoneInfo(market.timezone))
            return dg.SkipReason(f"No session of {market.name} closed at {local:%Y-%m-%d %H:%M}.")
        found = request(session)
        return found or dg.SkipReason(
            f"{session.session_date} lies before the first partition: see SCIZOR_INTRADAY_START "
            "and SCIZOR_DAILY_START."
        )

    return after_close


def build_after_close_schedule(market: MarketSpec) -> dg.ScheduleDefinition:
    """Return the schedule of the last refresh of a session."""
    name = f"{market.name}_after_close"
    return build_close_schedule(
        market,
        name,
        AFTER_CLOSE,
        lambda session: _bars_request(market, name, "1m", session.session_date),
        "the session's bars once more, closing auction included, with indicators, completeness "
        "and all checks.",
        job_of(market.name, "1m"),
    )


def build_daily_schedule(market: MarketSpec) -> dg.ScheduleDefinition:
    """Return the schedule of a market's daily bars."""
    name = f"{market.name}_daily_bars"
    return build_close_schedule(
        market,
        name,
        DAILY_AFTER_CLOSE,
        lambda session: _bars_request(market, name, "1d", session.session_date),
        "daily bars of the session's month with indicators, completeness and checks.",
        job_of(market.name, "1d"),
    )


def build_actions_schedule(market: MarketSpec) -> dg.ScheduleDefinition:
    """Return the schedule of splits and dividends after a market's close."""
    name = f"{market.name}_corporate_actions"
    return build_close_schedule(
        market,
        name,
        ACTIONS_AFTER_CLOSE,
        lambda session: dg.RunRequest(
            run_key=f"{_ACTIONS_LABEL}:{market.name}:{session.session_date}",
            tags={"dagster/priority": "5", LAUNCHED_BY: name},
        ),
        "splits and dividends of all watched equities, and bars that were rewritten for them.",
        corporate_actions,
    )


def _bars_request(
    market: MarketSpec, name: str, timeframe: Timeframe, session_date: date
) -> dg.RunRequest | None:
    first = session_date.replace(day=1) if timeframe == "1d" else session_date
    key = first.isoformat()
    if not partitions_of(market, timeframe).has_partition_key(key):
        return None
    collected: tuple[Timeframe, ...] = ("1d",) if timeframe == "1d" else ("1m", "5m", "15m")
    return dg.RunRequest(
        run_key=f"{name}:{session_date}",
        partition_key=key,
        run_config={
            "ops": {
                f"{market.name}__bars_{each}": {"config": {"lane": "live"}} for each in collected
            }
        },
        tags={"dagster/priority": "10", LAUNCHED_BY: name},
    )


def build_reconciliation_schedule(
    market: MarketSpec, asset: dg.AssetsDefinition
) -> dg.ScheduleDefinition:
    """Return the schedule that compares a market's week with a second source."""
    name = f"{market.name}_reconciliation_weekly"

    @dg.schedule(
        name=name,
        cron_schedule="0 5 * * 6",
        target=[asset],
        default_status=schedule_status(),
        description=(
            f"Saturdays at 05:00 UTC: compares the week's bars of {market.name} with a second "
            "source."
        ),
    )
    def reconcile(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        until = context.scheduled_execution_time.astimezone(UTC).date().isoformat()
        op = asset.key.to_user_string().replace("/", "__")
        return dg.RunRequest(
            run_key=f"{name}:{until}",
            run_config={"ops": {op: {"config": {RECONCILIATION_CONFIG: until}}}},
            tags={"dagster/priority": "-5", LAUNCHED_BY: name},
        )

    return reconcile


@dg.schedule(
    name="coinspot_prices_refresh",
    cron_schedule="*/5 * * * *",
    target=[coinspot_prices],
    default_status=schedule_status(),
    description="Looks at CoinSpot's prices every five minutes.",
)
def coinspot_refresh(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Sample the present."""
    if is_under_way(context.instance, {LAUNCHED_BY: "coinspot_prices_refresh"}):
        return dg.SkipReason("The last look at CoinSpot's prices is still under way.")
    today = context.scheduled_execution_time.astimezone(UTC).date()
    return dg.RunRequest(
        partition_key=today.isoformat(),
        tags={"dagster/priority": "10", LAUNCHED_BY: "coinspot_prices_refresh"},
    )


retention_nightly = dg.ScheduleDefinition(
    name="retention_nightly",
    cron_schedule="40 2 * * *",
    target=[retention],
    default_status=schedule_status(),
    description="Takes away what is older than its table's policy allows, at 02:40 UTC.",
)

sessions_monthly = dg.ScheduleDefinition(
    name="sessions_monthly",
    cron_schedule="10 3 1 * *",
    target=[sessions],
    default_status=schedule_status(),
    description=(
        "On the first of each month at 03:10 UTC: keeps the table of sessions a year ahead."
    ),
)

_EQUITIES = [market for market in MARKETS.values() if market.asset_class == "equity"]

SCHEDULES: list[dg.ScheduleDefinition] = [
    *(build_after_close_schedule(market) for market in MARKETS.values()),
    *(build_daily_schedule(market) for market in MARKETS.values()),
    *(build_actions_schedule(market) for market in _EQUITIES),
    *(
        build_reconciliation_schedule(market, asset)
        for market, asset in zip(MARKETS.values(), RECONCILIATION_ASSETS, strict=True)
    ),
    coinspot_refresh,
    *LEDGER_SCHEDULES,
    retention_nightly,
    sessions_monthly,
]
