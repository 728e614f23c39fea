"""Every provider: what it is called, what it needs to be asked, and how its bars are had."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from scizor_resources.providers.alpaca.source import AlpacaSource
from scizor_resources.providers.base import BarSource
from scizor_resources.providers.ccxt_venues.source import CcxtSource
from scizor_resources.providers.coinbase.source import CoinbaseSource
from scizor_resources.providers.finnhub.source import FinnhubSource
from scizor_resources.providers.gate import Gate
from scizor_resources.providers.ibkr.source import IbkrSource
from scizor_resources.providers.simulated import SimulatedSource
from scizor_resources.providers.yahoo.client import YahooSettings
from scizor_resources.providers.yahoo.source import YahooSource
from scizor_resources.settings import Settings

Clock = Callable[[], datetime]
Make = Callable[[Settings, Gate, Clock], BarSource]


@dataclass(frozen=True)
class ProviderSpec:
    """One provider.

    Attributes:
        name: as in chains and in the `source` column.
        title: for people.
        make: makes the adapter of its bars; connects to nothing. None where the platform makes it
            itself, as it reads what the platform stores, and where a provider has no bars.
        needs: settings without which it is not asked.
        keyless_markets: markets for which it needs none of them.
        shares_budget_of: provider whose calls count together with these, None for none.
        is_local: it answers from this machine: no calls to count, no budget.
    """

    name: str
    title: str
    make: Make | None
    needs: tuple[str, ...] = ()
    keyless_markets: frozenset[str] = frozenset()
    shares_budget_of: str | None = None
    is_local: bool = False

    def missing(self, settings: Settings, market: str | None = None) -> list[str]:
        """Return the variables that have to be set before it can be asked (for that market)."""
        if market in self.keyless_markets:
            return []
        return [f"SCIZOR_{name.upper()}" for name in self.needs if not getattr(settings, name)]


def _yahoo(settings: Settings, gate: Gate, now: Clock) -> BarSource:
    return YahooSource(
        gate,
        YahooSettings(
            base_url=settings.yahoo_base_url,
            timeout_seconds=settings.yahoo_timeout_seconds,
            cache_dir=settings.home / "cache" / "yahoo",
        ),
        now=now,
    )


def _alpaca(settings: Settings, gate: Gate, now: Clock) -> BarSource:
    return AlpacaSource(
        gate,
        base_url=settings.alpaca_base_url,
        key=settings.alpaca_api_key,
        secret=settings.alpaca_secret,
        feed=settings.alpaca_feed,
        timeout_seconds=settings.provider_timeout_seconds,
        now=now,
    )


def _finnhub(settings: Settings, gate: Gate, now: Clock) -> BarSource:
    return FinnhubSource(
        gate,
        base_url=settings.finnhub_base_url,
        key=settings.finnhub_api_key,
        timeout_seconds=settings.provider_timeout_seconds,
        now=now,
    )


def _ibkr(settings: Settings, gate: Gate, now: Clock) -> BarSource:
    return IbkrSource(
        gate,
        base_url=settings.ibkr_base_url,
        client_id=settings.ibkr_client_id,
        # IBKR throttles by answering late; its own SDK waits a minute.
        timeout_seconds=max(60.0, settings.provider_timeout_seconds),
        now=now,
    )


def _coinbase(settings: Settings, gate: Gate, now: Clock) -> BarSource:
    return CoinbaseSource(
        gate,
        base_url=settings.coinbase_base_url,
        timeout_seconds=settings.provider_timeout_seconds,
        now=now,
    )


#: Kraken's candles reach back 12 hours (1m); what is older has to be built from trades, a thousand
#: a call and a call a second. A busy day is left to the next provider, which has its candles.
KRAKEN_TRADE_PAGES = 20


def _ccxt(exchange: str, trade_pages: int = 0) -> Make:
    def make(settings: Settings, gate: Gate, now: Clock) -> BarSource:
        return CcxtSource(
            exchange,
            gate,
            base_url=getattr(settings, f"{exchange}_base_url"),
            timeout_seconds=settings.provider_timeout_seconds,
            now=now,
            trade_pages=trade_pages,
        )

    return make


PROVIDERS: dict[str, ProviderSpec] = {
    spec.name: spec
    for spec in (
        ProviderSpec("tape", "Your own files", None, is_local=True),
        ProviderSpec("yahoo", "Yahoo Finance", _yahoo),
        ProviderSpec(
            "alpaca",
            "Alpaca",
            _alpaca,
            needs=("alpaca_api_key", "alpaca_secret"),
            keyless_markets=frozenset({"crypto"}),
        ),
        ProviderSpec("finnhub", "Finnhub", _finnhub, needs=("finnhub_api_key",)),
        ProviderSpec("ibkr", "Interactive Brokers", _ibkr, needs=("ibkr_base_url",)),
        ProviderSpec("kraken", "Kraken", _ccxt("kraken", trade_pages=KRAKEN_TRADE_PAGES)),
        ProviderSpec("coinbase", "Coinbase Advanced Trade", _coinbase),
        ProviderSpec("binance", "Binance", _ccxt("binance")),
        ProviderSpec("coinspot", "CoinSpot, sampled prices", None),
        ProviderSpec("defillama", "DefiLlama, on-chain fundamentals", None),
        ProviderSpec("edgar", "SEC EDGAR, filings", None, needs=("edgar_user_agent",)),
        ProviderSpec(
            "glassnode", "Glassnode, on-chain metrics", None, needs=("glassnode_api_key",)
        ),
        ProviderSpec("nansen", "Nansen, smart money", None, needs=("nansen_api_key",)),
        ProviderSpec("cryptopanic", "CryptoPanic, news", None, needs=("cryptopanic_api_key",)),
        ProviderSpec("newscatcher", "NewsCatcher, news", None, needs=("newscatcher_api_key",)),
        ProviderSpec(
            "reddit", "Reddit, posts", None, needs=("reddit_client_id", "reddit_client_secret")
        ),
        ProviderSpec("x", "X, posts", None, needs=("x_bearer_token",)),
        ProviderSpec("coinspot_announcements", "CoinSpot, announcements", None),
        ProviderSpec("corporate_actions", "Stored splits and dividends", None, is_local=True),
        ProviderSpec(
            "ccxt_coinbase",
            "Coinbase through ccxt",
            _ccxt("ccxt_coinbase"),
            # Coinbase counts by address.
            shares_budget_of="coinbase",
        ),
        ProviderSpec(
            "simulated",
            "Simulated prices",
            lambda settings, _gate, now: SimulatedSource(settings.simulated_seed, now=now),
            is_local=True,
        ),
    )
}
