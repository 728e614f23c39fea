"""Two sources over the same bar: do they agree?"""

from typing import Any

import numpy as np
import pandas as pd

from scizor_core.adjust import is_split_adjusted
from scizor_core.markets import Timeframe
from scizor_core.sources import without_sampled

#: One row per bar that two sources have differently. `kept` and `other` are name and values of the
#: source whose bar is (or stays) stored and of the one that contradicts it.
DISAGREEMENT_COLUMNS: tuple[str, ...] = (
    "symbol",
    "ts",
    "kept_source",
    "other_source",
    "kept",
    "other",
    "price_difference",
)

#: Prices that are this close, as a fraction, agree: venues round differently.
PRICE_TOLERANCE = 0.0005

#: The four prices of a bar in other shares differ by the same factor, but for rounding.
FACTOR_TOLERANCE = 0.005

_PRICES = ("open", "high", "low", "close")
_VALUES = (*_PRICES, "volume")


def find_disagreements(
    kept: pd.DataFrame, other: pd.DataFrame, timeframe: Timeframe
) -> pd.DataFrame:
    """Return the bars of which two frames have prices that differ by more than the tolerance.

    Volume is not judged: venues and feeds each count their own trades. Where one source has taken
    splits out of the past and the other has not, prices that differ by one factor agree.

    Args:
        kept: bars (symbol, ts, source, open, high, low, close, volume) that stay.
        other: bars of other sources for some of the same symbols and times.
        timeframe: timeframe of all of them.

    Returns:
        Columns `DISAGREEMENT_COLUMNS`; `price_difference` is the largest difference of the four
        prices as a fraction of the kept one.
    """
    if kept.empty or other.empty:
        return pd.DataFrame(columns=list(DISAGREEMENT_COLUMNS))
    columns = ["symbol", "ts", "source", *_VALUES]
    both = kept[columns].merge(other[columns], on=["symbol", "ts"], suffixes=("", "_other"))
    # Of one source a sample of its trades and all of them differ as a matter of course.
    both = both[both["source"].map(without_sampled) != both["source_other"].map(without_sampled)]
    theirs = both[[f"{name}_other" for name in _PRICES]].to_numpy(dtype="float64")
    # A price of 0 is nothing to compare with; such a bar is refused by the contract.
    prices = both[list(_PRICES)].to_numpy(dtype="float64")
    factors = theirs / np.where(prices > 0, prices, np.nan)
    difference = np.abs(1 - factors).max(axis=1, initial=0.0)
    bases = [
        both[name].map(lambda source: is_split_adjusted(source, timeframe)).to_numpy(dtype="bool")
        for name in ("source", "source_other")
    ]
    one_factor = np.ptp(factors, axis=1) <= FACTOR_TOLERANCE * np.abs(factors).max(
        axis=1, initial=0.0
    )
    difference[(bases[0] != bases[1]) & one_factor] = 0.0
    apart = both[difference > PRICE_TOLERANCE]
    return pd.DataFrame(
        {
            "symbol": apart["symbol"].array,
            "ts": apart["ts"].array,
            "kept_source": apart["source"].array,
            "other_source": apart["source_other"].array,
            "kept": _values(apart, ""),
            "other": _values(apart, "_other"),
            "price_difference": difference[difference > PRICE_TOLERANCE],
        }
    )


def _values(frame: pd.DataFrame, suffix: str) -> list[dict[str, Any]]:
    return [
        dict(zip(_VALUES, values, strict=True))
        for values in frame[[f"{name}{suffix}" for name in _VALUES]].itertuples(
            index=False, name=None
        )
    ]
