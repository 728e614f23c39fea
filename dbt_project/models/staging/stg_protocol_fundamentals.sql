select
    protocol,
    protocol_name,
    metric,
    day,
    value_usd,
    is_final,
    source,
    source like 'sample:%' as is_sample,
    point_at,
    observed_at
from {{ source("glass", "protocol_fundamentals") }}
