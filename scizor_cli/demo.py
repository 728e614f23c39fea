"""`scizor demo`: real data through the whole platform, without keys, in a few minutes."""

import sys
import time
from collections import defaultdict
from datetime import date

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from scizor_assets.launch import Launch, Launcher, launches_for_sessions
from scizor_core.instruments import WatchlistEntry
from scizor_core.markets import Timeframe
from scizor_resources.demo_data import ARTEFACTS, DEMO_IMPORTS, DemoStep, prepare
from scizor_resources.pipeline.bring_in import bring_in
from scizor_resources.platform import Platform
from scizor_resources.samples.days import METRIC_DAYS, SAMPLE_DAYS
from scizor_resources.settings import Settings, load_settings, profile_path

#: Five sessions in which all 18 symbols of the portfolio were listed; the last one is Afterpay's
#: last. They never change, so that a second demo changes no row.
SIMULATED_SESSIONS: tuple[date, ...] = tuple(date(2022, 1, day) for day in (13, 14, 17, 18, 19))

#: Assets that samples run through, a day at a time.
SAMPLED: tuple[str, ...] = (
    "glass/on_chain_metrics",
    "human/news_sentiment",
    "human/social_sentiment",
    "catalyst/catalyst_events",
)
#: What samples are about beside the ASX portfolio. Nothing of it is collected.
WATCHED: tuple[WatchlistEntry, ...] = tuple(
    WatchlistEntry(market, symbol, priority=3, collect_5min=False, notes="of the demo")
    for market, symbol in (("us", "MSFT"), ("crypto", "BTC/USD"))
)

_PROFILE = """\
# Written by `scizor demo`: the ASX portfolio runs on the simulated source (source = 'simulated'),
# the other markets on the tape alone, so that nothing is asked of the internet.
# On-chain metrics, news, posts and catalysts are hand-written samples (source 'sample:...').
# Delete this file to ask real providers again.
SCIZOR_SAMPLES=true
SCIZOR_CHAIN_ASX=tape,simulated
SCIZOR_CHAIN_US=tape
SCIZOR_CHAIN_CRYPTO=tape
"""

LEDGER_ROWS = (
    "SELECT 'protocol_fundamentals' AS ledger, source, count(*) AS rows, min(day) AS first, "
    "max(day) AS last FROM protocol_fundamentals GROUP BY 2 "
    "UNION ALL SELECT 'on_chain_metrics', source, count(*), min(ts::date), max(ts::date) "
    "FROM on_chain_metrics GROUP BY 2 "
    "UNION ALL SELECT kind, source, count(*), min(published_at::date), max(published_at::date) "
    "FROM human.story_sources GROUP BY 1, 2 "
    "UNION ALL SELECT 'catalyst_events', source, count(*), min(published_at::date), "
    "max(published_at::date) FROM catalyst_events GROUP BY 2 ORDER BY 1, 2"
)
SAMPLE_QUERIES: tuple[tuple[str, str], ...] = (
    (
        "How much is there?",
        "SELECT COUNT(*) as total_bars, COUNT(DISTINCT symbol) as total_symbols "
        "FROM market_data_bars;",
    ),
    (
        "The largest daily falls, as traded",
        "SELECT symbol, session_date, close, round((100 * return_raw)::numeric, 1) AS "
        "percent, round((100 * return_adjusted)::numeric, 1) AS percent_adjusted, source "
        "FROM marts.daily_bars WHERE NOT is_simulated ORDER BY return_raw LIMIT 5;",
    ),
    (
        "What people said of Bitcoin and Microsoft (samples)",
        "SELECT symbol, kind, hour, stories, round(mean_score::numeric, 2) AS mean_score, "
        "is_sample FROM marts.sentiment_hourly WHERE symbol IN ('BTC/USD', 'MSFT') "
        "ORDER BY stories DESC, symbol, hour LIMIT 5;",
    ),
    (
        "What is newest, per symbol",
        "SELECT symbol, MAX(timestamp) as latest_bar, NOW() - MAX(timestamp) as staleness "
        "FROM market_data_bars GROUP BY symbol ORDER BY staleness ASC LIMIT 5;",
    ),
)


