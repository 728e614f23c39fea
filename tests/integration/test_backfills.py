"""Backfills against a real database: the plan, the watchlist's sensor, the night, the runs."""

import os
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any

import dagster as dg
import pytest

from scizor_assets.backfill_outcome import end_broken_off, launch_of, outcome_of
from scizor_assets.backfill_runs import PERSON_PRIORITY, BackfillRun, runs_of
from scizor_assets.backfills import (
    BACKFILL_SCHEDULES,
    read_cursor,
    watchlist_changes,
    write_cursor,
)
from scizor_assets.bars import build_bars_asset
from scizor_assets.build import build_defs
from scizor_assets.launch import Launcher
from scizor_core.backfill import Plan
from scizor_core.errors import InvalidInputError
from scizor_core.markets import MARKETS, Timeframe
from scizor_resources.backfill import BackfillPlanner, seconds_for
from scizor_resources.backfill_progress import (
    BACKFILL,
    PROCESS,
    SYMBOL,
    progress_of,
    this_process,
    under_way,
)
from scizor_resources.budget.limits import limits_of
from scizor_resources.errors import AuthError, TransientError
from scizor_resources.pipeline.catalysts import EventPipeline
from scizor_resources.pipeline.enrich import enrich
from scizor_resources.platform import Platform
from scizor_resources.providers.events import EventFindings

from .helpers import FailingSource, execute, simulated

#: A Tuesday, two hours after the ASX has closed.
NOW = datetime(2022, 1, 11, 7, 0, tzinfo=UTC)
WEEK: dict[Timeframe, date] = dict.fromkeys(("1d", "1m", "5m", "15m"), date(2022, 1, 4))


