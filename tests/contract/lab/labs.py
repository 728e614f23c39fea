"""What the contract suite needs of each provider's lab."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from scizor_core.markets import Timeframe
from scizor_resources.providers.base import BarSource
from scizor_resources.providers.gate import Gate


class Lab(Protocol):
    """A running lab: see `tests.contract.lab.server.HttpLab` for the meaning of each part."""

    data_faults: set[Any]

    def put(self, symbol: str, timeframe: str, rows: list[Any]) -> None: ...
    def inject(self, fault: Any, times: int | None = None) -> None: ...
    def stop(self) -> None: ...
    @property
    def data_requests(self) -> list[Any]: ...
    def __enter__(self) -> Any: ...
    def __exit__(self, *details: object) -> None: ...


@dataclass(frozen=True)
class Provider:
    """One adapter with its lab, as the contract suite is run against it.

    Attributes:
        name: for the test's id.
        lab: makes the lab (not started).
        source: makes the adapter that talks to a started lab; takes the lab, the gate, the clock
            and the longest wait for an answer in seconds.
        market: market asked for.
        symbols: two of the platform's symbols.
        wire_symbols: the same as `rows` of the lab are keyed.
        timeframe: timeframe of the intraday tests.
        page_rows: rows that one answer holds at most, None where there is no such limit.
        skips: fault -> why it cannot happen with this provider.
    """

    name: str
    lab: Callable[[], Any]
    source: Callable[[Any, Gate, Callable[[], datetime], float], BarSource]
    market: str
    symbols: tuple[str, str]
    wire_symbols: tuple[str, str]
    timeframe: Timeframe = "1m"
    page_rows: int | None = None
    skips: tuple[tuple[str, str], ...] = ()
