{% for market in var("markets") -%}
-- depends_on: {{ source(market, "bars_1d") }}
{% endfor %}
-- The sources are views of one table, a market each. The table is read once
-- instead of once a view: with hundreds of monthly partitions, planning the union cost more time
-- than running it.
with zones (market, time_zone) as (
    values ('asx', 'Australia/Sydney'), ('us', 'America/New_York'), ('crypto', 'UTC')
)

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
    bars.ingested_at,
    -- In the shares of which date the prices are: splits that went ex after it are not in them.
    -- The sources that adjust their history are those of scizor_core.adjust.
    case
        when bars.source like '%simulated%' then 'infinity'::date
        when bars.source ~ '^(yahoo|ibkr|finnhub)([-/:]|$)'
            then greatest(bars.session_date, (bars.ingested_at at time zone zones.time_zone)::date)
        else bars.session_date
    end as basis_date
from market.bars as bars
inner join {{ source("reference", "instruments") }} as instruments
    on bars.instrument_id = instruments.instrument_id
left join zones on instruments.market = zones.market
where bars.timeframe = '1d'
