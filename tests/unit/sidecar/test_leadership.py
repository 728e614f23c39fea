import asyncio
from datetime import timedelta
from typing import Any, cast

import pytest
from redis.exceptions import ConnectionError as ValkeyIsAway

from scizor_sidecar import leadership
from scizor_sidecar.app import Options
from scizor_sidecar.leadership import Leadership
from scizor_sidecar.lease import Lease

from .fakes import Clock


class ScriptedLease:
    """Answers renewals, one after the other, as the script says; it has run out long ago."""

    is_held = False
    token = 1

    def __init__(self, *answers: bool | Exception) -> None:
        self.answers = list(answers)
        self.released = 0

    async def try_take(self) -> bool:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def release(self) -> None:
        self.released += 1
        raise ValkeyIsAway


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leadership, "RENEW_SECONDS", 0)


def holding(*answers: bool | Exception) -> tuple[Leadership, ScriptedLease, list[str]]:
    lease, said = ScriptedLease(*answers), list[str]()
    return Leadership(cast("Lease", lease), said.append), lease, said


def test_it_works_on_until_another_process_holds_the_lease():
    leader, lease, _ = holding(True, True, False, True)

    assert asyncio.run(leader.lost()) == "another sidecar has taken over"
    assert lease.answers == [True]


def test_it_works_on_while_valkey_cannot_be_asked_and_says_so_once():
    away = ValkeyIsAway("refused")
    leader, _, said = holding(True, away, away, True, False)

    asyncio.run(leader.lost())

    assert said == ["Valkey cannot be asked (refused); the stream goes on without it"]


def test_a_second_absence_is_said_again():
    away = ValkeyIsAway("refused")
    leader, _, said = holding(away, True, away, False)

    asyncio.run(leader.lost())

    assert len(said) == 2


def test_while_valkey_cannot_be_asked_writers_wait_for_one_question_and_no_longer():
    clock = Clock()
    lease = ScriptedLease(ValkeyIsAway("refused"), ValkeyIsAway("refused"))
    leader = Leadership(cast("Lease", lease), lambda _: None, monotonic=clock.monotonic)
    left = []

    async def write() -> None:
        for seconds in (0, 2, 2):
            clock.at += timedelta(seconds=seconds)
            await leader.sure()
            left.append(len(lease.answers))

    asyncio.run(write())

    assert left == [1, 1, 0]


def test_whoever_wants_to_write_waits_on_when_another_process_holds_the_lease():
    leader, lease, _ = holding(False, True)

    async def write() -> list[bool]:
        writers = [asyncio.ensure_future(leader.sure()) for _ in range(2)]
        said = await leader.lost()
        assert said == "another sidecar has taken over"
        for _ in range(10):
            await asyncio.sleep(0)
        done = [each.done() for each in writers]
        for each in writers:
            each.cancel()
        await asyncio.gather(*writers, return_exceptions=True)
        return done

    assert asyncio.run(write()) == [False, False]
    assert lease.answers == [True]


def test_a_lease_that_cannot_be_given_back_runs_out_by_itself():
    leader, lease, _ = holding()

    asyncio.run(leader.release())

    assert lease.released == 1


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (Options(), "sidecar"),
        (Options(port=8791), "sidecar"),
        (Options(feeds=frozenset({"kraken"})), "sidecar:feeds=kraken"),
        (Options(symbols=frozenset({"B", "A"})), "sidecar:symbols=A,B"),
    ],
    ids=["everything", "another port", "a feed", "symbols"],
)
def test_those_that_stream_the_same_have_one_lease(options: Any, name: str):
    assert options.lease_name == name
