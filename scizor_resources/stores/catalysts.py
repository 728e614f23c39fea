"""Catalyst events and their rules: `catalyst_events`, `catalyst_event_instruments`, rules."""

import csv
from dataclasses import dataclass
from datetime import datetime
from importlib import resources
from typing import Any

import pandas as pd

from scizor_core.catalysts import CatalystRule, RuleTable
from scizor_core.schemas.catalysts import CATALYST_COLUMNS, catalysts_frame, validate_catalysts
from scizor_resources.stores.warehouse import Warehouse

#: Two runs that write the same events do so one after the other; any constant will do.
_LOCK_KEY = 7_249_007
_EVENT_COLUMNS: tuple[str, ...] = tuple(
    name for name in CATALYST_COLUMNS if name not in ("instrument_id", "first_tradable_at")
)
_KEY = ("source", "source_id")
#: What stays as it was when an event is seen again.
_FIRST_SEEN = ("detected_at",)
#: A date of a calendar is news when it is first seen; events of this form stay as they were then
#: in these columns, and so does their first bar.
_FIRST_SEEN_FORM = "scheduled"
_FIRST_SEEN_OF_FORM = ("published_at", "description", "accepted_text")
_CHANGING = tuple(name for name in _EVENT_COLUMNS if name not in (*_KEY, *_FIRST_SEEN))


@dataclass(frozen=True)
class CatalystsWritten:
    """What a write came to.

    Attributes:
        events: events that were new or differed.
        links: instruments of events that were new, or whose first bar differed.
    """

    events: int = 0
    links: int = 0


class CatalystStore:
    """Access to catalyst events and rules."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse

    def rules(self, source: str) -> RuleTable:
        """Return a source's rules as users have them; absent defaults are put there first."""
        with self._warehouse.connect() as connection, connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO public.catalyst_rules (source, form, item, type, title, impact) "
                "VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (source, form, item) DO NOTHING",
                [
                    (rule.source, rule.form, rule.item, rule.type, rule.title, rule.impact)
                    for rule in default_rules()
                ],
            )
            rows = cursor.execute(
                "SELECT source, form, item, type, title, impact FROM public.catalyst_rules "
                "WHERE source = %s",
                [source],
            ).fetchall()
        return RuleTable(CatalystRule(**row) for row in rows)

    def write(self, events: pd.DataFrame) -> CatalystsWritten:
        """Keep events; equal ones are not touched, and `detected_at` stays the first one.

        Args:
            events: columns `CATALYST_COLUMNS`, one row per event and instrument.

        Raises:
            ContractError: the frame breaks the contract; nothing is written.
        """
        if events.empty:
            return CatalystsWritten()
        rows = [_record(row) for row in validate_catalysts(events).to_dict("records")]
        distinct = {(row["source"], row["source_id"]): row for row in rows}
        with self._warehouse.connect() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK_KEY])
            cursor.executemany(_WRITE_EVENT, list(distinct.values()))
            written = max(cursor.rowcount, 0)
            links = [row for row in rows if row["instrument_id"] is not None]
            if not links:
                return CatalystsWritten(written)
            cursor.executemany(_WRITE_LINK, links)
            return CatalystsWritten(written, max(cursor.rowcount, 0))

    def link_duplicates(self) -> int:
        """Name, in each second report of a matter, the event that counts.

        Results in a calendar are a second report of the filing with them (8-K, item 2.02) of the
        same day or a day beside it, whose time is exact. An announcement is a second report of one
        with the same title and kind in the week before.

        Returns:
            Number of events whose link changed.
        """
        with self._warehouse.connect() as connection:
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK_KEY])
            return max(connection.execute(_LINK_DUPLICATES).rowcount, 0)

    def read(self, start: datetime, end: datetime) -> pd.DataFrame:
        """Return events with `start <= published_at < end`, one row per event and instrument.

        Returns:
            Columns `CATALYST_COLUMNS`, by time of publication, source and id.
        """
        columns = ", ".join(CATALYST_COLUMNS)
        with self._warehouse.connect() as connection:
            rows = connection.execute(
                f"SELECT {columns} FROM public.catalyst_events "  # noqa: S608  # names are constants
                "LEFT JOIN public.catalyst_event_instruments USING (catalyst_event_id) "
                "WHERE published_at >= %s AND published_at < %s",
                [start, end],
            ).fetchall()
        return catalysts_frame(list(rows))

    def markets(self, start: datetime, end: datetime) -> dict[int, str]:
        """Return instrument id -> market, for instruments of events published in the window."""
        with self._warehouse.connect() as connection:
            rows = connection.execute(
                "SELECT DISTINCT instrument_id, market FROM catalyst.instrument_events "
                "WHERE published_at >= %s AND published_at < %s",
                [start, end],
            ).fetchall()
        return {row["instrument_id"]: row["market"] for row in rows}


