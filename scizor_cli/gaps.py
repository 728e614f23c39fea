"""`scizor gaps`: which bars are absent and why, and why a certain minute is empty."""

import json
from datetime import UTC, date, datetime, time
from typing import Annotated, Any

import typer

from scizor_cli.output import console, note, render_table

app = typer.Typer(
    help="Absent bars: which there are and why, what is done about them, why a minute is empty.",
    invoke_without_command=True,
    rich_markup_mode="rich",
    epilog=(
        "Examples:\n\n  scizor gaps\n\n  scizor gaps --symbol CBA --since 2026-11-01 --status all"
        "\n\n  scizor gaps --reason 'feed down' --json\n\n"
        '  scizor gaps why CBA "2026-11-20 10:31"'
    ),
)
_SHOWN = 200
_LONGEST_DETAIL = 60
_JSON = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]
_Market = Annotated[str | None, typer.Option(help="Only this market: asx, us or crypto.")]
_Timeframe = Annotated[
    str | None, typer.Option("--timeframe", "-t", help="Bars of 1m, 5m, 15m or 1d.")
]


@app.callback()
def list_(
    context: typer.Context,
    symbol: Annotated[str | None, typer.Option(help="Only this symbol.")] = None,
    market: _Market = None,
    timeframe: _Timeframe = None,
    since: Annotated[
        str | None, typer.Option(metavar="DATE", help="Sessions from this date on.")
    ] = None,
    reason: Annotated[
        str | None,
        typer.Option(help="Only this reason, such as 'feed down' or 'absent in every source'."),
    ] = None,
    status: Annotated[
        str | None,
        typer.Option(
            help="open, 'given up', explained or all; by default those that are open or given up."
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = _SHOWN,
    as_json: _JSON = False,
) -> None:
    """Show absent bars as intervals, the newest first: whose, why, and when they are asked for."""
    if context.invoked_subcommand is not None:
        return
    from scizor_core.markets import check_timeframe, get_market
    from scizor_resources.gap_reports import STATUSES, list_gaps
    from scizor_resources.market_data import MarketData
    from scizor_resources.platform import Platform

    chosen = {None: ("open", "given up"), "all": STATUSES}.get(status, (status or "",))
    with Platform.open() as platform:
        found = list_gaps(
            platform.warehouse,
            market=None if market is None else get_market(market).name,
            instrument_ids=(
                None
                if symbol is None
                else [MarketData(platform).find(symbol, market).instrument_id]
            ),
            timeframe=None if timeframe is None else check_timeframe(timeframe),
            since=None if since is None else _date(since),
            reason=reason,
            statuses=chosen,
            limit=limit,
        )
    if as_json:
        typer.echo(json.dumps(found, indent=1, default=_text))
        return
    if not found:
        note("There are no such gaps.")
        return
    columns = ("market", "symbol", "bars of", "from", "to", "bars", "reason", "state", "tries")
    rows = [
        (
            row["market"],
            row["symbol"],
            row["timeframe"],
            row["start_ts"].astimezone(UTC),
            row["end_ts"].astimezone(UTC),
            row["bars"],
            row["reason"],
            _state(row),
            row["attempts"],
            _cut(row["detail"]),
        )
        for row in found
    ]
    console().print(render_table((*columns, "what was said"), rows))
    if len(found) == limit:
        note(f"The newest {limit} are shown; --limit shows more.")


@app.command(
    epilog=(
        'Examples:\n\n  scizor gaps why CBA "2026-11-20 10:31"\n\n'
        "  scizor gaps why AAPL 2026-11-20T15:31Z --timeframe 5m\n\n"
        "  scizor gaps why BTC/USD 2026-11-20 --timeframe 1d --json"
    )
)
def why(
    symbol: Annotated[str, typer.Argument(help="Code in its market.")],
    at: Annotated[
        str,
        typer.Argument(
            metavar="TIME", help="In the market's own time, or with a zone: 2026-11-20T10:31Z."
        ),
    ],
    market: _Market = None,
    timeframe: _Timeframe = None,
    as_json: _JSON = False,
) -> None:
    """Say why a minute is empty, or show its bar."""
    from scizor_core.markets import TIMEFRAMES, Timeframe, check_timeframe
    from scizor_resources.gap_reports import why as ask
    from scizor_resources.market_data import MarketData
    from scizor_resources.pipeline.gap_work import collects
    from scizor_resources.platform import Platform

    with Platform.open() as platform:
        instrument = MarketData(platform).find(symbol, market)
        finest: Timeframe = next(
            (
                each
                for each in TIMEFRAMES
                for entry in platform.reference.watchlist(instrument.market, active_only=True)
                if entry.symbol == instrument.symbol and collects(entry, each)
            ),
            "1m",
        )
        chosen = finest if timeframe is None else check_timeframe(timeframe)
        moment = _moment(at, instrument.market)
        answer = ask(platform.warehouse, instrument, chosen, moment, platform.now())
    if as_json:
        typer.echo(json.dumps(answer.as_dict(), indent=1, default=_text))
        return
    typer.echo(answer.sentence)


def _state(row: dict[str, Any]) -> str:
    if row["status"] != "open":
        return str(row["status"])
    return f"open, next {row['next_attempt_at'].astimezone(UTC):%Y-%m-%d %H:%M}Z"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_DETAIL else f"{text[: _LONGEST_DETAIL - 3]}..."


def _date(text: str) -> date:
    from scizor_core.errors import InvalidInputError

    try:
        return date.fromisoformat(text.strip())
    except ValueError:
        raise InvalidInputError(f"'{text}' is not a date: write 2026-11-20.") from None


def _moment(text: str, market: str) -> datetime:
    """Return an instant; without a zone it is meant in the market's own time."""
    from zoneinfo import ZoneInfo

    from scizor_core.errors import InvalidInputError
    from scizor_core.markets import get_market

    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise InvalidInputError(
            f"'{text}' is not a time: write 2026-11-20 10:31 (the market's own time) or "
            "2026-11-20T10:31Z."
        ) from None
    if moment.tzinfo is not None:
        return moment
    zone = ZoneInfo(get_market(market).timezone)
    if moment.time() == time() and len(text.strip()) == len("2026-11-20"):
        # A day without a time means its session: noon lies in it everywhere.
        return datetime.combine(moment.date(), time(12), zone)
    return moment.replace(tzinfo=zone)


def _text(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return value.isoformat() if isinstance(value, date) else str(value)
