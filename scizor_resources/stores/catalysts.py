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


_WRITE_EVENT = (
    f"INSERT INTO public.catalyst_events AS e ({_listed(_EVENT_COLUMNS, '{}')}) "  # noqa: S608  # names are constants
    f"VALUES ({_listed(_EVENT_COLUMNS, '%({})s')}) "
    f"ON CONFLICT (source, source_id) DO UPDATE SET {_listed(_CHANGING, '{0} = excluded.{0}')}, "
    f"updated_at = now() WHERE ({_listed(_CHANGING, 'e.{}')}) "
    f"IS DISTINCT FROM ({_listed(_CHANGING, 'excluded.{}')})"
)
_WRITE_LINK = (
    "INSERT INTO public.catalyst_event_instruments AS i "
    "(catalyst_event_id, instrument_id, first_tradable_at) "
    "SELECT catalyst_event_id, %(instrument_id)s, %(first_tradable_at)s "
    "FROM public.catalyst_events WHERE source = %(source)s AND source_id = %(source_id)s "
    "ON CONFLICT (catalyst_event_id, instrument_id) DO UPDATE "
    "SET first_tradable_at = excluded.first_tradable_at "
    "WHERE i.first_tradable_at IS DISTINCT FROM excluded.first_tradable_at"
)
