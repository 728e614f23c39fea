"""What the face is made of: the parts of the sidecar that it shows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from scizor_resources.platform import Platform
from scizor_sidecar.face.hub import Hub
from scizor_sidecar.face.threads import Threads
from scizor_sidecar.pipeline import FeedPipeline

Name = tuple[str, str]


class Metrics(Protocol):
    """What the sidecar measures of itself."""

    def as_json(self) -> Mapping[str, Any]:
        """Return all figures for programs."""

    def exposition(self) -> bytes:
        """Return all figures as Prometheus reads them."""


class Streamed(Protocol):
    """Which feed streams which instrument."""

    @property
    def streamed(self) -> Mapping[Name, str]:
        """Market and symbol -> feed, of what is streamed."""

    @property
    def not_streamed(self) -> Mapping[Name, str]:
        """Market and symbol -> why nobody streams it."""

    @property
    def without_book(self) -> Mapping[Name, str]:
        """Market and symbol -> why no order book comes, of what is to have one."""


class Healing(Protocol):
    """What is still to be fetched after outages."""

    @property
    def open_outages(self) -> Sequence[Any]:
        """Return the outages that are not healed yet."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass
class FaceState:
    """What `make_app` serves.

    Attributes:
        platform: the opened platform; asked in threads.
        hub: what fans out to clients; whoever makes it runs it.
        pipelines: feed -> its pipeline.
        metrics: of the process, None where nobody measures.
        subscriptions: who streams what, None where nothing is.
        healer: outages, None where nothing is healed.
        now: clock, aware.
        threads: where blocking work is done.
        host: the address that is listened on, None where it is that of the settings.
        why_not_ready: reasons of other parts for not being ready, each a sentence.
    """

    platform: Platform
    hub: Hub
    pipelines: Mapping[str, FeedPipeline]
    metrics: Metrics | None = None
    subscriptions: Streamed | None = None
    healer: Healing | None = None
    now: Callable[[], datetime] = _utc_now
    threads: Threads = field(default_factory=Threads)
    host: str | None = None
    why_not_ready: Callable[[], Sequence[str]] = tuple
