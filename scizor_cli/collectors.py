"""`scizor collectors`: who feeds the ledgers, how it went, and one of them at once."""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scizor_cli.output import console, note, render_table

if TYPE_CHECKING:
    from scizor_resources.collectors import Collector
    from scizor_resources.platform import Platform

app = typer.Typer(
    help="The sources of prices, on-chain metrics, sentiment and catalysts beside the bars.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
_JSON = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]


@dataclass(frozen=True)
class CollectorStatus:
    """One collector; its fields are the keys of `--json`. Times are UTC.

    Attributes:
        name: for commands.
        asset: the asset it feeds.
        schedule: how often.
        tier: free, key or paid.
        cost: in words.
        set_up: it can be asked.
        missing: variables to set before it can.
        last_run_at: when it was last asked, None where it never was.
        last_status: success, partial or failed.
        last_records: rows that came.
        last_error: the last run's error.
        dagster_run_id: the run that asked, to be found in the UI.
        runs: collections of the last 30 days.
        errors: of those, the ones that were no success.
        success_rate: share of them that were, 0 to 1.
    """

    name: str
    asset: str
    schedule: str
    tier: str
    cost: str
    set_up: bool
    missing: list[str]
    last_run_at: datetime | None = None
    last_status: str = ""
    last_records: int | None = None
    last_error: str | None = None
    dagster_run_id: str = ""
    runs: int = 0
    errors: int = 0
    success_rate: float | None = None


def statuses(platform: "Platform") -> list[CollectorStatus]:
    """Return every collector with what the accounts say of it."""
    from scizor_resources.collectors import COLLECTORS, account_of, paced

    last, settings = platform.providers.last_runs_by_asset(), platform.settings
    return [
        _status(platform, collector, last.get((account_of(collector, settings), collector.asset)))
        for collector in (paced(each, settings) for each in COLLECTORS)
    ]


def _status(
    platform: "Platform", collector: "Collector", run: dict[str, Any] | None
) -> CollectorStatus:
    missing = collector.missing(platform.settings)
    known: dict[str, Any] = {}
    if run is not None:
        known = {
            "last_run_at": run["completed_at"],
            "last_status": run["status"],
            "last_records": run["records"],
            "last_error": run["error"],
            "dagster_run_id": run["dagster_run_id"],
            "runs": run["runs"],
            "errors": run["errors"],
            "success_rate": run["success_rate"],
        }
    return CollectorStatus(
        collector.name,
        collector.asset,
        collector.schedule,
        collector.tier,
        collector.cost,
        not missing,
        missing,
        **known,
    )


@app.command(name="list", epilog="Example:\n\n  scizor collectors list")
def list_(as_json: _JSON = False) -> None:
    """Show every collector: what it feeds, how often, what it costs, what has to be set."""
    from scizor_resources.collectors import COLLECTORS, paced
    from scizor_resources.settings import load_settings

    settings = load_settings()
    rows = [
        (
            each.name,
            each.asset,
            each.schedule,
            each.tier,
            each.cost,
            "set " + " and ".join(missing) if (missing := each.missing(settings)) else "ready",
        )
        for each in (paced(known, settings) for known in COLLECTORS)
    ]
    columns = ("collector", "feeds", "schedule", "tier", "cost", "state")
    if as_json:
        typer.echo(json.dumps([dict(zip(columns, row, strict=True)) for row in rows], indent=1))
    else:
        console().print(render_table(columns, rows))


@app.command(epilog="Examples:\n\n  scizor collectors status\n\n  scizor collectors status --json")
def status(as_json: _JSON = False) -> None:
    """Show how each collector's last run went, and how many of the last 30 days did."""
    from scizor_resources.platform import Platform

    with Platform.open() as platform:
        found = statuses(platform)
        samples = platform.settings.samples
    if as_json:
        typer.echo(json.dumps([asdict(each) for each in found], indent=1, default=_text))
        return
    rows = [
        (
            each.name,
            each.last_status or ("not run yet" if each.set_up else "not set up"),
            _moment(each.last_run_at),
            each.last_records,
            f"{each.errors}/{each.runs}" if each.runs else "-",
            "-" if each.success_rate is None else f"{100 * each.success_rate:.0f} %",
            each.schedule,
            each.dagster_run_id[:8] or "-",
        )
        for each in found
    ]
    columns = ("collector", "last", "at", "records", "errors", "success", "schedule", "run")
    out = console()
    out.print(render_table(columns, rows))
    for each in found:
        if each.last_error:
            out.print(f"\n{each.name}: ", end="", style="bold")
            out.print(each.last_error, soft_wrap=True, markup=False)
    if samples:
        note("SCIZOR_SAMPLES is on: collectors read hand-written samples, not the internet.")


@app.command(
    epilog="Examples:\n\n  scizor collectors run defillama\n\n"
    "  scizor collectors run edgar --partition 2026-11-18"
)
def run(
    name: Annotated[str, typer.Argument(help="Name of a collector, as `list` shows it.")],
    partition: Annotated[
        str | None, typer.Option(help="UTC day to collect; by default today.")
    ] = None,
) -> None:
    """Collect now, in this process, recorded in Dagster as any other run."""
    from scizor_assets.launch import Launch, Launcher
    from scizor_cli.materialize import execute, show_facts
    from scizor_core.errors import ConfigError
    from scizor_resources.collectors import get_collector
    from scizor_resources.platform import Platform

    collector = get_collector(name)
    out = console()
    with Platform.open() as platform:
        missing = collector.missing(platform.settings)
        if missing:
            raise ConfigError(
                f"Collector '{collector.name}' is not set up: set {' and '.join(missing)}."
            )
        with out.status("Loading the asset graph ..."):
            launcher = Launcher(platform, marts=False)
        day = partition or platform.now().astimezone(UTC).date().isoformat()
        config = (
            {} if collector.name == "coinspot" else {"sources": [collector.name], "lane": "live"}
        )
        title = f"{collector.title} {day}"
        launch = Launch((collector.asset,), day, title=title, config=config)
        show_facts(out, execute(out, launcher, [launch], collector.name))


def _moment(at: datetime | None) -> str:
    if at is None:
        return "-"
    recent = datetime.now(UTC) - at < timedelta(days=1)
    return f"{at:%H:%M:%S}Z" if recent else f"{at:%Y-%m-%d %H:%M}Z"


def _text(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
