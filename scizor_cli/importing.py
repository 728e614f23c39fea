"""`scizor import`: a file of bars or trades onto the tape, and from there into the tables."""

import csv
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scizor_cli.output import console, note, text_output
from scizor_core.errors import InvalidInputError
from scizor_core.markets import TIMEFRAMES, Timeframe, check_timeframe

if TYPE_CHECKING:
    from scizor_core.instruments import Instrument
    from scizor_resources.platform import Platform
    from scizor_resources.tape.importer import ImportReport, ImportSpec

EXAMPLES = (
    "Examples:\n\n"
    "  scizor import cba.csv --market asx --symbol CBA --timeframe 1d\n\n"
    "  scizor import trades.csv.gz --market crypto --symbol BTC/USD --timeframe tick "
    '--columns "ts=time,size=qty"\n\n'
    "  scizor import bhp_1m.parquet --market asx --symbol BHP --timeframe 1m "
    "--timezone Australia/Sydney --source broker --dry-run"
)
_REJECTS_SHOWN = 20


def import_(
    file: Annotated[Path, typer.Argument(help="CSV (plain or gzip) or Parquet.")],
    market: Annotated[str, typer.Option(help="asx, us or crypto.")],
    symbol: Annotated[str, typer.Option(help="Symbol of all rows; created where not known.")],
    timeframe: Annotated[
        str, typer.Option("--timeframe", "-t", help="1m, 5m, 15m, 1d, or tick for trades.")
    ],
    columns: Annotated[
        str, typer.Option(help='Columns that a guess would miss: "ts=Date,open=Open".')
    ] = "",
    timezone: Annotated[
        str | None,
        typer.Option(help="Zone of times without an offset, for example Australia/Sydney."),
    ] = None,
    source: Annotated[
        str, typer.Option(help="Short name of where the data is from; stored as tape/NAME.")
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the file, keep nothing.")
    ] = False,
    materialize: Annotated[
        bool,
        typer.Option(
            "--materialize/--no-materialize", help="Fill the tables from the file right away."
        ),
    ] = True,
    rejects: Annotated[
        Path | None, typer.Option(help="Write every refused row with its reason to this CSV file.")
    ] = None,
) -> None:
    """Bring your own history: good rows are kept, refused ones are told with the reason.

    A 1m file fills 1m, 5m and 15m bars, a 5m file 5m and 15m, trades all of them; indicators and
    completeness follow. Importing the same file again changes nothing.
    """
    from scizor_resources.platform import Platform
    from scizor_resources.tape.columns import parse_columns
    from scizor_resources.tape.importer import ImportSpec, import_file

    spec = ImportSpec(market, symbol, timeframe, parse_columns(columns), timezone, source)
    if not dry_run:
        with Platform.open() as platform:
            report = import_file(file, spec, platform.settings.tape_directory)
            _tell_report(report, spec, rejects, dry_run=False)
            _keep(platform, report, materialize=materialize)
        return
    with tempfile.TemporaryDirectory(prefix="scizor-import-") as directory:
        report = import_file(file, spec, Path(directory))
    _tell_report(report, spec, rejects, dry_run=True)
    _require_good(report)
    typer.echo("Dry run: nothing was kept.")


def _tell_report(
    report: "ImportReport", spec: "ImportSpec", rejects: Path | None, *, dry_run: bool
) -> None:
    for text in report.notes:
        note(f"Note: {text}.")
    used = ", ".join(f"{field}={column}" for field, column in report.columns.items())
    typer.echo(f"Columns: {used}")
    kind = "trades" if report.spec.timeframe == "tick" else f"{report.spec.timeframe} bars"
    if report.good_rows and report.first_ts is not None and report.last_ts is not None:
        count = len(report.session_dates)
        typer.echo(
            f"{report.good_rows:,} good {kind} of {report.spec.symbol} ({report.spec.market}), "
            f"{report.first_ts:%Y-%m-%d %H:%M} to {report.last_ts:%Y-%m-%d %H:%M} UTC, "
            f"{count:,} session{'' if count == 1 else 's'}."
        )
    if len(report.rejected):
        _tell_rejects(report, spec.timezone is None and report.spec.timeframe != "1d")
    if rejects is not None:
        _write_rejects(report, rejects)
    elif dry_run and len(report.rejected) > _REJECTS_SHOWN:
        note("--rejects FILE writes all of them.")


