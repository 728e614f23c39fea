"""The one reader of market data, for notebooks, algorithms and the command line.

    with MarketData.open() as data:
        bars = data.bars("CBA", "1d", "2026-01-01", "2026-07-01")

Nothing here fetches or changes anything: what is not stored is told, with the reason.
"""

import difflib
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from types import TracebackType
from typing import Any, Literal
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from scizor_core.adjust import basis_dates, dividend_factors, split_factors
from scizor_core.errors import InvalidInputError, UnknownSymbolError
from scizor_core.gaps import to_micros
from scizor_core.indicators import INDICATOR_COLUMNS
from scizor_core.instruments import Instrument
from scizor_core.markets import MARKETS, Timeframe, check_timeframe, get_market
from scizor_core.sessions import get_calendar
from scizor_resources.gap_reports import list_gaps
from scizor_resources.platform import Platform
from scizor_resources.read_only import DEFAULT_TIMEOUT_SECONDS, open_query
from scizor_resources.settings import Settings
from scizor_resources.stores.hot import HotBars, HotReader

#: A date, an aware instant, or the ISO text of either.
Moment = date | datetime | str

#: Columns of `MarketData.bars`, in order; the index is `ts`.
MARKET_DATA_COLUMNS: tuple[str, ...] = (
    "session_date",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "vwap",
    "trade_count",
    "adj_close",
    "source",
    "is_final",
)

#: Two columns would be called `vwap`: that of the bar, and the indicator since the session's open.
SESSION_VWAP = "session_vwap"

_ADJUSTED_COLUMNS = ("open", "high", "low", "close", "vwap")
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
_END = datetime(9999, 1, 1, tzinfo=UTC)


def is_simulated(source: "pd.Series[str]") -> "pd.Series[bool]":
    """Say for each `source` whether simulated data is in that row."""
    return source.str.contains("simulated", regex=False, na=False)


@dataclass(frozen=True)
class _Window:
    """Half-open UTC window `[start, end)` and the sessions it can hold, `first` to `last`."""

    start: datetime
    end: datetime
    first: date
    last: date