def run_demo() -> None:
    """Fetch the data, run it through the graph, and print what came of it.

    Raises:
        ScizorError: a server could not be started or a run failed.
    """
    # Bound to the real stdout: what dbt prints during a run goes to a log.
    console = Console(file=sys.stdout)
    began = time.monotonic()
    profile = profile_path(load_settings().home)
    profile.parent.mkdir(parents=True, exist_ok=True)
    if not profile.exists():
        profile.write_text(_PROFILE)
    elif "SCIZOR_SAMPLES" not in profile.read_text():  # of a version without samples
        profile.write_text(f"{profile.read_text().rstrip()}\nSCIZOR_SAMPLES=true\n")
    settings = load_settings()
    with console.status("Starting PostgreSQL and Valkey, preparing the schema ..."):
        platform = Platform.open(settings, migrate=True)
    with platform:
        steps = _import(console, platform, settings)
        _watch(platform)
        with console.status("Loading the asset graph ..."):
            launcher = Launcher(platform)
        _run(console, launcher, _launches(steps))
        _show(console, platform, steps)
    console.print(f"\nDone in {time.monotonic() - began:.0f} s. What to type next:")
    console.print(
        "  [bold]make up[/]                                        the Dagster UI: lineage, runs, "
        "checks\n"
        "  [bold].venv/bin/scizor bars AAPL --timeframe 1d --start 2000-09-01 --end 2000-11-01 "
        "--plot[/]\n"
        '  [bold].venv/bin/scizor query "SELECT * FROM marts.movers ORDER BY 1 LIMIT 5"[/]\n'
        "  [bold].venv/bin/scizor import FILE --market us --symbol XYZ --timeframe 1d[/]   your "
        "own history\n"
        "  [bold].venv/bin/scizor --help[/]",
        soft_wrap=True,
    )


def _progress(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description:<58}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
        console=console,
    )


def _import(console: Console, platform: Platform, settings: Settings) -> list[DemoStep]:
    steps = []
    with _progress(console) as progress:
        task = progress.add_task("Data artefacts", total=len(ARTEFACTS) + len(DEMO_IMPORTS))
        for step in prepare(settings.home / "cache" / "demo", settings.tape_directory):
            progress.update(task, advance=1, description=f"Data: {step.title}"[:58])
            if step.report is not None:
                bring_in(platform.reference, platform.quality, step.report)
            steps.append(step)
        progress.update(task, description="Data artefacts fetched and imported")
    for title, error in {step.title: step.error for step in steps if step.error}.items():
        console.print(f"[yellow]Skipped: {title}. {error}[/]")
    return steps


def _launches(steps: list[DemoStep]) -> list[Launch]:
    """Return the runs that bring the imported and the simulated sessions through the graph."""
    sessions: dict[tuple[str, Timeframe], set[date]] = defaultdict(set)
    for step in steps:
        if step.report is None:
            continue
        spec = step.report.spec
        finest: Timeframe = "1m" if spec.timeframe == "tick" else spec.timeframe
        sessions[spec.market, finest].update(step.report.session_dates)
    # What the 1m runs cover needs no second run for 5m.
    for market in {market for market, _ in sessions}:
        sessions[market, "5m"] -= sessions[market, "1m"]
        sessions[market, "15m"] -= sessions[market, "1m"] | sessions[market, "5m"]
    sessions["asx", "1m"].update(SIMULATED_SESSIONS)
    sessions["asx", "1d"].update(SIMULATED_SESSIONS)
    launches = [
        Launch(
            ("reference/instruments", "reference/watchlist", "reference/sessions"),
            title="instruments, watchlist, sessions",
        )
    ]
    for (market, timeframe), dates in sorted(sessions.items()):
        launches += launches_for_sessions(market, timeframe, sorted(dates))
    return [*launches, *_sample_launches()]


