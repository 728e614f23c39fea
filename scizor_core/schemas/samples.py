"""The contract of `price_data_5min`: the last look at a price in each five minutes."""

import pandas as pd
import pandera.pandas as pa
from pandera.engines.pandas_engine import DateTime

from scizor_core.schemas.failures import contract_error

TABLE = "public.price_data_5min"
#: Length of the interval of which the last look is kept.
STEP = pd.Timedelta(minutes=5)

_UTC = DateTime(unit="us", tz="UTC")  # type: ignore[call-arg]  # pandera's engine types are dynamic
_PRICE = [pa.Check.gt(0), pa.Check.lt(float("inf"))]

SAMPLES = pa.DataFrameSchema(
    {
        "symbol": pa.Column(str, pa.Check.str_matches(r"^[A-Z0-9]{1,15}/[A-Z0-9]{2,10}$")),
        "timestamp": pa.Column(_UTC),
        "source": pa.Column(str, pa.Check.str_length(1, 64)),
        "bid": pa.Column(float, _PRICE, nullable=True),
        "ask": pa.Column(float, _PRICE, nullable=True),
        "last": pa.Column(float, _PRICE),
        "sampled_at": pa.Column(_UTC),
    },
    checks=[
        pa.Check(
            lambda frame: frame["timestamp"] == frame["sampled_at"].dt.floor(STEP),
            name="looked_at_within_its_five_minutes",
        ),
    ],
    unique=["source", "symbol", "timestamp"],
    strict=True,
    ordered=True,
    name=TABLE,
)

#: Columns of a frame of stored samples, in order; prices in the quote currency of the symbol.
SAMPLE_ROW_COLUMNS: tuple[str, ...] = tuple(SAMPLES.columns)


def validate_samples(frame: pd.DataFrame) -> pd.DataFrame:
    """Return `frame` if it keeps the contract.

    Raises:
        ContractError: it does not; the message names columns, checks and first values.
    """
    try:
        return SAMPLES.validate(frame, lazy=True)
    except pa.errors.SchemaErrors as error:
        raise contract_error(TABLE, error) from error
