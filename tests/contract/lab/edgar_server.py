"""EDGAR on loopback, all hosts in one: tickers, filings, documents, search, and HTML refusals.

There is no `PROVIDERS` here, because EDGAR serves no bars; `test_edgar` runs the faults.
"""

from typing import Any, Literal

from tests.contract.lab.server import HttpLab, Reply, Seen

RATE_PAGE = (
    b"<!DOCTYPE html><html><head><title>SEC.gov | Request Rate Threshold Exceeded</title></head>"
    b"<body><h1>Your Request Originates from an Undeclared Source</h1></body></html>"
)
UNDECLARED_PAGE = (
    b"<!DOCTYPE html><html><head><title>SEC.gov | Your Request Originates from an Undeclared "
    b"Automated Tool</title></head><body></body></html>"
)
SEARCH_PATH = "/LATEST/search-index"
_HTML = {"Content-Type": "text/html"}
_ARRAYS = (
    "accessionNumber",
    "filingDate",
    "reportDate",
    "acceptanceDateTime",
    "fileNumber",
    "form",
    "items",
    "primaryDocument",
    "primaryDocDescription",
)


def filing(number: int, form: str, accepted: str, **fields: Any) -> dict[str, Any]:
    """Return a filing; `accepted` is the time of acceptance, `2026-11-18T16:05:00`."""
    return {
        "accessionNumber": f"0000320193-26-{number:06d}",
        "filingDate": accepted[:10],
        "reportDate": "",
        "acceptanceDateTime": f"{accepted}.000Z",
        "fileNumber": "001-36743",
        "form": form,
        "items": "",
        "primaryDocument": f"doc{number}.htm",
        "primaryDocDescription": form,
        **fields,
    }


