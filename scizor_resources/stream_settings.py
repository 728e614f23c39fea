"""The settings of the streaming sidecar: what is streamed, where it serves."""

from typing import Annotated, Any

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import NoDecode

from scizor_core.markets import MARKETS
from scizor_resources.provider_settings import ProviderSettings, parts_of

#: Live feeds; those of bars have the same names in chains.
FEED_NAMES: tuple[str, ...] = (
    "alpaca",
    "finnhub",
    "ibkr",
    "kraken",
    "coinbase",
    "binance",
    "tape",
)
#: Written in place of feeds: nothing of that market is streamed.
NO_FEED = "none"

_FEEDS = (
    "Live feeds of market {} in the order they are asked, comma separated; none: nothing is "
    "streamed; unset: the providers of its chain that have a live feed."
)


class StreamSettings(ProviderSettings):
    """One block for the sidecar; each field is the environment variable `SCIZOR_<FIELD>`."""

    sidecar_host: str = Field("127.0.0.1", description="Address the streaming sidecar listens on.")
    sidecar_port: int = Field(
        8790, ge=1, le=65535, description="Port of the streaming sidecar's page and API."
    )
    api_key: SecretStr | None = Field(
        None, description="Key that the sidecar's API and WebSocket ask for; unset: none."
    )
    stream_asx: Annotated[tuple[str, ...] | None, NoDecode] = Field(
        None, description=_FEEDS.format("asx")
    )
    stream_us: Annotated[tuple[str, ...] | None, NoDecode] = Field(
        None, description=_FEEDS.format("us")
    )
    stream_crypto: Annotated[tuple[str, ...] | None, NoDecode] = Field(
        None, description=_FEEDS.format("crypto")
    )
    stream_depth: Annotated[tuple[str, ...], NoDecode] = Field(
        ("asx:CBA", "asx:BHP", "asx:WBC"),
        description="What is streamed with its order book, market:SYMBOL, comma separated.",
    )

    hot_expiry_seconds_1m: int = Field(
        60,
        ge=1,
        le=86_400,
        description="Seconds that the hot store keeps 1 minute bars beyond a bar's length when the "
        "sidecar has gone.",
    )
    hot_expiry_seconds_5m: int = Field(
        300, ge=1, le=86_400, description="The same for 5 minute bars."
    )
    hot_expiry_seconds_15m: int = Field(
        900, ge=1, le=86_400, description="The same for 15 minute bars."
    )
    spool_limit_mb: int = Field(
        2048,
        ge=1,
        le=1_000_000,
        description="Megabytes of disk that the sidecar may use for what it cannot store while "
        "PostgreSQL is away.",
    )
    stream_heal_hours: float = Field(
        24.0,
        gt=0,
        le=168,
        description="Hours that the sidecar reaches back to fetch trades it has missed; what is "
        "older is left to the repair of gaps.",
    )
    event_log_days: int = Field(
        7, ge=1, le=365, description="Days that the sidecar keeps its log of bars and states."
    )

    @field_validator("stream_asx", "stream_us", "stream_crypto", mode="before")
    @classmethod
    def _split_feeds(cls, value: Any) -> Any:
        if isinstance(value, str):
            return parts_of(value.lower(), ",") or None
        return value

    @field_validator("stream_asx", "stream_us", "stream_crypto")
    @classmethod
    def _are_feeds(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for name in value or ():
            if name not in (*FEED_NAMES, NO_FEED):
                raise ValueError(
                    f"'{name}' is not a live feed; known: {', '.join(FEED_NAMES)}, {NO_FEED}"
                )
        return value

    @field_validator("stream_depth", mode="before")
    @classmethod
    def _split_depth(cls, value: Any) -> Any:
        return parts_of(value, ",")

    @field_validator("stream_depth")
    @classmethod
    def _are_symbols(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for each in value:
            market, _, symbol = each.partition(":")
            if market.lower() not in MARKETS or not symbol:
                raise ValueError(f"'{each}' is not market:SYMBOL: write it as in 'asx:CBA,asx:BHP'")
        return value

    def stream_feeds(self, market: str) -> tuple[str, ...] | None:
        """Return the feeds that were chosen for a market, None where nothing was."""
        chosen = {"asx": self.stream_asx, "us": self.stream_us, "crypto": self.stream_crypto}
        named = chosen[market]
        return None if named is None else tuple(name for name in named if name != NO_FEED)
