"""Parts of the dashboard: runs and backfills, budgets, ledgers, alerts; a bar, a grid, lines."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from rich.table import Table
from rich.text import Text

from scizor_resources.health.report import (
    BackfillFact,
    CollectorFact,
    Facts,
    ProviderFact,
    RunFact,
)
from scizor_resources.health.spans import short_span, span

#: Stands before what is simulated or a sample.
MARK = "~"
#: Of a collector, so that two stand side by side.
_LONGEST_NAME = 16
_BAR = 12
_SEVERITIES = {"critical": "bold red", "high": "red", "medium": "yellow", "low": "cyan"}


def grid(*columns: str) -> Table:
    """Return a table without lines; columns are "left" or "right", one in capitals stretches."""
    table = Table.grid(padding=(0, 1), expand=any(each.isupper() for each in columns))
    for each in columns:
        table.add_column(
            justify="right" if each.lower() == "right" else "left",
            no_wrap=True,
            overflow="ellipsis",
            ratio=1 if each.isupper() else None,
        )
    return table


def listed(texts: Sequence[Text], rows: int) -> Table:
    """Return the first lines, and how many more there are."""
    table = grid("LEFT")
    shown = texts if len(texts) <= rows else texts[: max(rows - 1, 0)]
    for each in shown:
        table.add_row(each)
    if len(shown) < len(texts) and rows > 0:
        table.add_row(Text(f"… {len(texts) - len(shown)} more", style="dim"))
    return table


def runs_title(facts: Facts) -> str:
    """Return how many runs there are, in a line."""
    if facts.runs is None:
        return "Runs"
    running = facts.runs.counts.get("STARTED", 0)
    waiting = sum(facts.runs.counts.values()) - running
    failed = f", {len(facts.runs.failed)} failed" if facts.runs.failed else ""
    done = f"{facts.runs.succeeded:,} done"
    return f"Runs: {running} running, {waiting} waiting; 24 h: {done}{failed}"


def runs(facts: Facts, rows: int) -> Table:
    """Return backfills, runs under way and failures, in so many lines."""
    if facts.runs is None:
        return listed([Text(facts.problems.get("runs", "Not read yet."), style="dim")], rows)
    texts = [_backfill(each) for each in facts.runs.backfills]
    texts += [_run(each, facts.at) for each in facts.runs.under_way]
    texts += [Text(f"✗ {each}", style="red") for each in facts.runs.failed]
    return listed(texts or [Text("Nothing is under way.", style="dim")], rows)


def _run(each: RunFact, at: datetime) -> Text:
    started = each.status == "STARTED"
    since = each.started_at if started and each.started_at is not None else each.created_at
    text = Text()
    text.append("▶ " if started else "… ", style="green" if started else "dim")
    text.append(f"{each.subject} {each.partition} ", style="" if started else "dim")
    text.append(f"{short_span(at - since)} ", style="bold" if started else "dim")
    text.append(each.worker or each.status.lower().replace("_", " "), style="dim")
    return text


def _backfill(each: BackfillFact) -> Text:
    text = Text()
    text.append("⇊ ", style="bold cyan")
    text.append(f"{each.subject} ")
    if each.partitions:
        text.append_text(bar(each.done / each.partitions))
        text.append(f" {each.done:,}/{each.partitions:,} {each.done / each.partitions:.0%}")
    failed = each.failed or each.runs.get("FAILURE", 0)
    if failed:
        text.append(f" {failed} failed", style="red")
    return text


def budgets(facts: Facts, rows: int) -> Table:
    """Return what is used of each provider's tightest limit, in so many lines."""
    if facts.providers is None:
        return listed([Text(facts.problems.get("providers", "Not read yet."), style="dim")], rows)
    texts = [_budget(each) for each in facts.providers]
    none = Text("No provider on the network is set up.", style="dim")
    return listed(texts or [none], rows)


