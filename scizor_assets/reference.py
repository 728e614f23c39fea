"""Reference data: which instruments there are, which are collected, what becomes of them."""

from dataclasses import asdict
from datetime import UTC, timedelta
from typing import Any

import dagster as dg

from scizor_assets.common import OWNERS, SymbolsConfig, failures
from scizor_core.errors import InvalidInputError, UnknownMarketError
from scizor_core.markets import MARKETS
from scizor_core.sessions import get_calendar
from scizor_resources.pipeline.actions import ActionsReport
from scizor_resources.platform import Platform

#: How far the table of sessions reaches; calendars of exchanges know about a year.
_SESSIONS_AHEAD = timedelta(days=366)


@dg.asset(
    key=["reference", "instruments"],
    group_name="reference",
    kinds={"python", "postgres"},
    owners=OWNERS,
    metadata={"dagster/table_name": "reference.instruments"},
)
def instruments(platform: dg.ResourceParam[Platform]) -> dg.MaterializeResult:  # type: ignore[type-arg]  # generic in stubs only
    """Every instrument with its dated listings; the ASX portfolio is seeded where it is absent."""
    with failures():
        created = platform.reference.seed()
        with platform.warehouse.connect() as connection:
            rows = connection.execute(
                "SELECT market, status, count(*) AS n FROM public.symbols "
                "GROUP BY 1, 2 ORDER BY 1, 2"
            ).fetchall()
            delisted = connection.execute(
                "SELECT symbol, delisted_on::text, successor FROM public.symbols "
                "WHERE status = 'delisted' ORDER BY symbol"
            ).fetchall()
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": sum(row["n"] for row in rows),
            "created": created,
            "by_market": dg.MetadataValue.json(
                {f"{row['market']} {row['status']}": row["n"] for row in rows}
            ),
            "delisted": dg.MetadataValue.json(delisted),
        }
    )


@dg.asset(
    key=["reference", "watchlist"],
    deps=[instruments],
    group_name="reference",
    kinds={"python", "postgres"},
    owners=OWNERS,
    metadata={"dagster/table_name": "reference.watchlist"},
)
def watchlist(platform: dg.ResourceParam[Platform]) -> dg.MaterializeResult:  # type: ignore[type-arg]  # generic in stubs only
    """What is collected; every symbol on it that is not known yet becomes an instrument."""
    with failures():
        entries = platform.reference.watchlist()
        created, unusable = [], {}
        for entry in entries:
            # Rows come by SQL too; one that cannot be collected must not stop the others.
            try:
                _, is_new = platform.reference.ensure(entry.market, entry.symbol)
            except (InvalidInputError, UnknownMarketError) as error:
                unusable[f"{entry.market} {entry.symbol}"] = str(error)
            else:
                created += [entry.symbol] * is_new
    tiers: dict[str, int] = {}
    for entry in entries:
        tier = f"{entry.market} tier {entry.priority}"
        tiers[tier] = tiers.get(tier, 0) + 1
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": len(entries),
            "active": sum(entry.active for entry in entries),
            "tiers": dg.MetadataValue.json(tiers),
            "instruments_created": dg.MetadataValue.json(created),
            "unusable": dg.MetadataValue.json(unusable),
        }
    )


@dg.asset(
    key=["reference", "corporate_actions"],
    deps=[watchlist],
    group_name="reference",
    kinds={"python", "postgres"},
    owners=OWNERS,
    metadata={"dagster/table_name": "reference.corporate_actions"},
)
def corporate_actions(
    context: dg.AssetExecutionContext,
    config: SymbolsConfig,
    platform: dg.ResourceParam[Platform],
) -> dg.MaterializeResult:  # type: ignore[type-arg]  # generic in stubs only
    """Splits and cash dividends of the watched equities, as their providers report them.

    Of each action one report counts; adjusted series are computed from those. Bars that a
    provider has rewritten after a split are collected again, the old ones stay in
    market.bar_revisions. A code that no provider knows any more is reported.
    """
    with failures():
        report = platform.action_collector().collect(
            config.symbols, dagster_run_id=context.run.run_id
        )
        if report.last_error is not None and not report.answers:
            raise report.last_error
    return dg.MaterializeResult(metadata=_metadata(report))


def _metadata(report: ActionsReport) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "symbols_asked": len(report.asked),
        "actions_received": dg.MetadataValue.json(report.received),
        "rows_inserted": report.written.inserted,
        "rows_changed": report.written.changed,
    }
    findings: dict[str, Any] = {
        "newly_not_applied": report.not_applied,
        "ranges_collected_again": [
            {name: str(value) for name, value in asdict(each).items()} for each in report.refetched
        ],
        "not_yet_rewritten": report.unchanged,
        "listings_in_doubt": report.doubtful,
        "unit_errors": report.unit_errors,
        "unknown_to_a_provider": report.unknown,
        "provider_failures": report.failures,
    }
    metadata |= {name: dg.MetadataValue.json(each) for name, each in findings.items() if each}
    if not report.asked:
        metadata["empty_reason"] = "no equity is on the watchlist"
    elif not report.received:
        metadata["empty_reason"] = "no provider of the chains knows of corporate actions"
    return metadata


@dg.asset(
    key=["reference", "sessions"],
    group_name="reference",
    kinds={"python", "postgres"},
    owners=OWNERS,
    metadata={"dagster/table_name": "reference.sessions"},
)
def sessions(platform: dg.ResourceParam[Platform]) -> dg.MaterializeResult:  # type: ignore[type-arg]  # generic in stubs only
    """Sessions of every market from the first daily partition to about a year ahead, UTC.

    From the calendars that place bars, with their corrections. SQL joins news and events to bars
    by them. A session that is as it was is not touched.
    """
    start = platform.settings.daily_start.replace(day=1)
    end = platform.now().astimezone(UTC).date() + _SESSIONS_AHEAD
    with failures():
        found = {market: get_calendar(market).sessions(start, end) for market in MARKETS}
        written = platform.sessions.write(found)
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": sum(map(len, found.values())),
            "rows_new": written.new,
            "rows_corrected": written.corrected,
            "rows_deleted": written.deleted,
            "by_market": dg.MetadataValue.json(
                {market: len(each) for market, each in found.items()}
            ),
            "last_sessions": dg.MetadataValue.json(
                {market: each[-1].session_date.isoformat() for market, each in found.items()}
            ),
        }
    )


REFERENCE_ASSETS: list[dg.AssetsDefinition] = [
    instruments,
    watchlist,
    corporate_actions,
    sessions,
]