def _tell_rejects(report: "ImportReport", zone_may_help: bool) -> None:  # noqa: FBT001  # private
    rejected = report.rejected
    note(f"{len(rejected):,} rows refused:")
    for row in rejected.head(_REJECTS_SHOWN).itertuples(index=False):
        note(f"  row {row.row_number}: {row.reason}")
    if len(rejected) > _REJECTS_SHOWN:
        rest = rejected.iloc[_REJECTS_SHOWN:]
        note(f"  ... and {len(rest):,} more: {_summary(rest['reason'].tolist())}")
    outside = rejected["reason"].str.contains("outside every session").mean()
    if zone_may_help and outside > 0.5:  # noqa: PLR2004  # most of them
        note("  Most lie outside the sessions: are the times really UTC? See --timezone.")


def _summary(reasons: Sequence[str]) -> str:
    counts: dict[str, int] = {}
    for reason in reasons:
        counts[reason] = counts.get(reason, 0) + 1
    first = sorted(counts.items(), key=lambda item: -item[1])[:3]
    return "; ".join(f"{reason} ({count:,})" for reason, count in first)


def _write_rejects(report: "ImportReport", path: Path) -> None:
    """Write the refused rows as they came, each with number and reason, to mend and import."""
    payloads = [dict(payload or {}) for payload in report.rejected["payload"]]
    names = list(dict.fromkeys(name for payload in payloads for name in payload))
    with text_output(path) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["row_number", "reason", *names])
        for row, payload in zip(report.rejected.itertuples(index=False), payloads, strict=True):
            cells = [payload.get(name, "") for name in names]
            writer.writerow([row.row_number, row.reason, *cells])
    note(f"{len(payloads):,} refused rows written to {path}.")


def _require_good(report: "ImportReport") -> None:
    if not report.good_rows:
        raise InvalidInputError(
            f"No row of {report.path.name} can be used; nothing was kept. The first one: "
            f"{report.rejected['reason'].iloc[0]}."
        )


def _keep(platform: "Platform", report: "ImportReport", *, materialize: bool) -> None:
    from scizor_resources.pipeline.bring_in import bring_in

    spec = report.spec
    brought = bring_in(platform.reference, platform.quality, report)
    if brought.quarantined:
        typer.echo(f"{brought.quarantined:,} refused rows went to quality.quarantine.")
    _require_good(report)
    instrument, _ = platform.reference.ensure(spec.market, spec.symbol)
    if brought.created:
        typer.echo(
            f"{spec.symbol} is new: it was created in market {spec.market}. Add it to the "
            f"watchlist to collect it: scizor watchlist add {spec.symbol} --market {spec.market}"
        )
    if "tape" not in platform.settings.chain(spec.market):
        note(
            f"Note: SCIZOR_CHAIN_{spec.market.upper()} leaves out `tape`, so that runs do not read "
            "imported files."
        )
    finest: Timeframe = "1m" if spec.timeframe == "tick" else check_timeframe(spec.timeframe)
    todo = report.session_dates
    if report.already_imported:
        todo = _not_stored(platform, instrument, finest, todo)
        if not todo:
            typer.echo("This file is on the tape already: nothing changed.")
            return
        typer.echo(
            f"This file is on the tape already; {len(todo):,} of its sessions are not filled."
        )
    if not materialize:
        typer.echo(f"On the tape: {report.good_rows:,} rows. The tables were not filled.")
        return
    sessions = {finest: todo}
    if spec.timeframe == "tick":
        daily = _daily_from_ticks(platform, instrument, todo)
        sessions |= {"1d": daily} if daily else {}
    _materialize(platform, instrument, sessions)
    filled = TIMEFRAMES if spec.timeframe == "tick" else TIMEFRAMES[TIMEFRAMES.index(finest) :]
    if finest != "1d" and spec.timeframe != "tick":
        filled = tuple(each for each in filled if each != "1d")
    _tell_stored(platform, instrument, report.session_dates, filled)


