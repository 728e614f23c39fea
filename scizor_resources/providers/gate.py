"""The gate that every call to a provider passes.

In this order: the circuit breaker, the spending cap, the rate budget; then the call; then another
try where that can help. Each try is counted. An adapter hands over a function that makes exactly
one call on the wire and raises one of the kinds of `ProviderError`.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt
from tenacity.wait import wait_exponential_jitter

from scizor_resources.errors import ProviderError, RateLimited, TransientError

Answer = TypeVar("Answer")

#: Who goes first when calls are scarce.
Lane = Literal["live", "repair", "backfill", "research"]
LANES: tuple[Lane, ...] = ("live", "repair", "backfill", "research")

_FIRST_WAIT_SECONDS = 1.0
_LONGEST_WAIT_SECONDS = 15.0
#: A provider that asks for a longer rest than this is left to the next one of the chain.
LONGEST_REST_SECONDS = 30.0


class Budget(Protocol):
    """A provider's share of calls, for all processes together."""

    def acquire(
        self, endpoint: str, *, weight: int = 1, keys: tuple[str, ...] = ()
    ) -> AbstractContextManager[object]:
        """Wait for room for one call, and hold a place among the concurrent ones while inside.

        Args:
            endpoint: what is called, for limits of its own.
            weight: what the call counts for.
            keys: what pacing rules look at, for example the identity of the request.

        Raises:
            RateLimited: there is no room within the time that waiting is worth.
        """

    def learn(self, headers: Mapping[str, str]) -> None:
        """Take what an answer's headers say about what is left."""

    def pause(self, seconds: float | None, why: str) -> None:
        """Stop all processes' calls to the provider; None where it did not say for how long."""


class Breaker(Protocol):
    """Keeps calls from a provider that fails again and again."""

    def check(self) -> None:
        """Raise TransientError while the breaker is open."""

    def succeeded(self) -> None:
        """Note an answer."""

    def failed(self, error: ProviderError) -> None:
        """Note a failure of the provider itself."""


class Ledger(Protocol):
    """Where calls are counted and paid for."""

    def check(self, endpoint: str) -> None:
        """Raise AuthError when the spending cap does not allow the call."""

    def count(self, endpoint: str, outcome: str, seconds: float, *, weight: int = 1) -> None:
        """Count a try; `outcome` is "ok" or the error's kind."""


class NoLimits:
    """Budget, breaker and ledger of a call that nothing holds back: for adapters on their own."""

    def acquire(
        self,
        endpoint: str,  # noqa: ARG002  # the protocol's
        *,
        weight: int = 1,  # noqa: ARG002
        keys: tuple[str, ...] = (),  # noqa: ARG002
    ) -> AbstractContextManager[object]:
        """Let the call through at once."""
        return nullcontext()

    def learn(self, headers: Mapping[str, str]) -> None:
        """Take no notice."""

    def pause(self, seconds: float | None, why: str) -> None:
        """Take no notice."""


class NoBreaker:
    """A breaker that never opens."""

    def check(self) -> None:
        """Let the call through."""

    def succeeded(self) -> None:
        """Take no notice."""

    def failed(self, error: ProviderError) -> None:
        """Take no notice."""


@dataclass
class Counts:
    """A ledger that only counts, for one use of an adapter.

    Attributes:
        requests: tries made.
        retries: those that were not the first of their call.
        seconds: time spent waiting for the provider.
        outcomes: how the tries ended.
    """

    requests: int = 0
    retries: int = 0
    seconds: float = 0.0
    outcomes: dict[str, int] = field(default_factory=dict)

    def check(self, endpoint: str) -> None:
        """Let the call through."""

    def count(self, endpoint: str, outcome: str, seconds: float, *, weight: int = 1) -> None:  # noqa: ARG002  # the protocol's
        """Count a try."""
        self.requests += 1
        self.seconds += seconds
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1


@dataclass
class Gate:
    """One provider's gate in this process.

    Attributes:
        provider: name of the provider.
        budget: the share of calls.
        breaker: keeps calls from a provider that is down.
        ledgers: where tries are counted; all of them.
        attempts: tries at a call that fails in a way worth another try.
        sleep: waits the given seconds between tries.
        counts: what this gate itself has counted.
    """

    provider: str
    budget: Budget = field(default_factory=NoLimits)
    breaker: Breaker = field(default_factory=NoBreaker)
    ledgers: tuple[Ledger, ...] = ()
    attempts: int = 3
    sleep: Callable[[float], None] = time.sleep
    counts: Counts = field(default_factory=Counts)

    def call(
        self,
        endpoint: str,
        make: Callable[[], Answer],
        *,
        weight: int = 1,
        keys: tuple[str, ...] = (),
    ) -> Answer:
        """Make a call on the wire when it may be made; try again where that can help.

        Args:
            endpoint: what is called, without query string and secrets.
            make: makes the call; raises one of the kinds of `ProviderError`.
            weight: what the call counts for in the provider's budget.
            keys: what pacing rules look at.

        Raises:
            ProviderError: the last try failed, the breaker is open, the spending cap is reached
                or there is no room in the budget.
        """
        # Once for a call: what the breaker holds back goes to the next provider at once.
        self.breaker.check()
        retrying = Retrying(
            retry=retry_if_exception(_worth_another_try),
            stop=stop_after_attempt(self.attempts),
            wait=_wait,
            sleep=self.sleep,
            reraise=True,
        )
        for attempt in retrying:
            with attempt:
                if attempt.retry_state.attempt_number > 1:
                    self.counts.retries += 1
                return self._try(endpoint, make, weight, keys)
        raise AssertionError("tenacity returns or raises")

    def learn(self, headers: Mapping[str, str]) -> None:
        """Pass on what an answer's headers say about the budget."""
        self.budget.learn(headers)

    def _try(
        self, endpoint: str, make: Callable[[], Answer], weight: int, keys: tuple[str, ...]
    ) -> Answer:
        for ledger in self.ledgers:
            ledger.check(endpoint)
        with self.budget.acquire(endpoint, weight=weight, keys=keys):
            started = time.perf_counter()
            outcome = "crash"
            try:
                answer = make()
                outcome = "ok"
            except ProviderError as error:
                outcome = type(error).__name__
                self._failed(error)
                raise
            finally:
                seconds = time.perf_counter() - started
                for ledger in (self.counts, *self.ledgers):
                    ledger.count(endpoint, outcome, seconds, weight=weight)
        self.breaker.succeeded()
        return answer

    def _failed(self, error: ProviderError) -> None:
        if isinstance(error, RateLimited):
            self.budget.pause(error.retry_after, str(error))
        elif isinstance(error, TransientError):
            self.breaker.failed(error)
        else:
            # The provider works: it has answered that this cannot be had, or not in this way.
            self.breaker.succeeded()


def _worth_another_try(error: BaseException) -> bool:
    if isinstance(error, RateLimited):
        return error.retry_after is not None and error.retry_after <= LONGEST_REST_SECONDS
    return isinstance(error, TransientError) and (error.retry_after or 0) <= LONGEST_REST_SECONDS


_backoff = wait_exponential_jitter(initial=_FIRST_WAIT_SECONDS, max=_LONGEST_WAIT_SECONDS)


def _wait(state: RetryCallState) -> float:
    """Wait as long as the provider asked, or longer with each try."""
    error = state.outcome.exception() if state.outcome is not None else None
    asked = error.retry_after if isinstance(error, ProviderError) else None
    return asked if asked is not None else float(_backoff(state))
