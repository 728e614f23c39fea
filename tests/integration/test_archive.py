"""Bars go to the archive and back, and none is lost on the way, whatever is killed when."""

import itertools
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from scizor_assets.archive import ArchiveConfig, archive_bars, archive_nightly, archive_verified
from scizor_cli.main import app
from scizor_core.errors import ConfigError, InvalidInputError
from scizor_core.indicators import INDICATOR_COLUMNS
from scizor_core.markets import Timeframe
from scizor_core.schemas.bars import BAR_COLUMNS
from scizor_core.sessions import get_calendar
from scizor_resources.errors import ArchiveError
from scizor_resources.market_data import MarketData
from scizor_resources.pipeline.enrich import enrich
from scizor_resources.platform import Platform
from scizor_resources.stores.archive import Archive
from scizor_resources.stores.archive_files import ArchiveRoot, MonthKey

from .helpers import FixedSource, collector, execute, query

MAY = date(2022, 5, 1)
US_MAY = MonthKey("us", "1m", MAY)
_FAR = datetime(2000, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)

#: Every step that a run with release passes, in its order.
STEPS = [
    "begin",
    "temporary file",
    "renamed",
    "recorded",
    "compared",
    "verified",
    "locked",
    "deleted",
    "before commit",
    "released",
]


class KilledError(RuntimeError):
    """Stands for the end of the process."""


def bars_of(
    platform: Platform,
    market: str,
    symbol: str,
    timeframe: Timeframe,
    days: list[str],
    *,
    count: int = 60,
    seed: int = 1,
) -> pd.DataFrame:
    """Return random bars of the first intervals of some sessions, some values missing."""
    platform.reference.ensure(market, symbol)
    (instrument,) = platform.reference.instruments(market, [symbol])
    rng = np.random.default_rng(seed)
    parts = []
    for day in days:
        expected = get_calendar(market).expected(date.fromisoformat(day), timeframe)[:count]
        parts.append(pd.DataFrame({"ts": expected, "session_date": pd.Timestamp(day)}))
    frame = pd.concat(parts, ignore_index=True)
    size = len(frame)
    close = np.round(50 + rng.normal(0, 1, size).cumsum() / 10, 2)
    opened = np.round(close + rng.normal(0, 0.05, size), 2)
    counts = pd.array(rng.integers(0, 900, size), dtype="Int64")
    counts[rng.random(size) < 0.3] = pd.NA
    return frame.assign(
        ts=frame["ts"].astype("datetime64[us, UTC]"),
        session_date=frame["session_date"].astype("datetime64[us]"),
        instrument_id=instrument.instrument_id,
        timeframe=pd.Series([timeframe] * size, dtype="str"),
        open=opened,
        high=np.maximum(opened, close) + 0.01,
        low=np.minimum(opened, close) - 0.01,
        close=close,
        volume=rng.integers(0, 10_000, size).astype("float64"),
        vwap=np.where(rng.random(size) < 0.5, np.nan, close),
        trade_count=counts,
        adj_close=np.nan if timeframe != "1d" else close * 0.9,
        source=pd.Series(np.where(rng.random(size) < 0.5, "tape", "yahoo"), dtype="str"),
        is_final=rng.random(size) < 0.9,
    )[list(BAR_COLUMNS)]


@pytest.fixture
def stocked(platform: Platform) -> Platform:
    """Two markets and three timeframes in April and May 2022, and a month that is not due."""
    write = platform.warehouse.write_bars
    write(bars_of(platform, "us", "AAPL", "1m", ["2022-04-28", "2022-05-02", "2022-05-31"]))
    write(bars_of(platform, "us", "MSFT", "1m", ["2022-05-03"], seed=2))
    # The Sydney session of 2 May begins at midnight UTC; its daylight saving is over.
    write(bars_of(platform, "asx", "CBA", "1m", ["2022-05-02"], seed=3))
    write(bars_of(platform, "asx", "CBA", "5m", ["2022-05-02"], seed=4))
    write(bars_of(platform, "us", "AAPL", "1d", ["2022-05-02"], seed=5))
    write(bars_of(platform, "us", "AAPL", "1m", ["2026-11-02"], seed=6))
    return platform


