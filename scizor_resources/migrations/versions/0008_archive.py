"""Months of bars that lie in the archive.

Revision ID: 0008
Revises: 0007
Create Date: 2026-11-21
"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_TABLES = """
CREATE TABLE market.archive_files (
    market text NOT NULL,
    timeframe text COLLATE "C" NOT NULL,
    month date NOT NULL CHECK (month = date_trunc('month', month::timestamp)::date),
    path text NOT NULL,
    replaced_path text,
    rows bigint NOT NULL,
    first_ts timestamptz NOT NULL,
    last_ts timestamptz NOT NULL,
    min_instrument_id integer NOT NULL,
    max_instrument_id integer NOT NULL,
    bytes bigint NOT NULL,
    sha256 text NOT NULL,
    content text,
    last_ingested_at timestamptz NOT NULL,
    state text NOT NULL CHECK (state IN ('written', 'verified', 'released')),
    written_at timestamptz NOT NULL DEFAULT now(),
    verified_at timestamptz,
    released_at timestamptz,
    PRIMARY KEY (market, timeframe, month),
    CHECK (state = 'written' OR (content IS NOT NULL AND verified_at IS NOT NULL)),
    CHECK ((state = 'released') = (released_at IS NOT NULL))
);
COMMENT ON TABLE market.archive_files IS 'One row per Parquet file of the archive: bars of a market, timeframe and UTC month. Released: the bars are no longer in market.bars.';

CREATE TABLE market.archive_instruments (
    market text NOT NULL,
    timeframe text COLLATE "C" NOT NULL,
    month date NOT NULL,
    instrument_id integer NOT NULL,
    rows bigint NOT NULL,
    first_ts timestamptz NOT NULL,
    last_ts timestamptz NOT NULL,
    first_session date NOT NULL,
    last_session date NOT NULL,
    first_close double precision NOT NULL,
    first_volume double precision NOT NULL,
    last_close double precision NOT NULL,
    signed_volume double precision NOT NULL,
    PRIMARY KEY (instrument_id, timeframe, month),
    FOREIGN KEY (market, timeframe, month) REFERENCES market.archive_files ON DELETE CASCADE
);
CREATE INDEX archive_instruments_file ON market.archive_instruments (market, timeframe, month);
COMMENT ON TABLE market.archive_instruments IS 'What each file of the archive holds of an instrument; signed_volume is the on-balance volume of its bars after the first.';

CREATE VIEW market.released_bars AS
SELECT i.*, f.path, f.sha256, f.released_at
FROM market.archive_instruments AS i
JOIN market.archive_files AS f USING (market, timeframe, month)
WHERE f.state = 'released';
COMMENT ON VIEW market.released_bars IS 'Instruments and months whose bars are in the archive and not in market.bars.';

CREATE SCHEMA archive;
CREATE VIEW archive.bars AS SELECT * FROM market.archive_files;
COMMENT ON VIEW archive.bars IS 'The files of the archive and their state.';
"""

_METADATA = """
CREATE OR REPLACE VIEW public.symbol_metadata AS
SELECT
    s.symbol, s.name, b.earliest_data_date, b.latest_data_date,
    coalesce(b.total_bars_stored, 0)::bigint AS total_bars_stored, b.last_fetched_at,
    s.market, s.instrument_id, s.status, s.delisted_on, s.successor
FROM public.symbols AS s
LEFT JOIN (
    SELECT
        instrument_id, min(first) AS earliest_data_date, max(last) AS latest_data_date,
        sum(bars) AS total_bars_stored, max(fetched) AS last_fetched_at
    FROM (
        SELECT
            instrument_id, min(session_date) AS first, max(session_date) AS last,
            count(*) AS bars, max(ingested_at) AS fetched
        FROM market.bars
        GROUP BY instrument_id
        UNION ALL
        SELECT r.instrument_id, r.first_session, r.last_session, r.rows, f.last_ingested_at
        FROM market.released_bars AS r
        JOIN market.archive_files AS f USING (market, timeframe, month)
    ) AS parts
    GROUP BY instrument_id
) AS b USING (instrument_id);
"""

_METADATA_BEFORE = """
CREATE OR REPLACE VIEW public.symbol_metadata AS
SELECT
    s.symbol, s.name, b.earliest_data_date, b.latest_data_date,
    coalesce(b.total_bars_stored, 0) AS total_bars_stored, b.last_fetched_at,
    s.market, s.instrument_id, s.status, s.delisted_on, s.successor
FROM public.symbols AS s
LEFT JOIN (
    SELECT
        instrument_id, min(session_date) AS earliest_data_date,
        max(session_date) AS latest_data_date, count(*) AS total_bars_stored,
        max(ingested_at) AS last_fetched_at
    FROM market.bars
    GROUP BY instrument_id
) AS b USING (instrument_id);
"""


def upgrade() -> None:
    op.execute(_TABLES)
    op.execute(_METADATA)


def downgrade() -> None:
    # Released bars are in the files only: the platform would no longer know of them.
    op.execute("""
        DO $$ BEGIN
            IF EXISTS (SELECT 1 FROM market.archive_files WHERE state = 'released') THEN
                RAISE EXCEPTION 'months are released to the archive: restore them first';
            END IF;
        END $$
    """)
    op.execute(_METADATA_BEFORE)
    op.execute("DROP SCHEMA IF EXISTS archive CASCADE")
    op.execute("DROP VIEW IF EXISTS market.released_bars")
    op.execute("DROP TABLE IF EXISTS market.archive_instruments")
    op.execute("DROP TABLE IF EXISTS market.archive_files")
