"""Settle what happens when an answer meets stored bars of another source."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from scizor_core.markets import Timeframe
from scizor_core.reconcile import DISAGREEMENT_COLUMNS, find_disagreements
from scizor_resources.stores.warehouse import Warehouse


@dataclass(frozen=True)
class Settled:
    """What is to be written, and what was found.

    Attributes:
        bars: bars to write.
        held_back: bars that are not written because a better source's final bar is stored.
        disagreements: columns `DISAGREEMENT_COLUMNS`.
    """

    bars: pd.DataFrame
    held_back: int
    disagreements: pd.DataFrame


class Reconciler:
    """Compares answers with what is stored.

    A final bar of a source that stands earlier in the chain stays when a later one answers, as it
    does when the first is down while a range is run again. The other way round the better source's
    bar is written, and the old values go to `market.bar_revisions` like any changed row's.

    Args:
        warehouse: where bars are.
        ranking: the chain, best source first.
    """

    def __init__(self, warehouse: Warehouse, ranking: Sequence[str]) -> None:
        self._warehouse, self._ranking = warehouse, tuple(ranking)

    def settle(self, timeframe: Timeframe, bars: pd.DataFrame) -> Settled:
        """Divide new bars (with `instrument_id`, `symbol`, `ts`, `source`, prices, volume)."""
        nothing = Settled(bars, 0, pd.DataFrame(columns=list(DISAGREEMENT_COLUMNS)))
        if bars.empty:
            return nothing
        ids = [int(each) for each in bars["instrument_id"].unique()]
        start, end = bars["ts"].min(), bars["ts"].max() + pd.Timedelta(microseconds=1)
        others = self._warehouse.sources_between(
            timeframe, ids, start.to_pydatetime(), end.to_pydatetime()
        )
        answered = set(bars["source"])
        if not {each for each in others if "simulated" not in each} - answered:
            return nothing
        stored = self._warehouse.read_bars(
            timeframe, start.to_pydatetime(), end.to_pydatetime(), instrument_ids=ids
        )
        stored = stored[~stored["source"].str.contains("simulated")]
        place = pd.MultiIndex.from_frame(bars[["instrument_id", "ts"]])
        there = pd.MultiIndex.from_frame(stored[["instrument_id", "ts"]]).get_indexer(place)
        known = there >= 0
        stored_rank = np.full(len(bars), len(self._ranking) + 1)
        stored_rank[known] = stored["source"].map(self.rank).to_numpy()[there[known]]
        final = np.zeros(len(bars), dtype=np.bool_)
        final[known] = stored["is_final"].to_numpy(dtype=np.bool_)[there[known]]
        new_rank = bars["source"].map(self.rank).to_numpy()
        stays = known & final & (new_rank > stored_rank)
        found = [
            find_disagreements(stored, bars[stays], timeframe),
            find_disagreements(bars[~stays], stored, timeframe),
        ]
        return Settled(
            bars[~stays],
            int(stays.sum()),
            pd.concat([each for each in found if not each.empty] or found[:1], ignore_index=True),
        )

    def rank(self, source: str) -> int:
        """Return the place of a row's source in the chain; the worst of several joined by "+"."""
        return max(self._place(part) for part in source.split("+"))

    def _place(self, source: str) -> int:
        for place, name in enumerate(self._ranking):
            if comes_from(source, name):
                return place
        return len(self._ranking)


def comes_from(source: str, provider: str) -> bool:
    """Say whether a row's source is that provider, which may say more: "tape/bokeh"."""
    return source == provider or source.startswith(tuple(f"{provider}{mark}" for mark in "/-:"))
