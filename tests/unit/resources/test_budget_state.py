"""When a queue of calls will have been made."""

from datetime import UTC, datetime, timedelta

import pytest

from scizor_resources.budget.limits import Window, monthly
from scizor_resources.budget.state import BudgetState, WindowState, forecast_seconds

NOW = datetime(2027, 1, 15, 8, tzinfo=UTC)


def state(window: Window, used: int, resets_in: float, paused: float | None = None) -> BudgetState:
    reset = NOW + timedelta(seconds=resets_in)
    return BudgetState(
        provider="example",
        at=NOW,
        windows=(WindowState("", window.limit, window.seconds, used, reset, window),),
        waiting={},
        running=0,
        paused_until=None if paused is None else NOW + timedelta(seconds=paused),
        paused_why="",
        local=False,
    )


def test_calls_for_which_there_is_room_at_once_take_no_time() -> None:
    assert forecast_seconds(state(monthly(100), 10, 86_400), 80, "backfill") == 0


def test_a_quota_that_is_used_up_waits_for_the_next_month() -> None:
    assert forecast_seconds(state(monthly(100), 90, 86_400), 5, "backfill") == 86_400


def test_calls_of_several_months_wait_for_each_of_them() -> None:
    # 90 % of 100 a month are a backfill's: 10 now, 90 in a day, the last 50 a month later.
    seconds = forecast_seconds(state(monthly(100), 80, 86_400), 150, "backfill")
    assert seconds == 86_400 + 31 * 86_400


def test_a_thousand_calls_at_200_a_minute_take_about_five_minutes() -> None:
    seconds = forecast_seconds(state(Window(200, 60), 0, 0), 1000, "backfill")
    assert seconds == pytest.approx(300, rel=0.05)


def test_a_pause_comes_before_everything() -> None:
    paused = state(monthly(100), 0, 86_400, paused=600)
    assert forecast_seconds(paused, 1, "live") == 600


def test_no_calls_take_no_time() -> None:
    assert forecast_seconds(state(monthly(1), 1, 86_400, paused=600), 0, "live") == 0
