"""Facts out of PostgreSQL, a function for each part."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

from scizor_core.markets import TIMEFRAME_MINUTES, Timeframe
from scizor_resources.collectors import COLLECTORS, account_of, paced
from scizor_resources.dagster_tables import PARTITION_TAGS, shortened, subject_of
from scizor_resources.health import queries
from scizor_resources.health.clock import MarketClock, sessions_of_interest
from scizor_resources.health.database import Database, Row
from scizor_resources.health.report import (
    AlertFact,
    AlertFacts,
    ArchiveFacts,
    BackfillFact,
    CollectorFact,
    GapFacts,
    RunFact,
    RunFacts,
    SessionFact,
    SymbolFact,
    Thresholds,
)
from scizor_resources.settings import Settings

#: How far back a last bar is looked for.
LOOK_BACK = timedelta(days=14)
#: The finer one first.
_INTRADAY: tuple[Timeframe, ...] = ("1m", "5m")


def read_symbols(
    database: Database, clocks: dict[str, MarketClock], now: datetime
) -> tuple[SymbolFact, ...]:
    """Return the symbols of the watchlist, with the completeness of their last sessions."""
    rows = database.rows(queries.SYMBOLS, {"first": now - LOOK_BACK, "now": now})
    # In the order of the markets, and within them as the query has it.
    symbols = [_symbol(row, now) for name in clocks for row in rows if row["market"] == name]
    return _with_sessions(database, symbols, sessions_of_interest(clocks))


def _symbol(row: Row, now: datetime) -> SymbolFact:
    timeframe: Timeframe | None = "1m" if row["has_1m"] else "5m" if row["has_5m"] else None
    fact = SymbolFact(
        row["market"],
        row["symbol"],
        row["tier"],
        row["instrument_id"],
        timeframe,
        row["added_at"],
        daily_session=row["session_1d"],
    )
    ends = [end for each in _INTRADAY if (end := _end(row, each, now)) is not None]
    heard = [*ends, *([row["explained_until"]] if row["explained_until"] else [])]
    if timeframe is not None and heard:
        fact = replace(fact, heard_until=min(max(heard), now))
    return _priced(fact, row, now)


def _end(row: Row, timeframe: Timeframe, now: datetime) -> datetime | None:
    start = row[f"ts_{timeframe}"]
    if start is None:
        return None
    end: datetime = start + timedelta(minutes=TIMEFRAME_MINUTES[timeframe])
    return min(end, now)


def _priced(fact: SymbolFact, row: Row, now: datetime) -> SymbolFact:
    """Return the symbol with its last close: intraday, unless a daily bar is of a later session."""
    ended = [(end, each) for each in _INTRADAY if (end := _end(row, each, now)) is not None]
    # Of two that end together the finer one counts, which comes first.
    end, timeframe = max(ended, key=lambda each: each[0], default=(None, None))
    daily = row["session_1d"]
    if daily is not None and (timeframe is None or daily > row[f"session_{timeframe}"]):
        end, timeframe = None, "1d"
    if timeframe is None:
        return fact
    return replace(
        fact,
        price=row[f"close_{timeframe}"],
        price_at=end,
        price_session=row[f"session_{timeframe}"],
        price_timeframe=timeframe,
        source=row[f"source_{timeframe}"],
    )


def _with_sessions(
    database: Database, symbols: Sequence[SymbolFact], sessions: Sequence[tuple[str, date]]
) -> tuple[SymbolFact, ...]:
    chosen = [
        (each.instrument_id, each.timeframe, session)
        for each in symbols
        if each.instrument_id is not None and each.timeframe is not None
        for market, session in sessions
        if market == each.market
    ]
    if not chosen:
        return tuple(symbols)
    ids, timeframes, dates = (list(each) for each in zip(*chosen, strict=True))
    once = {instrument_id: timeframe for instrument_id, timeframe, _ in chosen}
    given = {
        "ids": ids,
        "timeframes": timeframes,
        "sessions": dates,
        "dates": sorted(set(dates)),
        "each_id": list(once),
        "each_timeframe": list(once.values()),
    }
    found: dict[int, dict[date, SessionFact]] = {}
    for row in database.rows(queries.SESSIONS, given):
        fact = SessionFact(row["expected"], row["missing"], row["coverage"])
        found.setdefault(row["instrument_id"], {})[row["session_date"]] = fact
    for row in database.rows(queries.SESSION_GAPS, given):
        of_symbol = found.setdefault(row["instrument_id"], {})
        fact = of_symbol.get(row["session_date"], SessionFact())
        gaps = {**fact.gaps, row["reason"]: row["gaps"]}
        of_symbol[row["session_date"]] = replace(fact, gaps=gaps)
    return tuple(replace(each, sessions=found.get(each.instrument_id or 0, {})) for each in symbols)


def read_gaps(database: Database, now: datetime) -> GapFacts:
    """Return how many gaps wait for a try that should have been made."""
    (row,) = database.rows(queries.GAPS_DUE, {"now": now})
    return GapFacts(row["due"], row["overdue"])


def read_thresholds(
    database: Database, defaults: Mapping[str, Thresholds]
) -> dict[str, Thresholds]:
    """Return KPI -> limits, as users have set them in the alert rules.

    Args:
        database: where the rules are.
        defaults: for rules that are not there.
    """
    found = dict(defaults)
    for row in database.rows(queries.THRESHOLDS):
        bounds = [row[each] for each in ("medium", "high", "critical") if row[each] is not None]
        if bounds:
            found[row["kpi"]] = Thresholds(bounds[0], bounds[-1])
    return found


def read_alerts(database: Database, now: datetime) -> AlertFacts:
    """Return the alerts that stand."""
    counts = {
        row["severity"]: (row["standing"], row["acknowledged"])
        for row in database.rows(queries.ALERT_COUNTS)
    }
    last = [
        AlertFact(
            row["alert_id"],
            row["severity"],
            row["kind"],
            " ".join(row["title"].split()),
            row["raised_at"],
            row["acknowledged"],
        )
        for row in (database.rows(queries.ALERTS) if counts else [])
    ]
    (unsent,) = database.rows(queries.ALERTS_UNSENT, {"now": now})
    return AlertFacts(counts, tuple(last), unsent["unsent"])


def read_collectors(database: Database, settings: Settings) -> tuple[CollectorFact, ...]:
    """Return the last collection of every collector that is set up."""
    ready = [each for known in COLLECTORS if not (each := paced(known, settings)).missing(settings)]
    accounts = {each.name: account_of(each, settings) for each in ready}
    given = {
        "names": [each.name for each in ready],
        "providers": [accounts[each.name] for each in ready],
        "assets": [each.asset for each in ready],
    }
    rows = {row["name"]: row for row in database.rows(queries.COLLECTORS, given)}
    found = []
    for each in ready:
        fact = CollectorFact(each.name, each.asset, each.every)
        row = rows.get(each.name)
        if row is not None:
            fact = replace(
                fact,
                last_at=row["completed_at"],
                status=row["status"],
                records=row["records"],
                error=row["error"] or "",
                is_sample=row["provider"].startswith("sample:"),
            )
        found.append(fact)
    return tuple(found)


def read_archive(database: Database, now: datetime) -> ArchiveFacts:
    """Return the state of the archive's files."""
    rows = database.rows(queries.ARCHIVE, {"now": now})
    return ArchiveFacts(
        {row["state"]: row["files"] for row in rows},
        sum(row["rows"] for row in rows),
        sum(row["unverified"] for row in rows),
        max((row["last_at"] for row in rows), default=None),
    )


