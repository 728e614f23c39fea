"""Weeks of all three markets, minute by minute, against the sensors and schedules themselves.

The clock is the test's. What is expected comes from the exchanges' published hours, written down
here in their own time, and `zoneinfo`; the platform's calendars have no part in it. A run counts
as finished at once; slow ones are in `test_intraday`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from dagster._utils.schedules import schedule_execution_time_iterator
from pydantic import SecretStr

from scizor_assets.automation import LAUNCHED_BY
from scizor_assets.build import build_defs
from scizor_assets.ledger_schedules import LEDGER_SCHEDULES
from scizor_core.instruments import Instrument, WatchlistEntry
from scizor_resources.settings import Settings, get_settings

DEFS = build_defs(marts=False)
REPOSITORY = DEFS.get_repository_def()
INTRADAY = {market: f"{market}_intraday" for market in ("asx", "us", "crypto")}

#: Not walked through here, each for its reason.
LEFT_OUT = {
    "alerts_evaluation": "every minute, about the platform and not about markets",
    "lost_runs": "looks at runs, at all hours",
    "run_failed_alert": "follows runs",
    "run_recovered": "follows runs",
    "gap_repair": "follows the ledger of gaps",
    "watchlist_changes": "follows the watchlist",
    "marts_refresh": "follows what was written",
    "bars_landed": "follows what the sidecar has streamed",
    "archive_nightly": "follows what is stored",
    **{f"{market}_nightly_backfill": "follows what is stored" for market in INTRADAY},
    # Two of them in a test of their own.
    **{each.name: "which sources are set up decides" for each in LEDGER_SCHEDULES},
}

# ---- what is published

SYDNEY, NEW_YORK = ZoneInfo("Australia/Sydney"), ZoneInfo("America/New_York")
#: Opening, closing and early closing time.
HOURS = {
    "asx": (SYDNEY, time(10), time(16), time(14, 10)),
    "us": (NEW_YORK, time(9, 30), time(16), time(13)),
}


@dataclass(frozen=True)
class Week:
    """A week from 22:00 UTC of a day, when Sydney and New York are closed in every season.

    Attributes:
        name: what is special about it.
        start: the day.
        asx: days of the exchange on which Sydney trades, "h" for a half day.
        us: the same of New York.
    """

    name: str
    start: str
    asx: str
    us: str

    @property
    def bounds(self) -> tuple[datetime, datetime]:
        first = datetime.fromisoformat(self.start).replace(hour=22, tzinfo=UTC)
        return first, first + timedelta(days=7)

    def trading(self, market: str) -> list[tuple[date, datetime, datetime]]:
        """Return date, open and close (UTC) of each session that begins in the week."""
        start, end = self.bounds
        if market == "crypto":
            midnights = [start.replace(hour=0) + timedelta(days=n) for n in range(9)]
            return [(each.date(), each, each + timedelta(days=1)) for each in midnights]
        zone, opens, closes, early = HOURS[market]
        found = []
        for text in getattr(self, market).split():
            day = date.fromisoformat(text.removesuffix("h"))
            close = early if text.endswith("h") else closes
            first, last = (
                datetime.combine(day, each, zone).astimezone(UTC) for each in (opens, close)
            )
            assert start <= first < last < end
            found.append((day, first, last))
        return found


WEEKS = [
    Week(
        "Sydney's summer time ends on Sunday 6 April 2025",
        "2025-04-02",
        "2025-04-03 2025-04-04 2025-04-07 2025-04-08 2025-04-09",
        "2025-04-03 2025-04-04 2025-04-07 2025-04-08 2025-04-09",
    ),
    Week(
        "Sydney's summer time begins on Sunday 5 October 2025; Labour Day is no holiday of the ASX",
        "2025-10-01",
        "2025-10-02 2025-10-03 2025-10-06 2025-10-07 2025-10-08",
        "2025-10-02 2025-10-03 2025-10-06 2025-10-07 2025-10-08",
    ),
    Week(
        "New York's summer time begins on Sunday 9 March 2025",
        "2025-03-05",
        "2025-03-06 2025-03-07 2025-03-10 2025-03-11 2025-03-12",
        "2025-03-06 2025-03-07 2025-03-10 2025-03-11 2025-03-12",
    ),
    Week(
        "New York's summer time ends on Sunday 2 November 2025",
        "2025-10-29",
        "2025-10-30 2025-10-31 2025-11-03 2025-11-04 2025-11-05",
        "2025-10-30 2025-10-31 2025-11-03 2025-11-04 2025-11-05",
    ),
    Week(
        "Thanksgiving on 28 November 2024 and its half day",
        "2024-11-24",
        "2024-11-25 2024-11-26 2024-11-27 2024-11-28 2024-11-29",
        "2024-11-25 2024-11-26 2024-11-27 2024-11-29h",
    ),
    Week(
        "Christmas 2024: half days on the 24th, Boxing Day in Sydney alone",
        "2024-12-22",
        "2024-12-23 2024-12-24h 2024-12-27",
        "2024-12-23 2024-12-24h 2024-12-26 2024-12-27",
    ),
]
THANKSGIVING = WEEKS[4]
#: Three weeks are walked every time, all of them where there is time.
WALKED = [
    pytest.param(
        week, id=f"week of {week.start}", marks=[] if number in (0, 2, 4) else [pytest.mark.slow]
    )
    for number, week in enumerate(WEEKS)
]

#: Symbol, tier, collects 1m, collects 5m, active.
WATCHLIST = {
    "asx": [
        ("CBA", 1, True, True, True),
        ("WBC", 1, False, True, True),
        ("RIO", 2, False, True, True),
        ("XRO", 3, False, True, True),
        ("ZIP", 1, True, True, False),
    ],
    "us": [("AAPL", 1, True, True, True), ("MSFT", 2, True, True, True)],
    # No tier 1: nothing is due between the five minutes.
    "crypto": [("BTC/USD", 2, False, True, True)],
}
EVERYTHING = {
    "asx": "bars 1m all, 5m all, 15m all; indicators 1m all, 5m all, 15m all; completeness",
    "us": "bars 1m all, 5m all, 15m all; indicators 1m all, 5m all, 15m all; completeness",
    "crypto": "bars 5m all, 15m all; indicators 5m all, 15m all; completeness",
}
MINUTE = {
    "asx": "bars 1m CBA, 5m CBA WBC; indicators 1m CBA, 5m CBA WBC; no checks",
    "us": "bars 1m AAPL, 5m AAPL; indicators 1m AAPL, 5m AAPL; no checks",
}


@dataclass(frozen=True, order=True)
class Asked:
    """One run that was requested, or should be: everything of it that matters."""

    at: datetime
    by: str
    partition: str = ""
    run_key: str = ""
    what: str = ""


def expected_refreshes(week: Week, market: str) -> Iterator[Asked]:
    start, end = week.bounds
    for day, opens, closes in week.trading(market):
        minutes = int((closes - opens) / timedelta(minutes=1))
        times = [opens + timedelta(minutes=each) for each in range(minutes)]
        after = [closes + timedelta(minutes=each) for each in (0, 15, 30)]
        for at in times + after:
            is_whole = at in after or at.minute % 5 == 0
            if start <= at < end and (is_whole or market in MINUTE):
                yield Asked(
                    at,
                    INTRADAY[market],
                    day.isoformat(),
                    f"{market}:{day}:{at:%Y-%m-%dT%H:%MZ}",
                    EVERYTHING[market] if is_whole else MINUTE[market],
                )


def expected_by_the_clock(week: Week) -> list[Asked]:
    start, end = week.bounds
    days = [start.replace(hour=0) + timedelta(days=each) for each in range(9)]
    found = [asked for market in INTRADAY for asked in expected_after_closes(week, market)]
    for day in days:
        found += expected_on(day)
    return [each for each in found if start <= each.at < end]


def expected_after_closes(week: Week, market: str) -> Iterator[Asked]:
    for day, _, closes in week.trading(market):
        for name, minutes, key in (
            (f"{market}_after_close", 45, day),
            (f"{market}_daily_bars", 50, day.replace(day=1)),
        ):
            at = closes + timedelta(minutes=minutes)
            yield Asked(at, name, key.isoformat(), f"{name}:{day}", f"{market} live")
        if market != "crypto":
            at = closes + timedelta(minutes=55)
            run_key = f"reference/corporate_actions:{market}:{day}"
            yield Asked(at, f"{market}_corporate_actions", "", run_key)


def expected_on(day: datetime) -> Iterator[Asked]:
    """What runs at fixed times of a UTC day."""
    for at in (day + timedelta(minutes=5 * each) for each in range(288)):
        yield Asked(at, "coinspot_prices_refresh", at.date().isoformat())
    yield Asked(day + timedelta(hours=2, minutes=40), "retention_nightly")
    if day.day == 1:
        yield Asked(day + timedelta(hours=3, minutes=10), "sessions_monthly")
    if f"{day:%A}" == "Saturday":
        for market in INTRADAY:
            name = f"{market}_reconciliation_weekly"
            until = f"{day:%Y-%m-%d}"
            yield Asked(day + timedelta(hours=5), name, "", f"{name}:{until}", f"until {until}")


# ---- what is requested


@dataclass
class FakeReference:
    """A watchlist of hand-written rows, whose instruments all exist."""

    rows: dict[str, list[tuple[str, int, bool, bool, bool]]] = field(
        default_factory=lambda: {market: list(rows) for market, rows in WATCHLIST.items()}
    )

    def watchlist(self, market: str, *, active_only: bool) -> list[WatchlistEntry]:
        return [
            WatchlistEntry(market, symbol, tier, one, five, active)
            for symbol, tier, one, five, active in self.rows[market]
            if active or not active_only
        ]

    def instruments(self, market: str, symbols: Sequence[str]) -> list[Instrument]:
        return [Instrument(number, market, symbol) for number, symbol in enumerate(symbols)]


class FakeProviders:
    """Accounts of sources that have not been asked yet."""

    def runs_by_day(self, _asset: str, _since: datetime) -> dict[str, Any]:
        return {}


@dataclass
class FakePlatform:
    """What the sensors ask of a platform, with a clock that the test sets."""

    at: datetime
    reference: FakeReference = field(default_factory=FakeReference)
    providers: FakeProviders = field(default_factory=FakeProviders)
    settings: Settings = field(
        default_factory=lambda: get_settings().model_copy(
            update={"newscatcher_api_key": SecretStr("k"), "samples": False}
        )
    )

    def now(self) -> datetime:
        return self.at


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def described(request: dg.RunRequest) -> str:
    """Return what an intraday request runs, in words."""
    ops = request.run_config["ops"]
    parts: dict[str, list[str]] = {}
    for key in request.asset_selection or ():
        market, name = key.path
        kind, _, timeframe = name.partition("_")
        config = ops.get(f"{market}__{name}", {}).get("config", {})
        if kind == "bars":
            assert config["lane"] == "live"
        if timeframe:
            symbols = " ".join(config.get("symbols", ["all"]))
            parts.setdefault(kind, []).append(f"{timeframe} {symbols}")
        else:
            parts[kind] = []
    text = "; ".join(f"{kind} {', '.join(each)}".strip() for kind, each in parts.items())
    return text + "; no checks" * (request.asset_check_keys == [])


def walk_sensor(
    name: str, platform: Any, instance: dg.DagsterInstance, start: datetime, end: datetime
) -> Iterator[tuple[datetime, dg.RunRequest]]:
    """Evaluate a sensor at the third second of every minute, as its daemon would."""
    sensor = DEFS.resolve_sensor_def(name)
    with dg.build_sensor_context(
        instance, repository_def=REPOSITORY, resources={"platform": platform}
    ) as context:
        minute = start
        while minute < end:
            platform.at = minute + timedelta(seconds=3)
            for request in sensor.evaluate_tick(context).run_requests:
                yield minute, request
            minute += timedelta(minutes=1)


def walk_schedule(
    schedule: dg.ScheduleDefinition, instance: dg.DagsterInstance, start: datetime, end: datetime
) -> Iterator[tuple[datetime, dg.RunRequest]]:
    """Evaluate a schedule at every tick that Dagster finds for it."""
    platform = FakePlatform(start)
    resources = {"platform": platform} if schedule.required_resource_keys else None
    ticks = schedule_execution_time_iterator(
        start.timestamp(), schedule.cron_schedule, schedule.execution_timezone
    )
    for tick in ticks:
        if tick >= end:
            return
        platform.at = tick
        context = dg.build_schedule_context(
            scheduled_execution_time=tick,
            repository_def=REPOSITORY,
            resources=resources,
        )
        # Else Dagster makes an ephemeral instance for each tick, which takes a second.
        context._instance = instance
        for request in schedule.evaluate_tick(context).run_requests or ():
            yield tick.astimezone(UTC), request


def config_in_words(request: dg.RunRequest) -> str:
    words = set()
    for op, settings in request.run_config.get("ops", {}).items():
        config = settings["config"]
        words.add(
            f"until {config['until']}"
            if "until" in config
            else f"{op.partition('__')[0]} {config['lane']}"
        )
    return " ".join(sorted(words))


def asked_by_sensors(week: Week, market: str, instance: dg.DagsterInstance) -> list[Asked]:
    start, end = week.bounds
    return [
        Asked(
            at,
            str(request.tags[LAUNCHED_BY]),
            str(request.tags["dagster/partition"]),
            str(request.run_key),
            described(request),
        )
        for at, request in walk_sensor(INTRADAY[market], FakePlatform(start), instance, start, end)
    ]


def asked_by_the_clock(week: Week, instance: dg.DagsterInstance) -> list[Asked]:
    return [
        Asked(
            at,
            schedule.name,
            str(request.tags.get("dagster/partition", "")),
            str(request.run_key or ""),
            config_in_words(request),
        )
        for schedule in REPOSITORY.schedule_defs
        if schedule.name not in LEFT_OUT
        for at, request in walk_schedule(schedule, instance, *week.bounds)
    ]


@pytest.fixture
def idle(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> dg.DagsterInstance:
    """An instance on which every run has finished at once.

    Asking a real one, and Dagster once more whether it knows a key, costs milliseconds each: too
    much for what is done a hundred thousand times here.
    """
    monkeypatch.setattr(instance, "get_run_records", lambda *_args, **_more: [])
    monkeypatch.setattr(dg.ScheduleEvaluationContext, "instance", instance)
    asked: dict[tuple[int, str], bool] = {}
    original = dg.TimeWindowPartitionsDefinition.has_partition_key

    def has_partition_key(self: dg.TimeWindowPartitionsDefinition, partition_key: str) -> bool:
        place = (id(self), partition_key)
        if place not in asked:
            asked[place] = original(self, partition_key)
        return asked[place]

    monkeypatch.setattr(dg.TimeWindowPartitionsDefinition, "has_partition_key", has_partition_key)
    return instance


@pytest.mark.parametrize("market", list(INTRADAY))
@pytest.mark.parametrize("week", WALKED)
def test_the_refreshes_of_a_week_are_exactly_those_of_the_published_hours(
    week: Week, market: str, idle: dg.DagsterInstance
) -> None:
    assert asked_by_sensors(week, market, idle) == sorted(expected_refreshes(week, market))


@pytest.mark.parametrize("week", WALKED)
def test_the_runs_by_the_clock_in_a_week_are_exactly_those_of_the_published_hours(
    week: Week, idle: dg.DagsterInstance
) -> None:
    assert sorted(asked_by_the_clock(week, idle)) == sorted(expected_by_the_clock(week))


def test_in_a_week_news_are_asked_for_each_quarter_of_an_hour_and_chains_four_times_a_day(
    idle: dg.DagsterInstance,
) -> None:
    start, end = THANKSGIVING.bounds
    expected = []
    for at in (start + timedelta(minutes=15 * each) for each in range(7 * 96)):
        # The day before fills up for an hour; days that are over are looked at once more at 3:00.
        back = [1] if (at.hour, at.minute) == (0, 0) else [0]
        if at.hour == 0 and at.minute:
            back = [1, 0]
        if (at.hour, at.minute) == (3, 0):
            back = [2, 1, 0]
        expected += [(at, "news", f"{at - timedelta(days=each):%Y-%m-%d}") for each in back]
        if at.hour % 6 == 0 and at.minute == 0:
            days = [f"{at - timedelta(days=each):%Y-%m-%d}" for each in (1, 0)]
            expected += [(at, "chains", day) for day in days]
    names = {
        "human_news_sentiment_refresh": "news",
        "glass_protocol_fundamentals_refresh": "chains",
    }
    assert sorted(expected) == sorted(
        (at, names[schedule.name], str(request.tags["dagster/partition"]))
        for schedule in LEDGER_SCHEDULES
        if schedule.name in names
        for at, request in walk_schedule(schedule, idle, start, end)
    )


def test_no_sensor_and_no_schedule_is_left_out_without_a_reason() -> None:
    names = {each.name for each in (*REPOSITORY.schedule_defs, *REPOSITORY.sensor_defs)}
    walked = {each.by for week in WEEKS for each in expected_by_the_clock(week)}
    assert names - walked - set(INTRADAY.values()) - set(LEFT_OUT) == set()
    assert walked <= names


@pytest.mark.parametrize(
    ("week", "numbers"),
    [
        # 5 sessions of 360 minutes and 3 refreshes after each; 5 of 390; 7 days of 288 and 3.
        (WEEKS[0], (1815, 1965, 2037)),
        (WEEKS[1], (1815, 1965, 2037)),
        (WEEKS[2], (1815, 1965, 2037)),
        (WEEKS[3], (1815, 1965, 2037)),
        # Three whole days and 210 minutes of New York.
        (WEEKS[4], (1815, 1392, 2037)),
        # Two whole days and 250 minutes of Sydney; three and 210 of New York.
        (WEEKS[5], (979, 1392, 2037)),
    ],
    ids=[str(week.start) for week in WEEKS],
)
def test_the_expected_lists_are_as_long_as_the_hours_say(
    week: Week, numbers: tuple[int, ...]
) -> None:
    found = [len(list(expected_refreshes(week, market))) for market in INTRADAY]
    assert tuple(found) == numbers
