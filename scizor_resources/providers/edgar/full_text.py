"""Filings as EDGAR's full-text search finds them: pure.

Source: efts.sec.gov/LATEST/search-index, as the page "EDGAR Full Text Search" asks it, read
2026-11-21.

Note:
    Each hit is a document, so that a filing comes several times. A hit names all who have to do
    with the filing, people among them; their names are not kept. It has the day of the filing and
    no time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from scizor_core.errors import ContractError, InvalidInputError
from scizor_resources.providers.edgar.filings import (
    SOURCE_NAME,
    Filing,
    check_filing_date,
    clean,
    date_of,
    date_or_none,
    end_of_day,
    is_accession,
    items_of,
)

#: No answer reaches further; what is behind it has to be asked for in smaller parts.
MOST_HITS = 10_000
#: Documents of filings since then are searched.
FIRST_DAY = date(2001, 1, 1)
_NEEDED = ("adsh", "form", "file_date", "ciks")
_KEPT_OF_REFUSED = ("adsh", "form", "file_date")
_LONGEST_REFUSED = 200


@dataclass(frozen=True)
class Hit:
    """A document that was found.

    Attributes:
        accession: number of the filing.
        form: form of the filing, not of the document.
        ciks: companies and people that the filing is listed under.
        filing_date: EDGAR's date of the filing (Eastern).
        report_date: end of the period or day of the event, None where there is none.
        items: items of an 8-K.
        file_number: number of the registration, empty where there is none.
        document: name of the document in the filing's folder.
        is_main: it is the filing's main document.
    """

    accession: str
    form: str
    ciks: tuple[int, ...]
    filing_date: date
    report_date: date | None
    items: tuple[str, ...]
    file_number: str
    document: str
    is_main: bool

    def filing(self, cik: int) -> Filing:
        """Return the filing as one of a company's; it was public when its day was over."""
        return Filing(
            cik=cik,
            accession=self.accession,
            form=self.form,
            items=self.items,
            filing_date=self.filing_date,
            report_date=self.report_date,
            accepted_text="",
            published_at=end_of_day(self.filing_date),
            file_number=self.file_number,
            document=self.document,
            about="",
        )


@dataclass(frozen=True)
class SearchPage:
    """One page of an answer.

    Attributes:
        rows: hits as they came.
        total: how many there are in all.
        is_capped: there may be more than that, or more than can be had.
        is_partial: the search gave up before it had looked everywhere.
    """

    rows: tuple[Any, ...]
    total: int
    is_capped: bool
    is_partial: bool


def parse_page(answer: Any) -> SearchPage:
    """Return a page of an answer.

    Raises:
        ContractError: it has not the agreed shape.
    """
    outer = answer.get("hits") if isinstance(answer, Mapping) else None
    rows = outer.get("hits") if isinstance(outer, Mapping) else None
    total = outer.get("total") if isinstance(outer, Mapping) else None
    count = total.get("value") if isinstance(total, Mapping) else None
    if not isinstance(rows, list) or not isinstance(count, int) or not isinstance(total, Mapping):
        raise ContractError("there are no hits and their number")
    lacking = [_lacking(row) for row in rows]
    if rows and all(lacking):
        raise ContractError(f"no hit has '{lacking[0]}'")
    capped = count > MOST_HITS or total.get("relation", "eq") != "eq"
    return SearchPage(tuple(rows), count, capped, answer.get("timed_out") is True)


def parse_hits(
    rows: Sequence[Any], *, now: datetime, origin: str
) -> tuple[list[Hit], list[dict[str, Any]]]:
    """Return the hits of a page, and the refused ones (names `REJECTED_COLUMNS`).

    Args:
        rows: as they came.
        now: the present, aware; filings of the far future are refused.
        origin: what was called.
    """
    hits: list[Hit] = []
    refused: list[dict[str, Any]] = []
    for row in rows:
        try:
            hits.append(_hit(row, now))
        except InvalidInputError as error:
            refused.append(_refused(row, str(error), origin))
    return hits, refused


def _lacking(row: Any) -> str:
    """Return the first needed field that a hit has not, empty where it has all."""
    source = row.get("_source") if isinstance(row, Mapping) else None
    if not isinstance(source, Mapping):
        return "_source"
    return next((name for name in _NEEDED if source.get(name) is None), "")


def _hit(row: Any, now: datetime) -> Hit:
    if lacking := _lacking(row):
        raise InvalidInputError(f"there is no '{lacking}'")
    source: Mapping[str, Any] = row["_source"]
    accession, form = clean(source["adsh"]), clean(source["form"])
    if not is_accession(accession):
        raise InvalidInputError(f"'{accession[:_LONGEST_REFUSED]}' is no accession number")
    if not form:
        raise InvalidInputError("there is no form")
    filing_date = date_of(clean(source["file_date"])[:_LONGEST_REFUSED], "filing date")
    check_filing_date(filing_date, now)
    _, _, document = clean(row.get("_id")).partition(":")
    numbers = _texts(source.get("file_num"))
    return Hit(
        accession=accession,
        form=form,
        ciks=tuple(int(cik) for cik in _texts(source["ciks"]) if cik.isascii() and cik.isdigit()),
        filing_date=filing_date,
        report_date=date_or_none(clean(source.get("period_ending"))),
        items=items_of(form, _texts(source.get("items"))),
        file_number=numbers[0] if numbers else "",
        document=document,
        is_main=clean(source.get("file_type")) == form,
    )


def _texts(values: Any) -> list[str]:
    return [clean(each) for each in values] if isinstance(values, list) else []


def _refused(row: Any, reason: str, origin: str) -> dict[str, Any]:
    source = row.get("_source") if isinstance(row, Mapping) else None
    kept = source if isinstance(source, Mapping) else {}
    return {
        "symbol": "",
        "ts": None,
        "reason": reason,
        "source": SOURCE_NAME,
        "origin": origin,
        "row_number": None,
        "payload": {name: clean(kept.get(name))[:_LONGEST_REFUSED] for name in _KEPT_OF_REFUSED},
    }
