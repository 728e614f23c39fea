"""Finnhub and SEC EDGAR as samples: pure functions."""

import re
from collections.abc import Mapping
from html import escape
from typing import Any
from zoneinfo import ZoneInfo

from scizor_resources.samples.wire import Answer, Asked, instant, load, shown

_SUBMISSIONS = re.compile(r"/submissions/CIK(\d{10})\.json")
_DOCUMENT = re.compile(r"/Archives/edgar/data/(\d+)/(\d{18})/(.+)")
#: Acceptance is shown in the digits of Eastern wall time, with a Z behind it.
_EASTERN = ZoneInfo("America/New_York")
#: Field of EDGAR's arrays -> field of the data, and what stands where there is none.
_ARRAYS: Mapping[str, tuple[str, str]] = {
    "accessionNumber": ("accession", ""),
    "filingDate": ("filed", ""),
    "reportDate": ("period", ""),
    "form": ("form", ""),
    "fileNumber": ("file_number", "000-00000"),
    "items": ("items", ""),
    "primaryDocument": ("document", ""),
    "primaryDocDescription": ("about", ""),
}
_PAGE_SIZE = 100


def finnhub(asked: Asked) -> Answer:
    """Answer for finnhub.io: news of a company, and its calendar of earnings."""
    symbol, first, last = (asked.get(name) for name in ("symbol", "from", "to"))
    if asked.path == "/company-news":
        return Answer(
            [
                _company_news(item, symbol)
                for item in shown(load("finnhub")["news"], asked.at)
                if symbol in item["symbols"] and first <= item["at"][:10] <= last
            ]
        )
    if asked.path == "/calendar/earnings":
        releases = [
            _release(each, asked)
            for each in load("finnhub")["earnings"]
            if symbol in ("", each["symbol"]) and first <= each["date"] <= last
        ]
        return Answer({"earningsCalendar": releases})
    return Answer({"error": "Resource not found."}, 404)


def _company_news(item: Mapping[str, Any], symbol: str) -> dict[str, Any]:
    return {
        "category": "company",
        "datetime": int(instant(item["at"]).timestamp()),
        "headline": item["title"],
        "id": item["id"],
        "image": "",
        "related": symbol,
        "source": item["publisher"],
        "summary": item["text"],
        "url": item["url"],
    }


def _release(release: Mapping[str, Any], asked: Asked) -> dict[str, Any]:
    """Return a release; before its time it has estimates only."""
    made = {name: value for name, value in release.items() if name != "at"}
    if instant(release["at"]) > asked.at:
        made |= {"epsActual": None, "revenueActual": None}
    return made


def edgar_www(asked: Asked) -> Answer:
    """Answer for www.sec.gov: the list of companies, and statements of insiders as XML."""
    if asked.path == "/files/company_tickers.json":
        rows = [
            {"cik_str": company["cik"], "ticker": company["ticker"], "title": company["name"]}
            for company in load("edgar")["companies"]
        ]
        return Answer({str(number): row for number, row in enumerate(rows)})
    match = _DOCUMENT.fullmatch(asked.path)
    for filing in _filings(asked) if match is not None else ():
        is_asked = match is not None and filing["accession"].replace("-", "") == match[2]
        if is_asked and "statement" in filing:
            return Answer(_statement(filing))
    return Answer({"message": "NoSuchKey"}, 404)


def edgar(asked: Asked) -> Answer:
    """Answer for data.sec.gov: what a company has filed, newest first."""
    match = _SUBMISSIONS.fullmatch(asked.path)
    cik = int(match[1]) if match is not None else 0
    for company in load("edgar")["companies"]:
        if company["cik"] == cik:
            filings = [each for each in _filings(asked) if each["cik"] == cik]
            arrays: dict[str, list[str]] = {
                name: [each.get(field, otherwise) for each in filings]
                for name, (field, otherwise) in _ARRAYS.items()
            }
            arrays["acceptanceDateTime"] = [
                f"{instant(each['at']).astimezone(_EASTERN):%Y-%m-%dT%H:%M:%S}.000Z"
                for each in filings
            ]
            return Answer(
                {
                    "cik": f"{cik:010d}",
                    "name": company["name"],
                    "tickers": [company["ticker"]],
                    "filings": {"recent": arrays, "files": []},
                }
            )
    return Answer({"message": "NoSuchKey"}, 404)


