"""Symbols of market us in EDGAR's spelling."""

from scizor_core.errors import InvalidInputError
from scizor_core.markets import get_market

MARKET = "us"


def to_edgar_ticker(market: str, symbol: str) -> str:
    """Return EDGAR's ticker of a market's symbol: BRK-B for BRK.B.

    Raises:
        UnknownMarketError: there is no such market.
        InvalidInputError: the symbol cannot be a code of that market, or EDGAR does not serve
            the market.
    """
    if get_market(market).name != MARKET:
        raise InvalidInputError(f"EDGAR serves market '{MARKET}' only, not '{market}'.")
    return get_market(market).check_symbol(symbol).replace(".", "-")
