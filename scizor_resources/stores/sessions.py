"""Sessions of the markets in PostgreSQL, so that SQL knows when a market trades."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scizor_core.sessions import Session
from scizor_resources.stores.warehouse import Warehouse

_WRITE = """
INSERT INTO public.sessions AS s (market, session_date, open_at, close_at)
SELECT * FROM unnest(%(markets)s::text[], %(dates)s::date[], %(opens)s::timestamptz[],
                     %(closes)s::timestamptz[])
ON CONFLICT (market, session_date) DO UPDATE
SET open_at = excluded.open_at, close_at = excluded.close_at, updated_at = now()
WHERE (s.open_at, s.close_at) IS DISTINCT FROM (excluded.open_at, excluded.close_at)
RETURNING xmax = 0 AS is_new
"""
# Beyond what is given nothing is known: a calendar that was built long ago ends earlier.
_DELETE = """
WITH given AS (
    SELECT * FROM unnest(%(markets)s::text[], %(dates)s::date[]) AS g (market, session_date)
), spans AS (
    SELECT market, min(session_date) AS first, max(session_date) AS last FROM given GROUP BY market
)
DELETE FROM public.sessions AS s USING spans
WHERE s.market = spans.market AND s.session_date BETWEEN spans.first AND spans.last
    AND NOT EXISTS (
        SELECT 1 FROM given AS g WHERE g.market = s.market AND g.session_date = s.session_date
    )
"""


@dataclass(frozen=True)
class SessionsWritten:
    """What a write came to, in sessions.

    Attributes:
        new: sessions that were not there.
        corrected: sessions whose open or close has changed.
        deleted: sessions that the calendar has no more.
    """

    new: int = 0
    corrected: int = 0
    deleted: int = 0


class SessionStore:
    """Access to `public.sessions`."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse

    def write(self, sessions: Mapping[str, Sequence[Session]]) -> SessionsWritten:
        """Keep sessions, all or nothing; equal ones are not touched.

        A stored session between the first and the last one given of its market that is not among
        them is deleted.

        Args:
            sessions: market -> its sessions without gaps.
        """
        rows = [(market, each) for market, found in sessions.items() for each in found]
        arrays = {
            "markets": [market for market, _ in rows],
            "dates": [each.session_date for _, each in rows],
            "opens": [each.open for _, each in rows],
            "closes": [each.close for _, each in rows],
        }
        with self._warehouse.connect() as connection:
            changed = connection.execute(_WRITE, arrays).fetchall()
            deleted = connection.execute(_DELETE, arrays).rowcount
        new = sum(row["is_new"] for row in changed)
        return SessionsWritten(new, len(changed) - new, max(deleted, 0))
