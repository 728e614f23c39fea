"""Nansen on loopback: what smart money moves and holds, page by page, and its ways of saying no.

Answers are written by hand after the published names of fields. For the suite of all ledgers each
item of the window is a token: its id is the number in its address and its net flow of a day.
"""

import json
from typing import Any, Literal

from pydantic import SecretStr

from scizor_resources.providers.gate import Gate
from scizor_resources.providers.nansen.client import NansenSmartMoney
from tests.contract.lab.ledgers import NOW, SINCE, UNTIL, LedgerLab, LedgerSource, Outcome
from tests.contract.lab.server import Reply, Seen

KEY = "nansen-key-of-the-lab"
NETFLOW, HOLDINGS = "/smart-money/netflow", "/smart-money/holdings"
FLOW = "smart_money/net_flow_24h_usd"


def flow(chain: str, address: str, symbol: Any, **fields: Any) -> dict[str, Any]:
    return {
        "token_symbol": symbol,
        "token_address": address,
        "chain": chain,
        "net_flow_1h_usd": 1.5,
        "net_flow_24h_usd": 24.5,
        "net_flow_7d_usd": -7.5,
        "net_flow_30d_usd": 30.5,
        "token_sectors": ["Memecoins"],
        "trader_count": 3,
        "token_age_days": 400,
        "market_cap_usd": 1e9,
        **fields,
    }


def holding(chain: str, address: str, symbol: Any, **fields: Any) -> dict[str, Any]:
    return {
        "chain": chain,
        "token_address": address,
        "token_symbol": symbol,
        "value_usd": 1000.25,
        "holders_count": 12,
        "balance_24h_percent_change": 0.5,
        **fields,
    }


class NansenLab(LedgerLab):
    """Tables of tokens.

    Attributes:
        tables: path -> rows as on the wire.
        unknown_chains: for these the answer is a 422.
        answers: path -> whole answer instead.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tables: dict[str, list[Any]] = {NETFLOW: [], HOLDINGS: []}
        self.unknown_chains: set[str] = set()
        self.answers: dict[str, Reply] = {}

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """What was sent with the requests."""
        return [json.loads(seen.body) for seen in self.requests]

    def respond(self, seen: Seen) -> Reply:
        if seen.headers.get("apikey") != KEY:
            return self.error("invalid_credentials")
        if self.quota_exhausted:
            return self.quota()
        if seen.path in self.answers:
            return self.answers[seen.path]
        asked = json.loads(seen.body)
        if seen.method != "POST" or seen.path not in self.tables:
            return Reply({"error": "Not Found"}, 404)
        odd = self.unknown_chains.intersection(asked["chains"])
        if odd:
            words = f"chain {min(odd)} is not supported"
            return Reply({"detail": [{"loc": ["body", "chains"], "msg": words}]}, 422)
        return self._page(seen.path, asked)

    def _page(self, path: str, asked: dict[str, Any]) -> Reply:
        number = asked["pagination"]["page"]
        size = self.page_size or asked["pagination"]["per_page"]
        if self.capped and number > 1:
            return Reply({"error": "Page is out of range"}, 422)
        rows = [
            row
            for row in (*self.tables[path], *self._items(path))
            if not isinstance(row, dict) or row.get("chain", "ethereum").lower() in asked["chains"]
        ]
        page = {
            "page": number,
            "per_page": size,
            "is_last_page": number * size >= len(rows) and not self.capped,
        }
        return Reply({"data": rows[(number - 1) * size : number * size], "pagination": page})

    def _items(self, path: str) -> list[dict[str, Any]]:
        made = []
        for item in self.items:
            if item.deleted or not SINCE <= item.at < UNTIL:
                continue
            more = {"token_sectors": [item.text], "trader_address_label": item.author}
            address, symbol = f"0x{int(item.id):040d}", f"T{item.id}"
            if path == HOLDINGS:
                made.append(holding("ethereum", address, symbol, **more))
                continue
            row = flow("ethereum", address, symbol, net_flow_24h_usd=int(item.id), **more)
            if self.changed_field:
                row["net_flow_1d_usd"] = row.pop("net_flow_24h_usd")
            made.append(row)
        return made

    def error(self, kind: Literal["rate_limited", "server_error", "invalid_credentials"]) -> Reply:
        if kind == "rate_limited":
            return Reply({"error": "Rate limit exceeded"}, 429)
        if kind == "server_error":
            return Reply({"error": "Internal server error"}, 500)
        return Reply({"error": f"Invalid API key {KEY}"}, 401)

    def quota(self) -> Reply:
        return Reply({"error": "Forbidden: insufficient credits"}, 403)


def ask(lab: LedgerLab, gate: Gate) -> Outcome:
    """Ask for a snapshot of the running day."""
    client = NansenSmartMoney(
        gate, base_url=lab.url, key=SecretStr(KEY), timeout_seconds=0.5, now=lambda: NOW
    )
    try:
        batch = client.fetch(["ethereum"], NOW.date())
    finally:
        client.close()
    rows = batch.values.to_dict("records")
    return Outcome(
        found={
            str(int(row["asset_id"].removeprefix("0x"))): f"{row['asset']} {row['value']}"
            for row in rows
            if row["metric"] == FLOW
        },
        rejected=batch.rejected,
        notes=batch.notes,
        complete=batch.complete and not batch.errors,
        empty_reason=None if rows else "; ".join(batch.empty_reasons.values()),
        failure=batch.failure,
        everything=repr((rows, batch.rejected.to_dict("records"), batch, client)),
    )


LEDGER_SOURCES: tuple[LedgerSource, ...] = (
    LedgerSource(
        "nansen",
        NansenLab,
        ask,
        secret=KEY,
        skips={
            "impossible_dates": "rows have no time: a snapshot is of the present",
            "texts": "values are numbers; symbols of tokens in any script are in test_nansen",
        },
    ),
)
