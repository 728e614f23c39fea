-- A story counts as it was said first: what an edit makes of it was not known at the time, and a
-- text that was seen only after an edit counts from that edit on. Sums are taken in the order of
-- time: in another order the last digits of a double would differ from one build to the next.
with stories as (
    select
        stories.*,
        date_trunc('hour', stories.text_public_at, 'UTC') as hour
    from {{ ref("stg_instrument_stories") }} as stories
),

hours as (
    select
        market,
        symbol,
        instrument_id,
        kind,
        hour,
        count(*) as stories,
        avg(first_score order by text_public_at, story_id) as mean_score,
        stddev_samp(first_score order by text_public_at, story_id) as dispersion,
        sum(first_score order by text_public_at, story_id) as total_score,
        count(*) filter (where first_label = 'positive') as positive,
        count(*) filter (where first_label = 'negative') as negative,
        bool_or(is_sample) as is_sample
    from stories
    group by market, symbol, instrument_id, kind, hour
),

named as (
    select
        stories.instrument_id,
        stories.kind,
        stories.hour,
        count(distinct names.name) as sources
    from stories
    cross join lateral unnest(stories.sources) as names (name)
    group by stories.instrument_id, stories.kind, stories.hour
),

based as (
    select
        hours.*,
        sum(hours.total_score) over week_before as base_score,
        (sum(hours.stories) over week_before)::bigint as base_stories
    from hours
    window week_before as (
        partition by hours.instrument_id, hours.kind order by hours.hour
        range between interval '168 hours' preceding and interval '1 hour' preceding
    )
)

select
    based.market,
    based.symbol,
    based.instrument_id,
    based.kind,
    based.hour,
    based.stories,
    based.mean_score,
    based.dispersion,
    based.positive,
    based.negative,
    coalesce(named.sources, 0) as sources,
    based.base_score / based.base_stories as base_mean,
    coalesce(based.base_stories, 0) as base_stories,
    based.mean_score - based.base_score / based.base_stories as change,
    based.is_sample
from based
left join named
    on
        based.instrument_id = named.instrument_id
        and based.kind = named.kind
        and based.hour = named.hour
