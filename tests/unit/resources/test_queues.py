"""The two queues: which one a run waits in, and who goes first."""

from itertools import pairwise

import pytest

from scizor_core.errors import InvalidInputError
from scizor_resources.queues import QUEUES, check_queues, message_priority, queue_of


@pytest.mark.parametrize(("priority", "queue"), [(10, "live"), (5, "live"), (1, "live")])
def test_a_run_with_a_priority_is_live(priority: int, queue: str) -> None:
    assert queue_of(priority) == queue


@pytest.mark.parametrize("priority", [0, -1, -10])
def test_a_run_without_a_priority_is_a_backfill(priority: int) -> None:
    assert queue_of(priority) == "backfill"


def test_a_higher_priority_never_has_a_less_urgent_message() -> None:
    messages = [message_priority(priority) for priority in range(-20, 21)]
    assert all(later <= earlier for earlier, later in pairwise(messages))


def test_a_message_has_one_of_the_ten_priorities_of_the_broker() -> None:
    assert {message_priority(priority) for priority in range(-20, 21)} == set(range(10))


def test_every_live_message_is_more_urgent_than_any_backfill() -> None:
    assert max(message_priority(priority) for priority in range(1, 21)) < message_priority(0)


def test_a_worker_takes_live_runs_first_whatever_the_order_given() -> None:
    assert check_queues(["backfill", " Live "]) == QUEUES == ("live", "backfill")


def test_a_worker_may_take_from_one_queue_alone() -> None:
    assert check_queues(["backfill"]) == ("backfill",)


@pytest.mark.parametrize("names", [["urgent"], ["live", "dagster"], [""], []])
def test_a_queue_that_there_is_not_is_refused_with_those_there_are(names: list[str]) -> None:
    with pytest.raises(InvalidInputError, match="live and backfill"):
        check_queues(names)
