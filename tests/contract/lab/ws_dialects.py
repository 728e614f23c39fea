"""How three exchanges say the same things: frames over the WebSocket and answers over REST."""

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from tests.contract.lab.trade_tape import TradeTape

Channel = Literal["trades", "book", "heartbeats"]
Rows = npt.NDArray[np.int64]
Query = dict[str, str]
_SECOND_US = 1_000_000


@dataclass
class BookState:
    """An order book: price -> size; `number` counts its changes."""

    bids: dict[float, float] = field(default_factory=dict)
    asks: dict[float, float] = field(default_factory=dict)
    number: int = 100

    def best(self, side: Literal["bids", "asks"], levels: int) -> list[tuple[float, float]]:
        """Return the best levels of a side."""
        return sorted(getattr(self, side).items(), reverse=side == "bids")[:levels]


@dataclass(frozen=True)
class Order:
    """What a client asks for: begin or end a channel of some symbols (the platform's)."""

    begin: bool
    channel: Channel
    symbols: tuple[str, ...]
    number: int | None = None


class Dialect(Protocol):
    """One exchange's way."""

    def venue_id(self, symbol: str) -> str:
        """Return the exchange's name of a symbol in its REST API."""

    def order(self, message: dict[str, Any]) -> Order | None:
        """Read what a client says; None for anything but orders."""

    def answer(self, message: dict[str, Any]) -> str | None:
        """Return the answer to a message that is no order (a ping)."""

    def acks(self, order: Order, known: set[str], standing: set[str]) -> list[str]:
        """Return the frames that confirm an order; `standing` are the symbols subscribed now."""

    def heartbeat(self) -> str | None:
        """Return a heartbeat, None where the exchange sends pings instead."""

    def trades(self, tape: TradeTape, rows: Rows, *, snapshot: bool = False) -> list[str]:
        """Return the frames of trades of ONE symbol."""

    def book(self, symbol: str, book: BookState) -> str | None:
        """Return the frame of a whole book."""

    def change(
        self,
        symbol: str,
        book: BookState,
        bids: Sequence[tuple[float, float]],
        asks: Sequence[tuple[float, float]],
    ) -> str:
        """Return the frame of a change; `book` is what it has become."""

    def markets(self, path: str, query: Query, symbols: Sequence[str]) -> Any:
        """Return the answer about markets, None where the path is another."""

    def history(self, path: str, query: Query) -> tuple[str, dict[str, int]] | None:
        """Return the exchange's id of the symbol and what part is asked for, None where not."""

    def history_answer(self, tape: TradeTape, rows: Rows, asked: dict[str, int]) -> Any:
        """Return the answer with those trades."""

    def depth(self, path: str, query: Query) -> str | None:
        """Return the exchange's id of the symbol whose book is asked for."""


