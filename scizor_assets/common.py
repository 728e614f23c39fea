"""What all asset factories share: run config, owners, and how an error becomes a `dg.Failure`."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import dagster as dg
from dagster_shared.utils.warnings import BetaWarning
from pydantic import Field

from scizor_core.errors import ScizorError
from scizor_resources.errors import ProviderError, is_retryable

# `backfill_policy` on @asset is beta in dagster 1.13 and bounds the partitions of one run; the
# warning comes once per asset. Drop this when it is stable.
warnings.filterwarnings("ignore", message=".*`backfill_policy`.*", category=BetaWarning)

OWNERS: list[str] = ["team:market-data"]


class CollectConfig(dg.Config):
    """Run config of bars: which symbols, and which providers of the chain may be asked."""

    symbols: list[str] | None = Field(
        default=None, description="Only these symbols; by default everything watched or on tape."
    )
    providers: list[str] | None = Field(
        default=None, description="Only these providers of the market's chain; by default all."
    )
    lane: Literal["live", "repair", "backfill", "research"] = Field(
        default="backfill", description="Who goes first when a provider's calls are scarce."
    )


class SymbolsConfig(dg.Config):
    """Run config that narrows a run to some symbols (repair, backfill of a new symbol)."""

    symbols: list[str] | None = Field(
        default=None, description="Only these symbols; by default everything watched or on tape."
    )


def row_counts(rows: int, context: dg.AssetExecutionContext) -> dict[str, int]:
    """Return the rows of a run as metadata.

    Dagster attaches a run's metadata to each of its partitions, so that only a run of one
    partition can say how many rows that partition has.
    """
    if len(context.partition_keys) == 1:
        return {"dagster/partition_row_count": rows, "rows": rows}
    return {"rows": rows}


@contextmanager
def failures() -> Iterator[None]:
    """Turn an error of ours into a `dg.Failure` that says so in one sentence.

    Only what another try can mend may be retried by Dagster.
    """
    try:
        yield
    except ScizorError as error:
        metadata = {}
        if isinstance(error, ProviderError):
            metadata = {"provider": error.provider, "endpoint": error.endpoint}
        raise dg.Failure(
            description=str(error), metadata=metadata, allow_retries=is_retryable(error)
        ) from error
