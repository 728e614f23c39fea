"""The live feeds by name: each line says how one is made."""

from collections.abc import Callable, Mapping

from scizor_resources.platform import Platform
from scizor_resources.settings import Settings
from scizor_sidecar.feeds.alpaca import make_alpaca
from scizor_sidecar.feeds.base import Feed
from scizor_sidecar.feeds.ccxt_pro import CCXT_FEEDS
from scizor_sidecar.feeds.finnhub import make_finnhub
from scizor_sidecar.feeds.ibkr import make_ibkr_feed
from scizor_sidecar.feeds.tape import make_tape

MakeFeed = Callable[[Settings, Platform], Feed]

FEEDS: Mapping[str, MakeFeed] = {
    **CCXT_FEEDS,
    "ibkr": make_ibkr_feed,
    "alpaca": make_alpaca,
    "finnhub": make_finnhub,
    "tape": make_tape,
}
