"""`DefillamaFundamentals`: fundamentals of protocols and chains, keyless.

Value locked, fees, revenue and exchange volume of protocols; value locked and stablecoin supply of
chains. DefiLlama serves whole histories, one call per protocol or chain and metric; a day and a
year cost the same. Stablecoins have a host of their own, and share the other's gate.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any
from urllib.parse import quote

import pandas as pd

from scizor_core.errors import ContractError
from scizor_core.schemas.fundamentals import (
    ALL_CHAINS,
    CHAIN_METRICS,
    METRICS,
    chain_keys,
    fundamentals_frame,
)
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
    parse_chain_tvl,
    parse_chart,
    parse_stablecoins,
    parse_tvl,
)
from scizor_resources.providers.gate import Gate
from scizor_resources.providers.http import JsonApi

BASE_URL = "https://api.llama.fi"
STABLECOINS_BASE_URL = "https://stablecoins.llama.fi"
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
    "chain_tvl": _Series("/v2/historicalChainTvl/{chain}", {}, parse_chain_tvl),
    "stablecoin_supply": _Series("/stablecoincharts/{chain}", {}, parse_stablecoins),
}


@dataclass(frozen=True)
class _Wanted:
    """One series: its `protocol` and metric, how the address and people call its subject."""

    protocol: str
    metric: str
    slug: str
    name: str

    @property
    def series(self) -> str:
        return f"{self.protocol} {self.metric}"


def utc_now() -> datetime:
    """Return the present, UTC."""
    return datetime.now(tz=UTC)


@dataclass
class FundamentalsBatch:
    """What DefiLlama answered; series are named "aave tvl", "chain:ethereum chain_tvl".

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
    """Daily fundamentals of protocols and chains.

    Args:
        gate: what every call passes, to either host.
        base_url: address; None is the real DefiLlama.
        stablecoins_base_url: address for stablecoins; None is the real one.
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
        stablecoins_base_url: str | None = None,
        timeout_seconds: float = 20.0,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self.gate = gate
        self._now = now
        self._api, self._stablecoins = (
            JsonApi(SOURCE_NAME, TITLE, address.rstrip("/"), gate, timeout_seconds)
            for address in (base_url or BASE_URL, stablecoins_base_url or STABLECOINS_BASE_URL)
        )

    @property
    def name(self) -> str:
        """The name of this provider, as in the `source` column."""
        return SOURCE_NAME

    def close(self) -> None:
        """Close the connections; the next call opens them anew."""
        self._api.close()
        self._stablecoins.close()

    def fetch(
        self,
        protocols: Sequence[str],
        start: date,
        end: date,
        metrics: Sequence[str] = METRICS,
        chains: Sequence[str] = (),
    ) -> FundamentalsBatch:
        """Fetch the values of the UTC days `start <= day < end`.

        Args:
            protocols: DefiLlama's slugs.
            start: first UTC day.
            end: day after the last one.
            metrics: some of `METRICS`; those of chains are asked of chains, the others of
                protocols.
            chains: DefiLlama's names of chains. Where there are any, the stablecoin supply of all
                chains together comes with theirs.

        Returns:
            One value per protocol or chain, metric and day. A series that fails does not keep the
            others from being asked, unless the error would meet them too; `failure` is the first
            error.

        Raises:
            BadRequest: DefiLlama has none of the series.
        """
        batch = FundamentalsBatch(fundamentals_frame([]), empty_rejected())
        values: list[dict[str, Any]] = []
        rejected: list[dict[str, Any]] = []
        refusals: dict[str, ProviderError] = {}
        asked_for = _series_of(protocols, chains, metrics)
        for wanted in asked_for:
            host = self._api_of(wanted).base_url
            if host in refusals:
                batch.errors[wanted.series] = str(refusals[host])
                continue
            try:
                parsed = self._fetch_series(wanted, start, end)
            except BadRequest as error:
                batch.unknown[wanted.series] = str(error)
                continue
            except ProviderError as error:
                batch.errors[wanted.series] = str(error)
                batch.failure = batch.failure or error
                refusals |= dict.fromkeys(self._hosts_met_by(error, host), error)
                continue
            values += parsed.values
            rejected += parsed.rejected
            if not parsed.values:
                batch.empty_reasons[wanted.series] = _why_empty(parsed, start, end)
        if batch.unknown and len(batch.unknown) == len(asked_for):
            raise _nothing_known(asked_for)
        batch.values = fundamentals_frame(values)
        if rejected:
            batch.rejected = pd.DataFrame(rejected, columns=list(REJECTED_COLUMNS))
        return batch

    def _api_of(self, wanted: _Wanted) -> JsonApi:
        return self._stablecoins if wanted.metric == "stablecoin_supply" else self._api

    def _hosts_met_by(self, error: ProviderError, host: str) -> list[str]:
        """Return the hosts where the same would happen to every other call."""
        if isinstance(error, RateLimited):
            return [self._api.base_url, self._stablecoins.base_url]
        unreachable = isinstance(error, TransientError) and error.status is None
        return [host] if unreachable or isinstance(error, AuthError) else []

    def _fetch_series(self, wanted: _Wanted, start: date, end: date) -> ParsedSeries:
        how, api = _SERIES[wanted.metric], self._api_of(wanted)
        slug = quote(wanted.slug, safe="")
        path = how.endpoint.format(protocol=slug, chain=slug)
        asked_at = self._now()
        try:
            answer = api.get(path, how.params, endpoint=how.endpoint)
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
        asked = Asked(
            wanted.protocol, wanted.metric, path, start, end, asked_at, self._now(), wanted.name
        )
        try:
            return how.parse(answer, asked)
        except ContractError as error:
            raise api.drift(how.endpoint, str(error)) from error


def _series_of(
    protocols: Sequence[str], chains: Sequence[str], metrics: Sequence[str]
) -> list[_Wanted]:
    of_protocols = [metric for metric in metrics if metric not in CHAIN_METRICS]
    found = [_Wanted(each, metric, each, each) for each in protocols for metric in of_protocols]
    for metric in (each for each in CHAIN_METRICS if each in metrics):
        for key, name in chain_keys(chains).items():
            found.append(_Wanted(key, metric, name, name))
        if chains and metric == "stablecoin_supply":
            found.append(_Wanted(ALL_CHAINS, metric, "all", "All chains"))
    return found


def _nothing_known(asked_for: list[_Wanted]) -> BadRequest:
    names = ", ".join(dict.fromkeys(each.name for each in asked_for))
    return BadRequest(
        f"DefiLlama has nothing of {names}. Check the names in SCIZOR_DEFILLAMA_PROTOCOLS against "
        "the addresses of its protocol pages, and those in SCIZOR_DEFILLAMA_CHAINS against its "
        "list of chains.",
        provider=SOURCE_NAME,
        endpoint=_SERIES[asked_for[0].metric].endpoint,
        status=404,
    )


def _why_empty(parsed: ParsedSeries, start: date, end: date) -> str:
    refused = f"; {len(parsed.rejected)} points were refused" if parsed.rejected else ""
    return f"no value from {start} to before {end}{refused}"
