"""Coinbase's stand-in, asked through ccxt."""

from scizor_resources.providers.ccxt_venues.source import CcxtSource
from tests.contract.lab.coinbase import CANDLES_ASKED, CoinbaseLab
from tests.contract.lab.labs import Provider

PROVIDERS: tuple[Provider, ...] = (
    Provider(
        name="ccxt_coinbase",
        lab=CoinbaseLab,
        source=lambda lab, gate, now, seconds: CcxtSource(
            "ccxt_coinbase", gate, base_url=lab.url, timeout_seconds=seconds, now=now
        ),
        market="crypto",
        symbols=("BTC/USD", "ETH/USD"),
        wire_symbols=("BTC-USD", "ETH-USD"),
        page_rows=CANDLES_ASKED,
    ),
)
