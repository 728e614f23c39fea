"""A stand-in for Binance's public spot API: exchange information and klines."""

from typing import Any, Literal

from scizor_resources.providers.ccxt_venues.source import CcxtSource
from tests.contract.lab.labs import Provider
from tests.contract.lab.server import HttpLab, Reply, Row, Seen

KLINES_PER_CALL = 1000
MINUTES = {"1m": 1, "5m": 5, "15m": 15, "1d": 1440}
SYMBOLS = {"BTCUSDT": ("BTC", "USDT"), "ETHUSDT": ("ETH", "USDT"), "BTCEUR": ("BTC", "EUR")}


class BinanceLab(HttpLab):
    """Binance on loopback.

    Attributes:
        refusal: what every answer about data is instead.
    """

    def __init__(self) -> None:
        super().__init__()
        self.refusal: Reply | None = None

    def concerns_data(self, seen: Seen) -> bool:
        return seen.path == "/api/v3/klines"

    def error(self, kind: Literal["rate_limited", "server_error", "invalid_credentials"]) -> Reply:
        if kind == "rate_limited":
            return refused(429, -1003, "Too many requests.")
        if kind == "server_error":
            return refused(503, -1008, "Server is currently overloaded with other requests.")
        return refused(401, -2015, "Invalid API-key, IP, or permissions for action.")

    def respond(self, seen: Seen) -> Reply:
        if seen.path == "/api/v3/exchangeInfo":
            return Reply({"timezone": "UTC", "symbols": [described(name) for name in SYMBOLS]})
        if seen.path != "/api/v3/klines":
            return Reply(b"not found", 404, {"Content-Type": "text/plain"})
        if self.refusal is not None:
            return self.refusal
        key = seen.query["symbol"], seen.query["interval"]
        if key not in self.rows:
            return refused(400, -1121, "Invalid symbol.")
        first, last = (int(seen.query[name]) for name in ("startTime", "endTime"))
        rows = [row for row in self.rows[key] if first <= row.epoch * 1000 <= last]
        limit = min(int(seen.query.get("limit", "500")), KLINES_PER_CALL)
        klines = [kline(row, MINUTES[key[1]]) for row in self.faulty(rows[:limit])]
        return Reply(klines, headers={"x-mbx-used-weight-1m": "2"})


def refused(status: int, code: int, text: str) -> Reply:
    return Reply({"code": code, "msg": text}, status)


def described(name: str) -> dict[str, Any]:
    base, quote = SYMBOLS[name]
    return {
        "symbol": name,
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
        "filters": [
            {
                "filterType": "PRICE_FILTER",
                "minPrice": "0.01000000",
                "maxPrice": "1000000.00000000",
                "tickSize": "0.01000000",
            },
            {
                "filterType": "LOT_SIZE",
                "minQty": "0.00001000",
                "maxQty": "9000.00000000",
                "stepSize": "0.00001000",
            },
            {"filterType": "NOTIONAL", "minNotional": "5.00000000"},
        ],
        "permissions": ["SPOT"],
        "permissionSets": [["SPOT"]],
    }


def text(value: Any) -> Any:
    return None if value is None else str(value)


def kline(row: Row, minutes: int) -> list[Any]:
    """One kline; the turnover is that of its volume at 10.25."""
    turnover = str(row.volume * 10.25)
    return [
        row.epoch * 1000,
        *(text(each) for each in (row.open, row.high, row.low, row.close, row.volume)),
        (row.epoch + minutes * 60) * 1000 - 1,
        turnover,
        0 if row.volume == 0 else 7,
        "0",
        "0",
        "0",
    ]


PROVIDERS: tuple[Provider, ...] = (
    Provider(
        name="binance",
        lab=BinanceLab,
        source=lambda lab, gate, now, seconds: CcxtSource(
            "binance", gate, base_url=lab.url, timeout_seconds=seconds, now=now
        ),
        market="crypto",
        symbols=("BTC/USDT", "ETH/USDT"),
        wire_symbols=("BTCUSDT", "ETHUSDT"),
        page_rows=KLINES_PER_CALL,
    ),
)
