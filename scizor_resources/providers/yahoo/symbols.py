"""Codes of the platform's markets and Yahoo's spelling of them, in both directions."""

from scizor_core.errors import InvalidInputError
from scizor_core.markets import get_market

ASX_SUFFIX = ".AX"


def to_yahoo_symbol(market: str, symbol: str) -> str:
    """Return Yahoo's ticker of a market's symbol.

    Examples: asx CBA is CBA.AX, us BRK.B is BRK-B, crypto BTC/USD is BTC-USD.

    Raises:
        UnknownMarketError: there is no such market.
        InvalidInputError: the symbol cannot be a code of that market.
    """
    spec = get_market(market)
    canonical = spec.check_symbol(symbol)
    if spec.name == "asx":
        return f"{canonical}{ASX_SUFFIX}"
    return canonical.replace(".", "-").replace("/", "-")


def from_yahoo_symbol(market: str, ticker: str) -> str:
    """Return the market's symbol of a Yahoo ticker; the inverse of `to_yahoo_symbol`.

    A share class comes back with a dot (BRK-B is BRK.B), which is the canonical spelling.

    Raises:
        UnknownMarketError: there is no such market.
        InvalidInputError: the ticker is not one of that market.
    """
    spec = get_market(market)
    canonical = ticker.strip().upper()
    if spec.name == "asx":
        if not canonical.endswith(ASX_SUFFIX):
            raise InvalidInputError(
                f"'{ticker}' is not a Yahoo ticker of market 'asx': those end in {ASX_SUFFIX}, "
                f"for example CBA{ASX_SUFFIX}."
            )
        return spec.check_symbol(canonical.removesuffix(ASX_SUFFIX))
    if spec.asset_class == "crypto":
        base, _, quote = canonical.rpartition("-")
        return spec.check_symbol(f"{base}/{quote}")
    return spec.check_symbol(canonical.replace("-", "."))
