"""What happens to a breaker at each event."""

import pytest

from scizor_resources.budget.breaker import BreakerState, admit, after_failure, after_success

NOW = 1_800_000_000.0


def failed(state: BreakerState, times: int, now: float = NOW) -> BreakerState:
    for _ in range(times):
        state = after_failure(state, now, "503")
    return state


def test_four_failures_leave_it_closed() -> None:
    assert not failed(BreakerState(), 4).is_open


def test_a_success_in_between_begins_the_count_anew() -> None:
    state = after_success(failed(BreakerState(), 4), NOW)
    assert not failed(state, 4).is_open


def test_five_failures_hold_calls_for_30_seconds() -> None:
    state = failed(BreakerState(), 5)
    assert [admit(state, NOW)[1], admit(state, NOW + 20)[1]] == [30, 10]


def test_after_the_rest_one_caller_may_try_and_the_next_has_to_wait() -> None:
    state, first = admit(failed(BreakerState(), 5), NOW + 30)
    assert (first, admit(state, NOW + 31)[1] > 0) == (0, True)


def test_a_try_that_was_never_heard_of_again_lets_another_follow() -> None:
    state, _ = admit(failed(BreakerState(), 5), NOW + 30)
    assert admit(state, NOW + 91)[1] == 0


def test_the_rest_doubles_up_to_ten_minutes() -> None:
    state, now, rests = failed(BreakerState(), 5), NOW, []
    for _ in range(7):
        wait = admit(state, now)[1]
        rests.append(wait)
        now += wait
        state = failed(admit(state, now)[0], 1, now)
    assert rests == [30, 60, 120, 240, 480, 600, 600]


def test_calls_that_were_under_way_do_not_lengthen_the_rest() -> None:
    state = failed(failed(BreakerState(), 5), 3, NOW + 1)
    assert admit(state, NOW + 1)[1] == 29


def test_a_success_closes_it_and_keeps_the_last_error_for_people() -> None:
    state = after_success(failed(BreakerState(), 5), NOW + 40)
    assert (state.is_open, state.last_error, state.last_call_at) == (False, "503", NOW + 40)


@pytest.mark.parametrize("length", [10, 100_000])
def test_a_long_error_is_cut(length: int) -> None:
    state = after_failure(BreakerState(), NOW, "x" * length)
    assert len(state.last_error) == min(length, 500)
