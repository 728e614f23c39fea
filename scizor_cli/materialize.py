"""`scizor materialize`: compute an asset for one partition or a range, in this process."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from scizor_assets.launch import Launch, Launcher
from scizor_cli.output import console
from scizor_core.errors import InvalidInputError
from scizor_resources.platform import Platform


def run_materialize(
    asset: str, partition: str | None, range_: str | None, symbols: Sequence[str] | None
) -> None:
    """Compute `asset` and print what each run says of itself.

    Args:
        asset: key as users write it, `asx/bars_5m`.
        partition: one partition key.
        range_: "FIRST...LAST", both included.
        symbols: only these symbols.

    Raises:
        InvalidInputError: asset, partition or range do not exist or do not go together.
        RunFailedError: a run failed.
    """
    out = console()
    with Platform.open() as platform:
        with out.status("Loading the asset graph ..."):
            launcher = Launcher(platform, marts=asset.startswith(("marts/", "staging/")))
        chosen = None if symbols is None else tuple(symbols)
        launches = launcher.split(asset, *_bounds(partition, range_), chosen)
        facts = execute(out, launcher, launches, asset)
    show_facts(out, facts)


def execute(
    out: Console, launcher: Launcher, launches: Sequence[Launch], task_title: str
) -> dict[str, dict[str, object]]:
    """Execute launches with a progress bar; returns what each said of itself, by its title.

    Raises:
        RunFailedError: a run failed.
    """
    facts: dict[str, dict[str, object]] = {}
    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} runs"),
        TimeElapsedColumn(),
        console=out,
    )
    with progress, launcher.instance() as instance:
        task = progress.add_task(task_title, total=len(launches))
        for launch in launches:
            progress.update(task, description=launch.title)
            result = launcher.run(instance, launch)
            progress.update(task, advance=1)
            for event in result.get_asset_materialization_events():
                facts[launch.title] = {
                    name: value.value for name, value in event.materialization.metadata.items()
                }
            failed = [each for each in result.get_asset_check_evaluations() if not each.passed]
            facts.setdefault(launch.title, {})["checks to look at"] = ", ".join(
                f"{each.check_name} ({each.description})" for each in failed
            )
    return facts


def show_facts(out: Console, facts: Mapping[str, Mapping[str, object]]) -> None:
    """Print what runs said of themselves."""
    for title, metadata in facts.items():
        out.print(f"[bold]{title}[/]")
        for name, value in metadata.items():
            if value not in ("", None) and not name.startswith("dagster/table"):
                out.print(f"  {name.removeprefix('dagster/')}: {value}", markup=False)


def _bounds(partition: str | None, range_: str | None) -> tuple[str | None, str | None]:
    if range_ is None:
        return partition, None
    if partition is not None:
        raise InvalidInputError("Give --partition or --range, not both.")
    first, dots, last = range_.partition("...")
    if not dots or not first or not last:
        raise InvalidInputError(
            f"'{range_}' is not a range: write FIRST...LAST, for example 2026-11-16...2026-11-20."
        )
    return first.strip(), last.strip()
