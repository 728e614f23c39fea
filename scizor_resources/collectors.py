"""The collectors as users know them: who is asked for what, how often, and what it costs.

A collector is one source feeding one asset. The table here is what schedules go by, what
`scizor collectors` lists, and what tells the runs in `collector_runs` apart.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Literal

from scizor_core.errors import InvalidInputError
from scizor_resources.providers.registry import PROVIDERS
from scizor_resources.settings import Settings

if TYPE_CHECKING:
    # The warehouse behind it takes a second to load, and a look at the table should not.
    from scizor_resources.stores.providers import DayRuns

#: free: no key; key: a free account is enough; paid: nothing without a subscription.
Tier = Literal["free", "key", "paid"]

#: Every interval is a multiple of it.
TICK = timedelta(minutes=5)
#: Time of the day (UTC) from which on days that are over are looked at again.
SECOND_LOOK = timedelta(hours=3)
#: Days back that are asked for again until the source has answered.
OPEN_DAYS = 7
#: Of those so many at once, lest an outage of a week becomes a burst of calls.
OPEN_DAYS_AT_ONCE = 2
_ONE_DAY = timedelta(days=1)
#: So often a wait can double; more than any pace needs to come to a day.
_MOST_DOUBLINGS = 10


@dataclass(frozen=True)
class Collector:
    """One source feeding one asset.

    Attributes:
        name: for commands and run config.
        title: for people.
        asset: asset key as text.
        provider: whose budget, breaker and accounts it uses.
        every: time between two collections; they fall on multiples of it since midnight UTC.
        tier: what access costs.
        cost: the same in words.
        delay: items come so much later than they are published.
        second_look: so many days that are over are asked for again once a day, so that what came
            late, edits and deletions are followed.
        has_history: a day that is over can still be asked for.
    """

    name: str
    title: str
    asset: str
    provider: str
    every: timedelta
    tier: Tier
    cost: str
    delay: timedelta = timedelta(0)
    second_look: int = 0
    has_history: bool = True

    @property
    def ledger(self) -> str:
        """Group of its asset: glass, human, catalyst or exchange."""
        return self.asset.partition("/")[0]

    def missing(self, settings: Settings) -> list[str]:
        """Return the variables that have to be set before it can be asked."""
        if settings.samples:
            return []
        return PROVIDERS[self.provider].missing(settings)

    def is_due(self, at: datetime) -> bool:
        """Say whether a collection falls on that instant (aware; a multiple of `TICK`)."""
        return _time_of_day(at) % self.every == timedelta(0)

    def days(self, at: datetime) -> list[date]:
        """Return the UTC days to ask for at that instant.

        Today; yesterday where it is still filling up after midnight, which is the first hour, and
        where its values are restated; the days of `second_look` once a day, at the first collection
        from `SECOND_LOOK` on.
        """
        newest = at.astimezone(UTC) - self.delay
        today, before = newest.date(), newest.date() - timedelta(days=1)
        if self.ledger == RESTATED_LEDGER:
            return [before, today]
        if self.second_look and (_time_of_day(newest) - SECOND_LOOK) % _ONE_DAY < self.every:
            return [today - timedelta(days=back) for back in range(self.second_look, -1, -1)]
        if newest.hour > 0:
            return [today]
        return [before] if newest.minute == 0 else [before, today]

    def open_days(self, runs: "Mapping[date, DayRuns]", at: datetime) -> list[date]:
        """Return the days that are over and still have to be asked for, the newest first.

        Those are days since the source was first asked, `OPEN_DAYS` back at most, for which it was
        last asked in vain, or was not asked after their end: the platform was down. The wait
        doubles from try to try, up to a day.

        Args:
            runs: day -> how asking for it went, of the last `OPEN_DAYS` days and more.
            at: the present, aware.
        """
        today = (at.astimezone(UTC) - self.delay).date()
        # A day that somebody fetched later does not say that the source was followed then.
        followed = [day for day, each in runs.items() if each.first_at < self._end(day) + _ONE_DAY]
        if not followed or not self.has_history:
            return []
        count = min(OPEN_DAYS, (today - min(followed)).days)
        days = [today - timedelta(days=back) for back in range(1, count + 1)]
        return [day for day in days if self._is_open(day, runs.get(day), at)][:OPEN_DAYS_AT_ONCE]

    def _is_open(self, day: date, asked: "DayRuns | None", at: datetime) -> bool:
        if asked is None:
            return True
        if asked.failures == 0:
            return asked.last_success_at is None or asked.last_success_at < self._end(day)
        doublings = min(asked.failures - 1, _MOST_DOUBLINGS)
        return at - asked.last_at >= min(self.every * (1 << doublings), _ONE_DAY)

    def _end(self, day: date) -> datetime:
        """Return when everything of a day has come."""
        return datetime.combine(day, time(), UTC) + _ONE_DAY + self.delay

    @property
    def schedule(self) -> str:
        """How often, in words."""
        minutes = int(self.every / timedelta(minutes=1))
        if minutes % 1440 == 0:
            return "daily"
        if minutes % 60 == 0:
            return "hourly" if minutes == 60 else f"every {minutes // 60} h"  # noqa: PLR2004
        return f"every {minutes} min"


def _time_of_day(at: datetime) -> timedelta:
    moment = at.astimezone(UTC)
    return moment - moment.replace(hour=0, minute=0, second=0, microsecond=0)


#: Values of a day that is over become final and are restated.
RESTATED_LEDGER = "glass"

_FUNDAMENTALS = "glass/protocol_fundamentals"
_ON_CHAIN = "glass/on_chain_metrics"
_NEWS = "human/news_sentiment"
_SOCIAL = "human/social_sentiment"
_CATALYSTS = "catalyst/catalyst_events"
_PRICES = "exchange/coinspot_prices"

_5_MINUTES, _15_MINUTES = timedelta(minutes=5), timedelta(minutes=15)
_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)

COLLECTORS: tuple[Collector, ...] = (
    Collector("defillama", "DefiLlama", _FUNDAMENTALS, "defillama", _HOUR * 6, "free", "none"),
    Collector("glassnode", "Glassnode", _ON_CHAIN, "glassnode", _HOUR * 6, "paid", "subscription"),
    # A snapshot has no history: what is not looked at is gone.
    Collector(
        "nansen",
        "Nansen smart money",
        _ON_CHAIN,
        "nansen",
        _HOUR,
        "paid",
        "credits a call",
        has_history=False,
    ),
    # Once a day, a page or three, keeps within the developer plan's hundred calls a month.
    Collector(
        "cryptopanic",
        "CryptoPanic",
        _NEWS,
        "cryptopanic",
        _DAY,
        "key",
        "100 calls a month",
        delay=_DAY,
    ),
    Collector(
        "newscatcher",
        "NewsCatcher",
        _NEWS,
        "newscatcher",
        _15_MINUTES,
        "paid",
        "calls of the plan",
        second_look=2,
    ),
    Collector(
        "finnhub_news",
        "Finnhub company news",
        _NEWS,
        "finnhub",
        _15_MINUTES,
        "key",
        "none",
        second_look=2,
    ),
    Collector("reddit", "Reddit", _SOCIAL, "reddit", _15_MINUTES, "key", "none", second_look=3),
    # Each look reads the whole day so far, and every post read is paid for, also when read again.
    Collector(
        "x", "X recent search", _SOCIAL, "x", _HOUR * 6, "paid", "each post read", second_look=1
    ),
    Collector(
        "edgar",
        "SEC EDGAR filings",
        _CATALYSTS,
        "edgar",
        _15_MINUTES,
        "free",
        "none",
        second_look=3,
    ),
    # Once an hour, as its rules for robots ask.
    Collector(
        "coinspot_announcements",
        "CoinSpot announcements",
        _CATALYSTS,
        "coinspot_announcements",
        _HOUR,
        "free",
        "none",
        second_look=3,
    ),
    Collector(
        "finnhub_earnings",
        "Finnhub earnings",
        _CATALYSTS,
        "finnhub",
        _HOUR,
        "key",
        "none",
        second_look=2,
    ),
    Collector(
        "corporate_actions",
        "Splits and dividends as events",
        _CATALYSTS,
        "corporate_actions",
        _DAY,
        "free",
        "none",
    ),
    Collector(
        "coinspot",
        "CoinSpot prices",
        _PRICES,
        "coinspot",
        _5_MINUTES,
        "free",
        "none",
        has_history=False,
    ),
)
#: Collectors that samples do not stand in for.
_NOT_SAMPLED = frozenset({"coinspot", "corporate_actions"})
_BY_NAME = {each.name: each for each in COLLECTORS}


def get_collector(name: str) -> Collector:
    """Return the collector of that name.

    Raises:
        InvalidInputError: there is none; the message lists those there are.
    """
    try:
        return _BY_NAME[name.strip().lower()]
    except KeyError:
        raise InvalidInputError(
            f"There is no collector '{name}'. Known: {', '.join(sorted(_BY_NAME))}."
        ) from None


def paced(collector: Collector, settings: Settings) -> Collector:
    """Return a collector at the pace that the user's plan allows."""
    if collector.name == "cryptopanic" and settings.cryptopanic_plan != "developer":
        return replace(
            collector,
            every=_HOUR,
            delay=timedelta(0),
            tier="paid",
            cost=f"calls of the {settings.cryptopanic_plan} plan",
        )
    if collector.name == "x":
        return replace(collector, every=_HOUR * settings.x_every_hours)
    return collector


def account_of(collector: Collector, settings: Settings) -> str:
    """Return the provider under which a collector's runs are booked: samples are nobody's."""
    sampled = settings.samples and collector.name not in _NOT_SAMPLED
    return f"sample:{collector.provider}" if sampled else collector.provider


def collectors_of(asset: str, names: Sequence[str] | None = None) -> tuple[Collector, ...]:
    """Return the collectors that feed an asset, all of them or those named.

    Raises:
        InvalidInputError: a name is not one of them.
    """
    feeding = tuple(each for each in COLLECTORS if each.asset == asset)
    if names is None:
        return feeding
    wanted = [get_collector(name) for name in names]
    for each in wanted:
        if each not in feeding:
            raise InvalidInputError(
                f"'{each.name}' does not feed {asset}; "
                f"{', '.join(other.name for other in feeding)} do."
            )
    return tuple(wanted)
