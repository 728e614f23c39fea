"""DefiLlama's series as values per UTC day: pure functions.

What counts as value locked. An answer has a series per chain ("Ethereum") and, beside them, parts
that are not the protocol's own value, or are counted a second time: what was lent out again
("Ethereum-borrowed", "borrowed"), liquidity of the protocol's own token ("pool2"), the token
staked in itself ("staking"), liquid staking and other double counting, treasury and unvested
tokens. Value locked is the sum over the chains; every such part is left out:

- a key that is one of `SECTIONS`, in any case;
- a key `X-part` whose part is one of `SECTIONS`, or whose X is a chain of the same answer.

Both spellings of a part are left out: "liquidstaking" and "Ethereum-liquidstaking".

A day is only summed when each chain has a value on it that lies between the chain's first and last
day: a sum without one of its chains would look like an outflow. Such days are refused.

Value locked of a chain is DefiLlama's own sum over the chain's protocols, which leaves out liquid
staking and double counting (so its specification of `/v2/historicalChainTvl/{chain}`), and by
default borrowed, pool2 and staking as well (not in the specification). Nothing is added or taken
away here.

Stablecoin supply is the sum over the pegs ("peggedUSD", "peggedEUR", ...) of
`totalCirculatingUSD`. `totalCirculating` beside it counts each peg in its own currency, which
cannot be added up. A point with a peg whose amount is unsound is refused as a whole.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from math import fsum, isfinite
from typing import Any

from scizor_core.errors import ContractError

SOURCE_NAME = "defillama"

#: Keys of `chainTvls` that are no chains.
SECTIONS: frozenset[str] = frozenset(
    {
        "borrowed",
        "pool2",
        "staking",
        "liquidstaking",
        "doublecounted",
        "dcandlsoverlap",
        "treasury",
        "owntokens",
        "vesting",
        "offers",
    }
)
#: The first block of Bitcoin; nothing on a chain is older.
FIRST_BLOCK = date(2009, 1, 3)
_TEXT_LENGTH = 200


@dataclass(frozen=True)
class Asked:
    """What a series was asked for.

    Attributes:
        protocol: DefiLlama's slug, or a chain as `chain_keys` writes it.
        metric: one of `METRICS`.
        origin: path of the call.
        start: first UTC day.
        end: day after the last one.
        asked_at: before the call, UTC; a day that was over by then is final.
        observed_at: when the answer came, UTC.
        name: for people, where the answer has none.
    """

    protocol: str
    metric: str
    origin: str
    start: date
    end: date
    asked_at: datetime
    observed_at: datetime
    name: str = ""


@dataclass
class ParsedSeries:
    """What an answer holds for the days asked.

    Attributes:
        values: records with the names of `FUNDAMENTAL_COLUMNS`.
        rejected: records with the names of `REJECTED_COLUMNS`.
    """

    values: list[dict[str, Any]] = field(default_factory=list)
    rejected: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class _Point:
    """One point of a series, as received and as understood.

    `amounts` add up to its value; `fault` is what is wrong with its time, "" where it is sound.
    """

    series: str
    number: int
    date: Any
    value: Any
    amounts: tuple[Any, ...]
    at: datetime | None
    fault: str = ""


def parse_tvl(answer: Any, asked: Asked) -> ParsedSeries:
    """Return the value locked per day of an answer of `/protocol/{slug}`.

    Raises:
        ContractError: the answer does not have the agreed shape; the message says where.
    """
    by_chain = answer.get("chainTvls") if isinstance(answer, Mapping) else None
    if not isinstance(by_chain, Mapping):
        raise ContractError("there is no object 'chainTvls'")
    parsed = ParsedSeries()
    chains = [
        _in_days(list(_tvl_points(key, by_chain[key], asked)), asked, parsed)
        for key in counted_chains(by_chain)
    ]
    day = asked.start
    while day < asked.end:
        spanning = [chain for chain in chains if chain.spans(day)]
        _sum_of_day(day, spanning, answer.get("name"), asked, parsed)
        day += timedelta(days=1)
    return parsed


def parse_chart(answer: Any, asked: Asked) -> ParsedSeries:
    """Return the amounts per day of an answer of `/summary/{fees|dexs}/{slug}`.

    Raises:
        ContractError: the answer does not have the agreed shape; the message says where.
    """
    chart = answer.get("totalDataChart") if isinstance(answer, Mapping) else None
    if not isinstance(chart, Sequence) or isinstance(chart, str):
        raise ContractError("there is no array 'totalDataChart'")
    parsed = ParsedSeries()
    _keep_days(list(_chart_points(chart, asked)), answer.get("name"), asked, parsed)
    return parsed


def parse_chain_tvl(answer: Any, asked: Asked) -> ParsedSeries:
    """Return the value locked per day of an answer of `/v2/historicalChainTvl/{chain}`.

    Raises:
        ContractError: the answer does not have the agreed shape; the message says where.
    """
    parsed = ParsedSeries()
    _keep_days(list(_chain_tvl_points(answer, asked)), asked.name, asked, parsed)
    return parsed


def parse_stablecoins(answer: Any, asked: Asked) -> ParsedSeries:
    """Return the stablecoin supply per day of an answer of `/stablecoincharts/{chain}`.

    Raises:
        ContractError: the answer does not have the agreed shape; the message says where.
    """
    parsed = ParsedSeries()
    _keep_days(list(_supply_points(answer, asked)), asked.name, asked, parsed)
    return parsed


def counted_chains(keys: Mapping[str, Any]) -> list[str]:
    """Return the keys of `chainTvls` that are chains, by the rule of this module."""
    return [key for key in keys if not _is_section(key, keys)]


def _is_section(key: str, keys: Mapping[str, Any]) -> bool:
    chain, dash, part = key.rpartition("-")
    if part.lower() in SECTIONS:
        return True
    return bool(dash) and chain in keys


@dataclass
class _Days:
    """One series by day: its name, its good points in the window, and the days it spans."""

    name: str
    good: dict[date, _Point]
    first: date | None
    last: date | None

    def spans(self, day: date) -> bool:
        return self.first is not None and self.last is not None and self.first <= day <= self.last


def _in_days(points: list[_Point], asked: Asked, parsed: ParsedSeries) -> _Days:
    """Keep the last sound point of each day asked for; note those that are refused."""
    good: dict[date, _Point] = {}
    days: list[date] = []
    for point in points:
        if point.at is not None and not point.fault:
            day = point.at.date()
            days.append(day)
            if not asked.start <= day < asked.end:
                continue
            fault = next(filter(None, map(_fault_of_value, point.amounts)), "")
            if not fault:
                kept = good.get(day)
                if kept is None or kept.at is None or kept.at <= point.at:
                    good[day] = point
                continue
        else:
            fault = point.fault
        parsed.rejected.append(_refused(point, fault, asked))
    name = points[0].series if points else ""
    return _Days(name, good, min(days, default=None), max(days, default=None))


def _keep_days(points: list[_Point], name: Any, asked: Asked, parsed: ParsedSeries) -> None:
    if points and all(point.at is None for point in points):
        raise ContractError("no point has a time in seconds since 1970")
    for day, point in _in_days(points, asked, parsed).good.items():
        parsed.values.append(_value(day, [point], name, asked))


def _sum_of_day(
    day: date, chains: list[_Days], name: Any, asked: Asked, parsed: ParsedSeries
) -> None:
    points = [chain.good[day] for chain in chains if day in chain.good]
    if not points:
        return
    without = sorted(chain.name for chain in chains if day not in chain.good)
    if not without:
        parsed.values.append(_value(day, points, name, asked))
        return
    parsed.rejected.append(
        {
            "symbol": asked.protocol,
            "ts": _midnight(day),
            "reason": f"no sum over the chains: {', '.join(without)} has no sound value that day",
            "source": SOURCE_NAME,
            "origin": asked.origin,
            "row_number": None,
            "payload": {
                "metric": asked.metric,
                **{point.series: str(point.value) for point in points},
            },
        }
    )


def _tvl_points(chain: str, section: Any, asked: Asked) -> Iterator[_Point]:
    series = section.get("tvl") if isinstance(section, Mapping) else None
    if not isinstance(series, Sequence) or isinstance(series, str):
        raise ContractError(f"chain '{chain}' has no array 'tvl'")
    for number, row in enumerate(series, start=1):
        if not isinstance(row, Mapping) or not {"date", "totalLiquidityUSD"} <= set(row):
            raise ContractError(f"point {number} of '{chain}' lacks 'date' or 'totalLiquidityUSD'")
        yield _point(chain, number, row["date"], row["totalLiquidityUSD"], asked)


def _chart_points(chart: Sequence[Any], asked: Asked) -> Iterator[_Point]:
    for number, row in enumerate(chart, start=1):
        if not isinstance(row, Sequence) or isinstance(row, str) or len(row) != 2:  # noqa: PLR2004
            raise ContractError(f"point {number} of 'totalDataChart' is no pair of time and number")
        yield _point("totalDataChart", number, row[0], row[1], asked)


def _chain_tvl_points(answer: Any, asked: Asked) -> Iterator[_Point]:
    rows = _rows(answer)
    if rows and not any("tvl" in row for row in rows):
        raise ContractError("no point has 'tvl'")
    for number, row in enumerate(rows, start=1):
        yield _point(asked.name, number, row.get("date"), row.get("tvl"), asked)


def _supply_points(answer: Any, asked: Asked) -> Iterator[_Point]:
    rows = _rows(answer)
    if rows and not any(isinstance(row.get("totalCirculatingUSD"), Mapping) for row in rows):
        raise ContractError("no point has an object 'totalCirculatingUSD'")
    for number, row in enumerate(rows, start=1):
        pegs = row.get("totalCirculatingUSD")
        amounts = tuple(pegs.values()) if isinstance(pegs, Mapping) else ()
        # Without any peg the supply is unknown, not zero.
        yield _point(asked.name, number, row.get("date"), pegs, asked, amounts or (None,))


def _rows(answer: Any) -> list[Mapping[str, Any]]:
    """Return the points of an array; one that is no object lacks everything."""
    if not isinstance(answer, Sequence) or isinstance(answer, str):
        raise ContractError("the answer is no array of points")
    return [row if isinstance(row, Mapping) else {} for row in answer]


def _point(
    series: str,
    number: int,
    when: Any,
    value: Any,
    asked: Asked,
    amounts: tuple[Any, ...] | None = None,
) -> _Point:
    at = _instant(when)
    fault = ""
    if at is None:
        fault = "the time is no number of seconds since 1970"
    elif at.date() < FIRST_BLOCK:
        fault = f"the time lies before the first block of any chain ({FIRST_BLOCK})"
    elif at.date() > asked.observed_at.astimezone(UTC).date():
        fault = "the time lies in the future"
    return _Point(series, number, when, value, amounts or (value,), at, fault)


def _instant(when: Any) -> datetime | None:
    """Return epoch seconds (a number, or a number as text) as UTC, None where they are none."""
    if isinstance(when, bool):
        return None
    try:
        return datetime.fromtimestamp(float(when), tz=UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def _fault_of_value(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "the value is missing or not a number"
    if not isfinite(value):
        return "the value is not a finite number"
    return "the value is negative" if value < 0 else ""


def _value(day: date, points: list[_Point], name: Any, asked: Asked) -> dict[str, Any]:
    # PostgreSQL keeps no NUL character.
    shown = name.replace("\0", "\ufffd")[:_TEXT_LENGTH] if isinstance(name, str) else ""
    return {
        "protocol": asked.protocol,
        "metric": asked.metric,
        "day": datetime.combine(day, time()),  # noqa: DTZ001  # a date, as a frame has it
        # To the cent: what differs beyond is the noise of adding, not a restatement.
        "value_usd": round(fsum(float(each) for point in points for each in point.amounts), 2),
        "is_final": _midnight(day) + timedelta(days=1) <= asked.asked_at,
        "point_at": max(point.at for point in points if point.at is not None),
        "observed_at": asked.observed_at,
        "protocol_name": shown or asked.protocol,
        "source": SOURCE_NAME,
    }


def _refused(point: _Point, reason: str, asked: Asked) -> dict[str, Any]:
    return {
        "symbol": asked.protocol,
        "ts": point.at,
        "reason": reason,
        "source": SOURCE_NAME,
        "origin": asked.origin,
        "row_number": point.number,
        "payload": {
            "metric": asked.metric,
            "series": point.series,
            "date": str(point.date)[:_TEXT_LENGTH],
            "value": str(point.value)[:_TEXT_LENGTH],
        },
    }


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
