"""Why every absent minute is absent: reasons, repair, outages, halts, and the score's parts.

Revision ID: 0009
Revises: 0008
Create Date: 2026-11-21
"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

MARKETS = ("asx", "us", "crypto")

_REASONS = (
    "'no trades', 'feed down', 'halted', 'not yet fetched', 'provider refused', "
    "'outside history', 'delisted', 'absent in every source'"
)

_GAPS = f"""
ALTER TABLE quality.gaps
    ADD COLUMN detail text NOT NULL DEFAULT '',
    ADD COLUMN status text NOT NULL DEFAULT 'explained'
        CHECK (status IN ('open', 'explained', 'given up')),
    ADD COLUMN attempts integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    ADD COLUMN last_attempt_at timestamptz,
    ADD COLUMN next_attempt_at timestamptz,
    ADD CONSTRAINT gaps_reason CHECK (reason IN ({_REASONS})),
    ADD CONSTRAINT gaps_next_attempt CHECK ((status = 'open') = (next_attempt_at IS NOT NULL));
CREATE INDEX gaps_due ON quality.gaps (next_attempt_at) WHERE status = 'open';
CREATE INDEX gaps_session ON quality.gaps (timeframe, session_date);
COMMENT ON COLUMN quality.gaps.status IS
    'open: will be asked for again at next_attempt_at; explained: nothing is missing; given up: asked for as often as it makes sense.';
COMMENT ON COLUMN quality.gaps.detail IS 'What the provider said, or who reported the halt or outage.';

CREATE TABLE quality.closed_gaps (
    closed_gap_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    instrument_id integer NOT NULL,
    timeframe text COLLATE "C" NOT NULL,
    session_date date NOT NULL,
    start_ts timestamptz NOT NULL,
    end_ts timestamptz NOT NULL,
    reason text NOT NULL,
    detail text NOT NULL DEFAULT '',
    attempts integer NOT NULL,
    detected_at timestamptz NOT NULL,
    closed_at timestamptz NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('repaired', 'explained')),
    CHECK (end_ts > start_ts)
);
CREATE INDEX closed_gaps_time ON quality.closed_gaps (closed_at);
CREATE INDEX closed_gaps_bar ON quality.closed_gaps (instrument_id, timeframe, start_ts);
COMMENT ON TABLE quality.closed_gaps IS
    'Gaps that somebody had asked for and that are none any more: bars have come (repaired) or a reason that needs no bars (explained). Gaps that were merely not yet fetched leave no row.';

CREATE TABLE quality.outages (
    outage_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    feed text NOT NULL,
    market text NOT NULL,
    instrument_id integer,
    start_ts timestamptz NOT NULL,
    end_ts timestamptz,
    reason text NOT NULL,
    detail text NOT NULL DEFAULT '',
    CHECK (end_ts >= start_ts)
);
CREATE UNIQUE INDEX outages_start
ON quality.outages (feed, market, coalesce(instrument_id, 0), start_ts);
CREATE UNIQUE INDEX outages_open
ON quality.outages (feed, market, coalesce(instrument_id, 0)) WHERE end_ts IS NULL;
COMMENT ON TABLE quality.outages IS
    'When a feed did not deliver; end_ts is null while it lasts, instrument_id is null where it concerns the whole market.';

CREATE TABLE quality.halts (
    instrument_id integer NOT NULL REFERENCES public.symbols ON DELETE CASCADE,
    start_ts timestamptz NOT NULL,
    end_ts timestamptz,
    source text NOT NULL,
    note text NOT NULL DEFAULT '',
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (instrument_id, start_ts, source),
    CHECK (end_ts > start_ts)
);
COMMENT ON TABLE quality.halts IS
    'Trading halts and suspensions [start_ts, end_ts), null while they last; from feeds, or written by a person.';
"""

_COMPLETENESS = """
ALTER TABLE quality.completeness
    ADD COLUMN feed_down integer NOT NULL DEFAULT 0,
    ADD COLUMN halted integer NOT NULL DEFAULT 0,
    ADD COLUMN not_fetched integer NOT NULL DEFAULT 0,
    ADD COLUMN refused integer NOT NULL DEFAULT 0,
    ADD COLUMN outside_history integer NOT NULL DEFAULT 0,
    ADD COLUMN delisted integer NOT NULL DEFAULT 0,
    ADD COLUMN absent integer NOT NULL DEFAULT 0,
    ADD COLUMN excused integer GENERATED ALWAYS AS (halted + outside_history + delisted) STORED,
    ADD COLUMN validity double precision NOT NULL DEFAULT 1,
    ADD COLUMN agreement double precision NOT NULL DEFAULT 1,
    ADD COLUMN timeliness double precision NOT NULL DEFAULT 1;