class MarketData:
    """Reads bars, symbols and their quality from an opened platform.

    Args:
        platform: the opened platform; closed with this reader only if `open` made it.
    """

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._hot = HotReader(platform.link)
        self._owned = False

    @classmethod
    def open(cls, settings: Settings | None = None) -> "MarketData":
        """Open the platform of this environment; starts or joins the embedded servers.

        Args:
            settings: settings to use, by default those of the environment.

        Raises:
            ConfigError: a setting cannot be used.
            ServerError: an embedded server could not be started.
            WarehouseError: PostgreSQL cannot be reached, or its schema does not fit.
        """
        reader = cls(Platform.open(settings))
        reader._owned = True
        return reader

    def close(self) -> None:
        """Let go of the platform."""
        if self._owned:
            self._platform.close()

    def __enter__(self) -> "MarketData":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def bars(
        self,
        symbol: str,
        timeframe: str = "1d",
        start: Moment | None = None,
        end: Moment | None = None,
        *,
        market: str | None = None,
        indicators: bool = False,
        adjusted: bool = False,
        adjust: Literal["splits", "all"] | None = None,
        last: int | None = None,
    ) -> pd.DataFrame:
        """Return the stored bars of one symbol.

        The window is half open everywhere: `start` is in it, `end` is not. A date means the
        exchange's session of that date: `bars("CBA", "1m", "2026-11-20", "2026-11-21")` is the
        whole session of 20 November in Sydney, which begins on the 19th in UTC.

        Args:
            symbol: code in its market, any case; a former code means the instrument that had it
                (where `end` is given, on the last day of the window).
            timeframe: "1m", "5m", "15m" or "1d".
            start: first session (date) or instant (aware datetime), by default the first stored.
            end: first session or instant no longer wanted, by default none.
            market: needed only where several markets have that code.
            indicators: add the indicator columns; the session's VWAP is `session_vwap`.
            adjusted: scale prices by the provider's own adj_close / close. Daily bars only.
                Volume stays as traded.
            adjust: "splits": prices and volume in the shares of today, by the splits that count
                in `reference.corporate_actions`; bars whose provider has adjusted them already
                are left alone. "all": prices are lowered for cash dividends too, by
                1 - amount / close before each ex-date. adj_close stays the provider's.
            last: only so many bars, the last ones of the window.

        Returns:
            Index `ts`, the bar's start (datetime64[us, UTC]; of a daily bar the session date at
            00:00 UTC), ascending and unique. Columns `MARKET_DATA_COLUMNS`: session_date
            (datetime64[us], a date of the exchange), prices and vwap in the market's currency,
            volume in shares or coins, trade_count Int64, adj_close, source, is_final; then with
            `indicators` 30 more in the units of docs/indicators.md.
            `frame.attrs` holds market, symbol, instrument_id, timeframe, currency, tier ("hot":
            Valkey, where it has seen the whole window live, "warm": PostgreSQL, "cold": the
            archive, or "warm+cold"), sources (source -> bars), simulated
            (True where any bar is), adjusted, adjust, delisted_on, and for an empty answer
            empty_reason, a sentence. An empty frame is an answer, not an error.

        Raises:
            UnknownSymbolError: no such symbol; the message names those that come close.
            InvalidInputError: several markets have it; a time is naive or cannot be read; prices
                cannot be adjusted.
            UnknownMarketError: no such market.
        """
        chosen = check_timeframe(timeframe)
        _check_adjustable(chosen, indicators=indicators, adjusted=adjusted, adjust=adjust)
        if last is not None and last < 1:
            raise InvalidInputError(f"last={last} asks for no bar: use 1 or more.")
        candidates = self._candidates(symbol, market)
        window = _window(candidates[0].market, chosen, start, end)
        instrument = self._holder(symbol, candidates, None if end is None else window.last)
        as_traded = not (indicators or adjusted or adjust)
        frame = self._live(instrument, chosen, window, last) if as_traded else None
        if frame is None:
            frame = self._stored(instrument, chosen, window, last)
        tier = frame.attrs["tier"]
        if adjust is not None:
            frame = self._adjust_by_actions(frame, instrument, chosen, dividends=adjust == "all")
        frame = frame[list(MARKET_DATA_COLUMNS)]
        if indicators:
            frame = frame.join(self._indicators(instrument, chosen, frame.index))
        if adjusted:
            frame = _adjust(frame, instrument)
        frame.attrs = {
            **self._described(instrument, chosen, frame, tier),
            "adjusted": adjusted,
            "adjust": adjust,
            "delisted_on": instrument.delisted_on,
            "empty_reason": self._why_empty(instrument, chosen, window) if frame.empty else None,
        }
        return frame

    def latest(
        self,
        symbol: str,
        timeframe: str = "1m",
        limit: int = 100,
        *,
        market: str | None = None,
    ) -> pd.DataFrame:
        """Return the newest bars of one symbol, the one that still forms included.

        Args:
            symbol: code in its market, any case.
            timeframe: "1m", "5m", "15m" or "1d".
            limit: so many bars at most, 1 or more.
            market: needed only where several markets have that code.

        Returns:
            As `bars`, and a last column `state`: forming, closed, revised or provisional (trades
            may be missing). `frame.attrs` as of `bars`, tier: "hot" (Valkey), "warm", "cold",
            "warm+cold", or one of these after "hot+" where the newest bars came from Valkey.

        Raises:
            UnknownSymbolError: no such symbol; the message names those that come close.
            InvalidInputError: several markets have it; no bar is asked for.
            UnknownMarketError: no such market.
        """
        chosen = check_timeframe(timeframe)
        if limit < 1:
            raise InvalidInputError(f"limit={limit} asks for no bar: use 1 or more.")
        instrument = self.find(symbol, market)
        hot = self._hot_bars(instrument, chosen)
        if hot is not None and len(hot) >= limit:
            frame, tier = hot.last(limit).frame(), "hot"
        else:
            frame, tier = self._newest(instrument, chosen, limit, hot)
        frame = frame[[*MARKET_DATA_COLUMNS, "state"]]
        window = _Window(_BEGINNING, _END, _BEGINNING.date(), _END.date())
        frame.attrs = {
            **self._described(instrument, chosen, frame, tier),
            "empty_reason": self._why_empty(instrument, chosen, window) if frame.empty else None,
        }
        return frame

    def _newest(
        self, instrument: Instrument, timeframe: Timeframe, limit: int, hot: HotBars | None
    ) -> tuple[pd.DataFrame, str]:
        """Return the last stored bars with what the hot store has beyond them, and the tier."""
        window = _Window(_BEGINNING, _END, _BEGINNING.date(), _END.date())
        frame = self._stored(instrument, timeframe, window, limit)
        tier = str(frame.attrs["tier"])
        state = np.where(frame["is_final"].to_numpy(dtype=np.bool_), "closed", "provisional")
        frame = frame.assign(state=pd.array(state.astype(object), dtype="str"))
        if hot is None:
            return frame, tier
        live = hot.frame()
        # What forms now may be stored as provisional, from before a restart.
        beyond = live[~live.index.isin(frame.index) | (live["state"] == "forming")]
        if beyond.empty:
            return frame, tier
        stored = frame[~frame.index.isin(beyond.index)]
        columns = [*MARKET_DATA_COLUMNS, "state"]
        if stored.empty:
            return beyond[columns].tail(limit), "hot"
        both = pd.concat([stored[columns], beyond[columns]]).sort_index()
        return both.tail(limit), f"hot+{tier}"

    def _described(
        self, instrument: Instrument, timeframe: Timeframe, frame: pd.DataFrame, tier: str
    ) -> dict[Hashable, Any]:
        return {
            "market": instrument.market,
            "symbol": instrument.symbol,
            "instrument_id": instrument.instrument_id,
            "timeframe": timeframe,
            "currency": self._currency(instrument),
            "tier": tier,
            "sources": {str(k): int(v) for k, v in frame["source"].value_counts().items()},
            "simulated": bool(is_simulated(frame["source"]).any()),
        }

    def _hot_bars(self, instrument: Instrument, timeframe: Timeframe) -> HotBars | None:
        if timeframe == "1d" or instrument.delisted_on is not None:
            return None
        return self._hot.bars(instrument.market, instrument.symbol, timeframe)

    def _live(
        self, instrument: Instrument, timeframe: Timeframe, window: _Window, last: int | None
    ) -> pd.DataFrame | None:
        """Return the bars of a window from the hot store, None where it may not have them all."""
        if last is None and window.start == _BEGINNING:
            return None
        hot = self._hot_bars(instrument, timeframe)
        if hot is None or hot.complete_from is None:
            return None
        first, end = to_micros(window.start), to_micros(window.end)
        found = hot.final().between(max(first, hot.complete_from), end)
        if last is not None and len(found) >= last:
            found = found.last(last)
        elif first < hot.complete_from or not len(found):
            return None
        frame = found.frame()
        frame.attrs["tier"] = "hot"
        return frame

    def find(self, symbol: str, market: str | None = None) -> Instrument:
        """Return the instrument that a code means: the listed one, else the last that had it.

        Raises:
            UnknownSymbolError: no such symbol; the message names those that come close.
            InvalidInputError: several markets have it, or it cannot be a code of the market.
            UnknownMarketError: no such market.
        """
        return self._holder(symbol, self._candidates(symbol, market), None)

    def _candidates(self, symbol: str, market: str | None) -> list[Instrument]:
        """Return the instruments of one market that have, or else had, a code; never none."""
        names = list(MARKETS) if market is None else [get_market(market).name]
        code = get_market(names[0]).check_symbol(symbol) if market else symbol.strip().upper()
        found = [
            each for name in names for each in self._platform.reference.instruments(name, [code])
        ]
        if not found:
            found = self._former_holders(code, names)
        markets = sorted({each.market for each in found})
        if not found:
            raise UnknownSymbolError(self._unknown(code, names))
        if len(markets) > 1:
            raise InvalidInputError(
                f"{code} is a symbol of several markets: {', '.join(markets)}. Say which one, "
                f"for example market {markets[0]} (--market {markets[0]})."
            )
        return found

    def _former_holders(
        self, code: str, markets: Sequence[str], on: date | None = None
    ) -> list[Instrument]:
        """Return those that had a code (on a day), the last holder first."""
        held = [each for each in self._platform.listings.codes(code) if each.market in markets]
        ids = [each.instrument_id for each in held if on is None or each.covers(on)]
        found = {each.instrument_id: each for each in self._platform.reference.by_id(ids)}
        return [found[each] for each in reversed(ids)]

    def _holder(self, symbol: str, candidates: Sequence[Instrument], on: date | None) -> Instrument:
        """Return which of several instruments a code means, on a day or at present."""
        listed = [each for each in candidates if each.delisted_on is None]
        left = [each for each in candidates if each.delisted_on is not None]
        current = listed[0] if listed else max(left, key=_ordinal)
        if on is None:
            return current
        code = symbol.strip().upper()
        earlier = [
            each for each in left if each.symbol == code and _ordinal(each) >= on.toordinal()
        ]
        if earlier:
            return min(earlier, key=_ordinal)
        is_new = current.listed_from is not None and on < current.listed_from
        if current.symbol != code or is_new:
            before = self._former_holders(code, [current.market], on)
            return before[0] if before else current
        return current

    def symbols(self, market: str | None = None) -> pd.DataFrame:
        """Return the instruments that the platform knows, delisted ones too.

        Args:
            market: only that market's.

        Returns:
            Columns market, symbol, name, instrument_id, currency, listed_from, delisted_on (dates
            of the exchange, datetime64[us]), successor, watched (in an active watchlist entry);
            ordered by market and symbol.

        Raises:
            UnknownMarketError: no such market.
        """
        name = None if market is None else get_market(market).name
        condition, parameters = ("", []) if name is None else (" WHERE s.market = $1", [name])
        frame = self._platform.warehouse.read(
            "SELECT s.market, s.symbol, s.name, s.instrument_id, s.currency, "  # noqa: S608  # the condition is a constant, its value is bound
            "(SELECT nullif(min(l.valid_from), DATE '1970-01-01') FROM public.listings AS l "
            "WHERE l.instrument_id = s.instrument_id) AS listed_from, s.delisted_on, s.successor, "
            "EXISTS (SELECT 1 FROM public.watchlist AS w WHERE w.market = s.market "
            "AND w.symbol = s.symbol AND w.active) AS watched "
            f"FROM public.symbols AS s{condition} "
            "ORDER BY s.market, s.symbol, s.delisted_on NULLS LAST",
            parameters,
        )
        for column in ("listed_from", "delisted_on"):
            frame[column] = pd.to_datetime(frame[column]).astype("datetime64[us]")
        return frame

    def quality(
        self,
        symbol: str,
        timeframe: str = "1d",
        start: Moment | None = None,
        end: Moment | None = None,
        *,
        market: str | None = None,
    ) -> pd.DataFrame:
        """Return how complete the bars of one symbol are, session by session.

        Args:
            symbol: code in its market.
            timeframe: "1m", "5m", "15m" or "1d".
            start: first session.
            end: first session no longer wanted.
            market: needed only where several markets have that code.

        Returns:
            Index session_date (datetime64[us]); columns expected, present, quiet, excused,
            missing, unexpected, outliers, quarantined (bars), coverage, validity, agreement,
            timeliness (0..1), score (0..100), reason. Sessions that were never measured are not
            in it.

        Raises:
            UnknownSymbolError: no such symbol.
            InvalidInputError: several markets have it, or a time cannot be read.
        """
        instrument = self.find(symbol, market)
        window = _window(instrument.market, "1d", start, end)
        frame = self._platform.warehouse.read(
            "SELECT session_date, expected, present, quiet, excused, missing, unexpected, "
            "outliers, quarantined, coverage, validity, agreement, timeliness, score, reason "
            "FROM quality.completeness "
            "WHERE instrument_id = $1::int AND timeframe = $2 AND session_date BETWEEN $3 AND $4 "
            "ORDER BY session_date",
            [instrument.instrument_id, check_timeframe(timeframe), window.first, window.last],
        )
        frame["session_date"] = pd.to_datetime(frame["session_date"]).astype("datetime64[us]")
        return frame.set_index("session_date")

    def gaps(
        self,
        symbol: str,
        timeframe: str | None = None,
        start: Moment | None = None,
        end: Moment | None = None,
        *,
        market: str | None = None,
    ) -> pd.DataFrame:
        """Return the intervals in which bars of a symbol are absent, each with its reason.

        Args:
            symbol: code in its market.
            timeframe: "1m", "5m", "15m" or "1d"; by default all of them.
            start: first session.
            end: first session no longer wanted.
            market: needed only where several markets have that code.

        Returns:
            One row per gap, in order of time: timeframe, session_date, start_ts, end_ts (UTC),
            bars, reason, status, attempts, next_attempt_at, source, detail.

        Raises:
            UnknownSymbolError: no such symbol.
            InvalidInputError: several markets have it, or a time cannot be read.
        """
        instrument = self.find(symbol, market)
        window = _window(instrument.market, "1d", start, end)
        rows = list_gaps(
            self._platform.warehouse,
            instrument_ids=[instrument.instrument_id],
            timeframe=None if timeframe is None else check_timeframe(timeframe),
            since=window.first,
            until=None if end is None else window.last + timedelta(days=1),
        )
        columns = (
            "timeframe",
            "session_date",
            "start_ts",
            "end_ts",
            "bars",
            "reason",
            "status",
            "attempts",
            "next_attempt_at",
            "source",
            "detail",
        )
        frame = pd.DataFrame(rows[::-1], columns=list(columns))
        frame["session_date"] = pd.to_datetime(frame["session_date"]).astype("datetime64[us]")
        for column in ("start_ts", "end_ts", "next_attempt_at"):
            times = pd.to_datetime(frame[column], utc=True)
            frame[column] = times.astype("datetime64[us, UTC]")
        return frame

    def query(self, sql: str, *, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS) -> pd.DataFrame:
        """Return the answer of one SELECT; it runs read-only.

        Args:
            sql: one statement.
            timeout_seconds: longest time the server may take; 0 for no limit.

        Raises:
            QueryError: PostgreSQL refused; the message says what and where.
        """
        with open_query(self._platform.warehouse, sql, timeout_seconds=timeout_seconds) as answer:
            return pd.DataFrame.from_records(list(answer.rows), columns=list(answer.columns))

    def _stored(
        self, instrument: Instrument, timeframe: Timeframe, window: _Window, last: int | None
    ) -> pd.DataFrame:
        warehouse, ids = self._platform.warehouse, [instrument.instrument_id]
        if last is None:
            frame = warehouse.read_bars(timeframe, window.start, window.end, instrument_ids=ids)
        else:
            frame = warehouse.read_bars_around(timeframe, ids, window.end, last, before=True)
            frame = frame[frame["ts"] >= window.start]
        return frame.set_index("ts")

    def _adjust_by_actions(
        self,
        frame: pd.DataFrame,
        instrument: Instrument,
        timeframe: Timeframe,
        *,
        dividends: bool,
    ) -> pd.DataFrame:
        """Return the bars in the shares of today, with `dividends` free of dividends too."""
        actions, market = self._platform.actions, get_market(instrument.market)
        splits, paid = actions.applied(instrument.instrument_id)
        shares = split_factors(basis_dates(frame, timeframe, market.timezone), splits)
        factors = shares
        if dividends and paid:
            closes = actions.closes_before(
                instrument.instrument_id, market.name, [each.ex_date for each in paid]
            )
            sessions = frame["session_date"].to_numpy().astype("datetime64[D]")
            before = [closes.get(each.ex_date) for each in paid]
            factors = shares * dividend_factors(sessions, paid, before, splits)
        scaled = {column: frame[column] * factors for column in _ADJUSTED_COLUMNS}
        return frame.assign(**scaled, volume=frame["volume"] / np.asarray(shares))

    def _indicators(
        self, instrument: Instrument, timeframe: Timeframe, index: pd.Index
    ) -> pd.DataFrame:
        bounds = (index[0], index[-1]) if len(index) else (pd.Timestamp(_END), pd.Timestamp(_END))
        frame = self._platform.warehouse.read(
            f"SELECT ts, {', '.join(INDICATOR_COLUMNS)} FROM market.indicators "  # noqa: S608  # column names are constants
            "WHERE instrument_id = $1::int AND timeframe = $2 AND ts BETWEEN $3 AND $4",
            [instrument.instrument_id, timeframe, *(each.to_pydatetime() for each in bounds)],
        )
        return frame.set_index("ts").rename(columns={"vwap": SESSION_VWAP})

    def _currency(self, instrument: Instrument) -> str:
        return instrument.symbol.partition("/")[2] or get_market(instrument.market).currency

    def _unknown(self, code: str, markets: Sequence[str]) -> str:
        known = {
            each.symbol: each.market
            for name in markets
            for each in self._platform.reference.instruments(name)
        }
        # BTC is meant as BTC/USD, not as WBC.
        pairs = [each for each in known if each.startswith(f"{code}/")]
        close = pairs or difflib.get_close_matches(code, known, n=3, cutoff=0.5)
        hint = f" Did you mean {' or '.join(f'{each} ({known[each]})' for each in close)}?"
        where = f"Market '{markets[0]}' has" if len(markets) == 1 else "There is"
        return (
            f"{where} no {code} here.{hint if close else ''} Add a symbol with "
            f"`scizor watchlist add {code}`, or bring its history with `scizor import`."
        )

    def _why_empty(self, instrument: Instrument, timeframe: Timeframe, window: _Window) -> str:
        first, last = window.first, window.last
        absence = instrument.absence_on(first, last)
        if absence is not None:
            return f"{instrument.symbol} cannot have bars there: {absence}."
        calendar = get_calendar(instrument.market)
        now = self._platform.now()
        if window.start > now:
            return f"The window begins in the future: {window.start:%Y-%m-%d %H:%M} UTC."
        bounded = window.start > _BEGINNING and window.end < _END
        if bounded and not calendar.sessions(first, last + timedelta(days=1)):
            return f"{calendar.market.calendar} has no session from {first} to {last}."
        stored = self._stored_range(instrument, timeframe)
        if stored is not None:
            return (
                f"{instrument.symbol} has {timeframe} bars from {stored[0]} to {stored[1]} only"
                f"{self._measured(instrument, timeframe, first, last)}."
            )
        reason = self._measured(instrument, timeframe, first, last)
        if not self._collects(instrument, timeframe):
            return f"{timeframe} bars of {instrument.symbol} are not collected{reason}."
        latest = instrument.delisted_on or now.date()
        partition = latest.replace(day=1) if timeframe == "1d" else latest
        gone = "" if instrument.delisted_on is None else f" It last traded on {latest}."
        return (
            f"No {timeframe} bar of {instrument.symbol} is stored{reason}.{gone} Fetch them, for "
            f"example with `scizor materialize {instrument.market}/bars_{timeframe} --partition "
            f"{partition}`, or bring a file with `scizor import`."
        )

    def _stored_range(
        self, instrument: Instrument, timeframe: Timeframe
    ) -> tuple[date, date] | None:
        return self._platform.warehouse.sessions_with_bars(
            timeframe, [instrument.instrument_id]
        ).get(instrument.instrument_id)

    def _measured(
        self, instrument: Instrument, timeframe: Timeframe, first: date, last: date
    ) -> str:
        """Return what completeness says of these sessions, "" where they were not measured."""
        with self._platform.warehouse.connect() as connection:
            rows = connection.execute(
                "SELECT reason, count(*) AS sessions FROM quality.completeness "
                "WHERE instrument_id = %s AND timeframe = %s AND session_date BETWEEN %s AND %s "
                "AND missing > 0 GROUP BY reason ORDER BY sessions DESC LIMIT 2",
                [instrument.instrument_id, timeframe, first, last],
            ).fetchall()
        said = "; ".join(f"{row['reason']} ({row['sessions']} sessions)" for row in rows)
        return f" (measured: {said})" if said else ""

    def _collects(self, instrument: Instrument, timeframe: Timeframe) -> bool:
        entries = [
            each
            for each in self._platform.reference.watchlist(instrument.market, active_only=True)
            if each.symbol == instrument.symbol
        ]
        wanted: dict[Timeframe, Any] = {
            "1m": lambda each: each.collect_1min,
            "5m": lambda each: each.collect_5min or each.collect_1min,
            "15m": lambda each: each.collect_5min or each.collect_1min,
            "1d": lambda _: True,
        }
        return any(wanted[timeframe](each) for each in entries)


