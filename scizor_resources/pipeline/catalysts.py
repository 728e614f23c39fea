"""From a source's events to the ledger: what is asked for, what is kept, what is linked."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import pandas as pd

from scizor_core.instruments import WatchlistEntry
from scizor_core.markets import MARKETS
from scizor_core.mentions import Nameable
from scizor_resources.providers.events import EventFindings, EventRequest
from scizor_resources.stores.catalysts import CatalystStore, CatalystsWritten
from scizor_resources.stores.quality import QualityStore
from scizor_resources.stores.reference import ReferenceStore

_CRYPTO = "crypto"


@dataclass(frozen=True)
class EventsKept:
    """What keeping events came to.

    Attributes:
        events: the events as they were kept, one row each.
        written: what was new or differed.
        quarantined: refused items that were not known yet.
        now_watched: instruments that were put on the watchlist.
    """

    events: pd.DataFrame
    written: CatalystsWritten
    quarantined: int
    now_watched: tuple[str, ...] = ()


class EventPipeline:
    """Keeps what sources of catalyst events find.

    Args:
        reference: instruments and watchlist.
        catalysts: events and rules.
        quality: where refused items go.
        watch_new_coins: put coins that are announced as new on the watchlist.
    """

    def __init__(
        self,
        reference: ReferenceStore,
        catalysts: CatalystStore,
        quality: QualityStore,
        *,
        watch_new_coins: bool = False,
    ) -> None:
        self._reference = reference
        self._catalysts = catalysts
        self._quality = quality
        self._watch_new_coins = watch_new_coins

    def request(self, source: str, since: datetime, until: datetime) -> EventRequest:
        """Return what to ask a source for.

        Args:
            source: its name, as in rules.
            since: start of the window of publication, UTC.
            until: its end, exclusive.
        """
        coins: dict[str, list[Nameable]] = defaultdict(list)
        for each in self._known(_CRYPTO):
            coins[each.symbol.partition("/")[0]].append(each)
        return EventRequest(
            since,
            until,
            self.watched(),
            self._catalysts.rules(source),
            {base: tuple(known) for base, known in coins.items()},
        )

    def watched(self) -> tuple[Nameable, ...]:
        """Return the instruments on the watchlist that are still listed."""
        on_list = {
            (entry.market, entry.symbol) for entry in self._reference.watchlist(active_only=True)
        }
        return tuple(
            each
            for market in MARKETS
            for each in self._known(market)
            if (each.market, each.symbol) in on_list
        )

    def keep(self, findings: EventFindings, label: str = "") -> EventsKept:
        """Keep events and refused items.

        Args:
            findings: what a source found.
            label: stands before the name of the source, "sample" for hand-written answers.
        """
        events, rejected = findings.events, findings.rejected
        if label:
            events = events.assign(source=f"{label}:" + events["source"])
            rejected = rejected.assign(source=f"{label}:" + rejected["source"].astype("str"))
        written = self._catalysts.write(events)
        quarantined = self._quality.quarantine("catalysts", "", "event", rejected)
        watched = self._watch(findings.new_coins) if self._watch_new_coins else ()
        once = events.drop_duplicates(["source", "source_id"])
        return EventsKept(once, written, quarantined, watched)

    def link(self) -> int:
        """Link second reports of one matter to the one that counts; returns how many changed."""
        return self._catalysts.link_duplicates()

    def _known(self, market: str) -> list[Nameable]:
        return [
            Nameable(each.instrument_id, each.market, each.symbol, each.name)
            for each in self._reference.instruments(market)
            if each.delisted_on is None
        ]

    def _watch(self, coins: Sequence[str]) -> tuple[str, ...]:
        """Put coins on the watchlist, in the currency that the market's providers quote."""
        currency = MARKETS[_CRYPTO].currency
        on_list = {entry.symbol for entry in self._reference.watchlist(_CRYPTO)}
        new = [
            WatchlistEntry(_CRYPTO, f"{coin}/{currency}", notes="listing announced by CoinSpot")
            for coin in coins
            if f"{coin}/{currency}" not in on_list
        ]
        if new:
            self._reference.add(new)
        return tuple(entry.symbol for entry in new)