UPDATE quality.completeness SET
    not_fetched = CASE WHEN present = 0 THEN missing ELSE 0 END,
    absent = CASE WHEN present = 0 THEN 0 ELSE missing END;
ALTER TABLE quality.completeness
    DROP CONSTRAINT completeness_check,
    ADD CONSTRAINT completeness_adds_up CHECK (
        expected = present + quiet + halted + outside_history + delisted + missing
    ),
    ADD CONSTRAINT completeness_missing CHECK (
        missing = feed_down + not_fetched + refused + absent
    );
COMMENT ON TABLE quality.completeness IS
    'Per instrument, timeframe and session: bars expected from the calendar = present + quiet (no trades) + excused (halted, outside every history, delisted) + missing (feed down, not yet fetched, refused, absent in every source).';
"""


def upgrade() -> None:
    op.execute(_GAPS)
    op.execute(_COMPLETENESS)
    _views()


def _views() -> None:
    """Show the new columns: a view keeps the columns that `c.*` meant when it was made."""
    for market in MARKETS:
        for name, condition in (
            ("completeness", "c.timeframe <> '1d'"),
            ("completeness_1d", "c.timeframe = '1d'"),
        ):
            op.execute(f"""
                CREATE OR REPLACE VIEW {market}.{name} AS
                SELECT s.symbol, c.*
                FROM quality.completeness AS c JOIN public.symbols AS s USING (instrument_id)
                WHERE s.market = '{market}' AND {condition};
            """)
        op.execute(f"""
            CREATE VIEW {market}.gaps AS
            SELECT s.symbol, g.*
            FROM quality.gaps AS g JOIN public.symbols AS s USING (instrument_id)
            WHERE s.market = '{market}';
        """)


def downgrade() -> None:
    for market in MARKETS:
        op.execute(f"DROP VIEW IF EXISTS {market}.gaps")
        # dbt's staging views read them; the next build of the marts makes them anew.
        op.execute(f"DROP VIEW {market}.completeness CASCADE")
        op.execute(f"DROP VIEW {market}.completeness_1d CASCADE")
    for table in ("halts", "outages", "closed_gaps"):
        op.execute(f"DROP TABLE quality.{table}")
    op.execute("DELETE FROM quality.gaps WHERE reason <> 'no trades'")
    op.execute("""
        ALTER TABLE quality.gaps
            DROP CONSTRAINT gaps_next_attempt, DROP CONSTRAINT gaps_reason,
            DROP COLUMN detail, DROP COLUMN status, DROP COLUMN attempts,
            DROP COLUMN last_attempt_at, DROP COLUMN next_attempt_at;
        DROP INDEX quality.gaps_session;
        ALTER TABLE quality.completeness
            DROP CONSTRAINT completeness_adds_up, DROP CONSTRAINT completeness_missing,
            DROP COLUMN excused;
        UPDATE quality.completeness SET
            expected = expected - halted - outside_history - delisted;
        ALTER TABLE quality.completeness
            DROP COLUMN feed_down, DROP COLUMN halted, DROP COLUMN not_fetched,
            DROP COLUMN refused, DROP COLUMN outside_history, DROP COLUMN delisted,
            DROP COLUMN absent, DROP COLUMN validity, DROP COLUMN agreement,
            DROP COLUMN timeliness,
            ADD CONSTRAINT completeness_check CHECK (present + quiet + missing = expected);
    """)
    for market in MARKETS:
        for name, condition in (
            ("completeness", "c.timeframe <> '1d'"),
            ("completeness_1d", "c.timeframe = '1d'"),
        ):
            op.execute(f"""
                CREATE VIEW {market}.{name} AS
                SELECT s.symbol, c.*
                FROM quality.completeness AS c JOIN public.symbols AS s USING (instrument_id)
                WHERE s.market = '{market}' AND {condition};
            """)
