{{ config(
    materialized="incremental",
    incremental_strategy="delete+insert",
    unique_key=["instrument_id", "session_date"],
    on_schema_change="fail",
) }}

-- Every window ends at its own session. A changed bar therefore rebuilds its instrument from that
-- session on, and no earlier row.
with daily as not materialized (
    select * from {{ ref("daily_bars") }}
),

{% if is_incremental() %}
changed as (
    {{ changed_rows("daily", ["instrument_id", "session_date"]) }}
),

rebuild as (
    select
        instrument_id,
        min(session_date) as from_session_date
    from changed
    group by instrument_id
),

-- The longest window of the first session to rebuild begins 59 sessions before it.
history as (
    select
        rebuild.instrument_id,
        coalesce(
            (
                select earlier.session_date
                from {{ ref("daily_bars") }} as earlier
                where
                    earlier.instrument_id = rebuild.instrument_id
                    and earlier.session_date < rebuild.from_session_date
                order by earlier.session_date desc
                limit 1 offset 58
            ),
            '-infinity'::date
        ) as from_session_date
    from rebuild
),
{% endif %}

logs as (
    select
        daily.*,
        ln(nullif(greatest(1 + daily.return_adjusted, 0), 0)) as log_return,
        ln(nullif(greatest(daily.high, 0), 0) / nullif(greatest(daily.low, 0), 0)) as log_range,
        {{ sessions_per_year() }} as sessions_per_year
    from daily
    {% if is_incremental() %}
    inner join history
        on
            daily.instrument_id = history.instrument_id
            and daily.session_date >= history.from_session_date
    {% endif %}
),

-- A window with a hole in it is not full: it stays null until the hole has left it.
windowed as (
    select
        logs.*,
        count(logs.log_return) over last_20 as returns_20,
        count(logs.log_return) over last_60 as returns_60,
        count(logs.log_range) over last_20 as ranges_20,
        stddev_samp(logs.log_return) over last_20 as deviation_20,
        stddev_samp(logs.log_return) over last_60 as deviation_60,
        avg(logs.log_range * logs.log_range) over last_20 / (4 * ln(2::double precision))
            as parkinson_variance_20
    from logs
    window
        last_20 as (
            partition by logs.instrument_id order by logs.session_date
            rows between 19 preceding and current row
        ),
        last_60 as (
            partition by logs.instrument_id order by logs.session_date
            rows between 59 preceding and current row
        )
)

select
    windowed.market,
    windowed.symbol,
    windowed.instrument_id,
    windowed.session_date,
    windowed.log_return,
    windowed.sessions_per_year,
    case
        when windowed.returns_20 = 20
            then windowed.deviation_20 * sqrt(windowed.sessions_per_year)
    end as close_to_close_20,
    case
        when windowed.returns_60 = 60
            then windowed.deviation_60 * sqrt(windowed.sessions_per_year)
    end as close_to_close_60,
    case
        when windowed.ranges_20 = 20
            then sqrt(windowed.parkinson_variance_20 * windowed.sessions_per_year)
    end as parkinson_20,
    windowed.is_simulated,
    windowed.is_final,
    windowed.built_from_ingested_at
from windowed
{% if is_incremental() %}
inner join rebuild on windowed.instrument_id = rebuild.instrument_id
where windowed.session_date >= rebuild.from_session_date
{% endif %}
