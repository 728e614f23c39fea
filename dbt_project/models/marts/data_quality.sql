{{ config(
    materialized="incremental",
    incremental_strategy="delete+insert",
    unique_key=["instrument_id", "timeframe", "session_date"],
    on_schema_change="fail",
) }}

-- A row depends on its own completeness and bars only, so a change rebuilds that row alone.
with bars as (
    select
        instrument_id,
        timeframe,
        session_date,
        source,
        is_simulated,
        built_from_ingested_at
    from {{ ref("intraday_session_summary") }}
    union all
    select
        instrument_id,
        '1d' as timeframe,
        session_date,
        source,
        is_simulated,
        built_from_ingested_at
    from {{ ref("daily_bars") }}
),

quality as not materialized (
    select
        completeness.*,
        bars.source,
        coalesce(bars.is_simulated, false) as is_simulated,
        -- greatest() passes over the null of a session without any bar.
        greatest(completeness.updated_at, bars.built_from_ingested_at) as built_from_ingested_at
    from {{ ref("stg_completeness") }} as completeness
    left join bars
        on
            completeness.instrument_id = bars.instrument_id
            and completeness.timeframe = bars.timeframe
            and completeness.session_date = bars.session_date
){% if is_incremental() %},

changed as (
    {{ changed_rows("quality", ["instrument_id", "timeframe", "session_date"]) }}
){% endif %}

select
    quality.market,
    quality.symbol,
    quality.instrument_id,
    quality.timeframe,
    quality.session_date,
    quality.expected,
    quality.present,
    quality.quiet,
    quality.missing,
    quality.feed_down,
    quality.not_fetched,
    quality.refused,
    quality.absent,
    quality.halted,
    quality.outside_history,
    quality.delisted,
    quality.excused,
    quality.unexpected,
    quality.outliers,
    quality.quarantined,
    quality.coverage,
    quality.validity,
    quality.agreement,
    quality.timeliness,
    quality.score,
    quality.reason,
    quality.source,
    quality.is_simulated,
    quality.built_from_ingested_at
from quality
{% if is_incremental() %}
inner join changed
    on
        quality.instrument_id = changed.instrument_id
        and quality.timeframe = changed.timeframe
        and quality.session_date = changed.session_date
{% endif %}
