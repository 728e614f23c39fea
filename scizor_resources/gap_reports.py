"""What is asked of the ledger of gaps: which there are, and why a minute is empty."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from scizor_core.errors import InvalidInputError
from scizor_core.gaps import (
    ABSENT,
    DELISTED,
    FEED_DOWN,
    HALTED,
    NO_TRADES,
    NOT_FETCHED,
    OUTSIDE_HISTORY,
    REASONS,
    REFUSED,
)
from scizor_core.instruments import Instrument
from scizor_core.markets import MARKETS, TIMEFRAME_MINUTES, Timeframe
from scizor_core.sessions import Session, get_calendar
from scizor_resources.stores.warehouse import Warehouse

STATUSES: tuple[str, ...] = ("open", "given up", "explained")

_LIST = """
SELECT s.market, s.symbol, g.timeframe, g.session_date, g.start_ts, g.end_ts, g.reason, g.status,
    g.attempts, g.last_attempt_at, g.next_attempt_at, g.detected_at, g.source, g.detail,
    (extract(epoch FROM g.end_ts - g.start_ts) / CASE g.timeframe
        WHEN '1m' THEN 60 WHEN '5m' THEN 300 WHEN '15m' THEN 900 ELSE 86400 END)::integer AS bars
FROM quality.gaps AS g JOIN public.symbols AS s USING (instrument_id)
WHERE (%(market)s::text IS NULL OR s.market = %(market)s)
    AND (%(ids)s::int[] IS NULL OR g.instrument_id = ANY(%(ids)s))
    AND (%(timeframe)s::text IS NULL OR g.timeframe = %(timeframe)s)
    AND (%(since)s::date IS NULL OR g.session_date >= %(since)s)
    AND (%(until)s::date IS NULL OR g.session_date < %(until)s)
    AND (%(reason)s::text IS NULL OR g.reason = %(reason)s)
    AND g.status = ANY(%(statuses)s)
ORDER BY g.start_ts DESC, s.market, s.symbol, length(g.timeframe), g.timeframe
LIMIT %(limit)s
"""


def list_gaps(
    warehouse: Warehouse,
    *,
    market: str | None = None,
    instrument_ids: Sequence[int] | None = None,
    timeframe: Timeframe | None = None,
    since: date | None = None,
    until: date | None = None,
    reason: str | None = None,
    statuses: Sequence[str] = STATUSES,
    limit: int | None = None,
) -> list[dict[str, Any]]:
    """Return gaps, the newest first.

    Args:
        warehouse: where they are.
        market: only this market's.
        instrument_ids: only these instruments'.
        timeframe: only of bars of this length.
        since: first session date.
        until: first session date no longer asked for.
        reason: only with this reason.
        statuses: only in one of these states.
        limit: at most so many.

    Returns:
        Columns of `quality.gaps` with market and symbol; `bars` is the number of absent ones.

    Raises:
        InvalidInputError: there is no such reason or status.
    """
    _check(reason, REASONS, "reason")
    for status in statuses:
        _check(status, STATUSES, "status")
    parameters = {
        "market": market,
        "ids": None if instrument_ids is None else list(instrument_ids),
        "timeframe": timeframe,
        "since": since,
        "until": until,
        "reason": reason,
        "statuses": list(statuses),
        "limit": limit,
    }
    with warehouse.connect() as connection:
        return connection.execute(_LIST, parameters).fetchall()


def _check(value: str | None, known: Sequence[str], what: str) -> None:
    if value is not None and value not in known:
        names = ", ".join(f"'{each}'" for each in known)
        raise InvalidInputError(f"'{value}' is no {what} of a gap. Use one of {names}.")


@dataclass(frozen=True)
class Why:
    """Why a bar is there or not.

    Attributes:
        market, symbol, timeframe: which bar.
        start: its start, UTC.
        sentence: the answer.
        bar: its values, None where it is not stored.
        gap: the gap it lies in, None where it lies in none.
    """

    market: str
    symbol: str
    timeframe: Timeframe
    start: datetime
    sentence: str
    bar: dict[str, Any] | None = None
    gap: dict[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it for a program."""
        return asdict(self)


