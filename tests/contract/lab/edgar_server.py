"""EDGAR on loopback, both hosts in one: tickers, submissions, older files, and its HTML refusals.

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


class EdgarLab(HttpLab):
    """Companies and their filings.

    Attributes:
        tickers: ticker as EDGAR spells it -> number of the company.
        filings: number of the company -> recent filings.
        older: file -> (filingFrom, filingTo, filings, number of the company).
        answers: path -> whole answer instead.
        broken: paths that answer 500.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tickers: dict[str, int] = {}
        self.filings: dict[int, list[dict[str, Any]]] = {}
        self.older: dict[str, tuple[str, str, list[dict[str, Any]], int]] = {}
        self.answers: dict[str, Any] = {}
        self.broken: set[str] = set()

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
        name = seen.path.removeprefix("/submissions/")
        if name in self.older:
            return Reply(arrays(self.older[name][2]))
        for cik, filings in self.filings.items():
            if name == f"CIK{cik:010d}.json":
                return Reply(self._submissions(cik, filings))
        return Reply(b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>", 404, _HTML)

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
