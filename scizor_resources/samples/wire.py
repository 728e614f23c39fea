"""What the modules of samples share: a request, an answer, data, and values of a day by formula."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from scizor_resources.samples.days import METRIC_DAYS

_DATA = Path(__file__).parent / "data"
#: Steps of the deviation from a straight line between two hand-written values.
_STEPS = 21


@dataclass(frozen=True)
class Asked:
    """A request as a provider's module sees it.

    Attributes:
        path: below the base URL of the host, with a slash before it.
        query: name -> values.
        body: as sent.
        at: the present of whoever asks, UTC; nothing of later is shown.
    """

    path: str
    query: Mapping[str, Sequence[str]] = field(default_factory=dict)
    body: bytes = b""
    at: datetime = datetime.max.replace(tzinfo=UTC)

    def get(self, name: str, otherwise: str = "") -> str:
        """Return the first value of a parameter."""
        return next(iter(self.query.get(name, ())), otherwise)

    @property
    def json(self) -> Any:
        """The decoded body.

        Raises:
            ValueError: it is not JSON.
        """
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    """A status, and a body: text is a document, anything else becomes JSON."""

    body: Any
    status: int = 200


@cache
def load(name: str) -> Any:
    """Return the content of a data file, which nobody may change."""
    return json.loads((_DATA / f"{name}.json").read_text(encoding="utf-8"))


def instant(text: str) -> datetime:
    """Return a time of the data files, such as "2022-05-24T20:12:00Z"."""
    return datetime.fromisoformat(text)


def shown(items: Sequence[Mapping[str, Any]], at: datetime) -> list[Mapping[str, Any]]:
    """Return the items that are there at an instant, by their `at`, newest first."""
    known = [item for item in items if instant(item["at"]) <= at]
    return sorted(known, key=lambda item: instant(item["at"]), reverse=True)


def metric_days(at: datetime) -> list[date]:
    """Return the days with values that have begun at an instant, in order."""
    first, last = METRIC_DAYS
    days = (first + timedelta(days=n) for n in range((last - first).days + 1))
    return [day for day in days if midnight(day) <= at]


def midnight(day: date) -> datetime:
    """Return the start of a UTC day."""
    return datetime.combine(day, time(), UTC)


def value_of(anchors: Mapping[str, float], day: date, swing: float = 0.01) -> float:
    """Return a day's value: on a line between hand-written values, give or take `swing` of it.

    Args:
        anchors: ISO date -> value, at least for the first and the last day.
        day: within them.
        swing: largest deviation as a fraction; on the dates of the anchors there is none.

    Raises:
        ValueError: the day lies outside of the anchors.
    """
    if str(day) in anchors:
        return round(anchors[str(day)], 6)
    known = sorted((date.fromisoformat(text), value) for text, value in anchors.items())
    for (before, low), (after, high) in pairwise(known):
        if before < day < after:
            straight = low + (high - low) * (day - before).days / (after - before).days
            step = day.toordinal() * 8 % _STEPS - _STEPS // 2
            return round(straight * (1 + swing * step / (_STEPS // 2)), 6)
    raise ValueError(f"there is no sample value of {day}")