def default_rules() -> list[CatalystRule]:
    """Return the rules that come with the platform (`seeds/catalyst_rules.csv`)."""
    text = resources.files("scizor_resources").joinpath("seeds/catalyst_rules.csv").read_text()
    return [
        CatalystRule(
            source=row["source"],
            form=row["form"],
            item=row["item"],
            type=row["type"],
            title=row["title"],
            impact=int(row["impact"]) if row["impact"] else None,
        )
        for row in csv.DictReader(text.splitlines())
    ]


def _record(row: dict[Any, Any]) -> dict[str, Any]:
    """Return a row as PostgreSQL takes it: no NaT, dates without a time."""
    return {
        str(name): None
        if pd.isna(value)
        else value.date()
        if name in ("filing_date", "report_date")
        else value
        for name, value in row.items()
    }


def _listed(names: tuple[str, ...], pattern: str) -> str:
    return ", ".join(pattern.format(name) for name in names)


def _kept(name: str) -> str:
    """Return what a column of an event becomes when the event is seen again."""
    if name not in _FIRST_SEEN_OF_FORM:
        return f"excluded.{name}"
    return f"CASE e.form WHEN '{_FIRST_SEEN_FORM}' THEN e.{name} ELSE excluded.{name} END"


_CHANGED = ", ".join(map(_kept, _CHANGING))


_WRITE_EVENT = (
    f"INSERT INTO public.catalyst_events AS e ({_listed(_EVENT_COLUMNS, '{}')}) "  # noqa: S608  # names are constants
    f"VALUES ({_listed(_EVENT_COLUMNS, '%({})s')}) "
    f"ON CONFLICT (source, source_id) DO UPDATE SET ({_listed(_CHANGING, '{}')}) = "
    f"({_CHANGED}), updated_at = now() "
    f"WHERE ({_listed(_CHANGING, 'e.{}')}) IS DISTINCT FROM ({_CHANGED})"
)
_WRITE_LINK = (
    "INSERT INTO public.catalyst_event_instruments AS i "  # noqa: S608  # the form is a constant
    "(catalyst_event_id, instrument_id, first_tradable_at) "
    "SELECT catalyst_event_id, %(instrument_id)s, %(first_tradable_at)s "
    "FROM public.catalyst_events WHERE source = %(source)s AND source_id = %(source_id)s "
    "ON CONFLICT (catalyst_event_id, instrument_id) DO UPDATE "
    "SET first_tradable_at = excluded.first_tradable_at "
    "WHERE i.first_tradable_at IS DISTINCT FROM excluded.first_tradable_at "
    "AND NOT EXISTS (SELECT 1 FROM public.catalyst_events AS e "
    f"WHERE e.catalyst_event_id = i.catalyst_event_id AND e.form = '{_FIRST_SEEN_FORM}')"
)
_LINK_DUPLICATES = """
WITH originals AS (
    SELECT DISTINCT ON (d.catalyst_event_id) d.catalyst_event_id, o.source || ' ' || o.source_id
        AS duplicate_of
    FROM public.catalyst_events AS d
    JOIN public.catalyst_event_instruments AS di USING (catalyst_event_id)
    JOIN public.catalyst_event_instruments AS oi USING (instrument_id)
    JOIN public.catalyst_events AS o ON o.catalyst_event_id = oi.catalyst_event_id
    WHERE d.source LIKE '%finnhub_earnings' AND d.type = 'earnings'
        AND o.source LIKE '%edgar' AND o.type = 'earnings' AND NOT o.is_amendment
        AND (d.source LIKE 'sample:%') = (o.source LIKE 'sample:%')
        AND abs(d.report_date - coalesce(o.report_date, o.filing_date)) <= 1
    ORDER BY d.catalyst_event_id, abs(d.report_date - coalesce(o.report_date, o.filing_date)),
        o.published_at, o.source_id
), announcements AS (
    SELECT DISTINCT ON (d.catalyst_event_id) d.catalyst_event_id, o.source || ' ' || o.source_id
        AS duplicate_of
    FROM public.catalyst_events AS d
    JOIN public.catalyst_events AS o ON o.source = d.source AND o.type = d.type
        AND lower(o.title) = lower(d.title) AND o.catalyst_event_id <> d.catalyst_event_id
        AND (o.published_at, o.source_id) < (d.published_at, d.source_id)
        AND o.published_at > d.published_at - interval '7 days'
    WHERE d.source LIKE '%coinspot_announcements'
    ORDER BY d.catalyst_event_id, o.published_at, o.source_id
), wanted AS (
    SELECT * FROM originals UNION ALL SELECT * FROM announcements
)
UPDATE public.catalyst_events AS e
SET duplicate_of = coalesce(w.duplicate_of, ''), updated_at = now()
FROM public.catalyst_events AS same LEFT JOIN wanted AS w USING (catalyst_event_id)
WHERE same.catalyst_event_id = e.catalyst_event_id
    AND e.duplicate_of <> coalesce(w.duplicate_of, '')
"""
