{{ config(
    materialized="incremental",
    incremental_strategy="delete+insert",
    unique_key=["instrument_id", "session_date"],
    on_schema_change="fail",
) }}

-- A session's figures depend on its own bar and on the one before it. A changed bar therefore
-- rebuilds its instrument from that session on, and nothing else.
with bars as not materialized (
    select
        *,
        ingested_at as built_from_ingested_at,
        coalesce(adj_close, close) as adjusted_close,
        case when adj_close is null then 'none' else source end as adjustment_source
    from {{ ref("stg_bars_daily") }}
),

{% if is_incremental() %}
changed as (
    {{ changed_rows("bars", ["instrument_id", "session_date"]) }}
),

rebuild as (
    select
        instrument_id,
        min(session_date) as from_session_date
    from changed
    group by instrument_id
),
{% endif %}

with_previous as (
    select
        bars.*,
        lag(bars.session_date) over sessions as previous_session_date,
        lag(bars.close) over sessions as previous_close,
        lag(bars.adjusted_close) over sessions as previous_adjusted_close,
        lag(bars.adjustment_source) over sessions as previous_adjustment_source
    from bars
    {% if is_incremental() %}
    where bars.instrument_id in (select rebuild.instrument_id from rebuild)
    {% endif %}
    window sessions as (partition by bars.instrument_id order by bars.session_date)
)

select
    daily.market,
    daily.symbol,
    daily.instrument_id,
    daily.session_date,
    daily.open,
    daily.high,
    daily.low,
    daily.close,
    daily.volume,
    daily.adjusted_close,
    daily.adjustment_source,
    daily.previous_session_date,
    daily.previous_close,
    daily.close / nullif(daily.previous_close, 0) - 1 as return_raw,
    case
        -- Across two bases the quotient would be a change of basis, not of price.
        when daily.adjustment_source = daily.previous_adjustment_source
            then daily.adjusted_close / nullif(daily.previous_adjusted_close, 0) - 1
    end as return_adjusted,
    daily.open / nullif(daily.previous_close, 0) - 1 as gap,
    100 * (daily.high - daily.low) / nullif(daily.open, 0) as range_percent,
    daily.source,
    daily.is_simulated,
    daily.is_final,
    daily.built_from_ingested_at
from with_previous as daily
{% if is_incremental() %}
inner join rebuild on daily.instrument_id = rebuild.instrument_id
where daily.session_date >= rebuild.from_session_date
{% endif %}
