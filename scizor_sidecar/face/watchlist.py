"""Routes of the watchlist: what is collected, with its last price, and how to change that."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from fastapi.responses import Response
from psycopg.errors import UniqueViolation
from pydantic import BaseModel, ConfigDict, Field

from scizor_core.errors import InvalidInputError
from scizor_core.instruments import WatchlistEntry
from scizor_core.markets import get_market
from scizor_resources.stores.reference import ReferenceStore
from scizor_sidecar.face.answers import documented, respond, without_nulls
from scizor_sidecar.face.board import Board, entry_items
from scizor_sidecar.face.problems import AlreadyThere
from scizor_sidecar.face.state import FaceState
from scizor_sidecar.face.wire import LONGEST_NAME, as_iso

_MOST_NOTES = 2_000
Tier = Annotated[int, Field(ge=1, le=3, description="1 (most liquid) to 3.")]
Notes = Annotated[str, Field(max_length=_MOST_NOTES)]
ListName = Annotated[
    str, Query(alias="list", min_length=1, max_length=LONGEST_NAME, description="Its list.")
]
MarketName = Annotated[str, Path(max_length=20, examples=["asx"])]
Code = Annotated[str, Path(max_length=LONGEST_NAME, examples=["CBA", "BTC-USD"])]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, str_strip_whitespace=True)


class NewEntry(_Strict):
    """What is to be watched."""

    symbol: str = Field(max_length=LONGEST_NAME, examples=["CBA", "BTC/USD"])
    market: str = Field("asx", max_length=20, examples=["asx"])
    tier: Tier = 2
    collect_1min: bool | None = Field(None, description="By default for tier 1.")
    collect_5min: bool = True
    active: bool = True
    notes: Notes = ""
    list: str = Field("default", min_length=1, max_length=LONGEST_NAME)


class Changes(_Strict):
    """What is to be different; what is left out stays."""

    tier: Tier | None = None
    collect_1min: bool | None = None
    collect_5min: bool | None = None
    active: bool | None = None
    notes: Notes | None = None


class EntryModel(BaseModel):
    """An entry of the watchlist."""

    market: str
    symbol: str
    list: str
    tier: int
    collect_1min: bool
    collect_5min: bool
    active: bool
    notes: str


class QualityModel(BaseModel):
    """How complete the last session is that was measured."""

    session_date: str
    score: float | None = Field(description="0 (nothing usable) to 100.")
    coverage: float | None = Field(description="0 to 1.")
    missing: int = Field(description="Bars that are to be had and are not stored.")


class WatchedModel(EntryModel):
    """An entry with what is known of it now."""

    name: str = Field(description="Long name of the instrument.")
    timezone: str = Field(description="IANA zone of its market.")
    depth: bool = Field(description="Whether its order book is wanted.")
    no_book: str | None = Field(description="Why it does not come, where that is so.")
    price: float | None
    price_at: str | None
    previous_close: float | None
    change_percent: float | None = Field(description="Against the previous close.")
    source: str
    is_simulated: bool
    is_sampled: bool = Field(
        description="A sample: of a quote, or of the trades where not all of them come."
    )
    feed: str | None = Field(description="Who streams it.")
    is_live: bool = Field(description="Its feed is connected.")
    freshness: str = Field(description="fresh, late, stale, closed or none.")
    age_seconds: float | None
    market_open: bool
    quality: QualityModel | None


class WatchlistModel(BaseModel):
    """The watchlist."""

    time: str
    count: int
    entries: list[WatchedModel]


def watchlist_router(state: FaceState, board: Board) -> APIRouter:
    """Return the routes of the watchlist."""
    router = APIRouter(prefix="/api/watchlist", tags=["watchlist"])
    reference, ask = state.platform.reference, state.threads.ask

    @router.get(
        "", summary="By tier, with price, change, freshness, quality",
        responses=documented(WatchlistModel), response_model=None,
    )  # fmt: skip
    async def watchlist(
        market: Annotated[str | None, Query(max_length=20)] = None,
        name: Annotated[
            str | None, Query(max_length=LONGEST_NAME, description="Only the list of this name.")
        ] = None,
    ) -> Response:
        wanted = None if market is None else get_market(market).name
        entries = entry_items(state, await ask(board.stored), wanted, name)
        return respond({"time": as_iso(state.now()), "count": len(entries), "entries": entries})

    @router.post(
        "", summary="Watch a symbol", status_code=201,
        responses=documented(EntryModel, 201, "It is watched."), response_model=None,
    )  # fmt: skip
    async def add(body: NewEntry) -> Response:
        entry = WatchlistEntry(
            market=body.market,
            symbol=_code(body.market, body.symbol),
            priority=body.tier,
            collect_1min=body.tier == 1 if body.collect_1min is None else body.collect_1min,
            collect_5min=body.collect_5min,
            active=body.active,
            notes=_text(body.notes, "notes"),
            name=_text(body.list, "list"),
        ).checked()

        added = await ask(lambda: _add(reference, entry))
        board.forget()
        return respond(_entry(added), 201)

    @router.patch(
        "/{market}/{symbol:path}", summary="Change an entry",
        responses=documented(EntryModel), response_model=None,
    )  # fmt: skip
    async def change(
        market: MarketName, symbol: Code, body: Changes, name: ListName = "default"
    ) -> Response:
        fields = without_nulls(body.model_dump())
        if "tier" in fields:
            fields["priority"] = fields.pop("tier")
        if "notes" in fields:
            _text(fields["notes"], "notes")
        if not fields:
            raise InvalidInputError("Nothing is to be changed: name at least one field.")
        code = _code(market, symbol)
        changed = await ask(lambda: reference.change(market, code, _text(name, "list"), **fields))
        board.forget()
        return respond(_entry(changed))

    @router.delete(
        "/{market}/{symbol:path}", summary="Watch it no longer; its bars stay",
        responses=documented(EntryModel), response_model=None,
    )  # fmt: skip
    async def remove(market: MarketName, symbol: Code, name: ListName = "default") -> Response:
        code = _code(market, symbol)
        removed = await ask(lambda: reference.remove(market, code, _text(name, "list")))
        board.forget()
        return respond(_entry(removed))

    return router


def _add(reference: ReferenceStore, entry: WatchlistEntry) -> WatchlistEntry:
    try:
        return reference.add([entry])[0]
    except (InvalidInputError, UniqueViolation):
        known = {(each.market, each.symbol, each.name) for each in reference.watchlist()}
        if (entry.market, entry.symbol, entry.name) not in known:
            raise
    raise AlreadyThere(f"{entry.symbol} ({entry.market}) is in watchlist '{entry.name}' already.")


def _code(market: str, symbol: str) -> str:
    """Return a symbol in its market's spelling; in an address a pair is written with a dash."""
    spec = get_market(market)
    slashed = symbol.replace("-", "/") if spec.asset_class == "crypto" else symbol
    return spec.check_symbol(slashed)


def _text(value: str, name: str) -> str:
    if "\x00" in value or not value.isprintable():
        raise InvalidInputError(f"{name} holds characters that cannot be shown.")
    return value


def _entry(entry: WatchlistEntry) -> dict[str, Any]:
    return {
        "market": entry.market,
        "symbol": entry.symbol,
        "list": entry.name,
        "tier": entry.priority,
        "collect_1min": entry.collect_1min,
        "collect_5min": entry.collect_5min,
        "active": entry.active,
        "notes": entry.notes,
    }
