"""Sessions of the markets, as a table that SQL can join.

Revision ID: 0006
Revises: 0005
Create Date: 2026-11-21
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_TABLE = """
CREATE TABLE public.sessions (
    market text NOT NULL,
    session_date date NOT NULL,
    open_at timestamptz NOT NULL,
    close_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (market, session_date),
    CHECK (close_at > open_at)
);
CREATE INDEX sessions_open ON public.sessions (market, open_at);
CREATE INDEX sessions_close ON public.sessions (market, close_at);
COMMENT ON TABLE public.sessions IS 'Sessions of each market by the exchange''s own date, from open_at to close_at (exclusive, closing auction left out), UTC; to about a year ahead. Written from the calendars, not to be edited.';

CREATE VIEW reference.sessions AS SELECT * FROM public.sessions;
COMMENT ON VIEW reference.sessions IS 'Sessions of each market, UTC bounds, close_at exclusive.';
"""


def upgrade() -> None:
    op.execute(_TABLE)


def downgrade() -> None:
    op.execute("DROP VIEW IF EXISTS reference.sessions")
    op.execute("DROP TABLE IF EXISTS public.sessions")
