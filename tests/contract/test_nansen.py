"""NansenSmartMoney against its lab. Payloads are written by hand from the published fields."""

import json
import os
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pydantic import SecretStr

from scizor_core.schemas.on_chain import ON_CHAIN_COLUMNS, validate_on_chain
from scizor_resources.errors import AuthError, BadRequest, RateLimited, SchemaDrift, TransientError
from scizor_resources.providers.gate import Gate
from scizor_resources.providers.metrics import MetricBatch
from scizor_resources.providers.nansen.client import NansenSmartMoney
from scizor_resources.settings import Settings
from tests.contract.lab.nansen_ledger import (
    FLOW,
    HOLDINGS,
    KEY,
    NETFLOW,
    NansenLab,
    flow,
    holding,
)
from tests.contract.lab.server import Reply

NOW = datetime(2026, 11, 21, 10, 30, tzinfo=UTC)
TODAY = date(2026, 11, 21)
UNI, WIF = (
    "0x1f9840a85d5aF5bf1D1762F925BDADdC4201F984",
    "EKpQGSJtjMFqKZ9KQanSqYXRcF8fBopzLHYxdM65zcjm",
)


@pytest.fixture
def lab() -> Iterator[NansenLab]:
    with NansenLab() as running:
        running.tables[NETFLOW] = [flow("ethereum", UNI, "UNI"), flow("solana", WIF, "$wif")]
        running.tables[HOLDINGS] = [holding("ethereum", UNI, "UNI")]
        yield running


@pytest.fixture
def nansen(lab: NansenLab) -> Iterator[NansenSmartMoney]:
    made = client(lab)
    yield made
    made.close()


def client(lab: NansenLab, key: SecretStr | None = SecretStr(KEY)) -> NansenSmartMoney:  # noqa: B008
    return NansenSmartMoney(
        Gate("nansen", sleep=lambda _seconds: None),
        base_url=lab.url,
        key=key,
        timeout_seconds=2.0,
        now=lambda: NOW,
    )


def fetch(nansen: NansenSmartMoney, *chains: str) -> MetricBatch:
    return nansen.fetch(chains or ("ethereum", "solana"), TODAY)


def flows(batch: MetricBatch) -> dict[str, float]:
    rows = batch.values[batch.values["metric"] == FLOW]
    return dict(zip(rows["asset"], rows["value"], strict=True))


# --- rows ---------------------------------------------------------------------------------


def test_each_number_of_a_token_is_a_metric_of_the_running_day(nansen: NansenSmartMoney) -> None:
    batch = fetch(nansen, "ethereum")

    assert tuple(batch.values.columns) == ON_CHAIN_COLUMNS
    assert dict(zip(batch.values["metric"], batch.values["value"], strict=True)) == {
        "smart_money/net_flow_1h_usd": 1.5,
        "smart_money/net_flow_24h_usd": 24.5,
        "smart_money/net_flow_7d_usd": -7.5,
        "smart_money/net_flow_30d_usd": 30.5,
        "smart_money/traders": 3.0,
        "smart_money/holdings_usd": 1000.25,
        "smart_money/holders": 12.0,
    }
    same = batch.values.drop(columns=["metric", "value"]).drop_duplicates()
    assert same.to_dict("records") == [
        {
            "source": "nansen",
            "asset": "UNI",
            "asset_id": "0x1f9840a85d5af5bf1d1762f925bdaddc4201f984",
            "chain": "ethereum",
            "resolution": "snapshot",
            "ts": pd.Timestamp("2026-11-21", tz="UTC"),
            "is_final": False,
            "observed_at": pd.Timestamp(NOW),
        }
    ]
    assert validate_on_chain(batch.values) is not None


def test_an_address_keeps_its_case_where_case_means_something(nansen: NansenSmartMoney) -> None:
    assert set(fetch(nansen, "solana").values["asset_id"]) == {WIF}


def test_tokens_of_the_same_symbol_are_kept_apart(lab: NansenLab, nansen: NansenSmartMoney) -> None:
    lab.tables[NETFLOW] = [
        flow("ethereum", UNI, "UNI", net_flow_24h_usd=1),
        flow("ethereum", "0xBAD", "UNI", net_flow_24h_usd=2),
        flow("base", UNI, "UNI", net_flow_24h_usd=3),
    ]

    values = fetch(nansen, "ethereum", "base").values
    rows = values[values["metric"] == FLOW]

    assert sorted(zip(rows["chain"], rows["asset_id"], rows["value"], strict=True)) == [
        ("base", UNI.lower(), 3.0),
        ("ethereum", "0x1f9840a85d5af5bf1d1762f925bdaddc4201f984", 1.0),
        ("ethereum", "0xbad", 2.0),
    ]


@pytest.mark.parametrize("symbol", ["🦄", "بيتكوين", "币安人生", "A\u202eB"])
def test_symbols_come_through_in_any_script(
    lab: NansenLab, nansen: NansenSmartMoney, symbol: str
) -> None:
    lab.tables[NETFLOW] = [flow("ethereum", UNI, symbol)]

    assert flows(fetch(nansen)) == {symbol: 24.5}


