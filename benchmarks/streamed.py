"""A platform of its own that streams from a loopback exchange, for benchmarks of the process."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scizor_resources.embedded.servers import EmbeddedServers
from scizor_resources.platform import Platform
from scizor_resources.settings import load_settings
from tests.contract.lab.trade_tape import TradeTape
from tests.contract.lab.ws_exchanges import LoopbackExchange
from tests.integration.streamed import stream_from

START_SECONDS = 120.0


@contextmanager
def live_platform(
    tape: TradeTape, per_second: float
) -> Iterator[tuple[Platform, LoopbackExchange, Path]]:
    """Yield a platform, the exchange that it streams from, and a directory.

    Servers, settings and watchlist are made for it; processes started inside use them. The tape
    is held.
    """
    with (
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory(prefix="scizor-live-") as made,
        EmbeddedServers(Path(made) / "servers") as servers,
    ):
        started, folder = servers.start(), Path(made)
        patch.setenv("SCIZOR_DATABASE_URL", started.libpq_url)
        patch.setenv("SCIZOR_REDIS_URL", started.redis_url)
        patch.setenv("SCIZOR_HOME", str(folder / "home"))
        patch.chdir(folder)
        with (
            Platform.open(load_settings(), migrate=True) as platform,
            LoopbackExchange("kraken", tape, per_second=per_second) as exchange,
        ):
            exchange.hold()
            stream_from(exchange, platform, patch, tape.symbols)
            yield platform, exchange, folder
