"""`YahooSource`: bars of all three markets from Yahoo's chart API, without a key.

The API is unofficial. What it can reach is data in `CAPABILITIES`; `chart` reads its answers and
`client` makes the calls.
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from scizor_core.markets import TIMEFRAMES, get_market
from scizor_resources.providers.actions import CorporateAction
from scizor_resources.providers.asking import ask_each
from scizor_resources.providers.base import BarBatch, BarRequest, Capabilities
from scizor_resources.providers.gate import Gate
from scizor_resources.providers.rows import AskWindow, ParsedBars
from scizor_resources.providers.yahoo.actions import parse_actions
from scizor_resources.providers.yahoo.chart import SOURCE_NAME, parse_chart
from scizor_resources.providers.yahoo.client import YahooClient, YahooSettings
from scizor_resources.providers.yahoo.symbols import to_yahoo_symbol

TITLE = "Yahoo"

#: `adjusted`: Yahoo rewrites its history after each split, so open, high, low, close and volume
#: come adjusted for every split up to the day of the call (not for dividends; `adj_close` is
#: adjusted for both). A split therefore changes bars that were stored before it.
CAPABILITIES = Capabilities(
    markets=frozenset({"asx", "us", "crypto"}),
    timeframes=frozenset(TIMEFRAMES),
    max_age={
        "1m": timedelta(days=30),
        "5m": timedelta(days=60),
        "15m": timedelta(days=60),
    },
    max_window={
        "1m": timedelta(days=8),
        "5m": timedelta(days=60),
        "15m": timedelta(days=60),
    },
    adjusted=True,
)


def utc_now() -> datetime:
    """Return the present, UTC."""
    return datetime.now(tz=UTC)


class YahooSource:
    """A `BarSource` that asks Yahoo through yfinance.

    Users report refusals from about 360 calls an hour on; Yahoo publishes no limit.

    Args:
        gate: what every chart call passes (see `client` for those for cookie and crumb).
        settings: address, cache directory, time-out.
        now: clock, UTC; decides what is within reach and which bars are final.

    Attributes:
        gate: as given.
    """

    def __init__(
        self, gate: Gate, settings: YahooSettings, *, now: Callable[[], datetime] = utc_now
    ) -> None:
        self.gate = gate
        self._settings = settings
        self._now = now

    @property
    def name(self) -> str:
        """The name of this source in chains and in the `source` column."""
        return SOURCE_NAME

    @property
    def capabilities(self) -> Capabilities:
        """What Yahoo serves; prices come adjusted for splits (see `CAPABILITIES`)."""
        return CAPABILITIES

    def fetch_bars(self, request: BarRequest) -> BarBatch:
        """Fetch the bars of a window, in as many calls as Yahoo's limits need (see `ask_each`).

        A symbol that Yahoo does not know, or not for this window, stands in `errors` with Yahoo's
        words.

        Raises:
            RateLimited, AuthError, TransientError, SchemaDrift: no symbol had an answer.
            BadRequest: the market is not served by Yahoo.
            UnknownMarketError: there is no such market.
        """
        with closing(YahooClient(self.gate, self._settings)) as client:

            def ask(window: AskWindow) -> ParsedBars:
                ticker = to_yahoo_symbol(window.market, window.symbol)
                payload = client.get_chart(ticker, chart_params(window))
                return parse_chart(payload, window, now=self._now())

            return ask_each(
                request,
                ask,
                gate=self.gate,
                title=TITLE,
                capabilities=CAPABILITIES,
                now=self._now(),
            )

    def fetch_corporate_actions(
        self, market: str, symbols: Sequence[str], start: date, end: date
    ) -> list[CorporateAction]:
        """Fetch splits and cash dividends, one chart call a symbol.

        The chart is asked for from `start` to the present, however early `end` is: dividends
        have to be freed of the splits since (see `parse_actions`).

        Args:
            market: name of the market.
            symbols: the platform's symbols.
            start: first ex-date.
            end: first ex-date no longer wanted.

        Returns:
            Actions with `start <= ex_date < end`, by symbol and ex-date.

        Raises:
            InvalidInputError: a symbol cannot be a code of the market.
            UnknownMarketError: there is no such market.
            ProviderError: an answer could not be had; nothing is returned then. Ask symbol by
                symbol where one that Yahoo does not know must not stop the others.
        """
        first, stop = (datetime.combine(day, time(), tzinfo=UTC) for day in (start, end))
        today = datetime.combine(self._now().astimezone(UTC).date(), time(), tzinfo=UTC)
        # Sydney may have begun the next session already.
        latest = max(stop, today + timedelta(days=2))
        found: list[CorporateAction] = []
        with closing(YahooClient(self.gate, self._settings)) as client:
            for symbol in sorted(set(symbols)):
                wanted = AskWindow(market, symbol, "1d", first, stop)
                params = chart_params(replace(wanted, end=latest))
                payload = client.get_chart(to_yahoo_symbol(market, symbol), params)
                found += parse_actions(payload, wanted)
        return found


def chart_params(window: AskWindow) -> dict[str, str]:
    """Return the query of a chart call.

    Yahoo's `period1` and `period2` are instants, half open. Sessions are asked for from midnight
    to midnight of the exchange, because the first session of a UTC day may have opened the evening
    before in UTC.
    """
    bounds = (window.start, window.end)
    if window.timeframe == "1d":
        zone = ZoneInfo(get_market(window.market).timezone)
        bounds = (window.start.replace(tzinfo=zone), window.end.replace(tzinfo=zone))
    return {
        "period1": str(int(bounds[0].timestamp())),
        "period2": str(int(bounds[1].timestamp())),
        "interval": window.timeframe,
        "includePrePost": "false",
        "events": "div,splits,capitalGains",
    }
