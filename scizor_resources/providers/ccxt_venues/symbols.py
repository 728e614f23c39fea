"""The platform's symbols and ccxt's unified ones, in both directions.

For spot markets they are the same text. What a venue itself calls a market (XXBTZUSD, BTCUSDT,
BTC-USD) is looked up in the venue's list of markets, which ccxt reads.
"""

from scizor_core.errors import InvalidInputError
from scizor_core.markets import get_market


def to_ccxt_symbol(market: str, symbol: str) -> str:
    """Return ccxt's unified symbol of a market's symbol.

    Raises:
        UnknownMarketError: there is no such market.
        InvalidInputError: the symbol cannot be a code of that market.
    """
    return get_market(market).check_symbol(symbol)


def from_ccxt_symbol(market: str, unified: str) -> str:
    """Return the market's symbol of a unified one; the inverse of `to_ccxt_symbol`.

    Raises:
        UnknownMarketError: there is no such market.
        InvalidInputError: the symbol is not one of a spot market, for example a swap's.
    """
    if ":" in unified:
        raise InvalidInputError(
            f"'{unified}' is a contract: only spot markets are served, for example BTC/USD."
        )
    return get_market(market).check_symbol(unified)
