"""DefiLlama for the suite of all ledgers: each item is a point in the history of a protocol.

A protocol has one value a day, so that each item has a protocol of its own, `protocol-<id>`; its
text is the protocol's name, the only text of an answer that is kept.
"""

from datetime import timedelta
from typing import Any, Literal

from scizor_resources.providers.defillama.client import DefillamaFundamentals
from scizor_resources.providers.gate import Gate
from tests.contract.lab.defillama_server import refused
from tests.contract.lab.ledgers import (
    NOW,
    SINCE,
    UNTIL,
    Item,
    LedgerLab,
    LedgerSource,
    Outcome,
)
from tests.contract.lab.server import Reply, Seen

#: Asked for where there are no items: a protocol whose history ended before the window.
_PAST = Item("0", SINCE - timedelta(days=30), "A protocol of the past")
#: An item with a text longer than this has a history as long.
_LONG_TEXT = 100_000
_HISTORY_DAYS = 6_000


class DefillamaLedgerLab(LedgerLab):
    """Value locked of one protocol per item."""

    @property
    def protocols(self) -> dict[str, Item]:
        """Slug -> item."""
        return {f"protocol-{each.id}": each for each in self.items or [_PAST]}

    def respond(self, seen: Seen) -> Reply:
        kind, _, slug = seen.path.strip("/").rpartition("/")
        if kind != "protocol" or slug not in self.protocols:
            return Reply(b"Protocol not found", 400, {"Content-Type": "text/plain"})
        item = self.protocols[slug]
        points = [] if item.deleted else [self._point(item.at.timestamp(), float(item.id))]
        chains = {"Ethereum": points}
        if len(item.text) > _LONG_TEXT:
            chains |= {f"Ended {n}": self._history() for n in range(4)}
        return Reply(
            {
                "id": item.id,
                "name": item.text,
                "chainTvls": {
                    chain: {"tvl": series, "tokens": []} for chain, series in chains.items()
                },
            }
        )

    def error(self, kind: Literal["rate_limited", "server_error", "invalid_credentials"]) -> Reply:
        return refused(kind)

    def _point(self, seconds: float, value: float) -> dict[str, Any]:
        name = "tvlUsd" if self.changed_field else "totalLiquidityUSD"
        return {"date": int(seconds), name: value}

    def _history(self) -> list[dict[str, Any]]:
        """Return a chain's days until one before the window; it does not count in it."""
        days = (SINCE - timedelta(days=1 + n) for n in range(_HISTORY_DAYS))
        return [self._point(day.timestamp(), 1e6) for day in reversed(list(days))]


def ask(lab: LedgerLab, gate: Gate) -> Outcome:
    """Ask for the value locked of the protocols of the lab's items."""
    assert isinstance(lab, DefillamaLedgerLab)
    llama = DefillamaFundamentals(gate, base_url=lab.url, timeout_seconds=0.5, now=lambda: NOW)
    try:
        batch = llama.fetch(list(lab.protocols), SINCE.date(), UNTIL.date(), ["tvl"])
    finally:
        llama.close()
    rows = batch.values.to_dict("records")
    return Outcome(
        found={
            row["protocol"].removeprefix("protocol-"): f"{row['protocol_name']} {row['value_usd']}"
            for row in rows
        },
        rejected=batch.rejected,
        notes=list(batch.unknown.values()),
        complete=not batch.errors,
        empty_reason=None if rows else "; ".join(batch.empty_reasons.values()),
        failure=batch.failure,
        everything=repr((rows, batch.rejected.to_dict("records"), batch)),
    )


LEDGER_SOURCES: tuple[LedgerSource, ...] = (
    LedgerSource(
        "defillama",
        DefillamaLedgerLab,
        ask,
        skips={
            "quota_exhausted": "it asks for no key and has no plan; too many calls are a 429",
            "capped": "an answer is the whole history",
            "pages": "an answer is the whole history, there are no pages",
            "names": "an answer names protocols and no persons",
        },
    ),
)
