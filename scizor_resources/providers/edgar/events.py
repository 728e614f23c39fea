"""Filings as catalyst events of the instruments that they concern: a pure function."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import pandas as pd

from scizor_core.catalysts import CatalystRule, RuleTable, first_tradable_at, is_amendment
from scizor_core.schemas.catalysts import catalysts_frame
from scizor_core.sessions import SessionCalendar
from scizor_resources.providers.edgar.client import CompanyFilings
from scizor_resources.providers.edgar.filings import SOURCE_NAME, Filing, originals, url_of

NOT_WATCHED = "no ticker on the watchlist"
LEFT_OUT = "left out by the rules"
NOT_TRADABLE = "the calendar of the market ends before"
_LONGEST_NAME = 200
_LONGEST_TITLE = 500


@dataclass(frozen=True)
class EventBatch:
    """What filings came to.

    Attributes:
        events: one row per event and instrument, columns `CATALYST_COLUMNS`.
        filings_by_form: form -> filings published in the window, events or not.
        skipped: reason -> filings of the window that are no events.
    """

    events: pd.DataFrame
    filings_by_form: dict[str, int]
    skipped: dict[str, int]


def events_of(
    companies: Iterable[CompanyFilings],
    instruments: Mapping[int, Sequence[int]],
    rules: RuleTable,
    *,
    since: datetime,
    until: datetime,
    calendar: SessionCalendar,
    detected_at: datetime,
) -> EventBatch:
    """Return the events of filings that were published in a window.

    A filing that several companies share is one event with the instruments of all of them.

    Args:
        companies: what was filed.
        instruments: CIK -> ids of the watched instruments of that company.
        rules: what is an event, and how much it matters.
        since: start of the window, UTC.
        until: its end, exclusive.
        calendar: sessions of the instruments' market.
        detected_at: when the answers came, UTC.
    """
    records: dict[tuple[str, int], dict[str, object]] = {}
    forms: dict[str, str] = {}
    reasons: dict[str, str | None] = {}
    for company in companies:
        amends = originals(company.filings)
        for filing in company.filings:
            if not since <= filing.published_at < until:
                continue
            forms[filing.accession] = filing.form
            rule = rules.match(filing.form, filing.items)
            tradable = first_tradable_at(filing.published_at, calendar)
            watched = instruments.get(company.cik, ())
            reason = _why_not(watched, rule, tradable)
            if reason is not None or rule is None:
                reasons.setdefault(filing.accession, reason)
                continue
            reasons[filing.accession] = None
            for instrument_id in watched:
                records[filing.accession, instrument_id] = {
                    **_event(company.name, filing, rule, rules, amends.get(filing.accession, "")),
                    "instrument_id": instrument_id,
                    "first_tradable_at": tradable,
                    "detected_at": detected_at,
                }
    return EventBatch(
        catalysts_frame(list(records.values())),
        dict(Counter(forms.values())),
        dict(Counter(reason for reason in reasons.values() if reason is not None)),
    )


def _why_not(
    watched: Sequence[int], rule: CatalystRule | None, tradable: datetime | None
) -> str | None:
    if not watched:
        return NOT_WATCHED
    if rule is None:
        return LEFT_OUT
    return NOT_TRADABLE if tradable is None else None


def _event(
    company: str, filing: Filing, rule: CatalystRule, rules: RuleTable, amends: str
) -> dict[str, object]:
    items = [
        f"{item} {title}" if (title := rules.title_of(filing.form, item)) else item
        for item in filing.items
    ]
    return {
        "source": SOURCE_NAME,
        "source_id": filing.accession,
        "type": rule.type,
        "title": f"{company[:_LONGEST_NAME]}: {rule.title} ({filing.form})"[:_LONGEST_TITLE],
        "description": "; ".join(items) or filing.about,
        "url": url_of(filing),
        "form": filing.form,
        "items": ",".join(filing.items),
        "filing_date": filing.filing_date,
        "report_date": filing.report_date,
        "accepted_text": filing.accepted_text,
        "published_at": filing.published_at,
        "impact": rule.impact,
        "is_amendment": is_amendment(filing.form),
        "amends": amends,
    }
