"""Blocking work of the face, in threads of its own: a slow database holds up nobody else."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from scizor_resources.errors import WarehouseAway

_T = TypeVar("_T")
_WORKERS = 8
TIMEOUT_SECONDS = 20.0


class Threads:
    """Does blocking work beside the event loop.

    Args:
        workers: so much at a time; what is more waits.
        timeout_seconds: nobody waits longer for an answer.
    """

    def __init__(self, workers: int = _WORKERS, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="face")
        self._timeout_seconds = timeout_seconds

    async def ask(self, work: Callable[[], _T]) -> _T:
        """Return what some work comes to.

        Raises:
            WarehouseAway: it takes too long.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await loop.run_in_executor(self._pool, work)
        except TimeoutError:
            raise WarehouseAway(
                f"No answer came within {self._timeout_seconds:g} s: the database is busy or away."
            ) from None

    def close(self) -> None:
        """Take no more work."""
        self._pool.shutdown(wait=False, cancel_futures=True)
