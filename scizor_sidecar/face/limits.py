"""Of which instruments less comes live than of others: samples of trades, order books missing."""

from collections.abc import Mapping
from typing import Any

from scizor_sidecar.face.state import FaceState, Name

#: So often is looked for a change.
LOOK_SECONDS = 0.5


def sampled_live(state: FaceState) -> frozenset[Name]:
    """Return market and symbol of what is streamed as a sample of its trades."""
    streamed = None if state.subscriptions is None else state.subscriptions.streamed
    return frozenset(
        key
        for feed, pipeline in state.pipelines.items()
        for key in pipeline.sampled
        if streamed is None or streamed.get(key) == feed
    )


def without_book(state: FaceState) -> Mapping[Name, str]:
    """Return market and symbol -> why no order book comes, of those that are to have one."""
    if state.subscriptions is not None:
        return state.subscriptions.without_book
    return {
        key: why
        for pipeline in state.pipelines.values()
        for key, why in pipeline.without_book.items()
    }


class LimitWatch:
    """Tells clients when one of them changes.

    Args:
        state: feeds and hub.
    """

    def __init__(self, state: FaceState) -> None:
        self._state = state
        self._told: dict[str, Any] = {}

    async def look(self) -> None:
        """Look once."""
        found = {
            "sampled": [_id(each) for each in sorted(sampled_live(self._state))],
            "without_book": {
                _id(key): why for key, why in sorted(without_book(self._state).items())
            },
        }
        if found != self._told:
            self._told = found
            self._state.hub.announce(("limits",), {"type": "limits", **found})


def _id(name: Name) -> str:
    return ":".join(name)
