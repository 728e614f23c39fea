"""Filings as catalyst events of the instruments that they concern: a pure function."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import pandas as pd

from scizor_core.catalysts import (
    CatalystRule,
    RuleTable,
    first_tradable_at,
    impact_of_value,
    is_amendment,
)
from scizor_core.schemas.catalysts import catalysts_frame
from scizor_core.sessions import SessionCalendar
from scizor_resources.providers.edgar.client import CompanyFilings
from scizor_resources.providers.edgar.filings import (
    SOURCE_NAME,
    Filing,
    is_of_holder,
    originals,
    url_of,
)
from scizor_resources.providers.edgar.ownership import BUY, SELL, InsiderStatement

NOT_WATCHED = "no ticker on the watchlist"
LEFT_OUT = "left out by the rules"
NOT_TRADABLE = "the calendar of the market ends before"
ABOUT_ANOTHER = "statement about another company's shares"
_LONGEST_NAME = 200
_LONGEST_DESCRIPTION = 2_000
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


def events_of(  # noqa: PLR0913  # keywords, two of them with defaults
    companies: Iterable[CompanyFilings],
    instruments: Mapping[int, Sequence[int]],
    rules: RuleTable,
    *,
    since: datetime,
    until: datetime,
    calendar: SessionCalendar,
    detected_at: datetime,
    statements: Mapping[str, InsiderStatement] | None = None,
    phrases: Mapping[str, Sequence[str]] | None = None,
) -> EventBatch:
    """Return the events of filings that were published in a window.

    A filing that several companies share is one event with the instruments of all of them. A
    statement of an insider or of a holder above 5 % is listed under its maker too, and is an event
    of the company only that it is about.

    Args:
        companies: what was filed.
        instruments: CIK -> ids of the watched instruments of that company.
        rules: what is an event, and how much it matters.
        since: start of the window, UTC.
        until: its end, exclusive.
        calendar: sessions of the instruments' market.
        detected_at: when the answers came, UTC.
        statements: accession number -> what a statement of an insider says.
        phrases: accession number -> phrases that were found in the filing.
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
            told = _Told(
                company,
                filing,
                (statements or {}).get(filing.accession),
                tuple((phrases or {}).get(filing.accession, ())),
            )
            rule = rules.match(filing.form, told.items)
            tradable = first_tradable_at(filing.published_at, calendar)
            watched = instruments.get(company.cik, ())
            reason = _why_not(told, watched, rule, tradable)
            if reason is not None or rule is None:
                reasons.setdefault(filing.accession, reason)
                continue
            reasons[filing.accession] = None
            for instrument_id in watched:
                records[filing.accession, instrument_id] = {
                    **_event(told, rule, rules, amends.get(filing.accession, "")),
                    "instrument_id": instrument_id,
                    "first_tradable_at": tradable,
                    "detected_at": detected_at,
                }
    return EventBatch(
        catalysts_frame(list(records.values())),
        dict(Counter(forms.values())),
        dict(Counter(reason for reason in reasons.values() if reason is not None)),
    )


@dataclass(frozen=True)
class _Told:
    """A filing with what is known of it beside the list that it stands in."""

    company: CompanyFilings
    filing: Filing
    statement: InsiderStatement | None
    phrases: tuple[str, ...]

    @property
    def items(self) -> tuple[str, ...]:
        """Items of an 8-K, codes of the transactions of a statement."""
        return self.statement.codes if self.statement is not None else self.filing.items

    @property
    def is_about_another(self) -> bool:
        """The company has made a statement about shares of another one."""
        if self.statement is not None:
            return self.statement.issuer_cik != self.company.cik
        # The number is that of the company whose shares are held; under the holder there is none.
        return (
            is_of_holder(self.filing.form)
            and not self.filing.file_number
            and any(each.file_number for each in self.company.filings)
        )

    def description(self, rules: RuleTable) -> str:
        items = [
            f"{item} {title}" if (title := rules.title_of(self.filing.form, item)) else item
            for item in self.filing.items
        ]
        found = "; ".join(items) or self.filing.about
        if self.statement is not None:
            found = self.statement.words
        quoted = ", ".join(f'"{phrase}"' for phrase in self.phrases)
        parts = [found[:_LONGEST_DESCRIPTION], f"the full text has {quoted}" if quoted else ""]
        return "; ".join(part for part in parts if part)

    def impact(self, rule: CatalystRule) -> int | None:
        if self.statement is None or rule.impact is None or rule.item not in (BUY, SELL):
            return rule.impact
        return impact_of_value(rule.impact, self.statement.value_usd(rule.item))


def _why_not(
    told: _Told, watched: Sequence[int], rule: CatalystRule | None, tradable: datetime | None
) -> str | None:
    if not watched:
        return NOT_WATCHED
    if told.is_about_another:
        return ABOUT_ANOTHER
    if rule is None:
        return LEFT_OUT
    return NOT_TRADABLE if tradable is None else None


def _event(told: _Told, rule: CatalystRule, rules: RuleTable, amends: str) -> dict[str, object]:
    filing, name = told.filing, told.company.name[:_LONGEST_NAME]
    return {
        "source": SOURCE_NAME,
        "source_id": filing.accession,
        "type": rule.type,
        "title": f"{name}: {rule.title} ({filing.form})"[:_LONGEST_TITLE],
        "description": told.description(rules),
        "url": url_of(filing),
        "form": filing.form,
        "items": ",".join(told.items),
        "filing_date": filing.filing_date,
        "report_date": filing.report_date,
        "accepted_text": filing.accepted_text,
        "published_at": filing.published_at,
        "impact": told.impact(rule),
        "is_amendment": is_amendment(filing.form),
        "amends": amends,
    }
