"""Routes of figures: KPIs with their thresholds, Prometheus, whether the process can work."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel, Field

from scizor_core.alerts import Rule
from scizor_resources.alerts.rules import RuleBook
from scizor_resources.budget.link import ValkeyAway
from scizor_resources.errors import WarehouseError
from scizor_sidecar.face.answers import documented, respond
from scizor_sidecar.face.state import FaceState
from scizor_sidecar.face.wire import as_iso, or_null

#: So often clients are told the figures.
TELL_SECONDS = 2.0
#: Rules and measurements are read again after so long: they change once a minute.
_KEPT_FOR = timedelta(seconds=10)
_UNITS = ("percent", "ms", "minutes")
#: Figures of the stream itself, which nobody has to measure first: KPI -> of a feed's state.
_LIVE = ("data_latency_ms", "connection_uptime_percent")


class KpiModel(BaseModel):
    """A figure with its thresholds."""

    name: str
    label: str
    value: float | None
    unit: str
    direction: str = Field(description="Bad is `above` or `below` the thresholds.")
    thresholds: dict[str, float] = Field(
        description="Severity -> the value beyond which it applies."
    )
    state: str = Field(description="ok, low, medium, high, critical or unknown.")
    subject: str = Field(description="What the value is of: the worst of all.")
    subjects: int
    note: str
    measured_at: str | None


class KpisModel(BaseModel):
    """All figures."""

    time: str
    kpis: list[KpiModel]
    stream: dict[str, Any] = Field(description="What the process measures of itself.")
    hub: dict[str, Any] = Field(description="What was sent to clients.")


class HealthModel(BaseModel):
    """The process lives."""

    status: str
    time: str
    clients: int
    feeds: dict[str, str]


class ReadyModel(BaseModel):
    """Whether the process can do its work."""

    ready: bool
    reasons: list[str]


class Kpis:
    """Reads the rules and what was measured, and adds what the process knows by itself.

    Args:
        state: platform, metrics, hub.
    """

    def __init__(self, state: FaceState) -> None:
        self._state = state
        self._kept: tuple[datetime, list[Rule], list[Mapping[str, Any]]] | None = None

    async def items(self) -> list[dict[str, Any]]:
        """Return every KPI as it is now.

        Raises:
            WarehouseError: the rules cannot be read.
        """
        now = self._state.now()
        if self._kept is None or now - self._kept[0] > _KEPT_FOR:
            book = self._state.platform.alert_rules
            self._kept = (now, *await self._state.threads.ask(lambda: _read(book)))
        _, rules, measured = self._kept
        feeds = self.stream().get("feeds", {})
        rows = [each for each in measured if not feeds or each["kpi"] not in _LIVE]
        rows += _of_feeds(feeds, now)
        return [
            _item(rule, [row for row in rows if row["kpi"] == rule.kpi])
            for rule in rules
            if rule.is_enabled
        ]

    def stream(self, *, symbols: bool = True) -> dict[str, Any]:
        """Return what the process measures of itself."""
        if self._state.metrics is None:
            return {}
        figures = dict(self._state.metrics.as_json())
        if not symbols:
            figures.pop("symbols", None)
        return figures

    def sent(self) -> dict[str, Any]:
        """Return what was sent to clients."""
        hub = self._state.hub
        return {"connected": len(hub.clients), **asdict(hub.counts)}

    async def tell(self) -> None:
        """Tell the clients."""
        hub = self._state.hub
        if not hub.clients:
            return
        try:
            items = await self.items()
        except WarehouseError:
            items = []
        hub.announce(
            "kpi",
            {
                "type": "kpi",
                "time": as_iso(self._state.now()),
                "data": items,
                "stream": self.stream(symbols=False),
            },
        )


def kpis_router(state: FaceState, kpis: Kpis) -> APIRouter:
    """Return the routes of figures."""
    router = APIRouter(tags=["figures"])

    @router.get(
        "/api/metrics", summary="KPIs with thresholds; figures of the stream",
        responses=documented(KpisModel), response_model=None,
    )  # fmt: skip
    async def figures() -> Response:
        return respond(
            {
                "time": as_iso(state.now()),
                "kpis": await kpis.items(),
                "stream": kpis.stream(),
                "hub": kpis.sent(),
            }
        )

    @router.get("/metrics", summary="For Prometheus", response_class=Response)
    async def prometheus() -> Response:
        told = state.metrics.exposition() if state.metrics is not None else b""
        lines = "".join(
            f"# TYPE scizor_face_{name} gauge\nscizor_face_{name} {value}\n"
            for name, value in kpis.sent().items()
        )
        return Response(told + lines.encode(), media_type="text/plain; version=0.0.4")

    @router.get(
        "/health", summary="The process lives", responses=documented(HealthModel),
        response_model=None,
    )  # fmt: skip
    async def health() -> Response:
        return respond(
            {
                "status": "ok",
                "time": as_iso(state.now()),
                "clients": len(state.hub.clients),
                "feeds": {name: each.state.value for name, each in state.pipelines.items()},
            }
        )

    @router.get(
        "/ready", summary="It can do its work; 503 with the reasons where not",
        responses=documented(ReadyModel), response_model=None,
    )  # fmt: skip
    async def ready() -> Response:
        reasons = [*state.why_not_ready(), *await state.threads.ask(lambda: _away(state))]
        return respond({"ready": not reasons, "reasons": reasons}, 503 if reasons else 200)

    return router


def _read(book: RuleBook) -> tuple[list[Rule], list[Mapping[str, Any]]]:
    return book.rules(), list(book.measurements())


def _away(state: FaceState) -> list[str]:
    reasons = []
    if not state.platform.is_usable():
        reasons.append("PostgreSQL does not answer, or has another schema than this code needs.")
    try:
        state.platform.link.call(lambda client: client.ping())
    except ValkeyAway as error:
        reasons.append(f"Valkey does not answer: {error}")
    return reasons


def _of_feeds(feeds: Mapping[str, Any], now: datetime) -> Iterable[dict[str, Any]]:
    """Return measurements of the stream itself, one for each feed."""
    for feed, known in feeds.items():
        late = known.get("data_latency_ms")
        values = {
            "data_latency_ms": late.get("p95") if isinstance(late, Mapping) else late,
            "connection_uptime_percent": known.get("uptime_percent"),
        }
        for kpi, value in values.items():
            note = "95 of 100 ticks are faster" if kpi == "data_latency_ms" else "of the last hour"
            yield {"kpi": kpi, "subject": feed, "value": value, "note": note, "measured_at": now}


def _item(rule: Rule, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    known = [row for row in rows if or_null(row["value"]) is not None]
    sign = 1 if rule.direction == "above" else -1
    worst = max(known, key=lambda row: sign * row["value"], default=None)
    shown = worst or next(iter(rows), None)
    value = None if worst is None else float(worst["value"])
    severity = None if value is None else rule.severity_of(value)
    parts = rule.kpi.split("_")
    unit = parts[-1] if parts[-1] in _UNITS else ""
    return {
        "name": rule.kpi,
        "label": " ".join(parts[:-1] if unit else parts).capitalize(),
        "value": value,
        "unit": unit,
        "direction": rule.direction,
        "thresholds": {each.value: limit for each, limit in rule.thresholds.items()},
        "state": "unknown" if value is None else severity.value if severity else "ok",
        "subject": "" if shown is None else shown["subject"],
        "subjects": len(rows),
        "note": "" if shown is None else shown["note"] or "",
        "measured_at": None if shown is None else as_iso(shown["measured_at"]),
    }
