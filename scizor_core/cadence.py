"""When the bars of a session are refreshed, and of which symbols.

While a market is open everything on its watchlist is due every five minutes, tier 1 every minute.
After the close, while late prices and the closing auction still come in, everything is due at the
close and every quarter of an hour. A closed market has nothing due.

All of it goes by what was asked for last and not by the clock alone, so that a refresh that had to
wait for the one before it covers what was skipped.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from scizor_core.instruments import WatchlistEntry
from scizor_core.markets import MarketSpec, Timeframe
from scizor_core.sessions import Session, get_calendar

#: Symbols of this tier are due every minute, in these timeframes.
MINUTE_TIER = 1
MINUTE_TIMEFRAMES: tuple[Timeframe, ...] = ("1m", "5m")
#: While the market is open everything is due on multiples of this since midnight UTC.
EVERYTHING_EVERY = timedelta(minutes=5)
#: Yahoo is 15 to 20 minutes late with Australian prices, and the closing auction prints after the
#: close: the session is refreshed for so long after it, this often.
AFTER_HOURS = timedelta(minutes=40)
AFTER_HOURS_EVERY = timedelta(minutes=15)

#: "minute": tier 1 in `MINUTE_TIMEFRAMES`; "all": everything that is watched.
Scope = Literal["minute", "all"]


@dataclass(frozen=True)
class Requested:
    """What has been asked for of a session: instants, None for never.

    Attributes:
        minute: the last minute that was taken care of.
        everything: the last time that everything was.
    """

    minute: datetime | None = None
    everything: datetime | None = None


@dataclass(frozen=True)
class Watched:
    """A symbol that is collected.

    Attributes:
        symbol: its code.
        tier: 1 to 3; the best one where it stands in several lists.
        timeframes: intraday timeframes that are collected or derived.
    """

    symbol: str
    tier: int
    timeframes: frozenset[Timeframe]


def sessions_to_refresh(market: MarketSpec, at: datetime) -> list[Session]:
    """Return the sessions that trade at that instant or have just closed, in order.

    Of a market that never closes there are two for a while after midnight: the last minutes of the
    day before are fetched after it.

    Args:
        market: the market.
        at: an instant, aware.
    """
    day = at.astimezone(UTC).date()
    around = get_calendar(market.name).sessions(day - timedelta(days=1), day + timedelta(days=2))
    return [each for each in around if each.open <= at < each.close + AFTER_HOURS]


def session_closed_at(market: MarketSpec, close: datetime) -> Session | None:
    """Return the session whose close is that instant (aware), None where none closes then."""
    day = close.astimezone(UTC).date()
    around = get_calendar(market.name).sessions(day - timedelta(days=1), day + timedelta(days=2))
    return next((each for each in around if each.close == close), None)


def minute_of(at: datetime) -> datetime:
    """Return the beginning of the minute of that instant (aware), in UTC."""
    return at.astimezone(UTC).replace(second=0, microsecond=0)


def refresh_due(session: Session, at: datetime, requested: Requested) -> Scope | None:
    """Say what of a session is due.

    Args:
        session: one of `sessions_to_refresh`.
        at: the present, aware.
        requested: what has been asked for before.

    Returns:
        "all", "minute", or None where nothing is due.
    """
    if at < session.open or at >= session.close + AFTER_HOURS:
        return None
    if requested.everything is None or requested.everything < _everything_due(session, at):
        return "all"
    minute = minute_of(at)
    if minute < session.close and (requested.minute is None or requested.minute < minute):
        return "minute"
    return None


def _everything_due(session: Session, at: datetime) -> datetime:
    """Return the last instant at or before `at` at which everything was due."""
    if at >= session.close:
        quarters = (at - session.close) // AFTER_HOURS_EVERY
        return session.close + quarters * AFTER_HOURS_EVERY
    midnight = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    mark = midnight + (at - midnight) // EVERYTHING_EVERY * EVERYTHING_EVERY
    return max(mark, session.open)


def watched_of(entries: Iterable[WatchlistEntry]) -> list[Watched]:
    """Return what is collected within the session, by symbol.

    Args:
        entries: the watchlist of one market; inactive entries are left out, and several of one
            symbol are one.
    """
    tiers: dict[str, int] = {}
    timeframes: dict[str, set[Timeframe]] = {}
    for entry in entries:
        if not (entry.active and (entry.collect_1min or entry.collect_5min)):
            continue
        tiers[entry.symbol] = min(entry.priority, tiers.get(entry.symbol, entry.priority))
        found = timeframes.setdefault(entry.symbol, {"15m"})
        if entry.collect_1min:
            found.add("1m")
        if entry.collect_5min:
            found.add("5m")
    return [Watched(each, tiers[each], frozenset(timeframes[each])) for each in sorted(tiers)]


def symbols_due(scope: Scope, watched: Sequence[Watched]) -> dict[Timeframe, list[str] | None]:
    """Return timeframe -> the symbols that are due, None for all that collect it.

    Args:
        scope: what is due.
        watched: the watchlist; a timeframe that nobody on it collects is left out.
    """
    if scope == "all":
        collected = frozenset[Timeframe]().union(*(each.timeframes for each in watched))
        order: tuple[Timeframe, ...] = ("1m", "5m", "15m")
        # 5m is derived of 1m too, for whoever collects that alone.
        derived: set[Timeframe] = {"5m"} if "1m" in collected else set()
        return {each: None for each in order if each in collected | derived}
    due: dict[Timeframe, list[str] | None] = {}
    for timeframe in MINUTE_TIMEFRAMES:
        symbols = [
            each.symbol
            for each in watched
            if each.tier == MINUTE_TIER and timeframe in each.timeframes
        ]
        if symbols:
            due[timeframe] = symbols
    return due
