"""`scizor health`: does everything work that has to? For people, cron and containers."""

import json
import socket
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from scizor_cli.output import console, note
from scizor_core.errors import ConfigError, InvalidInputError
from scizor_resources.health.report import GROUPS, Check, State, worst

EXAMPLES = (
    "Examples:\n\n  scizor health\n\n  scizor health --json\n\n"
    "  scizor health --only servers,dagster --quiet   (a container of scizor up)\n\n"
    "  scizor health --only servers,workers --here --quiet   (a container of scizor worker)\n\n"
    '  */5 * * * * said=$(scizor health -q) || echo "$said" | mail you@example.org   (cron)'
)
EXIT_FAILED = 1
EXIT_UNKNOWN = 2

_STYLES: dict[State, str] = {"ok": "green", "warn": "yellow", "fail": "bold red", "unknown": "cyan"}
#: Groups with one check for each of many things: those that are well share a line.
_GATHERED = frozenset({"providers", "collectors"})


def health(
    only: Annotated[
        str, typer.Option(help=f"Groups to look at, comma separated: {', '.join(GROUPS)}.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print only what is not well; nothing if all is.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit code 1 for warnings and unknowns too.")
    ] = False,
    here: Annotated[
        bool, typer.Option("--here", help="Of the workers, count only those of this machine.")
    ] = False,
) -> None:
    """Look at servers, processes, data, budgets and alerts; starts and changes nothing.

    Exit code 0: nothing has failed (there may be warnings); 1: something has; 2: it could not be
    found out, because a setting or the command line is wrong.
    """
    began = time.monotonic()
    try:
        groups = chosen_groups(only)
        checks, at = _look(groups, socket.gethostname() if here else None)
    except (ConfigError, InvalidInputError) as error:
        note(str(error))
        raise typer.Exit(EXIT_UNKNOWN) from None
    state = worst(checks)
    seconds = time.monotonic() - began
    if as_json:
        shown = {
            "state": state,
            "at": at,
            "seconds": round(seconds, 3),
            "checks": [asdict(each) for each in checks],
        }
        typer.echo(json.dumps(shown, indent=1, default=_text))
    else:
        _show(checks, seconds, quiet=quiet)
    if state == "fail" or (strict and state != "ok"):
        raise typer.Exit(EXIT_FAILED)


def chosen_groups(only: str) -> tuple[str, ...]:
    """Return the groups that were asked for, all of them where nothing was named.

    Raises:
        InvalidInputError: there is no such group; the message lists those there are.
    """
    named = {each.strip().lower() for each in only.split(",") if each.strip()}
    unknown = sorted(named - set(GROUPS))
    if unknown:
        raise InvalidInputError(
            f"There is nothing called '{unknown[0]}' to look at. Known: {', '.join(GROUPS)}."
        )
    return tuple(each for each in GROUPS if not named or each in named)


def _look(groups: tuple[str, ...], host: str | None) -> tuple[list[Check], datetime]:
    from scizor_resources.health.judging import judge
    from scizor_resources.health.probe import Probe
    from scizor_resources.settings import load_settings

    probe = Probe(load_settings(), lambda: datetime.now(UTC))
    facts = probe.look(groups)
    checks = judge(facts, groups, host)
    probe.close()
    return checks, facts.at


def _show(checks: list[Check], seconds: float, *, quiet: bool) -> None:
    rows = gathered([each for each in checks if not quiet or each.state != "ok"])
    if sys.stdout.isatty():
        _show_table(rows)
    else:
        # One line each, for mails and grep; a table would fill it up to the longest.
        for each in rows:
            name = f"{each.group} {each.name}".strip()
            typer.echo(f"{each.state:<7} {name:<24} {each.said}")
    if not quiet:
        typer.echo(f"\n{summary(checks)} ({seconds:.1f} s)")


def _show_table(rows: list[Check]) -> None:
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    for is_text in (False, False, False, True):
        table.add_column(no_wrap=not is_text, overflow="fold")
    group = ""
    for each in rows:
        table.add_row(
            f"[bold]{each.group if each.group != group else ''}[/]",
            f"[{_STYLES[each.state]}]{each.state}[/]",
            each.name,
            each.said.replace("[", r"\["),
        )
        group = each.group
    console().print(table)


def gathered(checks: list[Check]) -> list[Check]:
    """Return the checks with those providers and collectors that are well in one line each."""
    well: dict[str, list[str]] = {}
    for each in checks:
        if each.group in _GATHERED and each.state == "ok":
            well.setdefault(each.group, []).append(f"{each.name} ({each.said.rstrip('.')})")
    found = []
    for each in checks:
        if each.group not in _GATHERED or each.state != "ok":
            found.append(each)
        elif each.group in well:
            names = "; ".join(well.pop(each.group))
            found.append(Check(each.group, "", "ok", f"{names}."))
    return found


def summary(checks: list[Check]) -> str:
    """Return how many checks came out how."""
    words: dict[State, str] = {
        "fail": "failed",
        "warn": "to look at",
        "unknown": "not known",
        "ok": "well",
    }
    counts = {state: sum(each.state == state for each in checks) for state in words}
    return ", ".join(f"{counts[state]} {words[state]}" for state in words if counts[state]) + "."


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return str(value)
