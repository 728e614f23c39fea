"""A stand-in for Coinbase Advanced Trade's public market data."""

from typing import Any, Literal

from scizor_resources.providers.coinbase.source import CoinbaseSource
from tests.contract.lab.labs import Provider
from tests.contract.lab.server import HttpLab, Reply, Row, Seen

ROOT = "/api/v3/brokerage/market"
#: More candles than this are refused; the adapters ask for 300.
CANDLES_PER_CALL = 350
CANDLES_ASKED = 300
TIMEFRAMES = {
    "ONE_MINUTE": ("1m", 60),
    "FIVE_MINUTE": ("5m", 300),
    "FIFTEEN_MINUTE": ("15m", 900),
    "ONE_DAY": ("1d", 86_400),
}
PRODUCTS = ("BTC-USD", "ETH-USD", "BTC-USDC")


class CoinbaseLab(HttpLab):
    """Coinbase on loopback.

    Attributes:
        ticker: what the ticker of every product answers.
        book: what the book of every product answers.
        refusal: what every answer about candles is instead.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ticker: Any = {"trades": [], "best_bid": "", "best_ask": ""}
        self.book: Any = {"pricebook": {}}
        self.refusal: Reply | None = None

    def concerns_data(self, seen: Seen) -> bool:
        return seen.path.endswith("/candles")

    def error(self, kind: Literal["rate_limited", "server_error", "invalid_credentials"]) -> Reply:
        if kind == "rate_limited":
            return refused(429, "rate_limit_exceeded", "Too many requests")
        if kind == "server_error":
            return refused(500, "INTERNAL", "internal error")
        return refused(401, "unauthorized", "Unauthorized")

    def respond(self, seen: Seen) -> Reply:
        if seen.path == f"{ROOT}/products":
            listed = [product(name) for name in PRODUCTS]
            return Reply({"products": listed, "num_products": len(listed), "pagination": None})
        if seen.path.endswith("/candles"):
            return self.refusal or self._candles(seen)
        if seen.path.endswith("/ticker"):
            return Reply(self.ticker)
        if seen.path == f"{ROOT}/product_book":
            return Reply(self.book)
        return refused(404, "NOT_FOUND", "not found")

    def _candles(self, seen: Seen) -> Reply:
        name = seen.path.split("/")[-2]
        timeframe, seconds = TIMEFRAMES[seen.query["granularity"]]
        if (name, timeframe) not in self.rows:
            return refused(404, "NOT_FOUND", "valid product_id is required")
        first, last = int(seen.query["start"]), int(seen.query["end"])
        if (last - first) // seconds + 1 > CANDLES_PER_CALL:
            found = "number of candles requested should be less than 350"
            return refused(400, "INVALID_ARGUMENT", f"start and end argument is invalid - {found}")
        rows = [row for row in self.rows[name, timeframe] if first <= row.epoch <= last]
        # Newest first; the fault "out_of_order" turns that round.
        newest_first = sorted(rows, key=lambda row: row.ts, reverse=True)
        return Reply({"candles": [candle(row) for row in self.faulty(newest_first)]})


def refused(status: int, code: str, words: str) -> Reply:
    return Reply({"error": code, "error_details": words, "message": words}, status)


def text(value: Any) -> Any:
    return None if value is None else str(value)


def candle(row: Row) -> dict[str, Any]:
    return {
        "start": str(row.epoch),
        "low": text(row.low),
        "high": text(row.high),
        "open": text(row.open),
        "close": text(row.close),
        "volume": text(row.volume),
    }


def product(name: str) -> dict[str, Any]:
    base, quote = name.split("-")
    return {
        "product_id": name,
        "price": "68925.98",
        "base_increment": "0.00000001",
        "quote_increment": "0.01",
        "quote_min_size": "1",
        "quote_max_size": "150000000",
        "base_min_size": "0.00000001",
        "base_max_size": "3400",
        "is_disabled": False,
        "status": "online",
        "trading_disabled": False,
        "product_type": "SPOT",
        "quote_currency_id": quote,
        "base_currency_id": base,
        "alias": "",
        "alias_to": [],
        "price_increment": "0.01",
    }


PROVIDERS: tuple[Provider, ...] = (
    Provider(
        name="coinbase",
        lab=CoinbaseLab,
        source=lambda lab, gate, now, seconds: CoinbaseSource(
            gate, base_url=lab.url, timeout_seconds=seconds, now=now
        ),
        market="crypto",
        symbols=("BTC/USD", "ETH/USD"),
        wire_symbols=("BTC-USD", "ETH-USD"),
        page_rows=CANDLES_ASKED,
    ),
)
