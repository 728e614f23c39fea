"""Splits and dividends: what providers report, what applies, what was fetched again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

import psycopg
from psycopg.types.json import Jsonb

from scizor_core.adjust import (
    Dividend,
    Evidence,
    Report,
    Split,
    StoredPrice,
    Verdict,
    basis_date,
)
from scizor_core.errors import UnknownSymbolError
from scizor_core.markets import TIMEFRAMES, Timeframe, get_market
from scizor_resources.providers.actions import ActionKind, CorporateAction
from scizor_resources.stores.warehouse import Warehouse

_Connection: TypeAlias = psycopg.Connection[dict[str, Any]]
_SIDES = {
    # close before the day, open from the day on
    "close": ("close", "<", "DESC"),
    "open": ("open", ">=", "ASC"),
}


@dataclass(frozen=True)
class StoredAction:
    """One row of `corporate_actions`.

    Attributes:
        instrument_id: the instrument.
        report: who reports what.
        applied: it counts in adjusted series.
        note: why not, or what else is to be said.
    """

    instrument_id: int
    report: Report
    applied: bool
    note: str

    @property
    def kind(self) -> ActionKind:
        """Which of the two it is."""
        return "split" if isinstance(self.report.action, Split) else "dividend"


@dataclass
class Written:
    """What a write of actions did, in rows."""

    inserted: int = 0
    changed: int = 0


@dataclass(frozen=True)
class Refetch:
    """A range that was collected again because its provider has rewritten it.

    Attributes:
        instrument_id: the instrument.
        source: the provider.
        timeframe: timeframe of the bars.
        split_ex_date: ex-date of the split that caused it, None where none was reported.
        start: first session.
        end: first session no longer in it.
        rows_changed: bars whose old values are now in the revisions.
    """

    instrument_id: int
    source: str
    timeframe: Timeframe
    split_ex_date: date | None
    start: date
    end: date
    rows_changed: int


@dataclass(frozen=True)
class DatedAction:
    """An applied action and since when the platform knows of it.

    Attributes:
        instrument_id: the instrument.
        ex_date: first session, in the exchange's zone, without the dividend or in new shares.
        kind: split or dividend.
        source: the provider whose report is applied.
        ratio: of a split, new shares for each old one.
        amount: of a dividend, per share in `currency`.
        currency: ISO code, empty for a split.
        first_seen_at: UTC.
    """

    instrument_id: int
    ex_date: date
    kind: ActionKind
    source: str
    ratio: float | None
    amount: float | None
    currency: str
    first_seen_at: datetime


class ActionStore:
    """Access to `corporate_actions` and `history_refetches`."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse

    def write(self, actions: Sequence[tuple[int, CorporateAction]]) -> Written:
        """Keep what providers report of instruments, by id.

        Actions of one kind, source and ex-date become one: amounts add up, ratios multiply. A row
        whose value has changed gets a new `updated_at`; one that says the same stays untouched.
        """
        written = Written()
        if not actions:
            return written
        with self._warehouse.connect() as connection:
            for row in _merged(actions):
                found = connection.execute(
                    "INSERT INTO public.corporate_actions AS a (instrument_id, ex_date, kind, "
                    "source, ratio, amount, currency, payload) VALUES (%(instrument_id)s, "
                    "%(ex_date)s, %(kind)s, %(source)s, %(ratio)s, %(amount)s, %(currency)s, "
                    "%(payload)s) ON CONFLICT (instrument_id, ex_date, kind, source) DO UPDATE "
                    "SET ratio = excluded.ratio, amount = excluded.amount, "
                    "currency = excluded.currency, payload = excluded.payload, "
                    "updated_at = now() WHERE a.currency <> excluded.currency "
                    "OR abs(coalesce(excluded.ratio / a.ratio, excluded.amount / a.amount) - 1) "
                    "> 1e-6 RETURNING xmax = 0 AS is_new",
                    row,
                ).fetchone()
                if found is not None:
                    written.inserted += found["is_new"]
                    written.changed += not found["is_new"]
        return written

    def reports(self, instrument_id: int) -> list[StoredAction]:
        """Return everything that is reported of an instrument, by ex-date."""
        with self._warehouse.connect() as connection:
            rows = connection.execute(
                "SELECT instrument_id, ex_date, kind, source, ratio, amount, currency, applied, "
                "note FROM public.corporate_actions WHERE instrument_id = %s "
                "ORDER BY ex_date, kind, source",
                [instrument_id],
            ).fetchall()
        return [_stored(row) for row in rows]

    def settle(
        self, stored: Sequence[StoredAction], verdicts: Sequence[Verdict]
    ) -> list[tuple[StoredAction, Verdict]]:
        """Write the verdicts on some rows; returns those that have changed."""
        changed = [
            (action, verdict)
            for action, verdict in zip(stored, verdicts, strict=True)
            if (action.applied, action.note) != (verdict.applied, verdict.note)
        ]
        if not changed:
            return []
        with self._warehouse.connect() as connection:
            # One of each action is applied at most, so the others have to give way first.
            for action, verdict in sorted(changed, key=lambda each: each[1].applied):
                connection.execute(
                    "UPDATE public.corporate_actions SET applied = %s, note = %s, "
                    "updated_at = CASE WHEN applied <> %s THEN now() ELSE updated_at END "
                    "WHERE instrument_id = %s AND ex_date = %s AND kind = %s AND source = %s",
                    [
                        verdict.applied,
                        verdict.note,
                        verdict.applied,
                        action.instrument_id,
                        action.report.action.ex_date,
                        action.kind,
                        action.report.source,
                    ],
                )
        return changed

    def applied(self, instrument_id: int) -> tuple[list[Split], list[Dividend]]:
        """Return the splits and the dividends that count, by ex-date."""
        actions = [each.report.action for each in self.reports(instrument_id) if each.applied]
        return (
            [each for each in actions if isinstance(each, Split)],
            [each for each in actions if isinstance(each, Dividend)],
        )

    def applied_between(
        self, since: datetime, until: datetime, *, late: timedelta
    ) -> list[DatedAction]:
        """Return applied actions with an ex-date in the days of a window, or first seen in it.

        Args:
            since: start, aware.
            until: end, exclusive, aware.
            late: those first seen in the window are left out where their ex-date lies further
                before it.
        """
        first, last = since.date(), (until - timedelta(microseconds=1)).date()
        with self._warehouse.connect() as connection:
            rows = connection.execute(
                "SELECT instrument_id, ex_date, kind, source, ratio, amount, currency, "
                "first_seen_at FROM public.corporate_actions WHERE applied "
                "AND (ex_date BETWEEN %s AND %s "
                "OR (first_seen_at >= %s AND first_seen_at < %s AND ex_date >= %s)) "
                "ORDER BY ex_date, instrument_id, kind",
                [first, last, since, until, first - late],
            ).fetchall()
        return [DatedAction(**row) for row in rows]

    def evidence(
        self, instrument_id: int, market: str, days: Sequence[date]
    ) -> dict[date, Evidence]:
        """Return the stored daily prices around each of some days."""
        wanted = sorted(set(days))
        closes = self._prices(instrument_id, market, wanted, "close")
        opens = self._prices(instrument_id, market, wanted, "open")
        return {day: Evidence(closes.get(day), opens.get(day)) for day in wanted}

    def closes_before(
        self, instrument_id: int, market: str, days: Sequence[date]
    ) -> dict[date, StoredPrice]:
        """Return for each of some days the last stored daily close before it, if any."""
        return self._prices(instrument_id, market, sorted(set(days)), "close")

    def _prices(
        self, instrument_id: int, market: str, days: Sequence[date], side: str
    ) -> dict[date, StoredPrice]:
        if not days:
            return {}
        column, comparison, order = _SIDES[side]
        with self._warehouse.connect() as connection:
            rows = connection.execute(
                f"SELECT day, b.* FROM unnest(%s::date[]) AS day CROSS JOIN LATERAL ("  # noqa: S608  # fragments are constants, values are bound
                f"SELECT session_date, {column} AS price, source, ingested_at FROM market.bars "
                "WHERE instrument_id = %s AND timeframe = '1d' "
                f"AND ts {comparison} day::timestamp AT TIME ZONE 'UTC' "
                f"ORDER BY ts {order} LIMIT 1) AS b",
                [list(days), instrument_id],
            ).fetchall()
        zone = get_market(market).timezone
        return {
            row["day"]: StoredPrice(
                row["session_date"],
                row["price"],
                basis_date(row["session_date"], row["source"], row["ingested_at"], "1d", zone),
            )
            for row in rows
        }

    def first_session(self, instrument_id: int) -> date | None:
        """Return the first session with a bar of any timeframe, None without bars."""
        return self._edge(instrument_id, "ASC")

    def last_session(self, instrument_id: int) -> date | None:
        """Return the last session with a bar of any timeframe, None without bars."""
        return self._edge(instrument_id, "DESC")

    def _edge(self, instrument_id: int, order: str) -> date | None:
        with self._warehouse.connect() as connection:
            rows = connection.execute(
                "SELECT b.session_date FROM unnest(%s::text[]) AS timeframe CROSS JOIN LATERAL ("  # noqa: S608  # `order` is a constant of ours
                "SELECT session_date FROM market.bars AS x WHERE x.instrument_id = %s "
                f"AND x.timeframe = timeframe ORDER BY x.ts {order} LIMIT 1) AS b",
                [list(TIMEFRAMES), instrument_id],
            ).fetchall()
        days: list[date] = [row["session_date"] for row in rows]
        if not days:
            return None
        return min(days) if order == "ASC" else max(days)

    def known_since(self, instrument_id: int) -> datetime:
        """Return when an instrument was registered, UTC."""
        with self._warehouse.connect() as connection:
            row = connection.execute(
                "SELECT created_at FROM public.symbols WHERE instrument_id = %s", [instrument_id]
            ).fetchone()
        if row is None:
            raise UnknownSymbolError(f"There is no instrument {instrument_id}.")
        found: datetime = row["created_at"]
        return found

    def first_stale(
        self,
        instrument_id: int,
        source: str,
        timeframe: Timeframe,
        before: date,
        fetched_before: datetime,
    ) -> date | None:
        """Return the first session that a source's bars, fetched before an instant, are of.

        Args:
            instrument_id: the instrument.
            source: the provider's name; rows whose source says more ("yahoo+tape") count.
            timeframe: timeframe of the bars.
            before: only sessions before this.
            fetched_before: only bars written before this, aware.
        """
        with self._warehouse.connect() as connection:
            row = connection.execute(
                "SELECT session_date FROM market.bars WHERE instrument_id = %s AND timeframe = %s "
                "AND session_date < %s AND ts < %s AND ingested_at < %s AND source ~ %s "
                "ORDER BY ts LIMIT 1",
                [
                    instrument_id,
                    timeframe,
                    before,
                    datetime.combine(before, time(), UTC) + timedelta(days=1),
                    fetched_before,
                    rf"(^|\+){source}($|[-+/:])",
                ],
            ).fetchone()
        found: date | None = None if row is None else row["session_date"]
        return found

    def was_refetched(self, instrument_id: int, source: str, split_ex_date: date) -> bool:
        """Say whether bars of a source were collected again for a split."""
        with self._warehouse.connect() as connection:
            row = connection.execute(
                "SELECT 1 FROM public.history_refetches WHERE instrument_id = %s AND source = %s "
                "AND split_ex_date = %s LIMIT 1",
                [instrument_id, source, split_ex_date],
            ).fetchone()
        return row is not None

    def record_refetches(self, refetches: Sequence[Refetch], at: datetime) -> None:
        """Keep that ranges were collected again."""
        with self._warehouse.connect() as connection, connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO public.history_refetches (instrument_id, source, timeframe, "
                "split_ex_date, first_session, end_session, rows_changed, refetched_at) "
                "VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
                [
                    (
                        each.instrument_id,
                        each.source,
                        each.timeframe,
                        each.split_ex_date,
                        each.start,
                        each.end,
                        each.rows_changed,
                        at,
                    )
                    for each in refetches
                ],
            )


