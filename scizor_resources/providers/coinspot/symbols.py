"""Symbols of market crypto and CoinSpot's keys for them, in both directions."""

from scizor_core.errors import InvalidInputError
from scizor_core.markets import get_market

#: What a key without a quote currency is priced in.
HOME_CURRENCY = "AUD"


def to_coinspot_symbol(market: str, symbol: str) -> str:
    """Return CoinSpot's key of a market's symbol.

    Examples: BTC/AUD is btc, BTC/USDT is btc_usdt.

    Raises:
        UnknownMarketError: there is no such market.
        InvalidInputError: the symbol cannot be a code of that market, or CoinSpot does not serve
            the market.
    """
    _require_crypto(market)
    base, _, quote = get_market(market).check_symbol(symbol).partition("/")
    key = base if quote == HOME_CURRENCY else f"{base}_{quote}"
    return key.lower()


def from_coinspot_symbol(market: str, key: str) -> str:
    """Return the market's symbol of a CoinSpot key; the inverse of `to_coinspot_symbol`.

    Raises:
        UnknownMarketError: there is no such market.
        InvalidInputError: the key cannot be one of CoinSpot's, or it does not serve the market.
    """
    _require_crypto(market)
    base, _, quote = key.strip().upper().partition("_")
    return get_market(market).check_symbol(f"{base}/{quote or HOME_CURRENCY}")


def _require_crypto(market: str) -> None:
    if get_market(market).asset_class != "crypto":
        raise InvalidInputError(f"CoinSpot serves market 'crypto' only, not '{market}'.")
