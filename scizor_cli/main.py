"""The `scizor` command: what there is, and how every error becomes one sentence.

A command imports what it needs when it runs, so that help and completion answer at once.
"""

import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from scizor_cli import (
    alerts,
    archive,
    backfill,
    bars,
    collectors,
    dashboard,
    database,
    gaps,
    health,
    importing,
    listing,
    providers,
    query,
    retention,
    sidecar,
    status,
    watchlist,
    worker,
)
from scizor_core.errors import ScizorError

EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_UNEXPECTED = 70
EXIT_INTERRUPTED = 130


class ScizorGroup(TyperGroup):
    """The command's outermost shell: errors become sentences and exit codes."""

    def main(self, args: Any = None, *rest: Any, **options: Any) -> Any:
        """Run the command line and exit; `--debug` may stand anywhere in it."""
        given = list(sys.argv[1:] if args is None else args)
        debug = "--debug" in given
        given = [each for each in given if each != "--debug"]
        options["standalone_mode"] = False
        sys.exit(_guarded(lambda: super(ScizorGroup, self).main(given, *rest, **options), debug))


def _guarded(run: Any, debug: bool) -> int:  # noqa: FBT001  # private, called once
    try:
        code = run()
    except TyperException as error:
        return _usage(error)
    except typer.Abort:
        _say("Nothing was done.")
        return EXIT_ERROR
    except ScizorError as error:
        _trace(debug)
        _say(str(error))
        return EXIT_ERROR
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001  # the outermost shell: users get a sentence
        _trace(debug)
        told = str(error).strip().splitlines()[0] if str(error).strip() else "no message"
        advice = (
            "report it with the traceback above" if debug else "run again with --debug and report"
        )
        _say(f"Unexpected {type(error).__name__}: {told} - {advice}.")
        return EXIT_UNEXPECTED
    return code if isinstance(code, int) else 0


def _usage(error: TyperException) -> int:
    """Say what is wrong with the command line, or show help where nothing was asked."""
    message = error.format_message()
    if type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(message)
        return 0
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "scizor"
    _say(f"{message.rstrip('.')}. See `{path} --help`.")
    return EXIT_USAGE if error.exit_code == EXIT_USAGE else EXIT_ERROR


def _say(sentence: str) -> None:
    typer.echo(sentence, err=True)


def _trace(debug: bool) -> None:  # noqa: FBT001  # private
    if debug:
        traceback.print_exc()


app = typer.Typer(
    name="scizor",
    cls=ScizorGroup,
    help="Self-hosted market data: bars that are checked, explained and queryable.",
    epilog="Start with [bold]scizor demo[/], or [bold]scizor up[/] for the Dagster UI. "
    "Settings are environment variables SCIZOR_..., or lines of a file .env.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:  # noqa: FBT001  # typer calls it
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            typer.echo(f"scizor {version('scizor')}")
        except PackageNotFoundError:
            typer.echo("scizor (not installed)")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; may stand anywhere.")
    ] = False,
) -> None:
    """Take the options that stand before a command."""
    del version, debug  # both have been dealt with when this is called


@app.command(
    epilog="Examples:\n\n  scizor up\n\n  scizor up --live   (real prices, no key)\n\n  "
    "scizor up --port 3001\n\n  scizor up --stream   (the tape, where no live feed is set up)\n\n  "
    "scizor up --host 0.0.0.0   (everybody who reaches this machine can use the UI)"
)
def up(
    host: Annotated[
        str | None, typer.Option(help="Address of the UI; default SCIZOR_UI_HOST, 127.0.0.1.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port; default SCIZOR_UI_PORT, 3000.")
    ] = None,
    live: Annotated[
        bool,
        typer.Option(
            "--live",
            help="Ask real providers that need no key while markets are open: tier 1 every minute, "
            "the rest every five; the same as SCIZOR_PROFILE=live.",
        ),
    ] = False,
    stream: Annotated[
        bool,
        typer.Option(
            "--stream",
            help="Start the streaming sidecar also where no live feed is set up; it then plays the "
            "trades of the tape. With a feed, or --live, it is started anyway.",
        ),
    ] = False,
) -> None:
    """Start the servers, the Dagster UI, the daemon, a worker and live feeds, until Ctrl-C."""
    from scizor_cli.up import run_up

    run_up(host, port, live=live, stream=stream)


@app.command(epilog="Example:\n\n  scizor demo   (running it again changes nothing)")
def demo() -> None:
    """Bring real and simulated data, each marked as such, through the platform; needs no key."""
    from scizor_cli.demo import run_demo

    run_demo()


@app.command(
    epilog="Examples:\n\n  scizor materialize asx/bars_1d --partition 2026-11-01\n\n"
    "  scizor materialize asx/bars_5m --range 2026-11-16...2026-11-20 --symbols CBA,BHP\n\n"
    "  scizor materialize marts/latest_prices"
)
def materialize(
    asset: Annotated[str, typer.Argument(help="Asset key, for example asx/bars_5m.")],
    partition: Annotated[
        str | None,
        typer.Option(help="One partition: the session's date, or the first of a month for *_1d."),
    ] = None,
    range_: Annotated[
        str | None,
        typer.Option("--range", metavar="FIRST...LAST", help="Partitions, both ends included."),
    ] = None,
    symbols: Annotated[
        str | None, typer.Option(help="Only these symbols, comma separated.")
    ] = None,
) -> None:
    """Compute an asset in this process, recorded in Dagster as any other run."""
    from scizor_cli.materialize import run_materialize

    chosen = [each.strip() for each in (symbols or "").split(",") if each.strip()]
    run_materialize(asset, partition, range_, chosen or None)


app.add_typer(watchlist.app, name="watchlist")
app.add_typer(listing.app, name="listing")
app.add_typer(database.app, name="db")
app.command(name="query", epilog=query.EXAMPLES)(query.query)
app.command(name="bars", epilog=bars.EXAMPLES)(bars.bars)
app.command(name="backfill", epilog=backfill.EXAMPLES)(backfill.backfill)
app.command(name="status", epilog=status.EXAMPLES)(status.status)
app.command(name="health", epilog=health.EXAMPLES)(health.health)
app.command(name="dashboard", epilog=dashboard.EXAMPLES)(dashboard.dashboard)
app.command(name="providers", epilog=providers.EXAMPLES)(providers.providers)
app.add_typer(collectors.app, name="collectors")
app.add_typer(alerts.app, name="alerts")
app.add_typer(gaps.app, name="gaps")
app.add_typer(archive.app, name="archive")
app.command(name="retention", epilog=retention.EXAMPLES)(retention.retention)
app.command(name="worker", epilog=worker.EXAMPLES)(worker.worker)
app.command(name="sidecar", epilog=sidecar.EXAMPLES)(sidecar.sidecar)
app.command(name="import", epilog=importing.EXAMPLES)(importing.import_)


def main() -> None:
    """Enter from the shell."""
    app(prog_name=Path(sys.argv[0]).name if sys.argv[0].endswith("scizor") else "scizor")


if __name__ == "__main__":
    main()
