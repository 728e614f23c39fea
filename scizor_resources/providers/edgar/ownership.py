"""Statements of insiders (Forms 3, 4 and 5) as their XML says it, without their names: pure.

Source: the ownershipDocument of sec.gov/Archives/edgar/data, "EDGAR Ownership XML Technical
Specification" (schemas X0306 to X0508), read 2026-11-21.

Note:
    Only transactions in shares themselves count; options and other derivatives are left out. Who
    the insider is, stands in the document and is not kept.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from scizor_core.catalysts import base_form
from scizor_core.errors import ContractError
from scizor_core.privacy import mask_people
from scizor_resources.providers.edgar.filings import Filing, clean

#: Forms with transactions; Form 3 says only what somebody holds.
FORMS_WITH_TRANSACTIONS = ("4", "5")
#: Trades in the market, at a price that somebody chose to pay or to take.
BUY, SELL = "P", "S"
#: Codes that have a meaning here; there are more.
CODES: tuple[str, ...] = (
    BUY,
    SELL,
    "A",
    "M",
    "F",
    "G",
    "C",
    "D",
    "I",
    "J",
    "L",
    "U",
    "V",
    "W",
    "X",
)
#: A longer document is not read.
LONGEST_DOCUMENT = 2_000_000
#: The main document is a page or a text, as before 2003.
NOT_XML = "the document is not XML"
_MOST_SHARES, _HIGHEST_PRICE = 1e12, 1e8
_LONGEST_TITLE = 80
_LEAST_USUAL_PRICE = 1.0

#: `primaryDocument` leads to the XML as a page, made by the style sheet that the folder names.
_DOCUMENT = re.compile(r"(?:xsl\w+/)?([\w.-]+\.xml)", re.IGNORECASE | re.ASCII)
_CODE = re.compile(r"[A-Z]")
_ROLES = (
    ("isDirector", "director"),
    ("isOfficer", "officer"),
    ("isTenPercentOwner", "holder of more than 10 %"),
)
#: (code, acquired) -> what was done; of other codes only the direction is said.
_DEEDS = {
    (BUY, True): "bought {shares}",
    (SELL, False): "sold {shares}",
    ("A", True): "was granted {shares}",
    ("M", True): "received {shares} by exercise or conversion",
    ("F", False): "had {shares} withheld for tax",
    ("G", True): "was given {shares}",
    ("G", False): "gave away {shares}",
    ("D", False): "returned {shares} to the company",
}


@dataclass(frozen=True)
class Transaction:
    """One line of a statement.

    Attributes:
        code: the SEC's letter for the kind: P bought, S sold, A granted, M exercised, F withheld
            for tax, G given.
        acquired: shares came in; False: they went out.
        shares: how many.
        price_usd: of one share, None where it stands in a footnote only.
    """

    code: str
    acquired: bool
    shares: float
    price_usd: float | None


@dataclass(frozen=True)
class InsiderStatement:
    """What a statement says, without who made it.

    Attributes:
        issuer_cik: the company whose shares it is about.
        roles: what the insiders are to it, empty where nothing is ticked.
        officer_title: office of a single insider, empty where there is none.
        insiders: how many made the statement together.
        transactions: lines in shares, as they stand.
        is_by_plan: traded by a plan made before (Rule 10b5-1).
    """

    issuer_cik: int
    roles: tuple[str, ...]
    officer_title: str
    insiders: int
    transactions: tuple[Transaction, ...]
    is_by_plan: bool

    @property
    def codes(self) -> tuple[str, ...]:
        """Codes of the transactions, each once, in their order."""
        return tuple(dict.fromkeys(each.code for each in self.transactions))

    def value_usd(self, code: str) -> float | None:
        """Return shares times price of a code's transactions, None where no price is known."""
        return _value(each for each in self.transactions if each.code == code)

    @property
    def words(self) -> str:
        """The statement in a sentence: role, deeds, shares, average price, value."""
        if not self.transactions:
            return f"{self._who} reported no transaction in shares"
        deeds: dict[tuple[str, bool], list[Transaction]] = {}
        for each in self.transactions:
            deeds.setdefault((each.code, each.acquired), []).append(each)
        plan = " under a plan made before (Rule 10b5-1)" if self.is_by_plan else ""
        done = "; ".join(_deed(key, lines) for key, lines in deeds.items())
        return f"{self._who} {done}{plan}"

    @property
    def _who(self) -> str:
        if self.insiders > 1:
            return f"Insiders ({', '.join(self.roles)})" if self.roles else "Insiders"
        role = " and ".join(self.roles) or "insider"
        title = f" ({self.officer_title})" if self.officer_title else ""
        return f"{'An' if role[0] in 'aeiou' else 'A'} {role}{title}"


def has_transactions(form: str) -> bool:
    """Say whether statements of a form have transactions."""
    return base_form(form) in FORMS_WITH_TRANSACTIONS


