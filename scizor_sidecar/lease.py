"""A lease in Valkey: of several sidecars on one watchlist one works, the others stand by.

The holder renews its lease several times before it would run out, and knows by its own clock until
when no other can have taken it. Whenever it is taken anew its number is higher by one.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, cast

import redis.asyncio
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as NoAnswer

_TAKE = """
local holder = redis.call('GET', KEYS[1])
if not holder then
    local token = redis.call('INCR', KEYS[2])
    redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
    redis.call('SET', KEYS[3], token)
    return token
end
if holder == ARGV[1] then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
    return tonumber(redis.call('GET', KEYS[3]))
end
return 0
"""
_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""

#: A holder that is killed is followed by another within this time and a renewal.
LEASE_SECONDS = 6.0
RENEW_SECONDS = 1.5
#: The holder counts on it until so long before it runs out.
_MARGIN_SECONDS = 1.0
#: Valkey that takes a connection and says nothing within this time cannot be asked.
_ASK_SECONDS = 1.0
_Answer = TypeVar("_Answer")


class Lease:
    """One name that only one process holds at a time.

    Args:
        client: Valkey.
        name: what is leased.
        owner: who asks; another one for each process.
        monotonic: clock in seconds.

    Attributes:
        token: how often it had been taken when this process took it, 0 before.
    """

    def __init__(
        self,
        client: redis.asyncio.Redis,
        name: str,
        owner: str,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client, self.name, self.owner = client, name, owner
        self._monotonic = monotonic
        self._keys = [f"scizor:lease:{name}{end}" for end in ("", ":count", ":token")]
        self._until = 0.0
        self.token = 0

    @property
    def is_held(self) -> bool:
        """Whether no other process can hold it now; false where that is not known."""
        return self._monotonic() < self._until

    async def try_take(self) -> bool:
        """Take or renew the lease; false where another process holds it.

        Raises:
            RedisError: Valkey cannot be asked; a lease that is held goes on until it runs out.
        """
        asked_at = self._monotonic()
        question = self._client.eval(
            _TAKE, len(self._keys), *self._keys, self.owner, str(int(LEASE_SECONDS * 1000))
        )
        token = int(await _in_time(cast("Awaitable[int]", question)))
        if not token:
            self._until = 0.0
            return False
        # Counted from before the question: Valkey's own count began later.
        self.token, self._until = token, asked_at + LEASE_SECONDS - _MARGIN_SECONDS
        return True

    async def acquire(self, on_waiting: Callable[[str], None] | None = None) -> None:
        """Wait until this process holds the lease."""
        while True:
            try:
                if await self.try_take():
                    return
                holder = await _in_time(self._client.get(self._keys[0]))
                why = f"another sidecar works: {_text(holder)}"
            except RedisError as error:
                why = f"Valkey cannot be asked: {error}"
            if on_waiting is not None:
                on_waiting(why)
            await asyncio.sleep(RENEW_SECONDS)

    async def release(self) -> None:
        """Let the next one begin at once.

        Raises:
            RedisError: Valkey cannot be asked; the lease runs out by itself.
        """
        self._until = 0.0
        question = self._client.eval(_RELEASE, 1, self._keys[0], self.owner)
        await _in_time(cast("Awaitable[int]", question))


async def _in_time(question: Awaitable[_Answer]) -> _Answer:
    """Return an answer; one that does not come is a RedisError like one that cannot come."""
    try:
        async with asyncio.timeout(_ASK_SECONDS):
            return await question
    except TimeoutError:
        raise NoAnswer("no answer") from None


def _text(value: bytes | str | None) -> str:
    return value.decode() if isinstance(value, bytes) else value or "it has just gone"
