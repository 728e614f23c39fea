"""Live trades, quotes and order books of ASX (and US) stocks from a TWS or IB Gateway."""

import asyncio
import importlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from scizor_core.errors import ConfigError
from scizor_resources.platform import Platform
from scizor_resources.providers.ibkr.session import GatewaySession
from scizor_resources.providers.ibkr.source import host_and_ports
from scizor_resources.providers.ibkr.verdicts import SOURCE_NAME
from scizor_resources.settings import Settings
from scizor_sidecar.feeds.base import FeedLimits, Sink, Stream, Wanted
from scizor_sidecar.feeds.ibkr_plan import Quota
from scizor_sidecar.feeds.ibkr_session import IbkrPatience, IbkrSession
from scizor_sidecar.feeds.ibkr_subscriptions import Memory


def utc_now() -> datetime:
    """Return the present, UTC."""
    return datetime.now(tz=UTC)


class IbkrFeed:
    """The live feed of Interactive Brokers, read only.

    A few instruments (`Quota`), those with an order book first, have all of their trades one by
    one; the trades of the others are a sample that IBKR takes a few times a second. No request of
    it counts in IBKR's rules for old data; that it sends at most 45 messages a second is seen to by
    ib_async.

    Args:
        base_url: `tcp://host[:port]`; without a port those of Gateway live, Gateway paper and TWS
            paper are tried in turn.
        backup_port: of another gateway on that host, for when the first cannot be reached or has
            lost its link to IBKR.
        client_id: first client id to try; has to be another one than that of other programs.
        quota: what may be subscribed at a time.
        timeout_seconds: longest wait for one answer.
        patience: how long is waited for what else.
        now: clock, UTC; times of quotes and books, for which IBKR tells none.

    Raises:
        ConfigError: the base URL is not one.
    """

    name = SOURCE_NAME

    def __init__(
        self,
        base_url: str,
        *,
        backup_port: int | None = None,
        client_id: int = 21,
        quota: Quota | None = None,
        timeout_seconds: float = 20.0,
        patience: IbkrPatience | None = None,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._host, self._ports = host_and_ports(base_url)
        self._backup_port, self._client_id = backup_port, client_id
        self._quota, self._timeout_seconds = quota or Quota(), timeout_seconds
        self._patience, self._now = patience or IbkrPatience(), now
        self._memory = Memory()
        self._is_backup_first = False
        self._session: IbkrSession | None = None

    @property
    def limits(self) -> FeedLimits:
        """What the account's market data lines allow."""
        return self._quota.limits

    @property
    def sampled(self) -> frozenset[Stream]:
        """Streams whose trades are a sample at present, not all of them."""
        return self._session.sampled if self._session is not None else frozenset()

    @property
    def without_book(self) -> Mapping[tuple[str, str], str]:
        """Market and symbol of the streams whose order book is not served: why."""
        found = self._session.without_book if self._session is not None else {}
        return {(each.market, each.symbol): why for each, why in found.items()}

    async def run(self, wanted: Wanted, sink: Sink) -> None:
        """Serve one connection.

        Raises:
            ProviderError: it could not be connected, or broke.
        """
        # The first import takes a moment.
        await asyncio.to_thread(importlib.import_module, "ib_async")
        sink.alive()
        gateway = GatewaySession(
            self._host, self._next_ports(), self._client_id, self._timeout_seconds
        )
        session = IbkrSession(gateway, sink, self._memory, self._quota, self._now, self._patience)
        self._session = session
        try:
            await session.serve(wanted)
        finally:
            # A gateway that answers but has no link would be taken again and again.
            self._is_backup_first = session.is_of_no_use and not self._is_backup_first
            await session.close()
            await gateway.close()

    def _next_ports(self) -> tuple[int, ...]:
        if self._backup_port is None:
            return self._ports
        if self._is_backup_first:
            return (self._backup_port, *self._ports)
        return (*self._ports, self._backup_port)


def make_ibkr_feed(settings: Settings, platform: Platform) -> IbkrFeed:
    """Return the feed as the settings say.

    Raises:
        ConfigError: no gateway is named.
    """
    if settings.ibkr_base_url is None:
        raise ConfigError(
            "No IBKR gateway is named: set SCIZOR_IBKR_BASE_URL, for example tcp://127.0.0.1:4001."
        )
    return IbkrFeed(
        settings.ibkr_base_url,
        backup_port=settings.ibkr_backup_port,
        client_id=settings.ibkr_stream_client_id,
        quota=Quota(settings.ibkr_market_data_lines, settings.ibkr_depths),
        timeout_seconds=settings.provider_timeout_seconds,
        now=platform.now,
    )
