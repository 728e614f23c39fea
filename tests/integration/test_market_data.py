"""The reader of market data: windows, sources, adjusted prices."""

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pandas as pd
import pytest

from scizor_core.errors import InvalidInputError, UnknownSymbolError
from scizor_core.sessions import get_calendar
from scizor_resources.market_data import MARKET_DATA_COLUMNS, SESSION_VWAP, MarketData
from scizor_resources.pipeline.enrich import enrich
from scizor_resources.platform import Platform
from scizor_resources.read_only import QueryError

from .helpers import execute

SYDNEY_SUMMER = timezone(timedelta(hours=11))
FIRST, LAST = date(2021, 12, 6), date(2021, 12, 10)


@pytest.fixture
def data(platform: Platform) -> MarketData:
    """A week of daily and 5 minute bars of CBA (asx) and AAPL (us)."""
    for market, symbol in (("asx", "CBA"), ("us", "AAPL")):
        instrument, _ = platform.reference.ensure(market, symbol)
        for session in get_calendar(market).sessions(FIRST, LAST + timedelta(days=1)):
            for timeframe in ("5m", "1d"):
                ts = get_calendar(market).expected(session.session_date, timeframe)
                number = pd.Series(range(len(ts)))
                source = "simulated" if session.session_date == LAST else "tape/test"
                platform.warehouse.write_bars(
                    pd.DataFrame(
                        {
                            "instrument_id": instrument.instrument_id,
                            "timeframe": pd.Series(timeframe, index=number.index, dtype="str"),
                            "ts": ts,
                            "session_date": pd.Series(
                                pd.Timestamp(session.session_date),
                                index=number.index,
                                dtype="datetime64[us]",
                            ),
                            "open": 10.0,
                            "high": 14.0,
                            "low": 8.0,
                            "close": 12.0,
                            "volume": 100.0,
                            "vwap": 11.0,
                            "trade_count": pd.Series(7, index=number.index, dtype="Int64"),
                            "adj_close": 6.0 if timeframe == "1d" else float("nan"),
                            "source": pd.Series(source, index=number.index, dtype="str"),
                            "is_final": True,
                        }
                    )
                )
    return MarketData(platform)


@pytest.mark.parametrize(
    ("market", "symbol", "first", "bars"),
    [
        # Sydney opens at 10:00 (UTC+11), New York at 09:30 (UTC-5); 6 and 6.5 hours of 5 minutes.
        ("asx", "CBA", "2021-12-06T23:00:00+00:00", 72),
        ("us", "AAPL", "2021-12-07T14:30:00+00:00", 78),
    ],
)
def test_a_date_is_the_session_of_the_exchange(
    market: str, symbol: str, first: str, bars: int, data: MarketData
) -> None:
    frame = data.bars(symbol, "5m", "2021-12-07", "2021-12-08", market=market)
    assert len(frame) == bars
    assert frame.index[0] == pd.Timestamp(first)
    assert set(frame["session_date"]) == {pd.Timestamp("2021-12-07")}


@pytest.mark.parametrize("symbol", ["CBA", "AAPL"])
def test_a_daily_window_excludes_its_end(symbol: str, data: MarketData) -> None:
    frame = data.bars(symbol, "1d", date(2021, 12, 7), date(2021, 12, 9))
    assert [ts.date() for ts in frame.index] == [date(2021, 12, 7), date(2021, 12, 8)]


def test_an_instant_may_be_given_in_any_zone(data: MarketData) -> None:
    start = datetime(2021, 12, 7, 10, 5, tzinfo=SYDNEY_SUMMER)
    frame = data.bars("CBA", "5m", start, "2021-12-06T23:15:00Z")
    assert [f"{ts:%H:%M}" for ts in frame.index] == ["23:05", "23:10"]


def test_the_index_is_utc_and_the_columns_are_the_documented_ones(data: MarketData) -> None:
    frame = data.bars("CBA", "5m", last=3)
    assert str(frame.index.dtype) == "datetime64[us, UTC]"
    assert tuple(frame.columns) == MARKET_DATA_COLUMNS
    assert len(frame) == 3


def test_last_counts_back_from_the_end_of_the_window(data: MarketData) -> None:
    frame = data.bars("CBA", "1d", end="2021-12-09", last=2)
    assert [ts.day for ts in frame.index] == [7, 8]


