"""Gaps and completeness in PostgreSQL: read what is known, write only what differs.

Every statement is of a set: what a collection of many sessions changes goes in with one statement
per table. Instants travel as microseconds since 1970.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import date
from typing import Any

import psycopg

from scizor_core.gaps import Claim, ClosedGap, Gap, Micros
from scizor_core.markets import Timeframe
from scizor_resources.stores.connection import Row

_Connection = psycopg.Connection[Row]
#: (instrument_id, session date).
Place = tuple[int, date]


@dataclass(frozen=True, slots=True)
class CompletenessRow:
    """A row of `quality.completeness`.

    Attributes:
        instrument_id: whose.
        timeframe: length of a bar.
        session_date: session.
        expected: bars of the calendar, in bars like all counts.
        present: of those, stored.
        quiet: absent, and a source saw that nothing traded.
        feed_down, not_fetched, refused, absent: missing, by reason.
        halted, outside_history, delisted: excused, by reason.
        missing: sum of the missing ones.
        unexpected: stored bars outside the grid.
        outliers: stored bars that a rule doubts.
        quarantined: refused rows.
        coverage: share of the bars to be had that is accounted for.
        validity, agreement, timeliness: the other parts of the score, 0 to 1.
        score: 0 to 100.
        reason: in words.
    """

    instrument_id: int
    timeframe: Timeframe
    session_date: date
    expected: int
    present: int
    quiet: int
    feed_down: int
    not_fetched: int
    refused: int
    absent: int
    halted: int
    outside_history: int
    delisted: int
    missing: int
    unexpected: int
    outliers: int
    quarantined: int
    coverage: float
    validity: float
    agreement: float
    timeliness: float
    score: float
    reason: str


_COLUMNS = tuple(each.name for each in fields(CompletenessRow))
_KEY = ("instrument_id", "timeframe", "session_date")
_TYPES = {"timeframe": "text", "session_date": "date", "reason": "text"} | dict.fromkeys(
    ("coverage", "validity", "agreement", "timeliness", "score"), "float8"
)


def _micros(column: str) -> str:
    return f"(extract(epoch FROM {column}) * 1000000)::bigint AS {column}"


def _instant(column: str) -> str:
    return f"timestamptz 'epoch' + g.{column} * interval '1 microsecond'"


class GapStore:
    """Access to gaps, halts, outages and completeness on one connection.

    Args:
        connection: within a transaction, so that all of a change is kept or none of it.
    """

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection

    def take_turns(self, market: str, timeframe: Timeframe, dates: Sequence[date]) -> None:
        """Wait until no other transaction changes gaps of these sessions, and keep it so."""
        months = timeframe == "1d"
        numbers = {each.year * 12 + each.month if months else each.toordinal() for each in dates}
        self._connection.execute(
            "SELECT pg_advisory_xact_lock(hashtext(%s), number) FROM unnest(%s::int[]) AS number",
            [f"gaps {market} {timeframe}", sorted(numbers)],
        )

    def gaps(
        self, timeframe: Timeframe, dates: Sequence[date], instrument_ids: Sequence[int]
    ) -> dict[int, list[Gap]]:
        """Return instrument_id -> its gaps in those sessions, in order."""
        stamps = ("start_ts", "end_ts", "last_attempt_at", "next_attempt_at", "detected_at")
        with self._connection.cursor(binary=True) as cursor:
            rows = cursor.execute(
                "SELECT instrument_id, session_date, reason, source, detail, status, attempts, "  # noqa: S608  # columns are constants
                f"{', '.join(_micros(each) for each in stamps)} FROM quality.gaps "
                "WHERE timeframe = %s AND session_date BETWEEN %s AND %s "
                "AND instrument_id = ANY(%s) ORDER BY 1, start_ts",
                [timeframe, min(dates), max(dates), list(instrument_ids)],
            ).fetchall()
        wanted = set(dates)
        found: dict[int, list[Gap]] = {}
        for row in rows:
            if row["session_date"] in wanted:
                found.setdefault(row["instrument_id"], []).append(
                    Gap(
                        session_date=row["session_date"],
                        start=row["start_ts"],
                        end=row["end_ts"],
                        reason=row["reason"],
                        source=row["source"],
                        detail=row["detail"],
                        status=row["status"],
                        attempts=row["attempts"],
                        last_attempt_at=row["last_attempt_at"],
                        next_attempt_at=row["next_attempt_at"],
                        detected_at=row["detected_at"],
                    )
                )
        return found

    def halts(
        self, instrument_ids: Sequence[int], start: Micros, end: Micros
    ) -> dict[int, list[Claim]]:
        """Return instrument_id -> halts in `[start, end)`; one that lasts ends at `end`."""
        rows = self._connection.execute(
            f"SELECT instrument_id, {_micros('start_ts')}, {_micros('end_ts')}, source, note "  # noqa: S608  # columns are constants
            "FROM quality.halts WHERE instrument_id = ANY(%s) AND start_ts < to_timestamp(%s) "
            "AND (end_ts IS NULL OR end_ts > to_timestamp(%s)) ORDER BY 1, quality.halts.start_ts, "
            "source",
            [list(instrument_ids), end / 1e6, start / 1e6],
        ).fetchall()
        found: dict[int, list[Claim]] = {}
        for row in rows:
            found.setdefault(row["instrument_id"], []).append(
                Claim(
                    row["start_ts"],
                    end if row["end_ts"] is None else row["end_ts"],
                    "halted",
                    row["note"],
                    row["source"],
                )
            )
        return found

    def outages(self, market: str, start: Micros, end: Micros) -> list[tuple[int | None, Claim]]:
        """Return outages of feeds in `[start, end)`, each with the instrument, None for all."""
        rows = self._connection.execute(
            f"SELECT instrument_id, {_micros('start_ts')}, {_micros('end_ts')}, feed, reason, "  # noqa: S608  # columns are constants
            "detail FROM quality.outages WHERE market = %s AND start_ts < to_timestamp(%s) "
            "AND (end_ts IS NULL OR end_ts > to_timestamp(%s)) ORDER BY quality.outages.start_ts, "
            "feed",
            [market, end / 1e6, start / 1e6],
        ).fetchall()
        return [
            (
                row["instrument_id"],
                Claim(
                    row["start_ts"],
                    end if row["end_ts"] is None else row["end_ts"],
                    "feed down",
                    ": ".join(part for part in (row["reason"], row["detail"]) if part),
                    row["feed"],
                ),
            )
            for row in rows
        ]

    def completeness(
        self, timeframe: Timeframe, dates: Sequence[date], instrument_ids: Sequence[int]
    ) -> dict[Place, CompletenessRow]:
        """Return (instrument_id, session date) -> the stored row."""
        with self._connection.cursor(binary=True) as cursor:
            rows = cursor.execute(
                f"SELECT {', '.join(_COLUMNS)} FROM quality.completeness "  # noqa: S608  # columns are constants
                "WHERE timeframe = %s AND session_date BETWEEN %s AND %s "
                "AND instrument_id = ANY(%s)",
                [timeframe, min(dates), max(dates), list(instrument_ids)],
            ).fetchall()
        return {(row["instrument_id"], row["session_date"]): CompletenessRow(**row) for row in rows}

    # ---- writing

    def delete(self, timeframe: Timeframe, gaps: Iterable[tuple[int, Gap]]) -> None:
        """Delete gaps, each given with its instrument."""
        keys = [(instrument_id, gap.start) for instrument_id, gap in gaps]
        if keys:
            self._connection.execute(_DELETE_GAPS, [*_columns(keys), timeframe])

    def write(self, timeframe: Timeframe, gaps: Sequence[tuple[int, Gap]]) -> None:
        """Insert or replace gaps, each given with its instrument."""
        rows = [
            (
                instrument_id,
                gap.session_date,
                gap.start,
                gap.end,
                gap.reason,
                gap.source,
                gap.detail,
                gap.status,
                gap.attempts,
                gap.last_attempt_at,
                gap.next_attempt_at,
                gap.detected_at,
            )
            for instrument_id, gap in gaps
        ]
        if rows:
            self._connection.execute(_WRITE_GAPS, [*_columns(rows), timeframe])

    def close(
        self, timeframe: Timeframe, closed: Sequence[tuple[int, ClosedGap]], at: Micros
    ) -> None:
        """Keep the history of gaps that are none any more."""
        rows = [
            (
                instrument_id,
                each.gap.session_date,
                each.start,
                each.end,
                each.gap.reason,
                each.gap.detail,
                each.gap.attempts,
                each.gap.detected_at,
                at,
                each.outcome,
            )
            for instrument_id, each in closed
        ]
        if rows:
            self._connection.execute(_WRITE_CLOSED, [*_columns(rows), timeframe])

    def write_completeness(self, rows: Sequence[CompletenessRow]) -> None:
        """Insert or replace rows of completeness."""
        if rows:
            values = [tuple(getattr(row, name) for name in _COLUMNS) for row in rows]
            self._connection.execute(_WRITE_COMPLETENESS, _columns(values))


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


_DELETE_GAPS = f"""
DELETE FROM quality.gaps AS s USING unnest(%s::int[], %s::bigint[]) AS g (instrument_id, start_ts)
WHERE s.timeframe = %s AND s.instrument_id = g.instrument_id
    AND s.start_ts = {_instant("start_ts")}
