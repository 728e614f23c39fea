"""What is asked of PostgreSQL, a query for each part of the facts."""

#: Symbols of the watchlist with the last bar of each timeframe in the last days. The bounds in time
#: keep the months before out of it.
SYMBOLS = """
WITH watched AS (
    SELECT lower(btrim(w.market)) AS market, upper(btrim(w.symbol)) AS symbol,
        min(w.priority) AS tier, min(w.added_at) AS added_at,
        bool_or(w.collect_1min) AS has_1m, bool_or(w.collect_1min OR w.collect_5min) AS has_5m
    FROM public.watchlist AS w WHERE w.active GROUP BY 1, 2
)
SELECT w.market, w.symbol, w.tier, w.added_at, w.has_1m, w.has_5m, s.instrument_id,
    one.ts AS ts_1m, one.close AS close_1m, one.session_date AS session_1m, one.source AS source_1m,
    five.ts AS ts_5m, five.close AS close_5m, five.session_date AS session_5m,
    five.source AS source_5m,
    day.close AS close_1d, day.session_date AS session_1d, day.source AS source_1d,
    gap.end_ts AS explained_until
FROM watched AS w
LEFT JOIN LATERAL (
    SELECT s.instrument_id, s.delisted_on FROM public.symbols AS s
    WHERE s.market = w.market AND s.symbol = w.symbol
    ORDER BY s.delisted_on DESC NULLS FIRST LIMIT 1
) AS s ON true
LEFT JOIN LATERAL (
    SELECT b.ts, b.close, b.session_date, b.source FROM market.bars AS b
    WHERE w.has_1m AND b.instrument_id = s.instrument_id AND b.timeframe = '1m'
        AND b.ts >= %(first)s AND b.ts <= %(now)s
    ORDER BY b.ts DESC LIMIT 1
) AS one ON true
LEFT JOIN LATERAL (
    SELECT b.ts, b.close, b.session_date, b.source FROM market.bars AS b
    WHERE w.has_5m AND b.instrument_id = s.instrument_id AND b.timeframe = '5m'
        AND b.ts >= %(first)s AND b.ts <= %(now)s
    ORDER BY b.ts DESC LIMIT 1
) AS five ON true
LEFT JOIN LATERAL (
    SELECT b.close, b.session_date, b.source FROM market.bars AS b
    WHERE b.instrument_id = s.instrument_id AND b.timeframe = '1d'
        AND b.ts >= %(first)s AND b.ts <= %(now)s
    ORDER BY b.ts DESC LIMIT 1
) AS day ON true
LEFT JOIN LATERAL (
    SELECT g.end_ts FROM quality.gaps AS g
    WHERE w.has_5m AND g.instrument_id = s.instrument_id
        AND g.timeframe = CASE WHEN w.has_1m THEN '1m' ELSE '5m' END
        AND g.start_ts >= %(first)s AND g.start_ts <= %(now)s AND g.status = 'explained'
    ORDER BY g.start_ts DESC LIMIT 1
) AS gap ON true
WHERE s.delisted_on IS NULL
ORDER BY w.tier, w.symbol
"""

#: Completeness of some sessions, in the finest timeframe of each symbol.
SESSIONS = """
SELECT c.instrument_id, c.session_date, c.expected, c.missing, c.coverage
FROM unnest(%(ids)s::integer[], %(timeframes)s::text[], %(sessions)s::date[])
    AS a (instrument_id, timeframe, session_date)
JOIN quality.completeness AS c USING (instrument_id, timeframe, session_date)
"""

#: Gaps of those sessions that are not explained.
SESSION_GAPS = """
SELECT g.instrument_id, g.session_date, g.reason, count(*) AS gaps
FROM quality.gaps AS g
WHERE g.timeframe IN ('1m', '5m') AND g.session_date = ANY(%(dates)s)
    AND g.status <> 'explained' AND (g.instrument_id, g.timeframe) IN (
        SELECT * FROM unnest(%(each_id)s::integer[], %(each_timeframe)s::text[])
    )
GROUP BY 1, 2, 3
"""

GAPS_DUE = """
SELECT count(*) AS due, count(*) FILTER (WHERE next_attempt_at < %(now)s - interval '1 hour')
    AS overdue
FROM (
    SELECT next_attempt_at FROM quality.gaps
    WHERE status = 'open' AND next_attempt_at <= %(now)s ORDER BY next_attempt_at LIMIT 10000
) AS g
"""

THRESHOLDS = "SELECT kpi, medium, high, critical, enabled FROM public.alert_rules"

