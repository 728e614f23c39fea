"""What is stored together: bars, indicators and refused trades, as rows that a file can keep."""

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec
import numpy as np
import pandas as pd

from scizor_core.indicators import INDICATOR_COLUMNS
from scizor_core.schemas.indicators import INDICATOR_ROW_COLUMNS
from scizor_core.stream.trades import NO_ID
from scizor_resources.providers.base import REJECTED_COLUMNS
from scizor_resources.stores.live_bars import LiveBarRow

#: Key of a bar: instrument, timeframe, start in microseconds UTC.
BarKey = tuple[int, str, int]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: 9999-01-01; Python has no later years.
_LAST_US = 253_370_764_800_000_000


class KeptBar(NamedTuple):
    """A bar with the instrument it is a bar of."""

    market: str
    symbol: str
    bar: LiveBarRow

    @property
    def key(self) -> BarKey:
        """What there is only one bar of."""
        return self.bar[:3]


class KeptIndicators(NamedTuple):
    """The indicators of a closed bar; `values` are in the order of `INDICATOR_COLUMNS`."""

    instrument_id: int
    timeframe: str
    start: int
    session_day: int
    source: str
    values: list[float | None]
    warmup_bars: int

    @property
    def key(self) -> BarKey:
        """What there is only one row of."""
        return self[:3]


class RefusedTrade(NamedTuple):
    """A trade that was refused; `ts` is None where it had no time that could be read."""

    market: str
    symbol: str
    ts: int | None
    rule: str
    source: str
    price: str
    size: str
    trade_id: int


class WarmBatch(msgspec.Struct, array_like=True):
    """What is stored together."""

    bars: list[KeptBar] = []
    indicators: list[KeptIndicators] = []
    refused: list[RefusedTrade] = []

    def __bool__(self) -> bool:
        return bool(self.bars or self.indicators or self.refused)

    def encode(self) -> bytes:
        """Return it as bytes."""
        return _encoder.encode(self)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(WarmBatch)


def decode_batch(record: bytes) -> WarmBatch:
    """Return what `WarmBatch.encode` has made bytes of.

    Raises:
        msgspec.MsgspecError: it is something else.
    """
    return _decoder.decode(record)


def join_batches(batches: Iterable[WarmBatch]) -> WarmBatch:
    """Return several batches as one; of a bar that is in more than one the last counts."""
    bars: dict[BarKey, KeptBar] = {}
    indicators: dict[BarKey, KeptIndicators] = {}
    refused: list[RefusedTrade] = []
    for batch in batches:
        bars.update((each.key, each) for each in batch.bars)
        indicators.update((each.key, each) for each in batch.indicators)
        refused += batch.refused
    return WarmBatch(list(bars.values()), list(indicators.values()), refused)


def indicator_frame(rows: Sequence[KeptIndicators]) -> pd.DataFrame:
    """Return indicators as `Warehouse.write_indicators` takes them, by key."""
    ordered = sorted(rows, key=lambda row: row.key)
    values = np.array([row.values for row in ordered], dtype=np.float64)
    starts = np.array([row.start for row in ordered], dtype=np.int64)
    days = np.array([row.session_day for row in ordered], dtype="datetime64[D]")
    columns = {
        "instrument_id": np.array([row.instrument_id for row in ordered], dtype=np.int64),
        "timeframe": pd.Series([row.timeframe for row in ordered], dtype="str"),
        "ts": pd.DatetimeIndex(starts.astype("datetime64[us]")).tz_localize("UTC"),
        "session_date": days.astype("datetime64[us]"),
        "source": pd.Series([row.source for row in ordered], dtype="str"),
        **{name: values[:, place] for place, name in enumerate(INDICATOR_COLUMNS)},
        "warmup_bars": np.array([row.warmup_bars for row in ordered], dtype=np.int64),
    }
    return pd.DataFrame({name: columns[name] for name in INDICATOR_ROW_COLUMNS})


def refused_frame(rows: Sequence[RefusedTrade]) -> pd.DataFrame:
    """Return refused trades as `QualityStore.quarantine` takes them."""
    records = [
        {
            "symbol": row.symbol,
            "ts": _instant(row.ts),
            "reason": row.rule,
            "source": row.source,
            "origin": "stream",
            "row_number": None,
            "payload": {
                "price": row.price,
                "size": row.size,
                "trade_id": "" if row.trade_id == NO_ID else row.trade_id,
                "ts_us": "" if row.ts is None else row.ts,
            },
        }
        for row in rows
    ]
    return pd.DataFrame(records, columns=list(REJECTED_COLUMNS), dtype="object")


def number_text(value: float) -> str:
    """Return a number as text, "" for none."""
    return "" if math.isnan(value) else repr(value)


def _instant(ts: int | None) -> datetime | None:
    if ts is None or not 0 <= ts < _LAST_US:
        return None
    return _EPOCH + timedelta(microseconds=ts)
