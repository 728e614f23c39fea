"""The runs of a backfill: one for each piece of its plan, with the tags that tell them together.

Belongs here: how a piece becomes a run, whoever launches it. Not here: which pieces there are
(`scizor_core.backfill`) and when they are asked for (`scizor_assets.backfills`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import dagster as dg

from scizor_assets.automation import LAUNCHED_BY
from scizor_assets.jobs import assets_below, job_of
from scizor_core.backfill import Piece, Plan
from scizor_resources.backfill_progress import BACKFILL, PIECE, SESSIONS, SYMBOL, progress_of
from scizor_resources.platform import Platform

#: Priorities of runs: a person or a new symbol goes before the nightly backfill.
NEW_SYMBOL_PRIORITY = -3
PERSON_PRIORITY = -4
NIGHTLY_PRIORITY = -5
#: How often a run tries again, half a minute later, when no provider answered.
RETRIES = 2


@dataclass(frozen=True)
class BackfillRun:
    """One run of a backfill.

    Attributes:
        backfill: name of the backfill.
        piece: what it fills.
        number: its number among the runs of the backfill, from 1.
        runs: runs of the backfill.
        sessions: pairs of symbol and session of the whole backfill.
        launched_by: the command, sensor or schedule.
        priority: as in the tag dagster/priority.
        watched_only: symbols that are no longer watched when it begins are left out.
    """

    backfill: str
    piece: Piece
    number: int
    runs: int
    sessions: int
    launched_by: str
    priority: int
    watched_only: bool

    @property
    def assets(self) -> tuple[str, ...]:
        """The assets, as users write them."""
        return assets_below(self.piece.market, self.piece.timeframe)

    @property
    def title(self) -> str:
        """What it fills, for people."""
        piece = self.piece
        count = len(piece.symbols)
        who = piece.symbols[0] if count == 1 else f"{count} symbols"
        return f"{piece.market} {piece.timeframe} {piece.first} to {piece.last}, {who}"

    @property
    def bars_config(self) -> dict[str, Any]:
        """Run config of its bars beside the symbols."""
        return {"lane": "backfill", "retries": RETRIES, "watched_only": self.watched_only}

    @property
    def run_config(self) -> dict[str, Any]:
        """Run config of all its assets."""
        symbols = {"symbols": list(self.piece.symbols)}
        return {
            "ops": {
                asset.replace("/", "__"): {
                    "config": symbols | (self.bars_config if "/bars_" in asset else {})
                }
                for asset in self.assets
            }
        }

    @property
    def tags(self) -> dict[str, str]:
        """Its tags, those for the partitions left out."""
        piece = self.piece
        alone = {SYMBOL: f"{piece.market} {piece.symbols[0]}"} if len(piece.symbols) == 1 else {}
        return {
            BACKFILL: self.backfill,
            PIECE: f"{self.number} of {self.runs}",
            SESSIONS: f"{piece.sessions} of {self.sessions}",
            LAUNCHED_BY: self.launched_by,
            "dagster/priority": str(self.priority),
            **alone,
        }

    @property
    def partition_tags(self) -> dict[str, str]:
        """The tags for its partitions; a range also where it is one."""
        return {
            "dagster/asset_partition_range_start": self.piece.first.isoformat(),
            "dagster/asset_partition_range_end": self.piece.last.isoformat(),
        }

    def request(self, *, with_job: bool = True) -> dg.RunRequest:
        """Return the request with which a sensor or schedule asks for it.

        Args:
            with_job: name the job; a schedule has only one.
        """
        return dg.RunRequest(
            run_key=f"{self.backfill}:{self.number}",
            job_name=job_of(self.piece.market, self.piece.timeframe) if with_job else None,
            asset_selection=[dg.AssetKey.from_user_string(asset) for asset in self.assets],
            run_config=self.run_config,
            tags=self.tags | self.partition_tags,
        )


def runs_of(
    plan: Plan, backfill: str, launched_by: str, priority: int, *, watched_only: bool
) -> list[BackfillRun]:
    """Return the runs of a plan, in its order.

    Args:
        plan: the plan.
        backfill: name of the backfill, the same for all its runs and for no other's.
        launched_by: the command, sensor or schedule.
        priority: as in the tag dagster/priority.
        watched_only: leave out symbols that are no longer watched when a run begins.
    """
    return [
        BackfillRun(
            backfill,
            piece,
            number,
            len(plan.pieces),
            plan.sessions,
            launched_by,
            priority,
            watched_only,
        )
        for number, piece in enumerate(plan.pieces, start=1)
    ]


def backfill_name(market: str, kind: str, at: datetime) -> str:
    """Return a name that tells market, kind and instant of a backfill.

    Args:
        market: name of the market.
        kind: who wants it: "cli", "watchlist", "nightly".
        at: when it is asked for, aware.
    """
    return f"{market}-{kind}-{at:%Y%m%dT%H%M%S}"


def progress_metadata(
    context: dg.AssetExecutionContext, platform: Platform
) -> dict[str, dg.MetadataValue[Any]]:
    """Return how far the backfill of a run has come, nothing where the run belongs to none."""
    name = context.op_execution_context.get_tag(BACKFILL)
    found = None if name is None else progress_of(platform.warehouse, name, platform.now())
    return {} if found is None else {"backfill": dg.MetadataValue.json(found.as_dict())}


def still_watched(platform: Platform, market: str, symbols: Sequence[str]) -> list[str]:
    """Return those of the symbols that are on the watchlist now."""
    entries = platform.reference.watchlist(market, active_only=True)
    watched = {entry.symbol for entry in entries}
    return [symbol for symbol in symbols if symbol in watched]
