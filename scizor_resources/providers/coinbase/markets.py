"""What a venue trades and in which steps; Coinbase's products as such markets."""

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from scizor_core.errors import InvalidInputError
from scizor_resources.providers.coinbase.shapes import field_in, list_in
from scizor_resources.providers.coinbase.symbols import from_coinbase_symbol


@dataclass(frozen=True)
class VenueMarket:
    """One spot market of a venue.

    Attributes:
        symbol: the platform's symbol, BASE/QUOTE.
        venue_symbol: the venue's own name of it, as its API is asked.
        base: code of what is traded.
        quote: code of what it is paid in.
        active: False where the venue does not trade it at present.
        price_step: smallest step of a price, in the quote currency; None where it is not told.
        amount_step: smallest step of an amount, in the base currency.
        min_amount: smallest amount of an order, in the base currency.
        min_cost: smallest value of an order, in the quote currency.
    """

    symbol: str
    venue_symbol: str
    base: str
    quote: str
    active: bool
    price_step: Decimal | None
    amount_step: Decimal | None
    min_amount: Decimal | None
    min_cost: Decimal | None


def to_decimal(value: Any) -> Decimal | None:
    """Return a number or text as an exact decimal, None where it is none."""
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def parse_products(answer: Any, market: str) -> list[VenueMarket]:
    """Turn a decoded list of products into markets, by symbol; futures are left out.

    Args:
        answer: `{"products": [{"product_id": "BTC-USD", ...}, ...], "num_products": 2}`.
        market: name of the platform's market.

    Raises:
        ValueError: the answer has another shape; the message says what was found.
    """
    found = [_parse_product(each, market) for each in list_in(answer, "products")]
    return sorted((each for each in found if each is not None), key=lambda each: each.symbol)


def _parse_product(product: Any, market: str) -> VenueMarket | None:
    product_id = str(field_in(product, "product_id"))
    if product.get("product_type", "SPOT") != "SPOT":
        return None
    try:
        symbol = from_coinbase_symbol(market, product_id)
    except InvalidInputError:
        return None
    base, _, quote = symbol.partition("/")
    return VenueMarket(
        symbol=symbol,
        venue_symbol=product_id,
        base=base,
        quote=quote,
        active=product.get("status") == "online" and not product.get("trading_disabled"),
        price_step=to_decimal(product.get("price_increment") or product.get("quote_increment")),
        amount_step=to_decimal(product.get("base_increment")),
        min_amount=to_decimal(product.get("base_min_size")),
        min_cost=to_decimal(product.get("quote_min_size")),
    )
