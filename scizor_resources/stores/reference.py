"""Symbols, listings and the watchlist in PostgreSQL: read, seed, change.

A symbol code is unique among the listed instruments of a market. One that has left keeps its
row, its id and its bars; the code can be given to another company, under another id.
"""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from importlib import resources
from typing import Any, TypeAlias

import psycopg

from scizor_core.errors import InvalidInputError, UnknownSymbolError
from scizor_core.instruments import Instrument, WatchlistEntry
from scizor_core.markets import MarketSpec, get_market
from scizor_resources.stores.warehouse import Warehouse

_INSTRUMENT = """
    SELECT s.instrument_id, s.market, s.symbol, s.name, s.delisted_on, s.successor,
           nullif(min(l.valid_from), DATE '1970-01-01') AS listed_from
    FROM public.symbols AS s LEFT JOIN public.listings AS l USING (instrument_id)
"""
_GROUPED = " GROUP BY s.instrument_id ORDER BY s.market, s.symbol, s.delisted_on NULLS LAST"


_INSERT_ENTRY = """
    INSERT INTO public.watchlist
        (market, symbol, priority, collect_1min, collect_5min, active, notes, name)
    VALUES (%(market)s, %(symbol)s, %(priority)s, %(collect_1min)s, %(collect_5min)s, %(active)s,
        %(notes)s, %(name)s)
"""
_Connection: TypeAlias = psycopg.Connection[dict[str, Any]]


