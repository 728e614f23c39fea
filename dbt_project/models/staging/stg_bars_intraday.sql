{% for market in var("markets") -%}
{% for timeframe in ["1m", "5m", "15m"] -%}
-- depends_on: {{ source(market, "bars_" ~ timeframe) }}
{% endfor -%}
{% endfor %}
-- The sources are views of one table, a market and timeframe each. The table is read once
-- instead of once a view: with hundreds of monthly partitions, planning the union cost more time
-- than running it.
select
    instruments.market,
    instruments.symbol,
    bars.instrument_id,
    bars.timeframe,
    bars.session_date,
    bars.ts,
    bars.open,
    bars.high,
    bars.low,
    bars.close,
    bars.volume,
    bars.vwap,
    bars.trade_count,
    bars.source,
    bars.source like '%simulated%' as is_simulated,
    bars.is_final,
    bars.ingested_at
from market.bars as bars
inner join {{ source("reference", "instruments") }} as instruments
    on bars.instrument_id = instruments.instrument_id
where bars.timeframe in ('1m', '5m', '15m')
