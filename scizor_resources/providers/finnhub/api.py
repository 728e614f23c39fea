"""How Finnhub is called, whatever it is asked for."""

from pydantic import SecretStr

from scizor_resources.providers.finnhub.refusals import kind_of_refusal, refusal_words
from scizor_resources.providers.finnhub.wire import SOURCE_NAME
from scizor_resources.providers.gate import Gate
from scizor_resources.providers.http import JsonApi

TITLE = "Finnhub"
DEFAULT_BASE_URL = "https://finnhub.io/api/v1"


def finnhub_api(
    gate: Gate,
    base_url: str | None,
    key: SecretStr | None,
    timeout_seconds: float,
    no_access: str,
) -> JsonApi:
    """Return what calls Finnhub.

    Args:
        gate: what every call passes.
        base_url: address with its path; None is the real one.
        key: API key; goes in a header, never in an address.
        timeout_seconds: longest wait for one answer.
        no_access: what to do where the plan does not have what is asked for.
    """
    hidden = key.get_secret_value() if key is not None else ""
    return JsonApi(
        SOURCE_NAME,
        TITLE,
        (base_url or DEFAULT_BASE_URL).rstrip("/"),
        gate,
        timeout_seconds,
        secret_headers={} if key is None else {"X-Finnhub-Token": key},
        error_text=lambda answer: refusal_words(answer, hidden, no_access),
        kind_of=kind_of_refusal,
    )
