"""What waits for PostgreSQL: kept while it is away, and never held up for good by a refusal."""

import asyncio
from collections.abc import Callable

from scizor_resources.errors import WarehouseAway, WarehouseError
from scizor_sidecar.later import WriteLater


def made_of(*changes: Callable[[], object]) -> WriteLater:
    """Return a queue with those changes after PostgreSQL was tried a hundred times."""
    later = WriteLater()
    for each in changes:
        later.add(each)

    async def play() -> None:
        for _ in range(100):
            await later.flush()

    asyncio.run(play())
    return later


class Refusal:
    """What a process asks that another has followed."""

    is_sure = False

    async def sure(self) -> None:
        await asyncio.Event().wait()


def test_nothing_is_changed_after_another_has_taken_over():
    done: list[str] = []
    later = WriteLater(Refusal())
    later.add(lambda: done.append("late"))

    async def play() -> None:
        writing = asyncio.ensure_future(later.flush())
        for _ in range(10):
            await asyncio.sleep(0)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)

    asyncio.run(play())

    assert done == []


def fail_with(error: Exception) -> Callable[[], object]:
    def change() -> None:
        raise error

    return change


def test_a_change_that_is_refused_for_good_holds_up_no_other():
    done: list[str] = []

    later = made_of(fail_with(WarehouseError("no such column")), lambda: done.append("second"))

    assert (done, later.refused) == (["second"], 1)


def test_while_postgresql_is_away_all_changes_wait_in_order():
    done: list[str] = []

    later = made_of(fail_with(WarehouseAway("away")), lambda: done.append("second"))

    assert (done, later.refused) == ([], 0)
