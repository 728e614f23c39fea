"""What the hub is given by others: the past, and indicators."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from scizor_core.markets import Timeframe
from scizor_sidecar.face.topics import TopicName
from scizor_sidecar.face.wire import Item
from scizor_sidecar.feeds.base import Stream


class IndicatorRow(Protocol):
    """The indicators of a live bar."""

    @property
    def stream(self) -> Stream:
        """The instrument."""

    @property
    def timeframe(self) -> Timeframe:
        """Length of the bar."""

    @property
    def start(self) -> int:
        """Start of the bar, microseconds UTC."""

    @property
    def values(self) -> Mapping[str, float | None]:
        """Name -> value, None where it is not defined."""


class History(Protocol):
    """What was before the stream, out of the stores."""

    async def check(self, market: str, symbol: str) -> None:
        """Do nothing where the platform knows an instrument.

        Raises:
            UnknownSymbolError: it does not.
            WarehouseError: it cannot be found out now.
        """

    async def rows(self, name: TopicName, last: int) -> Sequence[tuple[int, Item]]:
        """Return bars or indicators with their start (microseconds UTC).

        Raises:
            ScizorError: they cannot be read.
        """
