"""The live feeds by name: each line says how one is made."""

from collections.abc import Callable, Mapping

from scizor_resources.platform import Platform
from scizor_resources.settings import Settings
from scizor_sidecar.feeds.base import Feed
from scizor_sidecar.feeds.ccxt_pro import CCXT_FEEDS

MakeFeed = Callable[[Settings, Platform], Feed]

FEEDS: Mapping[str, MakeFeed] = {
    **CCXT_FEEDS,
}
