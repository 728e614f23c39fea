"""How long tables keep their rows."""

from datetime import UTC, datetime

import pytest

from scizor_core.errors import InvalidInputError
from scizor_core.retention import POLICIES, policies

#: Days, as the design of the platform has them.
DESIGN = {
    "price_data_5min": 365,
    "protocol_fundamentals": 365,
    "on_chain_metrics": 180,
    "news_sentiment": 90,
    "social_sentiment": 30,
    "story_texts": 30,
    "catalyst_events": 730,
    "collector_runs": 30,
}


def test_the_defaults_are_those_of_the_design() -> None:
    assert {policy.name: policy.days for policy in policies()} == DESIGN


def test_a_change_concerns_its_table_alone() -> None:
    changed = {policy.name: policy.days for policy in policies(["news_sentiment=120"])}
    assert changed == {**DESIGN, "news_sentiment": 120}


def test_no_days_keep_everything() -> None:
    (policy,) = [each for each in policies(["collector_runs=0"]) if each.name == "collector_runs"]
    assert policy.cutoff(datetime(2026, 11, 21, tzinfo=UTC)) is None


def test_what_lies_before_the_cutoff_is_older_than_the_days() -> None:
    (policy,) = [each for each in POLICIES if each.name == "social_sentiment"]
    cutoff = policy.cutoff(datetime(2026, 11, 21, 12, tzinfo=UTC))
    assert cutoff == datetime(2026, 10, 22, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("bars=10", "no retention of 'bars'"),
        ("news_sentiment", "write days, as in news_sentiment=120"),
        ("news_sentiment=-1", "write days"),
        ("news_sentiment=ten", "write days"),
    ],
)
def test_a_change_that_cannot_be_says_how_to_write_it(change: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        policies([change])
