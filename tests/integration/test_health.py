"""Health on real servers: what is read of them, and what is said when they are not there."""

import json
import socket
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner

from scizor_cli import main
from scizor_cli.dashboard import Watcher
from scizor_core.alerts import Severity
from scizor_core.instruments import WatchlistEntry
from scizor_resources.budget.breaker import FAILURES_TO_OPEN
from scizor_resources.errors import TransientError
from scizor_resources.health.judging import judge
from scizor_resources.health.prices import PriceBoard
from scizor_resources.health.probe import Probe
from scizor_resources.health.report import Check, Facts, SymbolFact
from scizor_resources.platform import Platform
from scizor_resources.settings import Settings, load_settings
from tests.integration.helpers import FixedSource, collector, execute, flat

# A Friday in Sydney's daylight saving time: open 23:00 UTC the day before, close 05:00.
FRIDAY = date(2026, 11, 20)
OPEN = datetime(2026, 11, 19, 23, tzinfo=UTC)
NOON = datetime(2026, 11, 20, 1, tzinfo=UTC)

# Loading Dagster and its libraries warns of what they themselves have not moved on from.
LIBRARIES_OF_DAGSTER = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def probe(platform: Platform) -> Iterator[Probe]:
    platform.now = lambda: NOON
    execute(platform, "DELETE FROM public.watchlist")
    platform.reference.add([WatchlistEntry("asx", "CBA", priority=1, collect_1min=True)])
    execute(platform, "UPDATE public.watchlist SET added_at = '2026-01-01'")
    made = Probe(platform.settings, lambda: NOON)
    yield made
    made.close()


def the_symbol(found: Facts) -> SymbolFact:
    assert found.symbols is not None, found.problems
    (symbol,) = found.symbols
    return symbol


def check(found: Facts, group: str, name: str) -> Check:
    (one,) = [each for each in judge(found, (group,)) if each.name == name]
    return one


def minutes(first: datetime, count: int) -> list[str]:
    return [(first + timedelta(minutes=each)).isoformat() for each in range(count)]


def store_minutes(platform: Platform, first: datetime, count: int, price: float = 10.0) -> None:
    """Collect minutes of CBA from a source that has them."""
    source = FixedSource(flat("CBA", minutes(first, count), price), timeframes=("1m",))
    collector(platform, "1m", source, now=lambda: NOON).collect(FRIDAY, FRIDAY + timedelta(days=1))


# ---- what is read


def test_the_last_minute_that_is_known_makes_a_symbol_fresh(
    platform: Platform, probe: Probe
) -> None:
    store_minutes(platform, OPEN, 100)
    found = probe.look(("freshness",))
    assert the_symbol(found).heard_until == OPEN + timedelta(minutes=100)
    assert check(found, "freshness", "asx").state == "ok"


def test_minutes_in_which_nothing_traded_count_as_known(platform: Platform, probe: Probe) -> None:
    store_minutes(platform, OPEN, 10)
    assert check(probe.look(("freshness",)), "freshness", "asx").state == "warn"
    execute(
        platform,
        "INSERT INTO quality.gaps (instrument_id, timeframe, session_date, start_ts, end_ts, "
        "reason, source) SELECT instrument_id, '1m', %s, %s, %s, 'no trades', 'tape' "
        "FROM public.symbols WHERE symbol = 'CBA' "
        "ON CONFLICT (instrument_id, timeframe, start_ts) DO UPDATE SET reason = 'no trades', "
        "end_ts = excluded.end_ts, status = 'explained', next_attempt_at = NULL",
        FRIDAY,
        OPEN + timedelta(minutes=10),
        OPEN + timedelta(minutes=110),
    )
    assert check(probe.look(("freshness",)), "freshness", "asx").state == "ok"


def test_a_symbol_added_by_sql_that_nobody_knows_yet_is_named(
    platform: Platform, probe: Probe
) -> None:
    execute(
        platform,
        "UPDATE public.watchlist SET symbol = ' nope ', market = 'ASX'",
    )
    said = check(probe.look(("freshness",)), "freshness", "asx").said
    assert "The platform does not know NOPE yet." in said


def test_a_symbol_that_has_left_its_exchange_is_not_stale(platform: Platform, probe: Probe) -> None:
    execute(platform, "DELETE FROM public.watchlist")
    platform.reference.add([WatchlistEntry("asx", "APT", priority=3)])
    found = probe.look(("freshness",))
    assert found.symbols == ()
    assert check(found, "freshness", "asx").said == "Nothing of it is collected."


