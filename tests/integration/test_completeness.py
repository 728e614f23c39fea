"""Completeness: stored bars against the calendar, and the reason for what is absent."""

from datetime import UTC, date, datetime

import pytest

from scizor_core.errors import UnknownSymbolError
from scizor_resources.platform import Platform

from .helpers import (
    FixedSource,
    collector,
    execute,
    fingerprint,
    flat,
    put_on_tape,
    query,
    rows_of,
    simulated,
)

FIRST, SECOND, THIRD = date(2022, 1, 4), date(2022, 1, 5), date(2022, 1, 6)
HEADER = "time,open,high,low,close,volume\n"


def minutes_of(symbol: str, first: int, last: int):  # noqa: ANN201
    """Return flat minutes `first` to `last - 1` of the session of 4 January 2022."""
    times = [
        datetime.fromtimestamp(1641250800 + 60 * minute, UTC).strftime("%Y-%m-%d %H:%M")
        for minute in range(first, last)
    ]
    return flat(symbol, times)


def measure(platform: Platform, *symbols: str, daily: bool = False, end: date = SECOND):  # noqa: ANN201
    return platform.completeness_meter("asx").measure(
        FIRST, end, daily=daily, symbols=list(symbols) or None
    )


def row_of(platform: Platform, symbol: str, timeframe: str, day: date = FIRST) -> dict:
    rows = query(
        platform,
        "SELECT c.* FROM quality.completeness AS c JOIN public.symbols AS s USING (instrument_id) "
        "WHERE s.symbol = %s AND c.timeframe = %s AND c.session_date = %s",
        symbol,
        timeframe,
        day,
    )
    assert len(rows) == 1
    return rows[0]


def test_a_full_session_is_complete(platform: Platform) -> None:
    source = FixedSource(minutes_of("CBA", 0, 360))
    for timeframe in ("1m", "5m", "15m"):
        collector(platform, timeframe, source).collect(FIRST, SECOND, ["CBA"])
    measure(platform, "CBA")
    for timeframe, count in (("1m", 360), ("5m", 72), ("15m", 24)):
        row = row_of(platform, "CBA", timeframe)
        assert (row["expected"], row["present"], row["missing"]) == (count, count, 0)
        assert (row["coverage"], row["score"], row["reason"]) == (1, 100, "complete")


def test_absent_minutes_are_missing_as_long_as_nobody_saw_that_nothing_traded(
    platform: Platform,
) -> None:
    collector(platform, "1m", FixedSource(minutes_of("CBA", 0, 270))).collect(
        FIRST, SECOND, ["CBA"]
    )
    report = measure(platform, "CBA")
    row = row_of(platform, "CBA", "1m")
    assert (row["present"], row["quiet"], row["missing"]) == (270, 0, 90)
    assert (row["coverage"], row["score"]) == (0.75, 75)
    assert row["reason"] == "absent in every source"
    assert report.worst[0] == {
        "symbol": "CBA",
        "timeframe": "1m",
        "session": "2022-01-04",
        "missing": 90,
        "reason": "absent in every source",
    }


def test_a_session_without_any_bar_is_not_yet_fetched(platform: Platform) -> None:
    measure(platform, "CBA")
    row = row_of(platform, "CBA", "5m")
    assert (row["expected"], row["missing"], row["reason"]) == (72, 72, "not yet fetched")


def test_minutes_known_to_be_quiet_are_not_missing_at_any_timeframe(platform: Platform) -> None:
    trades = "time,price,size\n2022-01-03 23:00:00Z,10,5\n2022-01-04 04:59:30Z,10,5\n"
    put_on_tape(platform, trades, market="asx", symbol="TLS", timeframe="tick")
    for timeframe in ("1m", "5m", "15m"):
        collector(platform, timeframe, platform.tape).collect(FIRST, SECOND, ["TLS"])
    measure(platform, "TLS")
    counts = {
        each: (row["present"], row["quiet"], row["missing"])
        for each in ("1m", "5m", "15m")
        if (row := row_of(platform, "TLS", each))
    }
    assert counts == {"1m": (2, 358, 0), "5m": (2, 70, 0), "15m": (2, 22, 0)}


def test_quiet_five_minute_bars_make_quiet_quarters_of_an_hour(platform: Platform) -> None:
    # Collected at 5 minutes only, as the second and third tier are.
    trades = "time,price,size\n2022-01-03 23:00:00Z,10,5\n2022-01-04 04:59:30Z,10,5\n"
    put_on_tape(platform, trades, market="asx", symbol="TLS", timeframe="tick")
    collector(platform, "5m", platform.tape).collect(FIRST, SECOND, ["TLS"])
    collector(platform, "15m").collect(FIRST, SECOND, ["TLS"])
    measure(platform, "TLS")
    row = row_of(platform, "TLS", "15m")
    assert (row["present"], row["quiet"], row["missing"]) == (2, 22, 0)


def test_the_closing_auction_is_stored_and_not_expected(platform: Platform) -> None:
    source = FixedSource(flat("CBA", ["2022-01-04 04:59", "2022-01-04 05:10"]))
    collector(platform, "1m", source).collect(FIRST, SECOND, ["CBA"])
    measure(platform, "CBA")
    row = row_of(platform, "CBA", "1m")
    assert (row["present"], row["unexpected"], row["expected"]) == (1, 1, 360)


def test_a_day_after_delisting_is_excused_and_says_why(platform: Platform) -> None:
    meter = platform.completeness_meter("asx")
    meter.measure(date(2022, 1, 19), date(2022, 1, 21), daily=False, symbols=["APT"])
    last, after = (row_of(platform, "APT", "5m", date(2022, 1, day)) for day in (19, 20))
    assert (last["expected"], last["delisted"], last["missing"]) == (72, 0, 72)
    assert (after["expected"], after["delisted"], after["missing"]) == (72, 72, 0)
    assert (after["coverage"], after["excused"]) == (1, 72)
    assert after["reason"].startswith("delisted: last traded on 2022-01-19")


