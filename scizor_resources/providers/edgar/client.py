"""`EdgarFilings`: which company a ticker belongs to, what it has filed, and where words stand.

EDGAR asks for no key, but for a User-Agent that names company and contact, and for 10 requests a
second at most from all machines together.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pandas as pd
from pydantic import SecretStr

from scizor_core.catalysts import is_amendment
from scizor_core.errors import ContractError, InvalidInputError
from scizor_resources.errors import AuthError, RateLimited, TransientError
from scizor_resources.providers.base import REJECTED_COLUMNS, empty_rejected
from scizor_resources.providers.edgar.filings import (
    SOURCE_NAME,
    Filing,
    clean,
    originals,
    parse_filings,
)
from scizor_resources.providers.edgar.full_text import (
    FIRST_DAY,
    MOST_HITS,
    Hit,
    SearchPage,
    parse_hits,
    parse_page,
)
from scizor_resources.providers.edgar.ownership import (
    InsiderStatement,
    document_path,
    parse_statement,
)
from scizor_resources.providers.gate import Gate
from scizor_resources.providers.http import JsonApi, retry_after

BASE_URL = "https://data.sec.gov"
WWW_BASE_URL = "https://www.sec.gov"
SEARCH_BASE_URL = "https://efts.sec.gov"
TITLE = "SEC EDGAR"
TICKERS_ENDPOINT = "/files/company_tickers.json"
SUBMISSIONS_ENDPOINT = "/submissions/CIK{cik}.json"
OLDER_ENDPOINT = "/submissions/{file}"
DOCUMENT_ENDPOINT = "/Archives/edgar/data/{cik}/{accession}/{document}"
SEARCH_ENDPOINT = "/LATEST/search-index"
#: Companies that one search asks for; their numbers stand in the address.
COMPANIES_PER_SEARCH = 50
#: How long EDGAR keeps out an address that has asked too often.
BLOCK_SECONDS = 600.0
#: A few forms become public weeks after their filing date.
_LATE_PUBLICATION = timedelta(days=45)
#: Characters in which a page shows that it is one.
_START = 200
_OLDER_FILE = re.compile(r"CIK\d{10}-submissions-\d+\.json")


def utc_now() -> datetime:
    """Return the present, UTC."""
    return datetime.now(tz=UTC)


@dataclass(frozen=True)
class CompanyFilings:
    """What a company has filed.

    Attributes:
        cik: EDGAR's number of the company.
        name: its name.
        filings: each once, newest file first.
        rejected: filings that cannot be used, columns `REJECTED_COLUMNS`.
    """

    cik: int
    name: str
    filings: tuple[Filing, ...]
    rejected: pd.DataFrame

    @property
    def by_form(self) -> dict[str, int]:
        """How many filings there are of each form."""
        return dict(Counter(filing.form for filing in self.filings))


@dataclass
class TextHits:
    """What a search of the full text came to.

    Attributes:
        hits: documents, one filing may have several.
        rejected: hits that cannot be used, columns `REJECTED_COLUMNS`.
        notes: sentences about what is not there.
    """

    hits: list[Hit] = field(default_factory=list)
    rejected: pd.DataFrame = field(default_factory=empty_rejected)
    notes: list[str] = field(default_factory=list)


class EdgarApi(JsonApi):
    """EDGAR's hosts answer errors in HTML; the words in it say what the matter is."""

    def _check(self, status: int, headers: Mapping[str, str], body: bytes, endpoint: str) -> Any:
        if status in (403, 429):
            words = body.decode("utf-8", errors="replace").lower()
            if status == 429 or "request rate threshold exceeded" in words:  # noqa: PLR2004
                rest = retry_after(headers)
                raise RateLimited(
                    f"{self.title} answered {status} for {endpoint}: this address has gone over "
                    "its limit of 10 requests a second. Calls to it pause for every process; other "
                    "machines behind the same address count too.",
                    provider=self.provider,
                    endpoint=endpoint,
                    status=status,
                    retry_after=BLOCK_SECONDS if rest is None else rest,
                )
            if "undeclared automated tool" in words:
                raise AuthError(
                    f"{self.title} answered {status} for {endpoint}: it does not accept how we "
                    "introduce ourselves. Set SCIZOR_EDGAR_USER_AGENT to company name and contact "
                    "address, for example 'Example Pty Ltd data@example.com'.",
                    provider=self.provider,
                    endpoint=endpoint,
                    status=status,
                )
        return super()._check(status, headers, body, endpoint)


