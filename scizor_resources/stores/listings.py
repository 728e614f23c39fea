"""Listings: under which codes an instrument has traded, from when to when.

The permanent id never changes: bars stay under it whatever code the instrument has or had.
"""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, TypeAlias

import psycopg

from scizor_core.alerts import Severity
from scizor_core.errors import InvalidInputError, UnknownSymbolError
from scizor_core.markets import MarketSpec, get_market
from scizor_resources.alerts.store import AlertStore
from scizor_resources.stores.warehouse import Warehouse

_Connection: TypeAlias = psycopg.Connection[dict[str, Any]]
_SIDES = {
    # close before the day, open from the day on
    "close": ("close", "<", "DESC"),
    "open": ("open", ">=", "ASC"),
}


@dataclass(frozen=True)
class Code:
    """A code that an instrument has or had.

    Attributes:
        instrument_id: the instrument.
        market: its market.
        symbol: its code today (the last one, where it has left).
        ticker: the code meant.
        valid_from: first day, 1970-01-01 where not known.
        valid_to: last day, None while current.
    """

    instrument_id: int
    market: str
    symbol: str
    ticker: str
    valid_from: date
    valid_to: date | None

    def covers(self, day: date) -> bool:
        """Say whether the code was the instrument's on a day."""
        return self.valid_from <= day and (self.valid_to is None or day <= self.valid_to)


@dataclass
class ListingChange:
    """What a change of a listing does, for people.

    Attributes:
        instrument_id: the instrument; 0 in the preview of a new one.
        steps: sentences.
    """

    instrument_id: int
    steps: list[str] = field(default_factory=list)


