{% set horizons = {"5m": "5 minutes", "30m": "30 minutes", "1h": "1 hour", "1d": "1 day"} -%}
{% set latest_entry = "30 minutes" -%}
-- depends_on: {{ ref("stg_bars_intraday") }}
-- No bar before the first tradable one is used but for the usual volume. A first bar that comes
-- late, for others are missing, says nothing of the reaction: there is no entry then. Sums are
-- taken in the order of time: in another order the last digits of a double would differ from one
-- build to the next.
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

{{ entry_bars("events", [
    "bars.ts >= events.first_tradable_at",
    "bars.ts <= events.first_tradable_at + interval '" ~ latest_entry ~ "'",
    "bars.ts < events.close_at",
]) }},

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
        case
            when entries.entry_ts is not null then null
            when
                exists (
                    select 1
                    from timeframes
                    inner join market.bars as bars
                        on
                            entries.instrument_id = bars.instrument_id
                            and timeframes.timeframe = bars.timeframe
                    where
                        bars.ts > entries.first_tradable_at + interval '{{ latest_entry }}'
                        and bars.ts < entries.close_at
                        and bars.is_final
                )
                then 'first bar too late'
            else 'no bar'
        end as no_entry_reason,
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
    no_entry_reason,
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
