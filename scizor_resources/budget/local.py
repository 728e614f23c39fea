"""The share of a provider's limits that one process keeps to while it cannot see the others."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pyrate_limiter import GCRA, Rate

from scizor_resources.budget.limits import MAX_WAIT_SECONDS, ProviderLimits, Window
from scizor_resources.budget.sentences import (
    PauseLengths,
    no_room,
    paused,
    seconds_of_pause,
)
from scizor_resources.budget.state import BudgetState, WindowState
from scizor_resources.errors import RateLimited
from scizor_resources.providers.gate import LANES, Lane

_POLL_SECONDS = 0.1
_LONGEST_SLEEP_SECONDS = 1.0


@dataclass(frozen=True)
class _Refusal:
    seconds: float
    found: str


class LocalBudget:
    """A budget of one process: an even trickle of limit / `share_when_alone`; a `Budget`.

    Calls are spread evenly, without bursts: nobody knows what the other processes do.

    Args:
        limits: the provider's.
        lane: whose calls these are; they wait for room as long as the lane's are worth.
        clock: seconds since 1970.
        sleep: waits the given seconds.
        max_wait_seconds: longest wait for room, by default the lane's.
    """

    def __init__(
        self,
        limits: ProviderLimits,
        lane: Lane = "backfill",
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        max_wait_seconds: float | None = None,
    ) -> None:
        self._limits = limits
        self._lane: Lane = lane
        self._clock = clock
        self._sleep = sleep
        self._max_wait = MAX_WAIT_SECONDS[lane] if max_wait_seconds is None else max_wait_seconds
        self._lock = threading.Lock()
        self._gcra = GCRA()
        self._due: dict[tuple[str, Window], tuple[float, ...]] = {}
        self._running: dict[str, int] = {}
        self._unsettled: dict[str, int] = {}
        self._paused_until = 0.0
        self._paused_why = ""
        self._strikes = 0
        self._waiting = 0

    @contextmanager
    def acquire(
        self, endpoint: str, *, weight: int = 1, keys: tuple[str, ...] = ()
    ) -> Iterator[object]:
        """Wait for room for one call, and hold a place among those under way while inside.

        Raises:
            RateLimited: there is no room within the time that waiting is worth.
        """
        self.take(endpoint, weight, keys, self._max_wait)
        came_through = False
        try:
            yield self
            came_through = True
        finally:
            self.give_back(endpoint, came_through=came_through)

    def learn(self, headers: object) -> None:
        """Take no notice: the share is far below what is left."""

    def pause(self, seconds: float | None, why: str) -> None:
        """Stop this process's calls to the provider."""
        with self._lock:
            now = self._clock()
            running = self._paused_until > now
            length = seconds_of_pause(seconds)
            if length is None:
                if running:
                    return
                length = PauseLengths.after(self._strikes)
            self._strikes += 0 if running else 1
            if now + length > self._paused_until:
                self._paused_until, self._paused_why = now + length, why

    def take(self, endpoint: str, weight: int, keys: tuple[str, ...], max_wait: float) -> None:
        """Wait for room for one call; `give_back` has to follow.

        Raises:
            RateLimited: there is no room within `max_wait` seconds.
        """
        deadline = self._clock() + max_wait
        self._waiting += 1
        try:
            while (refusal := self._try(endpoint, weight, keys)) is not None:
                if self._clock() + refusal.seconds > deadline:
                    raise RateLimited(
                        refusal.found,
                        provider=self._limits.provider,
                        endpoint=endpoint,
                        retry_after=refusal.seconds,
                    )
                self._sleep(min(refusal.seconds, _LONGEST_SLEEP_SECONDS))
        finally:
            self._waiting -= 1

    def give_back(self, endpoint: str, *, came_through: bool) -> None:
        """Free the place of a call that has ended."""
        with self._lock:
            for name, _ in self._places(endpoint):
                self._running[name] -= 1
            if came_through and self._clock() >= self._paused_until:
                self._strikes = 0

    def settle(self) -> tuple[dict[str, int], float, str]:
        """Return what the others have not seen, once: calls, a pause's rest in seconds and why.

        The calls are endpoint -> what they counted for.
        """
        with self._lock:
            calls, self._unsettled = self._unsettled, {}
            rest, self._paused_until = max(0.0, self._paused_until - self._clock()), 0.0
            return calls, rest, self._paused_why

    def state(self, note: str = "") -> BudgetState:
        """Return what this process's share looks like."""
        with self._lock:
            now = self._clock()
            windows = [("", window) for window in self._limits.windows]
            windows += [(one.name, window) for one in self._limits.groups for window in one.windows]
            waiting = {lane: self._waiting if lane == self._lane else 0 for lane in LANES}
            is_paused = self._paused_until > now
            return BudgetState(
                provider=self._limits.provider,
                at=datetime.fromtimestamp(now, UTC),
                windows=tuple(self._window_state(name, each, now) for name, each in windows),
                waiting=waiting,
                running=sum(self._running.values()),
                paused_until=datetime.fromtimestamp(self._paused_until, UTC) if is_paused else None,
                paused_why=self._paused_why if is_paused else "",
                local=True,
                note=note,
            )

    def _window_state(self, group: str, window: Window, now: float) -> WindowState:
        share = self.share(window)
        rates = [self._rate(window, 1)]
        due = self._due.get((group, window), self._gcra.initial(rates))
        used = self._gcra.consumed(rates, due, int(now * 1000))
        until = datetime.fromtimestamp(now, UTC) + timedelta(
            milliseconds=used * rates[0].interval / rates[0].limit
        )
        return WindowState(group, share.limit, share.seconds, used, until if used else None, share)

    def share(self, window: Window) -> Window:
        """Return this process's part of a limit: fewer calls, or one in a longer time."""
        parts = self._limits.share_when_alone
        if window.limit >= parts:
            return Window(window.limit // parts, window.seconds, burst=1)
        return Window(1, window.seconds * parts / window.limit, burst=1)

    def _rate(self, window: Window, weight: int) -> Rate:
        """Return the share as a time between two units of weight.

        As each process may begin at any moment, one call of each is kept out of the rate.
        """
        parts = self._limits.share_when_alone
        limit = window.limit - parts if window.limit > 2 * parts else window.limit
        milliseconds = window.kept_seconds * 1000 * parts / limit
        # Per thousand units, because the library's intervals are whole milliseconds.
        return Rate(1000, int(milliseconds * 1000) + 1, burst=weight)

    def _places(self, endpoint: str) -> list[tuple[str, int]]:
        """Return (name, how many) of the limits on calls under way that hold for an endpoint."""
        limited = [("", self._limits.concurrency)]
        limited += [(each.name, each.concurrency) for each in self._limits.groups_of(endpoint)]
        return [
            (name, max(1, most // self._limits.share_when_alone))
            for name, most in limited
            if most is not None
        ]

    def _try(self, endpoint: str, weight: int, keys: tuple[str, ...]) -> _Refusal | None:
        """Take room for a call, all of it or nothing; return why not."""
        weight = self._limits.weight_of(endpoint, weight)
        with self._lock:
            now = self._clock()
            if self._paused_until > now:
                rest = self._paused_until - now
                return _Refusal(rest, paused(self._limits.title, rest, now, self._paused_why))
            for name, most in self._places(endpoint):
                if self._running.get(name, 0) >= most:
                    found = f"{most} calls of this process are under way"
                    return _Refusal(_POLL_SECONDS, self._sentence(found, _POLL_SECONDS, now))
            taken: dict[tuple[str, Window], tuple[float, ...]] = {}
            for bucket, units, shared in self._buckets(endpoint, weight, keys):
                window = bucket[1]
                rates = [
                    self._rate(window, units)
                    if shared
                    else Rate(window.limit, int(window.kept_seconds * 1000), burst=1)
                ]
                due = self._due.get(bucket, self._gcra.initial(rates))
                taken[bucket], decision = self._gcra.step(rates, due, int(now * 1000), units)
                if not decision.allowed:
                    wait = (decision.retry_after_ms or 1) / 1000
                    found = "this process's share, taken while Valkey is away, is used up"
                    return _Refusal(wait, self._sentence(found, wait, now))
            self._due.update(taken)
            self._forget(now)
            for name, _ in self._places(endpoint):
                self._running[name] = self._running.get(name, 0) + 1
            self._unsettled[endpoint] = self._unsettled.get(endpoint, 0) + weight
            return None

    def _buckets(
        self, endpoint: str, weight: int, keys: tuple[str, ...]
    ) -> list[tuple[tuple[str, Window], int, bool]]:
        """Return (what is counted, for how much, whether it is shared with other processes)."""
        own = [(("", window), weight, True) for window in self._limits.windows]
        groups = [
            ((group.name, window), weight, True)
            for group in self._limits.groups_of(endpoint)
            for window in group.windows
        ]
        # Two processes seldom ask for the same at the same time: the rule itself is kept.
        rules = [
            ((key, rule.window), 1, False) for key, rule in self._limits.rules_of(tuple(set(keys)))
        ]
        return own + groups + rules

    def _forget(self, now: float) -> None:
        """Drop what is over, so that keys do not pile up."""
        if len(self._due) > 1000:
            self._due = {
                bucket: due for bucket, due in self._due.items() if max(due) > now * 1_000_000
            }

    def _sentence(self, found: str, wait: float, now: float) -> str:
        return no_room(self._limits.title, self._lane, found, wait, now)
