"""What providers were asked and said beside bars: runs, disagreements."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Literal

import pandas as pd
from psycopg.types.json import Jsonb

from scizor_core.markets import Timeframe
from scizor_resources.stores.warehouse import Warehouse

RunStatus = Literal["success", "partial", "failed"]


@dataclass(frozen=True)
class CollectorRun:
    """What one provider was asked in one collection.

    Attributes:
        provider: name of the provider.
        asset: asset key as text, `us/bars_1m`.
        partition: partition key or range of keys, empty without one.
        dagster_run_id: the run, empty outside Dagster.
        status: success, partial (some symbols failed) or failed.
        started_at: UTC.
        completed_at: UTC.
        records: rows received.
        requests: calls on the wire, retries included.
        retries: those that were not the first try.
        error: what went wrong, None where nothing did.
    """

    provider: str
    asset: str
    partition: str
    dagster_run_id: str
    status: RunStatus
    started_at: datetime
    completed_at: datetime
    records: int = 0
    requests: int = 0
    retries: int = 0
    error: str | None = None


@dataclass(frozen=True)
class DayRuns:
    """How asking a provider for a UTC day went.

    Attributes:
        first_at: start of the first run, UTC.
        last_at: start of the last one.
        last_success_at: start of the last one that succeeded, None where none did.
        failures: runs since then, and since the day was over, that did not.
    """

    first_at: datetime
    last_at: datetime
    last_success_at: datetime | None
    failures: int

    def __add__(self, other: "DayRuns") -> "DayRuns":
        both = (self, other)
        last_success_at = max(
            (each.last_success_at for each in both if each.last_success_at), default=None
        )
        return DayRuns(
            min(each.first_at for each in both),
            max(each.last_at for each in both),
            last_success_at,
            sum(
                each.failures
                for each in both
                if last_success_at is None or each.last_at > last_success_at
            ),
        )


class ProviderStore:
    """Access to `collector_runs` and `quality.disagreements`."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse

    def record(self, runs: Sequence[CollectorRun]) -> None:
        """Keep what providers were asked."""
        if not runs:
            return
        with self._warehouse.connect() as connection, connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO public.collector_runs (provider, asset, partition, dagster_run_id, "
                "status, started_at, completed_at, records, requests, retries, error) "
                "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
                [
                    (
                        run.provider,
                        run.asset,
                        run.partition,
                        run.dagster_run_id,
                        run.status,
                        run.started_at,
                        run.completed_at,
                        run.records,
                        run.requests,
                        run.retries,
                        run.error,
                    )
                    for run in runs
                ],
            )

    def last_runs(self) -> dict[str, dict[str, Any]]:
        """Return per provider the last run, and the last that had an error as `last_error`."""
        with self._warehouse.connect() as connection:
            last = connection.execute(
                "SELECT DISTINCT ON (provider) * FROM public.collector_runs "
                "ORDER BY provider, started_at DESC"
            ).fetchall()
            errors = connection.execute(
                "SELECT DISTINCT ON (provider) provider, error, completed_at "
                "FROM public.collector_runs WHERE error IS NOT NULL "
                "ORDER BY provider, started_at DESC"
            ).fetchall()
        found = {row["provider"]: dict(row) for row in last}
        for row in errors:
            found[row["provider"]]["last_error"] = dict(row)
        return found

    def last_runs_by_asset(self) -> dict[tuple[str, str], dict[str, Any]]:
        """Return (provider, asset) -> the last run of that provider for that asset.

        Beside the columns of `collector_runs` each has `runs`, `errors` and `success_rate` of the
        last 30 days.
        """
        with self._warehouse.connect() as connection:
            rows = connection.execute(
                "SELECT DISTINCT ON (r.provider, r.asset) r.*, c.runs, c.errors, c.success_rate "
                "FROM public.collector_runs AS r JOIN (SELECT provider, asset, count(*) AS runs, "
                "count(*) FILTER (WHERE status <> 'success') AS errors, "
                "avg((status = 'success')::integer)::float8 AS success_rate "
                "FROM public.collector_runs WHERE started_at > now() - interval '30 days' "
                "GROUP BY provider, asset) AS c USING (provider, asset) "
                "ORDER BY r.provider, r.asset, r.started_at DESC, r.collector_run_id DESC"
            ).fetchall()
        return {(row["provider"], row["asset"]): dict(row) for row in rows}

    def runs_by_day(self, asset: str, since: datetime) -> dict[str, dict[date, DayRuns]]:
        """Return provider -> UTC day -> how asking for it went, for an asset of such partitions.

        Args:
            asset: asset key as text.
            since: only runs and days from then on, aware.
        """
        with self._warehouse.connect() as connection:
            rows = connection.execute(_RUNS_BY_DAY, {"asset": asset, "since": since}).fetchall()
        found: dict[str, dict[date, DayRuns]] = {}
        for row in rows:
            runs = DayRuns(row["first_at"], row["last_at"], row["last_success_at"], row["failures"])
            days = found.setdefault(row["provider"], {})
            for back in range((row["last_day"] - max(row["first_day"], since.date())).days + 1):
                day = row["last_day"] - timedelta(days=back)
                days[day] = days[day] + runs if day in days else runs
        return found

    def write_disagreements(
        self, timeframe: Timeframe, found: pd.DataFrame, instrument_ids: dict[str, int]
    ) -> int:
        """Keep bars that two sources have differently (columns `DISAGREEMENT_COLUMNS`).

        Returns:
            Number of rows that were not known yet or differ.
        """
        if found.empty:
            return 0
        with self._warehouse.connect() as connection, connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO quality.disagreements AS d (instrument_id, timeframe, ts, "
                "kept_source, other_source, kept, other, price_difference) "
                "VALUES (%s, %s, %s, %s, %s, %s, %s, %s) "
                "ON CONFLICT (instrument_id, timeframe, ts, kept_source, other_source) "
                "DO UPDATE SET kept = excluded.kept, other = excluded.other, "
                "price_difference = excluded.price_difference, detected_at = now() "
                "WHERE (d.kept, d.other) IS DISTINCT FROM (excluded.kept, excluded.other)",
                [
                    (
                        instrument_ids[row["symbol"]],
                        timeframe,
                        row["ts"].to_pydatetime(),
                        row["kept_source"],
                        row["other_source"],
                        Jsonb(row["kept"]),
                        Jsonb(row["other"]),
                        row["price_difference"],
                    )
                    for row in found.to_dict("records")
                ],
            )
            return max(cursor.rowcount, 0)


# A partition is a day or, of a backfill, the first and the last of a range.
_RUNS_BY_DAY = r"""
SELECT provider, first_day, last_day, last_success_at,
    min(started_at) AS first_at, max(started_at) AS last_at,
    count(*) FILTER (
        WHERE status <> 'success' AND started_at > coalesce(last_success_at, '-infinity')
        AND started_at >= (last_day + 1)::timestamp AT TIME ZONE 'UTC'
    ) AS failures
FROM (
    SELECT *, left(partition, 10)::date AS first_day, right(partition, 10)::date AS last_day,
        max(started_at) FILTER (WHERE status = 'success')
            OVER (PARTITION BY provider, partition) AS last_success_at
    FROM public.collector_runs
    WHERE asset = %(asset)s AND started_at >= %(since)s
        AND partition ~ '^\d{4}-\d\d-\d\d(\.\.\.\d{4}-\d\d-\d\d)?$'
) AS runs
GROUP BY provider, first_day, last_day, last_success_at
"""
