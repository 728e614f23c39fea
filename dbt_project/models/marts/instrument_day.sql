{{ config(
    materialized="incremental",
    incremental_strategy="delete+insert",
    unique_key=["instrument_id", "session_date"],
    on_schema_change="fail",
) }}

{% set indicators = [
    "sma_20", "sma_50", "sma_200", "ema_20", "rsi_14", "macd", "macd_signal", "bb_percent",
    "atr_14", "adx_14", "obv", "volume_sma_20",
] -%}
{% set kinds = ["news", "social"] -%}
{% set values = [
    "session_open_at", "session_close_at", "open", "high", "low", "close", "volume", "return_raw",
    "return_adjusted", "close_adjusted",
] + indicators + [
    "news_stories", "news_mean_score", "news_dispersion", "news_first_at", "social_stories",
    "social_mean_score", "social_dispersion", "social_first_at", "events", "max_impact",
    "event_types", "events_first_at", "on_chain", "completeness_score", "source", "is_simulated",
    "is_sample", "is_final",
] -%}
-- depends_on: {{ ref("stg_on_chain_metrics") }}
-- A row holds what was known at its session's close. Stories, events and metrics can change, move
-- to another session or go, which a newest stamp does not always show, and a return changes with
-- the bar before: a row is built again when its stamp or any of its values is another.
--
-- A story belongs to the first session that closes at or after its text was public, with the score
-- that the text had first.
with placed_stories as (
    select
        stories.*,
        closing.session_date
    from {{ ref("stg_instrument_stories") }} as stories
    inner join lateral (
        select sessions.session_date
        from {{ source("reference", "sessions") }} as sessions
        where
            sessions.market = stories.market
            and sessions.close_at >= stories.text_public_at
        order by sessions.close_at
        limit 1
    ) as closing on true
),

stories as (
    select
        instrument_id,
        session_date,
        {% for kind in kinds -%}
        count(*) filter (where kind = '{{ kind }}') as {{ kind }}_stories,
        avg(first_score order by text_public_at, story_id) filter (where kind = '{{ kind }}')
            as {{ kind }}_mean_score,
        stddev_samp(first_score order by text_public_at, story_id)
        filter (where kind = '{{ kind }}')
            as {{ kind }}_dispersion,
        min(published_at) filter (where kind = '{{ kind }}') as {{ kind }}_first_at,
        {% endfor -%}
        bool_or(is_sample) as is_sample,
        max(updated_at) as updated_at
    from placed_stories
    group by instrument_id, session_date
),

events as (
    select
        events.instrument_id,
        sessions.session_date,
        count(*) as events,
        max(events.impact) as max_impact,
        array_agg(distinct events.type order by events.type) as event_types,
        min(events.published_at) as events_first_at,
        bool_or(events.is_sample) as is_sample,
        max(events.updated_at) as updated_at
    from {{ ref("stg_instrument_events") }} as events
    inner join {{ source("reference", "sessions") }} as sessions
        on
            events.market = sessions.market
            and events.first_tradable_at >= sessions.open_at
            and events.first_tradable_at < sessions.close_at
    where events.counts
    group by events.instrument_id, sessions.session_date
),

-- What was known at the close of the next day's session, which for coins is the UTC day. Values
-- that were fetched later, as all history is, stand for those of the time: of them the earliest.
observed_metrics as (
    select
        asset,
        metric,
        resolution,
        ts,
        value,
        observed_at,
        source like 'sample:%' as is_sample,
        (ts at time zone 'UTC')::date as day,
        observed_at <= ((ts at time zone 'UTC')::date + 2)::timestamp at time zone 'UTC'
            as in_time
    from glass.on_chain_metric_values
    where
        source in ('glassnode', 'sample:glassnode')
        and resolution <> 'snapshot'
        and is_final
),

-- Of each metric the last interval of the day, of a coin's own answers before samples.
known_metrics as (
    select distinct on (asset, metric, day)
        asset,
        metric,
        value,
        is_sample,
        observed_at,
        day
    from observed_metrics
    order by
        asset asc,
        metric asc,
        day asc,
        is_sample asc,
        ts desc,
        resolution asc,
        in_time desc,
        case when in_time then observed_at end desc,
        observed_at asc
),

on_chain as (
    select
        asset,
        day,
        jsonb_object_agg(metric, value) as metrics,
        bool_or(is_sample) as is_sample,
        max(observed_at) as observed_at
    from known_metrics
    group by asset, day
),

{% if is_incremental() %}
-- Retention takes away the oldest stories and events; a row that was built from one of those stays
-- as it was built.
kept_since as (
    select
        coalesce(min(published_at) filter (where kind = 'news'), 'infinity') as news,
        coalesce(min(published_at) filter (where kind = 'social'), 'infinity') as social,
        (
            select coalesce(min(events.published_at), 'infinity')
            from public.catalyst_events as events
        ) as events
    from human.story_items
),
{% endif %}