class EdgarFilings:
    """A client of EDGAR's submissions, statements of insiders and full-text search.

    Args:
        gate: what every call passes; one for all hosts.
        user_agent: company name and contact address, sent with every request.
        base_url: stands in for data.sec.gov.
        www_base_url: stands in for www.sec.gov.
        search_base_url: stands in for efts.sec.gov.
        timeout_seconds: longest wait for one answer.
        now: clock, UTC.

    Attributes:
        gate: as given.
    """

    def __init__(
        self,
        gate: Gate,
        *,
        user_agent: str,
        base_url: str | None = None,
        www_base_url: str | None = None,
        search_base_url: str | None = None,
        timeout_seconds: float = 20.0,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self.gate = gate
        self._now = now
        self._data, self._www, self._search = (
            EdgarApi(
                SOURCE_NAME,
                TITLE,
                address.rstrip("/"),
                gate,
                timeout_seconds,
                # It holds somebody's address: kept out of errors like a key.
                secret_headers={"User-Agent": SecretStr(user_agent)},
            )
            for address in (
                base_url or BASE_URL,
                www_base_url or WWW_BASE_URL,
                search_base_url or SEARCH_BASE_URL,
            )
        )

    def close(self) -> None:
        """Close the connections; the next call opens them anew."""
        for api in (self._data, self._www, self._search):
            api.close()

    def tickers(self) -> dict[str, int]:
        """Return EDGAR's ticker -> number of the company (CIK), for all listed companies.

        Raises:
            RateLimited, AuthError, TransientError, SchemaDrift: the list could not be had.
        """
        answer = self._www.get(TICKERS_ENDPOINT, endpoint=TICKERS_ENDPOINT)
        rows = answer.values() if isinstance(answer, Mapping) else ()
        found = {
            clean(row["ticker"]).upper(): row["cik_str"]
            for row in rows
            if isinstance(row, Mapping)
            and isinstance(row.get("cik_str"), int)
            and isinstance(row.get("ticker"), str)
        }
        if not found:
            raise self._www.drift(TICKERS_ENDPOINT, "no row has 'cik_str' and 'ticker'")
        return found

    def company(self, cik: int, symbol: str, since: datetime, until: datetime) -> CompanyFilings:
        """Return a company's filings: the recent ones, and older ones where the window needs them.

        Args:
            cik: EDGAR's number of the company.
            symbol: what refused filings are kept under.
            since: start of the window in which publications are wanted.
            until: its end, exclusive.

        Returns:
            At least all filings published in the window, and the originals of amendments in it.
            The file of recent filings comes whole, with what lies outside the window.

        Raises:
            BadRequest: EDGAR has no such company.
            RateLimited, AuthError, TransientError, SchemaDrift: the answer could not be had.
        """
        answer = self._data.get(f"/submissions/CIK{cik:010d}.json", endpoint=SUBMISSIONS_ENDPOINT)
        filings = answer.get("filings") if isinstance(answer, Mapping) else None
        if not isinstance(filings, Mapping) or clean(answer.get("cik")).lstrip("0") != str(cik):
            raise self._data.drift(SUBMISSIONS_ENDPOINT, f"there are no filings of company {cik}")
        book = _Book(cik, symbol, self._now())
        self._take(book, filings.get("recent"), SUBMISSIONS_ENDPOINT, f"CIK{cik:010d}.json")
        older = _older_files(filings.get("files"), until.date())
        for _ in range(2):  # the second round is for originals of what the first has brought
            floor = book.needed_from(since, until)
            for name in [name for name, last in older.items() if last >= floor]:
                del older[name]
                page = self._data.get(f"/submissions/{name}", endpoint=OLDER_ENDPOINT)
                self._take(book, page, OLDER_ENDPOINT, name)
        name = clean(answer.get("name")) or f"CIK {cik}"
        return CompanyFilings(cik, name, tuple(book.filings.values()), book.rejected)

    def insider_statement(self, filing: Filing) -> InsiderStatement:
        """Return what a statement of an insider (Forms 3, 4, 5) says.

        Raises:
            ContractError: the document cannot be read; the message is the reason.
            BadRequest: EDGAR has no such document.
            RateLimited, AuthError, TransientError: the document could not be had.
        """
        text = self._www.get_text(
            document_path(filing), endpoint=DOCUMENT_ENDPOINT, accept="application/xml, text/xml"
        )
        if text[:_START].lstrip("\ufeff \t\r\n").lower().startswith(("<!doctype html", "<html")):
            raise TransientError(
                f"{TITLE} answered {DOCUMENT_ENDPOINT} with a page in place of the document. Try "
                "again; if it stays so, check the base URL.",
                provider=SOURCE_NAME,
                endpoint=DOCUMENT_ENDPOINT,
                status=200,
            )
        return parse_statement(text)

    def search(self, phrase: str, ciks: Sequence[int], first: date, last: date) -> TextHits:
        """Return the documents of some companies' filings in which a phrase stands.

        What has more hits than an answer reaches is asked for in halves, by days and then by
        companies; of one company's day with too many there is a note.

        Args:
            phrase: words that stand together; quotation marks in it are left out.
            ciks: companies.
            first: first filing date; documents since 2001 are searched.
            last: last filing date.

        Raises:
            ProviderError: an answer could not be had, or has not the agreed shape.
        """
        found, refused = TextHits(), list[dict[str, Any]]()
        words = " ".join(phrase.replace('"', " ").split())
        parts = [
            _Part(tuple(ciks[start : start + COMPANIES_PER_SEARCH]), max(first, FIRST_DAY), last)
            for start in range(0, len(ciks), COMPANIES_PER_SEARCH)
        ]
        while words and parts:
            part = parts.pop(0)
            if part.first > part.last:
                continue
            page = self._search_page(words, part, 0)
            if page.is_capped and (halves := part.halves()):
                parts[:0] = halves
                continue
            count = 0
            while page.rows:
                count += len(page.rows)
                hits, wrong = parse_hits(page.rows, now=self._now(), origin=SEARCH_ENDPOINT)
                found.hits += hits
                refused += wrong
                if page.is_partial or count >= min(page.total, MOST_HITS):
                    break
                page = self._search_page(words, part, count)
            if page.is_capped or page.is_partial or count < page.total:
                found.notes.append(
                    f"The full-text search for '{words}' gave {count:,} documents of {part} and "
                    "there are more."
                )
        if refused:
            found.rejected = pd.DataFrame(refused, columns=list(REJECTED_COLUMNS))
        return found

    def _search_page(self, words: str, part: "_Part", offset: int) -> SearchPage:
        answer = self._search.get(
            SEARCH_ENDPOINT,
            {
                "q": f'"{words}"',
                "dateRange": "custom",
                "startdt": part.first.isoformat(),
                "enddt": part.last.isoformat(),
                "ciks": ",".join(f"{cik:010d}" for cik in part.ciks),
                **({"from": offset} if offset else {}),
            },
        )
        try:
            return parse_page(answer)
        except ContractError as error:
            raise self._search.drift(SEARCH_ENDPOINT, str(error)) from None

    def _take(self, book: "_Book", arrays: Any, endpoint: str, origin: str) -> None:
        if not isinstance(arrays, Mapping):
            raise self._data.drift(endpoint, "there are no arrays")
        try:
            book.add(arrays, origin)
        except InvalidInputError as error:
            raise self._data.drift(endpoint, str(error)) from None


@dataclass(frozen=True)
class _Part:
    """Companies and days that one search asks for."""

    ciks: tuple[int, ...]
    first: date
    last: date

    def __str__(self) -> str:
        return f"{len(self.ciks)} companies from {self.first} to {self.last}"

    def halves(self) -> "list[_Part]":
        """Return two parts that are this one together; none where it cannot be halved."""
        if self.first < self.last:
            middle = self.first + (self.last - self.first) // 2
            after = middle + timedelta(days=1)
            return [_Part(self.ciks, self.first, middle), _Part(self.ciks, after, self.last)]
        if len(self.ciks) > 1:
            half = len(self.ciks) // 2
            return [
                _Part(some, self.first, self.last) for some in (self.ciks[:half], self.ciks[half:])
            ]
        return []


class _Book:
    """The filings of one company while its files are read."""

    def __init__(self, cik: int, symbol: str, now: datetime) -> None:
        self.filings: dict[str, Filing] = {}
        self.rejected = empty_rejected()
        self._cik, self._symbol, self._now = cik, symbol, now

    def add(self, arrays: Mapping[str, Any], origin: str) -> None:
        found, rejected = parse_filings(
            arrays, cik=self._cik, symbol=self._symbol, origin=origin, now=self._now
        )
        for filing in found:
            self.filings.setdefault(filing.accession, filing)
        if not rejected.empty:
            parts = [each for each in (self.rejected, rejected) if not each.empty]
            self.rejected = pd.concat(parts, ignore_index=True)

    def needed_from(self, since: datetime, until: datetime) -> date:
        """Return the filing date from which files are needed."""
        known = originals(tuple(self.filings.values()))
        dates = [
            filing.report_date
            for filing in self.filings.values()
            if since <= filing.published_at < until
            and is_amendment(filing.form)
            and filing.report_date is not None
            and filing.accession not in known
        ]
        return min([since.date() - _LATE_PUBLICATION, *dates])


def _older_files(files: Any, until: date) -> dict[str, date]:
    """Return file -> date of its last filing, for those that begin before the window ends."""
    found: dict[str, date] = {}
    for each in files if isinstance(files, list) else []:
        name = clean(each.get("name")) if isinstance(each, Mapping) else ""
        if not _OLDER_FILE.fullmatch(name):
            continue
        if _day(each.get("filingFrom"), date.min) <= until:
            found[name] = _day(each.get("filingTo"), date.max)
    return found


def _day(value: Any, otherwise: date) -> date:
    try:
        return date.fromisoformat(str(value))
    except ValueError:
        return otherwise