ALERT_COUNTS = """
SELECT severity, count(*) AS standing,
    count(*) FILTER (WHERE acknowledged_at IS NOT NULL) AS acknowledged
FROM public.alerts WHERE resolved_at IS NULL GROUP BY severity
"""
ALERTS = """
SELECT alert_id, severity, kind, title, raised_at, acknowledged_at IS NOT NULL AS acknowledged
FROM public.alerts WHERE resolved_at IS NULL
ORDER BY array_position(ARRAY['critical', 'high', 'medium', 'low'], severity), raised_at DESC
LIMIT 10
"""
#: Messages without a channel wait for nothing.
ALERTS_UNSENT = """
SELECT count(*) AS unsent FROM public.alert_deliveries
WHERE status = 'pending' AND channel <> '' AND created_at < %(now)s - interval '10 minutes'
"""

COLLECTORS = """
SELECT a.name, r.status, r.completed_at, r.records, r.error, r.provider
FROM unnest(%(names)s::text[], %(providers)s::text[], %(assets)s::text[])
    AS a (name, provider, asset)
JOIN LATERAL (
    SELECT * FROM public.collector_runs AS r
    WHERE r.provider = a.provider AND r.asset = a.asset ORDER BY r.started_at DESC LIMIT 1
) AS r ON true
"""

ARCHIVE = """
SELECT state, count(*) AS files, sum(rows)::bigint AS rows,
    count(*) FILTER (WHERE state = 'written' AND written_at < %(now)s - interval '1 day')
        AS unverified,
    max(coalesce(verified_at, written_at)) AS last_at
FROM market.archive_files GROUP BY state
"""

# ---- Dagster's own tables; its time stamps have no zone and are UTC

TABLES = """
SELECT current_setting('server_version') AS version,
    to_regclass('public.scizor_schema_version') IS NOT NULL AS has_schema,
    to_regclass('dagster.runs') IS NOT NULL AND to_regclass('dagster.bulk_actions') IS NOT NULL
        AND to_regclass('dagster.instigators') IS NOT NULL AS has_dagster
"""
REVISION = "SELECT version_num FROM public.scizor_schema_version"

HEARTBEATS = """
SELECT daemon_type, timestamp AT TIME ZONE 'UTC' AS at,
    body::jsonb #>> '{errors,0,message}' AS error
FROM dagster.daemon_heartbeats
"""
AUTOMATIONS = """
SELECT instigator_body::json #>> '{origin,job_name}' AS name, status <> 'STOPPED' AS is_on
FROM dagster.instigators
"""

RUN_COUNTS = """
SELECT status, count(*) AS runs FROM dagster.runs
WHERE status IN ('QUEUED', 'NOT_STARTED', 'STARTING', 'STARTED', 'CANCELING') GROUP BY status
"""
RUNS = """
SELECT r.run_id, r.pipeline_name AS job, r.run_body::json -> 'asset_selection' AS selection,
    r.status, r.create_timestamp AT TIME ZONE 'UTC' AS created_at,
    to_timestamp(r.start_time) AS started_at, t.tags
FROM dagster.runs AS r
LEFT JOIN LATERAL (
    SELECT json_object_agg(key, value) AS tags FROM dagster.run_tags AS t
    WHERE t.run_id = r.run_id
) AS t ON true
WHERE r.status IN ('QUEUED', 'NOT_STARTED', 'STARTING', 'STARTED', 'CANCELING')
ORDER BY array_position(ARRAY['STARTED', 'CANCELING', 'STARTING', 'NOT_STARTED'], r.status::text),
    r.id
LIMIT 100
"""
SUCCEEDED = """
SELECT count(*) AS runs FROM dagster.runs
WHERE status = 'SUCCESS' AND update_timestamp >= (%(now)s AT TIME ZONE 'UTC') - interval '1 day'
"""
#: A later run of the same assets and partition that has not failed makes a failure good.
FAILED = """
WITH failed AS (
    SELECT r.id, r.run_id, r.pipeline_name, r.snapshot_id, r.run_body,
        (SELECT string_agg(t.value, '...' ORDER BY t.key DESC) FROM dagster.run_tags AS t
            WHERE t.run_id = r.run_id AND t.key = ANY(%(partition_tags)s)) AS partition
    FROM dagster.runs AS r
    WHERE r.status = 'FAILURE'
        AND r.update_timestamp >= (%(now)s AT TIME ZONE 'UTC') - interval '1 day'
    ORDER BY r.id DESC LIMIT 200
)
SELECT f.pipeline_name AS job, f.run_body::json -> 'asset_selection' AS selection, f.partition
FROM failed AS f
WHERE NOT EXISTS (
    SELECT 1 FROM dagster.runs AS s
    WHERE s.pipeline_name = f.pipeline_name AND s.id > f.id AND s.snapshot_id = f.snapshot_id
        AND s.status NOT IN ('FAILURE', 'CANCELED')
        AND f.partition IS NOT DISTINCT FROM (
            SELECT string_agg(t.value, '...' ORDER BY t.key DESC) FROM dagster.run_tags AS t
            WHERE t.run_id = s.run_id AND t.key = ANY(%(partition_tags)s))
)
ORDER BY f.id DESC
"""
#: Of the stored state only the counts: it repeats every closed day of the exchange for each asset.
BACKFILLS = """
SELECT b.key, b.status, b.timestamp AT TIME ZONE 'UTC' AS started_at,
    b.body::json ->> 'title' AS title, target.assets, target.partitions,
    materialized.partitions AS materialized, failed.partitions AS failed,
    (SELECT json_object_agg(c.status, c.runs) FROM (
        SELECT r.status, count(*) AS runs FROM dagster.runs AS r
        WHERE r.backfill_id = b.key GROUP BY r.status) AS c) AS runs
FROM dagster.bulk_actions AS b
CROSS JOIN LATERAL (SELECT (b.body::json -> 'asset_backfill_data')::jsonb AS data) AS d
LEFT JOIN LATERAL (
    SELECT sum((item #>> '{1,num_partitions}')::bigint)::bigint AS partitions,
        json_agg((SELECT string_agg(part, '/') FROM
            jsonb_array_elements_text(item #> '{0,path}') AS part)) AS assets
    FROM jsonb_array_elements(
        d.data #> '{target_subset,partitions_subsets_by_asset_key,__mapping_items__}') AS item
) AS target ON true
LEFT JOIN LATERAL (
    SELECT sum((item #>> '{1,num_partitions}')::bigint)::bigint AS partitions
    FROM jsonb_array_elements(
        d.data #> '{materialized_subset,partitions_subsets_by_asset_key,__mapping_items__}') AS item
) AS materialized ON true
LEFT JOIN LATERAL (
    SELECT sum((item #>> '{1,num_partitions}')::bigint)::bigint AS partitions
    FROM jsonb_array_elements(d.data
        #> '{failed_and_downstream_subset,partitions_subsets_by_asset_key,__mapping_items__}'
    ) AS item
) AS failed ON true
WHERE b.status IN ('REQUESTED', 'CANCELING', 'FAILING') ORDER BY b.id LIMIT 20
"""

