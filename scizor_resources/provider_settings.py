"""The settings of the providers: where they are, how to be let in, what may be asked of them."""

import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode

from scizor_core.markets import MARKETS

#: Providers of bars, as they stand in chains.
PROVIDER_NAMES: tuple[str, ...] = (
    "tape",
    "yahoo",
    "alpaca",
    "finnhub",
    "ibkr",
    "kraken",
    "coinbase",
    "binance",
    "ccxt_coinbase",
    "coinspot",
    "simulated",
)

#: Providers that are reached over HTTP.
_WITH_ADDRESS = (
    "yahoo",
    "alpaca",
    "finnhub",
    "kraken",
    "coinbase",
    "ccxt_coinbase",
    "binance",
    "coinspot",
    "defillama",
    "edgar",
    "edgar_www",
    "edgar_search",
    "defillama_stablecoins",
    "glassnode",
    "nansen",
    "cryptopanic",
    "newscatcher",
    "reddit",
    "reddit_www",
    "x",
    "coinspot_announcements",
)

#: Settings whose parts may hold commas.
PHRASES: frozenset[str] = frozenset({"edgar_full_text"})

_PER_MINUTE = "Calls to it a minute, for all processes together; unset: what the provider allows."
_SUBREDDIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]{1,20}")
_METRIC = re.compile(r"[a-z0-9_]+(/[a-z0-9_]+)+")
_SLUG = re.compile(r"[a-z0-9][a-z0-9.!_-]{0,127}")
_USER_AGENT = re.compile(r"[ -~]*[^ ] [^ @]+@[^ @]+\.[^ @]+")
_COST = "What one call costs, in USD, for the monthly spending cap."


