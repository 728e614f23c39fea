"""Facts about providers out of Valkey: what is left of their budgets, and how they are."""

from scizor_core.markets import MARKETS
from scizor_resources.budget.breaker import ValkeyBreaker
from scizor_resources.budget.configured import budget_of
from scizor_resources.budget.limits import limits_of
from scizor_resources.budget.link import ValkeyLink
from scizor_resources.collectors import COLLECTORS, account_of
from scizor_resources.health.report import ProviderFact
from scizor_resources.providers.registry import PROVIDERS
from scizor_resources.settings import Settings


def provider_names(settings: Settings) -> list[str]:
    """Return the providers that are set up and asked over the network, each budget once."""
    asked = [
        name
        for market in MARKETS
        for name in settings.chain(market)
        if not PROVIDERS[name].missing(settings, market)
    ]
    asked += [
        each.provider
        for each in COLLECTORS
        if not each.missing(settings) and not account_of(each, settings).startswith("sample:")
    ]
    shared = dict.fromkeys(PROVIDERS[each].shares_budget_of or each for each in asked)
    return [each for each in shared if not PROVIDERS[each].is_local]


def read_providers(link: ValkeyLink, settings: Settings) -> tuple[ProviderFact, ...]:
    """Return budget and breaker of each provider that is asked.

    Raises:
        ValkeyAway: Valkey does not answer.
    """
    link.call(lambda client: client.ping())
    found = []
    for name in provider_names(settings):
        state = budget_of(link, name, settings).state()
        health = ValkeyBreaker(link, name, limits_of(name).title).health()
        tightest = state.tightest
        found.append(
            ProviderFact(
                name,
                limits_of(name).title,
                None if tightest is None else tightest.used,
                None if tightest is None else tightest.limit,
                None if tightest is None else tightest.seconds,
                sum(state.waiting.values()),
                state.paused_until,
                state.paused_why,
                health.failures,
                health.next_try_at if health.is_open else None,
                health.last_call_at,
                health.last_error,
            )
        )
    return tuple(found)
