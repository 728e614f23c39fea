"""Routes of the collectors: how they are, one of them at once, what they have brought."""

from collections.abc import Mapping
from datetime import UTC, date, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Query
from fastapi.responses import Response
from pydantic import BaseModel, Field

from scizor_core.catalysts import LEAST_IMPACT, MOST_IMPACT
from scizor_core.errors import ConfigError, InvalidInputError, ScizorError
from scizor_resources.collectors import COLLECTORS, account_of, get_collector, paced
from scizor_resources.dagster_api import DagsterApi
from scizor_resources.errors import ServerError, WarehouseAway
from scizor_resources.health.processes import read_up
from scizor_resources.platform import Platform
from scizor_sidecar.face.answers import documented, respond
from scizor_sidecar.face.feeds import feed_items
from scizor_sidecar.face.problems import TooSoon
from scizor_sidecar.face.state import FaceState
from scizor_sidecar.face.wire import as_iso, or_null

#: The job that holds every asset; Dagster's own name for it.
_ALL_ASSETS_JOB = "__ASSET_JOB"
#: A collector may be started by hand once in so long.
TRIGGER_EVERY = timedelta(seconds=30)
_MOST_EVENTS = 1_000
_EVENTS = """
SELECT published_at, detected_at, type, title, description, impact, url, source, form,
    symbols, first_tradable_at, is_sample
FROM catalyst.catalyst_events
WHERE published_at >= %s AND published_at <= %s AND impact >= %s AND counts
ORDER BY published_at DESC, impact DESC LIMIT %s
"""


class CollectorModel(BaseModel):
    """A source that feeds a ledger."""

    name: str
    title: str
    asset: str
    schedule: str
    state: str = Field(description="ok, partial, failed, waiting (never ran) or not set up.")
    missing: list[str] = Field(description="Settings that have to be set first.")
    last_run_at: str | None
    last_status: str
    last_records: int | None
    last_error: str | None
    runs: int = Field(description="Of the last 30 days.")
    success_rate: float | None
    is_sample: bool


class HealthModel(BaseModel):
    """Feeds and collectors."""

    time: str
    feeds: list[dict[str, Any]]
    collectors: list[CollectorModel]


class TriggerModel(BaseModel):
    """What is to be collected."""

    partition: date | None = Field(None, description="UTC day; by default today.")


class TriggeredModel(BaseModel):
    """The run that was put into the queue."""

    collector: str
    asset: str
    partition: str
    run_id: str
    url: str = Field(description="The run in Dagster's UI.")


class ProtocolsModel(BaseModel):
    """Fundamentals of DeFi protocols."""

    days: int
    count: int
    protocols: list[dict[str, Any]]


class CatalystsModel(BaseModel):
    """Events, the newest first."""

    hours: int
    count: int
    events: list[dict[str, Any]]


def collectors_router(state: FaceState) -> APIRouter:
    """Return the routes of the collectors."""
    router = APIRouter(prefix="/api/v1/collectors", tags=["collectors"])
    triggered: dict[str, Any] = {}

    @router.get(
        "/health", summary="Feeds, and collectors with their last run",
        responses=documented(HealthModel), response_model=None,
    )  # fmt: skip
    async def health() -> Response:
        found = await state.threads.ask(lambda: _statuses(state.platform))
        return respond(
            {"time": as_iso(state.now()), "feeds": feed_items(state), "collectors": found}
        )

    @router.post(
        "/{name}/trigger", summary="Collect now: hands a run to Dagster",
        responses=documented(TriggeredModel, 202, "The run is queued."), response_model=None,
        status_code=202,
    )  # fmt: skip
    async def trigger(
        name: Annotated[str, Path(max_length=64, examples=["defillama"])],
        body: Annotated[TriggerModel | None, Body()] = None,
    ) -> Response:
        collector = get_collector(name)
        now = state.now()
        day = (body.partition if body else None) or now.astimezone(UTC).date()
        if day > now.astimezone(UTC).date():
            raise InvalidInputError(f"{day} has not begun: collect a day that has.")
        missing = collector.missing(state.platform.settings)
        if missing:
            raise ConfigError(
                f"Collector '{collector.name}' is not set up: set {' and '.join(missing)}."
            )
        last = triggered.get(collector.name)
        if last is not None and now - last < TRIGGER_EVERY:
            raise TooSoon(f"{collector.title} was started less than {TRIGGER_EVERY.seconds} s ago.")
        triggered[collector.name] = now
        try:
            answer = await state.threads.ask(lambda: _launch(state.platform, name, day))
        except WarehouseAway:
            # Whether it was launched is not known: it is not launched twice.
            raise ServerError(
                "Dagster's webserver does not answer in time; the run may be queued all the same: "
                "look at its runs."
            ) from None
        except ScizorError:
            del triggered[collector.name]
            raise
        return respond(answer, 202)

    @router.get(
        "/data/glass/protocols", summary="Fundamentals of DeFi protocols",
        responses=documented(ProtocolsModel), response_model=None,
    )  # fmt: skip
    async def protocols(
        protocol: Annotated[
            str | None,
            Query(max_length=100, pattern=r"^[\w:.\-]+$", examples=["aave"]),
        ] = None,
        days: Annotated[int, Query(ge=1, le=3650, description="UTC days back.")] = 30,
    ) -> Response:
        found = await state.threads.ask(lambda: _protocols(state, protocol, days))
        return respond({"days": days, "count": len(found), "protocols": found})

    @router.get(
        "/data/catalyst/events", summary="Events that move prices, the newest first",
        responses=documented(CatalystsModel), response_model=None,
    )  # fmt: skip
    async def events(
        min_impact: Annotated[int, Query(ge=LEAST_IMPACT, le=MOST_IMPACT)] = LEAST_IMPACT,
        hours: Annotated[int, Query(ge=1, le=24 * 366, description="Hours back.")] = 24,
    ) -> Response:
        found = await state.threads.ask(lambda: _events(state, min_impact, hours))
        return respond({"hours": hours, "count": len(found), "events": found})

    return router


