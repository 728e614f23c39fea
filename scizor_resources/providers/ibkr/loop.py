"""An event loop in a thread of its own, for an asyncio library behind ordinary functions.

A thread, because the caller may itself be inside a running loop, and because a connection has to
be served between two calls.
"""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

Answer = TypeVar("Answer")

#: A loop that does not end within this time is left to end with the process.
STOP_SECONDS = 5.0


class LoopThread:
    """A running loop; `submit` work to it and `stop` it at the end.

    Args:
        name: name of the thread.
    """

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        # A daemon: a program that forgets to close its source can still end.
        self._thread = threading.Thread(target=_run, args=(self._loop,), name=name, daemon=True)
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, Answer]) -> "Future[Answer]":
        """Start work in the loop; the caller waits for the future."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def stop(self, last: Coroutine[Any, Any, None]) -> None:
        """Do the last work, cancel what still runs, end the thread and close the loop."""

        def begin() -> None:
            task = self._loop.create_task(last)
            task.add_done_callback(lambda _: self._loop.stop())

        self._loop.call_soon_threadsafe(begin)
        # The garbage collector may call from the loop's own thread, which cannot wait for itself.
        if threading.current_thread() is not self._thread:
            self._thread.join(STOP_SECONDS)


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        loop.run_until_complete(_cancel_rest())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


async def _cancel_rest() -> None:
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
