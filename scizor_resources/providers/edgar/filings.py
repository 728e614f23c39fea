"""Filings as EDGAR's submissions list them, and when each was public at the latest: pure.

Source: data.sec.gov/submissions, "EDGAR Application Programming Interfaces", read 2026-11-21.

Note:
    `acceptanceDateTime` ends with a Z, but its digits have been Eastern wall time: in a recorded
    answer of 2022, 474 of 502 insider statements of a company were accepted "after 17:30" and no
    filing between 22:00 and 06:00 but two notices made by the SEC itself, just EDGAR's hours in
    New York. Whether the digits are UTC or Eastern cannot be told from one answer, so the digits
    are kept as they came and the later reading counts (`published_at`). An event then is up to five
    hours late and never early.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

import pandas as pd

from scizor_core.catalysts import base_form, is_amendment
from scizor_core.errors import InvalidInputError
from scizor_core.privacy import mask_people
from scizor_resources.providers.base import REJECTED_COLUMNS, empty_rejected

SOURCE_NAME = "edgar"
ARCHIVE_URL = "https://www.sec.gov/Archives/edgar/data"
#: Electronic filing began in 1993.
FIRST_FILING_DATE = date(1993, 1, 1)
#: Reports of earlier days are slips such as the year 0202.
_FIRST_REPORT_DATE = date(1900, 1, 1)
#: A filing date may be the next business day, behind a long weekend.
_FURTHEST_FILING_DATE = timedelta(days=7)
_FURTHEST_ACCEPTANCE = timedelta(days=1)
#: EDGAR shows filings from 06:00; what comes after 17:30 has the next business day's date and
#: waits until then, insider statements apart.
_FIRST_HOUR = time(6)
_NEW_YORK = ZoneInfo("America/New_York")
_ACCESSION = re.compile(r"\d{10}-\d{2}-\d{6}")
#: Statements of holders above 5 %; the short names were given up at the end of 2024.
_HOLDER = re.compile(r"(?:SC|SCHEDULE) (13[DG])(?:/A)?")
_LONGEST_REFUSED = 200

REQUIRED_ARRAYS: tuple[str, ...] = (
    "accessionNumber",
    "filingDate",
    "acceptanceDateTime",
    "form",
    "primaryDocument",
)
_OPTIONAL_ARRAYS: tuple[str, ...] = ("reportDate", "fileNumber", "items", "primaryDocDescription")


@dataclass(frozen=True)
class Filing:
    """One filing.

    Attributes:
        cik: the company it is listed under.
        accession: EDGAR's number of the filing, unique: `0001318605-22-000015`.
        form: form as written, `8-K/A`.
        items: items of an 8-K; empty for other forms.
        filing_date: EDGAR's date of the filing (Eastern).
        report_date: end of the period or day of the event, None where there is none.
        accepted_text: time of acceptance exactly as it came, empty where only the day is known.
        published_at: UTC; when it was public at the latest.
        file_number: number of the registration, empty where there is none.
        document: path of the main document, empty where there is none.
        about: what the filer calls the document, without names of people.
    """

    cik: int
    accession: str
    form: str
    items: tuple[str, ...]
    filing_date: date
    report_date: date | None
    accepted_text: str
    published_at: datetime
    file_number: str
    document: str
    about: str


def published_at(accepted_text: str, filing_date: date) -> datetime:
    """Return when a filing was public at the latest, UTC.

    The latest of: the digits of the acceptance read as UTC, the same read as Eastern time (the
    later one, where daylight saving makes two of them), and 06:00 Eastern of the filing date. A
    time with an offset of its own other than zero is taken at its word.

    Raises:
        InvalidInputError: the text is no time.
    """
    try:
        given = datetime.fromisoformat(accepted_text)
    except ValueError:
        raise InvalidInputError(f"'{accepted_text}' is no time of acceptance") from None
    readings = [datetime.combine(filing_date, _FIRST_HOUR, _NEW_YORK)]
    if given.utcoffset():
        readings.append(given)
    else:
        readings.append(given.replace(tzinfo=UTC))
        readings += [given.replace(tzinfo=_NEW_YORK, fold=fold) for fold in (0, 1)]
    try:
        return max(each.astimezone(UTC) for each in readings)
    except OverflowError:
        raise InvalidInputError(f"'{accepted_text}' is out of reach") from None


def end_of_day(filing_date: date) -> datetime:
    """Return the end of a filing date in Eastern time, UTC: all filings of it were public by then.

    What is accepted after 17:30 gets the next business day's date; statements of insiders and of
    holders above 5 % may come until 22:00 and keep theirs. So the date alone says no more than
    that a filing was public when the day was over.
    """
    over = datetime.combine(filing_date + timedelta(days=1), time(), _NEW_YORK)
    return over.astimezone(UTC)


def parse_filings(
    arrays: Mapping[str, Any], *, cik: int, symbol: str, origin: str, now: datetime
) -> tuple[list[Filing], pd.DataFrame]:
    """Return the filings of parallel arrays, and the refused ones (columns `REJECTED_COLUMNS`).

    Args:
        arrays: name -> values, one for each filing.
        cik: the company.
        symbol: what refused rows are kept under.
        origin: name of the file.
        now: the present, aware; filings of the far future are refused.

    Returns:
        Each accession number once, in the order given.

    Raises:
        InvalidInputError: an array is missing or has another length; the message says which.
    """
    columns = _columns(arrays)
    found: dict[str, Filing] = {}
    refused: list[dict[str, Any]] = []
    for values in zip(*columns.values(), strict=True):
        row = dict(zip(columns, values, strict=True))
        try:
            filing = _filing(row, cik, now)
        except InvalidInputError as error:
            refused.append(_refused(row, symbol, str(error), origin))
        else:
            found.setdefault(filing.accession, filing)
    rejected = pd.DataFrame(refused, columns=list(REJECTED_COLUMNS)) if refused else None
    return list(found.values()), empty_rejected() if rejected is None else rejected


def originals(filings: Sequence[Filing]) -> dict[str, str]:
    """Return amendment -> original (accession numbers), for amendments whose original is plain.

    The original has the amended form and the same report date, or the same file number where there
    is no report date, and was accepted before. Of several 8-Ks of a day it is the one that shares
    an item. Of statements of holders, which all have the number of the company that they are
    about, it has to be sent in by the same sender. Where more than one is left, none is named.
    """
    first: dict[tuple[str, object], list[Filing]] = {}
    for filing in filings:
        if not is_amendment(filing.form) and (key := _matter(filing)) is not None:
            first.setdefault((_form_name(filing.form), key), []).append(filing)
    found: dict[str, str] = {}
    for filing in filings:
        if not is_amendment(filing.form) or (key := _matter(filing)) is None:
            continue
        candidates = [
            each
            for each in first.get((_form_name(base_form(filing.form)), key), [])
            if each.published_at <= filing.published_at
            and (not is_of_holder(filing.form) or _sender(each) == _sender(filing))
        ]
        if len(candidates) > 1:
            candidates = [each for each in candidates if set(each.items) & set(filing.items)]
        if len(candidates) == 1:
            found[filing.accession] = candidates[0].accession
    return found


def url_of(filing: Filing) -> str:
    """Return the address of the main document, or of the index where there is none."""
    document = filing.document or f"{filing.accession}-index.htm"
    folder = filing.accession.replace("-", "")
    return f"{ARCHIVE_URL}/{filing.cik}/{folder}/{quote(document)}"


def is_of_holder(form: str) -> bool:
    """Say whether a form is a statement of a holder above 5 % (Schedules 13D and 13G)."""
    return _HOLDER.fullmatch(form) is not None


def is_accession(text: str) -> bool:
    """Say whether a text is an accession number."""
    return _ACCESSION.fullmatch(text) is not None


def check_filing_date(filing_date: date, now: datetime) -> None:
    """Refuse a filing date that cannot be.

    Raises:
        InvalidInputError: it is before EDGAR's first year or in the future.
    """
    if filing_date < FIRST_FILING_DATE:
        raise InvalidInputError(f"filing date {filing_date} is before EDGAR's first year")
    if filing_date > now.date() + _FURTHEST_FILING_DATE:
        raise InvalidInputError(f"filing date {filing_date} is in the future")


def items_of(form: str, items: Sequence[str]) -> tuple[str, ...]:
    """Return the items of a filing; only 8-Ks have some that mean something."""
    if base_form(form) != "8-K":
        return ()
    return tuple(item for each in items if (item := each.strip()))


def _form_name(form: str) -> str:
    return form.replace("SC 13", "SCHEDULE 13") if is_of_holder(form) else form


def _sender(filing: Filing) -> str:
    """Return the number of who has sent a filing in, the first part of its accession number."""
    return filing.accession.partition("-")[0]


def _matter(filing: Filing) -> object | None:
    """Return what an amendment and its original have in common, None where nothing is known."""
    return filing.report_date or filing.file_number or None


def _columns(arrays: Mapping[str, Any]) -> dict[str, Sequence[Any]]:
    columns: dict[str, Sequence[Any]] = {}
    for name in REQUIRED_ARRAYS:
        values = arrays.get(name)
        if not isinstance(values, list):
            raise InvalidInputError(f"there is no array '{name}'")
        columns[name] = values
    length = len(columns["accessionNumber"])
    for name in _OPTIONAL_ARRAYS:
        values = arrays.get(name)
        columns[name] = values if isinstance(values, list) else [""] * length
    for name, values in columns.items():
        if len(values) != length:
            raise InvalidInputError(
                f"array '{name}' has {len(values)} values where 'accessionNumber' has {length}"
            )
    return columns


def _filing(row: Mapping[str, Any], cik: int, now: datetime) -> Filing:
    text = {name: clean(value) for name, value in row.items()}
    if not is_accession(text["accessionNumber"]):
        raise InvalidInputError(f"'{text['accessionNumber']}' is no accession number")
    if not text["form"]:
        raise InvalidInputError("there is no form")
    filing_date = date_of(text["filingDate"], "filing date")
    check_filing_date(filing_date, now)
    public = published_at(text["acceptanceDateTime"], filing_date)
    accepted = datetime.fromisoformat(text["acceptanceDateTime"]).replace(tzinfo=UTC)
    if accepted.date() < FIRST_FILING_DATE:
        raise InvalidInputError(f"acceptance at {accepted:%Y-%m-%d} is before EDGAR's first year")
    if accepted > now + _FURTHEST_ACCEPTANCE:
        raise InvalidInputError(f"acceptance at {accepted:%Y-%m-%d} is in the future")
    return Filing(
        cik=cik,
        accession=text["accessionNumber"],
        form=text["form"],
        items=items_of(text["form"], text["items"].split(",")),
        filing_date=filing_date,
        report_date=date_or_none(text["reportDate"]),
        accepted_text=text["acceptanceDateTime"],
        published_at=public,
        file_number=text["fileNumber"],
        document=text["primaryDocument"],
        about=mask_people(text["primaryDocDescription"]),
    )


def clean(value: Any) -> str:
    """Return a value as text without blanks around it and without what PostgreSQL cannot keep."""
    if value is None:
        return ""
    # Half of a surrogate pair cannot be written as UTF-8.
    sound = str(value).encode("utf-8", "replace").decode("utf-8")
    return sound.replace("\0", "\ufffd").strip()


def date_of(text: str, what: str) -> date:
    """Return a date.

    Raises:
        InvalidInputError: the text is none; the message says what it should be.
    """
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise InvalidInputError(f"{what} '{text}' is no date") from None


def date_or_none(text: str) -> date | None:
    """Return a date that filers write themselves; one with a slip of the pen is none."""
    try:
        found = date.fromisoformat(text)
    except ValueError:
        return None
    return found if found >= _FIRST_REPORT_DATE else None


def _refused(row: Mapping[str, Any], symbol: str, reason: str, origin: str) -> dict[str, Any]:
    return {
        "symbol": symbol,
        "ts": None,
        "reason": reason,
        "source": SOURCE_NAME,
        "origin": origin,
        # The newest filing comes first: a number would change with every new one.
        "row_number": None,
        "payload": {
            name: mask_people(clean(value))[:_LONGEST_REFUSED] for name, value in row.items()
        },
    }
