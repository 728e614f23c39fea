"""`EdgarEvents`: filings of watched US companies as catalyst events.

First the list of companies and their filings, then the phrases of the full-text search, then the
documents of insiders' statements; what one of them cannot give does not cost what the others have.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd

from scizor_core.markets import get_market
from scizor_core.sessions import get_calendar
from scizor_resources.errors import BadRequest, ProviderError
from scizor_resources.providers.base import empty_rejected
from scizor_resources.providers.edgar.client import CompanyFilings, EdgarFilings
from scizor_resources.providers.edgar.collect import Collected, collect, is_refusal
from scizor_resources.providers.edgar.events import events_of
from scizor_resources.providers.edgar.filings import SOURCE_NAME, Filing, end_of_day
from scizor_resources.providers.edgar.full_text import Hit
from scizor_resources.providers.edgar.statements import read_statements
from scizor_resources.providers.edgar.symbols import MARKET
from scizor_resources.providers.events import EventFindings, EventRequest

NOBODY_WATCHED = "no symbol of market us is on the watchlist"
NOTHING_PUBLISHED = "no event of a watched symbol was published"


@dataclass
class Searched:
    """What the searches for all phrases came to.

    Attributes:
        hits: accession number -> one of its documents, the main one where it was found.
        phrases: accession number -> phrases that were found in it.
        rejected: hits that cannot be used, columns `REJECTED_COLUMNS`.
        errors: phrase -> sentence, for each search that failed.
        notes: sentences about what is not there.
        failure: the first error that another try may mend or somebody has to look at.
        refusal: the error that has ended the asking.
    """

    hits: dict[str, Hit] = field(default_factory=dict)
    phrases: dict[str, list[str]] = field(default_factory=dict)
    rejected: pd.DataFrame = field(default_factory=empty_rejected)
    errors: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    failure: ProviderError | None = None
    refusal: ProviderError | None = None

    def add(self, phrase: str, hits: Iterable[Hit]) -> None:
        """Take the documents in which a phrase was found; all of a filing are one."""
        for hit in hits:
            if hit.is_main or hit.accession not in self.hits:
                self.hits[hit.accession] = hit
            found = self.phrases.setdefault(hit.accession, [])
            if phrase not in found:
                found.append(phrase)


class EdgarEvents:
    """SEC EDGAR as a source of events.

    Args:
        client: EDGAR; closed with this.
        now: clock, aware.
        full_text: phrases that filings of watched companies are searched for; none: no search.

    Attributes:
        gate: the client's.
    """

    def __init__(
        self,
        client: EdgarFilings,
        *,
        now: Callable[[], datetime],
        full_text: Sequence[str] = (),
    ) -> None:
        self.gate = client.gate
        self._client = client
        self._now = now
        self._phrases = tuple(dict.fromkeys(each for each in full_text if each.strip()))

    @property
    def name(self) -> str:
        """The source's name, as in the `source` column of events and rules."""
        return SOURCE_NAME

    def close(self) -> None:
        """Close the connections; the next call opens them anew."""
        self._client.close()

    def fetch(self, request: EventRequest) -> EventFindings:
        """Fetch the events of a window.

        A filing that only the full-text search knows was public when its day was over (Eastern).

        Raises:
            ProviderError: the list of companies could not be had.
        """
        watched = {each.symbol: each.instrument_id for each in request.of_market(MARKET)}
        if not watched:
            return EventFindings(metadata={"empty_reason": NOBODY_WATCHED})
        found = collect(self._client, watched, request.since, request.until)
        searched = self._search(found, request)
        companies, added = _with_hits(found.companies, searched.hits, self._now())
        statements = read_statements(
            self._client,
            companies,
            request.rules,
            request.since,
            request.until,
            found.refusal or searched.refusal,
        )
        batch = events_of(
            companies,
            found.instruments,
            request.rules,
            since=request.since,
            until=request.until,
            calendar=get_calendar(MARKET),
            detected_at=self._now(),
            statements=statements.found,
            phrases=searched.phrases,
        )
        metadata: dict[str, Any] = {
            "filings_by_form": batch.filings_by_form,
            "symbols_asked": sorted(watched),
            **found.metadata(),
            "insider_statements_read": len(statements.found),
        }
        if self._phrases:
            metadata["events_with_phrases"] = len(
                set(batch.events["source_id"]) & set(searched.hits)
            )
        if batch.events.empty:
            metadata["empty_reason"] = NOTHING_PUBLISHED
        return EventFindings(
            events=batch.events,
            rejected=_together(found.rejected, searched.rejected),
            received=found.filings + added,
            skipped=batch.skipped,
            errors={**found.errors, **searched.errors, **statements.errors},
            failure=found.failure or searched.failure or statements.failure,
            notes=[*searched.notes, *statements.notes],
            metadata=metadata,
        )

    def _search(self, found: Collected, request: EventRequest) -> Searched:
        """Search the filings of the companies that answered.

        Of a company whose list is not here, a filing would lose the time that is known of it.
        """
        searched = Searched(refusal=found.refusal)
        ciks = [company.cik for company in found.companies]
        first, last = _filing_dates(request.since, request.until)
        rejected: list[pd.DataFrame] = []
        for phrase in self._phrases if ciks else ():
            try:
                if searched.refusal is not None:
                    raise searched.refusal
                answer = self._client.search(phrase, ciks, first, last)
            except ProviderError as error:
                searched.errors[phrase] = str(error)
                if not isinstance(error, BadRequest):
                    searched.failure = searched.failure or error
                if is_refusal(error):
                    searched.refusal = error
                continue
            searched.add(phrase, answer.hits)
            searched.notes += answer.notes
            rejected.append(answer.rejected)
        searched.rejected = _together(*rejected)
        return searched


def _filing_dates(since: datetime, until: datetime) -> tuple[date, date]:
    """Return the first and last filing date of what can have been published in a window.

    A filing that has only its date is public at the end of it, so that the day before counts too.
    """
    zone = ZoneInfo(get_market(MARKET).timezone)
    last = (until - timedelta(microseconds=1)).astimezone(zone).date()
    return since.astimezone(zone).date() - timedelta(days=1), last


def _with_hits(
    companies: Sequence[CompanyFilings], hits: dict[str, Hit], now: datetime
) -> tuple[list[CompanyFilings], int]:
    """Return companies with the filings that only the search has, and how many those are.

    One whose day is not over waits for that, or for the list of filings to have its time.
    """
    known = {filing.accession for company in companies for filing in company.filings}
    new = [
        hit
        for accession, hit in hits.items()
        if accession not in known and end_of_day(hit.filing_date) <= now
    ]
    out: list[CompanyFilings] = []
    used: set[str] = set()
    for company in companies:
        filings: list[Filing] = [hit.filing(company.cik) for hit in new if company.cik in hit.ciks]
        used.update(filing.accession for filing in filings)
        out.append(replace(company, filings=(*company.filings, *filings)))
    return out, len(used)


def _together(*frames: pd.DataFrame) -> pd.DataFrame:
    parts = [frame for frame in frames if not frame.empty]
    return pd.concat(parts, ignore_index=True) if parts else empty_rejected()
