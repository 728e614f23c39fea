"""What can be measured of the platform itself, for the rules in `alert_rules`.

Every function returns all subjects that its KPI has now: a subject that is no longer among them is
no longer judged. A value of None says that the subject exists and cannot be measured now.
"""

import shutil
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path

import psutil

from scizor_core.alerts import Measurement
from scizor_core.markets import MARKETS, TIMEFRAME_MINUTES, Timeframe
from scizor_core.sessions import Session, get_calendar
from scizor_resources.budget.link import ValkeyAway
from scizor_resources.collectors import COLLECTORS
from scizor_resources.platform import Platform
from scizor_resources.providers.registry import PROVIDERS
from scizor_resources.streaming import read_state

#: A session's bars are collected until so long after its close; it is judged after that.
COLLECTED_AFTER_CLOSE = timedelta(hours=2)
#: How far back a last session and a last bar are looked for.
LOOK_BACK = timedelta(days=14)
#: With fewer collections a share says nothing.
MINIMUM_RUNS = 3
NOT_STREAMING = "no streaming sidecar runs"


Measure = Callable[[Platform, datetime], list[Measurement]]


def completeness(platform: Platform, now: datetime) -> list[Measurement]:
    """Return the coverage (percent) of the last closed session, per watched symbol and timeframe.

    Source: `quality.completeness`, which the assets `<market>/completeness` write.
    """
    found: list[Measurement] = []
    for market in MARKETS:
        watched, session = _watched(platform, market), last_closed_session(market, now)
        if not watched or session is None:
            continue
        with platform.warehouse.connect() as connection:
            rows = connection.execute(
                "SELECT s.symbol, c.timeframe, c.coverage FROM quality.completeness AS c "
                "JOIN public.symbols AS s USING (instrument_id) WHERE s.market = %s "
                "AND c.session_date = %s AND c.expected > 0 AND s.delisted_on IS NULL",
                [market, session.session_date],
            ).fetchall()
        known = {(row["symbol"], row["timeframe"]): row["coverage"] for row in rows}
        for symbol, timeframe in watched:
            coverage = known.get((symbol, timeframe))
            note = f"session {session.session_date}"
            if coverage is None:
                note += " has not been measured"
            found.append(
                Measurement(
                    "completeness_percent",
                    f"{market}/{symbol} {timeframe}",
                    None if coverage is None else 100 * float(coverage),
                    market,
                    note,
                )
            )
    return found


def _watched(platform: Platform, market: str) -> list[tuple[str, Timeframe]]:
    """Return symbol and timeframe of what is collected of a market; what has left it is not."""
    entries = platform.reference.watchlist(market, active_only=True)
    listed = {
        each.symbol
        for each in platform.reference.instruments(market, [each.symbol for each in entries])
        if each.delisted_on is None
    }
    chosen: dict[tuple[str, Timeframe], None] = {}
    for entry in entries:
        if entry.symbol in listed and entry.collect_1min:
            chosen[entry.symbol, "1m"] = None
        if entry.symbol in listed and entry.collect_5min:
            chosen[entry.symbol, "5m"] = None
    return list(chosen)


def last_closed_session(market: str, now: datetime) -> Session | None:
    """Return the last session whose bars have had their time to come in."""
    sessions = get_calendar(market).sessions(
        (now - LOOK_BACK).date(), (now + timedelta(days=2)).date()
    )
    over = [each for each in sessions if each.close + COLLECTED_AFTER_CLOSE <= now]
    return over[-1] if over else None


def staleness(platform: Platform, now: datetime) -> list[Measurement]:
    """Return minutes without news, per watched symbol of the markets that trade now.

    News is a bar, or a source's word that nothing traded; before the first of a session the
    minutes count from its open.
    """
    found: list[Measurement] = []
    for market in MARKETS:
        if not get_calendar(market).is_open(now):
            continue
        watched = _watched(platform, market)
        heard = _last_heard(platform, market, now)
        opened = _trading_since(market, now)
        for symbol in dict.fromkeys(symbol for symbol, _ in watched):
            last = max(filter(None, (heard.get(symbol), opened)), default=None)
            minutes = None if last is None else max(0.0, (now - last) / timedelta(minutes=1))
            note = "" if minutes is not None else f"no bar in {LOOK_BACK.days} days"
            found.append(
                Measurement("staleness_minutes", f"{market}/{symbol}", minutes, market, note)
            )
    return found


def _last_heard(platform: Platform, market: str, now: datetime) -> dict[str, datetime]:
    """Return symbol -> end of the last bar or quiet interval that is known."""
    parameters = {"market": market, "first": now - LOOK_BACK, "now": now}
    heard: dict[str, datetime] = {}
    with platform.warehouse.connect() as connection:
        rows = connection.execute(_LAST_BARS, parameters).fetchall()
    for row in rows:
        ends = [row["quiet_until"]] if row["quiet_until"] is not None else []
        if row["ts"] is not None:
            minutes = TIMEFRAME_MINUTES[row["timeframe"]]
            ends.append(row["ts"] + timedelta(minutes=minutes))
        for end in ends:
            heard[row["symbol"]] = max(end, heard.get(row["symbol"], end))
    return heard


