"""Backfills: what the planner has to know of the platform, and how long its calls take.

The decisions are in `scizor_core.backfill`; what launches the pieces is in
`scizor_assets.backfills` and in the command line. A backfill has no table of its own: its runs
carry tags, its bars and the completeness ledger say what is left to do.
"""

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta

from scizor_core.backfill import Plan, Reach, Scope, Wish, expected_bars, plan_backfill
from scizor_core.errors import InvalidInputError
from scizor_core.instruments import Instrument
from scizor_core.markets import TIMEFRAMES, Timeframe, get_market
from scizor_core.sessions import get_calendar
from scizor_resources.budget.limits import ProviderLimits
from scizor_resources.platform import Platform
from scizor_resources.providers.base import BarSource
from scizor_resources.providers.registry import PROVIDERS
from scizor_resources.providers.tape import TapeSource

#: With up to so many symbols it is looked whether indicators are missing where bars are complete,
#: which a run that was killed in between leaves behind. It reads every bar of the range.
INDICATOR_CHECK_SYMBOLS = 500
#: What is looked at where nobody says otherwise; 15m comes with 5m.
_DEFAULT: frozenset[Timeframe] = frozenset({"1d", "5m"})
#: What has to be there so that a timeframe needs nothing: what is derived in the same run, too.
_DERIVED: dict[Timeframe, tuple[Timeframe, ...]] = {
    "1d": ("1d",),
    "1m": ("1m",),
    "5m": ("5m", "15m"),
}