@cache
def definitions() -> dg.Definitions:
    return build_defs(marts=False)


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    """Launching points this process to the platform's Dagster instance; undo that."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def platform(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> Platform:
    """The platform with simulated bars, a clock that stands at `NOW` and an empty watchlist."""
    chains = {f"chain_{market}": ("simulated",) for market in MARKETS}
    settings = {**chains, "backfill_daily_days": 20, "backfill_intraday_days": 7}
    monkeypatch.setattr(platform, "settings", platform.settings.model_copy(update=settings))
    platform.now = lambda: NOW
    execute(platform, "DELETE FROM public.watchlist")
    return platform


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def watch(platform: Platform, *symbols: str, market: str = "asx", **fields: Any) -> None:
    """Put symbols on the watchlist as a person does in SQL."""
    columns = {"market": market, **fields}
    for symbol in symbols:
        values = {**columns, "symbol": symbol}
        names = ", ".join(values)
        places = ", ".join(f"%({name})s" for name in values)
        with platform.warehouse.connect() as connection:
            connection.execute(f"INSERT INTO public.watchlist ({names}) VALUES ({places})", values)


def fill(platform: Platform, plan: Plan) -> None:
    """Do what a plan's runs do, without Dagster."""
    for piece in plan.pieces:
        whole: tuple[Timeframe, ...] = ("1d",)
        if piece.timeframe != "1d":
            whole = ("1m", "5m", "15m") if piece.timeframe == "1m" else ("5m", "15m")
        end = piece.last + timedelta(days=1)
        if piece.timeframe == "1d":
            end = date(piece.last.year + piece.last.month // 12, piece.last.month % 12 + 1, 1)
        for each in whole:
            span = piece.first, end, piece.symbols
            platform.collector(piece.market, each).collect(*span)
            enrich(platform.warehouse, platform.reference, piece.market, each, *span)
        meter = platform.completeness_meter(piece.market)
        meter.measure(piece.first, end, daily=piece.timeframe == "1d", symbols=piece.symbols)


def execute_runs(platform: Platform, plan: Plan, name: str = "asx-cli-test") -> list[BackfillRun]:
    """Execute a plan's runs in this process."""
    runs = runs_of(plan, name, "cli", PERSON_PRIORITY, watched_only=False)
    launcher = Launcher(platform, marts=False)
    with launcher.instance() as instance:
        for run in runs:
            launcher.run(instance, launch_of(run))
    return runs


def shape(plan: Plan) -> list[tuple[str, str, str, tuple[str, ...]]]:
    return [(p.timeframe, str(p.first), str(p.last), p.symbols) for p in plan.pieces]


# ---- the plan


def test_the_watchlist_decides_which_timeframes_are_filled(platform: Platform) -> None:
    watch(platform, "CBA", priority=1, collect_1min=True)
    watch(platform, "BHP", collect_5min=False)
    watch(platform, "NAB", active=False)

    found = BackfillPlanner(platform, "asx").plan(since=WEEK)

    assert shape(found) == [
        ("1d", "2022-01-01", "2022-01-01", ("CBA", "BHP")),
        ("1m", "2022-01-04", "2022-01-11", ("CBA",)),
    ]


def test_a_backfill_run_again_has_nothing_to_do(platform: Platform) -> None:
    planner = BackfillPlanner(platform, "asx")
    wanted = {"CBA": frozenset[Timeframe]({"1d", "5m"})}
    first = planner.plan(wanted, WEEK)
    fill(platform, first)

    again = planner.plan(wanted, WEEK)

    # Six sessions, daily and in five minutes.
    assert (first.sessions, again.sessions, again.settled) == (12, 0, 12)
    assert planner.plan(wanted, WEEK, again=True).sessions == 12


def test_a_session_without_its_indicators_is_filled_again(platform: Platform) -> None:
    planner = BackfillPlanner(platform, "asx")
    wanted = {"CBA": frozenset[Timeframe]({"5m"})}
    fill(platform, planner.plan(wanted, WEEK))
    execute(
        platform,
        "DELETE FROM market.indicators WHERE timeframe = '15m' AND ts >= '2022-01-06' "
        "AND ts < '2022-01-06 06:00Z'",
    )

    assert shape(planner.plan(wanted, WEEK)) == [("5m", "2022-01-06", "2022-01-06", ("CBA",))]


def test_a_session_that_was_measured_while_it_ran_is_not_complete(platform: Platform) -> None:
    planner = BackfillPlanner(platform, "asx")
    wanted = {"CBA": frozenset[Timeframe]({"5m"})}
    fill(platform, planner.plan(wanted, WEEK))
    execute(
        platform,
        "UPDATE quality.completeness SET expected = 20, present = 20 "
        "WHERE timeframe = '5m' AND session_date = '2022-01-10'",
    )

    assert shape(planner.plan(wanted, WEEK)) == [("5m", "2022-01-10", "2022-01-10", ("CBA",))]


def test_a_symbol_that_left_is_left_out_with_the_reason(platform: Platform) -> None:
    found = BackfillPlanner(platform, "asx").plan(
        {"APT": frozenset({"1d"})}, dict.fromkeys(WEEK, date(2022, 3, 1)), date(2022, 3, 5)
    )

    assert found.pieces == ()
    assert found.notes[0].startswith("APT: delisted: last traded on 2022-01-19")


def test_a_row_that_is_no_symbol_is_a_note_and_stops_nobody(platform: Platform) -> None:
    watch(platform, "CBA", "NOT A CODE")

    found = BackfillPlanner(platform, "asx").plan(since=WEEK)

    assert {each.symbols for each in found.pieces} == {("CBA",)}
    assert "'NOT A CODE' is not a symbol of market 'asx'" in found.notes[0]


def test_a_symbol_that_cannot_be_one_is_an_error_where_a_person_names_it(
    platform: Platform,
) -> None:
    with pytest.raises(InvalidInputError, match="not a symbol of market 'asx'"):
        BackfillPlanner(platform, "asx").plan({"NOT A CODE": frozenset()}, WEEK, strict=True)


def test_gaps_of_a_provider_that_was_down_are_left_to_repair_unless_a_person_asks(
    platform: Platform,
) -> None:
    planner = BackfillPlanner(platform, "asx")
    wanted = {"CBA": frozenset[Timeframe]({"5m"})}
    fill(platform, planner.plan(wanted, WEEK))
    execute(
        platform,
        "UPDATE quality.completeness SET present = present - 3, missing = 3, feed_down = 3 "
        "WHERE timeframe = '5m' AND session_date = '2022-01-07'",
    )

    assert planner.plan(wanted, WEEK).pieces == ()
    asked = planner.plan(wanted, WEEK, failed_too=True)
    assert shape(asked) == [("5m", "2022-01-07", "2022-01-07", ("CBA",))]


@pytest.mark.parametrize(
    ("provider", "calls", "seconds"),
    [
        # 900 an hour, of which this lane may use nine tenths.
        ("yahoo", 811, 3600.0),
        ("yahoo", 1620, 3600.0),
        # 60 historical requests in ten minutes.
        ("ibkr", 600, 6000.0),
        ("kraken", 600, 600.0),
    ],
)
def test_the_time_of_calls_is_what_the_budget_allows(
    provider: str, calls: int, seconds: float
) -> None:
    # Windows are kept a little longer than the provider's.
    assert seconds <= seconds_for(limits_of(provider), calls) < 1.25 * seconds


def test_a_night_takes_the_first_pieces_that_fit(platform: Platform) -> None:
    watch(platform, *(f"S{number:02d}" for number in range(40)))
    chain = {"chain_asx": ("yahoo",), "backfill_symbols_per_run": 10}
    platform.settings = platform.settings.model_copy(update=chain)
    planner = BackfillPlanner(platform, "asx")
    whole = planner.plan()

    # 40 symbols: 4 pieces of daily bars, 4 of five minutes, 10 calls each at 120 a minute.
    assert [each.requests for each in whole.pieces] == [10] * 8
    assert planner.within(whole, 16.0, 100).pieces == whole.pieces[:3]
    assert planner.within(whole, 0.0, 100).pieces == whole.pieces[:1]
    assert planner.within(whole, 3600.0, 5).pieces == whole.pieces[:5]


# ---- the sensor of the watchlist


def tick(
    platform: Platform, instance: dg.DagsterInstance, cursor: str | None
) -> tuple[list[dg.RunRequest] | str, str | None]:
    """Evaluate the sensor as the daemon does; returns what it asks for or says, and its cursor."""
    context = dg.build_sensor_context(
        instance=instance,
        cursor=cursor,
        definitions=definitions(),
        resources={"platform": platform},
    )
    found = watchlist_changes.evaluate_tick(context)
    return found.run_requests or str(found.skip_message), found.cursor


def asked(requests: list[dg.RunRequest] | str) -> list[tuple[str, str, str]]:
    """Return (job, first partition, symbols) of requests."""
    assert isinstance(requests, list), requests
    found = []
    for request in requests:
        configs = [op["config"] for op in request.run_config["ops"].values()]
        (symbols,) = {",".join(config["symbols"]) for config in configs}
        first = request.tags["dagster/asset_partition_range_start"]
        found.append((str(request.job_name), first, symbols))
    return found


def test_a_symbol_added_by_sql_is_backfilled_alone(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    watch(platform, "CBA")
    _, known = tick(platform, instance, None)
    watch(platform, "NAB")

    requests, cursor = tick(platform, instance, known)

    assert asked(requests) == [
        ("asx_daily", "2021-12-01", "NAB"),
        ("asx_session", "2022-01-04", "NAB"),
    ]
    assert tick(platform, instance, cursor)[0] == "Nothing is new on the watchlist."


def test_a_backfill_of_a_new_symbol_goes_ahead_of_the_night_and_behind_everything_else(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    watch(platform, "NAB")

    requests, _ = tick(platform, instance, write_cursor({}))

    assert isinstance(requests, list)
    assert {request.tags["dagster/priority"] for request in requests} == {"-3"}
    bars = requests[0].run_config["ops"]["asx__bars_1d"]["config"]
    assert (bars["lane"], bars["retries"], bars["watched_only"]) == ("backfill", 2, True)


def test_the_first_look_backfills_what_has_no_bars_and_takes_the_rest_as_known(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    watch(platform, "CBA", "NAB")
    wanted = {"CBA": frozenset[Timeframe]({"1d"})}
    fill(platform, BackfillPlanner(platform, "asx").plan(wanted, WEEK))

    requests, _ = tick(platform, instance, None)

    assert {symbols for _, _, symbols in asked(requests)} == {"NAB"}


def test_a_symbol_that_is_active_again_is_backfilled(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    watch(platform, "NAB", active=False)
    found, known = tick(platform, instance, None)
    assert found == "Nothing is new on the watchlist."
    execute(platform, "UPDATE public.watchlist SET active = true")

    requests, _ = tick(platform, instance, known)

    assert {symbols for _, _, symbols in asked(requests)} == {"NAB"}


def test_switching_minutes_on_backfills_the_minutes_alone(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    watch(platform, "NAB")
    _, known = tick(platform, instance, None)
    execute(platform, "UPDATE public.watchlist SET collect_1min = true")

    requests, _ = tick(platform, instance, known)

    assert isinstance(requests, list)
    (request,) = requests
    assert "asx__bars_1m" in request.run_config["ops"]


def test_a_change_of_tier_or_notes_starts_nothing(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    watch(platform, "NAB")
    _, known = tick(platform, instance, None)
    execute(platform, "UPDATE public.watchlist SET priority = 3, notes = 'x', collect_5min = false")

    assert tick(platform, instance, known)[0] == "Nothing is new on the watchlist."


def test_waiting_runs_of_a_symbol_that_has_left_are_cancelled(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    watch(platform, "CBA", "NAB")
    _, known = tick(platform, instance, None)
    job = definitions().resolve_job_def("asx_daily")
    made = {
        symbol: instance.create_run_for_job(
            job, tags={SYMBOL: f"asx {symbol}"}, status=dg.DagsterRunStatus.NOT_STARTED
        )
        for symbol in ("CBA", "NAB")
    }
    execute(platform, "DELETE FROM public.watchlist WHERE symbol = 'NAB'")

    why, _ = tick(platform, instance, known)

    statuses = {symbol: instance.get_run_by_id(run.run_id) for symbol, run in made.items()}
    assert statuses["NAB"].status == dg.DagsterRunStatus.CANCELED  # type: ignore[union-attr]
    assert statuses["CBA"].status == dg.DagsterRunStatus.NOT_STARTED  # type: ignore[union-attr]
    assert (
        why == "Nothing is new on the watchlist. 1 runs of symbols that have left were cancelled."
    )


def test_many_new_symbols_share_their_runs(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    watch(platform, *(f"S{number}A" for number in range(7)))
    few = {"backfill_symbols_per_run": 5}
    platform.settings = platform.settings.model_copy(update=few)

    requests, _ = tick(platform, instance, write_cursor({}))

    sizes = [len(symbols.split(",")) for _, _, symbols in asked(requests)]
    assert sizes == [5, 2, 5, 2]


def test_more_new_symbols_than_a_tick_takes_come_with_the_next_ones(
    platform: Platform, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scizor_assets.backfills.MOST_NEW_SYMBOLS", 4)
    watch(platform, *(f"S{number}A" for number in range(6)))

    first, cursor = tick(platform, instance, write_cursor({}))
    second, cursor = tick(platform, instance, cursor)
    third, _ = tick(platform, instance, cursor)

    daily = [
        sum(len(s.split(",")) for job, _, s in asked(found) if job == "asx_daily")
        for found in (first, second)
    ]
    assert daily == [4, 2]
    assert third == "Nothing is new on the watchlist."


def test_a_listing_that_an_exchange_announces_is_collected(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    _, known = tick(platform, instance, None)
    events = EventPipeline(
        platform.reference, platform.catalysts, platform.quality, watch_new_coins=True
    )
    kept = events.keep(EventFindings(new_coins=("PEPE",)))

    requests, _ = tick(platform, instance, known)

    assert kept.now_watched == ("PEPE/USD",)
    assert {(job, symbols) for job, _, symbols in asked(requests)} == {
        ("crypto_daily", "PEPE/USD"),
        ("crypto_session", "PEPE/USD"),
    }


def test_the_cursor_holds_what_is_known() -> None:
    watched = {"asx": {"CBA": frozenset[Timeframe]({"1d", "1m", "5m"})}, "us": {}}

    assert read_cursor(write_cursor(watched)) == watched
    assert read_cursor(None) is None


# ---- the night


def night(platform: Platform, *, under_way: bool = False) -> list[dg.RunRequest] | dg.SkipReason:
    """Evaluate the schedule of the ASX; returns what it asks for, or why nothing."""
    (schedule,) = [each for each in BACKFILL_SCHEDULES if each.name == "asx_nightly_backfill"]
    with dg.instance_for_test() as instance:
        if under_way:
            instance.create_run_for_job(
                definitions().resolve_job_def("asx_daily"),
                tags={"scizor/launched_by": "asx_nightly_backfill"},
                status=dg.DagsterRunStatus.STARTED,
            )
        at = datetime(2022, 1, 11, 14, tzinfo=UTC)
        context = dg.build_schedule_context(instance, scheduled_execution_time=at)
        return schedule(context, platform=platform)


def test_the_night_asks_for_what_was_never_fetched_newest_first(platform: Platform) -> None:
    watch(platform, "NAB", "CBA")
    watch(platform, "BHP", priority=1)
    wanted = {"CBA": frozenset[Timeframe]({"1d", "5m"})}
    planner = BackfillPlanner(platform, "asx")
    fill(platform, planner.plan(wanted))

    requests = night(platform)

    assert isinstance(requests, list)
    keys = [request.run_key for request in requests]
    assert keys == ["asx-nightly-20220111T140000:1", "asx-nightly-20220111T140000:2"]
    config = [next(iter(request.run_config["ops"].values()))["config"] for request in requests]
    assert [each["symbols"] for each in config] == [["BHP", "NAB"], ["BHP", "NAB"]]
    assert {request.tags["dagster/priority"] for request in requests} == {"-5"}


def test_a_night_with_nothing_to_fetch_says_so(platform: Platform) -> None:
    found = night(platform)

    assert isinstance(found, dg.SkipReason)
    assert found.skip_message == "Nothing of asx is left to fetch."


def test_a_night_does_not_pile_up_on_the_last_one(platform: Platform) -> None:
    watch(platform, "CBA")

    found = night(platform, under_way=True)

    assert isinstance(found, dg.SkipReason)
    assert "still under way" in str(found.skip_message)


@pytest.mark.parametrize("market", list(MARKETS))
def test_the_night_is_at_one_in_the_markets_time(market: str) -> None:
    (schedule,) = [each for each in BACKFILL_SCHEDULES if each.name == f"{market}_nightly_backfill"]

    assert schedule.cron_schedule == "0 1 * * *"
    assert schedule.execution_timezone == MARKETS[market].timezone


# ---- the runs


def collect(platform: Platform, source: FailingSource, **config: Any) -> Any:
    """Execute the daily bars of January for CBA with one source."""
    platform._sources["simulated", "backfill"] = source
    asset = build_bars_asset(MARKETS["asx"], "1d")
    with dg.DagsterInstance.ephemeral() as instance:
        return dg.materialize(
            [asset],
            partition_key="2022-01-01",
            instance=instance,
            resources={"platform": platform},
            run_config={"ops": {"asx__bars_1d": {"config": {"symbols": ["CBA"], **config}}}},
            raise_on_error=False,
        )


def test_a_provider_that_is_away_for_a_moment_is_asked_again(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scizor_assets.common.RETRY_SECONDS", 0)
    source = FailingSource(TransientError("away", provider="failing"))

    result = collect(platform, source, retries=2)

    assert (result.success, source.calls) == (False, 3)


def test_a_failure_for_good_is_not_tried_again(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scizor_assets.common.RETRY_SECONDS", 0)
    source = FailingSource(AuthError("no such key", provider="failing"))

    result = collect(platform, source, retries=2)

    assert (result.success, source.calls) == (False, 1)


def test_a_symbol_that_has_left_the_watchlist_is_not_asked_for_any_more(
    platform: Platform,
) -> None:
    source = FailingSource(TransientError("away", provider="failing"))

    result = collect(platform, source, watched_only=True)

    assert (result.success, source.calls) == (True, 0)


@pytest.mark.slow
def test_progress_counts_runs_sessions_and_rows(platform: Platform) -> None:
    wanted = {"CBA": frozenset[Timeframe]({"1d", "5m"})}
    runs = execute_runs(platform, BackfillPlanner(platform, "asx").plan(wanted, WEEK))

    found = progress_of(platform.warehouse, "asx-cli-test", platform.now())

    assert found is not None
    assert (found.runs, found.runs_done, found.runs_failed) == (len(runs), 2, 0)
    assert (found.sessions, found.sessions_done, found.percent) == (12, 12, 100.0)
    # Sessions of January to the 11th (daily bars fill whole months), and six sessions of 72 bars.
    assert found.rows == 6 + 6 * 72 + CLOSING_AUCTIONS
    assert under_way(platform.warehouse, platform.now()) == []


CLOSING_AUCTIONS = 0


@pytest.mark.slow
def test_a_run_says_how_far_its_backfill_is(platform: Platform) -> None:
    wanted = {"CBA": frozenset[Timeframe]({"1d", "5m"})}
    runs = runs_of(
        BackfillPlanner(platform, "asx").plan(wanted, WEEK),
        "asx-cli-x",
        "cli",
        PERSON_PRIORITY,
        watched_only=False,
    )
    launcher = Launcher(platform, marts=False)
    with launcher.instance() as instance:
        result = [launcher.run(instance, launch_of(run)) for run in runs][1]
    metadata, *_ = [
        event.materialization.metadata["backfill"].value
        for event in result.get_asset_materialization_events()
        if event.asset_key == dg.AssetKey(["asx", "bars_5m"])
    ]

    assert (metadata["runs"], metadata["runs_done"], metadata["percent"]) == (2, 1, 50.0)
    assert metadata["rows"] > 72


def test_the_outcome_names_symbols_without_data_and_why(platform: Platform) -> None:
    source = FailingSource(TransientError("away", provider="failing"), after=9, inner=_Nobody())
    platform._sources["simulated", "backfill"] = source
    wanted = {"CBA": frozenset[Timeframe]({"1d"})}
    execute_runs(platform, BackfillPlanner(platform, "asx").plan(wanted, WEEK))

    with Launcher(platform, marts=False).instance() as instance:
        found = outcome_of(instance, platform, "asx-cli-test", is_over=True)

    assert found.without_data == {("1d", "CBA"): "failing: has none of it"}
    assert found.failures == {}


class _Nobody:
    """A source that answers, and has nothing."""

    name = "nobody"
    capabilities = simulated().capabilities

    def fetch_bars(self, request: Any) -> Any:
        batch = simulated().fetch_bars(request)
        batch.bars = batch.bars.iloc[:0]
        batch.covered = []
        batch.empty_reasons = {ref.symbol: "has none of it" for ref in request.symbols}
        return batch


def test_a_run_that_a_killed_command_left_behind_is_ended(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    job = definitions().resolve_job_def("asx_daily")
    gone = this_process().replace(f":{os.getpid()}:", ":999999:")
    runs = [
        instance.create_run_for_job(
            job,
            tags={PROCESS: process, "scizor/launched_by": "cli", BACKFILL: "x"},
            status=dg.DagsterRunStatus.STARTED,
        )
        for process in (gone, this_process())
    ]

    assert end_broken_off(instance) == 1
    statuses = [instance.get_run_by_id(run.run_id).status for run in runs]  # type: ignore[union-attr]
    assert statuses == [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.STARTED]
