"""`scizor dashboard`: the platform at a glance, in the terminal, as it goes."""

import contextlib
import os
import re
import select
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from scizor_cli.dashboard_view import Screen
    from scizor_resources.health.probe import Probe
    from scizor_resources.health.report import Facts

EXAMPLES = (
    "Examples:\n\n  scizor dashboard\n\n  scizor dashboard --every 10\n\n"
    "  scizor dashboard --once   (one frame, for a pipe or a mail)\n\n"
    "  scizor dashboard --svg dashboard.svg   (one frame as a picture)"
)
#: Looked at each time.
FAST = ("servers", "freshness", "completeness", "runs", "providers", "alerts")
#: Looked at less often: they change slowly, or asking them costs more.
SLOW = ("dagster", "workers", "collectors", "machine")
SLOW_SECONDS = 15.0
_PIECES = ("dagster", "workers", "symbols", "runs", "providers", "collectors", "alerts", "machine")
_SIZE = (100, 40)
_REMOTE_FONT = re.compile(r"\s*@font-face \{.*?\}", re.DOTALL)
_KEY_SECONDS = 0.25
#: Key -> symbols to go on by; pages are marked by their direction.
_STEPS = {"j": 1, "k": -1, "\x1b[B": 1, "\x1b[A": -1}
_PAGES = {" ": 1, "b": -1, "\x1b[6~": 1, "\x1b[5~": -1}


def dashboard(
    every: Annotated[
        float, typer.Option(min=0.5, max=3600, help="Seconds between two looks.")
    ] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Print one frame and end.")] = False,
    svg: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Save one frame as a picture and end.")
    ] = None,
) -> None:
    """Watch markets, symbols, runs, backfills, budgets and alerts until q; changes nothing.

    Simulated prices and samples are marked with ~. Where PostgreSQL or Valkey go away the last
    that was known stays, with a line that says so, until they are back.
    """
    from rich.console import Console

    from scizor_resources.health.probe import Probe
    from scizor_resources.settings import load_settings

    settings = load_settings()
    watcher = Watcher(Probe(settings, lambda: datetime.now(UTC)), every)
    width, height = shutil.get_terminal_size(_SIZE)
    try:
        if svg is not None:
            save_picture(watcher, svg, width, height)
        elif once or not sys.stdout.isatty():
            print_frame(Console(highlight=False, width=width, height=height), watcher)
        else:
            with keys() as pressed:
                watch(Console(highlight=False), watcher, pressed)
    finally:
        watcher.stop()


def print_frame(console: "Console", watcher: "Watcher") -> None:
    """Print one frame."""
    from scizor_cli.dashboard_view import frame

    console.print(frame(watcher.look(), console.width, console.height), height=console.height)


def save_picture(watcher: "Watcher", path: Path, width: int, height: int) -> None:
    """Save one frame as SVG.

    Raises:
        InvalidInputError: nothing can be written there.
    """
    from rich.console import Console

    from scizor_cli.output import output_file

    with output_file(path) as draft, Path(os.devnull).open("w") as nowhere:
        console = Console(
            file=nowhere,
            record=True,
            width=width,
            height=height,
            highlight=False,
            force_terminal=True,
            color_system="truecolor",
        )
        print_frame(console, watcher)
        # Ids are made of the content otherwise, and a new picture would differ in every line.
        picture = console.export_svg(title="scizor dashboard", unique_id="scizor")
        # Its fonts would be fetched from the internet by whoever looks at it.
        draft.write_text(_REMOTE_FONT.sub("", picture), encoding="utf-8")


