"""The contract of on-chain metrics."""

from typing import Any

import pandas as pd
import pytest

from scizor_core.errors import ContractError
from scizor_core.schemas.on_chain import ON_CHAIN_COLUMNS, on_chain_frame, validate_on_chain

NOW = pd.Timestamp("2026-11-21T10:30", tz="UTC")


def at(text: str) -> pd.Timestamp:
    return pd.Timestamp(text, tz="UTC")


def row(**change: Any) -> dict[str, Any]:
    return {
        "source": "glassnode",
        "metric": "market/mvrv",
        "asset": "BTC",
        "asset_id": "",
        "chain": "",
        "resolution": "24h",
        "ts": at("2026-11-20"),
        "value": 1.5,
        "is_final": True,
        "observed_at": NOW,
        **change,
    }


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"value": -1e18},
        {"ts": at("2026-11-21"), "is_final": False},
        {"ts": at("2026-11-21T10:20"), "resolution": "10m"},
        {"ts": at("2009-01-03")},
        {"ts": at("2026-11-21"), "resolution": "snapshot", "is_final": False},
        {"asset": "币安人生", "asset_id": "0xabc", "chain": "bnb"},
        {"metric": "distribution/supply.exchanges"},
    ],
    ids=["day", "negative", "partial", "ten minutes", "first block", "snapshot", "token", "part"],
)
def test_what_keeps_the_contract_passes(change: dict[str, Any]) -> None:
    assert len(validate_on_chain(on_chain_frame([row(**change)]))) == 1


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"value": float("nan")}, "value"),
        ({"value": float("inf")}, "value"),
        ({"value": float("-inf")}, "value"),
        ({"asset": "btc"}, "asset_is_upper_case"),
        ({"asset": ""}, "asset"),
        ({"metric": ""}, "metric"),
        ({"source": ""}, "source"),
        ({"resolution": "1w"}, "resolution"),
        ({"ts": at("2026-11-20T01:00")}, "ts_starts_an_interval"),
        ({"ts": at("2026-11-20T10:05"), "resolution": "10m"}, "ts_starts_an_interval"),
        ({"ts": at("2009-01-02")}, "ts"),
        ({"ts": at("2026-11-22"), "is_final": False}, "ts_is_not_in_the_future"),
        ({"ts": at("2026-11-21")}, "final_only_after_the_interval"),
        ({"ts": at("2026-11-21T10:00"), "resolution": "1h"}, "final_only_after_the_interval"),
        ({"resolution": "snapshot"}, "snapshot_is_never_final"),
    ],
)
def test_what_breaks_the_contract_is_refused_by_name(change: dict[str, Any], check: str) -> None:
    with pytest.raises(ContractError, match=f"on_chain_metrics.*{check}"):
        validate_on_chain(on_chain_frame([row(**change)]))


def test_a_value_given_twice_breaks_the_contract() -> None:
    with pytest.raises(ContractError):
        validate_on_chain(on_chain_frame([row(), row(value=2.0)]))


@pytest.mark.parametrize("name", ["asset_id", "chain"])
def test_token_and_chain_are_part_of_what_a_value_is_of(name: str) -> None:
    frame = on_chain_frame([row(), row(**{name: "base"})])

    assert len(validate_on_chain(frame)) == 2


def test_a_frame_has_the_columns_in_order_and_times_in_microseconds() -> None:
    for rows in ([], [row()]):
        frame = on_chain_frame(rows)
        assert tuple(frame.columns) == ON_CHAIN_COLUMNS
        assert str(frame.dtypes["ts"]) == str(frame.dtypes["observed_at"]) == "datetime64[us, UTC]"


def test_rows_are_ordered_by_what_they_are_values_of() -> None:
    frame = on_chain_frame(
        [row(), row(asset="AAVE"), row(ts=at("2026-11-19")), row(metric="addresses/active_count")]
    )

    assert [tuple(each) for each in frame[["metric", "asset", "ts"]].to_numpy()] == [
        ("addresses/active_count", "BTC", at("2026-11-20")),
        ("market/mvrv", "AAVE", at("2026-11-20")),
        ("market/mvrv", "BTC", at("2026-11-19")),
        ("market/mvrv", "BTC", at("2026-11-20")),
    ]
