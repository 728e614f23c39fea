"""`FinnhubEarnings`: the earnings calendar as catalyst events, dates to come and figures reported.

The calendar has a day and a part of the day, no time. What is reported before the open counts from
the open on, everything else from the close: nothing is known earlier than it can have been.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
from pydantic import SecretStr

from scizor_core.catalysts import CatalystRule, first_tradable_at
from scizor_core.markets import get_market
from scizor_core.mentions import Nameable
from scizor_core.schemas.catalysts import catalysts_frame
from scizor_core.sessions import SessionCalendar, get_calendar
from scizor_resources.errors import (
    AuthError,
    BadRequest,
    ProviderError,
    RateLimited,
    SchemaDrift,
    TransientError,
)
from scizor_resources.providers.base import REJECTED_COLUMNS, empty_rejected
from scizor_resources.providers.events import EventFindings, EventRequest
from scizor_resources.providers.finnhub.api import finnhub_api
from scizor_resources.providers.finnhub.refusals import NO_EARNINGS
from scizor_resources.providers.finnhub.symbols import to_finnhub_symbol
from scizor_resources.providers.finnhub.wire import (
    EARNINGS_PATH,
    EarningsRelease,
    drift,
    parse_earnings,
)
from scizor_resources.providers.finnhub.wire import SOURCE_NAME as PROVIDER
from scizor_resources.providers.gate import Gate

SOURCE_NAME = "finnhub_earnings"
MARKET = "us"
REPORTED = "reported"
#: Events of this form keep the time at which they were first seen (`stores.catalysts`).
SCHEDULED = "scheduled"
#: How far ahead dates are news.
AHEAD = timedelta(days=30)
#: So many symbols are asked for one by one; of more the whole calendar is read day by day, if
#: that takes fewer calls.
MOST_SYMBOLS = 50
#: An answer with so many rows may have lost some.
MOST_ROWS = 1_500
NOT_WATCHED = "no ticker on the watchlist"
LEFT_OUT = "left out by the rules"
NO_FIGURES = "its day has gone by without figures"
NOT_YET = "it counts from a later time on"
NOT_TRADABLE = "the calendar of the market ends before"

#: The longest time that the exchange was ever closed (September 2001) is shorter.
_LONGEST_CLOSURE = timedelta(days=7)
_FIRST_REPORT = date(1990, 1, 1)
_FURTHEST_REPORT = timedelta(days=730)
_NEEDED = ("symbol", "date", "year", "quarter", "epsActual", "epsEstimate", "hour")
_HOURS = {
    "bmo": "before the open",
    "amc": "after the close",
    "dmh": "during the session",
}


def published_at(release: EarningsRelease, calendar: SessionCalendar) -> datetime | None:
    """Return when a report counts as public (UTC), None where the calendar ends before.

    That is the open of its day for a report before the open, else the close; for a day without a
    session it is the next open.
    """
    day = release.report_date
    session = calendar.session(day)
    if session is None:
        following = calendar.sessions(day, day + _LONGEST_CLOSURE + timedelta(days=1))
        return following[0].open if following else None
    return session.open if release.hour == "bmo" else session.close


def events_of(
    releases: list[EarningsRelease],
    request: EventRequest,
    watched: Mapping[str, list[Nameable]],
    *,
    now: datetime,
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Return the events of a calendar, and reason -> releases that are none.

    Args:
        releases: of any days; of two about the same quarter the later day counts.
        request: the window and the rules.
        watched: Finnhub's symbol -> instruments.
        now: the present, UTC; dates to come are events where it lies in the window.
    """
    calendar = get_calendar(MARKET)
    records: dict[tuple[str, int], dict[str, object]] = {}
    skipped: Counter[str] = Counter()
    for release in sorted(releases, key=lambda each: each.report_date):
        placed = _placed(release, request, published_at(release, calendar), now)
        if placed is None:
            continue
        form, at = placed
        rule = request.rules.match(form)
        tradable = first_tradable_at(at, calendar)
        if release.symbol not in watched:
            skipped[NOT_WATCHED] += 1
        elif form not in (REPORTED, SCHEDULED):
            skipped[form] += 1
        elif rule is None:
            skipped[LEFT_OUT] += 1
        elif tradable is None:
            skipped[NOT_TRADABLE] += 1
        else:
            event = _event(release, form, rule)
            for instrument in watched[release.symbol]:
                records[str(event["source_id"]), instrument.instrument_id] = {
                    **event,
                    "instrument_id": instrument.instrument_id,
                    "published_at": at,
                    "first_tradable_at": tradable,
                    "detected_at": now,
                }
    return catalysts_frame(list(records.values())), dict(skipped)


