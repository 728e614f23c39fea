"""On-chain values as they were known: fundamentals of protocols and chains, and their checks.

Belongs here: the assets of group `glass` and the turning of findings into check results. Not here:
how values are fetched and read (`scizor_resources.providers.defillama`), the judgement itself
(`scizor_core.schemas.fundamentals`).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, date, timedelta
from typing import Any

import dagster as dg
import pandas as pd

from scizor_assets.check_results import (
    check_specs,
    contract_result,
    finding_result,
    wanted_checks,
)
from scizor_assets.common import OWNERS, failures, row_counts
from scizor_assets.ledgers import (
    SOURCES_CHECK,
    SOURCES_DESCRIPTION,
    LedgerConfig,
    ask_sources,
    labelled,
    run_of,
    sources_result,
)
from scizor_assets.partitions import dates_of, day_partitions, window_of_check
from scizor_core.bar_checks import SHOWN_ROWS, Finding
from scizor_core.schemas.fundamentals import (
    ALL_CHAINS,
    chain_keys,
    find_jumps,
    validate_fundamentals,
)
from scizor_core.schemas.on_chain import validate_on_chain
from scizor_resources.collectors import Collector
from scizor_resources.pipeline.accounts import Account
from scizor_resources.platform import Platform
from scizor_resources.providers.defillama.client import FundamentalsBatch
from scizor_resources.stores.fundamentals import FundamentalsWritten
from scizor_resources.stores.restated import RestatedWritten

#: A check that runs on its own, without a partition, looks at this much of the newest data.
UNPARTITIONED_DAYS = 35
_DAY = timedelta(days=1)
_KEY = dg.AssetKey(["glass", "protocol_fundamentals"])
_ON_CHAIN = dg.AssetKey(["glass", "on_chain_metrics"])


@dg.asset(
    key=_KEY,
    partitions_def=day_partitions(),
    # DefiLlama answers with whole histories: many days cost as many calls as one.
    backfill_policy=dg.BackfillPolicy.single_run(),
    group_name="glass",
    kinds={"python", "postgres"},
    owners=OWNERS,
    code_version="1",
    freshness_policy=dg.FreshnessPolicy.time_window(
        fail_window=timedelta(days=3), warn_window=timedelta(days=2)
    ),
    description=(
        "Value locked, fees, revenue and exchange volume of DeFi protocols, value locked and "
        "stablecoin supply of chains (protocol 'chain:ethereum'; 'chain:all' for the supply of "
        "all), per UTC day, in USD, from DefiLlama. Borrowed, pool2, staked and otherwise double "
        "counted value is left out. "
        "A restated value is kept beside the old one; the running day is partial. "
        "SQL: glass.protocol_fundamentals, protocol_fundamentals."
    ),
    metadata={"dagster/table_name": "glass.protocol_fundamentals"},
)
def protocol_fundamentals(
    context: dg.AssetExecutionContext,
    config: LedgerConfig,
    platform: dg.ResourceParam[Platform],
) -> dg.MaterializeResult:  # type: ignore[type-arg]  # generic in stubs only
    """Fetch the days, keep what is new or restated."""
    start, end = dates_of(context.partition_time_window)
    ledgers = platform.ledgers(context.partition_time_window.end)
    settings = platform.settings
    metadata: dict[str, Any] = {}

    def ask(_: Collector, account: Account) -> dict[str, Any]:
        with closing(ledgers.defillama(config.lane)) as llama:
            account.gate = llama.gate
            found = llama.fetch(
                settings.defillama_protocols, start, end, chains=settings.defillama_chains
            )
        account.records = len(found.values)
        quarantined = platform.quality.quarantine(
            "protocol_fundamentals", "crypto", "1d", labelled(found.rejected, ledgers.label)
        )
        written = platform.fundamentals.write(labelled(found.values, ledgers.label))
        if found.failure is not None:
            raise found.failure  # what came is stored; the day is not complete without the rest
        metadata.update(row_counts(len(found.values), context))
        metadata.update(_fundamentals_metadata(found, written))
        metadata["rows_newly_quarantined"] = quarantined
        return {}

    with failures():
        asked = ask_sources(platform, run_of(context, platform), config.sources, ask)
        asked.raise_if_nobody_answered()
    return dg.MaterializeResult(
        metadata={
            **metadata,
            "protocols_asked": dg.MetadataValue.json(list(settings.defillama_protocols)),
            "chains_asked": dg.MetadataValue.json(list(settings.defillama_chains)),
            **asked.metadata(),
        }
    )


def _fundamentals_metadata(
    found: FundamentalsBatch, written: FundamentalsWritten
) -> dict[str, Any]:
    values = found.values
    metadata = {
        **_restated_metadata(values, written),
        "rows_refused": len(found.rejected),
        "series_without_values": dg.MetadataValue.json(found.empty_reasons),
        "series_unknown": dg.MetadataValue.json(found.unknown),
    }
    if values.empty:
        metadata["empty_reason"] = (
            "DefiLlama has no value of these protocols and chains for these days"
        )
    else:
        metadata["first_day"] = values["day"].min().date().isoformat()
        metadata["last_day"] = values["day"].max().date().isoformat()
    return metadata


def _restated_metadata(
    values: pd.DataFrame, written: FundamentalsWritten | RestatedWritten
) -> dict[str, Any]:
    return {
        "rows_new": written.new,
        "rows_restated": written.restated,
        "rows_unchanged": written.unchanged,
        "rows_partial": int((~values["is_final"]).sum()),
    }


@dg.asset(
    key=_ON_CHAIN,
    partitions_def=day_partitions(),
    # Glassnode answers with any range in one call.
    backfill_policy=dg.BackfillPolicy.single_run(),
    group_name="glass",
    kinds={"python", "postgres"},
    owners=OWNERS,
    code_version="1",
    freshness_policy=dg.FreshnessPolicy.time_window(
        fail_window=timedelta(days=3), warn_window=timedelta(days=2)
    ),
    description=(
        "Metrics of coins from Glassnode (SCIZOR_GLASSNODE_METRICS) and what smart money buys and "
        "holds from Nansen, by UTC day. A restated value is kept beside the old one; the running "
        "interval is partial; Nansen shows the present only. "
        "SQL: glass.on_chain_metrics, on_chain_metrics."
    ),
    metadata={"dagster/table_name": "glass.on_chain_metrics"},
)
def on_chain_metrics(
    context: dg.AssetExecutionContext,
    config: LedgerConfig,
    platform: dg.ResourceParam[Platform],
) -> dg.MaterializeResult:  # type: ignore[type-arg]  # generic in stubs only
    """Fetch the days, keep what is new or restated."""
    start, end = dates_of(context.partition_time_window)
    ledgers = platform.ledgers(context.partition_time_window.end)
    settings = platform.settings
    rows = 0

    def ask(collector: Collector, account: Account) -> dict[str, Any]:
        nonlocal rows
        if collector.name == "glassnode":
            with closing(ledgers.glassnode(config.lane)) as glassnode:
                account.gate = glassnode.gate
                found = glassnode.fetch(
                    settings.glassnode_metrics, settings.glassnode_assets, start, end
                )
        else:
            with closing(ledgers.nansen(config.lane)) as nansen:
                account.gate = nansen.gate
                found = nansen.fetch(settings.nansen_chains, end - _DAY)
        account.records = len(found.values)
        quarantined = platform.quality.quarantine(
            "on_chain_metrics", "crypto", "1d", labelled(found.rejected, ledgers.label)
        )
        written = platform.on_chain.write(labelled(found.values, ledgers.label))
        if found.failure is not None:
            raise found.failure  # what came is stored; the day is not complete without the rest
        rows += len(found.values)
        return {
            "rows": len(found.values),
            **_restated_metadata(found.values, written),
            "rows_refused": len(found.rejected),
            "rows_newly_quarantined": quarantined,
            "series_without_values": found.empty_reasons,
            "series_unknown": found.unknown,
            "notes": found.notes,
        }

    with failures():
        asked = ask_sources(platform, run_of(context, platform), config.sources, ask)
        asked.raise_if_nobody_answered()
    metadata = {**row_counts(rows, context), **asked.metadata()}
    if not rows:
        metadata["empty_reason"] = asked.nobody() or "no source has a value of these days"
    return dg.MaterializeResult(metadata=metadata)


_CHECKS: dict[str, str] = {
    SOURCES_CHECK: SOURCES_DESCRIPTION,
    "schema": "Stored values keep the contract of protocol_fundamentals.",
    "freshness": (
        "Each protocol and chain has its value locked of the last day, and its other series have "
        "theirs, fetched after that day was over: a warning that lists those absent or partial."
    ),
    "jumps": (
        "Value locked 1.5 times, stablecoin supply 1.2 times, fees, revenue and volume 10 times "
        "the day before, or as small a part of it: a warning that lists them, largest first. They "
        "are stored as they came."
    ),
}


@dg.multi_asset_check(
    name="glass_protocol_fundamentals_checks",
    specs=check_specs(_KEY, _CHECKS),
    can_subset=True,
)
def protocol_fundamentals_checks(
    context: dg.AssetCheckExecutionContext, platform: dg.ResourceParam[Platform]
) -> Iterator[dg.AssetCheckResult]:
    """Judge the days of the run, or the newest ones; one query serves all checks."""
    today = platform.now().astimezone(UTC).date()
    start, end = window_of_check(context, today, UNPARTITIONED_DAYS, with_today=False)
    with failures():
        read = platform.fundamentals.read(start - timedelta(days=UNPARTITIONED_DAYS), end)
    values = read[read["day"] >= pd.Timestamp(start)].reset_index(drop=True)
    wanted = wanted_checks(context)
    if SOURCES_CHECK in wanted:
        yield sources_result(platform, _KEY)
    if "schema" in wanted:
        yield contract_result(_KEY, validate_fundamentals, values)
    if "freshness" in wanted:
        settings = platform.settings
        expected = _expected(settings.defillama_protocols, settings.defillama_chains)
        yield _warning("freshness", _stale(read, expected, end - _DAY, today), len(values))
    if "jumps" in wanted:
        yield _warning("jumps", find_jumps(read, start), len(values))


def _expected(protocols: Sequence[str], chains: Sequence[str]) -> dict[str, str | None]:
    """Return protocol or chain -> the metric that it always has, None where it has none."""
    always: dict[str, str | None] = dict.fromkeys(protocols, "tvl")
    always |= dict.fromkeys(chain_keys(chains), "chain_tvl")
    return {**always, ALL_CHAINS: None} if chains else always


def _stale(
    values: pd.DataFrame, expected: Mapping[str, str | None], day: date, today: date
) -> list[dict[str, Any]]:
    """Return the series without a value of that day, or, once it is over, only a partial one.

    Every protocol and chain has value locked; its other series are those that have been seen.
    """
    watched = values[values["protocol"].isin(list(expected))]
    last: dict[tuple[str, str], dict[Any, Any]] = {
        (protocol, metric): {} for protocol, metric in expected.items() if metric is not None
    }
    for row in watched.groupby(["protocol", "metric"]).tail(1).to_dict("records"):
        last[row["protocol"], row["metric"]] = row
    found = []
    for (protocol, metric), row in last.items():
        absent = not row or row["day"].date() < day
        if absent or (day < today and not row["is_final"]):
            found.append(
                {
                    "protocol": protocol,
                    "metric": metric,
                    "day": day.isoformat(),
                    "fault": "no value" if absent else "fetched while the day ran",
                    "last_day": row["day"].date().isoformat() if row else None,
                }
            )
    return found


_ON_CHAIN_CHECKS: dict[str, str] = {
    SOURCES_CHECK: SOURCES_DESCRIPTION,
    "schema": "Stored values keep the contract of on_chain_metrics.",
    "freshness": (
        "Each series of Glassnode that has values has a final one of the last day that is over: a "
        "warning that lists those absent or partial."
    ),
}


@dg.multi_asset_check(
    name="glass_on_chain_metrics_checks",
    specs=check_specs(_ON_CHAIN, _ON_CHAIN_CHECKS),
    can_subset=True,
)
def on_chain_metrics_checks(
    context: dg.AssetCheckExecutionContext, platform: dg.ResourceParam[Platform]
) -> Iterator[dg.AssetCheckResult]:
    """Judge the days of the run, or the newest ones; one query serves all checks."""
    today = platform.now().astimezone(UTC).date()
    start, end = window_of_check(context, today, UNPARTITIONED_DAYS, with_today=False)
    with failures():
        read = platform.on_chain.read(start - timedelta(days=UNPARTITIONED_DAYS), end)
    values = read[read["ts"] >= pd.Timestamp(start, tz=UTC)].reset_index(drop=True)
    wanted = wanted_checks(context)
    if SOURCES_CHECK in wanted:
        yield sources_result(platform, _ON_CHAIN)
    if "schema" in wanted:
        yield contract_result(_ON_CHAIN, validate_on_chain, values)
    if "freshness" in wanted:
        day = min(end, today) - _DAY
        yield _warning("freshness", _stale_series(read, day), len(values), _ON_CHAIN)


def _stale_series(values: pd.DataFrame, day: date) -> list[dict[str, Any]]:
    """Return the series of daily values without a final one of that day."""
    daily = values[values["resolution"] == "24h"]
    last = daily.groupby(["source", "metric", "asset"]).tail(1)
    stale = last[(last["ts"] < pd.Timestamp(day, tz=UTC)) | ~last["is_final"]]
    return [
        {
            "source": row["source"],
            "metric": row["metric"],
            "asset": row["asset"],
            "last_day": row["ts"].date().isoformat(),
            "is_final": row["is_final"],
        }
        for row in stale.to_dict("records")
    ]


def _warning(
    name: str, found: list[dict[str, Any]], rows_checked: int, key: dg.AssetKey = _KEY
) -> dg.AssetCheckResult:
    finding = Finding(name, len(found), found[:SHOWN_ROWS])
    return finding_result(key, finding, dg.AssetCheckSeverity.WARN, rows_checked)


GLASS_ASSETS: list[dg.AssetsDefinition] = [protocol_fundamentals, on_chain_metrics]
GLASS_CHECKS: list[dg.AssetChecksDefinition] = [
    protocol_fundamentals_checks,
    on_chain_metrics_checks,
]
