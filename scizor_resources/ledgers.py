"""The sources of the other ledgers, made from the settings: on-chain, sentiment, catalysts.

With SCIZOR_SAMPLES every one of them is the same client, over loopback, to hand-written answers;
what comes of it is marked as sample (`label`).
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from pydantic import SecretStr

from scizor_core.errors import ConfigError, InvalidInputError
from scizor_resources.authors import HashAuthor, author_hasher, author_key
from scizor_resources.collectors import Collector
from scizor_resources.providers.action_events import ActionEvents
from scizor_resources.providers.coinspot.prices import CoinspotPrices
from scizor_resources.providers.coinspot_announcements.client import CoinspotAnnouncements
from scizor_resources.providers.cryptopanic.client import CryptopanicNews
from scizor_resources.providers.defillama.client import DefillamaFundamentals
from scizor_resources.providers.edgar.client import EdgarFilings
from scizor_resources.providers.edgar.source import EdgarEvents
from scizor_resources.providers.events import EventSource
from scizor_resources.providers.finnhub.earnings import FinnhubEarnings
from scizor_resources.providers.finnhub.news import FinnhubNews
from scizor_resources.providers.gate import Gate, Lane
from scizor_resources.providers.glassnode.client import GlassnodeMetrics
from scizor_resources.providers.nansen.client import NansenSmartMoney
from scizor_resources.providers.newscatcher.client import NewscatcherNews
from scizor_resources.providers.reddit.client import RedditPosts
from scizor_resources.providers.stories import StorySource
from scizor_resources.providers.x.client import XPosts
from scizor_resources.samples.server import SampleServer
from scizor_resources.settings import Settings
from scizor_resources.stores.actions import ActionStore

#: What stands before the name of a source where its answers are hand-written.
SAMPLE = "sample"
#: Samples are read as if the window had ended so long ago: late enough for its values to be final.
_AFTER_THE_WINDOW = timedelta(hours=6)
_SAMPLE_KEY = SecretStr("sample")


class Ledgers:
    """Makes the clients; each is new, and the caller closes it.

    Args:
        settings: addresses, keys, what is asked for.
        gate: makes the gate of a provider.
        now: clock, aware.
        samples: serves hand-written answers, None where the real sources are asked.
        until: end of the window that will be asked for; it sets the clock of samples.
    """

    def __init__(
        self,
        settings: Settings,
        gate: Callable[[str, Lane], Gate],
        now: Callable[[], datetime],
        *,
        samples: SampleServer | None = None,
        until: datetime | None = None,
    ) -> None:
        self._settings = settings
        self._gate = gate
        self._now = now
        self._samples = samples
        self._until = until

    @property
    def label(self) -> str:
        """What marks the source of everything that comes from here, empty for real sources."""
        return SAMPLE if self._samples is not None else ""

    def now(self) -> datetime:
        """Return the instant at which sources are asked."""
        if self._samples is None or self._until is None:
            return self._now()
        return min(self._until + _AFTER_THE_WINDOW, self._now())

    def _during(self) -> datetime:
        """Return an instant in the window: some sources show the present only."""
        if self._samples is None or self._until is None:
            return self._now()
        return min(self._until - timedelta(minutes=1), self._now())

    def gate(self, provider: str, lane: Lane) -> Gate:
        """Return a provider's gate; samples have no budget."""
        return Gate(provider) if self._samples is not None else self._gate(provider, lane)

    def address(self, name: str) -> str | None:
        """Return the base URL of a host, None for the provider's own."""
        if self._samples is not None:
            return self._samples.address(name, self.now())
        return str(value) if (value := getattr(self._settings, f"{name}_base_url")) else None

    def _key(self, name: str) -> SecretStr | None:
        if self._samples is not None:
            return _SAMPLE_KEY
        value: SecretStr | None = getattr(self._settings, name)
        return value

    def _hasher(self, provider: str) -> HashAuthor:
        return author_hasher(author_key(self._settings), provider)

    def defillama(self, lane: Lane = "backfill") -> DefillamaFundamentals:
        """Return a client for DefiLlama's fundamentals of protocols and chains."""
        return DefillamaFundamentals(
            self.gate("defillama", lane),
            base_url=self.address("defillama"),
            stablecoins_base_url=self.address("defillama_stablecoins"),
            timeout_seconds=self._settings.provider_timeout_seconds,
            now=self.now,
        )

    def glassnode(self, lane: Lane = "backfill") -> GlassnodeMetrics:
        """Return a client for Glassnode's metrics."""
        return GlassnodeMetrics(
            self.gate("glassnode", lane),
            base_url=self.address("glassnode"),
            key=self._key("glassnode_api_key"),
            timeout_seconds=self._settings.provider_timeout_seconds,
            now=self.now,
        )

    def nansen(self, lane: Lane = "backfill") -> NansenSmartMoney:
        """Return a client for Nansen's smart money."""
        return NansenSmartMoney(
            self.gate("nansen", lane),
            base_url=self.address("nansen"),
            key=self._key("nansen_api_key"),
            timeout_seconds=self._settings.provider_timeout_seconds,
            now=self._during,
        )

    def coinspot_prices(self, lane: Lane = "live") -> CoinspotPrices:
        """Return a client for CoinSpot's current prices."""
        return CoinspotPrices(
            self._gate("coinspot", lane),
            base_url=self._settings.coinspot_base_url,
            timeout_seconds=self._settings.provider_timeout_seconds,
            now=self._now,
        )

    def stories(self, collector: Collector, lane: Lane = "backfill") -> StorySource:
        """Return the client of a collector of news or posts."""
        settings, timeout = self._settings, self._settings.provider_timeout_seconds
        provider = collector.provider
        gate, hashed = self.gate(provider, lane), self._hasher(provider)
        match collector.name:
            case "cryptopanic":
                return CryptopanicNews(
                    gate,
                    base_url=self.address("cryptopanic"),
                    key=self._key("cryptopanic_api_key"),
                    plan=settings.cryptopanic_plan,
                    timeout_seconds=timeout,
                    now=self.now,
                    hash_author=hashed,
                )
            case "newscatcher":
                return NewscatcherNews(
                    gate,
                    base_url=self.address("newscatcher"),
                    key=self._key("newscatcher_api_key"),
                    timeout_seconds=timeout,
                    now=self.now,
                    hash_author=hashed,
                )
            case "finnhub_news":
                return FinnhubNews(
                    gate,
                    base_url=self.address("finnhub"),
                    key=self._key("finnhub_api_key"),
                    timeout_seconds=timeout,
                    now=self.now,
                    hash_author=hashed,
                )
            case "reddit":
                return RedditPosts(
                    gate,
                    base_url=self.address("reddit"),
                    www_base_url=self.address("reddit_www"),
                    client_id=self._key("reddit_client_id"),
                    client_secret=self._key("reddit_client_secret"),
                    user_agent=settings.reddit_user_agent,
                    subreddits=settings.reddit_subreddits,
                    timeout_seconds=timeout,
                    now=self.now,
                    hash_author=hashed,
                )
            case "x":
                return XPosts(
                    gate,
                    base_url=self.address("x"),
                    token=self._key("x_bearer_token"),
                    timeout_seconds=timeout,
                    now=self.now,
                    hash_author=hashed,
                )
        raise InvalidInputError(f"Collector '{collector.name}' has no stories.")

    def edgar_filings(self, lane: Lane = "backfill") -> EdgarFilings:
        """Return a client for what companies file with the SEC.

        Raises:
            ConfigError: SCIZOR_EDGAR_USER_AGENT is not set.
        """
        agent = self._settings.edgar_user_agent or (
            "SCIZOR samples sample@example.com" if self._samples is not None else ""
        )
        if not agent:
            raise ConfigError(
                "SEC EDGAR wants to know who asks: set SCIZOR_EDGAR_USER_AGENT to company name and "
                "contact address, for example 'Example Pty Ltd data@example.com'."
            )
        return EdgarFilings(
            self.gate("edgar", lane),
            user_agent=agent,
            base_url=self.address("edgar"),
            www_base_url=self.address("edgar_www"),
            search_base_url=self.address("edgar_search"),
            timeout_seconds=self._settings.provider_timeout_seconds,
            now=self.now,
        )

    def events(
        self, collector: Collector, actions: ActionStore, lane: Lane = "backfill"
    ) -> EventSource:
        """Return the client of a collector of catalyst events.

        Args:
            collector: the collector.
            actions: stored splits and dividends, which are events too.
            lane: who goes first when a provider's calls are scarce.
        """
        timeout = self._settings.provider_timeout_seconds
        match collector.name:
            case "edgar":
                return EdgarEvents(
                    self.edgar_filings(lane), now=self.now, full_text=self._settings.edgar_full_text
                )
            case "coinspot_announcements":
                return CoinspotAnnouncements(
                    self.gate("coinspot_announcements", lane),
                    base_url=self.address("coinspot_announcements"),
                    browser=self._settings.coinspot_announcements_browser,
                    timeout_seconds=timeout,
                    now=self.now,
                )
            case "finnhub_earnings":
                return FinnhubEarnings(
                    self.gate("finnhub", lane),
                    base_url=self.address("finnhub"),
                    key=self._key("finnhub_api_key"),
                    timeout_seconds=timeout,
                    now=self.now,
                )
            case "corporate_actions":
                return ActionEvents(actions, now=self.now)
        raise InvalidInputError(f"Collector '{collector.name}' has no events.")
