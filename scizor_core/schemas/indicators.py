"""The contract of `market.indicators`: one wide row per bar."""

import numpy as np
import pandas as pd
import pandera.pandas as pa
from pandera.engines.pandas_engine import DateTime

from scizor_core.indicators import INDICATOR_COLUMNS
from scizor_core.markets import TIMEFRAMES
from scizor_core.schemas.bars import keys_are_unique
from scizor_core.schemas.failures import contract_error

#: Columns that cannot leave 0..100 by their definition; a tolerance for the last float digits.
_PERCENT = ("rsi_9", "rsi_14", "stoch_k", "stoch_d", "mfi_14", "adx_14")
_HUNDRED, _TOLERANCE = 100.0, 1e-6
_LONGEST_SOURCE = 64


def _value(name: str) -> pa.Column:
    checks = [pa.Check(lambda series: series.abs() < float("inf"), name="finite")]
    if name in _PERCENT:
        checks.append(pa.Check.in_range(-_TOLERANCE, _HUNDRED + _TOLERANCE))
    return pa.Column(float, checks, nullable=True)


INDICATORS = pa.DataFrameSchema(
    {
        "instrument_id": pa.Column(int, pa.Check.gt(0), coerce=True),
        "timeframe": pa.Column(str, pa.Check.isin(list(TIMEFRAMES))),
        "ts": pa.Column(DateTime(unit="us", tz="UTC")),  # type: ignore[call-arg]
        "session_date": pa.Column(DateTime(unit="us")),  # type: ignore[call-arg]
        "source": pa.Column(str, pa.Check.str_length(1, _LONGEST_SOURCE)),
        **{name: _value(name) for name in INDICATOR_COLUMNS},
        "warmup_bars": pa.Column(int, pa.Check.ge(0), coerce=True),
    },
    unique=["instrument_id", "timeframe", "ts"],
    strict=True,
    ordered=True,
    name="market.indicators",
)

INDICATOR_ROW_COLUMNS: tuple[str, ...] = tuple(INDICATORS.columns)


#: What each column's type is called when nothing has to be converted.
_DTYPES: dict[str, str] = {
    "instrument_id": "int64",
    "timeframe": "str",
    "ts": "datetime64[us, UTC]",
    "session_date": "datetime64[us]",
    "source": "str",
    **dict.fromkeys(INDICATOR_COLUMNS, "float64"),
    "warmup_bars": "int64",
}


def validate_indicators(frame: pd.DataFrame) -> pd.DataFrame:
    """Return `frame` if it keeps the contract.

    Raises:
        ContractError: it does not; the message names columns, checks and first values.
    """
    # As PostgreSQL has it; the contract allows it, but only pandera would convert it.
    if "instrument_id" in frame and frame["instrument_id"].dtype == "int32":
        frame = frame.astype({"instrument_id": "int64"})
    if _is_plainly_valid(frame):
        return frame
    try:
        return INDICATORS.validate(frame, lazy=True)
    except pa.errors.SchemaErrors as error:
        raise contract_error("market.indicators", error) from error


def _is_plainly_valid(frame: pd.DataFrame) -> bool:
    """Say whether `frame` keeps the contract, in a tenth of pandera's time.

    False means only that pandera has to look, for the message or because it may convert a type.
    """
    if list(frame.columns) != list(_DTYPES) or frame.dtypes.astype(str).to_dict() != _DTYPES:
        return False
    values = frame[list(INDICATOR_COLUMNS)].to_numpy()
    percent = frame[list(_PERCENT)].to_numpy()
    sources = frame["source"].unique()
    return bool(
        (frame["instrument_id"].to_numpy() > 0).all()
        and set(frame["timeframe"].unique()) <= set(TIMEFRAMES)
        and all(isinstance(each, str) and 1 <= len(each) <= _LONGEST_SOURCE for each in sources)
        and frame["ts"].notna().all()
        and frame["session_date"].notna().all()
        and not np.isinf(values).any()
        and not ((percent < -_TOLERANCE) | (percent > _HUNDRED + _TOLERANCE)).any()
        and (frame["warmup_bars"].to_numpy() >= 0).all()
        and keys_are_unique(frame)
    )
