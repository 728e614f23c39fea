"""One connection to a TWS or IB Gateway and the requests on it, inside an event loop.

ib_async turns failures into empty answers: an error ends a request with an empty list unless
`RaiseRequestErrors` is set, its own time-out does so always, error 321 does not end a request at
all, and a frame that it cannot decode is only logged. Here each request has an id of ours to watch
and ends with an answer or an error; silence is measured by our own clock.
"""

import asyncio
import logging
import os
from collections.abc import Callable
from functools import partial
from typing import Any

from scizor_resources.errors import SchemaDrift
from scizor_resources.providers.ibkr.verdicts import (
    CLIENT_ID_IN_USE,
    ENDS_REQUEST,
    LINK_BACK,
    LINK_LOST,
    SOURCE_NAME,
    gateway_error,
    says_no_data,
    unreachable,
)

#: Programs that listen there by default: Gateway live, Gateway paper, TWS paper.
DEFAULT_PORTS: tuple[int, ...] = (4001, 4002, 7497)
#: Each process needs a client id of its own; this many are tried, from the one asked for on.
CLIENT_ID_TRIES = 8
CONNECT_SECONDS = 10.0
#: Below this version US volumes come in lots of 100.
OLDEST_SERVER_VERSION = 163

_ADVICE = (
    "Start TWS or IB Gateway, log in, allow API clients in its settings, and check the base URL."
)
#: Errors that concern no request but end them all: the gateway is not connected.
_ENDS_ALL = frozenset({502, 504, 1300})
_NOTICES = range(2100, 2200)
#: Messages whose decoding a request waits for: contract details, bars, trades.
_ANSWERS = frozenset({"10", "17", "52", "98"})

#: Sends one request: takes ib_async's client and the request's id.
Send = Callable[[Any, int], None]


class _UndecodableError(Exception):
    """A frame that ib_async cannot decode."""


