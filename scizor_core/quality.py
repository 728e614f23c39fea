"""How good bars are: outliers, and the parts of the score.

Everything here is a statement about data that is already stored; nothing here changes a bar.
"""

from datetime import timedelta

import pandas as pd

PRICE_CHANGE_LIMIT = 0.10
VOLUME_RATIO_LIMIT = 5.0
VOLUME_AVERAGE_BARS = 20
SPREAD_LIMIT = 0.05
#: 11.00 / 10.00 - 1 is a little more than 0.10 in floating point, and is not over 10 %.
_ROUNDING = 1e-9
#: Bars before a window that `find_outliers` needs to judge the first bar of the window.
OUTLIER_LOOKBACK_BARS = VOLUME_AVERAGE_BARS + 1

#: How late the newest bars are of providers that say they are late. Australian prices of Yahoo come
#: 20 minutes after the trade.
PROVIDER_DELAY: dict[str, timedelta] = {
    "yahoo": timedelta(minutes=20),
    "alpaca-delayed_sip": timedelta(minutes=15),
}

OUTLIER_COLUMNS: tuple[str, ...] = ("instrument_id", "ts", "rule", "value", "limit")


def find_outliers(bars: pd.DataFrame, first_ts: pd.Timestamp | None = None) -> pd.DataFrame:
    """Return the bars that deserve a look, one row per bar and rule.

    Rules: `price_change` (close against the previous bar's close, over 10 %), `volume_ratio`
    (volume against the mean of the 20 bars before it, over 5 times) and `spread` (high minus low
    over close, over 5 %). A rule says nothing where it lacks the bars before. Only earlier bars of
    the same instrument are used.

    Args:
        bars: instrument_id, ts (UTC), high, low, close, volume; any order.
        first_ts: report only bars from there on; earlier ones serve as comparison.

    Returns:
        Columns `OUTLIER_COLUMNS`, ordered by instrument_id, ts, rule; `value` and `limit` are
        ratios (0.52 = 52 %).
    """
    ordered = bars.sort_values(["instrument_id", "ts"], kind="stable", ignore_index=True)
    groups = ordered.groupby("instrument_id", sort=False)
    previous_close = groups["close"].shift(1)
    average = groups["volume"].transform(
        lambda volume: volume.shift(1).rolling(VOLUME_AVERAGE_BARS).mean()
    )
    measures = {
        "price_change": (ordered["close"] / previous_close - 1, PRICE_CHANGE_LIMIT),
        "spread": ((ordered["high"] - ordered["low"]) / ordered["close"], SPREAD_LIMIT),
        "volume_ratio": (ordered["volume"] / average.where(average > 0), VOLUME_RATIO_LIMIT),
    }
    wanted = pd.Series(True, index=ordered.index) if first_ts is None else ordered["ts"] >= first_ts
    parts = []
    for rule, (value, limit) in measures.items():
        hit = wanted & (value.abs() > limit + _ROUNDING)
        part = ordered.loc[hit, ["instrument_id", "ts"]].assign(
            rule=rule, value=value[hit], limit=limit
        )
        parts.append(part)
    return pd.concat(parts)[list(OUTLIER_COLUMNS)].sort_values(
        ["instrument_id", "ts", "rule"], ignore_index=True
    )


def coverage_ratio(*, expected: int, present: int, quiet: int, excused: int) -> float:
    """Return the share of the bars that were to be had which is accounted for, 0 to 1.

    Args:
        expected: bars of the calendar.
        present: of those, stored.
        quiet: of those, known to have had no trade.
        excused: of those, not to be had: halted, outside every history, not listed.
    """
    due = expected - excused
    return (present + quiet) / due if due else 1.0


def validity_ratio(*, stored: int, refused: int, outliers: int) -> float:
    """Return the share of received rows that was not refused, less half the share of outliers.

    An outlier may well be real, so it costs half.

    Args:
        stored: bars of the session, those outside the grid included.
        refused: rows of it in quarantine.
        outliers: stored bars that a rule doubts.
    """
    received = stored + refused
    validity = 1 - refused / received if received else 1.0
    plausibility = 1 - min(outliers / stored, 1.0) / 2 if stored else 1.0
    return validity * plausibility


def agreement_ratio(*, stored: int, disputed: int) -> float:
    """Return the share of stored bars that no other source has differently."""
    return 1 - min(disputed / stored, 1.0) if stored else 1.0


def provider_delay(source: str) -> timedelta:
    """Return how late the bars of a row's source are by its own word."""
    parts = source.split("+")
    return max((PROVIDER_DELAY.get(part, timedelta()) for part in parts), default=timedelta())


def quality_score(
    coverage: float, validity: float = 1.0, agreement: float = 1.0, timeliness: float = 1.0
) -> float:
    """Return the score of a session, 0 (nothing usable) to 100 (nothing to say against it).

    Each part is a share, 0 to 1; the score is 100 times their product.
    """
    return round(100 * min(coverage, 1.0) * validity * agreement * timeliness, 2)
