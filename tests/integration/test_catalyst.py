"""EDGAR's filings through the asset into PostgreSQL, and the checks of what is stored."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pytest

from scizor_assets.catalyst import CATALYST_CHECKS, catalyst_events
from scizor_core.instruments import WatchlistEntry
from scizor_resources.platform import Platform
from tests.contract.lab.edgar_server import EdgarLab, filing

from .helpers import execute, query

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
DAY = "2026-11-18"
AGENT = "Example Pty Ltd data@example.com"
APPLE = 320193
PERIOD = {"reportDate": "2026-09-30"}
EARNINGS = filing(3, "8-K", "2026-11-18T16:05:10", items="2.02,9.01", reportDate="2026-11-18")
REPORT = filing(4, "10-K", "2026-11-18T12:00:30", **PERIOD)
AMENDED = filing(5, "10-K/A", "2026-11-18T17:00:00", **PERIOD)
LETTER = filing(6, "CORRESP", "2026-11-18T10:00:00")
INSIDER = filing(2, "4", "2026-11-17T10:00:00")


@pytest.fixture
def lab() -> Iterator[EdgarLab]:
    with EdgarLab() as running:
        running.tickers = {"AAPL": APPLE}
        running.filings = {APPLE: [LETTER, AMENDED, REPORT, EARNINGS, INSIDER]}
        yield running


@pytest.fixture
def sec(platform: Platform, lab: EdgarLab) -> Platform:
    platform.settings = platform.settings.model_copy(
        update={
            "edgar_user_agent": AGENT,
            "edgar_base_url": lab.url,
            "edgar_www_base_url": lab.url,
        }
    )
    platform.reference.add([WatchlistEntry("us", "AAPL")])
    platform.now = lambda: NOW
    return platform


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as opened:
        yield opened


def collect(platform: Platform, day: str = DAY) -> dg.MaterializeResult:
    return catalyst_events(dg.build_asset_context(partition_key=day), platform)


def events(platform: Platform) -> list[dict[str, Any]]:
    return query(platform, "SELECT * FROM catalyst.catalyst_events ORDER BY published_at")


def state(platform: Platform) -> list[dict[str, Any]]:
    """Return all rows with the system column that changes with every write."""
    return [
        row
        for table in ("catalyst_events", "catalyst_event_instruments")
        for row in query(platform, f"SELECT xmin::text, * FROM {table} ORDER BY 2, 3")
    ]


def test_the_filings_of_a_day_are_events_with_their_first_bar(sec: Platform) -> None:
    result = collect(sec)

    assert [(row["form"], row["type"], row["impact"], row["symbols"]) for row in events(sec)] == [
        ("10-K", "annual_report", 7, ["AAPL"]),
        ("8-K", "earnings", 8, ["AAPL"]),
        ("10-K/A", "annual_report", 7, ["AAPL"]),
    ]
    # Noon and after the close in New York.
    assert [row["first_tradable_at"] for row in events(sec)] == [
        datetime(2026, 11, 18, 17, 1, tzinfo=UTC),
        datetime(2026, 11, 19, 14, 30, tzinfo=UTC),
        datetime(2026, 11, 19, 14, 30, tzinfo=UTC),
    ]
    metadata = result.metadata
    assert (metadata["rows"], metadata["events"], metadata["amendments"]) == (3, 2, 1)
    assert metadata["filings_by_form"] == {"CORRESP": 1, "10-K/A": 1, "10-K": 1, "8-K": 1}
    assert metadata["filings_skipped"] == {"left out by the rules": 1}


def test_an_amendment_names_its_original_and_is_not_counted_twice(sec: Platform) -> None:
    collect(sec)

    assert query(
        sec,
        "SELECT a.form, o.form AS original FROM catalyst_events AS a "
        "JOIN catalyst_events AS o ON (o.source, o.source_id) = (a.source, a.amends)",
    ) == [{"form": "10-K/A", "original": "10-K"}]
    assert query(sec, "SELECT count(*) AS n FROM catalyst_events WHERE NOT is_amendment") == [
        {"n": 2}
    ]


def test_collecting_a_day_again_changes_nothing(sec: Platform) -> None:
    collect(sec)
    before = state(sec)
    sec.now = lambda: datetime(2026, 11, 20, 13, tzinfo=UTC)

    result = collect(sec)

    assert state(sec) == before
    assert (result.metadata["rows"], result.metadata["rows_written"]) == (3, 0)


def test_days_are_collected_in_one_run_with_the_calls_of_one(
    sec: Platform, lab: EdgarLab, instance: dg.DagsterInstance
) -> None:
    done = dg.materialize(
        [catalyst_events, *CATALYST_CHECKS],
        instance=instance,
        resources={"platform": sec},
        tags={
            "dagster/asset_partition_range_start": "2026-11-16",
            "dagster/asset_partition_range_end": "2026-11-19",
        },
    )

    assert done.success
    assert len(events(sec)) == 4
    assert len(lab.requests) == 2
    assert {each.check_name: each.passed for each in done.get_asset_check_evaluations()} == {
        "schema": True,
        "no_look_ahead": True,
        "amendments_linked": True,
    }


def test_statements_of_holders_need_no_original(
    sec: Platform, lab: EdgarLab, instance: dg.DagsterInstance
) -> None:
    lab.filings[APPLE] = [filing(7, "SC 13G/A", "2026-11-18T10:00:00", fileNumber="005-1")]

    done = dg.materialize(
        [catalyst_events, *CATALYST_CHECKS],
        instance=instance,
        resources={"platform": sec},
        partition_key=DAY,
    )

    assert all(each.passed for each in done.get_asset_check_evaluations())
    assert [(row["is_amendment"], row["amends"]) for row in events(sec)] == [(True, "")]


def test_a_rule_that_a_user_has_changed_holds(sec: Platform) -> None:
    collect(sec)
    execute(sec, "UPDATE catalyst_rules SET impact = 10 WHERE form = '8-K' AND item = '2.02'")

    collect(sec)

    assert [row["impact"] for row in events(sec)] == [7, 10, 7]


def test_another_class_of_shares_joins_the_event(sec: Platform, lab: EdgarLab) -> None:
    collect(sec)
    lab.tickers["AAPL-B"] = APPLE
    sec.reference.add([WatchlistEntry("us", "AAPL.B")])

    result = collect(sec)

    assert {tuple(row["symbols"]) for row in events(sec)} == {("AAPL", "AAPL.B")}
    assert (result.metadata["rows_written"], result.metadata["instruments_written"]) == (0, 3)


def test_a_filing_of_1970_goes_to_quarantine_once(sec: Platform, lab: EdgarLab) -> None:
    lab.filings[APPLE] = [filing(9, "8-K", "1970-01-01T00:00:00"), EARNINGS]

    first, again = collect(sec), collect(sec)

    assert first.metadata["rows_newly_quarantined"] == 1
    assert again.metadata["rows_newly_quarantined"] == 0
    (row,) = query(sec, "SELECT * FROM quality.quarantine")
    assert (row["dataset"], row["symbol"], row["source"]) == ("catalysts", "AAPL", "edgar")
    assert "before EDGAR's first year" in row["reason"]


def test_a_run_is_recorded(sec: Platform) -> None:
    collect(sec)

    (row,) = query(sec, "SELECT * FROM collector_runs")
    assert (row["provider"], row["status"], row["requests"], row["records"]) == (
        "edgar",
        "success",
        2,
        5,
    )
    assert (row["asset"], row["partition"]) == ("catalyst/catalyst_events", DAY)


def test_what_came_is_kept_when_a_company_fails_and_the_run_fails(
    sec: Platform, lab: EdgarLab
) -> None:
    lab.tickers["TSLA"] = 1318605
    lab.answers["/submissions/CIK0001318605.json"] = {"cik": "1318605"}
    sec.reference.add([WatchlistEntry("us", "TSLA")])

    with pytest.raises(dg.Failure, match="agreed shape"):
        collect(sec)

    assert len(events(sec)) == 3
    assert query(sec, "SELECT status FROM collector_runs") == [{"status": "partial"}]


def test_a_block_pauses_the_provider_for_all_processes(sec: Platform, lab: EdgarLab) -> None:
    lab.inject("rate_limited")

    for _ in range(2):
        with pytest.raises(dg.Failure):
            collect(sec)

    assert len(lab.requests) == 1


def test_without_a_name_to_give_nothing_is_asked(sec: Platform, lab: EdgarLab) -> None:
    sec.settings = sec.settings.model_copy(update={"edgar_user_agent": None})

    result = collect(sec)

    assert "SCIZOR_EDGAR_USER_AGENT" in result.metadata["empty_reason"]
    assert lab.requests == []


def test_without_watched_symbols_nothing_is_asked(sec: Platform, lab: EdgarLab) -> None:
    sec.reference.remove("us", "AAPL")

    result = collect(sec)

    assert "watchlist" in result.metadata["empty_reason"]
    assert lab.requests == []


def test_who_asks_is_stored_nowhere(sec: Platform) -> None:
    result = collect(sec)

    assert "data@example.com" not in str(result.metadata)
    assert "data@example.com" not in str(query(sec, "SELECT * FROM collector_runs"))
    assert "data@example.com" not in repr(sec.settings)


@pytest.mark.parametrize(
    ("change", "failed"),
    [
        (
            "UPDATE catalyst_event_instruments SET first_tradable_at = '2026-11-18T15:00Z'",
            {"schema", "no_look_ahead"},
        ),
        # A Saturday.
        (
            "UPDATE catalyst_event_instruments SET first_tradable_at = '2026-11-21T15:00Z'",
            {"no_look_ahead"},
        ),
        ("UPDATE catalyst_events SET amends = ''", {"amendments_linked"}),
        ("UPDATE catalyst_events SET url = 'ftp://x'", {"schema"}),
    ],
    ids=["before publication", "outside a session", "no original", "contract"],
)
def test_bad_rows_fail_the_check_that_is_for_them(
    sec: Platform, instance: dg.DagsterInstance, change: str, failed: set[str]
) -> None:
    collect(sec)
    execute(sec, change)

    job = dg.define_asset_job("only_checks", selection=dg.AssetSelection.all_asset_checks())
    defs = dg.Definitions(
        assets=[catalyst_events],
        asset_checks=CATALYST_CHECKS,
        jobs=[job],
        resources={"platform": sec},
    )
    done = defs.resolve_job_def("only_checks").execute_in_process(instance=instance)

    found = done.get_asset_check_evaluations()
    assert {each.check_name for each in found if not each.passed} == failed
