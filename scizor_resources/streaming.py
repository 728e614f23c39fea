"""What the streaming sidecar tells the other processes, in Valkey."""

import json
from collections.abc import Callable, Sequence
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
#: What those stream that share the work; each has a state and an uptime of its own.
CHOICES_KEY = "scizor:stream:choices"

#: Of several states these figures are added.
_SUMS = ("not_streamed", "open_outages", "bars_waiting", "batches_on_disk")
#: And of these KPIs the worse value counts.
_WORSE: dict[str, Callable[[float, float], float]] = {
    "data_latency_ms": max,
    "connection_uptime_percent": min,
}


def state_key(choice: str) -> str:
    """Return the key of the state of a sidecar that streams a choice, "" for everything."""
    return f"{STATE_KEY}:{choice}" if choice else STATE_KEY


def uptime_key(choice: str) -> str:
    """Return the key of its uptime."""
    return f"{UPTIME_KEY}:{choice}" if choice else UPTIME_KEY


def read_state(call: Callable[[Callable[[redis.Redis], Any]], Any]) -> dict[str, Any] | None:
    """Return what the running sidecar says of itself, None where none runs.

    What several say that share the work is merged.

    Args:
        call: does something with a client of Valkey, such as `ValkeyLink.call`.
    """
    states = [each for each in map(_state_of, call(_ask)) if each is not None]
    if len(states) < 2:  # noqa: PLR2004  # one is told as it is
        return states[0] if states else None
    return _merged(states)


def _ask(client: redis.Redis) -> Any:
    choices: Any = client.smembers(CHOICES_KEY)
    names = sorted(each.decode() if isinstance(each, bytes) else each for each in choices)
    return client.mget([STATE_KEY, *map(state_key, names)])


def _state_of(told: bytes | str | None) -> dict[str, Any] | None:
    if told is None:
        return None
    try:
        state = json.loads(told)
    except ValueError:
        return None
    return state if isinstance(state, dict) else None


def _merged(states: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        **states[0],
        **{
            name: ", ".join(dict.fromkeys(str(each[name]) for each in states if name in each))
            for name in ("pid", "host", "url")
        },
        **{name: sum(each.get(name, 0) for each in states) for name in _SUMS},
        "reports_problem": next(filter(None, (each.get("reports_problem") for each in states)), ""),
        "feeds": _merged_feeds([each.get("feeds", {}) for each in states]),
        "kpis": {
            kpi: _merged_kpi([each.get("kpis", {}).get(kpi, []) for each in states], worse)
            for kpi, worse in _WORSE.items()
        },
    }


def _merged_feeds(several: Sequence[dict[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for feeds in several:
        for name, feed in feeds.items():
            other = found.get(name)
            if other is None:
                found[name] = feed
                continue
            # Two connections to one provider: the one that does not stand is told.
            worse = other if feed["state"] in ("connected", "idle") else feed
            sums = {each: feed[each] + other[each] for each in ("streams", "trades_per_second")}
            found[name] = {**worse, **sums}
    return found


def _merged_kpi(
    several: Sequence[Sequence[dict[str, Any]]], worse: Callable[[float, float], float]
) -> list[dict[str, Any]]:
    found: dict[tuple[str, str | None], dict[str, Any]] = {}
    for told in several:
        for each in told:
            key = (each["subject"], each["market"])
            other = found.get(key)
            if other is None or other["value"] is None:
                found[key] = each
            elif each["value"] is not None:
                found[key] = {**each, "value": worse(each["value"], other["value"])}
    return list(found.values())


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