class GatewaySession:
    """A connection, opened when it is needed; its coroutines belong to one event loop.

    Args:
        host: host of the gateway.
        ports: ports to try, in this order.
        client_id: first client id to try.
        timeout_seconds: longest wait for one answer.
    """

    def __init__(
        self, host: str, ports: tuple[int, ...], client_id: int, timeout_seconds: float
    ) -> None:
        self._host = host
        self._ports = ports
        self._client_id = client_id
        self._timeout = timeout_seconds
        self._connecting = asyncio.Lock()
        self._ib: Any = None
        #: Every ib_async object with a socket, also while it is being connected.
        self._open: list[Any] = []
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._words: dict[int, str] = {}
        self._link_lost = ""

    async def ask(self, endpoint: str, subject: str, contract: Any, send: Send) -> list[Any]:
        """Make one request and return what ib_async collects for it; empty where there is no data.

        Args:
            endpoint: name of the request.
            subject: what it is for, for sentences.
            contract: ib_async's contract.
            send: sends it.

        Raises:
            ProviderError: no connection, no answer in time, or an error in place of it.
        """
        from ib_async.wrapper import RequestError

        ib = await self._ready()
        if self._link_lost:
            raise unreachable(
                f"{endpoint} of {subject} was not sent: {self._link_lost}",
                "Wait until the gateway has its link to IBKR's servers again.",
                endpoint=endpoint,
            )
        request_id = ib.client.getReqId()
        future = ib.wrapper.startReq(request_id, contract)
        self._asked[request_id] = future
        try:
            send(ib.client, request_id)
            return list(await asyncio.wait_for(future, self._timeout))
        except RequestError as error:
            if says_no_data(error.code, error.message):
                return []
            raise gateway_error(
                error.code, error.message, endpoint=endpoint, subject=subject
            ) from None
        except _UndecodableError as error:
            raise SchemaDrift(
                f"The answer of IBKR to {endpoint} of {subject} does not have the agreed shape: "
                f"{error}. The adapter has to be looked at before it can be used.",
                provider=SOURCE_NAME,
                endpoint=endpoint,
            ) from None
        except TimeoutError:
            said = self._words.get(request_id, "")
            await self._drop("no answer came in time")
            raise unreachable(
                f"{self._where(ib)} gave no answer to {endpoint} of {subject} within "
                f"{self._timeout:g} seconds" + (f"; its last words were: {said}" if said else ""),
                "Try again later; if it stays so, look at the gateway.",
                endpoint=endpoint,
            ) from None
        except ConnectionError as error:
            await self._drop("the connection was closed")
            raise unreachable(
                f"{self._where(ib)} closed the connection during {endpoint} of {subject} ({error})",
                "Try again; the gateway restarts itself once a day.",
                endpoint=endpoint,
            ) from None
        finally:
            self._asked.pop(request_id, None)
            self._words.pop(request_id, None)

    async def open(self) -> Any:
        """Return the connected ib_async object, for what is no request: streams.

        Raises:
            ProviderError: no gateway could be reached, or it is too old.
        """
        return await self._ready()

    async def close(self) -> None:
        """Close the connection; the next request opens another."""
        await self._drop("the source was closed")

    def forget(self) -> list[Any]:
        """Let go of what a fork has copied, without a word on the wire; return what must live on.

        The socket belongs to the parent. Closing the copies properly would shut down the parent's
        connection and take its sockets out of the shared epoll set.
        """
        left: list[Any] = [*self._open, *self._asked.values()]
        for ib in self._open:
            transport = ib.client.conn.transport
            if transport is not None:
                left.append(transport)
                with open(os.devnull, "rb") as nothing:  # noqa: PTH123  # not a path of ours
                    os.dup2(nothing.fileno(), transport.get_extra_info("socket").fileno())
            ib.client.conn.transport = None
            ib.client.reset()
        return left

    # ---- connecting

    async def _ready(self) -> Any:
        """Return the connected ib_async object, connecting it first where there is none."""
        async with self._connecting:
            if self._ib is None or not self._ib.isConnected():
                await self._drop("the connection was lost")
                self._link_lost = ""
                self._ib = await self._connect()
            return self._ib

    async def _connect(self) -> Any:
        failed: list[str] = []
        for port in self._ports:
            try:
                return await self._connect_port(port)
            except OSError as error:
                failed.append(f"port {port} ({_reason(error)})")
        raise unreachable(
            f"No gateway could be reached at {self._host}: {', '.join(failed)}", _ADVICE
        )

    async def _connect_port(self, port: int) -> Any:
        """Return a connection under the first client id that is free.

        Raises:
            OSError: nobody listens, or nobody answers.
        """
        ids = range(self._client_id, self._client_id + CLIENT_ID_TRIES)
        for client_id in ids:
            ib = await self._connect_as(port, client_id)
            if ib is None:
                continue
            version = ib.client.serverVersion()
            if version < OLDEST_SERVER_VERSION:
                await self._disconnect(ib)
                raise SchemaDrift(
                    f"The gateway at {self._host}:{port} speaks version {version}, which gives US "
                    f"volumes in lots of 100; {OLDEST_SERVER_VERSION} is the first that gives "
                    "shares. Update TWS or IB Gateway.",
                    provider=SOURCE_NAME,
                    endpoint="connect",
                )
            return ib
        raise unreachable(
            f"The gateway at {self._host}:{port} has clients under all ids from {ids[0]} to "
            f"{ids[-1]}",
            "Stop one of them or set another client id.",
        )

    async def _connect_as(self, port: int, client_id: int) -> Any:
        """Return a connection under this client id, None where the id is taken.

        ib_async goes on waiting after a refusal, and until its time-out after a closed socket.
        """
        from ib_async import StartupFetchNONE

        ib = self._new_ib()
        refused: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def refuse(code: int) -> None:
            if not refused.done():
                refused.set_result(code)

        def on_error(_request_id: int, code: int, _words: str, _contract: Any) -> None:
            if code == CLIENT_ID_IN_USE:
                refuse(code)

        def on_closed(_words: str) -> None:
            refuse(0)

        ib.errorEvent += on_error
        ib.client.apiError += on_closed
        self._open.append(ib)
        seconds = min(self._timeout, CONNECT_SECONDS)
        opening = asyncio.ensure_future(
            ib.connectAsync(
                self._host,
                port,
                clientId=client_id,
                timeout=seconds,
                readonly=True,
                fetchFields=StartupFetchNONE,
            )
        )
        done, _ = await asyncio.wait({opening, refused}, return_when=asyncio.FIRST_COMPLETED)
        if opening in done and opening.exception() is None:
            ib.errorEvent -= on_error
            ib.client.apiError -= on_closed
            return ib
        opening.cancel()
        failure: Any = (await asyncio.gather(opening, return_exceptions=True))[0]
        await self._disconnect(ib)
        if refused.done() and refused.result() == CLIENT_ID_IN_USE:
            return None
        if isinstance(failure, OSError):
            raise failure
        raise ConnectionAbortedError("it closed the connection before it was ready")

    def _new_ib(self) -> Any:
        """Return an ib_async object whose errors come here and whose log is quiet."""
        from ib_async import IB

        logger = logging.getLogger("ib_async")
        if logger.level == logging.NOTSET:
            # It logs each error that is raised here anyway.
            logger.setLevel(logging.CRITICAL)

        ib: Any = IB()
        ib.RaiseRequestErrors = True
        # ib_async's own listener asks for the account's summary after each lost link.
        ib.errorEvent.clear()
        ib.errorEvent += self._on_error
        ib.client.decoder.interpret = partial(
            self._interpret, ib.client.decoder, ib.client.decoder.interpret
        )
        return ib

    def _interpret(
        self, decoder: Any, lenient: Callable[[list[str]], None], fields: list[str]
    ) -> None:
        """Decode a frame; one that cannot be read ends the requests that wait, with an error."""
        if not fields or fields[0] not in _ANSWERS:
            lenient(fields)
            return
        try:
            decoder.handlers[int(fields[0])](fields)
        except (ValueError, TypeError, LookupError, StopIteration) as error:
            found = f"message {fields[0]} cannot be read ({type(error).__name__} {error})"
            self._fail_all(_UndecodableError(found))

    async def _drop(self, why: str) -> None:
        """Close the connection, ending with an error what still waits on it."""
        self._fail_all(ConnectionError(why))
        self._ib = None
        for ib in list(self._open):
            await self._disconnect(ib)

    async def _disconnect(self, ib: Any) -> None:
        transport = ib.client.conn.transport
        ib.disconnect()
        if transport is not None:
            transport.abort()
        if ib in self._open:
            self._open.remove(ib)
        # One turn for the transport to close its socket, one for those who wait for that.
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    # ---- what the gateway says by itself

    def _on_error(self, request_id: int, code: int, words: str, _contract: Any) -> None:
        from ib_async.wrapper import RequestError

        future = self._asked.get(request_id)
        if code in LINK_LOST:
            self._link_lost = f"the gateway reports {code}, {words}"
            self._fail_all(RequestError(request_id, code, words))
        elif code in LINK_BACK:
            self._link_lost = ""
        elif future is not None:
            self._words[request_id] = f"{code}, {words}"
            if code in ENDS_REQUEST and not future.done():
                future.set_exception(RequestError(request_id, code, words))
        elif code in _ENDS_ALL:
            self._fail_all(RequestError(request_id, code, words))
        elif code not in _NOTICES:
            self._words.update(dict.fromkeys(self._asked, f"{code}, {words}"))

    def _fail_all(self, error: Exception) -> None:
        for future in self._asked.values():
            if not future.done():
                future.set_exception(error)

    def _where(self, ib: Any) -> str:
        return f"The gateway at {self._host}:{ib.client.port}"


def _reason(error: OSError) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    if isinstance(error, TimeoutError):
        return "no answer"
    return str(error) or type(error).__name__
