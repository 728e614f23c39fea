"""A headless Chromium over its debugging protocol: as much of it as the tests of the page need."""

import asyncio
import base64
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import websockets
from websockets.asyncio.client import ClientConnection

NAMES = ("chromium", "chromium-browser", "google-chrome")
_LARGEST = 64 * 2**20
_START_SECONDS = 60


def find() -> str | None:
    """Return the path of a Chromium, None where there is none."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Tab:
    """One page."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._number = socket, 0
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        #: Addresses that were asked for, and errors that the page has made.
        self.requested: list[str] = []
        self.errors: list[str] = []

    async def read(self) -> None:
        """Take what the browser says, until it ends."""
        async for text in self._socket:
            message = json.loads(text)
            if "id" in message:
                self._waiting.pop(message["id"]).set_result(message)
                continue
            about = message["params"]
            if message["method"] == "Network.requestWillBeSent":
                self.requested.append(about["request"]["url"])
            elif message["method"] == "Runtime.exceptionThrown":
                self.errors.append(_of_exception(about["exceptionDetails"]))
            elif message["method"] == "Log.entryAdded" and about["entry"]["level"] == "error":
                self.errors.append(about["entry"]["text"])

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Ask the browser for something."""
        self._number += 1
        answer = self._waiting[self._number] = asyncio.get_running_loop().create_future()
        request = {"id": self._number, "method": method, "params": parameters}
        await self._socket.send(json.dumps(request))
        message = await asyncio.wait_for(answer, 60)
        if "error" in message:
            raise RuntimeError(f"{method}: {message['error']}")
        result: dict[str, Any] = message["result"]
        return result

    async def value(self, expression: str) -> Any:
        """Return what an expression is in the page; promises are waited for."""
        result = await self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in result:
            raise RuntimeError(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    async def until(self, expression: str, seconds: float = 20) -> None:
        """Wait until an expression holds in the page."""
        watched = (
            "new Promise((done) => { const look = () => "
            f"({expression}) ? done(true) : setTimeout(look, 50); look(); }})"
        )
        await asyncio.wait_for(self.value(watched), seconds)

    async def viewport(
        self, width: int, height: int, *, scale: float = 1, mobile: bool = False
    ) -> None:
        """Set the size of the window."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=mobile,
        )

    async def scheme(self, name: str) -> None:
        """Let the system be light or dark."""
        feature = {"name": "prefers-color-scheme", "value": name}
        await self.call("Emulation.setEmulatedMedia", features=[feature])

    async def picture(self, path: Path) -> None:
        """Write a picture of what is seen."""
        answer = await self.call("Page.captureScreenshot", format="png")
        await asyncio.to_thread(path.write_bytes, base64.b64decode(answer["data"]))


def _of_exception(details: dict[str, Any]) -> str:
    return str(details.get("exception", {}).get("description", details["text"]))


async def _port_of(profile: Path) -> tuple[str, str]:
    said = profile / "DevToolsActivePort"
    async with asyncio.timeout(_START_SECONDS):
        while not said.exists() or len(said.read_text().split()) < 2:  # noqa: ASYNC110, ASYNC240, PLR2004  # another process writes it
            await asyncio.sleep(0.1)
    port, path = said.read_text().split()  # noqa: ASYNC240  # two short lines
    return port, path


@asynccontextmanager
async def tab(profile: Path) -> AsyncIterator[Tab]:
    """Start a Chromium with a new profile; gives its first page."""
    command = find()
    if command is None:
        raise FileNotFoundError("no Chromium")
    process = await asyncio.create_subprocess_exec(
        command,
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--disable-component-update",
        "--no-first-run",
        "--hide-scrollbars",
        "--remote-debugging-port=0",
        f"--user-data-dir={profile}",
        "about:blank",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        port, path = await _port_of(profile)
        target = await _first_page(f"ws://127.0.0.1:{port}{path}")
        address = f"ws://127.0.0.1:{port}/devtools/page/{target}"
        async with websockets.connect(address, max_size=_LARGEST, ping_interval=None) as socket:
            page = Tab(socket)
            reader = asyncio.create_task(page.read())
            for domain in ("Page", "Runtime", "Network", "Log"):
                await page.call(f"{domain}.enable")
            try:
                yield page
            finally:
                reader.cancel()
    finally:
        process.kill()
        await process.wait()


async def _first_page(address: str) -> str:
    async with websockets.connect(address, max_size=_LARGEST, ping_interval=None) as socket:
        while True:
            await socket.send('{"id": 1, "method": "Target.getTargets"}')
            targets = json.loads(await socket.recv())["result"]["targetInfos"]
            pages: list[str] = [each["targetId"] for each in targets if each["type"] == "page"]
            if pages:
                return pages[0]
            await asyncio.sleep(0.1)
