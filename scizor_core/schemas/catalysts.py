"""The contract of `catalyst_events`: one row per event and instrument that it concerns.

An event that concerns no instrument the platform knows is one row without instrument and without a
first bar.
"""

import pandas as pd
import pandera.pandas as pa
from pandera.engines.pandas_engine import DateTime

from scizor_core.catalysts import LEAST_IMPACT, MOST_IMPACT
from scizor_core.schemas.failures import contract_error

TABLE = "public.catalyst_events"

_UTC = DateTime(unit="us", tz="UTC")  # type: ignore[call-arg]  # pandera's engine types are dynamic
_DATE = DateTime(unit="us")  # type: ignore[call-arg]
_WORD = pa.Check.str_length(1, 200)

CATALYSTS = pa.DataFrameSchema(
    {
        "source": pa.Column(str, _WORD),
        "source_id": pa.Column(str, _WORD),
        "instrument_id": pa.Column("Int64", pa.Check.gt(0), nullable=True),
        "type": pa.Column(str, pa.Check.str_matches(r"^[a-z][a-z0-9_]*$")),
        "title": pa.Column(str, pa.Check.str_length(1, 500)),
        "description": pa.Column(str),
        "url": pa.Column(str, pa.Check.str_matches(r"^(https?://\S+)?$")),
        "form": pa.Column(str),
        "items": pa.Column(str),
        "filing_date": pa.Column(_DATE, nullable=True),
        "report_date": pa.Column(_DATE, nullable=True),
        "accepted_text": pa.Column(str),
        "published_at": pa.Column(_UTC),
        "detected_at": pa.Column(_UTC),
        "first_tradable_at": pa.Column(_UTC, nullable=True),
        "impact": pa.Column(int, pa.Check.in_range(LEAST_IMPACT, MOST_IMPACT), coerce=True),
        "is_amendment": pa.Column(bool),
        "amends": pa.Column(str),
    },
    checks=[
        pa.Check(
            lambda frame: (
                frame["first_tradable_at"].isna()
                | (frame["first_tradable_at"] >= frame["published_at"])
            ),
            name="no_look_ahead",
        ),
        pa.Check(
            lambda frame: frame["first_tradable_at"].isna() == frame["instrument_id"].isna(),
            name="first_bar_of_an_instrument",
        ),
        pa.Check(
            lambda frame: frame["is_amendment"] | (frame["amends"] == ""),
            name="only_amendments_amend",
        ),
    ],
    unique=["source", "source_id", "instrument_id"],
    strict=True,
    ordered=True,
    name=TABLE,
)

#: Columns of a frame of events, in order. `url` is empty where an event has no page of its own: a
#: date of a calendar has none. `amends` is the `source_id` of the event that an amendment amends,
#: empty where there is none or it is not known.
CATALYST_COLUMNS: tuple[str, ...] = tuple(CATALYSTS.columns)

_INSTANTS = ("published_at", "detected_at", "first_tradable_at")
_DATES = ("filing_date", "report_date")


def catalysts_frame(records: list[dict[str, object]]) -> pd.DataFrame:
    """Return records with the names of `CATALYST_COLUMNS` as a frame in the contract's types."""
    frame = pd.DataFrame(records, columns=list(CATALYST_COLUMNS))
    for name in CATALYST_COLUMNS:
        if name in _INSTANTS:
            frame[name] = pd.to_datetime(frame[name], utc=True).astype("datetime64[us, UTC]")
        elif name in _DATES:
            frame[name] = pd.to_datetime(frame[name]).astype("datetime64[us]")
        elif name == "instrument_id":
            frame[name] = frame[name].astype("Int64")
        elif name == "impact":
            frame[name] = frame[name].astype("int64")
        else:
            frame[name] = frame[name].astype("bool" if name == "is_amendment" else "str")
    return frame.sort_values(
        ["published_at", "source", "source_id", "instrument_id"], ignore_index=True
    )


def validate_catalysts(frame: pd.DataFrame) -> pd.DataFrame:
    """Return `frame` if it keeps the contract.

    Raises:
        ContractError: it does not; the message names the columns, checks and first values.
    """
    try:
        return CATALYSTS.validate(frame, lazy=True)
    except pa.errors.SchemaErrors as error:
        raise contract_error(TABLE, error) from error