def _ordinal(instrument: Instrument) -> int:
    return 0 if instrument.delisted_on is None else instrument.delisted_on.toordinal()


def _check_adjustable(
    timeframe: Timeframe,
    *,
    indicators: bool,
    adjusted: bool,
    adjust: Literal["splits", "all"] | None,
) -> None:
    if adjust not in (None, "splits", "all"):
        raise InvalidInputError(f"adjust='{adjust}' is not known: use 'splits' or 'all', or none.")
    if adjusted and adjust is not None:
        raise InvalidInputError(
            "adjusted=True takes the provider's adjusted close, adjust= the platform's corporate "
            "actions: ask for one of them."
        )
    if adjusted and timeframe != "1d":
        raise InvalidInputError(
            f"adjusted=True is for daily bars: {timeframe} bars have no adjusted close."
        )
    if (adjusted or adjust is not None) and indicators:
        raise InvalidInputError(
            "Indicators are computed from prices as traded; ask for adjusted prices without them."
        )


def _adjust(frame: pd.DataFrame, instrument: Instrument) -> pd.DataFrame:
    lacking = int(frame["adj_close"].isna().sum())
    if lacking:
        raise InvalidInputError(
            f"{lacking} of {len(frame)} daily bars of {instrument.symbol} have no adjusted close "
            f"(source {', '.join(sorted(set(frame.loc[frame['adj_close'].isna(), 'source'])))}), "
            "so that the series cannot be adjusted as a whole."
        )
    ratio = frame["adj_close"] / frame["close"]
    scaled = {column: frame[column] * ratio for column in _ADJUSTED_COLUMNS}
    return frame.assign(**scaled)


