"""The ledger of gaps: what stands in it after collections that succeed, fail, and are repeated.

Sydney keeps summer time in January 2022: the session of the 4th goes from 23:00 UTC of the day
before to 05:00 UTC, 360 minutes. Minutes are counted from its open.
"""

import threading
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pandas as pd
import pytest

from scizor_core.gaps import Claim, to_micros
from scizor_core.markets import TIMEFRAMES, Timeframe
from scizor_resources.errors import AuthError, ProviderError, TransientError
from scizor_resources.pipeline.gap_work import Findings
from scizor_resources.platform import Platform
from scizor_resources.providers.base import Capabilities
from scizor_resources.stores.gap_sums import contradictions

from .helpers import (
    FailingSource,
    FixedSource,
    collector,
    execute,
    fingerprint,
    flat,
    put_on_tape,
    query,
    simulated,
)

FIRST, SECOND, THIRD = date(2022, 1, 4), date(2022, 1, 5), date(2022, 1, 6)
OPEN = datetime(2022, 1, 3, 23, tzinfo=UTC)
HEADER = "time,open,high,low,close,volume\n"


def at(minute: int) -> datetime:
    return OPEN + timedelta(minutes=minute)


def minutes_of(symbol: str, *spans: tuple[int, int]) -> pd.DataFrame:
    times = [
        at(minute).strftime("%Y-%m-%d %H:%M")
        for first, last in spans
        for minute in range(first, last)
    ]
    return flat(symbol, times)


def gaps_of(
    platform: Platform, symbol: str = "CBA", timeframe: Timeframe = "1m", table: str = "gaps"
) -> list[tuple]:
    """Return first and last minute, reason and status (or outcome) of a symbol's gaps."""
    state = "status" if table == "gaps" else "outcome"
    rows = query(
        platform,
        f"SELECT g.start_ts, g.end_ts, g.reason, g.{state} AS state FROM quality.{table} AS g "
        "JOIN public.symbols AS s USING (instrument_id) WHERE s.symbol = %s AND timeframe = %s "
        "ORDER BY g.start_ts",
        symbol,
        timeframe,
    )
    return [
        (_minute(row["start_ts"]), _minute(row["end_ts"]), row["reason"], row["state"])
        for row in rows
    ]


def _minute(moment: datetime) -> int:
    return int((moment - OPEN) / timedelta(minutes=1))


def row_of(platform: Platform, symbol: str = "CBA", timeframe: Timeframe = "1m") -> dict:
    (row,) = query(
        platform,
        "SELECT c.* FROM quality.completeness AS c JOIN public.symbols AS s USING (instrument_id) "
        "WHERE s.symbol = %s AND c.timeframe = %s AND c.session_date = %s",
        symbol,
        timeframe,
        FIRST,
    )
    return row


def add_up(platform: Platform) -> bool:
    days = date(2000, 1, 1), date(2030, 1, 1)
    return not [
        fault
        for market in ("asx", "us", "crypto")
        for daily in (False, True)
        for fault in contradictions(platform.warehouse, market, *days, daily=daily)
    ]


def down(kind: type[ProviderError] = TransientError) -> FailingSource:
    return FailingSource(kind("It does not answer.", provider="failing"))


class ShortMemory(FixedSource):
    """Keeps bars for an hour."""

    @property
    def capabilities(self) -> Capabilities:
        ages: dict[Timeframe, timedelta] = dict.fromkeys(TIMEFRAMES, timedelta(hours=1))
        return replace(super().capabilities, max_age=ages)


def test_a_collection_leaves_a_reason_for_each_minute_it_did_not_get(platform: Platform) -> None:
    source = FixedSource(minutes_of("CBA", (0, 100), (103, 300)))
    report = collector(platform, "1m", source).collect(FIRST, SECOND, ["CBA"])
    assert gaps_of(platform) == [
        (100, 103, "absent in every source", "open"),
        (300, 360, "absent in every source", "open"),
    ]
    row = row_of(platform)
    assert (row["expected"], row["present"], row["absent"], row["missing"]) == (360, 297, 63, 63)
    assert (report.ledger.changed, report.ledger.gaps_written) == (1, 2)
    assert add_up(platform)


