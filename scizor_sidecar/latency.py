"""Latencies as histograms: quick to add to, good to five percent, forgetful after a while."""

import math
from collections.abc import Sequence

#: Upper edges of the buckets that people are shown, milliseconds; what is slower is "over".
BUCKETS_MS: tuple[float, ...] = (10.0, 25.0, 50.0, 100.0)
_FIRST_MS = 0.05
_GROWTH = 1.05
_LOG_GROWTH = math.log(_GROWTH)
#: The last one begins at two minutes.
_CELLS = math.ceil(math.log(120_000 / _FIRST_MS) / _LOG_GROWTH) + 2


class Latency:
    """A histogram of latencies in milliseconds over the last while.

    It holds two halves: when the present one is old enough, it becomes the earlier one, whose
    values are forgotten.

    Args:
        half_seconds: length of a half.
    """

    __slots__ = ("_cells", "_earlier", "_half_seconds", "_turn_at", "count", "sums", "totals")

    def __init__(self, half_seconds: float = 150.0) -> None:
        self._half_seconds = half_seconds
        self._cells, self._earlier = [0] * _CELLS, [0] * _CELLS
        self._turn_at = -math.inf
        #: Since the start, for counters: per bucket of `BUCKETS_MS` and over, values, their sum.
        self.totals = [0] * (len(BUCKETS_MS) + 1)
        self.count, self.sums = 0, 0.0

    def add(self, milliseconds: float, at: float, times: int = 1) -> None:
        """Take a value.

        Args:
            milliseconds: negative ones (another machine's clock) count as none.
            at: monotonic seconds.
            times: so many of it.
        """
        if at >= self._turn_at:
            self._turn(at)
        value = max(milliseconds, 0.0)
        self._cells[_cell(value)] += times
        self.totals[bucket_of(value)] += times
        self.count += times
        self.sums += value * times

    def percentiles(self, shares: Sequence[float], at: float) -> list[float | None]:
        """Return the values below which those shares (0 to 1) lie, None without any value."""
        if at >= self._turn_at:
            self._turn(at)
        cells = [a + b for a, b in zip(self._cells, self._earlier, strict=True)]
        total = sum(cells)
        if not total:
            return [None] * len(shares)
        found: list[float | None] = []
        for share in shares:
            needed, seen = math.ceil(share * total), 0
            for number, count in enumerate(cells):
                seen += count
                if seen >= max(needed, 1):
                    found.append(round(_FIRST_MS * _GROWTH**number, 3))
                    break
        return found

    def _turn(self, at: float) -> None:
        is_old = at >= self._turn_at + self._half_seconds
        self._earlier = [0] * _CELLS if is_old else self._cells
        self._cells = [0] * _CELLS
        self._turn_at = at + self._half_seconds


def bucket_of(milliseconds: float) -> int:
    """Return the number of the bucket that people are shown."""
    return next(
        (number for number, edge in enumerate(BUCKETS_MS) if milliseconds < edge), len(BUCKETS_MS)
    )


def bucket_names() -> list[str]:
    """Return the buckets' names."""
    return [f"<{edge:g}" for edge in BUCKETS_MS] + [f">={BUCKETS_MS[-1]:g}"]


def _cell(milliseconds: float) -> int:
    if milliseconds <= _FIRST_MS:
        return 0
    return min(math.ceil(math.log(milliseconds / _FIRST_MS) / _LOG_GROWTH), _CELLS - 1)