"""  # noqa: S608  # built from constants
_WRITE_GAPS = f"""
INSERT INTO quality.gaps (instrument_id, timeframe, session_date, start_ts, end_ts, reason, source,
    detail, status, attempts, last_attempt_at, next_attempt_at, detected_at)
SELECT g.instrument_id, t.timeframe, g.session_date, {_instant("start_ts")}, {_instant("end_ts")},
    g.reason, g.source, g.detail, g.status, g.attempts, {_instant("last_attempt_at")},
    {_instant("next_attempt_at")}, {_instant("detected_at")}
FROM unnest(%s::int[], %s::date[], %s::bigint[], %s::bigint[], %s::text[], %s::text[], %s::text[],
    %s::text[], %s::int[], %s::bigint[], %s::bigint[], %s::bigint[])
    AS g (instrument_id, session_date, start_ts, end_ts, reason, source, detail, status, attempts,
        last_attempt_at, next_attempt_at, detected_at)
CROSS JOIN (VALUES (%s::text)) AS t (timeframe)
ON CONFLICT (instrument_id, timeframe, start_ts) DO UPDATE SET
    session_date = excluded.session_date, end_ts = excluded.end_ts, reason = excluded.reason,
    source = excluded.source, detail = excluded.detail, status = excluded.status,
    attempts = excluded.attempts, last_attempt_at = excluded.last_attempt_at,
    next_attempt_at = excluded.next_attempt_at, detected_at = excluded.detected_at
