"""Asset checks of bars, indicators and completeness, generated from the same lists as the assets.

Belongs here: turning findings into check results. Not here: the judgement itself
(`scizor_core.bar_checks`). Wrong data is ERROR, doubtful data is WARN. The write path refuses bad
rows before they are stored, so none of these blocks a run: they catch what came in another way.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta

import dagster as dg
import pandas as pd

from scizor_assets.check_results import finding_result
from scizor_assets.common import failures
from scizor_assets.partitions import partitions_of, window_of_run
from scizor_core.bar_checks import (
    Finding,
    check_duplicates,
    check_inside_session,
    check_monotonic_time,
    check_ohlc,
    check_outliers,
    check_schema,
)
from scizor_core.markets import MARKETS, TIMEFRAMES, MarketSpec, Timeframe
from scizor_core.quality import OUTLIER_LOOKBACK_BARS
from scizor_core.sessions import get_calendar
from scizor_resources.platform import Platform
from scizor_resources.stores.gap_sums import contradictions

#: A check that runs on its own, without a partition, looks at this much of the newest data.
UNPARTITIONED_DAYS = 35
COMPLETENESS_LIMIT = 0.98

_BAR_CHECKS: dict[str, str] = {
    "schema": "Stored rows keep the contract of market.bars.",
    "ohlc_consistency": "High is the highest and low the lowest price of each bar.",
    "duplicates": "A symbol has one bar per time, whatever instrument id it is stored under.",
    "monotonic_time": "Bars of a symbol ascend and none starts after it arrived.",
    "inside_session": "Every bar lies on the grid and in the session whose date it carries.",
    "outliers": (
        "Price change over 10 %, volume over 5 times its 20-bar average, spread over 5 %: "
        "a warning that lists the bars, largest first. They are stored as they came."
    ),
}


def build_bars_checks(market: MarketSpec, timeframe: Timeframe) -> dg.AssetChecksDefinition:
    """Return the checks of `<market>/bars_<timeframe>`; one query serves all of them."""
    key = dg.AssetKey([market.name, f"bars_{timeframe}"])
    partitions = partitions_of(market, timeframe)

    @dg.multi_asset_check(
        name=f"{market.name}_bars_{timeframe}_checks",
        specs=[
            dg.AssetCheckSpec(name, asset=key, description=description)
            for name, description in _BAR_CHECKS.items()
        ],
        can_subset=True,
    )
    def bars_checks(
        context: dg.AssetCheckExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> Iterable[dg.AssetCheckResult]:
        with failures():
            bars, earlier = _read(platform, market, timeframe, window_of_run(context, partitions))
        wanted = {each.name for each in context.selected_asset_check_keys}
        for name, severity, check in _judgements(market.name, timeframe, bars, earlier):
            if name in wanted:
                yield finding_result(key, check(), severity, len(bars))

    return bars_checks


def _judgements(
    market: str, timeframe: Timeframe, bars: pd.DataFrame, earlier: pd.DataFrame
) -> list[tuple[str, dg.AssetCheckSeverity, Callable[[], Finding]]]:
    """Return each check's name, how bad a finding is, and the check itself."""
    error, warn = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN
    return [
        ("schema", error, lambda: check_schema(bars)),
        ("ohlc_consistency", error, lambda: check_ohlc(bars)),
        ("duplicates", error, lambda: check_duplicates(bars)),
        ("monotonic_time", error, lambda: check_monotonic_time(bars)),
        ("inside_session", error, lambda: check_inside_session(bars, market, timeframe)),
        ("outliers", warn, lambda: _outliers(bars, earlier)),
    ]


def _outliers(bars: pd.DataFrame, earlier: pd.DataFrame) -> Finding:
    if bars.empty:
        return Finding("outliers", 0, [])
    both = pd.concat([frame for frame in (earlier, bars) if not frame.empty])
    return check_outliers(both, bars["ts"].min())


