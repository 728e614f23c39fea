"""SEC EDGAR for the suite of all ledgers: each item is a filing of one watched company.

An item's text is what the filer calls the document. One with an author is the statement of that
person on Form 4, with the document that names them. All are found by the full-text search too.
"""

from dataclasses import replace
from typing import Any
from zoneinfo import ZoneInfo

from scizor_core.catalysts import RuleTable
from scizor_core.mentions import Nameable
from scizor_resources.providers.edgar.client import EdgarFilings
from scizor_resources.providers.edgar.source import EdgarEvents
from scizor_resources.providers.events import EventRequest
from scizor_resources.providers.gate import Gate
from scizor_resources.stores.catalysts import default_rules
from tests.contract.lab.edgar_server import (
    SEARCH_PATH,
    EdgarLab,
    filing,
    hit,
    owner,
    statement,
    transaction,
)
from tests.contract.lab.ledgers import (
    NOW,
    SINCE,
    UNTIL,
    Item,
    LedgerLab,
    LedgerSource,
    Outcome,
)
from tests.contract.lab.server import Reply, Seen

PHRASE = "going concern"
CIK = 320193
_ADDRESS = "lab@example.org"
_NEW_YORK = ZoneInfo("America/New_York")


class EdgarLedgerLab(EdgarLab, LedgerLab):
    """One company whose filings are the items."""

    def respond(self, seen: Seen) -> Reply:
        if self.quota_exhausted:
            return self.quota()
        self._file()
        reply = super().respond(seen)
        if not isinstance(reply.body, dict):
            return reply
        if self.capped and seen.path == SEARCH_PATH:
            reply.body["hits"]["total"] = {"value": 10_000, "relation": "gte"}
        return replace(reply, body=_renamed(reply.body)) if self.changed_field else reply

    def quota(self) -> Reply:
        return self.error("rate_limited")

    def _file(self) -> None:
        """File the items as they are now: newest first, the older ones in files of their own."""
        shown = [each for each in reversed(self.items) if not each.deleted]
        size = self.page_size or max(len(shown), 1)
        pages = [
            [_filing(item) for item in shown[start : start + size]]
            for start in range(0, len(shown), size)
        ]
        self.tickers = {"AAPL": CIK}
        self.filings = {CIK: pages[0] if pages else []}
        self.older = {
            f"CIK{CIK:010d}-submissions-{number:03d}.json": (
                page[-1]["filingDate"],
                page[0]["filingDate"],
                page,
                CIK,
            )
            for number, page in enumerate(pages[1:], 1)
        }
        self.hits_per_page = self.page_size or 100
        self.hits = {PHRASE: [_hit(item) for item in shown]}
        self.answers = {
            f"/Archives/edgar/data/{CIK}/{_number(item).replace('-', '')}/form4.xml": _document(
                item
            )
            for item in shown
            if item.author
        }


def _number(item: Item) -> str:
    return str(filing(int(item.id), "4", "")["accessionNumber"])


def _filing(item: Item) -> dict[str, Any]:
    """Return an item as a filing, accepted at the item's time in New York."""
    accepted = f"{item.at.astimezone(_NEW_YORK):%Y-%m-%dT%H:%M:%S}"
    fields = {"primaryDocument": "xslF345X05/form4.xml"} if item.author else {}
    form = "4" if item.author else "8-K"
    return filing(int(item.id), form, accepted, primaryDocDescription=item.text, **fields)


def _hit(item: Item) -> dict[str, Any]:
    return hit(
        int(item.id),
        "4" if item.author else "8-K",
        f"{item.at.astimezone(_NEW_YORK):%Y-%m-%d}",
        file_description=item.text,
        display_names=[item.author or "Apple Inc."],
    )


def _document(item: Item) -> bytes:
    name = item.author or ""
    return statement(
        transaction("P", "A", "10000", "12.34", title=f"Common Stock of {name}"),
        owners=owner(name, title=f"Chairman {name}"),
        extra=f"<remarks>Signed by {name}</remarks>",
    )


def _renamed(value: Any) -> Any:
    if isinstance(value, dict):
        return {("formType" if key == "form" else key): _renamed(v) for key, v in value.items()}
    return [_renamed(each) for each in value] if isinstance(value, list) else value


def ask(lab: LedgerLab, gate: Gate) -> Outcome:
    """Ask for the events of the one company, and for filings with a phrase."""
    client = EdgarFilings(
        gate,
        user_agent=f"Example Pty Ltd {_ADDRESS}",
        base_url=lab.url,
        www_base_url=lab.url,
        search_base_url=lab.url,
        timeout_seconds=0.5,
        now=lambda: NOW,
    )
    source = EdgarEvents(client, now=lambda: NOW, full_text=(PHRASE,))
    request = EventRequest(
        SINCE,
        UNTIL,
        (Nameable(7, "us", "AAPL", "Apple"),),
        RuleTable(rule for rule in default_rules() if rule.source == "edgar"),
    )
    try:
        findings = source.fetch(request)
    finally:
        source.close()
    rows = findings.events.to_dict("records")
    return Outcome(
        found={str(int(row["source_id"][-6:])): row["description"] for row in rows},
        rejected=findings.rejected,
        notes=findings.notes,
        complete=not findings.errors and not findings.notes,
        empty_reason=findings.metadata.get("empty_reason"),
        failure=findings.failure,
        everything=repr((rows, findings.rejected.to_dict("records"), findings)),
    )


LEDGER_SOURCES: tuple[LedgerSource, ...] = (
    LedgerSource("edgar", EdgarLedgerLab, ask, secret=_ADDRESS),
)
