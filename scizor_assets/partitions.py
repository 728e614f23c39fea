"""Partitions: one key per trading session (intraday), one per month (daily bars).

Belongs here: every PartitionsDefinition. A closed day has no key; the label of a session is the
exchange's own date, written as a UTC day, because partitions in different time zones cannot depend
on each other in Dagster.
"""

from datetime import UTC, date, datetime, time, timedelta
from functools import cache

import dagster as dg

from scizor_core.markets import MarketSpec
from scizor_core.sessions import get_calendar
from scizor_resources.settings import get_settings

_WEEKEND = "0 0 * * 0,6"
#: Known closed days reach this far ahead of today; the calendar itself ends about there.
_HORIZON = timedelta(days=366)


@cache
def session_partitions(market: MarketSpec) -> dg.DailyPartitionsDefinition:
    """Return the sessions of a market since `SCIZOR_INTRADAY_START`, the running one included."""
    start = get_settings().intraday_start
    today = datetime.now(UTC).date()
    calendar = get_calendar(market.name)
    closed = calendar.closed_days(start, today + _HORIZON)
    # A session of Sydney's summer opens at 23:00 UTC of the day before its date: its key has to
    # be there by then, so it comes with the UTC day before.
    early = any(
        session.open.date() < session.session_date
        for session in calendar.sessions(today - _HORIZON, today)
    )
    holidays = [
        datetime.combine(day, time(), UTC)
        for day in closed
        if day.weekday() < 5  # noqa: PLR2004  # Monday to Friday
    ]
    weekends: list[str | datetime] = [] if market.asset_class == "crypto" else [_WEEKEND]
    return dg.DailyPartitionsDefinition(
        start_date=start.isoformat(),
        end_offset=2 if early else 1,
        exclusions=[*weekends, *holidays] or None,
    )


@cache
def day_partitions() -> dg.DailyPartitionsDefinition:
    """Return the UTC days since `SCIZOR_INTRADAY_START`, the current one included."""
    return dg.DailyPartitionsDefinition(
        start_date=get_settings().intraday_start.isoformat(), end_offset=1
    )


@cache
def month_partitions() -> dg.MonthlyPartitionsDefinition:
    """Return the months since `SCIZOR_DAILY_START`, the current one included."""
    return dg.MonthlyPartitionsDefinition(
        start_date=get_settings().daily_start.replace(day=1).isoformat(), end_offset=1
    )


def partitions_of(market: MarketSpec, timeframe: str) -> dg.TimeWindowPartitionsDefinition:
    """Return the partitions of a market's assets of that timeframe."""
    return month_partitions() if timeframe == "1d" else session_partitions(market)


def dates_of(window: dg.TimeWindow) -> tuple[date, date]:
    """Return a partition window as dates, the second one exclusive."""
    return window.start.date(), window.end.date()


def window_of_check(
    context: dg.AssetCheckExecutionContext, today: date, days: int, *, with_today: bool = True
) -> tuple[date, date]:
    """Return the UTC days that a check of daily partitions looks at, the second one exclusive.

    They are those of its run; without a partition the newest.

    Args:
        context: of the check.
        today: the present UTC day.
        days: so many days before it are the newest.
        with_today: the present day, too.
    """
    newest = (today - timedelta(days=days), today + timedelta(days=int(with_today)))
    return window_of_run(context, day_partitions()) or newest


def bounds_of(window: tuple[date, date]) -> tuple[datetime, datetime]:
    """Return the instants, UTC, at which a window of days begins and ends."""
    first, last = window
    return datetime.combine(first, time(), UTC), datetime.combine(last, time(), UTC)


def window_of_run(
    context: dg.AssetCheckExecutionContext, partitions: dg.TimeWindowPartitionsDefinition
) -> tuple[date, date] | None:
    """Return the dates that the run of a check covers, None where it has no partition."""
    tags = context.run.tags
    first = tags.get("dagster/asset_partition_range_start") or tags.get("dagster/partition")
    last = tags.get("dagster/asset_partition_range_end") or first
    if first is None or last is None:
        return None
    start, _ = dates_of(partitions.time_window_for_partition_key(first))
    _, end = dates_of(partitions.time_window_for_partition_key(last))
    return start, end