class ProviderSettings(BaseSettings):
    """One block per provider; each field is the environment variable `SCIZOR_<FIELD>`."""

    provider_timeout_seconds: float = Field(
        20.0, gt=0, description="Longest wait for one answer of a provider."
    )
    spending_cap_usd: float = Field(
        100.0, ge=0, description="What all paid calls together may cost in a month (UTC)."
    )

    yahoo_base_url: str | None = Field(
        None, description="Send Yahoo requests there instead of to Yahoo (a proxy, a test server)."
    )
    yahoo_timeout_seconds: float = Field(20.0, gt=0, description="Longest wait for one answer.")
    yahoo_requests_per_minute: int | None = Field(None, gt=0, description=_PER_MINUTE)

    alpaca_api_key: SecretStr | None = Field(None, description="Key id of an Alpaca account.")
    alpaca_secret: SecretStr | None = Field(None, description="Secret of that key.")
    alpaca_feed: Literal["iex", "sip"] = Field(
        "iex", description="Feed of US stocks: iex is free, sip needs a subscription."
    )
    alpaca_base_url: str | None = Field(None, description="Stands in for data.alpaca.markets.")
    alpaca_ws_url: str | None = Field(None, description="Stands in for stream.data.alpaca.markets.")
    alpaca_requests_per_minute: int | None = Field(None, gt=0, description=_PER_MINUTE)
    alpaca_cost_per_call_usd: float = Field(0.0, ge=0, description=_COST)

    finnhub_api_key: SecretStr | None = Field(None, description="Finnhub API key.")
    finnhub_base_url: str | None = Field(None, description="Stands in for finnhub.io/api/v1.")
    finnhub_ws_url: str | None = Field(None, description="Stands in for ws.finnhub.io.")
    finnhub_not_in_price: Annotated[tuple[str, ...], NoDecode] = Field(
        ("3", "5", "10", "12", "15", "16", "19", "20", "21", "23", "24"),
        description="Finnhub's numbers of sale conditions that leave a streamed trade out of the "
        "price, not out of the volume, comma separated (12 is an odd lot, 24 extended hours).",
    )
    finnhub_requests_per_minute: int | None = Field(None, gt=0, description=_PER_MINUTE)
    finnhub_cost_per_call_usd: float = Field(0.0, ge=0, description=_COST)

    ibkr_base_url: str | None = Field(
        None,
        description="TWS or Gateway as tcp://host or tcp://host:port; without a port 4001, 4002 "
        "and 7497 are tried. Unset: IBKR is not asked.",
    )
    ibkr_client_id: int = Field(1, ge=0, description="API client id; the next ones are tried too.")
    ibkr_backup_port: int | None = Field(
        None,
        gt=0,
        lt=65536,
        description="Port of a second gateway on that host: live data come from it while the first "
        "cannot be reached or has lost its link to IBKR.",
    )
    ibkr_stream_client_id: int = Field(
        21, ge=0, description="API client id of the live feed; the next ones are tried too."
    )
    ibkr_market_data_lines: int = Field(
        40,
        gt=0,
        description="Market data lines of the account that live data may take; an instrument takes "
        "one, its order book and its trades one by one each another.",
    )
    ibkr_depths: int = Field(
        3, ge=0, description="Order books at a time; IBKR allows three with its first 400 lines."
    )
    ibkr_requests_per_minute: int | None = Field(None, gt=0, description=_PER_MINUTE)

    kraken_base_url: str | None = Field(None, description="Stands in for api.kraken.com.")
    kraken_ws_url: str | None = Field(None, description="Stands in for ws.kraken.com.")
    kraken_requests_per_minute: int | None = Field(None, gt=0, description=_PER_MINUTE)

    coinbase_base_url: str | None = Field(None, description="Stands in for api.coinbase.com.")
    coinbase_ws_url: str | None = Field(
        None, description="Stands in for advanced-trade-ws.coinbase.com."
    )
    coinbase_requests_per_minute: int | None = Field(None, gt=0, description=_PER_MINUTE)

    ccxt_coinbase_base_url: str | None = Field(
        None, description="The same for Coinbase through ccxt, which shares Coinbase's budget."
    )

    binance_base_url: str | None = Field(None, description="Stands in for api.binance.com.")
    binance_ws_url: str | None = Field(None, description="Stands in for stream.binance.com.")
    binance_requests_per_minute: int | None = Field(None, gt=0, description=_PER_MINUTE)

    coinspot_base_url: str | None = Field(
        None, description="Stands in for www.coinspot.com.au/pubapi/v2."
    )
    coinspot_requests_per_minute: int | None = Field(None, gt=0, description=_PER_MINUTE)

    defillama_base_url: str | None = Field(None, description="Stands in for api.llama.fi.")
    defillama_stablecoins_base_url: str | None = Field(
        None, description="Stands in for stablecoins.llama.fi."
    )
    defillama_chains: Annotated[tuple[str, ...], NoDecode] = Field(
        ("Ethereum", "Solana", "BSC", "Tron", "Base"),
        description="Chains whose value locked and stablecoin supply are kept, comma separated, as "
        "DefiLlama spells them.",
    )
    defillama_requests_per_minute: int | None = Field(None, gt=0, description=_PER_MINUTE)
    defillama_protocols: Annotated[tuple[str, ...], NoDecode] = Field(
        ("aave", "uniswap", "lido", "makerdao", "curve-dex"),
        description="Protocols whose fundamentals are kept, comma separated, as in the addresses "
        "of DefiLlama's pages.",
    )

    edgar_user_agent: str | None = Field(
        None,
        repr=False,
        description="How requests to SEC EDGAR introduce themselves, as it demands: company name "
        "and contact address. Unset: EDGAR is not asked.",
    )
    edgar_base_url: str | None = Field(None, description="Stands in for data.sec.gov.")
    edgar_www_base_url: str | None = Field(None, description="Stands in for www.sec.gov.")
    edgar_search_base_url: str | None = Field(None, description="Stands in for efts.sec.gov.")
    edgar_full_text: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Phrases that filings are searched for, separated by semicolons; none: no "
        "search.",
    )
    edgar_requests_per_minute: int | None = Field(None, gt=0, description=_PER_MINUTE)

    glassnode_api_key: SecretStr | None = Field(None, description="Glassnode API key.")
    glassnode_base_url: str | None = Field(None, description="Stands in for api.glassnode.com.")
    glassnode_assets: Annotated[tuple[str, ...], NoDecode] = Field(
        ("BTC", "ETH"), description="Assets whose metrics are kept, comma separated."
    )
    glassnode_metrics: Annotated[tuple[str, ...], NoDecode] = Field(
        (
            "addresses/active_count",
            "transactions/count",
            "transactions/transfers_volume_exchanges_net",
            "market/mvrv",
        ),
        description="Metrics that are kept, category/metric, comma separated.",
    )
    glassnode_requests_per_minute: int | None = Field(None, gt=0, description=_PER_MINUTE)
    glassnode_cost_per_call_usd: float = Field(0.0, ge=0, description=_COST)

    nansen_api_key: SecretStr | None = Field(None, description="Nansen API key.")
    nansen_base_url: str | None = Field(None, description="Stands in for api.nansen.ai/api/v1.")
    nansen_chains: Annotated[tuple[str, ...], NoDecode] = Field(
        ("ethereum", "solana", "base"),
        description="Chains whose smart money is followed, comma separated.",
    )
    nansen_requests_per_minute: int | None = Field(None, gt=0, description=_PER_MINUTE)
    nansen_cost_per_call_usd: float = Field(0.0, ge=0, description=_COST)

    cryptopanic_api_key: SecretStr | None = Field(None, description="CryptoPanic auth token.")
    cryptopanic_plan: Literal["developer", "growth", "enterprise"] = Field(
        "developer", description="Plan of that token; it is part of the address."
    )
    cryptopanic_base_url: str | None = Field(
        None, description="Stands in for cryptopanic.com/api/<plan>/v2."
    )
    cryptopanic_requests_per_minute: int | None = Field(None, gt=0, description=_PER_MINUTE)
    cryptopanic_cost_per_call_usd: float = Field(0.0, ge=0, description=_COST)

    newscatcher_api_key: SecretStr | None = Field(None, description="NewsCatcher v3 API token.")
    newscatcher_base_url: str | None = Field(
        None, description="Stands in for v3-api.newscatcherapi.com."
    )
    newscatcher_requests_per_minute: int | None = Field(None, gt=0, description=_PER_MINUTE)
    newscatcher_cost_per_call_usd: float = Field(0.0, ge=0, description=_COST)

    reddit_client_id: SecretStr | None = Field(None, description="Client id of a Reddit app.")
    reddit_client_secret: SecretStr | None = Field(None, description="Secret of that app.")
    reddit_user_agent: str = Field(
        "python:scizor:0.1 (self-hosted market data platform)",
        description="How requests to Reddit introduce themselves; make it your own.",
    )
    reddit_subreddits: Annotated[tuple[str, ...], NoDecode] = Field(
        (
            "ASX_Bets:asx",
            "AusFinance:asx",
            "stocks:us",
            "wallstreetbets:us",
            "CryptoCurrency:crypto",
        ),
        description="Subreddits that are read, comma separated; with :market if it is about one.",
    )
    reddit_base_url: str | None = Field(None, description="Stands in for oauth.reddit.com.")
    reddit_www_base_url: str | None = Field(
        None, description="Stands in for www.reddit.com, which gives the token."
    )
    reddit_requests_per_minute: int | None = Field(None, gt=0, description=_PER_MINUTE)

    x_bearer_token: SecretStr | None = Field(None, description="Bearer token of an X API app.")
    x_base_url: str | None = Field(None, description="Stands in for api.x.com.")
    x_every_hours: int = Field(
        6,
        ge=1,
        le=24,
        description="Hours between two looks at X, a divisor of 24; each look pays for the posts "
        "of the whole day so far.",
    )
    x_requests_per_minute: int | None = Field(None, gt=0, description=_PER_MINUTE)
    x_cost_per_call_usd: float = Field(0.0, ge=0, description=_COST)

    coinspot_announcements_base_url: str | None = Field(
        None, description="Stands in for coinspot.zendesk.com."
    )
    coinspot_announcements_browser: bool = Field(
        False,
        description="Read announcements with a real browser where they come neither as JSON nor as "
        "HTML; needs the extra 'browser'.",
    )
    collect_new_listings: bool = Field(
        False,
        description="Put coins that CoinSpot announces as new on the watchlist, so that their "
        "prices are collected at once.",
    )

    author_key: SecretStr | None = Field(
        None,
        description="Key that authors are hashed with; unset: one is made and kept in SCIZOR_HOME. "
        "Machines that share a database need the same.",
    )

    @field_validator("edgar_user_agent")
    @classmethod
    def _introduces(cls, value: str | None) -> str | None:
        if value is not None and not _USER_AGENT.fullmatch(value.strip()):
            raise ValueError("write company name and contact address: 'Name contact@example.com'")
        return None if value is None else value.strip()

    @field_validator(
        "defillama_chains",
        "finnhub_not_in_price",
        "glassnode_assets",
        "glassnode_metrics",
        "nansen_chains",
        "reddit_subreddits",
        mode="before",
    )
    @classmethod
    def _split_names(cls, value: Any) -> Any:
        return parts_of(value, ",")

    @field_validator("edgar_full_text", mode="before")
    @classmethod
    def _split_phrases(cls, value: Any) -> Any:
        return parts_of(value, ";")

    @field_validator("reddit_subreddits")
    @classmethod
    def _are_subreddits(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for each in value:
            name, _, market = each.partition(":")
            if not _SUBREDDIT.fullmatch(name) or (market and market not in MARKETS):
                raise ValueError(
                    f"'{each}' is not a subreddit: write it as in 'ASX_Bets:asx,stocks'"
                )
        return value

    @field_validator("x_every_hours")
    @classmethod
    def _divides_a_day(cls, value: int) -> int:
        if 24 % value:
            raise ValueError("write 1, 2, 3, 4, 6, 8, 12 or 24 hours")
        return value

    @field_validator("glassnode_metrics")
    @classmethod
    def _are_metrics(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for metric in value:
            if not _METRIC.fullmatch(metric):
                raise ValueError(f"'{metric}' is not a metric: write it as in 'market/mvrv'")
        return value

    @field_validator("defillama_protocols", mode="before")
    @classmethod
    def _split_protocols(cls, value: Any) -> Any:
        if isinstance(value, str):
            parts = [part.strip().lower() for part in value.split(",")]
            return tuple(dict.fromkeys(part for part in parts if part))
        return value

    @field_validator("defillama_protocols")
    @classmethod
    def _are_slugs(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for slug in value:
            if not _SLUG.fullmatch(slug):
                raise ValueError(f"'{slug}' is not a protocol: write it as in 'aave,curve-dex'")
        return value

    @field_validator(
        "yahoo_base_url", *(f"{name}_base_url" for name in _WITH_ADDRESS if name != "yahoo")
    )
    @classmethod
    def _is_address(cls, value: str | None) -> str | None:
        return None if value is None else _address(value, ("http", "https"))

    @field_validator("ibkr_base_url")
    @classmethod
    def _is_gateway(cls, value: str | None) -> str | None:
        if value is None:
            return None
        return _address(value if "://" in value else f"tcp://{value}", ("tcp",))


def parts_of(value: Any, separator: str) -> Any:
    """Return the parts of a text, each once and without blanks; anything else as it is."""
    if not isinstance(value, str):
        return value
    parts = [part.strip() for part in value.split(separator)]
    return tuple(dict.fromkeys(part for part in parts if part))


def _address(value: str, schemes: tuple[str, ...]) -> str:
    parts = urlsplit(value)
    try:
        port = parts.port
    except ValueError:
        port = 0
    if parts.scheme not in schemes or not parts.hostname or port == 0:
        raise ValueError(
            f"'{value}' is not an address: write {schemes[0]}://host or {schemes[0]}://host:port"
        )
    return value.rstrip("/")