class Listings:
    """Ends and changes codes of instruments; the bars stay under the permanent id.

    Each method does all of its steps or none, and with `dry_run` none, but tells them.

    Args:
        warehouse: where symbols and listings are.
        alerts: where alerts go.
    """

    def __init__(self, warehouse: Warehouse, alerts: AlertStore) -> None:
        self._warehouse, self._alerts = warehouse, alerts

    def codes(self, ticker: str, market: str | None = None) -> list[Code]:
        """Return which instruments have or had a code, the first holder first."""
        with self._warehouse.connect() as connection:
            rows = connection.execute(
                "SELECT DISTINCT s.instrument_id, s.market, s.symbol, l.ticker, l.valid_from, "
                "l.valid_to FROM public.listings AS l JOIN public.symbols AS s "
                "USING (instrument_id) WHERE l.ticker = %s AND l.provider = '*' "
                "AND (%s::text IS NULL OR s.market = %s) "
                "ORDER BY l.valid_to NULLS LAST, l.valid_from",
                [ticker, market, market],
            ).fetchall()
        return [Code(**row) for row in rows]

    def history(self, instrument_id: int) -> list[dict[str, Any]]:
        """Return the dated codes of an instrument, oldest first."""
        with self._warehouse.connect() as connection:
            return connection.execute(
                "SELECT venue, provider, ticker, valid_from, valid_to FROM public.listings "
                "WHERE instrument_id = %s ORDER BY valid_from, venue, provider",
                [instrument_id],
            ).fetchall()

    def close(
        self,
        market: str,
        symbol: str,
        on: date,
        *,
        successor: str = "",
        reason: str = "",
        today: date,
        dry_run: bool = False,
    ) -> ListingChange:
        """End the listing of a code: nothing is collected any more, everything stays queryable.

        Args:
            market: name of the market.
            symbol: code of a listed instrument.
            on: its last session.
            successor: what became of it.
            reason: why, for the alert and the watchlist.
            today: date at the exchange.
            dry_run: tell only.

        Raises:
            UnknownSymbolError: no listed instrument has that code.
            InvalidInputError: the day is to come, before the listing began, or before bars that
                are stored.
        """
        spec = get_market(market)
        code = spec.check_symbol(symbol)
        if on > today:
            raise InvalidInputError(
                f"{code} cannot have traded last on {on}, which is to come: close the listing "
                "when that session is over."
            )
        with self._warehouse.connect() as connection:
            change = ListingChange(_listed(connection, spec, code))
            _check_no_bars_after(connection, change.instrument_id, code, on)
            _end_listings(connection, change, None, on)
            connection.execute(
                "UPDATE public.symbols SET status = 'delisted', delisted_on = %s, "
                "successor = coalesce(nullif(%s, ''), successor) WHERE instrument_id = %s",
                [on, successor, change.instrument_id],
            )
            became = f", successor {successor}" if successor else ""
            change.steps.append(f"{code} ({spec.name}) is delisted: last traded on {on}{became}.")
            why = "; ".join(each for each in (f"delisted {on}", reason, successor) if each)
            _leave_watchlist(connection, change, spec.name, code, why)
            if dry_run:
                connection.rollback()
        if not dry_run:
            self._alerts.raise_(
                "listing_closed",
                Severity.MEDIUM,
                f"{code} ({spec.name}) has left: last traded on {on}{became}.",
                (str(change.instrument_id), str(on)),
                market=spec.name,
                symbol=code,
                instrument_id=change.instrument_id,
                delisted_on=str(on),
                successor=successor,
                reason=reason,
            )
        return change

    def rename(
        self, market: str, old: str, new: str, on: date, *, dry_run: bool = False
    ) -> ListingChange:
        """Give an instrument another code from a day on; the old one means it before that day.

        Args:
            market: name of the market.
            old: its code so far.
            new: its code from then on.
            on: first session under the new code.
            dry_run: tell only.

        Raises:
            UnknownSymbolError: no listed instrument has the old code.
            InvalidInputError: another listed instrument has the new code, or the day is before
                the old code began.
        """
        spec = get_market(market)
        before, after = spec.check_symbol(old), spec.check_symbol(new)
        if before == after:
            raise InvalidInputError(f"{before} is its code already.")
        with self._warehouse.connect() as connection:
            change = ListingChange(_listed(connection, spec, before))
            taken = _find_listed(connection, spec, after)
            if taken is not None:
                raise InvalidInputError(
                    f"{after} is the code of another listed instrument ({taken}): close that "
                    f"listing first with `scizor listing close {after} --market {spec.name}`."
                )
            ended = _end_listings(connection, change, before, on - timedelta(days=1))
            for listing in ended:
                connection.execute(
                    "INSERT INTO public.listings (instrument_id, venue, provider, ticker, "
                    "valid_from) VALUES (%s, %s, %s, %s, %s)",
                    [change.instrument_id, listing["venue"], listing["provider"], after, on],
                )
            connection.execute(
                "UPDATE public.symbols SET symbol = %s WHERE instrument_id = %s",
                [after, change.instrument_id],
            )
            change.steps.append(f"{before} ({spec.name}) is called {after} from {on} on.")
            _rename_watchlist(connection, change, spec.name, before, after)
            if dry_run:
                connection.rollback()
        if not dry_run:
            self._alerts.raise_(
                "code_changed",
                Severity.LOW,
                f"{before} ({spec.name}) is called {after} from {on} on.",
                (str(change.instrument_id), before, after, str(on)),
                market=spec.name,
                symbol=after,
                instrument_id=change.instrument_id,
            )
        return change

    def open(
        self, market: str, symbol: str, on: date, *, name: str = "", dry_run: bool = False
    ) -> ListingChange:
        """Register a new instrument under a code that another one has given up.

        Args:
            market: name of the market.
            symbol: the code.
            on: first session of the new instrument.
            name: its long name.
            dry_run: tell only.

        Raises:
            InvalidInputError: a listed instrument has that code, or one that left it later.
        """
        spec = get_market(market)
        code = spec.check_symbol(symbol)
        for held in self.codes(code, spec.name):
            if held.valid_to is None or held.valid_to >= on:
                until = f"until {held.valid_to}" if held.valid_to else "still"
                raise InvalidInputError(
                    f"Instrument {held.instrument_id} has the code {code} {until}: close its "
                    f"listing first, or give a later day than {on}."
                )
        with self._warehouse.connect() as connection:
            row = connection.execute(
                "INSERT INTO public.symbols (market, symbol, name, asset_class, currency) "
                "VALUES (%s, %s, %s, %s, %s) RETURNING instrument_id",
                [spec.name, code, name, spec.asset_class, code.partition("/")[2] or spec.currency],
            ).fetchone()
            change = ListingChange(row["instrument_id"] if row else 0)
            connection.execute(
                "INSERT INTO public.listings (instrument_id, venue, ticker, valid_from) "
                "VALUES (%s, %s, %s, %s)",
                [change.instrument_id, spec.venue, code, on],
            )
            change.steps.append(f"{code} ({spec.name}) is a new instrument from {on} on.")
            if dry_run:
                connection.rollback()
                change.instrument_id = 0
        return change


