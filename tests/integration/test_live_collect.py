"""What a refresh of a running session asks for."""

from datetime import UTC, date, datetime, timedelta

import pytest

from scizor_resources.pipeline.collect import BarCollector
from scizor_resources.platform import Platform
from scizor_resources.providers.gate import Lane
from tests.integration.helpers import FixedSource, flat

SESSION = date(2026, 3, 3)  # opens at 23:00 UTC of the day before, closes at 05:00
OPEN = datetime(2026, 3, 2, 23, 0, tzinfo=UTC)


def collect_five_minutes(
    platform: Platform, source: FixedSource, lane: Lane, at: datetime
) -> FixedSource:
    """Collect 5m bars of the session at an instant, where six minutes of 1m are stored."""
    for timeframe in ("1m", "5m"):
        BarCollector(
            "asx",
            timeframe,
            warehouse=platform.warehouse,
            reference=platform.reference,
            quality=platform.quality,
            providers=platform.providers,
            sources=[minutes() if timeframe == "1m" else source],
            now=lambda: at,
            lane=lane,
        ).collect(SESSION, SESSION + timedelta(days=1), ["CBA"])
    return source


def minutes() -> FixedSource:
    times = [(OPEN + timedelta(minutes=each)).isoformat() for each in range(6)]
    return FixedSource(flat("CBA", times), name="minutes", timeframes=("1m",))


def test_what_is_made_of_finer_bars_is_not_asked_for_while_the_session_runs(
    platform: Platform,
) -> None:
    asked = collect_five_minutes(platform, FixedSource(), "live", OPEN + timedelta(minutes=7))
    assert asked.asked == []


def test_after_the_session_has_settled_what_is_open_is_asked_for(platform: Platform) -> None:
    asked = collect_five_minutes(platform, FixedSource(), "live", OPEN + timedelta(hours=8))
    assert asked.asked_symbols() == {"CBA"}


@pytest.mark.parametrize("lane", ["repair", "backfill"])
def test_other_lanes_ask_for_what_is_open_at_any_time(platform: Platform, lane: Lane) -> None:
    asked = collect_five_minutes(platform, FixedSource(), lane, OPEN + timedelta(minutes=7))
    assert asked.asked_symbols() == {"CBA"}
