"""The collectors: which there are, when they are due, what they need."""

from datetime import UTC, date, datetime, timedelta

import pytest
from pydantic import SecretStr, ValidationError

from scizor_assets.ledger_schedules import collections_due, due_collectors
from scizor_core.errors import InvalidInputError
from scizor_resources.collectors import COLLECTORS, TICK, collectors_of, get_collector, paced
from scizor_resources.providers.registry import PROVIDERS
from scizor_resources.settings import Settings
from scizor_resources.stores.providers import DayRuns

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
        # Once a day the last days are looked at again for what came late, edits and deletions.
        ("reddit", "03:00", ["2026-11-18", "2026-11-19", "2026-11-20", "2026-11-21"]),
        ("reddit", "03:15", ["2026-11-21"]),
        ("edgar", "03:00", ["2026-11-18", "2026-11-19", "2026-11-20", "2026-11-21"]),
        (
            "coinspot_announcements",
            "03:00",
            ["2026-11-18", "2026-11-19", "2026-11-20", "2026-11-21"],
        ),
        ("coinspot_announcements", "04:00", ["2026-11-21"]),
        ("finnhub_earnings", "03:00", ["2026-11-19", "2026-11-20", "2026-11-21"]),
        ("newscatcher", "03:00", ["2026-11-19", "2026-11-20", "2026-11-21"]),
        # At the first turn from three on, which of a slower pace is a later one.
        ("x", "00:00", ["2026-11-20"]),
        ("x", "06:00", ["2026-11-20", "2026-11-21"]),
        ("x", "12:00", ["2026-11-21"]),
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


def test_x_is_asked_as_often_as_its_posts_may_cost() -> None:
    x = get_collector("x")
    assert paced(x, Settings()).every == timedelta(hours=6)
    assert paced(x, Settings(x_every_hours=2)).every == timedelta(hours=2)
    with pytest.raises(ValidationError, match="write 1, 2, 3, 4, 6, 8, 12 or 24 hours"):
        Settings(x_every_hours=5)


def test_collectors_that_are_due_together_share_a_run_for_each_day() -> None:
    settings = Settings(finnhub_api_key=KEY, newscatcher_api_key=KEY, cryptopanic_api_key=KEY)
    assert collections_due(NEWS, MIDNIGHT, settings, {}) == {
        "2026-11-19": ["cryptopanic"],
        "2026-11-20": ["newscatcher", "finnhub_news"],
    }


# --- days that were missed ----------------------------------------------------------------


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"2026-11-{text}+00:00")


def asked(last: str, *, first: str = "", success: str = "", failures: int = 0) -> DayRuns:
    return DayRuns(
        at(first or last), at(last), at(success or last) if not failures or success else None,
        failures,
    )  # fmt: skip


NOON = at("21T12:00")
WHOLE = asked("21T00:00", first="20T00:00")


def open_days(
    name: str, runs: dict[str, DayRuns], moment: datetime = NOON, settings: Settings | None = None
) -> list[str]:
    collector = paced(get_collector(name), settings or Settings())
    known = {date.fromisoformat(f"2026-11-{day}"): each for day, each in runs.items()}
    return [f"{day:%d}" for day in collector.open_days(known, moment)]


def test_a_day_that_was_asked_for_after_its_end_is_not_open() -> None:
    assert open_days("edgar", {"20": WHOLE}) == []


def test_a_day_whose_last_run_failed_is_asked_for_again() -> None:
    failed = asked("21T03:00", first="20T00:00", success="21T00:00", failures=1)
    assert open_days("edgar", {"20": failed}) == ["20"]


def test_a_day_that_was_never_asked_for_after_its_end_is_open() -> None:
    assert open_days("edgar", {"20": asked("20T23:45", first="20T00:00")}) == ["20"]


def test_days_without_any_run_are_open_from_the_first_one_that_was_followed() -> None:
    followed = {"18": asked("19T00:00", first="18T00:00"), "20": WHOLE}
    assert open_days("edgar", followed) == ["19"]
    assert open_days("edgar", {}) == []


def test_a_day_of_the_past_that_was_fetched_by_hand_opens_no_others() -> None:
    assert open_days("edgar", {"17": asked("21T09:00"), "20": WHOLE}) == []


@pytest.mark.parametrize(
    ("failures", "minutes"), [(1, 15), (2, 30), (3, 60), (6, 480), (8, 1440), (90, 1440)]
)
def test_the_wait_for_another_try_doubles_up_to_a_day(failures: int, minutes: int) -> None:
    last = asked("19T00:30", first="18T00:00", failures=failures)
    due = last.last_at + timedelta(minutes=minutes)
    days = {"18": last, "19": WHOLE, "20": WHOLE}
    assert "18" not in open_days("edgar", days, due - timedelta(minutes=1))
    assert "18" in open_days("edgar", days, due)


def test_the_newest_open_days_come_first_and_two_at_once() -> None:
    followed = {"10": asked("10T12:00"), "15": asked("15T12:00")}
    assert open_days("edgar", followed) == ["20", "19"]


def test_days_that_are_older_than_a_week_are_given_up() -> None:
    whole = {f"{day}": asked(f"{day + 1}T00:00", first=f"{day}T00:00") for day in range(14, 21)}
    assert open_days("edgar", {"13": asked("13T12:00"), **whole}) == []
    assert open_days("edgar", {**whole, "14": asked("14T12:00")}) == ["14"]


def test_what_comes_a_day_late_is_whole_a_day_later() -> None:
    early = asked("21T00:00", first="20T00:00")
    assert open_days("cryptopanic", {"20": early}, at("21T23:00")) == []
    assert open_days("cryptopanic", {"20": early}, at("22T00:00")) == ["20"]


def test_a_source_without_history_is_not_asked_for_what_was_missed() -> None:
    assert open_days("nansen", {"19": asked("19T12:00")}) == []


def test_open_days_are_asked_for_beside_the_present_one() -> None:
    settings = Settings(finnhub_api_key=KEY)
    runs = {"finnhub": {date(2026, 11, 19): asked("19T12:00"), date(2026, 11, 20): WHOLE}}
    assert collections_due(NEWS, NOON, settings, runs) == {
        "2026-11-19": ["finnhub_news"],
        "2026-11-21": ["finnhub_news"],
    }


def test_no_day_without_a_partition_is_asked_for() -> None:
    settings = Settings(finnhub_api_key=KEY, intraday_start=date(2026, 11, 20))
    due = collections_due(NEWS, at("21T03:00"), settings, {})
    assert list(due) == ["2026-11-20", "2026-11-21"]
