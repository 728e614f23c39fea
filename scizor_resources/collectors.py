"""The collectors as users know them: who is asked for what, how often, and what it costs.

A collector is one source feeding one asset. The table here is what schedules go by, what
`scizor collectors` lists, and what tells the runs in `collector_runs` apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Literal

from scizor_core.errors import InvalidInputError
from scizor_resources.providers.registry import PROVIDERS
from scizor_resources.settings import Settings

#: free: no key; key: a free account is enough; paid: nothing without a subscription.
Tier = Literal["free", "key", "paid"]

#: Every interval is a multiple of it.
TICK = timedelta(minutes=5)
#: Hour (UTC) of the day at which days that are over are looked at again.
SECOND_LOOK_HOUR = 3


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
        second_look: so many days that are over are asked for again once a day, so that edits and
            deletions are followed; 0 where a look costs money.
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
        moment = at.astimezone(UTC)
        midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
        minutes = int((moment - midnight) / timedelta(minutes=1))
        return minutes % int(self.every / timedelta(minutes=1)) == 0

    def days(self, at: datetime) -> list[date]:
        """Return the UTC days to ask for at that instant.

        Today; yesterday where it is still filling up after midnight, which is the first hour, and
        where its values are restated; the days of `second_look` once a day.
        """
        newest = at.astimezone(UTC) - self.delay
        today, before = newest.date(), newest.date() - timedelta(days=1)
        if self.ledger == RESTATED_LEDGER:
            return [before, today]
        if newest.hour == SECOND_LOOK_HOUR and newest.minute == 0:
            return [today - timedelta(days=back) for back in range(self.second_look, -1, -1)]
        if newest.hour > 0:
            return [today]
        return [before] if newest.minute == 0 else [before, today]

    @property
    def schedule(self) -> str:
        """How often, in words."""
        minutes = int(self.every / timedelta(minutes=1))
        if minutes % 1440 == 0:
            return "daily"
        if minutes % 60 == 0:
            return "hourly" if minutes == 60 else f"every {minutes // 60} h"  # noqa: PLR2004
        return f"every {minutes} min"


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
    Collector("nansen", "Nansen smart money", _ON_CHAIN, "nansen", _HOUR, "paid", "credits a call"),
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
        "newscatcher", "NewsCatcher", _NEWS, "newscatcher", _15_MINUTES, "paid", "calls of the plan"
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
    Collector("x", "X recent search", _SOCIAL, "x", _HOUR, "paid", "each post read"),
    Collector("edgar", "SEC EDGAR filings", _CATALYSTS, "edgar", _15_MINUTES, "free", "none"),
    # Once an hour, as its rules for robots ask.
    Collector(
        "coinspot_announcements",
        "CoinSpot announcements",
        _CATALYSTS,
        "coinspot_announcements",
        _HOUR,
        "free",
        "none",
    ),
    Collector("finnhub_earnings", "Finnhub earnings", _CATALYSTS, "finnhub", _HOUR, "key", "none"),
    Collector(
        "corporate_actions",
        "Splits and dividends as events",
        _CATALYSTS,
        "corporate_actions",
        _DAY,
        "free",
        "none",
    ),
    Collector("coinspot", "CoinSpot prices", _PRICES, "coinspot", _5_MINUTES, "free", "none"),
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
