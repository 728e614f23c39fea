"""The sessions of the markets as a table: written once, corrected, never touched otherwise."""

from collections.abc import Iterator
from datetime import UTC, date, datetime

import dagster as dg
import pytest

from scizor_assets.reference import sessions
from scizor_core.sessions import Session
from scizor_resources.platform import Platform
from scizor_resources.stores.sessions import SessionsWritten

from .helpers import execute, query

MONDAY = Session(
    date(2022, 1, 3), datetime(2022, 1, 3, 14, 30, tzinfo=UTC), datetime(2022, 1, 3, 21, tzinfo=UTC)
)
TUESDAY = Session(
    date(2022, 1, 4), datetime(2022, 1, 4, 14, 30, tzinfo=UTC), datetime(2022, 1, 4, 21, tzinfo=UTC)
)
WEDNESDAY = Session(
    date(2022, 1, 5), datetime(2022, 1, 5, 14, 30, tzinfo=UTC), datetime(2022, 1, 5, 21, tzinfo=UTC)
)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def materialize(platform: Platform, instance: dg.DagsterInstance) -> dict[str, object]:
    result = dg.materialize([sessions], instance=instance, resources={"platform": platform})
    (event,) = result.asset_materializations_for_node("reference__sessions")
    return {key: value.value for key, value in event.metadata.items()}


def versions(platform: Platform) -> list[dict[str, object]]:
    return query(platform, "SELECT xmin::text, * FROM public.sessions ORDER BY 2, 3")


def bounds(platform: Platform, market: str, day: str) -> tuple[datetime, datetime]:
    (row,) = query(
        platform,
        "SELECT open_at, close_at FROM reference.sessions WHERE market = %s AND session_date = %s",
        market,
        day,
    )
    return row["open_at"], row["close_at"]


def test_every_market_has_its_sessions_with_bounds_in_utc(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    metadata = materialize(platform, instance)
    rows = metadata["dagster/row_count"]
    assert (metadata["rows_new"], metadata["rows_corrected"], metadata["rows_deleted"]) == (
        rows,
        0,
        0,
    )
    # 14:10 in Sydney, where the calendar library has a full day; 13:00 in New York.
    assert bounds(platform, "asx", "2022-12-23")[1] == datetime(2022, 12, 23, 3, 10, tzinfo=UTC)
    assert bounds(platform, "us", "2022-11-25")[1] == datetime(2022, 11, 25, 18, tzinfo=UTC)
    # The week after the clocks changed in New York, the week before in Sydney.
    assert bounds(platform, "us", "2022-03-14")[0] == datetime(2022, 3, 14, 13, 30, tzinfo=UTC)
    assert bounds(platform, "asx", "2022-04-01")[0] == datetime(2022, 3, 31, 23, tzinfo=UTC)
    assert bounds(platform, "crypto", "2022-01-01") == (
        datetime(2022, 1, 1, tzinfo=UTC),
        datetime(2022, 1, 2, tzinfo=UTC),
    )
    assert query(platform, "SELECT min(session_date), max(session_date) FROM public.sessions") == [
        {"min": date(2000, 1, 1), "max": date(2027, 11, 20)}
    ]


def test_a_rerun_touches_no_row(platform: Platform, instance: dg.DagsterInstance) -> None:
    materialize(platform, instance)
    before = versions(platform)
    metadata = materialize(platform, instance)
    assert [metadata[f"rows_{each}"] for each in ("new", "corrected", "deleted")] == [0, 0, 0]
    assert versions(platform) == before != []


def test_what_the_calendar_has_otherwise_is_set_right(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    materialize(platform, instance)
    right = query(platform, "SELECT market, session_date, open_at, close_at FROM public.sessions")
    execute(
        platform,
        "UPDATE public.sessions SET close_at = close_at - interval '3 hours' "
        "WHERE market = 'us' AND session_date = '2022-01-04'",
    )
    execute(platform, "DELETE FROM public.sessions WHERE session_date = '2022-01-05'")
    execute(
        platform,
        "INSERT INTO public.sessions VALUES ('asx', '2022-01-01', '2022-01-01', '2022-01-02')",
    )
    metadata = materialize(platform, instance)
    assert [metadata[f"rows_{each}"] for each in ("new", "corrected", "deleted")] == [3, 1, 1]
    found = query(platform, "SELECT market, session_date, open_at, close_at FROM public.sessions")
    assert {tuple(row.values()) for row in found} == {tuple(row.values()) for row in right}


def test_sessions_beyond_what_is_given_stay(platform: Platform) -> None:
    store = platform.sessions
    assert store.write({"us": [MONDAY, TUESDAY, WEDNESDAY]}) == SessionsWritten(new=3)
    assert store.write({"us": [TUESDAY], "asx": []}) == SessionsWritten()
    assert len(query(platform, "SELECT * FROM public.sessions")) == 3
