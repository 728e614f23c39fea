import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from scizor_core.stream.seen import SeenTrades
from scizor_core.stream.trades import TradeBatch, make_batch

#: (symbol, trade id): few values, so that repetition is the rule.
identities = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2**62)), max_size=60).flatmap(
    lambda few: st.lists(st.sampled_from(few or [(0, 1)]), max_size=200)
)


def named(rows: list[tuple[int, int]]) -> TradeBatch:
    count = len(rows)
    return make_batch(
        [symbol for symbol, _ in rows],
        [1_790_000_000_000_000] * count,
        [10.0] * count,
        [1.0] * count,
        np.array([identity for _, identity in rows], dtype=np.int64),
    )


@settings(max_examples=100, deadline=None)
@given(rows=identities, size=st.integers(1, 50))
def test_each_identity_is_new_once_as_in_a_set(rows: list[tuple[int, int]], size: int):
    seen, known = SeenTrades(), set[tuple[int, int]]()

    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        new = seen.fresh(named(part))
        expected = {each for each in part if each not in known}
        assert {each for each, is_new in zip(part, new, strict=True) if is_new} == expected
        assert int(new.sum()) == len(expected)
        known |= expected


def test_equal_ids_of_two_symbols_are_two_trades():
    assert SeenTrades().fresh(named([(0, 7), (1, 7)])).tolist() == [True, True]


def test_a_hundred_thousand_ids_in_a_row_are_all_new_and_then_all_known():
    seen = SeenTrades()
    batch = named([(0, number) for number in range(100_000)])

    assert seen.fresh(batch).all()
    assert not seen.fresh(batch).any()


def test_as_many_as_asked_for_are_remembered_and_older_ones_are_let_go():
    seen = SeenTrades(at_least=1000)
    for start in range(0, 4000, 500):
        seen.fresh(named([(0, number) for number in range(start, start + 500)]))

    assert not seen.fresh(named([(0, number) for number in range(3000, 4000)])).any()
    assert seen.fresh(named([(0, 0)])).all()


def test_trades_without_id_that_differ_in_size_are_different():
    batch = make_batch([0, 0], [5, 5], [10.0, 10.0], [1.0, 2.0])

    assert SeenTrades().fresh(batch).tolist() == [True, True]


def test_a_third_equal_trade_in_a_second_pass_is_new():
    seen = SeenTrades()
    seen.fresh(make_batch([0] * 2, [5] * 2, [10.0] * 2, [1.0] * 2))
    seen.begin_pass()

    again = seen.fresh(make_batch([0] * 3, [5] * 3, [10.0] * 3, [1.0] * 3))

    assert again.tolist() == [False, False, True]
