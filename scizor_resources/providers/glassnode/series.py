"""Glassnode's answers as values: pure functions.

A metric of one asset is a list of points, oldest first: `{"t": seconds, "v": number}`, or
`{"t": seconds, "o": {part: number}}` for a metric that comes as an object, whose parts become
metrics of their own ("distribution/supply.exchanges"). A bulk answer holds the same for many
assets per point in time; there an asset that lives on several networks is told apart by
`network`, which becomes `chain`. The answer for one asset names no network.

`t` is the start of the interval, UTC. `v` may be null: that is no value, and never a zero.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from scizor_core.errors import ContractError
from scizor_core.schemas.on_chain import FIRST_BLOCK, INTERVALS
from scizor_core.stories import clean
from scizor_resources.providers.metrics import fault_of_number

SOURCE_NAME = "glassnode"

_TEXT_LENGTH = 200
_LONGEST_PART = 100
_LONGEST_CHAIN = 64
#: What a row of a bulk answer may hold; anything else is a further dimension (an exchange, say).
_BULK_FIELDS = frozenset({"a", "network", "v", "o"})


@dataclass(frozen=True)
class Asked:
    """What a metric was asked for.

    Attributes:
        metric: path below /v1/metrics, "market/mvrv".
        assets: upper-case codes.
        resolution: one of `INTERVALS`.
        origin: path of the call.
        start: first instant, UTC.
        end: end, exclusive, UTC.
        asked_at: before the call, UTC; an interval that was over by then is final.
        observed_at: when the answer came, UTC.
    """

    metric: str
    assets: tuple[str, ...]
    resolution: str
    origin: str
    start: datetime
    end: datetime
    asked_at: datetime
    observed_at: datetime


@dataclass
class ParsedSeries:
    """What an answer holds for the window asked.

    Attributes:
        values: records with the names of `ON_CHAIN_COLUMNS`.
        rejected: records with the names of `REJECTED_COLUMNS`.
        without_value: asset -> how many points of the window have no value.
    """

    values: list[dict[str, Any]] = field(default_factory=list)
    rejected: list[dict[str, Any]] = field(default_factory=list)
    without_value: dict[str, int] = field(default_factory=dict)

    def add(self, other: "ParsedSeries") -> None:
        """Take what another answer holds."""
        self.values += other.values
        self.rejected += other.rejected
        for asset, count in other.without_value.items():
            self.without_value[asset] = self.without_value.get(asset, 0) + count

    def assets(self) -> set[str]:
        """Return the assets that have a value."""
        return {row["asset"] for row in self.values}


@dataclass(frozen=True)
class _Point:
    """One point of one asset as received."""

    asset: str
    number: int
    row: Mapping[str, Any]
    when: Any
    chain: str = ""


def parse_points(answer: Any, asked: Asked) -> ParsedSeries:
    """Return the values of an answer of `/v1/metrics/{metric}` for one asset.

    Raises:
        ContractError: the answer does not have the agreed shape; the message says where.
    """
    rows = _list(answer, "the answer")
    (asset,) = asked.assets
    shaped = [isinstance(row, Mapping) and "t" in row and _has_value(row) for row in rows]
    if rows and not any(shaped):
        raise ContractError("no point has 't' and 'v' (or 'o')")
    parsed, kept = ParsedSeries(), _Kept()
    for number, (row, is_shaped) in enumerate(zip(rows, shaped, strict=True), start=1):
        if is_shaped:
            _sort(_Point(asset, number, row, row["t"]), asked, parsed, kept)
        else:
            parsed.rejected.append(_refused(asset, number, row, "it lacks 't' or 'v'", asked))
    parsed.values = list(kept.values())
    return parsed


def parse_bulk(answer: Any, asked: Asked) -> ParsedSeries:
    """Return the values of an answer of `/v1/metrics/{metric}/bulk` for the assets asked.

    Raises:
        ContractError: the answer does not have the agreed shape; the message says where.
    """
    parsed, kept = ParsedSeries(), _Kept()
    seen = shaped = 0
    for number, when, row in _bulk_rows(answer):
        seen += 1
        fault = _fault_of_bulk_row(row)
        asset = str(row["a"]).upper() if not fault else ""
        if fault:
            parsed.rejected.append(_refused("", number, row, fault, asked))
            continue
        shaped += 1
        if asset in asked.assets:
            chain = row.get("network") or ""
            _sort(_Point(asset, number, row, when, chain), asked, parsed, kept)
    if seen and not shaped:
        raise ContractError("no row of 'bulk' has 'a' and 'v' (or 'o')")
    parsed.values = list(kept.values())
    return parsed


def has_more_dimensions(answer: Any) -> bool:
    """Say whether rows of a bulk answer differ by more than asset and network.

    There is no telling then which of them a call for one asset would give.

    Raises:
        ContractError: as `parse_bulk`.
    """
    return any(
        isinstance(row, Mapping) and set(row) - _BULK_FIELDS for _, _, row in _bulk_rows(answer)
    )


def _bulk_rows(answer: Any) -> Iterator[tuple[int, Any, Any]]:
    """Yield the number of the point, its time as received, and a row of it."""
    points = answer.get("data") if isinstance(answer, Mapping) else None
    for number, point in enumerate(_list(points, "'data'"), start=1):
        if not isinstance(point, Mapping) or "t" not in point or "bulk" not in point:
            raise ContractError(f"point {number} of 'data' lacks 't' or 'bulk'")
        for row in _list(point["bulk"], f"'bulk' of point {number}"):
            yield number, point["t"], row


def _fault_of_bulk_row(row: Any) -> str:
    if not isinstance(row, Mapping) or not _has_value(row) or not isinstance(row.get("a"), str):
        return "it lacks 'a' or 'v'"
    network = row.get("network") or ""
    if not isinstance(network, str) or clean(network, _LONGEST_CHAIN) != network:
        return "its network is no name"
    return ""


def _list(found: Any, what: str) -> Sequence[Any]:
    if not isinstance(found, list):
        raise ContractError(f"{what} is no list")
    return found


def _has_value(row: Mapping[str, Any]) -> bool:
    return "v" in row or "o" in row


#: (asset, chain, metric, ts) -> record; of a point that comes twice the later one counts.
_Kept = dict[tuple[str, str, str, datetime], dict[str, Any]]


def _sort(point: _Point, asked: Asked, parsed: ParsedSeries, kept: _Kept) -> None:
    """Put a point into the window, beside it, or among what is refused."""
    ts = _instant(point.when)
    fault = _fault_of_time(ts, asked)
    if ts is None or fault:
        parsed.rejected.append(
            _refused(point.asset, point.number, point.row, fault, asked, point.when, ts)
        )
        return
    if not asked.start <= ts < asked.end:
        return
    if point.row.get("v") is None and point.row.get("o") is None:
        parsed.without_value[point.asset] = parsed.without_value.get(point.asset, 0) + 1
        return
    for metric, value, why in _parts(point.row, asked.metric):
        if why:
            parsed.rejected.append(
                _refused(point.asset, point.number, point.row, why, asked, point.when, ts)
            )
        elif value is None:
            parsed.without_value[point.asset] = parsed.without_value.get(point.asset, 0) + 1
        else:
            kept[point.asset, point.chain, metric, ts] = {
                "source": SOURCE_NAME,
                "metric": metric,
                "asset": point.asset,
                "asset_id": "",
                "chain": point.chain,
                "resolution": asked.resolution,
                "ts": ts,
                "value": float(value),
                "is_final": ts + INTERVALS[asked.resolution] <= asked.asked_at,
                "observed_at": asked.observed_at,
            }


def _parts(row: Mapping[str, Any], metric: str) -> Iterator[tuple[str, Any, str]]:
    """Yield metric, value (None where there is none) and why it is refused ("" where it is not)."""
    found = row.get("o")
    if found is None:
        value = row.get("v")
        yield metric, value, fault_of_number(value)
        return
    if not isinstance(found, Mapping):
        yield metric, None, "'o' is no object"
        return
    for part, value in found.items():
        if not part or clean(part, _LONGEST_PART) != part:
            yield metric, None, "a part of 'o' has no proper name"
        else:
            yield f"{metric}.{part}", value, "" if value is None else fault_of_number(value)


def _fault_of_time(ts: datetime | None, asked: Asked) -> str:
    if ts is None:
        return "the time is no number of seconds since 1970"
    if ts < FIRST_BLOCK:
        return f"the time lies before the first block of any chain ({FIRST_BLOCK:%Y-%m-%d})"
    if ts > asked.observed_at:
        return "the time lies in the future"
    length = INTERVALS[asked.resolution].total_seconds()
    return "" if ts.timestamp() % length == 0 else f"no {asked.resolution} interval starts then"


def _instant(when: Any) -> datetime | None:
    """Return epoch seconds as UTC, None where they are none."""
    if isinstance(when, bool):
        return None
    try:
        return datetime.fromtimestamp(float(when), tz=UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def _refused(  # noqa: PLR0913  # a point that cannot be read has no object to carry these
    asset: str,
    number: int,
    row: Any,
    reason: str,
    asked: Asked,
    when: Any = None,
    ts: datetime | None = None,
) -> dict[str, Any]:
    return {
        "symbol": asset,
        "ts": ts,
        "reason": reason,
        "source": SOURCE_NAME,
        "origin": asked.origin,
        "row_number": number,
        "payload": {
            "metric": asked.metric,
            "t": clean(str(when)[: _TEXT_LENGTH * 2], _TEXT_LENGTH),
            **_shown(row),
        },
    }


def _shown(row: Any) -> dict[str, str]:
    """Return what is agreed of a row, as text; nothing else goes along."""
    fields = row if isinstance(row, Mapping) else {}
    return {
        name: clean(str(fields[name])[: _TEXT_LENGTH * 2], _TEXT_LENGTH)
        for name in sorted(_BULK_FIELDS & set(fields))
    }
