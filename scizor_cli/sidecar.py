"""`scizor sidecar`: live feeds in, bars and indicators out, until Ctrl-C."""

import os
import sys
import threading
from collections.abc import Callable
from typing import Annotated

import typer

from scizor_cli.output import note

EXAMPLES = (
    "Examples:\n\n  scizor sidecar   (the feeds of SCIZOR_STREAM_..., else of the chains)\n\n"
    "  scizor sidecar --feeds kraken --symbols BTC/USD,ETH/USD\n\n"
    "  scizor sidecar --port 8791   (a second one stands by until the first has gone)"
)
#: It ends within this time of the first signal, whatever a library still waits for.
EXIT_WITHIN_SECONDS = 4.7


def sidecar(
    host: Annotated[
        str | None,
        typer.Option(help="Address of page and API; default SCIZOR_SIDECAR_HOST, 127.0.0.1."),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port; default SCIZOR_SIDECAR_PORT, 8790; 0: any."),
    ] = None,
    feeds: Annotated[
        str | None, typer.Option(help="Only these feeds of those set up, comma separated.")
    ] = None,
    symbols: Annotated[
        str | None, typer.Option(help="Only these symbols of the watchlist, comma separated.")
    ] = None,
) -> None:
    """Stream the watchlist: bars, indicators, page and API, until Ctrl-C.

    Of several sidecars on one watchlist one works; the others take over within ten seconds when it
    goes.
    """
    import uvloop

    from scizor_resources.platform import Platform
    from scizor_resources.settings import load_settings
    from scizor_sidecar.app import Options, run

    options = Options(host, port, _chosen(feeds, str.lower), _chosen(symbols, str.upper))
    settings = load_settings()
    with Platform.open(settings) as platform:
        uvloop.run(run(platform, options, note, on_stopping=_end_in_time))
    note("Stopped.")


def _chosen(text: str | None, spell: Callable[[str], str]) -> frozenset[str] | None:
    if text is None:
        return None
    return frozenset(spell(each.strip()) for each in text.split(",") if each.strip())


def _end_in_time() -> None:
    """End the process when its time is over: a library's call may wait for its own time-out."""

    def end() -> None:
        sys.stderr.flush()
        os._exit(0)

    timer = threading.Timer(EXIT_WITHIN_SECONDS, end)
    timer.daemon = True
    timer.start()
