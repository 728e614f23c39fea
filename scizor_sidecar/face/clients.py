"""What a client has asked for, what it has got, and what is to be sent to it next."""

import asyncio
import itertools
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from scizor_sidecar.face.topics import Topic, TopicName
from scizor_sidecar.face.wire import Format, encode

#: Combinations of channel, instrument and timeframe that one client may have.
MOST_SUBSCRIPTIONS = 5_000
#: Messages beside the topics that wait for one client.
_MOST_TOLD = 2_000


class TooManyError(Exception):
    """There is no room for another client, or for more subscriptions of one."""


@dataclass
class HubCounts:
    """What the hub has done since the start."""

    clients: int = 0
    refused_clients: int = 0
    requests: int = 0
    unreadable: int = 0
    messages: int = 0
    bytes: int = 0
    trades_left_out: int = 0
    closed_slow: int = 0


class Told:
    """A message for many clients, encoded once."""

    def __init__(self, message: Mapping[str, Any]) -> None:
        self._message = message
        self._encoded: dict[Format, bytes] = {}

    def encoded(self, form: Format) -> bytes:
        """Return it as it goes over the wire."""
        if form not in self._encoded:
            self._encoded[form] = encode(self._message, form)
        return self._encoded[form]


@dataclass(eq=False)
class Subscription:
    """A client's place in a topic.

    Attributes:
        seq: the last number that it has got, None where a snapshot is due.
        total: items of a log until then.
        reason: why a snapshot is due.
    """

    client: "Client"
    topic: Topic
    seq: int | None = None
    total: int = 0
    reason: str = "subscribed"

    def changed(self) -> None:
        """Note that there is something to send."""
        self.client.mark(self)


class Outgoing(NamedTuple):
    """An encoded message; `topic` where it is one's, as it was up to `received_at`."""

    payload: bytes
    topic: Topic | None = None
    received_at: int = 0


class Client:
    """What one connection has asked for, and what is to be sent to it."""

    def __init__(self, counts: HubCounts) -> None:
        self._counts = counts
        #: Whether it may be told what it has not asked for.
        self.is_welcome = False
        self.format: Format = "json"
        self.interval_ms = 0
        self.batch = False
        self.work = asyncio.Event()
        self.subscriptions: dict[TopicName, Subscription] = {}
        self._changed: dict[Subscription, None] = {}
        self._told: dict[Hashable, Told] = {}
        self._numbers = itertools.count()

    def mark(self, subscription: Subscription) -> None:
        """Note that a topic has something for this client."""
        self._changed[subscription] = None
        self.work.set()

    def unmark(self, subscription: Subscription) -> None:
        """Forget that a topic has something for this client."""
        self._changed.pop(subscription, None)

    def tell(self, message: Told | Mapping[str, Any], key: Hashable = None) -> None:
        """Send a message beside the topics; one with the same key that still waits is replaced."""
        told = message if isinstance(message, Told) else Told(message)
        self._told[("", next(self._numbers)) if key is None else key] = told
        if len(self._told) > _MOST_TOLD:
            del self._told[next(iter(self._told))]
        self.work.set()

    def take(self) -> Iterator[Outgoing]:
        """Return what is to be sent now, each message as of the moment it is taken."""
        while self._told:
            key = next(iter(self._told))
            yield Outgoing(self._told.pop(key).encoded(self.format))
        form = self.format
        # What changes while this is sent comes in the next round: all topics have their turn.
        for subscription in list(self._changed):
            topic, seq = subscription.topic, subscription.seq
            if self._changed.pop(subscription, True) is not None or not topic.is_ready:
                continue
            total, subscription.total = subscription.total, topic.total
            subscription.seq = topic.seq
            if seq is None:
                yield Outgoing(topic.snapshot(subscription.reason, form), topic)
            elif topic.seq > seq:
                yield Outgoing(topic.delta(seq, form), topic, topic.received_at)
                left_out = topic.left_out(total)
                if left_out:
                    self._counts.trades_left_out += left_out
                    yield Outgoing(encode(_left_out(topic.name.key, left_out), form))


def _left_out(key: str, count: int) -> dict[str, Any]:
    return {
        "type": "notice",
        "code": "trades_left_out",
        "text": f"{count} trades came faster than they were taken and were left out.",
        "key": key,
        "count": count,
    }