def _find_listed(connection: _Connection, spec: MarketSpec, code: str) -> int | None:
    row = connection.execute(
        "SELECT instrument_id FROM public.symbols WHERE market = %s AND symbol = %s "
        "AND delisted_on IS NULL FOR UPDATE",
        [spec.name, code],
    ).fetchone()
    return None if row is None else int(row["instrument_id"])


def _listed(connection: _Connection, spec: MarketSpec, code: str) -> int:
    found = _find_listed(connection, spec, code)
    if found is None:
        raise UnknownSymbolError(
            f"Market '{spec.name}' has no listed {code} here. See `scizor listing show {code} "
            f"--market {spec.name}`."
        )
    return found


def _check_no_bars_after(connection: _Connection, instrument_id: int, code: str, on: date) -> None:
    row = connection.execute(
        "SELECT max(session_date) AS last FROM market.bars WHERE instrument_id = %s AND ts >= %s "
        "AND session_date > %s",
        [instrument_id, datetime.combine(on, time(), UTC), on],
    ).fetchone()
    if row is not None and row["last"] is not None:
        raise InvalidInputError(
            f"{code} has bars up to {row['last']}, after {on}: give its real last session. If "
            f"they belong to another company, rename or open a listing instead."
        )


def _end_listings(
    connection: _Connection, change: ListingChange, code: str | None, last: date
) -> list[dict[str, Any]]:
    """End the current listings under a code (by default under all) and return them."""
    rows = connection.execute(
        "SELECT listing_id, venue, provider, ticker, valid_from FROM public.listings "
        "WHERE instrument_id = %s AND (%s::text IS NULL OR ticker = %s) AND valid_to IS NULL",
        [change.instrument_id, code, code],
    ).fetchall()
    for row in rows:
        if row["valid_from"] > last:
            raise InvalidInputError(
                f"The listing as {row['ticker']} began on {row['valid_from']}: it cannot end on "
                f"{last}."
            )
        connection.execute(
            "UPDATE public.listings SET valid_to = %s WHERE listing_id = %s",
            [last, row["listing_id"]],
        )
        change.steps.append(f"Its listing on {row['venue']} as {row['ticker']} ends on {last}.")
    return rows


def _leave_watchlist(
    connection: _Connection, change: ListingChange, market: str, code: str, why: str
) -> None:
    rows = connection.execute(
        "UPDATE public.watchlist SET active = false, updated_at = now(), "
        "notes = concat_ws('; ', nullif(notes, ''), %s::text) "
        "WHERE lower(btrim(market)) = %s AND upper(btrim(symbol)) = %s AND active RETURNING name",
        [why, market, code],
    ).fetchall()
    change.steps += [f"It is inactive in watchlist '{row['name']}' ({why})." for row in rows]


def _rename_watchlist(
    connection: _Connection, change: ListingChange, market: str, before: str, after: str
) -> None:
    rows = connection.execute(
        "UPDATE public.watchlist AS w SET symbol = %s, updated_at = now(), "
        "notes = concat_ws('; ', nullif(notes, ''), %s::text) "
        "WHERE lower(btrim(market)) = %s AND upper(btrim(symbol)) = %s AND NOT EXISTS ("
        "SELECT 1 FROM public.watchlist AS x WHERE x.name = w.name "
        "AND lower(btrim(x.market)) = %s AND upper(btrim(x.symbol)) = %s) RETURNING name",
        [after, f"was {before}", market, before, market, after],
    ).fetchall()
    change.steps += [f"Watchlist '{row['name']}' has it as {after}." for row in rows]
    _leave_watchlist(connection, change, market, before, f"now {after}")
