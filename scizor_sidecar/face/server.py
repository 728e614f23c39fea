"""uvicorn as the face needs it: bounded frames, no signal handlers, connections that can be cut."""

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Generator

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from scizor_resources.errors import ServerError
from scizor_sidecar.face.wire import MOST_BYTES

#: After its close frame a connection that takes nothing is cut.
_CUT_SECONDS = 1.0
_SHUTDOWN_SECONDS = 2
_BACKLOG = 2048
_SHORT, _MEDIUM = 126, 1 << 16


class DirectConnection(WebSocketsSansIOProtocol):
    """A WebSocket that is written to without detours, and whose end waits for nobody.

    A frame of a server is a header before the payload; to send one through every layer of ASGI
    costs five times as much, for each client anew.
    """

    async def run_asgi(self) -> None:
        """Serve the connection."""
        state: dict[str, object] = self.scope["state"]
        state["connection"] = self
        await super().run_asgi()

    @property
    def is_stalled(self) -> bool:
        """Whether the client has not taken what it was sent."""
        return not self.writable.is_set()

    async def drained(self) -> None:
        """Wait until more can be written."""
        await self.writable.wait()

    def write(self, payload: bytes, *, is_text: bool) -> None:
        """Send one message.

        Raises:
            ClientDisconnected: the connection has ended.
        """
        if self.disconnected or self.close_sent or self.transport.is_closing():
            raise ClientDisconnected
        self.transport.write(frame_header(len(payload), is_text=is_text) + payload)

    def end(self, code: int, reason: str) -> None:
        """Write a close frame behind what is not taken yet, and cut the connection soon after."""
        if not self.transport.is_closing() and not self.close_sent:
            self.conn.send_close(code, reason)
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.close_sent = True
            if self.read_paused:
                # Its answer to the close frame is waited for.
                self.read_paused = False
                self.transport.resume_reading()
            self.close_timer = self.loop.call_later(_CUT_SECONDS, self.transport.abort)


def frame_header(length: int, *, is_text: bool) -> bytes:
    """Return the header of a whole, unmasked frame (RFC 6455, section 5.2)."""
    first = 0x81 if is_text else 0x82
    if length < _SHORT:
        return bytes((first, length))
    if length < _MEDIUM:
        return bytes((first, _SHORT)) + length.to_bytes(2, "big")
    return bytes((first, _SHORT + 1)) + length.to_bytes(8, "big")


class _Server(uvicorn.Server):
    """A server that leaves signals to the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Capture none."""
        yield


def is_open_to_others(host: str) -> bool:
    """Say whether other machines can reach what listens on an address."""
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() != "localhost"


class FaceServer:
    """Serves the face.

    Args:
        app: what is served.
        host: address to listen on.
        port: port; 0 for any that is free.
    """

    def __init__(self, app: FastAPI, host: str = "127.0.0.1", port: int = 0) -> None:
        self.host, self._port = host, port
        self.started = asyncio.Event()
        self._server = _Server(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                ws=DirectConnection,
                ws_max_size=MOST_BYTES,
                # Compressing small messages for each client anew costs more than it saves.
                ws_per_message_deflate=False,
                ws_ping_interval=20,
                ws_ping_timeout=20,
                backlog=_BACKLOG,
                timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
                access_log=False,
                log_config=None,
                server_header=False,
            )
        )

    @property
    def url(self) -> str:
        """Where the face is reached, once it is started."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self._port}"

    async def run(self) -> None:
        """Serve until cancelled.

        Raises:
            ServerError: the address cannot be listened on.
        """
        listening = self._listen()
        serving = asyncio.ensure_future(self._server.serve(sockets=[listening]))
        try:
            while not self._server.started and not serving.done():  # noqa: ASYNC110  # uvicorn has no event
                await asyncio.sleep(0.01)
            self.started.set()
            await asyncio.shield(serving)
        finally:
            self._server.should_exit = True
            try:
                async with asyncio.timeout(_SHUTDOWN_SECONDS + 1):
                    await asyncio.gather(serving, return_exceptions=True)
            finally:
                listening.close()

    async def flush(self) -> None:
        """Do nothing: what is not sent yet is in the stores."""

    def _listen(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((self.host, self._port))
        except OSError as error:
            listening.close()
            raise ServerError(
                f"The sidecar cannot listen on {self.host}:{self._port}: {error.strerror}. Is "
                "another one running? Choose another SCIZOR_SIDECAR_PORT."
            ) from error
        listening.setblocking(False)
        self._port = listening.getsockname()[1]
        return listening
