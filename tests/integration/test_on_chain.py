"""On-chain metrics in PostgreSQL, and what was known when."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pandas as pd
import pytest

from scizor_core.errors import ContractError, InvalidInputError
from scizor_core.schemas.on_chain import ON_CHAIN_COLUMNS, on_chain_frame, validate_on_chain
from scizor_resources.platform import Platform
from scizor_resources.stores.on_chain import OnChainStore
from scizor_resources.stores.restated import RestatedWritten

from .helpers import query

FRIDAY, SATURDAY, SUNDAY = (datetime(2026, 11, day, tzinfo=UTC) for day in (20, 21, 22))
DURING = FRIDAY + timedelta(hours=18)
MORNING, NOON = SATURDAY + timedelta(hours=6), SATURDAY + timedelta(hours=12)


@pytest.fixture
def store(platform: Platform) -> OnChainStore:
    return OnChainStore(platform.warehouse)


def values(value: float, observed_at: datetime = MORNING, **change: Any) -> pd.DataFrame:
    """Return one value of Friday as a source gives it."""
    return on_chain_frame(
        [
            {
                "source": "glassnode",
                "metric": "market/mvrv",
                "asset": "BTC",
                "asset_id": "",
                "chain": "",
                "resolution": "24h",
                "ts": FRIDAY,
                "value": value,
                "is_final": observed_at >= SATURDAY,
                "observed_at": observed_at,
                **change,
            }
        ]
    )


def rows(platform: Platform) -> list[dict[str, Any]]:
    return query(platform, "SELECT * FROM glass.on_chain_metric_values ORDER BY observed_at")


def known(platform: Platform) -> list[tuple[float, bool]]:
    return [(row["value"], row["is_final"]) for row in rows(platform)]


def test_what_is_written_is_read_as_it_was(store: OnChainStore) -> None:
    given = pd.concat(
        [values(1.5), values(-2.25, asset="UNI", asset_id="0xabc", chain="base", source="nansen")],
        ignore_index=True,
    )

    assert store.write(given) == RestatedWritten(new=2)

    read = store.read(FRIDAY, SATURDAY)
    assert tuple(read.columns) == ON_CHAIN_COLUMNS
    assert validate_on_chain(read).to_dict("records") == given.to_dict("records")


def test_writing_the_same_again_changes_nothing(platform: Platform, store: OnChainStore) -> None:
    store.write(values(1.5))
    before = rows(platform)

    assert store.write(values(1.5)) == RestatedWritten(unchanged=1)
    assert store.write(values(1.5, NOON)) == RestatedWritten(unchanged=1)
    assert rows(platform) == before


def test_a_restated_value_is_kept_beside_the_old_one(
    platform: Platform, store: OnChainStore
) -> None:
    store.write(values(1.5))

    assert store.write(values(1.75, NOON)) == RestatedWritten(restated=1)

    assert [(row["value"], row["observed_at"]) for row in rows(platform)] == [
        (1.5, MORNING),
        (1.75, NOON),
    ]
    assert query(platform, "SELECT value FROM public.on_chain_metrics") == [{"value": 1.75}]


@pytest.mark.parametrize(
    ("as_of", "expected"),
    [
        (MORNING - timedelta(microseconds=1), []),
        (MORNING, [1.5]),
        (NOON - timedelta(microseconds=1), [1.5]),
        (NOON, [1.75]),
        (None, [1.5]),
    ],
    ids=["before", "first", "between", "second", "latest"],
)
def test_as_of_returns_what_was_known_then(
    store: OnChainStore, as_of: datetime | None, expected: list[float]
) -> None:
    for value, at in ((1.5, MORNING), (1.75, NOON), (1.5, SUNDAY)):
        store.write(values(value, at))

    assert list(store.read(FRIDAY, SATURDAY, as_of=as_of)["value"]) == expected


def test_a_partial_value_becomes_final_even_if_it_stays_as_it_was(
    platform: Platform, store: OnChainStore
) -> None:
    store.write(values(1.5, DURING))

    assert store.write(values(1.5, MORNING)) == RestatedWritten(restated=1)
    assert known(platform) == [(1.5, False), (1.5, True)]


def test_an_observation_older_than_what_is_known_adds_nothing(
    platform: Platform, store: OnChainStore
) -> None:
    store.write(values(1.5, NOON))

    assert store.write(values(1.75, MORNING)) == RestatedWritten(unchanged=1)
    assert known(platform) == [(1.5, True)]


def test_two_writers_of_the_same_restatement_keep_it_once(
    platform: Platform, store: OnChainStore
) -> None:
    store.write(values(1.5))
    frames = [values(1.75, at) for at in (NOON, NOON + timedelta(seconds=1))]

    with ThreadPoolExecutor(2) as pool:
        written = list(pool.map(store.write, frames))

    assert sorted(each.restated for each in written) == [0, 1]
    assert known(platform) == [(1.5, True), (1.75, True)]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"metrics": ["market/mvrv"]}, {1.0, 3.0}),
        ({"assets": ["ETH"]}, {3.0}),
        ({"sources": ["nansen"]}, {2.0}),
        ({"assets": []}, set()),
        ({"metrics": ["market/mvrv"], "assets": ["BTC"]}, {1.0}),
    ],
    ids=["metric", "asset", "source", "none", "both"],
)
def test_a_read_can_be_of_some_metrics_assets_and_sources(
    store: OnChainStore, wanted: dict[str, list[str]], expected: set[float]
) -> None:
    for frame in (
        values(1.0),
        values(2.0, metric="smart_money/holders", source="nansen"),
        values(3.0, asset="ETH"),
    ):
        store.write(frame)

    assert set(store.read(FRIDAY, SATURDAY, **wanted)["value"]) == expected


def test_a_day_stands_for_its_midnight(store: OnChainStore) -> None:
    store.write(values(1.5))
    store.write(values(2.5, NOON, ts=SATURDAY, is_final=False))

    assert list(store.read(date(2026, 11, 20), date(2026, 11, 21))["value"]) == [1.5]


def test_times_without_a_zone_are_refused(store: OnChainStore) -> None:
    for asked in (
        {"start": FRIDAY.replace(tzinfo=None), "end": SATURDAY},
        {"start": FRIDAY, "end": SATURDAY, "as_of": NOON.replace(tzinfo=None)},
    ):
        with pytest.raises(InvalidInputError, match="no time zone"):
            store.read(**asked)


def test_a_frame_that_breaks_the_contract_is_not_written(
    platform: Platform, store: OnChainStore
) -> None:
    with pytest.raises(ContractError):
        store.write(values(float("nan")))

    assert rows(platform) == []


def test_nothing_is_written_for_nothing(store: OnChainStore) -> None:
    assert store.write(on_chain_frame([])) == RestatedWritten()
