"""The opened platform: settings, servers, stores and provider chains in one place.

Every way in (assets, CLI, notebooks) opens this. With nothing configured it starts the embedded
servers, or joins those that another process has started.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from types import TracebackType

import sqlalchemy as sa

from scizor_core.errors import ConfigError
from scizor_core.markets import MARKETS, Timeframe
from scizor_core.sentiment.scorer import Scorer
from scizor_resources.alerts.channels import Channels
from scizor_resources.alerts.notifier import Notifier
from scizor_resources.alerts.rules import RuleBook
from scizor_resources.alerts.store import AlertStore
from scizor_resources.budget.breaker import ValkeyBreaker
from scizor_resources.budget.configured import budget_of
from scizor_resources.budget.limits import limits_of
from scizor_resources.budget.link import ValkeyLink
from scizor_resources.budget.spending import Price, SpendingGuard
from scizor_resources.budget.usage import ValkeyLedger
from scizor_resources.budget.valkey import ValkeyBudget
from scizor_resources.embedded.servers import EmbeddedServers
from scizor_resources.endpoints import Endpoints
from scizor_resources.errors import WarehouseError
from scizor_resources.ledgers import Ledgers
from scizor_resources.pipeline.actions import ActionCollector
from scizor_resources.pipeline.catalysts import EventPipeline
from scizor_resources.pipeline.collect import BarCollector
from scizor_resources.pipeline.completeness import CompletenessMeter
from scizor_resources.pipeline.gap_ledger import GapLedger
from scizor_resources.pipeline.stories import StoryPipeline
from scizor_resources.providers.base import BarSource
from scizor_resources.providers.coinspot.source import CoinspotSource
from scizor_resources.providers.gate import Gate, Lane
from scizor_resources.providers.registry import PROVIDERS
from scizor_resources.providers.tape import TapeSource
from scizor_resources.samples.server import SampleServer
from scizor_resources.scorers import make_scorer
from scizor_resources.settings import Settings, load_settings
from scizor_resources.stores import schema
from scizor_resources.stores.actions import ActionStore
from scizor_resources.stores.archive import Archive
from scizor_resources.stores.archive_files import ArchiveRoot
from scizor_resources.stores.catalysts import CatalystStore
from scizor_resources.stores.cold import ColdTier
from scizor_resources.stores.due_gaps import DueGapStore
from scizor_resources.stores.fundamentals import FundamentalStore
from scizor_resources.stores.listings import Listings
from scizor_resources.stores.on_chain import OnChainStore
from scizor_resources.stores.providers import ProviderStore
from scizor_resources.stores.quality import QualityStore
from scizor_resources.stores.reference import ReferenceStore
from scizor_resources.stores.retention import RetentionStore
from scizor_resources.stores.samples import SampleStore
from scizor_resources.stores.sessions import SessionStore
from scizor_resources.stores.stories import StoryStore
from scizor_resources.stores.warehouse import Warehouse


def utc_now() -> datetime:
    """Return the present instant, aware."""
    return datetime.now(UTC)


@dataclass
class Platform:
    """The opened platform.

    Attributes:
        settings: as read from the environment.
        endpoints: the two servers.
        servers: the embedded servers this process holds, None where others are configured.
        now: clock, aware.
    """

    settings: Settings
    endpoints: Endpoints
    servers: EmbeddedServers | None = None
    now: Callable[[], datetime] = utc_now
    _sources: dict[tuple[str, Lane], BarSource] = field(default_factory=dict, repr=False)
    _samples: SampleServer | None = field(default=None, repr=False)

    @classmethod
    def open(cls, settings: Settings | None = None, *, migrate: bool = False) -> "Platform":
        """Open the platform; starts or joins the embedded servers where none are configured.

        Args:
            settings: settings to use, by default those of the environment.
            migrate: bring the schema up to date and seed the portfolio, instead of refusing an
                old schema. A database without any schema is always set up.

        Raises:
            ConfigError: a setting cannot be used.
            ServerError: an embedded server could not be started.
            WarehouseError: PostgreSQL cannot be reached, or its schema does not fit.
        """
        chosen = settings or load_settings()
        servers, endpoints = _servers(chosen)
        platform = cls(chosen, endpoints, servers)
        try:
            platform.prepare(migrate=migrate)
        except BaseException:
            platform.close()
            raise
        return platform

    def prepare(self, *, migrate: bool) -> None:
        """Set up an empty database, or check (or upgrade) the schema of one in use."""
        engine = sa.create_engine(self.endpoints.sqlalchemy_url, poolclass=sa.NullPool)
        if migrate or schema.current_revision(engine) is None:
            before, after = schema.upgrade(engine)
            if before != after:
                self.reference.seed()
        else:
            schema.require_current(engine)

    def is_usable(self) -> bool:
        """Say whether PostgreSQL answers and still has the schema of this code, in one query."""
        try:
            with self.warehouse.connect() as connection:
                return schema.is_current(connection)
        except WarehouseError:
            return False

    def rest(self) -> None:
        """Let go of providers between two uses; connections to the own servers are kept."""
        for source in self._sources.values():
            close = getattr(source, "close", None)
            if close is not None:
                close()
        self._sources.clear()
        if self._samples is not None:
            self._samples.close()
            self._samples = None
        self.warehouse.rest()

    def close(self) -> None:
        """Let go of the embedded servers; they stop when nobody holds them any more."""
        self.rest()
        self.link.close()
        self.warehouse.close()
        if self.servers is not None:
            self.servers.stop()

    def __enter__(self) -> "Platform":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @cached_property
    def warehouse(self) -> Warehouse:
        """Bars and indicators."""
        return Warehouse(self.endpoints.libpq_url, ColdTier(self.archive_root))

    @cached_property
    def archive_root(self) -> ArchiveRoot:
        """Where the archive's files are."""
        return ArchiveRoot(self.settings.archive_location)

    @cached_property
    def archive(self) -> Archive:
        """Closed months of bars, as files."""
        return Archive(
            self.warehouse,
            self.archive_root,
            now=lambda: self.now(),
            after_days=self.settings.archive_after_days,
        )

    @cached_property
    def reference(self) -> ReferenceStore:
        """Symbols, listings, watchlist."""
        return ReferenceStore(self.warehouse)

    @cached_property
    def quality(self) -> QualityStore:
        """Quarantine, gaps, completeness."""
        return QualityStore(self.warehouse)

    @cached_property
    def due_gaps(self) -> DueGapStore:
        """Gaps that may be asked for again."""
        return DueGapStore(self.warehouse)

    @cached_property
    def providers(self) -> ProviderStore:
        """What providers were asked and said beside bars."""
        return ProviderStore(self.warehouse)

    @cached_property
    def channels(self) -> Channels:
        """Ways to reach people, by severity."""
        return Channels.of_settings(self.settings)

    @cached_property
    def alerts(self) -> AlertStore:
        """What somebody should look at."""
        return AlertStore(self.warehouse, self.channels, lambda: self.now())

    @cached_property
    def alert_rules(self) -> RuleBook:
        """Thresholds of what is measured."""
        return RuleBook(self.warehouse, self.alerts)

    @cached_property
    def notifier(self) -> Notifier:
        """What sends the messages about alerts."""
        return Notifier(
            self.warehouse, self.alerts, self.channels, self.settings.alert_messages_per_hour
        )

    @cached_property
    def actions(self) -> ActionStore:
        """Splits and dividends."""
        return ActionStore(self.warehouse)

    @cached_property
    def listings(self) -> Listings:
        """Codes of instruments and their end."""
        return Listings(self.warehouse, self.alerts)

    @cached_property
    def samples(self) -> SampleStore:
        """Prices sampled from quotes."""
        return SampleStore(self.warehouse)

    @cached_property
    def sessions(self) -> SessionStore:
        """Sessions of the markets, for SQL."""
        return SessionStore(self.warehouse)

    @cached_property
    def fundamentals(self) -> FundamentalStore:
        """Value locked, fees, revenue and volume of protocols, with what was known when."""
        return FundamentalStore(self.warehouse)

    @cached_property
    def catalysts(self) -> CatalystStore:
        """Events that move prices, and the rules of their impact."""
        return CatalystStore(self.warehouse)

    @cached_property
    def on_chain(self) -> OnChainStore:
        """Metrics of coins and tokens, with what was known when."""
        return OnChainStore(self.warehouse)

    @cached_property
    def stories(self) -> StoryStore:
        """News and posts with their sentiment."""
        return StoryStore(self.warehouse)

    @cached_property
    def retention(self) -> RetentionStore:
        """What is older than its table's policy allows."""
        return RetentionStore(self.warehouse)

    @cached_property
    def tape(self) -> TapeSource:
        """The user's own history."""
        return TapeSource(self.settings.tape_directory, now=lambda: self.now())

    def sources(self, market: str, lane: Lane = "backfill") -> list[BarSource]:
        """Return the market's configured providers in the order they are asked.

        Args:
            market: name of the market.
            lane: who goes first when a provider's calls are scarce.
        """
        return [
            self.source(name, lane)
            for name in self.settings.chain(market)
            if not PROVIDERS[name].missing(self.settings, market)
        ]

    def source(self, name: str, lane: Lane = "backfill") -> BarSource:
        """Return a provider's adapter; it is kept until the platform is closed."""
        if name == "tape":
            return self.tape
        if name == "coinspot":
            return CoinspotSource(
                lambda *asked: self.samples.read("coinspot", *asked), now=lambda: self.now()
            )
        if (name, lane) not in self._sources:
            spec = PROVIDERS[name]
            if spec.make is None:
                raise AssertionError(f"the platform has to make {name} itself")
            gate = Gate(name) if spec.is_local else self.gate(name, lane)
            self._sources[name, lane] = spec.make(self.settings, gate, lambda: self.now())
        return self._sources[name, lane]

    def ledgers(self, until: datetime | None = None) -> Ledgers:
        """Return what makes the clients of on-chain metrics, stories and events.

        Args:
            until: end of the window that will be asked for; it sets the clock of samples.
        """
        return Ledgers(
            self.settings,
            self.gate,
            lambda: self.now(),
            samples=self._sample_server() if self.settings.samples else None,
            until=until,
        )

    def _sample_server(self) -> SampleServer:
        if self._samples is None:
            self._samples = SampleServer()
            self._samples.start()
        return self._samples

    def gate(self, provider: str, lane: Lane = "backfill") -> Gate:
        """Return the gate that calls to a provider pass; all processes share what is behind it."""
        return Gate(
            provider,
            budget=self.budget(provider, lane),
            breaker=self.breaker(provider),
            ledgers=(ValkeyLedger(self.link, provider, self.spending),),
        )

    @cached_property
    def link(self) -> ValkeyLink:
        """The way to Valkey for budgets, breakers and accounts."""
        return ValkeyLink(self.endpoints.redis_url)

    def budget(self, provider: str, lane: Lane = "backfill") -> ValkeyBudget:
        """Return a provider's share of calls as a lane sees it."""
        return budget_of(self.link, provider, self.settings, lane)

    def breaker(self, provider: str) -> ValkeyBreaker:
        """Return what keeps calls from a provider that is down."""
        return ValkeyBreaker(self.link, provider, limits_of(provider).title)

    @cached_property
    def spending(self) -> SpendingGuard:
        """The monthly cap on what paid calls cost."""
        return SpendingGuard(
            self.link,
            {
                name: Price(getattr(self.settings, f"{name}_cost_per_call_usd"))
                for name in PROVIDERS
                if hasattr(self.settings, f"{name}_cost_per_call_usd")
            },
            cap_usd=self.settings.spending_cap_usd,
            journal=self.settings.home / "spending.json",
        )

    def not_configured(self, market: str) -> dict[str, str]:
        """Return provider -> what has to be set, for those of the chain that are passed over."""
        missing = {
            name: PROVIDERS[name].missing(self.settings, market)
            for name in self.settings.chain(market)
        }
        return {name: f"set {' and '.join(names)}" for name, names in missing.items() if names}

    def collector(self, market: str, timeframe: Timeframe, lane: Lane = "backfill") -> BarCollector:
        """Return the collector of a market and timeframe."""
        return BarCollector(
            market,
            timeframe,
            warehouse=self.warehouse,
            reference=self.reference,
            quality=self.quality,
            providers=self.providers,
            sources=self.sources(market, lane),
            now=self.now,
            lane=lane,
        )

    def action_collector(self) -> ActionCollector:
        """Return what keeps splits and dividends, and bars in step with them."""
        return ActionCollector(
            warehouse=self.warehouse,
            reference=self.reference,
            actions=self.actions,
            providers=self.providers,
            alerts=self.alerts,
            sources=lambda market: self.sources(market, "repair"),
            collector=lambda market, timeframe: self.collector(market, timeframe, "repair"),
            now=self.now,
        )

    @cached_property
    def events(self) -> EventPipeline:
        """What keeps the events that sources find."""
        return EventPipeline(
            self.reference,
            self.catalysts,
            self.quality,
            watch_new_coins=self.settings.collect_new_listings,
        )

    def story_pipeline(self, ledgers: Ledgers) -> StoryPipeline:
        """Return what keeps the stories that sources find.

        Args:
            ledgers: whose answers they are; its clock holds.
        """
        return StoryPipeline(
            reference=self.reference,
            stories=self.stories,
            quality=self.quality,
            scorer=self.scorer,
            now=ledgers.now,
        )

    @cached_property
    def scorer(self) -> Scorer:
        """What gives texts their sentiment."""
        return make_scorer(self.settings)

    def completeness_meter(self, market: str) -> CompletenessMeter:
        """Return what measures a market's completeness."""
        return CompletenessMeter(
            MARKETS[market].name,
            warehouse=self.warehouse,
            reference=self.reference,
            now=self.now,
        )

    @cached_property
    def gap_ledger(self) -> GapLedger:
        """What keeps the reason of every absent bar; every writer of bars tells it."""
        return GapLedger(self.warehouse, self.reference, lambda: self.now())


def _servers(settings: Settings) -> tuple[EmbeddedServers | None, Endpoints]:
    database, redis = (
        None if configured is None else configured.get_secret_value()
        for configured in (settings.database_url, settings.redis_url)
    )
    if database is not None and redis is not None:
        return None, Endpoints(database, redis)
    servers = EmbeddedServers(settings.home, postgres=database is None, valkey=redis is None)
    started = servers.start()
    try:
        return servers, Endpoints(database or started.libpq_url, redis or started.redis_url)
    except ConfigError:
        servers.stop()
        raise
