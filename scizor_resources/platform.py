"""The opened platform: settings, servers, stores and provider chains in one place.

Every way in (assets, CLI, notebooks) opens this. With nothing configured it starts the embedded
servers, or joins those that another process has started.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from types import TracebackType

import sqlalchemy as sa

from scizor_core.errors import ConfigError
from scizor_core.markets import MARKETS, Timeframe
from scizor_resources.embedded.servers import EmbeddedServers
from scizor_resources.endpoints import Endpoints
from scizor_resources.pipeline.collect import BarCollector
from scizor_resources.pipeline.completeness import CompletenessMeter
from scizor_resources.providers.base import BarSource
from scizor_resources.providers.simulated import SimulatedSource
from scizor_resources.providers.tape import TapeSource
from scizor_resources.providers.yahoo.client import YahooSettings
from scizor_resources.providers.yahoo.source import YahooSource
from scizor_resources.settings import Settings, load_settings
from scizor_resources.stores import schema
from scizor_resources.stores.quality import QualityStore
from scizor_resources.stores.reference import ReferenceStore
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

    def close(self) -> None:
        """Let go of the embedded servers; they stop when nobody holds them any more."""
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
        return Warehouse(self.endpoints.libpq_url)

    @cached_property
    def reference(self) -> ReferenceStore:
        """Symbols, listings, watchlist."""
        return ReferenceStore(self.warehouse)

    @cached_property
    def quality(self) -> QualityStore:
        """Quarantine, gaps, completeness."""
        return QualityStore(self.warehouse)

    @cached_property
    def tape(self) -> TapeSource:
        """The user's own history."""
        return TapeSource(self.settings.tape_directory, now=lambda: self.now())

    def sources(self, market: str) -> list[BarSource]:
        """Return the market's providers in the order they are asked."""
        makers: dict[str, Callable[[], BarSource]] = {
            "tape": lambda: self.tape,
            "yahoo": self._yahoo,
            "simulated": lambda: SimulatedSource(self.settings.simulated_seed, now=self.now),
        }
        return [makers[name]() for name in self.settings.chain(market)]

    def _yahoo(self) -> BarSource:
        return YahooSource(
            YahooSettings(
                base_url=self.settings.yahoo_base_url,
                timeout_seconds=self.settings.yahoo_timeout_seconds,
                cache_dir=self.settings.home / "cache" / "yahoo",
            ),
            now=self.now,
        )

    def collector(self, market: str, timeframe: Timeframe) -> BarCollector:
        """Return the collector of a market and timeframe."""
        return BarCollector(
            market,
            timeframe,
            warehouse=self.warehouse,
            reference=self.reference,
            quality=self.quality,
            sources=self.sources(market),
            now=self.now,
        )

    def completeness_meter(self, market: str) -> CompletenessMeter:
        """Return what measures a market's completeness."""
        return CompletenessMeter(
            MARKETS[market].name,
            warehouse=self.warehouse,
            reference=self.reference,
            quality=self.quality,
            now=self.now,
        )


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