def archive_of(
    platform: Platform, at_step: Callable[[str], None] = lambda _: None, days: int = 730
) -> Archive:
    return Archive(
        platform.warehouse,
        platform.archive_root,
        now=lambda: platform.now(),
        after_days=days,
        at_step=at_step,
    )


def everything(platform: Platform) -> pd.DataFrame:
    """Return all bars that the reader gives, whatever tier they come from."""
    frames = []
    for timeframe in ("1m", "5m", "1d"):
        frame = platform.warehouse.read_bars(timeframe, *_FAR)
        frames.append(frame.assign(timeframe=timeframe))
    return pd.concat(frames, ignore_index=True)


def stored_rows(platform: Platform, key: MonthKey = US_MAY) -> int:
    (row,) = query(
        platform,
        "SELECT count(*) AS n FROM market.bars JOIN public.symbols USING (instrument_id) "
        "WHERE market = %s AND timeframe = %s "
        "AND date_trunc('month', ts AT TIME ZONE 'UTC') = %s::date",
        key.market,
        key.timeframe,
        key.month,
    )
    return int(row["n"])


def states(platform: Platform) -> dict[str, str]:
    return {str(each.key): each.state for each in platform.archive.months()}


def files(platform: Platform) -> list[str]:
    root = Path(platform.settings.archive_location)
    return sorted(str(each.relative_to(root)) for each in root.rglob("*") if each.is_file())


def test_each_market_timeframe_and_month_that_is_due_becomes_one_verified_file(
    stocked: Platform,
) -> None:
    stocked.archive.run()
    assert states(stocked) == {
        "asx 1m 2022-05": "verified",
        "asx 5m 2022-05": "verified",
        "us 1d 2022-05": "verified",
        "us 1m 2022-04": "verified",
        "us 1m 2022-05": "verified",
    }
    assert "bars/market=us/timeframe=1m/2022-05.parquet" in files(stocked)
    assert len(files(stocked)) == 5


def test_a_file_holds_every_column_of_every_row_nulls_and_nans_apart(stocked: Platform) -> None:
    # SQL may store a NaN; write_bars makes it NULL.
    execute(
        stocked,
        "UPDATE market.bars SET vwap = 'NaN', volume = '-0' WHERE ts = '2022-05-02 13:31+00'",
    )
    stocked.archive.run([MAY], markets=["us"], timeframes=["1m"])
    held = pd.read_parquet(
        Path(stocked.settings.archive_location) / US_MAY.path(1), dtype_backend="pyarrow"
    )
    rows = query(
        stocked,
        "SELECT b.*, s.symbol FROM market.bars AS b JOIN symbols AS s USING (instrument_id) "
        "WHERE market = 'us' AND timeframe = '1m' AND ts >= '2022-05-01' AND ts < '2022-06-01' "
        "ORDER BY instrument_id, ts",
    )
    assert len(held) == len(rows) == 180
    for column in rows[0]:
        kept = [None if pd.isna(each) else each for each in held[column].tolist()]
        stored = [None if pd.isna(row[column]) else row[column] for row in rows]
        assert kept == stored, column


def test_archiving_twice_changes_nothing(stocked: Platform) -> None:
    stocked.archive.run()
    before = query(stocked, "SELECT * FROM market.archive_files ORDER BY path")
    reports = stocked.archive.run([MAY])
    assert {report.action for report in reports} == {"nothing to do"}
    assert query(stocked, "SELECT * FROM market.archive_files ORDER BY path") == before
    assert stocked.archive.due(release=False) == []


def test_a_dry_run_tells_the_same_and_does_nothing(stocked: Platform) -> None:
    reports = stocked.archive.run(release=True, dry_run=True)
    assert {str(each.key): each.action for each in reports}["us 1m 2022-05"] == (
        "write, verify and release"
    )
    assert files(stocked) == []
    assert states(stocked) == {}