class ReferenceStore:
    """Access to `symbols`, `listings` and `watchlist`."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse

    def instruments(self, market: str, symbols: Sequence[str] | None = None) -> list[Instrument]:
        """Return instruments of a market, all or those with these codes, delisted ones too."""
        where, parameters = " WHERE s.market = %s", [market]
        if symbols is not None:
            where += " AND s.symbol = ANY(%s)"
            parameters.append(list(symbols))  # type: ignore[arg-type]
        with self._warehouse.connect() as connection:
            rows = connection.execute(_INSTRUMENT + where + _GROUPED, parameters).fetchall()
        return [Instrument(**row) for row in rows]

    def by_id(self, instrument_ids: Iterable[int]) -> list[Instrument]:
        """Return the instruments with these ids."""
        with self._warehouse.connect() as connection:
            rows = connection.execute(
                _INSTRUMENT + " WHERE s.instrument_id = ANY(%s)" + _GROUPED, [list(instrument_ids)]
            ).fetchall()
        return [Instrument(**row) for row in rows]

    def resolve(self, market: str, symbols: Sequence[str]) -> list[Instrument]:
        """Return the instruments of these codes.

        Raises:
            InvalidInputError: a code that cannot be one of this market.
            UnknownSymbolError: a code that the platform does not know; the message says what to do.
        """
        spec = get_market(market)
        codes = [spec.check_symbol(symbol) for symbol in symbols]
        found = self.instruments(spec.name, codes)
        missing = sorted(set(codes) - {each.symbol for each in found})
        if missing:
            raise UnknownSymbolError(
                f"Market '{spec.name}' has no {', '.join(missing)} here. Add it with "
                f"`scizor watchlist add {missing[0]} --market {spec.name}` or bring its history "
                "with `scizor import`."
            )
        return found

    def ensure(self, market: str, symbol: str, name: str = "") -> tuple[Instrument, bool]:
        """Return the instrument of that code and whether it had to be created."""
        spec = get_market(market)
        code = spec.check_symbol(symbol)
        with self._warehouse.connect() as connection:
            instrument_id, created = _ensure(connection, spec, code, name)
        return self.by_id([instrument_id])[0], created

    def seed(self) -> int:
        """Load the ASX portfolio, all or none; what users have changed since stays as it is.

        Returns:
            Number of instruments that were new.
        """
        text = resources.files("scizor_resources").joinpath("seeds/asx_portfolio.csv").read_text()
        created = 0
        with self._warehouse.connect() as connection:
            # Two processes that set up the same database seed one after the other.
            connection.execute("SELECT pg_advisory_xact_lock(7249006)")
            for row in csv.DictReader(text.splitlines()):
                spec = get_market("asx")
                instrument_id, is_new = _ensure(connection, spec, row["symbol"], row["name"])
                if is_new:
                    created += 1
                    _describe(connection, instrument_id, row)
        return created

    def watchlist(
        self, market: str | None = None, *, active_only: bool = False
    ) -> list[WatchlistEntry]:
        """Return the watchlist, by list, market, tier and symbol.

        Rows written by SQL need not be in canonical spelling; here they are.
        """
        conditions, parameters = ["true"], list[Any]()
        if market is not None:
            conditions.append("lower(btrim(market)) = %s")
            parameters.append(market)
        if active_only:
            conditions.append("active")
        with self._warehouse.connect() as connection:
            rows = connection.execute(
                "SELECT lower(btrim(market)) AS market, upper(btrim(symbol)) AS symbol, priority, "  # noqa: S608  # conditions are constants, values are bound
                "collect_1min, collect_5min, active, notes, name "
                f"FROM public.watchlist WHERE {' AND '.join(conditions)} "
                "ORDER BY name, market, priority, symbol",
                parameters,
            ).fetchall()
        return [WatchlistEntry(**row) for row in rows]

    def add(self, entries: Sequence[WatchlistEntry]) -> list[WatchlistEntry]:
        """Add entries, all or none; instruments not yet known are created.

        Raises:
            InvalidInputError: an entry cannot be, or stands in the watchlist already.
        """
        checked = [entry.checked() for entry in entries]
        self._check_duplicates(checked)
        with self._warehouse.connect() as connection, connection.cursor() as cursor:
            for entry in checked:
                _ensure(connection, get_market(entry.market), entry.symbol, "")
            cursor.executemany(_INSERT_ENTRY, [asdict(entry) for entry in checked])
        return checked

    def _check_duplicates(self, entries: Sequence[WatchlistEntry]) -> None:
        stored = {(each.name, each.market, each.symbol) for each in self.watchlist()}
        seen: set[tuple[str, str, str]] = set()
        for entry in entries:
            key = (entry.name, entry.market, entry.symbol)
            if key in stored:
                raise InvalidInputError(
                    f"{entry.symbol} ({entry.market}) is in watchlist '{entry.name}' already: "
                    "change it with `scizor watchlist set`."
                )
            if key in seen:
                raise InvalidInputError(f"{entry.symbol} ({entry.market}) is given twice.")
            seen.add(key)

    def get_entry(self, market: str, symbol: str, name: str = "default") -> WatchlistEntry:
        """Return one entry.

        Raises:
            UnknownSymbolError: it is not in that watchlist.
        """
        spec = get_market(market)
        code = spec.check_symbol(symbol)
        for entry in self.watchlist(spec.name):
            if entry.symbol == code and entry.name == name:
                return entry
        raise UnknownSymbolError(
            f"{code} ({spec.name}) is not in watchlist '{name}'. "
            f"See `scizor watchlist list`, or add it with `scizor watchlist add {code}`."
        )

    def change(
        self, market: str, symbol: str, name: str = "default", **fields: object
    ) -> WatchlistEntry:
        """Change fields of an entry and return it as it now stands.

        Raises:
            UnknownSymbolError: it is not in that watchlist.
            InvalidInputError: a value cannot be.
        """
        entry = replace(self.get_entry(market, symbol, name), **fields).checked()  # type: ignore[arg-type]  # checked() validates
        with self._warehouse.connect() as connection:
            connection.execute(
                "UPDATE public.watchlist SET priority = %(priority)s, "
                "collect_1min = %(collect_1min)s, collect_5min = %(collect_5min)s, "
                "active = %(active)s, notes = %(notes)s, updated_at = now() "
                "WHERE name = %(name)s AND lower(btrim(market)) = %(market)s "
                "AND upper(btrim(symbol)) = %(symbol)s",
                asdict(entry),
            )
        return entry

    def remove(self, market: str, symbol: str, name: str = "default") -> WatchlistEntry:
        """Take an entry off the watchlist; instrument and bars stay.

        Raises:
            UnknownSymbolError: it is not in that watchlist.
        """
        entry = self.get_entry(market, symbol, name)
        with self._warehouse.connect() as connection:
            connection.execute(
                "DELETE FROM public.watchlist WHERE name = %s AND lower(btrim(market)) = %s "
                "AND upper(btrim(symbol)) = %s",
                [name, entry.market, entry.symbol],
            )
        return entry


def _ensure(connection: _Connection, spec: MarketSpec, code: str, name: str) -> tuple[int, bool]:
    """Return the id of the instrument that has `code` last, and whether it is new."""
    known = connection.execute(
        "SELECT instrument_id FROM public.symbols WHERE market = %s AND symbol = %s "
        "ORDER BY delisted_on DESC NULLS FIRST LIMIT 1",
        [spec.name, code],
    ).fetchone()
    if known is None:
        # A former code: the instrument is the one that has had it last, under its new name.
        known = connection.execute(
            "SELECT l.instrument_id FROM public.listings AS l "
            "JOIN public.symbols AS s USING (instrument_id) "
            "WHERE s.market = %s AND l.ticker = %s AND l.provider = '*' "
            "ORDER BY l.valid_to DESC NULLS FIRST LIMIT 1",
            [spec.name, code],
        ).fetchone()
    if known is not None:
        return known["instrument_id"], False
    row = _require(
        connection.execute(
            # xmax tells an inserted row from one that another process has inserted first.
            "INSERT INTO public.symbols (market, symbol, name, asset_class, currency) "
            "VALUES (%s, %s, %s, %s, %s) ON CONFLICT (market, symbol) WHERE delisted_on IS NULL "
            "DO UPDATE SET symbol = excluded.symbol RETURNING instrument_id, xmax = 0 AS is_new",
            [spec.name, code, name, spec.asset_class, _currency(spec.name, code)],
        ).fetchone()
    )
    connection.execute(
        "INSERT INTO public.listings (instrument_id, venue, ticker) "
        "VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
        [row["instrument_id"], spec.venue, code],
    )
    return row["instrument_id"], row["is_new"]


def _describe(connection: _Connection, instrument_id: int, row: dict[str, str]) -> None:
    """Write what the seed file says of a new instrument, and put it on the watchlist."""
    connection.execute(
        "UPDATE public.listings SET valid_from = coalesce(%s::date, valid_from), "
        "valid_to = %s::date WHERE instrument_id = %s",
        [row["listed_from"] or None, row["delisted_on"] or None, instrument_id],
    )
    if row["delisted_on"]:
        connection.execute(
            "UPDATE public.symbols SET status = 'delisted', delisted_on = %s::date, "
            "successor = %s WHERE instrument_id = %s",
            [row["delisted_on"], row["successor"], instrument_id],
        )
    entry = WatchlistEntry(
        market="asx",
        symbol=row["symbol"],
        priority=int(row["priority"]),
        collect_1min=row["collect_1min"] == "true",
        collect_5min=row["collect_5min"] == "true",
        notes=row["notes"],
    )
    connection.execute(_INSERT_ENTRY + " ON CONFLICT DO NOTHING", asdict(entry.checked()))


def _currency(market: str, symbol: str) -> str:
    """Return the currency a symbol is quoted in; a crypto pair names its own."""
    return symbol.partition("/")[2] or get_market(market).currency


def _require(row: dict[str, Any] | None) -> dict[str, Any]:
    if row is None:
        raise AssertionError("the statement returns a row or raises")
    return row