def test_one_simulated_bar_marks_the_answer(data: MarketData) -> None:
    attrs = data.bars("CBA", "1d").attrs
    assert attrs["simulated"] is True
    assert attrs["sources"] == {"tape/test": 4, "simulated": 1}


def test_real_bars_are_not_marked(data: MarketData) -> None:
    attrs = data.bars("CBA", "1d", end="2021-12-10").attrs
    assert attrs["simulated"] is False
    assert attrs["sources"] == {"tape/test": 4}
    assert attrs["tier"] == "warm"


def test_adjusted_prices_keep_their_proportions(data: MarketData) -> None:
    bar = data.bars("CBA", "1d", adjusted=True).iloc[0]
    assert bar[["open", "high", "low", "close", "vwap"]].tolist() == [5.0, 7.0, 4.0, 6.0, 5.5]
    assert bar["volume"] == 100.0


def test_adjusting_minutes_is_refused(data: MarketData) -> None:
    with pytest.raises(InvalidInputError, match="daily bars"):
        data.bars("CBA", "5m", adjusted=True)


@pytest.fixture
def actions(platform: Platform, data: MarketData) -> None:
    """CBA has split 2 for 1 on the 8th and paid 1.20 on the 9th; a third row does not count."""
    instrument, _ = platform.reference.ensure("asx", "CBA")
    for day, kind, source, ratio, amount, applied in (
        ("2021-12-08", "split", "yahoo", 2, None, True),
        ("2021-12-09", "dividend", "yahoo", None, 1.2, True),
        ("2021-12-09", "split", "finnhub", 10, None, False),
    ):
        execute(
            platform,
            "INSERT INTO public.corporate_actions "
            "(instrument_id, ex_date, kind, source, ratio, amount, currency, applied) "
            "VALUES (%s, %s, %s, %s, %s, %s, 'AUD', %s)",
            *(instrument.instrument_id, day, kind, source, ratio, amount, applied),
        )


@pytest.mark.usefixtures("actions")
def test_splits_bring_raw_prices_and_volumes_to_the_shares_of_today(data: MarketData) -> None:
    frame = data.bars("CBA", "1d", adjust="splits")
    assert frame["close"].tolist() == [6, 6, 12, 12, 12]
    assert frame["vwap"].tolist() == [5.5, 5.5, 11, 11, 11]
    assert frame["volume"].tolist() == [200, 200, 100, 100, 100]
    assert frame.attrs["adjust"] == "splits"


@pytest.mark.usefixtures("actions")
def test_dividends_lower_the_prices_before_and_no_volume(data: MarketData) -> None:
    frame = data.bars("CBA", "1d", adjust="all")
    # 1 - 1.20 / 12, with the close of the 8th.
    assert frame["close"].tolist() == pytest.approx([5.4, 5.4, 10.8, 12, 12], rel=1e-12)
    assert frame["open"].iloc[0] == pytest.approx(10 / 2 * 0.9, rel=1e-12)
    assert frame["volume"].tolist() == [200, 200, 100, 100, 100]


@pytest.mark.usefixtures("actions")
def test_minutes_are_adjusted_by_their_session(data: MarketData) -> None:
    frame = data.bars("CBA", "5m", adjust="all")
    by_session = frame.groupby("session_date")["close"].unique().str[0]
    assert by_session.tolist() == pytest.approx([5.4, 5.4, 10.8, 12, 12], rel=1e-12)


@pytest.mark.usefixtures("actions")
def test_only_bars_fetched_before_the_split_lack_it(platform: Platform, data: MarketData) -> None:
    execute(platform, "UPDATE market.bars SET source = 'yahoo' WHERE timeframe = '1d'")
    execute(
        platform,
        "UPDATE market.bars SET ingested_at = '2021-12-07 12:00+00' "
        "WHERE timeframe = '1d' AND session_date = '2021-12-06'",
    )
    assert data.bars("CBA", "1d", adjust="splits")["close"].tolist() == [6, 12, 12, 12, 12]


@pytest.mark.usefixtures("actions")
def test_the_last_bars_are_adjusted_like_all(data: MarketData) -> None:
    whole, last = data.bars("CBA", adjust="all"), data.bars("CBA", adjust="all", last=3)
    pd.testing.assert_frame_equal(whole.iloc[-3:], last)


