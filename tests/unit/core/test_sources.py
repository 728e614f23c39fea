import pytest

from scizor_core.sources import is_sampled, sampled, without_sampled


def test_the_source_of_a_sample_names_its_provider():
    assert sampled("ibkr") == "ibkr:sampled"
    assert without_sampled(sampled("ibkr")) == "ibkr"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("ibkr", False),
        ("ibkr:sampled", True),
        ("ibkr:sampled+yahoo", True),
        ("tape/sampled", False),
        ("simulated", False),
    ],
)
def test_a_bar_is_a_sample_where_any_part_of_it_is(source: str, expected: bool):
    assert is_sampled(source) is expected


def test_without_the_word_no_provider_is_named_twice():
    assert without_sampled("ibkr+ibkr:sampled+yahoo") == "ibkr+yahoo"