def test_completeness_and_open_gaps_are_those_of_the_finest_timeframe(
    platform: Platform, probe: Probe
) -> None:
    instrument_id = the_symbol(probe.look(("freshness",))).instrument_id
    for timeframe, coverage in (("1m", 0.94), ("5m", 0.5)):
        execute(
            platform,
            "INSERT INTO quality.completeness (instrument_id, timeframe, session_date, expected, "
            "present, quiet, missing, absent, unexpected, outliers, quarantined, coverage, score, "
            "reason) VALUES (%s, %s, %s, 100, 90, 4, 6, 6, 0, 0, 0, %s, 94, 'absent')",
            instrument_id,
            timeframe,
            FRIDAY,
            coverage,
        )
    for timeframe, start, status, due in (
        ("1m", 0, "open", NOON - timedelta(hours=2)),
        ("1m", 5, "given up", None),
        ("1m", 9, "explained", None),
        ("5m", 0, "open", NOON + timedelta(hours=2)),
    ):
        execute(
            platform,
            "INSERT INTO quality.gaps (instrument_id, timeframe, session_date, start_ts, end_ts, "
            "reason, source, status, next_attempt_at) VALUES (%s, %s, %s, %s, %s, 'feed down', "
            "'x', %s, %s)",
            instrument_id,
            timeframe,
            FRIDAY,
            OPEN + timedelta(minutes=start),
            OPEN + timedelta(minutes=start + 2),
            status,
            due,
        )
    found = probe.look(("completeness",))
    session = the_symbol(found).sessions[FRIDAY]
    assert (session.expected, session.missing, session.coverage) == (100, 6, 0.94)
    assert session.gaps == {"feed down": 2}
    assert found.gaps is not None
    assert (found.gaps.due, found.gaps.overdue) == (1, 1)


def test_limits_of_the_alert_rules_are_those_that_users_have_set(
    platform: Platform, probe: Probe
) -> None:
    platform.alert_rules.rules()
    execute(
        platform,
        "UPDATE public.alert_rules SET medium = 1, high = 2, critical = NULL, clears_at = 0 "
        "WHERE kpi = 'disk_use_percent'",
    )
    found = probe.look(("freshness", "machine"))
    assert (
        found.thresholds["disk_use_percent"].warn,
        found.thresholds["disk_use_percent"].fail,
    ) == (
        1,
        2,
    )


