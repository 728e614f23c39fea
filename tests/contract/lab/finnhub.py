"""Finnhub's REST API on loopback: candles, quotes, splits, earnings."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal

from pydantic import SecretStr

from scizor_resources.providers.finnhub.source import FinnhubSource
from scizor_resources.providers.gate import Gate
from tests.contract.lab.labs import Provider
from tests.contract.lab.server import HttpLab, Reply, Row, Seen

KEY = "lab0key0finnhub0000000"
_FRAMES = {"1": "1m", "5": "5m", "15": "15m", "D": "1d"}
#: What an unknown symbol is answered with.
NO_QUOTE = {"c": 0, "d": None, "dp": None, "h": 0, "l": 0, "o": 0, "pc": 0, "t": 0}


class FinnhubLab(HttpLab):
    """Serves `rows` as candles, and the records below.

    Attributes:
        quotes: symbol -> quote as on the wire.
        splits: splits as on the wire, of all symbols.
        earnings: releases as on the wire.
        replies: answers given instead of the lab's own, in this order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.quotes: dict[str, dict[str, Any]] = {}
        self.splits: list[dict[str, Any]] = []
        self.earnings: list[dict[str, Any]] = []
        self.replies: list[Reply] = []

    def respond(self, seen: Seen) -> Reply:
        if self.replies:
            return self.replies.pop(0)
        if seen.headers.get("x-finnhub-token") != KEY:
            return self.error("invalid_credentials")
        answers: dict[str, Callable[[dict[str, str]], Any]] = {
            "/api/v1/stock/candle": self._candles,
            "/api/v1/quote": lambda query: self.quotes.get(query["symbol"], NO_QUOTE),
            "/api/v1/stock/split": self._splits,
            "/api/v1/calendar/earnings": self._earnings,
        }
        if seen.path not in answers:
            return Reply({"error": "Resource not found."}, 404)
        return Reply(answers[seen.path](seen.query))

    def error(self, kind: Literal["rate_limited", "server_error", "invalid_credentials"]) -> Reply:
        limit = "API limit reached. Please try again later. Remaining Limit: 0"
        return {
            "rate_limited": Reply({"error": limit}, 429),
            "server_error": Reply({"error": "Internal server error"}, 500),
            "invalid_credentials": Reply({"error": "Invalid API key"}, 401),
        }[kind]

    def _candles(self, query: dict[str, str]) -> dict[str, Any]:
        start, end = int(query["from"]), int(query["to"])
        every = self.rows.get((query["symbol"], _FRAMES[query["resolution"]]), [])
        rows: list[Row] = self.faulty([row for row in every if start <= row.epoch <= end])
        if not rows:
            return {"s": "no_data"}
        return {
            "s": "ok",
            "t": [row.epoch for row in rows],
            "o": [row.open for row in rows],
            "h": [row.high for row in rows],
            "l": [row.low for row in rows],
            "c": [row.close for row in rows],
            "v": [row.volume for row in rows],
        }

    def _splits(self, query: dict[str, str]) -> list[dict[str, Any]]:
        return [
            split
            for split in self.splits
            if split["symbol"] == query["symbol"] and query["from"] <= split["date"] <= query["to"]
        ]

    def _earnings(self, query: dict[str, str]) -> dict[str, Any]:
        wanted = query.get("symbol")
        return {
            "earningsCalendar": [
                each
                for each in self.earnings
                if query["from"] <= each["date"] <= query["to"] and wanted in (None, each["symbol"])
            ]
        }


def make_source(
    lab: FinnhubLab, gate: Gate, now: Callable[[], datetime], timeout_seconds: float
) -> FinnhubSource:
    return FinnhubSource(
        gate,
        base_url=f"{lab.url}/api/v1",
        key=SecretStr(KEY),
        timeout_seconds=timeout_seconds,
        now=now,
    )


PROVIDERS = (
    Provider(
        name="finnhub",
        lab=FinnhubLab,
        source=make_source,
        market="us",
        symbols=("AAPL", "BRK.B"),
        wire_symbols=("AAPL", "BRK.B"),
        skips=(("page_limit", "Finnhub has no pages; a long window is asked month by month"),),
    ),
)
