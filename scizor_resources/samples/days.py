"""The days that the hand-written samples are about; on each of them the demo has bars."""

from datetime import date

#: UTC days, in order.
SAMPLE_DAYS: tuple[date, ...] = (
    # Simulated 5-minute bars of the ASX portfolio, this session and the two after it.
    date(2022, 1, 17),
    # Minutes of MSFT, this session and the next; results come after its close.
    date(2022, 5, 24),
    # Minutes of MSFT, this session and the next; the amendment of those results comes within it.
    date(2022, 6, 7),
    # The half hour of BTC/USD trades, 02:36 to 03:06 UTC.
    date(2026, 5, 2),
)

#: First and last UTC day with fundamentals and on-chain metrics: 40 days around the BTC day, so
#: that changes over 30 days can be told on it.
METRIC_DAYS: tuple[date, date] = (date(2026, 3, 28), date(2026, 5, 6))
