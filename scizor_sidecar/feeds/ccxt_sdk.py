"""ccxt.pro's exchanges, so hooked into that every message is heard as it came, and none kills them.

ccxt.pro connects, subscribes, pings and answers pings, and keeps order books. Its trades are not
used: it cuts their times to milliseconds, keeps the last thousand, and files all trades of a
message under the symbol of the first. Nor is its reading of text: a frame that is no JSON ends its
receive loop without a word, and the connection stays open, deaf.
"""

import importlib
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Protocol

import orjson

from scizor_resources.errors import ProviderError, RateLimited, TransientError
from scizor_resources.providers.ccxt_venues.exchange import Dialect, moved_urls
from scizor_resources.providers.http import kind_of_status, retry_after

#: Codes with which a WebSocket is closed, RFC 6455 section 7.4.1: against the rules, most often
#: those about how much may be asked.
_POLICY_VIOLATION = 1008


class Hearing(Protocol):
    """Who is told what comes from the exchange. Called in the event loop."""

    def frame(self) -> None:
        """Note that something came."""

    def message(self, client: Any, message: object) -> None:
        """Take a decoded message."""

    def garbage(self, what: str, raw: str) -> None:
        """Take a frame that could not be decoded."""

    def ended(self, error: BaseException) -> None:
        """Note that the connection has ended."""

    def room(self) -> Awaitable[None]:
        """Wait until more can be taken."""


def open_sdk(
    ccxt_id: str,
    loop: Any,
    markets: Sequence[Mapping[str, Any]],
    hearing: Hearing,
    *,
    ws_url: str | None,
    base_url: str | None,
    timeout_seconds: float,
) -> Any:
    """Return an exchange of ccxt.pro that knows its markets; it connects with the first `watch_`.

    Args:
        ccxt_id: name of ccxt's class.
        loop: the event loop that it will be used in; this may be called in another thread.
        markets: as ccxt describes them.
        hearing: who is told what comes.
        ws_url: scheme and host that stand in for those of its WebSocket; None is the real ones.
        base_url: the same for REST.
        timeout_seconds: longest wait for a connection.
    """
    pro = importlib.import_module("ccxt.pro")
    sdk = getattr(pro, ccxt_id)({"asyncio_loop": loop, "timeout": timeout_seconds * 1000})
    sdk.timeout_on_exit = 0
    api = sdk.urls["api"]
    streams = api.pop("ws")
    api = moved_urls(api, base_url) if base_url else api
    # Some venues have one address for all streams, some a table.
    sdk.urls["api"] = {**api, "ws": moved_urls(streams, ws_url) if ws_url else streams}
    sdk.set_markets(list(markets))
    # One connection for all of Binance's subscriptions; else each set of symbols has its own.
    sdk.stream = lambda *_: "0"
    sdk.handle_message = hearing.message
    sdk.on_close = _told(sdk.on_close, hearing)
    sdk.on_error = _told(sdk.on_error, hearing)
    make_client = sdk.client

    def client(url: str) -> Any:
        is_new = url not in sdk.clients
        found = make_client(url)
        if is_new:
            _hook(found, hearing)
        return found

    sdk.client = client
    return sdk


def keep_book(sdk: Any, client: Any, message: object) -> str:
    """Let the SDK take a message that is not about trades; returns why it could not, or "".

    It takes messages apart without looking, so anything may come out of it.
    """
    errors = importlib.import_module("ccxt.base.errors")
    try:
        type(sdk).handle_message(sdk, client, message)
    except (
        errors.BaseError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError,
    ) as error:  # fmt: skip
        return f"the SDK says {type(error).__name__}"
    return ""


def _told(hook: Any, hearing: Hearing) -> Any:
    def tell(client: Any, what: Any) -> None:
        hook(client, what)
        if not isinstance(what, BaseException):
            what = ConnectionClosed(what)
        hearing.ended(what)

    return tell


class ConnectionClosed(Exception):  # noqa: N818  # as everybody calls it
    """The exchange has closed the connection, with that code."""

    def __init__(self, code: object) -> None:
        super().__init__(f"closed with code {code}")
        self.code = code


def _hook(client: Any, hearing: Hearing) -> None:
    take_frame, receive = client.handle_message, client.receive

    def handle_message(frame: Any) -> None:
        hearing.frame()
        take_frame(frame)

    def handle_data(data: str | bytes) -> None:
        try:
            message = orjson.loads(data)
        except ValueError:
            raw = data if isinstance(data, str) else data.decode("utf-8", "replace")
            hearing.garbage("it is not JSON", raw)
            return
        client.on_message_callback(client, message)

    async def receive_with_room() -> Any:
        await hearing.room()
        return await receive()

    client.handle_message = handle_message
    client.handle_text_or_binary_message = handle_data
    client.receive = receive_with_room


def to_provider_error(
    error: BaseException, dialect: Dialect, *, provider: str, title: str
) -> ProviderError:
    """Return our error for the end of a connection."""
    if isinstance(error, ProviderError):
        return error
    if isinstance(error, ConnectionClosed):
        kind = RateLimited if error.code == _POLICY_VIOLATION else TransientError
        return kind(f"{title} closed the connection (code {error.code}).", provider=provider)
    # A refused handshake is the SDK's error around that of its HTTP library.
    cause = error.args[0] if error.args else None
    status = getattr(cause, "status", None)
    if not isinstance(status, int):
        return TransientError(f"The connection to {title} broke: {error}", provider=provider)
    found = dialect.statuses.get(status) or kind_of_status(status) or TransientError
    return found(
        f"{title} refused the connection with status {status}.",
        provider=provider,
        status=status,
        retry_after=retry_after(getattr(cause, "headers", None) or {}),
    )
