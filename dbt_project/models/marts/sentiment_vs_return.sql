{% set horizons = {"1h": "1 hour", "1d": "1 day"} -%}
-- depends_on: {{ ref("stg_bars_intraday") }}
-- Nothing of the hour is used before it is over: the entry is a bar that starts after it.
with moments as (
    select distinct
        market,
        instrument_id,
        hour + interval '1 hour' as known_at
    from {{ ref("sentiment_hourly") }}
),

{{ entry_bars("moments", [
    "bars.ts >= moments.known_at",
    "bars.ts <= moments.known_at + interval '5 days'",
]) }},

returns as (
    select
        entries.*,
        {% for name in horizons -%}
        -- Across a split the quotient would be a change of shares, not of price.
        case
            when coalesce(exit_{{ name }}.session_date < splits.next_ex_date, true)
                then exit_{{ name }}.close / nullif(entries.entry_price, 0) - 1
        end as return_{{ name }},
        {% endfor -%}
        next_session.session_date as next_session_date,
        daily.close / nullif(daily.open, 0) - 1 as next_session_return,
        entries.entry_is_simulated
        {% for name in horizons -%}
        or coalesce(exit_{{ name }}.is_simulated, false)
        {% endfor -%}
        or coalesce(daily.is_simulated, false) as is_simulated
    from entries
    {% for name, length in horizons.items() -%}
    left join lateral (
        select
            bars.close,
            bars.session_date,
            bars.source like '%simulated%' as is_simulated
        from market.bars as bars
        where
            entries.bars_until >= entries.entry_ts + interval '{{ length }}'
            and bars.instrument_id = entries.instrument_id
            and bars.timeframe = entries.timeframe
            and bars.ts >= entries.entry_ts
            and bars.ts <= entries.entry_ts + interval '{{ length }}' - entries.length
            and bars.is_final
        order by bars.ts desc
        limit 1
    ) as exit_{{ name }} on true
    {% endfor -%}
    left join lateral (
        select min(actions.ex_date) as next_ex_date
        from {{ source("reference", "corporate_actions") }} as actions
        where
            actions.instrument_id = entries.instrument_id
            and actions.kind = 'split'
            and actions.applied
            and actions.ex_date > entries.entry_session_date
    ) as splits on true
    left join lateral (
        select sessions.session_date
        from {{ source("reference", "sessions") }} as sessions
        where
            sessions.market = entries.market
            and sessions.open_at >= entries.known_at
        order by sessions.open_at
        limit 1
    ) as next_session on true
    left join {{ ref("daily_bars") }} as daily
        on
            entries.instrument_id = daily.instrument_id
            and next_session.session_date = daily.session_date
            and daily.is_final
)

select
    hours.market,
    hours.symbol,
    hours.instrument_id,
    hours.kind,
    hours.hour,
    returns.known_at,
    hours.stories,
    hours.mean_score,
    hours.change,
    returns.timeframe,
    returns.entry_ts,
    returns.entry_price,
    returns.return_1h,
    returns.return_1d,
    returns.next_session_date,
    returns.next_session_return,
    returns.is_simulated,
    hours.is_sample
from {{ ref("sentiment_hourly") }} as hours
inner join returns
    on
        hours.instrument_id = returns.instrument_id
        and hours.hour = returns.known_at - interval '1 hour'
