"""Bring a file of bars or trades onto the tape: good rows are kept, the others are told.

Importing the same content with the same description again changes nothing.
"""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from threading import get_ident

import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from scizor_core.errors import InvalidInputError
from scizor_core.markets import TIMEFRAMES, get_market
from scizor_core.sessions import get_calendar
from scizor_resources.tape.manifest import TapeEntry, add_entry, check_label, check_timezone
from scizor_resources.tape.parse import ParsedRows, RowSpec, TapeTimeframe, parse_rows
from scizor_resources.tape.read import read_content, read_table

#: Small enough that one session is read without the rest of a file, large enough to compress.
ROW_GROUP_ROWS = 50_000


@dataclass(frozen=True)
class ImportSpec:
    """What a file holds, as the user says.

    Attributes:
        market: name of the market.
        symbol: symbol of all rows, in any case.
        timeframe: "1m", "5m", "15m", "1d", or "tick" for trades.
        columns: field -> column, where a guess would miss; see `resolve_columns`.
        timezone: IANA zone of times without an offset; None where they have one.
        source_label: short name of where the data came from; the rows' source is "tape/<label>".
    """

    market: str
    symbol: str
    timeframe: str
    columns: dict[str, str] | None = None
    timezone: str | None = None
    source_label: str = ""

    def row_spec(self) -> RowSpec:
        """Return the checked description.

        Raises:
            UnknownMarketError: no such market.
            InvalidInputError: symbol, timeframe, time zone or label cannot be used.
        """
        market = get_market(self.market)
        label = check_label(self.source_label)
        return RowSpec(
            market=market.name,
            symbol=market.check_symbol(self.symbol),
            timeframe=_check_timeframe(self.timeframe),
            columns=dict(self.columns or {}),
            timezone=check_timezone(self.timezone) if self.timezone else None,
            source=f"tape/{label}" if label else "tape",
        )


@dataclass(frozen=True)
class ImportReport:
    """What an import found and did.

    Attributes:
        path: the file.
        spec: what it was taken for.
        good_rows: rows that can be used.
        rejected: the other rows, columns `REJECTED_COLUMNS`, ordered by row_number.
        first_ts: time of the first good row, None without any.
        last_ts: time of the last good row, None without any.
        session_dates: the exchange's dates that have a good row, in order.
        entry: the entry in the manifest, None where there is no good row to keep.
        already_imported: True where the tape had this content already.
        columns: field -> column that was used.
        notes: choices that were made, for the user to check.
    """

    path: Path
    spec: RowSpec
    good_rows: int
    rejected: pd.DataFrame
    first_ts: datetime | None
    last_ts: datetime | None
    session_dates: list[date]
    entry: TapeEntry | None
    already_imported: bool
    columns: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def import_file(
    path: Path,
    spec: ImportSpec,
    tape_dir: Path,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> ImportReport:
    """Check a file row by row and keep its good rows on the tape.

    Args:
        path: CSV (plain or gzip) or Parquet.
        spec: what it holds.
        tape_dir: the tape directory; made where it is missing.
        now: clock, aware; rows after it are refused.

    Raises:
        InvalidInputError: the file cannot be read, has no rows, lacks a column, or its times need
            a zone. Rows that are refused do not raise, not even all of them.
        UnknownMarketError: no such market.
    """
    rows = spec.row_spec()
    content = read_content(path)
    moment = now()
    parsed = parse_rows(read_table(content, path.name), rows, moment)
    if parsed.good.empty:
        return _report(path, rows, parsed, entry=None, already_imported=False)
    digest = hashlib.sha256(content).hexdigest()
    entry = TapeEntry(
        file=_file_name(digest, rows, parsed.columns),
        market=rows.market,
        symbol=rows.symbol,
        timeframe=rows.timeframe,
        format="normalised",
        columns=parsed.columns,
        timezone=rows.timezone,
        source_label=check_label(spec.source_label),
        added_at=moment,
        sha256=digest,
        original_name=path.name,
        rows=len(parsed.good),
        first_ts=parsed.good["ts"].iloc[0].to_pydatetime(),
        last_ts=parsed.good["ts"].iloc[-1].to_pydatetime(),
    )
    target = tape_dir / entry.file
    if not target.exists():
        _write_rows(parsed.good, target)
    kept, known = add_entry(tape_dir, entry, lambda other: other.file == entry.file)
    return _report(path, rows, parsed, entry=kept, already_imported=known)


def _check_timeframe(value: str) -> TapeTimeframe:
    if value == "tick":
        return "tick"
    for timeframe in TIMEFRAMES:
        if value == timeframe:
            return timeframe
    raise InvalidInputError(
        f"'{value}' is not a timeframe of a file. Use one of {', '.join(TIMEFRAMES)}, or tick."
    )


def _file_name(digest: str, spec: RowSpec, columns: dict[str, str]) -> str:
    """Return a name that content and description decide, so that an import is known again."""
    description = repr((sorted(columns.items()), spec.timezone, spec.source))
    key = hashlib.sha256(f"{digest}{description}".encode()).hexdigest()[:16]
    folder = spec.symbol.replace("/", "-")
    return f"{spec.market}/{folder}/{spec.timeframe}/{key}.parquet"


def _write_rows(good: pd.DataFrame, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_suffix(f".{os.getpid()}-{get_ident()}.tmp")
    table = pa.Table.from_pandas(good, preserve_index=False)
    pa.parquet.write_table(table, draft, row_group_size=ROW_GROUP_ROWS, compression="zstd")
    draft.replace(target)


def _report(
    path: Path,
    spec: RowSpec,
    parsed: ParsedRows,
    *,
    entry: TapeEntry | None,
    already_imported: bool,
) -> ImportReport:
    times = parsed.good["ts"]
    return ImportReport(
        path=path,
        spec=spec,
        good_rows=len(times),
        rejected=parsed.rejected,
        first_ts=times.iloc[0].to_pydatetime() if len(times) else None,
        last_ts=times.iloc[-1].to_pydatetime() if len(times) else None,
        session_dates=_session_dates(times, spec.market, spec.timeframe),
        entry=entry,
        already_imported=already_imported,
        columns=parsed.columns,
        notes=parsed.notes,
    )


def _session_dates(
    times: "pd.Series[pd.Timestamp]", market: str, timeframe: TapeTimeframe
) -> list[date]:
    if timeframe == "1d":
        return sorted({each.date() for each in times})
    return sorted({each.date() for each in get_calendar(market).place(times).drop_duplicates()})