# ---- for the dashboard

#: Last closes before a session, for those symbols and the timeframe of their price: of the daily
#: bar, or of the last intraday bar before the session's open.
PREVIOUS_CLOSES = """
SELECT a.instrument_id, day.close AS day_close, day.session_date AS day_session,
    intraday.close AS intraday_close, intraday.session_date AS intraday_session,
    EXISTS (
        SELECT 1 FROM public.corporate_actions AS c
        WHERE c.instrument_id = a.instrument_id AND c.kind = 'split' AND c.applied
            AND c.ex_date = a.session_date
    ) AS is_split
FROM unnest(%(ids)s::integer[], %(timeframes)s::text[], %(sessions)s::date[],
    %(opens)s::timestamptz[]) AS a (instrument_id, timeframe, session_date, opened_at)
LEFT JOIN LATERAL (
    SELECT b.close, b.session_date FROM market.bars AS b
    WHERE b.instrument_id = a.instrument_id AND b.timeframe = '1d'
        AND b.ts < a.session_date::timestamp AT TIME ZONE 'UTC'
        AND b.ts >= %(first)s AND b.ts < %(last)s
    ORDER BY b.ts DESC LIMIT 1
) AS day ON true
LEFT JOIN LATERAL (
    SELECT b.close, b.session_date FROM market.bars AS b
    WHERE b.instrument_id = a.instrument_id AND b.timeframe = a.timeframe AND a.timeframe <> '1d'
        AND b.ts < a.opened_at AND b.ts >= %(first)s AND b.ts < %(last)s
    ORDER BY b.ts DESC LIMIT 1
) AS intraday ON true
"""

#: The last daily or intraday bar at all, for symbols without one in the last days.
LAST_BARS = """
SELECT a.instrument_id, b.timeframe, b.ts, b.close, b.session_date, b.source
FROM unnest(%(ids)s::integer[]) AS a (instrument_id)
JOIN LATERAL (
    SELECT x.* FROM (VALUES ('1m'), ('5m'), ('1d')) AS t (timeframe)
    JOIN LATERAL (
        SELECT b.timeframe, b.ts, b.close, b.session_date, b.source FROM market.bars AS b
        WHERE b.instrument_id = a.instrument_id AND b.timeframe = t.timeframe
            AND b.ts <= %(now)s ORDER BY b.ts DESC LIMIT 1
    ) AS x ON true
    ORDER BY x.session_date DESC, x.ts DESC LIMIT 1
) AS b ON true
"""
