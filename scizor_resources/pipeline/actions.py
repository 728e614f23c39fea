"""Corporate actions: ask, keep, judge; collect again what a provider has rewritten.

In this order for the watched equities of each market:
- every configured provider that knows of splits and dividends is asked, and all it says is kept;
- of each action one report counts, unless stored prices contradict it (`scizor_core.adjust.judge`);
- bars that a split-adjusting provider had delivered before a split are collected again, so that
  the old values are in `market.bar_revisions`; likewise where its fresh daily closes differ from
  the stored ones by one factor without any reported split;
- a symbol that a provider does not know and that has no bars any more is reported.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pandas as pd

from scizor_core.adjust import (
    SPLIT_ADJUSTED_SOURCES,
    Split,
    is_unit_ratio,
    judge,
    rewrite_ratio,
)
from scizor_core.alerts import Severity
from scizor_core.errors import UnknownSymbolError
from scizor_core.instruments import Instrument
from scizor_core.markets import MARKETS, TIMEFRAMES, MarketSpec, Timeframe
from scizor_core.sessions import get_calendar
from scizor_resources.alerts.store import AlertStore
from scizor_resources.chain import ProviderCalls
from scizor_resources.errors import BadRequest, ProviderError
from scizor_resources.pipeline.accounts import ProviderRun, collector_runs
from scizor_resources.pipeline.collect import BarCollector, CollectReport
from scizor_resources.pipeline.enrich import enrich
from scizor_resources.providers.action_sources import ActionSource, action_sources
from scizor_resources.providers.actions import CorporateAction
from scizor_resources.providers.base import BarRequest, BarSource, SymbolRef
from scizor_resources.providers.gate import Gate
from scizor_resources.stores.actions import ActionStore, Refetch, Written, midnight
from scizor_resources.stores.providers import ProviderStore
from scizor_resources.stores.reference import ReferenceStore
from scizor_resources.stores.warehouse import Warehouse

ASSET = "reference/corporate_actions"
#: Dividends are announced some weeks ahead.
DAYS_AHEAD = 90
#: How far back an instrument without bars is asked for.
DAYS_WITHOUT_BARS = 365
#: A provider that still answers with the old prices is asked again until so long after a split.
PATIENCE_DAYS = 7
#: Sessions without a bar after which an unknown symbol is doubtful.
QUIET_SESSIONS = 5
#: Daily bars are collected by the month, so that a rewrite shows in those before the month that is
#: being collected: this much before the last month's first day is compared.
COMPARED_DAYS = 14
#: How providers say in an answer for several symbols that they do not know one of them.
_NOT_KNOWN = re.compile(r"not know|unknown|delisted|not found|no data found|no such", re.IGNORECASE)

MakeCollector = Callable[[str, Timeframe], BarCollector]


@dataclass
class ActionsReport:
    """What one run did; everything it shows as metadata.

    Attributes:
        asked: "market symbol" of each instrument that was asked for.
        received: provider -> actions received.
        written: rows inserted and changed.
        not_applied: "symbol ex-date kind source" -> why, for verdicts that are new.
        refetched: ranges that were collected again.
        unchanged: "symbol timeframe provider" of refetches that brought nothing new yet.
        doubtful: "market symbol" -> why its listing is in doubt.
        unit_errors: "market symbol provider" -> sentence.
        unknown: "market symbol" -> provider's words, where a provider does not know it.
        failures: provider -> sentence, where it failed as a whole.
        answers: calls for actions that were answered.
        last_error: the last error of a provider that failed as a whole.
    """

    asked: list[str] = field(default_factory=list)
    received: dict[str, int] = field(default_factory=dict)
    written: Written = field(default_factory=Written)
    not_applied: dict[str, str] = field(default_factory=dict)
    refetched: list[Refetch] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    doubtful: dict[str, str] = field(default_factory=dict)
    unit_errors: dict[str, str] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    answers: int = 0
    last_error: ProviderError | None = None


class ActionCollector:
    """Keeps the corporate actions of the watched equities, and bars in step with them.

    Args:
        warehouse: bars.
        reference: symbols and watchlist.
        actions: actions and refetches.
        providers: accounts.
        alerts: what somebody should look at.
        sources: returns a market's providers in the order of its chain.
        action_sources: returns those of them that know of actions.
        collector: returns the collector of a market and timeframe.
        now: clock, aware.
    """

    def __init__(
        self,
        *,
        warehouse: Warehouse,
        reference: ReferenceStore,
        actions: ActionStore,
        providers: ProviderStore,
        alerts: AlertStore,
        sources: Callable[[str], list[BarSource]],
        collector: MakeCollector,
        now: Callable[[], datetime],
        action_sources: Callable[[Sequence[BarSource]], list[ActionSource]] = action_sources,
    ) -> None:
        self._warehouse, self._reference, self._actions = warehouse, reference, actions
        self._providers, self._alerts = providers, alerts
        self._sources, self._collector = sources, collector
        self._action_sources, self._now = action_sources, now

    def collect(
        self, symbols: Sequence[str] | None = None, *, dagster_run_id: str = ""
    ) -> ActionsReport:
        """Bring corporate actions, and the bars they change, up to date.

        A provider that fails leaves the others at work.

        Args:
            symbols: only these, watched or not; by default the watchlist.
            dagster_run_id: the run, for the accounts.

        Raises:
            UnknownSymbolError: no market has one of the symbols.
            WarehouseError: PostgreSQL refused.
        """
        report = ActionsReport()
        groups = {
            market.name: self._instruments(market, symbols)
            for market in MARKETS.values()
            if market.asset_class == "equity"
        }
        _check_known(symbols, groups.values())
        for name, instruments in groups.items():
            if not instruments:
                continue
            market = MARKETS[name]
            report.asked += [f"{market.name} {each.symbol}" for each in instruments]
            sources = self._sources(market.name)
            self._ask(market, instruments, self._action_sources(sources), dagster_run_id, report)
            for instrument in instruments:
                self.settle(instrument, report)
            for source in sources:
                if source.capabilities.adjusted and source.name in SPLIT_ADJUSTED_SOURCES:
                    self._keep_in_step(source, instruments, dagster_run_id, report)
            self._doubt(market, instruments, report)
        return report

    def _instruments(self, market: MarketSpec, symbols: Sequence[str] | None) -> list[Instrument]:
        """Return the listed instruments to ask for."""
        if symbols is None:
            codes = {
                each.symbol for each in self._reference.watchlist(market.name, active_only=True)
            }
        else:
            codes = {each.strip().upper() for each in symbols}
        return [
            each
            for each in self._reference.instruments(market.name, sorted(codes))
            if each.delisted_on is None
        ]

    def _today(self, market: MarketSpec) -> date:
        return self._now().astimezone(ZoneInfo(market.timezone)).date()

    # ---- what providers report

    def _ask(
        self,
        market: MarketSpec,
        instruments: Sequence[Instrument],
        sources: Sequence[ActionSource],
        dagster_run_id: str,
        report: ActionsReport,
    ) -> None:
        today = self._today(market)
        end = today + timedelta(days=DAYS_AHEAD)
        starts = {
            each.symbol: self._actions.first_session(each.instrument_id)
            or today - timedelta(days=DAYS_WITHOUT_BARS)
            for each in instruments
        }
        for source in sources:
            began, calls = self._now(), ProviderCalls()
            gate: Gate | None = getattr(source, "gate", None)
            before = (gate.counts.requests, gate.counts.retries) if gate is not None else (0, 0)
            for first in range(0, len(instruments), source.batch_size):
                batch = instruments[first : first + source.batch_size]
                names = [each.symbol for each in batch]
                try:
                    found = source.fetch_actions(
                        market.name, names, min(starts[name] for name in names), end
                    )
                except ProviderError as error:
                    calls.error = str(error)
                    if isinstance(error, BadRequest) and len(names) == 1:
                        about = f"{market.name} {names[0]}"
                        report.unknown[about] = f"{source.name}: {error}"
                        continue
                    report.failures[source.name], report.last_error = str(error), error
                    break
                else:
                    report.answers += 1
                    calls.records += len(found)
                    self._keep(batch, found, report)
            if gate is not None:
                calls.requests = gate.counts.requests - before[0]
                calls.retries = gate.counts.retries - before[1]
            report.received[source.name] = report.received.get(source.name, 0) + calls.records
            run = ProviderRun(ASSET, market.name, dagster_run_id, began)
            asked = CollectReport(calls={source.name: calls})
            self._providers.record(collector_runs(asked, run, self._now()))

    def _keep(
        self,
        instruments: Sequence[Instrument],
        found: Sequence[CorporateAction],
        report: ActionsReport,
    ) -> None:
        holders = {each.symbol: each for each in instruments}
        rows = []
        for action in found:
            holder = holders.get(action.symbol)
            if holder is None:
                continue
            # Before that the code was another company's.
            if holder.listed_from is None or action.ex_date >= holder.listed_from:
                rows.append((holder.instrument_id, action))
        written = self._actions.write(rows)
        report.written.inserted += written.inserted
        report.written.changed += written.changed

    # ---- which of the reports count

    def settle(self, instrument: Instrument, report: ActionsReport) -> None:
        """Judge everything that is reported of an instrument, and alert on what is new."""
        stored = self._actions.reports(instrument.instrument_id)
        if not stored:
            return
        market = MARKETS[instrument.market]
        evidence = self._actions.evidence(
            instrument.instrument_id, market.name, [each.report.action.ex_date for each in stored]
        )
        currency = instrument.symbol.partition("/")[2] or market.currency
        verdicts = judge([each.report for each in stored], evidence, currency, self._today(market))
        for action, verdict in self._actions.settle(stored, verdicts):
            source, day = action.report.source, action.report.action.ex_date
            about = f"{instrument.symbol} {day} {action.kind} {source}"
            if not verdict.applied:
                report.not_applied[about] = verdict.note
            if verdict.kind:
                self._alerts.raise_(
                    f"corporate_action_{verdict.kind}",
                    Severity.MEDIUM if verdict.kind == "contradicted" else Severity.LOW,
                    f"The {action.kind} of {instrument.symbol} ({market.name}) on {day} by "
                    f"{source} is not applied: {verdict.note}.",
                    (str(instrument.instrument_id), str(day), action.kind, source),
                    market=market.name,
                    symbol=instrument.symbol,
                    instrument_id=instrument.instrument_id,
                    ex_date=str(day),
                    source=source,
                )

    # ---- bars that a provider has rewritten

    def _keep_in_step(
        self,
        source: BarSource,
        instruments: Sequence[Instrument],
        dagster_run_id: str,
        report: ActionsReport,
    ) -> None:
        for instrument in instruments:
            splits = self._pending(source.name, instrument)
            if splits:
                last = max(each.ex_date for each in splits)
                fetched_before = midnight(last, instrument.market)
                done = self._refetch(
                    source, instrument, last, fetched_before, dagster_run_id, report
                )
                self._record(instrument, source.name, splits, done, report)
        self._compare(source, instruments, dagster_run_id, report)

    def _pending(self, source: str, instrument: Instrument) -> list[Split]:
        """Return the splits for which the source's bars have not been collected again."""
        splits, _ = self._actions.applied(instrument.instrument_id)
        return [
            split
            for split in splits
            if self._stale(
                source, instrument, split.ex_date, midnight(split.ex_date, instrument.market)
            )
            and not self._actions.was_refetched(instrument.instrument_id, source, split.ex_date)
        ]

    def _stale(
        self, source: str, instrument: Instrument, before: date, fetched_before: datetime
    ) -> dict[Timeframe, date]:
        """Return the first session of the bars that were fetched too early, by timeframe."""
        found = {
            timeframe: self._actions.first_stale(
                instrument.instrument_id, source, timeframe, before, fetched_before
            )
            for timeframe in SPLIT_ADJUSTED_SOURCES[source]
        }
        return {timeframe: day for timeframe, day in found.items() if day is not None}

    def _refetch(
        self,
        source: BarSource,
        instrument: Instrument,
        before: date,
        fetched_before: datetime,
        dagster_run_id: str,
        report: ActionsReport,
    ) -> list[Refetch] | None:
        """Collect a source's bars again, daily ones first, coarser after finer ones.

        Returns:
            What was collected; None where the provider failed.
        """
        stale = self._stale(source.name, instrument, before, fetched_before)
        done: list[Refetch] = []
        for timeframe in sorted(stale, key=lambda each: (each != "1d", TIMEFRAMES.index(each))):
            start = max(stale[timeframe], self._reach(source, timeframe))
            if start >= before:
                continue
            began = self._now()
            collected = self._collector(instrument.market, timeframe).collect(
                start, before, [instrument.symbol], providers=[source.name]
            )
            run = ProviderRun(ASSET, f"{start}...{before}", dagster_run_id, began)
            self._providers.record(collector_runs(collected, run, self._now()))
            if collected.failures:
                report.failures.update(collected.failures)
                report.last_error = collected.error or report.last_error
                return None
            enrich(
                self._warehouse,
                self._reference,
                instrument.market,
                timeframe,
                start,
                before,
                [instrument.symbol],
            )
            changed = collected.written.changed
            done.append(
                Refetch(
                    instrument.instrument_id, source.name, timeframe, None, start, before, changed
                )
            )
        return done

    def _reach(self, source: BarSource, timeframe: Timeframe) -> date:
        age = source.capabilities.max_age.get(timeframe)
        return date.min if age is None else (self._now() - age).date() + timedelta(days=1)

    def _record(
        self,
        instrument: Instrument,
        source: str,
        splits: Sequence[Split],
        done: list[Refetch] | None,
        report: ActionsReport,
    ) -> None:
        """Keep that the splits are dealt with, unless the provider may need some more days."""
        if not done:
            return
        today = self._today(MARKETS[instrument.market])
        changed = any(each.rows_changed for each in done)
        for split in splits:
            if not changed and (today - split.ex_date).days <= PATIENCE_DAYS:
                report.unchanged.append(f"{instrument.symbol} {split.ex_date} {source}")
                continue
            rows = [
                Refetch(
                    each.instrument_id,
                    each.source,
                    each.timeframe,
                    split.ex_date,
                    each.start,
                    each.end,
                    each.rows_changed,
                )
                for each in done
            ]
            self._actions.record_refetches(rows, self._now())
            report.refetched += rows

    def _compare(
        self,
        source: BarSource,
        instruments: Sequence[Instrument],
        dagster_run_id: str,
        report: ActionsReport,
    ) -> None:
        """Look for a rewritten history that no reported split explains."""
        market = MARKETS[instruments[0].market]
        today = self._today(market)
        last_month = (today.replace(day=1) - timedelta(days=1)).replace(day=1)
        start = datetime.combine(last_month - timedelta(days=COMPARED_DAYS), time(), UTC)
        end = datetime.combine(today + timedelta(days=1), time(), UTC)
        stored = self._warehouse.read_bars(
            "1d", start, end, instrument_ids=[each.instrument_id for each in instruments]
        )
        stored = stored[(stored["source"] == source.name) & stored["is_final"]]
        refs = tuple(
            SymbolRef(each.instrument_id, each.symbol)
            for each in instruments
            if each.instrument_id in set(stored["instrument_id"])
        )
        if not refs:
            return
        try:
            fresh = source.fetch_bars(BarRequest(market.name, "1d", start, end, refs))
        except ProviderError as error:
            report.failures[source.name], report.last_error = str(error), error
            return
        unknown = {each: words for each, words in fresh.errors.items() if _NOT_KNOWN.search(words)}
        for symbol, words in unknown.items():
            report.unknown.setdefault(f"{market.name} {symbol}", f"{source.name}: {words}")
        for instrument in instruments:
            ratio = rewrite_ratio(
                _closes(stored[stored["instrument_id"] == instrument.instrument_id]),
                _closes(fresh.bars[fresh.bars["symbol"] == instrument.symbol]),
            )
            if ratio is not None:
                self._rewritten(source, instrument, ratio, dagster_run_id, report)

    def _rewritten(
        self,
        source: BarSource,
        instrument: Instrument,
        ratio: float,
        dagster_run_id: str,
        report: ActionsReport,
    ) -> None:
        today = self._today(MARKETS[instrument.market])
        name = f"{instrument.symbol} ({instrument.market})"
        about = f"{instrument.market} {instrument.symbol} {source.name}"
        if is_unit_ratio(ratio):
            report.unit_errors[about] = (
                f"Stored closes of {name} are {ratio:.4g} times those that {source.name} has now: "
                "another unit, such as pence for pounds. Nothing was collected again."
            )
            self._alerts.raise_(
                "unit_error",
                Severity.MEDIUM,
                report.unit_errors[about],
                (str(instrument.instrument_id), source.name, f"{ratio:.3g}"),
                market=instrument.market,
                symbol=instrument.symbol,
                ratio=ratio,
            )
            return
        done = self._refetch(source, instrument, today, self._now(), dagster_run_id, report)
        if not done:
            return
        self._actions.record_refetches(done, self._now())
        report.refetched += done
        self._alerts.raise_(
            "history_rewritten",
            Severity.LOW,
            f"{source.name} has rewritten the history of {name} by a factor of {ratio:.4g} "
            "without reporting a split; it was collected again.",
            (str(instrument.instrument_id), source.name, str(today)),
            market=instrument.market,
            symbol=instrument.symbol,
            ratio=ratio,
        )

    # ---- codes that nobody knows any more

    def _doubt(
        self, market: MarketSpec, instruments: Sequence[Instrument], report: ActionsReport
    ) -> None:
        today = self._today(market)
        for instrument in instruments:
            about = f"{market.name} {instrument.symbol}"
            words = report.unknown.get(about)
            if words is None:
                continue
            last = self._actions.last_session(instrument.instrument_id)
            since = last or self._actions.known_since(instrument.instrument_id).date()
            quiet = len(get_calendar(market.name).sessions(since + timedelta(days=1), today))
            if quiet < QUIET_SESSIONS:
                continue
            seen = f"has had no bar since {last}" if last else "has never had a bar"
            report.doubtful[about] = f"{seen} ({quiet} sessions); {words}"
            self._alerts.raise_(
                "listing_doubtful",
                Severity.MEDIUM,
                f"{instrument.symbol} ({market.name}) {seen} and a provider does not know it. If "
                f"it has left, close it with `scizor listing close {instrument.symbol} --market "
                f"{market.name} --on DATE`; if it has another code, use `scizor listing rename`.",
                (str(instrument.instrument_id), str(since)),
                market=market.name,
                symbol=instrument.symbol,
                instrument_id=instrument.instrument_id,
                provider_says=words,
            )


def _check_known(symbols: Sequence[str] | None, groups: Iterable[Sequence[Instrument]]) -> None:
    known = {each.symbol for instruments in groups for each in instruments}
    missing = sorted({each.strip().upper() for each in symbols or ()} - known)
    if missing:
        raise UnknownSymbolError(
            f"No equity market has a listed {', '.join(missing)} here. Add it with `scizor "
            f"watchlist add {missing[0]}`, or bring its history with `scizor import`."
        )


def _closes(bars: pd.DataFrame) -> "pd.Series[float]":
    return bars.set_index("ts")["close"]
