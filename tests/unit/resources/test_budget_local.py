"""The share that a process keeps to when it cannot see the others."""

from typing import Any

import pytest

from scizor_resources.budget.limits import LIMITS, EndpointLimits, Pacing, ProviderLimits, Window
from scizor_resources.budget.local import LocalBudget
from scizor_resources.errors import RateLimited
from scizor_resources.providers.gate import Lane

START = 1_800_000_000.0


class World:
    def __init__(self) -> None:
        self.now = START

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def budget(
        self, limits: ProviderLimits, lane: Lane = "backfill", wait: float | None = None
    ) -> LocalBudget:
        return LocalBudget(
            limits, lane, clock=lambda: self.now, sleep=self.sleep, max_wait_seconds=wait
        )


def example(*windows: Window, **more: Any) -> ProviderLimits:
    return ProviderLimits("example", "Example", windows, **more)


@pytest.fixture
def world() -> World:
    return World()


def saturate(world: World, budget: LocalBudget, seconds: float, **call: Any) -> list[float]:
    at = []
    while world.now < START + seconds:
        with budget.acquire(**{"endpoint": "/bars", **call}):
            at.append(world.now)
    return at


def most_within(at: list[float], seconds: float) -> int:
    return max(sum(first <= each < first + seconds for each in at) for first in at)


def test_eight_processes_together_stay_within_the_limit(world: World) -> None:
    at = saturate(world, world.budget(LIMITS["alpaca"]), 300)
    assert 20 <= most_within(at, 60) <= 200 / 8


def test_a_limit_smaller_than_the_number_of_processes_is_one_call_in_a_longer_time(
    world: World,
) -> None:
    at = saturate(world, world.budget(LIMITS["kraken"]), 60)
    assert most_within(at, 8) == 1


def test_weights_take_as_much_longer(world: World) -> None:
    at = saturate(world, world.budget(example(Window(800, 60))), 120, weight=10)
    assert most_within(at, 60) <= 10


def test_a_call_without_room_in_time_says_when_there_is(world: World) -> None:
    budget = world.budget(example(Window(8, 600)), "live")
    with budget.acquire("/bars"):
        pass
    with pytest.raises(RateLimited) as refused, budget.acquire("/bars"):
        pass
    assert refused.value.retry_after == pytest.approx(600.5, abs=0.01)
    assert str(refused.value) == (
        "Example has no room for another call of lane live: this process's share, taken while "
        "Valkey is away, is used up; the next is free in 11 minutes, at 2027-01-15 08:10:01 UTC. "
        "Wait, or raise the provider's limit in the settings if the plan allows more."
    )


def test_a_pause_stops_the_process(world: World) -> None:
    budget = world.budget(example(), "backfill")
    budget.pause(40, "429")
    with budget.acquire("/bars"):
        pass
    assert world.now - START == 40


def test_pauses_double_until_a_call_comes_through(world: World) -> None:
    budget, lengths = world.budget(example(), wait=1000), []
    for _ in range(2):
        before = world.now
        budget.pause(None, "429")
        budget.take("/bars", 1, (), 1000)
        budget.give_back("/bars", came_through=False)
        lengths.append(world.now - before)
    with budget.acquire("/bars"):
        pass
    before = world.now
    budget.pause(None, "429")
    with budget.acquire("/bars"):
        lengths.append(world.now - before)
    assert lengths == [60, 120, 60]


def test_a_pacing_rule_is_kept_as_it_is(world: World) -> None:
    limits = example(pacing=(Pacing("same", 1, 15),))
    at = saturate(world, world.budget(limits), 60, keys=("same:1",))
    assert most_within(at, 15) == 1


def test_calls_under_way_are_limited_to_the_share(world: World) -> None:
    group = EndpointLimits("history", frozenset({"/history"}), concurrency=16)
    budget = world.budget(example(groups=(group,)), wait=1)
    with (
        budget.acquire("/history"),
        budget.acquire("/history"),
        pytest.raises(RateLimited, match="2 calls of this process are under way"),
        budget.acquire("/history"),
    ):
        pass


def test_what_was_called_is_told_once(world: World) -> None:
    budget = world.budget(example(Window(800, 60)))
    for _ in range(3):
        with budget.acquire("/bars", weight=2):
            pass
    assert [budget.settle()[0], budget.settle()[0]] == [{"/bars": 6}, {}]


def test_the_state_shows_the_share_and_the_pause(world: World) -> None:
    budget = world.budget(LIMITS["alpaca"])
    budget.pause(60, "429")
    state = budget.state("a note")
    assert (state.local, state.note, state.windows[0].limit) == (True, "a note", 25)
    assert (state.paused_why, state.paused_until is not None) == ("429", True)
