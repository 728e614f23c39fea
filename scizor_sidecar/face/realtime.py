"""`WS /ws/realtime`: one connection; what it asks for and what is sent to it."""

import asyncio
from typing import Any

from fastapi import APIRouter, WebSocket, WebSocketDisconnect

from scizor_core.errors import ScizorError
from scizor_sidecar.face.clients import MOST_SUBSCRIPTIONS, Client, Outgoing, TooManyError
from scizor_sidecar.face.guard import Gatekeeper
from scizor_sidecar.face.hub import Hub
from scizor_sidecar.face.problems import advice
from scizor_sidecar.face.server import DirectConnection
from scizor_sidecar.face.state import FaceState
from scizor_sidecar.face.stored import parse_name
from scizor_sidecar.face.topics import TopicName
from scizor_sidecar.face.wire import (
    BY_TIMEFRAME,
    CHANNELS,
    MOST_BYTES,
    MOST_SYMBOLS,
    VERSION,
    Request,
    UnreadableError,
    as_iso,
    is_streamed,
    join,
    key_of,
    read_request,
    timeframes_of,
)

AUTH_SECONDS = 5.0
#: A connection that takes nothing for so long is ended.
STALLED_SECONDS = 15.0
#: So many messages in a row that cannot be read end a connection.
MOST_UNREADABLE = 100
_BATCH_BYTES = 256 * 1024
_TOO_MANY, _REFUSED, _NO_KEY, _STALLED = 1013, 1008, 4401, 4408


