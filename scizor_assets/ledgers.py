"""What the assets of the other ledgers share: run config, and asking one source after the other."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import dagster as dg
import pandas as pd
from pydantic import Field

from scizor_assets.check_results import finding_result
from scizor_core.bar_checks import Finding
from scizor_resources.collectors import Collector, account_of, collectors_of
from scizor_resources.errors import ProviderError
from scizor_resources.pipeline.accounts import Account, ProviderRun, sample_run
from scizor_resources.platform import Platform

#: Name of the check that every asset fed by several sources has.
SOURCES_CHECK = "sources"
SOURCES_DESCRIPTION = (
    "Each source that is set up answered when it was last asked, as `scizor collectors status` "
    "says it."
)


class LedgerConfig(dg.Config):
    """Run config of the assets that several sources feed."""

    sources: list[str] | None = Field(
        default=None, description="Only these collectors; by default all that are set up."
    )
    lane: Literal["live", "repair", "backfill", "research"] = Field(
        default="backfill", description="Who goes first when a provider's calls are scarce."
    )


@dataclass
class Asked:
    """What asking the sources of an asset came to.

    Attributes:
        answered: collectors that answered.
        errors: collector -> sentence, for each that failed.
        not_configured: collector -> what has to be set.
        failure: the first error.
        facts: collector -> what a run says of it.
        requests: calls on the wire.
        seconds: time spent waiting for providers.
    """

    answered: list[str] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)
    not_configured: dict[str, str] = field(default_factory=dict)
    failure: ProviderError | None = None
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    requests: int = 0
    seconds: float = 0.0

    def raise_if_nobody_answered(self) -> None:
        """Raise the first error where no source answered."""
        if self.failure is not None and not self.answered:
            raise self.failure

    def metadata(self) -> dict[str, Any]:
        """Return what a run says of its sources."""
        found: dict[str, Any] = {
            "sources_answered": self.answered,
            "provider_requests": self.requests,
            "provider_latency_seconds": round(self.seconds, 3),
        }
        if self.errors:
            found["sources_failed"] = dg.MetadataValue.json(self.errors)
        if self.not_configured:
            found["sources_not_set_up"] = dg.MetadataValue.json(self.not_configured)
        if self.facts:
            found["by_source"] = dg.MetadataValue.json(self.facts)
        return found

    def nobody(self) -> str | None:
        """Return why no source was asked, None where one was."""
        if self.answered or self.errors:
            return None
        parts = [f"{name} ({what})" for name, what in self.not_configured.items()]
        return f"no source is set up: {', '.join(parts)}" if parts else "no source was named"


def run_of(context: dg.AssetExecutionContext, platform: Platform) -> ProviderRun:
    """Return where a collection happens, for the accounts."""
    keys = context.partition_keys
    return ProviderRun(
        asset=context.asset_key.to_user_string(),
        partition=keys[0] if len(keys) == 1 else f"{keys[0]}...{keys[-1]}",
        dagster_run_id=context.op_execution_context.run_id,
        started_at=platform.now(),
    )


def ask_sources(
    platform: Platform,
    run: ProviderRun,
    names: Sequence[str] | None,
    ask: Callable[[Collector, Account], dict[str, Any]],
) -> Asked:
    """Ask each source of the run's asset, one after the other; one that fails costs only itself.

    Args:
        platform: the opened platform.
        run: the collection, for the accounts.
        names: only these collectors, None for all.
        ask: asks one and keeps what it says; sets the account's gate and records, returns facts,
            and raises a ProviderError also where only a part could be had.

    Raises:
        InvalidInputError: a name is not a collector of this asset.
    """
    asked = Asked()
    for collector in collectors_of(run.asset, names):
        missing = collector.missing(platform.settings)
        if missing:
            asked.not_configured[collector.name] = f"set {' and '.join(missing)}"
            continue
        try:
            with _account(asked, platform, collector, run) as account:
                asked.facts[collector.name] = ask(collector, account)
        except ProviderError as error:
            asked.errors[collector.name] = str(error)
            asked.failure = asked.failure or error
        else:
            asked.answered.append(collector.name)
    return asked


@contextmanager
def _account(
    asked: Asked, platform: Platform, collector: Collector, run: ProviderRun
) -> Iterator[Account]:
    provider = account_of(collector, platform.settings)
    with sample_run(platform.providers, provider, run, platform.now) as account:
        try:
            yield account
        finally:
            if account.gate is not None:
                asked.requests += account.gate.counts.requests
                asked.seconds += account.gate.counts.seconds


def labelled(rows: pd.DataFrame, label: str) -> pd.DataFrame:
    """Return rows whose `source` has the label before it, as they are where there is none."""
    return rows.assign(source=f"{label}:" + rows["source"].astype("str")) if label else rows


def sources_result(platform: Platform, key: dg.AssetKey) -> dg.AssetCheckResult:
    """Return the result of check `sources`: the set-up sources whose last collection failed."""
    asset = key.to_user_string()
    last = platform.providers.last_runs_by_asset()
    rows = []
    for collector in collectors_of(asset):
        run = last.get((account_of(collector, platform.settings), asset))
        if run is None or collector.missing(platform.settings) or run["status"] == "success":
            continue
        rows.append(
            {
                "collector": collector.name,
                "status": run["status"],
                "at": run["completed_at"].isoformat(),
                "error": run["error"],
            }
        )
    finding = Finding(SOURCES_CHECK, len(rows), rows)
    return finding_result(key, finding, dg.AssetCheckSeverity.ERROR, len(rows))
