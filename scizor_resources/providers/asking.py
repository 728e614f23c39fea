"""Ask a provider symbol by symbol, window by window, and add the answers up.

What every provider that serves one symbol per call has in common: cutting a window to what the
provider reaches and to what one call may span, stopping for everybody when the failure concerns
everybody, keeping what came before a failure, and a sentence for each symbol without bars.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pandas as pd

from scizor_core.errors import InvalidInputError
from scizor_core.markets import TIMEFRAME_MINUTES, Timeframe, get_market
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
from scizor_resources.providers.gate import Gate
from scizor_resources.providers.rows import AskWindow, ParsedBars

#: Kept from the edge of what a provider reaches, so that the call does not cross it on its way.
REACH_MARGIN = timedelta(minutes=1)

#: Makes the calls for one symbol's window and reads the answer.
AskOne = Callable[[AskWindow], ParsedBars]


@dataclass
class _Outcome:
    """What became of one symbol: its parts, and what stopped it."""

    parts: list[ParsedBars] = field(default_factory=list)
    failure: ProviderError | None = None


def ask_each(
    request: BarRequest,
    ask: AskOne,
    *,
    gate: Gate,
    title: str,
    capabilities: Capabilities,
    now: datetime,
) -> BarBatch:
    """Fetch a window for each symbol of a request, in as many calls as the limits need.

    A window that reaches further back than the provider does is cut; each symbol then has a
    sentence about it in `empty_reasons`, also where bars of the reachable part were found. A
    symbol that fails alone stands in `errors`. Bars that came before a failure are kept.

    Args:
        request: what is wanted.
        ask: makes the calls for one symbol and window that the provider allows.
        gate: the provider's gate; its name is the one in chains and in the `source` column.
        title: the provider's name in sentences.
        capabilities: what the provider reaches.
        now: the present, UTC.

    Raises:
        BadRequest: the market or timeframe is not served.
        UnknownMarketError: there is no such market.
        RateLimited, AuthError, TransientError, SchemaDrift: no symbol had an answer.
    """
    provider = gate.provider
    require_served(request, provider, title, capabilities)
    start, limit_reason = reachable_start(request, title, capabilities, now=now)
    windows = list(split_window(request.timeframe, start, request.end, capabilities))
    batch = BarBatch(bars=empty_bars(), rejected=empty_rejected())
    if start >= now and not limit_reason:
        limit_reason = f"The window begins at {start:%Y-%m-%d %H:%M} UTC, which is not past."
        windows = []
    if not windows:
        reason = limit_reason or "The window is empty: it ends where it begins."
        batch.empty_reasons = {ref.symbol: reason for ref in request.symbols}
        return batch
    before = replace(gate.counts)
    outcomes: dict[str, _Outcome] = {}
    refusal: ProviderError | None = None
    for ref in request.symbols:
        if refusal is not None:
            outcomes[ref.symbol] = _Outcome(failure=refusal)
            continue
        outcome = _ask_symbol(request, ref.symbol, windows, ask, provider)
        outcomes[ref.symbol] = outcome
        if outcome.failure is not None and _concerns_everybody(outcome.failure):
            refusal = outcome.failure
    _raise_if_nothing(outcomes)
    batch.requests = gate.counts.requests - before.requests
    batch.retries = gate.counts.retries - before.retries
    batch.latency_seconds = gate.counts.seconds - before.seconds
    _fill(batch, request, outcomes, limit_reason, title)
    return batch


def require_served(
    request: BarRequest, provider: str, title: str, capabilities: Capabilities
) -> None:
    """Raise where a provider serves no such market or timeframe.

    Raises:
        BadRequest: the market or timeframe is not served.
        UnknownMarketError: there is no such market.
    """
    get_market(request.market)
    if request.market not in capabilities.markets:
        raise BadRequest(
            f"{title} does not serve market '{request.market}'. Take it out of that market's "
            "provider chain.",
            provider=provider,
        )
    if request.timeframe not in capabilities.timeframes:
        raise BadRequest(
            f"{title} does not serve {request.timeframe} bars.",
            provider=provider,
        )


def _ask_symbol(
    request: BarRequest,
    symbol: str,
    windows: list[tuple[datetime, datetime]],
    ask: AskOne,
    provider: str,
) -> _Outcome:
    """Ask for all windows of one symbol, up to the first that fails."""
    outcome = _Outcome()
    try:
        for start, end in windows:
            window = AskWindow(request.market, symbol, request.timeframe, start, end)
            outcome.parts.append(ask(window))
    except ProviderError as error:
        outcome.failure = error
    except InvalidInputError as error:
        outcome.failure = BadRequest(str(error), provider=provider)
    return outcome


def reachable_start(
    request: BarRequest, title: str, capabilities: Capabilities, *, now: datetime
) -> tuple[datetime, str]:
    """Return where a provider's bars of the window can begin, and a sentence if that is later.

    The sentence is empty where the whole window is within reach. A window out of reach as a whole
    gets its own end as start.
    """
    reach = capabilities.max_age.get(request.timeframe)
    if reach is None:
        return request.start, ""
    interval = timedelta(minutes=TIMEFRAME_MINUTES[request.timeframe])
    earliest = now - reach + REACH_MARGIN
    remainder = (earliest - datetime(1970, 1, 1, tzinfo=UTC)) % interval
    if remainder:
        earliest += interval - remainder
    if request.start >= earliest:
        return request.start, ""
    hours = reach.total_seconds() / 3600
    span = f"{reach.days} days" if hours >= 48 else f"{hours:g} hours"  # noqa: PLR2004
    limit = f"{title} keeps {request.timeframe} bars for {span}"
    if request.end <= earliest:
        return request.end, (
            f"{limit}: the whole window lies before {earliest:%Y-%m-%d %H:%M} UTC, so {title} was "
            "not asked."
        )
    return earliest, (
        f"{limit}: the part of the window before {earliest:%Y-%m-%d %H:%M} UTC is out of reach "
        "and was not asked for."
    )


def split_window(
    timeframe: Timeframe, start: datetime, end: datetime, capabilities: Capabilities
) -> Iterator[tuple[datetime, datetime]]:
    """Yield the window in half-open pieces that one call may span each, oldest first."""
    longest = capabilities.max_window.get(timeframe, end - start)
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
    batch: BarBatch,
    request: BarRequest,
    outcomes: dict[str, _Outcome],
    limit_reason: str,
    title: str,
) -> None:
    """Put what became of the symbols into the batch."""
    bars: list[pd.DataFrame] = []
    rejected: list[pd.DataFrame] = []
    for symbol, outcome in outcomes.items():
        bars += [part.bars for part in outcome.parts if not part.bars.empty]
        rejected += [part.rejected for part in outcome.parts if not part.rejected.empty]
        for part in outcome.parts:
            for reason, count in part.ignored.items():
                batch.ignored[reason] = batch.ignored.get(reason, 0) + count
        if outcome.failure is not None:
            batch.errors[symbol] = str(outcome.failure)
            batch.causes[symbol] = outcome.failure
        reasons = [limit_reason] if limit_reason else []
        if outcome.failure is None and all(part.bars.empty for part in outcome.parts):
            reasons.append(empty_reason(symbol, request, outcome.parts, title))
        if reasons:
            batch.empty_reasons[symbol] = " ".join(reasons)
    if bars:
        batch.bars = normalise_bars(pd.concat(bars, ignore_index=True))
    if rejected:
        batch.rejected = pd.concat(rejected, ignore_index=True)


def empty_reason(symbol: str, request: BarRequest, parts: list[ParsedBars], title: str) -> str:
    """Return the sentence for a symbol that a provider answered for without a usable bar."""
    span = f"from {request.start:%Y-%m-%d %H:%M} to {request.end:%Y-%m-%d %H:%M} UTC"
    received = sum(part.received for part in parts)
    if received == 0:
        return f"{title} has no {request.timeframe} bars of {symbol} {span}."
    refused = sum(len(part.rejected) for part in parts)
    return (
        f"{title} sent {received} {request.timeframe} rows of {symbol}, but none is a bar {span}: "
        f"{refused} were rejected and {received - refused} lie outside the window."
    )