def test_a_symbol_without_end_is_cut(lab: NansenLab, nansen: NansenSmartMoney) -> None:
    lab.tables[NETFLOW] = [flow("ethereum", UNI, "win 5 ETH at " * 100_000)]

    (symbol,) = flows(fetch(nansen))
    assert (len(symbol), symbol[:9]) == (64, "WIN 5 ETH")


def test_a_number_that_is_absent_is_counted_and_no_zero(
    lab: NansenLab, nansen: NansenSmartMoney
) -> None:
    lab.tables[NETFLOW] = [
        flow("ethereum", UNI, "UNI", net_flow_24h_usd=None),
        flow("solana", WIF, "WIF", net_flow_24h_usd=0),
    ]

    batch = fetch(nansen)

    assert flows(batch) == {"WIF": 0.0}
    assert batch.notes == ["smart_money/netflow: 1 rows without a value in net_flow_24h_usd"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"net_flow_24h_usd": "12"}, "net_flow_24h_usd: the value is not a number"),
        ({"net_flow_24h_usd": float("inf")}, "net_flow_24h_usd: the value is not a finite"),
        ({"token_address": None}, "it lacks 'token_address'"),
        ({"token_address": "0x\0"}, "its 'token_address' is none"),
        ({"token_symbol": ""}, "it lacks 'token_symbol'"),
        ({"chain": 1}, "it lacks 'chain'"),
    ],
    ids=["text", "infinite", "no address", "nul", "no symbol", "odd chain"],
)
def test_a_row_that_cannot_be_read_is_refused_with_its_reason_and_the_rest_kept(
    lab: NansenLab, nansen: NansenSmartMoney, change: dict[str, Any], reason: str
) -> None:
    label = {"trader_address_label": "Jane Trader"}
    lab.answers[NETFLOW] = Reply(
        {
            "data": [
                {**flow("ethereum", UNI, "UNI"), **label, **change},
                flow("solana", WIF, "WIF"),
            ],
            "pagination": {"page": 1, "per_page": 100, "is_last_page": True},
        }
    )

    batch = fetch(nansen)

    assert flows(batch) == {"WIF": 24.5}
    (row,) = batch.rejected.to_dict("records")
    assert row["reason"].startswith(reason)
    assert (row["origin"], row["row_number"]) == (NETFLOW, 1)
    assert "Jane" not in repr(row)


# --- pages --------------------------------------------------------------------------------


def test_pages_are_asked_for_in_turn_the_largest_first(
    lab: NansenLab, nansen: NansenSmartMoney
) -> None:
    lab.tables[NETFLOW] = [flow("ethereum", f"0x{n}", f"T{n}") for n in range(5)]
    lab.page_size = 2

    assert len(flows(fetch(nansen))) == 5
    netflow = [body for body in lab.bodies if body["order_by"][0]["field"] == "net_flow_24h_usd"]
    assert [body["pagination"]["page"] for body in netflow] == [1, 2, 3]
    assert netflow[0] == {
        "chains": ["ethereum", "solana"],
        "filters": {},
        "order_by": [{"field": "net_flow_24h_usd", "direction": "DESC"}],
        "pagination": {"page": 1, "per_page": 100},
    }


def test_a_token_that_moves_between_two_pages_counts_once(
    lab: NansenLab, nansen: NansenSmartMoney
) -> None:
    lab.tables[NETFLOW] = [
        flow("ethereum", UNI, "UNI", net_flow_24h_usd=9),
        flow("ethereum", UNI.lower(), "UNI", net_flow_24h_usd=8),
    ]
    lab.page_size = 1

    assert flows(fetch(nansen)) == {"UNI": 8.0}


def test_a_page_that_is_empty_but_not_the_last_ends_the_pages_and_is_said(
    lab: NansenLab, nansen: NansenSmartMoney
) -> None:
    lab.answers[NETFLOW] = Reply({"data": [], "pagination": {"page": 1, "is_last_page": False}})

    batch = fetch(nansen)

    assert not batch.complete
    assert "page 1 is empty" in batch.notes[0]
    assert len(lab.requests) == 2


# --- the day ------------------------------------------------------------------------------


@pytest.mark.parametrize("day", [TODAY - timedelta(days=1), TODAY + timedelta(days=1)])
def test_another_day_than_the_running_one_cannot_be_had_and_nothing_is_asked(
    lab: NansenLab, nansen: NansenSmartMoney, day: date
) -> None:
    batch = nansen.fetch(["ethereum"], day)

    assert batch.values.empty
    assert tuple(batch.values.columns) == ON_CHAIN_COLUMNS
    assert "only the present" in batch.empty_reasons["smart_money/netflow"]
    assert lab.requests == []


def test_a_chain_without_tokens_is_said(nansen: NansenSmartMoney) -> None:
    batch = fetch(nansen, "ethereum", "base")

    assert sorted(batch.empty_reasons) == [
        "smart_money/holdings base",
        "smart_money/netflow base",
    ]


