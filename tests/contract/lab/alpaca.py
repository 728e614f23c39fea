"""Alpaca's market data API on loopback: bars of stocks and crypto, corporate actions."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import SecretStr

from scizor_resources.providers.alpaca.source import AlpacaSource
from scizor_resources.providers.gate import Gate
from tests.contract.lab.labs import Provider
from tests.contract.lab.server import HttpLab, Reply, Row, Seen

KEY_ID = "AKLABKEYID0000000001"
SECRET = "lab-secret-0000000000000000000000000001"  # noqa: S105  # of the lab only
PAGE_ROWS = 10
_FRAMES = {"1Min": "1m", "5Min": "5m", "15Min": "15m", "1Hour": "1h", "1Day": "1d"}


@dataclass(frozen=True)
class AlpacaRow(Row):
    """A bar with Alpaca's average price and number of trades."""

    vwap: Any = 10.25
    trade_count: Any = 7


@dataclass
class Script:
    """Answers given instead of the lab's own, in this order; and pages of corporate actions."""

    replies: list[Reply] = field(default_factory=list)
    action_pages: list[dict[str, list[dict[str, Any]]]] = field(default_factory=list)


class AlpacaLab(HttpLab):
    """Serves `rows` in pages that fill symbol by symbol, `page_rows` bars each."""

    def __init__(self, page_rows: int = PAGE_ROWS) -> None:
        super().__init__()
        self.page_rows = page_rows
        self.script = Script()

    def respond(self, seen: Seen) -> Reply:
        if self.script.replies:
            return self.script.replies.pop(0)
        public = seen.path.startswith("/v1beta3/crypto/")
        if not public and seen.headers.get("apca-api-key-id") != KEY_ID:
            return Reply({"message": "unauthorized."}, 401)
        if seen.path in ("/v2/stocks/bars", "/v1beta3/crypto/us/bars"):
            return self._bars(seen)
        if seen.path == "/v1/corporate-actions":
            return self._actions(seen)
        return Reply({"message": "endpoint not found."}, 404)

    def error(self, kind: Literal["rate_limited", "server_error", "invalid_credentials"]) -> Reply:
        return {
            "rate_limited": Reply({"message": "too many requests."}, 429),
            "server_error": Reply({"message": "internal server error occurred"}, 500),
            "invalid_credentials": Reply({"message": "forbidden."}, 403),
        }[kind]

    def _bars(self, seen: Seen) -> Reply:
        start = datetime.fromisoformat(seen.query["start"])
        end = datetime.fromisoformat(seen.query["end"])
        frame = _FRAMES[seen.query["timeframe"]]
        every = [
            (symbol, self.wire(row))
            for symbol in sorted(seen.query["symbols"].split(","))
            for row in self.faulty(
                [each for each in self.rows.get((symbol, frame), []) if start <= each.ts <= end]
            )
        ]
        first = int(seen.query.get("page_token", "page-0").removeprefix("page-"))
        stop = first + min(self.page_rows, int(seen.query["limit"]))
        bars: dict[str, list[Any]] = {}
        for symbol, row in every[first:stop]:
            bars.setdefault(symbol, []).append(row)
        token = f"page-{stop}" if stop < len(every) else None
        return Reply({"bars": bars, "next_page_token": token})

    def wire(self, row: Row) -> dict[str, Any]:
        out = {
            "t": row.ts.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "o": row.open,
            "h": row.high,
            "l": row.low,
            "c": row.close,
            "v": row.volume,
        }
        if isinstance(row, AlpacaRow):
            out |= {"n": row.trade_count, "vw": row.vwap}
        return out

    def _actions(self, seen: Seen) -> Reply:
        first = int(seen.query.get("page_token", "page-0").removeprefix("page-"))
        pages = self.script.action_pages
        token = f"page-{first + 1}" if first + 1 < len(pages) else None
        page = pages[first] if pages else {}
        return Reply({"corporate_actions": page, "next_page_token": token})


def make_source(
    lab: AlpacaLab,
    gate: Gate,
    now: Callable[[], datetime],
    timeout_seconds: float,
    feed: str = "iex",
) -> AlpacaSource:
    return AlpacaSource(
        gate,
        base_url=lab.url,
        key=SecretStr(KEY_ID),
        secret=SecretStr(SECRET),
        feed=feed,
        timeout_seconds=timeout_seconds,
        now=now,
    )


PROVIDERS = (
    Provider(
        name="alpaca",
        lab=AlpacaLab,
        source=make_source,
        market="us",
        symbols=("AAPL", "BRK.B"),
        wire_symbols=("AAPL", "BRK.B"),
        page_rows=PAGE_ROWS,
    ),
    Provider(
        name="alpaca-crypto",
        lab=AlpacaLab,
        source=make_source,
        market="crypto",
        symbols=("BTC/USD", "ETH/USD"),
        wire_symbols=("BTC/USD", "ETH/USD"),
        page_rows=PAGE_ROWS,
    ),
)
