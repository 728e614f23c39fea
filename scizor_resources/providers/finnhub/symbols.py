"""Codes of the platform's markets and Finnhub's spelling of them, in both directions.

Only US equities: other exchanges are not in most plans, and Finnhub's crypto symbols name one
venue each (BINANCE:BTCUSDT), so that the platform's BTC/USD has no single counterpart.
"""

from scizor_core.errors import InvalidInputError
from scizor_core.markets import get_market


def to_finnhub_symbol(market: str, symbol: str) -> str:
    """Return Finnhub's symbol of a market's symbol: us BRK.B and BRK-B are BRK.B.

    Raises:
        UnknownMarketError: there is no such market.
        InvalidInputError: the symbol cannot be a code of that market, or Finnhub does not have it.
    """
    canonical = get_market(market).check_symbol(symbol)
    _refuse_unserved(market)
    return canonical.replace("-", ".")


def from_finnhub_symbol(market: str, symbol: str) -> str:
    """Return the market's symbol of a symbol of Finnhub's; the inverse of `to_finnhub_symbol`.

    Raises:
        UnknownMarketError: there is no such market.
        InvalidInputError: the symbol cannot be one of that market.
    """
    canonical = get_market(market).check_symbol(symbol)
    _refuse_unserved(market)
    return canonical


def _refuse_unserved(market: str) -> None:
    if market != "us":
        raise InvalidInputError(f"Finnhub is not asked for symbols of market '{market}': only us.")
