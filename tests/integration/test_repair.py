"""The sensor `gap_repair`: what is due, which runs it asks for, what such a run does."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from scizor_assets.build import build_defs
from scizor_assets.repair import gap_repair
from scizor_core.sessions import get_calendar
from scizor_resources.platform import Platform
from scizor_resources.stores.due_gaps import RepairOutcome

from .helpers import execute, query

#: A Tuesday, two hours after the ASX has closed (05:00 UTC in summer); New York opens at 14:30.
NOW = datetime(2022, 1, 11, 7, 0, tzinfo=UTC)
TODAY, MONDAY, FRIDAY, LONG_AGO = (
    date(2022, 1, 11),
    date(2022, 1, 10),
    date(2022, 1, 7),
    date(2021, 12, 14),
)


@pytest.fixture
def platform(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> Platform:
    """The platform with simulated ASX bars and a clock that stands at `NOW`."""
    chosen = platform.settings.model_copy(update={"chain_asx": ("simulated",)})
    monkeypatch.setattr(platform, "settings", chosen)
    platform.now = lambda: NOW
    return platform


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def add_gap(
    platform: Platform,
    symbol: str,
    session: date,
    reason: str = "feed down",
    *,
    timeframe: str = "1m",
    minute: int = 0,
    bars: int = 10,
    due: timedelta = timedelta(minutes=-1),
    market: str = "asx",
    **columns: Any,
) -> None:
    """Write an open gap into the ledger, due at `NOW` + `due`."""
    opened = get_calendar(market).session(session)
    assert opened is not None
    start = opened.open + timedelta(minutes=minute)
    if timeframe == "1d":
        start = datetime.combine(session, datetime.min.time(), UTC)
    row = {
        "timeframe": timeframe,
        "session_date": session,
        "start_ts": start,
        "end_ts": start + timedelta(minutes=bars) if timeframe != "1d" else start + timedelta(1),
        "reason": reason,
        "source": "test",
        "status": "open",
        "next_attempt_at": NOW + due,
        **columns,
    }
    execute(
        platform,
        f"INSERT INTO quality.gaps (instrument_id, {', '.join(row)}) "
        f"SELECT instrument_id, {', '.join(['%s'] * len(row))} FROM public.symbols "
        "WHERE market = %s AND symbol = %s",
        *row.values(),
        market,
        symbol,
    )


def asked_for(platform: Platform, instance: dg.DagsterInstance) -> list[dg.RunRequest]:
    """Evaluate the sensor once; returns what it asks for."""
    found = gap_repair(dg.build_sensor_context(instance=instance), platform=platform)
    return found if isinstance(found, list) else []


def shown(requests: list[dg.RunRequest]) -> list[tuple[str, str, str]]:
    """Return the finest bars, the partitions and the symbols of each request."""
    return [
        (
            next(iter(each.run_config["ops"])).replace("__", "/"),
            each.partition_key or "...".join(_range(each.tags)),
            " ".join(next(iter(each.run_config["ops"].values()))["config"]["symbols"]),
        )
        for each in requests
    ]


def _range(tags: Any) -> tuple[str, str]:
    names = ("start", "end")
    first, last = (tags[f"dagster/asset_partition_range_{name}"] for name in names)
    return first, last


def run_of(
    platform: Platform, instance: dg.DagsterInstance, request: dg.RunRequest
) -> dg.ExecuteInProcessResult:
    """Execute a request as the daemon and a worker would."""
    resources = {"platform": dg.ResourceDefinition.hardcoded_resource(platform)}
    assert request.job_name is not None
    job = build_defs(resources, marts=False).resolve_job_def(request.job_name)
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    return job.execute_in_process(
        instance=instance,
        asset_selection=list(request.asset_selection or ()),
        partition_key=request.partition_key,
        run_config={**request.run_config, **quiet},
        tags={**request.tags, "dagster/run_key": request.run_key or ""},
        raise_on_error=False,
    )


def begin(instance: dg.DagsterInstance, request: dg.RunRequest) -> None:
    """Record a run of a request that is being executed."""
    partition = {"dagster/partition": request.partition_key} if request.partition_key else {}
    instance.create_run_for_job(
        build_defs(marts=False).resolve_job_def(str(request.job_name)),
        run_config=dict(request.run_config),
        tags={**request.tags, **partition},
        asset_selection=frozenset(request.asset_selection or ()),
        status=dg.DagsterRunStatus.STARTED,
    )


def backfill(
    instance: dg.DagsterInstance, first: date, last: date, symbols: list[str] | None
) -> None:
    """Record a backfill run of the ASX's intraday bars that is being executed."""
    config = {"lane": "backfill", **({"symbols": symbols} if symbols else {})}
    job = build_defs(marts=False).resolve_job_def("asx_session")
    instance.create_run_for_job(
        job,
        run_config={
            "ops": {f"asx__bars_{each}": {"config": config} for each in ("1m", "5m", "15m")}
        },
        tags={
            "dagster/asset_partition_range_start": first.isoformat(),
            "dagster/asset_partition_range_end": last.isoformat(),
        },
        status=dg.DagsterRunStatus.STARTED,
    )


