{{ config(
    materialized="incremental",
    incremental_strategy="delete+insert",
    unique_key=["instrument_id", "timeframe", "session_date"],
    on_schema_change="fail",
) }}

-- depends_on: {{ source("reference", "instruments") }}
-- A session depends on its own bars only, so a changed bar rebuilds its session alone.
with
{% if is_incremental() %}
newest as (
    select
        instrument_id,
        timeframe,
        session_date,
        max(ingested_at) as built_from_ingested_at
    from {{ ref("stg_bars_intraday") }}
    {% if var("changed_since") %}
    where ingested_at >= '{{ var("changed_since") }}'::timestamptz
    {% endif %}
    group by instrument_id, timeframe, session_date
),

arrived as (
    select
        instruments.market,
        instruments.symbol,
        newest.instrument_id,
        newest.timeframe,
        newest.session_date,
        newest.built_from_ingested_at
    from newest
    inner join {{ source("reference", "instruments") }} as instruments
        on newest.instrument_id = instruments.instrument_id
),

changed as materialized (
    {{ changed_rows("arrived", ["instrument_id", "timeframe", "session_date"]) }}
),

-- Session by session through the primary key: the planner cannot know how few sessions change, and
-- its other plans read all bars. `offset 0` holds it to this one. The bounds on ts are wider than a
-- session of any time zone, so that two or three partitions are all there is to read.
bars as (
    select session_bars.*
    from changed
    inner join lateral (
        select intraday.*
        from {{ ref("stg_bars_intraday") }} as intraday
        where
            intraday.instrument_id = changed.instrument_id
            and intraday.timeframe = changed.timeframe
            and intraday.session_date = changed.session_date
            and intraday.ts >= (changed.session_date - 1)::timestamp at time zone 'UTC'
            and intraday.ts < (changed.session_date + 2)::timestamp at time zone 'UTC'
        offset 0 -- noqa: AM09
    ) as session_bars on true
),
{% else %}
bars as (
    select * from {{ ref("stg_bars_intraday") }}
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