class Watcher:
    """Looks again and again, in a thread of its own; keeps what was known of what has gone.

    Args:
        probe: looks.
        every: seconds between two looks.
    """

    def __init__(self, probe: "Probe", every: float) -> None:
        from scizor_resources.health.prices import PriceBoard

        self.every = every
        self.news = threading.Event()
        self.looks = 0
        self._probe, self._board = probe, PriceBoard(probe.database)
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._screen: Screen | None = None
        self._slow_at: float | None = None

    @property
    def screen(self) -> "Screen | None":
        """What was seen last, None before the first look."""
        return self._screen

    def start(self) -> None:
        """Begin to look in the background."""
        # A thread that hangs on a server must not keep the process.
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it; a look under way is not waited for."""
        self._ended.set()
        if self._thread is None or not self._thread.is_alive():
            self._probe.close()

    def _run(self) -> None:
        while not self._ended.is_set():
            began = time.monotonic()
            self.look()
            self.news.set()
            took = time.monotonic() - began
            # One that takes long is not begun again at once: the server has other things to do.
            self._ended.wait(max(self.every - took, min(took, self.every)))

    def look(self) -> "Screen":
        """Look once and return what there is to show."""
        from scizor_cli.dashboard_view import Screen
        from scizor_core.errors import ScizorError
        from scizor_resources.health.clock import market_clocks

        slow = self._slow_at is None or time.monotonic() - self._slow_at >= SLOW_SECONDS
        if slow:
            self._slow_at = time.monotonic()
        facts = self._probe.look(FAST + SLOW if slow else FAST)
        before = self._screen
        quotes = dict(before.quotes) if before is not None else {}
        away = away_sentence(facts)
        if facts.symbols is not None:
            try:
                quotes = self._board.quotes(facts.symbols, facts.at)
            except ScizorError as error:
                away = away or f"Prices could not be read: {error}"
        if before is not None:
            facts = kept(facts, before.facts)
        self._screen = Screen(facts, market_clocks(facts.at), quotes, away, self.every)
        self.looks += 1
        return self._screen


def away_sentence(facts: "Facts") -> str:
    """Return which servers cannot be asked and what to do, "" where all can."""
    from scizor_resources.health.judging import judge

    failed = [each.said for each in judge(facts, ("servers",)) if each.state == "fail"]
    if not failed:
        return ""
    return f"{' '.join(failed)} What is shown was known before; tried again all the time."


def kept(facts: "Facts", before: "Facts") -> "Facts":
    """Return the facts with what was not read this time as it was known before."""
    missing = {name: getattr(before, name) for name in _PIECES if getattr(facts, name) is None}
    if facts.dagster is not None and before.dagster is not None and not facts.dagster.up:
        # Only the database's part was looked at.
        missing["dagster"] = replace(
            before.dagster,
            heartbeats=facts.dagster.heartbeats or before.dagster.heartbeats,
            automations=facts.dagster.automations or before.dagster.automations,
        )
    return replace(facts, **missing)


def watch(console: "Console", watcher: Watcher, pressed: Callable[[float], str]) -> None:
    """Show the dashboard until q or Ctrl-C.

    Args:
        console: a terminal.
        watcher: looks; it is started here.
        pressed: waits so many seconds for a key and returns it, "" for none.
    """
    from rich.live import Live
    from rich.text import Text

    watcher.start()
    offset, size = 0, console.size
    # Drawn when there is something new, and only then: a frame is written as a whole.
    with (
        Live(Text("Looking ..."), console=console, screen=True, auto_refresh=False) as live,
        contextlib.suppress(KeyboardInterrupt),
    ):
        while True:
            key = pressed(_KEY_SECONDS)
            if key in ("q", "Q", "\x03", "\x04"):
                return
            moved = moved_by(key, offset, watcher.screen, console.size)
            if not (watcher.news.is_set() or moved != offset or console.size != size):
                continue
            watcher.news.clear()
            offset, size = moved, console.size
            _draw(live, watcher.screen, offset, size)


def _draw(live: object, screen: "Screen | None", offset: int, size: tuple[int, int]) -> None:
    from rich.live import Live

    from scizor_cli.dashboard_view import frame

    if screen is not None and isinstance(live, Live):
        live.update(frame(replace(screen, offset=offset), *size), refresh=True)


def moved_by(key: str, offset: int, screen: "Screen | None", size: tuple[int, int]) -> int:
    """Return the first symbol to show after a key; the last page is full."""
    from scizor_cli.dashboard_view import symbol_rows

    symbols = () if screen is None else screen.facts.symbols or ()
    rows = symbol_rows(*size)
    step = _STEPS.get(key, 0) + _PAGES.get(key, 0) * rows
    return max(0, min(offset + step, len(symbols) - rows))


@contextmanager
def keys() -> Iterator[Callable[[float], str]]:
    """Yield what waits for a key: single ones, without echo; nothing where stdin is no terminal."""
    if not sys.stdin.isatty():
        yield _no_key
        return
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)

    def pressed(seconds: float) -> str:
        ready, _, _ = select.select([descriptor], [], [], seconds)
        return os.read(descriptor, 16).decode(errors="replace") if ready else ""

    try:
        yield pressed
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _no_key(seconds: float) -> str:
    time.sleep(seconds)
    return ""
