"""Catalyst events: the first bar that can know of one, and what kind of event a filing is.

Pure rules. What a source sends is read next to the source; what is stored has the columns of
`scizor_core.schemas.catalysts`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from scizor_core.sessions import SessionCalendar

LEAST_IMPACT = 1
MOST_IMPACT = 10
#: Form of the rule for everything that no other rule is for.
ANY_FORM = "*"
#: An insider's trade from this value in USD on matters one point more than its rule says, and from
#: the second one on two points more.
LARGE_VALUE_USD = 1_000_000
VERY_LARGE_VALUE_USD = 10_000_000
_AMENDMENT = "/A"
_MINUTE = timedelta(minutes=1)


def first_tradable_at(published_at: datetime, calendar: SessionCalendar) -> datetime | None:
    """Return the start (UTC) of the first one-minute bar that begins at or after a publication.

    Within a session that is the next full minute; before the open, after the close, on weekends
    and holidays it is the first bar of the next session. Bars of the closing auction do not
    count, for they only come where the auction finds a price.

    Args:
        published_at: aware.
        calendar: sessions of the instrument's market.

    Returns:
        None where the calendar ends before.
    """
    minute = published_at.replace(second=0, microsecond=0)
    if minute < published_at:
        minute += _MINUTE
    if calendar.is_open(minute):
        return minute.astimezone(UTC)
    return calendar.next_open(minute)


def base_form(form: str) -> str:
    """Return the form that an amendment amends: `10-K` of `10-K/A`; other forms as they are."""
    return form.removesuffix(_AMENDMENT)


def is_amendment(form: str) -> bool:
    """Say whether a form amends an earlier filing."""
    return form.endswith(_AMENDMENT)


def impact_of_value(impact: int, value_usd: float | None) -> int:
    """Return the impact of a trade: that of its rule, raised where much money moves.

    One point from `LARGE_VALUE_USD` on, two from `VERY_LARGE_VALUE_USD` on, `MOST_IMPACT` at most.

    Args:
        impact: as the rule says.
        value_usd: shares times price, None where it is not known.
    """
    value = value_usd or 0.0
    raised = impact + (value >= LARGE_VALUE_USD) + (value >= VERY_LARGE_VALUE_USD)
    return min(raised, MOST_IMPACT)


@dataclass(frozen=True)
class CatalystRule:
    """What filings (announcements, dates of a calendar) of one form, or one item of it, mean.

    Attributes:
        form: form as the source writes it, `ANY_FORM` for all that have no rule.
        item: item of the form, empty for the form as a whole.
        type: kind of event, in snake case.
        title: kind of event in words.
        impact: how much a price may move, 1 (hardly) to 10; None: such filings are no events.
        source: whose forms they are.
    """

    form: str
    item: str
    type: str
    title: str
    impact: int | None
    source: str = "edgar"


class RuleTable:
    """The rules of one source, looked up by form and items.

    Args:
        rules: one per form and item; of two for the same the later one holds.
    """

    def __init__(self, rules: Iterable[CatalystRule]) -> None:
        self._rules = {(rule.form, rule.item): rule for rule in rules}

    def match(self, form: str, items: Sequence[str] = ()) -> CatalystRule | None:
        """Return the rule of a filing, None where such filings are no events.

        An amendment follows the rules of the form that it amends, unless it has rules of its own.
        A filing with several items follows the one of the highest impact, the first of equals; one
        whose items have no rule follows its form, and a form without a rule `ANY_FORM`.
        """
        for each in (form, base_form(form)):
            of_items = [
                rule
                for item in items
                if (rule := self._rules.get((each, item))) is not None and rule.impact is not None
            ]
            if of_items:
                return max(of_items, key=lambda rule: rule.impact or 0)
            if (each, "") in self._rules:
                return _event(self._rules[each, ""])
        return _event(self._rules.get((ANY_FORM, "")))

    def title_of(self, form: str, item: str) -> str | None:
        """Return what an item of a form is called, None where no rule says so."""
        rule = self._rules.get((base_form(form), item))
        return rule.title if rule is not None else None


def _event(rule: CatalystRule | None) -> CatalystRule | None:
    return rule if rule is not None and rule.impact is not None else None
