"""`scizor status`: what runs, what is stored and how fresh it is. Starts nothing."""

import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from scizor_cli.output import console, is_simulated
from scizor_resources.dagster_tables import run_subject

if TYPE_CHECKING:
    from scizor_resources.settings import Settings

EXAMPLES = "Examples:\n\n  scizor status\n\n  scizor status --json"

_CONNECT_TIMEOUT_SECONDS = 5
_RUNS_SHOWN = 5
_ALERTS_SHOWN = 5
_NOT_RUNNING = "not running"


@dataclass
class ServerReport:
    """One server.

    Attributes:
        name: "postgresql" or "valkey".
        kind: "embedded" or "configured".
        running: it answers.
        pid: process id of an embedded one that runs.
        endpoint: where it is, without password.
        problem: why it cannot be used, None where it can.
    """

    name: str
    kind: str
    running: bool
    pid: int | None = None
    endpoint: str | None = None
    problem: str | None = None


@dataclass
class StatusReport:
    """All that `scizor status` tells; its fields are the keys of `--json`."""

    home: str
    profile: dict[str, str]
    chains: dict[str, list[str]]
    servers: list[ServerReport]
    schema_found: str | None = None
    schema_needed: str | None = None
    watchlist: list[dict[str, Any]] = field(default_factory=list)
    freshness: list[dict[str, Any]] = field(default_factory=list)
    quarantined_rows: int | None = None
    gaps: list[dict[str, Any]] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)
    backfills: list[dict[str, Any]] = field(default_factory=list)
    alerts: list[dict[str, Any]] = field(default_factory=list)
    streaming: dict[str, Any] | None = None
    advice: list[str] = field(default_factory=list)


def status(
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of text.")] = False,
) -> None:
    """Show servers, schema, watchlist, freshness of the data and the last runs.

    Exit code 1 where a configured server cannot be reached.
    """
    from scizor_resources.settings import load_settings

    report = look(load_settings(), lambda: datetime.now(UTC))
    if as_json:
        typer.echo(json.dumps(asdict(report), indent=1, default=_text))
    else:
        _show(report)
    if any(each.kind == "configured" and not each.running for each in report.servers):
        raise typer.Exit(1)


def look(settings: "Settings", now: Callable[[], datetime]) -> StatusReport:
    """Return the state of the platform; nothing is started or changed.

    Args:
        settings: the platform's settings.
        now: clock, aware.
    """
    from scizor_core.markets import MARKETS

    database_url, database = _database(settings)
    valkey, streaming = _valkey(settings)
    report = StatusReport(
        home=str(settings.home),
        profile=_profile(settings),
        chains={name: list(settings.chain(name)) for name in MARKETS},
        servers=[database, valkey],
        streaming=streaming,
    )
    if database_url is not None and database.running:
        _look_inside(report, database_url, now())
    elif database.kind == "embedded":
        report.advice.append(
            "The servers do not run. Start everything with `scizor up`; commands that need them, "
            "such as `scizor bars`, start them for themselves."
        )
    else:
        report.advice.append("Start that server, or correct SCIZOR_DATABASE_URL.")
    return report


def _database(settings: "Settings") -> tuple[str | None, ServerReport]:
    import psycopg

    from scizor_resources.endpoints import Endpoints

    report = ServerReport("postgresql", "embedded", running=False)
    if settings.database_url is not None:
        endpoints = Endpoints(settings.database_url.get_secret_value(), "redis://127.0.0.1")
        report.kind, report.endpoint = "configured", endpoints.shown
    else:
        running = _embedded(settings, "postgres", report)
        if running is None:
            return None, report
        endpoints = Endpoints(running, "redis://127.0.0.1")
    try:
        psycopg.connect(endpoints.libpq_url, connect_timeout=_CONNECT_TIMEOUT_SECONDS).close()
    except psycopg.Error as error:
        report.running = False
        report.problem = str(error).strip().splitlines()[0]
    else:
        report.running = True
    return endpoints.libpq_url, report


def _valkey(settings: "Settings") -> tuple[ServerReport, dict[str, Any] | None]:
    """Return Valkey's report, and what the streaming sidecar says there of itself."""
    import redis

    from scizor_resources.streaming import read_state

    report = ServerReport("valkey", "embedded", running=False)
    if settings.redis_url is not None:
        url = settings.redis_url.get_secret_value()
        report.kind, report.endpoint = "configured", hide_password(url)
    else:
        running = _embedded(settings, "valkey", report)
        if running is None:
            return report, None
        url = running
    state = None
    try:
        with redis.Redis.from_url(url, socket_connect_timeout=_CONNECT_TIMEOUT_SECONDS) as client:
            state = read_state(lambda ask: ask(client))
    except (redis.RedisError, ValueError) as error:
        report.running = False
        report.problem = str(error).strip().rstrip(".") or type(error).__name__
    else:
        report.running = True
    return report, state


