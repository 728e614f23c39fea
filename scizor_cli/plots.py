"""Candlesticks in the terminal (plotext) and as a PNG (mplfinance), volume below."""

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scizor_cli.output import output_file

if TYPE_CHECKING:
    import pandas as pd

MINIMUM_WIDTH, MINIMUM_HEIGHT = 40, 12
_VOLUME_SHARE = 4
_TICKS_EVERY = 14


def chart_title(attrs: Mapping[Any, Any], bars: int) -> str:
    """Return what a chart shows; a chart of simulated bars says so first."""
    mark = "SIMULATED DATA - " if attrs["simulated"] else ""
    adjusted = ", adjusted" if attrs["adjusted"] else ""
    return (
        f"{mark}{attrs['symbol']} ({attrs['market']}) {attrs['timeframe']}, {bars:,} bars, "
        f"{attrs['currency']}{adjusted}"
    )


def merge_candles(frame: "pd.DataFrame", candles: int) -> tuple["pd.DataFrame", int]:
    """Return at most `candles` rows, neighbouring bars merged, and how many make one.

    Args:
        frame: open, high, low, close, volume, ordered in time.
        candles: how many there is room for.
    """
    step = max(1, math.ceil(len(frame) / max(1, candles)))
    if step == 1:
        return frame, 1
    groups = [number // step for number in range(len(frame))]
    rules = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
    merged = frame.groupby(groups).agg(rules)
    merged.index = frame.index[::step]
    return merged, step


def draw_terminal(frame: "pd.DataFrame", labels: Sequence[str], width: int, height: int) -> str:
    """Return a candlestick chart as text, colours included.

    Args:
        frame: bars as `MarketData.bars` returns them, at least one.
        labels: what to write below each bar, one each.
        width: characters to fill.
        height: lines to fill.
    """
    import plotext

    width, height = max(width, MINIMUM_WIDTH), max(height, MINIMUM_HEIGHT)
    candles, step = merge_candles(frame, width - 14)
    shown = list(labels)[::step]
    places = list(range(len(candles)))
    volume_height = height // _VOLUME_SHARE
    plotext.terminal.limit(False, False)
    figure = plotext.figure
    figure.clear()
    figure.plot_size(width, height)
    figure.subplots(2, 1)
    prices, volumes = figure.subplot(1, 1), figure.subplot(2, 1)
    prices.plot_size(width, height - volume_height)
    volumes.plot_size(width, volume_height)
    data = {name: candles[name].tolist() for name in ("open", "high", "low", "close")}
    prices.draw(prices.candlestick({"date": places, **data}))
    volumes.draw(volumes.candlestick({"date": places, **_volume_bars(candles)}))
    per_candle = f" ({step} bars a candle)" if step > 1 else ""
    prices.title(f"{chart_title(frame.attrs, len(frame))}{per_candle}")
    levels = [_levels(min(data["low"]), max(data["high"]), 5), _levels(0, _top(candles), 3)]
    texts = [[f"{value:,.{_digits(values)}f}" for value in values] for values in levels]
    label_width = max(len(text) for part in texts for text in part)
    every = max(1, len(places) * _TICKS_EVERY // width)
    for part, values, written in zip((prices, volumes), levels, texts, strict=True):
        part.theme("simple")
        part.ruler("x").ticks(places[::every], labels=shown[::every])
        part.ruler("y").ticks(values, labels=[text.rjust(label_width) for text in written])
    return str(figure.build())


def _clock(bars: "pd.DataFrame") -> str:
    zone = getattr(bars.index, "tz", None)
    return "" if zone is None else f"time ({zone})"


def _volume_bars(candles: "pd.DataFrame") -> dict[str, list[float]]:
    """Return volumes as candles that stand on zero, in the colour of their price candle."""
    rising = candles["close"] > candles["open"]
    volume = candles["volume"]
    return {
        "open": volume.mask(rising, 0.0).tolist(),
        "close": volume.where(rising, 0.0).tolist(),
        "high": volume.tolist(),
        "low": [0.0] * len(volume),
    }


def _top(candles: "pd.DataFrame") -> float:
    return float(candles["volume"].max()) or 1.0


def _levels(low: float, high: float, count: int) -> list[float]:
    high = high if high > low else low * 1.01 or 1.0
    return [low + (high - low) * part / (count - 1) for part in range(count)]


def _digits(levels: Sequence[float]) -> int:
    """Return the decimals that tell neighbouring levels apart."""
    return max(0, 1 - math.floor(math.log10(levels[1] - levels[0])))


def draw_png(frame: "pd.DataFrame", path: Path) -> None:
    """Write a candlestick chart as PNG; no display is needed.

    Args:
        frame: bars as `MarketData.bars` returns them, at least one; the time axis is the
            exchange's where `frame.index` has been converted to it.
        path: file to write.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    # The style asks for a font weight that the default font lacks, and says so on stderr.
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    import mplfinance as mpf
    from matplotlib import pyplot

    names = {"open": "Open", "high": "High", "low": "Low", "close": "Close", "volume": "Volume"}
    data = frame.rename(columns=names)[list(names.values())]
    with output_file(path) as draft:
        figure, axes = mpf.plot(
            data,
            type="candle" if len(data) <= 500 else "line",  # noqa: PLR2004  # candles narrower than a pixel
            volume=True,
            style="yahoo",
            ylabel=f"price ({frame.attrs['currency']})",
            figsize=(12, 7),
            tight_layout=True,
            show_nontrading=False,
            returnfig=True,
            warn_too_much_data=len(data) + 1,
        )
        prices, volumes = axes[0], axes[2]
        volumes.set_ylim(0, max(float(data["Volume"].max()) * 1.1, 1.0))
        volumes.yaxis.set_major_formatter(lambda value, _place: f"{value:,.0f}")
        volumes.set_xlabel(_clock(data))
        figure.suptitle(chart_title(frame.attrs, len(frame)), y=1.02, fontsize=13)
        if frame.attrs["simulated"]:
            prices.text(
                *(0.5, 0.5, "SIMULATED"),
                transform=prices.transAxes,
                fontsize=54,
                color="grey",
                alpha=0.18,
                rotation=20,
                ha="center",
                va="center",
            )
        figure.savefig(draft, format="png", dpi=120, bbox_inches="tight")
        pyplot.close(figure)
