"""What is written to PostgreSQL as soon as it takes it, in the order in which it happened."""

import asyncio
from collections import deque
from collections.abc import Callable

from scizor_resources.errors import WarehouseError

#: PostgreSQL is tried again after so long.
_AGAIN_SECONDS = 2.0


class WriteLater:
    """Changes that wait their turn; whoever adds one does not wait."""

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], object]] = deque()
        self._more = asyncio.Event()

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
        change = self._waiting[0]
        try:
            await asyncio.to_thread(change)
        except WarehouseError:
            return False
        if self._waiting and self._waiting[0] is change:
            self._waiting.popleft()
        return True
