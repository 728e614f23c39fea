"""What is known of the platform at one moment, as plain records, and what is to be said of it.

A part of `Facts` is None where nobody has looked at it, or where it could not be read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, Literal

from scizor_core.markets import Timeframe

State = Literal["ok", "warn", "fail", "unknown"]
#: Worst last.
STATES: tuple[State, ...] = ("ok", "unknown", "warn", "fail")

#: Why an embedded server cannot be asked when there is none.
NOT_RUNNING = "it does not run"

#: What can be looked at, in the order in which it is shown.
GROUPS: tuple[str, ...] = (
    "servers",
    "dagster",
    "workers",
    "markets",
    "freshness",
    "completeness",
    "runs",
    "providers",
    "collectors",
    "streaming",
    "alerts",
    "machine",
    "archive",
)


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        group: one of `GROUPS`.
        name: what was looked at.
        state: ok; warn: somebody should look; fail: something does not work; unknown: it could not
            be found out.
        said: a sentence; where it is not ok, with what to do.
        detail: values for programs.
    """

    group: str
    name: str
    state: State
    said: str
    detail: Mapping[str, Any] = field(default_factory=dict)


def worst(checks: Sequence[Check]) -> State:
    """Return the worst state among checks, "ok" where there are none."""
    return max((each.state for each in checks), key=STATES.index, default="ok")


@dataclass(frozen=True)
class ServerFact:
    """PostgreSQL or Valkey.

    Attributes:
        name: "postgresql" or "valkey".
        is_embedded: it is the one under SCIZOR_HOME.
        problem: why it cannot be used, None where it answers.
        version: as it tells, "" where it does not.
    """

    name: str
    is_embedded: bool
    problem: str | None = None
    version: str = ""


@dataclass(frozen=True)
class ProcessFact:
    """A process that `scizor up` of this home keeps running."""

    name: str
    pid: int
    is_alive: bool


@dataclass(frozen=True)
class DagsterFacts:
    """Dagster's processes.

    Attributes:
        up: `scizor up` runs on this home, on this machine.
        processes: those that it keeps.
        ui_url: where it says that the UI is, None where it does not run here.
        ui_problem: why the UI does not answer, None where it does or is not looked for.
        heartbeats: daemon -> when it was last heard of; None where PostgreSQL could not be asked.
        errors: daemon -> the last error that it has reported.
        automations: sensors and schedules that have run at least once -> whether they are on.
    """

    up: bool
    processes: tuple[ProcessFact, ...] = ()
    ui_url: str | None = None
    ui_problem: str | None = None
    heartbeats: Mapping[str, datetime] | None = None
    errors: Mapping[str, str] = field(default_factory=dict)
    automations: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class WorkerFacts:
    """The workers that answer.

    Attributes:
        running: worker -> runs that it executes.
        queues: worker -> queues that it takes from.
        expected: how many are connected to the broker, None where it does not say.
        waiting: queue -> runs that wait in it for a worker.
        problem: why the workers could not be asked.
    """

    running: Mapping[str, int] = field(default_factory=dict)
    queues: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    expected: int | None = None
    waiting: Mapping[str, int] = field(default_factory=dict)
    problem: str | None = None


@dataclass(frozen=True)
class SymbolFact:
    """A symbol of the watchlist that has not left its exchange; times are UTC.

    Attributes:
        market: name of its market.
        symbol: its code.
        tier: 1 to 3; the best one where it stands in several lists.
        instrument_id: None where the platform does not know it yet.
        timeframe: the finest one that is collected, None where it is watched for other ledgers.
        added_at: when it came onto the watchlist.
        heard_until: end of the last bar, or of the last interval that needs none.
        price: last close, None without a bar.
        price_at: end of that bar.
        price_session: its session.
        price_timeframe: its timeframe.
        source: where it came from.
        daily_session: session of the last daily bar.
        sessions: session -> its completeness, of the sessions that were asked for.
    """

    market: str
    symbol: str
    tier: int
    instrument_id: int | None
    timeframe: Timeframe | None
    added_at: datetime
    heard_until: datetime | None = None
    price: float | None = None
    price_at: datetime | None = None
    price_session: date | None = None
    price_timeframe: Timeframe | None = None
    source: str = ""
    daily_session: date | None = None
    sessions: Mapping[date, "SessionFact"] = field(default_factory=dict)


@dataclass(frozen=True)
class SessionFact:
    """A session of a symbol in its finest timeframe.

    Attributes:
        expected: bars that the calendar expects up to when it was measured.
        missing: those that are absent without an excuse.
        coverage: share of the expected bars that is accounted for, 0 to 1.
        gaps: reason -> intervals that are not explained, those given up included.
    """

    expected: int = 0
    missing: int = 0
    coverage: float | None = None
    gaps: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class RunFact:
    """A run that waits or is being executed; times are UTC."""

    run_id: str
    subject: str
    partition: str
    status: str
    created_at: datetime
    started_at: datetime | None = None
    queue: str = ""
    worker: str = ""
    launched_by: str = ""


