"""How far backfills have come: from the tags of their runs and the accounts of what was asked."""

import os
import socket
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import psutil

from scizor_resources.stores.warehouse import Warehouse

#: Tag of a run with the name of its backfill.
BACKFILL = "scizor/backfill"
#: Tag of a run with its number among the runs of its backfill: "3 of 12".
PIECE = "scizor/backfill_piece"
#: Tag of a run with the pairs of symbol and session that it fills: "360 of 9000".
SESSIONS = "scizor/backfill_sessions"
#: Tag of a run that is for one symbol alone: "asx CBA".
SYMBOL = "scizor/backfill_symbol"
#: Tag of a run that a command executes in its own process: "host:pid:started".
PROCESS = "scizor/process"

_DONE = frozenset({"SUCCESS", "FAILURE", "CANCELED"})
_FAILED = frozenset({"FAILURE", "CANCELED"})


@dataclass(frozen=True)
class BackfillProgress:
    """How far a backfill has come.

    Attributes:
        backfill: its name.
        launched_by: the command, sensor or schedule that has launched it.
        runs: runs that it needs.
        runs_done: of those, the ones that have ended.
        runs_failed: of those, the ones that failed or were cancelled.
        runs_running: runs that are being executed.
        sessions: pairs of symbol and session that it fills.
        sessions_done: of those, the ones of runs that have ended.
        rows: bars received from providers so far.
        requests: calls to providers so far.
        started_at: when the first run began, None while all wait.
        seconds: how long it has been going on, or was.
        processes: tags of the processes that execute runs themselves.
    """

    backfill: str
    launched_by: str
    runs: int
    runs_done: int
    runs_failed: int
    runs_running: int
    sessions: int
    sessions_done: int
    rows: int
    requests: int
    started_at: datetime | None
    seconds: float
    processes: tuple[str, ...] = field(default=(), repr=False)

    @property
    def percent(self) -> float:
        """The share of the sessions whose runs have ended, 0 to 100."""
        if not self.sessions:
            return 100.0 * self.runs_done / max(self.runs, 1)
        return round(100.0 * self.sessions_done / self.sessions, 1)

    @property
    def seconds_left(self) -> float | None:
        """An estimate of the time that is left, None while nothing has ended."""
        if not self.sessions_done or not self.seconds:
            return None
        return self.seconds * (self.sessions - self.sessions_done) / self.sessions_done

    @property
    def is_broken_off(self) -> bool:
        """Whether the command that executes it has gone; the same command goes on with the rest."""
        return bool(self.processes) and not any(map(is_alive, self.processes))

    def as_dict(self) -> dict[str, Any]:
        """Return it for programs."""
        left = self.seconds_left
        return {
            "backfill": self.backfill,
            "launched_by": self.launched_by,
            "runs": self.runs,
            "runs_done": self.runs_done,
            "runs_failed": self.runs_failed,
            "runs_running": self.runs_running,
            "sessions": self.sessions,
            "sessions_done": self.sessions_done,
            "rows": self.rows,
            "requests": self.requests,
            "percent": self.percent,
            "seconds": round(self.seconds, 1),
            "seconds_left": None if left is None else round(left),
            "is_broken_off": self.is_broken_off,
        }


def progress_of(warehouse: Warehouse, backfill: str, now: datetime) -> BackfillProgress | None:
    """Return how far one backfill has come, None where there is none of that name.

    Args:
        warehouse: the database; Dagster's tables are in it.
        backfill: its name.
        now: the present, aware.
    """
    return next(iter(_look(warehouse, [backfill], now)), None)


def under_way(warehouse: Warehouse, now: datetime) -> list[BackfillProgress]:
    """Return the backfills with a run that waits or is being executed, the latest first.

    Those launched in the Dagster UI are among them, under Dagster's own name.
    """
    with warehouse.connect() as connection:
        if connection.execute("SELECT to_regclass('dagster.runs') AS t").fetchone() == {"t": None}:
            return []
        rows = connection.execute(_UNDER_WAY).fetchall()
    names = [row["name"] for row in rows]
    return sorted(_look(warehouse, names, now), key=lambda each: names.index(each.backfill))


_UNDER_WAY = f"""
    SELECT b.value AS name FROM dagster.runs AS r JOIN dagster.run_tags AS b USING (run_id)
    WHERE r.status IN ('QUEUED', 'NOT_STARTED', 'STARTING', 'STARTED', 'CANCELING')
    AND b.key IN ('{BACKFILL}', 'dagster/backfill')
    GROUP BY b.value ORDER BY max(r.id) DESC
"""  # noqa: S608  # constants

