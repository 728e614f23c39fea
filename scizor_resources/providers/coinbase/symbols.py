"""The platform's symbols and Coinbase's product ids, in both directions."""

from scizor_core.errors import InvalidInputError
from scizor_core.markets import get_market


def to_coinbase_symbol(market: str, symbol: str) -> str:
    """Return Coinbase's product id of a market's symbol: crypto BTC/USD is BTC-USD.

    Raises:
        UnknownMarketError: there is no such market.
        InvalidInputError: the symbol cannot be a code of that market.
    """
    return get_market(market).check_symbol(symbol).replace("/", "-")


def from_coinbase_symbol(market: str, product_id: str) -> str:
    """Return the market's symbol of a product id; the inverse of `to_coinbase_symbol`.

    Raises:
        UnknownMarketError: there is no such market.
        InvalidInputError: the id is not one of a spot product, for example a future's.
    """
    base, dash, quote = product_id.strip().upper().partition("-")
    if not dash or "-" in quote:
        raise InvalidInputError(
            f"'{product_id}' is not the id of a spot product of Coinbase: expected the form "
            "BASE-QUOTE, for example BTC-USD."
        )
    return get_market(market).check_symbol(f"{base}/{quote}")
