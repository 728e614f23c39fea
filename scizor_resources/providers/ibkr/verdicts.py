"""What the gateway's error codes and words mean.

One code stands for many things at IBKR: 162 is "too many requests", "no data", "not subscribed"
and "connection broken" alike, so that only the words tell. A gateway set to another language
translates the beginning of the sentence and leaves the part that matters in English.
"""

import re

from scizor_resources.errors import (
    AuthError,
    BadRequest,
    ProviderError,
    RateLimited,
    TransientError,
)

SOURCE_NAME = "ibkr"
TITLE = "IBKR"

CLIENT_ID_IN_USE = 326
#: The gateway has lost IBKR's servers, or has them again (with and without loss of subscriptions).
LINK_LOST = frozenset({1100, 2110})
LINK_BACK = frozenset({1101, 1102})
#: Codes that end a request although ib_async takes them for warnings. 165 stays a message: the
#: request that it is about is still being answered.
ENDS_REQUEST = frozenset({321})

_BY_CODE: dict[int, type[ProviderError]] = {
    100: RateLimited,
    200: BadRequest,
    320: BadRequest,
    321: BadRequest,
    322: BadRequest,
    354: AuthError,
    10089: AuthError,
    10090: AuthError,
    10091: AuthError,
    10167: AuthError,
    10168: AuthError,
    10186: AuthError,
    10314: BadRequest,
}
#: Codes whose words decide.
_WORDY = frozenset({162, 165, 321, 322, 366, 420, 10187})
_NO_DATA = re.compile(r"returned no data|no data available", re.IGNORECASE)
_BY_WORDS: tuple[tuple[re.Pattern[str], type[ProviderError]], ...] = tuple(
    (re.compile(words, re.IGNORECASE), kind)
    for words, kind in (
        (r"pacing violation|simultaneous", RateLimited),
        (r"connection|inactive|cancell?ed|competing|different IP", TransientError),
        (r"permission|subscri", AuthError),
        (r"invalid|exceed|bar size|duration|unknown|no historical market data", BadRequest),
    )
)
_ADVICE: dict[type[ProviderError], str] = {
    RateLimited: "Calls to it pause for every process.",
    AuthError: "Check the account's market data subscriptions.",
    BadRequest: "Check the symbol and the window.",
    TransientError: "Try again later; if it stays so, look at the gateway.",
}


def says_no_data(code: int, words: str) -> bool:
    """Say whether an error is only the statement that there is nothing in the window."""
    return code in _WORDY and _NO_DATA.search(words) is not None


def kind_of(code: int, words: str) -> type[ProviderError]:
    """Return the kind of error that a code with its words means.

    What is not known is worth another try, and never an empty answer.
    """
    if code in _WORDY:
        for pattern, kind in _BY_WORDS:
            if pattern.search(words):
                return kind
    return _BY_CODE.get(code, TransientError)


def gateway_error(code: int, words: str, *, endpoint: str, subject: str) -> ProviderError:
    """Return the error of a request that the gateway has refused.

    Args:
        code: IBKR's error code; it becomes the error's `status`.
        words: IBKR's words.
        endpoint: what was called.
        subject: what it was called for, for the sentence.
    """
    kind = kind_of(code, words)
    said = " ".join(words.split()).rstrip(".") or "no reason given"
    return kind(
        f"IBKR answered {endpoint} of {subject} with error {code}: {said}. {_ADVICE[kind]}",
        provider=SOURCE_NAME,
        endpoint=endpoint,
        status=code,
    )


def unreachable(found: str, advice: str, *, endpoint: str = "connect") -> TransientError:
    """Return the error of a gateway that cannot be talked to."""
    return TransientError(f"{found.rstrip('.')}. {advice}", provider=SOURCE_NAME, endpoint=endpoint)
