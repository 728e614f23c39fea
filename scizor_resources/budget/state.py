"""What a budget shows of itself, and when a queue of calls will have been made."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from scizor_resources.budget.limits import Window
from scizor_resources.providers.gate import Lane


@dataclass(frozen=True)
class WindowState:
    """One limit and what is used of it.

    Attributes:
        group: name of the endpoints it is for, "" for all of the provider.
        limit: calls that the provider allows.
        seconds: length of the window.
        used: calls in the window now.
        resets_at: UTC; when the oldest of them leaves the window (a month's: when it ends). None
            where nothing is used.
        window: the limit itself.
    """

    group: str
    limit: int
    seconds: float
    used: int
    resets_at: datetime | None
    window: Window = field(repr=False)

    @property
    def remaining(self) -> int:
        """Calls left of the provider's limit."""
        return max(0, self.limit - self.used)


@dataclass(frozen=True)
class BudgetState:
    """A provider's budget at one moment.

    Attributes:
        provider: name.
        at: the moment, UTC.
        windows: the limits, the provider's own first.
        waiting: callers that wait, by lane.
        running: calls under way, where the provider limits them; else 0.
        paused_until: UTC, None while calls may be made.
        paused_why: the reason, "" while there is none.
        local: Valkey is away and this process keeps to its own share.
        note: a sentence about that, "" otherwise.
    """

    provider: str
    at: datetime
    windows: tuple[WindowState, ...]
    waiting: Mapping[Lane, int]
    running: int
    paused_until: datetime | None
    paused_why: str
    local: bool
    note: str = ""

    @property
    def tightest(self) -> WindowState | None:
        """The limit of which the largest part is used, None without limits."""
        return max(self.windows, key=lambda each: each.used / each.limit, default=None)


def forecast_seconds(state: BudgetState, calls: int, lane: Lane, weight: int = 1) -> float:
    """Return in how many seconds so many calls of a lane will have been made.

    It is taken that nobody else calls and that the calls themselves take no time, so that it is
    the least that the limits allow.

    Args:
        state: the budget now.
        calls: how many.
        lane: whose shares and bursts apply.
        weight: of each call.
    """
    if calls < 1:
        return 0.0
    rest = 0.0
    if state.paused_until is not None:
        rest = max(0.0, (state.paused_until - state.at).total_seconds())
    needs = [_seconds_in(each, state.at, calls * weight, lane) for each in state.windows]
    return max([rest, *(rest + need for need in needs)])


def _seconds_in(each: WindowState, at: datetime, units: int, lane: Lane) -> float:
    allowed = each.window.allowed(lane)
    free = max(0, allowed - each.used)
    until_reset = (
        max(0.0, (each.resets_at - at).total_seconds()) if each.resets_at is not None else 0.0
    )
    if each.window.is_paced:
        paced = max(0, units - each.window.burst_for(lane)) * each.window.spacing_seconds
        # What is free comes at the pace, the rest as places become free again.
        refilled = until_reset + (units - free) * each.window.kept_seconds / allowed
        return max(paced, refilled if units > free else 0.0)
    if units <= free:
        return 0.0
    more_windows = math.ceil((units - free) / allowed) - 1
    return until_reset + more_windows * each.window.seconds
