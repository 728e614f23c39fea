select
    source,
    metric,
    asset,
    asset_id,
    chain,
    resolution,
    ts,
    value,
    is_final,
    source like 'sample:%' as is_sample,
    observed_at
from {{ source("glass", "on_chain_metrics") }}
