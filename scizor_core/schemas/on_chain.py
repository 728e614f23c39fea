"""The contract of on-chain metrics: what a value of a metric, asset and interval has to be.

`ON_CHAIN` is the pandera contract that every frame passes before it is written and that the asset
check applies to what is stored.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pandera.pandas as pa
from pandera.engines.pandas_engine import DateTime

from scizor_core.schemas.failures import contract_error

#: A resolution of values that exist only for the present: one per UTC day, as of its last answer.
SNAPSHOT = "snapshot"

#: How long an interval is; a snapshot stands for its UTC day.
INTERVALS: Mapping[str, pd.Timedelta] = {
    "10m": pd.Timedelta(minutes=10),
    "1h": pd.Timedelta(hours=1),
    "24h": pd.Timedelta(days=1),
    SNAPSHOT: pd.Timedelta(days=1),
}

#: The day of Bitcoin's first block; nothing on a chain is older.
FIRST_BLOCK = datetime(2009, 1, 3, tzinfo=UTC)

_UTC = DateTime(unit="us", tz="UTC")  # type: ignore[call-arg]  # pandera's engine types are dynamic

#: What makes a value: of two with the same key the later observed one restates the other.
ON_CHAIN_KEY: tuple[str, ...] = (
    "source",
    "metric",
    "asset",
    "asset_id",
    "chain",
    "resolution",
    "ts",
)


def _length(frame: pd.DataFrame) -> "pd.Series[pd.Timedelta]":
    return pd.to_timedelta(frame["resolution"].map(dict(INTERVALS)))


def _starts_interval(frame: pd.DataFrame) -> "pd.Series[bool]":
    since = frame["ts"] - pd.Timestamp(0, tz="UTC")
    return since % _length(frame) == pd.Timedelta(0)


ON_CHAIN = pa.DataFrameSchema(
    {
        "source": pa.Column(str, pa.Check.str_length(1, 64)),
        "metric": pa.Column(str, pa.Check.str_length(1, 256)),
        "asset": pa.Column(
            str,
            [
                pa.Check.str_length(1, 128),
                pa.Check(lambda asset: asset == asset.str.upper(), name="asset_is_upper_case"),
            ],
        ),
        "asset_id": pa.Column(str, pa.Check.str_length(0, 256)),
        "chain": pa.Column(str, pa.Check.str_length(0, 64)),
        "resolution": pa.Column(str, pa.Check.isin(list(INTERVALS))),
        "ts": pa.Column(_UTC, pa.Check.ge(pd.Timestamp(FIRST_BLOCK))),
        "value": pa.Column(float, [pa.Check.gt(float("-inf")), pa.Check.lt(float("inf"))]),
        "is_final": pa.Column(bool),
        "observed_at": pa.Column(_UTC),
    },
    checks=[
        pa.Check(_starts_interval, name="ts_starts_an_interval"),
        pa.Check(lambda frame: frame["ts"] <= frame["observed_at"], name="ts_is_not_in_the_future"),
        pa.Check(
            lambda frame: (
                ~frame["is_final"] | (frame["ts"] + _length(frame) <= frame["observed_at"])
            ),
            name="final_only_after_the_interval",
        ),
        pa.Check(
            lambda frame: ~(frame["is_final"] & (frame["resolution"] == SNAPSHOT)),
            name="snapshot_is_never_final",
        ),
    ],
    unique=list(ON_CHAIN_KEY),
    strict=True,
    ordered=True,
    name="on_chain_metrics",
)

#: Columns of a frame of on-chain metrics, in order. `metric` is "category/name", for a metric that
#: comes as an object "category/name.part"; `asset` an upper-case code, `asset_id` the address of a
#: token ("" where the source knows no tokens: symbols of tokens are not unique), `chain` "" where
#: the source names none; `ts` the START of the interval, of a snapshot that of its UTC day, and
#: `observed_at` when the answer came (both datetime64[us, UTC]); `value` is in the metric's own
#: unit and may be negative; `is_final` is False while the interval ran, and always of a snapshot.
ON_CHAIN_COLUMNS: tuple[str, ...] = tuple(ON_CHAIN.columns)

_DTYPES: dict[str, str] = {
    **dict.fromkeys(("source", "metric", "asset", "asset_id", "chain", "resolution"), "str"),
    "value": "float64",
    "is_final": "bool",
    **dict.fromkeys(("ts", "observed_at"), "datetime64[us, UTC]"),
}


def on_chain_frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Return records with the names of `ON_CHAIN_COLUMNS` as a frame, ordered by their key."""
    frame = pd.DataFrame(rows, columns=list(ON_CHAIN_COLUMNS))
    for column in ("ts", "observed_at"):
        frame[column] = pd.to_datetime(frame[column], utc=True)
    return frame.astype(_DTYPES).sort_values(list(ON_CHAIN_KEY), kind="stable", ignore_index=True)


def validate_on_chain(frame: pd.DataFrame) -> pd.DataFrame:
    """Return `frame` if it keeps the contract.

    Raises:
        ContractError: it does not; the message names columns, checks and first values.
    """
    try:
        return ON_CHAIN.validate(frame, lazy=True)
    except pa.errors.SchemaErrors as error:
        raise contract_error("on_chain_metrics", error) from error