wide as materialized (
    select
        daily.market,
        daily.symbol,
        daily.instrument_id,
        daily.session_date,
        sessions.open_at as session_open_at,
        sessions.close_at as session_close_at,
        daily.open,
        daily.high,
        daily.low,
        daily.close,
        daily.volume,
        daily.return_raw,
        daily.return_adjusted,
        daily.close_adjusted,
        {% for indicator in indicators -%}
        indicators.{{ indicator }},
        {% endfor -%}
        {% for kind in kinds -%}
        {{ kept_or(kind, kind ~ "_stories", "coalesce(stories." ~ kind ~ "_stories, 0)") }},
        {{ kept_or(kind, kind ~ "_mean_score", "stories." ~ kind ~ "_mean_score") }},
        {{ kept_or(kind, kind ~ "_dispersion", "stories." ~ kind ~ "_dispersion") }},
        {{ kept_or(kind, kind ~ "_first_at", "stories." ~ kind ~ "_first_at") }},
        {% endfor -%}
        {{ kept_or("events", "events", "coalesce(events.events, 0)") }},
        {{ kept_or("events", "max_impact", "events.max_impact") }},
        {{ kept_or("events", "event_types", "coalesce(events.event_types, array[]::text[])") }},
        {{ kept_or("events", "events_first_at", "events.events_first_at") }},
        {{ kept_or("on_chain", "on_chain", "on_chain.metrics") }},
        quality.score as completeness_score,
        daily.source,
        daily.is_simulated,
        {% if is_incremental() -%}
        (built.is_sample and (keeps.news or keeps.social or keeps.events or keeps.on_chain)) is true
        or {% endif -%}
        coalesce(stories.is_sample, false)
        or coalesce(events.is_sample, false)
        or coalesce(on_chain.is_sample, false) as is_sample,
        daily.is_final,
        -- greatest() passes over nulls.
        greatest(
            daily.built_from_ingested_at,
            sessions.updated_at,
            indicators.computed_at,
            stories.updated_at,
            events.updated_at,
            on_chain.observed_at,
            quality.built_from_ingested_at
        ) as built_from_ingested_at
    from {{ ref("daily_bars") }} as daily
    left join {{ source("reference", "sessions") }} as sessions
        on daily.market = sessions.market and daily.session_date = sessions.session_date
    left join {{ ref("stg_indicators") }} as indicators
        on
            daily.instrument_id = indicators.instrument_id
            and indicators.timeframe = '1d'
            and daily.session_date::timestamp at time zone 'UTC' = indicators.ts
    left join {{ ref("data_quality") }} as quality
        on
            daily.instrument_id = quality.instrument_id
            and quality.timeframe = '1d'
            and daily.session_date = quality.session_date
    left join stories
        on
            daily.instrument_id = stories.instrument_id
            and daily.session_date = stories.session_date
    left join events
        on
            daily.instrument_id = events.instrument_id
            and daily.session_date = events.session_date
    left join on_chain
        on
            daily.market = 'crypto'
            and split_part(daily.symbol, '/', 1) = on_chain.asset
            and daily.session_date - 1 = on_chain.day
    {% if is_incremental() %}
    left join {{ this }} as built
        on
            daily.instrument_id = built.instrument_id
            and daily.session_date = built.session_date
    cross join kept_since
    left join lateral (
        select
            built.news_first_at < kept_since.news as news,
            built.social_first_at < kept_since.social as social,
            built.events_first_at < kept_since.events as events,
            on_chain.metrics is null and built.on_chain is not null as on_chain
    ) as keeps on true
    {% endif %}
){% if is_incremental() %},

changed as (
    {{ changed_rows("wide", ["instrument_id", "session_date"]) }}
    union distinct
    select
        wide.market,
        wide.instrument_id,
        wide.session_date
    from wide
    inner join {{ this }} as built
        on
            wide.instrument_id = built.instrument_id
            and wide.session_date = built.session_date
    where
        wide.market is distinct from built.market
        {% for value in values -%}
        or wide.{{ value }} is distinct from built.{{ value }}
        {% endfor %}
){% endif %}

select
    wide.market,
    wide.symbol,
    wide.instrument_id,
    wide.session_date,
    {% for value in values -%}
    wide.{{ value }},
    {% endfor -%}
    wide.built_from_ingested_at
from wide
{% if is_incremental() %}
inner join changed
    on wide.instrument_id = changed.instrument_id and wide.session_date = changed.session_date
{% endif %}
