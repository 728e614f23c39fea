"""Alerts: the routes, and what clients are told of them."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from scizor_core.errors import InvalidInputError
from scizor_resources.errors import WarehouseError
from scizor_sidecar.face.answers import documented, respond
from scizor_sidecar.face.problems import NotFound
from scizor_sidecar.face.state import FaceState
from scizor_sidecar.face.wire import as_iso

#: So often is looked for new alerts.
LOOK_SECONDS = 3.0
_LARGEST_ID = 2**62


class AlertModel(BaseModel):
    """Something that somebody should look at."""

    id: int
    severity: str = Field(description="critical, high, medium or low.")
    kind: str
    title: str
    market: str | None
    raised_at: str
    acknowledged: bool
    resolved_at: str | None
    resolution: str | None


class AlertsModel(BaseModel):
    """Alerts, the worst and newest first."""

    count: int
    alerts: list[AlertModel]


class Acknowledgement(BaseModel):
    """Who looks after it."""

    model_config = ConfigDict(extra="forbid")
    by: str = Field("", max_length=100, pattern=r"^[^\x00-\x1f]*$")


class AcknowledgedModel(BaseModel):
    """What became of it."""

    id: int
    changed: bool = Field(description="False where it had been acknowledged before.")


def alerts_router(state: FaceState, watch: "AlertWatch") -> APIRouter:
    """Return the routes of the alerts."""
    router = APIRouter(prefix="/api/alerts", tags=["alerts"])
    alerts, ask = state.platform.alerts, state.threads.ask

    @router.get(
        "", summary="The worst and newest first", responses=documented(AlertsModel),
        response_model=None,
    )  # fmt: skip
    async def list_alerts(
        everything: Annotated[
            bool, Query(alias="all", description="Those that are over, too.")
        ] = False,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> Response:
        rows = await ask(lambda: alerts.history(limit) if everything else alerts.open_alerts())
        items = [alert_item(row) for row in rows[:limit]]
        return respond({"count": len(items), "alerts": items})

    @router.post(
        "/{alert_id}/acknowledge", summary="Say that somebody looks after it",
        responses=documented(AcknowledgedModel), response_model=None,
    )  # fmt: skip
    async def acknowledge(
        alert_id: Annotated[int, Path(ge=1, le=_LARGEST_ID)], body: Acknowledgement | None = None
    ) -> Response:
        by = body.by if body is not None else ""
        try:
            changed = await ask(lambda: alerts.acknowledge([alert_id], by))
        except InvalidInputError as error:
            raise NotFound(str(error)) from None
        await watch.look()
        return respond({"id": alert_id, "changed": bool(changed)})

    return router


def alert_item(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return an alert as it goes over the wire."""
    resolved_at = row["resolved_at"]
    return {
        "id": row["alert_id"],
        "severity": row["severity"],
        "kind": row["kind"],
        "title": " ".join(row["title"].split()),
        "market": row["detail"].get("market"),
        "raised_at": as_iso(row["raised_at"]),
        "acknowledged": row["acknowledged_at"] is not None,
        "resolved_at": None if resolved_at is None else as_iso(resolved_at),
        "resolution": row["resolution"] or None,
    }


class AlertWatch:
    """Tells clients of alerts that are new, change or are over.

    Args:
        state: platform and hub.
    """

    def __init__(self, state: FaceState) -> None:
        self._state = state
        self._standing: dict[int, dict[str, Any]] = {}

    async def look(self) -> None:
        """Look once; what cannot be read now is looked for the next time."""
        alerts = self._state.platform.alerts
        try:
            rows = await self._state.threads.ask(alerts.open_alerts)
        except WarehouseError:
            return
        hub = self._state.hub
        found = {row["alert_id"]: alert_item(row) for row in rows}
        for number, item in found.items():
            if self._standing.get(number) != item:
                hub.announce(("alert", number), {"type": "alert", **item})
        for number in self._standing.keys() - found.keys():
            over = {**self._standing[number], "resolved_at": as_iso(self._state.now())}
            hub.announce(("alert", number), {"type": "alert", **over}, keep=False)
        self._standing = found
