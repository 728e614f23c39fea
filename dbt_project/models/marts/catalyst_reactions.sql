-- Hand-written samples are never averaged with what has happened.
select
    market,
    type,
    is_sample,
    count(*) as cases,
    count(*) filter (where no_entry_reason = 'first bar too late') as cases_late,
    count(*) filter (where no_entry_reason = 'no bar') as cases_without_bar,
    avg(impact)::double precision as mean_impact,
    {% for name in ["5m", "30m", "1h", "1d"] -%}
    count(return_{{ name }}) as cases_{{ name }},
    avg(return_{{ name }} order by catalyst_event_id, instrument_id) as mean_return_{{ name }},
    percentile_cont(0.5) within group (order by return_{{ name }}) as median_return_{{ name }},
    stddev_samp(return_{{ name }} order by catalyst_event_id, instrument_id)
        as stddev_return_{{ name }},
    count(*) filter (where return_{{ name }} > 0)::double precision
    / nullif(count(return_{{ name }}), 0) as share_up_{{ name }},
    avg(volume_ratio_{{ name }} order by catalyst_event_id, instrument_id)
        as mean_volume_ratio_{{ name }},
    {% endfor -%}
    bool_or(is_simulated) as is_simulated
from {{ ref("catalyst_event_reactions") }}
group by market, type, is_sample
