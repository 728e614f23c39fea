"""How the dashboard looks: one frame out of what is known, for a terminal of a given size.

Pure: everything is drawn from a `Screen`; nothing is asked here.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from rich.box import ROUNDED
from rich.console import Group, RenderableType
from rich.layout import Layout
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from scizor_cli import dashboard_parts as parts
from scizor_cli.dashboard_parts import MARK
from scizor_cli.output import is_simulated
from scizor_resources.health.clock import MarketClock
from scizor_resources.health.market_checks import freshness_of
from scizor_resources.health.prices import Quote
from scizor_resources.health.report import Facts, SymbolFact
from scizor_resources.health.spans import bytes_of, short_span, span

#: From this width on there are two columns.
WIDE_FROM = 118
_LEAST_SYMBOLS = 4


@dataclass
class Screen:
    """What is shown.

    Attributes:
        facts: what was read last; where a server has gone, what was known before.
        clocks: the markets at the moment of the facts.
        quotes: instrument id -> last price.
        away: what cannot be reached, in a sentence; "" while all can.
        every: seconds between two looks.
        offset: first symbol that is shown.
    """

    facts: Facts
    clocks: Mapping[str, MarketClock]
    quotes: Mapping[int, Quote] = field(default_factory=dict)
    away: str = ""
    every: float = 2.0
    offset: int = 0


def frame(screen: Screen, width: int, height: int) -> RenderableType:
    """Return one frame that fills a terminal of that size exactly."""
    height = max(height, 16)
    return _wide(screen, width, height) if width >= WIDE_FROM else _narrow(screen, width, height)


def symbol_rows(width: int, height: int) -> int:
    """Return how many symbols fit, for scrolling."""
    height = max(height, 16)
    if width >= WIDE_FROM:
        return max(_LEAST_SYMBOLS, height - 11)
    return max(_LEAST_SYMBOLS, height - 6 - sum(_narrow_sizes(height)))


def _narrow_sizes(height: int) -> tuple[int, int, int, int]:
    """Return the lines of runs, budgets, ledgers and alerts below the symbols, titles included."""
    spare = max(0, height - 24) // 4
    if height < 22:  # noqa: PLR2004  # a strip of a terminal
        return 2, 2, 0, 2
    return 3 + min(spare, 6), 3 + min(spare, 5), 2 + min(spare, 2), 3 + min(spare, 5)


def _narrow(screen: Screen, width: int, height: int) -> RenderableType:
    runs, budgets, ledgers, alerts = _narrow_sizes(height)
    symbols = symbol_rows(width, height)
    layouts = [
        Layout(_header(screen), size=1),
        Layout(_markets(screen), size=3),
        Layout(_symbols(screen, symbols), size=symbols + 1),
        Layout(
            _titled(parts.runs_title(screen.facts), parts.runs(screen.facts, runs - 1)), size=runs
        ),
        Layout(_titled("Budgets", parts.budgets(screen.facts, budgets - 1)), size=budgets),
    ]
    if ledgers:
        layouts.append(
            Layout(
                _titled("Ledgers", parts.ledgers(screen.facts, ledgers - 1, width)), size=ledgers
            )
        )
    layouts += [
        Layout(
            _titled(parts.alerts_title(screen.facts), parts.alerts(screen.facts, alerts - 1)),
            size=alerts,
        ),
        Layout(_footer(screen), size=1),
    ]
    layout = Layout()
    layout.split_column(*layouts)
    return layout


def _wide(screen: Screen, width: int, height: int) -> RenderableType:
    layout, body = Layout(), Layout()
    left, right = Layout(ratio=11), Layout(ratio=10)
    symbols = symbol_rows(WIDE_FROM, height)
    left.split_column(
        Layout(_panel("Markets", _markets(screen)), size=5),
        Layout(_panel(_symbols_title(screen, symbols), _symbols(screen, symbols))),
    )
    inner = height - 2
    providers = min(len(screen.facts.providers or ()) + 2, max(3, inner // 4))
    # The right column without its frame.
    inside = width * 10 // 21 - 4
    ledgers = min((len(screen.facts.collectors or ()) + 1) // 2 + 2, max(3, inner // 4))
    standing = len(screen.facts.alerts.last) if screen.facts.alerts is not None else 1
    alerts = min(max(standing, 1) + 2, max(4, inner // 4))
    runs = inner - providers - ledgers - alerts
    right.split_column(
        Layout(
            _panel(parts.runs_title(screen.facts), parts.runs(screen.facts, runs - 2)), size=runs
        ),
        Layout(_panel("Budgets", parts.budgets(screen.facts, providers - 2)), size=providers),
        Layout(
            _panel("Ledgers, last collection", parts.ledgers(screen.facts, ledgers - 2, inside)),
            size=ledgers,
        ),
        Layout(_panel(parts.alerts_title(screen.facts), parts.alerts(screen.facts, alerts - 2))),
    )
    body.split_row(left, right)
    layout.split_column(Layout(_header(screen), size=1), body, Layout(_footer(screen), size=1))
    return layout


def _panel(title: str, content: RenderableType) -> Panel:
    return Panel(content, title=title, title_align="left", box=ROUNDED, border_style="dim")


def _titled(title: str, content: RenderableType) -> Group:
    line = Text(f"── {title} ", style="bold dim", no_wrap=True, overflow="crop")
    line.append("─" * 200, style="dim")
    return Group(line, content)


# ---- top and bottom


def _header(screen: Screen) -> Text:
    facts = screen.facts
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append("SCIZOR ", style="bold")
    text.append(f"{facts.at:%Y-%m-%d %H:%M:%S}Z", style="bold")
    for each in facts.servers:
        title = {"postgresql": "PostgreSQL", "valkey": "Valkey"}[each.name]
        well = each.problem is None
        text.append(f"  {title} ")
        text.append("ok" if well else "AWAY", style="green" if well else "bold red")
    heartbeats = facts.dagster.heartbeats if facts.dagster is not None else None
    if heartbeats is not None:
        alive = bool(heartbeats) and facts.at - max(heartbeats.values()) < timedelta(minutes=2)
        text.append("  daemon ")
        text.append("ok" if alive else "AWAY", style="green" if alive else "bold red")
    if facts.workers is not None and facts.workers.problem is None:
        number = len(facts.workers.running)
        text.append("  workers ")
        text.append(f"{number}", style="green" if number else "bold red")
    if facts.machine is not None:
        disk = f"{facts.machine.disk_percent:.0f} %, {bytes_of(facts.machine.disk_free)} free"
        text.append(f"  disk {disk}", style="dim")
        text.append(f"  memory {facts.machine.memory_percent:.0f} %", style="dim")
    return text


def _footer(screen: Screen) -> Text:
    if screen.away:
        return Text(screen.away, style="bold red", no_wrap=True, overflow="ellipsis")
    text = Text(no_wrap=True, overflow="ellipsis", style="dim")
    text.append("q quit  ↑↓ symbols  ")
    text.append(f"every {screen.every:g} s, UTC  ")
    if any(is_simulated(each.source) for each in screen.quotes.values()) or any(
        each.is_sample for each in screen.facts.collectors or ()
    ):
        text.append(f"{MARK} simulated or sample  ", style="yellow not dim")
    text.append("! behind", style="dim")
    return text


def _markets(screen: Screen) -> Table:
    table = parts.grid("left", "left", "LEFT")
    for market, clock in screen.clocks.items():
        state = Text("open", style="bold green") if clock.is_open else Text("closed", style="dim")
        table.add_row(Text(market, style="bold"), state, _left(clock))
    return table


def _left(clock: MarketClock) -> Text:
    session = f"session {clock.session.session_date}" if clock.session is not None else ""
    if clock.always:
        return Text(f"around the clock, {session}")
    if clock.changes_at is None:
        return Text("its calendar ends here")
    left = span(clock.changes_at - clock.at)
    if clock.is_open and clock.session is not None:
        length = clock.changes_at - clock.session.open
        text = Text("closes in ")
        text.append(left, style="bold")
        text.append(f" at {clock.changes_at:%H:%M}Z ")
        text.append_text(parts.bar(1 - (clock.changes_at - clock.at) / length))
        return text
    return Text(f"opens in {left}, {clock.changes_at:%a %d %b %H:%M}Z; last {session}", style="dim")


# ---- symbols


def _symbols_title(screen: Screen, rows: int) -> str:
    symbols = screen.facts.symbols or ()
    if len(symbols) <= rows:
        return f"Symbols ({len(symbols)})"
    last = min(screen.offset + rows, len(symbols))
    return f"Symbols {screen.offset + 1}-{last} of {len(symbols):,}"


def _symbols(screen: Screen, rows: int) -> RenderableType:
    facts = screen.facts
    if facts.symbols is None:
        return Text(facts.problems.get("freshness", "Not read yet."), style="dim")
    if not facts.symbols:
        return Text("Nothing is watched: scizor watchlist add CBA", style="yellow")
    table = parts.grid("left", "left", "left", "right", "right", "right", "right", "LEFT")
    heads = ("market", "t", "symbol", "last", "change", "age", "session", "open gaps")
    if len(facts.symbols) > rows:
        heads = (*heads[:-1], f"open gaps  ({_symbols_title(screen, rows).lower()})")
    table.add_row(*(Text(each, style="bold dim") for each in heads))
    for each in facts.symbols[screen.offset : screen.offset + rows]:
        table.add_row(*_symbol(screen, each))
    return table


def _symbol(screen: Screen, each: SymbolFact) -> Iterable[Text]:
    quote = screen.quotes.get(each.instrument_id or 0, Quote())
    clock = screen.clocks[each.market]
    fresh = freshness_of(each, clock, screen.facts)
    style = "bold red" if fresh.is_stale else "yellow" if fresh.is_late else "dim"
    age = _age(each, quote, screen.facts.at)
    yield Text(each.market, style="dim")
    yield Text(str(each.tier), style="dim")
    yield Text(each.symbol, style="bold")
    yield _price(quote)
    yield _change(quote)
    yield Text(age + ("!" if fresh.is_late else ""), style=style)
    session = clock.session
    fact = each.sessions.get(session.session_date) if session is not None else None
    yield _whole(fact.coverage if fact is not None and fact.expected else None, screen.facts)
    gaps = fact.gaps if fact is not None else {}
    told = ", ".join(f"{number} {reason}" for reason, number in sorted(gaps.items()))
    yield Text(told, style="yellow")


def _age(each: SymbolFact, quote: Quote, at: datetime) -> str:
    """Return how long ago the last bar ended; of an old one the day is enough."""
    if each.heard_until is not None:
        return short_span(at - each.heard_until)
    if quote.session is None:
        return "-"
    return f"{max(0, (at.date() - quote.session).days)}d"


def _price(quote: Quote) -> Text:
    if quote.price is None:
        return Text("-", style="dim")
    # Five figures that count, so that coins of a thousandth show as well as indices.
    decimals = 2 if abs(quote.price) >= 10 else 3 if abs(quote.price) >= 1 else 6  # noqa: PLR2004
    text = f"{quote.price:,.{decimals}f}"
    if is_simulated(quote.source):
        return Text(MARK + text, style="yellow")
    return Text(text)


def _change(quote: Quote) -> Text:
    if quote.change is None:
        return Text("-", style="dim")
    percent = 100 * quote.change
    style = "green" if percent > 0 else "red" if percent < 0 else "dim"
    return Text(f"{percent:+.2f}%", style=style)


def _whole(coverage: float | None, facts: Facts) -> Text:
    if coverage is None:
        return Text("-", style="dim")
    percent, limits = 100 * coverage, facts.thresholds["completeness_percent"]
    style = "red" if percent < limits.fail else "yellow" if percent < limits.warn else "green"
    # 99.96 is not 100.
    text = f"{int(percent * 10) / 10:.1f}" if percent < 100 else "100"  # noqa: PLR2004
    return Text(f"{text}%", style=style)
