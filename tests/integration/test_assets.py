"""The assets of one market as Dagster runs them, on an ephemeral instance and a real database."""

from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg
import pytest

from scizor_assets.bars import BARS_ASSETS, build_bars_asset
from scizor_assets.build import build_defs
from scizor_assets.common import CollectConfig
from scizor_core.markets import MARKETS
from scizor_resources.chain import ProviderCalls
from scizor_resources.errors import (
    AuthError,
    BadRequest,
    ProviderError,
    RateLimited,
    SchemaDrift,
    TransientError,
)
from scizor_resources.pipeline.collect import CollectReport
from scizor_resources.platform import Platform
from scizor_resources.stores.merging import WriteResult
from scizor_resources.stores.providers import CollectorRun

from .helpers import FailingSource, execute, fingerprint, query

FIRST, SECOND, THIRD, FOURTH = "2022-01-04", "2022-01-05", "2022-01-06", "2022-01-07"
SESSION_ASSETS = [
    *(f"asx/{kind}_{each}" for kind in ("bars", "indicators") for each in ("1m", "5m", "15m")),
    "asx/completeness",
]
BAR_CHECKS = {
    "schema",
    "ohlc_consistency",
    "duplicates",
    "monotonic_time",
    "inside_session",
    "outliers",
}


@pytest.fixture
def platform(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> Platform:
    """The platform with simulated ASX bars instead of a real provider."""
    chosen = platform.settings.model_copy(update={"chain_asx": ("simulated",)})
    monkeypatch.setattr(platform, "settings", chosen)
    return platform


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def run(
    platform: Platform,
    instance: dg.DagsterInstance,
    assets: list[str],
    partition: str | None = None,
    last: str | None = None,
    symbols: list[str] | None = None,
    *,
    raise_on_error: bool = True,
) -> dg.ExecuteInProcessResult:
    defs = build_defs({"platform": dg.ResourceDefinition.hardcoded_resource(platform)}, marts=False)
    tags = {}
    if last is not None:
        tags["dagster/asset_partition_range_start"] = str(partition)
        tags["dagster/asset_partition_range_end"] = last
        partition = None
    config = {"config": {"symbols": symbols}}
    return defs.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey.from_user_string(asset) for asset in assets],
        partition_key=partition,
        tags=tags,
        run_config={
            "ops": {asset.replace("/", "__"): config for asset in assets} if symbols else {},
            "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
        },
        raise_on_error=raise_on_error,
    )


def metadata_of(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, object]:
    (event,) = result.asset_materializations_for_node(asset.replace("/", "__"))
    return {key: value.value for key, value in event.metadata.items()}


