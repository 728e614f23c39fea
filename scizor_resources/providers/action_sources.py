"""Who knows of splits and dividends: the providers' own ways to ask, behind one protocol."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Protocol

from scizor_resources.providers.actions import CorporateAction
from scizor_resources.providers.alpaca.source import AlpacaSource
from scizor_resources.providers.base import BarSource
from scizor_resources.providers.finnhub.source import FinnhubSource
from scizor_resources.providers.gate import Gate
from scizor_resources.providers.yahoo.source import YahooSource


class ActionSource(Protocol):
    """A provider of corporate actions."""

    @property
    def name(self) -> str:
        """The provider's name."""

    @property
    def batch_size(self) -> int:
        """Symbols that one call can ask for."""

    def fetch_actions(
        self, market: str, symbols: Sequence[str], start: date, end: date
    ) -> list[CorporateAction]:
        """Fetch the actions with `start <= ex_date < end`.

        Raises:
            BadRequest: a symbol is not known to the provider.
            ProviderError: an answer could not be had.
        """


@dataclass(frozen=True)
class _YahooActions:
    source: YahooSource
    name: str = "yahoo"
    batch_size: int = 1

    @property
    def gate(self) -> Gate:
        return self.source.gate

    def fetch_actions(
        self, market: str, symbols: Sequence[str], start: date, end: date
    ) -> list[CorporateAction]:
        return self.source.fetch_corporate_actions(market, symbols, start, end)


@dataclass(frozen=True)
class _AlpacaActions:
    source: AlpacaSource
    name: str = "alpaca"
    batch_size: int = 100

    @property
    def gate(self) -> Gate:
        return self.source.gate

    def fetch_actions(
        self,
        market: str,  # noqa: ARG002  # the protocol's; Alpaca has one market
        symbols: Sequence[str],
        start: date,
        end: date,
    ) -> list[CorporateAction]:
        return self.source.fetch_corporate_actions(symbols, start, end)


@dataclass(frozen=True)
class _FinnhubActions:
    source: FinnhubSource
    name: str = "finnhub"
    batch_size: int = 1

    @property
    def gate(self) -> Gate:
        return self.source.gate

    def fetch_actions(
        self,
        market: str,  # noqa: ARG002  # the protocol's; Finnhub has one market
        symbols: Sequence[str],
        start: date,
        end: date,
    ) -> list[CorporateAction]:
        return [
            action for symbol in symbols for action in self.source.fetch_splits(symbol, start, end)
        ]


def action_sources(sources: Sequence[BarSource]) -> list[ActionSource]:
    """Return those of a market's providers that know of corporate actions."""
    found: list[ActionSource] = []
    for source in sources:
        if isinstance(source, YahooSource):
            found.append(_YahooActions(source))
        elif isinstance(source, AlpacaSource):
            found.append(_AlpacaActions(source))
        elif isinstance(source, FinnhubSource):
            found.append(_FinnhubActions(source))
    return found
