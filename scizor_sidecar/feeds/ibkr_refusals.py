"""What an error code means for a live subscription. Pure."""

from enum import StrEnum

from scizor_resources.errors import ProviderError, RateLimited
from scizor_resources.providers.ibkr.verdicts import SOURCE_NAME, gateway_error

#: The order book begins anew.
BOOK_RESET = 317
#: Delayed data come in place of live ones.
DELAYED_INSTEAD = 10167

_TOO_FAST = 100
#: Not connected, not connected any more, another port; the same account is logged in elsewhere and
#: has the live data.
_ENDS = frozenset({_TOO_FAST, 502, 504, 1300, 10197})
#: A subscription that is already gone; states of farms.
_NO_NEWS = frozenset({300, 310, 10225, *range(2100, 2200)})


class Fate(StrEnum):
    """What becomes of what an error is about."""

    NOTHING = "nothing"
    REFUSED = "refused"
    CONNECTION_ENDS = "the connection ends"


def fate_of(code: int) -> Fate:
    """Return what an error about a subscription means.

    What is not known is a refusal: seen by everybody, and asked for again with the next connection.
    """
    if code in _NO_NEWS:
        return Fate.NOTHING
    return Fate.CONNECTION_ENDS if code in _ENDS else Fate.REFUSED


def refusal(code: int, words: str, *, endpoint: str, subject: str) -> ProviderError:
    """Return the error of a subscription that is refused; see `gateway_error`."""
    if code == _TOO_FAST:
        return RateLimited(
            f"IBKR was asked too fast: {words}",
            provider=SOURCE_NAME,
            endpoint=endpoint,
            status=code,
        )
    return gateway_error(code, words, endpoint=endpoint, subject=subject)
