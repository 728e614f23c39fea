"""Glassnode on loopback: points of a metric, one asset or many at once, and its ways of saying no.

Answers are written by hand after recorded ones. That errors are short plain texts is from
experience, and so is the wording of a used-up quota; neither is published.

For the suite of all ledgers each item is a part of a metric that comes as an object, so that
several can lie in one interval: its id is the part's name and its value.
"""

from datetime import datetime
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

from pydantic import SecretStr

from scizor_resources.providers.gate import Gate
from scizor_resources.providers.glassnode.client import GlassnodeMetrics
from tests.contract.lab.ledgers import NOW, SINCE, UNTIL, LedgerLab, LedgerSource, Outcome
from tests.contract.lab.server import Reply, Seen

KEY = "glassnode-key-of-the-lab"
METRIC = "lab/items"
_TEXT = {"Content-Type": "text/plain; charset=utf-8"}
_TEN_MINUTES = 600


def refused(text: str, status: int, **headers: str) -> Reply:
    return Reply(text.encode(), status, {**_TEXT, **headers})


class GlassnodeLab(LedgerLab):
    """Metrics of assets.

    Attributes:
        points: (metric, asset) -> points as on the wire; of an unknown pair the answer is a 400.
        bulk: metric -> points of the bulk answer; a metric without any has no bulk call.
        answers: path -> whole answer instead.
        asked: path and asset codes of each request, in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.points: dict[tuple[str, str], list[Any]] = {}
        self.bulk: dict[str, list[Any]] = {}
        self.answers: dict[str, Reply] = {}
        self.asked: list[tuple[str, list[str]]] = []

    def _handle(self, handler: Any) -> None:
        # What has been seen keeps one value per parameter; here `a` comes several times.
        parts = urlsplit(handler.path)
        self.asked.append((parts.path, parse_qs(parts.query).get("a", [])))
        super()._handle(handler)

    def respond(self, seen: Seen) -> Reply:
        if seen.headers.get("x-api-key") != KEY:
            return self.error("invalid_credentials")
        if self.quota_exhausted:
            return self.quota()
        if seen.path in self.answers:
            return self.answers[seen.path]
        metric = seen.path.removeprefix("/v1/metrics/")
        if metric == METRIC:
            return Reply(self._items())
        if metric.endswith("/bulk"):
            known = self.bulk.get(metric.removesuffix("/bulk"))
            return refused("Not found", 404) if known is None else Reply({"data": known})
        points = self.points.get((metric, seen.query.get("a", "")))
        return refused("invalid asset", 400) if points is None else Reply(points)

    def error(self, kind: Literal["rate_limited", "server_error", "invalid_credentials"]) -> Reply:
        if kind == "rate_limited":
            return refused(
                "Too many requests",
                429,
                **{"x-rate-limit-remaining": "0", "x-rate-limit-reset": "41"},
            )
        if kind == "server_error":
            return refused("internal server error", 500)
        return refused("api key invalid", 401)

    def quota(self) -> Reply:
        return refused("API credits exhausted", 429)

    def _items(self) -> list[dict[str, Any]]:
        time_field = "time" if self.changed_field else "t"
        return [
            {
                time_field: int(item.at.timestamp()) // _TEN_MINUTES * _TEN_MINUTES,
                "o": {item.id: float(item.id)},
                "note": item.text,
                "by": item.author,
            }
            for item in sorted(self.items, key=lambda item: item.at)
            if not item.deleted
        ]


def epoch(at: str) -> int:
    """Return epoch seconds of a time in UTC, "2026-11-19" or "2026-11-19T10:30"."""
    return int(datetime.fromisoformat(f"{at}+00:00").timestamp())


def ask(lab: LedgerLab, gate: Gate) -> Outcome:
    """Ask for the parts of the lab's metric."""
    client = GlassnodeMetrics(
        gate, base_url=lab.url, key=SecretStr(KEY), timeout_seconds=0.5, now=lambda: NOW
    )
    try:
        batch = client.fetch([METRIC], ["BTC"], SINCE.date(), UNTIL.date(), "10m")
    finally:
        client.close()
    rows = batch.values.to_dict("records")
    return Outcome(
        found={row["metric"].rpartition(".")[2]: str(row["value"]) for row in rows},
        rejected=batch.rejected,
        notes=batch.notes,
        complete=batch.complete and not batch.errors,
        empty_reason=None if rows else "; ".join(batch.empty_reasons.values()),
        failure=batch.failure,
        everything=repr((rows, batch.rejected.to_dict("records"), batch, client)),
    )


LEDGER_SOURCES: tuple[LedgerSource, ...] = (
    LedgerSource(
        "glassnode",
        GlassnodeLab,
        ask,
        secret=KEY,
        skips={
            "capped": "an answer is the whole window",
            "pages": "an answer is the whole window, there are no pages",
            "texts": "values are numbers",
        },
    ),
)
