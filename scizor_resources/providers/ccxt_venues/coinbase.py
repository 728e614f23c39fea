"""Coinbase through ccxt: the same candles as `scizor_resources.providers.coinbase` reads."""

from datetime import datetime
from typing import Any

from scizor_resources.providers.ccxt_venues.answers import VenueAnswer
from scizor_resources.providers.ccxt_venues.exchange import Dialect, Exchange
from scizor_resources.providers.coinbase.candles import candle_params, parse_candles, seen_window
from scizor_resources.providers.rows import AskWindow

CANDLES_ENDPOINT = "/api/v3/brokerage/market/products/{id}/candles"

DIALECT = Dialect("coinbase")


def ask(
    exchange: Exchange,
    pair: str,
    window: AskWindow,
    *,
    title: str,  # noqa: ARG001  # the venues' common form
    source: str,
    now: datetime,
    trade_pages: int,  # noqa: ARG001
) -> VenueAnswer:
    """Fetch a window of at most 300 bars.

    Args:
        exchange: makes the call.
        pair: Coinbase's id of the product.
        window: what is wanted.
        title: not used.
        source: name for the `source` column.
        now: the present, UTC.
        trade_pages: not used.

    Raises:
        ProviderError: the call failed.
    """
    params = {"product_id": pair, **candle_params(window)}
    answer = exchange.call(
        lambda sdk: sdk.v3PublicGetBrokerageMarketProductsProductIdCandles(params)
    )
    try:
        parsed = parse_candles(answer, window, source=source, origin=CANDLES_ENDPOINT, now=now)
    except ValueError as error:
        raise exchange.drift(CANDLES_ENDPOINT, str(error)) from None
    seen = seen_window(parsed, window, now=now)
    return VenueAnswer(parsed, (seen,) if seen is not None else ())


def list_markets(sdk: Any) -> list[dict[str, Any]]:
    """Return the spot products as ccxt's markets.

    ccxt's own listing asks for futures too, and goes on without a word when that call fails.
    """
    answer = sdk.v3PublicGetBrokerageMarketProducts({"product_type": "SPOT"})
    products = answer.get("products") or [] if isinstance(answer, dict) else []
    markets = (sdk.parse_spot_market(product, {}) for product in products)
    return [market for market in markets if market is not None]
