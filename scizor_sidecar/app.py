"""The streaming process: builds its parts, runs them in one loop, ends them in order.

`run` waits for the lease, then serves until it is told to stop or another process has taken over.
Parts know nothing of each other: each listens to the pipelines, has a task of its own, and brings
what it keeps to its store within two seconds when it is asked to.
"""

import asyncio
import contextlib
import gc
import os
import signal
import socket
import uuid
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

import redis.asyncio

from scizor_resources.errors import ServerError
from scizor_resources.platform import Platform
from scizor_sidecar.building import Built, build, choice_of, prepare
from scizor_sidecar.leadership import Leadership
from scizor_sidecar.lease import Lease

#: What is kept has to be in its store, or on the disk, within this time of the signal.
FLUSH_SECONDS = 3.0

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """What a sidecar is started with; what is None is as the settings say.

    Attributes:
        host: address it listens on.
        port: its port; 0 takes a free one.
        feeds: only these feeds.
        symbols: only these symbols.
    """

    host: str | None = None
    port: int | None = None
    feeds: frozenset[str] | None = None
    symbols: frozenset[str] | None = None

    @property
    def lease_name(self) -> str:
        """Name of the lease: those that stream the same take turns."""
        choice = choice_of(self.feeds, self.symbols)
        return f"sidecar:{choice}" if choice else "sidecar"


async def run(
    platform: Platform,
    options: Options,
    tell: Tell,
    *,
    on_stopping: Callable[[], None] = lambda: None,
) -> None:
    """Stream until SIGTERM or SIGINT.

    Args:
        platform: the opened platform.
        options: what to stream, where to serve.
        tell: takes sentences for people.
        on_stopping: called when the signal comes.

    Raises:
        ScizorError: a part cannot work.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop() -> None:
        stopping.set()
        on_stopping()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop)
    await serve(platform, options, tell, stopping)


async def serve(platform: Platform, options: Options, tell: Tell, stopping: asyncio.Event) -> None:
    """Stand by for the lease and stream while it is held, until `stopping` is set.

    Raises:
        ScizorError: a part cannot work.
    """
    await asyncio.to_thread(prepare, platform, options.feeds)
    url = platform.endpoints.redis_url
    # Without the client's own time-out, with which redis-py loses the cancellation of a task that
    # writes just then (wait_for of Python 3.11). One for the lease alone: the other may be busy.
    asking, client = (
        redis.asyncio.Redis.from_url(url, socket_connect_timeout=1, socket_timeout=None)
        for _ in range(2)
    )
    # Containers may share host name and process ids.
    owner = f"process {os.getpid()} on {socket.gethostname()} ({uuid.uuid4().hex[:6]})"
    leadership = Leadership(Lease(asking, options.lease_name, owner), tell)
    try:
        while await _before(leadership.acquire(), stopping):
            why = await _stream(platform, options, tell, stopping, leadership, client)
            if why is None:
                break
            tell(f"Standing by: {why}.")
    finally:
        await leadership.release()
        await asking.aclose()
        await client.aclose()


async def _before(work: Coroutine[Any, Any, object], stopping: asyncio.Event) -> bool:
    """Do some work; returns false where `stopping` came first."""
    task, stop = asyncio.ensure_future(work), asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait([task, stop], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        return task.done() and not stopping.is_set()
    finally:
        task.cancel()
        stop.cancel()
        await asyncio.gather(task, stop, return_exceptions=True)


class _Ended(Exception):
    """The end of serving, not an error.

    Attributes:
        why: why the lease was lost, None where the process is to stop.
    """

    def __init__(self, why: str | None) -> None:
        super().__init__(why)
        self.why = why


async def _stream(
    platform: Platform,
    options: Options,
    tell: Tell,
    stopping: asyncio.Event,
    leadership: Leadership,
    client: "redis.asyncio.Redis",
) -> str | None:
    """Run all parts; returns why the lease was lost, None where the process is to stop."""
    built = await build(
        platform,
        client,
        tell,
        feeds=options.feeds,
        symbols=options.symbols,
        host=options.host,
        port=options.port,
        permit=leadership,
    )
    why: str | None = None
    try:
        async with asyncio.TaskGroup() as group:
            for name, work in built.work.items():
                group.create_task(_named(name, work()), name=name)
            group.create_task(_greet(built, tell), name="greeting")
            group.create_task(_until_stopped(stopping), name="stop")
            group.create_task(_until_lost(leadership), name="lease")
    except BaseExceptionGroup as several:
        errors = _errors(several)
        why = next((each.why for each in errors if isinstance(each, _Ended)), None)
        wrong = [each for each in errors if not isinstance(each, _Ended)]
        if wrong:
            raise wrong[0] from several
    finally:
        gc.unfreeze()
        # Whoever has taken over writes now; nothing of ours may follow. The signal may have come
        # while the process was frozen, before the lease was asked for again.
        await _finish(built, tell, writes=why is None and await leadership.is_ours())
    return why


def _errors(several: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for each in several.exceptions:
        found += _errors(each) if isinstance(each, BaseExceptionGroup) else [each]
    return found


async def _named(name: str, work: Coroutine[Any, Any, None]) -> None:
    """Do a part's work; an error, or its end, says which part it was."""
    await work
    raise ServerError(f"The part '{name}' of the sidecar has ended, which it never should.")


async def _greet(built: Built, tell: Tell) -> None:
    tell(await built.greeting())
    # What has been loaded stays until the end. The collector looked through all of it every few
    # seconds, and ticks waited for it by up to 240 ms.
    gc.collect()
    gc.freeze()


async def _until_stopped(stopping: asyncio.Event) -> None:
    await stopping.wait()
    raise _Ended(None)


async def _until_lost(leadership: Leadership) -> None:
    raise _Ended(await leadership.lost())


async def _finish(built: Built, tell: Tell, *, writes: bool) -> None:
    """Take what waits through the pipelines once more, and bring all to its store."""
    if writes:
        for pipeline in built.pipelines.values():
            pipeline.step(last=True)
        await _flush(built.flushes, tell)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1.0):
            await built.close()


async def _flush(
    flushes: Mapping[str, Callable[[], Coroutine[Any, Any, None]]], tell: Tell
) -> None:
    tasks = {asyncio.ensure_future(flush()): name for name, flush in flushes.items()}
    if not tasks:
        return
    done, late = await asyncio.wait(tasks, timeout=FLUSH_SECONDS)
    for task in late:
        task.cancel()
        tell(f"{tasks[task]} did not finish within {FLUSH_SECONDS:g} s; it is made good at the "
             "next start.")  # fmt: skip
    for task in done:
        error = task.exception()
        if error is not None:
            tell(f"{tasks[task]} could not be finished: {error}")
    await asyncio.gather(*late, return_exceptions=True)
