"""Markets at one moment: open or closed, until when, and what is to be known of them by now."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta

from scizor_core.markets import MARKETS, TIMEFRAME_MINUTES, Timeframe
from scizor_core.sessions import Session, get_calendar

#: A session's bars are collected until so long after its close; its completeness is judged then.
COLLECTED_AFTER_CLOSE = timedelta(hours=2)
#: Daily bars come in the night after the session.
DAILY_AFTER_CLOSE = timedelta(hours=12)
_LOOK_BACK = timedelta(days=14)


@dataclass(frozen=True)
class MarketClock:
    """A market at one moment; times are UTC.

    Attributes:
        market: its name.
        at: the moment.
        is_open: it trades.
        always: it never closes.
        changes_at: when it closes, or opens next; None beyond the calendar.
        sessions: sessions of the last two weeks that have begun, in order.
    """

    market: str
    at: datetime
    is_open: bool
    always: bool
    changes_at: datetime | None
    sessions: tuple[Session, ...]

    @property
    def session(self) -> Session | None:
        """The session that runs or ran last."""
        return self.sessions[-1] if self.sessions else None

    @property
    def judged_session(self) -> Session | None:
        """The last session whose bars have had their time to come in."""
        return self._closed_before(self.at - COLLECTED_AFTER_CLOSE)

    @property
    def daily_session(self) -> Session | None:
        """The last session whose daily bar should be there."""
        return self._closed_before(self.at - DAILY_AFTER_CLOSE)

    def _closed_before(self, at: datetime) -> Session | None:
        return next((each for each in reversed(self.sessions) if each.close <= at), None)

    def known_until(self, late: timedelta, timeframe: Timeframe) -> datetime | None:
        """Return until when bars have to be known, if they may be late by so much.

        A closed market asks for nothing beyond its last close.

        Args:
            late: how late the last bar may be.
            timeframe: a bar is known as a whole, so that the last one may still be running.
        """
        then = self.at - late
        begun = [each for each in self.sessions if each.open < then]
        if not begun:
            return None
        session = begun[-1]
        step = timedelta(minutes=TIMEFRAME_MINUTES[timeframe])
        if then >= session.close:
            return session.close
        # Whole bars since the open; before the first of them, the session before has to be known.
        bars = (then - session.open) // step
        if bars:
            return session.open + bars * step
        return begun[-2].close if len(begun) > 1 else None


def market_clock(market: str, at: datetime) -> MarketClock:
    """Return a market at that instant (aware)."""
    calendar = get_calendar(market)
    sessions = tuple(
        each
        for each in calendar.sessions(
            (at - _LOOK_BACK).date(), (at + timedelta(days=2)).date() + timedelta(days=1)
        )
        if each.open <= at
    )
    is_open = calendar.is_open(at)
    always = len(sessions) > 1 and sessions[-2].close == sessions[-1].open
    changes_at = sessions[-1].close if is_open else calendar.next_open(at)
    return MarketClock(market, at, is_open, always, None if always else changes_at, sessions)


def market_clocks(at: datetime) -> dict[str, MarketClock]:
    """Return every market at that instant (aware)."""
    return {market: market_clock(market, at) for market in MARKETS}


def sessions_of_interest(clocks: dict[str, MarketClock]) -> list[tuple[str, date]]:
    """Return (market, session) of what runs or ran last, and of what is judged."""
    chosen: dict[tuple[str, date], None] = {}
    for clock in clocks.values():
        for session in (clock.session, clock.judged_session):
            if session is not None:
                chosen[clock.market, session.session_date] = None
    return list(chosen)
