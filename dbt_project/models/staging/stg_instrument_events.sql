-- depends_on: {{ source("catalyst", "catalyst_events") }}
-- The source has a row per event; its instruments lie in a view of the same tables.
select
    market,
    symbol,
    instrument_id,
    catalyst_event_id,
    source,
    source_id,
    type,
    title,
    impact::integer as impact,
    published_at,
    first_tradable_at,
    counts,
    is_sample,
    updated_at
from catalyst.instrument_events
