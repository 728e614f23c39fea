"""What the streaming sidecar makes, as Dagster sees it, and the sensor that goes on from there.

Belongs here: the external assets and the runs they ask for. Not here: what reports them
(`scizor_sidecar.dagster_reports`), which is another process and knows no Dagster.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

import dagster as dg

from scizor_assets.automation import LAUNCHED_BY, is_under_way, sensor_status
from scizor_assets.common import OWNERS
from scizor_assets.jobs import JOBS, job_of
from scizor_core.markets import INTRADAY_TIMEFRAMES, MARKETS
from scizor_core.sessions import get_calendar
from scizor_resources.platform import Platform
from scizor_resources.settings import get_settings

NAME = "bars_landed"
LIVE_TICKS = dg.AssetKey(["streaming", "live_ticks"])
LIVE_BARS = dg.AssetKey(["streaming", "live_bars"])
#: Completeness of what is streamed is measured so often.
MEASURED_EVERY = timedelta(minutes=5)
_TICK_SECONDS = 15
_PRIORITY = "10"
#: Reports that a tick reads; what is more is read by the next.
_MOST_REPORTS = 1_000

STREAMING_ASSETS: list[dg.AssetSpec] = [
    dg.AssetSpec(
        LIVE_TICKS,
        deps=[dg.AssetKey(["reference", "watchlist"])],
        group_name="streaming",
        kinds={"python", "websocket"},
        owners=OWNERS,
        description=(
            "Trades of the watchlist as the live feeds deliver them, checked and each taken once "
            "by the streaming sidecar, which reports them here. They are not kept; refused ones "
            "stand in quality.quarantine."
        ),
    ),
    dg.AssetSpec(
        LIVE_BARS,
        deps=[LIVE_TICKS],
        group_name="streaming",
        kinds={"python", "postgres"},
        owners=OWNERS,
        description=(
            "Bars of 1, 5 and 15 minutes made of live trades, in the tables of the session assets, "
            "with the feed's name as source; reported by the streaming sidecar when they are "
            "stored. Where a provider that stands earlier in the chain has a bar too, its bar "
            "stays."
        ),
        metadata={"dagster/table_name": "market.bars"},
    ),
]


@dataclass
class Landed:
    """What was reported of a market.

    Attributes:
        symbols: whose bars they are.
        timeframes: of the bars.
        sessions: dates of the sessions they lie in.
        indicators_written: the sidecar has written the indicators of all of them.
    """

    symbols: set[str] = field(default_factory=set)
    timeframes: set[str] = field(default_factory=set)
    sessions: set[date] = field(default_factory=set)
    indicators_written: bool = True

    def take(self, market: str, told: Mapping[str, Any]) -> None:
        """Take in the metadata of a report."""
        if "first_ts" not in told or "last_ts" not in told:
            return
        if told.get("sessions"):
            self.sessions |= {date.fromisoformat(each) for each in told["sessions"]}
        else:
            first, last = (datetime.fromisoformat(told[each]) for each in ("first_ts", "last_ts"))
            self.sessions |= set(_sessions(market, first, last))
        self.symbols |= set(told.get("symbols", ()))
        self.timeframes |= set(told.get("timeframes", ()))
        self.indicators_written &= bool(told.get("indicators_written"))


def _sessions(market: str, first: datetime, last: datetime) -> Iterable[date]:
    """Return the dates of the sessions that two instants lie in, and of those between."""
    day = timedelta(days=1)
    auction = timedelta(minutes=MARKETS[market].closing_auction_minutes)
    for session in get_calendar(market).sessions((first - day).date(), (last + 2 * day).date()):
        if session.open <= last and first < session.close + auction:
            yield session.session_date


@dg.sensor(
    name=NAME,
    jobs=[job for job in JOBS if job.name.endswith("_session")],
    minimum_interval_seconds=_TICK_SECONDS,
    default_status=sensor_status(),
    description=(
        "Goes on from the bars that the streaming sidecar reports: measures completeness of "
        "exactly those symbols and sessions every five minutes, and computes their indicators "
        "where the sidecar has not written them itself. One run of a market at a time."
    ),
)
def bars_landed(
    context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]
) -> list[dg.RunRequest] | dg.SkipReason:
    """Ask for the runs that follow what was reported; each market has a place of its own."""
    if context.cursor is None:
        context.update_cursor(json.dumps({"since": _newest(context.instance), "markets": {}}))
        return dg.SkipReason("From now on bars of the streaming sidecar are followed.")
    cursor = json.loads(context.cursor)
    since, places = cursor["since"], cursor["markets"]
    oldest = min((each["after"] for each in places.values()), default=since)
    found = _reports(context.instance, oldest)
    newest = found[-1][0] if found else oldest
    now, requests = platform.now(), list[dg.RunRequest]()
    for market in MARKETS:
        place = places.setdefault(market, {"after": since, "measured": None})
        landed = Landed()
        for number, told in found:
            if told["market"] == market and number > place["after"]:
                landed.take(market, told)
        if not landed.sessions:
            # A market that is closed must not hold the others at reports that they have read.
            place["after"] = max(newest, place["after"])
            continue
        last = place["measured"]
        measure = last is None or now - datetime.fromisoformat(last) >= MEASURED_EVERY
        is_due = measure or not landed.indicators_written
        if not is_due or is_under_way(context.instance, {LAUNCHED_BY: NAME}, job_of(market, "1m")):
            continue
        place["after"] = newest
        place["measured"] = now.isoformat() if measure else last
        requests += requests_of(market, landed, place["after"], measure=measure)
    context.update_cursor(json.dumps(cursor))
    return requests or dg.SkipReason(
        "What was streamed is measured every five minutes, one run of a market at a time."
        if found
        else "Nothing was streamed since the last run."
    )


def requests_of(market: str, landed: Landed, number: int, *, measure: bool) -> list[dg.RunRequest]:
    """Return one request for each session of what has landed.

    Args:
        market: name of the market.
        landed: what was reported.
        number: of the last report, for the run's key.
        measure: whether completeness is to be measured.
    """
    names = [] if landed.indicators_written else [
        f"indicators_{each}" for each in INTRADAY_TIMEFRAMES if each in landed.timeframes
    ]  # fmt: skip
    if measure:
        names.append("completeness")
    config = {"config": {"symbols": sorted(landed.symbols)}}
    return [
        dg.RunRequest(
            run_key=f"{NAME}:{market}:{session}:{number}",
            job_name=job_of(market, "1m"),
            partition_key=session.isoformat(),
            asset_selection=[dg.AssetKey([market, name]) for name in names],
            asset_check_keys=[],
            run_config={"ops": {f"{market}__{name}": config for name in names}},
            tags={"dagster/priority": _PRIORITY, LAUNCHED_BY: NAME},
        )
        for session in sorted(landed.sessions)
        # Every session since then is a partition.
        if names and session >= get_settings().intraday_start
    ]


def _reports(instance: dg.DagsterInstance, after: int) -> list[tuple[int, Mapping[str, Any]]]:
    """Return the metadata of reports after one, oldest first, each with its number."""
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=LIVE_BARS, after_storage_id=after),
        limit=_MOST_REPORTS,
        ascending=True,
    ).records
    found: list[tuple[int, Mapping[str, Any]]] = []
    for record in records:
        told = record.asset_materialization
        if told is not None and "market" in told.metadata:
            values = {name: value.value for name, value in told.metadata.items()}
            found.append((record.storage_id, values))
    return found


def _newest(instance: dg.DagsterInstance) -> int:
    records = instance.fetch_materializations(LIVE_BARS, limit=1).records
    return records[0].storage_id if records else 0


STREAMING_SENSORS: list[dg.SensorDefinition] = [bars_landed]