def test_the_reader_gives_the_same_frames_before_and_after_the_release(stocked: Platform) -> None:
    data = MarketData(stocked)
    before = everything(stocked), data.bars("AAPL", "1m"), data.bars("AAPL", "1m", last=70)
    last = data.bars("AAPL", "1m", end="2022-05-31", last=70)
    stocked.archive.run(release=True)
    assert states(stocked)["us 1m 2022-05"] == "released"
    assert stored_rows(stocked) == 0
    assert_frame_equal(everything(stocked), before[0])
    assert_frame_equal(data.bars("AAPL", "1m"), before[1])
    assert_frame_equal(data.bars("AAPL", "1m", last=70), before[2])
    assert_frame_equal(data.bars("AAPL", "1m", end="2022-05-31", last=70), last)


@pytest.mark.parametrize(
    ("start", "end", "tier"),
    [
        ("2026-11-01", None, "warm"),
        ("2022-05-01", "2022-06-01", "cold"),
        ("2022-05-01", None, "warm+cold"),
    ],
)
def test_the_answer_says_which_tier_it_comes_from(
    stocked: Platform, start: str, end: str | None, tier: str
) -> None:
    stocked.archive.run(release=True)
    assert MarketData(stocked).bars("AAPL", "1m", start, end).attrs["tier"] == tier


def test_bars_around_an_instant_are_the_same_when_a_month_in_between_is_released(
    stocked: Platform,
) -> None:
    ids = [each.instrument_id for each in stocked.reference.instruments("us")]
    asked = list(
        itertools.product(
            ["2022-04-28 13:45", "2022-05-31 14:00", "2026-11-20 00:00"],
            [1, 59, 60, 61, 130, 1000],
            [True, False],
        )
    )

    def answers() -> list[pd.DataFrame]:
        return [
            stocked.warehouse.read_bars_around(
                "1m", ids, datetime.fromisoformat(f"{at}+00:00"), count, before=before
            )
            for at, count, before in asked
        ]

    expected = answers()
    stocked.archive.run([MAY], release=True)
    for question, before, after in zip(asked, expected, answers(), strict=True):
        assert_frame_equal(after, before, obj=str(question))


def test_daily_bars_are_archived_but_stay(stocked: Platform) -> None:
    stocked.archive.run(release=True)
    assert states(stocked)["us 1d 2022-05"] == "verified"
    assert stored_rows(stocked, MonthKey("us", "1d", MAY)) == 1


def test_symbol_metadata_counts_released_bars(stocked: Platform) -> None:
    before = query(stocked, "SELECT * FROM symbol_metadata ORDER BY instrument_id")
    stocked.archive.run(release=True)
    assert query(stocked, "SELECT * FROM symbol_metadata ORDER BY instrument_id") == before


def test_completeness_does_not_take_a_released_month_for_missing(stocked: Platform) -> None:
    meter = stocked.completeness_meter("us")
    window = date(2022, 4, 1), date(2022, 6, 1)
    meter.measure(*window, daily=False)
    stocked.archive.run(release=True)
    again = meter.measure(*window, daily=False)
    assert (again.changed, again.present) == (0, 240)


def test_indicators_after_a_released_month_are_computed_as_before(stocked: Platform) -> None:
    def enriched(start: date, end: date) -> list[dict[str, object]]:
        enrich(stocked.warehouse, stocked.reference, "us", "1m", start, end)
        return query(
            stocked,
            "SELECT * FROM market.indicators WHERE ts >= %s ORDER BY instrument_id, ts",
            start,
        )

    window = date(2022, 5, 31), date(2022, 6, 1)
    before = enriched(*window)
    april = enriched(date(2022, 4, 1), date(2022, 5, 1))
    stocked.archive.run(release=True)
    execute(stocked, "DELETE FROM market.indicators")
    again = enriched(*window)
    assert len(again) == 60
    for row, old in zip(again, before, strict=True):
        assert row["ts"] == old["ts"]
        assert [row[name] for name in INDICATOR_COLUMNS] == pytest.approx(
            [old[name] for name in INDICATOR_COLUMNS]
        )
    assert len(april) == 60 + 60  # April's, and those of 31 May


def test_a_released_session_is_not_collected_again(stocked: Platform) -> None:
    stocked.archive.run(release=True)
    source = FixedSource()
    with pytest.raises(InvalidInputError, match="scizor archive restore us 1m 2022-05"):
        collector(stocked, "1m", source, market="us").collect(date(2022, 5, 2), date(2022, 5, 3))
    assert source.asked == []