def _read(
    platform: Platform,
    market: MarketSpec,
    timeframe: Timeframe,
    window: tuple[date, date] | None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the bars to judge and those just before them."""
    bounds = _bounds(platform, market, timeframe, window)
    if bounds is None:
        empty = platform.warehouse.read_bars(timeframe, _EPOCH, _EPOCH, market=market.name)
        return empty.assign(timeframe=timeframe).astype({"timeframe": "str"}), empty
    bars = platform.warehouse.read_bars(timeframe, *bounds, market=market.name)
    bars = bars.assign(timeframe=timeframe).astype({"timeframe": "str"})
    ids = [int(each) for each in bars["instrument_id"].unique()]
    earlier = platform.warehouse.read_bars_around(
        timeframe, ids, bounds[0], OUTLIER_LOOKBACK_BARS, before=True
    )
    return bars, earlier


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _bounds(
    platform: Platform,
    market: MarketSpec,
    timeframe: Timeframe,
    window: tuple[date, date] | None,
) -> tuple[datetime, datetime] | None:
    if window is None:
        with platform.warehouse.connect() as connection:
            row = connection.execute(
                "SELECT max(b.session_date) AS newest FROM market.bars AS b "
                "JOIN public.symbols AS s USING (instrument_id) "
                "WHERE s.market = %s AND b.timeframe = %s",
                [market.name, timeframe],
            ).fetchone()
        if row is None or row["newest"] is None:
            return None
        newest: date = row["newest"]
        window = newest - timedelta(days=UNPARTITIONED_DAYS - 1), newest + timedelta(days=1)
    if timeframe == "1d":
        return datetime.combine(window[0], time(), UTC), datetime.combine(window[1], time(), UTC)
    return get_calendar(market.name).window(*window)


def build_indicators_checks(market: MarketSpec, timeframe: Timeframe) -> dg.AssetChecksDefinition:
    """Return the check that every bar has its indicator row and no row stands without a bar."""
    key = dg.AssetKey([market.name, f"indicators_{timeframe}"])
    partitions = partitions_of(market, timeframe)

    @dg.multi_asset_check(
        name=f"{market.name}_indicators_{timeframe}_checks",
        specs=[
            dg.AssetCheckSpec(
                "one_row_per_bar",
                asset=key,
                description="Every bar has its indicator row, and no row stands without a bar.",
            )
        ],
    )
    def indicators_checks(
        context: dg.AssetCheckExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> Iterator[dg.AssetCheckResult]:
        with failures():
            bounds = _bounds(platform, market, timeframe, window_of_run(context, partitions))
            start, end = bounds or (_EPOCH, _EPOCH)
            bars, total = _unmatched(platform, market, timeframe, start, end)
        yield finding_result(
            key,
            Finding("one_row_per_bar", len(bars), bars[:20]),
            dg.AssetCheckSeverity.ERROR,
            total,
        )

    return indicators_checks


def _unmatched(
    platform: Platform, market: MarketSpec, timeframe: str, start: datetime, end: datetime
) -> tuple[list[dict[str, str]], int]:
    sql = """
        SELECT s.symbol, coalesce(b.ts, i.ts)::text AS ts,
               CASE WHEN b.ts IS NULL THEN 'no bar' ELSE 'no indicators' END AS fault
        FROM (SELECT * FROM market.bars
              WHERE timeframe = %(timeframe)s AND ts >= %(start)s AND ts < %(end)s) AS b
        FULL JOIN (SELECT * FROM market.indicators
              WHERE timeframe = %(timeframe)s AND ts >= %(start)s AND ts < %(end)s) AS i
            USING (instrument_id, ts)
        JOIN public.symbols AS s
            ON s.instrument_id = coalesce(b.instrument_id, i.instrument_id)
            AND s.market = %(market)s
        WHERE i.computed_at IS NULL OR (b.close IS NULL AND NOT EXISTS (
            SELECT 1 FROM market.archive_files AS f
            WHERE f.state = 'released' AND f.market = s.market AND f.timeframe = %(timeframe)s
            AND f.month = date_trunc('month', i.ts AT TIME ZONE 'UTC')::date
        ))
    """
    parameters = {"timeframe": timeframe, "start": start, "end": end, "market": market.name}
    with platform.warehouse.connect() as connection:
        rows = connection.execute(sql, parameters).fetchall()
        count = connection.execute(
            "SELECT count(*) AS n FROM market.indicators AS i JOIN public.symbols AS s "
            "USING (instrument_id) WHERE s.market = %(market)s AND i.timeframe = %(timeframe)s "
            "AND i.ts >= %(start)s AND i.ts < %(end)s",
            parameters,
        ).fetchone()
    return rows, int(count["n"]) if count else 0


def build_completeness_checks(market: MarketSpec, *, daily: bool) -> dg.AssetChecksDefinition:
    """Return the checks of `<market>/completeness`: enough is there, and the ledger adds up."""
    name = "completeness_1d" if daily else "completeness"
    key = dg.AssetKey([market.name, name])
    partitions = partitions_of(market, "1d" if daily else "1m")

    @dg.multi_asset_check(
        name=f"{market.name}_{name}_checks",
        specs=[
            dg.AssetCheckSpec(
                "coverage",
                asset=key,
                description=(
                    "Present and quiet bars are at least 98 % of those that were to be had; "
                    "a warning that lists the worst sessions."
                ),
            ),
            dg.AssetCheckSpec(
                "adds_up",
                asset=key,
                description=(
                    "Expected = present + quiet + excused + missing, each absent bar lies in "
                    "exactly one gap, and the gaps of each reason add up to its column."
                ),
            ),
        ],
    )
    def completeness_checks(
        context: dg.AssetCheckExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> Iterator[dg.AssetCheckResult]:
        window = window_of_run(context, partitions)
        today = platform.now().date()
        start, end = window or (
            today - timedelta(days=UNPARTITIONED_DAYS),
            today + timedelta(days=1),
        )
        with failures(), platform.warehouse.connect() as connection:
            rows = connection.execute(
                "SELECT s.symbol, c.timeframe, c.session_date::text, c.expected, c.missing, "
                "round((100 * c.coverage)::numeric, 2)::float AS coverage_percent, c.reason "
                "FROM quality.completeness AS c JOIN public.symbols AS s USING (instrument_id) "
                "WHERE s.market = %s AND (c.timeframe = '1d') = %s AND c.session_date >= %s "
                "AND c.session_date < %s ORDER BY c.coverage, s.symbol",
                [market.name, daily, start, end],
            ).fetchall()
            wrong = contradictions(platform.warehouse, market.name, start, end, daily=daily)
        low = [row for row in rows if row["coverage_percent"] < 100 * COMPLETENESS_LIMIT]
        yield finding_result(
            key, Finding("coverage", len(low), low[:20]), dg.AssetCheckSeverity.WARN, len(rows)
        )
        yield finding_result(
            key, Finding("adds_up", len(wrong), wrong[:20]), dg.AssetCheckSeverity.ERROR, len(rows)
        )

    return completeness_checks


ASSET_CHECKS: list[dg.AssetChecksDefinition] = [
    *(
        build(market, timeframe)
        for build in (build_bars_checks, build_indicators_checks)
        for market in MARKETS.values()
        for timeframe in TIMEFRAMES
    ),
    *(
        build_completeness_checks(market, daily=daily)
        for market in MARKETS.values()
        for daily in (False, True)
    ),
]
