"""Routes of one instrument: its bars, indicators, and the events that move it."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from scizor_core.catalysts import LEAST_IMPACT, MOST_IMPACT
from scizor_core.errors import InvalidInputError
from scizor_core.indicators import INDICATOR_COLUMNS
from scizor_core.instruments import Instrument
from scizor_core.markets import check_timeframe
from scizor_core.stream.engine import BarState
from scizor_resources.market_data import MarketData
from scizor_sidecar.face.answers import End, Market, Start, documented, moment, respond
from scizor_sidecar.face.state import FaceState
from scizor_sidecar.face.stored import MOST_ROWS, bar_rows, find, indicator_rows, indicator_values
from scizor_sidecar.face.wire import as_iso, bar_item

Symbol = Annotated[
    str,
    Path(description="`CBA`, `asx:CBA`, `BTC/USD` or `BTC-USD`.", examples=["CBA", "BTC-USD"]),
]
Length = Annotated[str, Query(max_length=5, description="1m, 5m, 15m or 1d.", examples=["1m"])]
Limit = Annotated[int, Query(ge=1, le=MOST_ROWS, description="At most so many, the last ones.")]
Impact = Annotated[
    int, Query(ge=LEAST_IMPACT, le=MOST_IMPACT, description="1 (hardly moves a price) to 10.")
]

_EVENTS_DAYS = timedelta(days=365)
_MOST_EVENTS = 1_000
_EVENTS = """
SELECT first_tradable_at, published_at, type, title, description, impact, url, source, is_sample
FROM catalyst.instrument_events
WHERE instrument_id = %s AND published_at >= %s AND published_at < %s AND impact >= %s AND counts
ORDER BY published_at DESC LIMIT %s
"""


class BarModel(BaseModel):
    """A bar."""

    t: datetime = Field(description="Start of the bar, UTC.")
    o: float | None = Field(description="Open.")
    h: float | None = Field(description="High.")
    l: float | None = Field(description="Low.")  # noqa: E741  # as on the wire
    c: float | None = Field(description="Close.")
    v: float | None = Field(description="Volume, shares or coins.")
    w: float | None = Field(description="VWAP; null where no trade has set one.")
    n: int | None = Field(description="Trades; null where the source does not say.")
    state: str = Field(description="forming, closed, revised or provisional.")
    source: str = Field(description="Feed or provider; `simulated` is invented.")
    revision: int = Field(description="How often it has changed after it was closed.")
    i: dict[str, float | None] | None = Field(None, description="Indicators, where asked for.")


class BarsModel(BaseModel):
    """Bars of an instrument."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "market": "asx",
                    "symbol": "CBA",
                    "instrument_id": 1,
                    "timeframe": "1m",
                    "currency": "AUD",
                    "tier": "hot",
                    "live": 1,
                    "simulated": False,
                    "sources": {"ibkr": 1},
                    "count": 1,
                    "empty_reason": None,
                    "bars": [
                        {
                            "t": "2026-11-20T00:00:00Z",
                            "o": 170.1,
                            "h": 170.4,
                            "l": 170.0,
                            "c": 170.3,
                            "v": 1250.0,
                            "w": 170.22,
                            "n": 14,
                            "state": "closed",
                            "source": "ibkr",
                            "revision": 0,
                        }
                    ],
                }
            ]
        }
    )
    market: str
    symbol: str
    instrument_id: int
    timeframe: str
    currency: str
    tier: str = Field(description="Who answered: hot, warm, cold, or a sum such as warm+cold.")
    live: int = Field(description="Bars out of the running stream on top of that.")
    simulated: bool = Field(description="Whether any of them is invented.")
    sources: dict[str, int] = Field(description="Source -> bars.")
    count: int
    empty_reason: str | None = Field(description="Why there is none.")
    bars: list[BarModel]


class IndicatorModel(BaseModel):
    """Indicators of a bar."""

    t: datetime
    values: dict[str, float | None]


class IndicatorsModel(BaseModel):
    """Indicators of an instrument."""

    market: str
    symbol: str
    timeframe: str
    count: int
    indicators: list[IndicatorModel]


class EventModel(BaseModel):
    """Something that may move the price."""

    t: datetime = Field(description="Start of the first bar that could trade on it.")
    published_at: datetime
    type: str
    title: str
    description: str
    impact: int
    url: str
    source: str
    is_sample: bool


class EventsModel(BaseModel):
    """Events of an instrument."""

    market: str
    symbol: str
    count: int
    events: list[EventModel]