"""  # noqa: S608  # built from constants
_WRITE_CLOSED = f"""
INSERT INTO quality.closed_gaps (instrument_id, timeframe, session_date, start_ts, end_ts, reason,
    detail, attempts, detected_at, closed_at, outcome)
SELECT g.instrument_id, t.timeframe, g.session_date, {_instant("start_ts")}, {_instant("end_ts")},
    g.reason, g.detail, g.attempts, {_instant("detected_at")}, {_instant("closed_at")}, g.outcome
FROM unnest(%s::int[], %s::date[], %s::bigint[], %s::bigint[], %s::text[], %s::text[], %s::int[],
    %s::bigint[], %s::bigint[], %s::text[])
    AS g (instrument_id, session_date, start_ts, end_ts, reason, detail, attempts, detected_at,
        closed_at, outcome)
CROSS JOIN (VALUES (%s::text)) AS t (timeframe)
"""  # noqa: S608  # built from constants
_WRITE_COMPLETENESS = f"""
INSERT INTO quality.completeness ({", ".join(_COLUMNS)})
SELECT * FROM unnest({", ".join(f"%s::{_TYPES.get(name, 'int')}[]" for name in _COLUMNS)})
ON CONFLICT ({", ".join(_KEY)}) DO UPDATE SET
    {", ".join(f"{name} = excluded.{name}" for name in _COLUMNS if name not in _KEY)},
    updated_at = now()
"""  # noqa: S608  # built from constants
