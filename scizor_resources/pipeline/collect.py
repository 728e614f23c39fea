"""Fill bars of a market and timeframe for a range of sessions: ask, check, quarantine, write.

Three ways a bar comes about, in this order:
- `5m` is resampled from `1m` where `1m` is stored, and only what that leaves open is asked for;
- `15m` is resampled from `5m`; only a user's own 15m file stands in where no 5m is stored;
- everything else is asked of the market's provider chain.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta

import numpy as np
import numpy.typing as npt
import pandas as pd

from scizor_core.bars import FINER, resample_bars
from scizor_core.errors import ConfigError, InvalidInputError
from scizor_core.gaps import NO_TRADES, Claim, to_micros
from scizor_core.instruments import Instrument, in_turn
from scizor_core.markets import TIMEFRAME_MINUTES, Timeframe
from scizor_core.schemas.bars import BAR_COLUMNS, bar_faults, repeated_bars
from scizor_core.sessions import get_calendar
from scizor_resources.chain import ChainAnswer, ProviderCalls, fetch_through
from scizor_resources.errors import ProviderError
from scizor_resources.pipeline.gap_ledger import GapLedger, LedgerUpdate
from scizor_resources.pipeline.gap_work import Findings
from scizor_resources.pipeline.reconcile import Reconciler
from scizor_resources.providers.base import BarRequest, BarSource, SymbolRef
from scizor_resources.providers.gate import Lane
from scizor_resources.providers.tape import TapeSource
from scizor_resources.stores.merging import WriteResult
from scizor_resources.stores.providers import ProviderStore
from scizor_resources.stores.quality import QualityStore
from scizor_resources.stores.reference import ReferenceStore
from scizor_resources.stores.warehouse import Warehouse

#: A long range is written in pieces of this many days, so that a killed run keeps what it has.
CHUNK_DAYS: dict[Timeframe, int] = {"1m": 31, "5m": 93, "15m": 93, "1d": 3660}
#: So long after its end the bars of a session may still come in late.
SETTLED_AFTER = timedelta(minutes=30)

# PostgreSQL's integers are shorter than those of the contract.
_KEY_TYPES = {"instrument_id": "int64", "timeframe": "str"}


@dataclass
class CollectReport:
    """What one collection did; everything a run shows as metadata.

    Attributes:
        sessions: sessions of the market in the range.
        asked: symbols that were asked for.
        got: symbols with at least one bar in the range.
        missing: symbol -> why it has no bar.
        written: rows inserted, changed, unchanged, protected.
        quarantined: refused rows that were not known yet.
        refused: refused rows, known ones included.
        rows: good bars that came in.
        first_ts: first bar start, None without bars.
        last_ts: last bar start, None without bars.
        requests: calls to providers.
        latency_seconds: time spent waiting for providers.
        sources: source -> bars.
        failures: provider -> sentence, for providers that failed as a whole.
        calls: provider -> what it was asked and gave.
        incomplete: symbol -> the error in which its bars break off.
        ignored: reason -> sound rows that were left because they were not asked for.
        held_back: bars not written because a better source's bar is stored.
        disagreements: bars that two sources have differently, newly found.
        error: the last error of a provider that failed as a whole and left symbols open.
        ledger: what became of the gaps of the range.
    """

    sessions: int = 0
    asked: set[str] = field(default_factory=set)
    got: set[str] = field(default_factory=set)
    missing: dict[str, str] = field(default_factory=dict)
    written: WriteResult = field(default_factory=WriteResult)
    quarantined: int = 0
    refused: int = 0
    rows: int = 0
    first_ts: pd.Timestamp | None = None
    last_ts: pd.Timestamp | None = None
    requests: int = 0
    latency_seconds: float = 0.0
    sources: dict[str, int] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    calls: dict[str, ProviderCalls] = field(default_factory=dict)
    incomplete: dict[str, str] = field(default_factory=dict)
    ignored: dict[str, int] = field(default_factory=dict)
    held_back: int = 0
    disagreements: int = 0
    error: ProviderError | None = None
    ledger: LedgerUpdate = field(default_factory=LedgerUpdate)

    @property
    def empty_reason(self) -> str | None:
        """Why the range has no bar at all, None where it has one."""
        if self.rows:
            return None
        if not self.sessions:
            return "the exchange is closed on every day of the range"
        if not self.asked and not self.missing:
            return "no symbol of this market is watched or on the tape for this timeframe"
        reasons = sorted(set(self.missing.values()))
        return "; ".join(reasons[:5]) or "every row received was refused, see quality.quarantine"


class BarCollector:
    """Collects bars of one market and timeframe.

    Args:
        market: name of the market.
        timeframe: timeframe to fill.
        warehouse: where bars are written.
        reference: symbols and watchlist.
        quality: quarantine and known quiet times.
        providers: disagreements between sources.
        sources: the market's providers in the order they are asked.
        now: clock, aware.
        lane: what the collection is for; what it leaves absent counts as a try accordingly.
    """

    def __init__(
        self,
        market: str,
        timeframe: Timeframe,
        *,
        warehouse: Warehouse,
        reference: ReferenceStore,
        quality: QualityStore,
        providers: ProviderStore,
        sources: list[BarSource],
        now: Callable[[], datetime],
        lane: Lane = "backfill",
    ) -> None:
        self.market, self.timeframe, self._lane = market, timeframe, lane
        self._warehouse, self._reference, self._quality = warehouse, reference, quality
        self._providers, self._sources, self._now = providers, sources, now
        self._reconciler = Reconciler(warehouse, [source.name for source in sources])
        self._ledger = GapLedger(warehouse, reference, now)
        self._calendar = get_calendar(market)

    def collect(
        self,
        start: date,
        end: date,
        symbols: Sequence[str] | None = None,
        providers: Sequence[str] | None = None,
    ) -> CollectReport:
        """Fill the sessions `start <= session_date < end`.

        Args:
            start: first session date.
            end: first date no longer asked for.
            symbols: only these; by default the watchlist and what the tape has. What is on the
                tape without being watched is a user's own affair: no other provider is asked.
            providers: only these of the chain, by name; by default all of them.

        Raises:
            ConfigError: a provider that is not in this market's chain.
            UnknownSymbolError: a symbol that the platform does not know.
            InvalidInputError: bars of the range have left PostgreSQL for the archive.
            WarehouseError: PostgreSQL refused.
        """
        self._check_providers(providers)
        self._check_not_released(start, end)
        report = CollectReport()
        step = timedelta(days=CHUNK_DAYS[self.timeframe])
        while start < end:
            until = min(start + step, end)
            self._collect_chunk(start, until, symbols, providers, report)
            start = until
        report.missing = {k: v for k, v in report.missing.items() if k not in report.got}
        return report

    def _check_providers(self, providers: Sequence[str] | None) -> None:
        known = [source.name for source in self._sources]
        for name in providers or ():
            if name not in known:
                raise ConfigError(
                    f"'{name}' is not in the chain of market '{self.market}' "
                    f"({', '.join(known)}): see SCIZOR_CHAIN_{self.market.upper()}."
                )

    def _check_not_released(self, start: date, end: date) -> None:
        """Refuse a range that is archived: all of it would be fetched and stored as if new."""
        window = self._window(start, end)
        if window is None:
            return
        released = self._warehouse.released_months(self.market, self.timeframe, *window)
        if released:
            first = f"{released[0]:%Y-%m}"
            others = f" (and {len(released) - 1} more of the range)" * (len(released) > 1)
            raise InvalidInputError(
                f"Month {first} of {self.market} {self.timeframe}{others} is in the archive, not "
                "in PostgreSQL: nothing was asked for. To collect it again, restore it first: "
                f"`scizor archive restore {self.market} {self.timeframe} {first}`."
            )

    def _collect_chunk(
        self,
        start: date,
        end: date,
        symbols: Sequence[str] | None,
        providers: Sequence[str] | None,
        report: CollectReport,
    ) -> None:
        sessions = self._calendar.sessions(start, end)
        window = self._window(start, end)
        if window is None or not sessions:
            return
        report.sessions += len(sessions)
        instruments = self._universe(*window, symbols, report)
        report.asked |= {each.symbol for each in instruments}
        done: set[tuple[int, pd.Timestamp]] = set()
        if self.timeframe in FINER:
            done = self._resample(window, instruments, report)
        unwatched = set[int]() if symbols is not None else self._unwatched(instruments)
        learned = Findings()
        for tape_only in (False, True):
            group = [each for each in instruments if (each.instrument_id in unwatched) == tape_only]
            sources = self._chain(providers, tape_only=tape_only)
            asks_all = len(sources) == len(self._chain(None, tape_only=tape_only))
            for request in self._requests(start, end, window, group, done, report):
                answer = self._ask(sources, request, done, report)
                self._learn(answer, request, learned, asks_all=asks_all)
        report.ledger += self._ledger.record(
            self.market,
            self.timeframe,
            [session.session_date for session in sessions],
            instruments,
            findings=learned,
            lane=self._lane,
        )

    def _window(self, start: date, end: date) -> tuple[datetime, datetime] | None:
        if self.timeframe == "1d":
            return datetime.combine(start, time(), UTC), datetime.combine(end, time(), UTC)
        return self._calendar.window(start, end)

    def _universe(
        self,
        first: datetime,
        last: datetime,
        symbols: Sequence[str] | None,
        report: CollectReport,
    ) -> list[Instrument]:
        if symbols is not None:
            return in_turn(self._reference.resolve(self.market, symbols))
        wanted = self._watched()
        for source in self._sources:
            if isinstance(source, TapeSource):
                wanted |= set(source.symbols(self.market, self.timeframe, first, last))
        finer = FINER.get(self.timeframe)
        if finer is not None:
            wanted |= set(self._warehouse.symbols_with_bars(self.market, finer, first, last))
        known = self._reference.instruments(self.market, sorted(wanted))
        unknown = wanted - {each.symbol for each in known}
        for symbol in sorted(unknown):
            # A row added to the watchlist by SQL need not have an instrument yet, nor be one.
            try:
                self._reference.ensure(self.market, symbol)
            except InvalidInputError as error:
                report.missing[symbol] = str(error)
        if unknown:
            known = self._reference.instruments(self.market, sorted(wanted))
        return in_turn(known)

    def _watched(self) -> set[str]:
        return {
            entry.symbol
            for entry in self._reference.watchlist(self.market, active_only=True)
            if self.timeframe == "1d"
            or (entry.collect_1min if self.timeframe == "1m" else entry.collect_5min)
            or (entry.collect_1min and self.timeframe == "15m")
        }

    def _unwatched(self, instruments: list[Instrument]) -> set[int]:
        watched = self._watched()
        return {each.instrument_id for each in instruments if each.symbol not in watched}

    def _resample(
        self,
        window: tuple[datetime, datetime],
        instruments: list[Instrument],
        report: CollectReport,
    ) -> set[tuple[int, pd.Timestamp]]:
        finer = FINER[self.timeframe]
        ids = [each.instrument_id for each in instruments]
        bars = self._warehouse.read_bars(finer, *window, instrument_ids=ids)
        if bars.empty:
            return set()
        coarse = resample_bars(bars.drop(columns=["symbol", "ingested_at"]), self.timeframe)
        ends = coarse["ts"] + pd.Timedelta(minutes=TIMEFRAME_MINUTES[self.timeframe])
        coarse["is_final"] = coarse["is_final"] & (ends <= self._now())
        names = {each.instrument_id: each.symbol for each in instruments}
        coarse["symbol"] = coarse["instrument_id"].map(names).astype("str")
        self._write(coarse, report)
        return set(zip(coarse["instrument_id"], coarse["ts"], strict=True))

    def _requests(
        self,
        start: date,
        end: date,
        window: tuple[datetime, datetime],
        instruments: list[Instrument],
        done: set[tuple[int, pd.Timestamp]],
        report: CollectReport,
    ) -> list[BarRequest]:
        """Group the instruments by the first and the last day that they can have bars.

        While a session runs, what finer bars leave open is not asked for in the live lane: the
        finer ones are asked for every minute, and the rest of the session is open in any case.
        """
        resampled = {instrument_id for instrument_id, _ in done}
        follows = self._lane == "live" and self._now() < window[1] + SETTLED_AFTER
        expected = [
            ts
            for session in self._calendar.sessions(start, end)
            for ts in self._calendar.expected(session.session_date, self.timeframe)
        ]
        groups: dict[tuple[date, date], list[SymbolRef]] = {}
        for each in instruments:
            absence = each.absence_on(start, end - timedelta(days=1))
            if absence is not None:
                report.missing[each.symbol] = absence
                continue
            if each.instrument_id in resampled and (
                follows or all((each.instrument_id, ts) in done for ts in expected)
            ):
                continue
            since, until = max(start, each.listed_from or start), end
            if each.delisted_on is not None:
                until = min(end, each.delisted_on + timedelta(days=1))
            ref = SymbolRef(each.instrument_id, each.symbol)
            groups.setdefault((since, until), []).append(ref)
        requests = []
        for (since, until), refs in groups.items():
            bounds = window if (since, until) == (start, end) else self._window(since, until)
            if bounds is not None:
                requests.append(
                    BarRequest(self.market, self.timeframe, bounds[0], bounds[1], tuple(refs))
                )
        return requests

    def _chain(self, providers: Sequence[str] | None, *, tape_only: bool) -> list[BarSource]:
        """Return the providers to ask; 15m is asked of nobody but the tape (a user's own file)."""
        return [
            source
            for source in self._sources
            if (providers is None or source.name in providers)
            and (isinstance(source, TapeSource) or not (tape_only or self.timeframe == "15m"))
        ]

    def _ask(
        self,
        sources: list[BarSource],
        request: BarRequest,
        done: set[tuple[int, pd.Timestamp]],
        report: CollectReport,
    ) -> ChainAnswer:
        answer = fetch_through(sources, request, now=self._now())
        ids = {ref.symbol: ref.instrument_id for ref in request.symbols}
        report.missing.update(self._reasons(answer))
        report.failures.update(answer.failures)
        report.incomplete.update(answer.incomplete)
        for provider, calls in answer.calls.items():
            report.calls[provider] = report.calls.get(provider, ProviderCalls()) + calls
        for reason, count in answer.batch.ignored.items():
            report.ignored[reason] = report.ignored.get(reason, 0) + count
        report.requests += sum(calls.requests for calls in answer.calls.values())
        report.latency_seconds += answer.batch.latency_seconds
        # A source that merely has nothing (the tape) does not make up for one that failed.
        if answer.last_error is not None and answer.batch.empty_reasons:
            report.error = answer.last_error
        bars = answer.batch.bars.reset_index(drop=True)
        good, refused = split_bars(bars, self.market, self.timeframe)
        refused = pd.concat([answer.batch.rejected, refused], ignore_index=True)
        report.refused += len(refused)
        report.quarantined += self._quality.quarantine("bars", self.market, self.timeframe, refused)
        good["instrument_id"] = good["symbol"].map(ids).astype("int64")
        if done:
            pairs = zip(good["instrument_id"], good["ts"], strict=True)
            good = good[np.array([pair not in done for pair in pairs], dtype=np.bool_)]
        settled = self._reconciler.settle(self.timeframe, good)
        report.held_back += settled.held_back
        for found in (answer.disagreements, settled.disagreements):
            report.disagreements += self._providers.write_disagreements(self.timeframe, found, ids)
        report.got |= set(good["symbol"])
        self._write(settled.bars, report)
        return answer

    def _reasons(self, answer: ChainAnswer) -> dict[str, str]:
        if self.timeframe != "15m":
            return answer.batch.empty_reasons
        return {
            symbol: "no 5m bars are stored to derive 15m from" + f"; {why}" * bool(answer.asked)
            for symbol, why in answer.batch.empty_reasons.items()
        }

    def _write(self, bars: pd.DataFrame, report: CollectReport) -> None:
        if bars.empty:
            return
        bars = bars.assign(timeframe=self.timeframe).astype(_KEY_TYPES)
        report.written += self._warehouse.write_bars(bars[list(BAR_COLUMNS)])
        report.rows += len(bars)
        report.got |= set(bars["symbol"])
        first, last = bars["ts"].min(), bars["ts"].max()
        report.first_ts = first if report.first_ts is None else min(first, report.first_ts)
        report.last_ts = last if report.last_ts is None else max(last, report.last_ts)
        for source, count in bars["source"].value_counts().items():
            report.sources[str(source)] = report.sources.get(str(source), 0) + int(count)

    def _learn(
        self, answer: ChainAnswer, request: BarRequest, learned: Findings, *, asks_all: bool
    ) -> None:
        """Keep what an answer says about bars that it does not have.

        Where not every provider of the chain was asked, another one may have them: only what a
        source has fully seen is kept then.
        """
        ids = {ref.symbol: ref.instrument_id for ref in request.symbols}
        for found in answer.findings if asks_all else ():
            claim = Claim(
                to_micros(found.start),
                to_micros(found.end),
                found.reason,
                found.detail,
                found.source,
            )
            learned.claims.setdefault(ids[found.symbol], []).append(claim)
        if self.timeframe == "1d":
            return
        for symbol, start, end, source in answer.seen:
            claim = Claim(to_micros(start), to_micros(end), NO_TRADES, source=source)
            learned.seen.setdefault(ids[symbol], []).append(claim)
        for symbol in {entry[0] for entry in answer.seen}:
            learned.traded.setdefault(ids[symbol], []).append(_traded(answer, symbol))


def _traded(answer: ChainAnswer, symbol: str) -> npt.NDArray[np.int64]:
    """Return when a symbol traded according to an answer, microseconds since 1970.

    Where a row was refused something did trade, only not in a way that can be kept.
    """
    bars, refused = answer.batch.bars, answer.batch.rejected
    unusable = pd.to_datetime(refused.loc[refused["symbol"] == symbol, "ts"], utc=True).dropna()
    parts = [
        each.dt.tz_localize(None).to_numpy(dtype="datetime64[us]").astype(np.int64)
        for each in (bars.loc[bars["symbol"] == symbol, "ts"], unusable)
    ]
    return np.concatenate(parts)


def split_bars(
    bars: pd.DataFrame, market: str, timeframe: Timeframe
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Divide a source's bars into those that may be stored and those that are refused.

    Returns:
        The good bars with their `session_date`, and the refused rows in the columns of
        `REJECTED_COLUMNS`, each with its reason.
    """
    calendar = get_calendar(market)
    faults = bar_faults(bars, calendar, timeframe)
    repeated = repeated_bars(bars) & (faults == "")
    faults = faults.mask(repeated, "same symbol and time as an earlier row of the answer")
    good = bars[faults == ""].copy()
    if timeframe == "1d":
        good["session_date"] = good["ts"].dt.tz_localize(None).astype("datetime64[us]")
    else:
        good["session_date"] = calendar.place(good["ts"])
    bad = bars[faults != ""]
    refused = pd.DataFrame(
        {
            "symbol": bad["symbol"],
            "ts": bad["ts"],
            "reason": faults[faults != ""],
            "source": bad["source"],
            "origin": "",
            "row_number": pd.NA,
            "payload": bad.astype("str").to_dict(orient="records"),
        }
    )
    return good, refused
