"""Markets as data: one frozen `MarketSpec` each, and the timeframes the platform knows.

Adding a market is adding one `MarketSpec` to `MARKETS`; nothing else in the code names a market.
"""

import re
from dataclasses import dataclass
from typing import Literal, get_args

from scizor_core.errors import InvalidInputError, UnknownMarketError

Timeframe = Literal["1m", "5m", "15m", "1d"]
TIMEFRAMES: tuple[Timeframe, ...] = get_args(Timeframe)
INTRADAY_TIMEFRAMES: tuple[Timeframe, ...] = ("1m", "5m", "15m")
TIMEFRAME_MINUTES: dict[Timeframe, int] = {"1m": 1, "5m": 5, "15m": 15, "1d": 1440}


#: (from this price on, smallest step), lowest price first.
PriceSteps = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class MarketSpec:
    """What the platform has to know about a market.

    Attributes:
        name: lower-case identifier; first part of every asset key and the SQL schema's name.
        calendar: name of the calendar in exchange_calendars ("24/7" for crypto).
        timezone: IANA name of the exchange's zone.
        currency: ISO code that prices are quoted in (for crypto the usual quote currency).
        asset_class: "equity" or "crypto".
        venue: default venue of a listing (ISO 10383 MIC where there is one).
        symbol_pattern: regular expression that a full symbol has to match.
        example: symbols to show in a message.
        default_chain: providers in the order they are asked, unless a setting says otherwise.
        closing_auction_minutes: minutes after the calendar's close in which the closing auction
            may still print a bar. Such a bar is inside the session but never expected.
        price_steps: (from this price on, smallest step of a trade's price), lowest price first;
            empty where each instrument has one of its own.
    """

    name: str
    calendar: str
    timezone: str
    currency: str
    asset_class: Literal["equity", "crypto"]
    venue: str
    symbol_pattern: str
    example: str
    default_chain: tuple[str, ...]
    closing_auction_minutes: int = 0
    price_steps: PriceSteps = ()

    def check_symbol(self, symbol: str) -> str:
        """Return `symbol` in its canonical spelling (upper case, no blanks around it).

        Raises:
            InvalidInputError: the symbol cannot be a code of this market.
        """
        canonical = symbol.strip().upper()
        if not re.fullmatch(self.symbol_pattern, canonical):
            raise InvalidInputError(
                f"'{symbol}' is not a symbol of market '{self.name}': expected the form "
                f"{self.symbol_pattern}, for example {self.example}."
            )
        return canonical


MARKETS: dict[str, MarketSpec] = {
    spec.name: spec
    for spec in (
        MarketSpec(
            name="asx",
            calendar="XASX",
            timezone="Australia/Sydney",
            currency="AUD",
            asset_class="equity",
            venue="XASX",
            symbol_pattern=r"[A-Z0-9]{3,6}",
            example="CBA",
            default_chain=("tape", "ibkr", "yahoo"),
            # The closing single price auction prints between 16:10 and 16:12 Sydney time, while
            # the calendar closes at 16:00 (14:10 auctions on half days follow the same distance).
            closing_auction_minutes=13,
            # Half of the price steps that orders have (0.1, 0.5 and 1 cent below 10 cents, below 2
            # dollars, above): Centre Point trades halfway between bid and ask.
            price_steps=((0.0, 0.0005), (0.10, 0.0025), (2.0, 0.005)),
        ),
        MarketSpec(
            name="us",
            calendar="XNYS",
            timezone="America/New_York",
            currency="USD",
            asset_class="equity",
            venue="XNYS",
            symbol_pattern=r"[A-Z][A-Z0-9]{0,9}([.\-][A-Z0-9]{1,4})?",
            example="AAPL or BRK.B",
            default_chain=("tape", "alpaca", "yahoo", "finnhub"),
            # Orders have whole cents from one dollar on; trades with price improvement are
            # reported to a hundredth of a cent.
            price_steps=((0.0, 0.0001),),
        ),
        MarketSpec(
            name="crypto",
            calendar="24/7",
            timezone="UTC",
            currency="USD",
            asset_class="crypto",
            venue="CRYPTO",
            symbol_pattern=r"[A-Z0-9]{1,15}/[A-Z0-9]{2,10}",
            example="BTC/USD",
            default_chain=("tape", "kraken", "coinbase", "binance"),
        ),
    )
}


def get_market(name: str) -> MarketSpec:
    """Return the market called `name`.

    Raises:
        UnknownMarketError: no such market; the message lists those there are.
    """
    try:
        return MARKETS[name.strip().lower()]
    except KeyError:
        known = ", ".join(MARKETS)
        raise UnknownMarketError(f"There is no market '{name}'. Known markets: {known}.") from None


def check_timeframe(value: str) -> Timeframe:
    """Return `value` as a `Timeframe`.

    Raises:
        InvalidInputError: not one of the platform's timeframes.
    """
    for timeframe in TIMEFRAMES:
        if value == timeframe:
            return timeframe
    raise InvalidInputError(f"'{value}' is not a timeframe. Use one of {', '.join(TIMEFRAMES)}.")
