"""The contract of `market.indicators`: one wide row per bar."""

import pandas as pd
import pandera.pandas as pa
from pandera.engines.pandas_engine import DateTime

from scizor_core.indicators import INDICATOR_COLUMNS
from scizor_core.markets import TIMEFRAMES
from scizor_core.schemas.failures import contract_error

#: Columns that cannot leave 0..100 by their definition; a tolerance for the last float digits.
_PERCENT = ("rsi_9", "rsi_14", "stoch_k", "stoch_d", "mfi_14", "adx_14")


def _value(name: str) -> pa.Column:
    checks = [pa.Check(lambda series: series.abs() < float("inf"), name="finite")]
    if name in _PERCENT:
        checks.append(pa.Check.in_range(-1e-6, 100 + 1e-6))
    return pa.Column(float, checks, nullable=True)


INDICATORS = pa.DataFrameSchema(
    {
        "instrument_id": pa.Column(int, pa.Check.gt(0), coerce=True),
        "timeframe": pa.Column(str, pa.Check.isin(list(TIMEFRAMES))),
        "ts": pa.Column(DateTime(unit="us", tz="UTC")),  # type: ignore[call-arg]
        "session_date": pa.Column(DateTime(unit="us")),  # type: ignore[call-arg]
        "source": pa.Column(str, pa.Check.str_length(1, 64)),
        **{name: _value(name) for name in INDICATOR_COLUMNS},
        "warmup_bars": pa.Column(int, pa.Check.ge(0), coerce=True),
    },
    unique=["instrument_id", "timeframe", "ts"],
    strict=True,
    ordered=True,
    name="market.indicators",
)

INDICATOR_ROW_COLUMNS: tuple[str, ...] = tuple(INDICATORS.columns)


def validate_indicators(frame: pd.DataFrame) -> pd.DataFrame:
    """Return `frame` if it keeps the contract.

    Raises:
        ContractError: it does not; the message names columns, checks and first values.
    """
    try:
        return INDICATORS.validate(frame, lazy=True)
    except pa.errors.SchemaErrors as error:
        raise contract_error("market.indicators", error) from error
