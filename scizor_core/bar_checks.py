"""Judgements over stored bars, each a pure function that names symbol, time and value.

The write path already refuses what breaks the contract; these look at what is in the table now,
whoever wrote it, and back the asset checks.
"""

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pandera.pandas as pa

from scizor_core.markets import Timeframe
from scizor_core.quality import find_outliers
from scizor_core.schemas.bars import BAR_COLUMNS, BARS, PRICE_COLUMNS, bar_faults
from scizor_core.sessions import get_calendar

#: Rows a result names; the count always says how many there are.
SHOWN_ROWS = 20


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        name: name of the check.
        count: offending rows.
        rows: the first of them, with symbol, time and value.
        message: a sentence where there is more to say than the rows.
    """

    name: str
    count: int
    rows: list[dict[str, Any]]
    message: str = ""

    @property
    def passed(self) -> bool:
        """True where nothing was found."""
        return self.count == 0


def check_schema(bars: pd.DataFrame) -> Finding:
    """Check the contract of `market.bars` on stored rows."""
    stored = bars.reset_index(drop=True)
    try:
        BARS.validate(stored[list(BAR_COLUMNS)], lazy=True)
    except pa.errors.SchemaErrors as error:
        return _contract_finding(stored, error.failure_cases)
    return Finding("schema", 0, [])


def _contract_finding(bars: pd.DataFrame, cases: pd.DataFrame) -> Finding:
    """Name the rows that break the contract; a wrong column as a whole has a sentence only."""
    cases = cases.drop_duplicates(["check", "index"])
    of_rows = cases[cases["index"].notna()]
    rows = bars.loc[of_rows["index"].astype("int64"), ["symbol", "ts"]].assign(
        column=of_rows["column"].fillna("the row").astype("str").to_numpy(),
        check=of_rows["check"].astype("str").to_numpy(),
        value=of_rows["failure_case"].astype("str").to_numpy(),
    )
    finding = _finding("schema", rows, ["column", "check", "value"])
    whole = cases[cases["index"].isna()]
    message = "; ".join(
        f"{case.column or 'market.bars'!s}: {case.check!s} ({case.failure_case!s})"
        for case in whole.itertuples(index=False)
    )
    return Finding("schema", rows.index.nunique() + len(whole), finding.rows, message)


def check_ohlc(bars: pd.DataFrame) -> Finding:
    """Check that high is the highest and low the lowest price of each bar."""
    wrong = (bars["high"] < bars[["open", "low", "close"]].max(axis=1)) | (
        bars["low"] > bars[["open", "high", "close"]].min(axis=1)
    )
    return _finding("ohlc_consistency", bars[wrong], list(PRICE_COLUMNS))


def check_duplicates(bars: pd.DataFrame) -> Finding:
    """Check that a symbol has one bar per time, whatever instrument ids it is stored under."""
    repeated = bars.duplicated(["symbol", "ts"], keep=False)
    return _finding("duplicates", bars[repeated], ["instrument_id", "close"])


def check_monotonic_time(bars: pd.DataFrame) -> Finding:
    """Check that time only moves on: no bar starts after it arrived, bars of a symbol ascend."""
    early = bars["ts"] > bars["ingested_at"]
    backwards = bars.groupby("instrument_id")["ts"].diff() <= pd.Timedelta(0)
    return _finding("monotonic_time", bars[early | backwards], ["ingested_at"])


def check_inside_session(bars: pd.DataFrame, market: str, timeframe: Timeframe) -> Finding:
    """Check that every bar lies on the grid, in a session, and carries that session's date."""
    calendar = get_calendar(market)
    faults = bar_faults(bars, calendar, timeframe)
    if timeframe == "1d":
        session = bars["ts"].dt.tz_localize(None).astype("datetime64[us]")
    else:
        session = calendar.place(bars["ts"])
    about_time = faults.str.contains("session|start of a", regex=True)
    wrong = about_time | (session != bars["session_date"])
    named = bars[wrong].assign(fault=faults[wrong])
    return _finding("inside_session", named, ["session_date", "fault"])


def check_outliers(bars: pd.DataFrame, first_ts: pd.Timestamp) -> Finding:
    """List the bars over the limits of `scizor_core.quality.find_outliers`; doubt, not error.

    The first rows are those furthest over their own limit.
    """
    found = find_outliers(bars, first_ts)
    symbols = bars[["instrument_id", "symbol"]].drop_duplicates()
    named = found.merge(symbols, on="instrument_id")
    excess = named["value"].abs() / named["limit"]
    named = named.loc[excess.sort_values(ascending=False, kind="stable").index]
    return _finding("outliers", named, ["rule", "value", "limit"])


def _finding(name: str, rows: pd.DataFrame, values: list[str]) -> Finding:
    shown = rows.head(SHOWN_ROWS)
    return Finding(
        name,
        len(rows),
        [
            {str(key): _plain(value) for key, value in row.items()}
            for row in shown[["symbol", "ts", *values]].to_dict(orient="records")
        ],
    )


def _plain(value: Any) -> Any:
    if isinstance(value, float) and math.isfinite(value):
        return round(value, 6)
    return value if isinstance(value, str | int) else str(value)
