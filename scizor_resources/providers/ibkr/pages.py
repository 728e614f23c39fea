"""Windows as IBKR is asked for them: an end, a duration backwards from it, and a bar size.

IBKR answers only steps of a few thousand bars (table of step sizes in the vendor's page on
historical data limitations, read 2026-11-21): a day of one minute bars, a week of five or fifteen
minute bars, a year of daily bars. Whether "2 D" means two trading days or 48 hours is nowhere
said, so pages begin and end with sessions, and each duration covers its page under both readings.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from scizor_core.markets import Timeframe, get_market
from scizor_core.sessions import Session, get_calendar
from scizor_resources.providers.rows import AskWindow

BAR_SIZES: dict[Timeframe, str] = {
    "1m": "1 min",
    "5m": "5 mins",
    "15m": "15 mins",
    "1d": "1 day",
}
#: Longest span of one request in days. A year of days leaves one to spare, for the change of
#: daylight saving; a duration above 365 days would have to be given in years.
STEP_DAYS: dict[Timeframe, int] = {"1m": 1, "5m": 7, "15m": 7, "1d": 364}

_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Page:
    """What one request is to bring; the pages of a window follow one another without a gap.

    Attributes:
        start: first bar start, UTC; for daily bars a session date at midnight.
        end: first bar start no longer part of the page.
        end_text: `endDateTime` on the wire, empty for "up to now".
        duration: `durationStr` on the wire.
    """

    start: datetime
    end: datetime
    end_text: str
    duration: str


def bar_pages(window: AskWindow, now: datetime) -> list[Page]:
    """Return the requests that a window needs, oldest first; none where no session lies in it.

    Args:
        window: what is wanted.
        now: the present, UTC; a page that reaches beyond it ends with the gateway's own present.
    """
    if window.timeframe == "1d":
        return list(_daily_pages(window, now))
    return list(_intraday_pages(window, now))


def utc_text(instant: datetime) -> str:
    """Return an instant in IBKR's notation of UTC, which has a dash; empty stands for now."""
    return f"{instant.astimezone(UTC):%Y%m%d-%H:%M:%S}"


def sessions_within(market: str, start: datetime, end: datetime) -> list[Session]:
    """Return the sessions, closing auction included, that overlap `[start, end)` (UTC)."""
    auction = timedelta(minutes=get_market(market).closing_auction_minutes)
    near = get_calendar(market).sessions((start - 2 * _DAY).date(), (end + 2 * _DAY).date())
    return [each for each in near if each.open < end and each.close + auction > start]


def _intraday_pages(window: AskWindow, now: datetime) -> Iterator[Page]:
    auction = timedelta(minutes=get_market(window.market).closing_auction_minutes)
    longest = STEP_DAYS[window.timeframe] * _DAY
    sessions = [
        each
        for each in sessions_within(window.market, window.start, window.end)
        if each.open <= now
    ]
    groups: list[list[Session]] = []
    for each in sessions:
        if groups and each.close + auction - groups[-1][0].open <= longest:
            groups[-1].append(each)
        else:
            groups.append([each])
    starts = [window.start, *(group[0].open for group in groups[1:])]
    ends = [*starts[1:], window.end]
    for group, start, end in zip(groups, starts, ends, strict=False):
        stop = min(end, group[-1].close + auction)
        days = -((group[0].open - min(stop, now)) // _DAY)
        yield Page(start, end, utc_text(stop) if stop <= now else "", f"{max(days, 1)} D")


def _daily_pages(window: AskWindow, now: datetime) -> Iterator[Page]:
    zone = ZoneInfo(get_market(window.market).timezone)
    today = now.astimezone(zone).date()
    start = window.start
    while start < window.end and start.date() <= today:
        end = min(start + STEP_DAYS["1d"] * _DAY, window.end)
        if get_calendar(window.market).sessions(start.date(), end.date()):
            midnight = datetime.combine(end.date(), time(), zone)
            past = midnight <= now
            last = end.date() if past else today
            yield Page(
                start,
                end,
                utc_text(midnight) if past else "",
                f"{(last - start.date()).days + 1} D",
            )
        start = end
