"""Prices of exchanges that only show the present: sampled, stored, and marked as sampled."""

from contextlib import closing

import dagster as dg

from scizor_assets.common import OWNERS, failures
from scizor_assets.partitions import day_partitions
from scizor_resources.pipeline.accounts import ProviderRun, sample_run
from scizor_resources.platform import Platform


@dg.asset(
    key=["exchange", "coinspot_prices"],
    partitions_def=day_partitions(),
    group_name="exchange",
    kinds={"python", "postgres"},
    owners=OWNERS,
    code_version="1",
    description=(
        "Prices of CoinSpot, which has no history: each run looks once and keeps the last look of "
        "each five minutes. A day that is over cannot be sampled any more. "
        "SQL: exchange.coinspot_prices, price_data_5min."
    ),
    metadata={"dagster/table_name": "exchange.coinspot_prices"},
)
def coinspot_prices(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult:  # type: ignore[type-arg]  # generic in stubs only
    """Look at CoinSpot's prices once."""
    began = platform.now()
    today = began.date().isoformat()
    if context.partition_key != today:
        reason = f"CoinSpot shows the present only: prices can be sampled for {today} alone"
        return dg.MaterializeResult(metadata={"rows": 0, "empty_reason": reason})
    run = ProviderRun(
        asset=context.asset_key.to_user_string(),
        partition=context.partition_key,
        dagster_run_id=context.op_execution_context.run_id,
        started_at=began,
    )
    with (
        failures(),
        sample_run(platform.providers, "coinspot", run, platform.now) as account,
        closing(platform.coinspot_prices("live")) as prices,
    ):
        account.gate = prices.gate
        found = prices.sample()
        account.records = len(found.samples)
        written = platform.samples.write(found.samples)
        quarantined = platform.quality.quarantine("samples", "crypto", "5m", found.rejected)
    return dg.MaterializeResult(
        metadata={
            "rows": len(found.samples),
            "rows_written": written,
            "rows_refused": len(found.rejected),
            "rows_newly_quarantined": quarantined,
            "symbols": dg.MetadataValue.json(sorted(found.samples["symbol"])),
        }
    )


EXCHANGE_ASSETS: list[dg.AssetsDefinition] = [coinspot_prices]