def _window(market: str, timeframe: Timeframe, start: Moment | None, end: Moment | None) -> _Window:
    # A daily bar's ts is its session date at 00:00 UTC, wherever the exchange is.
    zone = UTC if timeframe == "1d" else ZoneInfo(get_market(market).timezone)
    first = _BEGINNING if start is None else to_instant(start, zone, "start")
    until = _END if end is None else to_instant(end, zone, "end")
    if until <= first:
        raise InvalidInputError(
            f"The window is empty: start {start} is not before end {end}; end is exclusive."
        )
    last = (until - timedelta(microseconds=1)).astimezone(zone).date()
    return _Window(first, until, first.astimezone(zone).date(), last)


def to_instant(value: Moment, zone: tzinfo, name: str) -> datetime:
    """Return the UTC instant that a date or time means.

    A date is the beginning of that day in `zone`: where that is the exchange's, it lies before the
    session of that date and after the one before.

    Args:
        value: a date, an aware datetime, or ISO text of either.
        zone: where a date begins.
        name: what the value is, for the message.

    Raises:
        InvalidInputError: not a time, or a time of day without a zone.
    """
    moment = _parse(value, name) if isinstance(value, str) else value
    if isinstance(moment, datetime):
        if moment.tzinfo is None:
            raise InvalidInputError(
                f"{name} '{value}' has no time zone: add an offset, for example "
                f"{moment:%Y-%m-%dT%H:%M}+00:00, or give the date alone."
            )
        return moment.astimezone(UTC)
    return datetime.combine(moment, time(), zone).astimezone(UTC)


def _parse(text: str, name: str) -> date | datetime:
    cleaned = text.strip()
    try:
        return date.fromisoformat(cleaned)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(cleaned)
    except ValueError:
        raise InvalidInputError(
            f"{name} '{text}' is not a time: write 2026-11-20 or 2026-11-20T10:00+11:00."
        ) from None
