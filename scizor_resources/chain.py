"""Ask a market's providers in order until every symbol has an answer or a reason."""

from dataclasses import dataclass, field, replace

import pandas as pd

from scizor_resources.errors import BadRequest, ProviderError
from scizor_resources.providers.base import (
    BarBatch,
    BarRequest,
    BarSource,
    empty_bars,
    empty_rejected,
)


@dataclass
class ChainAnswer:
    """What a chain of providers answered together.

    Attributes:
        batch: bars, refused rows, coverage, calls and latency of all providers asked. Its
            `empty_reasons` hold each symbol that no provider has, with every provider's reason.
        failures: provider -> sentence, for each that failed as a whole.
        last_error: the last of those errors.
        asked: providers that were asked, in order.
    """

    batch: BarBatch
    failures: dict[str, str] = field(default_factory=dict)
    last_error: ProviderError | None = None
    asked: list[str] = field(default_factory=list)


def fetch_through(sources: list[BarSource], request: BarRequest) -> ChainAnswer:
    """Send `request` to the first source, what it leaves open to the next, and so on.

    A source that does not serve the market or timeframe is passed over. A provider that fails as a
    whole is noted and the next one is asked; nothing is taken for empty because of an error.
    """
    answer = ChainAnswer(BarBatch(bars=empty_bars(), rejected=empty_rejected()))
    reasons: dict[str, list[str]] = {ref.symbol: [] for ref in request.symbols}
    open_symbols = request.symbols
    frames: list[pd.DataFrame] = []
    rejected: list[pd.DataFrame] = []
    for source in sources:
        can = source.capabilities
        if request.market not in can.markets or request.timeframe not in can.timeframes:
            for ref in open_symbols:
                reasons[ref.symbol].append(
                    f"{source.name}: does not serve {request.market} {request.timeframe}"
                )
            continue
        if not open_symbols:
            break
        answer.asked.append(source.name)
        try:
            batch = source.fetch_bars(replace(request, symbols=open_symbols))
        except ProviderError as error:
            answer.failures[source.name] = str(error)
            answer.last_error = error
            for ref in open_symbols:
                reasons[ref.symbol].append(f"{source.name}: {error}")
            continue
        frames.append(batch.bars)
        rejected.append(batch.rejected)
        _add_up(answer.batch, batch)
        got = set(batch.bars["symbol"])
        for ref in open_symbols:
            why = batch.errors.get(ref.symbol) or batch.empty_reasons.get(ref.symbol)
            if ref.symbol not in got:
                reasons[ref.symbol].append(f"{source.name}: {why or 'has no bars'}")
        open_symbols = tuple(ref for ref in open_symbols if ref.symbol not in got)
    answer.batch.bars = pd.concat([empty_bars(), *(f for f in frames if not f.empty)])
    answer.batch.rejected = pd.concat([empty_rejected(), *(f for f in rejected if not f.empty)])
    answer.batch.empty_reasons = {
        ref.symbol: "; ".join(reasons[ref.symbol]) or "no provider is configured"
        for ref in open_symbols
    }
    return answer


def failed_entirely(answer: ChainAnswer) -> bool:
    """Say whether not one provider could be used: every one asked failed."""
    return bool(answer.asked) and len(answer.failures) == len(answer.asked)


def is_permanent(answer: ChainAnswer) -> bool:
    """Say whether asking again cannot help."""
    return isinstance(answer.last_error, BadRequest)


def _add_up(total: BarBatch, part: BarBatch) -> None:
    total.errors.update(part.errors)
    total.covered.extend(part.covered)
    total.requests += part.requests
    total.latency_seconds += part.latency_seconds
