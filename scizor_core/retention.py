"""How long each table keeps its rows, as data.

Bars are not here: they leave PostgreSQL for the archive, never for nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from scizor_core.errors import InvalidInputError


@dataclass(frozen=True)
class RetentionPolicy:
    """The rule of one table.

    Attributes:
        name: the public name of the table.
        days: rows older than so many days go; None: they stay.
        what: what goes, in words.
    """

    name: str
    days: int | None
    what: str

    def cutoff(self, now: datetime) -> datetime | None:
        """Return the instant before which rows go, None where they stay."""
        return None if self.days is None else now - timedelta(days=self.days)


POLICIES: tuple[RetentionPolicy, ...] = (
    RetentionPolicy("price_data_5min", 365, "sampled prices"),
    RetentionPolicy("protocol_fundamentals", 365, "values of protocols and chains"),
    RetentionPolicy("on_chain_metrics", 180, "on-chain metrics"),
    RetentionPolicy("news_sentiment", 90, "news stories"),
    RetentionPolicy("social_sentiment", 30, "posts"),
    RetentionPolicy("story_texts", 30, "texts of news and posts; scores stay"),
    RetentionPolicy("catalyst_events", 730, "catalyst events"),
    RetentionPolicy("collector_runs", 30, "accounts of what providers were asked"),
)


def policies(changes: Iterable[str] = ()) -> tuple[RetentionPolicy, ...]:
    """Return the policies with the user's own days.

    Args:
        changes: "table=days" each; 0 days keep everything.

    Raises:
        InvalidInputError: a change names no table, or no number of days.
    """
    wanted = dict(_change(text) for text in changes)
    return tuple(
        replace(policy, days=wanted[policy.name] or None) if policy.name in wanted else policy
        for policy in POLICIES
    )


def _change(text: str) -> tuple[str, int]:
    known: Mapping[str, RetentionPolicy] = {policy.name: policy for policy in POLICIES}
    name, _, days = (part.strip() for part in text.partition("="))
    if name not in known:
        raise InvalidInputError(
            f"There is no retention of '{name}'. Known: {', '.join(sorted(known))}."
        )
    if not days.isdigit():
        raise InvalidInputError(
            f"'{text}' is not a retention: write days, as in {name}=120, or {name}=0 to keep "
            "everything."
        )
    return name, int(days)
