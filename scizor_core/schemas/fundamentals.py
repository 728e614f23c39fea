"""The contract of protocol fundamentals: what a value of a protocol or chain and day has to be.

`FUNDAMENTALS` is the pandera contract that every frame passes before it is written and that the
asset check applies to what is stored. `find_jumps` says which values are far from the day before.
"""

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

import pandas as pd
import pandera.pandas as pa
from pandera.engines.pandas_engine import DateTime

from scizor_core.schemas.failures import contract_error

#: What is kept per protocol and UTC day, in USD: value locked (a stock), and what was paid in
#: fees, kept as revenue and traded within the day (flows).
PROTOCOL_METRICS: tuple[str, ...] = ("tvl", "fees", "revenue", "dex_volume")

#: What is kept per chain and UTC day, in USD, both stocks: value locked in all its protocols, and
#: the stablecoins that circulate on it.
CHAIN_METRICS: tuple[str, ...] = ("chain_tvl", "stablecoin_supply")

METRICS: tuple[str, ...] = PROTOCOL_METRICS + CHAIN_METRICS

#: A chain stands in `protocol` as this and its name in lower case, "chain:ethereum".
CHAIN_PREFIX = "chain:"
#: All chains together.
ALL_CHAINS = f"{CHAIN_PREFIX}all"

#: A day's value is a jump where it is so many times the day before, or so small a part of it.
#: Flows of a day swing by themselves; value locked does not, and the supply of stablecoins, whose
#: price stays, still less.
JUMP_FACTORS: Mapping[str, float] = {
    "tvl": 1.5,
    "fees": 10.0,
    "revenue": 10.0,
    "dex_volume": 10.0,
    "chain_tvl": 1.5,
    "stablecoin_supply": 1.2,
}

_DAY = pd.Timedelta(days=1)
_UTC = DateTime(unit="us", tz="UTC")  # type: ignore[call-arg]  # pandera's engine types are dynamic

FUNDAMENTALS = pa.DataFrameSchema(
    {
        "protocol": pa.Column(str, pa.Check.str_length(1, 128)),
        "metric": pa.Column(str, pa.Check.isin(list(METRICS))),
        "day": pa.Column(DateTime(unit="us")),  # type: ignore[call-arg]
        "value_usd": pa.Column(float, [pa.Check.ge(0), pa.Check.lt(float("inf"))]),
        "is_final": pa.Column(bool),
        "point_at": pa.Column(_UTC),
        "observed_at": pa.Column(_UTC),
        "protocol_name": pa.Column(str, pa.Check.str_length(1, 512)),
        "source": pa.Column(str, pa.Check.str_length(1, 64)),
    },
    checks=[
        pa.Check(lambda frame: frame["day"] == frame["day"].dt.floor("D"), name="day_is_midnight"),
        pa.Check(
            lambda frame: frame["point_at"].dt.floor("D") == frame["day"].dt.tz_localize("UTC"),
            name="point_is_of_its_day",
        ),
        pa.Check(
            lambda frame: frame["day"].dt.tz_localize("UTC") <= frame["observed_at"],
            name="day_is_not_in_the_future",
        ),
        pa.Check(
            lambda frame: (
                ~frame["is_final"]
                | (frame["day"].dt.tz_localize("UTC") + _DAY <= frame["observed_at"])
            ),
            name="final_only_after_the_day",
        ),
    ],
    unique=["protocol", "metric", "day"],
    strict=True,
    ordered=True,
    name="protocol_fundamentals",
)

#: Columns of a frame of fundamentals, in order. `protocol` is the provider's slug, or a chain as
#: `chain_keys` writes it, `day` the UTC day (datetime64[us] at midnight), `value_usd` is in USD to
#: the cent, `is_final` False while the day ran, `point_at` the provider's own time of the value and
#: `observed_at` when its answer came (both datetime64[us, UTC]), `protocol_name` the provider's
#: name for people.
FUNDAMENTAL_COLUMNS: tuple[str, ...] = tuple(FUNDAMENTALS.columns)

_DTYPES: dict[str, str] = {
    **dict.fromkeys(("protocol", "metric", "protocol_name", "source"), "str"),
    "day": "datetime64[us]",
    "value_usd": "float64",
    "is_final": "bool",
    **dict.fromkeys(("point_at", "observed_at"), "datetime64[us, UTC]"),
}


def chain_keys(names: Iterable[str]) -> dict[str, str]:
    """Return how chains stand in `protocol` -> their names, each once; "all" is no chain."""
    keys: dict[str, str] = {}
    for name in names:
        keys.setdefault(f"{CHAIN_PREFIX}{name.lower()}", name)
    keys.pop(ALL_CHAINS, None)
    return keys


def fundamentals_frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Return records with the names of `FUNDAMENTAL_COLUMNS` as a frame, ordered by their key."""
    frame = pd.DataFrame(rows, columns=list(FUNDAMENTAL_COLUMNS))
    for column in ("point_at", "observed_at"):
        frame[column] = pd.to_datetime(frame[column], utc=True)
    frame["day"] = pd.to_datetime(frame["day"])
    return frame.astype(_DTYPES).sort_values(
        ["protocol", "metric", "day"], kind="stable", ignore_index=True
    )


def validate_fundamentals(frame: pd.DataFrame) -> pd.DataFrame:
    """Return `frame` if it keeps the contract.

    Raises:
        ContractError: it does not; the message names columns, checks and first values.
    """
    try:
        return FUNDAMENTALS.validate(frame, lazy=True)
    except pa.errors.SchemaErrors as error:
        raise contract_error("protocol_fundamentals", error) from error


def find_jumps(values: pd.DataFrame, first_day: date) -> list[dict[str, Any]]:
    """Return the final values from `first_day` on that are far from the day before, largest first.

    A value that goes to zero or comes from it is a jump as well. A day whose predecessor is absent
    or partial is not judged.

    Args:
        values: columns `FUNDAMENTAL_COLUMNS`, one row per protocol, metric and day.
        first_day: first UTC day to judge; the day before it serves to compare.
    """
    final = values[values["is_final"]].sort_values(["protocol", "metric", "day"])
    grouped = final.groupby(["protocol", "metric"])
    before, day_before = grouped["value_usd"].shift(), grouped["day"].shift()
    judged = (final["day"] - day_before == _DAY) & (final["day"] >= pd.Timestamp(first_day))
    pair = pd.DataFrame({"now": final["value_usd"], "before": before})
    higher, lower = pair.max(axis=1), pair.min(axis=1)
    factor = (higher / lower).where(higher > 0, 1.0)
    far = judged & (factor > final["metric"].map(dict(JUMP_FACTORS)).astype("float64"))
    found = final.assign(value_before_usd=before, factor=factor)[far]
    return [
        {
            "protocol": row["protocol"],
            "metric": row["metric"],
            "day": row["day"].date().isoformat(),
            "value_usd": row["value_usd"],
            "value_before_usd": row["value_before_usd"],
        }
        for row in found.sort_values("factor", ascending=False, kind="stable").to_dict("records")
    ]
