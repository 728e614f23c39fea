-- A change is measured against exactly that many days before, so that a day without a value shows
-- as null, not as another span.
with days as (
    select
        protocol,
        day,
        (array_agg(protocol_name order by observed_at desc, metric asc))[1] as protocol_name,
        max(value_usd) filter (where metric in ('tvl', 'chain_tvl')) as tvl_usd,
        max(value_usd) filter (where metric = 'fees') as fees_usd,
        max(value_usd) filter (where metric = 'revenue') as revenue_usd,
        max(value_usd) filter (where metric = 'dex_volume') as dex_volume_usd,
        max(value_usd) filter (where metric = 'stablecoin_supply') as stablecoin_supply_usd,
        bool_or(not is_final) as is_partial,
        bool_or(is_sample) as is_sample,
        max(observed_at) as observed_at
    from {{ ref("stg_protocol_fundamentals") }}
    group by protocol, day
),

windowed as (
    select
        days.*,
        {% for length in [1, 7, 30] -%}
        first_value(days.tvl_usd) over before_{{ length }} as tvl_before_{{ length }},
        {% endfor -%}
        first_value(days.stablecoin_supply_usd) over before_7 as stablecoin_before_7,
        {% for flow in ["fees", "revenue", "dex_volume"] -%}
        case
            when count(days.{{ flow }}_usd) over last_7 = 7
                then sum(days.{{ flow }}_usd) over last_7
        end as {{ flow }}_7d_usd,
        {% endfor -%}
        case
            when count(days.fees_usd) over previous_7 = 7
                then sum(days.fees_usd) over previous_7
        end as fees_previous_7d_usd
    from days
    window
        {% for length in [1, 7, 30] -%}
        before_{{ length }} as (
            partition by days.protocol order by days.day
            range between interval '{{ length }} days' preceding
            and interval '{{ length }} days' preceding
        ),
        {% endfor -%}
        last_7 as (
            partition by days.protocol order by days.day
            range between interval '6 days' preceding and current row
        ),
        previous_7 as (
            partition by days.protocol order by days.day
            range between interval '13 days' preceding and interval '7 days' preceding
        )
)

select
    protocol,
    protocol_name,
    day,
    tvl_usd,
    tvl_usd / nullif(tvl_before_1, 0) - 1 as tvl_change_1d,
    tvl_usd / nullif(tvl_before_7, 0) - 1 as tvl_change_7d,
    tvl_usd / nullif(tvl_before_30, 0) - 1 as tvl_change_30d,
    fees_usd,
    fees_7d_usd,
    fees_7d_usd / nullif(fees_previous_7d_usd, 0) - 1 as fees_change_7d,
    revenue_usd,
    revenue_7d_usd,
    dex_volume_usd,
    dex_volume_7d_usd,
    stablecoin_supply_usd,
    stablecoin_supply_usd / nullif(stablecoin_before_7, 0) - 1 as stablecoin_change_7d,
    fees_7d_usd / 7 * 365 / nullif(tvl_usd, 0) as fees_to_tvl,
    is_partial,
    is_sample,
    observed_at
from windowed