def _budget(each: ProviderFact) -> Text:
    text = Text(f"{each.name:<12.12} ")
    if each.next_try_at is not None:
        return text.append(f"left alone until {each.next_try_at:%H:%M:%S}Z", style="bold red")
    if each.paused_until is not None:
        return text.append(f"paused until {each.paused_until:%H:%M:%S}Z", style="yellow")
    if each.used is None or not each.limit or each.seconds is None:
        return text.append("no limit", style="dim")
    share = each.used / each.limit
    style = "red" if share > 0.9 else "yellow" if share > 0.8 else "green"  # noqa: PLR2004  # as the alert rules
    text.append_text(bar(share, style))
    text.append(f" {each.used:,}/{each.limit:,} in {span(timedelta(seconds=each.seconds))}")
    if each.waiting:
        text.append(f", {each.waiting} waiting", style="yellow")
    return text


def ledgers(facts: Facts, rows: int, width: int) -> Table:
    """Return the last collection of each source, failed ones first, in so many lines."""
    if facts.collectors is None:
        return listed([Text(facts.problems.get("collectors", "Not read yet."), style="dim")], rows)
    cells = [_ledger(each, facts.at) for each in sorted(facts.collectors, key=_by_need)]
    return listed(_flowed(cells, width), rows)


def _flowed(cells: Sequence[Text], width: int) -> list[Text]:
    """Return the cells in lines of that width, in columns as wide as the longest."""
    each_width = max((cell.cell_len for cell in cells), default=0) + 2
    columns = max(1, (width + 2) // each_width) if each_width > 2 else 1  # noqa: PLR2004
    lines = []
    for number in range(0, len(cells), columns):
        line = Text()
        for cell in cells[number : number + columns]:
            line.append_text(cell)
            line.append(" " * (each_width - cell.cell_len))
        lines.append(line)
    return lines


def _by_need(each: CollectorFact) -> tuple[bool, float]:
    return each.status != "failed", -each.last_at.timestamp() if each.last_at is not None else 0


def _ledger(each: CollectorFact, at: datetime) -> Text:
    name = each.name if len(each.name) <= _LONGEST_NAME else f"{each.name[: _LONGEST_NAME - 1]}…"
    text = Text(f"{name} ")
    if each.last_at is None:
        return text.append("not yet", style="dim")
    mark = MARK if each.is_sample else ""
    text.append(f"{short_span(at - each.last_at)} ", style="bold")
    style = {"success": "green", "partial": "yellow"}.get(each.status, "red")
    text.append(each.status if each.status != "success" else "ok", style=style)
    text.append(f" {mark}{each.records:,}", style="yellow" if mark else "dim")
    return text


def alerts_title(facts: Facts) -> str:
    """Return how many alerts stand, in a line."""
    if facts.alerts is None:
        return "Alerts"
    counts = [
        f"{facts.alerts.counts[name][0]} {name}"
        for name in _SEVERITIES
        if name in facts.alerts.counts
    ]
    return f"Alerts: {', '.join(counts)}" if counts else "Alerts: none"


def alerts(facts: Facts, rows: int) -> Table:
    """Return the alerts that stand, the worst first, in so many lines."""
    if facts.alerts is None:
        return listed([Text(facts.problems.get("alerts", "Not read yet."), style="dim")], rows)
    texts = []
    for each in facts.alerts.last:
        text = Text()
        text.append(f"{each.severity:<8} ", style=_SEVERITIES.get(each.severity, ""))
        text.append(f"{short_span(facts.at - each.raised_at)} ", style="bold")
        text.append(f"{each.alert_id} ", style="dim")
        text.append(each.title, style="dim" if each.is_acknowledged else "")
        texts.append(text)
    return listed(texts, rows)


def bar(share: float, style: str = "cyan", width: int = _BAR) -> Text:
    """Return a bar of so many characters, filled to that share."""
    filled = round(width * min(max(share, 0.0), 1.0))
    text = Text("━" * filled, style=style)
    return text.append("━" * (width - filled), style="grey30")
