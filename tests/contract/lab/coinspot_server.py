"""CoinSpot's public interface on loopback: prices as text, and both ways of saying no.

There is no `PROVIDERS` here, because CoinSpot serves no candles; `test_coinspot` runs the faults.
"""

from typing import Any, Literal

from tests.contract.lab.server import HttpLab, Reply, Seen

PREFIX = "/pubapi/v2"
CLOUDFLARE_PAGE = b"<!DOCTYPE html><html><title>Attention Required! | Cloudflare</title></html>"
_HTML = {"Content-Type": "text/html; charset=UTF-8"}


def quote(last: str, bid: str = "NaN", ask: str = "NaN") -> dict[str, str]:
    return {"bid": bid, "ask": ask, "last": last}


class CoinspotLab(HttpLab):
    """Prices of coins.

    Attributes:
        listed: what `/latest` shows: key -> price.
        unlisted: what `/latest/{coin}` knows besides.
        refusal_status: status of an unknown coin, 400 or 200; the body says error either way.
        latest: whole answer of `/latest` instead, None for the listed prices.
    """

    def __init__(self) -> None:
        super().__init__()
        self.listed: dict[str, Any] = {}
        self.unlisted: dict[str, Any] = {}
        self.refusal_status = 400
        self.latest: Any = None

    def respond(self, seen: Seen) -> Reply:
        parts = seen.path.removeprefix(PREFIX).strip("/").split("/")
        if not seen.path.startswith(PREFIX) or parts[0] != "latest":
            return Reply(b"<html>Not found</html>", 404, _HTML)
        if len(parts) == 1:
            return Reply(self.latest or {"status": "ok", "prices": self.listed})
        prices = {**self.listed, **self.unlisted}.get("_".join(parts[1:]))
        if prices is None:
            body = {"status": "error", "message": "Invalid coin type or market specified"}
            return Reply(body, self.refusal_status)
        return Reply({"status": "ok", "message": "ok", "prices": prices})

    def error(self, kind: Literal["rate_limited", "server_error", "invalid_credentials"]) -> Reply:
        if kind == "rate_limited":
            return Reply({"status": "error", "message": "Too many requests"}, 429)
        return Reply(CLOUDFLARE_PAGE, 503 if kind == "server_error" else 403, _HTML)