class _Ended(Exception):
    """The connection is to be closed, with a code and a reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


def realtime_router(state: FaceState, keeper: Gatekeeper) -> APIRouter:
    """Return the route of the WebSocket."""
    router = APIRouter()

    @router.websocket("/ws/realtime")
    async def realtime(websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            client = state.hub.join()
        except TooManyError as error:
            await websocket.close(_TOO_MANY, str(error))
            return
        try:
            await _Session(websocket, client, state, keeper).run()
        finally:
            state.hub.leave(client)

    return router


class _Session:
    """One connection, from hello to its end."""

    def __init__(
        self, websocket: WebSocket, client: Client, state: FaceState, keeper: Gatekeeper
    ) -> None:
        self._websocket, self._client = websocket, client
        self._hub: Hub = state.hub
        self._connection: DirectConnection = websocket.state.connection
        self._now, self._keeper = state.now, keeper
        self._is_trusted = not keeper.needs_key or keeper.has_key(websocket.headers)
        self._unreadable = 0

    async def run(self) -> None:
        """Serve the connection until it ends."""
        self._hello()
        if self._is_trusted:
            self._hub.welcome(self._client)
        tasks = [
            asyncio.ensure_future(self._read()),
            asyncio.ensure_future(self._write()),
            asyncio.ensure_future(self._expect_key()),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        del done
        for result in results:
            if isinstance(result, _Ended):
                self._connection.end(result.code, result.reason)
        for result in results:
            if isinstance(result, Exception) and not isinstance(result, _EXPECTED):
                raise result

    def _hello(self) -> None:
        needed = "none" if not self._keeper.needs_key else "done" if self._is_trusted else "needed"
        self._client.tell(
            {
                "type": "hello",
                "version": VERSION,
                "time": as_iso(self._now()),
                "auth": needed,
                "limits": {
                    "message_bytes": MOST_BYTES,
                    "symbols": MOST_SYMBOLS,
                    "subscriptions": MOST_SUBSCRIPTIONS,
                },
            },
            "hello",
        )

    async def _expect_key(self) -> None:
        """End a connection that does not say the key in time."""
        await asyncio.sleep(AUTH_SECONDS)
        if not self._is_trusted:
            raise _Ended(_NO_KEY, "no key came in time")
        await asyncio.Event().wait()

    # ---- what comes

    async def _read(self) -> None:
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            self._hub.counts.requests += 1
            content = message.get("text")
            try:
                request = read_request(message.get("bytes") or b"" if content is None else content)
            except UnreadableError as error:
                self._refuse(str(error))
                continue
            self._unreadable = 0
            self._do(request)

    def _refuse(self, why: str) -> None:
        self._hub.counts.unreadable += 1
        self._unreadable += 1
        if self._unreadable > MOST_UNREADABLE:
            raise _Ended(_REFUSED, "too many messages that cannot be read")
        self._tell_error(f"The message cannot be read: {why}.", "See docs/streaming.md.")

    def _do(self, request: Request) -> None:
        if request.op == "auth":
            self._authenticate(request)
        elif not self._is_trusted:
            self._tell_error("The key is missing.", 'Send {"op": "auth", "key": ...} first.')
        elif request.op == "ping":
            self._client.tell({"type": "pong", "time": as_iso(self._now())}, "pong")
        elif request.op == "subscribe":
            self._subscribe(request)
        else:
            self._unsubscribe(request)

    def _authenticate(self, request: Request) -> None:
        if self._is_trusted:
            return
        if not self._keeper.is_key(request.key):
            raise _Ended(_NO_KEY, "the key is wrong")
        self._is_trusted = True
        self._hello()
        self._hub.welcome(self._client)

    def _subscribe(self, request: Request) -> None:
        client = self._client
        if request.format is not None:
            client.format = request.format
        if request.interval_ms is not None:
            client.interval_ms = request.interval_ms
        if request.batch is not None:
            client.batch = request.batch
        timeframes = request.timeframes or ["1m"]
        for each in timeframes:
            if not is_streamed(each):
                self._tell_error(f"There are no live bars of '{each}'.", "Use 1m, 5m or 15m.")
                return
        keys = []
        try:
            for market, symbol in self._names(request.symbols or []):
                for channel in dict.fromkeys(request.channels or ["bars"]):
                    for timeframe in timeframes_of(channel, timeframes):
                        key = key_of(channel, market, symbol, timeframe)
                        name = TopicName(channel, market, symbol, timeframe)
                        self._hub.subscribe(client, name, request.resume.get(key))
                        keys.append(key)
        except TooManyError as error:
            self._tell_error(f"That is too much: {error}.", "Unsubscribe from what is not shown.")
        self._tell_count("subscribed", len(keys))

    def _unsubscribe(self, request: Request) -> None:
        names = None if request.symbols is None else set(self._names(request.symbols))
        channels = set(request.channels or CHANNELS)
        gone = [
            each
            for each in self._client.subscriptions
            if (names is None or (each.market, each.symbol) in names)
            and each.channel in channels
            and (
                request.timeframes is None
                or each.channel not in BY_TIMEFRAME
                or each.timeframe in request.timeframes
            )
        ]
        for each in gone:
            self._hub.unsubscribe(self._client, each)
        self._tell_count("unsubscribed", len(gone))

    def _names(self, texts: list[str]) -> list[tuple[str, str]]:
        """Return what can be an instrument; tells of what cannot."""
        found = []
        for text in dict.fromkeys(texts):
            try:
                found.append(parse_name(text))
            except ScizorError as error:
                self._tell_error(str(error), advice(error)[1], text)
        return found

    def _tell_count(self, code: str, count: int) -> None:
        text = f"{code} {count} of channel, instrument and timeframe"
        self._client.tell({"type": "notice", "code": code, "text": text, "count": count})

    def _tell_error(self, error: str, what_to_do: str, symbol: str | None = None) -> None:
        message: dict[str, Any] = {"type": "error", "error": error, "what_to_do": what_to_do}
        if symbol is not None:
            message["symbol"] = symbol
        self._client.tell(message)

    # ---- what goes

    async def _write(self) -> None:
        client = self._client
        while True:
            await client.work.wait()
            client.work.clear()
            if client.batch:
                await self._send_together()
            else:
                for each in client.take():
                    await self._send(each.payload)
                    self._hub.sent((each,))
            if client.interval_ms:
                await asyncio.sleep(client.interval_ms / 1000)

    async def _send_together(self) -> None:
        waiting: list[Outgoing] = []
        size = 0
        for each in self._client.take():
            waiting.append(each)
            size += len(each.payload)
            if size >= _BATCH_BYTES:
                await self._send_all(waiting)
                waiting, size = [], 0
        if waiting:
            await self._send_all(waiting)

    async def _send_all(self, waiting: list[Outgoing]) -> None:
        await self._send(join([each.payload for each in waiting], self._client.format))
        self._hub.sent(waiting)

    async def _send(self, payload: bytes) -> None:
        is_text = self._client.format == "json"
        if self._connection.is_stalled:
            try:
                async with asyncio.timeout(STALLED_SECONDS):
                    await self._connection.drained()
            except TimeoutError:
                self._hub.counts.closed_slow += 1
                why = f"nothing was taken for {STALLED_SECONDS:g} s: connect again and resume"
                raise _Ended(_STALLED, why) from None
        self._connection.write(payload, is_text=is_text)
        self._hub.counts.messages += 1
        self._hub.counts.bytes += len(payload)


#: How a connection ends that has done nothing wrong: it is gone, or was ended on purpose.
_EXPECTED = (_Ended, WebSocketDisconnect, OSError)
