"""The sensors that keep open markets fresh, one for each market.

Belongs here: turning what is due into run requests. Not here: when what is due
(`scizor_core.cadence`). Other than a schedule, a sensor that had to wait for a slow run asks again
as soon as that run has ended, and covers what was skipped.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import dagster as dg

from scizor_assets.automation import LAUNCHED_BY, is_under_way, sensor_status
from scizor_assets.jobs import job_of
from scizor_core.cadence import (
    Requested,
    Scope,
    Watched,
    minute_of,
    refresh_due,
    sessions_to_refresh,
    symbols_due,
    watched_of,
)
from scizor_core.errors import InvalidInputError
from scizor_core.markets import MARKETS, MarketSpec, Timeframe
from scizor_core.sessions import Session
from scizor_resources.platform import Platform
from scizor_resources.settings import get_settings

_TICK_SECONDS = 15
_PRIORITY = "10"


def build_intraday_sensor(market: MarketSpec) -> dg.SensorDefinition:
    """Return the sensor `<market>_intraday`."""
    name = f"{market.name}_intraday"

    @dg.sensor(
        name=name,
        job_name=job_of(market.name, "1m"),
        minimum_interval_seconds=_TICK_SECONDS,
        default_status=sensor_status(),
        description=(
            f"While {market.name} is open: every minute 1m and 5m bars of tier 1 with their "
            "indicators, every five minutes everything on the watchlist with completeness and "
            "checks; after the close everything three times more within 40 minutes. One run at a "
            "time, ahead of backfills."
        ),
    )
    def intraday(
        context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]
    ) -> list[dg.RunRequest] | dg.SkipReason:
        now = platform.now()
        requested = _requested(context.cursor, sessions_to_refresh(market, now))
        if not requested:
            return dg.SkipReason(f"{market.name} is closed.")
        due = {
            session: scope
            for session, before in requested.items()
            if (scope := refresh_due(session, now, before)) is not None
        }
        if not due:
            return dg.SkipReason(f"Nothing more of {market.name} is due in this minute.")
        if is_under_way(context.instance, {LAUNCHED_BY: name}):
            return dg.SkipReason(
                f"The last refresh of {market.name} is still under way; the next one covers what "
                "is skipped now."
            )
        minute = minute_of(now)
        watched = watched_of(platform.reference.watchlist(market.name, active_only=True))
        requests = []
        for session, scope in due.items():
            symbols = _collectable(platform, market, scope, watched)
            # An empty watchlist is looked at again in the next minute.
            everything = minute if scope == "all" and symbols else requested[session].everything
            requested[session] = Requested(minute, everything)
            # Every session since then is a partition; asking Dagster takes a millisecond each.
            if symbols and session.session_date >= get_settings().intraday_start:
                requests.append(build_refresh(market, session, minute, symbols))
        context.update_cursor(_cursor(requested))
        return requests or dg.SkipReason(
            f"Nothing that is watched in {market.name} is due at {minute:%H:%M} UTC."
        )

    return intraday


def build_refresh(
    market: MarketSpec,
    session: Session,
    minute: datetime,
    symbols: dict[Timeframe, list[str] | None],
) -> dg.RunRequest:
    """Return the request for one refresh of a session.

    Args:
        market: the market.
        session: the session.
        minute: the minute of the refresh, UTC.
        symbols: timeframe -> symbols, None for all. Where they are named, neither completeness
            nor checks run: they come with the next refresh of everything.
    """
    key = session.session_date.isoformat()
    ops: dict[str, dict[str, dict[str, Any]]] = {}
    for timeframe, chosen in symbols.items():
        narrowed = {} if chosen is None else {"symbols": chosen}
        ops[f"{market.name}__bars_{timeframe}"] = {"config": {"lane": "live", **narrowed}}
        if narrowed:
            ops[f"{market.name}__indicators_{timeframe}"] = {"config": narrowed}
    assets = [
        dg.AssetKey([market.name, f"{kind}_{timeframe}"])
        for timeframe in symbols
        for kind in ("bars", "indicators")
    ]
    is_whole = None in symbols.values()
    if is_whole:
        assets.append(dg.AssetKey([market.name, "completeness"]))
    return dg.RunRequest(
        run_key=f"{market.name}:{key}:{minute:%Y-%m-%dT%H:%MZ}",
        partition_key=key,
        run_config={"ops": ops},
        asset_selection=assets,
        asset_check_keys=None if is_whole else [],
        tags={"dagster/priority": _PRIORITY, LAUNCHED_BY: f"{market.name}_intraday"},
    )


def _collectable(
    platform: Platform, market: MarketSpec, scope: Scope, watched: Sequence[Watched]
) -> dict[Timeframe, list[str] | None]:
    """Return what is due, less what cannot be collected: one bad code must not stop the others."""
    due = symbols_due(scope, watched)
    named = sorted({symbol for symbols in due.values() for symbol in symbols or ()})
    if not named:
        return due
    known = _known(platform, market, named)
    kept = {
        timeframe: [symbol for symbol in symbols or () if symbol in known]
        for timeframe, symbols in due.items()
    }
    return {timeframe: symbols for timeframe, symbols in kept.items() if symbols}


def _known(platform: Platform, market: MarketSpec, symbols: Sequence[str]) -> set[str]:
    """Return those of the symbols that are listed; rows added by SQL become instruments."""
    instruments = platform.reference.instruments(market.name, symbols)
    known = {each.symbol for each in instruments if each.delisted_on is None}
    for symbol in set(symbols) - {each.symbol for each in instruments}:
        try:
            instrument, _ = platform.reference.ensure(market.name, symbol)
        except InvalidInputError:
            continue
        known.add(instrument.symbol)
    return known


def _requested(cursor: str | None, sessions: Sequence[Session]) -> dict[Session, Requested]:
    """Return what has been asked for of each session."""
    kept = json.loads(cursor or "{}")
    return {
        session: Requested(
            *(
                None if each is None else datetime.fromisoformat(each)
                for each in kept.get(session.session_date.isoformat(), ())
            )
        )
        for session in sessions
    }


def _cursor(requested: Mapping[Session, Requested]) -> str:
    return json.dumps(
        {
            session.session_date.isoformat(): [
                None if each is None else each.isoformat()
                for each in (value.minute, value.everything)
            ]
            for session, value in requested.items()
        }
    )


INTRADAY_SENSORS: list[dg.SensorDefinition] = [
    build_intraday_sensor(market) for market in MARKETS.values()
]
