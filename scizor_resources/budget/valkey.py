"""One rate budget of a provider for all processes, kept in Valkey.

What holds, by Valkey's clock:

- Each limit is a log of the calls of its window, so that no interval of that length, wherever it
  begins, has more than the limit (the margins stand in `budget.limits`).
- Windows up to 10 minutes are paced: calls of the lower lanes leave evenly, so that there is a next
  grant soon; while a caller of a higher lane waits, it is that caller's. One place of a window with
  noticeable gaps is kept for the live lane.
- Of quotas of hours and months the lower lanes may use a share only (`limits.QUOTA_SHARES`).
- A caller that waits is known for a few seconds only, and so is a call under way that nobody
  renews: a killed process holds nobody up for long.

Callers of one lane are not served in order: whoever asks first when a place becomes free has it.
"""

import hashlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pyrate_limiter import GCRA, Rate

from scizor_resources.budget import scripts
from scizor_resources.budget.headers import Remaining, parse_headers
from scizor_resources.budget.limits import (
    MAX_WAIT_SECONDS,
    EndpointLimits,
    ProviderLimits,
    Window,
    lane_number,
)
from scizor_resources.budget.link import ValkeyAway, ValkeyLink
from scizor_resources.budget.local import LocalBudget
from scizor_resources.budget.sentences import (
    LONGEST_UNASKED_PAUSE_SECONDS,
    PauseLengths,
    no_room,
    paused,
    seconds_of_pause,
)
from scizor_resources.budget.state import BudgetState, WindowState, forecast_seconds
from scizor_resources.errors import BadRequest, RateLimited
from scizor_resources.providers.gate import LANES, Lane

_LONGEST_SLEEP_SECONDS = 1.0
#: How long a waiting caller is known after it should have asked again.
_PATIENCE_SECONDS = 1.5
#: How often is asked when nothing says when there will be room.
_POLL_SECONDS = 0.1
_LEASE_SECONDS = 30.0
_KEYS_OF_A_SCOPE = ("log", "pace", "running", *LANES)


@dataclass(frozen=True)
class _Scope:
    """What is counted together: a provider, a group of endpoints, a key of a pacing rule."""

    name: str
    title: str
    windows: tuple[Window, ...]
    concurrency: int | None = None
    is_queued: bool = True
    weight: int | None = None

    def keys(self, prefix: str) -> list[str]:
        return [f"{prefix}:{self.name}:{part}" for part in _KEYS_OF_A_SCOPE]


@dataclass
class _Grant:
    """A call that may be made.

    Attributes:
        endpoint: what is called.
        caller: name of the call in Valkey.
        places: sets of calls under way that it is in.
        at: milliseconds since 1970, by Valkey's clock.
        after_pause: whether the provider's pauses are not forgotten yet.
        is_local: granted by this process while Valkey is away.
    """

    endpoint: str
    caller: str
    places: list[str] = field(default_factory=list)
    at: int = 0
    after_pause: bool = False
    is_local: bool = False