class BackfillPlanner:
    """Plans backfills of one market.

    Args:
        platform: the opened platform.
        market: name of the market.
    """

    def __init__(self, platform: Platform, market: str) -> None:
        self._platform = platform
        self._market = get_market(market)
        self._calendar = get_calendar(self._market.name)

    def watched(self) -> dict[str, frozenset[Timeframe]]:
        """Return the watched symbols by tier and code, each with the timeframes it is kept in."""
        found: dict[str, frozenset[Timeframe]] = {}
        entries = self._platform.reference.watchlist(self._market.name, active_only=True)
        for entry in sorted(entries, key=lambda each: (each.priority, each.symbol)):
            kept = {"1d"}
            kept |= {"1m", "5m"} if entry.collect_1min else set()
            kept |= {"5m"} if entry.collect_5min else set()
            found[entry.symbol] = found.get(entry.symbol, frozenset()) | frozenset(
                each for each in TIMEFRAMES if each in kept
            )
        return found

    def since(self, days: int | None = None) -> dict[Timeframe, date]:
        """Return the first session wanted of each timeframe.

        Args:
            days: calendar days back; by default those of the settings.
        """
        settings, today = self._platform.settings, self._platform.now().astimezone(UTC).date()
        daily = settings.backfill_daily_days if days is None else days
        intraday = settings.backfill_intraday_days if days is None else days
        return {
            each: today - timedelta(days=daily if each == "1d" else intraday) for each in TIMEFRAMES
        }

    def plan(
        self,
        wanted: dict[str, frozenset[Timeframe]] | None = None,
        since: dict[Timeframe, date] | None = None,
        until: date | None = None,
        *,
        failed_too: bool = False,
        again: bool = False,
        strict: bool = False,
    ) -> Plan:
        """Return what is to be done.

        Args:
            wanted: symbol -> timeframes, by default the watchlist. A symbol without timeframes gets
                those of the watchlist, or daily and five-minute bars where it is not on it.
            since: timeframe -> first session; by default the depth of the settings.
            until: first date no longer wanted, by default tomorrow: sessions that still run are
                left to the refresh.
            failed_too: ask for what providers that were down have left open, too; gap repair does
                so anyway, at its own pace.
            again: ask for what is complete or explained, too.
            strict: a symbol that cannot be one of the market is an error, not a note.

        Raises:
            InvalidInputError: a symbol that cannot be one of the market, if strict; `since` is not
                before `until`.
            WarehouseError: PostgreSQL refused.
        """
        now = self._platform.now()
        watched = self.watched()
        chosen = watched if wanted is None else wanted
        chosen = {
            symbol: timeframes or watched.get(symbol, _DEFAULT)
            for symbol, timeframes in chosen.items()
        }
        # Sydney's date is ahead of UTC's.
        last = until or (now.astimezone(UTC) + timedelta(days=2)).date()
        first = since or self.since()
        if min(first.values()) >= last:
            raise InvalidInputError(f"A backfill from {min(first.values())} to {last} is empty.")
        instruments, notes = self._instruments(chosen, strict=strict)
        wishes, absent = _wishes(chosen, instruments, min(first.values()), last)
        scope = self._scope(first, last, now)
        settled = {} if again else self._settled(instruments, scope, failed_too)
        plan = plan_backfill(wishes, scope, settled, self._calendar)
        return replace(plan, notes=(*notes, *absent))

    def _instruments(
        self, chosen: dict[str, frozenset[Timeframe]], *, strict: bool
    ) -> tuple[dict[str, list[Instrument]], list[str]]:
        """Return symbol -> its instruments, and a sentence for each that cannot be one."""
        notes = []
        reference = self._platform.reference
        known = {each.symbol for each in reference.instruments(self._market.name, list(chosen))}
        for symbol in set(chosen) - known:
            # A row added to the watchlist by SQL need not have an instrument yet, nor be one.
            try:
                reference.ensure(self._market.name, symbol)
            except InvalidInputError as error:
                if strict:
                    raise
                notes.append(str(error))
        found: dict[str, list[Instrument]] = {}
        for each in reference.instruments(self._market.name, list(chosen)):
            found.setdefault(each.symbol, []).append(each)
        return found, notes

    def _scope(self, since: dict[Timeframe, date], until: date, now: datetime) -> Scope:
        settings = self._platform.settings
        first, last = min(since.values()), until
        window = datetime.combine(first, time(), UTC), datetime.combine(last, time(), UTC)
        name = self._market.name
        return Scope(
            market=name,
            since=since,
            until=until,
            now=now,
            reaches=self.reaches(),
            chain=settings.chain(name),
            not_configured=self._platform.not_configured(name),
            first_partitions={
                each: settings.daily_start.replace(day=1)
                if each == "1d"
                else settings.intraday_start
                for each in TIMEFRAMES
            },
            archived={
                each: frozenset(self._platform.warehouse.released_months(name, each, *window))
                for each in TIMEFRAMES
            },
            symbols_per_run=settings.backfill_symbols_per_run,
        )

    def reaches(self) -> list[Reach]:
        """Return what the configured providers serve, in the order of the chain."""
        return [
            reach
            for source in self._platform.sources(self._market.name)
            for reach in _reaches(source, self._market.name)
        ]

    def _settled(
        self,
        instruments: dict[str, list[Instrument]],
        scope: Scope,
        failed_too: bool,  # noqa: FBT001  # private, called once
    ) -> dict[tuple[str, Timeframe], set[date]]:
        """Return (symbol, timeframe) -> sessions of which everything is stored or explained."""
        names = {
            each.instrument_id: symbol for symbol, all_ in instruments.items() for each in all_
        }
        rows: dict[tuple[str, Timeframe], set[date]] = {}
        with self._platform.warehouse.connect() as connection:
            for timeframe in TIMEFRAMES:
                first = scope.since.get("5m" if timeframe == "15m" else timeframe)
                if first is None:
                    continue
                sessions = [
                    each
                    for each in self._calendar.sessions(first, scope.until)
                    if each.close <= scope.now
                ]
                days = [each.session_date for each in sessions]
                found = connection.execute(
                    _SETTLED,
                    {
                        "instruments": list(names),
                        "timeframe": timeframe,
                        "days": days,
                        "bars": [expected_bars(each, timeframe) for each in sessions],
                        "failed_too": failed_too,
                    },
                )
                for row in found:
                    key = (names[row["instrument_id"]], timeframe)
                    # Mostly all of them, which are not sent for each symbol.
                    rows.setdefault(key, set()).update(row["days"] or days)
            if len(names) <= INDICATOR_CHECK_SYMBOLS:
                window = {
                    "instruments": list(names),
                    "first": min(scope.since.values()),
                    "last": scope.until,
                }
                for row in connection.execute(_WITHOUT_INDICATORS, window):
                    key = (names[row["instrument_id"]], row["timeframe"])
                    rows.get(key, set()).difference_update(row["days"])
        return {
            (symbol, timeframe): set.intersection(
                *(rows.get((symbol, each), set()) for each in derived)
            )
            for symbol in instruments
            for timeframe, derived in _DERIVED.items()
        }

    def seconds(self, plan: Plan) -> float:
        """Return how long a plan's calls take at least, as the providers' budgets allow them."""
        return max(
            (seconds_for(self._limits(name), calls) for name, calls in plan.requests.items()),
            default=0.0,
        )

    def within(self, plan: Plan, seconds: float, runs: int) -> Plan:
        """Return as many of a plan's first pieces as its calls fit into so many seconds, or one.

        Args:
            plan: the plan.
            seconds: the time there is.
            runs: pieces at most.
        """
        kept = 1
        for count in range(2, min(len(plan.pieces), runs) + 1):
            if self.seconds(replace(plan, pieces=plan.pieces[:count])) > seconds:
                break
            kept = count
        return replace(plan, pieces=plan.pieces[:kept])

    def _limits(self, provider: str) -> ProviderLimits:
        return self._platform.budget(provider).limits


