"""Alpaca's trades, the same whether they are streamed or asked for: time, identity, conditions.

Source: docs.alpaca.markets, "Real-time Stock Data" and "Historical Trades" (read 2026-11-21) for
the fields. What a sale condition leaves a trade out of is from the matrices of the two consolidated
tapes (CTA for tapes A and B, UTP for tape C), written down from memory.
"""

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from scizor_core.stream.trades import MICROSECONDS, NO_TIME, Condition

_DAY_US = 86_400 * MICROSECONDS
_NANOSECONDS = 1_000_000_000
_PRICE, _VOLUME = Condition.NOT_IN_PRICE, Condition.NOT_IN_VOLUME

#: Sale condition -> what it leaves a trade out of. A condition that may set a day's high or low
#: but not its last price is left out of the price here: it tells of another time than its own.
SALE_CONDITIONS: Mapping[str, Condition] = {
    "C": _PRICE,  # cash sale
    "G": _PRICE,  # bunched, sold out of sequence
    "H": _PRICE,  # price variation
    "I": _PRICE,  # odd lot
    "M": _PRICE | _VOLUME,  # a market centre's official close, traded before
    "N": _PRICE,  # next day
    "P": _PRICE,  # prior reference price
    "Q": _PRICE | _VOLUME,  # a market centre's official open, traded before
    "R": _PRICE,  # seller
    "T": _PRICE,  # extended hours
    "U": _PRICE,  # extended hours, sold out of sequence
    "V": _PRICE,  # contingent
    "W": _PRICE,  # average price (UTP)
    "Z": _PRICE,  # sold out of sequence
    "3": _PRICE,  # stopped stock, sold out of sequence
    "4": _PRICE,  # derivatively priced
    "7": _PRICE,  # qualified contingent
    "9": _VOLUME,  # corrected consolidated close, traded before
}
#: "B" is an average price on tapes A and B and an ordinary bunched trade on tape C.
_AVERAGE_PRICE = "B"
_CTA_TAPES = ("A", "B")


class AlpacaTrade(NamedTuple):
    """One trade.

    Attributes:
        ts: microseconds since 1970 UTC, `NO_TIME` where there is no time.
        price: NaN where there is none.
        size: NaN where there is none.
        trade_id: see `identity_of`; None where Alpaca gives none.
        condition: what its sale conditions leave it out of.
    """

    ts: int
    price: float
    size: float
    trade_id: str | None
    condition: Condition


def trade_of(row: Mapping[str, Any], nanoseconds: int | None) -> AlpacaTrade:
    """Return a trade out of Alpaca's fields i, x, p, s, c and z; any value is taken.

    Args:
        row: the fields as decoded.
        nanoseconds: what its `t` says, since 1970 UTC; None where it says nothing.
    """
    return AlpacaTrade(
        ts=NO_TIME if nanoseconds is None else nanoseconds // 1000,
        price=number_of(row.get("p")),
        size=number_of(row.get("s")),
        trade_id=None
        if nanoseconds is None
        else identity_of(nanoseconds, row.get("x"), row.get("i")),
        condition=condition_of(row.get("c"), row.get("z")),
    )


def identity_of(nanoseconds: int, exchange: object, number: object) -> str | None:
    """Return what tells a trade from all others of its symbol, None where it has no number.

    The numbers are an exchange's own and begin again every day. The first eight characters put
    trades of one microsecond in order; the rest of them is the same for all of its day.
    """
    if not isinstance(number, int | str) or isinstance(number, bool) or number == "":
        return None
    day = nanoseconds // 1000 // _DAY_US
    place = exchange if isinstance(exchange, str) and exchange else "-"
    return f"{nanoseconds % 1000:03d}{day:05d}{place}{number}"


def condition_of(codes: object, tape: object) -> Condition:
    """Return what a trade's sale conditions leave it out of; unknown ones leave it in."""
    if not isinstance(codes, list | tuple):
        return Condition.NONE
    known = tuple(code for code in codes if isinstance(code, str) and len(code) == 1)
    return _condition_of(known, tape in _CTA_TAPES)


@lru_cache(maxsize=4096)
def _condition_of(codes: tuple[str, ...], is_cta: bool) -> Condition:
    found = Condition.NONE
    for code in codes:
        if code == _AVERAGE_PRICE and is_cta:
            found |= _PRICE
        found |= SALE_CONDITIONS.get(code, Condition.NONE)
    return found


def nanoseconds_of(seconds: object, nanoseconds: object) -> int | None:
    """Return an instant of two whole numbers as nanoseconds since 1970, None where it is none."""
    if not (isinstance(seconds, int) and isinstance(nanoseconds, int)):
        return None
    found = seconds * _NANOSECONDS + nanoseconds
    return found if 0 < found < 2**62 else None


def number_of(value: object) -> float:
    """Return a price or a size, NaN where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan
