"""Measure how soon another sidecar streams when the one that holds the lease goes.

    python -m benchmarks.bench_takeover [--quick]

Two processes share a watchlist; the first is killed (kill -9) or told to stop (SIGTERM), and the
time is taken until the other one says that it streams.
"""

import argparse
import signal
import statistics
import time

from benchmarks.common import Figure, load_average
from benchmarks.report import show
from benchmarks.streamed import START_SECONDS, live_platform
from tests.integration.streamed import awaited, recent_tape, sidecar

ROUNDS = 3
_LOOK_SECONDS = 0.02


def takeover(how: signal.Signals) -> float:
    """Return the seconds from a signal to the first sidecar until the second one streams."""
    tape = recent_tape(("BTC/USD", "ETH/USD"), 20_000, 40)
    with live_platform(tape, 500) as (_, exchange, folder):
        exchange.resume()
        with (
            sidecar(folder / "first.log") as first,
            sidecar(folder / "second.log") as second,
        ):
            pair = [first, second]
            if not awaited(lambda: any(each.streams() for each in pair), START_SECONDS):
                raise RuntimeError(f"No sidecar started:\n{first.said()}")
            leader, other = sorted(pair, key=lambda each: not each.streams())
            if not awaited(lambda: "another sidecar works" in other.said(), START_SECONDS):
                raise RuntimeError(f"The other sidecar does not stand by:\n{other.said()}")
            began = time.monotonic()
            leader.process.send_signal(how)
            if not awaited(other.streams, START_SECONDS, _LOOK_SECONDS):
                raise RuntimeError(f"Nobody took over:\n{other.said()}")
            return time.monotonic() - began


def measure(*, quick: bool = False) -> list[Figure]:
    """Return the times after a kill and after SIGTERM."""
    figures = []
    for how, name, target in (
        (signal.SIGKILL, "kill -9", "<= 10"),
        (signal.SIGTERM, "SIGTERM", ""),
    ):
        taken = [takeover(how) for _ in range(1 if quick else ROUNDS)]
        note = f"slowest of {len(taken)}; load {load_average():.1f}"
        what = f"takeover by another sidecar after {name}"
        figures.append(Figure(f"{what}, median", statistics.median(taken), "s", note=note))
        figures.append(Figure(f"{what}, slowest", max(taken), "s", target=target, note=note))
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Takeover between two sidecars.")
    parser.add_argument("--quick", action="store_true")
    show({"takeover": measure(quick=parser.parse_args().quick)})


if __name__ == "__main__":
    main()
