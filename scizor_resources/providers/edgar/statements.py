"""Statements of insiders of a window, one document each, and what went wrong with which."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from scizor_core.catalysts import RuleTable
from scizor_core.errors import ContractError
from scizor_resources.errors import BadRequest, ProviderError, SchemaDrift
from scizor_resources.providers.edgar.client import (
    DOCUMENT_ENDPOINT,
    TITLE,
    CompanyFilings,
    EdgarFilings,
)
from scizor_resources.providers.edgar.collect import is_refusal
from scizor_resources.providers.edgar.filings import SOURCE_NAME, Filing
from scizor_resources.providers.edgar.ownership import (
    CODES,
    NOT_XML,
    InsiderStatement,
    has_transactions,
)

#: When so many documents cannot be read and not one can, they are written otherwise now.
FEWEST_FOR_DRIFT = 3
_SHOWN = 5


@dataclass
class Statements:
    """What the statements of a window say.

    Attributes:
        found: accession number -> statement.
        unread: reason -> accession numbers of those that are known by their form alone.
        errors: accession number -> sentence, for each asked for that another try may mend.
        failure: the first of those errors.
    """

    found: dict[str, InsiderStatement] = field(default_factory=dict)
    unread: dict[str, list[str]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    failure: ProviderError | None = None

    @property
    def notes(self) -> list[str]:
        """One sentence for each reason."""
        return [
            f"{len(numbers)} statements of insiders are known by their form alone, because "
            f"{reason.rstrip('.')}: {', '.join(numbers[:_SHOWN])}"
            + (" and others." if len(numbers) > _SHOWN else ".")
            for reason, numbers in self.unread.items()
        ]


def read_statements(  # noqa: PLR0913  # the window, what counts in it, and what came before
    client: EdgarFilings,
    companies: Iterable[CompanyFilings],
    rules: RuleTable,
    since: datetime,
    until: datetime,
    refusal: ProviderError | None = None,
) -> Statements:
    """Read the statements that were published in a window, where the rules ask for them.

    One that cannot be had or read costs no other; a refusal that is meant for all ends the asking.

    Args:
        client: EDGAR.
        companies: what was filed.
        rules: what is an event.
        since: start of the window, UTC.
        until: its end, exclusive.
        refusal: what has ended the asking before.
    """
    read = Statements()
    unreadable = 0
    for filing in _wanted(companies, rules, since, until):
        number = filing.accession
        if refusal is not None:
            read.unread.setdefault(str(refusal), []).append(number)
            continue
        try:
            read.found[number] = client.insider_statement(filing)
        except ContractError as error:
            unreadable += str(error) != NOT_XML
            read.unread.setdefault(str(error), []).append(number)
        except BadRequest:
            read.unread.setdefault(f"{TITLE} has no such document", []).append(number)
        except ProviderError as error:
            read.unread.setdefault(str(error), []).append(number)
            read.errors[number] = str(error)
            read.failure = read.failure or error
            refusal = error if is_refusal(error) else None
    if not read.found and unreadable >= FEWEST_FOR_DRIFT:
        read.failure = read.failure or _drift(unreadable)
    return read


def _wanted(
    companies: Iterable[CompanyFilings], rules: RuleTable, since: datetime, until: datetime
) -> list[Filing]:
    """Return the statements with transactions, each once, that may be events."""
    found = {
        filing.accession: filing
        for company in companies
        for filing in company.filings
        if since <= filing.published_at < until
        and has_transactions(filing.form)
        and rules.match(filing.form, CODES) is not None
    }
    return list(found.values())


def _drift(count: int) -> SchemaDrift:
    return SchemaDrift(
        f"Not one of {count} statements of insiders from {TITLE} could be read. They are events by "
        "their form alone; the adapter has to be looked at.",
        provider=SOURCE_NAME,
        endpoint=DOCUMENT_ENDPOINT,
        status=200,
    )
