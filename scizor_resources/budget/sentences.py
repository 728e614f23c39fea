"""What users read when there is no room, and for how long a provider is paused."""

import math
from datetime import UTC, datetime

FIRST_PAUSE_SECONDS = 60.0
LONGEST_UNASKED_PAUSE_SECONDS = 900.0
#: Bans last up to three days; a provider that asks for more has made a mistake.
LONGEST_PAUSE_SECONDS = 3 * 86_400.0
_LEAST_PAUSE_SECONDS = 1.0


class PauseLengths:
    """How long to pause where the provider does not say."""

    first = FIRST_PAUSE_SECONDS
    longest = LONGEST_UNASKED_PAUSE_SECONDS

    @classmethod
    def after(cls, strikes: int) -> float:
        """Return the seconds of a pause that follows so many others without a success."""
        return float(min(cls.first * 2 ** min(strikes, 30), cls.longest))


def seconds_of_pause(asked: float | None) -> float | None:
    """Return the pause a provider asked for within reason, None where it makes no sense."""
    if asked is None or not math.isfinite(asked) or asked < 0:
        return None
    return min(max(asked, _LEAST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)


def clock_time(at: float) -> str:
    """Return an instant (seconds since 1970) for people; the date where it is not soon."""
    return datetime.fromtimestamp(math.ceil(at), UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def duration(seconds: float) -> str:
    """Return a duration for people, rounded up to what matters."""
    if seconds < 10:
        return f"{max(0.1, math.ceil(seconds * 10) / 10):g} s"
    if seconds < 600:
        return f"{math.ceil(seconds)} s"
    if seconds < 2 * 86_400:
        return f"{math.ceil(seconds / 60)} minutes"
    return f"{math.ceil(seconds / 86_400)} days"


def paused(title: str, rest: float, now: float, why: str) -> str:
    """Return the sentence of a call that meets a pause."""
    reason = why.strip().rstrip(".") or "it asked for fewer calls"
    return (
        f"{title} is paused for all processes until {clock_time(now + rest)} "
        f"({duration(rest)}), because: {reason}. Calls go on by themselves then."
    )


def no_room(title: str, lane: str, found: str, wait: float, now: float) -> str:
    """Return the sentence of a call for which there is no room."""
    return (
        f"{title} has no room for another call of lane {lane}: {found}; the next is free in "
        f"{duration(wait)}, at {clock_time(now + wait)}. Wait, or raise the provider's limit in "
        "the settings if the plan allows more."
    )
