"""The connection to a TWS or IB Gateway behind ordinary functions.

The connection lives in an event loop in a thread of its own, so that a caller inside a running
loop, a Celery prefork child and a plain script all use it alike. It stays open between calls. A
forked child does not inherit it: it opens its own with its first call.
"""

import os
import threading
import weakref
from collections.abc import Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from scizor_resources.errors import BadRequest
from scizor_resources.providers.ibkr.loop import LoopThread
from scizor_resources.providers.ibkr.pages import BAR_SIZES, Page, utc_text
from scizor_resources.providers.ibkr.session import GatewaySession, Send
from scizor_resources.providers.ibkr.symbols import Route
from scizor_resources.providers.ibkr.verdicts import SOURCE_NAME, unreachable
from scizor_resources.providers.rows import AskWindow

#: What is shown in bars and ticks; split-adjusted, not for dividends.
TRADES = "TRADES"
#: Most trades of one answer, which IBKR exceeds only to complete a second.
TICKS_PER_ANSWER = 1000
#: Name of the request for contract details.
DETAILS = "reqContractDetails"

_REGULAR_HOURS_ONLY = True
_EPOCH_SECONDS = 2


@dataclass(frozen=True)
class ContractDetails:
    """What IBKR knows about a listing.

    Attributes:
        contract_id: IBKR's permanent id.
        symbol: IBKR's symbol.
        exchange: where it is asked for.
        primary_exchange: where it is listed.
        currency: ISO code.
        long_name: name of the company or fund.
        timezone: zone of the exchange, as IBKR names it.
        minimum_tick: smallest step of the price.
        stock_type: for example COMMON or ETF.
    """

    contract_id: int
    symbol: str
    exchange: str
    primary_exchange: str
    currency: str
    long_name: str
    timezone: str
    minimum_tick: float
    stock_type: str


class Gateway:
    """Requests to one gateway, one after another or from several threads.

    Args:
        host: host of the gateway.
        ports: ports to try, in this order.
        client_id: first client id to try.
        timeout_seconds: longest wait for one answer.
    """

    def __init__(
        self, host: str, ports: tuple[int, ...], client_id: int, timeout_seconds: float
    ) -> None:
        self._place = (host, ports, client_id, timeout_seconds)
        self._lock = threading.Lock()
        self._loop: LoopThread | None = None
        self._session = GatewaySession(*self._place)
        self._at_end: weakref.finalize[Any, Any] | None = None
        _GATEWAYS.add(self)

    def close(self) -> None:
        """Close the connection and end its thread; the next request begins anew."""
        with self._lock:
            at_end, self._loop, self._at_end = self._at_end, None, None
        if at_end is not None:
            at_end()

    def qualify(self, symbol: str, route: Route) -> ContractDetails:
        """Return the one listing of a symbol.

        Raises:
            BadRequest: IBKR knows no such listing, or several that cannot be told apart.
            ProviderError: as for every request.
        """
        wanted = stock_of(symbol, route)
        found = self._ask(
            DETAILS, symbol, wanted, lambda client, id_: client.reqContractDetails(id_, wanted)
        )
        return one_listing(found, symbol, route)

    def bars(self, listing: ContractDetails, window: AskWindow, page: Page) -> list[Any]:
        """Return ib_async's bars of one page, empty where IBKR says that there are none."""
        contract = contract_of(listing)

        def send(client: Any, request_id: int) -> None:
            client.reqHistoricalData(
                request_id,
                contract,
                page.end_text,
                page.duration,
                BAR_SIZES[window.timeframe],
                TRADES,
                _REGULAR_HOURS_ONLY,
                _EPOCH_SECONDS,
                False,  # keepUpToDate
                [],
            )

        return self._ask("reqHistoricalData", listing.symbol, contract, send)

    def ticks(self, listing: ContractDetails, start: datetime) -> list[Any]:
        """Return ib_async's first trades from `start` (UTC) on: whole seconds, one session."""
        contract = contract_of(listing)

        def send(client: Any, request_id: int) -> None:
            client.reqHistoricalTicks(
                request_id,
                contract,
                utc_text(start),
                "",
                TICKS_PER_ANSWER,
                TRADES,
                _REGULAR_HOURS_ONLY,
                False,  # ignoreSize
                [],
            )

        return self._ask("reqHistoricalTicks", listing.symbol, contract, send)

    def _ask(self, endpoint: str, subject: str, contract: Any, send: Send) -> list[Any]:
        """Make one request in the loop's thread and wait for its end."""
        with self._lock:
            if self._loop is None:
                self._session = GatewaySession(*self._place)
                self._loop = LoopThread("ibkr gateway")
                self._at_end = weakref.finalize(self, _shut, self._loop, self._session)
            answer = self._loop.submit(self._session.ask(endpoint, subject, contract, send))
        try:
            return answer.result()
        except CancelledError:
            raise unreachable(
                f"{endpoint} of {subject} was broken off: the source was closed",
                "Ask again.",
                endpoint=endpoint,
            ) from None
        except BaseException:
            answer.cancel()
            raise

    def forget(self) -> None:
        """In a forked child, leave the parent's connection to the parent."""
        if self._at_end is not None:
            self._at_end.detach()
        _INHERITED.append((self._loop, self._session, self._session.forget()))
        self._lock = threading.Lock()
        self._loop = self._at_end = None
        self._session = GatewaySession(*self._place)


def _shut(loop: LoopThread, session: GatewaySession) -> None:
    loop.stop(session.close())


def stock_of(symbol: str, route: Route) -> Any:
    """Return ib_async's contract of a symbol whose listing is not known yet."""
    from ib_async import Stock

    return Stock(symbol, route.exchange, route.currency, primaryExchange=route.primary_exchange)


def one_listing(found: Sequence[Any], symbol: str, route: Route) -> ContractDetails:
    """Return the one listing among ib_async's contract details.

    Raises:
        BadRequest: there is none, or several that cannot be told apart.
    """
    listings = [each for each in found if each.contract.currency == route.currency]
    if len(listings) > 1:
        listings = [
            each for each in listings if each.contract.primaryExchange in route.primary_exchanges
        ]
    if len(listings) != 1:
        raise BadRequest(
            f"IBKR knows {len(listings)} listings of {symbol} in {route.currency} at "
            f"{route.exchange}, where one was expected. Check the symbol.",
            provider=SOURCE_NAME,
            endpoint=DETAILS,
        )
    contract = listings[0].contract
    return ContractDetails(
        contract.conId,
        contract.symbol,
        contract.exchange or route.exchange,
        contract.primaryExchange,
        contract.currency,
        listings[0].longName,
        listings[0].timeZoneId,
        listings[0].minTick,
        listings[0].stockType,
    )


def contract_of(listing: ContractDetails) -> Any:
    """Return ib_async's contract of a listing."""
    from ib_async import Stock

    return Stock(
        listing.symbol,
        listing.exchange,
        listing.currency,
        conId=listing.contract_id,
        primaryExchange=listing.primary_exchange,
    )


_GATEWAYS: "weakref.WeakSet[Gateway]" = weakref.WeakSet()
#: Loops and sockets of the parent in a forked child, kept so that nothing ever closes them.
_INHERITED: list[Any] = []


def _forget_all() -> None:
    for gateway in list(_GATEWAYS):
        gateway.forget()


os.register_at_fork(after_in_child=_forget_all)
