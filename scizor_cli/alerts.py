"""`scizor alerts`: what stands, who looks after it, whether messages arrive, the rules."""

import getpass
import json
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from scizor_cli.output import console, note, render_table

app = typer.Typer(
    help="What somebody should look at: see it, acknowledge it, close it, test the channels.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
_JSON = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]
_EVERYTHING = 200


@app.command(
    name="list",
    epilog="Examples:\n\n  scizor alerts list\n\n  scizor alerts list --all --json",
)
def list_(
    every: Annotated[
        bool,
        typer.Option("--all", help=f"Those that are over too, the newest {_EVERYTHING}."),
    ] = False,
    as_json: _JSON = False,
) -> None:
    """Show the alerts that stand, the worst first."""
    from scizor_resources.platform import Platform

    with Platform.open() as platform:
        found = platform.alerts.history(_EVERYTHING) if every else platform.alerts.open_alerts()
    if as_json:
        typer.echo(json.dumps(found, indent=1, default=_text))
        return
    if not found:
        note("Nothing stands." if not every else "There has been no alert.")
        return
    columns = ("id", "severity", "raised", "seen", "state", "messages", "kind", "title")
    rows = [
        (
            str(row["alert_id"]),
            row["severity"],
            row["raised_at"].astimezone(UTC),
            row["occurrences"],
            _state(row),
            _messages(row),
            row["kind"],
            row["title"],
        )
        for row in found
    ]
    console().print(render_table(columns, rows))


def _state(row: dict[str, Any]) -> str:
    if row["resolved_at"] is not None:
        return f"over since {row['resolved_at'].astimezone(UTC):%Y-%m-%d %H:%M}Z"
    if row["acknowledged_at"] is not None:
        return f"acknowledged by {row['acknowledged_by'] or 'somebody'}"
    level = row["escalation_level"]
    return f"open, escalated {level} times".replace("1 times", "once") if level else "open"


def _messages(row: dict[str, Any]) -> str:
    waiting = f", {row['pending']} waiting" if row["pending"] else ""
    return f"{row['sent']} sent{waiting}"


@app.command(epilog="Examples:\n\n  scizor alerts ack 12\n\n  scizor alerts ack 12 13 --by anna")
def ack(
    alert_ids: Annotated[
        list[int], typer.Argument(metavar="ID...", help="Ids of `scizor alerts list`.")
    ],
    by: Annotated[
        str | None, typer.Option(help="Who looks after it; by default the user of this shell.")
    ] = None,
) -> None:
    """Say that somebody looks after alerts: they stay, and no longer escalate."""
    from scizor_resources.platform import Platform

    name = by if by is not None else _user()
    with Platform.open() as platform:
        count = platform.alerts.acknowledge(alert_ids, name)
    known = len(set(alert_ids)) - count
    before = f"; {known} had been acknowledged before" if known else ""
    note(f"{count} acknowledged{f' by {name}' if name else ''}{before}.")


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # an account without a name, as in a container
        return ""


@app.command(epilog="Example:\n\n  scizor alerts resolve 12 --note 'collected by hand'")
def resolve(
    alert_id: Annotated[int, typer.Argument(metavar="ID", help="Id of `scizor alerts list`.")],
    why: Annotated[str, typer.Option("--note", help="Why it is over.")] = "closed by hand",
) -> None:
    """Close an alert by hand. Should its matter still hold, it is raised again as a new one."""
    from scizor_resources.platform import Platform

    with Platform.open() as platform:
        platform.alerts.resolve_id(alert_id, why)
    note(f"Alert {alert_id} is closed.")


@app.command(name="test", epilog="Example:\n\n  scizor alerts test")
def send_test(as_json: _JSON = False) -> None:
    """Send a test message to every channel and say how it went; exit code 1 where one fails."""
    from scizor_core.alerts import Message, Severity
    from scizor_core.errors import InvalidInputError
    from scizor_resources.alerts.channels import ChannelError, Channels
    from scizor_resources.settings import load_settings

    channels = Channels.of_settings(load_settings())
    if not channels.all():
        raise InvalidInputError(
            "No channel is set up: give SCIZOR_ALERT_URLS_CRITICAL, _HIGH, _MEDIUM or _LOW an "
            "Apprise URL, such as slack://token_a/token_b/token_c. Alerts are kept in the table "
            "meanwhile: `scizor alerts list`."
        )
    message = Message("SCIZOR test", "This is a test: alerts of SCIZOR arrive here.", Severity.LOW)
    found = []
    for channel in channels.all():
        try:
            channel.send(message)
        except ChannelError as error:
            result = str(error)
        else:
            result = "sent"
        severities = [each.value for each in channels.severities(channel.name)]
        found.append({"channel": channel.name, "severities": severities, "result": result})
    if as_json:
        typer.echo(json.dumps(found, indent=1))
    else:
        rows = [(each["channel"], ", ".join(each["severities"]), each["result"]) for each in found]
        console().print(render_table(("channel", "for", "result"), rows))
    if any(each["result"] != "sent" for each in found):
        raise typer.Exit(1)


@app.command(epilog="Examples:\n\n  scizor alerts rules\n\n  scizor alerts rules --json")
def rules(as_json: _JSON = False) -> None:
    """Show the rules, and the worst that was measured last. They are changed by SQL."""
    from scizor_core.alerts import Severity
    from scizor_resources.platform import Platform

    with Platform.open() as platform:
        found = platform.alert_rules.rules()
        measured = platform.alert_rules.measurements()
    records = []
    for rule in found:
        last = [row for row in measured if row["kpi"] == rule.kpi]
        values = [row["value"] for row in last if row["value"] is not None]
        worst = max if rule.direction == "above" else min
        notes = sorted({row["note"] for row in last if row["value"] is None})
        unmeasured = notes[0] if notes else "nothing to judge yet"
        records.append(
            {
                "rule": rule.kpi,
                "is_on": rule.is_enabled,
                "bad": rule.direction,
                **{each.value: rule.thresholds.get(each) for each in Severity},
                "clears_at": rule.clears_at,
                "for_seconds": rule.for_seconds,
                "subjects": len(last),
                "worst_now": worst(values) if values else None,
                "note": "" if values else unmeasured,
            }
        )
    if as_json:
        typer.echo(json.dumps(records, indent=1, default=_text))
        return
    columns = list(records[0])
    console().print(render_table(columns, [tuple(each.values()) for each in records]))
    note("Change one: UPDATE public.alert_rules SET medium = 90 WHERE kpi = 'disk_use_percent';")


def _text(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return str(value)