def _trading_since(market: str, now: datetime) -> datetime | None:
    """Return when trading began, None where it never stops."""
    calendar = get_calendar(market)
    around = calendar.sessions((now - timedelta(days=2)).date(), (now + timedelta(days=2)).date())
    begun = [each for each in around if each.open <= now]
    if not begun or (len(begun) > 1 and begun[-2].close == begun[-1].open):
        return None
    return begun[-1].open


def rate_limit_use(platform: Platform, now: datetime) -> list[Measurement]:
    """Return the use of the tightest limit (percent), per provider that is set up."""
    del now  # the budget goes by Valkey's clock
    settings = platform.settings
    names = {name for market in MARKETS for name in settings.chain(market)}
    names |= {each.provider for each in COLLECTORS if not each.missing(settings)}
    found: list[Measurement] = []
    for name in sorted(PROVIDERS[each].shares_budget_of or each for each in names):
        if PROVIDERS[name].is_local or any(each.subject == name for each in found):
            continue
        state = platform.budget(name).state()
        tightest = state.tightest
        note = state.note
        value = None
        if tightest is not None:
            value = 100 * tightest.used / tightest.limit
            note = note or f"{tightest.used} of {tightest.limit} in {tightest.seconds:g} s"
        found.append(Measurement("rate_limit_use_percent", name, value, note=note or "no limit"))
    return found


def source_success(platform: Platform, now: datetime) -> list[Measurement]:
    """Return the share of collections (percent) of the last 24 hours that were no failure."""
    with platform.warehouse.connect() as connection:
        rows = connection.execute(
            "SELECT provider, asset, count(*) AS runs, "
            "100 * avg((status <> 'failed')::integer)::float8 AS value "
            "FROM public.collector_runs WHERE started_at > %s AND started_at <= %s "
            "GROUP BY provider, asset HAVING count(*) >= %s ORDER BY provider, asset",
            [now - timedelta(days=1), now, MINIMUM_RUNS],
        ).fetchall()
    return [
        Measurement(
            "source_success_percent",
            f"{row['provider']} {row['asset']}",
            row["value"],
            note=f"{row['runs']} collections in 24 hours",
        )
        for row in rows
    ]


def disk_use(platform: Platform, now: datetime) -> list[Measurement]:
    """Return the use of the disk (percent) that holds SCIZOR_HOME."""
    del now
    place = platform.settings.home
    existing = next((each for each in (place, *place.parents) if each.exists()), Path("/"))
    usage = shutil.disk_usage(existing)
    # As df has it: what is reserved for root is not there for us.
    value = 100 * usage.used / (usage.used + usage.free)
    return [
        Measurement(
            "disk_use_percent", "SCIZOR_HOME", value, note=f"{usage.free / 2**30:.1f} GiB free"
        )
    ]


def memory_use(platform: Platform, now: datetime) -> list[Measurement]:
    """Return the use of this machine's memory (percent)."""
    del platform, now
    memory = psutil.virtual_memory()
    free = f"{memory.available / 2**30:.1f} GiB available"
    return [Measurement("memory_use_percent", "this machine", memory.percent, note=free)]


def of_stream(kpi: str) -> Measure:
    """Return the measure of a KPI that the streaming sidecar tells in Valkey."""

    def measure(platform: Platform, now: datetime) -> list[Measurement]:
        del now  # what is there is at most seconds old
        try:
            state = read_state(platform.link.call)
        except ValkeyAway as error:
            return [Measurement(kpi, "streams", None, note=str(error))]
        if state is None:
            return [Measurement(kpi, "streams", None, note=NOT_STREAMING)]
        return [
            Measurement(kpi, told["subject"], told["value"], told["market"], told["note"])
            for told in state["kpis"][kpi]
        ]

    return measure


#: KPI -> what measures it.
MEASURES: Mapping[str, Measure] = {
    "data_latency_ms": of_stream("data_latency_ms"),
    "connection_uptime_percent": of_stream("connection_uptime_percent"),
    "completeness_percent": completeness,
    "staleness_minutes": staleness,
    "rate_limit_use_percent": rate_limit_use,
    "source_success_percent": source_success,
    "disk_use_percent": disk_use,
    "memory_use_percent": memory_use,
}

_LAST_BARS = """
    SELECT s.symbol, t.timeframe,
        (SELECT max(b.ts) FROM market.bars AS b WHERE b.instrument_id = s.instrument_id
            AND b.timeframe = t.timeframe AND b.ts >= %(first)s AND b.ts <= %(now)s) AS ts,
        (SELECT max(g.end_ts) FROM quality.gaps AS g WHERE g.instrument_id = s.instrument_id
            AND g.timeframe = t.timeframe AND g.reason = 'no trades'
            AND g.start_ts >= %(first)s AND g.end_ts <= %(now)s) AS quiet_until
    FROM public.symbols AS s CROSS JOIN (VALUES ('1m'), ('5m')) AS t (timeframe)
    WHERE s.market = %(market)s AND s.delisted_on IS NULL AND EXISTS (
        SELECT 1 FROM public.watchlist AS w WHERE w.active
        AND lower(btrim(w.market)) = s.market AND upper(btrim(w.symbol)) = s.symbol)
"""