def _embedded(settings: "Settings", name: str, report: ServerReport) -> str | None:
    """Fill in an embedded server's report and return its URL, None where it does not run."""
    from scizor_resources.embedded.servers import EmbeddedServers

    for found in EmbeddedServers(settings.home).status():
        if found.name == name:
            report.running, report.pid = found.running, found.pid
            report.endpoint = found.endpoint
            return found.endpoint if found.running else None
    return None


def hide_password(url: str) -> str:
    """Return a URL with its password replaced by asterisks, also where the query has one."""
    shown = re.sub(r"(?i)(?<=[?&])(password)=[^&#]*", r"\1=***", url)
    parts = urlsplit(shown)
    if parts.password is None:
        return shown
    host = parts.netloc.rpartition("@")[2]
    return shown.replace(parts.netloc, f"{parts.username or ''}:***@{host}", 1)


def _profile(settings: "Settings") -> dict[str, str]:
    """Return what the home's profile sets; values that may be secret are masked."""
    from scizor_resources.settings import profile_path

    path = profile_path(settings.home)
    if not path.is_file():
        return {}
    lines = (line.partition("=") for line in path.read_text(encoding="utf-8").splitlines())
    found = {key.strip(): value.strip() for key, _, value in lines if value and key[:1] != "#"}
    secret = ("URL", "KEY", "SECRET", "TOKEN", "PASSWORD")
    return {
        key: "***" if any(word in key for word in secret) else value for key, value in found.items()
    }


def _look_inside(report: StatusReport, url: str, now: datetime) -> None:
    import sqlalchemy as sa

    from scizor_resources.backfill_progress import under_way
    from scizor_resources.endpoints import Endpoints
    from scizor_resources.errors import WarehouseError
    from scizor_resources.stores import schema
    from scizor_resources.stores.warehouse import Warehouse

    engine = sa.create_engine(
        Endpoints(url, "redis://127.0.0.1").sqlalchemy_url, poolclass=sa.NullPool
    )
    report.schema_found = schema.current_revision(engine)
    report.schema_needed = schema.latest_revision()
    try:
        schema.require_current(engine)
    except WarehouseError as error:
        report.advice.append(str(error))
        return
    warehouse = Warehouse(url)
    report.backfills = [each.as_dict() for each in under_way(warehouse, now)]
    with warehouse.connect() as connection:
        report.watchlist = connection.execute(
            "SELECT market, priority AS tier, count(*) AS symbols, "
            "count(*) FILTER (WHERE active) AS active FROM public.watchlist "
            "GROUP BY market, priority ORDER BY market, priority"
        ).fetchall()
        rows = connection.execute(_FRESHNESS).fetchall()
        counted = connection.execute("SELECT count(*) AS n FROM quality.quarantine").fetchone()
        report.quarantined_rows = 0 if counted is None else counted["n"]
        report.gaps = connection.execute(
            "SELECT status, reason, count(*) AS gaps FROM quality.gaps "
            "WHERE status <> 'explained' GROUP BY 1, 2 ORDER BY 1 DESC, 3 DESC"
        ).fetchall()
        report.alerts = connection.execute(
            "SELECT alert_id, raised_at, severity, kind, title, acknowledged_at, acknowledged_by "
            "FROM public.alerts WHERE resolved_at IS NULL "
            "ORDER BY acknowledged_at IS NOT NULL, raised_at DESC, alert_id DESC LIMIT %s",
            [_ALERTS_SHOWN],
        ).fetchall()
        if connection.execute("SELECT to_regclass('dagster.runs') AS t").fetchone() != {"t": None}:
            report.runs = [_run(row, now) for row in connection.execute(_RUNS).fetchall()]
    report.freshness = summarise(rows, now)
    if not rows:
        report.advice.append(
            "No bar is stored yet. Look around with `scizor demo`, bring a file with "
            "`scizor import`, or fetch: `scizor materialize asx/bars_1d --partition "
            f"{now:%Y-%m}-01`."
        )


