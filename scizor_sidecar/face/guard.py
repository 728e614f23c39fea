"""Who may ask: the key, the host that was asked, the page that asks."""

import hmac
import ipaddress
import socket
from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

from pydantic import SecretStr
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from scizor_sidecar.face.problems import answer

#: May be asked without a key: the page itself, and whether the process lives.
_OPEN = frozenset({"/", "/health", "/ready"})
_READING = frozenset({"GET", "HEAD", "OPTIONS"})


class Gatekeeper:
    """Decides who may ask.

    Args:
        key: the key to ask for, None for none.
        host: the address that is listened on.
    """

    def __init__(self, key: SecretStr | None, host: str = "127.0.0.1") -> None:
        self._key = None if key is None else key.get_secret_value().encode()
        self._names = {"localhost", host.lower(), socket.gethostname().lower()}

    @property
    def needs_key(self) -> bool:
        """Whether there is a key."""
        return self._key is not None

    def is_key(self, given: str) -> bool:
        """Say whether that is the key, in a time that tells nothing of it."""
        return self._key is not None and hmac.compare_digest(given.encode(), self._key)

    def has_key(self, headers: Mapping[str, str]) -> bool:
        """Say whether the headers hold the key."""
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        given = headers.get("x-api-key", "") or (bearer if scheme.lower() == "bearer" else "")
        return self.is_key(given.strip())

    def is_known_host(self, host: str) -> bool:
        """Say whether a request names this machine.

        A web page of another site can let its own name lead here; it cannot know the key.
        """
        if self.needs_key:
            return True
        try:
            name = (urlsplit(f"//{host}").hostname or "").lower()
        except ValueError:
            return False
        return name in self._names or _is_address(name)

    def is_same_origin(self, headers: Mapping[str, str]) -> bool:
        """Say whether a request comes from the page that is served here, or from no page."""
        origin = headers.get("origin")
        if origin is None:
            return True
        try:
            return urlsplit(origin).netloc.lower() == headers.get("host", "").lower()
        except ValueError:
            return False


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class Guard:
    """Middleware that lets through what may ask.

    A WebSocket passes without the key: it can say it in its first message.

    Args:
        app: what is guarded.
        keeper: who decides.
        open_paths: further paths that need no key.
    """

    def __init__(self, app: ASGIApp, keeper: Gatekeeper, open_paths: Collection[str] = ()) -> None:
        self._app, self._keeper = app, keeper
        self._open_paths = _OPEN | frozenset(open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand on."""
        refusal = None
        if scope["type"] in ("http", "websocket"):
            refusal = self._refusal(scope)
        if refusal is None:
            await self._app(scope, receive, send)
        else:
            status, error, what_to_do = refusal
            await answer(status, error, what_to_do)(scope, receive, send)

    def _refusal(self, scope: Scope) -> tuple[int, str, str] | None:
        headers, path = Headers(scope=scope), scope["path"]
        if not self._keeper.is_known_host(headers.get("host", "")):
            return 403, "That is not a name of this machine.", "Ask by its address, or set a key."
        is_websocket = scope["type"] == "websocket"
        changes = is_websocket or scope["method"] not in _READING
        if changes and not self._keeper.is_same_origin(headers):
            return 403, "Another site's page may not do that.", "Use the page at / here."
        if not self._keeper.needs_key or is_websocket or path in self._open_paths:
            return None
        if self._keeper.has_key(headers):
            return None
        return 401, "The key is missing or wrong.", "Send SCIZOR_API_KEY as X-API-Key."
