"""A stand-in for Kraken's public API: pairs, candles of the newest 720 intervals, trades."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from scizor_resources.providers.ccxt_venues.source import CcxtSource
from tests.contract.lab.labs import Provider
from tests.contract.lab.server import HttpLab, Reply, Row, Seen

CANDLES_KEPT = 720
#: Pair -> how Kraken describes it. The first two have names of the old kind, with X and Z.
PAIRS: dict[str, dict[str, Any]] = {
    "XXBTZUSD": {"altname": "XBTUSD", "wsname": "XBT/USD", "base": "XXBT", "quote": "ZUSD"},
    "XETHZUSD": {"altname": "ETHUSD", "wsname": "ETH/USD", "base": "XETH", "quote": "ZUSD"},
    "SOLUSD": {"altname": "SOLUSD", "wsname": "SOL/USD", "base": "SOL", "quote": "ZUSD"},
}


class KrakenLab(HttpLab):
    """Kraken on loopback.

    Attributes:
        trades_per_page: trades that one answer holds at most.
        trades_at_once: so many trades, one after the other, have the time of the first of them.
        refusal: what every answer about data says instead, as Kraken's error text.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trades_per_page = 1000
        self.trades_at_once = 1
        self.refusal = ""

    def concerns_data(self, seen: Seen) -> bool:
        return seen.path in ("/0/public/OHLC", "/0/public/Trades")

    def error(self, kind: Literal["rate_limited", "server_error", "invalid_credentials"]) -> Reply:
        # Kraken refuses with status 200.
        texts = {
            "rate_limited": "EGeneral:Too many requests",
            "server_error": "EService:Unavailable",
            "invalid_credentials": "EAPI:Invalid key",
        }
        return refused(texts[kind])

    def respond(self, seen: Seen) -> Reply:
        if seen.path == "/0/public/AssetPairs":
            return Reply({"error": [], "result": {name: pair(name) for name in PAIRS}})
        if self.refusal:
            return refused(self.refusal)
        name = seen.query.get("pair", "")
        if not any(symbol == name for symbol, _ in self.rows):
            return refused("EQuery:Unknown asset pair")
        if seen.path == "/0/public/OHLC":
            return self._candles(name, seen)
        if seen.path == "/0/public/Trades":
            return self._trades(name, seen)
        return refused("EGeneral:Unknown method")

    def _candles(self, name: str, seen: Seen) -> Reply:
        minutes = int(seen.query.get("interval", "1"))
        timeframe = "1d" if minutes == 1440 else f"{minutes}m"
        # The newest of them, whatever `since` says; the last one is still running.
        kept = sorted(self.rows.get((name, timeframe), []), key=lambda row: row.ts)
        since = int(seen.query.get("since", "0"))
        rows = [row for row in kept[-CANDLES_KEPT - 1 :] if row.epoch > since]
        candles = [candle(row) for row in self.faulty(rows)]
        last = rows[-1].epoch if rows else since
        return Reply({"error": [], "result": {name: candles, "last": last}})

    def _trades(self, name: str, seen: Seen) -> Reply:
        since = int(seen.query.get("since", "0"))
        every = trades(self.rows.get((name, "1m"), []))
        for place, each in enumerate(every):
            each[2] = every[place // self.trades_at_once * self.trades_at_once][2]
        page = [each for each in every if nanoseconds(each) > since][: self.trades_per_page]
        last = nanoseconds(page[-1]) if page else since
        return Reply({"error": [], "result": {name: page, "last": str(last)}})


def refused(text: str) -> Reply:
    return Reply({"error": [text]})


def pair(name: str) -> dict[str, Any]:
    return {
        **PAIRS[name],
        "aclass_base": "currency",
        "aclass_quote": "currency",
        "lot": "unit",
        "cost_decimals": 5,
        "pair_decimals": 1,
        "lot_decimals": 8,
        "lot_multiplier": 1,
        "leverage_buy": [],
        "leverage_sell": [],
        "fees": [[0, 0.4]],
        "fees_maker": [[0, 0.25]],
        "fee_volume_currency": "ZUSD",
        "margin_call": 80,
        "margin_stop": 40,
        "ordermin": "0.00005",
        "costmin": "0.5",
        "tick_size": "0.1",
        "status": "online",
    }


def text(value: Any) -> Any:
    return None if value is None else str(value)


def candle(row: Row) -> list[Any]:
    """One candle; without volume it has no mean price and no trades either."""
    quiet = row.volume == 0
    prices = [text(each) for each in (row.open, row.high, row.low, row.close)]
    return [row.epoch, *prices, "0.0" if quiet else "10.2", text(row.volume), 0 if quiet else 7]


def trades(rows: list[Row]) -> list[list[Any]]:
    """Four trades a minute that make its row: open, high, low, close."""
    out: list[list[Any]] = []
    for row in sorted(rows, key=lambda each: each.ts):
        if row.volume == 0:
            continue
        for second, price in (
            (0, row.open),
            (13.5, row.high),
            (30.25, row.low),
            (59.75, row.close),
        ):
            number = len(out) + 1
            out.append([str(price), str(row.volume / 4), row.epoch + second, "b", "l", "", number])
    return out


def nanoseconds(trade: list[Any]) -> int:
    return int(trade[2] * 100) * 10_000_000


def flat(first: datetime, count: int, price: float = 10.0) -> list[Row]:
    """Rows as Kraken fills them in where nothing traded."""
    quiet = Row(first, price, price, price, price, 0)
    return [replace(quiet, ts=(first + timedelta(minutes=n)).astimezone(UTC)) for n in range(count)]


PROVIDERS: tuple[Provider, ...] = (
    Provider(
        name="kraken",
        lab=KrakenLab,
        source=lambda lab, gate, now, seconds: CcxtSource(
            "kraken", gate, base_url=lab.url, timeout_seconds=seconds, now=now
        ),
        market="crypto",
        symbols=("BTC/USD", "ETH/USD"),
        wire_symbols=("XXBTZUSD", "XETHZUSD"),
        page_rows=CANDLES_KEPT,
    ),
)
