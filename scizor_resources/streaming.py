"""What the streaming sidecar tells the other processes, in Valkey."""

import json
from collections.abc import Callable
from typing import Any

import redis

from scizor_core.markets import MARKETS
from scizor_resources.providers.registry import PROVIDERS
from scizor_resources.settings import Settings
from scizor_resources.stream_settings import FEED_NAMES

#: State of the running sidecar, as JSON: who it is, its feeds, its KPIs. Gone soon after it ends.
STATE_KEY = "scizor:stream:state"
STATE_SECONDS = 20
#: Uptime of its feeds, minute by minute: the next one goes on from there.
UPTIME_KEY = "scizor:stream:uptime"
UPTIME_SECONDS = 7200


def read_state(call: Callable[[Callable[[redis.Redis], Any]], Any]) -> dict[str, Any] | None:
    """Return what the running sidecar says of itself, None where none runs.

    Args:
        call: does something with a client of Valkey, such as `ValkeyLink.call`.
    """
    told = call(lambda client: client.get(STATE_KEY))
    if told is None:
        return None
    try:
        state = json.loads(told)
    except ValueError:
        return None
    return state if isinstance(state, dict) else None


def is_wanted(settings: Settings) -> bool:
    """Say whether live feeds are to be streamed: some were chosen, or the profile is live."""
    chosen = {market: settings.stream_feeds(market) for market in MARKETS}
    if any(chosen.values()):
        return True
    return settings.profile == "live" and any(
        name in FEED_NAMES and name != "tape" and not PROVIDERS[name].missing(settings, market)
        for market, named in chosen.items()
        if named is None
        for name in settings.chain(market)
    )
