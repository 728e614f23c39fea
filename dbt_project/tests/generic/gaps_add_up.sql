{#- Fails for each row of completeness whose reasons differ from the sums of its gaps. -#}
{% test gaps_add_up(model) %}

{% set columns = {
    "quiet": "no trades",
    "feed_down": "feed down",
    "not_fetched": "not yet fetched",
    "refused": "provider refused",
    "absent": "absent in every source",
    "halted": "halted",
    "outside_history": "outside history",
    "delisted": "delisted",
} %}

with gaps as (
    select
        instrument_id,
        timeframe,
        session_date,
        reason,
        extract(epoch from end_ts - start_ts) / case timeframe
            when '1m' then 60 when '5m' then 300 when '15m' then 900 else 86400
        end as bars
    from quality.gaps
),

summed as (
    select
        instrument_id,
        timeframe,
        session_date,
        {% for column, reason in columns.items() -%}
        coalesce(sum(bars) filter (where reason = '{{ reason }}'), 0) as {{ column }}
        {{- "," if not loop.last }}
        {% endfor %}
    from gaps
    group by instrument_id, timeframe, session_date
)

select completeness.*
from {{ model }} as completeness
left join summed using (instrument_id, timeframe, session_date)
where
    {% for column in columns -%}
    completeness.{{ column }} <> coalesce(summed.{{ column }}, 0)
    {{- " or" if not loop.last }}
    {% endfor %}

{% endtest %}
