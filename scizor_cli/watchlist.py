"""`scizor watchlist`: what is collected; the same table that SQL can edit."""

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scizor_cli.output import console, note, text_output
from scizor_core.errors import InvalidInputError, ScizorError
from scizor_core.instruments import WatchlistEntry
from scizor_core.markets import get_market

if TYPE_CHECKING:
    from scizor_resources.stores.reference import ReferenceStore

#: Columns of an export, in order; `symbol` alone is enough for an import.
CSV_COLUMNS: tuple[str, ...] = (
    "symbol",
    "market",
    "priority",
    "collect_1min",
    "collect_5min",
    "active",
    "notes",
    "name",
)
_ALIASES = {"tier": "priority", "collect_1m": "collect_1min", "collect_5m": "collect_5min"}
_TRUE, _FALSE = ("true", "t", "yes", "y", "1"), ("false", "f", "no", "n", "0")
_SHOWN_PROBLEMS = 50

Key = tuple[str, str, str]

app = typer.Typer(
    help="See and change what is collected. Changes count from the next run on.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

Symbols = Annotated[list[str], typer.Argument(help="One or more symbols.")]
Market = Annotated[str, typer.Option(help="Market of the symbols: asx, us or crypto.")]
Name = Annotated[str, typer.Option(help="Name of the watchlist.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would change, change nothing.")]
Tier = Annotated[
    int | None, typer.Option(help="1 (most liquid: 1 and 5 minute), 2 or 3 (5 minute).")
]
Collect1 = Annotated[
    bool | None,
    typer.Option("--collect-1m/--no-collect-1m", help="1 minute bars; by default for tier 1."),
]
Collect5 = Annotated[
    bool | None, typer.Option("--collect-5m/--no-collect-5m", help="5 and 15 minute bars.")
]
Active = Annotated[
    bool | None, typer.Option("--active/--inactive", help="Inactive: kept, but not collected.")
]
Notes = Annotated[str | None, typer.Option(help="Your own words.")]


@app.command(
    "list",
    epilog="Examples:\n\n  scizor watchlist list\n\n  scizor watchlist list --market us --json",
)
def list_(
    market: Annotated[str | None, typer.Option(help="Only this market.")] = None,
    name: Annotated[str | None, typer.Option(help="Only the watchlist of this name.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
) -> None:
    """Show the watchlist by tier."""
    from scizor_resources.platform import Platform

    with Platform.open() as platform:
        entries = _chosen(platform.reference, market, name)
        instruments = {
            (each.market, each.symbol): each
            for spec in sorted({entry.market for entry in entries})
            for each in platform.reference.instruments(spec)
        }
    records = []
    for entry in entries:
        instrument = instruments.get((entry.market, entry.symbol))
        gone = instrument is not None and instrument.delisted_on is not None
        records.append(
            asdict(entry)
            | {
                "company": instrument.name if instrument else "",
                "delisted_on": str(instrument.delisted_on) if instrument and gone else None,
                "successor": instrument.successor if instrument else None,
            }
        )
    if as_json:
        typer.echo(json.dumps(records, indent=1, ensure_ascii=False))
    elif records:
        _show(records)
    else:
        typer.echo("Nothing is on that watchlist: `scizor watchlist add SYMBOL`.")


def _show(records: list[dict[str, Any]]) -> None:
    from rich.table import Table

    several = len({record["name"] for record in records}) > 1
    table = Table(box=None, header_style="bold", pad_edge=False)
    for header in ("tier", "market", "symbol", "company", "collects", "notes"):
        table.add_column(header, no_wrap=header != "notes", overflow="fold")
    if several:
        table.add_column("list")
    records = sorted(records, key=lambda each: (each["name"], each["priority"], each["market"]))
    previous = None
    for record in records:
        group = (record["name"], record["priority"])
        if previous is not None and group != previous:
            table.add_section()
            table.add_row()
        previous = group
        table.add_row(*_cells(record), *([record["name"]] if several else []))
    console().print(table)
    active = sum(record["active"] for record in records)
    note(f"{len(records)} entries, {active} active.")


def _cells(record: dict[str, Any]) -> list[str]:
    frames = ["1m"] * record["collect_1min"] + ["5m"] * record["collect_5min"]
    collects = "+".join([*frames, "1d"]) if record["active"] else "inactive"
    notes = record["notes"]
    if record["delisted_on"]:
        collects = f"[red]delisted {record['delisted_on']}[/]"
        notes = notes or record["successor"] or ""
    return [
        str(record["priority"]),
        record["market"],
        record["symbol"],
        record["company"].replace("[", r"\["),
        collects,
        notes.replace("[", r"\[") if notes else "",
    ]


@app.command(
    epilog="Examples:\n\n  scizor watchlist add PLS --tier 2\n\n"
    "  scizor watchlist add AAPL MSFT --market us --tier 1\n\n"
    "  scizor watchlist add BTC/USD --market crypto --dry-run"
)
def add(
    symbols: Symbols,
    market: Market = "asx",
    name: Name = "default",
    tier: Tier = None,
    collect_1m: Collect1 = None,
    collect_5m: Collect5 = None,
    active: Active = None,
    notes: Notes = None,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave out what is there already.")
    ] = False,
    dry_run: DryRun = False,
) -> None:
    """Add symbols, all or none; a symbol not known yet is created."""
    priority = 2 if tier is None else tier
    entries = [
        WatchlistEntry(
            market,
            symbol,
            priority,
            priority == 1 if collect_1m is None else collect_1m,
            collect_5m is not False,
            active is not False,
            notes or "",
            name,
        ).checked()
        for symbol in symbols
    ]
    from scizor_resources.platform import Platform

    with Platform.open() as platform:
        stored = _keys(platform.reference.watchlist())
        problems = [] if skip_existing else find_duplicates(list(enumerate(entries)), stored)
        if problems:
            raise InvalidInputError(" ".join(text for _, text in problems))
        wanted = _without(entries, stored) if skip_existing else entries
        _add(platform.reference, wanted, dry_run=dry_run)
        _tell_skipped(len(entries) - len(wanted))


@app.command(
    epilog="Examples:\n\n  scizor watchlist remove ZIP\n\n"
    "  scizor watchlist remove AAPL --market us --dry-run"
)
def remove(
    symbols: Symbols, market: Market = "asx", name: Name = "default", dry_run: DryRun = False
) -> None:
    """Take symbols off the watchlist, all or none; their bars stay."""
    from scizor_resources.platform import Platform

    with Platform.open() as platform:
        entries = [platform.reference.get_entry(market, symbol, name) for symbol in symbols]
        entries = list(dict.fromkeys(entries))
        for entry in entries:
            if not dry_run:
                platform.reference.remove(entry.market, entry.symbol, entry.name)
            would = "Would remove" if dry_run else "Removed"
            typer.echo(f"{would} {_describe(entry)}. Bars already stored stay.")


@app.command(
    "set",
    epilog="Examples:\n\n  scizor watchlist set RIO --tier 1 --collect-1m\n\n"
    "  scizor watchlist set ZIP XRO --inactive\n\n"
    '  scizor watchlist set CBA --notes "depth kept" --dry-run',
)
def set_(
    symbols: Symbols,
    market: Market = "asx",
    name: Name = "default",
    tier: Tier = None,
    collect_1m: Collect1 = None,
    collect_5m: Collect5 = None,
    active: Active = None,
    notes: Notes = None,
    dry_run: DryRun = False,
) -> None:
    """Change entries, all or none; what is not named stays as it is."""
    given = {
        "priority": tier,
        "collect_1min": collect_1m,
        "collect_5min": collect_5m,
        "active": active,
        "notes": notes,
    }
    fields = {field: value for field, value in given.items() if value is not None}
    if not fields:
        raise typer.BadParameter("Say what to change: --tier, --collect-1m, --inactive, --notes")
    from scizor_resources.platform import Platform

    with Platform.open() as platform:
        before = [platform.reference.get_entry(market, symbol, name) for symbol in symbols]
        after = [replace(entry, **fields).checked() for entry in before]  # type: ignore[arg-type]  # checked() validates
        for old, new in zip(before, after, strict=True):
            difference = describe_change(old, new)
            if difference and not dry_run:
                platform.reference.change(old.market, old.symbol, old.name, **fields)
            would = "Would change" if dry_run else "Changed"
            told = f"{would} {old.symbol} ({old.market}): {difference}."
            typer.echo(told if difference else f"{old.symbol} ({old.market}) is like that already.")


@app.command(
    "import",
    epilog="Examples:\n\n  scizor watchlist import portfolio.csv --dry-run\n\n"
    "  scizor watchlist import nasdaq.csv --market us --skip-existing\n\n"
    "The file has a header with symbol and, as you like, market, priority (tier), collect_1min, "
    "collect_5min, active, notes, name; or it is a plain list of symbols, one a line.",
)
def import_(
    file: Annotated[Path, typer.Argument(help="CSV file.")],
    market: Annotated[str, typer.Option(help="Market of rows that name none.")] = "asx",
    name: Annotated[str, typer.Option(help="Watchlist of rows that name none.")] = "default",
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave out what is there already.")
    ] = False,
    dry_run: DryRun = False,
) -> None:
    """Add the symbols of a file, all or none; every bad line is told."""
    parsed = parse_watchlist(_read(file), market, name)
    from scizor_resources.platform import Platform

    with Platform.open() as platform:
        stored = _keys(platform.reference.watchlist())
        known = set[Key]() if skip_existing else stored
        problems = sorted([*parsed.problems, *find_duplicates(parsed.entries, known)])
        if problems:
            for line, reason in problems[:_SHOWN_PROBLEMS]:
                note(f"line {line}: {reason}")
            if len(problems) > _SHOWN_PROBLEMS:
                note(f"... and {len(problems) - _SHOWN_PROBLEMS} more")
            raise InvalidInputError(
                f"{len(problems)} of the lines of {file.name} cannot be used; nothing was changed."
            )
        entries = [entry for _, entry in parsed.entries]
        wanted = _without(entries, stored)
        _add(platform.reference, wanted, dry_run=dry_run)
        _tell_skipped(len(entries) - len(wanted))


@app.command(
    epilog="Examples:\n\n  scizor watchlist export\n\n"
    "  scizor watchlist export mine.csv --market us"
)
def export(
    file: Annotated[Path | None, typer.Argument(help="File to write; default: the screen.")] = None,
    market: Annotated[str | None, typer.Option(help="Only this market.")] = None,
    name: Annotated[str | None, typer.Option(help="Only the watchlist of this name.")] = None,
) -> None:
    """Write the watchlist as CSV that `watchlist import` reads."""
    from scizor_resources.platform import Platform

    with Platform.open() as platform:
        entries = _chosen(platform.reference, market, name)
    with text_output(file) as stream:
        writer = csv.DictWriter(stream, CSV_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(_csv_row(entry) for entry in entries)
    if file is not None:
        note(f"{len(entries)} entries written to {file}.")


@dataclass(frozen=True)
class ParsedWatchlist:
    """What a file of symbols holds.

    Attributes:
        entries: line number (1-based) and entry.
        problems: line number and why that line cannot be used.
    """

    entries: list[tuple[int, WatchlistEntry]]
    problems: list[tuple[int, str]]


def parse_watchlist(text: str, market: str, name: str) -> ParsedWatchlist:
    """Read a CSV with a header, or a plain list of symbols.

    Args:
        text: the file; empty lines and lines that begin with # count as nothing.
        market: market of rows that name none.
        name: watchlist of rows that name none.

    Raises:
        InvalidInputError: there is no row, or the header cannot be used.
    """
    reader = csv.reader(text.splitlines())
    rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    rows = [(line, row) for line, row in rows if any(row) and not row[0].startswith("#")]
    if not rows:
        raise InvalidInputError("The file has no symbol in it.")
    header = _header(rows[0][1])
    if header is None and any(len(row) > 1 for _, row in rows):
        raise InvalidInputError(
            f"The first line has no column 'symbol'. Known columns: {', '.join(CSV_COLUMNS)}."
        )
    entries, problems = [], []
    for line, row in rows[0 if header is None else 1 :]:
        try:
            entries.append((line, _entry(row, header or ["symbol"], market, name)))
        except ScizorError as error:
            problems.append((line, str(error)))
    if not entries and not problems:
        raise InvalidInputError("The file has a header and no symbol.")
    return ParsedWatchlist(entries, problems)


def _header(row: Sequence[str]) -> list[str] | None:
    names = [_ALIASES.get(cell.lower(), cell.lower()) for cell in row]
    if "symbol" not in names:
        return None
    unknown = [each for each in names if each not in CSV_COLUMNS]
    twice = {each for each in names if names.count(each) > 1}
    if unknown or twice:
        wrong = f"does not know {', '.join(unknown)}" if unknown else f"has {twice.pop()} twice"
        raise InvalidInputError(f"The header {wrong}. Known columns: {', '.join(CSV_COLUMNS)}.")
    return names


def _entry(row: list[str], header: list[str], market: str, name: str) -> WatchlistEntry:
    if len(row) > len(header):
        raise InvalidInputError(f"has {len(row)} cells where the header has {len(header)}.")
    cells = {key: value for key, value in zip(header, row, strict=False) if value}
    if "symbol" not in cells:
        raise InvalidInputError("has no symbol.")
    priority = _tier(cells.get("priority", "2"))
    return WatchlistEntry(
        cells.get("market", market),
        cells["symbol"],
        priority,
        _truth(cells, "collect_1min", default=priority == 1),
        _truth(cells, "collect_5min", default=True),
        _truth(cells, "active", default=True),
        cells.get("notes", ""),
        cells.get("name", name),
    ).checked()


def _tier(text: str) -> int:
    if not text.isdecimal():
        raise InvalidInputError(f"priority '{text}' is not a tier: use 1, 2 or 3.")
    return int(text)


def _truth(cells: dict[str, str], column: str, *, default: bool) -> bool:
    text = cells.get(column, "").lower()
    if not text:
        return default
    if text not in (*_TRUE, *_FALSE):
        raise InvalidInputError(f"{column} '{cells[column]}' is neither true nor false.")
    return text in _TRUE


def find_duplicates(
    entries: Sequence[tuple[int, WatchlistEntry]], stored: set[Key]
) -> list[tuple[int, str]]:
    """Return place and reason of each entry that is stored already, or comes again."""
    problems = []
    seen: dict[Key, int] = {}
    for place, entry in entries:
        key, what = _key(entry), f"{entry.symbol} ({entry.market})"
        if key in stored:
            problems.append(
                (
                    place,
                    f"{what} is in watchlist '{entry.name}' already: change it with `scizor "
                    "watchlist set`, or leave it out with --skip-existing.",
                )
            )
        elif key in seen:
            problems.append((place, f"{what} is given twice."))
        seen.setdefault(key, place)
    return problems


def describe_change(old: WatchlistEntry, new: WatchlistEntry) -> str:
    """Return what differs, "" where nothing does."""
    before, after = asdict(old), asdict(new)
    names = {"priority": "tier"}
    return ", ".join(
        f"{names.get(field, field)} {_shown(before[field])} -> {_shown(after[field])}"
        for field in before
        if before[field] != after[field]
    )


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"'{value}'" if isinstance(value, str) else str(value)


def _describe(entry: WatchlistEntry) -> str:
    frames = ["1m"] * entry.collect_1min + ["5m"] * entry.collect_5min
    state = "" if entry.active else ", inactive"
    where = "" if entry.name == "default" else f" in watchlist '{entry.name}'"
    collected = "+".join([*frames, "1d"])
    return f"{entry.symbol} ({entry.market}, tier {entry.priority}, {collected}{state}){where}"


def _add(reference: "ReferenceStore", entries: list[WatchlistEntry], *, dry_run: bool) -> None:
    new = {
        (entry.market, entry.symbol)
        for entry in entries
        if not reference.instruments(entry.market, [entry.symbol])
    }
    if not dry_run:
        reference.add(entries)
    would = "Would add" if dry_run else "Added"
    for entry in entries:
        created = " - new to the platform" if (entry.market, entry.symbol) in new else ""
        typer.echo(f"{would} {_describe(entry)}{created}")
    if not entries:
        typer.echo("Nothing to add.")


def _tell_skipped(count: int) -> None:
    if count:
        typer.echo(f"Left out {count} that are there already.")


def _without(entries: Sequence[WatchlistEntry], stored: set[Key]) -> list[WatchlistEntry]:
    return list({_key(each): each for each in entries if _key(each) not in stored}.values())


def _key(entry: WatchlistEntry) -> Key:
    return entry.name, entry.market, entry.symbol


def _keys(entries: Sequence[WatchlistEntry]) -> set[Key]:
    return {_key(entry) for entry in entries}


def _chosen(
    reference: "ReferenceStore", market: str | None, name: str | None
) -> list[WatchlistEntry]:
    entries = reference.watchlist(None if market is None else get_market(market).name)
    return [entry for entry in entries if name is None or entry.name == name]


def _csv_row(entry: WatchlistEntry) -> dict[str, str]:
    values = asdict(entry)
    return {
        column: str(values[column]).lower()
        if isinstance(values[column], bool)
        else str(values[column])
        for column in CSV_COLUMNS
    }


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InvalidInputError(f"There is no file {file}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{file} cannot be read as text: {error}.") from error
