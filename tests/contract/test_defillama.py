"""DefillamaFundamentals against its lab. Payloads are written by hand, sums done by hand."""

import json
import os
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from scizor_core.errors import ConfigError, ContractError
from scizor_core.schemas.fundamentals import (
    FUNDAMENTAL_COLUMNS,
    find_jumps,
    fundamentals_frame,
    validate_fundamentals,
)
from scizor_resources.errors import (
    AuthError,
    BadRequest,
    RateLimited,
    SchemaDrift,
    TransientError,
)
from scizor_resources.providers.base import REJECTED_COLUMNS
from scizor_resources.providers.defillama.client import DefillamaFundamentals, FundamentalsBatch
from scizor_resources.providers.gate import Gate
from scizor_resources.settings import Settings, load_settings
from tests.contract.lab.defillama_server import (
    DefillamaLab,
    chain_tvl,
    chart,
    epoch,
    stablecoins,
    tvl,
)
from tests.contract.lab.server import RETRY_AFTER_SECONDS, TransportFault

#: Half past ten in the morning of the running day.
NOW = datetime(2026, 11, 21, 10, 30, tzinfo=UTC)
THURSDAY, FRIDAY, TODAY, TOMORROW = (date(2026, 11, day) for day in (19, 20, 21, 22))
#: The longest wait for an answer, so short that a silent server does not hold the suite up.
TIMEOUT_SECONDS = 1.5


