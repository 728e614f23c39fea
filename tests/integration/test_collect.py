"""Collecting: what is asked of whom, what is stored, what is refused, and what is said of it.

Sydney keeps summer time in January 2022: a session goes from 23:00 UTC of the day before its date
to 05:00 UTC. Monday the 3rd and Wednesday the 26th are public holidays.
"""

from datetime import UTC, date, datetime

import pandas as pd
import pytest

from scizor_core.errors import UnknownSymbolError
from scizor_resources.errors import TransientError
from scizor_resources.pipeline.collect import CHUNK_DAYS
from scizor_resources.platform import Platform
from scizor_resources.providers.base import BarRequest, normalise_bars
from scizor_resources.stores.merging import WriteResult

from .helpers import (
    FailingSource,
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


def stored(platform: Platform, timeframe: str) -> list[tuple[str, str, float]]:
    rows = query(
        platform,
        "SELECT s.symbol, to_char(b.ts AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') AS at, b.close "
        "FROM market.bars AS b JOIN public.symbols AS s USING (instrument_id) "
        "WHERE b.timeframe = %s ORDER BY 1, 2",
        timeframe,
    )
    return [(row["symbol"], row["at"], row["close"]) for row in rows]


def test_a_second_run_writes_nothing(platform: Platform) -> None:
    for timeframe in ("1m", "5m", "15m", "1d"):
        collector(platform, timeframe, simulated()).collect(FIRST, THIRD, ["CBA", "TLS"])
    before = fingerprint(platform)
    reports = [
        collector(platform, timeframe, simulated()).collect(FIRST, THIRD, ["CBA", "TLS"])
        for timeframe in ("1m", "5m", "15m", "1d")
    ]
    assert fingerprint(platform) == before
    assert {(r.written.inserted, r.written.changed, r.quarantined) for r in reports} == {(0, 0, 0)}


def test_a_changed_bar_leaves_its_old_value_in_the_revisions(platform: Platform) -> None:
    at = "2022-01-03 23:00"
    collector(platform, "1m", FixedSource(flat("CBA", [at], 10))).collect(FIRST, SECOND, ["CBA"])
    report = collector(platform, "1m", FixedSource(flat("CBA", [at], 11))).collect(
        FIRST, SECOND, ["CBA"]
    )
    assert report.written == WriteResult(changed=1)
    assert stored(platform, "1m") == [("CBA", at, 11)]
    assert [row["close"] for row in query(platform, "SELECT * FROM market.bar_revisions")] == [10]


def test_simulated_bars_never_replace_real_ones(platform: Platform) -> None:
    at = "2022-01-03 23:00"
    collector(platform, "1m", FixedSource(flat("CBA", [at], 10))).collect(FIRST, SECOND, ["CBA"])
    report = collector(platform, "1m", simulated()).collect(FIRST, SECOND, ["CBA"])
    assert report.written.protected == 1
    assert stored(platform, "1m")[0] == ("CBA", at, 10)


BAD_ROWS = rows_of(
    "CBA",
    [
        ("2022-01-03 23:00", 10, 11, 9, 10, 100),
        ("2022-01-03 23:01", 10, 9, 11, 10, 100),  # high below low
        ("2022-01-03 23:02", -1, 11, -2, 10, 100),  # below zero
        ("2022-01-03 23:03", 10, 11, 9, 10, -5),  # negative volume
        ("2022-01-03 22:59", 10, 11, 9, 10, 100),  # before the open
        ("2022-01-03 23:04:30", 10, 11, 9, 10, 100),  # not a whole minute
        ("2022-01-03 23:05", 10, float("nan"), 9, 10, 100),
        ("2022-01-03 23:06", 10, 11, 9, 10, 100),
        ("2022-01-03 23:06", 10, 11, 9, 10.5, 100),  # the same minute again
    ],
)


class BeforeTheOpen(FixedSource):
    """Gives its rows whatever window was asked for."""

    def fetch_bars(self, request: BarRequest):  # noqa: ANN201
        batch = super().fetch_bars(request)
        batch.bars = self.rows
        return batch


def test_bad_rows_are_quarantined_with_their_reason_and_good_ones_stored(
    platform: Platform,
) -> None:
    report = collector(platform, "1m", BeforeTheOpen(BAD_ROWS)).collect(FIRST, SECOND, ["CBA"])
    assert stored(platform, "1m") == [
        ("CBA", "2022-01-03 23:00", 10),
        ("CBA", "2022-01-03 23:06", 10),
    ]
    reasons = query(platform, "SELECT reason FROM quality.quarantine ORDER BY ts, reason")
    assert [row["reason"] for row in reasons] == [
        "outside every session of XASX",
        "high is below low; high is below open; high is below close; low is above open; "
        "low is above close",
        "open is not above zero; low is not above zero",
        "volume is negative",
        "time is not the start of a 1m bar",
        "high is missing or not a number",
        "same symbol and time as an earlier row of the answer",
    ]
    assert (report.rows, report.refused, report.quarantined) == (2, 7, 7)


def test_bad_rows_are_quarantined_once_however_often_they_come(platform: Platform) -> None:
    source = BeforeTheOpen(BAD_ROWS)
    collector(platform, "1m", source).collect(FIRST, SECOND, ["CBA"])
    report = collector(platform, "1m", source).collect(FIRST, SECOND, ["CBA"])
    assert (report.refused, report.quarantined) == (7, 0)
    assert query(platform, "SELECT count(*) AS n FROM quality.quarantine") == [{"n": 7}]


def test_rows_of_which_nothing_is_usable_are_not_called_empty(platform: Platform) -> None:
    report = collector(platform, "1m", BeforeTheOpen(BAD_ROWS.iloc[1:3])).collect(
        FIRST, SECOND, ["CBA"]
    )
    assert report.empty_reason == "every row received was refused, see quality.quarantine"


def test_a_delisted_symbol_is_stated_and_not_asked(platform: Platform) -> None:
    source = FixedSource()
    report = collector(platform, "5m", source).collect(date(2022, 1, 20), date(2022, 1, 21))
    reason = "delisted: last traded on 2022-01-19; acquired by Block"
    assert report.missing["APT"].startswith(reason)
    assert "APT" not in source.asked_symbols()
    assert "CBA" in source.asked_symbols()


def test_a_symbol_is_asked_up_to_its_last_day(platform: Platform) -> None:
    source = FixedSource()
    collector(platform, "1d", source).collect(date(2022, 1, 1), date(2022, 2, 1), ["APT", "CBA"])
    ends = {ref.symbol: r.end.date() for r in source.asked for ref in r.symbols}
    assert ends == {"APT": date(2022, 1, 20), "CBA": date(2022, 2, 1)}


def test_a_symbol_is_asked_from_its_first_day(platform: Platform) -> None:
    source = FixedSource()
    collector(platform, "1d", source).collect(date(2018, 11, 1), date(2018, 12, 1), ["COL", "CBA"])
    starts = {ref.symbol: r.start.date() for r in source.asked for ref in r.symbols}
    # Coles was listed on 21 November 2018.
    assert starts == {"COL": date(2018, 11, 21), "CBA": date(2018, 11, 1)}


def test_a_code_that_another_company_has_now_gives_each_its_own_bars(platform: Platform) -> None:
    execute(
        platform,
        "INSERT INTO public.symbols (market, symbol, name, currency) "
        "VALUES ('asx', 'APT', 'Another company', 'AUD')",
    )
    days = ["2022-01-18", "2022-01-19", "2022-01-20", "2022-01-21"]
    collector(platform, "1d", FixedSource(flat("APT", days))).collect(
        date(2022, 1, 1), date(2022, 2, 1), ["APT"]
    )
    rows = query(
        platform,
        "SELECT s.name, array_agg(b.session_date::text ORDER BY b.ts) AS days "
        "FROM market.bars AS b JOIN public.symbols AS s USING (instrument_id) GROUP BY 1",
    )
    assert {row["name"]: row["days"] for row in rows} == {
        "Afterpay": days[:2],
        "Another company": days[2:],
    }


def test_five_minute_bars_are_made_of_stored_one_minute_bars(platform: Platform) -> None:
    minutes = rows_of(
        "CBA",
        [
            ("2022-01-03 23:00", 10, 12, 9, 11, 100),
            ("2022-01-03 23:03", 11, 15, 11, 14, 300),
            ("2022-01-03 23:05", 14, 14, 13, 13, 50),
        ],
    )
    collector(platform, "1m", FixedSource(minutes)).collect(FIRST, SECOND, ["CBA"])
    collector(platform, "5m", FixedSource()).collect(FIRST, SECOND, ["CBA"])
    bars = query(
        platform,
        "SELECT open, high, low, close, volume FROM asx.bars_5m ORDER BY ts",
    )
    assert [tuple(row.values()) for row in bars] == [
        (10, 15, 9, 14, 400),
        (14, 14, 13, 13, 50),
    ]


def test_what_one_minute_bars_leave_open_is_filled_from_a_five_minute_tape(
    platform: Platform,
) -> None:
    collector(
        platform, "1m", FixedSource(flat("CBA", ["2022-01-03 23:00", "2022-01-03 23:11"], 10))
    ).collect(FIRST, SECOND, ["CBA"])
    times = ["23:00", "23:05", "23:10", "23:15"]
    lines = [f"2022-01-03 {at}Z,20,20,20,20,1000\n" for at in times]
    put_on_tape(platform, HEADER + "".join(lines), market="asx", symbol="CBA", timeframe="5m")
    collector(platform, "5m", platform.tape).collect(FIRST, SECOND, ["CBA"])
    assert [(at[-5:], close) for _, at, close in stored(platform, "5m")] == [
        ("23:00", 10),
        ("23:05", 20),
        ("23:10", 10),
        ("23:15", 20),
    ]


def test_fifteen_minute_bars_come_from_five_minute_bars_and_ask_nobody(platform: Platform) -> None:
    times = ["2022-01-03 23:00", "2022-01-03 23:10", "2022-01-03 23:15"]
    collector(platform, "5m", FixedSource(flat("TLS", times, 4, 100))).collect(
        FIRST, SECOND, ["TLS"]
    )
    source = FixedSource(flat("TLS", times, 99))
    report = collector(platform, "15m", source).collect(FIRST, SECOND, ["TLS"])
    bars = query(platform, "SELECT close, volume FROM asx.bars_15m ORDER BY ts")
    assert [tuple(row.values()) for row in bars] == [(4, 200), (4, 100)]
    assert (source.asked, report.sources) == ([], {"fixed": 2})


def test_fifteen_minute_bars_without_five_minute_bars_say_so(platform: Platform) -> None:
    report = collector(platform, "15m", simulated()).collect(FIRST, SECOND, ["TLS"])
    assert report.empty_reason == "no 5m bars are stored to derive 15m from"


def test_an_empty_answer_says_why(platform: Platform) -> None:
    report = collector(platform, "5m", FixedSource()).collect(FIRST, SECOND, ["TLS"])
    assert report.missing == {"TLS": "fixed: no bars of TLS here"}
    assert report.empty_reason == "fixed: no bars of TLS here"


def test_nothing_is_asked_for_days_on_which_the_exchange_is_closed(platform: Platform) -> None:
    source = FixedSource()
    # Saturday 1 January to Monday 3 January 2022, the public holiday in its place.
    for timeframe in ("1m", "1d"):
        report = collector(platform, timeframe, source).collect(date(2022, 1, 1), FIRST)
        assert report.empty_reason == "the exchange is closed on every day of the range"
    assert source.asked == []


def test_a_market_without_symbols_says_so(platform: Platform) -> None:
    report = collector(platform, "1m", FixedSource(), market="us").collect(FIRST, SECOND)
    assert report.empty_reason == (
        "no symbol of this market is watched or on the tape for this timeframe"
    )


def test_a_run_killed_half_way_and_run_again_leaves_what_an_unbroken_run_leaves(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CHUNK_DAYS, "1m", 2)
    start, end = date(2022, 1, 4), date(2022, 1, 12)  # pieces of two days, one a weekend
    broken = FailingSource(KeyboardInterrupt(), after=2, inner=simulated())
    with pytest.raises(KeyboardInterrupt):
        collector(platform, "1m", broken).collect(start, end, ["TLS"])
    halfway = query(platform, "SELECT DISTINCT session_date FROM market.bars")
    collector(platform, "1m", simulated()).collect(start, end, ["TLS"])
    rerun = fingerprint(platform, stamps=False)
    execute(platform, "TRUNCATE market.bars, market.bar_revisions, quality.gaps")
    collector(platform, "1m", simulated()).collect(start, end, ["TLS"])
    assert rerun == fingerprint(platform, stamps=False)
    assert len(halfway) == 4


def test_session_by_session_or_as_a_range_gives_the_same_tables(platform: Platform) -> None:
    days = [date(2022, 1, day) for day in (4, 5, 6, 7)]
    for day in days:
        collector(platform, "1m", simulated()).collect(day, date(2022, 1, day.day + 1), ["CBA"])
    one_by_one = fingerprint(platform, stamps=False)
    execute(platform, "TRUNCATE market.bars, quality.gaps")
    collector(platform, "1m", simulated()).collect(days[0], date(2022, 1, 8), ["CBA"])
    assert fingerprint(platform, stamps=False) == one_by_one


def test_what_the_first_source_leaves_open_comes_from_the_next(platform: Platform) -> None:
    own = FixedSource(flat("CBA", ["2022-01-03 23:00", "2022-01-05 23:00"], 10), "own")
    other = FixedSource(
        flat("CBA", [f"2022-01-0{day} 23:0{m}" for day in (3, 4, 5, 6) for m in (0, 1)], 20),
        "other",
    )
    collector(platform, "1m", own, other).collect(FIRST, date(2022, 1, 8), ["CBA"])
    assert stored(platform, "1m") == [
        ("CBA", "2022-01-03 23:00", 10),
        ("CBA", "2022-01-03 23:01", 20),
        ("CBA", "2022-01-04 23:00", 20),
        ("CBA", "2022-01-04 23:01", 20),
        ("CBA", "2022-01-05 23:00", 10),
        ("CBA", "2022-01-05 23:01", 20),
        ("CBA", "2022-01-06 23:00", 20),
        ("CBA", "2022-01-06 23:01", 20),
    ]


def test_the_watchlist_decides_what_is_asked(platform: Platform) -> None:
    source = FixedSource()
    platform.reference.change("asx", "NAB", active=False)
    collector(platform, "1m", source).collect(FIRST, SECOND)
    assert source.asked_symbols() == {"CBA", "BHP", "CSL", "WBC", "ANZ", "WOW", "WES"}


def test_symbols_of_the_run_config_narrow_what_is_asked(platform: Platform) -> None:
    source = FixedSource()
    report = collector(platform, "5m", source).collect(FIRST, SECOND, ["tls", "RIO"])
    assert source.asked_symbols() == {"TLS", "RIO"}
    assert report.asked == {"TLS", "RIO"}


def test_an_unknown_symbol_in_the_run_config_is_refused_by_name(platform: Platform) -> None:
    with pytest.raises(UnknownSymbolError, match="Market 'asx' has no GMG here"):
        collector(platform, "5m", FixedSource()).collect(FIRST, SECOND, ["GMG"])


def test_a_symbol_on_the_tape_needs_no_watchlist(platform: Platform) -> None:
    put_on_tape(
        platform,
        HEADER + "2022-01-03 23:00Z,1,1,1,1,5\n",
        market="asx",
        symbol="GMG",
        timeframe="1m",
    )
    report = collector(platform, "1m", platform.tape).collect(FIRST, SECOND)
    assert report.got == {"GMG"}
    assert stored(platform, "1m") == [("GMG", "2022-01-03 23:00", 1)]


@pytest.mark.parametrize("spelling", ["gmg", " GMG "])
def test_a_symbol_that_sql_added_in_another_spelling_is_collected(
    platform: Platform, spelling: str
) -> None:
    execute(platform, "INSERT INTO public.watchlist (symbol) VALUES (%s)", spelling)
    source = FixedSource()
    collector(platform, "5m", source).collect(FIRST, SECOND)
    assert "GMG" in source.asked_symbols()


def test_an_impossible_symbol_on_the_watchlist_stops_no_other(platform: Platform) -> None:
    execute(platform, "INSERT INTO public.watchlist (symbol) VALUES ('not a code')")
    source = FixedSource()
    report = collector(platform, "5m", source).collect(FIRST, SECOND)
    assert "is not a symbol of market 'asx'" in report.missing["NOT A CODE"]
    assert "CBA" in source.asked_symbols()


def test_a_provider_that_fails_is_an_error_and_not_an_empty_answer(platform: Platform) -> None:
    error = TransientError("It timed out.", provider="failing")
    report = collector(platform, "1m", FailingSource(error)).collect(FIRST, SECOND, ["CBA"])
    assert report.error is error
    assert report.failures == {"failing": "It timed out."}


def test_minutes_without_a_trade_are_known_to_be_quiet_where_every_trade_was_seen(
    platform: Platform,
) -> None:
    trades = "time,price,size\n" + "".join(
        f"2022-01-03 {at}Z,10,5\n" for at in ("23:00:10", "23:01:59", "23:05:00", "23:06:30")
    )
    put_on_tape(platform, trades, market="asx", symbol="CBA", timeframe="tick")
    collector(platform, "1m", platform.tape).collect(FIRST, SECOND, ["CBA"])
    gaps = query(
        platform,
        "SELECT to_char(start_ts AT TIME ZONE 'UTC', 'HH24:MI') AS a, "
        "to_char(end_ts AT TIME ZONE 'UTC', 'HH24:MI') AS b, reason FROM quality.gaps "
        "WHERE reason = 'no trades'",
    )
    assert gaps == [{"a": "23:02", "b": "23:05", "reason": "no trades"}]


def test_a_minute_whose_only_trade_was_refused_is_not_called_quiet(platform: Platform) -> None:
    trades = (
        "time,price,size\n2022-01-03 23:00:10Z,10,5\n2022-01-03 23:01:00Z,-1,5\n"
        "2022-01-03 23:03:00Z,10,5\n"
    )
    put_on_tape(platform, trades, market="asx", symbol="CBA", timeframe="tick")
    manifest = platform.settings.tape_directory / "manifest.json"
    manifest.unlink()
    (platform.settings.tape_directory / "raw.csv").write_text(trades)
    manifest.write_text(
        '[{"file": "raw.csv", "market": "asx", "symbol": "CBA", "timeframe": "tick"}]'
    )
    collector(platform, "1m", platform.tape).collect(FIRST, SECOND, ["CBA"])
    gaps = query(
        platform,
        "SELECT to_char(start_ts AT TIME ZONE 'UTC', 'HH24:MI') AS a, reason FROM quality.gaps "
        "ORDER BY start_ts",
    )
    assert [tuple(gap.values()) for gap in gaps] == [
        ("23:01", "absent in every source"),
        ("23:02", "no trades"),
        ("23:04", "absent in every source"),
    ]


def test_a_bar_of_the_closing_auction_belongs_to_its_session(platform: Platform) -> None:
    # 16:10 in Sydney is 05:10 UTC in January.
    source = FixedSource(flat("CBA", ["2022-01-04 04:59", "2022-01-04 05:10"]))
    report = collector(platform, "1m", source).collect(FIRST, SECOND, ["CBA"])
    days = query(platform, "SELECT DISTINCT session_date FROM market.bars")
    assert (report.rows, report.refused, days) == (2, 0, [{"session_date": FIRST}])


def test_a_bucket_that_still_runs_is_not_final(platform: Platform) -> None:
    collector(platform, "1m", FixedSource(flat("CBA", ["2022-01-03 23:00"]))).collect(
        FIRST, SECOND, ["CBA"]
    )
    collector(
        platform, "5m", FixedSource(), now=lambda: datetime(2022, 1, 3, 23, 3, tzinfo=UTC)
    ).collect(FIRST, SECOND, ["CBA"])
    assert query(platform, "SELECT is_final FROM asx.bars_5m") == [{"is_final": False}]


def priced(source: str, price: float) -> pd.DataFrame:
    """Return half an hour of CBA at one price, as a source has it."""
    times = [f"2022-01-04 00:{minute:02d}" for minute in range(30)]
    return flat("CBA", times).assign(source=source, open=price, high=price, low=price, close=price)


def stored_prices(platform: Platform) -> set[tuple[str, float]]:
    rows = query(platform, "SELECT source, close FROM market.bars WHERE timeframe = '1m'")
    return {(row["source"], row["close"]) for row in rows}


def test_a_later_source_does_not_overwrite_what_a_better_one_has_stored(
    platform: Platform,
) -> None:
    better = FixedSource(priced("better", 100.0), name="better")
    worse = FixedSource(priced("worse", 101.0), name="worse")
    collector(platform, "1m", better, worse).collect(FIRST, SECOND, ["CBA"])
    better.rows = better.rows.iloc[:0]  # it has lost its memory; the other still answers

    report = collector(platform, "1m", better, worse).collect(FIRST, SECOND, ["CBA"])

    assert stored_prices(platform) == {("better", 100.0)}
    assert (report.held_back, report.written.changed) == (30, 0)
    rows = query(platform, "SELECT * FROM quality.disagreements ORDER BY ts")
    assert len(rows) == 30
    assert (rows[0]["kept_source"], rows[0]["other_source"]) == ("better", "worse")
    assert (rows[0]["kept"]["close"], rows[0]["other"]["close"]) == (100.0, 101.0)
    assert rows[0]["price_difference"] == pytest.approx(0.01)


def test_a_better_source_that_comes_back_replaces_and_the_old_values_are_kept(
    platform: Platform,
) -> None:
    better = FixedSource(name="better")
    worse = FixedSource(priced("worse", 101.0), name="worse")
    collector(platform, "1m", better, worse).collect(FIRST, SECOND, ["CBA"])
    better.rows = normalise_bars(priced("better", 100.0))

    collector(platform, "1m", better, worse).collect(FIRST, SECOND, ["CBA"])

    assert stored_prices(platform) == {("better", 100.0)}
    assert len(query(platform, "SELECT 1 FROM market.bar_revisions")) == 30
    rows = query(platform, "SELECT DISTINCT kept_source, other_source FROM quality.disagreements")
    assert [tuple(row.values()) for row in rows] == [("better", "worse")]


def test_sources_that_agree_leave_no_trace(platform: Platform) -> None:
    first = FixedSource(priced("better", 100.0), name="better")
    second = FixedSource(priced("worse", 100.01), name="worse")
    collector(platform, "1m", first, second).collect(FIRST, SECOND, ["CBA"])
    collector(platform, "1m", second).collect(FIRST, SECOND, ["CBA"])

    assert query(platform, "SELECT 1 FROM quality.disagreements") == []
