"""The asset graph as a whole: it loads anywhere, and it is what it is meant to be."""

import os
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.test_utils import freeze_time
from syrupy.assertion import SnapshotAssertion

from scizor_assets.definitions import defs
from scizor_assets.partitions import month_partitions, partitions_of, session_partitions
from scizor_core.markets import INTRADAY_TIMEFRAMES, MARKETS
from scizor_core.sessions import get_calendar

ROOT = Path(__file__).parents[3]
SPECS = sorted(defs.resolve_all_asset_specs(), key=lambda spec: spec.key.to_user_string())


def test_the_definitions_are_loadable() -> None:
    dg.Definitions.validate_loadable(defs)


def test_they_load_with_nothing_configured_and_no_server_running(tmp_path: Path) -> None:
    program = (
        "import scizor_assets.definitions as d; "
        "print(len(list(d.defs.resolve_all_asset_specs())), 'assets')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, f"{len(SPECS)} assets"), done.stderr
    assert list(tmp_path.iterdir()) == []


def describe(spec: dg.AssetSpec) -> dict[str, object]:
    partitions = spec.partitions_def
    return {
        "deps": sorted(dep.asset_key.to_user_string() for dep in spec.deps),
        "group": spec.group_name,
        "kinds": sorted(spec.kinds),
        "owners": list(spec.owners),
        "partitions": type(partitions).__name__ if partitions else None,
        "first_partition": partitions.get_first_partition_key() if partitions else None,
    }


def test_the_assets_are_those_of_the_snapshot(snapshot: SnapshotAssertion) -> None:
    assert {spec.key.to_user_string(): describe(spec) for spec in SPECS} == snapshot


def test_the_checks_are_those_of_the_snapshot(snapshot: SnapshotAssertion) -> None:
    graph = defs.resolve_asset_graph()
    checks: dict[str, list[str]] = {}
    for key in graph.asset_check_keys:
        checks.setdefault(key.asset_key.to_user_string(), []).append(key.name)
    assert {asset: sorted(names) for asset, names in sorted(checks.items())} == snapshot


def test_every_bars_asset_has_every_bar_check() -> None:
    names = {
        key.asset_key.to_user_string(): set[str]()
        for key in defs.resolve_asset_graph().asset_check_keys
    }
    for key in defs.resolve_asset_graph().asset_check_keys:
        names[key.asset_key.to_user_string()].add(key.name)
    for market in MARKETS:
        for timeframe in (*INTRADAY_TIMEFRAMES, "1d"):
            assert names[f"{market}/bars_{timeframe}"] == {
                "schema",
                "ohlc_consistency",
                "duplicates",
                "monotonic_time",
                "inside_session",
                "outliers",
            }


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.key.to_user_string())
def test_an_asset_has_group_owner_kinds_and_description(spec: dg.AssetSpec) -> None:
    assert spec.group_name not in (None, "default")
    assert spec.description
    assert 1 <= len(spec.kinds) <= 3
    assert list(spec.owners) == ["team:market-data"]


@pytest.mark.parametrize(
    ("market", "day", "why"),
    [
        ("asx", "2022-01-03", "New Year's Day, observed"),
        ("asx", "2022-01-26", "Australia Day"),
        ("asx", "2022-12-26", "Boxing Day"),
        ("asx", "2022-12-27", "Christmas Day, observed"),
        ("asx", "2022-01-08", "Saturday"),
        ("asx", "2022-01-09", "Sunday"),
        ("us", "2022-07-04", "Independence Day"),
        ("us", "2024-11-28", "Thanksgiving"),
        ("us", "2022-01-08", "Saturday"),
    ],
    ids=lambda value: value if value and value[0].isupper() else None,
)
def test_a_closed_day_is_no_partition(market: str, day: str, why: str) -> None:
    assert not session_partitions(MARKETS[market]).has_partition_key(day)