# --- errors -------------------------------------------------------------------------------


def test_an_unknown_chain_does_not_keep_the_others_away(
    lab: NansenLab, nansen: NansenSmartMoney
) -> None:
    lab.unknown_chains = {"moonbeam"}

    batch = fetch(nansen, "ethereum", "moonbeam", "solana")

    assert sorted(flows(batch)) == ["$WIF", "UNI"]
    assert sorted(batch.unknown) == [
        "smart_money/holdings moonbeam",
        "smart_money/netflow moonbeam",
    ]
    assert "chain moonbeam is not supported" in batch.unknown["smart_money/netflow moonbeam"]
    assert batch.failure is None


def test_nothing_known_at_all_is_an_error_that_names_the_setting(
    lab: NansenLab, nansen: NansenSmartMoney
) -> None:
    lab.unknown_chains = {"moonbeam"}

    with pytest.raises(BadRequest, match="SCIZOR_NANSEN_CHAINS"):
        fetch(nansen, "moonbeam")


@pytest.mark.parametrize(
    "answer",
    [
        [],
        {"rows": []},
        {"data": [flow("ethereum", UNI, "UNI")]},
        {"data": [], "pagination": {"page": 1}},
        {"data": [{"net_flow_24h_usd": 1.0}], "pagination": {"is_last_page": True}},
        {"data": ["UNI"], "pagination": {"is_last_page": True}},
    ],
    ids=["list", "no data", "no pagination", "no end", "no names", "texts"],
)
def test_a_changed_shape_is_schema_drift_and_the_other_table_is_kept(
    lab: NansenLab, nansen: NansenSmartMoney, answer: Any
) -> None:
    lab.answers[NETFLOW] = Reply(answer)

    batch = fetch(nansen)

    assert isinstance(batch.failure, SchemaDrift)
    assert list(batch.errors) == ["smart_money/netflow"]
    assert set(batch.values["metric"]) == {"smart_money/holdings_usd", "smart_money/holders"}


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        (Reply({"error": "Insufficient credits"}, 403), "quota (credits) of the plan is used up"),
        (Reply({"x402Version": 1, "accepts": []}, 402), "quota (credits) of the plan is used up"),
        (Reply({"error": "Not part of your plan"}, 403), "Not part of your plan"),
    ],
    ids=["403 with words", "402", "403 of the plan"],
)
def test_what_the_key_may_not_have_is_said(
    lab: NansenLab, nansen: NansenSmartMoney, refusal: Reply, words: str
) -> None:
    lab.answers[NETFLOW] = refusal

    failure = fetch(nansen).failure

    assert isinstance(failure, AuthError)
    assert words in str(failure)


def test_a_used_up_quota_ends_the_asking(lab: NansenLab, nansen: NansenSmartMoney) -> None:
    lab.quota_exhausted = True

    batch = fetch(nansen)

    assert len(lab.requests) == 1
    assert sorted(batch.errors) == ["smart_money/holdings", "smart_money/netflow"]


def test_an_echoed_key_is_taken_out_of_the_error(lab: NansenLab, nansen: NansenSmartMoney) -> None:
    lab.inject("invalid_credentials")

    failure = fetch(nansen).failure

    assert "Invalid API key <key>" in str(failure)


def test_what_came_before_a_failure_is_kept(lab: NansenLab, nansen: NansenSmartMoney) -> None:
    lab.answers[HOLDINGS] = Reply({"error": "Gateway timeout"}, 504)

    batch = fetch(nansen)

    assert isinstance(batch.failure, TransientError)
    assert sorted(flows(batch)) == ["$WIF", "UNI"]


def test_too_many_calls_without_a_time_to_come_back_say_what_may_be(
    lab: NansenLab, nansen: NansenSmartMoney
) -> None:
    lab.inject("rate_limited")

    failure = fetch(nansen).failure

    assert isinstance(failure, RateLimited)
    assert "may be used up" in str(failure)


def test_without_a_key_nothing_is_asked(lab: NansenLab) -> None:
    with pytest.raises(AuthError, match="SCIZOR_NANSEN_API_KEY"):
        fetch(client(lab, None))
    assert lab.requests == []


# --- recordings ---------------------------------------------------------------------------

RECORDINGS = os.environ.get("SCIZOR_RECORDINGS", "")


@pytest.mark.skipif(
    not (Path(RECORDINGS) / "nansen").is_dir(),
    reason="set SCIZOR_RECORDINGS to a directory of recorded payloads (nansen/)",
)
def test_the_vendor_knows_the_tables_and_the_chains_that_are_followed_by_default() -> None:
    schema = json.loads((Path(RECORDINGS) / "nansen" / "schema.json").read_text())
    smart_money = schema["commands"]["research"]["subcommands"]["smart-money"]["subcommands"]

    assert {"netflow", "holdings"} <= set(smart_money)
    assert set(Settings().nansen_chains) <= set(schema["chains"])