def test_a_provider_that_failed_again_and_again_is_left_alone(
    platform: Platform, probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCIZOR_CHAIN_ASX", "yahoo")
    error = TransientError("Yahoo is down.", provider="yahoo")
    for _ in range(FAILURES_TO_OPEN):
        platform.breaker("yahoo").failed(error)
    with platform.budget("yahoo").acquire("chart"):
        pass
    other = Probe(load_settings(), lambda: NOON)
    found = other.look(("providers",))
    other.close()
    (yahoo,) = [each for each in found.providers or () if each.name == "yahoo"]
    assert (yahoo.used, yahoo.failures) == (1, 5)
    assert check(found, "providers", "yahoo").state == "warn"


def test_collectors_tell_of_their_last_collection(platform: Platform, probe: Probe) -> None:
    execute(
        platform,
        "INSERT INTO public.collector_runs (provider, asset, status, started_at, completed_at, "
        "records, error) VALUES ('defillama', 'glass/protocol_fundamentals', 'failed', %s, %s, 3, "
        "'No.')",
        NOON - timedelta(minutes=3),
        NOON - timedelta(minutes=2),
    )
    found = probe.look(("collectors",))
    (one,) = [each for each in found.collectors or () if each.name == "defillama"]
    assert (one.last_at, one.status, one.records) == (
        NOON - timedelta(minutes=2),
        "failed",
        3,
    )
    assert check(found, "collectors", "defillama").said == "No."


def test_alerts_that_stand_are_told_the_worst_first(platform: Platform, probe: Probe) -> None:
    platform.alerts.raise_("run_failed", Severity.LOW, "A small thing", ("a",))
    platform.alerts.raise_("run_failed", Severity.CRITICAL, "A large\nthing", ("b",))
    found = probe.look(("alerts",))
    assert found.alerts is not None
    assert [each.title for each in found.alerts.last] == ["A large thing", "A small thing"]
    assert check(found, "alerts", "alerts").state == "fail"


# ---- Dagster's tables


@pytest.fixture
def dagster(platform: Platform, probe: Probe) -> None:
    """Dagster's own tables, made by itself."""
    from scizor_assets.launch import Launcher

    with Launcher(platform, marts=False).instance() as instance:
        instance.get_runs_count()


def add_run(platform: Platform, run_id: str, status: str, *, partition: str, minutes: int) -> None:
    """Put a run into Dagster's table, that ended so many minutes before noon."""
    body = '{"asset_selection": {"__frozenset__": [{"path": ["asx", "bars_5m"]}]}}'
    ended = NOON - timedelta(minutes=minutes)
    execute(
        platform,
        "INSERT INTO dagster.runs (run_id, pipeline_name, status, run_body, create_timestamp, "
        "update_timestamp, start_time, end_time, backfill_id) "
        "VALUES (%s, '__ASSET_JOB', %s, %s, %s, %s, %s, %s, 'fill')",
        run_id,
        status,
        body,
        ended.replace(tzinfo=None),
        ended.replace(tzinfo=None),
        ended.timestamp(),
        ended.timestamp(),
    )
    for key, value in (("dagster/partition", partition), ("scizor/worker", "up@here")):
        execute(
            platform,
            "INSERT INTO dagster.run_tags (run_id, key, value) VALUES (%s, %s, %s)",
            run_id,
            key,
            value,
        )


@LIBRARIES_OF_DAGSTER
def test_a_failed_run_counts_until_a_later_one_of_the_same_has_made_it_good(
    platform: Platform, probe: Probe, dagster: None
) -> None:
    add_run(platform, "one", "FAILURE", partition="2026-11-19", minutes=30)
    add_run(platform, "two", "FAILURE", partition="2026-11-20", minutes=20)
    add_run(platform, "old", "FAILURE", partition="2026-11-18", minutes=1500)
    found = probe.look(("runs",)).runs
    assert found is not None
    assert found.failed == ("asx/bars_5m 2026-11-20", "asx/bars_5m 2026-11-19")
    # The snapshot of the job is what tells that two runs are of the same assets.
    execute(platform, "UPDATE dagster.runs SET snapshot_id = NULL")
    add_run(platform, "three", "SUCCESS", partition="2026-11-19", minutes=10)
    execute(
        platform,
        "INSERT INTO dagster.snapshots (snapshot_id, snapshot_body, snapshot_type) "
        "VALUES ('same', '', 'PIPELINE')",
    )
    execute(platform, "UPDATE dagster.runs SET snapshot_id = 'same'")
    found = probe.look(("runs",)).runs
    assert found is not None
    assert (found.failed, found.succeeded) == (("asx/bars_5m 2026-11-20",), 1)


@LIBRARIES_OF_DAGSTER
def test_runs_and_backfills_under_way_tell_what_they_do(
    platform: Platform, probe: Probe, dagster: None
) -> None:
    add_run(platform, "one", "STARTED", partition="2026-11-20", minutes=2)

    def subset(count: int) -> dict[str, object]:
        mapping = [[{"path": ["asx", "bars_5m"]}, {"num_partitions": count}]]
        return {"partitions_subsets_by_asset_key": {"__mapping_items__": mapping}}

    data = {
        "target_subset": subset(200),
        "materialized_subset": subset(60),
        "failed_and_downstream_subset": {"partitions_subsets_by_asset_key": {}},
    }
    execute(
        platform,
        "INSERT INTO dagster.bulk_actions (key, status, timestamp, body) "
        "VALUES ('fill', 'REQUESTED', %s, %s)",
        NOON.replace(tzinfo=None),
        json.dumps({"asset_backfill_data": data}),
    )
    found = probe.look(("runs",)).runs
    assert found is not None
    (run,), (backfill,) = found.under_way, found.backfills
    assert (run.subject, run.partition, run.worker) == ("asx/bars_5m", "2026-11-20", "up@here")
    assert run.started_at == NOON - timedelta(minutes=2)
    assert (backfill.subject, backfill.done, backfill.partitions) == ("asx/bars_5m", 60, 200)
    assert backfill.runs == {"STARTED": 1}


@LIBRARIES_OF_DAGSTER
def test_a_daemon_that_never_ran_is_a_failure(
    platform: Platform, probe: Probe, dagster: None
) -> None:
    assert check(probe.look(("dagster",)), "dagster", "daemon").state == "fail"


def test_without_dagsters_tables_its_state_is_not_known(probe: Probe) -> None:
    (said,) = judge(probe.look(("runs",)), ("runs",))
    assert said.state == "unknown"


# ---- prices


def board(probe: Probe, found: Facts, now: datetime = NOON) -> PriceBoard:
    made = PriceBoard(probe.database)
    made.quotes(found.symbols or (), now)
    return made


def store_day(platform: Platform, day: str, close: float) -> None:
    row = flat("CBA", [f"{day}T00:00:00"], close)
    session = date.fromisoformat(day)
    collector(platform, "1d", FixedSource(row), now=lambda: NOON).collect(
        session, session + timedelta(days=1)
    )


def test_the_change_is_against_the_close_of_the_session_before(
    platform: Platform, probe: Probe
) -> None:
    store_day(platform, "2026-11-19", 8.0)
    store_minutes(platform, OPEN, 30, price=10.0)
    found = probe.look(("freshness",))
    (quote,) = board(probe, found).quotes(found.symbols or (), NOON).values()
    assert (quote.price, quote.session, quote.source) == (10.0, FRIDAY, "fixed")
    assert quote.change == pytest.approx(0.25)


def test_over_a_split_no_change_is_told(platform: Platform, probe: Probe) -> None:
    store_day(platform, "2026-11-19", 40.0)
    store_minutes(platform, OPEN, 30, price=10.0)
    found = probe.look(("freshness",))
    execute(
        platform,
        "INSERT INTO public.corporate_actions (instrument_id, ex_date, kind, source, ratio, "
        "applied) VALUES (%s, %s, 'split', 'x', 4, true)",
        the_symbol(found).instrument_id,
        FRIDAY,
    )
    (quote,) = board(probe, found).quotes(found.symbols or (), NOON).values()
    assert (quote.price, quote.change) == (10.0, None)


def test_an_old_bar_is_shown_where_there_is_no_new_one(platform: Platform, probe: Probe) -> None:
    store_day(platform, "2026-07-01", 8.0)
    found = probe.look(("freshness",))
    assert the_symbol(found).price is None
    (quote,) = board(probe, found).quotes(found.symbols or (), NOON).values()
    assert (quote.price, quote.session) == (8.0, date(2026, 7, 1))


def test_a_second_look_asks_for_no_close_again(platform: Platform, probe: Probe) -> None:
    store_day(platform, "2026-11-19", 8.0)
    found = probe.look(("freshness",))
    kept = board(probe, found)
    before = probe.database.queries
    kept.quotes(found.symbols or (), NOON + timedelta(seconds=2))
    assert probe.database.queries == before


# ---- servers that are not there


def settings_of(monkeypatch: pytest.MonkeyPatch, home: Path, database: str, redis: str) -> Settings:
    monkeypatch.setenv("SCIZOR_HOME", str(home))
    monkeypatch.setenv("SCIZOR_DATABASE_URL", database)
    monkeypatch.setenv("SCIZOR_REDIS_URL", redis)
    return load_settings()


def test_looking_starts_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "nothing here"
    settings_of(monkeypatch, home, "", "")
    result = CliRunner().invoke(main.app, ["health", "--json"])
    assert result.exit_code == 1
    told = {each["name"]: each["said"] for each in json.loads(result.stdout)["checks"]}
    assert told["postgresql"] == "It does not run. Start the platform with `scizor up`."
    assert not home.exists()


def test_a_server_that_refuses_is_told_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = "postgresql://scizor:hunter2@127.0.0.1:9/scizor"
    settings_of(monkeypatch, tmp_path, database, "redis://:hunter2@127.0.0.1:9/0")
    result = CliRunner().invoke(main.app, ["health", "--only", "servers"])
    assert result.exit_code == 1
    assert "correct SCIZOR_DATABASE_URL" in result.stdout
    assert "correct SCIZOR_REDIS_URL" in result.stdout
    assert "hunter2" not in result.output


def test_a_server_that_never_answers_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        settings = settings_of(
            monkeypatch,
            tmp_path,
            f"postgresql://scizor@127.0.0.1:{port}/scizor",
            f"redis://127.0.0.1:{port}/0",
        )
        found = Probe(settings, lambda: NOON, deadline_seconds=0.5).look(("servers", "alerts"))
    assert {each.name for each in found.servers} == {"postgresql", "valkey"}
    assert all(each.problem for each in found.servers)
    assert [each.state for each in judge(found, ("alerts",))] == ["unknown"]


def test_an_older_schema_is_a_failure_and_nothing_is_guessed(
    platform: Platform, probe: Probe
) -> None:
    execute(platform, "UPDATE public.scizor_schema_version SET version_num = '0001'")
    found = probe.look(("servers", "alerts"))
    assert check(found, "servers", "schema").state == "fail"
    (said,) = judge(found, ("alerts",))
    assert said.state == "unknown"
    assert "another one than this version of scizor needs" in said.said


def test_a_look_can_change_nothing(probe: Probe) -> None:
    probe.look(("servers",))
    with pytest.raises(Exception, match="read-only transaction"):
        probe.database.rows("DELETE FROM public.watchlist RETURNING symbol")


def test_the_dashboard_lives_through_a_database_that_goes_and_comes_back(
    platform: Platform, probe: Probe
) -> None:
    store_minutes(platform, OPEN, 30)
    watcher = Watcher(probe, every=2)
    assert watcher.look().away == ""
    name = psycopg.conninfo.conninfo_to_dict(platform.endpoints.libpq_url)["dbname"]
    other = psycopg.conninfo.make_conninfo(platform.endpoints.libpq_url, dbname="postgres")
    with psycopg.connect(other, autocommit=True) as admin:
        admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
        )
        gone = watcher.look()
        admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    assert "What is shown was known before" in gone.away
    assert [each.symbol for each in gone.facts.symbols or ()] == ["CBA"]
    assert [each.price for each in gone.quotes.values()] == [10.0]
    assert watcher.look().away == ""
