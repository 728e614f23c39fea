"""The histories of trades by the name of the live feed that they heal."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import cast

from scizor_resources.platform import Platform
from scizor_resources.providers.ibkr.source import IbkrSource
from scizor_resources.providers.registry import PROVIDERS
from scizor_resources.trades.alpaca import AlpacaTrades
from scizor_resources.trades.base import TradeSource
from scizor_resources.trades.crypto import CRYPTO_TRADES, CryptoTrades
from scizor_resources.trades.ibkr import IbkrTrades


def trade_source(name: str, platform: Platform) -> TradeSource | None:
    """Return the history of trades behind a live feed; its calls go first where they are scarce.

    Args:
        name: name of the feed.
        platform: settings and budgets.

    Returns:
        None where the provider tells no trades of the past (Finnhub), and for the tape, whose feed
        goes on where it was and misses nothing.
    """
    make = _MAKERS.get(name)
    return None if make is None else make(platform)


def _crypto(name: str, platform: Platform) -> TradeSource:
    settings = platform.settings
    return CryptoTrades(
        name,
        platform.gate(name, "live"),
        title=PROVIDERS[name].title,
        base_url=getattr(settings, f"{name}_base_url"),
        timeout_seconds=settings.provider_timeout_seconds,
    )


def _alpaca(platform: Platform) -> TradeSource:
    settings = platform.settings
    return AlpacaTrades(
        platform.gate("alpaca", "live"),
        base_url=settings.alpaca_base_url,
        key=settings.alpaca_api_key,
        secret=settings.alpaca_secret,
        feed=settings.alpaca_feed,
        timeout_seconds=settings.provider_timeout_seconds,
    )


def _ibkr(platform: Platform) -> TradeSource:
    return IbkrTrades(cast("IbkrSource", platform.source("ibkr", "live")))


_MAKERS: Mapping[str, Callable[[Platform], TradeSource]] = {
    **{name: partial(_crypto, name) for name in CRYPTO_TRADES},
    "alpaca": _alpaca,
    "ibkr": _ibkr,
}
