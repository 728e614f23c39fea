"""Routes of the feeds: how each is, and what is still to be healed."""

from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel, Field

from scizor_sidecar.face.answers import documented, respond
from scizor_sidecar.face.state import FaceState
from scizor_sidecar.face.wire import as_iso
from scizor_sidecar.feeds.connection import FeedState


class FeedModel(BaseModel):
    """A live feed."""

    feed: str
    market: str | None
    markets: list[str]
    state: str = Field(description="idle, connecting, connected, waiting or refused.")
    why: str
    since: str | None
    silent_seconds: float | None = Field(description="Since anything was heard, while connected.")
    streams: int = Field(description="Instruments that have come so far.")
    waiting: int = Field(description="Trades in the queue.")
    counts: dict[str, Any] = Field(description="What it has delivered since the start.")


class FeedsModel(BaseModel):
    """The live feeds."""

    time: str
    feeds: list[FeedModel]
    outages: list[dict[str, Any]] = Field(description="Those that are not healed yet.")
    not_streamed: list[dict[str, str]] = Field(description="Watched, but streamed by nobody.")


def feeds_router(state: FaceState) -> APIRouter:
    """Return the routes of the feeds."""
    router = APIRouter(prefix="/api/feeds", tags=["feeds"])

    @router.get(
        "", summary="How each live feed is", responses=documented(FeedsModel), response_model=None
    )
    async def feeds() -> Response:
        outages = state.healer.open_outages if state.healer is not None else ()
        lines = state.subscriptions.not_streamed if state.subscriptions is not None else {}
        return respond(
            {
                "time": as_iso(state.now()),
                "feeds": feed_items(state),
                "outages": _outages(outages),
                "not_streamed": [
                    {"market": market, "symbol": symbol, "why": why}
                    for (market, symbol), why in sorted(lines.items())
                ],
            }
        )

    return router


def feed_items(state: FaceState) -> list[dict[str, Any]]:
    """Return every feed as it is now."""
    found = []
    for name, pipeline in sorted(state.pipelines.items()):
        markets = sorted({each.market for each in pipeline.streams})
        connected = pipeline.state is FeedState.CONNECTED
        found.append(
            {
                "feed": name,
                "market": markets[0] if markets else None,
                "markets": markets,
                "state": pipeline.state.value,
                "why": pipeline.why,
                "since": state.hub.feed_state(name).get("since"),
                "silent_seconds": round(pipeline.silent_seconds, 3) if connected else None,
                "streams": len(pipeline.streams),
                "waiting": pipeline.waiting,
                "counts": asdict(pipeline.counts),
            }
        )
    return found


def _outages(outages: Sequence[Any]) -> list[dict[str, Any]]:
    """Return records as they are; instants become text when they are encoded."""
    return [
        asdict(each) if is_dataclass(each) and not isinstance(each, type) else {"outage": str(each)}
        for each in outages
    ]
