"""DefiLlama's free interface on loopback: histories by protocol and chain, its ways of saying no.

Answers are written by hand after the published specification. From experience, and not from the
specification, are that a missing protocol is refused in plain text and a missing chart as JSON,
`totalCirculatingUSD`, and that dates of stablecoins come as text.
"""

from datetime import UTC, datetime
from typing import Any, Literal

from tests.contract.lab.server import HttpLab, Reply, Seen

_TEXT = {"Content-Type": "text/plain; charset=utf-8"}
_HTML = {"Content-Type": "text/html; charset=UTF-8"}


def epoch(at: str) -> int:
    """Return epoch seconds of a time in UTC, "2026-11-19" or "2026-11-19T10:30"."""
    return int(datetime.fromisoformat(at).replace(tzinfo=UTC).timestamp())


def tvl(*points: tuple[str, Any]) -> dict[str, Any]:
    """Return the section of a chain with points given as time and value."""
    return {
        "tvl": [{"date": epoch(at), "totalLiquidityUSD": value} for at, value in points],
        "tokens": [],
    }


def chart(*points: tuple[str, Any]) -> list[list[Any]]:
    return [[epoch(at), value] for at, value in points]


def chain_tvl(*points: tuple[str, Any]) -> list[dict[str, Any]]:
    return [{"date": epoch(at), "tvl": value} for at, value in points]


def stablecoins(*points: tuple[str, Any]) -> list[dict[str, Any]]:
    """Return a history of stablecoins with points given as time and USD by peg."""
    return [
        {
            "date": str(epoch(at)),
            # Units of each peg's currency: were they added, every sum would be wrong.
            "totalCirculating": {"peggedUSD": 7e6, "peggedJPY": 7e9},
            "totalCirculatingUSD": pegs,
        }
        for at, pegs in points
    ]


def refused(kind: Literal["rate_limited", "server_error", "invalid_credentials"]) -> Reply:
    """Return DefiLlama's own answer of that kind."""
    if kind == "rate_limited":
        return Reply(b"Too many requests", 429, _TEXT)
    if kind == "server_error":
        return Reply({"message": "Internal server error"}, 502)
    return Reply(b"<html><title>Access denied</title></html>", 403, _HTML)


class DefillamaLab(HttpLab):
    """Histories of protocols and chains, both hosts in one.

    Attributes:
        chains: slug -> key of `chainTvls` -> section.
        charts: (slug, "dailyFees", "dailyRevenue" or "dexs") -> `totalDataChart`.
        chain_tvls: chain -> answer of `/v2/historicalChainTvl`.
        stablecoins: chain or "all" -> answer of `/stablecoincharts`.
        names: slug -> name for people, by default the slug.
        answers: path -> whole answer instead.
    """

    def __init__(self) -> None:
        super().__init__()
        self.chains: dict[str, dict[str, Any]] = {}
        self.charts: dict[tuple[str, str], list[Any]] = {}
        self.chain_tvls: dict[str, list[Any]] = {}
        self.stablecoins: dict[str, list[Any]] = {}
        self.names: dict[str, str] = {}
        self.answers: dict[str, Any] = {}

    def respond(self, seen: Seen) -> Reply:
        if seen.path in self.answers:
            return Reply(self.answers[seen.path])
        kind, _, slug = seen.path.strip("/").rpartition("/")
        name = self.names.get(slug, slug)
        if kind == "protocol":
            if slug not in self.chains:
                return Reply(b"Protocol not found", 400, _TEXT)
            return Reply({"id": "1", "name": name, "chainTvls": self.chains[slug]})
        if kind == "v2/historicalChainTvl":
            found = self.chain_tvls.get(slug)
            return Reply(b"Chain not found", 404, _TEXT) if found is None else Reply(found)
        if kind == "stablecoincharts":
            found = self.stablecoins.get(slug)
            return Reply({"message": "No such chain"}, 400) if found is None else Reply(found)
        what = seen.query.get("dataType", "dailyFees") if kind == "summary/fees" else "dexs"
        if kind not in ("summary/fees", "summary/dexs") or (slug, what) not in self.charts:
            return Reply({"message": f"{slug} not found, please visit /overview"}, 404)
        if seen.query.get("excludeTotalDataChart") == "true":
            return Reply({"name": name, "total24h": 1})
        return Reply({"name": name, "total24h": 1, "totalDataChart": self.charts[slug, what]})

    def error(self, kind: Literal["rate_limited", "server_error", "invalid_credentials"]) -> Reply:
        return refused(kind)