def arrays(filings: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Return filings as EDGAR's parallel arrays."""
    return {name: [each[name] for each in filings] for name in _ARRAYS}


def transaction(
    code: str, way: str, shares: str | None, price: str | None = None, **texts: str
) -> str:
    """Return a line of a statement; without a price there is a footnote."""
    count = f"<value>{shares}</value>" if shares is not None else ""
    paid = f"<value>{price}</value>" if price is not None else '<footnoteId id="F1"/>'
    return f"""
        <nonDerivativeTransaction>
            <securityTitle><value>{texts.get("title", "Common Stock")}</value></securityTitle>
            <transactionDate><value>2026-11-17</value></transactionDate>
            <transactionCoding>
                <transactionFormType>4</transactionFormType>
                <transactionCode>{code}</transactionCode>
                <equitySwapInvolved>0</equitySwapInvolved>
            </transactionCoding>
            <transactionAmounts>
                <transactionShares>{count}</transactionShares>
                <transactionPricePerShare>{paid}</transactionPricePerShare>
                <transactionAcquiredDisposedCode><value>{way}</value></transactionAcquiredDisposedCode>
            </transactionAmounts>
            <postTransactionAmounts>
                <sharesOwnedFollowingTransaction><value>5000</value></sharesOwnedFollowingTransaction>
            </postTransactionAmounts>
            <ownershipNature>
                <directOrIndirectOwnership><value>D</value></directOrIndirectOwnership>
            </ownershipNature>
        </nonDerivativeTransaction>"""


def owner(name: str = "ROE JANE Q", *, roles: str = "isOfficer", title: str = "") -> str:
    """Return who makes a statement; `roles` are the ticked boxes, with blanks between them."""
    boxes = "".join(f"<{role}>1</{role}>" for role in roles.split())
    return f"""
    <reportingOwner>
        <reportingOwnerId>
            <rptOwnerCik>0001214156</rptOwnerCik>
            <rptOwnerName>{name}</rptOwnerName>
        </reportingOwnerId>
        <reportingOwnerAddress><rptOwnerStreet1>C/O {name}</rptOwnerStreet1></reportingOwnerAddress>
        <reportingOwnerRelationship>
            {boxes}<isOther>0</isOther><officerTitle>{title}</officerTitle>
        </reportingOwnerRelationship>
    </reportingOwner>"""


def statement(
    *lines: str, owners: str = "", issuer: int = 320193, plan: str = "0", extra: str = ""
) -> bytes:
    """Return the XML of a statement of an insider, in the order of the schema."""
    return f"""<?xml version="1.0"?>
<ownershipDocument>
    <schemaVersion>X0508</schemaVersion>
    <documentType>4</documentType>
    <periodOfReport>2026-11-17</periodOfReport>
    <issuer>
        <issuerCik>{issuer:010d}</issuerCik>
        <issuerName>Apple Inc.</issuerName>
        <issuerTradingSymbol>AAPL</issuerTradingSymbol>
    </issuer>{owners or owner()}
    <aff10b5One>{plan}</aff10b5One>
    <nonDerivativeTable>{"".join(lines)}
    </nonDerivativeTable>
    <footnotes><footnote id="F1">The weighted average price stands here.</footnote></footnotes>
    {extra}
    <ownerSignature><signatureName>/s/ Jane Q. Roe</signatureName></ownerSignature>
</ownershipDocument>""".encode()


def hit(number: int, form: str, day: str, **fields: Any) -> dict[str, Any]:
    """Return a document that the full-text search finds; `file_name` is its name."""
    accession = f"0000320193-26-{number:06d}"
    name = fields.pop("file_name", f"doc{number}.htm")
    return {
        "_index": "edgar_file",
        "_id": f"{accession}:{name}",
        "_score": 8.1,
        "_source": {
            "ciks": ["0001214156", "0000320193"],
            "period_ending": None,
            "file_num": ["001-36743"],
            "display_names": ["Roe Jane Q  (CIK 0001214156)", "Apple Inc.  (AAPL)"],
            "root_forms": [form.removesuffix("/A")],
            "file_date": day,
            "form": form,
            "adsh": accession,
            "file_type": form,
            "file_description": form,
            "items": [],
            **fields,
        },
    }


class EdgarLab(HttpLab):
    """Companies and their filings.

    Attributes:
        tickers: ticker as EDGAR spells it -> number of the company.
        filings: number of the company -> recent filings.
        older: file -> (filingFrom, filingTo, filings, number of the company).
        answers: path -> whole answer instead; bytes are sent as they are.
        broken: paths that answer 500.
        hits: phrase -> documents that the full-text search finds.
        hits_per_page: documents of a page of it.
        most_hits: documents that it gives; where there are more, its number is capped.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tickers: dict[str, int] = {}
        self.filings: dict[int, list[dict[str, Any]]] = {}
        self.older: dict[str, tuple[str, str, list[dict[str, Any]], int]] = {}
        self.answers: dict[str, Any] = {}
        self.broken: set[str] = set()
        self.hits: dict[str, list[dict[str, Any]]] = {}
        self.hits_per_page = 100
        self.most_hits = 10_000

    @property
    def searches(self) -> list[Seen]:
        """The requests to the full-text search."""
        return [each for each in self.requests if each.path == SEARCH_PATH]

    def respond(self, seen: Seen) -> Reply:
        if "@" not in seen.headers.get("user-agent", ""):
            return Reply(UNDECLARED_PAGE, 403, _HTML)
        if seen.path in self.broken:
            return Reply(b"<html>Internal Server Error</html>", 500, _HTML)
        if seen.path in self.answers:
            return Reply(self.answers[seen.path])
        if seen.path == "/files/company_tickers.json":
            rows = [
                {"cik_str": cik, "ticker": ticker, "title": f"{ticker} INC"}
                for ticker, cik in self.tickers.items()
            ]
            return Reply({str(number): row for number, row in enumerate(rows)})
        if seen.path == SEARCH_PATH:
            return Reply(self._found(seen.query))
        name = seen.path.removeprefix("/submissions/")
        if name in self.older:
            return Reply(arrays(self.older[name][2]))
        for cik, filings in self.filings.items():
            if name == f"CIK{cik:010d}.json":
                return Reply(self._submissions(cik, filings))
        return Reply(b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>", 404, _HTML)

    def _found(self, query: dict[str, str]) -> dict[str, Any]:
        hits = [
            each
            for each in self.hits.get(query["q"].strip('"'), [])
            if query["startdt"] <= str(each["_source"].get("file_date")) <= query["enddt"]
            and set(query["ciks"].split(",")) & set(each["_source"]["ciks"])
        ]
        start = int(query.get("from", 0))
        capped = len(hits) > self.most_hits
        return {
            "took": 31,
            "timed_out": False,
            "hits": {
                "total": {
                    "value": min(len(hits), self.most_hits),
                    "relation": "gte" if capped else "eq",
                },
                "hits": hits[: self.most_hits][start : start + self.hits_per_page],
            },
        }

    def _submissions(self, cik: int, filings: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "cik": str(cik),
            "name": f"Company {cik}",
            "tickers": [ticker for ticker, owner in self.tickers.items() if owner == cik],
            "filings": {
                "recent": arrays(filings),
                "files": [
                    {
                        "name": name,
                        "filingCount": len(rows),
                        "filingFrom": first,
                        "filingTo": last,
                    }
                    for name, (first, last, rows, owner) in self.older.items()
                    if owner == cik
                ],
            },
        }

    def error(self, kind: Literal["rate_limited", "server_error", "invalid_credentials"]) -> Reply:
        if kind == "rate_limited":
            return Reply(RATE_PAGE, 403, _HTML)
        if kind == "invalid_credentials":
            return Reply(UNDECLARED_PAGE, 403, _HTML)
        return Reply(b"<html>Internal Server Error</html>", 503, _HTML)
