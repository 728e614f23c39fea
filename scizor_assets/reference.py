"""Reference data: which instruments there are and which of them are collected."""

import dagster as dg

from scizor_assets.common import OWNERS, failures
from scizor_core.errors import InvalidInputError, UnknownMarketError
from scizor_resources.platform import Platform


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


REFERENCE_ASSETS: list[dg.AssetsDefinition] = [instruments, watchlist]
