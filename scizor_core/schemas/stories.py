"""The contract of stored news items and posts: one row per source and id there."""

import json
import math

import pandas as pd
import pandera.pandas as pa
from pandera.engines.pandas_engine import DateTime

from scizor_core.errors import ContractError
from scizor_core.schemas.failures import contract_error
from scizor_core.sentiment.scorer import NEUTRAL_BAND
from scizor_core.stories import (
    CLOCK_TOLERANCE,
    FIRST_PUBLICATION,
    LONGEST_ADDRESS,
    LONGEST_BODY,
    LONGEST_ID,
    LONGEST_TITLE,
)

TABLE = "human.story_items"

_UTC = DateTime(unit="us", tz="UTC")  # type: ignore[call-arg]  # pandera's engine types are dynamic
_NAME = pa.Check.str_length(1, 64)
_WEB = pa.Check.str_matches(r"^(https?://\S+)?$")
_HASH = r"^([0-9a-f]{32})?\Z"
#: Scorers of this name have a band around 0 in which a text is neutral.
_LEXICON = "lexicon-"


def _is_votes(text: str) -> bool:
    """Say whether a text is a JSON object of names and finite numbers."""
    try:
        votes = json.loads(text)
    except ValueError:
        return False
    return isinstance(votes, dict) and all(
        # PostgreSQL keeps no NUL.
        "\0" not in name
        and isinstance(count, int | float)
        and not isinstance(count, bool)
        and math.isfinite(count)
        for name, count in votes.items()
    )


def _label_fits(frame: pd.DataFrame) -> pd.Series:
    """Say per row whether the label is that of the score's sign, neutral within the band."""
    size, label = frame["score"].abs(), frame["label"]
    sign_fits = (
        (label == "neutral")
        | ((label == "positive") & (frame["score"] > 0))
        | ((label == "negative") & (frame["score"] < 0))
    )
    has_band = frame["scorer"].str.startswith(_LEXICON)
    return sign_fits & (~has_band | ((label == "neutral") == (size < NEUTRAL_BAND)))


STORY_ITEMS = pa.DataFrameSchema(
    {
        "source": pa.Column(str, _NAME),
        "source_id": pa.Column(str, pa.Check.str_matches(rf"^[^\0]{{1,{LONGEST_ID}}}$")),
        "kind": pa.Column(str, pa.Check.isin(["news", "social"])),
        "title": pa.Column(str, pa.Check.str_length(0, LONGEST_TITLE)),
        "body": pa.Column(str, pa.Check.str_length(0, LONGEST_BODY)),
        "url": pa.Column(str, pa.Check.str_length(0, LONGEST_ADDRESS)),
        "canonical_url": pa.Column(str, _WEB),
        "publisher": pa.Column(str, pa.Check.str_length(0, LONGEST_TITLE)),
        "author_hash": pa.Column(str, pa.Check.str_matches(_HASH)),
        "language": pa.Column(str, pa.Check.str_length(0, 35)),
        "market": pa.Column(str, pa.Check.str_length(0, 64)),
        "published_at": pa.Column(_UTC, pa.Check.ge(pd.Timestamp(FIRST_PUBLICATION))),
        "edited_at": pa.Column(_UTC, nullable=True),
        "observed_at": pa.Column(_UTC),
        "is_deleted": pa.Column(bool),
        "votes": pa.Column(str, pa.Check(_is_votes, element_wise=True, name="votes_are_numbers")),
        "score": pa.Column(float, pa.Check.in_range(-1, 1)),
        "label": pa.Column(str, pa.Check.isin(["negative", "neutral", "positive"])),
        "confidence": pa.Column(float, pa.Check.in_range(0, 1)),
        "scorer": pa.Column(str, _NAME),
        "query_key": pa.Column(str, pa.Check.str_length(0, 64)),
    },
    checks=[
        pa.Check(
            lambda frame: frame["published_at"] <= frame["observed_at"] + CLOCK_TOLERANCE,
            name="not_from_the_future",
        ),
        pa.Check(_label_fits, name="label_fits_score"),
        pa.Check(
            lambda frame: ~frame["is_deleted"] | ((frame["title"] == "") & (frame["body"] == "")),
            name="deleted_items_have_no_text",
        ),
    ],
    unique=["source", "source_id"],
    strict=True,
    ordered=True,
    name=TABLE,
)

#: Columns of a frame of items, in order. `title` and `body` are without names of users and empty
#: where the item is deleted; `author_hash` is a keyed hash of 32 hexadecimal digits, empty for
#: none; `language`, `market` and the addresses are empty where they are not known; times are
#: datetime64[us, UTC], `edited_at` NaT where the source does not say; `votes` is a JSON object of
#: names and counts as text; `query_key` says what was asked when the item was last seen.
STORY_ITEM_COLUMNS: tuple[str, ...] = tuple(STORY_ITEMS.columns)

_INSTANTS = ("published_at", "edited_at", "observed_at")
_NUMBERS = ("score", "confidence")


def stories_frame(records: list[dict[str, object]]) -> pd.DataFrame:
    """Return records with the names of `STORY_ITEM_COLUMNS` as a frame in the contract's types."""
    frame = pd.DataFrame(records, columns=list(STORY_ITEM_COLUMNS))
    for name in STORY_ITEM_COLUMNS:
        if name in _INSTANTS:
            frame[name] = pd.to_datetime(frame[name], utc=True).astype("datetime64[us, UTC]")
        elif name in _NUMBERS:
            frame[name] = frame[name].astype("float64")
        else:
            frame[name] = frame[name].astype("bool" if name == "is_deleted" else "str")
    return frame.sort_values(["published_at", "source", "source_id"], ignore_index=True)


def validate_stories(frame: pd.DataFrame) -> pd.DataFrame:
    """Return `frame` if it keeps the contract.

    Raises:
        ContractError: it does not; the message names the columns, checks and first values, but
            never what stands in place of a hash.
    """
    if "author_hash" in frame and not frame["author_hash"].astype("str").str.match(_HASH).all():
        raise ContractError(
            f"An item for {TABLE} has an author_hash that is no hash of 32 hexadecimal digits; "
            "nothing was written. The source's client has to hash authors, see "
            "scizor_resources.authors."
        )
    try:
        return STORY_ITEMS.validate(frame, lazy=True)
    except pa.errors.SchemaErrors as error:
        raise contract_error(TABLE, error) from error
