"""The two queues that runs wait in on their way to a worker, and who goes first.

A run's priority (its tag `dagster/priority`, 0 where it has none) decides: the refreshes of open
markets have 10, ledgers 5, what people and backfills launch 0.
"""

from collections.abc import Sequence

from scizor_core.errors import InvalidInputError

LIVE, BACKFILL = "live", "backfill"
#: In the order in which a worker takes from them.
QUEUES = (LIVE, BACKFILL)
#: Priority from which on a run is not kept waiting behind backfills.
LIVE_FROM = 1
#: Least urgent of the ten priorities of a message; 0 is the most urgent.
_LAST = 9


def queue_of(priority: int) -> str:
    """Return the queue of a run of that priority."""
    return LIVE if priority >= LIVE_FROM else BACKFILL


def message_priority(priority: int) -> int:
    """Return the priority of the run's message, 0 (taken first) to 9.

    The other way round than a run's own: with Valkey as broker the smallest number goes first. The
    broker looks at a message's priority before its queue, so that both have to agree.
    """
    return min(max(_LAST - priority, 0), _LAST)


def check_queues(names: Sequence[str]) -> tuple[str, ...]:
    """Return queue names without doubles, the live one first.

    Raises:
        InvalidInputError: none, or one that there is not.
    """
    given = {name.strip().lower() for name in names if name.strip()}
    unknown = sorted(given - set(QUEUES))
    if unknown or not given:
        wrong = f"There is no queue '{unknown[0]}'" if unknown else "No queue was named"
        raise InvalidInputError(f"{wrong}. A worker can take from {' and '.join(QUEUES)}.")
    return tuple(name for name in QUEUES if name in given)
