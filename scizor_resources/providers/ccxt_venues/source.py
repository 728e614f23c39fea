"""`CcxtSource`: crypto bars from exchanges through ccxt, without a key.

What differs between the exchanges is data and a module each (`venues`); here is what they have in
common: the list of markets, the asking, and what is said about windows without bars.
"""

from collections.abc import Callable
from datetime import UTC, datetime

from scizor_resources.providers.asking import ask_each, empty_reason
from scizor_resources.providers.base import BarBatch, BarRequest, Capabilities
from scizor_resources.providers.ccxt_venues.answers import NO_TRADES, VenueAnswer, added_up
from scizor_resources.providers.ccxt_venues.exchange import Exchange
from scizor_resources.providers.ccxt_venues.markets import (
    Markets,
    find_market,
    keep_markets,
    parse_markets,
    recall_markets,
)
from scizor_resources.providers.ccxt_venues.venues import MARKET, get_venue
from scizor_resources.providers.coinbase.markets import VenueMarket
from scizor_resources.providers.gate import Gate
from scizor_resources.providers.rows import AskWindow, ParsedBars

#: Calls for trades that one window of one symbol is worth: at Kraken's one call a second, two
#: minutes and 120,000 trades.
TRADE_PAGES = 120


def utc_now() -> datetime:
    """Return the present, UTC."""
    return datetime.now(tz=UTC)


class CcxtSource:
    """A `BarSource` that asks one exchange; not for use by several threads at once.

    Args:
        exchange: "kraken", "binance" or "ccxt_coinbase".
        gate: what every HTTP request passes.
        base_url: scheme and host that stand in for all of the exchange's; None is the real ones.
        timeout_seconds: longest wait for one answer.
        now: clock, UTC; decides what the candles reach, which bars are final, and when the list
            of markets is asked for again.
        trade_pages: calls for trades that one window of a symbol is worth where candles do not
            reach far enough (Kraken); 0 leaves such windows to others, which `capabilities` then
            says.

    Raises:
        ConfigError: there is no such exchange.
    """

    def __init__(
        self,
        exchange: str,
        gate: Gate,
        *,
        base_url: str | None = None,
        timeout_seconds: float = 20.0,
        now: Callable[[], datetime] = utc_now,
        trade_pages: int = TRADE_PAGES,
    ) -> None:
        self._venue = get_venue(exchange)
        self.gate = gate
        self._address = base_url or ""
        self._now = now
        self._trade_pages = trade_pages
        self._exchange = Exchange(
            self._venue.dialect,
            provider=self._venue.name,
            title=self._venue.title,
            gate=gate,
            base_url=base_url,
            timeout_seconds=timeout_seconds,
        )

    @property
    def name(self) -> str:
        """The name of this source in chains and in the `source` column."""
        return self._venue.name

    @property
    def capabilities(self) -> Capabilities:
        """What the exchange serves."""
        return self._venue.capabilities(from_trades=self._trade_pages > 0)

    def close(self) -> None:
        """Close the connections; the next call opens them anew."""
        self._exchange.close()

    def fetch_markets(self) -> list[VenueMarket]:
        """Return the exchange's spot markets with the steps of their prices and amounts, by symbol.

        They are asked for once per process and again after some hours.

        Raises:
            ProviderError: the exchange did not answer with its markets.
        """
        return list(self._markets().values())

    def fetch_bars(self, request: BarRequest) -> BarBatch:
        """Fetch the bars of a window; see `scizor_resources.providers.asking.ask_each`.

        Rows that the exchange fills in where nothing traded are no bars; they are counted in
        `ignored`, and `covered` holds the windows about which everything is known. What was not
        asked for, because it would take too many calls, has a sentence in `empty_reasons`, also
        where the rest of the window has bars.

        Raises:
            ProviderError: the market is not served, or no symbol had an answer.
        """
        told: dict[str, list[VenueAnswer]] = {}

        def ask(window: AskWindow) -> ParsedBars:
            answer = self._ask(window)
            told.setdefault(window.symbol, []).append(answer)
            return answer.parsed

        batch = ask_each(
            request,
            ask,
            gate=self.gate,
            title=self._venue.title,
            capabilities=self.capabilities,
            now=self._now(),
        )
        for symbol, answers in told.items():
            self._tell(batch, request, symbol, answers)
        return batch

    def _ask(self, window: AskWindow) -> VenueAnswer:
        if window.start >= self._now():
            return VenueAnswer()
        market = find_market(
            self._markets(),
            window.market,
            window.symbol,
            provider=self._venue.name,
            title=self._venue.title,
        )
        return self._venue.ask(
            self._exchange,
            market.venue_symbol,
            window,
            title=self._venue.title,
            source=self._venue.name,
            now=self._now(),
            trade_pages=self._trade_pages,
        )

    def _markets(self) -> Markets:
        known = recall_markets(self._venue.name, self._address, now=self._now())
        if known is None:
            known = parse_markets(self._exchange.call(self._venue.list_markets), MARKET)
            if not known:
                raise self._exchange.drift("its list of markets", "it has no spot market")
            keep_markets(self._venue.name, self._address, known, now=self._now())
        return known

    def _tell(
        self, batch: BarBatch, request: BarRequest, symbol: str, answers: list[VenueAnswer]
    ) -> None:
        """Add to a batch what is known about one symbol's windows besides their bars."""
        total = added_up(answers)
        batch.covered.extend((symbol, start, end) for start, end in total.covered)
        filled = total.parsed.ignored.get(NO_TRADES, 0)
        note = total.note
        if not note and filled and total.parsed.bars.empty and total.parsed.rejected.empty:
            note = (
                f"{self._venue.title} sent {filled} {request.timeframe} rows of {symbol}, all of "
                "them filled in: nothing traded."
            )
        if note:
            plain = empty_reason(
                symbol, request, [each.parsed for each in answers], self._venue.title
            )
            before = batch.empty_reasons.get(symbol, "").replace(plain, "").strip()
            batch.empty_reasons[symbol] = f"{before} {note}".strip()
