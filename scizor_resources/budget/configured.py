"""A provider's budget as the settings have it: the user's plan, the user's own rate."""

from scizor_resources.budget.limits import limits_of
from scizor_resources.budget.link import ValkeyLink
from scizor_resources.budget.valkey import ValkeyBudget
from scizor_resources.providers.gate import Lane
from scizor_resources.providers.registry import PROVIDERS
from scizor_resources.settings import Settings


def budget_of(
    link: ValkeyLink, provider: str, settings: Settings, lane: Lane = "backfill"
) -> ValkeyBudget:
    """Return a provider's share of calls as a lane sees it.

    Args:
        link: the way to Valkey.
        provider: name; one that shares its budget with another has that one's.
        settings: with the plan and the rate.
        lane: who goes first when calls are scarce.
    """
    shared = PROVIDERS[provider].shares_budget_of or provider
    rate = getattr(settings, f"{shared}_requests_per_minute", None)
    return ValkeyBudget(link, limits_of(_of_plan(shared, settings), rate), lane)


def _of_plan(provider: str, settings: Settings) -> str:
    """Return the name under which the limits of the user's plan stand."""
    if provider == "cryptopanic" and settings.cryptopanic_plan != "developer":
        return f"{provider}_{settings.cryptopanic_plan}"
    return provider
