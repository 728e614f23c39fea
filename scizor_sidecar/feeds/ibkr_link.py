"""Whether live data reach the gateway at all, as it says by codes of its own. Pure."""

import re
from enum import StrEnum

from scizor_resources.providers.ibkr.verdicts import LINK_BACK, LINK_LOST

_DATA_LOST = 1101
#: A market data farm is away, or there again (2108: there as soon as it is needed). 2105 and 2106
#: say the same of the farms of old data, which no live data come from.
_FARM_LOST = 2103
_FARM_BACK = frozenset({2104, 2108})
_FARM = re.compile(r":\s*([\w.]+)")


class LinkNews(StrEnum):
    """What a code changes."""

    LOST = "lost"
    #: Subscriptions stand as before.
    BACK = "back"
    #: Subscriptions have to be made again.
    BACK_WITHOUT_DATA = "back without data"


class Links:
    """The gateway's link to IBKR's servers and the farms that it names."""

    def __init__(self) -> None:
        self._link = ""
        self._farms: dict[str, str] = {}

    @property
    def why(self) -> str:
        """Why nothing comes, "" where everything stands."""
        return self._link or next(iter(self._farms.values()), "")

    @property
    def is_link_lost(self) -> bool:
        """Whether the gateway has no link to IBKR's servers."""
        return bool(self._link)

    def hear(self, code: int, words: str) -> LinkNews | None:
        """Take a code that concerns no request; None where it changes nothing."""
        was_lost = bool(self.why)
        said = f"the gateway reports {code}, {words.strip().rstrip('.')}"
        if code in LINK_LOST:
            self._link = said
        elif code in LINK_BACK:
            self._link = ""
            connected = words.partition("not connected")[0]
            self._farms = {name: why for name, why in self._farms.items() if name not in connected}
            if code == _DATA_LOST:
                return LinkNews.BACK_WITHOUT_DATA
        elif code == _FARM_LOST:
            self._farms[_farm(words)] = said
        elif code in _FARM_BACK:
            self._farms.pop(_farm(words), None)
        if bool(self.why) == was_lost:
            return None
        return LinkNews.BACK if was_lost else LinkNews.LOST

    def data_came(self) -> LinkNews | None:
        """Note that data come: the farms that are away are those of other exchanges."""
        if not self._farms or self._link:
            return None
        self._farms.clear()
        return LinkNews.BACK


def _farm(words: str) -> str:
    found = _FARM.search(words)
    return found[1] if found else ""