class ValkeyBudget:
    """A provider's share of calls, for all processes together; a `Budget`.

    Args:
        link: the way to Valkey.
        limits: the provider's.
        lane: whose calls these are.
        max_wait_seconds: longest wait for room, by default the lane's.
        now: seconds since 1970 to go by instead of Valkey's clock; for tests and simulations.
        clock: seconds that only go forward, for the time a caller waits.
        sleep: waits the given seconds.
        prefix: of the keys in Valkey.
    """

    def __init__(
        self,
        link: ValkeyLink,
        limits: ProviderLimits,
        lane: Lane = "backfill",
        *,
        max_wait_seconds: float | None = None,
        now: Callable[[], float] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        prefix: str = "scizor:budget",
    ) -> None:
        self._link = link
        self._limits = limits
        self._lane: Lane = lane
        self._max_wait = MAX_WAIT_SECONDS[lane] if max_wait_seconds is None else max_wait_seconds
        self._now = now
        self._clock = clock
        self._sleep = sleep
        # The braces keep a provider's keys together where Valkey is a cluster.
        self._prefix = f"{prefix}:{{{limits.provider}}}"
        self._local = LocalBudget(
            limits, lane, clock=now or time.time, sleep=sleep, max_wait_seconds=max_wait_seconds
        )
        self._was_local = False
        self._leases = _Leases(self._renew)

    @property
    def lane(self) -> Lane:
        """Whose calls these are."""
        return self._lane

    @property
    def limits(self) -> ProviderLimits:
        """The provider's limits."""
        return self._limits

    @contextmanager
    def acquire(
        self, endpoint: str, *, weight: int = 1, keys: tuple[str, ...] = ()
    ) -> Iterator[object]:
        """Wait for room for one call, and hold a place among those under way while inside.

        Args:
            endpoint: what is called, for limits of its own.
            weight: what the call counts for; 1 to go by the provider's table.
            keys: what pacing rules look at: `kind:anything`.

        Raises:
            RateLimited: there is no room within the time that waiting is worth; `retry_after`
                says when to come again.
            BadRequest: the call counts for more than a window allows at all.
        """
        grant = self._take(endpoint, weight, keys)
        came_through = False
        try:
            yield grant
            came_through = True
        finally:
            self._give_back(grant, came_through=came_through)

    def learn(self, headers: Mapping[str, str]) -> None:
        """Take what an answer's headers say: where less is left than we think, adopt it."""
        said = parse_headers(headers, self._wall_clock())
        if said is None or not self._limits.windows:
            return
        window = self._window_of(said)
        if said.remaining is not None:
            remaining = said.remaining
        else:
            remaining = max(0.0, window.limit - (said.used or 0.0))
        ask: dict[str, Any] = {
            "caller": f"adopted-{uuid.uuid4().hex[:12]}",
            "milliseconds": round(window.kept_seconds * 1000),
            "limit": window.usable,
            "remaining": int(remaining),
            "kept": round(self._longest_window() * 1000),
        }
        if said.resets_at is not None:
            ask["reset"] = round(said.resets_at * 1000)
        log = self._provider_scope().keys(self._prefix)[0]
        self._quietly(scripts.LEARN, [log], ask)

    def pause(self, seconds: float | None, why: str) -> None:
        """Stop all processes' calls to the provider.

        Args:
            seconds: as the provider asked; None: a minute, twice that each time until a call comes
                through, 15 minutes at most.
            why: a sentence for those who meet the pause.
        """
        length = seconds_of_pause(seconds)
        ask: dict[str, Any] = {
            "first": round(PauseLengths.first * 1000),
            "longest": round(PauseLengths.longest * 1000),
            "remembered": round(4 * LONGEST_UNASKED_PAUSE_SECONDS * 1000),
            "why": why,
        }
        if length is not None:
            ask["milliseconds"] = round(length * 1000)
        try:
            self._run(scripts.PAUSE, [self._pause_key], ask)
        except ValkeyAway:
            self._was_local = True
            self._local.pause(seconds, why)

    def state(self) -> BudgetState:
        """Return how much is used, who waits, whether the provider is paused."""
        scopes = [self._provider_scope(), *self._group_scopes(self._limits.groups)]
        ask = {"scopes": [self._scope_ask(each, i, 1, "live") for i, each in enumerate(scopes)]}
        try:
            found = self._run(scripts.STATE, self._keys_of(scopes), ask)
        except ValkeyAway as error:
            return self._local.state(
                f"{error}: this process keeps to 1/{self._limits.share_when_alone} of the limits."
            )
        at, until, lines = int(found[0]) / 1000, float(found[1]) / 1000, found[3]
        windows = [
            WindowState(
                group=scope.title,
                limit=window.limit,
                seconds=window.seconds,
                used=int(line[5 + 2 * number]),
                resets_at=_moment(int(line[6 + 2 * number])),
                window=window,
            )
            for scope, line in zip(scopes, lines, strict=True)
            for number, window in enumerate(scope.windows)
        ]
        return BudgetState(
            provider=self._limits.provider,
            at=datetime.fromtimestamp(at, UTC),
            windows=tuple(windows),
            waiting={lane: sum(int(line[i]) for line in lines) for i, lane in enumerate(LANES)},
            running=sum(int(line[4]) for line in lines),
            paused_until=datetime.fromtimestamp(until, UTC) if until > at else None,
            paused_why=str(found[2]) if until > at else "",
            local=False,
        )

    def forecast(self, calls: int, *, lane: Lane | None = None) -> float:
        """Return in how many seconds so many calls will have been made, if nobody else calls.

        Args:
            calls: how many, each of weight 1.
            lane: whose, by default this budget's.
        """
        return forecast_seconds(self.state(), calls, lane or self._lane)

    # ---- taking and giving back

    def _take(self, endpoint: str, weight: int, keys: tuple[str, ...]) -> _Grant:
        weight = self._limits.weight_of(endpoint, weight)
        scopes = self._scopes(endpoint, keys)
        self._check_weight(scopes, endpoint, weight)
        caller = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:12]}"
        deadline = self._clock() + self._max_wait
        is_waiting = False
        try:
            while True:
                left = max(0.0, deadline - self._clock())
                try:
                    self._settle()
                    answer = self._run(
                        scripts.ACQUIRE, self._keys_of(scopes), self._ask(scopes, caller, weight)
                    )
                except ValkeyAway:
                    self._was_local = True
                    is_waiting = False
                    self._local.take(endpoint, weight, keys, left)
                    return _Grant(endpoint, caller, is_local=True)
                outcome, wait, now = str(answer[0]), int(answer[1]) / 1000, int(answer[4])
                if outcome == "granted":
                    is_waiting = False
                    return self._granted(endpoint, caller, scopes, now, int(answer[5]))
                is_waiting = outcome != "paused"
                if wait > left:
                    sentence = self._sentence(scopes, answer, wait, now / 1000)
                    raise RateLimited(
                        sentence,
                        provider=self._limits.provider,
                        endpoint=endpoint,
                        retry_after=wait,
                    )
                self._sleep(min(wait, _LONGEST_SLEEP_SECONDS))
        finally:
            if is_waiting:
                self._withdraw(scopes, caller)

    def _granted(
        self, endpoint: str, caller: str, scopes: list[_Scope], now: int, strikes: int
    ) -> _Grant:
        places = [scope.keys(self._prefix)[2] for scope in scopes if scope.concurrency is not None]
        grant = _Grant(endpoint, caller, places, now, after_pause=strikes > 0)
        if places:
            self._leases.add(caller, places)
        return grant

    def _give_back(self, grant: _Grant, *, came_through: bool) -> None:
        if grant.is_local:
            self._local.give_back(grant.endpoint, came_through=came_through)
            return
        if grant.places:
            self._leases.remove(grant.caller)
            self._quietly(scripts.LEAVE, grant.places, grant.caller)
        if came_through and grant.after_pause:
            self._quietly(scripts.SUCCEEDED, [self._pause_key], str(grant.at))

    def _withdraw(self, scopes: list[_Scope], caller: str) -> None:
        queues = [
            scope.keys(self._prefix)[2 + lane_number(self._lane)]
            for scope in scopes
            if scope.is_queued
        ]
        self._quietly(scripts.LEAVE, queues, caller)

    def _renew(self, caller: str, places: list[str]) -> None:
        ask = {"caller": caller, "lease": round(_LEASE_SECONDS * 1000)}
        self._quietly(scripts.RENEW, places, ask)

    def _settle(self) -> None:
        """Tell the others what was called while Valkey was away."""
        if not self._was_local:
            return
        self._link.call(lambda client: client.ping())
        calls, rest, why = self._local.settle()
        self._was_local = False
        for endpoint, weight in calls.items():
            for scope in self._scopes(endpoint, ()):
                if scope.windows:
                    ask = {
                        "caller": f"local-{uuid.uuid4().hex[:12]}",
                        "weight": min(weight, max(window.limit for window in scope.windows)),
                        "kept": round(max(each.kept_seconds for each in scope.windows) * 1000),
                    }
                    self._run(scripts.SPEND, [scope.keys(self._prefix)[0]], ask)
        if rest > 0:
            self.pause(rest, why)

    # ---- what is asked of Valkey

    @property
    def _pause_key(self) -> str:
        return f"{self._prefix}:pause"

    def _provider_scope(self) -> _Scope:
        return _Scope("all", "", _longest_first(self._limits.windows), self._limits.concurrency)

    def _group_scopes(self, groups: tuple[EndpointLimits, ...]) -> list[_Scope]:
        return [
            _Scope(
                f"group:{group.name}", group.name, _longest_first(group.windows), group.concurrency
            )
            for group in groups
        ]

    def _scopes(self, endpoint: str, keys: tuple[str, ...]) -> list[_Scope]:
        groups = self._group_scopes(self._limits.groups_of(endpoint))
        # A call that has to wait for its own key must not hold up others.
        rules = [
            _Scope(f"key:{_short(key)}", rule.kind, (rule.window,), is_queued=False, weight=1)
            for key, rule in dict(self._limits.rules_of(keys)).items()
        ]
        return [*rules, self._provider_scope(), *groups]

    def _check_weight(self, scopes: list[_Scope], endpoint: str, weight: int) -> None:
        most = min(
            (
                window.allowed(self._lane)
                for scope in scopes
                if scope.weight is None
                for window in scope.windows
            ),
            default=weight,
        )
        if not 1 <= weight <= most:
            raise BadRequest(
                f"A call of {endpoint} counts for {weight} at {self._limits.title}, but lane "
                f"{self._lane} may use 1 to {most}. Raise the provider's limit in the settings.",
                provider=self._limits.provider,
                endpoint=endpoint,
            )

    def _keys_of(self, scopes: list[_Scope]) -> list[str]:
        return [self._pause_key, *(key for scope in scopes for key in scope.keys(self._prefix))]

    def _ask(self, scopes: list[_Scope], caller: str, weight: int) -> dict[str, Any]:
        return {
            "caller": caller,
            "lane": lane_number(self._lane),
            "weight": weight,
            "lease": round(_LEASE_SECONDS * 1000),
            "patience": round((_LONGEST_SLEEP_SECONDS + _PATIENCE_SECONDS) * 1000),
            "poll": round(_POLL_SECONDS * 1000),
            "scopes": [
                self._scope_ask(each, i, weight, self._lane) for i, each in enumerate(scopes)
            ],
        }

    def _scope_ask(self, scope: _Scope, number: int, weight: int, lane: Lane) -> dict[str, Any]:
        weight = weight if scope.weight is None else scope.weight
        paced = [window for window in scope.windows if window.is_paced and scope.is_queued]
        rates = [
            Rate(
                window.usable,
                round(window.kept_seconds * 1000),
                burst=max(window.burst_for(lane), weight),
            )
            for window in paced
        ]
        return {
            # Lua counts from 1, and the pause is the first key.
            "first": 2 + number * len(_KEYS_OF_A_SCOPE),
            "queued": scope.is_queued,
            "weight": weight,
            **({} if scope.concurrency is None else {"concurrency": scope.concurrency}),
            "windows": [self._window_ask(window, scope, lane) for window in scope.windows],
            "pace": GCRA().redis_args(rates),
            "pace_milliseconds": 2 * max((rate.interval for rate in rates), default=0),
        }

    def _window_ask(self, window: Window, scope: _Scope, lane: Lane) -> dict[str, Any]:
        asked: dict[str, Any] = {
            "milliseconds": round(window.kept_seconds * 1000),
            "limit": window.allowed(lane) if scope.is_queued else window.limit,
        }
        if window.calendar_month:
            asked["months"] = _months_around(self._wall_clock())
        return asked

    def _run(self, script: str, keys: list[str], ask: Mapping[str, Any] | str) -> Any:
        """Run a script.

        Raises:
            ValkeyAway: Valkey does not answer.
        """
        if not isinstance(ask, str):
            now = {} if self._now is None else {"now": round(self._now() * 1000)}
            ask = json.dumps({**ask, **now})
        text = ask
        return self._link.run(script, keys, text)

    def _quietly(self, script: str, keys: list[str], ask: Mapping[str, Any] | str) -> None:
        """Run a script whose work can be left undone: what it would change expires by itself."""
        try:
            self._run(script, keys, ask)
        except ValkeyAway:
            self._was_local = True

    # ---- the rest

    def _wall_clock(self) -> float:
        return self._now() if self._now is not None else time.time()

    def _longest_window(self) -> float:
        return max(window.kept_seconds for window in self._limits.windows)

    def _window_of(self, said: Remaining) -> Window:
        """Return the window that headers are about: by length, by limit, else the longest paced."""
        windows = self._limits.windows
        for window in windows:
            if said.seconds is not None and window.seconds == said.seconds:
                return window
            if said.limit is not None and window.limit == said.limit:
                return window
        paced = [window for window in windows if window.is_paced]
        return max(paced or windows, key=lambda window: window.seconds)

    def _sentence(self, scopes: list[_Scope], answer: list[Any], wait: float, now: float) -> str:
        title = self._limits.title
        outcome, detail = str(answer[0]), str(answer[2])
        if outcome == "paused":
            return paused(title, wait, now, detail)
        scope = scopes[int(answer[3]) - 1]
        kind = f" of {scope.title}" if scope.title else ""
        if outcome == "lane":
            found = f"callers of lane {LANES[int(detail) - 1]} wait for it too and go first"
        elif outcome == "concurrency":
            found = f"{detail} calls{kind} are under way"
        else:
            windows = [each for each in scope.windows if outcome == "window" or each.is_paced]
            found = f"{_limit_words(windows[int(detail)])}{kind} are used"
        return no_room(title, self._lane, found, wait, now)