def test_a_restored_month_is_in_postgresql_as_it_was(stocked: Platform) -> None:
    before = query(stocked, "SELECT * FROM market.bars ORDER BY instrument_id, timeframe, ts")
    stocked.archive.run(release=True)
    for key in ("us 1m 2022-04", "us 1m 2022-05", "asx 1m 2022-05", "asx 5m 2022-05"):
        market, timeframe, month = key.split()
        stocked.archive.restore(market, timeframe, date.fromisoformat(f"{month}-01"))  # type: ignore[arg-type]
    assert set(states(stocked).values()) == {"verified"}
    after = query(stocked, "SELECT * FROM market.bars ORDER BY instrument_id, timeframe, ts")
    assert after == before


def test_what_was_never_archived_cannot_be_restored(stocked: Platform) -> None:
    with pytest.raises(InvalidInputError, match="scizor archive list"):
        stocked.archive.restore("us", "1m", MAY)


def test_a_month_that_is_not_due_is_refused(stocked: Platform) -> None:
    with pytest.raises(InvalidInputError, match="SCIZOR_ARCHIVE_AFTER_DAYS"):
        stocked.archive.run([date(2026, 10, 1)])


def late(platform: Platform) -> pd.DataFrame:
    """Return a corrected bar, and a bar of a session without one, of May."""
    frame = bars_of(platform, "us", "AAPL", "1m", ["2022-05-02", "2022-05-10"], count=1, seed=9)
    return frame.assign(source=pd.Series(["late", "late"], dtype="str"))


def test_a_write_between_verification_and_release_is_not_lost(stocked: Platform) -> None:
    written = []

    def write(step: str) -> None:
        if step == "verified" and not written:
            written.append(stocked.warehouse.write_bars(late(stocked)))

    archive_of(stocked, write).run([MAY], markets=["us"], timeframes=["1m"], release=True)
    assert states(stocked) == {"us 1m 2022-05": "released"}
    bars = MarketData(stocked).bars("AAPL", "1m", "2022-05-01", "2022-06-01")
    assert (bars["source"] == "late").sum() == 2
    assert len(bars) == 121
    assert bars.attrs["tier"] == "cold"
    assert files(stocked) == [US_MAY.path(2)]


def test_a_writer_waits_for_a_release_that_is_under_way(stocked: Platform) -> None:
    blocked = []

    def write(step: str) -> None:
        if step == "deleted":
            with stocked.warehouse.connect() as connection:
                connection.execute("SET lock_timeout = '100ms'")
                try:
                    connection.execute("UPDATE market.bars SET volume = 1 WHERE ts < '2022-06-01'")
                except Exception as error:  # noqa: BLE001  # told below
                    blocked.append(type(error).__name__)
                connection.rollback()

    archive_of(stocked, write).run([MAY], markets=["us"], timeframes=["1m"], release=True)
    assert blocked == ["LockNotAvailable"]


def test_late_bars_of_a_released_month_win_on_read(stocked: Platform) -> None:
    stocked.archive.run(release=True)
    stocked.warehouse.write_bars(late(stocked))
    bars = MarketData(stocked).bars("AAPL", "1m", "2022-05-01", "2022-06-01")
    assert (len(bars), (bars["source"] == "late").sum()) == (121, 2)
    assert bars.index.is_unique
    assert bars.index.is_monotonic_increasing
    assert bars.attrs["tier"] == "warm+cold"


@pytest.mark.parametrize("release", [False, True], ids=["kept in PostgreSQL", "released"])
def test_late_bars_are_merged_into_the_file_by_the_next_run(
    stocked: Platform, release: bool
) -> None:
    stocked.archive.run(release=True)
    stocked.warehouse.write_bars(late(stocked))
    before = everything(stocked)
    assert stocked.archive.due(release=False) == [MAY]
    stocked.archive.run(release=release)
    assert_frame_equal(everything(stocked), before)
    assert stored_rows(stocked) == (0 if release else 2)
    execute(stocked, "DELETE FROM market.bars WHERE source = 'late'")
    assert_frame_equal(everything(stocked), before)
    assert stocked.archive.due(release=release) == []
    assert US_MAY.path(1) not in files(stocked)
    assert {each.problem for each in stocked.archive.verify()} == {""}