_FRESHNESS = """
    SELECT s.market, b.timeframe, b.source, b.bars, b.instrument_id, b.first_ts, b.last_ts,
           b.last_session
    FROM (
        SELECT timeframe, source, instrument_id, count(*) AS bars, min(ts) AS first_ts,
               max(ts) AS last_ts, max(session_date) AS last_session
        FROM market.bars GROUP BY timeframe, source, instrument_id
    ) AS b JOIN public.symbols AS s USING (instrument_id)
"""

_RUNS = f"""
    SELECT r.run_id, r.pipeline_name AS job, r.status, r.run_body, r.start_time, r.end_time,
           (SELECT string_agg(t.value, '...' ORDER BY t.key DESC) FROM dagster.run_tags AS t
            WHERE t.run_id = r.run_id AND t.key IN ('dagster/partition',
            'dagster/asset_partition_range_start', 'dagster/asset_partition_range_end')
           ) AS partition
    FROM dagster.runs AS r ORDER BY r.id DESC LIMIT {_RUNS_SHOWN}
"""  # noqa: S608  # a constant


def summarise(rows: list[dict[str, Any]], now: datetime) -> list[dict[str, Any]]:
    """Return freshness per market and timeframe from counts per instrument and source.

    Args:
        rows: market, timeframe, source, bars, instrument_id, first_ts, last_ts, last_session.
        now: aware.
    """
    from scizor_core.markets import MARKETS, TIMEFRAMES

    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["market"], row["timeframe"]), []).append(row)
    markets, timeframes = list(MARKETS), list(TIMEFRAMES)
    result = []
    for market, timeframe in sorted(
        groups,
        key=lambda key: (markets.index(key[0]), timeframes.index(key[1])),  # type: ignore[arg-type]  # a timeframe by the table's contract
    ):
        group = groups[(market, timeframe)]
        bars = sum(row["bars"] for row in group)
        simulated = sum(row["bars"] for row in group if is_simulated(row["source"]))
        last_session = max(row["last_session"] for row in group)
        result.append(
            {
                "market": market,
                "timeframe": timeframe,
                "bars": bars,
                "symbols": len({row["instrument_id"] for row in group}),
                "first_ts": min(row["first_ts"] for row in group),
                "last_ts": max(row["last_ts"] for row in group),
                "last_session": last_session,
                "sessions_behind": sessions_behind(market, last_session, now),
                "simulated_share": round(simulated / bars, 6),
            }
        )
    return result


def sessions_behind(market: str, last_session: date, now: datetime) -> int:
    """Return how many sessions have closed since the last one that has bars."""
    from scizor_core.sessions import get_calendar

    later = get_calendar(market).sessions(
        last_session + timedelta(days=1), now.date() + timedelta(days=2)
    )
    return sum(session.close <= now for session in later)


def _run(row: dict[str, Any], now: datetime) -> dict[str, Any]:
    started, ended = row["start_time"], row["end_time"]
    return {
        "run_id": row["run_id"],
        "what": run_subject(row["job"], row["run_body"]),
        "partition": row["partition"],
        "status": row["status"],
        "started": datetime.fromtimestamp(started, UTC) if started else None,
        "seconds": round((ended or now.timestamp()) - started, 1) if started else None,
    }


