"""ccxt's markets as the platform's, kept per process for some hours."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from scizor_core.errors import InvalidInputError
from scizor_resources.errors import BadRequest
from scizor_resources.providers.ccxt_venues.symbols import from_ccxt_symbol, to_ccxt_symbol
from scizor_resources.providers.coinbase.markets import VenueMarket, to_decimal

#: A list of markets older than this is asked for again.
MAX_AGE = timedelta(hours=6)

Markets = dict[str, VenueMarket]

#: (venue, address) -> when its markets were asked for, and the markets by the platform's symbol.
_kept: dict[tuple[str, str], tuple[datetime, Markets]] = {}


def recall_markets(venue: str, address: str, *, now: datetime) -> Markets | None:
    """Return the markets that this process has asked a venue for, None where that is long ago."""
    asked_at, markets = _kept.get((venue, address), (None, {}))
    if asked_at is None or not timedelta(0) <= now - asked_at < MAX_AGE:
        return None
    return markets


def keep_markets(venue: str, address: str, markets: Markets, *, now: datetime) -> None:
    """Keep a venue's markets for this process."""
    _kept[venue, address] = (now, markets)


def forget_markets() -> None:
    """Forget all markets; the next use of each venue asks for them."""
    _kept.clear()


def parse_markets(found: Iterable[Mapping[str, Any]], market: str) -> Markets:
    """Return the spot markets among those of ccxt, by the platform's symbol.

    Args:
        found: what ccxt's `fetch_markets` gives.
        market: name of the platform's market.
    """
    out: Markets = {}
    for each in found:
        if not each.get("spot"):
            continue
        try:
            symbol = from_ccxt_symbol(market, str(each["symbol"]))
        except InvalidInputError:
            continue
        # Of several markets with one symbol the one that trades is meant.
        if symbol not in out or not out[symbol].active:
            out[symbol] = _venue_market(each, symbol)
    return dict(sorted(out.items()))


def _venue_market(found: Mapping[str, Any], symbol: str) -> VenueMarket:
    base, _, quote = symbol.partition("/")
    precision, limits = found.get("precision") or {}, found.get("limits") or {}
    return VenueMarket(
        symbol=symbol,
        venue_symbol=str(found["id"]),
        base=base,
        quote=quote,
        active=bool(found.get("active")),
        price_step=to_decimal(precision.get("price")),
        amount_step=to_decimal(precision.get("amount")),
        min_amount=to_decimal((limits.get("amount") or {}).get("min")),
        min_cost=to_decimal((limits.get("cost") or {}).get("min")),
    )


def find_market(
    markets: Markets, market: str, symbol: str, *, provider: str, title: str
) -> VenueMarket:
    """Return the venue's market of a symbol.

    Raises:
        InvalidInputError: the symbol cannot be a code of the market.
        BadRequest: the venue has no such market; the message says against what it trades it.
    """
    canonical = to_ccxt_symbol(market, symbol)
    found = markets.get(canonical)
    if found is not None:
        return found
    base = canonical.partition("/")[0]
    quotes = [each.quote for each in markets.values() if each.base == base and each.active]
    instead = f"It trades {base} against {', '.join(quotes)}." if quotes else "Check the symbol."
    raise BadRequest(f"{title} has no market {canonical}. {instead}", provider=provider)
