"""Instruments, their dated listings, and entries of the watchlist, as plain records."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

from scizor_core.errors import InvalidInputError
from scizor_core.markets import get_market

TIERS: tuple[int, ...] = (1, 2, 3)


@dataclass(frozen=True)
class Instrument:
    """An instrument under its permanent id.

    Attributes:
        instrument_id: permanent; the code is not.
        market: name of its market.
        symbol: its code in that market (the last one, where it has left).
        name: long name.
        listed_from: first day it may have bars, None where that is not known.
        delisted_on: last day it traded, None while it is listed.
        successor: what became of it, where it has left.
    """

    instrument_id: int
    market: str
    symbol: str
    name: str = ""
    listed_from: date | None = None
    delisted_on: date | None = None
    successor: str | None = None

    def absence_on(self, first: date, last: date) -> str | None:
        """Return why it cannot have traded on any day of `first..last`, None where it can."""
        if self.delisted_on is not None and first > self.delisted_on:
            successor = f"; {self.successor}" if self.successor else ""
            return f"delisted: last traded on {self.delisted_on}{successor}"
        if self.listed_from is not None and last < self.listed_from:
            return f"not yet listed: first traded on {self.listed_from}"
        return None


def in_turn(instruments: Sequence[Instrument]) -> list[Instrument]:
    """Let an instrument begin where the one that had its code before has left.

    Args:
        instruments: those of a market; of one code in the order in which they left.
    """
    left: dict[str, date] = {}
    out = []
    for each in instruments:
        since = left.get(each.symbol)
        begins = max((day for day in (since, each.listed_from) if day is not None), default=None)
        out.append(replace(each, listed_from=begins))
        if each.delisted_on is not None:
            left[each.symbol] = each.delisted_on + timedelta(days=1)
    return out


@dataclass(frozen=True)
class WatchlistEntry:
    """One line of the watchlist: which symbol is collected, how often, in which timeframes."""

    market: str
    symbol: str
    priority: int = 2
    collect_1min: bool = False
    collect_5min: bool = True
    active: bool = True
    notes: str = ""
    name: str = "default"

    def checked(self) -> "WatchlistEntry":
        """Return the entry with market and symbol in canonical spelling.

        Raises:
            UnknownMarketError: no such market.
            InvalidInputError: symbol, tier or list name cannot be.
        """
        market = get_market(self.market)
        symbol = market.check_symbol(self.symbol)
        if self.priority not in TIERS:
            raise InvalidInputError(
                f"Tier {self.priority} of {symbol} does not exist: use 1 (1 and 5 minute), "
                "2 or 3 (5 minute)."
            )
        if not self.name.strip():
            raise InvalidInputError(f"The watchlist of {symbol} needs a name.")
        return WatchlistEntry(
            market.name,
            symbol,
            self.priority,
            self.collect_1min,
            self.collect_5min,
            self.active,
            self.notes.strip(),
            self.name.strip(),
        )