# ---- what is asked for


def test_nothing_due_asks_for_nothing(platform: Platform, instance: dg.DagsterInstance) -> None:
    add_gap(platform, "CBA", MONDAY, due=timedelta(seconds=1))
    found = gap_repair(dg.build_sensor_context(instance=instance), platform=platform)
    assert isinstance(found, dg.SkipReason)
    assert found.skip_message == "No gap is due."


def test_a_gap_asks_for_its_bars_and_what_depends_on_them_of_that_symbol_alone(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    add_gap(platform, "CBA", MONDAY)
    (request,) = asked_for(platform, instance)
    assert request.job_name == "asx_session"
    assert request.partition_key == "2022-01-10"
    bars = {"config": {"symbols": ["CBA"], "lane": "repair", "watched_only": True}}
    rest = {"config": {"symbols": ["CBA"]}}
    names = ("1m", "5m", "15m")
    assert request.run_config["ops"] == {
        **{f"asx__bars_{each}": bars for each in names},
        **{f"asx__indicators_{each}": rest for each in names},
        "asx__completeness": rest,
    }
    assert request.tags["dagster/priority"] == "0"
    assert request.tags["scizor/launched_by"] == "gap_repair"


def test_gaps_of_neighbouring_sessions_and_the_same_symbols_are_one_run(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    for symbol in ("BHP", "CBA"):
        for session in (TODAY, MONDAY, FRIDAY):
            for minute in (0, 30, 60):
                add_gap(platform, symbol, session, minute=minute)
    assert shown(asked_for(platform, instance)) == [
        ("asx/bars_1m", "2022-01-07...2022-01-11", "BHP CBA")
    ]


def test_a_symbol_that_collects_five_minutes_is_not_asked_for_single_ones(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    add_gap(platform, "RIO", MONDAY, timeframe="5m")
    assert shown(asked_for(platform, instance)) == [("asx/bars_5m", "2022-01-10", "RIO")]


def test_daily_bars_are_asked_for_by_month_in_a_job_of_their_own(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    for session in (LONG_AGO, FRIDAY, MONDAY):
        add_gap(platform, "CBA", session, timeframe="1d")
    (request,) = asked_for(platform, instance)
    assert request.job_name == "asx_daily"
    assert shown([request]) == [("asx/bars_1d", "2021-12-01...2022-01-01", "CBA")]


def test_markets_do_not_share_a_run(platform: Platform, instance: dg.DagsterInstance) -> None:
    execute(
        platform,
        "INSERT INTO public.watchlist (market, symbol, priority, collect_1min, collect_5min) "
        "VALUES ('us', 'AAPL', 1, true, true)",
    )
    platform.reference.ensure("us", "AAPL")
    add_gap(platform, "AAPL", MONDAY, market="us")
    add_gap(platform, "CBA", MONDAY)
    assert shown(asked_for(platform, instance)) == [
        ("asx/bars_1m", "2022-01-10", "CBA"),
        ("us/bars_1m", "2022-01-10", "AAPL"),
    ]


@pytest.mark.parametrize(
    "change",
    ["DELETE FROM public.watchlist", "UPDATE public.watchlist SET active = false"],
    ids=["removed", "switched off"],
)
def test_what_is_not_watched_is_not_asked_for(
    platform: Platform, instance: dg.DagsterInstance, change: str
) -> None:
    add_gap(platform, "CBA", MONDAY)
    execute(platform, change)
    assert asked_for(platform, instance) == []


def test_a_timeframe_that_is_not_collected_any_more_is_not_asked_for(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    add_gap(platform, "CBA", MONDAY)
    execute(platform, "UPDATE public.watchlist SET collect_1min = false WHERE symbol = 'CBA'")
    assert asked_for(platform, instance) == []


@pytest.mark.parametrize("status", ["explained", "given up"])
def test_what_is_not_open_is_not_asked_for(
    platform: Platform, instance: dg.DagsterInstance, status: str
) -> None:
    add_gap(platform, "CBA", MONDAY, status=status, next_attempt_at=None)
    assert asked_for(platform, instance) == []


def test_a_session_that_is_still_refreshed_is_left_to_the_refresh(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    add_gap(platform, "CBA", TODAY, due=timedelta(hours=-2))
    closed = datetime(2022, 1, 11, 5, 0, tzinfo=UTC)
    counts = []
    for minutes in (-60, 0, 39, 40):
        platform.now = lambda at=closed + timedelta(minutes=minutes): at
        counts.append(len(asked_for(platform, instance)))
    # Due at 05:00, which is the close.
    assert counts == [0, 0, 0, 1]


def test_a_month_in_the_archive_is_not_asked_for(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    add_gap(platform, "CBA", MONDAY)
    add_gap(platform, "CBA", LONG_AGO)
    execute(
        platform,
        "INSERT INTO market.archive_files (market, timeframe, month, path, rows, first_ts, "
        "last_ts, min_instrument_id, max_instrument_id, bytes, sha256, content, last_ingested_at, "
        "state, verified_at, released_at) VALUES ('asx', '1m', '2021-12-01', 'file', 1, now(), "
        "now(), 1, 1, 1, 'x', 'x', now(), 'released', now(), now())",
    )
    assert shown(asked_for(platform, instance)) == [("asx/bars_1m", "2022-01-10", "CBA")]


# ---- what was never fetched


def test_what_was_never_fetched_is_asked_for_in_the_last_three_sessions_only(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    thursday = date(2022, 1, 6)
    for session in (TODAY, MONDAY, FRIDAY, thursday, LONG_AGO):
        add_gap(platform, "CBA", session, "not yet fetched", bars=360)
    assert shown(asked_for(platform, instance)) == [
        ("asx/bars_1m", "2022-01-07...2022-01-11", "CBA")
    ]


def test_an_old_session_that_was_fetched_in_part_is_asked_for(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    for symbol in ("CBA", "BHP"):
        add_gap(platform, symbol, LONG_AGO, "not yet fetched")
    execute(
        platform,
        "INSERT INTO quality.completeness (instrument_id, timeframe, session_date, expected, "
        "present, quiet, missing, not_fetched, unexpected, outliers, quarantined, coverage, score, "
        "reason) SELECT instrument_id, '1m', %s, 360, CASE symbol WHEN 'CBA' THEN 350 ELSE 0 END, "
        "0, CASE symbol WHEN 'CBA' THEN 10 ELSE 360 END, "
        "CASE symbol WHEN 'CBA' THEN 10 ELSE 360 END, 0, 0, 0, 0, 0, '' "
        "FROM public.symbols WHERE symbol IN ('CBA', 'BHP')",
        LONG_AGO,
    )
    assert shown(asked_for(platform, instance)) == [("asx/bars_1m", "2021-12-14", "CBA")]


def test_what_was_never_fetched_is_left_to_a_backfill_that_is_under_way(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    for symbol in ("CBA", "BHP"):
        add_gap(platform, symbol, MONDAY, "not yet fetched")
    add_gap(platform, "CBA", FRIDAY, "feed down")
    backfill(instance, FRIDAY, TODAY, ["CBA"])
    assert shown(asked_for(platform, instance)) == [
        ("asx/bars_1m", "2022-01-10", "BHP"),
        ("asx/bars_1m", "2022-01-07", "CBA"),
    ]
    backfill(instance, FRIDAY, TODAY, None)
    assert shown(asked_for(platform, instance)) == [("asx/bars_1m", "2022-01-07", "CBA")]


# ---- asked once


def test_the_daemon_accepts_what_is_asked_for(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    for session in (MONDAY, FRIDAY):
        add_gap(platform, "CBA", session)
        add_gap(platform, "CBA", session, timeframe="1d")
    definitions = build_defs(marts=False)
    context = dg.build_sensor_context(
        instance=instance, resources={"platform": platform}, definitions=definitions
    )
    tick = definitions.resolve_sensor_def("gap_repair").evaluate_tick(context)
    assert sorted(str(each.job_name) for each in tick.run_requests or ()) == [
        "asx_daily",
        "asx_session",
    ]


def test_a_tick_that_is_evaluated_twice_asks_once(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    add_gap(platform, "CBA", MONDAY)
    first, again = asked_for(platform, instance), asked_for(platform, instance)
    assert [each.run_key for each in first] == [each.run_key for each in again]


def test_the_next_attempt_at_the_same_gap_is_another_run(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    add_gap(platform, "CBA", MONDAY)
    (first,) = asked_for(platform, instance)
    execute(platform, "UPDATE quality.gaps SET attempts = attempts + 1")
    (second,) = asked_for(platform, instance)
    assert first.run_key != second.run_key


def test_a_partition_that_is_being_repaired_is_not_asked_for(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    add_gap(platform, "CBA", MONDAY)
    (request,) = asked_for(platform, instance)
    begin(instance, request)
    add_gap(platform, "BHP", MONDAY)
    found = gap_repair(dg.build_sensor_context(instance=instance), platform=platform)
    assert isinstance(found, dg.SkipReason)
    assert found.skip_message == "2 gaps due wait for runs that will fetch them."


def test_ten_runs_at_a_time_are_asked_for_newest_first(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    sessions = get_calendar("asx").sessions(date(2021, 12, 1), date(2022, 1, 11))
    symbols = ("CBA", "BHP")
    for number, session in enumerate(sessions):
        add_gap(platform, symbols[number % 2], session.session_date)
    requests = asked_for(platform, instance)
    newest = [each.session_date.isoformat() for each in sessions[::-1]]
    assert [each.partition_key for each in requests] == newest[:10]
    for request in requests[:7]:
        begin(instance, request)
    assert [each.partition_key for each in asked_for(platform, instance)] == newest[7:10]
    for request in requests[7:]:
        begin(instance, request)
    found = gap_repair(dg.build_sensor_context(instance=instance), platform=platform)
    assert isinstance(found, dg.SkipReason)
    assert found.skip_message == "10 repair runs are under way."


def test_an_outage_of_many_symbols_is_one_run_for_all_of_them(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    names = [f"X{number:03}" for number in range(500)]
    execute(
        platform,
        "WITH added AS (INSERT INTO public.symbols (market, symbol, asset_class, currency) "
        "SELECT 'asx', unnest(%s::text[]), 'equity', 'AUD' RETURNING instrument_id, symbol), "
        "watched AS (INSERT INTO public.watchlist (market, symbol, priority, collect_1min, "
        "collect_5min) SELECT 'asx', symbol, 1, true, true FROM added) "
        "INSERT INTO quality.gaps (instrument_id, timeframe, session_date, start_ts, end_ts, "
        "reason, source, status, next_attempt_at) SELECT instrument_id, '1m', day, day + time "
        "'01:00', day + time '03:00', 'feed down', 'test', 'open', %s FROM added, "
        "unnest(ARRAY['2022-01-07', '2022-01-10']::date[]) AS d (day)",
        names,
        NOW,
    )
    assert shown(asked_for(platform, instance)) == [
        ("asx/bars_1m", "2022-01-07...2022-01-10", " ".join(names))
    ]


# ---- what a run does


def test_each_gap_that_was_asked_for_counts_once_under_the_worst_that_is_left(
    platform: Platform,
) -> None:
    for minute in (0, 30, 60, 90, 120):
        add_gap(platform, "CBA", MONDAY, minute=minute)
    add_gap(platform, "BHP", MONDAY)
    window = ("asx", "1m", MONDAY, TODAY)
    asked = platform.due_gaps.open_gaps(*window, ["CBA"])
    explained = {"status": "explained", "next_attempt_at": None}
    execute(platform, "DELETE FROM quality.gaps")
    # The first has come, the second was quiet, the third is both quiet and absent.
    add_gap(platform, "CBA", MONDAY, "no trades", minute=30, **explained)
    add_gap(platform, "CBA", MONDAY, "no trades", minute=60, bars=5, **explained)
    add_gap(platform, "CBA", MONDAY, minute=65, bars=5)
    add_gap(platform, "CBA", MONDAY, minute=93, bars=1, status="given up", next_attempt_at=None)
    add_gap(platform, "CBA", MONDAY, minute=120)
    add_gap(platform, "BHP", MONDAY)
    assert platform.due_gaps.outcome("1m", asked) == RepairOutcome(
        asked=5, repaired=1, explained=1, given_up=1, still_open=2
    )


def test_a_repair_run_touches_its_symbols_only(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    add_gap(platform, "CBA", MONDAY)
    (request,) = asked_for(platform, instance)
    assert run_of(platform, instance, request).success
    counts = query(
        platform,
        "SELECT s.symbol, (SELECT count(*) FROM market.bars AS b WHERE b.instrument_id = "
        "s.instrument_id) > 0 AS bars, (SELECT count(*) FROM market.indicators AS i WHERE "
        "i.instrument_id = s.instrument_id) > 0 AS indicators, (SELECT count(*) FROM "
        "quality.completeness AS c WHERE c.instrument_id = s.instrument_id) > 0 AS measured "
        "FROM public.symbols AS s",
    )
    touched = {row.pop("symbol"): set(row.values()) for row in counts}
    assert touched.pop("CBA") == {True}
    assert set.union(*touched.values()) == {False}


def test_a_range_of_daily_partitions_is_repaired_in_one_run(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    for session in (LONG_AGO, MONDAY):
        add_gap(platform, "CBA", session, timeframe="1d")
    (request,) = asked_for(platform, instance)
    assert run_of(platform, instance, request).success
    days = query(platform, "SELECT DISTINCT to_char(session_date, 'YYYY-MM') AS m FROM asx.bars_1d")
    assert {row["m"] for row in days} == {"2021-12", "2022-01"}
