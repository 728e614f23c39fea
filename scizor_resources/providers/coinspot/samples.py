"""CoinSpot's current prices as samples, and samples as bars: pure functions.

CoinSpot's public interface has no candles. Bars are built of prices that were looked at now and
then; they miss what happened between two looks and know nothing of volume.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from math import isfinite
from typing import Any

import pandas as pd

from scizor_core.errors import InvalidInputError
from scizor_core.markets import TIMEFRAME_MINUTES, Timeframe
from scizor_core.sources import sampled
from scizor_resources.providers.base import (
    REJECTED_COLUMNS,
    empty_bars,
    empty_rejected,
    normalise_bars,
)
from scizor_resources.providers.coinspot.symbols import from_coinspot_symbol

SOURCE_NAME = "coinspot"
#: What bars of samples carry in their `source` column.
SAMPLED_SOURCE = sampled("coinspot")

#: Columns of a frame of samples, in order. `symbol` is the platform's, for example BTC/AUD; `bid`,
#: `ask` and `last` are prices in the quote currency of the symbol, float64, of which bid and ask
#: may be NaN; `sampled_at` is the arrival of the answer (CoinSpot gives no time),
#: datetime64[us, UTC].
SAMPLE_COLUMNS: tuple[str, ...] = ("symbol", "bid", "ask", "last", "sampled_at", "source")


@dataclass(frozen=True)
class ParsedSamples:
    """What one answer holds.

    Attributes:
        samples: columns `SAMPLE_COLUMNS`, by symbol.
        rejected: prices that cannot be used, columns `REJECTED_COLUMNS`.
    """

    samples: pd.DataFrame
    rejected: pd.DataFrame


def parse_prices(prices: Mapping[str, Any], *, origin: str, sampled_at: datetime) -> ParsedSamples:
    """Return the samples of an answer's prices.

    CoinSpot writes numbers as text, and "NaN" where nobody bids or asks. A sample needs its last
    price above zero; a bid or ask that is not a number above zero is missing (NaN).

    Args:
        prices: CoinSpot's key -> `{"bid": text, "ask": text, "last": text}`.
        origin: what was called.
        sampled_at: when the answer came, aware.
    """
    good: list[dict[str, Any]] = []
    bad: list[dict[str, Any]] = []
    symbols: set[str] = set()  # those that have a sample
    for number, (key, quoted) in enumerate(prices.items(), start=1):
        try:
            good.append(_sample(key, quoted, sampled_at, symbols))
        except InvalidInputError as error:
            bad.append(_refused(number, key, quoted, str(error), origin, sampled_at))
    rejected = empty_rejected()
    if bad:
        rejected = pd.DataFrame(bad, columns=list(REJECTED_COLUMNS))
    return ParsedSamples(samples_frame(good), rejected)


def samples_frame(samples: list[dict[str, Any]]) -> pd.DataFrame:
    """Return records with the names of `SAMPLE_COLUMNS` as a frame, by symbol and time."""
    frame = pd.DataFrame(samples, columns=list(SAMPLE_COLUMNS))
    frame["sampled_at"] = pd.to_datetime(frame["sampled_at"], utc=True).astype(
        "datetime64[us, UTC]"
    )
    types = {"symbol": "str", "source": "str", **dict.fromkeys(("bid", "ask", "last"), "float64")}
    return frame.astype(types).sort_values(["symbol", "sampled_at"], ignore_index=True)


def bars_from_samples(
    samples: pd.DataFrame, timeframe: Timeframe, *, now: datetime
) -> pd.DataFrame:
    """Return bars of the last prices that were sampled within each interval.

    Open and close are the first and the last sample of the interval, high and low its extremes:
    the true range is at least as wide. Intervals without a sample have no bar. The source is
    `SAMPLED_SOURCE`, by which such bars can be told from traded ones.

    Args:
        samples: columns `SAMPLE_COLUMNS`, in any order; one symbol or several.
        timeframe: timeframe of the bars; days are UTC days.
        now: the present, aware; a bar whose interval has not ended is not final.

    Returns:
        Columns `SOURCE_BAR_COLUMNS`, by symbol and ts. `volume` is 0.0, since a bar has to have
        one and none is known: sum volumes without this source. `trade_count` is NA, for samples
        are not trades.
    """
    if samples.empty:
        return empty_bars()
    step = pd.Timedelta(minutes=TIMEFRAME_MINUTES[timeframe])
    ordered = samples.sort_values(["symbol", "sampled_at"], kind="stable")
    starts = ordered["sampled_at"].dt.floor(step).rename("ts")
    grouped = ordered.groupby([ordered["symbol"], starts])["last"]
    bars = grouped.agg(open="first", high="max", low="min", close="last").reset_index()
    return normalise_bars(
        bars.assign(volume=0.0, source=SAMPLED_SOURCE, is_final=bars["ts"] + step <= now)
    )


def _sample(key: str, quoted: Any, sampled_at: datetime, symbols: set[str]) -> dict[str, Any]:
    """Return one sample and note its symbol; raise InvalidInputError where it is none."""
    symbol = from_coinspot_symbol("crypto", key)
    if not isinstance(quoted, Mapping):
        raise InvalidInputError("there are no prices in it")
    last = _price(quoted.get("last"))
    if last is None:
        raise InvalidInputError(f"no last price: '{quoted.get('last')}' is not a number above zero")
    if symbol in symbols:
        raise InvalidInputError(f"repeated: the first price of {symbol} was kept")
    symbols.add(symbol)
    return {
        "symbol": symbol,
        "bid": _price(quoted.get("bid")),
        "ask": _price(quoted.get("ask")),
        "last": last,
        "sampled_at": sampled_at,
        "source": SOURCE_NAME,
    }


def _price(value: Any) -> float | None:
    """Return a price given as text or number, None where it is none."""
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if isfinite(number) and number > 0 else None


def _refused(
    number: int, key: str, quoted: Any, reason: str, origin: str, sampled_at: datetime
) -> dict[str, Any]:
    try:
        symbol = from_coinspot_symbol("crypto", key)
    except InvalidInputError:
        symbol = key
    fields = quoted if isinstance(quoted, Mapping) else {"prices": quoted}
    return {
        "symbol": symbol,
        "ts": sampled_at,
        "reason": reason,
        "source": SOURCE_NAME,
        "origin": origin,
        "row_number": number,
        "payload": {"key": key, **{str(name): str(value) for name, value in fields.items()}},
    }
