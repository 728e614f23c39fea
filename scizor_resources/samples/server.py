"""`SampleServer`: hand-written answers of the ledgers' providers, in their formats, over loopback.

An address carries the clock of whoever asks, since many providers have no dates to ask for and show
what there is now: a news list as it was in 2022 holds nothing of 2026.
"""

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

if TYPE_CHECKING:
    from http.server import ThreadingHTTPServer

    from scizor_resources.samples.wire import Answer, Asked

_CLOCK = "at"
_CLOCK_FORMAT = "%Y%m%dT%H%M%SZ"
_POLL_SECONDS = 0.05


class SampleServer:
    """A server in this process; below `url` there is one folder per host of a provider.

    Starting takes a few milliseconds; nothing is listened on and no data read before.
    """

    def __init__(self) -> None:
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        """Listen on a free port of 127.0.0.1; where it listens already, nothing happens."""
        with self._lock:
            if self._server is None:
                self._server = _open()
                self._thread = threading.Thread(
                    target=self._server.serve_forever,
                    args=(_POLL_SECONDS,),
                    name="samples",
                    daemon=True,
                )
                self._thread.start()

    @property
    def url(self) -> str:
        """Address without a slash at the end; starts the server where it has not been yet."""
        self.start()
        assert self._server is not None  # noqa: S101  # started above
        return f"http://127.0.0.1:{self._server.server_port}"

    def address(self, name: str, at: datetime) -> str:
        """Return the base URL of a host as it is at an instant.

        Args:
            name: of the host, "reddit_www".
            at: aware; nothing that came later is shown.
        """
        return f"{self.url}/{_CLOCK}/{at.astimezone(UTC):{_CLOCK_FORMAT}}/{name}"

    def close(self) -> None:
        """Stop listening."""
        with self._lock:
            if self._server is not None and self._thread is not None:
                self._server.shutdown()
                self._server.server_close()
                self._thread.join()
            self._server = self._thread = None


def respond(target: str, body: bytes, now: datetime) -> "Answer":
    """Return the answer to a request.

    Args:
        target: path and query: "/at/20220524T120000Z/finnhub/company-news?symbol=MSFT"; without
            an instant of its own it is asked now.
        body: as sent.
        now: the present, aware.
    """
    from scizor_resources.samples.wire import Answer, Asked

    parts = urlsplit(target)
    names = parts.path.lstrip("/").split("/")
    at = now
    if names[0] == _CLOCK and len(names) > 2:  # noqa: PLR2004  # clock and host
        try:
            at = datetime.strptime(names[1], _CLOCK_FORMAT).replace(tzinfo=UTC)
        except ValueError:
            return Answer({"error": f"'{names[1]}' is no instant"}, 400)
        names = names[2:]
    host = _hosts().get(names[0])
    if host is None:
        return Answer({"error": f"there are no samples of '{names[0]}'"}, 404)
    path = unquote("/" + "/".join(names[1:]))
    query = parse_qs(parts.query, keep_blank_values=True)
    try:
        return host(Asked(path, query, body, at))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return Answer({"error": f"bad request: {type(error).__name__} {error}"}, 400)


def _hosts() -> "dict[str, Callable[[Asked], Answer]]":
    """Return host -> what answers for it."""
    from scizor_resources.samples import announcements, news, on_chain, social, stocks

    return {
        "defillama": on_chain.defillama,
        "defillama_stablecoins": on_chain.stablecoins,
        "glassnode": on_chain.glassnode,
        "nansen": on_chain.nansen,
        "cryptopanic": news.cryptopanic,
        "newscatcher": news.newscatcher,
        "finnhub": stocks.finnhub,
        "reddit": social.reddit,
        "reddit_www": social.reddit_www,
        "x": social.x,
        "edgar": stocks.edgar,
        "edgar_www": stocks.edgar_www,
        "edgar_search": stocks.edgar_search,
        "coinspot_announcements": announcements.coinspot,
    }


def _open() -> "ThreadingHTTPServer":
    """Return a server that is bound and does not serve yet."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
    from socketserver import TCPServer

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Header and body leave in two writes: with Nagle's algorithm the second would wait for
        # the client's delayed ACK, 40 ms an answer.
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            found = respond(self.path, self.rfile.read(length), datetime.now(tz=UTC))
            is_document = isinstance(found.body, str)
            body = (found.body if is_document else json.dumps(found.body)).encode()
            kind = "text/xml; charset=utf-8" if is_document else "application/json"
            try:
                self.send_response(found.status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        do_POST = do_GET  # noqa: N815  # the base class looks for this name

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002, ARG002  # its names
            return

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def server_bind(self) -> None:
            # The base class asks the name service who 127.0.0.1 is, which can take seconds.
            TCPServer.server_bind(self)
            self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

        def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002
            """Say nothing: a client that has gone is no matter."""

    return Server(("127.0.0.1", 0), Handler)
