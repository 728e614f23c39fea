"""Facts out of Valkey: does it answer, and which workers are there."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis

from scizor_resources.health.report import WorkerFacts
from scizor_resources.queues import QUEUES

#: Seconds that a worker gets to answer; all are asked at once.
ANSWER_SECONDS = 1.5
_CONNECT_SECONDS = 1.0


def server_version(url: str) -> str:
    """Return the version of the Valkey (or Redis) server.

    Raises:
        redis.RedisError: it does not answer.
    """
    with _client(url) as client:
        told: dict[str, Any] = client.info("server")
    return str(told.get("valkey_version") or told.get("redis_version") or "")


def read_workers(url: str) -> WorkerFacts:
    """Ask all workers what they do.

    Source: Celery's remote control over the broker; a worker whose children are all busy answers
    too, one that hangs does not.
    """
    # These take long to import, and only this needs them.
    from celery import Celery
    from kombu.exceptions import KombuError

    from scizor_resources.endpoints import Endpoints

    broker = Endpoints("postgresql://", url).broker_url
    app = Celery(broker=broker, set_as_current=False)
    app.conf.broker_transport_options = {
        "socket_connect_timeout": _CONNECT_SECONDS,
        "socket_timeout": ANSWER_SECONDS,
    }
    try:
        with _client(url) as client:
            expected = _listening(client)
            waiting = {queue: sum(client.llen(key) for key in _keys(queue)) for queue in QUEUES}
        if expected == 0:
            return WorkerFacts(expected=0, waiting=waiting)
        active = _ask(app, "active", expected)
        queues = _ask(app, "active_queues", len(active) or expected)
    except (redis.RedisError, KombuError, OSError) as error:
        return WorkerFacts(problem=str(error).strip().rstrip(".") or type(error).__name__)
    finally:
        app.close()
    return WorkerFacts(
        {name: len(tasks) for name, tasks in sorted(active.items())},
        {name: tuple(each["name"] for each in found) for name, found in queues.items()},
        expected,
        waiting,
    )


def _ask(app: Any, question: str, limit: int | None) -> dict[str, list[dict[str, Any]]]:
    """Return worker -> answer; done as soon as `limit` of them have answered."""
    answers = app.control.broadcast(question, reply=True, timeout=ANSWER_SECONDS, limit=limit)
    return {
        name: answer
        for each in answers or []
        for name, answer in each.items()
        if isinstance(answer, list)
    }


def _listening(client: redis.Redis) -> int | None:
    """Return how many listen to the remote control, None where the server does not say.

    Workers subscribe to a pattern; nothing else of the platform does.
    """
    try:
        found: list[dict[str, str]] = client.client_list(_type="pubsub")
    except redis.ResponseError:  # not everybody may ask that
        return None
    return sum(int(each.get("psub", 0)) > 0 for each in found)


def _keys(queue: str) -> list[str]:
    """Return the lists in which messages of a queue wait, one for each step of priority."""
    # Written out, as kombu has no function for it; steps 0, 3, 6, 9 are its default.
    return [queue, *(f"{queue}\x06\x16{step}" for step in (3, 6, 9))]


@contextmanager
def _client(url: str) -> Iterator[redis.Redis]:
    client: redis.Redis = redis.Redis.from_url(
        url,
        decode_responses=True,
        socket_connect_timeout=_CONNECT_SECONDS,
        socket_timeout=ANSWER_SECONDS,
    )
    try:
        yield client
    finally:
        client.close()
