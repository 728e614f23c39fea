"""Whether this process may write now: another one may have taken over while it was frozen."""

from typing import Protocol


class Permit(Protocol):
    """What those ask who write to a store that another process may write to."""

    @property
    def is_sure(self) -> bool:
        """Whether no other process can have begun to write; may be asked in any thread."""

    async def sure(self) -> None:
        """Return as soon as that is so; where another process has taken over: never."""


class _Always:
    """For those who have no other beside them."""

    is_sure = True

    async def sure(self) -> None:
        """Return at once."""


ALWAYS: Permit = _Always()
