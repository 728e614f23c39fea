"""The quick judgement of indicator rows refuses and accepts what pandera does."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pa
import pytest

from scizor_core.errors import ContractError
from scizor_core.indicators import INDICATOR_COLUMNS
from scizor_core.schemas.indicators import INDICATORS, validate_indicators


def rows() -> pd.DataFrame:
    """Return three rows of two instruments as the computation gives them."""
    ts = pd.to_datetime(
        ["2026-03-02 00:00", "2026-03-02 00:01", "2026-03-02 00:00"], utc=True
    ).astype("datetime64[us, UTC]")
    key = pd.DataFrame(
        {
            "instrument_id": [1, 1, 2],
            "timeframe": pd.Series(["1m"] * 3, dtype="str"),
            "ts": ts,
            "session_date": pd.to_datetime(["2026-03-02"] * 3).astype("datetime64[us]"),
            "source": pd.Series(["tape"] * 3, dtype="str"),
        }
    )
    values = pd.DataFrame({name: [50.0, np.nan, 0.0] for name in INDICATOR_COLUMNS})
    return key.join(values).assign(warmup_bars=[0, 1, 200])


def put(column: str, value: Any) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        values = frame[column].to_list()
        values[1] = value
        return frame.assign(**{column: pd.Series(values, dtype=frame[column].dtype)})

    return change


def pandera_refuses(frame: pd.DataFrame) -> bool:
    try:
        INDICATORS.validate(frame, lazy=True)
    except pa.errors.SchemaErrors:
        return True
    return False


FAULTS: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "infinite": put("sma_10", float("inf")),
    "infinite below": put("obv", float("-inf")),
    "over a hundred": put("rsi_14", 100.1),
    "below zero": put("mfi_14", -0.1),
    "no instrument": put("instrument_id", 0),
    "unknown timeframe": put("timeframe", "2m"),
    "no time": put("ts", pd.NaT),
    "no session": put("session_date", pd.NaT),
    "no source": put("source", ""),
    "endless source": put("source", "x" * 65),
    "negative warm-up": put("warmup_bars", -1),
    "same key twice": put("ts", pd.Timestamp("2026-03-02", tz="UTC")),
    "a column too few": lambda frame: frame.drop(columns="adx_14"),
    "another order": lambda frame: frame[list(frame.columns)[::-1]],
}


def test_sound_rows_are_returned_as_they_are() -> None:
    frame = rows()
    pd.testing.assert_frame_equal(validate_indicators(frame), INDICATORS.validate(frame))


def test_rows_in_any_order_are_sound() -> None:
    frame = rows().iloc[[2, 0, 1]].reset_index(drop=True)
    pd.testing.assert_frame_equal(validate_indicators(frame), frame)


def test_the_short_integers_of_postgresql_become_those_of_the_contract() -> None:
    frame = rows().astype({"instrument_id": "int32"})
    pd.testing.assert_frame_equal(validate_indicators(frame), rows())


def test_a_percentage_may_be_off_by_the_last_digits() -> None:
    frame = put("rsi_9", 100 + 1e-9)(rows())
    pd.testing.assert_frame_equal(validate_indicators(frame), frame)


@pytest.mark.parametrize("fault", FAULTS)
def test_what_pandera_refuses_is_refused(fault: str) -> None:
    frame = FAULTS[fault](rows())
    assert pandera_refuses(frame)
    with pytest.raises(ContractError):
        validate_indicators(frame)
