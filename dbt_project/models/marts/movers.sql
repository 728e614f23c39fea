{{ config(
    materialized="incremental",
    incremental_strategy="delete+insert",
    unique_key=["instrument_id", "session_date"],
    on_schema_change="fail",
) }}

-- A bar moves the ranks of its whole market in its session and the volume averages of its
-- instrument after it. A changed bar therefore rebuilds its market from that session on.
with daily as not materialized (
    select * from {{ ref("daily_bars") }}
),

{% if is_incremental() %}
changed as (
    {{ changed_rows("daily", ["instrument_id", "session_date"]) }}
),

rebuild as (
    select
        market,
        min(session_date) as from_session_date
    from changed
    group by market
),
{% endif %}

with_average as (
    select
        daily.*,
        -- The session itself stays out: a jump must not raise the level it is measured by.
        case
            when count(daily.volume) over earlier = 20 then avg(daily.volume) over earlier
        end as average_volume_20
    from daily
    {% if is_incremental() %}
    where daily.market in (select rebuild.market from rebuild)
    {% endif %}
    window earlier as (
        partition by daily.instrument_id
        order by daily.session_date
        rows between 20 preceding and 1 preceding
    )
),

ranked as (
    select
        with_average.*,
        count(with_average.return_adjusted) over session as ranked_instruments,
        rank() over (session order by with_average.return_adjusted desc nulls last) as place_up,
        rank() over (session order by with_average.return_adjusted asc nulls last) as place_down
    from with_average
    {% if is_incremental() %}
    inner join rebuild on with_average.market = rebuild.market
    where with_average.session_date >= rebuild.from_session_date
    {% endif %}
    window session as (partition by with_average.market, with_average.session_date)
)

select
    ranked.market,
    ranked.symbol,
    ranked.instrument_id,
    ranked.session_date,
    ranked.close,
    ranked.previous_session_date,
    ranked.return_adjusted,
    case when ranked.return_adjusted is not null then ranked.place_up end as rank_up,
    case when ranked.return_adjusted is not null then ranked.place_down end as rank_down,
    ranked.ranked_instruments,
    ranked.volume,
    ranked.average_volume_20,
    ranked.volume / nullif(ranked.average_volume_20, 0) as volume_ratio,
    ranked.is_simulated,
    ranked.is_final,
    ranked.built_from_ingested_at
from ranked
