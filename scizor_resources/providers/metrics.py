"""The seam behind which every source of on-chain metrics stands: its answer, and its errors.

A source answers with values, or says per series why there are none, or raises a `ProviderError`.
It never turns an error into an empty answer, and no missing value into a zero.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import pandas as pd
from pydantic import SecretStr

from scizor_core.schemas.on_chain import on_chain_frame
from scizor_resources.errors import AuthError, ProviderError, RateLimited, TransientError
from scizor_resources.providers.base import REJECTED_COLUMNS, empty_rejected
from scizor_resources.providers.gate import Gate
from scizor_resources.providers.http import JsonApi, error_words

#: How providers say that a quota is used up, in words or by the status "payment required".
_USED_UP = re.compile(r"credit|quota|(daily|monthly) limit", re.IGNORECASE)
_PAYMENT_REQUIRED = 402
_FORBIDDEN = 403
_TOO_MANY = 429


@dataclass
class MetricBatch:
    """What a source answered; a series is named as the source asks for it: "market/mvrv BTC".

    Attributes:
        values: columns `ON_CHAIN_COLUMNS`, in the order of their key.
        rejected: points that cannot be used, columns `REJECTED_COLUMNS`.
        unknown: series -> sentence, for each that the source does not have.
        empty_reasons: series -> sentence, for each that has no value in the window.
        errors: series -> sentence, for each that failed while others did not.
        failure: the first error among those, None where nothing failed.
        notes: sentences about what is not there: points without a value, a cap on pages.
        complete: False where a cap kept a part of the answer away.
    """

    values: pd.DataFrame = field(default_factory=lambda: on_chain_frame([]))
    rejected: pd.DataFrame = field(default_factory=empty_rejected)
    unknown: dict[str, str] = field(default_factory=dict)
    empty_reasons: dict[str, str] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    failure: ProviderError | None = None
    notes: list[str] = field(default_factory=list)
    complete: bool = True

    def failed(self, series: Iterable[str], error: ProviderError) -> None:
        """Note series that failed while others did not."""
        self.errors.update(dict.fromkeys(series, str(error)))
        self.failure = self.failure or error

    def capped(self, sentence: str) -> None:
        """Note that a part of the answer cannot be had."""
        self.notes.append(sentence)
        self.complete = False

    def fill(self, values: list[dict[str, Any]], rejected: list[dict[str, Any]]) -> None:
        """Take the records of values and of refused points as the frames they are."""
        self.values = on_chain_frame(values)
        if rejected:
            self.rejected = pd.DataFrame(rejected, columns=list(REJECTED_COLUMNS))


def fault_of_number(value: Any) -> str:
    """Return why something from an answer is no value, "" where it is one; None is not judged."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "the value is not a number"
    try:
        sound = isfinite(value)
    except OverflowError:
        sound = False
    return "" if sound else "the value is not a finite number"


def kind_of_used_up(status: int, words: str) -> type[ProviderError] | None:
    """Return AuthError where an answer means that a quota is used up; for `JsonApi.kind_of`.

    A pause of seconds does not renew a quota, so it is not `RateLimited`, whatever the status.
    """
    said = status in (_FORBIDDEN, _TOO_MANY) and bool(_USED_UP.search(words))
    return AuthError if said or status == _PAYMENT_REQUIRED else None


def explained(error: ProviderError, title: str, advice: str) -> ProviderError:
    """Return an error that says in whole sentences that a quota is used up, where it is.

    Args:
        error: as raised by `JsonApi`.
        title: the provider's name in sentences.
        advice: what to do about it.
    """
    if _is_used_up(error):
        return AuthError(
            f"{title} answered {error.status} for {error.endpoint}: the quota (credits) of the "
            f"plan is used up. {advice}",
            provider=error.provider,
            endpoint=error.endpoint,
            status=error.status,
        )
    if isinstance(error, RateLimited) and error.status == _TOO_MANY and error.retry_after is None:
        return RateLimited(
            f"{error} It did not say for how long: the quota (calls a day, credits a month) of the "
            f"plan may be used up. {advice}",
            provider=error.provider,
            endpoint=error.endpoint,
            status=error.status,
        )
    return error


def meets_all(error: ProviderError) -> bool:
    """Say whether the same would happen to every other call to the provider.

    A key that may not have one thing (403) can be allowed others, unless its quota is used up.
    """
    if isinstance(error, AuthError):
        return error.status != _FORBIDDEN or _is_used_up(error)
    unreachable = isinstance(error, TransientError) and error.status is None
    return unreachable or isinstance(error, RateLimited)


def metrics_api(  # noqa: PLR0913  # what a `JsonApi` needs
    name: str,
    title: str,
    base_url: str,
    gate: Gate,
    timeout_seconds: float,
    key_header: str,
    key: SecretStr | None,
) -> JsonApi:
    """Return what calls a source of metrics whose key goes in a header.

    Args:
        name: of the provider.
        title: the same for people.
        base_url: address with its path.
        gate: what every call passes.
        timeout_seconds: longest wait for one answer.
        key_header: header of the key.
        key: API key, None where there is none.
    """
    return JsonApi(
        name,
        title,
        base_url.rstrip("/"),
        gate,
        timeout_seconds,
        secret_headers={} if key is None else {key_header: key},
        error_text=_words_without(key),
        kind_of=kind_of_used_up,
    )


def _words_without(secret: SecretStr | None) -> Callable[[Any], str]:
    """Return what finds the words of an error answer, with the secret taken out if it is echoed."""
    hidden = secret.get_secret_value() if secret is not None else ""

    def words(answer: Any) -> str:
        said = error_words(answer) or _detail(answer)
        return said.replace(hidden, "<key>") if hidden else said

    return words


def _is_used_up(error: ProviderError) -> bool:
    if not isinstance(error, AuthError) or error.status is None:
        return False
    return error.status == _PAYMENT_REQUIRED or bool(_USED_UP.search(str(error)))


def _detail(answer: Any) -> str:
    """Return the words of `{"detail": "..."}` or `{"detail": [{"msg": "..."}]}`, empty if none."""
    detail = answer.get("detail") if isinstance(answer, dict) else None
    if isinstance(detail, str):
        return detail
    parts = detail if isinstance(detail, list) else []
    return "; ".join(str(each["msg"]) for each in parts if isinstance(each, dict) and "msg" in each)
