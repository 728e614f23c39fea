"""`scizor listing`: codes of instruments that change, end, or pass to another company."""

import json
from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated, Any
from zoneinfo import ZoneInfo

import typer

from scizor_cli.output import console, note
from scizor_core.errors import UnknownSymbolError
from scizor_core.markets import get_market

if TYPE_CHECKING:
    from scizor_resources.platform import Platform
    from scizor_resources.stores.listings import ListingChange

app = typer.Typer(
    help="End or change the code of an instrument. Its bars stay, under its permanent id.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

Symbol = Annotated[str, typer.Argument(help="The code.")]
Market = Annotated[str, typer.Option(help="Market of the code: asx, us or crypto.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would change, change nothing.")]


@app.command(
    epilog="Examples:\n\n  scizor listing close APT --on 2022-01-19 --successor 'Block, Inc.'\n\n"
    "  scizor listing close TWTR --market us --on 2022-10-27 --reason 'taken private' --dry-run"
)
def close(
    symbol: Symbol,
    on: Annotated[
        datetime,
        typer.Option(formats=["%Y-%m-%d"], metavar="YYYY-MM-DD", help="Its last session."),
    ],
    market: Market = "asx",
    successor: Annotated[str, typer.Option(help="What became of it.")] = "",
    reason: Annotated[str, typer.Option(help="Why, for the alert and the watchlist.")] = "",
    dry_run: DryRun = False,
) -> None:
    """End a listing: the code is no longer collected, its history stays queryable."""
    from scizor_resources.platform import Platform

    with Platform.open() as platform:
        change = platform.listings.close(
            market,
            symbol,
            on.date(),
            successor=successor,
            reason=reason,
            today=_today(platform, market),
            dry_run=dry_run,
        )
    _tell(change, dry_run=dry_run)


@app.command(
    epilog="Examples:\n\n  scizor listing rename FB META --market us --on 2022-06-09\n\n"
    "  scizor listing rename SQ2 XYZ --on 2025-01-22 --dry-run"
)
def rename(
    old: Annotated[str, typer.Argument(help="Its code so far.")],
    new: Annotated[str, typer.Argument(help="Its code from then on.")],
    on: Annotated[
        datetime,
        typer.Option(
            formats=["%Y-%m-%d"], metavar="YYYY-MM-DD", help="First session under the new code."
        ),
    ],
    market: Market = "asx",
    dry_run: DryRun = False,
) -> None:
    """Give an instrument another code; the old one means it for the time before."""
    from scizor_resources.platform import Platform

    with Platform.open() as platform:
        change = platform.listings.rename(market, old, new, on.date(), dry_run=dry_run)
    _tell(change, dry_run=dry_run)


@app.command(
    "open",
    epilog="Example:\n\n  scizor listing open FB --market us --on 2025-06-26 --name 'Another Inc.'"
    "\n\nA code that nobody had before needs no more than `scizor watchlist add`.",
)
def open_(
    symbol: Symbol,
    on: Annotated[
        datetime,
        typer.Option(
            formats=["%Y-%m-%d"], metavar="YYYY-MM-DD", help="First session of the company."
        ),
    ],
    market: Market = "asx",
    name: Annotated[str, typer.Option(help="Name of the company.")] = "",
    dry_run: DryRun = False,
) -> None:
    """Register another company under a code that one has given up."""
    from scizor_resources.platform import Platform

    with Platform.open() as platform:
        change = platform.listings.open(market, symbol, on.date(), name=name, dry_run=dry_run)
    _tell(change, dry_run=dry_run)


@app.command(
    epilog="Examples:\n\n  scizor listing show APT\n\n  scizor listing show FB --market us --json"
)
def show(
    symbol: Symbol,
    market: Annotated[str | None, typer.Option(help="Only this market.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
) -> None:
    """Show which instruments have or had a code, and all their codes."""
    from scizor_resources.platform import Platform

    with Platform.open() as platform:
        records = _holders(platform, symbol, market)
    if as_json:
        typer.echo(json.dumps(records, indent=1, ensure_ascii=False, default=str))
        return
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for header in ("id", "market", "code", "from", "to", "venue", "name", "bars", "became"):
        table.add_column(header, no_wrap=True)
    for record in records:
        for listing in record["listings"]:
            table.add_row(*_cells(record, listing))
    console().print(table)
    note(f"{len(records)} instrument{'s' * (len(records) != 1)} with the code {symbol.upper()}.")


def _holders(platform: "Platform", symbol: str, market: str | None) -> list[dict[str, Any]]:
    name = None if market is None else get_market(market).name
    code = symbol.strip().upper()
    ids = list(dict.fromkeys(each.instrument_id for each in platform.listings.codes(code, name)))
    if not ids:
        where = f"Market '{name}' has" if name else "There is"
        raise UnknownSymbolError(f"{where} no instrument here that has or had the code {code}.")
    found = {each.instrument_id: each for each in platform.reference.by_id(ids)}
    return [
        {
            "instrument_id": each,
            "market": found[each].market,
            "symbol": found[each].symbol,
            "name": found[each].name,
            "delisted_on": found[each].delisted_on,
            "successor": found[each].successor,
            "first_session": platform.actions.first_session(each),
            "last_session": platform.actions.last_session(each),
            "listings": platform.listings.history(each),
        }
        for each in ids
    ]


def _cells(record: dict[str, Any], listing: dict[str, Any]) -> list[str]:
    began: date = listing["valid_from"]
    bars = f"{record['first_session']} to {record['last_session']}"
    return [
        str(record["instrument_id"]),
        record["market"],
        listing["ticker"],
        "" if began == date(1970, 1, 1) else str(began),
        str(listing["valid_to"] or ""),
        listing["venue"],
        record["name"].replace("[", r"\["),
        bars if record["first_session"] else "none",
        (record["successor"] or "").replace("[", r"\["),
    ]


def _today(platform: "Platform", market: str) -> date:
    return platform.now().astimezone(ZoneInfo(get_market(market).timezone)).date()


def _tell(change: "ListingChange", *, dry_run: bool) -> None:
    for step in change.steps:
        typer.echo(step)
    note("Nothing was changed: --dry-run." if dry_run else "Bars already stored stay.")
