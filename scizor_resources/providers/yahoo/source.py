"""`YahooSource`: bars of all three markets from Yahoo's chart API, without a key.

The API is unofficial. What it can reach is data in `CAPABILITIES`; `chart` reads its answers and
`client` makes the calls.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pandas as pd
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from scizor_core.errors import InvalidInputError
from scizor_core.markets import TIMEFRAME_MINUTES, TIMEFRAMES, Timeframe, get_market
from scizor_resources.errors import (
    AuthError,
    BadRequest,
    ProviderError,
    RateLimited,
    TransientError,
)
from scizor_resources.providers.base import (
    BarBatch,
    BarRequest,
    Capabilities,
    empty_bars,
    empty_rejected,
    normalise_bars,
)
from scizor_resources.providers.yahoo.chart import (
    SOURCE_NAME,
    ChartWindow,
    ParsedChart,
    parse_chart,
)
from scizor_resources.providers.yahoo.client import YahooClient, YahooSettings
from scizor_resources.providers.yahoo.symbols import to_yahoo_symbol

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

#: Kept from the edge of what Yahoo reaches, so that the call does not cross it on its way.
REACH_MARGIN = timedelta(minutes=1)

_RETRY_FIRST_WAIT_SECONDS = 1.0
_RETRY_LONGEST_WAIT_SECONDS = 15.0


def utc_now() -> datetime:
    """Return the present, UTC."""
    return datetime.now(tz=UTC)


@dataclass
class _Outcome:
    """What became of one symbol: its parts, and what stopped it."""

    parts: list[ParsedChart] = field(default_factory=list)
    failure: ProviderError | None = None


class YahooSource:
    """A `BarSource` that asks Yahoo through yfinance.

    Args:
        settings: address, cache directory, time-outs.
        now: clock, UTC; decides what is within reach and which bars are final.
        sleep: waits the given seconds between calls and before another try.
    """

    def __init__(
        self,
        settings: YahooSettings,
        *,
        now: Callable[[], datetime] = utc_now,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._settings = settings
        self._now = now
        self._sleep = sleep

    @property
    def name(self) -> str:
        """The name of this source in chains and in the `source` column."""
        return SOURCE_NAME

    @property
    def capabilities(self) -> Capabilities:
        """What Yahoo serves; prices come adjusted for splits (see `CAPABILITIES`)."""
        return CAPABILITIES

    def fetch_bars(self, request: BarRequest) -> BarBatch:
        """Fetch the bars of a window, in as many calls as Yahoo's limits need.

        A window that reaches further back than Yahoo does is cut; each symbol then has a sentence
        about it in `empty_reasons`, also where bars of the reachable part were found. A symbol
        that Yahoo does not know, or not for this window, stands in `errors` with Yahoo's words.
        Bars that came before a later call of the same symbol failed are kept.

        Raises:
            RateLimited, AuthError, TransientError, SchemaDrift: no symbol had an answer.
            BadRequest: the market is not served by Yahoo.
            UnknownMarketError: there is no such market.
        """
        if request.market not in CAPABILITIES.markets:
            get_market(request.market)
            raise BadRequest(
                f"Yahoo does not serve market '{request.market}'. Take it out of that market's "
                "provider chain.",
                provider=SOURCE_NAME,
            )
        now = self._now()
        start, limit_reason = reachable_start(request, now=now)
        windows = list(split_window(request.timeframe, start, request.end))
        batch = BarBatch(bars=empty_bars(), rejected=empty_rejected())
        if start >= now and not limit_reason:
            limit_reason = f"The window begins at {start:%Y-%m-%d %H:%M} UTC, which is not past."
            windows = []
        if not windows:
            reason = limit_reason or "The window is empty: it ends where it begins."
            batch.empty_reasons = {ref.symbol: reason for ref in request.symbols}
            return batch

        with closing(YahooClient(self._settings)) as client:
            outcomes = self._ask(client, request, windows)
        batch.requests, batch.latency_seconds = client.requests, client.latency_seconds
        _raise_if_nothing(outcomes)
        _fill(batch, request, outcomes, limit_reason)
        return batch

    def _ask(
        self,
        client: YahooClient,
        request: BarRequest,
        windows: list[tuple[datetime, datetime]],
    ) -> dict[str, _Outcome]:
        """Ask for every symbol; one refusal meant for all of them ends the asking."""
        outcomes: dict[str, _Outcome] = {}
        refusal: ProviderError | None = None
        for ref in request.symbols:
            if refusal is None:
                outcomes[ref.symbol] = self._ask_symbol(client, request, ref.symbol, windows)
                failure = outcomes[ref.symbol].failure
                refusal = failure if failure and _concerns_everybody(failure) else None
            else:
                outcomes[ref.symbol] = _Outcome(failure=refusal)
        return outcomes

    def _ask_symbol(
        self,
        client: YahooClient,
        request: BarRequest,
        symbol: str,
        windows: list[tuple[datetime, datetime]],
    ) -> _Outcome:
        """Ask for all windows of one symbol, up to the first that fails."""
        outcome = _Outcome()
        try:
            for start, end in windows:
                outcome.parts.append(self._ask_window(client, request, symbol, start, end))
        except ProviderError as error:
            outcome.failure = error
        except InvalidInputError as error:
            outcome.failure = BadRequest(str(error), provider=SOURCE_NAME)
        return outcome

    def _ask_window(
        self,
        client: YahooClient,
        request: BarRequest,
        symbol: str,
        start: datetime,
        end: datetime,
    ) -> ParsedChart:
        """Make one chart call, with further tries where those can help, and read it."""
        window = ChartWindow(
            symbol=symbol,
            ticker=to_yahoo_symbol(request.market, symbol),
            spec=get_market(request.market),
            timeframe=request.timeframe,
            start=start,
            end=end,
        )
        if client.requests:
            self._sleep(self._settings.pause_seconds)
        retrying = Retrying(
            retry=retry_if_exception_type(TransientError),
            stop=stop_after_attempt(self._settings.attempts),
            wait=wait_exponential_jitter(
                initial=_RETRY_FIRST_WAIT_SECONDS, max=_RETRY_LONGEST_WAIT_SECONDS
            ),
            sleep=self._sleep,
            reraise=True,
        )
        payload = retrying(client.get_chart, window.ticker, chart_params(window))
        return parse_chart(payload, window, now=self._now())


def chart_params(window: ChartWindow) -> dict[str, str]:
    """Return the query of a chart call.

    Yahoo's `period1` and `period2` are instants, half open. Sessions are asked for from midnight
    to midnight of the exchange, because the first session of a UTC day may have opened the evening
    before in UTC.
    """
    bounds = (window.start, window.end)
    if window.timeframe == "1d":
        zone = ZoneInfo(window.spec.timezone)
        bounds = (window.start.replace(tzinfo=zone), window.end.replace(tzinfo=zone))
    return {
        "period1": str(int(bounds[0].timestamp())),
        "period2": str(int(bounds[1].timestamp())),
        "interval": window.timeframe,
        "includePrePost": "false",
        "events": "div,splits,capitalGains",
    }


def reachable_start(request: BarRequest, *, now: datetime) -> tuple[datetime, str]:
    """Return where Yahoo's bars of the window can begin, and a sentence if that is later.

    The sentence is empty where the whole window is within reach. A window out of reach as a whole
    gets its own end as start.
    """
    reach = CAPABILITIES.max_age.get(request.timeframe)
    if reach is None:
        return request.start, ""
    interval = timedelta(minutes=TIMEFRAME_MINUTES[request.timeframe])
    earliest = now - reach + REACH_MARGIN
    remainder = (earliest - datetime(1970, 1, 1, tzinfo=UTC)) % interval
    if remainder:
        earliest += interval - remainder
    if request.start >= earliest:
        return request.start, ""
    limit = f"Yahoo keeps {request.timeframe} bars for {reach.days} days"
    if request.end <= earliest:
        return request.end, (
            f"{limit}: the whole window lies before {earliest:%Y-%m-%d %H:%M} UTC, so Yahoo was "
            "not asked."
        )
    return earliest, (
        f"{limit}: the part of the window before {earliest:%Y-%m-%d %H:%M} UTC is out of reach "
        "and was not asked for."
    )


def split_window(
    timeframe: Timeframe, start: datetime, end: datetime
) -> Iterator[tuple[datetime, datetime]]:
    """Yield the window in half-open pieces that Yahoo answers in one call each, oldest first."""
    longest = CAPABILITIES.max_window.get(timeframe, end - start)
    while start < end:
        stop = min(start + longest, end)
        yield start, stop
        start = stop


def _concerns_everybody(error: ProviderError) -> bool:
    """Say whether the next symbol would meet the same refusal: a limit, a key, no connection."""
    unreachable = isinstance(error, TransientError) and error.status is None
    return unreachable or isinstance(error, RateLimited | AuthError)


def _raise_if_nothing(outcomes: dict[str, _Outcome]) -> None:
    """Raise the first failure that is not about its symbol alone, if nobody had an answer."""
    if any(outcome.parts for outcome in outcomes.values()):
        return
    for outcome in outcomes.values():
        if outcome.failure is not None and not isinstance(outcome.failure, BadRequest):
            raise outcome.failure


def _fill(
    batch: BarBatch, request: BarRequest, outcomes: dict[str, _Outcome], limit_reason: str
) -> None:
    """Put what became of the symbols into the batch."""
    bars: list[pd.DataFrame] = []
    rejected: list[pd.DataFrame] = []
    for symbol, outcome in outcomes.items():
        bars += [part.bars for part in outcome.parts if not part.bars.empty]
        rejected += [part.rejected for part in outcome.parts if not part.rejected.empty]
        if outcome.failure is not None:
            batch.errors[symbol] = str(outcome.failure)
        reasons = [limit_reason] if limit_reason else []
        if outcome.failure is None and all(part.bars.empty for part in outcome.parts):
            reasons.append(_empty_reason(symbol, request, outcome.parts))
        if reasons:
            batch.empty_reasons[symbol] = " ".join(reasons)
    if bars:
        batch.bars = normalise_bars(pd.concat(bars, ignore_index=True))
    if rejected:
        batch.rejected = pd.concat(rejected, ignore_index=True)


def _empty_reason(symbol: str, request: BarRequest, parts: list[ParsedChart]) -> str:
    """Return the sentence for a symbol that Yahoo answered for without a usable bar."""
    span = f"from {request.start:%Y-%m-%d %H:%M} to {request.end:%Y-%m-%d %H:%M} UTC"
    received = sum(part.received for part in parts)
    if received == 0:
        return f"Yahoo has no {request.timeframe} bars of {symbol} {span}."
    refused = sum(len(part.rejected) for part in parts)
    return (
        f"Yahoo sent {received} {request.timeframe} rows of {symbol}, but none is a bar {span}: "
        f"{refused} were rejected and {received - refused} lie outside the window."
    )
