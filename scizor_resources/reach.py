"""Can a provider be reached from here? A look at its address, before anything is asked."""

import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from scizor_resources.settings import Settings

#: Where the providers without a key are, unless a setting says otherwise.
ADDRESSES: dict[str, str] = {
    "yahoo": "https://query2.finance.yahoo.com",
    "kraken": "https://api.kraken.com",
    "coinbase": "https://api.coinbase.com",
    "binance": "https://api.binance.com",
    "coinspot": "https://www.coinspot.com.au",
    "defillama": "https://api.llama.fi",
    "coinspot_announcements": "https://coinspot.zendesk.com",
    "edgar": "https://data.sec.gov",
    "alpaca": "https://data.alpaca.markets",
    "finnhub": "https://finnhub.io",
}
TIMEOUT_SECONDS = 4.0


def unreachable(settings: Settings, providers: Sequence[str]) -> dict[str, str]:
    """Return provider -> sentence for each that does not accept a connection.

    Args:
        settings: base URLs.
        providers: names; those without an address on the network are passed over.
    """
    known = [name for name in providers if name in ADDRESSES]
    if not known:
        return {}
    with ThreadPoolExecutor(len(known)) as pool:
        found = pool.map(lambda name: _problem(_address(settings, name)), known)
        return {name: why for name, why in zip(known, found, strict=True) if why}


def _address(settings: Settings, name: str) -> str:
    return getattr(settings, f"{name}_base_url") or ADDRESSES[name]


def _problem(address: str) -> str | None:
    parts = urlsplit(address)
    host, port = parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 443)
    try:
        with socket.create_connection((host, port), TIMEOUT_SECONDS):
            return None
    except OSError as error:
        return f"{host}:{port} cannot be reached ({error.strerror or error})"