@dataclass
class _Reading:
    """What has been read so far."""

    now: datetime
    releases: list[EarningsRelease] = field(default_factory=list)
    refused: list[dict[str, Any]] = field(default_factory=list)
    received: int = 0
    asked: int = 0
    errors: dict[str, str] = field(default_factory=dict)
    failure: ProviderError | None = None
    notes: list[str] = field(default_factory=list)

    def take(self, answer: Any, what: str) -> None:
        """Read an answer.

        Raises:
            SchemaDrift: it is no calendar, or a field is in none of its rows.
        """
        rows = answer.get("earningsCalendar") if isinstance(answer, Mapping) else None
        if not isinstance(rows, list):
            parse_earnings(answer)  # says what is wrong
            return
        found = [row for row in rows if isinstance(row, Mapping)]
        absent = [name for name in _NEEDED if not any(name in row for row in found)]
        if rows and absent:
            raise drift(EARNINGS_PATH, f"no release has {', '.join(absent)}")
        self.received += len(rows)
        if len(rows) >= MOST_ROWS:
            self.notes.append(f"the answer for {what} has {len(rows)} rows and may be cut short")
        for row in rows:
            self._take_row(row)

    def failed(self, what: str, error: ProviderError) -> None:
        self.errors[what] = str(error)
        if self.failure is None and not isinstance(error, BadRequest):
            self.failure = error

    def _take_row(self, row: Any) -> None:
        try:
            (release,) = parse_earnings({"earningsCalendar": [row]})
        except SchemaDrift:
            self._refuse(row, "its symbol, day, year or quarter is not there or cannot be read")
            return
        furthest = self.now.date() + _FURTHEST_REPORT
        if not _FIRST_REPORT <= release.report_date <= furthest:
            self._refuse(row, f"its day {release.report_date} cannot be")
            return
        self.releases.append(release)

    def _refuse(self, row: Any, reason: str) -> None:
        values = row if isinstance(row, Mapping) else {"row": row}
        self.refused.append(
            {
                "symbol": str(values.get("symbol") or ""),
                "ts": None,
                "reason": reason,
                "source": SOURCE_NAME,
                "origin": EARNINGS_PATH,
                "row_number": None,
                "payload": {str(name): str(value)[:200] for name, value in values.items()},
            }
        )

    @property
    def rejected(self) -> pd.DataFrame:
        if not self.refused:
            return empty_rejected()
        return pd.DataFrame(self.refused, columns=list(REJECTED_COLUMNS))


class FinnhubEarnings:
    """A source of catalyst events: Finnhub's earnings calendar of US companies.

    Args:
        gate: what every call passes, the one of provider finnhub.
        base_url: address with its path, without a slash at the end; None for Finnhub's own.
        key: API key; goes in a header, never in an address.
        timeout_seconds: longest wait for one answer.
        now: clock, UTC.

    Attributes:
        gate: as given.
    """

    def __init__(
        self,
        gate: Gate,
        *,
        base_url: str | None = None,
        key: SecretStr | None = None,
        timeout_seconds: float = 20.0,
        now: Callable[[], datetime],
    ) -> None:
        self.gate = gate
        self._now = now
        self._has_key = key is not None
        self._api = finnhub_api(gate, base_url, key, timeout_seconds, NO_EARNINGS)

    @property
    def name(self) -> str:
        """The source's name, as in the `source` column of events and rules."""
        return SOURCE_NAME

    def close(self) -> None:
        """Close the connections; the next call opens them anew."""
        self._api.close()

    def fetch(self, request: EventRequest) -> EventFindings:
        """Fetch the reports of a window, and the dates to come where it holds the present.

        Raises:
            AuthError: no key, a wrong one, or a plan without the calendar.
            RateLimited, TransientError, SchemaDrift, BadRequest: nothing could be had.
        """
        now = self._now()
        watched: dict[str, list[Nameable]] = {}
        for each in request.of_market(MARKET):
            watched.setdefault(to_finnhub_symbol(MARKET, each.symbol), []).append(each)
        if not watched:
            return EventFindings(notes=[f"no symbol of market {MARKET} is on the watchlist"])
        reading = _Reading(now)
        start, end = _days(request, now)
        for what, params in _queries(sorted(watched), start, end):
            try:
                reading.asked += 1
                reading.take(self._get(params), what)
            except ProviderError as error:
                reading.failed(what, error)
                if _is_for_all(error):
                    reading.notes.append(f"nothing was asked after {what}")
                    break
        if len(reading.errors) == reading.asked:
            raise reading.failure or BadRequest(
                f"Finnhub refused every question for {EARNINGS_PATH}: "
                f"{next(iter(reading.errors.values()))}",
                provider=PROVIDER,
                endpoint=EARNINGS_PATH,
            )
        events, skipped = events_of(reading.releases, request, watched, now=now)
        return EventFindings(
            events=events,
            rejected=reading.rejected,
            received=reading.received,
            skipped=skipped,
            errors=reading.errors,
            failure=reading.failure,
            notes=reading.notes,
        )

    def _get(self, params: dict[str, str | int]) -> Any:
        if not self._has_key:
            raise AuthError(
                f"Finnhub has no {EARNINGS_PATH} without a key, and none is set. Set "
                "SCIZOR_FINNHUB_API_KEY.",
                provider=PROVIDER,
                endpoint=EARNINGS_PATH,
            )
        return self._api.get(EARNINGS_PATH, params)