@pytest.mark.parametrize(
    ("source", "reason", "status"),
    [
        (down(), "feed down", "open"),
        (down(AuthError), "provider refused", "open"),
        (ShortMemory(), "outside history", "explained"),
        (FixedSource(), "absent in every source", "open"),
        (FixedSource(timeframes=("1d",)), "not yet fetched", "open"),
    ],
    ids=["down", "refused", "too old", "absent", "not served"],
)
def test_each_way_of_failing_has_its_reason(
    platform: Platform, source: FixedSource, reason: str, status: str
) -> None:
    collector(platform, "1m", source).collect(FIRST, SECOND, ["CBA"])
    assert gaps_of(platform) == [(0, 360, reason, status)]
    assert row_of(platform)["reason"] == reason
    assert add_up(platform)


def test_without_a_provider_nothing_is_known(platform: Platform) -> None:
    collector(platform, "1m").collect(FIRST, SECOND, ["CBA"])
    assert gaps_of(platform) == [(0, 360, "not yet fetched", "open")]


def test_where_only_some_providers_were_asked_nothing_is_concluded(platform: Platform) -> None:
    collector(platform, "1m", FixedSource(name="one"), FixedSource(name="two")).collect(
        FIRST, SECOND, ["CBA"], ["one"]
    )
    assert gaps_of(platform) == [(0, 360, "not yet fetched", "open")]


def test_what_was_said_stands_with_the_gap(platform: Platform) -> None:
    collector(platform, "1m", down()).collect(FIRST, SECOND, ["CBA"])
    (row,) = query(platform, "SELECT source, detail, attempts, next_attempt_at FROM quality.gaps")
    assert (row["source"], row["detail"]) == ("failing", "failing: It does not answer.")
    assert (row["attempts"], row["next_attempt_at"]) == (
        0,
        datetime(2026, 11, 20, 0, 1, tzinfo=UTC),
    )


def test_bars_that_come_close_their_gap_and_leave_a_record(platform: Platform) -> None:
    collector(platform, "1m", down()).collect(FIRST, SECOND, ["CBA"])
    report = collector(platform, "1m", FixedSource(minutes_of("CBA", (0, 200)))).collect(
        FIRST, SECOND, ["CBA"]
    )
    assert gaps_of(platform) == [(200, 360, "absent in every source", "open")]
    assert gaps_of(platform, table="closed_gaps") == [(0, 200, "feed down", "repaired")]
    assert report.ledger.repaired == 1


def test_what_was_only_not_yet_fetched_leaves_no_record(platform: Platform) -> None:
    platform.completeness_meter("asx").measure(FIRST, SECOND, daily=False, symbols=["CBA"])
    collector(platform, "1m", FixedSource(minutes_of("CBA", (0, 360)))).collect(
        FIRST, SECOND, ["CBA"]
    )
    assert gaps_of(platform) == []
    assert gaps_of(platform, table="closed_gaps") == []


def test_a_repair_in_vain_is_counted_and_put_off(platform: Platform) -> None:
    collector(platform, "1m", down()).collect(FIRST, SECOND, ["CBA"])
    later = datetime(2026, 11, 20, 0, 1, tzinfo=UTC)
    collector(platform, "1m", down(), now=lambda: later, lane="repair").collect(
        FIRST, SECOND, ["CBA"]
    )
    (row,) = query(platform, "SELECT attempts, last_attempt_at, next_attempt_at FROM quality.gaps")
    # After a minute the second try waits five.
    assert tuple(row.values()) == (1, later, later + timedelta(minutes=5))


def test_rows_deleted_from_stored_bars_are_found_by_measuring(platform: Platform) -> None:
    collector(platform, "5m", simulated()).collect(FIRST, SECOND, ["CBA"])
    execute(
        platform,
        "DELETE FROM market.bars WHERE timeframe = '5m' AND ts >= %s AND ts < %s",
        at(60),
        at(120),
    )
    platform.completeness_meter("asx").measure(FIRST, SECOND, daily=False, symbols=["CBA"])
    assert gaps_of(platform, timeframe="5m") == [(60, 120, "not yet fetched", "open")]
    assert add_up(platform)


def test_halts_and_outages_of_the_tables_are_reasons(platform: Platform) -> None:
    collector(platform, "1m", FixedSource(minutes_of("CBA", (100, 360)))).collect(
        FIRST, SECOND, ["CBA"]
    )
    execute(platform, "DELETE FROM quality.gaps")
    execute(
        platform,
        "INSERT INTO quality.halts (instrument_id, start_ts, end_ts, source, note) "
        "SELECT instrument_id, %s, %s, 'asx', 'pending news' FROM symbols WHERE symbol = 'CBA'",
        at(20),
        at(50),
    )
    execute(
        platform,
        "INSERT INTO quality.outages (feed, market, start_ts, end_ts, reason) "
        "VALUES ('tape', 'asx', %s, %s, 'connection lost')",
        at(40),
        at(80),
    )
    platform.completeness_meter("asx").measure(FIRST, SECOND, daily=False, symbols=["CBA"])
    assert gaps_of(platform) == [
        (0, 20, "not yet fetched", "open"),
        (20, 50, "halted", "explained"),
        (50, 80, "feed down", "open"),
        (80, 100, "not yet fetched", "open"),
    ]
    row = row_of(platform)
    assert (row["halted"], row["feed_down"], row["not_fetched"]) == (30, 30, 40)
    assert row["coverage"] == pytest.approx(260 / 330, abs=1e-6)
    assert add_up(platform)


