"""What is to be said of markets: whether they trade, whether their bars are there and whole.

A closed market is not stale: bars have to be known up to its last close, and not beyond. How late
they may be stands in the alert rules (`staleness_minutes`), Yahoo's delay included.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from scizor_core.markets import MARKETS
from scizor_resources.health.clock import MarketClock, market_clock, market_clocks
from scizor_resources.health.judging import count, named
from scizor_resources.health.report import Check, Facts, State, SymbolFact
from scizor_resources.health.spans import span

#: A symbol that has just come onto the watchlist gets so long until its first bars.
SETTLING = timedelta(minutes=15)
_NOT_AUTOMATED = (
    "Nothing refreshes this market by itself: `scizor up --live`, or switch it on in the UI under "
    "Automation."
)


@dataclass(frozen=True)
class Freshness:
    """How fresh a symbol is.

    Attributes:
        is_late: later than is usual.
        is_stale: much later.
    """

    is_late: bool
    is_stale: bool


def freshness_of(symbol: SymbolFact, clock: MarketClock, facts: Facts) -> Freshness:
    """Return whether a symbol's bars are there up to when they have to be."""
    limits = facts.thresholds["staleness_minutes"]
    if symbol.timeframe is None or facts.at - symbol.added_at < SETTLING:
        return Freshness(is_late=False, is_stale=False)
    late, stale = (
        _is_behind(symbol.heard_until, clock.known_until(timedelta(minutes=each), symbol.timeframe))
        for each in (limits.warn, limits.fail)
    )
    return Freshness(late, stale)


def _is_behind(heard: datetime | None, needed: datetime | None) -> bool:
    return needed is not None and (heard is None or heard < needed)


def is_automated(market: str, facts: Facts) -> bool:
    """Say whether a sensor or schedule refreshes the market by itself."""
    known = facts.dagster.automations if facts.dagster is not None else {}
    return any(is_on and name.startswith(f"{market}_intraday") for name, is_on in known.items())


def markets(facts: Facts) -> Iterator[Check]:
    """Say of each market whether it trades, and until when."""
    for market, clock in market_clocks(facts.at).items():
        detail = {"open": clock.is_open, "changes_at": clock.changes_at}
        yield Check("markets", market, "ok", trading(clock), detail)


def trading(clock: MarketClock) -> str:
    """Return whether a market trades, and how long that lasts."""
    if clock.always:
        return "Open around the clock."
    if clock.changes_at is None:
        return "Closed; its calendar ends here."
    left = span(clock.changes_at - clock.at)
    if clock.is_open:
        return f"Open, closes in {left} ({clock.changes_at:%H:%M}Z)."
    return f"Closed, opens in {left} ({clock.changes_at:%a %Y-%m-%d %H:%M}Z)."


def freshness(facts: Facts) -> Iterator[Check]:
    """Say of each watched market whether its bars are as new as they can be."""
    for market in MARKETS:
        symbols = [each for each in facts.symbols or () if each.market == market]
        collected = [each for each in symbols if each.timeframe is not None]
        if not collected:
            yield Check("freshness", market, "ok", "Nothing of it is collected.")
            continue
        clock = market_clock(market, facts.at)
        yield _intraday(market, collected, clock, facts)
        yield _daily(market, collected, clock, facts)


def _intraday(
    market: str, symbols: Sequence[SymbolFact], clock: MarketClock, facts: Facts
) -> Check:
    found = {each.symbol: freshness_of(each, clock, facts) for each in symbols}
    late = [name for name, each in found.items() if each.is_late]
    stale = [name for name, each in found.items() if each.is_stale]
    detail = {
        "behind": {each.symbol: each.heard_until for each in symbols if found[each.symbol].is_late}
    }
    if not late:
        known = [each.heard_until for each in symbols if each.heard_until is not None]
        until = f", known until {max(known):%Y-%m-%d %H:%M}Z" if known else ""
        return Check("freshness", market, "ok", f"{count(len(symbols), 'symbol')}{until}.", detail)
    automated = is_automated(market, facts)
    state: State = "fail" if automated and 2 * len(stale) > len(symbols) else "warn"
    unknown = [each.symbol for each in symbols if each.instrument_id is None]
    said = f"{len(late)} of {count(len(symbols), 'symbol')} are behind: {named(late)}. "
    if unknown:
        said += f"The platform does not know {named(unknown)} yet. "
    said += (
        "See `scizor providers` and the failed runs, or `scizor materialize "
        f"{market}/bars_5m --partition {_session(clock)}`."
        if automated
        else _NOT_AUTOMATED
    )
    return Check("freshness", market, state, said, detail)


