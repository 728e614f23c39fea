"""The contracts of bars and indicators: why a row is refused, and what a broken contract says."""

import pandas as pd
import pytest

from scizor_core.errors import ContractError
from scizor_core.indicators import INDICATOR_COLUMNS
from scizor_core.markets import Timeframe
from scizor_core.schemas.bars import BAR_COLUMNS, bar_faults, repeated_bars, validate_bars
from scizor_core.schemas.indicators import INDICATOR_ROW_COLUMNS, validate_indicators
from scizor_core.sessions import get_calendar

NAN, INF = float("nan"), float("inf")
IN_SESSION = "2022-01-04 15:00"


def source_rows(
    *rows: tuple[str | None, float, float, float, float, float], symbol: str = "AAPL"
) -> pd.DataFrame:
    frame = pd.DataFrame(list(rows), columns=["ts", "open", "high", "low", "close", "volume"])
    ts = pd.to_datetime(frame["ts"], utc=True, format="ISO8601").astype("datetime64[us, UTC]")
    return frame.assign(symbol=symbol, ts=ts)


def fault(
    row: tuple[str | None, float, float, float, float, float],
    timeframe: Timeframe = "1m",
    market: str = "us",
) -> str:
    return bar_faults(source_rows(row), get_calendar(market), timeframe).iloc[0]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ((IN_SESSION, 10, 11, 9, 10, 100), ""),
        ((IN_SESSION, 10, 10, 10, 10, 0), ""),
        ((IN_SESSION, NAN, 11, 9, 10, 100), "open is missing or not a number"),
        ((IN_SESSION, 10, NAN, 9, 10, 100), "high is missing or not a number"),
        ((IN_SESSION, 10, 11, NAN, 10, 100), "low is missing or not a number"),
        ((IN_SESSION, 10, 11, 9, NAN, 100), "close is missing or not a number"),
        ((IN_SESSION, 10, 11, 9, 10, NAN), "volume is missing or not a number"),
        ((None, 10, 11, 9, 10, 100), "time is missing or cannot be read"),
        ((IN_SESSION, 10, 11, 0, 10, 100), "low is not above zero"),
        ((IN_SESSION, 10, INF, 9, 10, 100), "high is infinite"),
        ((IN_SESSION, 10, 11, 9, 10, -1), "volume is negative"),
        ((IN_SESSION, 10, 11, 9, 10, INF), "volume is infinite"),
        ((IN_SESSION, 12, 11, 9, 10, 100), "high is below open"),
        ((IN_SESSION, 10, 11, 9, 12, 100), "high is below close"),
        ((IN_SESSION, 8, 11, 9, 10, 100), "low is above open"),
        ((IN_SESSION, 10, 11, 9, 8, 100), "low is above close"),
        (("2022-01-04 14:29", 10, 11, 9, 10, 100), "outside every session of XNYS"),
        (("2022-01-04 21:00", 10, 11, 9, 10, 100), "outside every session of XNYS"),
        (("2022-01-08 15:00", 10, 11, 9, 10, 100), "outside every session of XNYS"),
        (("2022-01-04 15:00:01", 10, 11, 9, 10, 100), "time is not the start of a 1m bar"),
        (
            ("2022-01-04 14:00:01", 10, 11, 9, 10, -1),
            "volume is negative; time is not the start of a 1m bar; outside every session of XNYS",
        ),
    ],
)
def test_a_row_is_refused_with_every_reason(row: tuple, reason: str) -> None:
    assert fault(row) == reason


def test_high_below_low_is_told() -> None:
    assert fault((IN_SESSION, 10, 9, 11, 10, 1)).startswith("high is below low")


@pytest.mark.parametrize(
    ("time", "reason"),
    [
        ("2022-01-04", ""),
        ("2022-01-04 05:00", "daily time is not a session date at 00:00 UTC"),
        ("2022-01-08", "XNYS has no session on that date"),
        ("2022-01-17", "XNYS has no session on that date"),
    ],
    ids=["session", "not midnight", "Saturday", "holiday"],
)
def test_a_daily_row_has_to_stand_at_midnight_of_a_session_date(time: str, reason: str) -> None:
    assert fault((time, 10, 11, 9, 10, 100), "1d") == reason


@pytest.mark.parametrize(("timeframe", "good"), [("1m", True), ("5m", False), ("15m", False)])
def test_the_grid_is_that_of_the_timeframe(timeframe: Timeframe, good: bool) -> None:
    assert (fault(("2022-01-04 15:01", 10, 11, 9, 10, 1), timeframe) == "") is good


def test_a_bar_of_the_closing_auction_is_no_fault() -> None:
    # 16:10 in Sydney.
    assert fault(("2022-01-04 05:10", 10, 11, 9, 10, 100), "1m", "asx") == ""


