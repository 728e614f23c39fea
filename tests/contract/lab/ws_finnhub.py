"""Finnhub's WebSocket on loopback: JSON, batches without ids, no answers to subscriptions."""

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from tests.contract.lab.trade_tape import TradeTape
from tests.contract.lab.ws_dialects import BookState, Order, Query, Rows
from tests.contract.lab.ws_exchanges import LoopbackExchange, _response

TOKEN = "lab-token-0001"  # noqa: S105  # of the lab only


class FinnhubDialect:
    """Finnhub's messages."""

    def venue_id(self, symbol: str) -> str:
        return symbol

    def order(self, message: dict[str, Any]) -> Order | None:
        if message.get("type") not in ("subscribe", "unsubscribe"):
            return None
        return Order(message["type"] == "subscribe", "trades", (message["symbol"],))

    def answer(self, message: dict[str, Any]) -> str | None:
        del message

    def acks(self, order: Order, known: set[str], standing: set[str]) -> list[str]:
        del standing
        return [
            json.dumps({"type": "error", "msg": f"Invalid symbol {symbol}"})
            for symbol in order.symbols
            if symbol not in known
        ]

    def heartbeat(self) -> str | None:
        return '{"type":"ping"}'

    def trades(self, tape: TradeTape, rows: Rows, *, snapshot: bool = False) -> list[str]:
        del snapshot
        data = [
            {
                "c": ["1"],
                "p": float(tape.price[row]),
                "s": tape.symbols[tape.symbol[row]],
                "t": int(tape.ts[row]) // 1000,
                "v": float(tape.size[row]),
            }
            for row in rows.tolist()
        ]
        return [json.dumps({"data": data, "type": "trade"})]

    def markets(self, path: str, query: Query, symbols: Sequence[str]) -> Any:
        del path, query, symbols

    def history(self, path: str, query: Query) -> tuple[str, dict[str, int]] | None:
        del path, query

    def depth(self, path: str, query: Query) -> str | None:
        del path, query

    # It has neither of these.

    def history_answer(self, tape: TradeTape, rows: Rows, asked: dict[str, int]) -> Any:
        raise NotImplementedError

    def book(self, symbol: str, book: BookState) -> str | None:
        raise NotImplementedError

    def change(self, symbol: str, book: BookState, bids: Any, asks: Any) -> str:
        raise NotImplementedError


class FinnhubExchange(LoopbackExchange):
    """Finnhub's stream; the address has the token."""

    def __init__(self, tape: TradeTape, **settings: Any) -> None:
        super().__init__("finnhub", tape, snapshot=0, dialect=FinnhubDialect(), **settings)

    def _request(self, connection: ServerConnection, request: Request) -> Response | None:
        token = parse_qs(urlsplit(request.path).query).get("token")
        if token != [TOKEN]:
            return _response(401, {"error": "Invalid API key"})
        return super()._request(connection, request)