def test_on_balance_volume_counts_late_bars_of_a_released_month(stocked: Platform) -> None:
    (apple,) = stocked.reference.instruments("us", ["AAPL"])
    first = pd.Series(
        [pd.Timestamp("2026-11-02 14:30", tz="UTC")],
        index=pd.Index([apple.instrument_id], name="instrument_id"),
    )
    stocked.archive.run(release=True)
    stocked.warehouse.write_bars(late(stocked))
    found = stocked.warehouse.obv_before("1m", first)
    close = MarketData(stocked).bars("AAPL", "1m", end="2026-11-02")
    falls = close["close"].diff() < 0
    expected = close["volume"].where(~falls, -close["volume"]).sum()
    assert found.loc[apple.instrument_id, "obv"] == pytest.approx(expected)
    assert found.loc[apple.instrument_id, "previous_close"] == close["close"].iloc[-1]


@pytest.mark.parametrize("wanted", STEPS)
def test_killed_at_any_step_nothing_is_lost_and_the_next_run_goes_on(
    stocked: Platform, wanted: str
) -> None:
    before = everything(stocked)

    def die(step: str) -> None:
        if step == wanted:
            raise KilledError(step)

    with pytest.raises(KilledError):
        archive_of(stocked, die).run([MAY], markets=["us"], timeframes=["1m"], release=True)
    assert_frame_equal(everything(stocked), before)
    stocked.archive.run([MAY], markets=["us"], timeframes=["1m"], release=True)
    assert states(stocked) == {"us 1m 2022-05": "released"}
    assert len(files(stocked)) == 1
    assert_frame_equal(everything(stocked), before)


@pytest.mark.parametrize("wanted", ["temporary file", "renamed", "locked", "deleted", "merged"])
def test_killed_while_late_bars_are_merged_nothing_is_lost(stocked: Platform, wanted: str) -> None:
    stocked.archive.run([MAY], release=True)
    stocked.warehouse.write_bars(late(stocked))
    before = everything(stocked)

    def die(step: str) -> None:
        if step == wanted:
            raise KilledError(step)

    with pytest.raises(KilledError):
        archive_of(stocked, die).run([MAY], release=True)
    assert_frame_equal(everything(stocked), before)
    stocked.archive.run([MAY], release=True)
    assert stored_rows(stocked) == 0
    assert_frame_equal(everything(stocked), before)


@pytest.mark.parametrize(
    "wanted", ["before commit of the restored bars", "copied back", "compared", "restored"]
)
def test_killed_while_a_month_is_restored_it_can_be_restored_again(
    stocked: Platform, wanted: str
) -> None:
    before = everything(stocked)
    stocked.archive.run([MAY], release=True)

    def die(step: str) -> None:
        if step == wanted:
            raise KilledError(step)

    with pytest.raises(KilledError):
        archive_of(stocked, die).restore("us", "1m", MAY)
    assert_frame_equal(everything(stocked), before)
    stocked.archive.restore("us", "1m", MAY)
    assert states(stocked)["us 1m 2022-05"] == "verified"
    assert stored_rows(stocked) == 180
    assert_frame_equal(everything(stocked), before)