def text_of(ts: int) -> str:
    """Return a time with microseconds, as in 2026-03-02T12:00:00.123456Z."""
    at = datetime.fromtimestamp(ts // _SECOND_US, tz=UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{ts % _SECOND_US:06d}Z"


class Kraken:
    """Kraken, WebSocket v2."""

    def venue_id(self, symbol: str) -> str:
        base, _, quote = symbol.partition("/")
        return f"{'XXBT' if base == 'BTC' else base}Z{quote}"

    def order(self, message: dict[str, Any]) -> Order | None:
        if message.get("method") not in ("subscribe", "unsubscribe"):
            return None
        asked = message["params"]
        channel: Channel = "trades" if asked["channel"] == "trade" else "book"
        begin = message["method"] == "subscribe"
        return Order(begin, channel, tuple(asked["symbol"]), message.get("req_id"))

    def answer(self, message: dict[str, Any]) -> str | None:
        return '{"method":"pong"}' if message.get("method") == "ping" else None

    def acks(self, order: Order, known: set[str], standing: set[str]) -> list[str]:
        del standing
        method = "subscribe" if order.begin else "unsubscribe"
        channel = "trade" if order.channel == "trades" else "book"
        out = []
        for symbol in order.symbols:
            common = {"method": method, "req_id": order.number, "time_in": text_of(0)}
            if symbol in known:
                said = {"result": {"channel": channel, "symbol": symbol}, "success": True}
            else:
                text = f"Currency pair not supported {symbol}"
                said = {"error": text, "success": False, "symbol": symbol}
            out.append(json.dumps({**common, **said}))
        return out

    def heartbeat(self) -> str | None:
        return '{"channel":"heartbeat"}'

    def trades(self, tape: TradeTape, rows: Rows, *, snapshot: bool = False) -> list[str]:
        symbol = tape.symbols[tape.symbol[rows[0]]]
        data = ",".join(
            f'{{"symbol":"{symbol}","side":"buy","price":{tape.price[row]!s},'
            f'"qty":{tape.size[row]:.8f},"ord_type":"market","trade_id":{tape.trade_id[row]},'
            f'"timestamp":"{text_of(int(tape.ts[row]))}"}}'
            for row in rows.tolist()
        )
        kind = "snapshot" if snapshot else "update"
        return [f'{{"channel":"trade","type":"{kind}","data":[{data}]}}']

    def book(self, symbol: str, book: BookState) -> str | None:
        return self._book(symbol, book, "snapshot", book.best("bids", 10), book.best("asks", 10))

    def change(
        self,
        symbol: str,
        book: BookState,
        bids: Sequence[tuple[float, float]],
        asks: Sequence[tuple[float, float]],
    ) -> str:
        return self._book(symbol, book, "update", bids, asks)

    @staticmethod
    def _book(
        symbol: str,
        book: BookState,
        kind: str,
        bids: Sequence[tuple[float, float]],
        asks: Sequence[tuple[float, float]],
    ) -> str:
        said = "".join(
            f"{price:.2f}".replace(".", "").lstrip("0") + f"{size:.8f}".replace(".", "").lstrip("0")
            for price, size in [*book.best("asks", 10), *book.best("bids", 10)]
        )
        levels = {
            name: [{"price": price, "qty": size} for price, size in side]
            for name, side in (("bids", bids), ("asks", asks))
        }
        entry = {
            "symbol": symbol,
            **levels,
            "checksum": zlib.crc32(said.encode()),
            "timestamp": text_of(1_772_000_000_000_000 + book.number),
        }
        return json.dumps({"channel": "book", "type": kind, "data": [entry]})

    def markets(self, path: str, query: Query, symbols: Sequence[str]) -> Any:
        del query
        if path != "/0/public/AssetPairs":
            return None
        return {"error": [], "result": {self.venue_id(each): self._pair(each) for each in symbols}}

    def _pair(self, symbol: str) -> dict[str, Any]:
        base, _, quote = symbol.partition("/")
        return {
            "altname": symbol.replace("/", "").replace("BTC", "XBT"),
            "wsname": symbol.replace("BTC", "XBT"),
            "base": "XXBT" if base == "BTC" else base,
            "quote": f"Z{quote}",
            "pair_decimals": 2,
            "lot_decimals": 8,
            "cost_decimals": 5,
            "lot_multiplier": 1,
            "leverage_buy": [],
            "leverage_sell": [],
            "fees": [[0, 0.4]],
            "fees_maker": [[0, 0.25]],
            "ordermin": "0.00005",
            "costmin": "0.5",
            "tick_size": "0.01",
            "status": "online",
        }

    def history(self, path: str, query: Query) -> tuple[str, dict[str, int]] | None:
        if path != "/0/public/Trades":
            return None
        since = int(query.get("since", "0"))
        # Seconds where they are short, nanoseconds where they are long; what is after is told.
        after = since // 1000 if since > 10**12 else since * _SECOND_US
        return query["pair"], {"after": after, "limit": int(query.get("count", "1000"))}

    def history_answer(self, tape: TradeTape, rows: Rows, asked: dict[str, int]) -> Any:
        def seconds(row: int) -> str:
            return f"{tape.ts[row] // _SECOND_US}.{tape.ts[row] % _SECOND_US:06d}"

        page = [
            [
                str(tape.price[row]), f"{tape.size[row]:.8f}", float(seconds(row)), "b", "m", "",
                int(tape.trade_id[row]),
            ]
            for row in rows.tolist()
        ]  # fmt: skip
        last = int(tape.ts[rows[-1]]) if len(rows) else asked["after"]
        name = self.venue_id(tape.symbols[tape.symbol[rows[0]]]) if len(rows) else "NONE"
        return {"error": [], "result": {name: page, "last": str(last * 1000)}}

    def depth(self, path: str, query: Query) -> str | None:
        del path, query
        return None


class Binance:
    """Binance spot, raw streams."""

    def venue_id(self, symbol: str) -> str:
        return symbol.replace("/", "")

    def order(self, message: dict[str, Any]) -> Order | None:
        if message.get("method") not in ("SUBSCRIBE", "UNSUBSCRIBE"):
            return None
        streams = message["params"]
        channel: Channel = "trades" if streams[0].endswith("@trade") else "book"
        names = tuple(each.partition("@")[0].upper() for each in streams)
        return Order(message["method"] == "SUBSCRIBE", channel, names, message.get("id"))

    def answer(self, message: dict[str, Any]) -> str | None:
        del message
        return None

    def acks(self, order: Order, known: set[str], standing: set[str]) -> list[str]:
        del known, standing
        return [json.dumps({"result": None, "id": order.number})]

    def heartbeat(self) -> str | None:
        return None

    def trades(self, tape: TradeTape, rows: Rows, *, snapshot: bool = False) -> list[str]:
        if snapshot:
            return []
        name = self.venue_id(tape.symbols[tape.symbol[rows[0]]])
        return [
            f'{{"e":"trade","E":{tape.ts[row] // 1000 + 1},"s":"{name}","t":{tape.trade_id[row]},'
            f'"p":"{tape.price[row]:.8f}","q":"{tape.size[row]:.8f}",'
            f'"T":{tape.ts[row] // 1000},"m":true,"M":true}}'
            for row in rows.tolist()
        ]

    def book(self, symbol: str, book: BookState) -> str | None:
        del symbol, book
        return None

    def change(
        self,
        symbol: str,
        book: BookState,
        bids: Sequence[tuple[float, float]],
        asks: Sequence[tuple[float, float]],
    ) -> str:
        return json.dumps(
            {
                "e": "depthUpdate",
                "E": 1_772_000_000_000 + book.number,
                "s": self.venue_id(symbol),
                "U": book.number,
                "u": book.number,
                "b": [[str(price), str(size)] for price, size in bids],
                "a": [[str(price), str(size)] for price, size in asks],
            }
        )

    def markets(self, path: str, query: Query, symbols: Sequence[str]) -> Any:
        del query
        if path != "/api/v3/exchangeInfo":
            return None
        return {"timezone": "UTC", "symbols": [self._described(each) for each in symbols]}

    def _described(self, symbol: str) -> dict[str, Any]:
        base, _, quote = symbol.partition("/")
        price_step = {"filterType": "PRICE_FILTER", "tickSize": "0.01000000"}
        lot = {"filterType": "LOT_SIZE", "stepSize": "0.00000001", "minQty": "0.00000001"}
        return {
            "symbol": self.venue_id(symbol),
            "status": "TRADING",
            "baseAsset": base,
            "baseAssetPrecision": 8,
            "quoteAsset": quote,
            "quotePrecision": 8,
            "quoteAssetPrecision": 8,
            "orderTypes": ["LIMIT", "MARKET"],
            "icebergAllowed": True,
            "isSpotTradingAllowed": True,
            "isMarginTradingAllowed": False,
            "filters": [price_step, {**lot, "maxQty": "9000.0"}],
            "permissions": ["SPOT"],
            "permissionSets": [["SPOT"]],
        }

    def history(self, path: str, query: Query) -> tuple[str, dict[str, int]] | None:
        limit = {"limit": min(int(query.get("limit", "500")), 1000)}
        if path == "/api/v3/trades":
            return query["symbol"], {"newest": 1, **limit}
        if path == "/api/v3/historicalTrades":
            from_id = query.get("fromId")
            part = {"from_id": int(from_id)} if from_id else {"newest": 1}
            return query["symbol"], {**part, **limit}
        if path != "/api/v3/aggTrades":
            return None
        asked = {"aggregated": 1, **limit}
        if "fromId" in query:
            return query["symbol"], {"from_id": int(query["fromId"]), **asked}
        if "startTime" in query:
            asked["after"] = int(query["startTime"]) * 1000 - 1
        if "endTime" in query:
            asked["until"] = int(query["endTime"]) * 1000 + 999
        return query["symbol"], asked if len(asked) > len(limit) + 1 else {"newest": 1, **asked}

    def history_answer(self, tape: TradeTape, rows: Rows, asked: dict[str, int]) -> Any:
        def one(row: int) -> dict[str, Any]:
            price, size = f"{tape.price[row]:.8f}", f"{tape.size[row]:.8f}"
            number, time = int(tape.trade_id[row]), int(tape.ts[row]) // 1000
            if "aggregated" in asked:
                ids = {"a": number, "f": number, "l": number}
                return {**ids, "p": price, "q": size, "T": time, "m": True, "M": True}
            return {
                "id": number,
                "price": price,
                "qty": size,
                "quoteQty": "0",
                "time": time,
                "isBuyerMaker": True,
                "isBestMatch": True,
            }

        return [one(row) for row in rows.tolist()]

    def depth(self, path: str, query: Query) -> str | None:
        return query["symbol"] if path == "/api/v3/depth" else None


class Coinbase:
    """Coinbase Advanced Trade. Its frames are numbered as they are sent; here they say 0."""

    def venue_id(self, symbol: str) -> str:
        return symbol.replace("/", "-")

    def order(self, message: dict[str, Any]) -> Order | None:
        if message.get("type") not in ("subscribe", "unsubscribe"):
            return None
        names: dict[str, Channel] = {"market_trades": "trades", "level2": "book"}
        channel = names.get(message["channel"], "heartbeats")
        return Order(message["type"] == "subscribe", channel, tuple(message["product_ids"]))

    def answer(self, message: dict[str, Any]) -> str | None:
        del message
        return None

    def acks(self, order: Order, known: set[str], standing: set[str]) -> list[str]:
        del known
        name = {"trades": "market_trades", "book": "level2", "heartbeats": "heartbeats"}
        ids = sorted(self.venue_id(each) for each in standing)
        said = {name[order.channel]: ids} if ids else {}
        return [self._envelope("subscriptions", json.dumps([{"subscriptions": said}]))]

    @staticmethod
    def _envelope(channel: str, events: str, ts: int = 1_772_000_000_000_000) -> str:
        return (
            f'{{"channel":"{channel}","client_id":"","timestamp":"{text_of(ts)}",'
            f'"sequence_num":0,"events":{events}}}'
        )

    def heartbeat(self) -> str | None:
        said = '[{"current_time":"2026-04-07 14:30:10.000000000+00:00","heartbeat_counter":42}]'
        return self._envelope("heartbeats", said)

    def trades(self, tape: TradeTape, rows: Rows, *, snapshot: bool = False) -> list[str]:
        name = self.venue_id(tape.symbols[tape.symbol[rows[0]]])
        # Newest first.
        entries = ",".join(
            f'{{"trade_id":"{tape.trade_id[row]}","product_id":"{name}",'
            f'"price":"{tape.price[row]:.2f}","size":"{tape.size[row]:.8f}","side":"BUY",'
            f'"time":"{text_of(int(tape.ts[row]))}"}}'
            for row in rows.tolist()[::-1]
        )
        kind = "snapshot" if snapshot else "update"
        return [self._envelope("market_trades", f'[{{"type":"{kind}","trades":[{entries}]}}]')]

    def book(self, symbol: str, book: BookState) -> str | None:
        return self._l2(symbol, "snapshot", list(book.bids.items()), list(book.asks.items()), book)

    def change(
        self,
        symbol: str,
        book: BookState,
        bids: Sequence[tuple[float, float]],
        asks: Sequence[tuple[float, float]],
    ) -> str:
        return self._l2(symbol, "update", bids, asks, book)

    def _l2(
        self,
        symbol: str,
        kind: str,
        bids: Sequence[tuple[float, float]],
        asks: Sequence[tuple[float, float]],
        book: BookState,
    ) -> str:
        at = 1_772_000_000_000_000 + book.number
        updates = [
            {
                "side": side,
                "event_time": text_of(at),
                "price_level": str(price),
                "new_quantity": f"{size:.8f}",
            }
            for side, levels in (("bid", bids), ("offer", asks))
            for price, size in levels
        ]
        event = {"type": kind, "product_id": self.venue_id(symbol), "updates": updates}
        return self._envelope("l2_data", json.dumps([event]), at)

    def markets(self, path: str, query: Query, symbols: Sequence[str]) -> Any:
        del query
        if path != "/api/v3/brokerage/market/products":
            return None
        products = [self._product(each) for each in symbols]
        return {"products": products, "num_products": len(products)}

    def _product(self, symbol: str) -> dict[str, Any]:
        base, _, quote = symbol.partition("/")
        return {
            "product_id": self.venue_id(symbol),
            "price": "100",
            "base_increment": "0.00000001",
            "quote_increment": "0.01",
            "price_increment": "0.01",
            "quote_min_size": "1",
            "quote_max_size": "150000000",
            "base_min_size": "0.00000001",
            "base_max_size": "3400",
            "base_name": base,
            "quote_name": quote,
            "is_disabled": False,
            "status": "online",
            "cancel_only": False,
            "limit_only": False,
            "post_only": False,
            "trading_disabled": False,
            "auction_mode": False,
            "product_type": "SPOT",
            "base_currency_id": base,
            "quote_currency_id": quote,
            "alias": "",
            "alias_to": [],
            "view_only": False,
        }

    def history(self, path: str, query: Query) -> tuple[str, dict[str, int]] | None:
        parts = path.strip("/").split("/")
        if parts[:4] != ["api", "v3", "brokerage", "market"] or parts[-1] != "ticker":
            return None
        asked = {"newest": 1, "limit": min(int(query.get("limit", "100")), 1000)}
        if "start" in query:
            asked["after"] = int(query["start"]) * _SECOND_US - 1
        if "end" in query:
            asked["until"] = int(query["end"]) * _SECOND_US + _SECOND_US - 1
        return parts[-2], asked

    def history_answer(self, tape: TradeTape, rows: Rows, asked: dict[str, int]) -> Any:
        del asked
        trades = [
            {
                "trade_id": str(tape.trade_id[row]),
                "product_id": self.venue_id(tape.symbols[tape.symbol[row]]),
                "price": f"{tape.price[row]:.2f}",
                "size": f"{tape.size[row]:.8f}",
                "time": text_of(int(tape.ts[row])),
                "side": "BUY",
                "bid": "",
                "ask": "",
                "exchange": "coinbase",
            }
            for row in rows.tolist()[::-1]
        ]
        return {"trades": trades, "best_bid": "", "best_ask": ""}

    def depth(self, path: str, query: Query) -> str | None:
        del path, query
        return None


DIALECTS: dict[str, Dialect] = {"kraken": Kraken(), "binance": Binance(), "coinbase": Coinbase()}
