"""`scizor backfill`: fill history, in the runs that suit the providers, and resume it."""

import json
import time
from datetime import date, timedelta
from typing import TYPE_CHECKING, Annotated, Any
from uuid import uuid4

import typer

from scizor_cli.output import console, note, render_table
from scizor_core.errors import InvalidInputError
from scizor_core.markets import TIMEFRAMES, MarketSpec, Timeframe, check_timeframe, get_market

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from scizor_assets.backfill_outcome import Outcome
    from scizor_assets.backfill_runs import BackfillRun
    from scizor_core.backfill import Plan
    from scizor_resources.backfill import BackfillPlanner
    from scizor_resources.backfill_progress import BackfillProgress
    from scizor_resources.platform import Platform

EXAMPLES = (
    "Examples:\n\n"
    "  scizor backfill asx   (what of the watchlist is absent, two years back)\n\n"
    "  scizor backfill asx --symbols CBA,BHP --timeframe 5m --days 60\n\n"
    "  scizor backfill us --since 2020-01-01 --timeframe 1d --dry-run\n\n"
    "  scizor backfill crypto --no-wait   (on the workers of `scizor up`)"
)
_SHOWN_PIECES = 12
_SHOWN_SYMBOLS = 20
#: What a run costs beside the provider's answers.
_SECONDS_PER_RUN = 3
_POLL_SECONDS = 1.0
#: Exit code after Ctrl-C, as shells have it.
_INTERRUPTED = 130


