"""What is written to PostgreSQL as soon as it takes it, in the order in which it happened."""

import asyncio
from collections import deque
from collections.abc import Callable

from scizor_resources.errors import WarehouseAway, WarehouseError
from scizor_sidecar.permit import ALWAYS, Permit

#: PostgreSQL is tried again after so long.
_AGAIN_SECONDS = 2.0
#: A change that PostgreSQL has refused so often although it was there is left out.
_MOST_REFUSALS = 30


def storable(text: str) -> str:
    """Return what others have said as PostgreSQL keeps it: without NUL."""
    return text.replace("\0", "")


class WriteLater:
    """Changes that wait their turn; whoever adds one does not wait.

    Args:
        permit: whether this process may write.

    Attributes:
        refused: changes that PostgreSQL has refused for good.
    """

    def __init__(self, permit: Permit = ALWAYS) -> None:
        self._permit = permit
        self._waiting: deque[Callable[[], object]] = deque()
        self._more = asyncio.Event()
        self._refusals = 0
        self.refused = 0

    def add(self, change: Callable[[], object]) -> None:
        """Take in a change; it is made in a thread and may fail with a `WarehouseError`."""
        self._waiting.append(change)
        self._more.set()

    async def run(self) -> None:
        """Make what waits, again and again, until cancelled."""
        while True:
            await self._more.wait()
            self._more.clear()
            while self._waiting:
                if not await self._make_one():
                    await asyncio.sleep(_AGAIN_SECONDS)

    async def flush(self) -> None:
        """Make what waits, once."""
        while self._waiting and await self._make_one():
            pass

    async def _make_one(self) -> bool:
        await self._permit.sure()
        change = self._waiting[0]
        try:
            await asyncio.to_thread(change)
        except WarehouseAway:
            return False
        except WarehouseError:
            self._refusals += 1
            if self._refusals < _MOST_REFUSALS:
                return False
            # It would hold up all that come after it.
            self.refused += 1
        self._refusals = 0
        if self._waiting and self._waiting[0] is change:
            self._waiting.popleft()
        return True