# A run that crashed is launched anew, with its tags: the last one of a piece counts.
_RUNS = f"""
    SELECT DISTINCT ON (b.value, coalesce(t.tags ->> '{PIECE}', r.run_id))
        b.value AS name, r.run_id, r.status, r.start_time, r.end_time, t.tags
    FROM dagster.run_tags AS b JOIN dagster.runs AS r USING (run_id)
    CROSS JOIN LATERAL (
        SELECT jsonb_object_agg(o.key, o.value) AS tags FROM dagster.run_tags AS o
        WHERE o.run_id = r.run_id AND o.key LIKE 'scizor/%%'
    ) AS t
    WHERE b.key IN ('{BACKFILL}', 'dagster/backfill') AND b.value = ANY(%s)
    ORDER BY b.value, coalesce(t.tags ->> '{PIECE}', r.run_id), r.id DESC
"""  # noqa: S608  # constants

_ACCOUNTS = """
    SELECT t.value AS name, coalesce(sum(c.records), 0) AS rows,
           coalesce(sum(c.requests), 0) AS requests
    FROM dagster.run_tags AS t JOIN public.collector_runs AS c ON c.dagster_run_id = t.run_id
    WHERE t.key = ANY(%s) AND t.value = ANY(%s)
    GROUP BY t.value
"""


def _look(warehouse: Warehouse, names: list[str], now: datetime) -> list[BackfillProgress]:
    if not names:
        return []
    runs: dict[str, list[dict[str, Any]]] = {}
    accounts: dict[str, dict[str, Any]] = {}
    with warehouse.connect() as connection:
        for row in connection.execute(_RUNS, [names]):
            runs.setdefault(row["name"], []).append(row)
        for row in connection.execute(_ACCOUNTS, [[BACKFILL, "dagster/backfill"], names]):
            accounts[row["name"]] = row
    return [_progress(name, mine, accounts.get(name, {}), now) for name, mine in runs.items()]


def _progress(
    name: str, runs: list[dict[str, Any]], account: dict[str, Any], now: datetime
) -> BackfillProgress:
    tags = [run["tags"] or {} for run in runs]
    done = [run["status"] in _DONE for run in runs]
    shares = [_pair(each.get(SESSIONS)) for each in tags]
    totals = [_pair(each.get(PIECE))[1] for each in tags]
    begun = [run["start_time"] for run in runs if run["start_time"]]
    ended = [run["end_time"] for run in runs if run["end_time"]]
    count = max([len(runs), *totals])
    is_over = sum(done) == count
    until = max(ended) if is_over and ended else now.timestamp()
    return BackfillProgress(
        backfill=name,
        launched_by=next(
            (each["scizor/launched_by"] for each in tags if "scizor/launched_by" in each), ""
        ),
        runs=count,
        runs_done=sum(done),
        runs_failed=sum(run["status"] in _FAILED for run in runs),
        runs_running=sum(run["status"] in {"STARTED", "CANCELING"} for run in runs),
        sessions=max(total for _, total in shares),
        sessions_done=sum(share for (share, _), ended_ in zip(shares, done, strict=True) if ended_),
        rows=int(account.get("rows", 0)),
        requests=int(account.get("requests", 0)),
        started_at=datetime.fromtimestamp(min(begun), UTC) if begun else None,
        seconds=max(until - min(begun), 0.0) if begun else 0.0,
        processes=tuple(each[PROCESS] for each in tags if PROCESS in each),
    )


def _pair(text: str | None) -> tuple[int, int]:
    """Return the numbers of a tag "3 of 12", zeros where there is none."""
    first, _, second = (text or "0 of 0").partition(" of ")
    return int(first), int(second)


# ---- the process that executes runs itself


def this_process() -> str:
    """Return what tells this process from every other: machine, id, when it began."""
    return f"{socket.gethostname()}:{os.getpid()}:{psutil.Process().create_time():.2f}"


def is_alive(process: str) -> bool:
    """Say whether a process is still there; of another machine's it is assumed."""
    host, number, began = process.rsplit(":", 2)
    if host != socket.gethostname():
        return True
    try:
        found = psutil.Process(int(number))
        return abs(found.create_time() - float(began)) < 1 and (
            found.status() != psutil.STATUS_ZOMBIE
        )
    except psutil.Error:
        return False
