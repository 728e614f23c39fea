"""EDGAR's filings through the asset into PostgreSQL, and the checks of what is stored."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from scizor_assets.catalyst import CATALYST_CHECKS, catalyst_events
from scizor_assets.ledgers import LedgerConfig
from scizor_core.instruments import WatchlistEntry
from scizor_resources.platform import Platform
from tests.contract.lab.coinspot_announcements_ledger import CoinspotAnnouncementsLab
from tests.contract.lab.edgar_server import EdgarLab, filing
from tests.contract.lab.ledgers import Item

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


def collect(platform: Platform, day: str = DAY, source: str = "edgar") -> dict[str, Any]:
    """Collect a day; returns what the run says, what it says of the source included."""
    config = LedgerConfig(sources=[source])
    result = catalyst_events(dg.build_asset_context(partition_key=day), config, platform)
    metadata = {
        name: value.value if isinstance(value, dg.MetadataValue) else value
        for name, value in result.metadata.items()
    }
    return {**metadata, **metadata.get("by_source", {}).get(source, {})}


def materialize(
    platform: Platform, instance: dg.DagsterInstance, **options: Any
) -> dg.ExecuteInProcessResult:
    config = {"config": {"sources": ["edgar"]}}
    return dg.materialize(
        [catalyst_events, *CATALYST_CHECKS],
        instance=instance,
        resources={"platform": platform},
        run_config={"ops": {"catalyst__catalyst_events": config}},
        **options,
    )


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
    assert (result["rows"], result["amendments"]) == (3, 1)
    assert result["filings_by_form"] == {"CORRESP": 1, "10-K/A": 1, "10-K": 1, "8-K": 1}
    assert result["skipped"] == {"left out by the rules": 1}


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
    assert (result["rows"], result["rows_written"]) == (3, 0)


def test_days_are_collected_in_one_run_with_the_calls_of_one(
    sec: Platform, lab: EdgarLab, instance: dg.DagsterInstance
) -> None:
    done = materialize(
        sec,
        instance,
        tags={
            "dagster/asset_partition_range_start": "2026-11-16",
            "dagster/asset_partition_range_end": "2026-11-19",
        },
    )

    assert done.success
    assert len(events(sec)) == 4
    assert len(lab.requests) == 2
    assert {each.check_name: each.passed for each in done.get_asset_check_evaluations()} == {
        "sources": True,
        "schema": True,
        "no_look_ahead": True,
        "amendments_linked": True,
    }


def test_statements_of_holders_need_no_original(
    sec: Platform, lab: EdgarLab, instance: dg.DagsterInstance
) -> None:
    lab.filings[APPLE] = [filing(7, "SC 13G/A", "2026-11-18T10:00:00", fileNumber="005-1")]

    done = materialize(sec, instance, partition_key=DAY)

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
    assert (result["rows_written"], result["instruments_written"]) == (0, 3)


def test_a_filing_of_1970_goes_to_quarantine_once(sec: Platform, lab: EdgarLab) -> None:
    lab.filings[APPLE] = [filing(9, "8-K", "1970-01-01T00:00:00"), EARNINGS]

    first, again = collect(sec), collect(sec)

    assert first["rows_newly_quarantined"] == 1
    assert again["rows_newly_quarantined"] == 0
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

    assert "SCIZOR_EDGAR_USER_AGENT" in result["empty_reason"]
    assert lab.requests == []


def test_without_watched_symbols_nothing_is_asked(sec: Platform, lab: EdgarLab) -> None:
    sec.reference.remove("us", "AAPL")

    result = collect(sec)

    assert "watchlist" in result["empty_reason"]
    assert lab.requests == []


def test_who_asks_is_stored_nowhere(sec: Platform) -> None:
    result = collect(sec)

    assert "data@example.com" not in str(result)
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


# --- several sources ----------------------------------------------------------------------


@pytest.fixture
def announcements() -> Iterator[CoinspotAnnouncementsLab]:
    with CoinspotAnnouncementsLab() as running:
        yield running  # type: ignore[misc]  # the base class is typed as itself


@pytest.fixture
def all_sources(sec: Platform, announcements: CoinspotAnnouncementsLab) -> Platform:
    sec.settings = sec.settings.model_copy(
        update={"coinspot_announcements_base_url": announcements.url}
    )
    return sec


LISTED = datetime(2026, 11, 18, 4, 30, 20, tzinfo=UTC)


def collect_all(platform: Platform, day: str = DAY) -> dict[str, Any]:
    context = dg.build_asset_context(partition_key=day)
    result = catalyst_events(context, LedgerConfig(), platform)
    return {
        name: value.value if isinstance(value, dg.MetadataValue) else value
        for name, value in result.metadata.items()
    }


def test_events_of_all_sources_stand_in_one_ledger(
    all_sources: Platform, announcements: CoinspotAnnouncementsLab
) -> None:
    all_sources.reference.add([WatchlistEntry("crypto", "PEPE/USD")])
    announcements.items = [Item("77", LISTED, "New listing: Pepe (PEPE) is now on CoinSpot")]

    told = collect_all(all_sources)

    assert told["sources_answered"] == ["edgar", "coinspot_announcements", "corporate_actions"]
    (row,) = query(
        all_sources,
        "SELECT type, symbols, first_tradable_at FROM catalyst.catalyst_events "
        "WHERE source = 'coinspot_announcements'",
    )
    # Coins trade always: the next full minute.
    assert row == {
        "type": "listing",
        "symbols": ["PEPE/USD"],
        "first_tradable_at": datetime(2026, 11, 18, 4, 31, tzinfo=UTC),
    }
    assert len(events(all_sources)) == 4


def test_a_source_that_fails_leaves_the_events_of_the_others(
    all_sources: Platform, announcements: CoinspotAnnouncementsLab
) -> None:
    announcements.inject("rate_limited")

    told = collect_all(all_sources)

    assert list(told["sources_failed"]) == ["coinspot_announcements"]
    assert len(events(all_sources)) == 3


def test_a_coin_that_nobody_knows_is_an_event_without_an_instrument(
    all_sources: Platform, announcements: CoinspotAnnouncementsLab
) -> None:
    announcements.items = [Item("77", LISTED, "New listing: Newcoin (NEWC) is now on CoinSpot")]
    collect_all(all_sources)
    (row,) = query(
        all_sources, "SELECT symbols FROM catalyst.catalyst_events WHERE source_id = '77'"
    )
    assert row["symbols"] is None
    assert all_sources.reference.watchlist("crypto") == []


def test_a_new_listing_is_collected_from_then_on_where_that_is_asked_for(
    all_sources: Platform, announcements: CoinspotAnnouncementsLab
) -> None:
    all_sources.settings = all_sources.settings.model_copy(update={"collect_new_listings": True})
    announcements.items = [Item("77", LISTED, "New listing: Newcoin (NEWC) is now on CoinSpot")]

    told = collect_all(all_sources)

    assert told["by_source"]["coinspot_announcements"]["now_watched"] == ["NEWC/USD"]
    (entry,) = all_sources.reference.watchlist("crypto", active_only=True)
    assert (entry.symbol, entry.collect_5min) == ("NEWC/USD", True)
    collect_all(all_sources)
    assert query(
        all_sources, "SELECT symbols FROM catalyst.catalyst_events WHERE source_id = '77'"
    ) == [{"symbols": ["NEWC/USD"]}]


def test_an_announcement_repeated_within_a_week_is_not_counted_twice(
    all_sources: Platform, announcements: CoinspotAnnouncementsLab
) -> None:
    title = "New listing: Pepe (PEPE) is now on CoinSpot"
    announcements.items = [
        Item("77", LISTED, title),
        Item("78", LISTED + timedelta(hours=5), title.upper()),
        Item("79", LISTED + timedelta(hours=6), "Scheduled maintenance tonight"),
    ]
    collect_all(all_sources)
    assert query(
        all_sources,
        "SELECT source_id, duplicate_of, counts FROM catalyst.catalyst_events "
        "WHERE source = 'coinspot_announcements' ORDER BY 1",
    ) == [
        {"source_id": "77", "duplicate_of": "", "counts": True},
        {"source_id": "78", "duplicate_of": "coinspot_announcements 77", "counts": False},
        {"source_id": "79", "duplicate_of": "", "counts": True},
    ]


def test_results_in_a_calendar_are_a_second_report_of_the_filing_with_them(sec: Platform) -> None:
    collect(sec)
    execute(
        sec,
        "INSERT INTO catalyst_events (source, source_id, type, title, url, report_date, "
        "published_at, detected_at, impact) VALUES ('finnhub_earnings', 'AAPL-2026Q4', "
        "'earnings', 'Apple: results', '', '2026-11-18', '2026-11-18T21:00Z', %s, 8)",
        NOW,
    )
    execute(
        sec,
        "INSERT INTO catalyst_event_instruments SELECT e.catalyst_event_id, s.instrument_id, "
        "'2026-11-19T14:30Z' FROM catalyst_events AS e, symbols AS s "
        "WHERE e.source = 'finnhub_earnings' AND s.symbol = 'AAPL'",
    )
    assert sec.catalysts.link_duplicates() == 1
    assert sec.catalysts.link_duplicates() == 0
    rows = query(sec, "SELECT source, counts FROM catalyst.catalyst_events WHERE type = 'earnings'")
    assert {row["source"]: row["counts"] for row in rows} == {
        "edgar": True,
        "finnhub_earnings": False,
    }
