"""Gaps that may be asked for again, and what became of those that were."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, get_args

from scizor_core.markets import Timeframe
from scizor_core.repair import DueGaps
from scizor_resources.stores.warehouse import Warehouse

#: Partitions that one look returns; the newest ones, the others come when these are done.
_MOST_GROUPS = 200

_DUE = """
    WITH watched AS (
        SELECT lower(btrim(market)) AS market, upper(btrim(symbol)) AS symbol,
               bool_or(collect_1min) AS minutes, bool_or(collect_1min OR collect_5min) AS intraday
        FROM public.watchlist WHERE active GROUP BY 1, 2
    ),
    recent AS (SELECT * FROM unnest(%(markets)s::text[], %(since)s::date[]) AS r (market, since)),
    open_sessions AS (
        SELECT * FROM unnest(%(open_markets)s::text[], %(open_dates)s::date[]) AS o (market, day)
    ),
    by_symbol AS (
        SELECT s.market, s.symbol,
               CASE WHEN g.timeframe = '1d' THEN date_trunc('month', g.session_date)::date
                    ELSE g.session_date END AS partition,
               g.reason = 'not yet fetched' AS is_unfetched,
               min(array_position(%(timeframes)s::text[], g.timeframe::text)) AS finest,
               count(*) AS gaps,
               min(g.next_attempt_at) AS since,
               md5(string_agg(
                   concat_ws(' ', g.instrument_id, g.timeframe, extract(epoch FROM g.start_ts),
                             g.attempts), ',' ORDER BY g.instrument_id, g.timeframe, g.start_ts
               )) AS identity
        FROM quality.gaps AS g
        JOIN public.symbols AS s USING (instrument_id)
        JOIN watched AS w USING (market, symbol)
        JOIN recent AS r USING (market)
        WHERE g.status = 'open' AND g.next_attempt_at <= %(now)s
        AND CASE g.timeframe WHEN '1d' THEN true WHEN '1m' THEN w.minutes ELSE w.intraday END
        AND (g.timeframe = '1d' OR NOT EXISTS (
            SELECT 1 FROM open_sessions AS o WHERE o.market = s.market AND o.day = g.session_date
        ))
        AND (g.reason <> 'not yet fetched' OR g.session_date >= r.since OR EXISTS (
            SELECT 1 FROM quality.completeness AS c
            WHERE (c.instrument_id, c.timeframe, c.session_date)
                = (g.instrument_id, g.timeframe, g.session_date)
            AND c.not_fetched < c.expected - c.excused
        ))
        AND NOT EXISTS (
            SELECT 1 FROM market.archive_files AS f
            WHERE f.state = 'released' AND f.market = s.market
            AND (f.timeframe = '1d') = (g.timeframe = '1d')
            AND f.month IN (date_trunc('month', g.session_date)::date,
                            date_trunc('month', g.session_date - 1)::date)
        )
        GROUP BY 1, 2, 3, 4, g.timeframe = '1d'
    )
    SELECT market, (%(timeframes)s::text[])[finest] AS timeframe, partition, is_unfetched,
           array_agg(symbol ORDER BY symbol) AS symbols, sum(gaps)::int AS gaps,
           min(since) AS since, md5(string_agg(identity, ',' ORDER BY symbol)) AS identity
    FROM by_symbol GROUP BY 1, finest, 3, 4
    ORDER BY partition DESC, market, finest, is_unfetched LIMIT %(most)s
"""

_ASKED = """
    SELECT g.instrument_id, g.start_ts, g.end_ts
    FROM quality.gaps AS g JOIN public.symbols AS s USING (instrument_id)
    WHERE s.market = %s AND g.timeframe = %s AND g.session_date >= %s AND g.session_date < %s
    AND g.status = 'open' AND (%s::text[] IS NULL OR s.symbol = ANY(%s))