def why(
    warehouse: Warehouse,
    instrument: Instrument,
    timeframe: Timeframe,
    at: datetime,
    now: datetime,
) -> Why:
    """Say in one sentence why the bar that holds an instant is there, or is not.

    Args:
        warehouse: bars and gaps.
        instrument: whose.
        timeframe: length of the bar.
        at: the instant, aware; for a daily bar any of its session.
        now: the present, aware.
    """
    calendar = get_calendar(instrument.market)
    zone = ZoneInfo(calendar.market.timezone)
    start, session = _place(instrument.market, timeframe, at, zone)
    local = start.astimezone(zone)
    shown = f"{local:%Y-%m-%d}" if timeframe == "1d" else f"{local:%Y-%m-%d %H:%M %Z}"
    if timeframe == "1d":
        shown = f"{start:%Y-%m-%d}"
    subject = f"{timeframe} bar of {instrument.symbol} at {shown}"
    place = (instrument.market, instrument.symbol, timeframe, start)
    bar = _bar(warehouse, instrument, timeframe, start)
    if bar is not None:
        prices = ", ".join(f"{name} {bar[name]:g}" for name in ("open", "high", "low", "close"))
        sentence = (
            f"The {subject} is there: {prices}, volume {bar['volume']:g}, from {bar['source']}."
        )
        return Why(*place, sentence, bar=bar)
    gap = _gap(warehouse, instrument, timeframe, start)
    if gap is not None:
        return Why(*place, f"There is no {subject}: {_because(gap, zone)}.", gap=gap)
    return Why(*place, f"There is no {subject}: {_outside(instrument, session, start, now, zone)}.")


def _place(
    market: str, timeframe: Timeframe, at: datetime, zone: ZoneInfo
) -> tuple[datetime, Session | None]:
    """Return the start of the bar that holds an instant, and its session."""
    calendar = get_calendar(market)
    moment = at.astimezone(UTC)
    day = moment.astimezone(zone).date()
    session = calendar.session(day)
    if timeframe == "1d":
        return datetime.combine(day, time(), UTC), session
    step = timedelta(minutes=TIMEFRAME_MINUTES[timeframe])
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return moment - since % step, session


def _bar(
    warehouse: Warehouse, instrument: Instrument, timeframe: Timeframe, start: datetime
) -> dict[str, Any] | None:
    frame = warehouse.read_bars(
        timeframe,
        start,
        start + timedelta(microseconds=1),
        instrument_ids=[instrument.instrument_id],
    )
    if frame.empty:
        return None
    row = frame.iloc[0]
    numbers = {name: float(row[name]) for name in ("open", "high", "low", "close", "volume")}
    return {**numbers, "source": str(row["source"]), "is_final": bool(row["is_final"])}


def _gap(
    warehouse: Warehouse, instrument: Instrument, timeframe: Timeframe, start: datetime
) -> dict[str, Any] | None:
    with warehouse.connect() as connection:
        return connection.execute(
            "SELECT * FROM quality.gaps WHERE instrument_id = %s AND timeframe = %s "
            "AND start_ts <= %s AND end_ts > %s",
            [instrument.instrument_id, timeframe, start, start],
        ).fetchone()


def _because(gap: dict[str, Any], zone: ZoneInfo) -> str:
    """Return a clause without a full stop."""
    detail = str(gap["detail"]).strip().rstrip(".")
    said = f" ({detail})" if detail else ""
    source = f" {gap['source']}" if gap["source"] else " a source"
    clause = {
        NO_TRADES: f"nothing traded,{source} has seen every trade of that time",
        HALTED: f"trading was halted{said}",
        DELISTED: detail or "it is delisted",
        OUTSIDE_HISTORY: detail or "no provider goes back that far",
        FEED_DOWN: f"the feed was down{said}",
        REFUSED: f"the provider refuses it{said}",
        ABSENT: f"no source has it{said}",
        NOT_FETCHED: "nobody has been asked for it yet, or the provider is still late with it",
    }[gap["reason"]]
    if gap["reason"] == OUTSIDE_HISTORY and gap["source"] != "listing":
        clause = f"it lies before what the providers keep{said}"
    if gap["status"] == "open":
        due = gap["next_attempt_at"].astimezone(zone)
        tries = {0: "", 1: "asked again once, "}.get(
            gap["attempts"], f"asked again {gap['attempts']} times, "
        )
        clause += f"; {tries}next on {due:%Y-%m-%d at %H:%M %Z}"
    elif gap["status"] == "given up":
        clause += "; it is not asked for again"
    return clause


def _outside(
    instrument: Instrument,
    session: Session | None,
    start: datetime,
    now: datetime,
    zone: ZoneInfo,
) -> str:
    """Return why there is neither a bar nor a gap."""
    name = MARKETS[instrument.market].name
    day = start.astimezone(zone).date()
    if start >= now:
        return "that time has not come yet"
    if session is None:
        return f"{name} is closed on {day:%A %Y-%m-%d}"
    is_daily = start.hour == start.minute == 0 and start.date() == session.session_date
    if not (session.open <= start < session.close) and not is_daily:
        opens, closes = session.open.astimezone(zone), session.close.astimezone(zone)
        return (
            f"{name} trades from {opens:%H:%M} to {closes:%H:%M} ({opens:%Z}) on that day, and a "
            "closing auction prints only where it finds a price"
        )
    if session.close > now:
        return "it has not ended, or nobody has looked since it has"
    absence = instrument.absence_on(session.session_date, session.session_date)
    if absence is not None:
        return absence
    return (
        f"{instrument.symbol} is not collected at that timeframe, or its session was never "
        "measured: see `scizor watchlist list`"
    )
