"""`DefillamaFundamentals`: value locked, fees, revenue and exchange volume of protocols, keyless.

DefiLlama serves whole histories, one call per protocol and metric; a day and a year cost the same.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

import pandas as pd

from scizor_core.errors import ContractError
from scizor_core.schemas.fundamentals import METRICS, fundamentals_frame
from scizor_resources.errors import (
    AuthError,
    BadRequest,
    ProviderError,
    RateLimited,
    TransientError,
)
from scizor_resources.providers.base import REJECTED_COLUMNS, empty_rejected
from scizor_resources.providers.defillama.series import (
    SOURCE_NAME,
    Asked,
    ParsedSeries,
    parse_chart,
    parse_tvl,
)
from scizor_resources.providers.gate import Gate
from scizor_resources.providers.http import JsonApi

BASE_URL = "https://api.llama.fi"
TITLE = "DefiLlama"


@dataclass(frozen=True)
class _Series:
    """How a metric is asked for: path, query, and what reads the answer."""

    endpoint: str
    params: dict[str, str]
    parse: Callable[[Any, Asked], ParsedSeries]


_CHART = {"excludeTotalDataChart": "false", "excludeTotalDataChartBreakdown": "true"}
_SERIES: dict[str, _Series] = {
    "tvl": _Series("/protocol/{protocol}", {}, parse_tvl),
    "fees": _Series("/summary/fees/{protocol}", {**_CHART, "dataType": "dailyFees"}, parse_chart),
    "revenue": _Series(
        "/summary/fees/{protocol}", {**_CHART, "dataType": "dailyRevenue"}, parse_chart
    ),
    "dex_volume": _Series("/summary/dexs/{protocol}", _CHART, parse_chart),
}


def utc_now() -> datetime:
    """Return the present, UTC."""
    return datetime.now(tz=UTC)


@dataclass
class FundamentalsBatch:
    """What DefiLlama answered; series are named "aave tvl".

    Attributes:
        values: columns `FUNDAMENTAL_COLUMNS`, by protocol, metric and day.
        rejected: points and days that cannot be used, columns `REJECTED_COLUMNS`.
        unknown: series -> sentence, for each that DefiLlama does not have.
        empty_reasons: series -> sentence, for each that has no value in the window.
        errors: series -> sentence, for each that failed while others did not.
        failure: the first error among those, None where nothing failed.
    """

    values: pd.DataFrame
    rejected: pd.DataFrame
    unknown: dict[str, str] = field(default_factory=dict)
    empty_reasons: dict[str, str] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    failure: ProviderError | None = None


class DefillamaFundamentals:
    """Daily fundamentals of protocols.

    Args:
        gate: what every call passes.
        base_url: address; None is the real DefiLlama.
        timeout_seconds: longest wait for one answer.
        now: clock, UTC.

    Attributes:
        gate: as given.
    """

    def __init__(
        self,
        gate: Gate,
        *,
        base_url: str | None = None,
        timeout_seconds: float = 20.0,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self.gate = gate
        self._now = now
        self._api = JsonApi(
            SOURCE_NAME, TITLE, (base_url or BASE_URL).rstrip("/"), gate, timeout_seconds
        )

    @property
    def name(self) -> str:
        """The name of this provider, as in the `source` column."""
        return SOURCE_NAME

    def close(self) -> None:
        """Close the connections; the next call opens them anew."""
        self._api.close()

    def fetch(
        self,
        protocols: Sequence[str],
        start: date,
        end: date,
        metrics: Sequence[str] = METRICS,
    ) -> FundamentalsBatch:
        """Fetch the values of the UTC days `start <= day < end`.

        Args:
            protocols: DefiLlama's slugs.
            start: first UTC day.
            end: day after the last one.
            metrics: some of `METRICS`.

        Returns:
            One value per protocol, metric and day. A series that fails does not keep the others
            from being asked, unless the error would meet them too; `failure` is the first error.

        Raises:
            BadRequest: DefiLlama has none of the series.
        """
        batch = FundamentalsBatch(fundamentals_frame([]), empty_rejected())
        values: list[dict[str, Any]] = []
        rejected: list[dict[str, Any]] = []
        refusal: ProviderError | None = None
        for protocol, metric in [(each, metric) for each in protocols for metric in metrics]:
            series = f"{protocol} {metric}"
            if refusal is not None:
                batch.errors[series] = str(refusal)
                continue
            try:
                parsed = self._fetch_series(protocol, metric, start, end)
            except BadRequest as error:
                batch.unknown[series] = str(error)
                continue
            except ProviderError as error:
                batch.errors[series] = str(error)
                batch.failure = batch.failure or error
                refusal = error if _meets_all(error) else None
                continue
            values += parsed.values
            rejected += parsed.rejected
            if not parsed.values:
                batch.empty_reasons[series] = _why_empty(parsed, start, end)
        if batch.unknown and len(batch.unknown) == len(protocols) * len(metrics):
            raise BadRequest(
                f"DefiLlama has nothing of {', '.join(protocols)}. Check the names in "
                "SCIZOR_DEFILLAMA_PROTOCOLS against the addresses of its protocol pages.",
                provider=SOURCE_NAME,
                endpoint=_SERIES["tvl"].endpoint,
                status=404,
            )
        batch.values = fundamentals_frame(values)
        if rejected:
            batch.rejected = pd.DataFrame(rejected, columns=list(REJECTED_COLUMNS))
        return batch

    def _fetch_series(self, protocol: str, metric: str, start: date, end: date) -> ParsedSeries:
        how = _SERIES[metric]
        path = how.endpoint.format(protocol=protocol)
        asked_at = self._now()
        try:
            answer = self._api.get(path, how.params, endpoint=how.endpoint)
        except AuthError as error:
            if error.status is None:
                raise  # not DefiLlama's words: the gate's
            raise AuthError(
                f"DefiLlama answered {error.status} for {how.endpoint}, although it asks for no "
                "key: it has refused this address. Ask less often, or from another address.",
                provider=SOURCE_NAME,
                endpoint=how.endpoint,
                status=error.status,
            ) from None
        asked = Asked(protocol, metric, path, start, end, asked_at, self._now())
        try:
            return how.parse(answer, asked)
        except ContractError as error:
            raise self._api.drift(how.endpoint, str(error)) from error


def _meets_all(error: ProviderError) -> bool:
    """Say whether the same would happen to every other call."""
    unreachable = isinstance(error, TransientError) and error.status is None
    return unreachable or isinstance(error, RateLimited | AuthError)


def _why_empty(parsed: ParsedSeries, start: date, end: date) -> str:
    refused = f"; {len(parsed.rejected)} points were refused" if parsed.rejected else ""
    return f"no value from {start} to before {end}{refused}"
