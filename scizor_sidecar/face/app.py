"""The face as one app: page, routes, WebSocket, and who may ask."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.staticfiles import StaticFiles

from scizor_sidecar.face.alerts import LOOK_SECONDS, AlertWatch, alerts_router
from scizor_sidecar.face.board import Board
from scizor_sidecar.face.collectors import collectors_router
from scizor_sidecar.face.docs_page import docs_page
from scizor_sidecar.face.feeds import feeds_router
from scizor_sidecar.face.guard import Gatekeeper, Guard
from scizor_sidecar.face.kpis import TELL_SECONDS, Kpis, kpis_router
from scizor_sidecar.face.limits import LOOK_SECONDS as LIMITS_SECONDS
from scizor_sidecar.face.limits import LimitWatch
from scizor_sidecar.face.market import market_router
from scizor_sidecar.face.problems import add_handlers, answer
from scizor_sidecar.face.realtime import realtime_router
from scizor_sidecar.face.state import FaceState
from scizor_sidecar.face.watchlist import watchlist_router

_TITLE = "SCIZOR streaming sidecar"
_DESCRIPTION = (
    "Live and stored bars, the watchlist, feeds, collectors, alerts and figures. The WebSocket "
    "/ws/realtime is described in docs/streaming.md."
)
#: The page loads nothing from elsewhere; its chart library sets styles of its own.
_HEADERS = {
    "content-security-policy": (
        "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "connect-src 'self' ws: wss:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


def make_app(state: FaceState) -> FastAPI:
    """Return the app, to be served by `FaceServer`: the WebSocket writes to its connections.

    What clients are told beside the stream (alerts, figures) is done by the hub while it runs.

    Args:
        state: what it shows.
    """
    settings = state.platform.settings
    keeper = Gatekeeper(settings.api_key, state.host or settings.sidecar_host)
    board, kpis, watch = Board(state.platform, state.now), Kpis(state), AlertWatch(state)
    state.hub.every(LOOK_SECONDS, watch.look)
    state.hub.every(TELL_SECONDS, kpis.tell)
    state.hub.every(LIMITS_SECONDS, LimitWatch(state).look)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await state.threads.ask(board.close)
        state.threads.close()

    app = FastAPI(
        title=_TITLE,
        description=_DESCRIPTION,
        version="1",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    add_handlers(app)
    for router in (
        market_router(state),
        watchlist_router(state, board),
        feeds_router(state),
        alerts_router(state, watch),
        collectors_router(state),
        kpis_router(state, kpis),
        realtime_router(state, keeper),
    ):
        app.include_router(router)
    _add_pages(app)
    folder = page_folder()
    app.mount("/", StaticFiles(directory=folder, html=True, check_dir=False), name="page")
    app.add_middleware(Guard, keeper=keeper, open_paths=_files(folder))
    return app


def page_folder() -> Path:
    """Return the directory of the page's files."""
    return Path(str(resources.files("scizor_sidecar.face").joinpath("page")))


def _files(folder: Path) -> frozenset[str]:
    """Return the paths of the page's files: a browser asks for them without headers of ours."""
    return frozenset(f"/{each.relative_to(folder).as_posix()}" for each in folder.rglob("*.*"))


def _add_pages(app: FastAPI) -> None:
    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(docs_page(app.openapi()))

    @app.exception_handler(Exception)
    async def _unforeseen(request: Request, error: Exception) -> JSONResponse:
        del request
        return answer(500, f"Something unforeseen: {type(error).__name__}.", "See the log.")

    @app.middleware("http")
    async def _with_headers(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        found = await call_next(request)
        for name, value in _HEADERS.items():
            found.headers.setdefault(name, value)
        return found
