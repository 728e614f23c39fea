"""Codes of the platform's markets and Alpaca's spelling of them, in both directions."""

from scizor_core.errors import InvalidInputError
from scizor_core.markets import get_market


def to_alpaca_symbol(market: str, symbol: str) -> str:
    """Return Alpaca's symbol of a market's symbol.

    Examples: us BRK.B and BRK-B are BRK.B, crypto BTC/USD is BTC/USD.

    Raises:
        UnknownMarketError: there is no such market.
        InvalidInputError: the symbol cannot be a code of that market, or Alpaca does not have it.
    """
    canonical = get_market(market).check_symbol(symbol)
    _refuse_unserved(market)
    return canonical.replace("-", ".")


def from_alpaca_symbol(market: str, symbol: str) -> str:
    """Return the market's symbol of a symbol of Alpaca's; the inverse of `to_alpaca_symbol`.

    A share class has a dot, which is the canonical spelling.

    Raises:
        UnknownMarketError: there is no such market.
        InvalidInputError: the symbol cannot be one of that market.
    """
    canonical = get_market(market).check_symbol(symbol)
    _refuse_unserved(market)
    return canonical


def _refuse_unserved(market: str) -> None:
    if market not in ("us", "crypto"):
        raise InvalidInputError(f"Alpaca has no symbols of market '{market}': only us and crypto.")