def test_an_outage_that_lasts_reaches_to_the_present(platform: Platform) -> None:
    execute(
        platform,
        "INSERT INTO quality.outages (feed, market, start_ts, reason) "
        "VALUES ('tape', 'asx', %s, 'connection lost')",
        at(300),
    )
    platform.completeness_meter("asx").measure(FIRST, SECOND, daily=False, symbols=["CBA"])
    assert gaps_of(platform) == [
        (0, 300, "not yet fetched", "open"),
        (300, 360, "feed down", "open"),
    ]


def test_derived_bars_take_over_the_reason(platform: Platform) -> None:
    for timeframe in ("1m", "5m", "15m"):
        collector(platform, timeframe, ShortMemory()).collect(FIRST, SECOND, ["CBA"])
    assert gaps_of(platform, timeframe="15m") == [(0, 360, "outside history", "explained")]
    assert add_up(platform)


def test_a_delisted_symbol_has_one_explained_gap_a_session(platform: Platform) -> None:
    day = date(2022, 1, 20)
    report = collector(platform, "5m", down()).collect(day, date(2022, 1, 21), ["APT"])
    rows = query(platform, "SELECT reason, status, source FROM quality.gaps")
    assert [tuple(row.values()) for row in rows] == [("delisted", "explained", "listing")]
    assert (report.ledger.changed, report.ledger.open_gaps) == (1, 0)
    assert add_up(platform)


def test_an_imported_symbol_that_nobody_watches_is_expected_within_its_span_only(
    platform: Platform,
) -> None:
    put_on_tape(
        platform,
        HEADER + "2022-01-03 23:00Z,1,1,1,1,5\n2022-01-03 23:02Z,1,1,1,1,5\n",
        market="asx",
        symbol="GMG",
        timeframe="1m",
    )
    platform.reference.ensure("asx", "GMG")
    collector(platform, "1m", platform.tape).collect(FIRST, THIRD, ["GMG"])
    assert gaps_of(platform, "GMG") == [
        (1, 2, "absent in every source", "open"),
        (3, 360, "absent in every source", "open"),
    ]
    rows = query(platform, "SELECT session_date, expected FROM quality.completeness ORDER BY 1")
    assert [tuple(row.values()) for row in rows] == [(FIRST, 360), (SECOND, 0)]
    assert add_up(platform)


def test_a_symbol_taken_off_the_watchlist_is_missed_no_longer(platform: Platform) -> None:
    meter = platform.completeness_meter("asx")
    meter.measure(FIRST, SECOND, daily=False, symbols=["CBA"])
    platform.reference.change("asx", "CBA", active=False)
    meter.measure(FIRST, SECOND, daily=False)
    assert gaps_of(platform) == []
    assert (row_of(platform)["expected"], row_of(platform)["reason"]) == (0, "not on the watchlist")


def test_everything_again_changes_nothing_not_even_a_time_stamp(platform: Platform) -> None:
    def run() -> None:
        for timeframe in ("1m", "5m", "15m", "1d"):
            for sources in ([down()], [ShortMemory(minutes_of("CBA", (0, 90)))]):
                collector(platform, timeframe, *sources).collect(FIRST, THIRD, ["CBA", "APT"])
        for daily in (False, True):
            platform.completeness_meter("asx").measure(FIRST, THIRD, daily=daily)

    run()
    # A collection that finds out something else each time changes the reason each time: only what
    # follows upon the last one is to stay as it is.
    before = fingerprint(platform)
    for timeframe in ("1m", "5m", "15m", "1d"):
        source = ShortMemory(minutes_of("CBA", (0, 90)))
        collector(platform, timeframe, source).collect(FIRST, THIRD, ["CBA", "APT"])
    for daily in (False, True):
        platform.completeness_meter("asx").measure(FIRST, THIRD, daily=daily)
    assert fingerprint(platform) == before
    assert add_up(platform)


