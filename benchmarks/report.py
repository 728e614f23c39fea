"""Figures as a table."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.common import Figure


def show(found: Mapping[str, Sequence[Figure]]) -> None:
    """Print the figures of each benchmark."""
    table = Table(title="Measured on this machine, now")
    table.add_column("what", overflow="fold")
    table.add_column("measured", justify="right", style="bold", no_wrap=True)
    table.add_column("target", justify="right")
    table.add_column("peer", justify="right", no_wrap=True)
    table.add_column("which peer", overflow="fold")
    for name, figures in found.items():
        table.add_row(f"[bold]{name}[/]")
        for figure in figures:
            table.add_row(
                f"  {figure.what}",
                f"{number(figure.value)} {figure.unit}",
                figure.target,
                "" if figure.peer is None else number(figure.peer),
                figure.peer_name,
            )
        table.add_section()
    Console().print(table)


def number(value: float) -> str:
    """Return a number with the digits that mean something."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
