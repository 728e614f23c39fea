"""`scizor providers`: who can be asked, how they are, and what is left of their budgets."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scizor_cli.output import console, note

if TYPE_CHECKING:
    from scizor_resources.budget.state import BudgetState
    from scizor_resources.platform import Platform

EXAMPLES = (
    "Examples:\n\n  scizor providers\n\n  scizor providers --json\n\n"
    "  scizor providers --metrics   (Prometheus text format)"
)
#: Calls of a partition of which nothing is known yet.
_GUESSED_CALLS = 1.0


@dataclass
class ProviderReport:
    """One provider; its fields are the keys of `--json`. Times are UTC.

    Attributes:
        name: as in chains.
        title: for people.
        markets: markets in whose chain it stands.
        configured: it can be asked.
        missing: variables to set before it can.
        health: "ok", "open" (the breaker holds calls), "paused", "not configured", or "local".
        health_detail: why and until when.
        budget_used: calls in the tightest window now, None without a limit.
        budget_limit: calls that window allows.
        budget_seconds: its length.
        budget_resets_at: when calls leave it again.
        waiting: callers that wait, by lane.
        local_share: Valkey is away and this process keeps to a small share of its own.
        queued_calls: calls that queued backfills are expected to make.
        queue_ends_at: when those will have been made at the earliest.
        spent_usd: this month.
        last_call_at: when it was asked last.
        last_error: the last failure's sentence.
        last_error_at: when that was.
    """

    name: str
    title: str
    markets: list[str]
    configured: bool
    missing: list[str]
    health: str = "ok"
    health_detail: str = ""
    budget_used: int | None = None
    budget_limit: int | None = None
    budget_seconds: float | None = None
    budget_resets_at: datetime | None = None
    waiting: dict[str, int] = field(default_factory=dict)
    local_share: bool = False
    queued_calls: int = 0
    queue_ends_at: datetime | None = None
    spent_usd: float = 0.0
    last_call_at: datetime | None = None
    last_error: str = ""
    last_error_at: datetime | None = None


def providers(
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
    metrics: Annotated[
        bool, typer.Option("--metrics", help="Counters and budgets in Prometheus' text format.")
    ] = False,
) -> None:
    """Show every provider: configured or what is missing, health, budget, last call and error."""
    from scizor_resources.platform import Platform

    with Platform.open() as platform:
        if metrics:
            typer.echo(_metrics(platform), nl=False)
            return
        reports = look(platform, _queued_calls(platform))
        if as_json:
            rows = [asdict(each) for each in reports]
            typer.echo(json.dumps(rows, indent=1, default=_text))
        else:
            _show(reports, platform)


def look(platform: "Platform", queued: Mapping[str, int]) -> list[ProviderReport]:
    """Return every provider's report.

    Args:
        platform: the opened platform.
        queued: provider -> calls that queued work is expected to make.
    """
    from scizor_core.markets import MARKETS
    from scizor_resources.providers.registry import PROVIDERS

    spent, runs = platform.spending.spent(), platform.providers.last_runs()
    reports = []
    for spec in PROVIDERS.values():
        markets = [name for name in MARKETS if spec.name in platform.settings.chain(name)]
        closed = [name for name in markets if spec.missing(platform.settings, name)]
        missing = spec.missing(platform.settings) if closed or not markets else []
        usable = not missing or len(closed) < len(markets)
        report = ProviderReport(spec.name, spec.title, markets, usable, missing)
        reports.append(report)
        if spec.is_local:
            report.health = "local"
            continue
        report.spent_usd = spent.get(spec.name, 0.0)
        report.queued_calls = queued.get(spec.name, 0)
        _add_health(report, platform)
        _add_last_run(report, runs.get(spec.name, {}))
        _add_budget(report, platform.budget(spec.name).state())
        if report.queued_calls:
            seconds = platform.budget(spec.name).forecast(report.queued_calls)
            report.queue_ends_at = datetime.now(UTC) + timedelta(seconds=seconds)
        if missing:
            report.health = "ok" if usable else "not configured"
            report.health_detail = (
                f"{', '.join(closed) + ': ' if usable else ''}set {' and '.join(missing)}"
            )
    return reports


def _add_health(report: ProviderReport, platform: "Platform") -> None:
    health = platform.breaker(report.name).health()
    report.last_call_at = health.last_call_at
    report.last_error, report.last_error_at = health.last_error, health.last_error_at
    if health.is_open:
        report.health = "open"
        until = f", next try {health.next_try_at:%H:%M:%S}Z" if health.next_try_at else ""
        report.health_detail = f"{health.failures} failures in a row{until}"


def _add_last_run(report: ProviderReport, run: Mapping[str, Any]) -> None:
    """Add what the accounts know and the breaker forgets: a wrong key is no failure to it."""
    if not run:
        return
    if report.last_call_at is None and run["requests"]:
        report.last_call_at = run["completed_at"]
    error = run.get("last_error")
    if error and (report.last_error_at is None or error["completed_at"] > report.last_error_at):
        report.last_error, report.last_error_at = error["error"], error["completed_at"]


def _add_budget(report: ProviderReport, state: "BudgetState") -> None:
    report.local_share = state.local
    report.waiting = {lane: count for lane, count in state.waiting.items() if count}
    if state.paused_until is not None:
        report.health = "paused"
        report.health_detail = f"until {state.paused_until:%H:%M:%S}Z: {state.paused_why}"
    tightest = state.tightest
    if tightest is not None:
        report.budget_used, report.budget_limit = tightest.used, tightest.limit
        report.budget_seconds, report.budget_resets_at = tightest.seconds, tightest.resets_at


def _queued_calls(platform: "Platform") -> dict[str, int]:
    """Return provider -> calls that queued runs and backfills are expected to make.

    What a partition of an asset took so far is taken for what the next ones will take.
    """
    from scizor_assets.launch import Launcher

    if not _has_queue(platform):
        return {}
    from scizor_assets.definitions import defs
    from scizor_assets.pending import pending_partitions

    with Launcher(platform).instance() as instance:
        pending = pending_partitions(instance, defs)
    calls: dict[str, float] = {}
    for asset, partitions in pending.items():
        for provider, each in _calls_per_partition(platform, asset).items():
            calls[provider] = calls.get(provider, 0.0) + partitions * each
    return {provider: round(count) for provider, count in calls.items()}


def _has_queue(platform: "Platform") -> bool:
    """Say whether Dagster has queued work; loading the graph to count it takes seconds."""
    from scizor_resources.endpoints import DAGSTER_SCHEMA

    with platform.warehouse.connect() as connection:
        if connection.execute(
            "SELECT to_regclass(%s) AS runs", [f"{DAGSTER_SCHEMA}.runs"]
        ).fetchone() == {"runs": None}:
            return False
        row = connection.execute(
            f"SELECT EXISTS (SELECT 1 FROM {DAGSTER_SCHEMA}.runs "  # noqa: S608  # a constant
            "WHERE status IN ('QUEUED', 'NOT_STARTED')) OR EXISTS ("
            f"SELECT 1 FROM {DAGSTER_SCHEMA}.bulk_actions WHERE status = 'REQUESTED') AS any"
        ).fetchone()
    return bool(row and row["any"])


def _calls_per_partition(platform: "Platform", asset: str) -> dict[str, float]:
    """Return provider -> calls that one partition of an asset took on average."""
    if "/bars_" not in asset:
        return {}
    with platform.warehouse.connect() as connection:
        rows = connection.execute(
            "SELECT provider, avg(requests)::float AS calls FROM collector_runs "
            "WHERE asset = %s AND partition NOT LIKE '%%...%%' GROUP BY provider",
            [asset],
        ).fetchall()
    if rows:
        return {row["provider"]: row["calls"] for row in rows}
    market, _, timeframe = asset.partition("/bars_")
    if timeframe == "15m":
        return {}
    symbols = len(platform.reference.watchlist(market, active_only=True))
    networked = [each.name for each in platform.sources(market) if hasattr(each, "gate")]
    return dict.fromkeys(networked[:1], symbols * _GUESSED_CALLS)


def _metrics(platform: "Platform") -> str:
    from prometheus_client import CollectorRegistry, generate_latest

    from scizor_resources.budget.usage import UsageCollector
    from scizor_resources.providers.registry import PROVIDERS

    names = [spec.name for spec in PROVIDERS.values() if not spec.is_local]
    registry = CollectorRegistry()
    registry.register(
        UsageCollector(
            platform.link,
            lambda: [platform.budget(name) for name in names],
            lambda: [(name, platform.breaker(name)) for name in names],
            platform.spending,
        )
    )
    return generate_latest(registry).decode()


_STYLES = {"ok": "green", "open": "bold red", "paused": "yellow", "not configured": "dim"}


def _show(reports: list[ProviderReport], platform: "Platform") -> None:
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("provider", "chain of", "health", "budget", "resets", "last call"):
        table.add_column(name, no_wrap=name != "health", overflow="fold")
    for each in reports:
        table.add_row(
            each.name,
            " ".join(each.markets) or "-",
            f"[{_STYLES.get(each.health, '')}]{_health(each)}[/]"
            if each.health in _STYLES
            else _health(each),
            _budget(each),
            _moment(each.budget_resets_at),
            _moment(each.last_call_at),
        )
    out = console()
    out.print(table)
    for each in reports:
        if each.last_error:
            out.print(f"\n{each.name}, {_moment(each.last_error_at)}: ", end="", style="bold")
            out.print(each.last_error, soft_wrap=True, markup=False)
        if each.queue_ends_at is not None:
            out.print(
                f"\n{each.name}: queued work needs about {each.queued_calls:,} calls; done at "
                f"{each.queue_ends_at:%Y-%m-%d %H:%M}Z at the earliest."
            )
        if each.waiting:
            told = ", ".join(f"{count} in lane {lane}" for lane, count in each.waiting.items())
            out.print(f"\n{each.name}: callers waiting: {told}.")
    spent = sum(each.spent_usd for each in reports)
    note(f"Spent this month: {spent:.2f} of {platform.settings.spending_cap_usd:.2f} USD.")
    if any(each.local_share for each in reports):
        note(
            "Valkey cannot be reached: budgets are not shared, and each process keeps to a small "
            "share of its own. Check SCIZOR_REDIS_URL."
        )


def _health(report: ProviderReport) -> str:
    if report.health_detail:
        return f"{report.health}: {report.health_detail}"
    if report.health == "ok" and report.last_call_at is None:
        return "ok, not asked yet"
    return report.health


def _budget(report: ProviderReport) -> str:
    if report.budget_limit is None or report.budget_seconds is None:
        return "-"
    return f"{report.budget_used:,}/{report.budget_limit:,} per {_span(report.budget_seconds)}"


def _span(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length and seconds % length == 0:
            count = int(seconds // length)
            return unit if count == 1 else f"{count} {unit}"
    return "s" if seconds == 1 else f"{seconds:g} s"


def _moment(at: datetime | None) -> str:
    if at is None:
        return "-"
    today = at.date() == datetime.now(UTC).date()
    return f"{at:%H:%M:%S}Z" if today else f"{at:%Y-%m-%d %H:%M}Z"


def _text(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