def document_path(filing: Filing) -> str:
    """Return the path of a statement's XML below www.sec.gov.

    Raises:
        ContractError: the main document is not XML (`NOT_XML`).
    """
    match = _DOCUMENT.fullmatch(filing.document)
    if match is None:
        raise ContractError(NOT_XML)
    folder = filing.accession.replace("-", "")
    return f"/Archives/edgar/data/{filing.cik}/{folder}/{match[1]}"


def parse_statement(text: str) -> InsiderStatement:
    """Return what a statement's XML says.

    Raises:
        ContractError: it is too long, has a DTD, is no XML or no statement, or a line of it cannot
            be; the message says which, without a name.
    """
    root = _root(text)
    if root.tag != "ownershipDocument":
        raise ContractError("the document is no statement of ownership")
    cik = _text(root, "issuer/issuerCik")
    if not (cik.isascii() and cik.isdigit()):
        raise ContractError("there is no number of the issuer")
    owners = root.findall("reportingOwner")
    ties = [
        tie for owner in owners if (tie := owner.find("reportingOwnerRelationship")) is not None
    ]
    lines = root.findall("nonDerivativeTable/nonDerivativeTransaction")
    return InsiderStatement(
        issuer_cik=int(cik),
        roles=tuple(role for name, role in _ROLES if any(_flag(tie, name) for tie in ties)),
        officer_title=_title(owners[0]) if len(owners) == 1 else "",
        insiders=len(owners),
        transactions=tuple(_transaction(line) for line in lines),
        is_by_plan=_flag(root, "aff10b5One"),
    )


def _root(text: str) -> ET.Element:
    if len(text) > LONGEST_DOCUMENT:
        raise ContractError(f"the document is longer than {LONGEST_DOCUMENT:,} characters")
    # Entities are declared in a DTD only: without one nothing can grow or lead elsewhere.
    if "<!DOCTYPE" in text.upper() or "<!ENTITY" in text.upper():
        raise ContractError("the document has a DTD, which no statement needs")
    try:
        return ET.fromstring(text.lstrip("\ufeff \t\r\n"))  # noqa: S314  # no DTD, no entities
    except ET.ParseError:
        # The parser's own words could quote the document.
        raise ContractError("the document is not well-formed XML") from None


def _transaction(line: ET.Element) -> Transaction:
    code = _text(line, "transactionCoding/transactionCode")
    if not _CODE.fullmatch(code):
        raise ContractError("a transaction has no code")
    amounts = "transactionAmounts"
    way = _text(line, f"{amounts}/transactionAcquiredDisposedCode")
    if way not in ("A", "D"):
        raise ContractError("a transaction does not say whether shares came in or went out")
    if (code, way) in ((BUY, "D"), (SELL, "A")):
        raise ContractError("a purchase gave shares away, or a sale brought some in")
    shares = _number(_text(line, f"{amounts}/transactionShares"), _MOST_SHARES)
    if shares is None:
        raise ContractError("a transaction has no number of shares")
    price = _number(_text(line, f"{amounts}/transactionPricePerShare"), _HIGHEST_PRICE)
    return Transaction(code, way == "A", shares, price)


def _number(text: str, most: float) -> float | None:
    """Return a number, None where there is none."""
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number <= most:
        raise ContractError("a number of shares or a price cannot be")
    return number


def _text(element: ET.Element, path: str) -> str:
    """Return the text of a child, or of the `value` in it; empty where there is none."""
    child = element.find(path)
    if child is None:
        return ""
    value = child.find("value")
    return clean((child if value is None else value).text)


def _flag(element: ET.Element, name: str) -> bool:
    return _text(element, name).lower() in ("1", "true")


def _title(owner: ET.Element) -> str:
    """Return the office of an insider, empty where there is none or a name stands in it."""
    title = mask_people(_text(owner, "reportingOwnerRelationship/officerTitle"))
    names = re.findall(r"\w{2,}", _text(owner, "reportingOwnerId/rptOwnerName").lower())
    named = set(names) & set(re.findall(r"\w{2,}", title.lower()))
    return "" if named or len(title) > _LONGEST_TITLE else title


def _value(lines: Iterable[Transaction]) -> float | None:
    values = [each.shares * each.price_usd for each in lines if each.price_usd is not None]
    return sum(values) if values else None


def _deed(key: tuple[str, bool], lines: list[Transaction]) -> str:
    code, acquired = key
    other = ("acquired" if acquired else "disposed of") + f" {{shares}} (code {code})"
    shares = sum(each.shares for each in lines)
    deed = _DEEDS.get(key, other).format(shares=f"{_count(shares)} shares")
    value = _value(lines)
    if code not in (BUY, SELL):
        return deed
    if value is None:
        return f"{deed} at a price in a footnote"
    priced = sum(each.shares for each in lines if each.price_usd is not None)
    if not priced:
        return deed
    some = f", {_count(priced)} of them" if priced < shares else ""
    return f"{deed}{some} at {_price(value / priced)} USD on average ({value:,.0f} USD)"


def _count(shares: float) -> str:
    return f"{shares:,.0f}" if shares == int(shares) else f"{shares:,.4f}".rstrip("0")


def _price(price: float) -> str:
    return f"{price:,.2f}" if price >= _LEAST_USUAL_PRICE else f"{price:.4g}"