def test_the_minutes_of_a_late_provider_are_not_yet_fetched(platform: Platform) -> None:
    now = at(60)
    source = FixedSource(minutes_of("CBA", (0, 10), (12, 42)))
    collector(platform, "1m", source, now=lambda: now, lane="live").collect(FIRST, SECOND, ["CBA"])
    assert gaps_of(platform) == [
        (10, 12, "absent in every source", "open"),
        (42, 60, "not yet fetched", "open"),
    ]
    later = at(61)
    source = FixedSource(minutes_of("CBA", (0, 10), (12, 43)))
    collector(platform, "1m", source, now=lambda: later, lane="live").collect(
        FIRST, SECOND, ["CBA"]
    )
    assert gaps_of(platform)[1:] == [(43, 61, "not yet fetched", "open")]
    assert gaps_of(platform, table="closed_gaps") == []


def test_a_writer_that_is_no_collection_can_tell_the_ledger(platform: Platform) -> None:
    (cba,) = platform.reference.resolve("asx", ["CBA"])
    findings = Findings(
        claims={
            cba.instrument_id: [
                Claim(to_micros(at(0)), to_micros(at(30)), "feed down", "reconnecting", "stream")
            ]
        }
    )
    platform.gap_ledger.update("asx", "1m", [FIRST], [cba.instrument_id], findings=findings)
    assert gaps_of(platform) == [
        (0, 30, "feed down", "open"),
        (30, 360, "not yet fetched", "open"),
    ]
    assert add_up(platform)


def test_two_writers_at_a_time_leave_a_ledger_that_adds_up(platform: Platform) -> None:
    spans = [(0, 60), (60, 130), (200, 250), (250, 251)]

    def write(span: tuple[int, int]) -> None:
        collector(platform, "1m", FixedSource(minutes_of("CBA", span))).collect(
            FIRST, SECOND, ["CBA"]
        )

    threads = [threading.Thread(target=write, args=(span,)) for span in spans]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [gap[:2] for gap in gaps_of(platform)] == [(130, 200), (251, 360)]
    assert add_up(platform)


def test_what_does_not_add_up_is_found(platform: Platform) -> None:
    collector(platform, "1m", FixedSource(minutes_of("CBA", (0, 300)))).collect(
        FIRST, SECOND, ["CBA"]
    )
    execute(platform, "UPDATE quality.gaps SET start_ts = start_ts - interval '2 minutes'")
    found = contradictions(platform.warehouse, "asx", FIRST, SECOND, daily=False)
    assert {row["fault"] for row in found} == {
        "a stored bar lies in a gap",
        "sums of gaps differ from completeness",
    }
    assert {row["symbol"] for row in found} == {"CBA"}


def test_late_and_disputed_bars_cost_score(platform: Platform) -> None:
    rows = minutes_of("CBA", (0, 360)).assign(source="kraken")
    collector(platform, "1m", FixedSource(rows, "kraken")).collect(FIRST, SECOND, ["CBA"])
    # 300 bars came a minute after their end, 60 of them eight minutes later still.
    execute(platform, "UPDATE market.bars SET ingested_at = ts + interval '2 minutes'")
    execute(
        platform,
        "UPDATE market.bars SET ingested_at = ts + interval '10 minutes' WHERE ts < %s",
        at(60),
    )
    execute(
        platform,
        "INSERT INTO quality.disagreements (instrument_id, timeframe, ts, kept_source, "
        "other_source, kept, other, price_difference) SELECT instrument_id, timeframe, ts, "
        "'kraken', 'yahoo', '{}', '{}', 0.01 FROM market.bars WHERE ts < %s",
        at(18),
    )
    platform.completeness_meter("asx").measure(FIRST, SECOND, daily=False, symbols=["CBA"])
    row = row_of(platform)
    assert (row["coverage"], row["validity"]) == (1, 1)
    assert row["agreement"] == pytest.approx(342 / 360)
    assert row["timeliness"] == pytest.approx(300 / 360)
    assert row["score"] == round(100 * 342 / 360 * 300 / 360, 2)


def test_bars_that_were_fetched_later_are_never_late(platform: Platform) -> None:
    rows = minutes_of("CBA", (0, 360))
    collector(platform, "1m", FixedSource(rows)).collect(FIRST, SECOND, ["CBA"])
    platform.completeness_meter("asx").measure(FIRST, SECOND, daily=False, symbols=["CBA"])
    assert row_of(platform)["timeliness"] == 1
