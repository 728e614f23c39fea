"""`scizor archive`: closed months of bars as files: list, archive, verify, bring back."""

import sys
from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, Annotated

import typer

from scizor_cli.output import console, note, render_table, write_json

if TYPE_CHECKING:
    from scizor_resources.platform import Platform
    from scizor_resources.stores.archive import MonthReport

app = typer.Typer(
    help="Closed months of bars as Parquet files (docs/operations.md, Archive).",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
_JSON = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]
_MONTH = Annotated[
    list[str] | None,
    typer.Option("--month", metavar="YYYY-MM", help="Only this month; may be given repeatedly."),
]
_COLUMNS = ("market", "timeframe", "month", "state", "rows", "bytes")


@app.command(
    name="list", epilog="Examples:\n\n  scizor archive list\n\n  scizor archive list --json"
)
def list_(as_json: _JSON = False) -> None:
    """Show the files of the archive and their state."""
    from scizor_resources.platform import Platform

    with Platform.open() as platform:
        months = platform.archive.months()
        stray = platform.archive.unrecorded()
        where = platform.settings.archive_location
    columns = (*_COLUMNS, "released_at", "path")
    rows = [
        (
            each.key.market,
            each.key.timeframe,
            f"{each.key.month:%Y-%m}",
            each.state,
            each.rows,
            each.bytes,
            each.released_at,
            each.path,
        )
        for each in months
    ]
    if as_json:
        write_json(columns, rows, sys.stdout)
        return
    if stray:
        note(f"{len(stray)} files are on no record and are not read: {', '.join(stray[:5])}.")
    if not months:
        note("Nothing is archived; `scizor archive run --dry-run` tells what is due.")
        return
    console().print(render_table(columns, rows))
    note(f"The files are in {where}.")


@app.command(
    epilog="Examples:\n\n  scizor archive run --dry-run\n\n  scizor archive run\n\n"
    "  scizor archive run --month 2022-05 --release"
)
def run(
    month: _MONTH = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done and do nothing.")
    ] = False,
    release: Annotated[
        bool,
        typer.Option("--release", help="Delete from PostgreSQL what is verified; daily bars stay."),
    ] = False,
    as_json: _JSON = False,
) -> None:
    """Archive the months that are due; with --release they leave PostgreSQL."""
    from scizor_core.archive import parse_month
    from scizor_resources.platform import Platform

    chosen = None if month is None else [parse_month(each) for each in month]
    with Platform.open() as platform:
        if dry_run:
            reports = platform.archive.run(chosen, release=release, dry_run=True)
            _show(reports, as_json=as_json)
            note("Nothing was done; without --dry-run it is.")
            return
        months = platform.archive.due(release=release) if chosen is None else chosen
        if not months:
            note("Every month of bars that is due is archived.")
            return
        _launch(platform, months, release=release)
        kept = [each for each in platform.archive.months() if each.key.month in months]
    columns = (*_COLUMNS, "path")
    rows = [
        (
            each.key.market,
            each.key.timeframe,
            f"{each.key.month:%Y-%m}",
            each.state,
            each.rows,
            each.bytes,
            each.path,
        )
        for each in kept
    ]
    if as_json:
        write_json(columns, rows, sys.stdout)
    else:
        console().print(render_table(columns, rows))


def _launch(platform: "Platform", months: Sequence[date], *, release: bool) -> None:
    from scizor_assets.launch import Launch, Launcher
    from scizor_cli.materialize import execute

    launches = [
        Launch(
            ("archive/bars",),
            each.isoformat(),
            title=f"archive {each:%Y-%m}",
            config={"release": release},
        )
        for each in months
    ]
    out = console(stderr=True)
    execute(out, Launcher(platform, marts=False), launches, "archive")


@app.command(
    epilog="Examples:\n\n  scizor archive verify\n\n  scizor archive verify --month 2022-05"
)
def verify(month: _MONTH = None, as_json: _JSON = False) -> None:
    """Read the files and compare them with what is on record; exit code 1 if one is wrong."""
    from scizor_core.archive import parse_month
    from scizor_resources.platform import Platform

    chosen = None if month is None else {parse_month(each) for each in month}
    with Platform.open() as platform:
        keys = [
            each.key
            for each in platform.archive.months()
            if chosen is None or each.key.month in chosen
        ]
        reports = platform.archive.verify(keys)
    _show(reports, as_json=as_json)
    wrong = [each for each in reports if each.problem]
    for each in wrong:
        note(each.problem)
    if wrong:
        raise typer.Exit(1)
    note(f"{len(reports)} files are as they were written.")


@app.command(epilog="Example:\n\n  scizor archive restore us 1m 2022-05")
def restore(
    market: Annotated[str, typer.Argument(help="Market, for example us.")],
    timeframe: Annotated[str, typer.Argument(help="Timeframe, for example 1m.")],
    month: Annotated[str, typer.Argument(metavar="YYYY-MM", help="Month, UTC.")],
    as_json: _JSON = False,
) -> None:
    """Bring the bars of a month back into PostgreSQL; its file stays."""
    from scizor_core.archive import parse_month
    from scizor_core.markets import check_timeframe, get_market
    from scizor_resources.platform import Platform

    name, chosen, first = get_market(market).name, check_timeframe(timeframe), parse_month(month)
    with Platform.open() as platform:
        report = platform.archive.restore(name, chosen, first)
    _show([report], as_json=as_json)
    note(f"{report.rows:,} bars of {report.key} are in PostgreSQL again.")


def _show(reports: "Sequence[MonthReport]", *, as_json: bool) -> None:
    columns = (*_COLUMNS, "action", "problem")
    rows = [
        (
            each.key.market,
            each.key.timeframe,
            f"{each.key.month:%Y-%m}",
            each.state,
            each.rows,
            each.bytes,
            each.action,
            each.problem,
        )
        for each in reports
    ]
    if as_json:
        write_json(columns, rows, sys.stdout)
    elif rows:
        console().print(render_table(columns[:-1], [row[:-1] for row in rows]))
