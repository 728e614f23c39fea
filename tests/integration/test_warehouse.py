"""What a write does to the tables: new, equal, changed, simulated and refused rows."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scizor_core.errors import ContractError
from scizor_core.schemas.bars import BAR_COLUMNS
from scizor_resources.stores.merging import LOAD_ROWS, WriteResult
from scizor_resources.stores.warehouse import Warehouse
from tests.conftest import Database

EPOCH, END = datetime(1990, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
STORED = f"SELECT {', '.join(BAR_COLUMNS)} FROM market.bars ORDER BY instrument_id, timeframe, ts"


@pytest.fixture
def warehouse(database: Database) -> Iterator[Warehouse]:
    opened = Warehouse(database.libpq_url)
    with opened.connect() as connection:
        connection.execute(
            "INSERT INTO public.symbols (market, symbol, currency) "
            "SELECT 'us', 'SYM' || n, 'USD' FROM generate_series(1, 5) AS n"
        )
    yield opened
    opened.close()


def bars(
    instruments: int = 2, count: int = 10, start: str = "2024-03-04 14:30", **columns: object
) -> pd.DataFrame:
    """Return one-minute bars; bar n of instrument i closes at 10 * i + n / 100."""
    ids = np.repeat(np.arange(1, instruments + 1), count)
    number = np.tile(np.arange(count), instruments)
    ts = pd.Timestamp(start, tz="UTC") + pd.to_timedelta(number, unit="min")
    close = 10.0 * ids + number / 100
    frame = pd.DataFrame(
        {
            "instrument_id": ids,
            "timeframe": pd.Series("1m", index=range(len(ids)), dtype="str"),
            "ts": pd.Series(ts).astype("datetime64[us, UTC]"),
            "session_date": pd.Series(ts.tz_localize(None).normalize()).astype("datetime64[us]"),
            "open": close,
            "high": close + 0.5,
            "low": close - 0.5,
            "close": close,
            "volume": 100.0 + number,
            "vwap": np.where(number % 3 == 0, np.nan, close),
            "trade_count": pd.array(np.where(number % 4 == 0, 0, number), dtype="Int64"),
            "adj_close": np.nan,
            "source": pd.Series("tape", index=range(len(ids)), dtype="str"),
            "is_final": number % 5 != 0,
        }
    )
    frame.loc[number % 4 == 0, "trade_count"] = pd.NA
    return frame.assign(**columns).astype({"source": "str", "timeframe": "str"})


def rows(warehouse: Warehouse, sql: str) -> list[dict[str, Any]]:
    with warehouse.connect() as connection:
        return connection.execute(sql).fetchall()


def fingerprint(warehouse: Warehouse) -> object:
    """Return a hash of every column of every row, arrival and place on disk included."""
    answer = rows(
        warehouse,
        "SELECT md5(string_agg(b::text || b.ctid::text || b.xmin::text, '' "
        "ORDER BY instrument_id, timeframe, ts)) AS hash FROM market.bars AS b",
    )
    return answer[0]["hash"]


def test_new_rows_are_inserted(warehouse: Warehouse) -> None:
    assert warehouse.write_bars(bars()) == WriteResult(inserted=20)
    assert len(rows(warehouse, STORED)) == 20


def test_no_rows_are_no_write(warehouse: Warehouse) -> None:
    assert warehouse.write_bars(bars().head(0)) == WriteResult()


def test_values_come_back_as_they_went_in(warehouse: Warehouse) -> None:
    frame = bars(source=["é" * (n % 3 + 1) for n in range(20)])
    frame.loc[3, ["open", "high", "low", "close"]] = [2e-300, 1.7e308, 1e-300, 1 / 3]
    frame.loc[4, "trade_count"] = 2**53 - 1
    warehouse.write_bars(frame)
    stored = warehouse.read_bars("1m", EPOCH, END)
    assert set(stored["symbol"]) == {"SYM1", "SYM2"}
    pd.testing.assert_frame_equal(
        stored[[name for name in BAR_COLUMNS if name != "timeframe"]],
        frame.drop(columns="timeframe").astype({"instrument_id": "int32"}),
    )


def test_nan_becomes_null_and_comes_back_as_nan(warehouse: Warehouse) -> None:
    warehouse.write_bars(bars(instruments=1, count=1))
    stored = rows(warehouse, STORED)[0]
    assert (stored["vwap"], stored["adj_close"], stored["trade_count"]) == (None, None, None)
    read = warehouse.read_bars("1m", EPOCH, END).iloc[0]
    assert np.isnan(read["vwap"])
    assert np.isnan(read["adj_close"])
    assert read["trade_count"] is pd.NA


@pytest.mark.parametrize("count", [10, LOAD_ROWS], ids=["merged by key", "merged by range"])
def test_a_rerun_changes_nothing(warehouse: Warehouse, count: int) -> None:
    frame = bars(count=count)
    warehouse.write_bars(frame)
    before = fingerprint(warehouse)
    assert warehouse.write_bars(frame) == WriteResult(unchanged=2 * count)
    assert fingerprint(warehouse) == before
    assert rows(warehouse, "SELECT * FROM market.bar_revisions") == []


@pytest.mark.parametrize("count", [10, LOAD_ROWS], ids=["merged by key", "merged by range"])
def test_a_changed_row_is_updated_and_its_old_values_kept_once(
    warehouse: Warehouse, count: int
) -> None:
    frame = bars(count=count)
    warehouse.write_bars(frame)
    first_arrival = rows(warehouse, "SELECT max(ingested_at) AS at FROM market.bars")[0]["at"]
    changed = frame.copy()
    changed.loc[7, "close"] = 10.2
    changed.loc[7, "source"] = "yahoo"
    expected = WriteResult(changed=1, unchanged=2 * count - 1)
    assert warehouse.write_bars(changed) == expected
    assert warehouse.write_bars(changed) == WriteResult(unchanged=2 * count)
    (revision,) = rows(warehouse, "SELECT * FROM market.bar_revisions")
    assert (revision["instrument_id"], revision["ts"]) == (1, frame["ts"][7].to_pydatetime())
    assert (revision["close"], revision["source"]) == (10.07, "tape")
    assert revision["superseded_by"] == "yahoo"
    assert revision["ingested_at"] == first_arrival
    later = rows(warehouse, f"SELECT * FROM market.bars WHERE ingested_at > '{first_arrival}'")
    assert [(row["close"], row["source"]) for row in later] == [(10.2, "yahoo")]


def test_a_missing_value_that_arrives_later_is_a_change(warehouse: Warehouse) -> None:
    frame = bars(instruments=1, count=1)
    warehouse.write_bars(frame)
    assert warehouse.write_bars(frame.assign(vwap=10.0)) == WriteResult(changed=1)


def test_new_and_changed_and_equal_rows_may_come_together(warehouse: Warehouse) -> None:
    warehouse.write_bars(bars(count=10))
    frame = bars(count=12)
    frame.loc[0, "volume"] = 7.0
    assert warehouse.write_bars(frame) == WriteResult(inserted=4, changed=1, unchanged=19)


def test_simulated_rows_never_replace_real_ones(warehouse: Warehouse) -> None:
    warehouse.write_bars(bars())
    before = fingerprint(warehouse)
    simulated = bars(count=11, source="simulated:1").assign(volume=1.0)
    assert warehouse.write_bars(simulated) == WriteResult(inserted=2, protected=20)
    with warehouse.connect() as connection:
        connection.execute("DELETE FROM market.bars WHERE source = 'simulated:1'")
    assert fingerprint(warehouse) == before
    assert rows(warehouse, "SELECT * FROM market.bar_revisions") == []


def test_real_rows_replace_simulated_ones(warehouse: Warehouse) -> None:
    warehouse.write_bars(bars(source="simulated:1"))
    assert warehouse.write_bars(bars()) == WriteResult(changed=20)
    assert {row["source"] for row in rows(warehouse, STORED)} == {"tape"}
    revisions = rows(warehouse, "SELECT source, superseded_by FROM market.bar_revisions")
    assert revisions == [{"source": "simulated:1", "superseded_by": "tape"}] * 20


@pytest.mark.parametrize(
    ("column", "value", "check"),
    [
        ("instrument_id", 0, "greater_than(0)"),
        ("timeframe", "2m", "isin"),
        ("ts", pd.NaT, "not_nullable"),
        ("session_date", pd.NaT, "not_nullable"),
        ("open", np.nan, "not_nullable"),
        ("close", 0.0, "greater_than(0)"),
        ("high", np.inf, "less_than(inf)"),
        ("high", 19.0, "high_is_highest"),
        ("low", 20.3, "low_is_lowest"),
        ("volume", -1.0, "greater_than_or_equal_to(0)"),
        ("volume", np.inf, "less_than(inf)"),
        ("volume", np.nan, "not_nullable"),
        ("vwap", -1.0, "greater_than(0)"),
        ("adj_close", np.inf, "less_than(inf)"),
        ("trade_count", -1, "greater_than_or_equal_to(0)"),
        ("source", "", "str_length(1, 64)"),
        ("source", "x" * 65, "str_length(1, 64)"),
    ],
)
def test_a_breach_names_row_and_check_and_nothing_is_written(
    warehouse: Warehouse, column: str, value: object, check: str
) -> None:
    frame = bars()
    frame.loc[13, column] = value
    with pytest.raises(ContractError, match=r"row 13") as refused:
        warehouse.write_bars(frame)
    assert check in str(refused.value)
    assert column in str(refused.value) or "market.bars" in str(refused.value)
    assert rows(warehouse, STORED) == []


@pytest.mark.parametrize("apart", [False, True], ids=["sorted", "in any order"])
def test_a_key_that_occurs_twice_is_refused(warehouse: Warehouse, *, apart: bool) -> None:
    frame = pd.concat([bars(), bars().iloc[[5]]], ignore_index=True)
    if not apart:
        frame = frame.sort_values(["instrument_id", "ts"], ignore_index=True)
    with pytest.raises(ContractError, match="unique"):
        warehouse.write_bars(frame)
    assert rows(warehouse, STORED) == []


def partitions(warehouse: Warehouse) -> dict[str, int]:
    found = rows(
        warehouse,
        "SELECT inhrelid::regclass::text AS name FROM pg_inherits "
        "WHERE inhparent = 'market.bars'::regclass ORDER BY 1",
    )
    return {
        row["name"]: rows(warehouse, f"SELECT count(*) AS n FROM {row['name']}")[0]["n"]
        for row in found
    }


@pytest.mark.parametrize("count", [60, 3 * LOAD_ROWS], ids=["few rows", "loaded"])
def test_a_write_across_months_makes_their_partitions(warehouse: Warehouse, count: int) -> None:
    start = pd.Timestamp("2023-12-31 23:50", tz="UTC")
    frame = bars(instruments=1, count=count, start=str(start.tz_localize(None)))
    assert warehouse.write_bars(frame) == WriteResult(inserted=count)
    january = min(count - 10, 31 * 24 * 60)
    assert partitions(warehouse) == {
        "market.bars_y2023m12": 10,
        "market.bars_y2024m01": january,
    } | ({} if count == 10 + january else {"market.bars_y2024m02": count - 10 - january})


def described(warehouse: Warehouse, partition: str) -> str:
    """Return columns, constraints and indexes of a partition, its own name left out."""
    found = [
        rows(
            warehouse,
            "SELECT column_name, data_type, collation_name, is_nullable, column_default "
            f"FROM information_schema.columns WHERE table_name = '{partition}' "
            "ORDER BY ordinal_position",
        ),
        rows(
            warehouse,
            "SELECT contype, pg_get_constraintdef(oid) FROM pg_constraint "
            f"WHERE conrelid = 'market.{partition}'::regclass ORDER BY 1, 2",
        ),
        rows(warehouse, f"SELECT indexdef FROM pg_indexes WHERE tablename = '{partition}'"),
    ]
    return str(found).replace(partition, "")


def test_a_loaded_partition_is_like_one_that_was_made_empty(warehouse: Warehouse) -> None:
    warehouse.write_bars(bars(instruments=1, count=LOAD_ROWS, start="2024-03-02 00:00"))
    warehouse.write_bars(bars(instruments=1, count=5, start="2024-04-02 00:00"))
    loaded = described(warehouse, "bars_y2024m03")
    assert "PRIMARY KEY (instrument_id, timeframe, ts)" in loaded
    assert loaded == described(warehouse, "bars_y2024m04")


def at_once(*works: Callable[[], object]) -> None:
    """Run all works in threads that begin together; raises what one of them raised."""
    barrier = threading.Barrier(len(works))

    def run(work: Callable[[], object]) -> None:
        barrier.wait()
        work()

    with ThreadPoolExecutor(len(works)) as pool:
        for running in [pool.submit(run, work) for work in works]:
            running.result()


@pytest.mark.parametrize("count", [50, LOAD_ROWS], ids=["few rows", "loaded"])
def test_two_writers_of_new_rows_leave_one_row_each_and_one_revision(
    warehouse: Warehouse, database: Database, count: int
) -> None:
    frame = bars(instruments=1, count=count)
    other = Warehouse(database.libpq_url)
    at_once(
        lambda: warehouse.write_bars(frame.assign(volume=1.0)),
        lambda: other.write_bars(frame.assign(volume=2.0)),
    )
    other.close()
    volumes = rows(
        warehouse,
        "SELECT array_agg(volume ORDER BY volume) AS volumes, count(*) AS n FROM ("
        "SELECT ts, volume FROM market.bars UNION ALL "
        "SELECT ts, volume FROM market.bar_revisions) AS x GROUP BY ts",
    )
    assert len(rows(warehouse, STORED)) == count
    assert volumes == [{"volumes": [1.0, 2.0], "n": 2}] * count


def test_two_writers_of_stored_rows_lose_no_revision(
    warehouse: Warehouse, database: Database
) -> None:
    frame = bars(instruments=2, count=50)
    warehouse.write_bars(frame.assign(volume=1.0))
    others = [Warehouse(database.libpq_url) for _ in range(2)]
    for round_ in range(5):
        first, second = 2.0 + 2 * round_, 3.0 + 2 * round_
        at_once(
            lambda volume=first: others[0].write_bars(frame.assign(volume=volume)),
            # The other way round, so that locks taken row by row could meet.
            lambda volume=second: others[1].write_bars(frame.iloc[::-1].assign(volume=volume)),
        )
    for other in others:
        other.close()
    history = rows(
        warehouse,
        "SELECT array_agg(volume ORDER BY volume) AS volumes FROM ("
        "SELECT instrument_id, ts, volume FROM market.bars UNION ALL "
        "SELECT instrument_id, ts, volume FROM market.bar_revisions) AS x "
        "GROUP BY instrument_id, ts",
    )
    assert history == [{"volumes": [float(n) for n in range(1, 12)]}] * 100


def test_a_write_that_fails_half_way_leaves_nothing(warehouse: Warehouse) -> None:
    warehouse.write_bars(bars(instruments=1, count=5))
    with warehouse.connect() as connection:
        connection.execute("ALTER TABLE market.bars_y2024m03 ADD CHECK (volume < 1000)")
    before = fingerprint(warehouse)
    frame = bars(instruments=1, count=LOAD_ROWS * 6).assign(volume=1000.0)
    with pytest.raises(Exception, match="check constraint"):
        warehouse.write_bars(frame)
    assert fingerprint(warehouse) == before
    assert list(partitions(warehouse)) == ["market.bars_y2024m03"]
    assert warehouse.write_bars(bars(instruments=1, count=6)) == WriteResult(
        inserted=1, unchanged=5
    )


def test_a_server_that_ended_the_connection_is_reached_again(warehouse: Warehouse) -> None:
    warehouse.write_bars(bars())
    warehouse.read_bars("1m", EPOCH, END)
    with warehouse.connect() as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    assert warehouse.write_bars(bars()) == WriteResult(unchanged=20)
    assert len(warehouse.read_bars("1m", EPOCH, END)) == 20


def test_bars_are_read_by_market_instrument_and_time(warehouse: Warehouse) -> None:
    warehouse.write_bars(bars(instruments=3))
    first = datetime(2024, 3, 4, 14, 32, tzinfo=UTC)
    last = datetime(2024, 3, 4, 14, 35, tzinfo=UTC)
    assert len(warehouse.read_bars("1m", first, last, market="us")) == 9
    assert len(warehouse.read_bars("1m", first, last, instrument_ids=[2])) == 3
    assert warehouse.read_bars("1m", first, last, market="asx").empty
    assert warehouse.read_bars("5m", first, last).empty
    nobody = warehouse.read_bars("1m", first, last, instrument_ids=[])
    everybody = warehouse.read_bars("1m", first, last)
    assert nobody.empty
    assert nobody.dtypes.to_dict() == everybody.dtypes.to_dict()


@pytest.mark.parametrize("count", [3, 500], ids=["near", "further back than the first look"])
def test_the_bars_around_an_instant_are_found(warehouse: Warehouse, count: int) -> None:
    days = [bars(count=5, start=f"20{year}-03-04 14:30") for year in range(15, 24)]
    everything = pd.concat(days, ignore_index=True)
    warehouse.write_bars(everything)
    at = datetime(2019, 3, 4, 14, 32, tzinfo=UTC)
    for before in (True, False):
        found = warehouse.read_bars_around("1m", [2, 1], at, count, before=before)
        side = everything["ts"] < at if before else everything["ts"] >= at
        expected = everything[side].sort_values(["instrument_id", "ts"]).groupby("instrument_id")
        expected = expected.tail(count) if before else expected.head(count)
        assert found["ts"].to_list() == expected["ts"].to_list()
        assert found["close"].to_list() == expected["close"].to_list()


@given(st.data())
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_order_and_any_batches_give_the_same_table(
    warehouse: Warehouse, data: st.DataObject
) -> None:
    everything = pd.concat(
        [bars(3, 4, "2024-02-29 23:58"), bars(2, 3, "2024-03-04 14:30"), bars(1, 2, "2024-05-01")],
        ignore_index=True,
    )
    order = data.draw(st.permutations(range(len(everything))), label="order")
    cuts = sorted(data.draw(st.lists(st.integers(0, len(order)), max_size=4), label="cuts"))
    again = data.draw(st.booleans(), label="each batch twice")
    with warehouse.connect() as connection:
        connection.execute("TRUNCATE market.bars, market.bar_revisions")
    inserted = 0
    for start, end in zip([0, *cuts], [*cuts, len(order)], strict=True):
        batch = everything.iloc[order[start:end]]
        inserted += warehouse.write_bars(batch).inserted
        if again:
            assert warehouse.write_bars(batch) == WriteResult(unchanged=len(batch))
    assert inserted == len(everything)
    stored = warehouse.read_bars("1m", EPOCH, END)
    pd.testing.assert_frame_equal(
        stored[[name for name in BAR_COLUMNS if name != "timeframe"]],
        everything.sort_values(["instrument_id", "ts"], ignore_index=True)
        .drop(columns="timeframe")
        .astype({"instrument_id": "int32"}),
    )
    assert rows(warehouse, "SELECT * FROM market.bar_revisions") == []
