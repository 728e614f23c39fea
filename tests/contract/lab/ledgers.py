"""What a lab of a source of events, stories or metrics offers to the suite that holds for all."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

import pandas as pd

from scizor_resources.errors import ProviderError
from scizor_resources.providers.gate import Gate
from tests.contract.lab.server import HttpLab, Reply

#: The window that the suite asks for, and the clock of every source in it.
SINCE = datetime(2026, 11, 18, tzinfo=UTC)
UNTIL = datetime(2026, 11, 19, tzinfo=UTC)
NOW = datetime(2026, 11, 19, 6, tzinfo=UTC)

#: What a source may skip, with the reason, in `LedgerSource.skips`.
LedgerFault = Literal[
    "rate_limited",
    "quota_exhausted",
    "html",
    "no_match",
    "capped",
    "pages",
    "changed_field",
    "deleted",
    "impossible_dates",
    "texts",
    "long_body",
    "invalid_credentials",
    "names",
]


@dataclass(frozen=True)
class Item:
    """One thing that a source knows: a post, an article, a filing, a value of a day.

    Attributes:
        id: unique within the source, digits only (several sources have numbers).
        at: when it was published, or the time of the value; aware.
        text: headline or text; sources of numbers do without.
        author: user name or byline of who wrote it, None where the source has no such thing.
        deleted: the source says that it was taken away (in its own way).
    """

    id: str
    at: datetime
    text: str = "Quarterly production beats estimates"
    author: str | None = None
    deleted: bool = False


class LedgerLab(HttpLab):
    """A lab that shows items.

    Attributes:
        items: what the source knows, newest last; the lab sorts and pages them as the source does.
        page_size: items of a page, None for as many as the source itself gives.
        capped: the source says that there are more results than it gives out.
        changed_field: the field without which an item cannot be read is called otherwise.
        quota_exhausted: every answer is the source's own word for a used-up quota.
    """

    def __init__(self) -> None:
        super().__init__()
        self.items: list[Item] = []
        self.page_size: int | None = None
        self.capped = False
        self.changed_field = False
        self.quota_exhausted = False

    def quota(self) -> Reply:
        """Return the source's own answer when a quota (plan, month, credits) is used up."""
        raise NotImplementedError


@dataclass(frozen=True)
class Outcome:
    """What a client made of the answers, in the suite's terms.

    Attributes:
        found: id -> text, of what is kept in the window and not deleted; sources of numbers give
            the number as text.
        deleted: ids that the client says are deleted.
        rejected: columns `REJECTED_COLUMNS`.
        notes: sentences about what is not there.
        complete: whether the client says that nothing of the window is absent.
        empty_reason: why nothing is found.
        failure: an error that did not keep the rest from being asked.
        everything: repr of all that came back, where no name of a person may stand.
    """

    found: dict[str, str]
    rejected: pd.DataFrame
    deleted: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    complete: bool = False
    empty_reason: str | None = None
    failure: ProviderError | None = None
    everything: str = ""


@dataclass(frozen=True)
class LedgerSource:
    """A source as the suite sees it.

    Attributes:
        name: of the provider.
        lab: makes its lab.
        ask: asks the started lab through the real client, with this gate, for `SINCE` to `UNTIL`;
            the clock is `NOW`, the timeout half a second.
        secret: what must never show in errors; empty where the source has none.
        skips: fault -> why it cannot happen there.
    """

    name: str
    lab: Callable[[], LedgerLab]
    ask: Callable[[LedgerLab, Gate], Outcome]
    secret: str = ""
    skips: dict[LedgerFault, str] = field(default_factory=dict)