@dataclass(frozen=True)
class BackfillFact:
    """A backfill under way.

    Attributes:
        backfill_id: Dagster's.
        subject: its assets, or its title.
        status: as Dagster calls it.
        started_at: UTC.
        partitions: of all of its assets, None where Dagster does not say.
        done: of those, materialized.
        failed: of those, failed or skipped behind a failure.
        runs: status -> runs.
    """

    backfill_id: str
    subject: str
    status: str
    started_at: datetime
    partitions: int | None = None
    done: int = 0
    failed: int = 0
    runs: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class RunFacts:
    """Runs of the platform.

    Attributes:
        under_way: those that wait or are being executed, the oldest first, 200 at most.
        counts: status -> how many, of those that are not over.
        failed: subject and partition of runs of the last day that failed and that no later run of
            the same has made good, the newest first.
        succeeded: runs of the last day that did.
        backfills: those under way.
    """

    under_way: tuple[RunFact, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    failed: tuple[str, ...] = ()
    succeeded: int = 0
    backfills: tuple[BackfillFact, ...] = ()


@dataclass(frozen=True)
class ProviderFact:
    """A provider that is set up and asked over the network; times are UTC.

    Attributes:
        name: as in chains.
        title: for people.
        used: calls in the tightest window, None without a limit.
        limit: calls that it allows.
        seconds: its length.
        waiting: callers that wait for room.
        paused_until: None while calls may be made.
        paused_why: the reason.
        failures: in a row.
        next_try_at: when the breaker lets a call through again, None while it is closed.
        last_call_at: when it was asked last.
        last_error: the last failure's sentence.
    """

    name: str
    title: str
    used: int | None = None
    limit: int | None = None
    seconds: float | None = None
    waiting: int = 0
    paused_until: datetime | None = None
    paused_why: str = ""
    failures: int = 0
    next_try_at: datetime | None = None
    last_call_at: datetime | None = None
    last_error: str = ""


@dataclass(frozen=True)
class CollectorFact:
    """The last collection of one source for one ledger.

    Attributes:
        name: of the collector.
        asset: what it feeds.
        every: time between two collections.
        last_at: when the last one ended, None where there has been none.
        status: "success", "partial" or "failed", "" without one.
        records: rows received.
        error: what went wrong.
        is_sample: its last answer was a hand-written sample.
    """

    name: str
    asset: str
    every: timedelta
    last_at: datetime | None = None
    status: str = ""
    records: int = 0
    error: str = ""
    is_sample: bool = False


@dataclass(frozen=True)
class AlertFact:
    """An alert that stands."""

    alert_id: int
    severity: str
    kind: str
    title: str
    raised_at: datetime
    is_acknowledged: bool


@dataclass(frozen=True)
class AlertFacts:
    """Alerts that stand, and messages about alerts.

    Attributes:
        counts: severity -> (standing, of those acknowledged).
        last: the worst and newest, ten at most.
        unsent: messages that should have gone out ten minutes ago and have not.
    """

    counts: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    last: tuple[AlertFact, ...] = ()
    unsent: int = 0


@dataclass(frozen=True)
class GapFacts:
    """Gaps that another try can mend.

    Attributes:
        due: of those, the ones whose next try should have been made by now, 10,000 at most.
        overdue: since more than an hour.
    """

    due: int = 0
    overdue: int = 0


@dataclass(frozen=True)
class MachineFacts:
    """This machine: use in percent, and what is free in bytes."""

    disk_percent: float
    disk_free: int
    memory_percent: float
    memory_free: int


@dataclass(frozen=True)
class ArchiveFacts:
    """Files of the archive.

    Attributes:
        states: state -> files.
        rows: bars in all of them.
        unverified: of those, written more than a day ago and not verified since.
        last_at: when the last one was written or verified.
    """

    states: Mapping[str, int] = field(default_factory=dict)
    rows: int = 0
    unverified: int = 0
    last_at: datetime | None = None


@dataclass(frozen=True)
class StreamFacts:
    """The streaming sidecar, as it tells in Valkey.

    Attributes:
        is_wanted: a live feed is set up, so that one should run.
        state: what it tells of itself, None where none runs.
    """

    is_wanted: bool
    state: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Thresholds:
    """Values beyond which something is doubtful (warn) or wrong (fail), from the alert rules."""

    warn: float
    fail: float


@dataclass
class Facts:
    """What is known at one moment; a part that nobody could read is None.

    Attributes:
        at: the moment, UTC.
        servers: PostgreSQL and Valkey.
        revision: of the database's schema, "" where it has none.
        needed_revision: of this code.
        thresholds: KPI -> its limits.
        problems: group -> why it could not be read.
    """

    at: datetime
    servers: list[ServerFact] = field(default_factory=list)
    revision: str | None = None
    needed_revision: str = ""
    thresholds: Mapping[str, Thresholds] = field(default_factory=dict)
    dagster: DagsterFacts | None = None
    workers: WorkerFacts | None = None
    symbols: tuple[SymbolFact, ...] | None = None
    gaps: GapFacts | None = None
    runs: RunFacts | None = None
    providers: tuple[ProviderFact, ...] | None = None
    collectors: tuple[CollectorFact, ...] | None = None
    streaming: StreamFacts | None = None
    alerts: AlertFacts | None = None
    machine: MachineFacts | None = None
    archive: ArchiveFacts | None = None
    problems: dict[str, str] = field(default_factory=dict)
