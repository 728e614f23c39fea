"""Fundamentals of protocols through the asset into PostgreSQL, and what was known when."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from scizor_assets.glass import protocol_fundamentals, protocol_fundamentals_checks
from scizor_assets.ledgers import LedgerConfig
from scizor_core.errors import ContractError, InvalidInputError
from scizor_resources.platform import Platform
from tests.contract.lab.defillama_server import DefillamaLab, chain_tvl, chart, stablecoins, tvl

from .helpers import execute, query

FRIDAY, TODAY = "2026-11-20", "2026-11-21"
MORNING = datetime(2026, 11, 21, 6, tzinfo=UTC)
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
NEXT_DAY = datetime(2026, 11, 22, 6, tzinfo=UTC)
TVL_OF_FRIDAY = (
    "SELECT value_usd, is_final, observed_at FROM public.protocol_fundamentals "
    "WHERE metric = 'tvl' AND day = '2026-11-20'"
)


@pytest.fixture
def lab() -> Iterator[DefillamaLab]:
    with DefillamaLab() as running:
        give(running, 100.0)
        yield running


@pytest.fixture
def glass(platform: Platform, lab: DefillamaLab) -> Platform:
    platform.settings = platform.settings.model_copy(
        update={
            "defillama_base_url": lab.url,
            "defillama_stablecoins_base_url": lab.url,
            "defillama_protocols": ("aave",),
            "defillama_chains": (),
        }
    )
    return platform


@pytest.fixture
def chains(glass: Platform, lab: DefillamaLab) -> Platform:
    """Let the platform follow Ethereum as well."""
    glass.settings = glass.settings.model_copy(update={"defillama_chains": ("Ethereum",)})
    give_chain(lab, 500.0)
    return glass


def give(lab: DefillamaLab, value: Any, day: str = FRIDAY) -> None:
    """Let the provider say that so much was locked on a day, and on the day before 90."""
    lab.chains["aave"] = {
        "Ethereum": tvl(("2026-11-19", 90.0), (day, value)),
        "Ethereum-borrowed": tvl((day, 5000.0)),
    }


def give_chain(lab: DefillamaLab, value: Any, day: str = FRIDAY) -> None:
    """Let the provider say that so much was locked on Ethereum, and the supply was 70 and 90."""
    lab.chain_tvls["Ethereum"] = chain_tvl((day, value))
    lab.stablecoins = {
        "Ethereum": stablecoins((day, {"peggedUSD": 60.0, "peggedEUR": 10.0})),
        "all": stablecoins((day, {"peggedUSD": 90.0})),
    }


def run(platform: Platform, at: datetime, partition: str = FRIDAY) -> dict[str, Any]:
    platform.now = lambda: at
    context = dg.build_asset_context(partition_key=partition)
    metadata = protocol_fundamentals(context, LedgerConfig(), platform).metadata
    return {
        name: value.value if isinstance(value, dg.MetadataValue) else value
        for name, value in metadata.items()
    }


def rows(platform: Platform) -> list[dict[str, Any]]:
    return query(platform, "SELECT * FROM glass.protocol_fundamental_values ORDER BY observed_at")


def test_a_day_is_stored_with_every_metric_that_the_protocol_has(
    glass: Platform, lab: DefillamaLab
) -> None:
    lab.charts["aave", "dailyFees"] = chart((FRIDAY, 7.5))

    metadata = run(glass, MORNING)

    assert {
        row["metric"]: (row["day"], row["value_usd"], row["is_final"])
        for row in query(glass, "SELECT * FROM public.protocol_fundamentals")
    } == {"tvl": (date(2026, 11, 20), 100.0, True), "fees": (date(2026, 11, 20), 7.5, True)}
    assert (metadata["rows"], metadata["rows_new"], metadata["provider_requests"]) == (2, 2, 4)
    assert metadata["dagster/partition_row_count"] == 2
    assert sorted(metadata["series_unknown"]) == ["aave dex_volume", "aave revenue"]
    assert (metadata["first_day"], metadata["last_day"]) == (FRIDAY, FRIDAY)


def test_the_view_of_the_asset_and_the_public_one_show_the_same(glass: Platform) -> None:
    run(glass, MORNING)
    assert query(glass, "SELECT * FROM glass.protocol_fundamentals") == query(
        glass, "SELECT * FROM public.protocol_fundamentals"
    )


def test_running_a_day_again_changes_nothing(glass: Platform) -> None:
    run(glass, MORNING)
    before = rows(glass)

    metadata = run(glass, NOON)

    assert rows(glass) == before
    assert (metadata["rows_new"], metadata["rows_restated"], metadata["rows_unchanged"]) == (
        0,
        0,
        1,
    )


def test_a_restated_value_is_kept_beside_the_old_one(glass: Platform, lab: DefillamaLab) -> None:
    run(glass, MORNING)
    give(lab, 120.0)

    metadata = run(glass, NOON)

    assert metadata["rows_restated"] == 1
    assert [(row["value_usd"], row["observed_at"]) for row in rows(glass)] == [
        (100.0, MORNING),
        (120.0, NOON),
    ]
    assert query(glass, TVL_OF_FRIDAY) == [
        {"value_usd": 120.0, "is_final": True, "observed_at": NOON}
    ]


@pytest.mark.parametrize(
    ("as_of", "known"),
    [
        (datetime(2026, 11, 21, 5, 59, 59, tzinfo=UTC), []),
        (MORNING, [100.0]),
        (datetime(2026, 11, 21, 11, 59, 59, tzinfo=UTC), [100.0]),
        (NOON, [120.0]),
        (None, [100.0]),
    ],
    ids=["before", "first", "between", "second", "latest"],
)
def test_as_of_returns_what_was_known_then(
    glass: Platform, lab: DefillamaLab, as_of: datetime | None, known: list[float]
) -> None:
    for value, at in ((100.0, MORNING), (120.0, NOON), (100.0, NEXT_DAY)):
        give(lab, value)
        run(glass, at)

    read = glass.fundamentals.read(
        date(2026, 11, 20), date(2026, 11, 21), protocols=["aave"], metrics=["tvl"], as_of=as_of
    )

    assert list(read["value_usd"]) == known


def test_as_of_without_a_time_zone_is_refused(glass: Platform) -> None:
    with pytest.raises(InvalidInputError, match="no time zone"):
        glass.fundamentals.read(
            date(2026, 11, 20), date(2026, 11, 21), as_of=MORNING.replace(tzinfo=None)
        )


def test_the_running_day_is_partial_until_it_was_fetched_after_its_end(
    glass: Platform, lab: DefillamaLab
) -> None:
    give(lab, 100.0, TODAY)

    assert run(glass, NOON, TODAY)["rows_partial"] == 1
    assert run(glass, NEXT_DAY, TODAY)["rows_restated"] == 1

    assert [(row["value_usd"], row["is_final"]) for row in rows(glass)] == [
        (100.0, False),
        (100.0, True),
    ]


def test_an_observation_older_than_what_is_known_adds_nothing(
    glass: Platform, lab: DefillamaLab
) -> None:
    run(glass, NOON)
    give(lab, 120.0)

    assert run(glass, MORNING)["rows_unchanged"] == 1
    assert [row["value_usd"] for row in rows(glass)] == [100.0]


def test_two_writers_of_the_same_restatement_keep_it_once(glass: Platform) -> None:
    run(glass, MORNING)
    values = glass.fundamentals.read(date(2026, 11, 20), date(2026, 11, 21)).assign(value_usd=130.0)
    frames = [
        values.assign(observed_at=pd.Series([at]).astype("datetime64[us, UTC]"))
        for at in (NOON, NOON + timedelta(seconds=1))
    ]

    with ThreadPoolExecutor(2) as pool:
        written = list(pool.map(glass.fundamentals.write, frames))

    assert sorted(each.restated for each in written) == [0, 1]
    assert [row["value_usd"] for row in rows(glass)] == [100.0, 130.0]


def test_a_value_that_the_provider_no_longer_has_stays_as_it_was_known(
    glass: Platform, lab: DefillamaLab
) -> None:
    run(glass, MORNING)
    lab.chains["aave"] = {"Ethereum": tvl(("2026-11-19", 90.0))}

    metadata = run(glass, NOON)

    assert [row["value_usd"] for row in rows(glass)] == [100.0]
    assert "aave tvl" in metadata["series_without_values"]


def test_a_frame_that_breaks_the_contract_is_not_written(glass: Platform) -> None:
    run(glass, MORNING)
    values = glass.fundamentals.read(date(2026, 11, 20), date(2026, 11, 21))

    with pytest.raises(ContractError):
        glass.fundamentals.write(values.assign(value_usd=-1.0))

    assert [row["value_usd"] for row in rows(glass)] == [100.0]


def test_what_cannot_be_a_value_goes_to_quarantine_once(glass: Platform, lab: DefillamaLab) -> None:
    lab.charts["aave", "dailyFees"] = [[0, 5.0], *chart((FRIDAY, None))]

    first, second = run(glass, MORNING), run(glass, NOON)

    assert (first["rows_newly_quarantined"], second["rows_newly_quarantined"]) == (2, 0)
    found = query(glass, "SELECT * FROM quality.quarantine ORDER BY row_number")
    assert [row["dataset"] for row in found] == ["protocol_fundamentals"] * 2
    assert "before the first block" in found[0]["reason"]
    assert "missing or not a number" in found[1]["reason"]


def test_a_run_is_recorded(glass: Platform) -> None:
    run(glass, MORNING)

    (row,) = query(glass, "SELECT * FROM collector_runs")
    assert (row["provider"], row["asset"], row["partition"], row["status"]) == (
        "defillama",
        "glass/protocol_fundamentals",
        FRIDAY,
        "success",
    )
    assert (row["records"], row["requests"], row["error"]) == (1, 4, None)


def test_what_came_before_a_failure_is_stored_and_the_run_fails(
    glass: Platform, lab: DefillamaLab
) -> None:
    lab.answers["/summary/fees/aave"] = {"renamed": []}

    with pytest.raises(dg.Failure, match="agreed shape"):
        run(glass, MORNING)

    assert [row["value_usd"] for row in rows(glass)] == [100.0]
    (recorded,) = query(glass, "SELECT * FROM collector_runs")
    assert (recorded["status"], recorded["records"]) == ("partial", 1)


def test_a_day_that_the_provider_does_not_have_says_so(glass: Platform) -> None:
    metadata = run(glass, NOON, "2026-11-01")

    assert metadata["rows"] == 0
    assert "no value" in metadata["empty_reason"]


def test_a_name_in_any_script_is_kept(glass: Platform, lab: DefillamaLab) -> None:
    lab.names["aave"] = "👻 آفي\0"
    run(glass, MORNING)
    assert [row["protocol_name"] for row in rows(glass)] == ["👻 آفي\ufffd"]


# --- chains -------------------------------------------------------------------------------


def test_a_day_is_stored_with_the_chains_that_are_followed(chains: Platform) -> None:
    metadata = run(chains, MORNING)

    stored = query(chains, "SELECT * FROM public.protocol_fundamentals WHERE protocol <> 'aave'")
    assert {(row["protocol"], row["metric"]): row["value_usd"] for row in stored} == {
        ("chain:ethereum", "chain_tvl"): 500.0,
        ("chain:ethereum", "stablecoin_supply"): 70.0,
        ("chain:all", "stablecoin_supply"): 90.0,
    }
    assert {row["protocol_name"] for row in stored} == {"Ethereum", "All chains"}
    assert metadata["chains_asked"] == ["Ethereum"]
    assert (metadata["rows"], metadata["provider_requests"]) == (4, 7)


def test_a_restated_value_of_a_chain_is_returned_as_it_was_known(
    chains: Platform, lab: DefillamaLab
) -> None:
    run(chains, MORNING)
    give_chain(lab, 510.0)

    assert run(chains, NOON)["rows_restated"] == 1

    known = [
        chains.fundamentals.read(
            date(2026, 11, 20),
            date(2026, 11, 21),
            protocols=["chain:ethereum"],
            metrics=["chain_tvl"],
            as_of=as_of,
        )
        for as_of in (MORNING, NOON)
    ]
    assert [list(each["value_usd"]) for each in known] == [[500.0], [510.0]]


def test_the_running_day_of_a_chain_is_partial(chains: Platform, lab: DefillamaLab) -> None:
    give(lab, 100.0, TODAY)
    give_chain(lab, 500.0, TODAY)

    assert run(chains, NOON, TODAY)["rows_partial"] == 4


# --- checks, as Dagster runs them ---------------------------------------------------------


def materialize(
    platform: Platform, at: datetime, first: str, last: str | None = None
) -> dict[str, dg.AssetCheckEvaluation]:
    """Run the asset with its checks; return the check results by name."""
    platform.now = lambda: at
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            [protocol_fundamentals, protocol_fundamentals_checks],
            partition_key=first if last is None else None,
            tags=None
            if last is None
            else {
                "dagster/asset_partition_range_start": first,
                "dagster/asset_partition_range_end": last,
            },
            resources={"platform": platform},
            instance=instance,
        )
    assert result.success
    return {each.check_name: each for each in result.get_asset_check_evaluations()}


def check_alone(platform: Platform, at: datetime) -> dict[str, dg.AssetCheckEvaluation]:
    """Run the checks without the asset and without a partition."""
    platform.now = lambda: at
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            [protocol_fundamentals, protocol_fundamentals_checks],
            selection=dg.AssetSelection.all_asset_checks(),
            resources={"platform": platform},
            instance=instance,
        )
    return {each.check_name: each for each in result.get_asset_check_evaluations()}


def series_of(result: dg.AssetCheckEvaluation) -> set[tuple[str, str]]:
    """Return the protocols and metrics that a check names."""
    rows: Any = result.metadata["first_rows"].value
    return {(row["protocol"], row["metric"]) for row in rows}


def test_checks_pass_on_sound_days_of_a_backfill_in_one_run(
    glass: Platform, lab: DefillamaLab
) -> None:
    checks = materialize(glass, MORNING, "2026-11-19", FRIDAY)

    assert {name: each.passed for name, each in checks.items()} == {
        "sources": True,
        "schema": True,
        "freshness": True,
        "jumps": True,
    }
    assert len(lab.requests) == 4
    assert [row["value_usd"] for row in rows(glass)] == [90.0, 100.0]


def test_a_jump_is_a_warning_that_names_the_value(glass: Platform, lab: DefillamaLab) -> None:
    give(lab, 136.0)  # 1.51 times the 90 of the day before

    jumps = materialize(glass, MORNING, "2026-11-19", FRIDAY)["jumps"]

    assert (jumps.passed, jumps.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "136.0" in str(jumps.description)


def test_a_series_without_the_day_is_a_warning(glass: Platform, lab: DefillamaLab) -> None:
    lab.charts["aave", "dailyFees"] = chart(("2026-11-19", 7.5))

    fresh = materialize(glass, MORNING, "2026-11-19", FRIDAY)["freshness"]

    assert (fresh.passed, fresh.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "metric fees" in str(fresh.description)


def test_a_day_fetched_while_it_ran_is_a_warning_once_it_is_over(
    glass: Platform, lab: DefillamaLab
) -> None:
    give(lab, 100.0, TODAY)
    run(glass, NOON, TODAY)

    fresh = check_alone(glass, NEXT_DAY)["freshness"]

    assert (fresh.passed, fresh.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "fetched while the day ran" in str(fresh.description)


def test_a_protocol_of_which_nothing_is_stored_is_a_warning(glass: Platform) -> None:
    fresh = check_alone(glass, MORNING)["freshness"]

    assert not fresh.passed
    assert "protocol aave, metric tvl" in str(fresh.description)


def test_a_chain_of_which_nothing_is_stored_is_a_warning_and_its_stablecoins_are_none(
    chains: Platform,
) -> None:
    run(chains, MORNING)
    execute(chains, "DELETE FROM glass.protocol_fundamental_values WHERE protocol <> 'aave'")

    fresh = check_alone(chains, MORNING)["freshness"]

    assert series_of(fresh) == {("chain:ethereum", "chain_tvl")}


def test_a_stablecoin_series_that_was_seen_and_lacks_the_day_is_a_warning(
    chains: Platform, lab: DefillamaLab
) -> None:
    run(chains, MORNING)
    give(lab, 100.0, TODAY)
    lab.chain_tvls["Ethereum"] = chain_tvl((FRIDAY, 500.0), (TODAY, 500.0))

    fresh = materialize(chains, NEXT_DAY, TODAY)["freshness"]

    assert series_of(fresh) == {
        ("chain:ethereum", "stablecoin_supply"),
        ("chain:all", "stablecoin_supply"),
    }


def test_a_row_that_came_in_another_way_and_breaks_the_contract_is_an_error(
    glass: Platform,
) -> None:
    run(glass, MORNING)
    execute(glass, "UPDATE glass.protocol_fundamental_values SET protocol_name = ''")

    schema = check_alone(glass, MORNING)["schema"]

    assert (schema.passed, schema.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert "protocol_name" in str(schema.description)
