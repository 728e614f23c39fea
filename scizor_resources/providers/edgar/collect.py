"""Watched symbols to filings: one company after the other, and what went wrong with which."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pandas as pd

from scizor_resources.errors import (
    AuthError,
    BadRequest,
    ProviderError,
    RateLimited,
    TransientError,
)
from scizor_resources.providers.base import empty_rejected
from scizor_resources.providers.edgar.client import CompanyFilings, EdgarFilings
from scizor_resources.providers.edgar.symbols import MARKET, to_edgar_ticker


@dataclass
class Collected:
    """What was filed by the companies of the watched symbols.

    Attributes:
        companies: those that answered.
        instruments: CIK -> ids of the watched instruments.
        without_company: watched symbols that EDGAR has no company for, such as many funds.
        errors: symbol -> sentence, for each symbol whose company could not be had.
        failure: the first error that another try may mend or somebody has to look at.
        refusal: the error that has ended the asking, None where all were asked.
    """

    companies: list[CompanyFilings] = field(default_factory=list)
    instruments: dict[int, list[int]] = field(default_factory=dict)
    without_company: list[str] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)
    failure: ProviderError | None = None
    refusal: ProviderError | None = None

    @property
    def rejected(self) -> pd.DataFrame:
        """Filings that cannot be used, columns `REJECTED_COLUMNS`."""
        parts = [each.rejected for each in self.companies if not each.rejected.empty]
        return pd.concat(parts, ignore_index=True) if parts else empty_rejected()

    @property
    def filings(self) -> int:
        """How many filings came, of any time."""
        return sum(len(company.filings) for company in self.companies)

    def metadata(self) -> dict[str, Any]:
        """Return what a run says of the asking."""
        return {
            "symbols_without_company": self.without_company,
            "symbols_failed": self.errors,
            "companies": len(self.companies),
            "filings_received": self.filings,
        }


def collect(
    client: EdgarFilings, watched: Mapping[str, int], since: datetime, until: datetime
) -> Collected:
    """Ask for the filings of each watched symbol's company.

    A refusal that is meant for all of them ends the asking; what came before is kept.

    Args:
        client: EDGAR.
        watched: symbol of market us -> instrument id.
        since: start of the window of publication, UTC.
        until: its end, exclusive.

    Raises:
        ProviderError: the list of companies could not be had.
    """
    found = Collected()
    ciks = client.tickers()
    symbols: dict[int, list[str]] = {}
    for symbol, instrument_id in sorted(watched.items()):
        cik = ciks.get(to_edgar_ticker(MARKET, symbol))
        if cik is None:
            found.without_company.append(symbol)
            continue
        symbols.setdefault(cik, []).append(symbol)
        found.instruments.setdefault(cik, []).append(instrument_id)
    for cik, names in symbols.items():
        try:
            if found.refusal is not None:
                raise found.refusal
            found.companies.append(client.company(cik, names[0], since, until))
        except ProviderError as error:
            found.errors.update(dict.fromkeys(names, str(error)))
            if not isinstance(error, BadRequest):
                found.failure = found.failure or error
            if is_refusal(error):
                found.refusal = error
    return found


def is_refusal(error: ProviderError) -> bool:
    """Say whether an error is meant for all calls, so that the next one need not be made."""
    unreachable = isinstance(error, TransientError) and error.status is None
    return unreachable or isinstance(error, RateLimited | AuthError)
