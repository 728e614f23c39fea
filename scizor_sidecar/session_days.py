"""The exchange's date of an instant, for many instants that repeat."""

from datetime import date

from scizor_core.markets import MARKETS
from scizor_core.sessions import get_calendar
from scizor_core.stream.guards import SessionClock

_FIRST_DAY = date(1970, 1, 1).toordinal()
_MOST_KEPT = 10_000


class SessionDays:
    """Looks each start of a bar up once."""

    def __init__(self) -> None:
        self._clocks = {name: SessionClock(get_calendar(name)) for name in MARKETS}
        self._days: dict[tuple[str, int], int | None] = {}

    def day(self, market: str, start: int) -> int | None:
        """Return the session's date as days since 1970, None outside of sessions.

        Args:
            market: its name.
            start: microseconds UTC.
        """
        key = (market, start)
        if key not in self._days:
            if len(self._days) >= _MOST_KEPT:
                self._days.clear()
            found = self._clocks[market].session_date(start)
            self._days[key] = None if found is None else found.toordinal() - _FIRST_DAY
        return self._days[key]