class _Leases:
    """Keeps the places of calls that take long, by a thread that ends when there are none."""

    def __init__(self, renew: Callable[[str, list[str]], None]) -> None:
        self._renew = renew
        self._held: dict[str, list[str]] = {}
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, caller: str, places: list[str]) -> None:
        with self._lock:
            self._held[caller] = places
            # Not alive in a forked child either.
            if self._thread is None or not self._thread.is_alive():
                self._changed = threading.Event()
                self._thread = threading.Thread(
                    target=self._keep, args=(self._changed,), name="budget leases", daemon=True
                )
                self._thread.start()

    def remove(self, caller: str) -> None:
        with self._lock:
            self._held.pop(caller, None)

    def _keep(self, stop: threading.Event) -> None:
        while not stop.wait(_LEASE_SECONDS / 3):
            with self._lock:
                held = dict(self._held)
                if not held:
                    self._thread = None
                    return
            for caller, places in held.items():
                self._renew(caller, places)


def _longest_first(windows: tuple[Window, ...]) -> tuple[Window, ...]:
    """Return the windows so that the one that takes longest to free is asked first."""
    return tuple(sorted(windows, key=lambda window: window.seconds, reverse=True))


def _short(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:24]


def _moment(milliseconds: int) -> datetime | None:
    return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds else None


def _limit_words(window: Window) -> str:
    if window.calendar_month:
        return f"the {window.limit} a month"
    if window.seconds == 60:
        return f"the {window.limit} a minute"
    return f"the {window.limit} in {window.seconds:g} s"


def _months_around(now: float) -> list[int]:
    """Return when the last, this and the next two months (UTC) begin, milliseconds since 1970.

    More than one, because Valkey's clock and not ours says which of them it is.
    """
    at = datetime.fromtimestamp(now, UTC)
    count = at.year * 12 + at.month - 1
    starts = (
        datetime((count + step) // 12, (count + step) % 12 + 1, 1, tzinfo=UTC)
        for step in (-1, 0, 1, 2)
    )
    return [round(start.timestamp() * 1000) for start in starts]
