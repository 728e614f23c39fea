"""Codes of the platform's markets and IBKR's spelling of them, in both directions."""

from dataclasses import dataclass

from scizor_core.errors import InvalidInputError
from scizor_core.markets import get_market


@dataclass(frozen=True)
class Route:
    """Where IBKR looks for a market's stocks.

    Attributes:
        exchange: destination whose trades are asked for.
        currency: currency of the listing.
        primary_exchanges: where a listing may be at home; tells listings of one code apart.
        primary_exchange: the one to ask for, empty where there are several.
    """

    exchange: str
    currency: str
    primary_exchanges: frozenset[str]
    primary_exchange: str = ""


#: The ASX is asked for its own trades, as its calendar and auctions are; SMART would mix in those
#: of other Australian venues. In the US only SMART has the trades of all venues.
ROUTES: dict[str, Route] = {
    "asx": Route("ASX", "AUD", frozenset({"ASX"}), "ASX"),
    "us": Route(
        "SMART",
        "USD",
        frozenset({"NYSE", "NASDAQ", "ISLAND", "ARCA", "AMEX", "BATS", "IEX", "PINK"}),
    ),
}


def get_route(market: str) -> Route:
    """Return where IBKR has the stocks of a market.

    Raises:
        UnknownMarketError: there is no such market.
        InvalidInputError: IBKR is not asked for that market.
    """
    name = get_market(market).name
    if name not in ROUTES:
        raise InvalidInputError(f"IBKR does not serve market '{name}', only {', '.join(ROUTES)}.")
    return ROUTES[name]


def to_ibkr_symbol(market: str, symbol: str) -> str:
    """Return IBKR's symbol of a market's symbol.

    Examples: asx CBA is CBA, us BRK.B is "BRK B" with a blank.

    Raises:
        UnknownMarketError: there is no such market.
        InvalidInputError: IBKR does not serve it, or the symbol cannot be a code of it.
    """
    get_route(market)
    return get_market(market).check_symbol(symbol).replace(".", " ").replace("-", " ")


def from_ibkr_symbol(market: str, symbol: str) -> str:
    """Return the market's symbol of an IBKR symbol; the inverse of `to_ibkr_symbol`.

    A share class comes back with a dot ("BRK B" is BRK.B), which is the canonical spelling.

    Raises:
        UnknownMarketError: there is no such market.
        InvalidInputError: IBKR does not serve it, or the symbol cannot be one of that market.
    """
    get_route(market)
    return get_market(market).check_symbol(symbol.strip().replace(" ", "."))