# ---- Dagster's tables


def read_runs(database: Database, now: datetime) -> RunFacts:
    """Return runs and backfills that are under way, and what has failed for good in a day."""
    counts = {row["status"]: row["runs"] for row in database.rows(queries.RUN_COUNTS)}
    given = {"now": now, "partition_tags": list(PARTITION_TAGS)}
    (succeeded,) = database.rows(queries.SUCCEEDED, given)
    return RunFacts(
        tuple(_run(row) for row in (database.rows(queries.RUNS) if counts else [])),
        counts,
        tuple(
            f"{subject_of(row['job'], row['selection'])} {row['partition'] or ''}".strip()
            for row in database.rows(queries.FAILED, given)
        ),
        succeeded["runs"],
        tuple(_backfill(row) for row in database.rows(queries.BACKFILLS)),
    )


def _run(row: Row) -> RunFact:
    tags: dict[str, Any] = row["tags"] or {}
    partition = tags.get(PARTITION_TAGS[0]) or "...".join(
        tags[each] for each in PARTITION_TAGS[1:] if each in tags
    )
    return RunFact(
        row["run_id"],
        subject_of(row["job"], row["selection"]),
        partition,
        row["status"],
        row["created_at"],
        row["started_at"],
        tags.get("dagster-celery/queue", ""),
        tags.get("scizor/worker", ""),
        tags.get("scizor/launched_by", ""),
    )


def _backfill(row: Row) -> BackfillFact:
    return BackfillFact(
        row["key"],
        row["title"] or shortened(row["assets"] or []) or row["key"],
        row["status"],
        row["started_at"],
        row["partitions"],
        row["materialized"] or 0,
        row["failed"] or 0,
        row["runs"] or {},
    )