def _sample_launches() -> list[Launch]:
    """Return the runs that bring the sample days through the other ledgers."""
    first, last = (day.isoformat() for day in (METRIC_DAYS[0], METRIC_DAYS[-1]))
    return [
        Launch(
            ("glass/protocol_fundamentals",),
            first,
            last,
            title=f"samples: protocols {first} to {last}",
        ),
        *(
            Launch(SAMPLED, day.isoformat(), title=f"samples: news, posts, events {day}")
            for day in SAMPLE_DAYS
        ),
    ]


def _watch(platform: Platform) -> None:
    """Put what samples are about on the watchlist; their bars come from the tape alone."""
    known = {(entry.market, entry.symbol) for entry in platform.reference.watchlist()}
    platform.reference.add(
        [entry for entry in WATCHED if (entry.market, entry.symbol) not in known]
    )


def _run(console: Console, launcher: Launcher, launches: list[Launch]) -> None:
    marts = sorted(
        asset for asset in launcher.known_assets() if asset.startswith(("marts/", "staging/"))
    )
    launches = [*launches, Launch(tuple(marts), title="dbt marts and their tests")]
    with _progress(console) as progress, launcher.instance() as instance:
        task = progress.add_task("Dagster runs", total=len(launches))
        for launch in launches:
            progress.update(task, description=f"Run: {launch.title}"[:58])
            launcher.run(instance, launch)
            progress.update(task, advance=1)
        progress.update(task, description="Dagster runs, recorded in the instance")


def _show(console: Console, platform: Platform, steps: list[DemoStep]) -> None:
    with platform.warehouse.connect() as connection:
        _table(
            console,
            "Bars by market, timeframe and source",
            connection.execute(
                "SELECT market, timeframe AS bars_of, source, count(*) AS bars, "
                "count(DISTINCT symbol) AS symbols, min(session_date) AS first, "
                "max(session_date) AS last FROM market_data_bars "
                "GROUP BY 1, 2, 3 ORDER BY 1, length(timeframe), 2, 3"
            ).fetchall(),
        )
        _table(
            console,
            "Quality score, 0 to 100 (of sessions with bars)",
            connection.execute(
                "SELECT s.market, c.timeframe AS bars_of, "
                "round(avg(c.score)::numeric, 1) AS score, "
                "count(*) AS sessions, sum(c.present) AS present, sum(c.quiet) AS quiet, "
                "sum(c.missing) AS missing, sum(c.outliers) AS outliers "
                "FROM quality.completeness AS c JOIN symbols AS s USING (instrument_id) "
                "WHERE c.present > 0 GROUP BY 1, 2 ORDER BY 1, length(c.timeframe), 2"
            ).fetchall(),
        )
        _table(
            console,
            "Quarantined rows (SELECT * FROM quality.quarantine)",
            connection.execute(
                "SELECT origin AS file, min(row_number) AS first_row, count(*) AS rows, reason "
                "FROM quality.quarantine GROUP BY origin, reason ORDER BY count(*), 1 LIMIT 15"
            ).fetchall(),
        )
        _table(
            console,
            "The other ledgers: rows by source (samples, written by hand)",
            connection.execute(LEDGER_ROWS).fetchall(),
        )
        for title, sql in SAMPLE_QUERIES:
            console.print(f"\n[dim]{sql}[/]")
            _table(console, title, connection.execute(sql).fetchall())
    for step in steps:
        for note in step.report.notes if step.report is not None else ():
            console.print(f"[dim]{step.title}: {note}[/]")


def _table(console: Console, title: str, rows: list[dict[str, object]]) -> None:
    table = Table(
        title=title, title_justify="left", title_style="bold", header_style="bold", box=SIMPLE_HEAD
    )
    if not rows:
        console.print(f"{title}: none")
        return
    for name, value in rows[0].items():
        is_number = isinstance(value, int | float) or type(value).__name__ == "Decimal"
        table.add_column(name, justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        style = "dim italic" if row.get("source") == "simulated" else None
        table.add_row(*(_text(value) for value in row.values()), style=style)
    console.print(table)


def _text(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
