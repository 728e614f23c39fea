-- depends_on: {{ source("human", "news_sentiment") }}
-- depends_on: {{ source("human", "social_sentiment") }}
-- The sources have a row per story; their instruments lie in a view of the same tables.
select
    stories.market,
    stories.symbol,
    stories.instrument_id,
    stories.story_id,
    stories.kind,
    stories.published_at,
    stories.observed_at,
    stories.score,
    stories.label,
    stories.first_score,
    stories.first_label,
    stories.text_public_at,
    stories.confidence,
    stories.certainty,
    stories.sources,
    stories.is_sample
    or exists (
        select 1 from unnest(stories.sources) as names (name)
        where names.name like 'sample:%'
    ) as is_sample,
    items.updated_at
from human.instrument_stories as stories
inner join (
    select
        story_id,
        max(updated_at) as updated_at
    from human.story_items
    group by story_id
) as items on stories.story_id = items.story_id