def market_router(state: FaceState) -> APIRouter:
    """Return the routes of one instrument."""
    router = APIRouter(prefix="/api/market/symbols", tags=["market"])
    data, ask = MarketData(state.platform), state.threads.ask

    @router.get(
        "/{symbol:path}/latest", summary="The last bars, the running one with them",
        responses=documented(BarsModel), response_model=None,
    )  # fmt: skip
    async def latest(
        symbol: Symbol, timeframe: Length = "1m", limit: Limit = 100, market: Market = None
    ) -> Response:
        chosen = check_timeframe(timeframe)

        def work() -> tuple[dict[str, Any], list[tuple[int, dict[str, Any]]]]:
            known = find(data, symbol, market)
            frame = data.bars(known.symbol, chosen, market=known.market, last=limit)
            return _head(frame.attrs), bar_rows(frame, chosen, state.now())

        head, stored = await ask(work)
        final = {start for start, bar in stored if bar["state"] == "closed"}
        live = {
            each.bar.start: bar_item(each)
            for each in state.hub.recent_bars(head["market"], head["symbol"], chosen)
            # Where trades are missing, whoever has repaired the bar knows better.
            if each.bar.state is not BarState.PROVISIONAL or each.bar.start not in final
        }
        rows = dict(stored) | live
        return respond(_bars(head, [rows[start] for start in sorted(rows)][-limit:], len(live)))

    @router.get(
        "/{symbol:path}/bars", summary="Bars of a window",
        responses=documented(BarsModel), response_model=None,
    )  # fmt: skip
    async def bars(
        symbol: Symbol,
        timeframe: Length = "1d",
        start: Start = None,
        end: End = None,
        limit: Limit = 1000,
        market: Market = None,
        indicators: Annotated[bool, Query(description="Add the indicators of each bar.")] = False,
    ) -> Response:
        chosen, window = check_timeframe(timeframe), (moment(start, "start"), moment(end, "end"))

        def work() -> dict[str, Any]:
            known = find(data, symbol, market)
            frame = data.bars(
                known.symbol, chosen, *window, market=known.market, indicators=indicators,
                last=limit,
            )  # fmt: skip
            rows = [item for _, item in bar_rows(frame, chosen, state.now())]
            if indicators:
                values = indicator_values(frame)
                rows = [{**row, "i": each} for row, each in zip(rows, values, strict=True)]
            return _bars(_head(frame.attrs), rows, 0)

        return respond(await ask(work))

    @router.get(
        "/{symbol:path}/indicators", summary="Indicators of stored bars",
        responses=documented(IndicatorsModel), response_model=None,
    )  # fmt: skip
    async def indicators_of(
        symbol: Symbol,
        timeframe: Length = "1m",
        start: Start = None,
        end: End = None,
        limit: Limit = 500,
        market: Market = None,
        names: Annotated[
            str | None,
            Query(max_length=1000, description="Only these, comma separated.", examples=["sma_20"]),
        ] = None,
    ) -> Response:
        chosen, window = check_timeframe(timeframe), (moment(start, "start"), moment(end, "end"))
        wanted = _indicator_names(names)

        def work() -> dict[str, Any]:
            known = find(data, symbol, market)
            frame = data.bars(
                known.symbol, chosen, *window, market=known.market, indicators=True, last=limit
            )
            rows = [
                {"t": item["t"], "values": {name: item["values"][name] for name in wanted}}
                for _, item in indicator_rows(frame)
            ]
            return {
                **_name(known), "timeframe": chosen, "count": len(rows), "indicators": rows,
            }  # fmt: skip

        return respond(await ask(work))

    @router.get(
        "/{symbol:path}/catalysts", summary="Events for the chart",
        responses=documented(EventsModel), response_model=None,
    )  # fmt: skip
    async def catalysts(
        symbol: Symbol, start: Start = None, end: End = None, min_impact: Impact = LEAST_IMPACT,
        market: Market = None,
    ) -> Response:  # fmt: skip
        now = state.now()
        until = _instant(moment(end, "end")) or now + timedelta(days=1)
        since = _instant(moment(start, "start")) or until - _EVENTS_DAYS

        def work() -> dict[str, Any]:
            known = find(data, symbol, market)
            with state.platform.warehouse.connect() as connection:
                rows = connection.execute(
                    _EVENTS, [known.instrument_id, since, until, min_impact, _MOST_EVENTS]
                ).fetchall()
            events = [_event(row) for row in reversed(rows)]
            return {**_name(known), "count": len(events), "events": events}

        return respond(await ask(work))

    return router


def _name(instrument: Instrument) -> dict[str, Any]:
    return {"market": instrument.market, "symbol": instrument.symbol}


def _head(attrs: Mapping[Any, Any]) -> dict[str, Any]:
    kept = ("market", "symbol", "instrument_id", "timeframe", "currency", "tier", "empty_reason")
    return {name: attrs.get(name) for name in kept}


def _bars(head: dict[str, Any], rows: list[dict[str, Any]], live: int) -> dict[str, Any]:
    sources: dict[str, int] = {}
    for row in rows:
        sources[row["source"]] = sources.get(row["source"], 0) + 1
    return {
        **head,
        "empty_reason": None if rows else head["empty_reason"],
        "live": min(live, len(rows)),
        "simulated": any("simulated" in source for source in sources),
        "sources": sources,
        "count": len(rows),
        "bars": rows,
    }


def _indicator_names(names: str | None) -> list[str]:
    if names is None:
        return list(INDICATOR_COLUMNS)
    wanted = [each.strip() for each in names.split(",") if each.strip()]
    unknown = [each for each in wanted if each not in INDICATOR_COLUMNS]
    if unknown or not wanted:
        raise InvalidInputError(
            f"There is no indicator '{', '.join(unknown)}'. There are "
            f"{', '.join(INDICATOR_COLUMNS)}."
        )
    return wanted


def _instant(value: date | datetime | None) -> datetime | None:
    if value is None or isinstance(value, datetime):
        return value
    return datetime(value.year, value.month, value.day, tzinfo=UTC)


def _event(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "t": as_iso(row["first_tradable_at"]),
        "published_at": as_iso(row["published_at"]),
        **{
            name: row[name]
            for name in ("type", "title", "description", "impact", "url", "source", "is_sample")
        },
    }