_SETTLED = """
    SELECT c.instrument_id,
           CASE WHEN count(*) < cardinality(%(days)s::date[]) THEN array_agg(c.session_date) END
           AS days
    FROM quality.completeness AS c
    JOIN unnest(%(days)s::date[], %(bars)s::int[]) AS s (session_date, bars) USING (session_date)
    WHERE c.instrument_id = ANY(%(instruments)s) AND c.timeframe = %(timeframe)s
    AND c.expected >= s.bars AND c.not_fetched = 0
    AND NOT (%(failed_too)s AND c.feed_down > 0)
    GROUP BY c.instrument_id
"""

_WITHOUT_INDICATORS = """
    SELECT b.instrument_id, b.timeframe, array_agg(DISTINCT b.session_date) AS days
    FROM market.bars AS b LEFT JOIN market.indicators AS i USING (instrument_id, timeframe, ts)
    WHERE b.instrument_id = ANY(%(instruments)s)
    AND b.session_date >= %(first)s::date AND b.session_date < %(last)s::date
    -- Leaves out the partitions around; a session opens on the day before by UTC at most.
    AND b.ts >= %(first)s::date - 1 AND b.ts < %(last)s::date + 1 AND i.ts IS NULL
    GROUP BY b.instrument_id, b.timeframe
"""


def _wishes(
    chosen: dict[str, frozenset[Timeframe]],
    instruments: dict[str, list[Instrument]],
    first: date,
    last: date,
) -> tuple[list[Wish], list[str]]:
    """Return what to plan for, and a sentence for each symbol that cannot have bars."""
    wishes, notes = [], []
    for symbol, timeframes in chosen.items():
        same_code = instruments.get(symbol, [])
        reasons = [each.absence_on(first, last - timedelta(days=1)) for each in same_code]
        if same_code and all(reasons):
            notes.append(f"{symbol}: {reasons[-1]}")
        elif same_code:
            begun = [each.listed_from for each in same_code]
            ended = [each.delisted_on for each in same_code]
            wishes.append(
                Wish(
                    symbol,
                    timeframes,
                    None if None in begun else min(day for day in begun if day is not None),
                    None if None in ended else max(day for day in ended if day is not None),
                )
            )
    return wishes, notes


def _reaches(source: BarSource, market: str) -> list[Reach]:
    can = source.capabilities
    if market not in can.markets:
        return []
    spec = PROVIDERS.get(source.name)
    return [
        Reach(
            source.name,
            each,
            max_age=can.max_age.get(each),
            max_window=can.max_window.get(each),
            batch_size=can.batch_size,
            counts_calls=spec is None or not spec.is_local,
            holds=_holds(source, market, each),
        )
        for each in TIMEFRAMES
        if each in can.timeframes
    ]


def _holds(
    source: BarSource, market: str, timeframe: Timeframe
) -> dict[str, list[tuple[date, date]]] | None:
    """Return the dates that a source has by symbol, None where it serves whatever is asked."""
    # What was not sampled cannot be sampled any more.
    if source.name == "coinspot":
        return {}
    if not isinstance(source, TapeSource):
        return None
    spans: dict[str, list[tuple[date, date]]] = {}
    for entry in source.entries(market, timeframe):
        first = date.min if entry.first_ts is None else entry.first_ts.date() - timedelta(days=1)
        last = date.max if entry.last_ts is None else entry.last_ts.date() + timedelta(days=1)
        spans.setdefault(entry.symbol, []).append((first, last))
    return spans


def seconds_for(limits: ProviderLimits, calls: int) -> float:
    """Return how long so many calls of lane backfill take at least.

    Args:
        limits: the provider's.
        calls: their number.
    """
    windows = [*limits.windows, *(each for group in limits.groups for each in group.windows)]
    longest = 0.0
    for window in windows:
        allowed = window.allowed("backfill")
        if window.is_paced:
            longest = max(longest, calls * window.kept_seconds / allowed)
        else:
            longest = max(longest, (calls - 1) // allowed * window.seconds)
    return longest
