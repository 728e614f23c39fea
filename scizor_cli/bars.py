"""`scizor bars`: the bars of one symbol as table, CSV, JSON, Parquet or chart."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scizor_cli.output import (
    Format,
    console,
    note,
    output_file,
    render_table,
    text_output,
    write_csv,
    write_json,
)
from scizor_core.errors import InvalidInputError
from scizor_core.markets import get_market

if TYPE_CHECKING:
    import pandas as pd

EXAMPLES = (
    "Examples:\n\n"
    "  scizor bars CBA\n\n"
    "  scizor bars CBA --timeframe 5m --start 2026-11-20 --plot\n\n"
    "  scizor bars AAPL --market us --start 2026-01-01 --end 2026-07-01 --png aapl.png\n\n"
    "  scizor bars BHP --last 500 --indicators --format csv --output bhp.csv"
)
_DEFAULT_LAST = 50
#: Indicators that fit into a table; the other formats have all of them.
_TABLE_INDICATORS = ("sma_20", "ema_20", "rsi_14", "macd", "bb_low", "bb_high", "atr_14")
_PLOT_MARGIN_LINES = 3


def bars(
    symbol: Annotated[str, typer.Argument(help="Code of the symbol, for example CBA.")],
    market: Annotated[
        str | None, typer.Option(help="Needed only where several markets have that code.")
    ] = None,
    timeframe: Annotated[str, typer.Option("--timeframe", "-t", help="1m, 5m, 15m or 1d.")] = "1d",
    start: Annotated[
        str | None, typer.Option(help="First session (2026-11-20) or instant with offset.")
    ] = None,
    end: Annotated[
        str | None, typer.Option(help="First session or instant no longer wanted.")
    ] = None,
    last: Annotated[
        int | None,
        typer.Option(min=1, help=f"Only so many, the last ones; {_DEFAULT_LAST} if no --start."),
    ] = None,
    indicators: Annotated[
        bool, typer.Option("--indicators", "-i", help="Add the indicators.")
    ] = False,
    adjusted: Annotated[
        bool, typer.Option("--adjusted", help="Prices adjusted by adj_close; daily bars only.")
    ] = False,
    plot: Annotated[bool, typer.Option("--plot", help="Candlesticks in the terminal.")] = False,
    png: Annotated[Path | None, typer.Option(help="Write the chart to this PNG file.")] = None,
    format_: Annotated[
        Format, typer.Option("--format", "-f", help="How to show the rows.")
    ] = Format.TABLE,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write there instead of to the screen.")
    ] = None,
) -> None:
    """Show stored bars, and why there are none. Times are bar starts in UTC."""
    if format_ is Format.PARQUET and output is None:
        raise InvalidInputError("Parquet is no text: add --output FILE.")
    from scizor_resources.market_data import MarketData

    if last is None and start is None:
        last = _DEFAULT_LAST
    with MarketData.open() as data:
        frame = data.bars(
            symbol,
            timeframe,
            start,
            end,
            market=market,
            indicators=indicators,
            adjusted=adjusted,
            last=last,
        )
    attrs = frame.attrs
    if attrs["delisted_on"] is not None:
        note(f"{attrs['symbol']} is delisted: it last traded on {attrs['delisted_on']}.")
    if frame.empty:
        note(attrs["empty_reason"])
        if format_ is Format.TABLE:
            return
    if png is not None and len(frame):
        from scizor_cli.plots import draw_png

        draw_png(_in_exchange_time(frame), png)
        note(f"Chart of {len(frame):,} bars written to {png}.")
    if plot and len(frame):
        _plot(frame)
    elif png is None or output is not None:
        _write(frame, format_, output)
    _tell(frame)


def _plot(frame: "pd.DataFrame") -> None:
    import pandas as pd

    from scizor_cli.plots import draw_terminal

    local = pd.DatetimeIndex(_in_exchange_time(frame).index)
    labels = local.strftime("%d %b" if frame.attrs["timeframe"] == "1d" else "%d %H:%M")
    size = shutil.get_terminal_size()
    chart = draw_terminal(frame, list(labels), size.columns, size.lines - _PLOT_MARGIN_LINES)
    typer.echo(chart)


def _in_exchange_time(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Return the bars with the exchange's clock as index, for charts."""
    import pandas as pd

    shown = frame.copy()
    if frame.attrs["timeframe"] == "1d":
        shown.index = pd.DatetimeIndex(frame.index).tz_localize(None)
    else:
        zone = get_market(frame.attrs["market"]).timezone
        shown.index = pd.DatetimeIndex(frame.index).tz_convert(zone)
    return shown


def _write(frame: "pd.DataFrame", format_: Format, output: Path | None) -> None:
    if format_ is Format.PARQUET and output is not None:
        with output_file(output) as draft:
            frame.reset_index().assign(symbol=frame.attrs["symbol"]).to_parquet(draft, index=False)
    elif format_ is Format.TABLE:
        columns, rows = _table_rows(frame)
        with text_output(output) as stream:
            target = console()
            target.file = stream
            target.print(render_table(columns, rows))
    else:
        columns, rows = _rows(frame)
        write = write_csv if format_ is Format.CSV else write_json
        with text_output(output) as stream:
            write(columns, rows, stream)
    if output is not None:
        note(f"{len(frame):,} bars written to {output}.")


def _rows(frame: "pd.DataFrame") -> tuple[list[str], list[list[Any]]]:
    """Return all columns in plain values; what is missing is None."""
    named = frame.reset_index()
    named.insert(0, "symbol", frame.attrs["symbol"])
    named["session_date"] = named["session_date"].dt.date
    plain = named.astype(object).where(named.notna(), None)
    return list(named.columns), plain.to_numpy().tolist()


def _table_rows(frame: "pd.DataFrame") -> tuple[list[str], list[list[Any]]]:
    """Return the columns that fit on a screen; intraday bars with the exchange's clock too."""
    import pandas as pd

    shown = frame[["open", "high", "low", "close", "volume"]].copy()
    for column in ("vwap", "trade_count", "adj_close"):
        if frame[column].notna().any():
            shown[column] = frame[column]
    for column in _TABLE_INDICATORS:
        if column in frame:
            shown[column] = frame[column]
    shown["source"] = frame["source"]
    if not frame["is_final"].all():
        shown["final"] = frame["is_final"]
    if frame.attrs["timeframe"] == "1d":
        shown.insert(0, "session", frame["session_date"].dt.date)
    else:
        zone = get_market(frame.attrs["market"]).timezone
        times = pd.DatetimeIndex(frame.index)
        local = times.tz_convert(zone)
        shown.insert(0, zone.rpartition("/")[2], local.strftime("%H:%M"))
        shown.insert(0, "ts", times.to_pydatetime())
    plain = shown.astype(object).where(shown.notna(), None)
    return list(shown.columns), plain.to_numpy().tolist()


def _tell(frame: "pd.DataFrame") -> None:
    if frame.empty:
        return
    attrs = frame.attrs
    sources = ", ".join(f"{source} {count:,}" for source, count in attrs["sources"].items())
    adjusted = ", adjusted prices" if attrs["adjusted"] else ""
    note(
        f"{len(frame):,} {attrs['timeframe']} bars of {attrs['symbol']} ({attrs['market']}, "
        f"{attrs['currency']}{adjusted}); sources: {sources}."
    )
    if attrs["simulated"]:
        from scizor_resources.market_data import is_simulated

        count = int(is_simulated(frame["source"]).sum())
        note(f"Note: {count:,} of these {len(frame):,} bars are simulated, not real data.")