class Waits:
    """Stands in for `time.sleep`; remembers what it was asked to wait."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


@pytest.fixture
def lab() -> Iterator[DefillamaLab]:
    with DefillamaLab() as running:
        running.chains["aave"] = {
            "Ethereum": tvl(("2026-11-19", 100.0), ("2026-11-20", 110.0)),
            "Polygon": tvl(("2026-11-19", 20.5), ("2026-11-20", 30.25)),
        }
        yield running


@pytest.fixture
def waits() -> Waits:
    return Waits()


@pytest.fixture
def llama(lab: DefillamaLab, waits: Waits) -> Iterator[DefillamaFundamentals]:
    made = DefillamaFundamentals(
        Gate("defillama", sleep=waits),
        base_url=lab.url,
        stablecoins_base_url=lab.url,
        timeout_seconds=TIMEOUT_SECONDS,
        now=lambda: NOW,
    )
    yield made
    made.close()


def fetch_tvl(
    llama: DefillamaFundamentals, start: date = THURSDAY, end: date = TOMORROW
) -> FundamentalsBatch:
    return llama.fetch(["aave"], start, end, ["tvl"])


def fetch_fees(llama: DefillamaFundamentals) -> FundamentalsBatch:
    return llama.fetch(["aave"], THURSDAY, TOMORROW, ["fees"])


def fetch_chains(
    llama: DefillamaFundamentals,
    *metrics: str,
    chains: Sequence[str] = ("Ethereum",),
    start: date = THURSDAY,
) -> FundamentalsBatch:
    return llama.fetch([], start, TOMORROW, metrics, chains=chains)


def by_series(batch: FundamentalsBatch) -> dict[tuple[str, str], float]:
    """Return (protocol, metric) -> value, of a batch of one day."""
    values = batch.values
    keys = zip(values["protocol"], values["metric"], strict=True)
    return dict(zip(keys, values["value_usd"], strict=True))


def by_day(batch: FundamentalsBatch) -> dict[str, float]:
    values = batch.values
    return dict(zip(values["day"].dt.strftime("%Y-%m-%d"), values["value_usd"], strict=True))


# --- value locked -------------------------------------------------------------------------


def test_value_locked_of_a_day_is_the_sum_over_its_chains(llama: DefillamaFundamentals) -> None:
    batch = fetch_tvl(llama, FRIDAY, TODAY)

    assert tuple(batch.values.columns) == FUNDAMENTAL_COLUMNS
    assert batch.values.to_dict("records") == [
        {
            "protocol": "aave",
            "metric": "tvl",
            "day": pd.Timestamp("2026-11-20"),
            "value_usd": 140.25,
            "is_final": True,
            "point_at": pd.Timestamp("2026-11-20", tz="UTC"),
            "observed_at": pd.Timestamp(NOW),
            "protocol_name": "aave",
            "source": "defillama",
        }
    ]
    assert validate_fundamentals(batch.values) is not None


@pytest.mark.parametrize(
    "key",
    [
        "borrowed",
        "Ethereum-borrowed",
        "pool2",
        "Ethereum-pool2",
        "staking",
        "Solana-staking",
        "liquidstaking",
        "Polygon-liquidstaking",
        "doublecounted",
        "Ethereum-doublecounted",
        "Ethereum-vesting",
        "treasury",
        "Ethereum-OwnTokens",
        "Ethereum-unheardof",
    ],
)
def test_what_is_no_value_of_its_own_is_left_out_of_value_locked(
    lab: DefillamaLab, llama: DefillamaFundamentals, key: str
) -> None:
    lab.chains["aave"][key] = tvl(("2026-11-19", 1e6), ("2026-11-20", 1e6))

    assert by_day(fetch_tvl(llama)) == {"2026-11-19": 120.5, "2026-11-20": 140.25}


@pytest.mark.parametrize("chain", ["Arbitrum Nova", "X1-fastex", "ثعلب", "🦄 Chain"])
def test_a_chain_counts_whatever_its_name(
    lab: DefillamaLab, llama: DefillamaFundamentals, chain: str
) -> None:
    lab.chains["aave"][chain] = tvl(("2026-11-20", 9.75))

    assert by_day(fetch_tvl(llama, FRIDAY, TODAY)) == {"2026-11-20": 150.0}


def test_a_chain_counts_from_its_first_to_its_last_day(
    lab: DefillamaLab, llama: DefillamaFundamentals
) -> None:
    lab.chains["aave"] = {
        "Ethereum": tvl(("2026-11-18", 1), ("2026-11-19", 2), ("2026-11-20", 4)),
        "Left": tvl(("2026-11-18", 10), ("2026-11-19", 10)),
        "Joined": tvl(("2026-11-20", 100)),
    }

    assert by_day(fetch_tvl(llama)) == {"2026-11-19": 12.0, "2026-11-20": 104.0}


def test_a_day_that_one_chain_leaves_out_is_refused_and_not_summed_without_it(
    lab: DefillamaLab, llama: DefillamaFundamentals
) -> None:
    lab.chains["aave"]["Polygon"] = tvl(("2026-11-18", 20.0), ("2026-11-20", 30.0))

    batch = fetch_tvl(llama)

    assert by_day(batch) == {"2026-11-20": 140.0}
    (row,) = batch.rejected.to_dict("records")
    assert "Polygon has no sound value" in row["reason"]
    assert row["ts"] == datetime(2026, 11, 19, tzinfo=UTC)
    assert row["payload"] == {"metric": "tvl", "Ethereum": "100.0"}


def test_the_running_day_is_partial_and_has_the_value_of_now(
    lab: DefillamaLab, llama: DefillamaFundamentals
) -> None:
    lab.chains["aave"] = {
        "Ethereum": tvl(("2026-11-20", 50), ("2026-11-21", 60), ("2026-11-21T10:15", 75))
    }

    batch = fetch_tvl(llama)

    assert by_day(batch) == {"2026-11-20": 50.0, "2026-11-21": 75.0}
    assert list(batch.values["is_final"]) == [True, False]
    assert batch.values["point_at"].iloc[1] == pd.Timestamp("2026-11-21T10:15", tz="UTC")


def test_values_are_kept_to_the_cent(lab: DefillamaLab, llama: DefillamaFundamentals) -> None:
    lab.chains["aave"] = {
        "A": tvl(("2026-11-20", 0.1)),
        "B": tvl(("2026-11-20", 0.2)),
        "C": tvl(("2026-11-20", 1e9 + 0.004)),
    }

    assert by_day(fetch_tvl(llama)) == {"2026-11-20": 1_000_000_000.3}


def test_only_days_asked_for_come_back(llama: DefillamaFundamentals) -> None:
    batch = fetch_tvl(llama, date(2026, 11, 1), date(2026, 11, 10))

    assert batch.values.empty
    assert tuple(batch.values.columns) == FUNDAMENTAL_COLUMNS
    assert "no value from 2026-11-01" in batch.empty_reasons["aave tvl"]


# --- fees, revenue, volume ----------------------------------------------------------------


def test_each_metric_is_asked_for_in_its_own_way(
    lab: DefillamaLab, llama: DefillamaFundamentals
) -> None:
    lab.charts = {
        ("aave", "dailyFees"): chart(("2026-11-20", 7)),
        ("aave", "dailyRevenue"): chart(("2026-11-20", 3)),
        ("aave", "dexs"): chart(("2026-11-20", 900)),
    }

    values = llama.fetch(["aave"], FRIDAY, TODAY).values

    assert dict(zip(values["metric"], values["value_usd"], strict=True)) == {
        "tvl": 140.25,
        "fees": 7.0,
        "revenue": 3.0,
        "dex_volume": 900.0,
    }
    assert [seen.path for seen in lab.requests] == [
        "/protocol/aave",
        "/summary/fees/aave",
        "/summary/fees/aave",
        "/summary/dexs/aave",
    ]


def test_seconds_that_come_as_text_are_seconds(
    lab: DefillamaLab, llama: DefillamaFundamentals
) -> None:
    lab.charts["aave", "dailyFees"] = [[str(epoch("2026-11-20")), 7]]

    assert by_day(fetch_fees(llama)) == {"2026-11-20": 7.0}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "missing or not a number"),
        ("12.5", "missing or not a number"),
        (True, "missing or not a number"),
        (float("nan"), "not a finite number"),
        (float("inf"), "not a finite number"),
        (-0.01, "negative"),
    ],
)
def test_a_value_that_is_no_amount_is_refused_with_its_reason_and_the_rest_kept(
    lab: DefillamaLab, llama: DefillamaFundamentals, value: Any, reason: str
) -> None:
    lab.charts["aave", "dailyFees"] = chart(("2026-11-19", value), ("2026-11-20", 7))

    batch = fetch_fees(llama)

    assert by_day(batch) == {"2026-11-20": 7.0}
    (row,) = batch.rejected.to_dict("records")
    assert tuple(batch.rejected.columns) == REJECTED_COLUMNS
    assert reason in row["reason"]
    assert (row["symbol"], row["origin"], row["row_number"]) == ("aave", "/summary/fees/aave", 1)
    assert row["payload"]["value"] == str(value)


@pytest.mark.parametrize(
    ("seconds", "reason"),
    [
        (0, "before the first block"),
        (-86_400, "before the first block"),
        (epoch("2026-11-22"), "in the future"),
        (epoch("2201-01-01"), "in the future"),
        (epoch("2026-11-20") * 1000, "no number of seconds"),  # milliseconds: the year 58,859
        (None, "no number of seconds"),
        ("2026-11-20T00:00:00.000Z", "no number of seconds"),
    ],
)
def test_a_time_that_cannot_be_is_refused_with_its_reason(
    lab: DefillamaLab, llama: DefillamaFundamentals, seconds: Any, reason: str
) -> None:
    lab.charts["aave", "dailyFees"] = [[seconds, 5], *chart(("2026-11-20", 7))]

    batch = fetch_fees(llama)

    assert by_day(batch) == {"2026-11-20": 7.0}
    (row,) = batch.rejected.to_dict("records")
    assert reason in row["reason"]


# --- chains -------------------------------------------------------------------------------


def test_metrics_of_chains_are_asked_of_chains_and_those_of_protocols_of_protocols(
    lab: DefillamaLab, llama: DefillamaFundamentals
) -> None:
    lab.chain_tvls["Ethereum"] = chain_tvl(("2026-11-20", 500.0))
    lab.stablecoins = {
        "Ethereum": stablecoins(("2026-11-20", {"peggedUSD": 70.0})),
        "all": stablecoins(("2026-11-20", {"peggedUSD": 90.0})),
    }

    batch = llama.fetch(["aave"], FRIDAY, TODAY, chains=["Ethereum"])

    assert by_series(batch) == {
        ("aave", "tvl"): 140.25,
        ("chain:ethereum", "chain_tvl"): 500.0,
        ("chain:ethereum", "stablecoin_supply"): 70.0,
        ("chain:all", "stablecoin_supply"): 90.0,
    }
    assert validate_fundamentals(batch.values) is not None
    assert [seen.path for seen in lab.requests][4:] == [
        "/v2/historicalChainTvl/Ethereum",
        "/stablecoincharts/Ethereum",
        "/stablecoincharts/all",
    ]


def test_stablecoins_have_a_host_of_their_own(
    lab: DefillamaLab, llama: DefillamaFundamentals
) -> None:
    lab.chain_tvls["Ethereum"] = chain_tvl(("2026-11-20", 500.0))
    with DefillamaLab() as other:
        other.stablecoins["all"] = stablecoins(("2026-11-20", {"peggedUSD": 90.0}))
        apart = DefillamaFundamentals(
            llama.gate, base_url=lab.url, stablecoins_base_url=other.url, now=lambda: NOW
        )
        batch = fetch_chains(apart, "chain_tvl", "stablecoin_supply")
        apart.close()

    assert by_series(batch) == {
        ("chain:ethereum", "chain_tvl"): 500.0,
        ("chain:all", "stablecoin_supply"): 90.0,
    }
    assert llama.gate.counts.requests == 3


def test_stablecoins_that_cannot_be_reached_do_not_keep_the_rest_away(
    lab: DefillamaLab, llama: DefillamaFundamentals
) -> None:
    lab.chain_tvls["Ethereum"] = chain_tvl(("2026-11-20", 500.0))
    with DefillamaLab() as other:
        gone = other.url
    apart = DefillamaFundamentals(
        llama.gate, base_url=lab.url, stablecoins_base_url=gone, now=lambda: NOW
    )

    batch = fetch_chains(apart, "stablecoin_supply", "chain_tvl")
    apart.close()

    assert isinstance(batch.failure, TransientError)
    assert by_series(batch) == {("chain:ethereum", "chain_tvl"): 500.0}
    assert sorted(batch.errors) == [
        "chain:all stablecoin_supply",
        "chain:ethereum stablecoin_supply",
    ]


@pytest.mark.parametrize("name", ["Arbitrum Nova", "OP/Mainnet?x=1", "ثعلب"])
def test_a_chain_of_any_name_is_asked_for_and_keeps_it(
    lab: DefillamaLab, llama: DefillamaFundamentals, name: str
) -> None:
    lab.answers[f"/v2/historicalChainTvl/{name}"] = chain_tvl(("2026-11-20", 5.0))

    values = fetch_chains(llama, "chain_tvl", chains=[name]).values

    assert list(values["protocol"]) == [f"chain:{name.lower()}"]
    assert list(values["protocol_name"]) == [name]


def test_a_chain_named_twice_is_asked_once_and_all_is_no_chain(
    lab: DefillamaLab, llama: DefillamaFundamentals
) -> None:
    lab.chain_tvls["BSC"] = chain_tvl(("2026-11-20", 5.0))

    batch = fetch_chains(llama, "chain_tvl", chains=["BSC", "bsc", "all"])

    assert by_series(batch) == {("chain:bsc", "chain_tvl"): 5.0}
    assert len(lab.requests) == 1


@pytest.mark.parametrize("text", [True, False], ids=["text", "number"])
def test_dates_of_chains_are_read_as_text_and_as_number(
    lab: DefillamaLab, llama: DefillamaFundamentals, text: bool
) -> None:
    (point,) = stablecoins(("2026-11-20", {"peggedUSD": 70.0}))
    lab.stablecoins["Ethereum"] = [{**point, "date": point["date"] if text else int(point["date"])}]

    assert by_day(fetch_chains(llama, "stablecoin_supply")) == {"2026-11-20": 70.0}


def test_stablecoin_supply_is_the_sum_over_its_pegs_in_usd(
    lab: DefillamaLab, llama: DefillamaFundamentals
) -> None:
    lab.stablecoins["Ethereum"] = stablecoins(
        ("2026-11-20", {"peggedUSD": 100.25, "peggedEUR": 10.5, "peggedJPY": 0})
    )

    assert by_day(fetch_chains(llama, "stablecoin_supply")) == {"2026-11-20": 110.75}


@pytest.mark.parametrize(
    ("pegs", "reason"),
    [
        ({"peggedUSD": 100.0, "peggedEUR": None}, "missing or not a number"),
        ({"peggedUSD": 100.0, "peggedEUR": "10.5"}, "missing or not a number"),
        ({"peggedUSD": 100.0, "peggedEUR": -1.0}, "negative"),
        ({}, "missing or not a number"),
        (None, "missing or not a number"),
        (12.0, "missing or not a number"),
    ],
    ids=["null", "text", "negative", "no peg", "nothing", "number"],
)
def test_a_supply_with_an_unsound_peg_is_refused_and_not_summed_without_it(
    lab: DefillamaLab, llama: DefillamaFundamentals, pegs: Any, reason: str
) -> None:
    lab.stablecoins["Ethereum"] = stablecoins(
        ("2026-11-19", pegs), ("2026-11-20", {"peggedUSD": 70.0})
    )

    batch = fetch_chains(llama, "stablecoin_supply")

    assert by_day(batch) == {"2026-11-20": 70.0}
    (row,) = batch.rejected.to_dict("records")
    assert reason in row["reason"]
    assert (row["symbol"], row["origin"]) == ("chain:ethereum", "/stablecoincharts/Ethereum")


def test_the_running_day_of_a_chain_is_partial_and_has_the_value_of_now(
    lab: DefillamaLab, llama: DefillamaFundamentals
) -> None:
    lab.chain_tvls["Ethereum"] = chain_tvl(
        ("2026-11-20", 500), ("2026-11-21", 510), ("2026-11-21T10:20", 520)
    )

    batch = fetch_chains(llama, "chain_tvl")

    assert by_day(batch) == {"2026-11-20": 500.0, "2026-11-21": 520.0}
    assert list(batch.values["is_final"]) == [True, False]


def test_a_chain_that_does_not_exist_is_said_and_the_rest_kept(
    lab: DefillamaLab, llama: DefillamaFundamentals
) -> None:
    lab.chain_tvls["Ethereum"] = chain_tvl(("2026-11-20", 500.0))
    lab.stablecoins["Ethereum"] = stablecoins(("2026-11-20", {"peggedUSD": 70.0}))

    batch = fetch_chains(
        llama, "chain_tvl", "stablecoin_supply", chains=["Etherum", "Ethereum"], start=FRIDAY
    )

    assert set(batch.values["protocol"]) == {"chain:ethereum"}
    assert sorted(batch.unknown) == [
        "chain:all stablecoin_supply",
        "chain:etherum chain_tvl",
        "chain:etherum stablecoin_supply",
    ]
    assert "404" in batch.unknown["chain:etherum chain_tvl"]
    assert "400" in batch.unknown["chain:etherum stablecoin_supply"]
    assert batch.failure is None


def test_no_known_chain_at_all_is_an_error_that_names_the_setting(
    llama: DefillamaFundamentals,
) -> None:
    with pytest.raises(BadRequest, match="SCIZOR_DEFILLAMA_CHAINS"):
        fetch_chains(llama, "chain_tvl", chains=["Etherum"])


@pytest.mark.parametrize(
    ("metric", "answer"),
    [
        ("chain_tvl", {"tvl": []}),
        ("chain_tvl", "none"),
        ("chain_tvl", [[1, 2.0]]),
        ("chain_tvl", [{"date": epoch("2026-11-20"), "totalLiquidityUSD": 1.0}]),
        ("chain_tvl", [{"time": epoch("2026-11-20"), "tvl": 1.0}]),
        ("chain_tvl", [{"date": "2026-11-20T00:00:00Z", "tvl": 1.0}]),
        ("stablecoin_supply", [{"date": "1", "totalCirculating": {"peggedUSD": 1.0}}]),
        ("stablecoin_supply", [{"date": "1", "totalCirculatingUSD": 1.0}]),
    ],
    ids=["object", "text", "pairs", "tvl", "date", "unit of date", "pegs", "number for pegs"],
)
def test_a_changed_shape_of_a_chain_is_schema_drift(
    lab: DefillamaLab, llama: DefillamaFundamentals, metric: str, answer: Any
) -> None:
    lab.answers["/v2/historicalChainTvl/Ethereum"] = answer
    lab.answers["/stablecoincharts/Ethereum"] = answer

    assert isinstance(fetch_chains(llama, metric).failure, SchemaDrift)


def test_one_point_of_a_chain_without_its_field_is_refused_and_the_rest_kept(
    lab: DefillamaLab, llama: DefillamaFundamentals
) -> None:
    lab.chain_tvls["Ethereum"] = [
        {"date": epoch("2026-11-19")},
        "no point",
        *chain_tvl(("2026-11-20", 500.0)),
    ]

    batch = fetch_chains(llama, "chain_tvl")

    assert by_day(batch) == {"2026-11-20": 500.0}
    assert sorted(batch.rejected["row_number"]) == [1, 2]


# --- no match, changed shape, odd bodies --------------------------------------------------


def test_a_metric_that_a_protocol_does_not_have_is_said_and_the_rest_kept(
    lab: DefillamaLab, llama: DefillamaFundamentals
) -> None:
    batch = llama.fetch(["aave"], FRIDAY, TODAY)

    assert list(batch.values["metric"]) == ["tvl"]
    assert sorted(batch.unknown) == ["aave dex_volume", "aave fees", "aave revenue"]
    assert "aave not found" in batch.unknown["aave fees"]
    assert batch.failure is None


def test_nothing_known_at_all_is_an_error_that_names_the_setting(
    lab: DefillamaLab, llama: DefillamaFundamentals
) -> None:
    with pytest.raises(BadRequest, match="SCIZOR_DEFILLAMA_PROTOCOLS"):
        llama.fetch(["nosuch"], FRIDAY, TODAY)


@pytest.mark.parametrize(
    "answer",
    [
        {"name": "Aave"},
        {"chainTvls": []},
        {"chainTvls": {"Ethereum": {"tokens": []}}},
        {"chainTvls": {"Ethereum": {"tvl": [{"date": 1, "tvlUsd": 1.0}]}}},
        {"chainTvls": {"Ethereum": {"tvl": [[1, 1.0]]}}},
        [1],
    ],
    ids=["no chains", "list", "no series", "renamed field", "pairs", "array"],
)
def test_a_changed_shape_of_value_locked_is_schema_drift(
    lab: DefillamaLab, llama: DefillamaFundamentals, answer: Any
) -> None:
    lab.answers["/protocol/aave"] = answer

    batch = fetch_tvl(llama)

    assert isinstance(batch.failure, SchemaDrift)
    assert batch.values.empty


@pytest.mark.parametrize(
    "answer",
    [
        {"name": "Aave"},
        {"totalDataChart": "none"},
        {"totalDataChart": [[1, 2, 3]]},
        {"totalDataChart": [{"date": 1, "value": 2}]},
        {"totalDataChart": [["2026-11-20T00:00:00.000Z", 2]]},
    ],
    ids=["no chart", "text", "three numbers", "objects", "unit of time"],
)
def test_a_changed_shape_of_a_chart_is_schema_drift(
    lab: DefillamaLab, llama: DefillamaFundamentals, answer: Any
) -> None:
    lab.answers["/summary/fees/aave"] = answer

    assert isinstance(fetch_fees(llama).failure, SchemaDrift)


def test_one_series_that_fails_does_not_keep_the_others_away(
    lab: DefillamaLab, llama: DefillamaFundamentals
) -> None:
    lab.answers["/summary/fees/aave"] = {"renamed": []}
    lab.charts["aave", "dexs"] = chart(("2026-11-20", 900))

    batch = llama.fetch(["aave"], FRIDAY, TODAY)

    assert sorted(batch.values["metric"]) == ["dex_volume", "tvl"]
    assert sorted(batch.errors) == ["aave fees", "aave revenue"]


@pytest.mark.parametrize("name", ["🦄 Uniswap 💱", "يونيسواب", "יוניסוואפ (V3)", "a\u202eb"])
def test_names_come_through_in_any_script(
    lab: DefillamaLab, llama: DefillamaFundamentals, name: str
) -> None:
    lab.names["aave"] = name

    assert set(fetch_tvl(llama).values["protocol_name"]) == {name}


def test_a_name_that_postgresql_cannot_keep_is_mended(
    lab: DefillamaLab, llama: DefillamaFundamentals
) -> None:
    lab.names["aave"] = "Aa\0ve"

    assert set(fetch_tvl(llama).values["protocol_name"]) == {"Aa\ufffdve"}


def test_a_body_of_a_megabyte_is_read(lab: DefillamaLab, llama: DefillamaFundamentals) -> None:
    tokens = [{"date": epoch("2026-11-20"), "tokens": {"USDC": 1.0}, "note": "x" * 1_000}]
    lab.chains["aave"]["Ethereum"]["tokens"] = tokens * 1_000

    assert by_day(fetch_tvl(llama, FRIDAY, TODAY)) == {"2026-11-20": 140.25}


# --- faults of the transport --------------------------------------------------------------


def test_a_refusal_for_too_many_requests_has_that_name_and_ends_the_asking(
    lab: DefillamaLab, llama: DefillamaFundamentals
) -> None:
    lab.inject("rate_limited")

    batch = llama.fetch(["aave"], FRIDAY, TODAY)

    assert isinstance(batch.failure, RateLimited)
    assert batch.failure.provider == "defillama"
    assert len(lab.requests) == 1
    assert len(batch.errors) == 4


def test_a_rest_that_the_provider_asks_for_is_taken(
    lab: DefillamaLab, llama: DefillamaFundamentals, waits: Waits
) -> None:
    lab.inject("rate_limited_retry_after", times=1)

    assert len(fetch_tvl(llama).values) == 2
    assert RETRY_AFTER_SECONDS in waits.seconds


def test_one_server_error_is_got_over(lab: DefillamaLab, llama: DefillamaFundamentals) -> None:
    lab.inject("server_error", times=1)

    assert len(fetch_tvl(llama).values) == 2
    assert llama.gate.counts.retries == 1


@pytest.mark.parametrize("fault", ["server_error", "cut_body", "slow_drip", "html", "silence"])
def test_a_broken_answer_is_an_error_and_never_no_data(
    lab: DefillamaLab, llama: DefillamaFundamentals, fault: TransportFault
) -> None:
    lab.inject(fault)

    batch = fetch_tvl(llama)

    assert isinstance(batch.failure, TransientError)
    assert batch.failure.provider == "defillama"
    assert list(batch.errors) == ["aave tvl"]
    assert batch.empty_reasons == {}


def test_a_refused_address_is_an_error_of_that_name(
    lab: DefillamaLab, llama: DefillamaFundamentals
) -> None:
    lab.inject("invalid_credentials")

    failure = fetch_tvl(llama).failure

    assert isinstance(failure, AuthError)
    assert "asks for no key" in str(failure)


def test_a_refused_connection_is_an_error_and_never_no_data(
    lab: DefillamaLab, llama: DefillamaFundamentals
) -> None:
    lab.stop()

    assert isinstance(fetch_tvl(llama).failure, TransientError)


# --- settings -----------------------------------------------------------------------------


def test_protocols_are_read_from_a_list_and_each_counts_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SCIZOR_DEFILLAMA_PROTOCOLS", "Lido, curve-dex,,lido")
    assert Settings().defillama_protocols == ("lido", "curve-dex")


@pytest.mark.parametrize("slug", ["../tvl", "aave?x=1", "aave/v3", "a b", "-"])
def test_what_cannot_be_part_of_an_address_is_no_protocol(slug: str) -> None:
    with pytest.raises(ConfigError, match="SCIZOR_DEFILLAMA_PROTOCOLS"):
        load_settings(defillama_protocols=slug)


# --- the contract and the jumps -----------------------------------------------------------


def row(day: str, value: float, *, metric: str = "tvl", final: bool = True) -> dict[str, Any]:
    return {
        "protocol": "aave",
        "metric": metric,
        "day": pd.Timestamp(day),
        "value_usd": value,
        "is_final": final,
        "point_at": pd.Timestamp(day, tz="UTC"),
        "observed_at": pd.Timestamp(NOW),
        "protocol_name": "Aave",
        "source": "defillama",
    }


@pytest.mark.parametrize(
    "change",
    [
        {"value_usd": -1.0},
        {"value_usd": float("nan")},
        {"value_usd": float("inf")},
        {"metric": "tvl_borrowed"},
        {"day": pd.Timestamp("2026-11-20T01:00")},
        {"point_at": pd.Timestamp("2026-11-19", tz="UTC")},
        {"observed_at": pd.Timestamp("2026-11-19T23:00", tz="UTC"), "is_final": False},
        {"observed_at": pd.Timestamp("2026-11-20T23:00", tz="UTC")},
        {"protocol": ""},
    ],
    ids=lambda change: "-".join(change),
)
def test_what_breaks_the_contract_is_refused(change: dict[str, Any]) -> None:
    frame = fundamentals_frame([{**row("2026-11-20", 1.0), **change}])

    with pytest.raises(ContractError, match="protocol_fundamentals"):
        validate_fundamentals(frame)


def test_a_day_given_twice_breaks_the_contract() -> None:
    with pytest.raises(ContractError):
        validate_fundamentals(fundamentals_frame([row("2026-11-20", 1.0), row("2026-11-20", 2.0)]))


@pytest.mark.parametrize(
    ("metric", "before", "value", "found"),
    [
        ("tvl", 100.0, 150.0, False),
        ("tvl", 100.0, 150.1, True),
        ("tvl", 150.1, 100.0, True),
        ("tvl", 0.0, 1.0, True),
        ("tvl", 1.0, 0.0, True),
        ("tvl", 0.0, 0.0, False),
        ("fees", 100.0, 1000.0, False),
        ("fees", 100.0, 1000.1, True),
        ("chain_tvl", 100.0, 150.0, False),
        ("chain_tvl", 100.0, 150.1, True),
        ("stablecoin_supply", 100.0, 120.0, False),
        ("stablecoin_supply", 120.1, 100.0, True),
    ],
)
def test_a_value_far_from_the_day_before_is_a_jump(
    metric: str, before: float, value: float, found: bool
) -> None:
    values = fundamentals_frame(
        [row("2026-11-19", before, metric=metric), row("2026-11-20", value, metric=metric)]
    )

    jumps = find_jumps(values, FRIDAY)

    assert [jump["value_usd"] for jump in jumps] == ([value] if found else [])


def test_a_partial_day_a_gap_and_days_before_are_not_judged() -> None:
    values = fundamentals_frame(
        [
            row("2026-11-15", 1.0),
            row("2026-11-16", 100.0),
            row("2026-11-18", 1.0),
            row("2026-11-19", 1.0),
            row("2026-11-20", 100.0, final=False),
        ]
    )

    assert find_jumps(values, date(2026, 11, 17)) == []


# --- the published specification ----------------------------------------------------------

RECORDINGS = os.environ.get("SCIZOR_RECORDINGS", "")


@pytest.mark.skipif(
    not (Path(RECORDINGS) / "defillama").is_dir(),
    reason="set SCIZOR_RECORDINGS to a directory of published payloads (defillama/)",
)
@pytest.mark.parametrize(
    ("path", "host", "fields"),
    [
        ("/protocol/{protocol}", "https://api.llama.fi", {"name", "chainTvls"}),
        ("/summary/fees/{protocol}", "https://api.llama.fi", {"name", "totalDataChart"}),
        ("/summary/dexs/{protocol}", "https://api.llama.fi", {"name", "totalDataChart"}),
        ("/v2/historicalChainTvl/{chain}", "https://api.llama.fi", {"date", "tvl"}),
        # It does not have the field that is added up, `totalCirculatingUSD`.
        ("/stablecoincharts/{chain}", "https://stablecoins.llama.fi", {"date"}),
        ("/stablecoincharts/all", "https://stablecoins.llama.fi", {"date"}),
    ],
)
def test_addresses_and_fields_stand_in_the_published_specification(
    path: str, host: str, fields: set[str]
) -> None:
    published = json.loads(
        (Path(RECORDINGS) / "defillama" / "defillama-openapi-free.json").read_text()
    )
    asked = published["paths"][path]["get"]
    shape = asked["responses"]["200"]["content"]["application/json"]["schema"]

    assert fields <= set(shape.get("items", shape)["properties"])
    assert [each["url"] for each in asked.get("servers", published["servers"])] == [host]
