"""The way to Valkey that budget, breaker and ledger of a process share.

When Valkey does not answer, the way stays closed for some seconds, so that not every call to a
provider waits for a connection first; what it means is said once per outage, and once when it is
over.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.commands.core import Script
from redis.retry import Retry

Answer = TypeVar("Answer")

_CONNECT_TIMEOUT_SECONDS = 1.0
_ANSWER_TIMEOUT_SECONDS = 2.0

_log = logging.getLogger(__name__)


class ValkeyAway(Exception):
    """Valkey cannot be used now; the text says why, without address and password."""


class ValkeyLink:
    """A client of Valkey for all threads of a process.

    Args:
        url: `redis://`, `rediss://` or `unix://` URL.
        tell: takes a sentence when Valkey goes away and when it is back; by default a log line.
        clock: seconds that only go forward.
        again_after_seconds: rest after a failure before Valkey is tried again.
    """

    def __init__(
        self,
        url: str,
        *,
        tell: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        again_after_seconds: float = 5.0,
    ) -> None:
        self._client: redis.Redis = redis.Redis.from_url(
            url,
            decode_responses=True,
            socket_connect_timeout=_CONNECT_TIMEOUT_SECONDS,
            socket_timeout=_ANSWER_TIMEOUT_SECONDS,
            # Once more at once: a connection that idled through a restart of Valkey is dead.
            retry=Retry(NoBackoff(), 1),
        )
        self._scripts: dict[str, Script] = {}
        self._tell = tell or _log.warning
        self._clock = clock
        self._again_after = again_after_seconds
        self._lock = threading.Lock()
        self._why: str | None = None
        self._again_at = 0.0

    @property
    def away(self) -> str | None:
        """Why Valkey cannot be used, None while it answers."""
        return self._why

    def call(self, work: Callable[[redis.Redis], Answer]) -> Answer:
        """Return what `work` does with the client.

        Raises:
            ValkeyAway: Valkey does not answer, refuses, or did so a moment ago.
        """
        with self._lock:
            if self._why is not None and self._clock() < self._again_at:
                raise ValkeyAway(self._why)
        try:
            answer = work(self._client)
        except (redis.RedisError, OSError) as error:
            why = self._lost(error)
            raise ValkeyAway(why) from None
        self._found()
        return answer

    def run(self, script: str, keys: list[str], argument: str) -> Any:
        """Return what a Lua script answers; Valkey learns its text when it does not know it.

        Raises:
            ValkeyAway: as `call`.
        """
        known = self._scripts.get(script)
        if known is None:
            known = self._scripts[script] = self._client.register_script(script)
        return self.call(lambda client: known(keys=keys, args=[argument], client=client))

    def close(self) -> None:
        """Close the connections; the next call opens them anew."""
        self._client.close()

    def _lost(self, error: Exception) -> str:
        why = f"Valkey cannot be used ({type(error).__name__})"
        with self._lock:
            is_news = self._why is None
            self._why = why
            self._again_at = self._clock() + self._again_after
        if is_news:
            self._tell(
                f"{why}: until it answers again, each process keeps to its own small share of the "
                "providers' limits. Check that the servers run: scizor status."
            )
        return why

    def _found(self) -> None:
        with self._lock:
            is_news = self._why is not None
            self._why = None
        if is_news:
            self._tell("Valkey answers again: all processes share the providers' limits.")