@pytest.mark.parametrize(
    "wanted",
    [
        step if step in ("renamed", "deleted") else pytest.param(step, marks=pytest.mark.slow)
        for step in STEPS
    ],
)
def test_a_process_killed_in_the_middle_loses_nothing(stocked: Platform, wanted: str) -> None:
    before = everything(stocked)
    arguments = [stocked.endpoints.libpq_url, stocked.settings.archive_location, wanted]
    with subprocess.Popen(
        [sys.executable, "-m", "tests.integration.archive_killed", *arguments],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"here\n"
        process.send_signal(signal.SIGKILL)
    assert_frame_equal(everything(stocked), before)
    stocked.archive.run(release=True)
    assert set(states(stocked).values()) == {"released", "verified"}
    assert stored_rows(stocked) == 0
    assert len(files(stocked)) == 5
    assert_frame_equal(everything(stocked), before)


def damage(platform: Platform, path: str) -> None:
    file = Path(platform.settings.archive_location) / path
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 0xFF
    file.write_bytes(content)


def test_a_damaged_file_is_found(stocked: Platform) -> None:
    stocked.archive.run()
    damage(stocked, US_MAY.path(1))
    problems = {str(each.key): each.problem for each in stocked.archive.verify()}
    assert "is damaged" in problems.pop("us 1m 2022-05")
    assert set(problems.values()) == {""}


def test_a_damaged_file_is_never_what_is_released(stocked: Platform) -> None:
    stocked.archive.run()
    before = everything(stocked)

    def spoil(step: str) -> None:
        if step == "verified":
            damage(stocked, stocked.archive.months()[-1].path)

    execute(stocked, "UPDATE market.archive_files SET state = 'written', verified_at = NULL")
    reports = archive_of(stocked, spoil).run([MAY], markets=["us"], timeframes=["1m"], release=True)
    assert "is damaged" in reports[0].problem
    assert stored_rows(stocked) == 180
    # The next run writes it anew from PostgreSQL, and that is released.
    stocked.archive.run([MAY], markets=["us"], timeframes=["1m"], release=True)
    assert stored_rows(stocked) == 0
    assert_frame_equal(everything(stocked), before)


def test_a_damaged_file_is_not_restored(stocked: Platform) -> None:
    stocked.archive.run([MAY], release=True)
    damage(stocked, US_MAY.path(1))
    with pytest.raises(ArchiveError, match="is damaged"):
        stocked.archive.restore("us", "1m", MAY)
    assert stored_rows(stocked) == 0


def test_a_missing_file_of_a_released_month_is_an_error_not_an_empty_answer(
    stocked: Platform,
) -> None:
    stocked.archive.run([MAY], release=True)
    (Path(stocked.settings.archive_location) / US_MAY.path(1)).unlink()
    with pytest.raises(ArchiveError, match="backup"):
        MarketData(stocked).bars("AAPL", "1m", "2022-05-01", "2022-06-01")


def test_bars_that_have_gone_from_postgresql_do_not_go_from_the_file(stocked: Platform) -> None:
    stocked.archive.run()
    execute(stocked, "DELETE FROM market.bars WHERE ts = '2022-05-02 13:31+00'")
    (report,) = stocked.archive.run([MAY], markets=["us"], timeframes=["1m"], release=True)
    assert "179 bars" in report.problem
    assert (states(stocked)["us 1m 2022-05"], stored_rows(stocked)) == ("verified", 179)
    stocked.archive.restore("us", "1m", MAY)
    assert stored_rows(stocked) == 180


def test_a_file_that_is_on_no_record_is_left_alone(stocked: Platform) -> None:
    stocked.archive.run([MAY], release=True)
    execute(stocked, "DELETE FROM market.archive_files")
    stocked.warehouse.write_bars(late(stocked))
    stocked.archive.run([MAY], release=True)
    assert {US_MAY.path(1), US_MAY.path(2)} <= set(files(stocked))
    assert US_MAY.path(1) in stocked.archive.unrecorded()
    assert stored_rows(stocked) == 0


def test_two_runs_do_not_go_side_by_side(
    stocked: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scizor_resources.stores.archive._LOCK_WAIT", "50ms")
    refused = []

    def second(step: str) -> None:
        if step == "begin" and not refused:
            with pytest.raises(ArchiveError, match="under way") as caught:
                stocked.archive.run()
            refused.append(caught.value)

    archive_of(stocked, second).run([MAY])
    assert len(refused) == 1


def test_months_without_bars_have_no_file(stocked: Platform) -> None:
    assert stocked.archive.run([date(2022, 6, 1)]) == []
    assert files(stocked) == []


def test_a_file_url_means_a_directory(stocked: Platform, tmp_path: Path) -> None:
    root = ArchiveRoot(f"file://{tmp_path}/elsewhere")
    archive = Archive(stocked.warehouse, root, now=lambda: stocked.now(), after_days=730)
    archive.run([MAY], markets=["us"])
    assert (tmp_path / "elsewhere" / US_MAY.path(1)).is_file()


def test_an_url_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ConfigError, match="SCIZOR_ARCHIVE_URL"):
        ArchiveRoot("gopher://somewhere/archive").exists("x")


def context(month: str = "2022-05-01") -> dg.AssetExecutionContext:
    return dg.build_asset_context(partition_key=month)


def test_the_asset_archives_the_months_of_its_partitions(stocked: Platform) -> None:
    result = archive_bars(context(), ArchiveConfig(release=True), platform=stocked)
    assert isinstance(result, dg.MaterializeResult)
    metadata = dict(result.metadata or {})
    assert (metadata["files"], metadata["rows"], metadata["rows_released"]) == (4, 301, 300)
    assert states(stocked)["us 1m 2022-05"] == "released"


def test_the_asset_fails_where_a_month_was_refused(stocked: Platform) -> None:
    archive_bars(context(), ArchiveConfig(), platform=stocked)
    execute(stocked, "DELETE FROM market.bars WHERE ts = '2022-05-02 13:31+00'")
    with pytest.raises(dg.Failure, match="scizor archive restore"):
        archive_bars(context(), ArchiveConfig(release=True), platform=stocked)


def test_the_asset_and_its_check_run_in_dagster(stocked: Platform) -> None:
    with dg.instance_for_test() as instance:
        result = dg.materialize(
            [archive_bars, archive_verified],
            partition_key="2022-05-01",
            instance=instance,
            resources={"platform": stocked},
        )
    assert result.success
    assert [each.passed for each in result.get_asset_check_evaluations()] == [True]


def test_the_check_fails_for_a_damaged_file(stocked: Platform) -> None:
    with dg.instance_for_test() as instance:
        archive_bars(context(), ArchiveConfig(), platform=stocked)
        damage(stocked, US_MAY.path(1))
        result = dg.materialize(
            [archive_bars, archive_verified],
            instance=instance,
            resources={"platform": stocked},
            selection=dg.AssetSelection.checks(archive_verified),
        )
    (found,) = result.get_asset_check_evaluations()
    assert not found.passed
    assert US_MAY.path(1) in str(found.description)


def test_the_schedule_asks_for_the_months_that_are_due(stocked: Platform) -> None:
    with dg.build_schedule_context(
        resources={"platform": stocked}, scheduled_execution_time=stocked.now()
    ) as tick:
        found = archive_nightly(tick)
        assert isinstance(found, list)
        assert [each.partition_key for each in found] == ["2022-04-01", "2022-05-01"]
        assert len({each.run_key for each in found}) == 2
        stocked.archive.run()
        assert isinstance(archive_nightly(tick), dg.SkipReason)


def cli(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exit_:
        app(["archive", *arguments])
    out, err = capsys.readouterr()
    return int(exit_.value.code or 0), out, err


def test_the_command_archives_lists_verifies_and_restores(
    stocked: Platform, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # The command's clock is today's; May 2022 is due then as well, and November 2026 is not.
    code, out, err = cli(capsys, "run", "--month", "2022-05", "--release", "--json")
    assert code == 0, err
    assert {row["state"] for row in json.loads(out)} == {"released", "verified"}
    assert len(json.loads(cli(capsys, "list", "--json")[1])) == 4
    assert cli(capsys, "verify")[0] == 0
    assert cli(capsys, "restore", "us", "1m", "2022-05")[0] == 0
    assert stored_rows(stocked) == 180
    damage(stocked, US_MAY.path(1))
    code, _, err = cli(capsys, "verify", "--month", "2022-05")
    assert code == 1
    assert "is damaged" in err


def test_the_archive_stays_within_the_days_that_are_set(stocked: Platform) -> None:
    # Four and a half years are longer than the time since May 2022, not than that since April.
    days = (stocked.now() - datetime(2022, 6, 1, tzinfo=UTC)) // timedelta(days=1)
    assert archive_of(stocked, days=days + 1).due(release=False) == [date(2022, 4, 1)]
