"""`CoinspotPrices`: samples of CoinSpot's current prices, without a key.

CoinSpot's public interface serves no candles, so this is no `BarSource`: who wants bars samples
again and again, keeps the samples and builds bars of them (`samples.bars_from_samples`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
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
from scizor_resources.providers.coinspot.samples import (
    SOURCE_NAME,
    ParsedSamples,
    parse_prices,
    samples_frame,
)
from scizor_resources.providers.coinspot.symbols import (
    from_coinspot_symbol,
    to_coinspot_symbol,
)
from scizor_resources.providers.gate import Gate
from scizor_resources.providers.http import JsonApi

BASE_URL = "https://www.coinspot.com.au/pubapi/v2"
TITLE = "CoinSpot"
#: All listed prices; about 17 coins of the 500 and more that are traded.
LATEST_ENDPOINT = "/latest"
#: The price of one coin, listed or not.
COIN_ENDPOINT = "/latest/{coin}"


def utc_now() -> datetime:
    """Return the present, UTC."""
    return datetime.now(tz=UTC)


@dataclass(frozen=True)
class PriceSamples:
    """What one look at CoinSpot's prices brought.

    Attributes:
        samples: columns `SAMPLE_COLUMNS`, by symbol.
        rejected: prices that cannot be used, columns `REJECTED_COLUMNS`.
        errors: symbol -> sentence, for each symbol asked for that failed while others did not.
    """

    samples: pd.DataFrame
    rejected: pd.DataFrame
    errors: dict[str, str] = field(default_factory=dict)


class CoinspotPrices:
    """Current prices of CoinSpot.

    Args:
        gate: what every call passes. CoinSpot is said to allow 1000 calls a minute.
        base_url: address up to and with the version; None is the real CoinSpot.
        timeout_seconds: longest wait for one answer.
        now: clock, UTC; a sample's time is when its answer came, since CoinSpot gives none.

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
            SOURCE_NAME,
            TITLE,
            (base_url or BASE_URL).rstrip("/"),
            gate,
            timeout_seconds,
            error_text=_error_text,
            kind_of=_kind_of,
        )

    @property
    def name(self) -> str:
        """The name of this provider, as in the `source` column of samples."""
        return SOURCE_NAME

    def close(self) -> None:
        """Close the connections; the next call opens them anew."""
        self._api.close()

    def sample(self, coins: Sequence[str] | None = None) -> PriceSamples:
        """Look at the prices once.

        Args:
            coins: the platform's symbols, for example BTC/AUD or BTC/USDT; None for all that
                CoinSpot lists. Those that are not listed cost one call each.

        Returns:
            One sample for each symbol that has a last price. A symbol that CoinSpot does not know
            stands in `errors` with CoinSpot's words.

        Raises:
            InvalidInputError: a symbol cannot be a code of market crypto.
            RateLimited, AuthError, TransientError, SchemaDrift: the list could not be had.
        """
        keys = {to_coinspot_symbol("crypto", each) for each in coins or ()}
        if coins is not None and not keys:
            return PriceSamples(samples_frame([]), empty_rejected())
        listed = self._prices(LATEST_ENDPOINT, LATEST_ENDPOINT)
        if coins is not None:
            listed = {key: quoted for key, quoted in listed.items() if key in keys}
        parts = [self._parse(listed, LATEST_ENDPOINT)]
        errors: dict[str, str] = {}
        parts += self._sample_unlisted(sorted(keys - set(listed)), errors)
        return PriceSamples(*_joined(parts), errors)

    def _sample_unlisted(self, keys: Sequence[str], errors: dict[str, str]) -> list[ParsedSamples]:
        """Ask for coins one by one; a refusal meant for all of them ends the asking."""
        parts: list[ParsedSamples] = []
        refusal: ProviderError | None = None
        for key in keys:
            symbol = from_coinspot_symbol("crypto", key)
            if refusal is not None:
                errors[symbol] = str(refusal)
                continue
            path = f"{LATEST_ENDPOINT}/{key.replace('_', '/')}"
            try:
                parts.append(self._parse({key: self._prices(path, COIN_ENDPOINT)}, path))
            except ProviderError as error:
                errors[symbol] = str(error)
                unreachable = isinstance(error, TransientError) and error.status is None
                if unreachable or isinstance(error, RateLimited | AuthError):
                    refusal = error
        return parts

    def _prices(self, path: str, endpoint: str) -> Mapping[str, Any]:
        """Return the `prices` of an answer."""
        try:
            answer = self._api.get(path, endpoint=endpoint)
        except AuthError as error:
            if error.status is None:
                raise  # not CoinSpot's words: the gate's
            raise AuthError(
                f"CoinSpot answered {error.status} for {endpoint}, although it asks for no key: "
                "its protection against programs has refused this address. Ask less often, or "
                "from another address.",
                provider=SOURCE_NAME,
                endpoint=endpoint,
                status=error.status,
            ) from None
        prices = answer.get("prices") if isinstance(answer, Mapping) else None
        if not isinstance(prices, Mapping):
            raise self._api.drift(endpoint, "there are no 'prices' by coin")
        return prices

    def _parse(self, prices: Mapping[str, Any], origin: str) -> ParsedSamples:
        return parse_prices(prices, origin=origin, sampled_at=self._now())


def _joined(parts: list[ParsedSamples]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the samples and the refused rows of several answers as one frame each."""
    samples = [part.samples for part in parts if not part.samples.empty]
    rejected = [part.rejected for part in parts if not part.rejected.empty]
    return (
        pd.concat(samples, ignore_index=True).sort_values("symbol", ignore_index=True)
        if samples
        else samples_frame([]),
        pd.concat(rejected, ignore_index=True) if rejected else empty_rejected(),
    )


def _error_text(answer: Any) -> str:
    """Return the words of an error; also good answers carry a message."""
    if not isinstance(answer, Mapping) or answer.get("status") != "error":
        return ""
    return str(answer.get("message") or "an error without a message")


def _kind_of(status: int, words: str) -> type[ProviderError] | None:
    """Return the kind of an error that came with status 200, None to go by the status."""
    return BadRequest if words and status == 200 else None
