"""What a text said first, since when it is about an instrument; comments that had fallen behind.

Revision ID: 0010
Revises: 0009
Create Date: 2026-11-21
"""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

# An edit time after the first observation is that of a later edit. greatest() passes over nulls.
_COLUMNS = """
ALTER TABLE human.story_items ADD COLUMN first_edited_at timestamptz;
UPDATE human.story_items SET first_edited_at = edited_at WHERE edited_at <= observed_at;
COMMENT ON COLUMN human.story_items.first_edited_at IS
    'edited_at of the version that was seen first, observed_at at the latest; null where it had not been edited.';
ALTER TABLE human.story_instruments ADD COLUMN since timestamptz;
COMMENT ON COLUMN human.story_instruments.since IS
    'When an edit brought the instrument into the text; null where the first version seen names it.';
COMMENT ON TABLE human.story_revisions IS
    'What an edited item said before, until superseded_at. Title and body are emptied with the texts of the item; score and label stay as long as the item.';
"""

_TOLD = """
    i.story_id, i.kind, i.published_at, i.observed_at, i.title, i.url, i.publisher, i.language,
    i.score, i.label, i.confidence, i.scorer, i.text_removed_at IS NOT NULL AS is_text_removed,
    i.source LIKE 'sample:%' AS is_sample
"""
_TOLD_ORDER = "ORDER BY i.story_id, i.published_at, i.source, i.source_id"

_TOLD_STORIES = f"""
CREATE OR REPLACE VIEW human.told_stories AS
SELECT DISTINCT ON (i.story_id) {_TOLD},
    coalesce(first.score, i.score) AS first_score, coalesce(first.label, i.label) AS first_label,
    greatest(i.published_at, i.first_edited_at) AS text_public_at
FROM human.story_items AS i
LEFT JOIN LATERAL (
    SELECT r.score, r.label FROM human.story_revisions AS r
    WHERE r.source = i.source AND r.source_id = i.source_id
    ORDER BY r.superseded_at LIMIT 1
) AS first ON true
WHERE i.deleted_at IS NULL
{_TOLD_ORDER};
COMMENT ON VIEW human.told_stories IS 'Each story as its first source tells it. first_score and first_label are of the first version that was seen, which was public at text_public_at.';
"""  # noqa: S608  # constants of this module

_INSTRUMENT_COLUMNS = """
    s.market, s.symbol, m.instrument_id, t.story_id, t.kind, t.published_at, t.observed_at,
    t.title, t.url, t.publisher, t.language, t.score, t.label, t.confidence, t.scorer,
    t.is_text_removed, t.is_sample, m.certainty, m.how, m.sources, m.source_count
"""
_MENTIONS = """
    SELECT n.instrument_id, max(n.certainty) AS certainty,
           (array_agg(n.how ORDER BY n.certainty DESC, n.source, n.source_id))[1] AS how,
           array_agg(DISTINCT n.source ORDER BY n.source) AS sources, count(*) AS source_count
"""
_ITEMS_OF_STORY = """
    FROM human.story_items AS i
    JOIN human.story_instruments AS n USING (source, source_id)
    WHERE i.story_id = t.story_id AND i.deleted_at IS NULL
    GROUP BY n.instrument_id
"""

_INSTRUMENT_STORIES = f"""
CREATE OR REPLACE VIEW human.instrument_stories AS
SELECT {_INSTRUMENT_COLUMNS},
    t.first_score, t.first_label, greatest(t.text_public_at, m.named_at) AS text_public_at
FROM human.told_stories AS t
JOIN LATERAL (
    {_MENTIONS},
           min(greatest(i.published_at, i.first_edited_at, n.since)) AS named_at
    {_ITEMS_OF_STORY}
) AS m ON true
JOIN public.symbols AS s USING (instrument_id);
COMMENT ON VIEW human.instrument_stories IS 'One row per story and instrument that it is about. At text_public_at the first version, of which first_score and first_label are, was public and named the instrument.';
"""  # noqa: S608  # constants of this module

