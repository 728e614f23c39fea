{{ config(
    materialized="incremental",
    incremental_strategy="delete+insert",
    unique_key=["instrument_id", "timeframe", "session_date"],
    on_schema_change="fail",
) }}

-- A session depends on its own bars only, so a changed bar rebuilds its session alone.
with bars as not materialized (
    select * from {{ ref("stg_bars_intraday") }}
),

{% if is_incremental() %}
arrived as (
    select
        market,
        symbol,
        instrument_id,
        timeframe,
        session_date,
        max(ingested_at) as built_from_ingested_at
    from bars
    group by market, symbol, instrument_id, timeframe, session_date
),

changed as (
    {{ changed_rows("arrived", ["instrument_id", "timeframe", "session_date"]) }}
),
{% endif %}

measured as (
    select
        bars.*,
        (bars.high + bars.low + bars.close) / 3 as typical_price,
        ln(
            nullif(greatest(bars.close, 0), 0)
            / nullif(greatest(lag(bars.close) over in_order, 0), 0)
        ) as log_return,
        min(bars.ts) over whole as first_ts,
        max(bars.ts) over whole as last_ts,
        max(bars.high) over whole as session_high,
        min(bars.low) over whole as session_low
    from bars
    {% if is_incremental() %}
    inner join changed
        on
            bars.instrument_id = changed.instrument_id
            and bars.timeframe = changed.timeframe
            and bars.session_date = changed.session_date
    {% endif %}
    window
        whole as (partition by bars.instrument_id, bars.timeframe, bars.session_date),
        in_order as (
            partition by bars.instrument_id, bars.timeframe, bars.session_date order by bars.ts
        )
),

-- Sums are taken in the order of time: in another order the last digits of a double would differ
-- from one build to the next.
summed as (
    select
        market,
        symbol,
        instrument_id,
        timeframe,
        session_date,
        min(open) filter (where ts = first_ts) as open,
        max(high) as high,
        min(low) as low,
        min(close) filter (where ts = last_ts) as close,
        sum(volume order by ts) as volume,
        sum(volume * coalesce(vwap, typical_price) order by ts) as turnover,
        count(*) filter (where volume > 0) as traded_bars,
        count(vwap) filter (where volume > 0) as traded_bars_with_vwap,
        count(*) as bars,
        min(ts) as first_ts,
        max(ts) as last_ts,
        sqrt(sum(log_return * log_return order by ts)) as realised_volatility,
        min(ts) filter (where high = session_high) as high_ts,
        min(ts) filter (where low = session_low) as low_ts,
        array_agg(distinct source) as sources,
        bool_or(is_simulated) as is_simulated,
        bool_and(is_final) as is_final,
        max(ingested_at) as built_from_ingested_at
    from measured
    group by market, symbol, instrument_id, timeframe, session_date
)

select
    market,
    symbol,
    instrument_id,
    timeframe,
    session_date,
    open,
    high,
    low,
    close,
    volume,
    turnover / nullif(volume, 0) as vwap,
    case
        when traded_bars = 0 then 'none'
        when traded_bars_with_vwap = traded_bars then 'bar_vwap'
        when traded_bars_with_vwap = 0 then 'typical_price'
        else 'mixed'
    end as vwap_basis,
    bars,
    first_ts,
    last_ts,
    realised_volatility,
    high_ts,
    low_ts,
    (
        -- The source of a derived bar can itself be several, as in "simulated+yahoo".
        select string_agg(distinct parts.part, '+' order by parts.part)
        from unnest(summed.sources) as names (name)
        cross join lateral unnest(string_to_array(names.name, '+')) as parts (part)
    ) as source,
    is_simulated,
    is_final,
    built_from_ingested_at
from summed
