"""Errors of everything SCIZOR talks to, below `scizor_core.errors.ScizorError`.

ScizorError
├── ProviderError(provider, endpoint, status, retry_after)
│   ├── TransientError     worth another try: timeouts, 5xx, a cut body
│   ├── RateLimited        429 or the provider's own word for it
│   ├── AuthError          key missing, wrong or not allowed
│   ├── BadRequest         the request can never work: unknown symbol, range out of reach
│   └── SchemaDrift        the answer does not have the agreed shape
├── WarehouseError         PostgreSQL refused or is out of reach
│   └── WarehouseAway      the connection was lost or refused: worth another try
├── ArchiveError           a file of the archive is missing, damaged or not what it should be
└── ServerError            an embedded server could not be started or reached
"""

from scizor_core.errors import ScizorError


class ProviderError(ScizorError):
    """A provider did not answer with data.

    Args:
        message: a sentence: what was asked, what came back, what to do.
        provider: the provider's name.
        endpoint: what was called, without query string and secrets.
        status: HTTP status, if there was one.
        retry_after: seconds that the provider asked to wait, if it said so.
    """

    def __init__(
        self,
        message: str,
        *,
        provider: str,
        endpoint: str = "",
        status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.provider = provider
        self.endpoint = endpoint
        self.status = status
        self.retry_after = retry_after


class TransientError(ProviderError):
    """Worth another try: timeout, connection lost, 5xx, a body cut short."""


class RateLimited(ProviderError):
    """The provider asks for fewer requests; `retry_after` where it says how long."""


class AuthError(ProviderError):
    """Credentials are missing, wrong, or do not allow this call."""


class BadRequest(ProviderError):
    """The request can never work as it stands: unknown symbol, range out of reach."""


class SchemaDrift(ProviderError):
    """The answer does not have the shape that was agreed; someone has to look."""


class WarehouseError(ScizorError):
    """PostgreSQL cannot be reached, refuses, or has a schema that does not fit."""


class WarehouseAway(WarehouseError):
    """PostgreSQL is being restarted or cannot be reached; what was asked for may work later."""


class ArchiveError(ScizorError):
    """A file of the archive is missing, damaged, or does not hold what it should."""


class ServerError(ScizorError):
    """An embedded server could not be started, joined or stopped."""


def is_retryable(error: BaseException) -> bool:
    """Say whether another try at the same call can succeed."""
    return isinstance(error, TransientError | RateLimited | WarehouseAway)