def test_one_bad_row_takes_no_good_one_with_it() -> None:
    rows = source_rows(
        (IN_SESSION, 10, 11, 9, 10, 100), ("2022-01-04 15:01", 10, 11, 9, 10, -1)
    ).set_index(pd.Index([5, 9]))
    faults = bar_faults(rows, get_calendar("us"), "1m")
    assert faults.to_dict() == {5: "", 9: "volume is negative"}


def test_only_the_first_of_repeated_rows_is_kept() -> None:
    row = (IN_SESSION, 10, 11, 9, 10, 100)
    rows = pd.concat([source_rows(row, row), source_rows(row, symbol="MSFT")])
    assert list(repeated_bars(rows)) == [False, True, False]


def bars() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "instrument_id": [1, 1],
            "timeframe": pd.Series(["1m", "1m"], dtype="str"),
            "ts": pd.DatetimeIndex([IN_SESSION, "2022-01-04 15:01"], tz="UTC").as_unit("us"),
            "session_date": pd.DatetimeIndex(["2022-01-04"] * 2).as_unit("us"),
            "open": [10.0, 10.0],
            "high": [11.0, 11.0],
            "low": [9.0, 9.0],
            "close": [10.0, 10.0],
            "volume": [100.0, 100.0],
            "vwap": [10.0, NAN],
            "trade_count": pd.Series([1, None], dtype="Int64"),
            "adj_close": [NAN, NAN],
            "source": pd.Series(["a", "a"], dtype="str"),
            "is_final": [True, False],
        }
    )[list(BAR_COLUMNS)]


def test_good_bars_keep_the_contract() -> None:
    pd.testing.assert_frame_equal(validate_bars(bars()), bars())


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("open", -1.0),
        ("close", NAN),
        ("high", INF),
        ("volume", -1.0),
        ("volume", NAN),
        ("vwap", 0.0),
        ("trade_count", -1),
        ("instrument_id", 0),
        ("timeframe", "2m"),
        ("source", ""),
        ("source", "s" * 65),
        ("ts", pd.NaT),
        ("session_date", pd.NaT),
    ],
)
def test_a_broken_contract_names_table_and_column(column: str, value: object) -> None:
    frame = bars()
    frame.loc[1, column] = value
    with pytest.raises(
        ContractError, match="break the contract of market.bars, nothing was writ"
    ) as caught:
        validate_bars(frame)
    assert column in str(caught.value)


def test_a_broken_contract_names_row_and_value() -> None:
    with pytest.raises(ContractError, match=r"^1 rows? .*row 1: .*volume.*-7"):
        validate_bars(bars().assign(volume=[1.0, -7.0]))


@pytest.mark.parametrize(("high", "low"), [(9.5, 9.0), (11.0, 10.5)], ids=["high", "low"])
def test_prices_that_contradict_each_other_break_the_contract(high: float, low: float) -> None:
    with pytest.raises(ContractError, match="highest" if high < 10 else "lowest"):
        validate_bars(bars().assign(high=[11.0, high], low=[9.0, low]))


def test_the_same_bar_twice_breaks_the_contract() -> None:
    with pytest.raises(ContractError, match="market.bars"):
        validate_bars(bars().iloc[[0, 0]].reset_index(drop=True))


@pytest.mark.parametrize(
    "change",
    [
        lambda frame: frame.drop(columns="vwap"),
        lambda frame: frame.assign(extra=1.0),
        lambda frame: frame.assign(ts=frame["ts"].dt.tz_localize(None)),
        lambda frame: frame.assign(ts=frame["ts"].dt.tz_convert("Australia/Sydney")),
    ],
    ids=["a column less", "a column more", "times without zone", "times in another zone"],
)
def test_other_columns_or_types_break_the_contract(change: object) -> None:
    with pytest.raises(ContractError, match="market.bars"):
        validate_bars(change(bars()))  # type: ignore[operator]


def indicators() -> pd.DataFrame:
    keys = bars()[["instrument_id", "timeframe", "ts", "session_date", "source"]]
    values = dict.fromkeys(INDICATOR_COLUMNS, 50.0)
    return keys.assign(**values, warmup_bars=[0, 1])[list(INDICATOR_ROW_COLUMNS)]


def test_good_indicators_keep_the_contract() -> None:
    pd.testing.assert_frame_equal(validate_indicators(indicators()), indicators())


def test_indicators_may_be_missing() -> None:
    assert validate_indicators(indicators().assign(sma_200=NAN))["sma_200"].isna().all()


@pytest.mark.parametrize(
    ("column", "value"),
    [("rsi_14", 100.5), ("rsi_14", -1.0), ("mfi_14", 101.0), ("obv", INF), ("warmup_bars", -1)],
)
def test_an_impossible_indicator_breaks_the_contract(column: str, value: float) -> None:
    frame = indicators()
    frame.loc[1, column] = value
    with pytest.raises(ContractError, match=rf"market\.indicators.*{column}"):
        validate_indicators(frame)
