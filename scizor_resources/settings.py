"""Every setting of the platform, from the environment, `.env` and the home directory's profile.

Order: process environment, then `.env` in the working directory, then `profile.env` in
`SCIZOR_HOME` (written by `scizor demo`), then the defaults here. Secrets are `SecretStr`, so that
they never show in a repr, a log line or an error.
"""

import os
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from scizor_core.errors import ConfigError, InvalidInputError
from scizor_core.markets import MARKETS
from scizor_core.retention import policies
from scizor_resources.provider_settings import PHRASES, PROVIDER_NAMES, parts_of
from scizor_resources.stream_settings import StreamSettings

#: What `SCIZOR_PROFILE=live` does to the chains: real providers that need no key.
LIVE_CHAINS: dict[str, tuple[str, ...]] = {
    "asx": ("tape", "yahoo"),
    "us": ("tape", "yahoo"),
    "crypto": ("tape", "kraken", "coinbase"),
}


class Settings(StreamSettings):
    """The settings; each field is the environment variable `SCIZOR_<FIELD>`."""

    # An empty variable is an unset one: so they stand in a copied .env and in compose files.
    model_config = SettingsConfigDict(
        env_prefix="SCIZOR_", env_ignore_empty=True, extra="ignore", frozen=True
    )

    home: Path = Field(Path(".scizor"), description="Where servers, tape and logs live.")
    database_url: SecretStr | None = Field(
        None, description="PostgreSQL 15+ to use; unset: an embedded one under SCIZOR_HOME."
    )
    redis_url: SecretStr | None = Field(
        None, description="Valkey or Redis 7+ to use; unset: an embedded one under SCIZOR_HOME."
    )
    ui_host: str = Field("127.0.0.1", description="Address the Dagster UI listens on.")
    ui_port: int = Field(3000, ge=1, le=65535, description="Port of the Dagster UI.")
    worker_concurrency: int = Field(2, ge=1, le=256, description="Runs one worker does at once.")
    max_runs: int = Field(
        32, ge=2, le=1000, description="Runs handed to all workers together at one time."
    )
    pool_limit: int = Field(
        8,
        ge=1,
        le=1000,
        description="Backfill runs that ask the same market's providers at one time.",
    )
    intraday_start: date = Field(
        date(2013, 1, 1), description="First session of the intraday partitions."
    )
    daily_start: date = Field(date(2000, 1, 1), description="First month of the daily partitions.")
    backfill_daily_days: int = Field(
        730, ge=1, le=36_500, description="Calendar days of daily bars that backfills fill."
    )
    backfill_intraday_days: int = Field(
        60,
        ge=1,
        le=36_500,
        description="Calendar days of 1, 5 and 15 minute bars that backfills fill, as far as the "
        "providers reach.",
    )
    backfill_symbols_per_run: int = Field(
        50, ge=1, le=1000, description="Symbols that one run of a backfill has at most."
    )
    marts_every_seconds: int = Field(
        300,
        ge=60,
        description="The marts are built anew at most so often while data comes in; a minute after "
        "the last time where bars of a new symbol have come.",
    )
    tape_dir: Path | None = Field(None, description="The tape directory; unset: SCIZOR_HOME/tape.")
    tape_speed: float = Field(
        1.0,
        ge=0,
        le=100_000,
        description="How fast the live feed 'tape' plays trades of the tape: 1 is as they "
        "happened, 10 ten times as fast, 0 as fast as they are taken.",
    )
    profile: Literal["live"] | None = Field(
        None, description="live: keyless real providers, refreshed while their markets are open."
    )
    sentiment_model: str | None = Field(
        None,
        description="Text classifier that scores texts in place of the lexicon, a name on the "
        "Hugging Face hub or a directory; needs the extra 'model'.",
    )
    retention: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Days that tables keep their rows where the default does not suit, comma "
        "separated: news_sentiment=120; 0 keeps everything.",
    )
    alert_urls_critical: SecretStr | None = Field(
        None, description="Apprise URLs, comma separated, that critical alerts go to."
    )
    alert_urls_high: SecretStr | None = Field(
        None, description="Apprise URLs, comma separated, that high alerts go to."
    )
    alert_urls_medium: SecretStr | None = Field(
        None, description="Apprise URLs, comma separated, that medium alerts go to."
    )
    alert_urls_low: SecretStr | None = Field(
        None, description="Apprise URLs, comma separated, that low alerts go to."
    )
    alert_messages_per_hour: int = Field(
        20,
        ge=3,
        le=1000,
        description="Messages that a channel of alerts gets in an hour at most; what is more comes "
        "as a summary.",
    )
    archive_url: str | None = Field(
        None,
        description="Where closed months of bars go: a directory, s3://bucket/prefix or "
        "gs://bucket/prefix; unset: SCIZOR_HOME/archive.",
    )
    archive_after_days: int = Field(
        730, ge=1, description="A month of bars is archived when it ended more days ago than this."
    )
    archive_release: bool = Field(
        False,
        description="Let the nightly archive delete from PostgreSQL what is verified (not daily "
        "bars).",
    )
    samples: bool = Field(
        False,
        description="Read the on-chain, sentiment and catalyst sources from hand-written samples "
        "instead of the internet; everything that comes of it is marked as sample.",
    )
    simulated_seed: int = Field(7, description="Seed of the simulated source.")
    chain_asx: Annotated[tuple[str, ...] | None, NoDecode] = Field(
        None, description="Providers of market asx in order, comma separated."
    )
    chain_us: Annotated[tuple[str, ...] | None, NoDecode] = Field(
        None, description="Providers of market us in order, comma separated."
    )
    chain_crypto: Annotated[tuple[str, ...] | None, NoDecode] = Field(
        None, description="Providers of market crypto in order, comma separated."
    )

    @field_validator("chain_asx", "chain_us", "chain_crypto", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip().lower() for part in value.split(",") if part.strip()) or None
        return value

    @field_validator("chain_asx", "chain_us", "chain_crypto")
    @classmethod
    def _known_providers(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for provider in value or ():
            if provider not in PROVIDER_NAMES:
                raise ValueError(
                    f"'{provider}' is not a provider; known: {', '.join(PROVIDER_NAMES)}"
                )
        return value

    @field_validator("retention", mode="before")
    @classmethod
    def _split_retention(cls, value: Any) -> Any:
        return parts_of(value, ",")

    @field_validator("retention")
    @classmethod
    def _are_policies(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        try:
            policies(value)
        except InvalidInputError as error:
            raise ValueError(str(error).rstrip(".")) from None
        return value

    @field_validator("home", "tape_dir")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return None if value is None else value.expanduser().absolute()

    @property
    def tape_directory(self) -> Path:
        """The directory of the tape source."""
        return self.tape_dir or self.home / "tape"

    @property
    def archive_location(self) -> str:
        """Where the archive's files are, a directory or a URL."""
        return self.archive_url or str(self.home / "archive")

    @property
    def environment(self) -> dict[str, str]:
        """The settings that are not at their defaults, as variables for a child process.

        A child works in another directory and would not see this one's `.env`. Holds secrets.
        """
        values = {name: getattr(self, name) for name in sorted(self.model_fields_set)}
        return {
            f"SCIZOR_{name.upper()}": _as_variable(value, ";" if name in PHRASES else ",")
            for name, value in values.items()
            if value is not None
        }

    def chain(self, market: str) -> tuple[str, ...]:
        """Return the providers of `market` in the order they are asked."""
        chains = {"asx": self.chain_asx, "us": self.chain_us, "crypto": self.chain_crypto}
        if chains[market] is None and self.profile == "live":
            return LIVE_CHAINS[market]
        return chains[market] or MARKETS[market].default_chain


def _as_variable(value: Any, separator: str) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return separator.join(value) if isinstance(value, tuple) else str(value)


def profile_path(home: Path) -> Path:
    """Return the file in `home` that holds the settings a profile (the demo) has chosen."""
    return home / "profile.env"


def load_settings(**overrides: Any) -> Settings:
    """Read the settings anew.

    Raises:
        ConfigError: a value cannot be used; the message names the variable.
    """
    dotenv = Path(".env")
    # The profile lies in the home directory, which may itself be named in `.env`.
    named = os.environ.get("SCIZOR_HOME") or dotenv_values(dotenv).get("SCIZOR_HOME")
    home = Path(overrides.get("home") or named or ".scizor")
    # What the demo has chosen keeps real providers out, which is the opposite of being live.
    live = (
        os.environ.get("SCIZOR_PROFILE") or dotenv_values(dotenv).get("SCIZOR_PROFILE")
    ) == "live"
    files = (dotenv,) if live else (profile_path(home.expanduser().absolute()), dotenv)
    try:
        return Settings(_env_file=files, **overrides)
    except ValidationError as error:
        problems = "; ".join(
            f"SCIZOR_{str(item['loc'][0]).upper()}: {item['msg'].removeprefix('Value error, ')}"
            for item in error.errors()
        )
        raise ConfigError(f"A setting cannot be used: {problems}.") from None


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """Return the settings of this process, read once."""
    return load_settings()
