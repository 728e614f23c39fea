{#-
CTEs `timeframes`, `last_bars` and `entries`: the bar by which each moment is entered.

Bars are looked up one by one through the primary key of market.bars; bounds on ts hold each lookup
to a partition or two. Of several timeframes it is the finest one that the session of the first bar
is stored in. Bars that still run are left out. `entries` has every column of the moments and
timeframe, length, entry_ts, entry_price, entry_session_date, entry_is_simulated, and bars_until:
the end of the last stored bar of that timeframe. All are null where no bar will do.

    moments: CTE with instrument_id
    conditions: SQL conditions on the first bar, `bars.ts` among them bounded from both sides
-#}
{% macro entry_bars(moments, conditions) -%}
timeframes (timeframe, length) as (
    values
    ('1m', interval '1 minute'), ('5m', interval '5 minutes'), ('15m', interval '15 minutes')
),

last_bars as materialized (
    select
        instruments.instrument_id,
        timeframes.timeframe,
        newest.ts + timeframes.length as bars_until
    from (select distinct {{ moments }}.instrument_id from {{ moments }}) as instruments
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
        {{ moments }}.*,
        entry.timeframe,
        entry.length,
        entry.ts as entry_ts,
        entry.open as entry_price,
        entry.session_date as entry_session_date,
        coalesce(entry.is_simulated, false) as entry_is_simulated,
        last_bars.bars_until
    from {{ moments }}
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
                bars.session_date,
                bars.source like '%simulated%' as is_simulated
            from market.bars as bars
            where
                bars.instrument_id = {{ moments }}.instrument_id
                and bars.timeframe = timeframes.timeframe
                {% for condition in conditions -%}
                and {{ condition }}
                {% endfor -%}
                and bars.is_final
            order by bars.ts
            limit 1
        ) as first_bar on true
        order by first_bar.session_date, timeframes.length
        limit 1
    ) as entry on true
    left join last_bars
        on
            {{ moments }}.instrument_id = last_bars.instrument_id
            and entry.timeframe = last_bars.timeframe
)
{%- endmacro %}
