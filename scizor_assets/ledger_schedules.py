"""When the sources of the other ledgers are asked, and for which days.

The schedules are there in every profile, so that they can be switched on in the UI; with
`SCIZOR_PROFILE=live` they run from the start.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg

from scizor_assets.automation import LAUNCHED_BY, is_under_way, schedule_status
from scizor_assets.catalyst import CATALYST_ASSETS
from scizor_assets.glass import GLASS_ASSETS
from scizor_assets.human import HUMAN_ASSETS
from scizor_resources.collectors import (
    OPEN_DAYS,
    Collector,
    account_of,
    collectors_of,
    paced,
)
from scizor_resources.platform import Platform
from scizor_resources.settings import Settings, get_settings
from scizor_resources.stores.providers import DayRuns

PARTITION = "dagster/partition"
#: Accounts that tell which days are open: of those days, and of the days that come late.
_ACCOUNTS = timedelta(days=OPEN_DAYS + 2)


def due_collectors(asset: str, at: datetime, settings: Settings) -> list[Collector]:
    """Return the collectors of an asset that are set up and due at that instant."""
    return [
        each
        for each in (paced(known, settings) for known in collectors_of(asset))
        if each.is_due(at) and not each.missing(settings)
    ]


def collections_due(
    asset: str,
    at: datetime,
    settings: Settings,
    runs: Mapping[str, Mapping[date, DayRuns]],
) -> dict[str, list[str]]:
    """Return partition key -> names of the collectors to ask for it at that instant.

    Args:
        asset: asset key as text.
        at: the instant, aware.
        settings: who is set up, and since when there are partitions.
        runs: provider -> UTC day -> how asking for it has gone of late.
    """
    found: dict[str, list[str]] = {}
    for collector in due_collectors(asset, at, settings):
        asked = runs.get(account_of(collector, settings), {})
        for day in {*collector.days(at), *collector.open_days(asked, at)}:
            if day >= settings.intraday_start:
                found.setdefault(day.isoformat(), []).append(collector.name)
    return dict(sorted(found.items()))


def build_ledger_schedule(asset: dg.AssetsDefinition) -> dg.ScheduleDefinition:
    """Return the schedule of an asset that several sources feed, each at its own pace."""
    key = asset.key.to_user_string()
    name = f"{key.replace('/', '_')}_refresh"
    known = [paced(each, get_settings()) for each in collectors_of(key)]
    quarter = min(each.every for each in known) < timedelta(hours=1)
    paces = ", ".join(f"{each.name} {each.schedule}" for each in known)

    @dg.schedule(
        name=name,
        cron_schedule="*/15 * * * *" if quarter else "0 * * * *",
        target=[asset],
        default_status=schedule_status(),
        description=(
            f"Asks the sources of {key} that are set up: {paces} (UTC); again for days of the last "
            "week for which they have not answered."
        ),
    )
    def refresh(
        context: dg.ScheduleEvaluationContext, platform: dg.ResourceParam[Platform]
    ) -> list[dg.RunRequest] | dg.SkipReason:
        at, settings = context.scheduled_execution_time, platform.settings
        if not due_collectors(key, at, settings):
            return dg.SkipReason(f"No source of {key} is set up and due at {at:%H:%M} UTC.")
        runs = platform.providers.runs_by_day(key, at - _ACCOUNTS)
        due = collections_due(key, at, settings, runs)
        idle = [
            day
            for day in due
            if not is_under_way(context.instance, {LAUNCHED_BY: name, PARTITION: day})
        ]
        if not idle:
            return dg.SkipReason(f"The last run for {max(due)} is still under way.")
        return [
            dg.RunRequest(
                # Dagster refuses several requests of a tick without one.
                run_key=f"{name}:{day}:{at.astimezone(UTC):%Y-%m-%dT%H:%MZ}",
                partition_key=day,
                run_config={"ops": {key.replace("/", "__"): {"config": _config(day, due)}}},
                tags={"dagster/priority": "5", LAUNCHED_BY: name},
            )
            for day in idle
        ]

    return refresh


def _config(day: str, due: Mapping[str, list[str]]) -> dict[str, Any]:
    """Return the run config for a day: what is made up for comes after what is new."""
    before = date.fromisoformat(max(due)) - timedelta(days=1)
    lane = "live" if date.fromisoformat(day) >= before else "repair"
    return {"sources": due[day], "lane": lane}


LEDGER_SCHEDULES: list[dg.ScheduleDefinition] = [
    build_ledger_schedule(asset) for asset in (*GLASS_ASSETS, *HUMAN_ASSETS, *CATALYST_ASSETS)
]
