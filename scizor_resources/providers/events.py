"""The seam behind which every source of catalyst events stands: request, answer, protocol."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import pandas as pd

from scizor_core.catalysts import RuleTable
from scizor_core.mentions import Nameable
from scizor_core.schemas.catalysts import catalysts_frame
from scizor_resources.errors import ProviderError
from scizor_resources.providers.base import empty_rejected
from scizor_resources.providers.gate import Gate


@dataclass(frozen=True)
class EventRequest:
    """Events published in `since <= published_at < until` (UTC).

    Attributes:
        since: start, aware.
        until: end, exclusive, aware.
        instruments: instruments whose events count: watched and still listed, of all markets.
        rules: what is an event of this source, and how much it matters.
        coins: base currency -> instruments, of every crypto instrument the platform knows.
    """

    since: datetime
    until: datetime
    instruments: tuple[Nameable, ...]
    rules: RuleTable
    coins: Mapping[str, tuple[Nameable, ...]] = field(default_factory=dict)

    def of_market(self, *markets: str) -> tuple[Nameable, ...]:
        """Return the instruments of some markets."""
        return tuple(each for each in self.instruments if each.market in markets)


@dataclass
class EventFindings:
    """What a source's answers come to.

    Attributes:
        events: one row per event and instrument, columns `CATALYST_COLUMNS`; an event without an
            instrument is one row.
        rejected: items that cannot be used, columns `REJECTED_COLUMNS`.
        received: items that came, of any time and kind.
        skipped: reason -> items of the window that are no events.
        errors: symbol or query -> sentence, for each that failed while others did not.
        failure: the first of those errors that another try may mend or somebody has to look at.
        notes: sentences about what is not there.
        metadata: what else a run should say of this source.
        new_coins: base currencies that were announced as newly listed.
    """

    events: pd.DataFrame = field(default_factory=lambda: catalysts_frame([]))
    rejected: pd.DataFrame = field(default_factory=empty_rejected)
    received: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    failure: ProviderError | None = None
    notes: list[str] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)
    new_coins: tuple[str, ...] = ()


class EventSource(Protocol):
    """A provider of catalyst events."""

    gate: Gate

    @property
    def name(self) -> str:
        """The source's name, as in the `source` column of events and rules."""

    def fetch(self, request: EventRequest) -> EventFindings:
        """Fetch the events of a window.

        Raises:
            ProviderError: nothing at all could be had.
        """

    def close(self) -> None:
        """Close the connections; the next call opens them anew."""