def _text(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return str(value)


def _show(report: StatusReport) -> None:
    out = console()
    out.print(f"[bold]Home[/]       {report.home}")
    for name, value in report.profile.items():
        out.print(f"[bold]Profile[/]    {name}={value}")
    for server in report.servers:
        out.print(
            f"[bold]{'PostgreSQL' if server.name == 'postgresql' else 'Valkey':<10}[/] "
            f"{_server_line(server)}"
        )
    for market, chain in report.chains.items():
        out.print(f"[bold]Sources[/]    {market}: {' > '.join(chain)}")
    if report.schema_needed is not None:
        found = report.schema_found or "none"
        fits = "up to date" if found == report.schema_needed else f"needs {report.schema_needed}"
        out.print(f"[bold]Schema[/]     revision {found}, {fits}")
    if report.watchlist:
        parts = [
            f"{row['market']} tier {row['tier']}: {row['active']}"
            + (f" of {row['symbols']} active" if row["active"] != row["symbols"] else "")
            for row in report.watchlist
        ]
        out.print(f"[bold]Watchlist[/]  {', '.join(parts)}")
    if report.streaming is not None:
        feeds = [
            f"{name} {feed['state']}, {feed['streams']} symbols, "
            f"{feed['trades_per_second']:g} trades/s"
            for name, feed in report.streaming["feeds"].items()
        ]
        where = f"at {report.streaming['url']} (pid {report.streaming['pid']})"
        out.print(f"[bold]Streaming[/]  {'; '.join(feeds)}; page and API {where}")
    _show_faults(report)
    _show_freshness(report.freshness)
    _show_runs(report.runs)
    for each in report.backfills:
        out.print(f"\n[bold]Backfill[/] {each['backfill']}: {_backfill_line(each)}")
    for alert in report.alerts:
        by = f" by {alert['acknowledged_by']}" if alert["acknowledged_by"] else ""
        seen = f", acknowledged{by}" if alert["acknowledged_at"] is not None else ""
        head = f"{alert['alert_id']}, {alert['raised_at']:%Y-%m-%d %H:%M}Z, {alert['severity']}"
        out.print("\n[bold]Alert[/] ", end="")
        out.print(f"{head}{seen}: ", markup=False, end="")
        out.print(alert["title"], markup=False)
    for text in report.advice:
        out.print(f"\n{text}", markup=False)


def _backfill_line(found: dict[str, Any]) -> str:
    done = f"{found['runs_done']} of {found['runs']} runs"
    failed = f", {found['runs_failed']} failed" if found["runs_failed"] else ""
    rows = f"{found['percent']:.0f} %, {found['rows']:,} rows"
    if found["is_broken_off"]:
        market = found["backfill"].partition("-")[0]
        left = f"broken off; `scizor backfill {market}` goes on with the rest"
    elif found["seconds_left"]:
        left = f"about {timedelta(seconds=found['seconds_left'])} left"
    else:
        left = "under way"
    return f"{done}{failed}, {rows}, {left}"


def _show_faults(report: StatusReport) -> None:
    """Show how many rows were refused, and how many gaps there are to mend."""
    if report.quarantined_rows is not None:
        console().print(f"[bold]Quarantine[/] {report.quarantined_rows:,} rows refused")
    if report.gaps:
        said = [f"{row['gaps']:,} {row['status']}: {row['reason']}" for row in report.gaps]
        console().print(f"[bold]Gaps[/]       {'; '.join(said)} (see `scizor gaps`)")


def _server_line(server: ServerReport) -> str:
    state = "[green]running[/]" if server.running else f"[yellow]{_NOT_RUNNING}[/]"
    if server.problem is not None:
        state = f"[red]cannot be reached[/]: {server.problem}".replace("\n", " ")
    where = f" at {server.endpoint}" if server.endpoint else ""
    pid = f" (pid {server.pid})" if server.pid else ""
    return f"{server.kind}, {state}{pid}{where}"


def _show_freshness(freshness: list[dict[str, Any]]) -> None:
    if not freshness:
        return
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for header in (
        "market",
        "timeframe",
        "bars",
        "symbols",
        "first",
        "last bar",
        "state",
        "simulated",
    ):
        table.add_column(header, justify="right" if header in ("bars", "symbols") else "left")
    for row in freshness:
        behind = row["sessions_behind"]
        state = f"[yellow]{behind} sessions behind[/]" if behind else "[green]up to date[/]"
        share = row["simulated_share"]
        daily = row["timeframe"] == "1d"
        table.add_row(
            row["market"],
            row["timeframe"],
            f"{row['bars']:,}",
            str(row["symbols"]),
            f"{row['first_ts'].astimezone(UTC):%Y-%m-%d}",
            f"{row['last_ts'].astimezone(UTC):{'%Y-%m-%d' if daily else '%Y-%m-%d %H:%MZ'}}",
            state.replace("1 sessions", "1 session"),
            f"[yellow]{share:.0%}[/]" if share else "no",
        )
    console().print()
    console().print(table)


def _show_runs(runs: list[dict[str, Any]]) -> None:
    if not runs:
        return
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for header in ("last runs", "partition", "status", "started", "took"):
        table.add_column(header)
    colours = {"SUCCESS": "green", "FAILURE": "red"}
    for run in runs:
        colour = colours.get(run["status"], "yellow")
        table.add_row(
            run["what"],
            run["partition"] or "",
            f"[{colour}]{run['status'].lower()}[/]",
            f"{run['started']:%Y-%m-%d %H:%MZ}" if run["started"] else "-",
            f"{run['seconds']:,.1f} s" if run["seconds"] is not None else "-",
        )
    console().print()
    console().print(table)
