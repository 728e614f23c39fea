"""Ways to reach people: Apprise URLs from the settings, by severity.

An Apprise URL is a secret as a whole: tokens and passwords are parts of it. Here a channel has a
name of its own, made of the scheme and a digest, and nothing else of it is shown, kept or logged.
"""

import hashlib
import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

from pydantic import SecretStr

from scizor_core.alerts import Message, Severity
from scizor_core.errors import ScizorError
from scizor_resources.settings import Settings

#: A comma may be part of a URL; between two URLs it stands before a scheme.
_BETWEEN = re.compile(r"[,\s]+(?=[A-Za-z][A-Za-z0-9+.-]*://)")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_DIGEST_CHARACTERS = 6
#: Shorter parts of a URL would blacken ordinary words.
_SHORTEST_SECRET = 4
_LONGEST_ERROR = 300
#: Who writes addresses and tokens into the log while a message is sent.
_TALKATIVE = (
    "apprise",
    "urllib3.connectionpool",
    "urllib3.util.retry",
    "requests_oauthlib.oauth1_auth",
    "requests_oauthlib.oauth2_session",
)
_TYPES = {
    Severity.CRITICAL: "failure",
    Severity.HIGH: "failure",
    Severity.MEDIUM: "warning",
    Severity.LOW: "info",
}


class ChannelError(ScizorError):
    """A channel did not take a message; the text has nothing of its URL."""


@dataclass(frozen=True)
class Channel:
    """One way to reach people.

    Attributes:
        name: scheme and digest, `slack-3fa9c1`.
        url: Apprise URL.
    """

    name: str
    url: SecretStr

    @classmethod
    def of(cls, url: str) -> "Channel":
        """Return the channel of an Apprise URL; nothing is connected or checked."""
        scheme = url.partition("://")[0].lower()
        digest = hashlib.sha256(url.encode()).hexdigest()[:_DIGEST_CHARACTERS]
        shown = scheme if "://" in url and _SCHEME.fullmatch(scheme) else "unknown"
        return cls(f"{shown}-{digest}", SecretStr(url))

    def send(self, message: Message) -> None:
        """Hand a message over.

        Raises:
            ChannelError: it was not taken; worth another try later.
        """
        url = self.url.get_secret_value()
        with _listening() as lines:
            apprise = _apprise()
            service = apprise.Apprise()
            if not service.add(url):
                raise ChannelError(
                    f"Channel {self.name} has a URL that Apprise cannot use: correct it in "
                    "SCIZOR_ALERT_URLS_..."
                )
            taken = service.notify(
                title=message.title,
                body=message.body,
                notify_type="success" if message.is_recovery else _TYPES[message.severity],
                body_format="text",
            )
        if not taken:
            said = stripped(" ".join(lines), url)[:_LONGEST_ERROR]
            raise ChannelError(
                f"Channel {self.name} did not take the message: {said or 'no reason was given'}"
            )


class Channels:
    """The channels by severity.

    Args:
        by_severity: severity -> its channels; severities without one are left out.
    """

    def __init__(self, by_severity: Mapping[Severity, Sequence[Channel]]) -> None:
        self._by_severity = {each: tuple(found) for each, found in by_severity.items()}
        self._by_name = {each.name: each for found in by_severity.values() for each in found}

    @classmethod
    def of_settings(cls, settings: Settings) -> "Channels":
        """Return the channels that the settings name."""
        found: dict[Severity, list[Channel]] = {}
        for severity in Severity:
            urls: SecretStr | None = getattr(settings, f"alert_urls_{severity}")
            if urls is not None:
                parts = _BETWEEN.split(urls.get_secret_value().strip().strip(","))
                found[severity] = [Channel.of(each.strip()) for each in parts if each.strip()]
        return cls(found)

    def __repr__(self) -> str:
        return f"Channels({', '.join(self._by_name) or 'none'})"

    def names(self, *severities: Severity) -> list[str]:
        """Return the names of the channels of these severities, each once."""
        found = (each.name for one in severities for each in self._by_severity.get(one, ()))
        return list(dict.fromkeys(found))

    def all(self) -> list[Channel]:
        """Return every channel once."""
        return list(self._by_name.values())

    def get(self, name: str) -> Channel | None:
        """Return the channel of that name, None where it is not in the settings."""
        return self._by_name.get(name)

    def severities(self, name: str) -> list[Severity]:
        """Return the severities that a channel is for, the worst first."""
        found = [each for each, channels in self._by_severity.items() if name in _names(channels)]
        return sorted(found, key=lambda each: -each.rank)


def _names(channels: Sequence[Channel]) -> set[str]:
    return {each.name for each in channels}


def stripped(text: str, url: str) -> str:
    """Return a text without any part of a URL, as one line."""
    parts = {part for part in re.split(r"[/:@?&=#,;+\s]+", url.partition("://")[2]) if part}
    parts |= {unquote(part) for part in parts}
    for part in sorted(parts, key=len, reverse=True):
        if len(part) >= _SHORTEST_SECRET:
            text = re.sub(re.escape(part), "***", text, flags=re.IGNORECASE)
    return " ".join(text.split())


#: What is said while a message is sent; Apprise takes the context along into its threads.
_said: ContextVar[list[str] | None] = ContextVar("said", default=None)


class _Discretion(logging.Filter):
    """Keeps what is said while a message is sent out of the log, and hands on its warnings."""

    def filter(self, record: logging.LogRecord) -> bool:
        lines = _said.get()
        if lines is None:
            return True
        if record.levelno >= logging.WARNING:
            lines.append(record.getMessage())
        return False


_DISCRETION = _Discretion()


@contextmanager
def _listening() -> Iterator[list[str]]:
    for name in _TALKATIVE:
        logging.getLogger(name).addFilter(_DISCRETION)  # once, however often it is called
    lines: list[str] = []
    token = _said.set(lines)
    try:
        yield lines
    finally:
        _said.reset(token)


@lru_cache(maxsize=1)
def _apprise() -> Any:
    """Return Apprise with all its plugins, which takes about two seconds."""
    with warnings.catch_warnings():
        # apprise 2.2 imports imghdr where it still exists.
        warnings.simplefilter("ignore", DeprecationWarning)
        import apprise

        apprise.Apprise.instantiate("json://localhost")
    return apprise
