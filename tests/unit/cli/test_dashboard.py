"""The dashboard without servers: frames of any size, marks, scrolling, what is kept."""

import io
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from rich.console import Console

from scizor_cli.dashboard import away_sentence, kept, moved_by
from scizor_cli.dashboard_view import Screen, frame, symbol_rows
from scizor_resources.health.clock import market_clocks
from scizor_resources.health.prices import Quote
from scizor_resources.health.probe import default_thresholds
from scizor_resources.health.report import (
    AlertFact,
    AlertFacts,
    BackfillFact,
    CollectorFact,
    DagsterFacts,
    Facts,
    MachineFacts,
    ProviderFact,
    RunFact,
    RunFacts,
    ServerFact,
    SessionFact,
    SymbolFact,
    WorkerFacts,
)

# The ASX is open until 05:00 UTC.
NOW = datetime(2026, 11, 20, 1, 0, tzinfo=UTC)
FRIDAY = date(2026, 11, 20)


def symbol(number: int, heard: datetime = NOW) -> SymbolFact:
    session = SessionFact(120, 1, 0.9996, {"feed down": 2})
    return SymbolFact(
        "asx",
        f"S{number}",
        1,
        number,
        "1m",
        NOW - timedelta(days=9),
        heard,
        sessions={FRIDAY: session},
    )


def screen(symbols: int = 18) -> Screen:
    facts = Facts(
        NOW,
        servers=[ServerFact("postgresql", True, version="18"), ServerFact("valkey", True)],
        thresholds=default_thresholds(),
        dagster=DagsterFacts(up=True, heartbeats={"SENSOR": NOW}),
        workers=WorkerFacts({"up@here": 1}),
        symbols=tuple(symbol(number) for number in range(1, symbols + 1)),
        runs=RunFacts(
            (RunFact("r", "asx_session", "2026-11-20", "STARTED", NOW, NOW, "live", "up@here"),),
            {"STARTED": 1, "QUEUED": 3},
            ("us/bars_1d 2026-11-01",),
            40,
            (BackfillFact("b", "crypto/bars_1m", "REQUESTED", NOW, 200, 50),),
        ),
        providers=(ProviderFact("yahoo", "Yahoo", 450, 900, 3600),),
        collectors=(
            CollectorFact("edgar", "catalyst/catalyst_events", timedelta(minutes=15)),
            CollectorFact(
                "x", "human/social_sentiment", timedelta(hours=1), NOW, "success", 5, "", True
            ),
        ),
        alerts=AlertFacts(
            {"high": (1, 0)}, (AlertFact(3, "high", "run_failed", "It [failed]", NOW, False),)
        ),
        machine=MachineFacts(40.0, 2**30, 50.0, 2**30),
    )
    quotes = {1: Quote(10.5, FRIDAY, "yahoo", 0.0123), 2: Quote(0.5, FRIDAY, "simulated")}
    return Screen(facts, market_clocks(NOW), quotes)


def drawn(what: Screen, width: int, height: int) -> list[str]:
    out = io.StringIO()
    console = Console(file=out, width=width, height=height)
    console.print(frame(what, width, height), height=height)
    return out.getvalue().rstrip("\n").split("\n")


SIZES = [(60, 16), (80, 24), (117, 30), (118, 24), (140, 40), (250, 80)]


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_a_frame_fills_the_terminal_and_no_more(size: tuple[int, int]) -> None:
    width, height = size
    for symbols in (0, 1, 18, 1000):
        lines = drawn(screen(symbols), width, height)
        assert len(lines) == height
        assert max(len(each) for each in lines) <= width


@pytest.mark.parametrize("size", SIZES[1:], ids=lambda size: f"{size[0]}x{size[1]}")
def test_every_part_is_in_the_frame(size: tuple[int, int]) -> None:
    text = "\n".join(drawn(screen(), *size))
    for part in (
        "2026-11-20 01:00:00Z",
        "PostgreSQL ok",
        "closes in 4 h at 05:00Z",
        "around the clock",
        "+1.23%",
        "99.9%",
        "2 feed down",
        "1 running, 3 waiting",
        "crypto/bars_1m",
        "50/200 25%",
        "450/900 in 1 h",
        "Ledgers",
        "It [failed]",
    ):
        assert part in text


def test_simulated_prices_and_samples_are_marked() -> None:
    text = "\n".join(drawn(screen(), 140, 40))
    assert "~0.500000" in text
    assert "~10.5" not in text
    assert "ok ~5" in text
    assert "~ simulated or sample" in text


def test_without_simulated_data_there_is_no_legend_for_it() -> None:
    shown = screen()
    shown.quotes = {1: Quote(10.5, FRIDAY, "yahoo")}
    shown.facts.collectors = ()
    assert "simulated" not in "\n".join(drawn(shown, 140, 40))


def test_a_symbol_that_is_behind_has_a_mark() -> None:
    shown = screen(1)
    shown.facts.symbols = (symbol(1, NOW - timedelta(minutes=70)),)
    (line,) = [each for each in drawn(shown, 80, 24) if " S1 " in each]
    assert "70m!" in line


def test_nothing_known_can_be_drawn_and_says_why() -> None:
    facts = Facts(NOW, problems={"freshness": "PostgreSQL cannot be asked"})
    for size in SIZES:
        text = "\n".join(drawn(Screen(facts, market_clocks(NOW)), *size))
        assert "PostgreSQL cannot be asked" in text


def test_what_is_away_takes_the_last_line() -> None:
    shown = replace(screen(), away="It does not run.")
    assert drawn(shown, 80, 24)[-1].startswith("It does not run.")


def test_the_servers_that_are_away_are_said_with_what_to_do() -> None:
    facts = Facts(NOW, servers=[ServerFact("valkey", True, "it does not run")])
    assert away_sentence(facts).startswith("It does not run. Start the platform with `scizor up`.")
    assert away_sentence(screen().facts) == ""


def test_what_was_not_read_this_time_stays_as_it_was() -> None:
    before, now = screen().facts, Facts(NOW + timedelta(seconds=2))
    after = kept(now, before)
    assert after.symbols == before.symbols
    assert after.workers == before.workers
    assert after.at == now.at


def test_a_look_at_the_database_alone_keeps_what_is_known_of_up() -> None:
    before = screen().facts
    later = NOW + timedelta(seconds=2)
    now = Facts(later, dagster=DagsterFacts(up=False, heartbeats={"SENSOR": later}))
    after = kept(now, before).dagster
    assert after is not None
    assert after.up
    assert after.heartbeats == {"SENSOR": later}


@pytest.mark.parametrize(
    ("key", "offset", "expected"),
    [
        pytest.param("\x1b[B", 0, 1, id="down"),
        pytest.param("\x1b[A", 0, 0, id="up at the top"),
        pytest.param(" ", 0, symbol_rows(80, 24), id="a page"),
        pytest.param(" ", 95, 100 - symbol_rows(80, 24), id="the last page is full"),
        pytest.param("x", 5, 5, id="another key"),
    ],
)
def test_keys_move_the_symbols(key: str, offset: int, expected: int) -> None:
    assert moved_by(key, offset, screen(100), (80, 24)) == expected


def test_few_symbols_do_not_move() -> None:
    assert moved_by("\x1b[B", 0, screen(3), (80, 24)) == 0