@pytest.mark.parametrize(
    ("market", "day"),
    [
        ("asx", "2022-12-23"),
        ("asx", "2022-07-04"),
        ("us", "2022-01-26"),
        ("us", "2024-11-29"),
        ("crypto", "2022-01-01"),
        ("crypto", "2022-01-09"),
    ],
)
def test_an_open_day_is_a_partition(market: str, day: str) -> None:
    assert session_partitions(MARKETS[market]).has_partition_key(day)


@pytest.mark.parametrize("market", list(MARKETS))
def test_the_past_partitions_are_exactly_the_sessions(market: str) -> None:
    today = datetime.now(UTC).date()
    keys = [
        key
        for key in session_partitions(MARKETS[market]).get_partition_keys()
        if key < today.isoformat()
    ]
    sessions = get_calendar(market).sessions(date(2021, 12, 1), today)
    assert keys == [session.session_date.isoformat() for session in sessions]


@pytest.mark.parametrize(
    ("market", "now", "key"),
    [
        # 10:30 on Wednesday in Sydney is still Tuesday in UTC.
        ("asx", "2026-11-24T23:30:00+00:00", "2026-11-25"),
        ("asx", "2026-11-25T04:00:00+00:00", "2026-11-25"),
        ("us", "2026-11-24T15:00:00+00:00", "2026-11-24"),
        ("crypto", "2026-11-22T00:00:30+00:00", "2026-11-22"),
    ],
)
def test_the_session_that_is_running_has_a_partition(market: str, now: str, key: str) -> None:
    at = datetime.fromisoformat(now)
    assert get_calendar(market).is_open(at)
    with freeze_time(at):
        assert session_partitions(MARKETS[market]).has_partition_key(key)


def test_the_running_month_has_a_partition() -> None:
    with freeze_time(datetime(2026, 11, 21, 12, tzinfo=UTC)):
        assert month_partitions().get_last_partition_key() == "2026-11-01"


def test_daily_bars_are_partitioned_by_the_month_and_others_by_the_session() -> None:
    for market in MARKETS.values():
        assert partitions_of(market, "1d") is month_partitions()
        for timeframe in INTRADAY_TIMEFRAMES:
            assert partitions_of(market, timeframe) is session_partitions(market)


def test_a_partition_of_a_session_is_one_day_long() -> None:
    window = session_partitions(MARKETS["asx"]).time_window_for_partition_key("2022-01-07")
    assert window.end - window.start == timedelta(days=1)


def test_each_market_has_a_job_for_a_session() -> None:
    assert {job.name for job in defs.resolve_all_job_defs()} >= {
        f"{market}_session" for market in MARKETS
    }


#: Assets of the other ledgers, each with a mart that is made of it.
LEDGERS = {
    "glass/protocol_fundamentals": "marts/protocol_momentum",
    "glass/on_chain_metrics": "marts/instrument_day",
    "human/news_sentiment": "marts/sentiment_hourly",
    "human/social_sentiment": "marts/sentiment_hourly",
    "catalyst/catalyst_events": "marts/catalyst_reactions",
}


@pytest.mark.parametrize(("asset", "mart"), LEDGERS.items())
def test_a_ledger_has_a_contract_its_sources_checked_and_a_mart(asset: str, mart: str) -> None:
    graph = defs.resolve_asset_graph()
    key = dg.AssetKey.from_user_string(asset)
    names = {each.name for each in graph.asset_check_keys if each.asset_key == key}
    assert names >= {"schema", "sources"}
    (spec,) = [each for each in SPECS if each.key == key]
    assert spec.metadata["dagster/table_name"] == asset.replace("/", ".")
    assert key in upstream_of(dg.AssetKey.from_user_string(mart))


def upstream_of(key: dg.AssetKey) -> set[dg.AssetKey]:
    """Return everything that an asset is made of, however far up."""
    found: set[dg.AssetKey] = set()
    waiting = [key]
    while waiting:
        for parent in defs.resolve_asset_graph().get(waiting.pop()).parent_keys:
            if parent not in found:
                found.add(parent)
                waiting.append(parent)
    return found
