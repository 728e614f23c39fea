"""The seam behind which every history of trades stands: what heals a live feed's holes.

All times are microseconds since 1970 UTC.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

#: Trades that one call brings at most, so that a long hole is healed piece by piece.
TRADES_AT_ONCE = 20_000


class Listed(Protocol):
    """An instrument as it is asked for."""

    @property
    def market(self) -> str:
        """Name of the market."""

    @property
    def symbol(self) -> str:
        """Code in that market."""


@dataclass(frozen=True)
class TradeColumns:
    """Trades of one instrument, oldest first, as equally long columns.

    A value that could not be read is NaN (price, size) or the smallest int64 (ts): the row is
    kept, to be refused by a rule's name.

    Attributes:
        covered_until: the trades before this instant are all here; what is asked for next begins
            there. The end of what was asked for where nothing is missing.
        ts: the exchange's times.
        price: prices.
        size: sizes.
        trade_id: identities as the live feed tells them, None where it tells none.
        condition: values of `scizor_core.stream.trades.Condition`, empty where there are none.
    """

    covered_until: int
    ts: list[int] = field(default_factory=list)
    price: list[float] = field(default_factory=list)
    size: list[float] = field(default_factory=list)
    trade_id: list[str | int | None] = field(default_factory=list)
    condition: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ts)


class TradeSource(Protocol):
    """A provider's history of trades; may be used by one thread at a time."""

    @property
    def name(self) -> str:
        """The provider's name."""

    @property
    def same_as_live(self) -> bool:
        """Whether its trades are told as the live feed tells them.

        Where they are, one that came live is known again by its id, or by time, price and size.
        Where they are not, whole minutes have to be put in the place of the live ones.
        """

    def fetch_trades(self, stream: Listed, start_us: int, end_us: int) -> TradeColumns:
        """Fetch the trades of `[start_us, end_us)`, or of its first part.

        Raises:
            ProviderError: nothing could be had; says whether trying again helps.
        """


@dataclass(frozen=True)
class Trade:
    """One trade on its way into columns."""

    ts: int
    price: float
    size: float
    trade_id: str | int | None = None
    condition: int = 0


def columns_of(
    trades: Sequence[Trade], start_us: int, end_us: int, covered_until: int
) -> TradeColumns:
    """Return the trades of `[start_us, end_us)` before `covered_until`, by time, as columns."""
    until = min(end_us, covered_until)
    kept = sorted((each for each in trades if start_us <= each.ts < until), key=_time_of)
    return TradeColumns(
        until,
        [each.ts for each in kept],
        [each.price for each in kept],
        [each.size for each in kept],
        [each.trade_id for each in kept],
        [each.condition for each in kept] if any(each.condition for each in kept) else [],
    )


def _time_of(trade: Trade) -> int:
    return trade.ts
