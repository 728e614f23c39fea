"""Which silences are odd: against made-up trades whose chances are known."""

import numpy as np

from scizor_core.stream.liveness import Liveness
from scizor_core.stream.trades import make_batch

SECOND = 1_000_000
START = 1_772_452_800 * SECOND
ALL = np.ones(2, dtype=np.bool_)


def heard(*times: int) -> Liveness:
    liveness = Liveness()
    for ts in times:
        liveness.seen(make_batch([0], [START + ts], [100.0], [1.0]))
    return liveness


def poisson(per_second: float, trades: int) -> list[int]:
    chance = np.random.default_rng(5)
    return np.cumsum(chance.exponential(SECOND / per_second, trades)).astype(int).tolist()


def test_a_symbol_that_trades_every_ten_seconds_is_odd_after_some_minutes_of_silence():
    times = poisson(0.1, 400)
    liveness = heard(*times)

    # A chance of one in a million is 13.8 mean pauses; the mean itself is only estimated.
    assert 100 * SECOND < liveness.limit_us(0) < 200 * SECOND
    assert liveness.silent(START + times[-1] + 90 * SECOND, ALL) == []
    assert liveness.silent(START + times[-1] + 200 * SECOND, ALL) == [0]


def test_silences_within_independent_trades_are_hardly_ever_odd():
    liveness, odd = Liveness(), 0
    for ts in poisson(0.05, 5_000):
        odd += len(liveness.silent(START + ts, ALL))
        liveness.seen(make_batch([0], [START + ts], [100.0], [1.0]))

    assert odd == 0


def test_bursts_with_quiet_times_between_them_are_not_odd():
    # Ten trades within a second, then three minutes of nothing, again and again.
    times = [
        burst * 180 * SECOND + trade * SECOND // 10 for burst in range(40) for trade in range(10)
    ]
    liveness = heard(*times)

    assert liveness.silent(START + times[-1] + 400 * SECOND, ALL) == []
    assert liveness.silent(START + times[-1] + 3_600 * SECOND, ALL) == [0]


def test_a_symbol_without_a_usual_rate_is_never_odd():
    assert heard(*range(0, 10 * SECOND, SECOND)).silent(START + 10**12, ALL) == []


def test_a_silence_is_told_once_and_again_after_twice_the_time():
    liveness = heard(*range(0, 100 * SECOND, SECOND))
    last = START + 99 * SECOND

    assert liveness.silent(last + 61 * SECOND, ALL) == [0]
    assert liveness.silent(last + 100 * SECOND, ALL) == []
    assert liveness.silent(last + 121 * SECOND, ALL) == [0]


def test_what_is_not_listened_to_is_not_silent():
    liveness = heard(*range(0, 100 * SECOND, SECOND))

    assert liveness.silent(START + 10**9, np.zeros(2, dtype=np.bool_)) == []


def test_a_night_between_two_sessions_says_nothing_about_the_rate():
    night = 16 * 3_600 * SECOND
    before = heard(*range(0, 100 * SECOND, SECOND))
    after = heard(*range(0, 100 * SECOND, SECOND), night)

    assert after.limit_us(0) == before.limit_us(0)
