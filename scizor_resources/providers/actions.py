"""Corporate actions as providers tell of them: splits and cash dividends of an instrument."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal

from scizor_core.errors import ContractError

ActionKind = Literal["split", "dividend"]


@dataclass(frozen=True)
class CorporateAction:
    """One split or cash dividend.

    Attributes:
        symbol: the platform's symbol of the instrument.
        market: name of its market.
        ex_date: first session, in the exchange's zone, that trades without the dividend or in new
            shares.
        kind: "split" (also reverse splits and stock dividends) or "dividend" (cash).
        source: name of the provider.
        ratio_from: of a split, so many old shares become ...
        ratio_to: ... so many new ones. A 4-for-1 split is from 1 to 4.
        cash_amount: of a dividend, what one share receives, in `currency`, as declared (not
            adjusted for later splits).
        currency: ISO code, of a dividend.
        payload: the provider's own record.

    Raises:
        ContractError: a split without positive ratios, or a dividend without a positive amount
            and a currency.
    """

    symbol: str
    market: str
    ex_date: date
    kind: ActionKind
    source: str
    ratio_from: float | None = None
    ratio_to: float | None = None
    cash_amount: float | None = None
    currency: str | None = None
    payload: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind == "split":
            sound = _is_positive(self.ratio_from) and _is_positive(self.ratio_to)
        else:
            sound = _is_positive(self.cash_amount) and bool(self.currency)
        if not sound:
            raise ContractError(
                f"The {self.kind} of {self.symbol} on {self.ex_date} by {self.source} has ratio "
                f"{self.ratio_from} to {self.ratio_to} and amount {self.cash_amount} "
                f"{self.currency}: a split needs two positive ratios, a dividend a positive amount "
                "and a currency."
            )


def _is_positive(value: float | None) -> bool:
    return value is not None and 0 < value < float("inf")
