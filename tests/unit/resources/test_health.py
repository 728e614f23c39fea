"""What health says of facts, without any server: markets, freshness, completeness, processes."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from scizor_resources.health.clock import market_clock
from scizor_resources.health.judging import judge
from scizor_resources.health.market_checks import trading
from scizor_resources.health.probe import default_thresholds, needed_revision
from scizor_resources.health.processes import read_up, ui_problem
from scizor_resources.health.report import (
    AlertFact,
    AlertFacts,
    ArchiveFacts,
    BackfillFact,
    Check,
    CollectorFact,
    DagsterFacts,
    Facts,
    GapFacts,
    MachineFacts,
    ProcessFact,
    ProviderFact,
    RunFact,
    RunFacts,
    ServerFact,
    SessionFact,
    State,
    SymbolFact,
    Thresholds,
    WorkerFacts,
    worst,
)
from scizor_resources.health.spans import short_span, span
from scizor_resources.stores import schema

# A Friday in Sydney's daylight saving time: the ASX is open from 23:00 UTC the day before to 05:00.
FRIDAY = date(2026, 11, 20)
NOON = datetime(2026, 11, 20, 1, 0, tzinfo=UTC)  # 12:00 in Sydney
EVENING = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)  # four hours after the close
SATURDAY = datetime(2026, 11, 21, 13, 0, tzinfo=UTC)


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"{text}:00+00:00")


def symbol(name: str, heard: datetime | None, **changes: object) -> SymbolFact:
    made = SymbolFact(
        "asx",
        name,
        1,
        7,
        "1m",
        added_at=at("2026-01-01T00:00"),
        heard_until=heard,
        daily_session=FRIDAY,
    )
    return replace(made, **changes)  # type: ignore[arg-type]  # names of its fields


def facts(now: datetime, **parts: object) -> Facts:
    made = Facts(now, thresholds=default_thresholds(), needed_revision="0010")
    return replace(made, **parts)  # type: ignore[arg-type]  # names of its fields


def automated(*markets: str) -> DagsterFacts:
    return DagsterFacts(
        up=True,
        heartbeats={},
        automations={f"{each}_intraday": True for each in markets},
    )


def check(found: Facts, group: str, name: str, host: str | None = None) -> Check:
    (one,) = [each for each in judge(found, (group,), host) if each.name == name]
    return one


# ---- markets


@pytest.mark.parametrize(
    ("market", "moment", "said"),
    [
        pytest.param("asx", NOON, "Open, closes in 4 h (05:00Z).", id="asx in its session"),
        pytest.param(
            "asx", SATURDAY, "Closed, opens in 1 d 10 h (Sun 2026-11-22 23:00Z).", id="asx weekend"
        ),
        # The day after Thanksgiving ends at 13:00 in New York.
        pytest.param(
            "us", at("2026-11-27T17:30"), "Open, closes in 30 min (18:00Z).", id="us half day"
        ),
        pytest.param("crypto", SATURDAY, "Open around the clock.", id="crypto"),
    ],
)
def test_a_market_says_how_long_it_stays_as_it_is(market: str, moment: datetime, said: str) -> None:
    assert trading(market_clock(market, moment)) == said


@pytest.mark.parametrize(
    ("moment", "until"),
    [
        pytest.param(at("2026-11-20T01:00"), at("2026-11-20T00:15"), id="in the session"),
        pytest.param(at("2026-11-19T23:30"), at("2026-11-19T05:00"), id="just opened"),
        pytest.param(at("2026-11-20T05:30"), at("2026-11-20T04:45"), id="just closed"),
        pytest.param(at("2026-11-20T06:00"), at("2026-11-20T05:00"), id="closed"),
        pytest.param(SATURDAY, at("2026-11-20T05:00"), id="weekend"),
    ],
)
def test_bars_have_to_be_known_up_to_the_last_close_and_not_beyond(
    moment: datetime, until: datetime
) -> None:
    assert market_clock("asx", moment).known_until(timedelta(minutes=45), "1m") == until


def test_a_market_that_never_closes_has_no_break_at_midnight() -> None:
    clock = market_clock("crypto", at("2026-11-21T00:10"))
    assert clock.known_until(timedelta(minutes=45), "5m") == at("2026-11-20T23:25")


# ---- freshness


def test_a_closed_market_is_not_stale() -> None:
    found = facts(SATURDAY, symbols=(symbol("CBA", at("2026-11-20T05:00")),))
    assert check(found, "freshness", "asx").state == "ok"


@pytest.mark.parametrize(
    ("minutes", "state"),
    [
        pytest.param(20, "ok", id="Yahoo's delay"),
        pytest.param(60, "warn", id="late"),
        pytest.param(95, "fail", id="stale"),
    ],
)
def test_an_open_market_is_judged_by_the_alert_rules(minutes: int, state: State) -> None:
    heard = NOON - timedelta(minutes=minutes)
    found = facts(NOON, symbols=(symbol("CBA", heard),), dagster=automated("asx"))
    assert check(found, "freshness", "asx").state == state


def test_thresholds_that_a_user_has_changed_count() -> None:
    heard = NOON - timedelta(minutes=95)
    limits = {**default_thresholds(), "staleness_minutes": Thresholds(120, 240)}
    found = facts(NOON, symbols=(symbol("CBA", heard),), thresholds=limits)
    assert check(found, "freshness", "asx").state == "ok"


def test_one_stale_symbol_among_many_is_a_warning_that_names_it() -> None:
    fresh = [symbol(f"S{number}", NOON) for number in range(3)]
    found = facts(NOON, symbols=(*fresh, symbol("ZIP", None)), dagster=automated("asx"))
    said = check(found, "freshness", "asx")
    assert said.state == "warn"
    assert "1 of 4 symbols are behind: ZIP." in said.said


def test_without_a_sensor_stale_data_is_a_warning_that_says_how_to_switch_it_on() -> None:
    found = facts(NOON, symbols=(symbol("CBA", None),))
    said = check(found, "freshness", "asx")
    assert said.state == "warn"
    assert "scizor up --live" in said.said


def test_a_symbol_that_was_just_added_is_given_time() -> None:
    new = symbol("PLS", None, added_at=NOON - timedelta(minutes=5), daily_session=None)
    found = facts(NOON, symbols=(new,), dagster=automated("asx"))
    assert check(found, "freshness", "asx").state == "ok"
    assert check(found, "freshness", "asx 1d").state == "ok"


def test_a_missing_daily_bar_is_said_with_the_command_that_fetches_it() -> None:
    behind = symbol("CBA", at("2026-11-20T05:00"), daily_session=date(2026, 11, 19))
    said = check(facts(SATURDAY, symbols=(behind,)), "freshness", "asx 1d")
    assert said.state == "warn"
    assert "scizor materialize asx/bars_1d --partition 2026-11-01" in said.said


# ---- completeness


def whole(*coverages: float | None) -> Facts:
    symbols = tuple(
        symbol(
            f"S{number}",
            EVENING,
            sessions={} if each is None else {FRIDAY: SessionFact(360, 0, each)},
        )
        for number, each in enumerate(coverages)
    )
    return facts(EVENING, symbols=symbols, dagster=automated("asx"))


@pytest.mark.parametrize(
    ("coverages", "state"),
    [
        pytest.param([1.0, 0.996], "ok", id="above 99.5"),
        pytest.param([1.0, 0.99], "warn", id="one below 99.5"),
        pytest.param([1.0, 1.0, 0.5], "warn", id="one of three below 95"),
        pytest.param([0.9, 0.9, 1.0], "fail", id="most below 95"),
        pytest.param([None], "warn", id="not measured"),
    ],
)
def test_the_last_session_that_should_be_whole_is_judged(
    coverages: Sequence[float | None], state: State
) -> None:
    assert check(whole(*coverages), "completeness", "asx").state == state


def test_the_lowest_symbol_is_named_first() -> None:
    assert "S2, S1, down to 50.0 %" in check(whole(1.0, 0.9, 0.5), "completeness", "asx").said


def test_gaps_that_nobody_asks_for_again_are_a_warning() -> None:
    found = facts(EVENING, symbols=(), gaps=GapFacts(due=5, overdue=3))
    assert check(found, "completeness", "gaps").state == "warn"
    found = facts(EVENING, symbols=(), gaps=GapFacts(due=5, overdue=0))
    assert check(found, "completeness", "gaps").state == "ok"


# ---- servers and processes


def test_an_embedded_server_that_is_away_is_started_with_up() -> None:
    found = facts(NOON, servers=[ServerFact("postgresql", True, "it does not run")])
    said = check(found, "servers", "postgresql")
    assert (said.state, said.said) == (
        "fail",
        "It does not run. Start the platform with `scizor up`.",
    )


def test_an_embedded_server_that_hangs_has_a_log_to_look_at() -> None:
    found = facts(NOON, servers=[ServerFact("valkey", True, "Timeout reading from socket")])
    assert "see valkey.log in the home" in check(found, "servers", "valkey").said


@pytest.mark.parametrize(
    ("revision", "state", "advice"),
    [
        ("0010", "ok", "Revision 0010."),
        ("0009", "fail", "scizor db upgrade"),
        ("0011", "fail", "install the one that upgraded it"),
        ("", "fail", "at revision none"),
    ],
    ids=["current", "older", "newer", "none"],
)
def test_the_schema_has_to_be_the_one_that_is_needed(
    revision: str, state: State, advice: str
) -> None:
    said = check(facts(NOON, revision=revision), "servers", "schema")
    assert said.state == state
    assert advice in said.said


def test_the_needed_revision_is_that_of_the_last_migration() -> None:
    assert needed_revision() == schema.latest_revision()


def test_the_default_thresholds_are_those_of_the_alert_rules() -> None:
    found = default_thresholds()
    assert found["completeness_percent"] == Thresholds(99.5, 95)
    assert found["staleness_minutes"] == Thresholds(45, 90)
    assert found["memory_use_percent"] == Thresholds(85, 95)


@pytest.mark.parametrize(
    ("heartbeats", "state"),
    [
        pytest.param({}, "fail", id="never"),
        pytest.param({"SENSOR": 30, "SCHEDULER": 10}, "ok", id="just now"),
        pytest.param({"SENSOR": 700, "SCHEDULER": 10}, "warn", id="one thread hangs"),
        pytest.param({"SENSOR": 700, "SCHEDULER": 130}, "fail", id="gone"),
    ],
)
def test_a_daemon_is_known_by_its_heartbeat(heartbeats: dict[str, int], state: State) -> None:
    beats = {name: NOON - timedelta(seconds=ago) for name, ago in heartbeats.items()}
    found = facts(NOON, dagster=DagsterFacts(up=False, heartbeats=beats))
    assert check(found, "dagster", "daemon").state == state


def test_a_child_of_up_that_has_ended_is_named() -> None:
    processes = (ProcessFact("worker", 1, is_alive=False), ProcessFact("daemon", 2, is_alive=True))
    found = facts(NOON, dagster=DagsterFacts(up=True, processes=processes))
    said = check(found, "dagster", "processes")
    assert said.state == "fail"
    assert said.said.startswith("worker of `scizor up` ended")


def test_an_up_that_was_killed_does_not_run(tmp_path: Path) -> None:
    # No process has this number: the kernel's largest is 4194304.
    (tmp_path / "up.lock").write_text("http://127.0.0.1:3000 (process 4194305)\n")
    (tmp_path / "up.json").write_text("[]")
    assert read_up(tmp_path) == DagsterFacts(up=False)


def test_a_home_that_nobody_has_used_has_no_up(tmp_path: Path) -> None:
    assert read_up(tmp_path / "nowhere") == DagsterFacts(up=False)


def test_a_ui_that_nobody_serves_says_so() -> None:
    assert ui_problem("http://127.0.0.1:9") == "Connection refused"


@pytest.mark.parametrize(
    ("workers", "state"),
    [
        pytest.param(WorkerFacts(expected=0), "fail", id="none"),
        pytest.param(WorkerFacts({"a@x": 1}, {"a@x": ("live", "backfill")}, 1), "ok", id="one"),
        pytest.param(WorkerFacts({"a@x": 1}, {}, 2), "warn", id="one of two answers"),
        pytest.param(
            WorkerFacts({"a@x": 0}, {"a@x": ("backfill",)}, 1, {"live": 3, "backfill": 0}),
            "fail",
            id="none takes live runs",
        ),
        pytest.param(WorkerFacts(problem="refused"), "unknown", id="not asked"),
    ],
)
def test_workers_are_those_that_answer(workers: WorkerFacts, state: State) -> None:
    assert check(facts(NOON, workers=workers), "workers", "workers").state == state


def test_in_a_container_only_its_own_worker_counts() -> None:
    found = facts(NOON, workers=WorkerFacts({"up@one": 0}, {"up@one": ("live", "backfill")}, 1))
    assert check(found, "workers", "workers", "one").state == "ok"
    assert check(found, "workers", "workers", "two").state == "fail"


# ---- the rest


def test_a_failed_run_is_a_warning_that_names_it() -> None:
    found = facts(NOON, runs=RunFacts(failed=("asx/bars_5m 2026-11-20",)))
    said = check(found, "runs", "runs")
    assert said.state == "warn"
    assert "asx/bars_5m 2026-11-20" in said.said


@pytest.mark.parametrize(
    ("queue", "state"), [("live", "warn"), ("backfill", "ok")], ids=["live", "backfill"]
)
def test_a_live_run_that_does_not_begin_is_a_warning(queue: str, state: State) -> None:
    waiting = RunFact("r", "asx_session", "", "QUEUED", NOON - timedelta(minutes=6), queue=queue)
    found = facts(NOON, runs=RunFacts((waiting,), {"QUEUED": 1}))
    assert check(found, "runs", "runs").state == state


def test_a_backfill_tells_how_far_it_is() -> None:
    backfill = BackfillFact("b", "crypto/bars_1m", "REQUESTED", NOON, 200, 60)
    said = check(facts(NOON, runs=RunFacts(backfills=(backfill,))), "runs", "backfills")
    assert said.said == "1 backfill under way: crypto/bars_1m 60 of 200 partitions."


def test_a_provider_behind_its_breaker_says_until_when_and_why() -> None:
    held = ProviderFact(
        "yahoo", "Yahoo", failures=5, next_try_at=at("2026-11-20T01:10"), last_error="it is down"
    )
    said = check(facts(NOON, providers=(held,)), "providers", "yahoo")
    assert said.state == "warn"
    assert "left alone until 01:10:00Z. It is down." in said.said


@pytest.mark.parametrize(
    ("status", "hours", "on", "state"),
    [
        pytest.param("success", 1, True, "ok", id="in time"),
        pytest.param("failed", 1, True, "warn", id="failed"),
        pytest.param("success", 5, True, "warn", id="late"),
        pytest.param("success", 5, False, "ok", id="late and not scheduled"),
    ],
)
def test_a_collector_is_late_only_where_it_is_scheduled(
    status: str, hours: int, on: bool, state: State
) -> None:
    collector = CollectorFact(
        "x",
        "human/social_sentiment",
        timedelta(hours=1),
        NOON - timedelta(hours=hours),
        status,
        error="it refused",
    )
    dagster = DagsterFacts(up=True, automations={"human_social_sentiment_refresh": on})
    found = facts(NOON, collectors=(collector,), dagster=dagster)
    assert check(found, "collectors", "x").state == state


@pytest.mark.parametrize(
    ("counts", "state"),
    [
        pytest.param({}, "ok", id="none"),
        pytest.param({"critical": (1, 0)}, "fail", id="critical"),
        pytest.param({"critical": (1, 1)}, "ok", id="critical and seen"),
        pytest.param({"high": (2, 1)}, "warn", id="high"),
        pytest.param({"medium": (2, 0), "low": (1, 0)}, "ok", id="milder ones"),
    ],
)
def test_alerts_that_nobody_has_seen_count(
    counts: dict[str, tuple[int, int]], state: State
) -> None:
    last = tuple(
        AlertFact(1, name, "kind", "a title", NOON, is_acknowledged=seen > 0)
        for name, (_, seen) in counts.items()
    )
    assert check(facts(NOON, alerts=AlertFacts(counts, last)), "alerts", "alerts").state == state


def test_messages_that_cannot_be_sent_are_a_warning() -> None:
    assert check(facts(NOON, alerts=AlertFacts(unsent=2)), "alerts", "messages").state == "warn"


@pytest.mark.parametrize(
    ("percent", "state"), [(85.0, "ok"), (85.1, "warn"), (95.1, "fail")], ids=str
)
def test_a_full_disk_is_said_before_it_is_full(percent: float, state: State) -> None:
    machine = MachineFacts(percent, 3 * 2**30, 10.0, 2**30)
    said = check(facts(NOON, machine=machine), "machine", "disk")
    assert said.state == state
    assert "3.0 GiB free" in said.said


def test_files_that_were_never_verified_are_a_warning() -> None:
    found = facts(NOON, archive=ArchiveFacts({"written": 1}, 10, 1))
    assert check(found, "archive", "archive").state == "warn"


def test_what_could_not_be_read_is_unknown_and_says_why() -> None:
    found = facts(NOON, problems={"alerts": "PostgreSQL cannot be asked: it does not run"})
    (said,) = judge(found, ("alerts",))
    assert said.state == "unknown"
    assert said.said.startswith("PostgreSQL cannot be asked: it does not run.")


def test_the_worst_check_decides() -> None:
    states: list[State] = ["ok", "unknown", "warn", "fail"]
    for number in range(len(states)):
        checks = [Check("servers", "x", each, "") for each in states[: number + 1]]
        assert worst(checks) == states[number]
    assert worst([]) == "ok"


@pytest.mark.parametrize(
    ("seconds", "long", "short"),
    [
        (12, "12 s", "12s"),
        (65, "1 min", "65s"),
        (3 * 3600 + 300, "3 h 5 min", "3h"),
        (33 * 3600, "1 d 9 h", "33h"),
        (100 * 86400, "100 d", "100d"),
        (-5, "0 s", "0s"),
    ],
    ids=str,
)
def test_times_are_said_in_two_units_or_one(seconds: int, long: str, short: str) -> None:
    length = timedelta(seconds=seconds)
    assert (span(length), short_span(length)) == (long, short)
