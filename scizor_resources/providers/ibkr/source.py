"""`IbkrSource`: bars, trades and contracts of ASX and US stocks from a TWS or IB Gateway.

Keys handed to the budget, for IBKR's pacing rules (no identical request within 15 s, fewer than 6
for the same contract, exchange and tick type within 2 s, at most 60 in 10 min; IBKR enforces them
for bars of 30 s or less and throttles the rest):

- `same:<contract id>|<exchange>|<what>|<bar size>|<duration>|<end>` is the identity of a request
  for bars, `same:<contract id>|<exchange>|<what>|ticks|<start>` that of one for trades.
- `contract:<symbol>,<exchange>,<what>` is the contract, exchange and tick type of either.

The weight is 1, and 2 where what is shown is BID_ASK, which IBKR counts twice (`weight_of`).
`reqContractDetails` is not historical data: it has no keys and an endpoint name of its own.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pandas as pd

from scizor_core.errors import ConfigError
from scizor_core.markets import TIMEFRAMES, get_market
from scizor_resources.providers.asking import ask_each
from scizor_resources.providers.base import BarBatch, BarRequest, Capabilities
from scizor_resources.providers.gate import Gate
from scizor_resources.providers.ibkr.answers import parse_bars, tick_frame
from scizor_resources.providers.ibkr.gateway import TRADES, ContractDetails, Gateway
from scizor_resources.providers.ibkr.pages import (
    BAR_SIZES,
    Page,
    bar_pages,
    sessions_within,
    utc_text,
)
from scizor_resources.providers.ibkr.session import DEFAULT_PORTS
from scizor_resources.providers.ibkr.symbols import get_route, to_ibkr_symbol
from scizor_resources.providers.ibkr.verdicts import SOURCE_NAME, TITLE
from scizor_resources.providers.rows import AskWindow, ParsedBars, nothing_parsed

#: TRADES come adjusted for splits up to the day of the call, not for dividends. `max_window` is not
#: IBKR's limit, which the source meets itself by paging (see `pages`): it is what is lost when one
#: request of a window fails.
CAPABILITIES = Capabilities(
    markets=frozenset({"asx", "us"}),
    timeframes=frozenset(TIMEFRAMES),
    max_window={
        "1m": timedelta(days=7),
        "5m": timedelta(days=28),
        "15m": timedelta(days=28),
    },
    adjusted=True,
)
DEFAULT_URL = "tcp://127.0.0.1"

_SECOND = timedelta(seconds=1)


def utc_now() -> datetime:
    """Return the present, UTC."""
    return datetime.now(tz=UTC)


class IbkrSource:
    """A `BarSource` that asks a running TWS or IB Gateway through ib_async, read only.

    Args:
        gate: what every request passes; a connection is made within the request that needs it, so
            that the gate's waits stand between two rounds of connecting.
        base_url: `tcp://host[:port]`. Without a port those of Gateway live, Gateway paper and TWS
            paper are tried in turn: 4001, 4002, 7497.
        client_id: first client id to try; each process takes the next one that is free.
        timeout_seconds: longest wait for one answer. IBKR throttles by answering late.
        now: clock, UTC.

    Raises:
        ConfigError: the base URL is not one.

    Note:
        The gateway's setting "send market data in lots" has to be off, or US volumes are in lots.
    """

    def __init__(
        self,
        gate: Gate,
        *,
        base_url: str | None = None,
        client_id: int = 1,
        timeout_seconds: float = 60.0,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self.gate = gate
        self._now = now
        host, ports = host_and_ports(base_url or DEFAULT_URL)
        self._gateway = Gateway(host, ports, client_id, timeout_seconds)
        self._listings: dict[tuple[str, str], ContractDetails] = {}

    @property
    def name(self) -> str:
        """The name of this source in chains and in the `source` column."""
        return SOURCE_NAME

    @property
    def capabilities(self) -> Capabilities:
        """What IBKR serves; prices come adjusted for splits (see `CAPABILITIES`)."""
        return CAPABILITIES

    def close(self) -> None:
        """Close the connection and end its thread; the next call begins anew."""
        self._gateway.close()

    def fetch_bars(self, request: BarRequest) -> BarBatch:
        """Fetch the bars of a window, regular trading hours only, session by session.

        A symbol that IBKR does not know stands in `errors` with IBKR's words.

        Raises:
            RateLimited, AuthError, TransientError, SchemaDrift: no symbol had an answer.
            BadRequest: the market or timeframe is not served.
            UnknownMarketError: there is no such market.
        """
        return ask_each(
            request,
            self._ask,
            gate=self.gate,
            title=TITLE,
            capabilities=CAPABILITIES,
            now=self._now(),
        )

    def contract_details(self, symbol: str, *, market: str) -> ContractDetails:
        """Return what IBKR knows about a listing; asked once, then remembered.

        Args:
            symbol: the platform's symbol.
            market: name of the market.

        Raises:
            UnknownMarketError: there is no such market.
            InvalidInputError: not a symbol of that market, or IBKR does not serve the market.
            BadRequest: IBKR knows no such listing, or several.
            RateLimited, AuthError, TransientError, SchemaDrift: no answer.
        """
        ticker, route = to_ibkr_symbol(market, symbol), get_route(market)
        key = (get_market(market).name, ticker)
        if key not in self._listings:
            self._listings[key] = self.gate.call(
                "reqContractDetails", lambda: self._gateway.qualify(ticker, route)
            )
        return self._listings[key]

    def fetch_ticks(
        self, symbol: str, start: datetime, end: datetime, *, market: str
    ) -> pd.DataFrame:
        """Fetch the trades of `[start, end)`, regular trading hours only.

        IBKR answers with up to 1000 trades of one session, whole seconds, so that the next request
        begins a second after the last trade.

        Args:
            symbol: the platform's symbol.
            start: first instant, UTC.
            end: first instant no longer wanted, UTC.
            market: name of the market.

        Returns:
            Columns `answers.IBKR_TICK_COLUMNS`, in the order received; `ts` in whole seconds,
            `trade_id` missing. Rows are not judged yet: see `scizor_core.ticks.tick_faults`.

        Raises:
            UnknownMarketError, InvalidInputError, BadRequest: as `contract_details`.
            RateLimited, AuthError, TransientError, SchemaDrift: no answer.
        """
        listing = self.contract_details(symbol, market=market)
        auction = timedelta(minutes=get_market(market).closing_auction_minutes)
        found = []
        for session in sessions_within(market, start, min(end, self._now())):
            position = max(start, session.open)
            stop = min(end, session.close + auction)
            while position < stop:
                page = self._tick_page(listing, position)
                found += [each for each in page if position <= each.time < stop]
                if not page or page[-1].time >= stop:
                    break
                position = max(position, page[-1].time) + _SECOND
        return tick_frame(found, start, end)

    def _tick_page(self, listing: ContractDetails, start: datetime) -> list[Any]:
        identity = f"{listing.contract_id}|{listing.exchange}|{TRADES}|ticks|{utc_text(start)}"
        return self.gate.call(
            "reqHistoricalTicks",
            lambda: self._gateway.ticks(listing, start),
            weight=weight_of(TRADES),
            keys=_keys(identity, listing, TRADES),
        )

    def _ask(self, window: AskWindow) -> ParsedBars:
        """Make the requests for one symbol's window and read the answers."""
        pages = bar_pages(window, self._now())
        if not pages:
            return nothing_parsed()
        listing = self.contract_details(window.symbol, market=window.market)
        answers = [(page, self._ask_page(window, page, listing)) for page in pages]
        return parse_bars(answers, window, now=self._now())

    def _ask_page(self, window: AskWindow, page: Page, listing: ContractDetails) -> list[Any]:
        identity = "|".join(
            (
                str(listing.contract_id),
                listing.exchange,
                TRADES,
                BAR_SIZES[window.timeframe],
                page.duration,
                page.end_text,
            )
        )
        return self.gate.call(
            "reqHistoricalData",
            lambda: self._gateway.bars(listing, window, page),
            weight=weight_of(TRADES),
            keys=_keys(identity, listing, TRADES),
        )


def weight_of(what_to_show: str) -> int:
    """Return what a request counts for in IBKR's limits."""
    return 2 if what_to_show == "BID_ASK" else 1


def _keys(identity: str, listing: ContractDetails, what_to_show: str) -> tuple[str, ...]:
    return (
        f"same:{identity}",
        f"contract:{listing.symbol},{listing.exchange},{what_to_show}",
    )


def host_and_ports(base_url: str) -> tuple[str, tuple[int, ...]]:
    """Return where a gateway may be, the ports in the order in which they are tried.

    Raises:
        ConfigError: the base URL is not one.
    """
    parts = urlsplit(base_url if "://" in base_url else f"tcp://{base_url}")
    try:
        port = parts.port
    except ValueError:
        port = 0
    if parts.scheme != "tcp" or not parts.hostname or port == 0:
        raise ConfigError(
            f"'{base_url}' is not the address of an IBKR gateway. Write tcp://host or "
            "tcp://host:port, for example tcp://127.0.0.1:4002."
        )
    return parts.hostname, (port,) if port else DEFAULT_PORTS
