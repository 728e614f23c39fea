"""What all processes have called: counted in Valkey, read as Prometheus metrics."""

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from scizor_resources.budget.breaker import ValkeyBreaker
from scizor_resources.budget.link import ValkeyAway, ValkeyLink
from scizor_resources.budget.spending import SpendingGuard
from scizor_resources.budget.valkey import ValkeyBudget

_CALLS_KEY = "scizor:usage:calls"
_SECONDS_KEY = "scizor:usage:milliseconds"
_SEPARATOR = "\x1f"


@dataclass(frozen=True)
class Used:
    """Calls of one kind.

    Attributes:
        provider: name.
        endpoint: what was called.
        outcome: "ok" or the error's kind.
        calls: how many.
        seconds: how long they took together.
    """

    provider: str
    endpoint: str
    outcome: str
    calls: int
    seconds: float


class ValkeyLedger:
    """Counts a provider's calls for all processes, and asks the spending guard; a `Ledger`.

    What cannot be written while Valkey is away is kept and written with the next call.

    Args:
        link: the way to Valkey.
        provider: name.
        guard: of the month's spending, None where nothing costs anything.
    """

    def __init__(self, link: ValkeyLink, provider: str, guard: SpendingGuard | None = None) -> None:
        self._link = link
        self._provider = provider
        self._guard = guard
        self._lock = threading.Lock()
        self._pending: dict[str, tuple[int, int]] = {}
        self._paid = threading.local()

    def check(self, endpoint: str) -> None:
        """Pay for the call that is about to be made.

        A call that was paid for and then not made (there was no room for it) is made good by the
        next one of the same thread.

        Raises:
            AuthError: the month's spending would go beyond a cap.
        """
        if self._guard is None or getattr(self._paid, "ahead", False):
            return
        self._guard.charge(self._provider, endpoint)
        self._paid.ahead = True

    def count(self, endpoint: str, outcome: str, seconds: float, *, weight: int = 1) -> None:
        """Count a try; `outcome` is "ok" or the error's kind."""
        del weight  # what a call counts for in a rate limit is not what it costs
        self._paid.ahead = False
        name = _SEPARATOR.join((self._provider, endpoint, outcome))
        with self._lock:
            calls, milliseconds = self._pending.get(name, (0, 0))
            self._pending[name] = (calls + 1, milliseconds + round(seconds * 1000))
            pending, self._pending = self._pending, {}
        try:
            self._link.call(lambda client: _write(client, pending))
        except ValkeyAway:
            with self._lock:
                for each, (calls, milliseconds) in pending.items():
                    more, longer = self._pending.get(each, (0, 0))
                    self._pending[each] = (calls + more, milliseconds + longer)


def _write(client: Any, pending: dict[str, tuple[int, int]]) -> None:
    with client.pipeline(transaction=True) as pipe:
        for name, (calls, milliseconds) in pending.items():
            pipe.hincrby(_CALLS_KEY, name, calls)
            pipe.hincrby(_SECONDS_KEY, name, milliseconds)
        pipe.execute()


def read_usage(link: ValkeyLink) -> list[Used]:
    """Return what all processes have called, by provider, endpoint and outcome.

    Raises:
        ValkeyAway: Valkey does not answer.
    """
    calls = _read(link, _CALLS_KEY)
    milliseconds = _read(link, _SECONDS_KEY)
    found = []
    for name, count in sorted(calls.items()):
        provider, endpoint, outcome = name.split(_SEPARATOR)
        found.append(Used(provider, endpoint, outcome, count, milliseconds.get(name, 0) / 1000))
    return found


def _read(link: ValkeyLink, key: str) -> dict[str, int]:
    stored = link.call(lambda client: client.hgetall(key))
    return {str(name): int(value) for name, value in stored.items()}


class UsageCollector(Collector):
    """The calls, budgets, breakers and spending as Prometheus metrics, read when they are asked.

    Args:
        link: the way to Valkey.
        budgets: gives the budgets to show, one per provider.
        breakers: gives (provider, breaker).
        guard: of the month's spending, None to leave it out.
    """

    def __init__(
        self,
        link: ValkeyLink,
        budgets: Callable[[], Iterable[ValkeyBudget]] = tuple,
        breakers: Callable[[], Iterable[tuple[str, ValkeyBreaker]]] = tuple,
        guard: SpendingGuard | None = None,
    ) -> None:
        self._link = link
        self._budgets = budgets
        self._breakers = breakers
        self._guard = guard

    def describe(self) -> Iterable[Metric]:
        """Name no metrics beforehand: registering must not need Valkey."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Read everything; where Valkey is away, calls are left out and the gauge says so."""
        yield from self._calls()
        yield from self._budget_metrics()
        opened = GaugeMetricFamily(
            "scizor_provider_breaker_open", "1 while the breaker holds calls.", labels=["provider"]
        )
        for provider, breaker in self._breakers():
            opened.add_metric([provider], float(breaker.health().is_open))
        yield opened
        if self._guard is not None:
            spent = GaugeMetricFamily(
                "scizor_provider_spent_usd", "Spent this month (UTC).", labels=["provider"]
            )
            for provider, amount in self._guard.spent().items():
                spent.add_metric([provider], amount)
            yield spent
        yield GaugeMetricFamily(
            "scizor_budget_shared", "1 while Valkey answers.", float(self._link.away is None)
        )

    def _calls(self) -> Iterator[Metric]:
        labels = ["provider", "endpoint", "outcome"]
        calls = CounterMetricFamily("scizor_provider_calls", "Calls to providers.", labels=labels)
        seconds = CounterMetricFamily(
            "scizor_provider_call_seconds", "Time spent waiting for providers.", labels=labels
        )
        try:
            used = read_usage(self._link)
        except ValkeyAway:
            return
        for each in used:
            values = [each.provider, each.endpoint, each.outcome]
            calls.add_metric(values, each.calls)
            seconds.add_metric(values, each.seconds)
        yield calls
        yield seconds

    def _budget_metrics(self) -> Iterator[Metric]:
        labels = ["provider", "group", "window"]
        used = GaugeMetricFamily(
            "scizor_provider_budget_used", "Calls in the window now.", labels=labels
        )
        remaining = GaugeMetricFamily(
            "scizor_provider_budget_remaining", "Calls left in the window.", labels=labels
        )
        for budget in self._budgets():
            for window in budget.state().windows:
                values = [budget.limits.provider, window.group, f"{window.seconds:g}s"]
                used.add_metric(values, window.used)
                remaining.add_metric(values, window.remaining)
        yield used
        yield remaining
