"""What all asset factories share: run config, owners, and how an error becomes a `dg.Failure`."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import dagster as dg
from dagster_shared.utils.warnings import BetaWarning
from pydantic import Field

from scizor_core.errors import ScizorError
from scizor_core.markets import Timeframe
from scizor_resources.errors import ProviderError, WarehouseAway, is_retryable

# `backfill_policy` on @asset is beta in dagster 1.13 and bounds the partitions of one run; the
# warning comes once per asset. Drop this when it is stable.
warnings.filterwarnings("ignore", message=".*`backfill_policy`.*", category=BetaWarning)

#: How often, and how many seconds later, a step is tried again that lost its connection to
#: PostgreSQL: a restart takes a second or two. In a longer outage the run itself ends, and is found
#: and launched again by run monitoring.
_RESTARTS_SURVIVED = 3
_SECONDS_AFTER_RESTART = 2
#: After so many seconds a step is tried again to which no provider answered, if its config wants.
RETRY_SECONDS = 30

OWNERS: list[str] = ["team:market-data"]

_STEP_PRIORITY: dict[Timeframe, int] = {"1m": 3, "5m": 2, "15m": 1, "1d": 1}


def finest_first(timeframe: Timeframe) -> dict[str, str]:
    """Return the tags of an op of bars or indicators that decide when its turn in a run comes.

    Where there is a choice, the finest timeframe goes first, and what measures and checks comes
    after all that can be queried.
    """
    return {"dagster/priority": str(_STEP_PRIORITY[timeframe])}


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
    retries: int = Field(
        default=0, description="How often to try again where no provider answered for now."
    )
    watched_only: bool = Field(
        default=False,
        description="Leave out symbols that are no longer watched when the run begins.",
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
def failures(retries: int = 0) -> Iterator[None]:
    """Turn an error of ours into a `dg.Failure` that says so in one sentence.

    Only what another try can mend may be retried by Dagster.

    Args:
        retries: how often the step itself tries again what another try can mend.

    Raises:
        dg.RetryRequested: PostgreSQL was restarted meanwhile, or the step may try again.
        dg.Failure: any other error of ours.
    """
    try:
        yield
    except WarehouseAway as error:
        raise dg.RetryRequested(_RESTARTS_SURVIVED, _SECONDS_AFTER_RESTART) from error
    except ScizorError as error:
        if retries and is_retryable(error):
            raise dg.RetryRequested(retries, RETRY_SECONDS) from error
        metadata = {}
        if isinstance(error, ProviderError):
            metadata = {"provider": error.provider, "endpoint": error.endpoint}
        raise dg.Failure(
            description=str(error), metadata=metadata, allow_retries=is_retryable(error)
        ) from error
