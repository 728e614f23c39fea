"""How long feeds were connected, of the time in which their markets traded, in the last hour."""

from collections.abc import Callable, Mapping
from typing import Any

#: What is judged: the last hour, minute by minute.
MINUTES = 60


class Uptime:
    """Seconds open and seconds connected of each feed, per minute."""

    def __init__(self) -> None:
        self._minutes: dict[str, dict[int, tuple[float, float]]] = {}

    def add(self, feed: str, minute: int, seconds: float, *, is_connected: bool) -> None:
        """Count a stretch of time in which the feed's market traded.

        Args:
            feed: name of the feed.
            minute: minutes since 1970 UTC.
            seconds: its length.
            is_connected: whether the feed was.
        """
        minutes = self._minutes.setdefault(feed, {})
        opened, connected = minutes.get(minute, (0.0, 0.0))
        minutes[minute] = (opened + seconds, connected + seconds * is_connected)
        for old in [each for each in minutes if each <= minute - MINUTES]:
            del minutes[old]

    def percent(self, feed: str, minute: int) -> float | None:
        """Return the share of the last hour's trading time, None where nothing traded."""
        kept = [
            pair
            for each, pair in self._minutes.get(feed, {}).items()
            if minute - MINUTES < each <= minute
        ]
        opened = sum(pair[0] for pair in kept)
        return 100 * sum(pair[1] for pair in kept) / opened if opened else None

    def as_json(self) -> dict[str, list[list[float]]]:
        """Return what another process can go on from."""
        return {
            feed: [[minute, *pair] for minute, pair in minutes.items()]
            for feed, minutes in self._minutes.items()
        }

    def go_on(
        self,
        earlier: Mapping[str, Any],
        minute: int,
        was_open: Callable[[str, int], bool],
    ) -> None:
        """Go on from what an earlier process has told: the time without any was none connected.

        Args:
            earlier: what its `as_json` gave.
            minute: the present one.
            was_open: whether a feed's market traded in a minute.
        """
        for feed, rows in earlier.items():
            minutes = {int(each): (float(opened), float(up)) for each, opened, up in rows}
            if not minutes:
                continue
            for missed in range(max(max(minutes) + 1, minute - MINUTES + 1), minute):
                minutes[missed] = (60.0 if was_open(feed, missed) else 0.0, 0.0)
            self._minutes[feed] = minutes
