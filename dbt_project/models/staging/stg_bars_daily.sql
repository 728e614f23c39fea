{% for market in var("markets") -%}
-- depends_on: {{ source(market, "bars_1d") }}
{% endfor %}
-- The sources are views of one table, a market each. The table is read once
-- instead of once a view: with hundreds of monthly partitions, planning the union cost more time
-- than running it.
select
    instruments.market,
    instruments.symbol,
    bars.instrument_id,
    bars.session_date,
    bars.ts,
    bars.open,
    bars.high,
    bars.low,
    bars.close,
    bars.volume,
    bars.vwap,
    bars.trade_count,
    bars.adj_close,
    bars.source,
    bars.source like '%simulated%' as is_simulated,
    bars.is_final,
    bars.ingested_at
from market.bars as bars
inner join {{ source("reference", "instruments") }} as instruments
    on bars.instrument_id = instruments.instrument_id
where bars.timeframe = '1d'
