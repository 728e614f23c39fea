"""Which of several sidecars on one watchlist works: the one that holds the lease.

While Valkey cannot be asked by anybody, nobody can take the lease, and the holder works on: live
data does not stop for the cache. Once Valkey answers again, either the lease is renewed, or another
has been quicker, and this one stops at once.
"""

import asyncio
from collections.abc import Callable

from redis.exceptions import RedisError

from scizor_sidecar.lease import RENEW_SECONDS, Lease


class Leadership:
    """Holds a lease while it works.

    Args:
        lease: the lease.
        tell: takes a sentence when something about it changes.
    """

    def __init__(self, lease: Lease, tell: Callable[[str], None]) -> None:
        self._lease, self._tell = lease, tell
        self._told = ""

    async def acquire(self) -> None:
        """Stand by until this process holds the lease."""
        await self._lease.acquire(self._say)
        self._told = ""

    async def lost(self) -> str:
        """Renew the lease until another process holds it; returns why this one has to stop."""
        while True:
            if not await self.is_ours():
                return "another sidecar has taken over"
            await asyncio.sleep(RENEW_SECONDS)

    async def is_ours(self) -> bool:
        """Renew the lease; false where another process holds it."""
        try:
            is_ours = await self._lease.try_take()
        except (RedisError, OSError) as error:
            self._say(f"Valkey cannot be asked ({error}); the stream goes on without it")
            return True
        self._say("")
        return is_ours

    async def release(self) -> None:
        """Let the next one begin at once."""
        try:
            await self._lease.release()
        except (RedisError, OSError):
            # It runs out by itself.
            return

    def _say(self, sentence: str) -> None:
        if sentence != self._told:
            self._told = sentence
            if sentence:
                self._tell(sentence)
