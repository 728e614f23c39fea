"""Charts: what is merged, and that simulated data says so."""

import struct
from pathlib import Path

import pandas as pd
import pytest

from scizor_cli.plots import chart_title, draw_png, draw_terminal, merge_candles


def make_bars(count: int, *, simulated: bool = False) -> pd.DataFrame:
    index = pd.date_range("2026-01-01", periods=count, freq="D", name="ts")
    close = [10.0 + i % 5 for i in range(count)]
    frame = pd.DataFrame(
        {
            "open": 10.0,
            "high": [each + 1 for each in close],
            "low": 9.0,
            "close": close,
            "volume": [float(i) for i in range(count)],
        },
        index=index,
    )
    frame.attrs = {
        "symbol": "CBA",
        "market": "asx",
        "timeframe": "1d",
        "currency": "AUD",
        "simulated": simulated,
        "adjusted": False,
    }
    return frame


def test_merged_candles_keep_the_extremes_and_the_volume() -> None:
    merged, step = merge_candles(make_bars(5), 3)
    assert step == 2
    assert merged["high"].tolist() == [12.0, 14.0, 15.0]
    assert merged["close"].tolist() == [11.0, 13.0, 14.0]
    assert merged["volume"].tolist() == [1.0, 5.0, 4.0]


def test_bars_that_fit_are_not_merged() -> None:
    merged, step = merge_candles(make_bars(5), 5)
    assert step == 1
    assert len(merged) == 5


@pytest.mark.parametrize(("simulated", "begins"), [(True, "SIMULATED DATA"), (False, "CBA (asx)")])
def test_a_title_of_simulated_bars_says_so_first(simulated: bool, begins: str) -> None:
    assert chart_title(make_bars(1, simulated=simulated).attrs, 1).startswith(begins)


@pytest.mark.parametrize("count", [1, 2, 60, 1000])
def test_a_terminal_chart_has_the_size_asked_for(count: int) -> None:
    frame = make_bars(count)
    text = draw_terminal(frame, [str(i) for i in range(count)], 90, 24)
    assert len(text.rstrip("\n").splitlines()) == 24


def test_a_flat_market_without_volume_can_be_drawn() -> None:
    frame = make_bars(3)
    frame[["open", "high", "low", "close"]] = 10.0
    frame["volume"] = 0.0
    assert "10.0" in draw_terminal(frame, ["a", "b", "c"], 90, 24)


def test_a_png_is_written_whole(tmp_path: Path) -> None:
    target = tmp_path / "chart.png"
    draw_png(make_bars(30, simulated=True), target)
    content = target.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", content[16:24])
    assert width > 800
    assert height > 400
    assert [each.name for each in tmp_path.iterdir()] == ["chart.png"]