"""

_OUTCOME = """
    SELECT count(*) FILTER (WHERE worst IS NULL) AS repaired,
           count(*) FILTER (WHERE worst = 1) AS explained,
           count(*) FILTER (WHERE worst = 2) AS given_up,
           count(*) FILTER (WHERE worst = 3) AS still_open
    FROM (
        SELECT max(array_position(ARRAY['explained', 'given up', 'open'], g.status)) AS worst
        FROM unnest(%s::int[], %s::timestamptz[], %s::timestamptz[])
            WITH ORDINALITY AS a (instrument_id, start_ts, end_ts, number)
        LEFT JOIN quality.gaps AS g ON g.instrument_id = a.instrument_id AND g.timeframe = %s
            AND g.start_ts < a.end_ts AND g.end_ts > a.start_ts
        GROUP BY a.number
    ) AS judged
"""


@dataclass(frozen=True)
class OpenGap:
    """An interval `[start, end)` (UTC) that was open before it was asked for."""

    instrument_id: int
    start: datetime
    end: datetime


@dataclass(frozen=True)
class RepairOutcome:
    """What became of gaps that were asked for; each counts once, under the worst that is left.

    Attributes:
        asked: gaps that were open before.
        repaired: all of their bars have come.
        explained: what is absent needs no bars.
        given_up: part of it is absent and will not be asked for any more.
        still_open: part of it will be asked for again.
    """

    asked: int
    repaired: int
    explained: int
    given_up: int
    still_open: int


class DueGapStore:
    """Reads `quality.gaps` for repair; it writes nothing."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse

    def due(
        self,
        at: datetime,
        recent: dict[str, date],
        open_sessions: Sequence[tuple[str, date]],
    ) -> list[DueGaps]:
        """Return the gaps of watched instruments that may be asked for, newest partitions first.

        Left out are timeframes that the watchlist does not collect, intraday gaps of sessions that
        are refreshed anyway, months that have left for the archive, and what was never fetched,
        unless the session is recent or has been fetched in part.

        Args:
            at: the present, aware.
            recent: market -> first session date that counts as recent; other markets have nothing
                due.
            open_sessions: market and date of sessions that trade or have just closed.

        Raises:
            WarehouseError: PostgreSQL refused or cannot be reached.
        """
        parameters = {
            "now": at,
            "timeframes": list(get_args(Timeframe)),
            "markets": list(recent),
            "since": list(recent.values()),
            "open_markets": [market for market, _ in open_sessions],
            "open_dates": [day for _, day in open_sessions],
            "most": _MOST_GROUPS,
        }
        with self._warehouse.connect() as connection:
            rows = connection.execute(_DUE, parameters).fetchall()
        return [_due_gaps(row) for row in rows]

    def open_gaps(
        self,
        market: str,
        timeframe: Timeframe,
        start: date,
        end: date,
        symbols: Sequence[str] | None,
    ) -> list[OpenGap]:
        """Return the open gaps of sessions `start <= session_date < end`.

        Raises:
            WarehouseError: PostgreSQL refused or cannot be reached.
        """
        chosen = None if symbols is None else list(symbols)
        with self._warehouse.connect() as connection:
            rows = connection.execute(
                _ASKED, [market, timeframe, start, end, chosen, chosen]
            ).fetchall()
        return [OpenGap(row["instrument_id"], row["start_ts"], row["end_ts"]) for row in rows]

    def outcome(self, timeframe: Timeframe, asked: Sequence[OpenGap]) -> RepairOutcome:
        """Return what has become of gaps that were open.

        Raises:
            WarehouseError: PostgreSQL refused or cannot be reached.
        """
        parameters = [
            [gap.instrument_id for gap in asked],
            [gap.start for gap in asked],
            [gap.end for gap in asked],
            timeframe,
        ]
        with self._warehouse.connect() as connection:
            row = connection.execute(_OUTCOME, parameters).fetchone()
        return RepairOutcome(asked=len(asked), **(row or {}))


def _due_gaps(row: dict[str, Any]) -> DueGaps:
    return DueGaps(**{**row, "symbols": tuple(row["symbols"])})