def checks_of(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {
        f"{each.asset_key.to_user_string()}:{each.check_name}": each
        for each in result.get_asset_check_evaluations()
    }


def test_a_session_becomes_bars_indicators_and_completeness_with_every_check_passed(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    result = run(platform, instance, SESSION_ASSETS, FIRST, symbols=["CBA", "ZIP"])
    checks = checks_of(result)
    expected = {f"asx/bars_{each}:{name}" for each in ("1m", "5m", "15m") for name in BAR_CHECKS}
    expected |= {f"asx/indicators_{each}:one_row_per_bar" for each in ("1m", "5m", "15m")}
    expected |= {f"asx/completeness:{name}" for name in ("adds_up", "coverage")}
    assert set(checks) == expected
    failed = {name for name, each in checks.items() if not each.passed}
    assert failed <= {name for name in checks if name.endswith(":outliers")}
    counts = query(
        platform,
        "SELECT (SELECT count(*) FROM market.bars) AS bars, "
        "(SELECT count(*) FROM market.indicators) AS indicators, "
        "(SELECT count(*) FROM market.bars WHERE timeframe = '1m') AS minutes",
    )[0]
    # Two symbols, at most 360 minutes of a session from 10:00 to 16:00.
    assert counts["bars"] == counts["indicators"]
    assert 600 < counts["minutes"] <= 720


def test_a_bars_run_says_what_it_did(platform: Platform, instance: dg.DagsterInstance) -> None:
    result = run(platform, instance, ["asx/bars_5m"], FIRST, symbols=["CBA", "APT"])
    metadata = metadata_of(result, "asx/bars_5m")
    assert {
        "dagster/partition_row_count",
        "rows_inserted",
        "rows_changed",
        "rows_unchanged",
        "rows_refused",
        "rows_newly_quarantined",
        "symbols_asked",
        "symbols_got",
        "symbols_missing",
        "sources",
        "provider_requests",
        "provider_latency_seconds",
        "first_ts",
        "last_ts",
    } <= set(metadata)
    assert metadata["dagster/partition_row_count"] == 144
    assert metadata["first_ts"] == "2022-01-03T23:00:00+00:00"
    assert metadata["last_ts"] == "2022-01-04T04:55:00+00:00"
    assert metadata["sources"] == {"simulated": 144}


def test_a_symbol_that_has_left_is_named_with_its_reason(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    result = run(platform, instance, ["asx/bars_5m"], "2022-01-20", symbols=["CBA", "APT"])
    missing = metadata_of(result, "asx/bars_5m")["symbols_missing"]
    assert missing == {
        "APT": "delisted: last traded on 2022-01-19; acquired by Block, Inc. "
        "(ASX: XYZ, formerly SQ2)"
    }


def test_an_empty_run_states_its_reason(platform: Platform, instance: dg.DagsterInstance) -> None:
    result = run(platform, instance, ["asx/bars_5m", "asx/indicators_5m"], FIRST, symbols=["APT"])
    execute(platform, "TRUNCATE market.bars")
    again = run(platform, instance, ["asx/indicators_5m"], FIRST)
    later = run(platform, instance, ["asx/bars_5m"], "2022-01-20", symbols=["APT"])
    assert "empty_reason" not in metadata_of(result, "asx/bars_5m")
    assert metadata_of(again, "asx/indicators_5m")["empty_reason"] == (
        "no 5m bars are stored for this partition"
    )
    assert str(metadata_of(later, "asx/bars_5m")["empty_reason"]).startswith("delisted:")


def test_a_range_in_one_run_fills_each_of_its_sessions(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    assets = ["asx/bars_5m", "asx/indicators_5m"]
    result = run(platform, instance, assets, FIRST, FOURTH, symbols=["CBA"])
    days = query(
        platform, "SELECT session_date::text AS d, count(*) AS n FROM asx.bars_5m GROUP BY 1"
    )
    assert {row["d"]: row["n"] for row in days} == dict.fromkeys([FIRST, SECOND, THIRD, FOURTH], 72)
    events = result.asset_materializations_for_node("asx__bars_5m")
    assert [event.partition for event in events] == [FIRST, SECOND, THIRD, FOURTH]


def test_a_range_does_not_claim_all_its_rows_for_each_partition(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    result = run(
        platform, instance, ["asx/bars_5m", "asx/indicators_5m"], FIRST, SECOND, symbols=["CBA"]
    )
    for asset in ("asx__bars_5m", "asx__indicators_5m"):
        for event in result.asset_materializations_for_node(asset):
            assert "dagster/partition_row_count" not in event.metadata
            assert event.metadata["rows"].value == 144


@pytest.mark.slow
def test_one_session_of_a_range_run_again_changes_no_row(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    run(platform, instance, SESSION_ASSETS, FIRST, FOURTH, symbols=["CBA", "ZIP"])
    before = fingerprint(platform)
    run(platform, instance, SESSION_ASSETS, SECOND, symbols=["CBA", "ZIP"])
    assert fingerprint(platform) == before


def test_daily_bars_come_by_the_month(platform: Platform, instance: dg.DagsterInstance) -> None:
    assets = ["asx/bars_1d", "asx/indicators_1d", "asx/completeness_1d"]
    result = run(platform, instance, assets, "2022-01-01", symbols=["CBA"])
    assert all(each.passed for each in checks_of(result).values())
    # January 2022 had 21 business days; the 3rd and the 26th were public holidays.
    assert metadata_of(result, "asx/bars_1d")["dagster/partition_row_count"] == 19
    assert metadata_of(result, "asx/completeness_1d")["bars_expected"] == 19


BAD_VALUES = {
    "ohlc_consistency": "UPDATE market.bars SET high = low - 1 WHERE ts = %s",
    "schema": "UPDATE market.bars SET volume = -5 WHERE ts = %s",
    "inside_session": "UPDATE market.bars SET session_date = '2022-01-05' WHERE ts = %s",
    "monotonic_time": "UPDATE market.bars SET ingested_at = '2021-01-01' WHERE ts = %s",
    "outliers": "UPDATE market.bars SET volume = 1e12 WHERE ts = %s",
    "duplicates": (
        "WITH other AS (INSERT INTO public.symbols (market, symbol, currency, status, "
        "delisted_on) VALUES ('asx', 'CBA', 'AUD', 'delisted', '2022-02-01') "
        "RETURNING instrument_id) "
        "INSERT INTO market.bars (instrument_id, timeframe, ts, session_date, open, high, low, "
        "close, volume, source) SELECT other.instrument_id, timeframe, ts, session_date, open, "
        "high, low, close, volume, 'sql' FROM market.bars, other WHERE ts = %s"
    ),
}


@pytest.mark.parametrize("check", list(BAD_VALUES))
def test_a_bad_value_in_the_table_fails_its_check_and_is_named(
    platform: Platform, instance: dg.DagsterInstance, check: str
) -> None:
    run(platform, instance, ["asx/bars_5m"], FIRST, symbols=["CBA"])
    execute(platform, BAD_VALUES[check], "2022-01-04 03:00:00+00")
    result = only_checks(platform, instance, "asx/bars_5m", FIRST)
    evaluation = checks_of(result)[f"asx/bars_5m:{check}"]
    assert not evaluation.passed
    assert evaluation.severity == (
        dg.AssetCheckSeverity.WARN if check == "outliers" else dg.AssetCheckSeverity.ERROR
    )
    first = evaluation.metadata["first_rows"].value[0]
    assert (first["symbol"], first["ts"]) == ("CBA", "2022-01-04 03:00:00+00:00")
    assert "CBA" in str(evaluation.description)


@pytest.mark.parametrize(
    ("sql", "fault"),
    [
        ("DELETE FROM market.indicators WHERE ts = %s", "no indicators"),
        ("DELETE FROM market.bars WHERE ts = %s", "no bar"),
    ],
    ids=["a bar without a row", "a row without a bar"],
)
def test_a_bar_and_its_indicators_have_to_be_there_together(
    platform: Platform, instance: dg.DagsterInstance, sql: str, fault: str
) -> None:
    run(platform, instance, ["asx/bars_5m", "asx/indicators_5m"], FIRST, symbols=["CBA"])
    execute(platform, sql, "2022-01-04 03:00:00+00")
    result = only_checks(platform, instance, "asx/indicators_5m", FIRST)
    evaluation = checks_of(result)["asx/indicators_5m:one_row_per_bar"]
    assert evaluation.metadata["first_rows"].value == [
        {"symbol": "CBA", "ts": "2022-01-04 03:00:00+00", "fault": fault}
    ]


def test_one_check_can_be_run_alone(platform: Platform, instance: dg.DagsterInstance) -> None:
    key = dg.AssetCheckKey(dg.AssetKey(["asx", "bars_5m"]), "outliers")

    result = run_checks(platform, instance, dg.AssetSelection.checks(key))

    assert set(checks_of(result)) == {"asx/bars_5m:outliers"}


def test_missing_bars_are_a_warning_that_names_symbol_and_session(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    run(platform, instance, ["asx/bars_5m"], FIRST, symbols=["CBA"])
    execute(platform, "DELETE FROM market.bars WHERE ts >= '2022-01-04 02:00:00+00'")
    result = run(platform, instance, ["asx/completeness"], FIRST, symbols=["CBA"])
    evaluation = checks_of(result)["asx/completeness:coverage"]
    rows = {row["timeframe"]: row for row in evaluation.metadata["first_rows"].value}
    assert (evaluation.passed, evaluation.severity) == (False, dg.AssetCheckSeverity.WARN)
    # 10:00 to 13:00 of 10:00 to 16:00 is there.
    assert rows["5m"]["coverage_percent"] == 50
    assert (rows["5m"]["symbol"], rows["5m"]["session_date"]) == ("CBA", FIRST)


def only_checks(
    platform: Platform, instance: dg.DagsterInstance, asset: str, partition: str
) -> dg.ExecuteInProcessResult:
    """Run the checks of an asset without the asset, as the UI can."""
    selection = dg.AssetSelection.checks_for_assets(dg.AssetKey.from_user_string(asset))
    return run_checks(platform, instance, selection, {"dagster/partition": partition})


def run_checks(
    platform: Platform,
    instance: dg.DagsterInstance,
    selection: dg.AssetSelection,
    tags: dict[str, str] | None = None,
) -> dg.ExecuteInProcessResult:
    defs = build_defs({"platform": dg.ResourceDefinition.hardcoded_resource(platform)}, marts=False)
    job = dg.define_asset_job("only_checks", selection=selection)
    everything = dg.Definitions.merge(defs, dg.Definitions(jobs=[job]))
    return everything.resolve_job_def("only_checks").execute_in_process(
        instance=instance, tags=tags
    )


@pytest.mark.parametrize(
    "asset", ["asx/bars_5m", "asx/bars_1d", "asx/indicators_5m", "asx/completeness"]
)
def test_checks_run_without_a_partition_and_without_data(
    platform: Platform, instance: dg.DagsterInstance, asset: str
) -> None:
    selection = dg.AssetSelection.checks_for_assets(dg.AssetKey.from_user_string(asset))
    result = run_checks(platform, instance, selection)
    assert all(each.passed for each in checks_of(result).values())


def error_of(kind: type[ProviderError]) -> ProviderError:
    return kind("It did not answer.", provider="failing", endpoint="/bars")


@pytest.mark.parametrize(
    ("error", "retried"),
    [
        (error_of(TransientError), True),
        (error_of(RateLimited), True),
        (error_of(AuthError), False),
        (error_of(BadRequest), False),
        (error_of(SchemaDrift), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_a_provider_failure_fails_the_step_and_only_what_can_mend_is_retried(
    platform: Platform,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    error: ProviderError,
    retried: bool,
) -> None:
    monkeypatch.setattr(platform, "sources", lambda *_: [FailingSource(error)])
    with pytest.raises(dg.Failure, match="It did not answer") as caught:
        run(platform, instance, ["asx/bars_5m"], FIRST, symbols=["CBA"])
    assert caught.value.allow_retries is retried
    assert caught.value.metadata["provider"].value == "failing"


def test_an_unknown_symbol_fails_the_step_by_name_and_is_not_retried(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    for asset in ("asx/bars_5m", "asx/indicators_5m", "asx/completeness"):
        with pytest.raises(dg.Failure, match="Market 'asx' has no GMG here") as caught:
            run(platform, instance, [asset], FIRST, symbols=["GMG"])
        assert not caught.value.allow_retries


def test_reference_assets_tell_what_there_is(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    execute(platform, "INSERT INTO public.watchlist (symbol, priority) VALUES ('GMG', 3)")
    result = run(platform, instance, ["reference/instruments", "reference/watchlist"])
    instruments = metadata_of(result, "reference/instruments")
    watchlist = metadata_of(result, "reference/watchlist")
    assert instruments["by_market"] == {"asx active": 17, "asx delisted": 1}
    assert [row["symbol"] for row in instruments["delisted"]] == ["APT"]
    assert watchlist["instruments_created"] == ["GMG"]
    assert watchlist["tiers"] == {"asx tier 1": 8, "asx tier 2": 6, "asx tier 3": 5}


def test_an_impossible_row_of_the_watchlist_is_told_and_stops_nothing(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    execute(
        platform,
        "INSERT INTO public.watchlist (market, symbol) VALUES ('asx', 'a!'), ('lse', 'VOD')",
    )
    result = run(platform, instance, ["reference/watchlist"])
    unusable = metadata_of(result, "reference/watchlist")["unusable"]
    assert set(unusable) == {"asx A!", "lse VOD"}


class FakeCollector:
    def collect(self, *_arguments: object) -> CollectReport:
        return CollectReport(
            sessions=1,
            asked={"CBA", "BHP"},
            got={"CBA"},
            missing={"BHP": "halted"},
            rows=3,
            written=WriteResult(inserted=2, unchanged=1),
            calls={
                "ibkr": ProviderCalls(requests=3, retries=2, error="no gateway"),
                "yahoo": ProviderCalls(requests=2, records=3),
            },
        )


class FakePlatform:
    """What the bars asset uses of a platform; one provider is not configured."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str]] = []
        self.recorded: list[CollectorRun] = []
        self.providers = self

    def now(self) -> datetime:
        return datetime(2022, 1, 4, 6, tzinfo=UTC)

    def collector(self, market: str, timeframe: str, lane: str) -> FakeCollector:
        self.asked.append((market, timeframe, lane))
        return FakeCollector()

    def record(self, runs: list[CollectorRun]) -> None:
        self.recorded += runs

    def not_configured(self, market: str) -> dict[str, str]:
        return {"ibkr": f"not for {market}"}


def test_an_asset_can_be_called_directly_with_a_fake_platform() -> None:
    platform = FakePlatform()
    bars = build_bars_asset(MARKETS["asx"], "1m")
    context = dg.build_asset_context(partition_key=FIRST)

    result = bars(context, CollectConfig(lane="live"), platform)

    assert platform.asked == [("asx", "1m", "live")]
    assert result.metadata["symbols_got"] == 1
    assert result.metadata["symbols_missing"].value == {"BHP": "halted"}
    assert result.metadata["rows_inserted"] == 2
    assert result.metadata["providers_not_configured"].value == {"ibkr": "not for asx"}


def test_what_each_provider_was_asked_is_recorded() -> None:
    platform = FakePlatform()
    context = dg.build_asset_context(partition_key=FIRST)

    build_bars_asset(MARKETS["asx"], "1m")(context, CollectConfig(), platform)

    runs = {run.provider: run for run in platform.recorded}
    assert (runs["yahoo"].status, runs["yahoo"].records, runs["yahoo"].requests) == (
        "success",
        3,
        2,
    )
    assert (runs["ibkr"].status, runs["ibkr"].error) == ("failed", "no gateway")
    assert {(run.asset, run.partition) for run in platform.recorded} == {("asx/bars_1m", FIRST)}


def test_there_is_a_bars_asset_of_each_market_and_timeframe() -> None:
    keys = {asset.key.to_user_string() for asset in BARS_ASSETS}
    assert keys == {
        f"{market}/bars_{timeframe}"
        for market in ("asx", "us", "crypto")
        for timeframe in ("1m", "5m", "15m", "1d")
    }
