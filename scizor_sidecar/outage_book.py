"""Outages and gaps in the ledger, written when PostgreSQL takes it, in the order they happened."""

from scizor_core.gaps import to_micros
from scizor_resources.platform import Platform
from scizor_resources.stores.outages import OutageKey, OutageStore
from scizor_sidecar.journal import Hole
from scizor_sidecar.later import WriteLater, storable
from scizor_sidecar.mending import session_parts, sessions_in
from scizor_sidecar.permit import ALWAYS, Permit

#: Longest text that a row of an outage is told.
_DETAIL_CHARACTERS = 500


class OutageBook(WriteLater):
    """Writes `quality.outages` and tells the ledger of gaps; nothing here waits for PostgreSQL.

    Args:
        platform: PostgreSQL and the ledger.
        permit: whether this process may write.
    """

    def __init__(self, platform: Platform, permit: Permit = ALWAYS) -> None:
        super().__init__(permit)
        self._platform = platform
        self._store = OutageStore(platform.warehouse)
        self._begun: set[int] = set()

    def began(self, hole: Hole) -> None:
        """Write that a feed is away, where its market trades meanwhile."""
        now = to_micros(self._platform.now())
        end = max(hole.end or now, hole.start) + 1
        is_due = hole.is_outage and hole.number not in self._begun
        if is_due and any(True for _ in session_parts(hole.market, hole.start, end)):
            self._begun.add(hole.number)
            key, start, reason = key_of(hole), hole.start, _short(hole.reason)
            self.add(lambda: self._store.begin(key, start, reason))

    def ended(self, hole: Hole) -> None:
        """Write that the feed is back."""
        self.began(hole)
        if hole.number in self._begun and hole.end is not None:
            key, end = key_of(hole), hole.end
            self.add(lambda: self._store.end(key, end))

    def told(self, hole: Hole, detail: str) -> None:
        """Write what became of a hole, and bring the ledger of gaps up to date."""
        if hole.number in self._begun:
            self._begun.discard(hole.number)
            key, start = key_of(hole), hole.start
            self.add(lambda: self._store.tell(key, start, _short(detail)))
        if hole.end is not None:
            ids = sorted({each.instrument_id for each in hole.starts})
            days = [day for day, *_ in sessions_in(hole.market, hole.start, hole.end + 1)]
            self.add(
                lambda: self._platform.gap_ledger.update(hole.market, "1m", days, ids, lane="live")
            )


def _short(text: str) -> str:
    return storable(text)[:_DETAIL_CHARACTERS]


def key_of(hole: Hole) -> OutageKey:
    """Return what the row of a hole's outage is found by."""
    return OutageKey(hole.feed, hole.market, hole.instrument_id)
