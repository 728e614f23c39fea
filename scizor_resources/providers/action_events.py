"""`ActionEvents`: splits and dividends that the platform knows, as catalyst events.

Nothing is asked of anybody: the actions are those that are stored and applied.
"""

from collections.abc import Callable
from datetime import date, datetime, timedelta
from fractions import Fraction

from scizor_core.catalysts import CatalystRule, first_tradable_at
from scizor_core.mentions import Nameable
from scizor_core.schemas.catalysts import catalysts_frame
from scizor_core.sessions import SessionCalendar, get_calendar
from scizor_resources.providers.events import EventFindings, EventRequest
from scizor_resources.providers.gate import Gate
from scizor_resources.stores.actions import ActionStore, DatedAction

SOURCE_NAME = "corporate_actions"
NOT_WATCHED = "not on the watchlist"
LEFT_OUT = "left out by the rules"
NOT_TRADABLE = "the calendar of the market ends before"
#: Providers report some actions only after their day; those of these last days are news still.
LATE = timedelta(days=7)
#: The longest time that an exchange was ever closed (New York, September 2001) is shorter.
_LONGEST_CLOSURE = timedelta(days=8)


class ActionEvents:
    """A source of catalyst events: corporate actions of the watched instruments.

    Args:
        actions: where they are stored.
        now: clock, UTC.

    Attributes:
        gate: has no limits, for nothing is asked of anybody.
    """

    def __init__(self, actions: ActionStore, now: Callable[[], datetime]) -> None:
        self.gate = Gate(SOURCE_NAME)
        self._actions = actions
        self._now = now

    @property
    def name(self) -> str:
        """The source's name, as in the `source` column of events and rules."""
        return SOURCE_NAME

    def close(self) -> None:
        """There is nothing to close."""

    def fetch(self, request: EventRequest) -> EventFindings:
        """Return the actions whose ex-date lies in the days of the window or that it brought.

        An action counts from when it was first seen, or from the open of its ex-date where it was
        seen later; so the event of a dividend that was known before lies before the window.

        Raises:
            WarehouseError: PostgreSQL cannot be reached.
        """
        findings = EventFindings()
        watched = {each.instrument_id: each for each in request.instruments}
        records: list[dict[str, object]] = []
        for action in self._actions.applied_between(request.since, request.until, late=LATE):
            findings.received += 1
            instrument = watched.get(action.instrument_id)
            event = self._event(action, instrument, request)
            if isinstance(event, str):
                findings.skipped[event] = findings.skipped.get(event, 0) + 1
            else:
                records.append(event)
        findings.events = catalysts_frame(records)
        if not records:
            findings.notes.append("no applied action of a watched instrument lies in these days")
        return findings

    def _event(
        self, action: DatedAction, instrument: Nameable | None, request: EventRequest
    ) -> dict[str, object] | str:
        """Return an event, or why there is none."""
        rule = request.rules.match(action.kind)
        if instrument is None:
            return NOT_WATCHED
        if rule is None:
            return LEFT_OUT
        calendar = get_calendar(instrument.market)
        public = published_at(action.ex_date, action.first_seen_at, calendar)
        tradable = first_tradable_at(public, calendar) if public is not None else None
        if tradable is None:
            return NOT_TRADABLE
        return {
            **_described(action, instrument, rule),
            "instrument_id": instrument.instrument_id,
            "published_at": public,
            "detected_at": self._now(),
            "first_tradable_at": tradable,
        }


def published_at(
    ex_date: date, first_seen_at: datetime, calendar: SessionCalendar
) -> datetime | None:
    """Return when an action counts as public (UTC), None where the calendar ends before.

    That is when it was first seen, or the open of its ex-date (for a closed day the next open)
    where that was earlier: then at the latest prices show it.
    """
    session = calendar.session(ex_date)
    if session is None:
        following = calendar.sessions(ex_date, ex_date + _LONGEST_CLOSURE)
        if not following:
            return None
        session = following[0]
    return min(first_seen_at, session.open)


def _described(action: DatedAction, instrument: Nameable, rule: CatalystRule) -> dict[str, object]:
    what = f"{action.kind} {_value(action)}, ex {action.ex_date}"
    return {
        "source": SOURCE_NAME,
        "source_id": f"{instrument.market}:{instrument.symbol}:{action.ex_date}:{action.kind}",
        "type": rule.type,
        "title": f"{instrument.symbol}: {what}",
        "description": f"{rule.title}, as {action.source} reports it",
        "url": "",
        "form": action.kind,
        "items": "",
        "filing_date": None,
        "report_date": action.ex_date,
        "accepted_text": "",
        "impact": rule.impact,
        "is_amendment": False,
        "amends": "",
    }


def _value(action: DatedAction) -> str:
    """Return `2.50 AUD` of a dividend, `4 for 1` of a split."""
    if action.ratio is not None:
        ratio = Fraction(action.ratio).limit_denominator(10_000)
        return f"{ratio.numerator} for {ratio.denominator}"
    whole, _, decimals = f"{action.amount or 0.0:.6f}".partition(".")
    return f"{whole}.{decimals.rstrip('0').ljust(2, '0')} {action.currency}"