_COMMENTS = """
COMMENT ON TABLE glass.protocol_fundamental_values IS 'Per protocol or chain ("chain:ethereum"; "chain:all" for all of them) and UTC day, in USD: value locked (without borrowed, pool2, staking and other double counting), fees, revenue and exchange volume of protocols, value locked and stablecoin supply of chains; each as it was known from observed_at on: a restated value is a further row. is_final is false where the day was still running.';
COMMENT ON VIEW glass.protocol_fundamentals IS 'The latest known value of each protocol or chain, metric and UTC day, in USD.';
COMMENT ON VIEW public.protocol_fundamentals IS 'The latest known value of each protocol or chain, metric and UTC day, in USD.';
COMMENT ON TABLE public.symbol_aliases IS 'What texts call an instrument beside its code and name; of coins the symbol is the base currency. Edited by SQL; a symbol without any gets its defaults with the next run, one of several that is deleted stays deleted.';
"""

# As 0003 and 0005 made them.
_VIEWS_BEFORE = f"""
CREATE VIEW human.told_stories AS
SELECT DISTINCT ON (i.story_id) {_TOLD}
FROM human.story_items AS i
WHERE i.deleted_at IS NULL
{_TOLD_ORDER};
COMMENT ON VIEW human.told_stories IS 'Each story as its first source tells it.';
CREATE VIEW human.instrument_stories AS
SELECT {_INSTRUMENT_COLUMNS}
FROM human.told_stories AS t
JOIN LATERAL ({_MENTIONS} {_ITEMS_OF_STORY}) AS m ON true
JOIN public.symbols AS s USING (instrument_id);
COMMENT ON VIEW human.instrument_stories IS 'One row per story and instrument that it is about.';
CREATE VIEW human.all_sentiment AS
SELECT t.*, c.symbols, c.instrument_ids, o.sources, o.source_count, o.updated_at
FROM human.told_stories AS t
CROSS JOIN LATERAL (
    SELECT array_agg(i.source ORDER BY i.source, i.source_id) AS sources,
           count(*) AS source_count, max(i.updated_at) AS updated_at
    FROM human.story_items AS i WHERE i.story_id = t.story_id AND i.deleted_at IS NULL
) AS o
CROSS JOIN LATERAL (
    SELECT array_agg(DISTINCT s.symbol) AS symbols,
           array_agg(DISTINCT s.instrument_id) AS instrument_ids
    FROM human.story_items AS i
    JOIN human.story_instruments AS n USING (source, source_id)
    JOIN public.symbols AS s USING (instrument_id)
    WHERE i.story_id = t.story_id AND i.deleted_at IS NULL
) AS c;
CREATE VIEW human.news_sentiment AS SELECT * FROM human.all_sentiment WHERE kind = 'news';
CREATE VIEW human.social_sentiment AS SELECT * FROM human.all_sentiment WHERE kind = 'social';
COMMENT ON VIEW human.news_sentiment IS 'One row per news story with its sentiment, sources and instruments.';
COMMENT ON VIEW human.social_sentiment IS 'One row per post with its sentiment and instruments.';
CREATE VIEW public.news_sentiment AS SELECT * FROM human.news_sentiment;
CREATE VIEW public.social_sentiment AS SELECT * FROM human.social_sentiment;
"""  # noqa: S608  # constants of this module

_COMMENTS_BEFORE = """
COMMENT ON TABLE glass.protocol_fundamental_values IS 'Value locked (without borrowed, pool2, staking and other double counting), fees, revenue and exchange volume per protocol and UTC day, in USD, each as it was known from observed_at on: a restated value is a further row. is_final is false where the day was still running.';
COMMENT ON VIEW glass.protocol_fundamentals IS 'The latest known value of each protocol, metric and UTC day, in USD.';
COMMENT ON VIEW public.protocol_fundamentals IS 'The latest known value of each protocol, metric and UTC day, in USD.';
COMMENT ON TABLE public.symbol_aliases IS 'What texts call an instrument beside its code and name; of coins the symbol is the base currency. Edited by SQL; defaults that are not there come with the next run.';
COMMENT ON TABLE human.story_revisions IS 'What an edited item said before, until superseded_at.';
"""


def upgrade() -> None:
    for part in (_COLUMNS, _TOLD_STORIES, _INSTRUMENT_STORIES, _COMMENTS):
        op.execute(part)


def downgrade() -> None:
    # Columns of a view cannot be taken away. dbt's staging views read it; the next build of the
    # marts makes them anew.
    op.execute("DROP VIEW human.told_stories CASCADE")
    op.execute("ALTER TABLE human.story_items DROP COLUMN first_edited_at")
    op.execute("ALTER TABLE human.story_instruments DROP COLUMN since")
    op.execute(_VIEWS_BEFORE)
    op.execute(_COMMENTS_BEFORE)
