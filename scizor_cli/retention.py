"""`scizor retention`: what is older than its table's policy allows, counted or taken away."""

from typing import Annotated

import typer

from scizor_cli.output import console, note, render_table

EXAMPLES = "Examples:\n\n  scizor retention   (counts only)\n\n  scizor retention --apply"


def retention(
    apply: Annotated[
        bool, typer.Option("--apply", help="Take it away; without this it is only counted.")
    ] = False,
) -> None:
    """Show how long each table keeps its rows and what is due; with --apply remove it."""
    from scizor_assets.launch import Launch, Launcher
    from scizor_cli.materialize import execute
    from scizor_core.retention import policies
    from scizor_resources.platform import Platform

    out = console()
    with Platform.open() as platform:
        chosen = policies(platform.settings.retention)
        reports = platform.retention.apply(chosen, platform.now(), dry_run=True)
        removed: dict[str, object] = {}
        if apply:
            launcher = Launcher(platform, marts=False)
            launch = Launch(
                ("maintenance/retention",), title="retention", config={"dry_run": False}
            )
            facts = execute(out, launcher, [launch], "retention")
            removed = dict(facts["retention"])
    columns = ("table", "days", "holds", "oldest", "due")
    rows = [
        (
            policy.name,
            policy.days or "for ever",
            policy.what,
            f"{report.oldest:%Y-%m-%d}" if report.oldest else "-",
            report.due,
        )
        for policy, report in zip(chosen, reports, strict=True)
    ]
    out.print(render_table(columns, rows))
    if apply:
        note(f"{removed['rows_removed']} rows were taken away.")
    else:
        note("Nothing was taken away; `scizor retention --apply` does it.")