@pytest.mark.usefixtures("actions")
def test_without_being_asked_nothing_is_adjusted(data: MarketData) -> None:
    assert data.bars("CBA", "1d")["close"].tolist() == [12] * 5


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"adjust": "all", "adjusted": True}, "ask for one of them"),
        ({"adjust": "all", "indicators": True}, "without them"),
        ({"adjust": "dividends"}, "use 'splits' or 'all'"),
    ],
    ids=["two adjustments", "indicators", "no such adjustment"],
)
def test_adjustments_that_make_no_sense_are_refused(
    options: dict[str, Any], why: str, data: MarketData
) -> None:
    with pytest.raises(InvalidInputError, match=why):
        data.bars("CBA", "1d", **options)


def test_the_sessions_vwap_stands_beside_that_of_the_bar(
    platform: Platform, data: MarketData
) -> None:
    enrich(platform.warehouse, platform.reference, "asx", "5m", FIRST, LAST)
    frame = data.bars("CBA", "5m", "2021-12-06", "2021-12-07", indicators=True)
    assert frame["vwap"].unique().tolist() == [11.0]
    # Typical price of every bar: (14 + 8 + 12) / 3.
    assert frame[SESSION_VWAP].tolist() == pytest.approx([34 / 3] * 72)


def test_a_naive_time_is_refused(data: MarketData) -> None:
    with pytest.raises(InvalidInputError, match="no time zone"):
        data.bars("CBA", "5m", datetime(2021, 12, 7, 10))  # noqa: DTZ001  # the point of the test


def test_no_bars_is_an_answer_with_its_reason(data: MarketData) -> None:
    frame = data.bars("CBA", "1d", "2021-12-20")
    assert frame.empty
    assert tuple(frame.columns) == MARKET_DATA_COLUMNS
    assert "has 1d bars from 2021-12-06 to 2021-12-10 only" in frame.attrs["empty_reason"]


def test_a_reused_code_means_the_company_listed_now(platform: Platform, data: MarketData) -> None:
    with platform.warehouse.connect() as connection:
        connection.execute(
            "UPDATE symbols SET status = 'delisted', delisted_on = '2021-12-10' "
            "WHERE market = 'us' AND symbol = 'AAPL'"
        )
        row = connection.execute(
            "INSERT INTO symbols (market, symbol, currency) VALUES ('us', 'AAPL', 'USD') "
            "RETURNING instrument_id"
        ).fetchone()
    assert row is not None
    assert data.find("AAPL").instrument_id == row["instrument_id"]


def test_an_unknown_crypto_code_suggests_the_pair(platform: Platform) -> None:
    platform.reference.ensure("crypto", "BTC/USD")
    with pytest.raises(UnknownSymbolError, match=r"Did you mean BTC/USD \(crypto\)"):
        MarketData(platform).bars("BTC")


def test_quality_is_told_per_session(platform: Platform, data: MarketData) -> None:
    platform.completeness_meter("asx").measure(FIRST, LAST + timedelta(days=1), daily=False)
    frame = data.quality("CBA", "5m", "2021-12-06", "2021-12-08")
    assert frame["present"].tolist() == [72, 72]
    assert frame["coverage"].tolist() == [1.0, 1.0]


def test_symbols_tell_what_is_watched_and_what_has_left(data: MarketData) -> None:
    frame = data.symbols("asx").set_index("symbol")
    assert bool(frame.loc["CBA", "watched"])
    assert frame.loc["APT", "delisted_on"] == pd.Timestamp("2022-01-19")
    assert data.symbols("us")["symbol"].tolist() == ["AAPL"]


def test_a_query_gives_a_frame_and_cannot_write(data: MarketData) -> None:
    frame = data.query("SELECT count(*) AS bars FROM asx.bars_1d")
    assert frame["bars"].tolist() == [5]
    with pytest.raises(QueryError, match="may only read"):
        data.query("WITH gone AS (DELETE FROM watchlist RETURNING 1) SELECT * FROM gone")


def test_a_reader_opened_by_itself_finds_the_platform_of_the_environment(
    data: MarketData,
) -> None:
    with MarketData.open() as reader:
        assert len(reader.bars("CBA", "1d")) == 5


def test_utc_instants_are_kept(data: MarketData) -> None:
    frame = data.bars("CBA", "5m", datetime(2021, 12, 6, 23, 30, tzinfo=UTC), last=1000)
    assert frame.index[0] == pd.Timestamp("2021-12-06T23:30Z")
