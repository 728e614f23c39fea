"""What each provider allows, as data, and the margins that keep us below it.

The numbers are the providers' own where they publish them and reports of users where not; each can
be changed by `with_requests_per_minute`. How they are kept stands in `budget.valkey`.

Margins. A provider counts requests when they arrive, we when they leave: a request that took 20 ms
and one that took 300 ms arrive closer together than they left. So a window is kept as if it lasted
a little longer, and a few calls of a long window are spared for processes that stall between the
grant and the request. Together they cost about 3 % of a window of 6 seconds and more; windows of
one second cost more, because there 200 ms are much.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from scizor_core.errors import ConfigError
from scizor_resources.providers.gate import LANES, Lane

MONTH_SECONDS = 31 * 86_400.0
#: Windows up to this long are paced; of longer ones the lower lanes may only use a share.
LONGEST_PACED_SECONDS = 600.0
#: Part of a quota of hours or months that a lane may use.
QUOTA_SHARES: Mapping[Lane, float] = {
    "live": 1.0,
    "repair": 0.95,
    "backfill": 0.90,
    "research": 0.70,
}
#: How long a call of a lane waits for room before it is told that there is none.
MAX_WAIT_SECONDS: Mapping[Lane, float] = {
    "live": 5.0,
    "repair": 30.0,
    "backfill": 120.0,
    "research": 60.0,
}

_MARGIN = 0.03
_LEAST_WIDENING_SECONDS = 0.2
_MOST_WIDENING_SECONDS = 0.5
#: Waits shorter than this between two grants are no reason to keep one back for the live lane.
_NOTICEABLE_SECONDS = 0.2
_RESERVE_FROM = 20


@dataclass(frozen=True)
class Window:
    """So many calls (or units of weight) in any interval of so many seconds.

    Attributes:
        limit: calls that the provider allows.
        seconds: length of the interval.
        burst: calls of the lower lanes that may follow each other at once after a rest; by default
            those of about a second, fewer in short windows.
        calendar_month: the provider counts by calendar month (UTC); `seconds` is then ignored.
    """

    limit: int
    seconds: float
    burst: int | None = None
    calendar_month: bool = False

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise ConfigError(f"A rate limit has to be 1 or more, not {self.limit}.")
        if not self.seconds > 0:
            raise ConfigError(f"A rate limit's window has to be longer than 0 s: {self.seconds}.")

    @property
    def is_paced(self) -> bool:
        """Whether grants are spread over the window."""
        return not self.calendar_month and self.seconds <= LONGEST_PACED_SECONDS

    @property
    def kept_seconds(self) -> float:
        """Length of the window as it is kept: the provider's, widened (a month is a month)."""
        if self.calendar_month:
            return self.seconds
        wanted = self.seconds * _MARGIN
        return self.seconds + min(max(wanted, _LEAST_WIDENING_SECONDS), _MOST_WIDENING_SECONDS)

    @property
    def usable(self) -> int:
        """Calls that are granted in a kept window to all lanes together."""
        if not self.is_paced:
            return self.limit
        widening = (self.kept_seconds - self.seconds) / self.kept_seconds
        return self.limit - math.floor(self.limit * max(0.0, _MARGIN - widening))

    @property
    def spacing_seconds(self) -> float:
        """Time between two grants when everything is used evenly."""
        return self.kept_seconds / self.usable

    def allowed(self, lane: Lane) -> int:
        """Return the calls in a kept window up to which a lane is granted more."""
        if not self.is_paced:
            return max(1, math.floor(self.limit * QUOTA_SHARES[lane]))
        reserve = self.spacing_seconds > _NOTICEABLE_SECONDS and self.usable >= _RESERVE_FROM
        return self.usable - (1 if reserve and lane != "live" else 0)

    def burst_for(self, lane: Lane) -> int:
        """Return how many calls of a lane may follow each other at once after a rest."""
        steady = max(1, math.floor(self.limit / self.seconds * min(1.0, self.seconds / 20)))
        lower = min(self.burst or steady, self.usable)
        # A user waits for live calls, and they are few.
        return max(lower, self.usable // 10) if lane == "live" else lower


def monthly(limit: int) -> Window:
    """Return a quota by calendar month."""
    return Window(limit, MONTH_SECONDS, calendar_month=True)


@dataclass(frozen=True)
class EndpointLimits:
    """Limits that some endpoints of a provider share, besides those of the provider.

    Attributes:
        name: of the group, for people.
        endpoints: as they are called in the gate.
        windows: limits of the group.
        concurrency: calls under way at a time, None without limit.
    """

    name: str
    endpoints: frozenset[str]
    windows: tuple[Window, ...] = ()
    concurrency: int | None = None


@dataclass(frozen=True)
class Pacing:
    """A rule for calls that have something in common.

    Attributes:
        kind: the rule is for keys that begin with this and a colon.
        limit: calls with the same key within the window.
        seconds: length of the window.
    """

    kind: str
    limit: int
    seconds: float

    @property
    def window(self) -> Window:
        """The rule for one key."""
        return Window(self.limit, self.seconds)


@dataclass(frozen=True)
class ProviderLimits:
    """What a provider allows.

    Attributes:
        provider: name in chains and settings.
        title: the provider's name in sentences.
        windows: limits of all calls together.
        groups: limits of some endpoints.
        endpoint_weights: endpoint -> what a call counts for where the caller does not say.
        concurrency: calls under way at a time, None without limit.
        pacing: rules by key.
        share_when_alone: part (1/n) of everything that a process keeps to while the processes
            cannot see each other.
    """

    provider: str
    title: str
    windows: tuple[Window, ...] = ()
    groups: tuple[EndpointLimits, ...] = ()
    endpoint_weights: Mapping[str, int] = field(default_factory=dict)
    concurrency: int | None = None
    pacing: tuple[Pacing, ...] = ()
    share_when_alone: int = 8

    def weight_of(self, endpoint: str, weight: int) -> int:
        """Return what a call counts for; the caller's word goes before the table."""
        return weight if weight != 1 else self.endpoint_weights.get(endpoint, 1)

    def groups_of(self, endpoint: str) -> tuple[EndpointLimits, ...]:
        """Return the groups that an endpoint belongs to."""
        return tuple(group for group in self.groups if endpoint in group.endpoints)

    def rules_of(self, keys: tuple[str, ...]) -> tuple[tuple[str, Pacing], ...]:
        """Return (key, rule) for each key that a rule is for."""
        return tuple(
            (key, rule)
            for key in keys
            for rule in self.pacing
            if key.partition(":")[0] == rule.kind
        )


_IBKR_HISTORICAL = frozenset({"reqHistoricalData", "reqHistoricalTicks"})

LIMITS: Mapping[str, ProviderLimits] = {
    limits.provider: limits
    for limits in (
        # Nothing is published; users report trouble from a few hundred requests an hour on, or
        # from a thousand at once.
        ProviderLimits("yahoo", "Yahoo", (Window(120, 60, burst=20), Window(900, 3600))),
        # The basic plan; Algo Trader Plus has 10,000.
        ProviderLimits("alpaca", "Alpaca", (Window(200, 60),)),
        # 30 a second hold on every plan, 60 a minute on the free one.
        ProviderLimits("finnhub", "Finnhub", (Window(30, 1), Window(60, 60))),
        ProviderLimits("kraken", "Kraken", (Window(1, 1),)),
        # Units of weight, not requests.
        ProviderLimits(
            "binance",
            "Binance",
            (Window(6000, 60),),
            endpoint_weights={"/api/v3/klines": 2, "/api/v3/exchangeInfo": 20},
        ),
        # Without a key, by address.
        ProviderLimits("coinbase", "Coinbase", (Window(10, 1),)),
        ProviderLimits("coinspot", "CoinSpot", (Window(1000, 60),)),
        # Nothing is published; users report refusals from about 500 a minute on.
        ProviderLimits("defillama", "DefiLlama", (Window(300, 60),)),
        # The SEC's rule, for all machines behind an address together.
        ProviderLimits("edgar", "SEC EDGAR", (Window(10, 1),)),
        # 600 a minute on the standard plan.
        ProviderLimits("glassnode", "Glassnode", (Window(600, 60),)),
        # Documented over time as 20 a second and 500 a minute, 300 a minute, 30 and 600: the least.
        ProviderLimits("nansen", "Nansen", (Window(20, 1), Window(300, 60))),
        # The developer plan; growth has 5 a second and 3,000 a month.
        ProviderLimits("cryptopanic", "CryptoPanic", (Window(2, 1), monthly(100))),
        ProviderLimits("cryptopanic_growth", "CryptoPanic", (Window(5, 1), monthly(3000))),
        ProviderLimits("cryptopanic_enterprise", "CryptoPanic", (Window(5, 1),)),
        # It limits calls under way, by plan.
        ProviderLimits("newscatcher", "NewsCatcher", concurrency=1),
        # 600 in ten minutes, a hundred a minute.
        ProviderLimits("reddit", "Reddit", (Window(100, 60), Window(600, 600))),
        # 450 in a quarter of an hour, by application.
        ProviderLimits("x", "X", (Window(450, 900),)),
        # A courtesy: a help centre read once an hour needs no more.
        ProviderLimits("coinspot_announcements", "CoinSpot's help centre", (Window(10, 60),)),
        ProviderLimits(
            "ibkr",
            "IBKR",
            # The gateway hangs up on a client that sends more than 50 messages a second.
            (Window(45, 1),),
            groups=(
                EndpointLimits(
                    "historical data", _IBKR_HISTORICAL, (Window(60, 600, burst=6),), concurrency=50
                ),
                EndpointLimits("market data lines", frozenset({"reqMktData"}), concurrency=100),
            ),
            # Fewer than 6 requests for the same contract, exchange and tick type in 2 s.
            pacing=(Pacing("same", 1, 15), Pacing("contract", 5, 2)),
        ),
    )
}


def limits_of(provider: str, requests_per_minute: int | None = None) -> ProviderLimits:
    """Return a provider's limits, with the user's own rate where there is one.

    A provider without an entry has none but those the user gives.

    Raises:
        ConfigError: the rate is not 1 or more.
    """
    limits = LIMITS.get(provider, ProviderLimits(provider, provider.capitalize()))
    if requests_per_minute is None:
        return limits
    return with_requests_per_minute(limits, requests_per_minute)


def with_requests_per_minute(limits: ProviderLimits, requests: int) -> ProviderLimits:
    """Return the limits with the user's rate (units of weight where the provider counts those).

    It takes the place of the provider's windows up to 10 minutes, except shorter ones that allow a
    faster rate: 30 calls a second stay beside 300 a minute. Quotas of hours and months stay, and so
    do the limits of single endpoints and the pacing rules.

    Raises:
        ConfigError: the rate is not 1 or more.
    """
    if requests < 1:
        raise ConfigError(
            f"SCIZOR_{limits.provider.upper()}_REQUESTS_PER_MINUTE has to be 1 or more, "
            f"not {requests}."
        )
    kept = tuple(
        window
        for window in limits.windows
        if not window.is_paced
        or (window.seconds < 60 and window.limit * 60 / window.seconds > requests)
    )
    return replace(limits, windows=(*kept, Window(requests, 60)))


def lane_number(lane: Lane) -> int:
    """Return 1 for the lane that goes first, 4 for the last."""
    return LANES.index(lane) + 1
