"""Which of several sidecars on one watchlist works: the one that holds the lease.

While Valkey cannot be asked by anybody, nobody can take the lease, and the holder works on: live
data does not stop for the cache. Once Valkey answers again, either the lease is renewed, or another
has been quicker, and this one stops at once. A process that was frozen for longer than the lease
lasts asks before it writes again.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable

from redis.exceptions import RedisError

from scizor_sidecar.lease import RENEW_SECONDS, Lease

#: Where Valkey could not be asked, it is asked again before what is written after so long.
_UNASKED_SECONDS = 2 * RENEW_SECONDS


class Leadership:
    """Holds a lease while it works; the `Permit` of those who write.

    Args:
        lease: the lease.
        tell: takes a sentence when something about it changes.
        monotonic: clock in seconds, the lease's.
    """

    def __init__(
        self,
        lease: Lease,
        tell: Callable[[str], None],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lease, self._tell, self._monotonic = lease, tell, monotonic
        self._told = ""
        self._token = 0
        self._unasked_until = float("-inf")
        self._asking, self._gone = asyncio.Lock(), asyncio.Event()

    async def acquire(self) -> None:
        """Stand by until this process holds the lease."""
        await self._lease.acquire(self._say)
        self._told, self._token = "", self._lease.token
        self._gone.clear()

    async def lost(self) -> str:
        """Renew the lease until another process holds it; returns why this one has to stop."""
        while await self.is_ours():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RENEW_SECONDS):
                    await self._gone.wait()
        return "another sidecar has taken over"

    async def is_ours(self) -> bool:
        """Renew the lease; false where another process holds it, or has held it meanwhile."""
        if self._gone.is_set():
            return False
        try:
            is_ours = await self._lease.try_take()
        except (RedisError, OSError) as error:
            self._unasked_until = self._monotonic() + _UNASKED_SECONDS
            self._say(f"Valkey cannot be asked ({error}); the stream goes on without it")
            return True
        self._say("")
        # Taken anew by this process alone it is higher by one; lower where Valkey has forgotten.
        if not is_ours or self._lease.token > self._token + 1:
            self._unasked_until = float("-inf")
            self._gone.set()
            return False
        self._token = self._lease.token
        return True

    @property
    def is_sure(self) -> bool:
        """Whether no other process can have begun to write, as far as Valkey could be asked."""
        is_known = self._lease.is_held or self._monotonic() < self._unasked_until
        return is_known and not self._gone.is_set()

    async def sure(self) -> None:
        """Return as soon as that is so; where another process has taken over: never."""
        while not self.is_sure:
            async with self._asking:
                if not self.is_sure and not await self.is_ours():
                    # Whoever waits is ended by whom `lost` has told.
                    await asyncio.Event().wait()

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
