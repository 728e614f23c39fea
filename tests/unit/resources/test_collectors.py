"""The collectors: which there are, when they are due, what they need."""

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr

from scizor_assets.schedules import collections_due, due_collectors
from scizor_core.errors import InvalidInputError
from scizor_resources.collectors import COLLECTORS, TICK, collectors_of, get_collector, paced
from scizor_resources.providers.registry import PROVIDERS
from scizor_resources.settings import Settings

MIDNIGHT = datetime(2026, 11, 21, tzinfo=UTC)
NEWS = "human/news_sentiment"
KEY = SecretStr("k")


def runs_of_a_day(name: str) -> int:
    collector = get_collector(name)
    ticks = int(timedelta(days=1) / TICK)
    return sum(collector.is_due(MIDNIGHT + number * TICK) for number in range(ticks))


def test_each_has_a_known_provider_and_a_pace_that_the_schedules_can_keep() -> None:
    for each in COLLECTORS:
        assert each.provider in PROVIDERS
        assert timedelta(days=1) % each.every == timedelta(0)
        assert each.every % TICK == timedelta(0)


def test_no_two_share_provider_and_asset() -> None:
    pairs = {(each.provider, each.asset) for each in COLLECTORS}
    assert len(pairs) == len(COLLECTORS)


@pytest.mark.parametrize(
    ("name", "runs"),
    [("coinspot", 288), ("reddit", 96), ("coinspot_announcements", 24), ("defillama", 4)],
)
def test_a_collector_is_due_as_often_as_it_says(name: str, runs: int) -> None:
    assert runs_of_a_day(name) == runs


def test_cryptopanic_leaves_three_pages_a_day_of_its_hundred_calls_a_month() -> None:
    assert runs_of_a_day("cryptopanic") * len(get_collector("cryptopanic").days(MIDNIGHT)) == 1


def test_a_larger_plan_of_cryptopanic_is_asked_every_hour() -> None:
    settings = Settings(cryptopanic_plan="growth")
    assert paced(get_collector("cryptopanic"), settings).every == timedelta(hours=1)


def test_what_is_not_set_up_is_not_due() -> None:
    settings = Settings(finnhub_api_key=KEY)
    assert [each.name for each in due_collectors(NEWS, MIDNIGHT, settings)] == ["finnhub_news"]


def test_with_samples_nothing_has_to_be_set() -> None:
    settings = Settings(samples=True)
    assert not [each for each in COLLECTORS if each.missing(settings)]


def test_an_unknown_collector_names_those_there_are() -> None:
    with pytest.raises(InvalidInputError, match="no collector 'nobody'. Known: coinspot, "):
        get_collector("nobody")


def test_a_collector_of_another_asset_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="'edgar' does not feed human/news_sentiment"):
        collectors_of(NEWS, ["edgar"])


@pytest.mark.parametrize(
    ("name", "time", "days"),
    [
        # At midnight nothing of the new day is there yet.
        ("reddit", "00:00", ["2026-11-20"]),
        ("reddit", "00:15", ["2026-11-20", "2026-11-21"]),
        ("reddit", "01:00", ["2026-11-21"]),
        # Once a day the last days are looked at again for edits and deletions.
        ("reddit", "03:00", ["2026-11-18", "2026-11-19", "2026-11-20", "2026-11-21"]),
        ("x", "03:00", ["2026-11-21"]),
        ("glassnode", "12:00", ["2026-11-20", "2026-11-21"]),
        # The developer plan shows news a day late.
        ("cryptopanic", "00:00", ["2026-11-19"]),
    ],
)
def test_the_days_asked_for_are_those_that_may_still_change(
    name: str, time: str, days: list[str]
) -> None:
    at = datetime.fromisoformat(f"2026-11-21T{time}+00:00")
    assert [day.isoformat() for day in get_collector(name).days(at)] == days


def test_collectors_that_are_due_together_share_a_run_for_each_day() -> None:
    settings = Settings(finnhub_api_key=KEY, newscatcher_api_key=KEY, cryptopanic_api_key=KEY)
    assert collections_due(NEWS, MIDNIGHT, settings) == {
        "2026-11-19": ["cryptopanic"],
        "2026-11-20": ["newscatcher", "finnhub_news"],
    }