def midnight(day: date, market: str) -> datetime:
    """Return when a date begins at the exchange."""
    return datetime.combine(day, time(), ZoneInfo(get_market(market).timezone))


def _merged(actions: Sequence[tuple[int, CorporateAction]]) -> list[dict[str, Any]]:
    """Return one row per instrument, ex-date, kind and source; a record given twice counts once."""
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    seen: set[str] = set()
    for instrument_id, action in actions:
        key = (instrument_id, action.ex_date, action.kind, action.source)
        record = repr((key, sorted(action.payload.items(), key=str), action))
        if record in seen:
            continue
        seen.add(record)
        row = _row(instrument_id, action)
        known = rows.setdefault(key, row)
        if known is row:
            continue
        parts = known["payload"].obj.get("parts") or [known["payload"].obj]
        known["payload"] = Jsonb({"parts": [*parts, dict(action.payload)]})
        if action.kind == "split":
            known["ratio"] *= row["ratio"]
        elif known["currency"] == row["currency"]:
            known["amount"] += row["amount"]
    return list(rows.values())


def _row(instrument_id: int, action: CorporateAction) -> dict[str, Any]:
    ratio = None
    if action.ratio_from is not None and action.ratio_to is not None:
        ratio = action.ratio_to / action.ratio_from
    return {
        "instrument_id": instrument_id,
        "ex_date": action.ex_date,
        "kind": action.kind,
        "source": action.source,
        "ratio": ratio if action.kind == "split" else None,
        "amount": action.cash_amount if action.kind == "dividend" else None,
        "currency": action.currency or "",
        "payload": Jsonb(dict(action.payload)),
    }


def _stored(row: Mapping[str, Any]) -> StoredAction:
    action: Split | Dividend
    if row["kind"] == "split":
        action = Split(row["ex_date"], row["ratio"])
    else:
        action = Dividend(row["ex_date"], row["amount"])
    report = Report(row["source"], action, row["currency"])
    return StoredAction(row["instrument_id"], report, row["applied"], row["note"])
