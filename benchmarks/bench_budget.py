"""Measure what passing the shared rate budget costs a call.

    python -m benchmarks.bench_budget [--calls N]

Six processes take room for call after call from one budget in one Valkey. The limit is so high that
nobody ever waits, so that what is measured is the step itself: one script in Valkey and the way
there. The limits have the shape of a real provider's: a minute, and calls under way in the second
figure, which need a second step to be given back.
"""

import argparse
import multiprocessing
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.synchronize import Barrier

from benchmarks.common import Figure, embedded_servers, load_average
from benchmarks.report import show
from scizor_resources.budget.limits import ProviderLimits, Window
from scizor_resources.budget.link import ValkeyLink
from scizor_resources.budget.valkey import ValkeyBudget

PROCESSES = 6
CALLS = 2_000
_LIMIT = 10_000_000

_barrier: Barrier | None = None


def _meet(barrier: Barrier) -> None:
    global _barrier  # noqa: PLW0603  # handed to each process once, when it starts
    _barrier = barrier


def limits(*, concurrency: int | None) -> ProviderLimits:
    """Return limits that are never reached."""
    windows = (Window(_LIMIT, 60, burst=_LIMIT),)
    return ProviderLimits(f"bench{concurrency}", "Benchmark", windows, concurrency=concurrency)


def acquire_seconds(url: str, concurrency: int | None, calls: int) -> list[float]:
    """Return how long each of `calls` acquires took in this process, begun with the others."""
    budget = ValkeyBudget(ValkeyLink(url), limits(concurrency=concurrency), "live")
    for _ in range(20):
        with budget.acquire("/bars"):
            pass
    if _barrier is not None:
        _barrier.wait(60)
    found = []
    for _ in range(calls):
        began = time.perf_counter()
        with budget.acquire("/bars"):
            found.append(time.perf_counter() - began)
    return found


def measure(calls: int = CALLS, processes: int = PROCESSES) -> list[Figure]:
    """Return p50 and p99 of an acquire in milliseconds, with and without a limit on concurrency."""
    spawn = multiprocessing.get_context("spawn")
    figures = []
    with (
        embedded_servers() as servers,
        ProcessPoolExecutor(
            processes,
            mp_context=spawn,
            initializer=_meet,
            initargs=(spawn.Barrier(processes),),
        ) as pool,
    ):
        for concurrency, what in ((None, "a window"), (1000, "a window and calls under way")):
            futures = [
                pool.submit(acquire_seconds, servers.redis_url, concurrency, calls)
                for _ in range(processes)
            ]
            each = [1000 * second for future in futures for second in future.result()]
            cuts = statistics.quantiles(each, n=100)
            note = f"{processes} processes x {calls:,} calls; load {load_average():.1f}"
            figures += [
                Figure(f"acquire, {what}: p50", statistics.median(each), "ms", note=note),
                Figure(f"acquire, {what}: p99", cuts[98], "ms", note=note),
            ]
    return figures


def main(arguments: list[str] | None = None) -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description="What passing the shared rate budget costs.")
    parser.add_argument("--calls", type=int, default=CALLS, help="calls of each process")
    options = parser.parse_args(arguments)
    show({"budget": measure(options.calls)})


if __name__ == "__main__":
    main()