def _statuses(platform: Platform) -> list[dict[str, Any]]:
    settings = platform.settings
    runs = platform.providers.last_runs_by_asset()
    found = []
    for each in (paced(known, settings) for known in COLLECTORS):
        account = account_of(each, settings)
        run: Mapping[str, Any] = runs.get((account, each.asset), {})
        missing = each.missing(settings)
        ended = run.get("completed_at")
        found.append(
            {
                "name": each.name,
                "title": each.title,
                "asset": each.asset,
                "schedule": each.schedule,
                "state": _state(missing, run.get("status")),
                "missing": missing,
                "last_run_at": None if ended is None else as_iso(ended),
                "last_status": run.get("status") or "",
                "last_records": run.get("records"),
                "last_error": run.get("error"),
                "runs": run.get("runs") or 0,
                "success_rate": or_null(run.get("success_rate")),
                "is_sample": account.startswith("sample:"),
            }
        )
    return found


def _state(missing: list[str], status: str | None) -> str:
    if missing:
        return "not set up"
    return {"success": "ok", None: "waiting"}.get(status, status or "waiting")


def _launch(platform: Platform, name: str, day: date) -> dict[str, Any]:
    collector = get_collector(name)
    settings = platform.settings
    url = read_up(settings.home).ui_url or f"http://{settings.ui_host}:{settings.ui_port}"
    config = {} if collector.name == "coinspot" else {"sources": [collector.name], "lane": "live"}
    ops = {collector.asset.replace("/", "__"): {"config": config}} if config else {}
    run_id = DagsterApi(url).launch(
        _ALL_ASSETS_JOB,
        [collector.asset],
        {"ops": ops},
        {"dagster/partition": day.isoformat(), "scizor/launched_by": "api"},
    )
    return {
        "collector": collector.name,
        "asset": collector.asset,
        "partition": day.isoformat(),
        "run_id": run_id,
        "url": f"{url.rstrip('/')}/runs/{run_id}",
    }


def _protocols(state: FaceState, protocol: str | None, days: int) -> list[dict[str, Any]]:
    today = state.now().astimezone(UTC).date()
    frame = state.platform.fundamentals.read(
        today - timedelta(days=days - 1),
        today + timedelta(days=1),
        protocols=None if protocol is None else [protocol],
    )
    return [
        {
            "protocol": row["protocol"],
            "name": row["protocol_name"],
            "metric": row["metric"],
            "day": row["day"].date().isoformat(),
            "value_usd": or_null(row["value_usd"]),
            "is_final": bool(row["is_final"]),
            "observed_at": as_iso(row["observed_at"].to_pydatetime()),
            "source": row["source"],
            "is_sample": row["source"].startswith("sample:"),
        }
        for row in frame.to_dict("records")
    ]


def _events(state: FaceState, min_impact: int, hours: int) -> list[dict[str, Any]]:
    now = state.now()
    since = now - timedelta(hours=hours)
    with state.platform.warehouse.connect() as connection:
        rows = connection.execute(_EVENTS, [since, now, min_impact, _MOST_EVENTS]).fetchall()
    times = ("published_at", "detected_at", "first_tradable_at")
    return [
        row
        | {name: None if row[name] is None else as_iso(row[name]) for name in times}
        | {"symbols": row["symbols"] or []}
        for row in rows
    ]
