{% set horizons = {"5m": "5 minutes", "30m": "30 minutes", "1h": "1 hour", "1d": "1 day"} -%}
-- depends_on: {{ ref("stg_bars_intraday") }}
-- No bar before the first tradable one is used but for the usual volume. Bars are looked up one by
-- one through the primary key of market.bars; the bounds on ts hold each lookup to a partition or
-- two. Bars that still run are left out. Sums are taken in the order of time: in another order the
-- last digits of a double would differ from one build to the next.
with events as (
    select
        events.*,
        sessions.close_at
    from {{ ref("stg_instrument_events") }} as events
    left join {{ source("reference", "sessions") }} as sessions
        on
            events.market = sessions.market
            and events.first_tradable_at >= sessions.open_at
            and events.first_tradable_at < sessions.close_at
    where events.counts
),

timeframes (timeframe, length) as (
    values
    ('1m', interval '1 minute'), ('5m', interval '5 minutes'), ('15m', interval '15 minutes')
),

last_bars as materialized (
    select
        instruments.instrument_id,
        timeframes.timeframe,
        newest.ts + timeframes.length as bars_until
    from (select distinct events.instrument_id from events) as instruments
    cross join timeframes
    inner join lateral (
        select bars.ts
        from market.bars as bars
        where
            bars.instrument_id = instruments.instrument_id
            and bars.timeframe = timeframes.timeframe
            and bars.is_final
        order by bars.ts desc
        limit 1
    ) as newest on true
),

entries as (
    select
        events.*,
        entry.timeframe,
        entry.length,
        entry.ts as entry_ts,
        entry.open as entry_price,
        entry.session_date as entry_session_date,
        last_bars.bars_until
    from events
    left join lateral (
        select
            timeframes.timeframe,
            timeframes.length,
            first_bar.*
        from timeframes
        inner join lateral (
            select
                bars.ts,
                bars.open,
                bars.session_date
            from market.bars as bars
            where
                bars.instrument_id = events.instrument_id
                and bars.timeframe = timeframes.timeframe
                and bars.ts >= events.first_tradable_at
                and bars.ts < events.close_at
                and bars.is_final
            order by bars.ts
            limit 1
        ) as first_bar on true
        order by timeframes.length
        limit 1
    ) as entry on true
    left join last_bars
        on
            events.instrument_id = last_bars.instrument_id
            and entry.timeframe = last_bars.timeframe
),

measured as (
    select
        entries.*,
        {% for name in horizons -%}
        after_entry.bars_{{ name }},
        after_entry.close_{{ name }},
        after_entry.volume_{{ name }},
        after_entry.session_{{ name }},
        {% endfor -%}
        coalesce(after_entry.is_simulated, false) as is_simulated,
        usual.volume as usual_volume,
        usual.first_session_date as usual_since,
        splits.last_ex_date,
        splits.next_ex_date
    from entries
    left join lateral (
        select
            {% for name, length in horizons.items() -%}
            count(*) filter (where inside_{{ name }}) as bars_{{ name }},
            (array_agg(close order by ts desc) filter (where inside_{{ name }}))[1]
                as close_{{ name }},
            sum(volume order by ts) filter (where inside_{{ name }}) as volume_{{ name }},
            max(session_date) filter (where inside_{{ name }}) as session_{{ name }},
            {% endfor -%}
            bool_or(is_simulated) as is_simulated
        from (
            select
                bars.ts,
                bars.close,
                bars.volume,
                bars.session_date,
                {% for name, length in horizons.items() -%}
                -- Reached, and the bar ends within.
                entries.bars_until >= entries.entry_ts + interval '{{ length }}'
                and bars.ts <= entries.entry_ts + interval '{{ length }}' - entries.length
                    as inside_{{ name }},
                {% endfor -%}
                bars.source like '%simulated%' as is_simulated
            from market.bars as bars
            where
                bars.instrument_id = entries.instrument_id
                and bars.timeframe = entries.timeframe
                and bars.ts >= entries.entry_ts
                and bars.ts < entries.entry_ts + interval '1 day'
                and bars.is_final
        ) as following
    ) as after_entry on true
    left join lateral (
        select
            avg(bars.volume order by bars.ts) as volume,
            min(bars.session_date) as first_session_date
        from market.bars as bars
        where
            bars.instrument_id = entries.instrument_id
            and bars.timeframe = entries.timeframe
            and bars.ts >= entries.entry_ts - interval '5 days'
            and bars.ts < entries.entry_ts
            and bars.is_final
    ) as usual on true
    left join lateral (
        select
            max(actions.ex_date) filter (where actions.ex_date <= entries.entry_session_date)
                as last_ex_date,
            min(actions.ex_date) filter (where actions.ex_date > entries.entry_session_date)
                as next_ex_date
        from {{ source("reference", "corporate_actions") }} as actions
        where
            actions.instrument_id = entries.instrument_id
            and actions.kind = 'split'
            and actions.applied
    ) as splits on true
)

-- Across a split prices and volumes are in other shares, so that nothing is compared.
select
    catalyst_event_id,
    market,
    symbol,
    instrument_id,
    type,
    impact,
    published_at,
    first_tradable_at,
    timeframe,
    entry_ts,
    entry_price,
    {% for name in horizons -%}
    case
        when coalesce(session_{{ name }} < next_ex_date, true)
            then close_{{ name }} / nullif(entry_price, 0) - 1
    end as return_{{ name }},
    case
        when coalesce(session_{{ name }} < next_ex_date, true) then volume_{{ name }}
    end as volume_{{ name }},
    case
        when
            coalesce(session_{{ name }} < next_ex_date, true)
            and coalesce(last_ex_date <= usual_since, true)
            then volume_{{ name }} / nullif(usual_volume * bars_{{ name }}, 0)
    end as volume_ratio_{{ name }},
    {% endfor -%}
    is_simulated,
    is_sample
from measured