def _days(request: EventRequest, now: datetime) -> tuple[date, date]:
    """Return the first day to ask for and the first one no longer wanted, of the exchange."""
    # Reports of closed days count from the next open on.
    start = request.since.date() - _LONGEST_CLOSURE
    end = (request.until - timedelta(microseconds=1)).date() + timedelta(days=1)
    if request.since <= now < request.until:
        end = max(end, _last_day(now) + timedelta(days=1))
    return start, end


def _last_day(now: datetime) -> date:
    """Return the furthest day to come that is news."""
    return now.astimezone(ZoneInfo(get_market(MARKET).timezone)).date() + AHEAD


def _queries(
    symbols: list[str], start: date, end: date
) -> Iterator[tuple[str, dict[str, str | int]]]:
    """Yield what is asked, in words and as a query; Finnhub's last day is inclusive."""
    days = [start + timedelta(days=n) for n in range((end - start).days)]
    if len(symbols) <= max(MOST_SYMBOLS, len(days)):
        for symbol in symbols:
            yield symbol, {"from": str(days[0]), "to": str(days[-1]), "symbol": symbol}
        return
    for day in days:
        yield str(day), {"from": str(day), "to": str(day)}


def _is_for_all(error: ProviderError) -> bool:
    """Say whether an error would be that of every other question, too."""
    unreachable = isinstance(error, TransientError) and error.status is None
    return unreachable or isinstance(error, RateLimited | AuthError)


def _placed(
    release: EarningsRelease, request: EventRequest, public: datetime | None, now: datetime
) -> tuple[str, datetime] | None:
    """Return the form of a release, or why it has none, and its time; None outside the window."""
    in_window = public is not None and request.since <= public < request.until
    if _finite(release.eps_actual) is not None:
        if public is None or not in_window:
            return None
        return (REPORTED if public <= now else NOT_YET), public
    if public is not None and public <= now:
        return (NO_FIGURES, public) if in_window else None
    if request.since <= now < request.until and release.report_date <= _last_day(now):
        return SCHEDULED, now
    return None


def _event(release: EarningsRelease, form: str, rule: CatalystRule) -> dict[str, object]:
    quarter = f"{release.symbol}-{release.year}Q{release.quarter}"
    day = release.report_date
    when = _HOURS.get(release.hour or "", "")
    if form == SCHEDULED:
        source_id = f"{quarter}-{SCHEDULED}-{day}"
        said = [f"on {day} {when}".strip(), _estimate(release)]
    else:
        source_id = quarter
        said = [_figures(release), _revenue(release), when]
    title = f"{release.symbol}: {rule.title}, Q{release.quarter} {release.year}"
    return {
        "source": SOURCE_NAME,
        "source_id": source_id,
        "type": rule.type,
        "title": f"{title}, {day}" if form == SCHEDULED else title,
        "description": "; ".join(each for each in said if each),
        "url": "",
        "form": form,
        "items": "",
        "filing_date": None,
        "report_date": day,
        "accepted_text": f"{day} {release.hour or ''}".strip(),
        "impact": rule.impact,
        "is_amendment": False,
        "amends": "",
    }


def _estimate(release: EarningsRelease) -> str:
    estimate = _finite(release.eps_estimate)
    return "" if estimate is None else f"EPS estimate {estimate:.10g} USD"


def _figures(release: EarningsRelease) -> str:
    actual, estimate = _finite(release.eps_actual), _finite(release.eps_estimate)
    if actual is None or estimate is None:
        return "" if actual is None else f"EPS {actual:.10g} USD"
    words = f"EPS {actual:.10g} USD, estimate {estimate:.10g}"
    if estimate == 0:
        return words
    return f"{words}, surprise {(actual - estimate) / abs(estimate) * 100:+.1f} %"


def _revenue(release: EarningsRelease) -> str:
    actual, estimate = _finite(release.revenue_actual), _finite(release.revenue_estimate)
    if actual is None:
        return ""
    words = f"revenue {actual:,.0f} USD"
    return words if estimate is None else f"{words}, estimate {estimate:,.0f}"


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
