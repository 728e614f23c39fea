"""Compare stored bars with what another provider has for the same time; change none of them."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time

import pandas as pd

from scizor_core.instruments import Instrument
from scizor_core.markets import Timeframe
from scizor_core.reconcile import find_disagreements
from scizor_core.sessions import get_calendar
from scizor_resources.chain import fetch_through
from scizor_resources.errors import ProviderError
from scizor_resources.pipeline.accounts import ProviderRun, collector_runs
from scizor_resources.pipeline.collect import CollectReport
from scizor_resources.pipeline.reconcile import comes_from
from scizor_resources.providers.base import BarRequest, BarSource, SymbolRef
from scizor_resources.stores.providers import ProviderStore
from scizor_resources.stores.reference import ReferenceStore
from scizor_resources.stores.warehouse import Warehouse

#: More symbols than this are compared by turns, so many a week.
SYMBOLS_A_WEEK = 50

_DAYS_A_WEEK = 7


@dataclass
class Reconciliation:
    """What a comparison found.

    Attributes:
        symbols: symbols that were to be compared.
        compared: timeframe -> bars that both sources have.
        differing: timeframe -> of those, bars whose prices are apart.
        newly_found: disagreements that were not known yet.
        only_stored: timeframe -> stored bars that the other source does not have.
        only_there: timeframe -> final bars of the other source that are not stored.
        pairs: "stored source and other source" -> bars compared.
        not_compared: "timeframe symbol" -> why.
        failures: provider -> sentence, where it failed.
        last_error: the last of those errors.
    """

    symbols: list[str] = field(default_factory=list)
    compared: Counter[str] = field(default_factory=Counter)
    differing: Counter[str] = field(default_factory=Counter)
    newly_found: int = 0
    only_stored: Counter[str] = field(default_factory=Counter)
    only_there: Counter[str] = field(default_factory=Counter)
    pairs: Counter[str] = field(default_factory=Counter)
    not_compared: dict[str, str] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    last_error: ProviderError | None = None

    @property
    def agreement(self) -> float | None:
        """Share of the compared bars that agree, None where none was compared."""
        compared = self.compared.total()
        return 1 - self.differing.total() / compared if compared else None

    @property
    def empty_reason(self) -> str | None:
        """Why nothing was compared, None where something was."""
        if self.compared.total():
            return None
        if not self.symbols:
            return "no symbol of this market is watched"
        return "; ".join(sorted(set(self.not_compared.values()))[:5])


class SecondSource:
    """Asks a second source for bars of a market that are stored.

    Of each symbol the first provider of the chain is asked that has not delivered most of what is
    stored. What differs goes to `quality.disagreements`; stored bars stay as they are.

    Args:
        market: name of the market.
        warehouse: where bars are.
        reference: symbols and watchlist.
        providers: disagreements and accounts.
        sources: providers of the market in the order of its chain, without those that answer from
            what is stored here or invent their prices.
        now: clock, aware.
    """

    def __init__(
        self,
        market: str,
        *,
        warehouse: Warehouse,
        reference: ReferenceStore,
        providers: ProviderStore,
        sources: Sequence[BarSource],
        now: Callable[[], datetime],
    ) -> None:
        self.market = market
        self._warehouse, self._reference, self._providers = warehouse, reference, providers
        self._sources, self._now = sources, now

    def compare(
        self,
        start: date,
        end: date,
        timeframes: Sequence[Timeframe],
        symbols: Sequence[str] | None = None,
        *,
        dagster_run_id: str = "",
    ) -> Reconciliation:
        """Compare the sessions `start <= session_date < end`.

        A provider that fails leaves the others at work.

        Args:
            start: first session date.
            end: first date no longer compared; it decides whose turn it is where more than
                `SYMBOLS_A_WEEK` are watched.
            timeframes: timeframes to compare.
            symbols: only these; by default those of the watchlist, by turns.
            dagster_run_id: the run, for the accounts.

        Raises:
            UnknownSymbolError: a symbol that the platform does not know.
            WarehouseError: PostgreSQL refused.
        """
        report = Reconciliation()
        instruments = self._instruments(symbols, end)
        report.symbols = sorted(each.symbol for each in instruments)
        if not instruments:
            return report
        for timeframe in timeframes:
            window = self._window(timeframe, start, end)
            if window is not None:
                run = ProviderRun(
                    asset=f"{self.market}/reconciliation",
                    partition=f"{start}...{end}",
                    dagster_run_id=dagster_run_id,
                    started_at=self._now(),
                )
                self._compare(timeframe, window, instruments, run, report)
        return report

    def _instruments(self, symbols: Sequence[str] | None, end: date) -> list[Instrument]:
        if symbols is not None:
            return self._reference.resolve(self.market, symbols)
        watched = sorted(
            {each.symbol for each in self._reference.watchlist(self.market, active_only=True)}
        )
        if len(watched) > SYMBOLS_A_WEEK:
            week = end.toordinal() // _DAYS_A_WEEK
            first = week * SYMBOLS_A_WEEK % len(watched)
            watched = (watched + watched)[first : first + SYMBOLS_A_WEEK]
        return self._reference.instruments(self.market, watched)

    def _window(
        self, timeframe: Timeframe, start: date, end: date
    ) -> tuple[datetime, datetime] | None:
        if timeframe == "1d":
            return datetime.combine(start, time(), UTC), datetime.combine(end, time(), UTC)
        return get_calendar(self.market).window(start, end)

    def _compare(
        self,
        timeframe: Timeframe,
        window: tuple[datetime, datetime],
        instruments: Sequence[Instrument],
        run: ProviderRun,
        report: Reconciliation,
    ) -> None:
        stored = self._warehouse.read_bars(
            timeframe, *window, instrument_ids=[each.instrument_id for each in instruments]
        )
        stored = stored[stored["is_final"] & ~stored["source"].str.contains("simulated")]
        groups: dict[str, list[SymbolRef]] = {}
        for each in instruments:
            mine = stored.loc[stored["instrument_id"] == each.instrument_id, "source"]
            asked = self._second(timeframe, mine)
            if isinstance(asked, str):
                report.not_compared[f"{timeframe} {each.symbol}"] = asked
            else:
                groups.setdefault(asked.name, []).append(SymbolRef(each.instrument_id, each.symbol))
        by_name = {source.name: source for source in self._sources}
        for name, refs in groups.items():
            request = BarRequest(self.market, timeframe, *window, tuple(refs))
            self._ask(by_name[name], request, stored, run, report)

    def _second(self, timeframe: Timeframe, sources: "pd.Series[str]") -> BarSource | str:
        """Return whom to ask about a symbol, or why there is nobody."""
        if sources.empty:
            return f"no final {timeframe} bars are stored for these days"
        main = str(sources.mode().iloc[0])
        for source in self._sources:
            can = source.capabilities
            if any(comes_from(part, source.name) for part in main.split("+")):
                continue
            if self.market in can.markets and timeframe in can.timeframes:
                return source
        return (
            f"beside {main} no provider of {timeframe} bars is configured for {self.market}: add "
            f"one to SCIZOR_CHAIN_{self.market.upper()}"
        )

    def _ask(
        self,
        source: BarSource,
        request: BarRequest,
        stored: pd.DataFrame,
        run: ProviderRun,
        report: Reconciliation,
    ) -> None:
        timeframe = request.timeframe
        answer = fetch_through([source], request, now=self._now())
        self._providers.record(collector_runs(CollectReport(calls=answer.calls), run, self._now()))
        report.failures.update(answer.failures)
        report.last_error = answer.last_error or report.last_error
        batch = answer.batch
        for reasons in (batch.empty_reasons, batch.errors):
            for symbol, why in reasons.items():
                report.not_compared[f"{timeframe} {symbol}"] = why
        ids = {ref.symbol: ref.instrument_id for ref in request.symbols}
        mine = stored[stored["instrument_id"].isin(ids.values())]
        theirs = batch.bars[batch.bars["is_final"]]
        both = mine[["symbol", "ts", "source"]].merge(
            theirs[["symbol", "ts", "source"]],
            on=["symbol", "ts"],
            suffixes=("", "_other"),
        )
        report.only_stored[timeframe] += len(mine) - len(both)
        report.only_there[timeframe] += len(theirs) - len(both)
        both = both[both["source"] != both["source_other"]]
        report.compared[timeframe] += len(both)
        report.pairs.update(both["source"] + " and " + both["source_other"])
        found = find_disagreements(mine, theirs, timeframe)
        report.differing[timeframe] += len(found)
        report.newly_found += self._providers.write_disagreements(timeframe, found, ids)