def backfill(
    market: Annotated[str, typer.Argument(help="asx, us or crypto.")],
    symbols: Annotated[
        str | None,
        typer.Option(help="Only these, comma separated; by default the watchlist."),
    ] = None,
    timeframe: Annotated[
        list[str] | None,
        typer.Option(
            "--timeframe",
            "-t",
            help="1d, 5m (with 15m) or 1m (with 5m and 15m), may stand several times; by default "
            "what the watchlist says.",
        ),
    ] = None,
    since: Annotated[str | None, typer.Option(metavar="DATE", help="First session.")] = None,
    days: Annotated[
        int | None, typer.Option(min=1, help="Calendar days back, in place of --since.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="DATE", help="First session no longer wanted.")
    ] = None,
    again: Annotated[
        bool,
        typer.Option("--again", help="Ask for what is complete or explained, too."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan only.")] = False,
    wait: Annotated[
        bool,
        typer.Option("--wait/--no-wait", help="Wait for the end of the runs on the workers."),
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of text.")] = False,
) -> None:
    """Fill history that is neither stored nor explained, newest first.

    The workers of `scizor up` do it where that runs on this home, else this process. After a break
    the same command goes on with the rest.
    """
    from scizor_resources.backfill import BackfillPlanner
    from scizor_resources.platform import Platform

    spec = get_market(market)
    wanted_timeframes = frozenset(check_timeframe(each) for each in timeframe or ())
    if since is not None and days is not None:
        raise InvalidInputError("Give --since or --days, not both.")
    with Platform.open() as platform:
        planner = BackfillPlanner(platform, spec.name)
        first = None if since is None else _date(since, "--since")
        plan = planner.plan(
            _wanted(spec, planner, symbols, wanted_timeframes),
            planner.since(days) if first is None else dict.fromkeys(TIMEFRAMES, first),
            None if until is None else _date(until, "--until"),
            failed_too=True,
            again=again,
            strict=True,
        )
        if not as_json:
            _show_plan(planner, plan)
        outcome = None
        if plan.pieces and not dry_run:
            outcome = _run(platform, plan, wait=wait)
        if as_json:
            result = None if outcome is None else outcome.as_dict()
            typer.echo(json.dumps({"plan": _as_dict(planner, plan), "result": result}, indent=1))
        elif outcome is not None:
            _show_outcome(outcome)
    if outcome is not None and not outcome.is_over and wait:
        raise typer.Exit(_INTERRUPTED)
    if outcome is not None and outcome.failures:
        raise typer.Exit(1)


def _date(text: str, option: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise InvalidInputError(f"'{text}' is not a date for {option}: write 2026-11-20.") from None


def _wanted(
    market: MarketSpec,
    planner: "BackfillPlanner",
    symbols: str | None,
    timeframes: frozenset[Timeframe],
) -> dict[str, frozenset[Timeframe]]:
    """Return symbol -> timeframes, empty where the watchlist decides."""
    if symbols is None:
        watched = planner.watched()
        return dict.fromkeys(watched, timeframes) if timeframes else watched
    chosen = [market.check_symbol(each) for each in symbols.split(",") if each.strip()]
    if not chosen:
        raise InvalidInputError("--symbols names none: write --symbols CBA,BHP.")
    return dict.fromkeys(chosen, timeframes)


# ---- the plan


def _seconds(planner: "BackfillPlanner", plan: "Plan") -> float:
    return planner.seconds(plan) + _SECONDS_PER_RUN * len(plan.pieces)


def _as_dict(planner: "BackfillPlanner", plan: "Plan") -> dict[str, Any]:
    return {
        "market": plan.market,
        "pieces": [
            {
                "timeframe": each.timeframe,
                "first": str(each.first),
                "last": str(each.last),
                "symbols": list(each.symbols),
                "sessions": each.sessions,
                "provider": each.provider or None,
                "requests": each.requests,
            }
            for each in plan.pieces
        ],
        "sessions": plan.sessions,
        "sessions_settled": plan.settled,
        "requests": plan.requests,
        "seconds": round(_seconds(planner, plan)),
        "unreachable": [
            {
                "timeframe": each.timeframe,
                "symbols": list(each.symbols),
                "first": str(each.first),
                "last": str(each.last),
                "reason": each.reason,
            }
            for each in plan.unreachable
        ],
        "notes": list(plan.notes),
    }


def _show_plan(planner: "BackfillPlanner", plan: "Plan") -> None:
    out = console()
    for each in plan.unreachable:
        out.print("[yellow]Out of reach[/]  ", end="")
        out.print(each.sentence, markup=False)
    for text in plan.notes:
        out.print("[yellow]Left out[/]      ", end="")
        out.print(text, markup=False)
    if not plan.pieces:
        settled = f" {plan.settled:,} sessions are complete or explained." * bool(plan.settled)
        out.print(f"There is nothing to fetch.{settled}")
        return
    columns = ("timeframe", "first", "last", "symbols", "sessions", "calls", "provider")
    rows = [
        (
            each.timeframe,
            each.first,
            each.last,
            each.symbols[0] if len(each.symbols) == 1 else f"{len(each.symbols)} symbols",
            each.sessions,
            each.requests,
            each.provider or "-",
        )
        for each in plan.pieces[:_SHOWN_PIECES]
    ]
    out.print(render_table(columns, rows))
    more = len(plan.pieces) - _SHOWN_PIECES
    if more > 0:
        out.print(f"... and {more} more runs")
    calls = ", ".join(f"{count:,} of {name}" for name, count in plan.requests.items()) or "none"
    took = timedelta(seconds=round(_seconds(planner, plan)))
    out.print(
        f"{len(plan.pieces):,} runs, {plan.sessions:,} sessions of symbols "
        f"({plan.settled:,} are complete or explained); calls: {calls}; about {took}."
    )


# ---- the runs


def _run(platform: "Platform", plan: "Plan", *, wait: bool) -> "Outcome":
    from scizor_assets.backfill_outcome import outcome_of
    from scizor_assets.backfill_runs import PERSON_PRIORITY, backfill_name, runs_of
    from scizor_assets.launch import Launcher
    from scizor_resources.health.processes import read_up

    up = read_up(platform.settings.home)
    if up.ui_url is None and not wait:
        raise InvalidInputError(
            "`scizor up` does not run on this home, so that nobody would do the runs: start it, or "
            "leave --no-wait out."
        )
    name = f"{backfill_name(plan.market, 'cli', platform.now())}-{uuid4().hex[:4]}"
    runs = runs_of(plan, name, "cli", PERSON_PRIORITY, watched_only=False)
    with console(stderr=True).status("Loading the asset graph ..."):
        launcher = Launcher(platform, marts=False)
    if up.ui_url is not None:
        is_over = _on_the_workers(platform, runs, up.ui_url, wait=wait)
    else:
        is_over = _in_this_process(platform, launcher, runs)
    with launcher.instance() as instance:
        return outcome_of(instance, platform, name, is_over=is_over)


def _on_the_workers(
    platform: "Platform", runs: "list[BackfillRun]", url: str, *, wait: bool
) -> bool:
    """Put the runs into the queue and follow them; says whether they have ended."""
    from scizor_assets.jobs import job_of
    from scizor_resources.backfill_progress import progress_of
    from scizor_resources.dagster_api import DagsterApi

    api = DagsterApi(url)
    for run in runs:
        job = job_of(run.piece.market, run.piece.timeframe)
        api.launch(job, run.assets, run.run_config, run.tags | run.partition_tags)
    name = runs[0].backfill
    note(f"{len(runs)} runs are queued, tag scizor/backfill={name}; the UI is at {url}.")
    if not wait:
        return False
    try:
        with _progress() as bar:
            task = bar.add_task("queued", total=100.0, rows=0, left="")
            while True:
                found = progress_of(platform.warehouse, name, platform.now())
                if found is not None:
                    _advance(bar, task, found)
                    if found.runs_done >= found.runs:
                        return True
                time.sleep(_POLL_SECONDS)
    except KeyboardInterrupt:
        note(
            "The runs that are left go on on the workers: `scizor status` shows them, the UI can "
            "end them. The same command asks only for what is absent then."
        )
        return False


def _in_this_process(platform: "Platform", launcher: Any, runs: "list[BackfillRun]") -> bool:
    """Execute the runs one after the other; says whether all have ended."""
    from scizor_assets.backfill_outcome import end_broken_off, launch_of
    from scizor_assets.launch import RunFailedError
    from scizor_resources.backfill_progress import progress_of

    done = 0
    try:
        with launcher.instance() as instance, _progress() as bar:
            end_broken_off(instance)
            task = bar.add_task("", total=100.0, rows=0, left="")
            for run in runs:
                bar.update(task, description=run.title)
                try:
                    launcher.run(instance, launch_of(run))
                except RunFailedError as error:
                    # The other pieces may well succeed; the summary says what failed.
                    bar.console.print(str(error), style="red", markup=False)
                done += 1
                found = progress_of(platform.warehouse, run.backfill, platform.now())
                if found is not None:
                    _advance(bar, task, found, describe=False)
    except KeyboardInterrupt:
        note(
            f"Stopped after {done} of {len(runs)} runs. What they have stored stays; the same "
            "command goes on with the rest."
        )
        return False
    return True


def _progress() -> "Progress":
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %, {task.fields[rows]:,} rows{task.fields[left]}"),
        TimeElapsedColumn(),
        console=console(stderr=True),
    )


def _advance(
    bar: "Progress", task: "TaskID", found: "BackfillProgress", *, describe: bool = True
) -> None:
    left = found.seconds_left
    shown = "" if left is None or not left else f", about {timedelta(seconds=round(left))} left"
    bar.update(task, completed=found.percent, rows=found.rows, left=shown)
    if describe:
        bar.update(task, description=f"{found.runs_done} of {found.runs} runs")


# ---- the end


def _show_outcome(outcome: "Outcome") -> None:
    out = console()
    progress = outcome.progress
    took = timedelta(seconds=round(progress.seconds))
    state = "ended" if outcome.is_over else "have ended so far"
    out.print(
        f"{progress.runs_done} of {progress.runs} runs {state}, {progress.runs_failed} of them "
        f"failed: {progress.rows:,} rows in {progress.requests:,} calls, {took}."
    )
    shown = list(outcome.without_data.items())
    for (timeframe, symbol), reason in shown[:_SHOWN_SYMBOLS]:
        out.print(f"No {timeframe} bars of {symbol}: {reason}", markup=False)
    if len(shown) > _SHOWN_SYMBOLS:
        out.print(f"... and {len(shown) - _SHOWN_SYMBOLS} more; --json has all of them.")
    for title, sentence in outcome.failures.items():
        out.print(f"Failed: {title}: {sentence}", markup=False)
