"""Nansen's answers about smart money as values: pure functions.

A row is a token on a chain as it is now; each of its numbers becomes a metric. Rows have no time:
a value belongs to the UTC day it was asked for. A token is known by chain and address, as symbols
are not unique: anyone may call a token as another one is called.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from scizor_core.errors import ContractError
from scizor_core.schemas.on_chain import SNAPSHOT
from scizor_core.stories import clean
from scizor_resources.providers.metrics import fault_of_number

SOURCE_NAME = "nansen"

_TEXT_LENGTH = 200
_LONGEST_SYMBOL = 64
_LONGEST_ADDRESS = 128
_LONGEST_CHAIN = 64
_NAMES: tuple[str, ...] = ("chain", "token_address", "token_symbol")


@dataclass(frozen=True)
class Table:
    """One list of tokens.

    Attributes:
        name: for people: "smart_money/netflow".
        path: of the call.
        order_by: field that the largest come first by.
        metrics: field of a row -> metric.
        needed: fields without which the answer has changed; the others may be absent.
    """

    name: str
    path: str
    order_by: str
    metrics: Mapping[str, str]
    needed: tuple[str, ...]


NETFLOW = Table(
    name="smart_money/netflow",
    path="/smart-money/netflow",
    order_by="net_flow_24h_usd",
    metrics={
        **{
            f"net_flow_{span}_usd": f"smart_money/net_flow_{span}_usd"
            for span in ("1h", "24h", "7d", "30d")
        },
        "trader_count": "smart_money/traders",
    },
    needed=(*_NAMES, "net_flow_24h_usd"),
)
HOLDINGS = Table(
    name="smart_money/holdings",
    path="/smart-money/holdings",
    order_by="value_usd",
    metrics={"value_usd": "smart_money/holdings_usd", "holders_count": "smart_money/holders"},
    needed=(*_NAMES, "value_usd", "holders_count"),
)
TABLES: tuple[Table, ...] = (NETFLOW, HOLDINGS)


@dataclass(frozen=True)
class Page:
    """One page of a table: its rows as received, and whether it is the last one."""

    rows: list[Any]
    is_last: bool


@dataclass(frozen=True)
class Asked:
    """What the rows are an answer to.

    Attributes:
        table: the list of tokens.
        ts: start of the UTC day asked for.
        observed_at: when the last page came, UTC.
    """

    table: Table
    ts: datetime
    observed_at: datetime


@dataclass
class ParsedRows:
    """What the pages of a table hold.

    Attributes:
        values: records with the names of `ON_CHAIN_COLUMNS`.
        rejected: records with the names of `REJECTED_COLUMNS`.
        without_value: field -> how many rows have no value in it.
    """

    values: list[dict[str, Any]] = field(default_factory=list)
    rejected: list[dict[str, Any]] = field(default_factory=list)
    without_value: dict[str, int] = field(default_factory=dict)


def parse_page(answer: Any) -> Page:
    """Return a page of an answer.

    Raises:
        ContractError: the answer does not have the agreed shape; the message says where.
    """
    rows = answer.get("data") if isinstance(answer, Mapping) else None
    if not isinstance(rows, list):
        raise ContractError("there is no list 'data'")
    pagination = answer.get("pagination")
    is_last = pagination.get("is_last_page") if isinstance(pagination, Mapping) else None
    if not isinstance(is_last, bool):
        raise ContractError("'pagination' does not say whether it is the last page")
    return Page(rows, is_last)


def parse_rows(rows: list[Any], asked: Asked) -> ParsedRows:
    """Return the values of all rows of a table; of a token that comes twice the later row counts.

    Raises:
        ContractError: a field that is needed is in none of the rows; the message names it.
    """
    for name in asked.table.needed:
        if rows and not any(isinstance(row, Mapping) and name in row for row in rows):
            raise ContractError(f"no row has '{name}'")
    parsed = ParsedRows()
    kept: dict[tuple[str, str, str], dict[str, Any]] = {}
    for number, row in enumerate(rows, start=1):
        fault = _fault(row)
        if fault:
            parsed.rejected.append(_refused(row, number, fault, asked))
            continue
        for column, metric in asked.table.metrics.items():
            value = row.get(column)
            if value is None:
                parsed.without_value[column] = parsed.without_value.get(column, 0) + 1
            elif fault_of_number(value):
                why = f"{column}: {fault_of_number(value)}"
                parsed.rejected.append(_refused(row, number, why, asked))
            else:
                record = _record(row, metric, value, asked)
                kept[metric, record["chain"], record["asset_id"]] = record
    parsed.values = list(kept.values())
    return parsed


def _fault(row: Any) -> str:
    if not isinstance(row, Mapping):
        return "it is no object"
    for name in _NAMES:
        if not isinstance(row.get(name), str) or not clean(row[name], _LONGEST_SYMBOL):
            return f"it lacks '{name}'"
    for name, longest in (("chain", _LONGEST_CHAIN), ("token_address", _LONGEST_ADDRESS)):
        if clean(row[name], longest) != row[name]:
            return f"its '{name}' is none"
    return ""


def _record(row: Mapping[str, Any], metric: str, value: float, asked: Asked) -> dict[str, Any]:
    address = row["token_address"]
    return {
        "source": SOURCE_NAME,
        "metric": metric,
        "asset": clean(row["token_symbol"], _LONGEST_SYMBOL).upper(),
        # Case means nothing in hexadecimal addresses, but all in those of other chains.
        "asset_id": address.lower() if address.lower().startswith("0x") else address,
        "chain": row["chain"].lower(),
        "resolution": SNAPSHOT,
        "ts": asked.ts,
        "value": float(value),
        # There is no end after which Nansen would say the same of that day again.
        "is_final": False,
        "observed_at": asked.observed_at,
    }


def _refused(row: Any, number: int, reason: str, asked: Asked) -> dict[str, Any]:
    shown = row if isinstance(row, Mapping) else {}
    symbol = shown.get("token_symbol")
    names = (*_NAMES, *asked.table.metrics)
    return {
        "symbol": clean(symbol, _LONGEST_SYMBOL) if isinstance(symbol, str) else "",
        "ts": asked.ts,
        "reason": reason,
        "source": SOURCE_NAME,
        "origin": asked.table.path,
        "row_number": number,
        # By name, so that nothing about wallets and their owners goes along.
        "payload": {
            name: clean(str(shown[name])[: _TEXT_LENGTH * 2], _TEXT_LENGTH)
            for name in names
            if name in shown
        },
    }