def _not_stored(
    platform: "Platform", instrument: "Instrument", timeframe: Timeframe, days: Sequence[date]
) -> list[date]:
    """Return the sessions without any bar: what an import that was cut off has left to do."""
    with platform.warehouse.connect() as connection:
        rows = connection.execute(
            "SELECT DISTINCT session_date FROM market.bars WHERE instrument_id = %s "
            "AND timeframe = %s AND session_date = ANY(%s)",
            [instrument.instrument_id, timeframe, list(days)],
        ).fetchall()
    stored = {row["session_date"] for row in rows}
    return [day for day in days if day not in stored]


def _daily_from_ticks(
    platform: "Platform", instrument: "Instrument", days: Sequence[date]
) -> list[date]:
    """Return the sessions whose trades reach from open to close, so that they make a daily bar."""
    from scizor_resources.providers.base import BarRequest, SymbolRef

    batch = platform.tape.fetch_bars(
        BarRequest(
            instrument.market,
            "1d",
            datetime.combine(min(days), time(), UTC),
            datetime.combine(max(days) + timedelta(days=1), time(), UTC),
            (SymbolRef(instrument.instrument_id, instrument.symbol),),
        )
    )
    made = {ts.date() for ts in batch.bars["ts"]}
    return [day for day in days if day in made]


def _materialize(
    platform: "Platform", instrument: "Instrument", sessions: dict[Timeframe, list[date]]
) -> None:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    shown = console(stderr=True)
    with ExitStack() as stack:
        progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=shown,
            transient=True,
            disable=not shown.is_terminal,
        )
        stack.enter_context(progress)
        task = progress.add_task("starting Dagster ...", total=None)
        # Dagster takes seconds to import; only here is it needed.
        from scizor_assets.launch import materialize_sessions

        def advance(done: int, total: int, title: str) -> None:
            progress.update(task, completed=done, total=total, description=title)

        for timeframe, days in sessions.items():
            # What an import stores is what its file holds; no other provider is asked for more.
            materialize_sessions(
                platform,
                instrument.market,
                timeframe,
                days,
                [instrument.symbol],
                advance,
                ("tape",),
            )


def _tell_stored(
    platform: "Platform",
    instrument: "Instrument",
    days: Sequence[date],
    timeframes: Sequence[Timeframe],
) -> None:
    with platform.warehouse.connect() as connection:
        rows: list[dict[str, Any]] = connection.execute(
            "SELECT timeframe, count(*) AS bars "
            "FROM market.bars WHERE instrument_id = %s AND session_date = ANY(%s) "
            "AND timeframe = ANY(%s) AND source LIKE '%%tape%%' GROUP BY timeframe",
            [instrument.instrument_id, list(days), list(timeframes)],
        ).fetchall()
    rows.sort(key=lambda row: TIMEFRAMES.index(row["timeframe"]))
    if not rows:
        typer.echo("No bar was stored from this file: see the run in the Dagster UI.")
        return
    counts = ", ".join(f"{row['timeframe']} {row['bars']:,}" for row in rows)
    typer.echo(f"Stored bars of {instrument.symbol} in these sessions: {counts}.")
    finest = rows[0]["timeframe"]
    typer.echo(
        f"See them: scizor bars {instrument.symbol} --market {instrument.market} "
        f"--timeframe {finest} --start {days[0]}"
    )
