{% for market in var("markets") %}
{% set last_market = loop.last %}
{% for relation in ["completeness", "completeness_1d"] %}
select
    '{{ market }}'::text as market,
    symbol,
    instrument_id,
    timeframe,
    session_date,
    expected,
    present,
    quiet,
    missing,
    feed_down,
    not_fetched,
    refused,
    absent,
    halted,
    outside_history,
    delisted,
    excused,
    unexpected,
    outliers,
    quarantined,
    coverage,
    validity,
    agreement,
    timeliness,
    score,
    reason,
    updated_at
from {{ source(market, relation) }}
{{ "union all" if not (last_market and loop.last) }}
{% endfor %}
{% endfor %}
