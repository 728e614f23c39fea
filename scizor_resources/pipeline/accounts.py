"""What a collection asked of its providers, as rows for `collector_runs`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from scizor_resources.errors import ProviderError
from scizor_resources.pipeline.collect import CollectReport
from scizor_resources.providers.gate import Gate
from scizor_resources.stores.providers import CollectorRun, ProviderStore, RunStatus


@dataclass(frozen=True)
class ProviderRun:
    """Where a collection happened.

    Attributes:
        asset: asset key as text, `us/bars_1m`.
        partition: partition key or range of keys, empty without one.
        dagster_run_id: the run, empty outside Dagster.
        started_at: UTC.
    """

    asset: str
    partition: str
    dagster_run_id: str
    started_at: datetime


def collector_runs(
    report: CollectReport, run: ProviderRun, completed_at: datetime
) -> list[CollectorRun]:
    """Return one row per provider that was asked."""
    return [
        CollectorRun(
            provider=provider,
            asset=run.asset,
            partition=run.partition,
            dagster_run_id=run.dagster_run_id,
            status=_status(failed=calls.error is not None, records=calls.records),
            started_at=run.started_at,
            completed_at=completed_at,
            records=calls.records,
            requests=calls.requests,
            retries=calls.retries,
            error=calls.error,
        )
        for provider, calls in report.calls.items()
    ]


def _status(*, failed: bool, records: int) -> RunStatus:
    if not failed:
        return "success"
    return "partial" if records else "failed"


@dataclass
class Account:
    """What one use of a provider came to.

    Attributes:
        gate: the gate that was passed, made for this use alone.
        records: rows received.
    """

    gate: Gate | None = None
    records: int = 0


@contextmanager
def sample_run(
    store: ProviderStore, provider: str, run: ProviderRun, now: Callable[[], datetime]
) -> Iterator[Account]:
    """Record what happens inside as one collector run, whether it succeeds or not."""
    account = Account()
    error: str | None = None
    try:
        yield account
    except ProviderError as failure:
        error = str(failure)
        raise
    finally:
        counts = account.gate.counts if account.gate is not None else None
        store.record(
            [
                CollectorRun(
                    provider=provider,
                    asset=run.asset,
                    partition=run.partition,
                    dagster_run_id=run.dagster_run_id,
                    status=_status(failed=error is not None, records=account.records),
                    started_at=run.started_at,
                    completed_at=now(),
                    records=account.records,
                    requests=counts.requests if counts else 0,
                    retries=counts.retries if counts else 0,
                    error=error,
                )
            ]
        )
