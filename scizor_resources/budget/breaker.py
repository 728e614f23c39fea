"""A circuit breaker that all processes share.

Five failures in a row open it for 30 seconds. After that one call, by one process, tries whether
the provider is back: an answer closes the breaker, a failure opens it for twice as long, up to 10
minutes. What happens at each event are the functions `admit`, `after_success`, `after_failure`,
over a state that is kept in Valkey, or in this process while Valkey is away.
"""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from scizor_resources.budget.link import ValkeyAway, ValkeyLink
from scizor_resources.budget.sentences import clock_time, duration
from scizor_resources.errors import ProviderError, TransientError

FAILURES_TO_OPEN = 5
FIRST_REST_SECONDS = 30.0
LONGEST_REST_SECONDS = 600.0
#: A process that was killed while it tried must not keep the breaker open for ever.
PROBE_SECONDS = 60.0
_REMEMBERED_SECONDS = 30 * 86_400
_LONGEST_ERROR = 500


@dataclass(frozen=True)
class BreakerState:
    """What is known of a provider's health; times are seconds since 1970.

    Attributes:
        failures: in a row.
        open_until: when the next try may be made, None while the breaker is closed.
        rest_seconds: for how long it was opened.
        probe_until: until when a try is taken to be under way.
        last_call_at: when the last call ended.
        last_error: the last failure's sentence, "" for none.
        last_error_at: when it was.
    """

    failures: int = 0
    open_until: float | None = None
    rest_seconds: float = 0.0
    probe_until: float = 0.0
    last_call_at: float | None = None
    last_error: str = ""
    last_error_at: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether calls are held back (a try by one process apart)."""
        return self.open_until is not None


@dataclass(frozen=True)
class Health:
    """A provider's health for people; times are UTC."""

    is_open: bool
    failures: int
    next_try_at: datetime | None
    last_call_at: datetime | None
    last_error: str
    last_error_at: datetime | None


def admit(state: BreakerState, now: float) -> tuple[BreakerState, float]:
    """Return the state after a caller asked, and the seconds it has to wait (0: it may call)."""
    if state.open_until is None:
        return state, 0.0
    if now < state.open_until:
        return state, state.open_until - now
    if now < state.probe_until:
        return state, state.probe_until - now
    return replace(state, probe_until=now + PROBE_SECONDS), 0.0


def after_success(state: BreakerState, now: float) -> BreakerState:
    """Return the state after an answer: closed."""
    return BreakerState(
        last_call_at=now, last_error=state.last_error, last_error_at=state.last_error_at
    )


def after_failure(state: BreakerState, now: float, sentence: str) -> BreakerState:
    """Return the state after a failure."""
    failed = replace(
        state,
        failures=state.failures + 1,
        last_call_at=now,
        last_error=sentence[:_LONGEST_ERROR],
        last_error_at=now,
    )
    if state.open_until is None:
        if failed.failures < FAILURES_TO_OPEN:
            return failed
        return _opened(failed, now, FIRST_REST_SECONDS)
    if now < state.open_until:
        # It was under way when the breaker opened.
        return failed
    return _opened(failed, now, min(2 * state.rest_seconds, LONGEST_REST_SECONDS))


def _opened(state: BreakerState, now: float, rest: float) -> BreakerState:
    return replace(state, open_until=now + rest, rest_seconds=rest, probe_until=0.0)


class ValkeyBreaker:
    """Keeps all processes' calls from a provider that fails again and again; a `Breaker`.

    Args:
        link: the way to Valkey.
        provider: name in chains.
        title: the provider's name in sentences.
        clock: seconds since 1970.
        prefix: of the key in Valkey.
    """

    def __init__(
        self,
        link: ValkeyLink,
        provider: str,
        title: str,
        *,
        clock: Callable[[], float] = time.time,
        prefix: str = "scizor:breaker",
    ) -> None:
        self._link = link
        self._provider = provider
        self._title = title
        self._clock = clock
        self._key = f"{prefix}:{provider}"
        self._lock = threading.Lock()
        self._own = BreakerState()

    def check(self) -> None:
        """Let the call through, or not.

        Raises:
            TransientError: the breaker is open, or another process tries just now.
        """
        now = self._clock()
        if not self._read().is_open:
            return
        waits: list[float] = []

        def ask(state: BreakerState) -> BreakerState:
            state, wait = admit(state, now)
            waits.append(wait)
            return state

        state = self._change(ask)
        if waits[-1] > 0:
            found = state.last_error.rstrip(".") or "no reason is known"
            raise TransientError(
                f"{self._title} is left alone until {clock_time(now + waits[-1])} "
                f"({duration(waits[-1])}) after {state.failures} failures in a row; the last: "
                f"{found}. The next call then tries again by itself.",
                provider=self._provider,
                retry_after=waits[-1],
            )

    def succeeded(self) -> None:
        """Note an answer: closes the breaker."""
        now = self._clock()
        self._change(lambda state: after_success(state, now))

    def failed(self, error: ProviderError) -> None:
        """Note a failure of the provider itself."""
        now, sentence = self._clock(), str(error)
        self._change(lambda state: after_failure(state, now, sentence))

    def health(self) -> Health:
        """Return what is known of the provider's health, for people."""
        state = self._read()
        return Health(
            is_open=state.is_open,
            failures=state.failures,
            next_try_at=_moment(state.open_until),
            last_call_at=_moment(state.last_call_at),
            last_error=state.last_error,
            last_error_at=_moment(state.last_error_at),
        )

    def _read(self) -> BreakerState:
        try:
            return _decoded(self._link.call(lambda client: client.get(self._key)))
        except ValkeyAway:
            with self._lock:
                return self._own

    def _change(self, step: Callable[[BreakerState], BreakerState]) -> BreakerState:
        """Replace the state by what `step` makes of it, and return that.

        `step` is called again when another process was faster.
        """
        made = BreakerState()

        def transaction(pipe: Any) -> None:
            nonlocal made
            made = step(_decoded(pipe.get(self._key)))
            pipe.multi()
            pipe.set(self._key, json.dumps(asdict(made)), ex=_REMEMBERED_SECONDS)

        try:
            self._link.call(lambda client: client.transaction(transaction, self._key))
        except ValkeyAway:
            with self._lock:
                self._own = step(self._own)
                return self._own
        # Where to go on from when Valkey goes away.
        with self._lock:
            self._own = made
        return made


def _decoded(text: Any) -> BreakerState:
    """Return a stored state; a fresh one where there is none or another version wrote it."""
    try:
        return BreakerState(**json.loads(text)) if text else BreakerState()
    except (TypeError, ValueError):
        return BreakerState()


def _moment(at: float | None) -> datetime | None:
    return None if at is None else datetime.fromtimestamp(at, UTC)