def _session(clock: MarketClock) -> str:
    return "DATE" if clock.session is None else clock.session.session_date.isoformat()


def _daily(market: str, symbols: Sequence[SymbolFact], clock: MarketClock, facts: Facts) -> Check:
    session = clock.daily_session
    behind = [
        each.symbol
        for each in symbols
        if session is not None
        and facts.at - each.added_at >= SETTLING
        and (each.daily_session is None or each.daily_session < session.session_date)
    ]
    name = f"{market} 1d"
    if session is None or not behind:
        until = "" if session is None else f" of {session.session_date} and before"
        return Check("freshness", name, "ok", f"Daily bars{until} are there.")
    month = session.session_date.replace(day=1)
    said = (
        f"{len(behind)} of {count(len(symbols), 'symbol')} have no daily bar of "
        f"{session.session_date}: {named(behind)}. `scizor materialize {market}/bars_1d "
        f"--partition {month}` fetches it."
    )
    return Check("freshness", name, "warn", said, {"behind": behind})


def completeness(facts: Facts) -> Iterator[Check]:
    """Say of each watched market how whole its last session is that should be."""
    for market in MARKETS:
        collected = [
            each
            for each in facts.symbols or ()
            if each.market == market and each.timeframe is not None
        ]
        session = market_clock(market, facts.at).judged_session
        if collected and session is not None:
            measured = {
                each.symbol: 100 * fact.coverage
                for each in collected
                if (fact := each.sessions.get(session.session_date)) is not None
                and fact.coverage is not None
            }
            yield _whole(market, len(collected), f"{session.session_date}", measured, facts)
    yield _gaps(facts)


def _whole(
    market: str, symbols: int, session: str, measured: dict[str, float], facts: Facts
) -> Check:
    limits = facts.thresholds["completeness_percent"]
    detail = {"session": session, "percent": {k: round(v, 2) for k, v in measured.items()}}
    automated = is_automated(market, facts)
    if not measured:
        said = f"Session {session} has not been measured. "
        said += f"Materialize {market}/completeness." if automated else _NOT_AUTOMATED
        return Check("completeness", market, "warn", said, detail)
    low = sorted(
        (each for each in measured if measured[each] < limits.warn), key=measured.__getitem__
    )
    lowest = min(measured.values())
    mean = sum(measured.values()) / len(measured)
    said = f"{session}: {mean:.1f} % of {count(len(measured), 'symbol')} on average"
    said += "" if len(measured) == symbols else f", {symbols - len(measured)} not measured"
    if not low:
        return Check("completeness", market, "ok", f"{said}.", detail)
    bad = sum(each < limits.fail for each in measured.values())
    state: State = "fail" if automated and 2 * bad > len(measured) else "warn"
    said += (
        f"; {len(low)} below {limits.warn:g} %: {named(low)}, down to {lowest:.1f} %. "
        f"{market}.gaps has the reasons."
    )
    return Check("completeness", market, state, said, detail)


def _gaps(facts: Facts) -> Check:
    known = facts.gaps
    if known is None:
        return Check("completeness", "gaps", "unknown", "Nobody could be asked.")
    if not known.overdue:
        return Check("completeness", "gaps", "ok", f"{count(known.due, 'gap')} due for a next try.")
    said = (
        f"{count(known.overdue, 'gap')} should have been asked for again more than an hour ago: "
        "switch the sensor gap_repair on, or look at what is in the queue."
    )
    return Check("completeness", "gaps", "warn", said)
