"""The lease of the sidecar, with a real Valkey."""

import asyncio
from collections.abc import Awaitable, Callable
from uuid import uuid4

import pytest
import redis.asyncio

from scizor_resources.endpoints import Endpoints
from scizor_sidecar.leadership import Leadership
from scizor_sidecar.lease import LEASE_SECONDS, Lease

Play = Callable[[Lease, Lease], Awaitable[object]]


def with_two(servers: Endpoints, play: Play) -> object:
    """Let two processes' leases of one name play against each other."""

    async def run() -> object:
        client = redis.asyncio.Redis.from_url(servers.redis_url)
        name = uuid4().hex
        try:
            return await play(Lease(client, name, "first"), Lease(client, name, "second"))
        finally:
            await client.aclose()

    return asyncio.run(run())


def test_one_of_two_holds_it(servers: Endpoints):
    async def play(first: Lease, second: Lease) -> list[bool]:
        return [await first.try_take(), await second.try_take(), first.is_held, second.is_held]

    assert with_two(servers, play) == [True, False, True, False]


def test_the_holder_may_renew_it_and_keeps_its_token(servers: Endpoints):
    async def play(first: Lease, _second: Lease) -> tuple[bool, bool]:
        await first.try_take()
        token = first.token
        return await first.try_take(), first.token == token

    assert with_two(servers, play) == (True, True)


def test_a_released_lease_goes_to_the_next_with_a_higher_token(servers: Endpoints):
    async def play(first: Lease, second: Lease) -> tuple[bool, bool, bool]:
        await first.try_take()
        await first.release()
        return await second.try_take(), second.token > first.token, first.is_held

    assert with_two(servers, play) == (True, True, False)


def test_one_that_stands_by_begins_when_the_holder_has_gone(servers: Endpoints):
    async def play(first: Lease, second: Lease) -> tuple[str, bool]:
        await first.try_take()
        waited = asyncio.Event()
        heard: list[str] = []

        def note(why: str) -> None:
            heard.append(why)
            waited.set()

        task = asyncio.ensure_future(second.acquire(note))
        await waited.wait()
        # As after a kill -9: nobody renews, and Valkey forgets.
        async with asyncio.timeout(LEASE_SECONDS + 10):
            await task
        return heard[0], second.is_held

    assert with_two(servers, play) == ("another sidecar works: first", True)


def test_a_holder_that_cannot_renew_stops_before_another_may_begin(servers: Endpoints):
    async def play(_first: Lease, _second: Lease) -> tuple[bool, bool]:
        client = redis.asyncio.Redis.from_url(servers.redis_url)
        clock = [0.0]
        lease = Lease(client, uuid4().hex, "slow", monotonic=lambda: clock[0])
        await lease.try_take()
        before = lease.is_held
        clock[0] = LEASE_SECONDS - 0.5
        await client.aclose()
        return before, lease.is_held

    assert with_two(servers, play) == (True, False)


def test_a_holder_is_told_that_another_has_taken_over(servers: Endpoints):
    async def play(first: Lease, second: Lease) -> str:
        leadership = Leadership(first, lambda _: None)
        await leadership.acquire()
        held = asyncio.ensure_future(leadership.lost())
        client = redis.asyncio.Redis.from_url(servers.redis_url)
        await client.delete(f"scizor:lease:{first.name}")
        await second.try_take()
        await client.aclose()
        return await held

    assert with_two(servers, play) == "another sidecar has taken over"


@pytest.mark.parametrize("works_between", [True, False])
def test_a_holder_whose_lease_ran_out_goes_on_only_if_no_other_has_worked_meanwhile(
    servers: Endpoints, works_between: bool
):
    async def play(first: Lease, second: Lease) -> bool:
        leadership = Leadership(first, lambda _: None)
        await leadership.acquire()
        await first.release()
        if works_between:
            await second.try_take()
            await second.release()
        return await leadership.is_ours()

    assert with_two(servers, play) is not works_between


def test_one_that_another_has_followed_may_work_again_after_standing_by(servers: Endpoints):
    async def play(first: Lease, second: Lease) -> list[bool]:
        leadership = Leadership(first, lambda _: None)
        await leadership.acquire()
        await first.release()
        await second.try_take()
        answers = [await leadership.is_ours(), leadership.is_sure]
        await second.release()
        # What it had begun before must not go on.
        answers += [await leadership.is_ours(), leadership.is_sure]
        await leadership.acquire()
        return [*answers, await leadership.is_ours(), leadership.is_sure]

    assert with_two(servers, play) == [False, False, False, False, True, True]


def test_one_that_stands_by_says_so_when_valkey_takes_connections_and_answers_none():
    async def run() -> str:
        async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        heard: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        silent = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
        port = silent.sockets[0].getsockname()[1]
        client = redis.asyncio.Redis(port=port)
        task = asyncio.ensure_future(Lease(client, "any", "any").acquire(heard.set_result))
        try:
            async with asyncio.timeout(20):
                return await heard
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await client.aclose()
            silent.close()

    assert asyncio.run(run()).startswith("Valkey cannot be asked")
