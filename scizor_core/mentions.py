"""Which instruments a text is about."""

from dataclasses import dataclass
from typing import Literal

How = Literal["provider", "qualified", "cashtag", "pair", "name", "ticker"]


@dataclass(frozen=True)
class Nameable:
    """An instrument as texts may call it."""

    instrument_id: int
    market: str
    symbol: str
    name: str = ""
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Hint:
    """A code that the source itself attached to the text."""

    code: str
    market: str | None = None


@dataclass(frozen=True)
class Mention:
    """An instrument that a text is about."""

    instrument_id: int
    how: How
    certainty: float
