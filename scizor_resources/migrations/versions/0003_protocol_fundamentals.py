"""Fundamentals of protocols, with what was known when.

Revision ID: 0003
Revises: 0002
Create Date: 2026-11-21
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_TABLES = """
CREATE SCHEMA IF NOT EXISTS glass;

CREATE TABLE glass.protocol_fundamental_values (
    protocol text COLLATE "C" NOT NULL,
    metric text COLLATE "C" NOT NULL
        CHECK (metric IN ('tvl', 'fees', 'revenue', 'dex_volume')),
    day date NOT NULL,
    observed_at timestamptz NOT NULL,
    value_usd double precision NOT NULL CHECK (value_usd >= 0 AND value_usd < 'Infinity'),
    is_final boolean NOT NULL,
    point_at timestamptz NOT NULL,
    protocol_name text NOT NULL,
    source text NOT NULL,
    ingested_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (protocol, metric, day, observed_at),
    CHECK (day <= (observed_at AT TIME ZONE 'UTC')::date),
    CHECK (NOT is_final OR (day + 1)::timestamp <= observed_at AT TIME ZONE 'UTC')
);
CREATE INDEX protocol_fundamental_values_day ON glass.protocol_fundamental_values (day);
COMMENT ON TABLE glass.protocol_fundamental_values IS 'Value locked (without borrowed, pool2, staking and other double counting), fees, revenue and exchange volume per protocol and UTC day, in USD, each as it was known from observed_at on: a restated value is a further row. is_final is false where the day was still running.';

CREATE VIEW glass.protocol_fundamentals AS
SELECT DISTINCT ON (protocol, metric, day)
    protocol, metric, day, value_usd, is_final, point_at, observed_at, protocol_name, source
FROM glass.protocol_fundamental_values
ORDER BY protocol, metric, day, observed_at DESC;
COMMENT ON VIEW glass.protocol_fundamentals IS 'The latest known value of each protocol, metric and UTC day, in USD.';

CREATE VIEW public.protocol_fundamentals AS SELECT * FROM glass.protocol_fundamentals;
COMMENT ON VIEW public.protocol_fundamentals IS 'The latest known value of each protocol, metric and UTC day, in USD.';
"""


def upgrade() -> None:
    op.execute(_TABLES)


def downgrade() -> None:
    op.execute("DROP VIEW IF EXISTS public.protocol_fundamentals")
    op.execute("DROP SCHEMA IF EXISTS glass CASCADE")