def edgar_search(asked: Asked) -> Answer:
    """Answer for efts.sec.gov: filings whose text has a phrase."""
    if asked.path != "/LATEST/search-index":
        return Answer({"message": "not found"}, 404)
    phrase = asked.get("q").strip('" ').lower()
    ciks = {int(each) for each in asked.get("ciks").split(",") if each}
    first, last = asked.get("startdt", "0"), asked.get("enddt", "9")
    found = [
        filing
        for filing in _filings(asked)
        if phrase in filing.get("text", "").lower()
        and (not ciks or filing["cik"] in ciks)
        and first <= filing["filed"] <= last
    ]
    begin = int(asked.get("from", "0"))
    hits = [_hit(filing) for filing in found[begin : begin + _PAGE_SIZE]]
    total = {"value": len(found), "relation": "eq"}
    return Answer({"took": 1, "timed_out": False, "hits": {"total": total, "hits": hits}})


def _filings(asked: Asked) -> list[Mapping[str, Any]]:
    """Return the filings that there are, newest first."""
    return shown(load("edgar")["filings"], asked.at)


def _hit(filing: Mapping[str, Any]) -> dict[str, Any]:
    name = next(each["name"] for each in load("edgar")["companies"] if each["cik"] == filing["cik"])
    return {
        "_id": f"{filing['accession']}:{filing['document']}",
        "_score": 1.0,
        "_source": {
            "ciks": [f"{filing['cik']:010d}"],
            "display_names": [f"{name}  (CIK {filing['cik']:010d})"],
            "adsh": filing["accession"],
            "form": filing["form"],
            "root_forms": [filing["form"].removesuffix("/A")],
            "file_type": filing["form"],
            "file_description": filing.get("about", ""),
            "file_date": filing["filed"],
            "period_ending": filing.get("period") or None,
            "items": [item for item in filing.get("items", "").split(",") if item],
        },
    }


def _statement(filing: Mapping[str, Any]) -> str:
    """Return an insider's statement (Form 4) as the XML that is filed."""
    statement = filing["statement"]
    symbol = next(
        each["ticker"] for each in load("edgar")["companies"] if each["cik"] == filing["cik"]
    )
    transactions = "".join(
        _transaction(each, filing.get("period", filing["filed"]))
        for each in statement["transactions"]
    )
    title = statement.get("title", "")
    return f"""<?xml version="1.0"?>
<ownershipDocument>
    <schemaVersion>X0306</schemaVersion>
    <documentType>{escape(filing["form"])}</documentType>
    <periodOfReport>{filing.get("period", filing["filed"])}</periodOfReport>
    <issuer>
        <issuerCik>{filing["cik"]:010d}</issuerCik>
        <issuerTradingSymbol>{escape(symbol)}</issuerTradingSymbol>
    </issuer>
    <reportingOwner>
        <reportingOwnerId>
            <rptOwnerCik>0000000001</rptOwnerCik>
            <rptOwnerName>{escape(statement["owner"])}</rptOwnerName>
        </reportingOwnerId>
        <reportingOwnerRelationship>
            <isDirector>{int(not title)}</isDirector>
            <isOfficer>{int(bool(title))}</isOfficer>
            <isTenPercentOwner>0</isTenPercentOwner>
            <isOther>0</isOther>
            <officerTitle>{escape(title)}</officerTitle>
        </reportingOwnerRelationship>
    </reportingOwner>
    <nonDerivativeTable>{transactions}
    </nonDerivativeTable>
</ownershipDocument>
"""


def _transaction(transaction: Mapping[str, Any], day: str) -> str:
    values = {
        "transactionShares": transaction["shares"],
        "transactionPricePerShare": transaction["price"],
        "transactionAcquiredDisposedCode": transaction["direction"],
    }
    amounts = "".join(
        f"\n                <{name}><value>{value}</value></{name}>"
        for name, value in values.items()
    )
    return f"""
        <nonDerivativeTransaction>
            <securityTitle><value>Common Stock</value></securityTitle>
            <transactionDate><value>{day}</value></transactionDate>
            <transactionCoding>
                <transactionFormType>4</transactionFormType>
                <transactionCode>{transaction["code"]}</transactionCode>
                <equitySwapInvolved>0</equitySwapInvolved>
            </transactionCoding>
            <transactionAmounts>{amounts}
            </transactionAmounts>
            <ownershipNature>
                <directOrIndirectOwnership><value>D</value></directOrIndirectOwnership>
            </ownershipNature>
        </nonDerivativeTransaction>"""