def test_bars_that_have_not_ended_are_not_expected_yet(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One hour and two and a half minutes after the open.
    monkeypatch.setattr(platform, "now", lambda: datetime(2022, 1, 4, 0, 2, 30, tzinfo=UTC))
    measure(platform, "CBA")
    expected = {each: row_of(platform, "CBA", each)["expected"] for each in ("1m", "5m", "15m")}
    assert expected == {"1m": 62, "5m": 12, "15m": 4}


def test_outliers_and_refused_rows_cost_score(platform: Platform) -> None:
    rows = minutes_of("CBA", 0, 360)
    rows.loc[100, ["high", "close"]] = 15.0  # 50 % up and a spread of a third; then down again
    rows.loc[359, "volume"] = -1.0
    collector(platform, "1m", FixedSource(rows)).collect(FIRST, SECOND, ["CBA"])
    measure(platform, "CBA")
    row = row_of(platform, "CBA", "1m")
    assert (row["outliers"], row["quarantined"], row["present"]) == (2, 1, 359)
    # coverage 359/360, validity 359/360, plausibility 1 - 2/359/2
    assert row["score"] == round(100 * 359 / 360 * 359 / 360 * (1 - 1 / 359), 2)


def test_daily_bars_are_measured_by_the_session(platform: Platform) -> None:
    days = flat("CBA", ["2022-01-04", "2022-01-06"])
    collector(platform, "1d", FixedSource(days)).collect(FIRST, date(2022, 1, 7), ["CBA"])
    report = measure(platform, "CBA", daily=True, end=date(2022, 1, 7))
    assert (report.expected, report.present, report.missing) == (3, 2, 1)
    assert report.worst[0]["session"] == "2022-01-05"


def test_refused_daily_rows_of_one_session_are_all_counted(platform: Platform) -> None:
    bad = rows_of(
        "CBA",
        [("2022-01-04", 10, 9, 11, 10, 1), ("2022-01-04 05:00", 10, 11, 9, 10, 1)],
    )
    collector(platform, "1d", FixedSource(bad)).collect(FIRST, SECOND, ["CBA"])
    measure(platform, "CBA", daily=True)
    assert row_of(platform, "CBA", "1d")["quarantined"] == 2


def test_the_watchlist_and_whatever_has_bars_is_measured(platform: Platform) -> None:
    platform.reference.ensure("asx", "GMG")
    platform.reference.ensure("asx", "STO")
    collector(platform, "1m", FixedSource(minutes_of("GMG", 0, 5))).collect(FIRST, SECOND, ["GMG"])
    measure(platform)
    rows = query(
        platform,
        "SELECT s.symbol FROM quality.completeness AS c JOIN public.symbols AS s "
        "USING (instrument_id) WHERE c.timeframe = '1m'",
    )
    assert {row["symbol"] for row in rows} == {
        *("CBA", "BHP", "CSL", "WBC", "ANZ", "NAB", "WOW", "WES"),
        "GMG",
    }


def test_symbols_narrow_what_is_measured_in_any_case(platform: Platform) -> None:
    assert measure(platform, "tls").sessions == 2  # at 5 and at 15 minutes


def test_an_unknown_symbol_is_refused_by_name(platform: Platform) -> None:
    with pytest.raises(UnknownSymbolError, match="has no GMG here"):
        measure(platform, "GMG")


def test_a_closed_day_has_no_rows(platform: Platform) -> None:
    meter = platform.completeness_meter("asx")
    assert meter.measure(date(2022, 1, 1), FIRST, daily=False).sessions == 0


def test_measuring_twice_changes_nothing(platform: Platform) -> None:
    collector(platform, "5m", simulated()).collect(FIRST, THIRD, ["CBA", "ZIP"])
    measure(platform, end=THIRD)
    before = fingerprint(platform)
    assert measure(platform, end=THIRD).changed == 0
    assert fingerprint(platform) == before


def test_a_repaired_session_is_measured_anew(platform: Platform) -> None:
    collector(platform, "5m", simulated()).collect(FIRST, SECOND, ["CBA"])
    execute(platform, "DELETE FROM market.bars WHERE ts < '2022-01-04 00:00:00+00'")
    assert measure(platform, "CBA").missing > 0
    collector(platform, "5m", simulated()).collect(FIRST, SECOND, ["CBA"])
    measure(platform, "CBA")
    assert row_of(platform, "CBA", "5m")["reason"] == "complete"


def test_nothing_is_expected_around_what_a_user_has_imported(platform: Platform) -> None:
    platform.reference.ensure("us", "ACME")
    put_on_tape(
        platform,
        "date,open,high,low,close,volume\n"
        "2022-01-05,10,11,9,10,100\n2022-01-06,10,11,9,10,100\n2022-01-07,10,11,9,10,100\n",
        market="us",
        symbol="ACME",
        timeframe="1d",
    )
    collector(platform, "1d", platform.tape, market="us").collect(
        date(2022, 1, 1), date(2022, 2, 1), ["ACME"]
    )

    report = platform.completeness_meter("us").measure(
        date(2022, 1, 1), date(2022, 2, 1), daily=True, symbols=["ACME"]
    )

    assert (report.expected, report.present, report.missing) == (3, 3, 0)
    assert row_of(platform, "ACME", "1d", date(2022, 1, 4))["reason"] == (
        "not on the watchlist; imported from 2022-01-05 on"
    )
    assert row_of(platform, "ACME", "1d", date(2022, 1, 10))["reason"] == (
        "not on the watchlist; imported until 2022-01-07"
    )
