"""When two items are one story, and which items of many are.

Two news items are one story where they were published within `REACH` of each other and

- lead to the same page (`canonical_url`), or
- have nearly the same headline (`read_headline`): equal numbers, three quarters of their words in
  common, and no word that says the opposite; a headline of fewer than four words has to be equal
  and of the same UTC day. Both have to be about a common instrument where it is known what they
  are about: "Trading halt" is another story for each company.

Two posts are one story where their whole text is equal. News and posts are never one story, and
neither are items of sources with different labels ("sample:reddit" and "reddit").

`group` follows this through: what is one story with something that is one story with a third is
one story with the third. The outcome does not depend on the order in which items come.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from scizor_core.stories import StoryKind

Key = tuple[str, str]

#: Further apart, the same words are news again: "Bitcoin falls below $90,000".
REACH = timedelta(hours=48)
#: Headlines with fewer words say too little to be compared by their parts.
FEWEST_TOKENS = 4

# Shared words are at least 3/4 of all words: shared / (a + b - shared) >= 3/4.
_SHARED, _OF_BOTH = 7, 3


@dataclass(frozen=True)
class StoryItem:
    """What of an item decides which story it is.

    Attributes:
        key: source and id of the item there.
        kind: news or social.
        published_at: aware.
        title: headline.
        body: text; only that of posts is compared.
        canonical_url: see `canonical_url`, empty for none.
        publisher: domain that it appeared in, empty where it is not known.
        instruments: ids of the instruments that it is about.
    """

    key: Key
    kind: StoryKind
    published_at: datetime
    title: str = ""
    body: str = ""
    canonical_url: str = ""
    publisher: str = ""
    instruments: frozenset[int] = frozenset()

    @property
    def label(self) -> str:
        """What stands before the colon in the source, empty without one."""
        return self.key[0].rpartition(":")[0]


# --- addresses ----------------------------------------------------------------------------

_TRACKING = re.compile(
    r"utm_.*|at_(?:medium|campaign|link.*|custom.*|format|type|bbc_team)|hsa_.*|_hs(?:enc|mi)|mc_[ce]id|"
    r"fbclid|gclid|gclsrc|dclid|gbraid|wbraid|msclkid|yclid|twclid|ttclid|li_fat_id|igshid|igsh|"
    r"ref|ref_?src|ref_?url|referrer|referer|cmp|cmpid|icid|ncid|ito|smid|sref|xtor|spm|s_kwcid|"
    r"\.?tsrc|soc_(?:src|trk)|guccounter|guce_.*|_ga|_gl|mod|mkt_tok|ocid|cvid|"
    r"taid|share|sh|rss|feed|feedname|outputtype|amp|amp_.*|amp;.*|usqp|__twitter_impression",
    re.IGNORECASE,
)
_MOBILE_HOST = re.compile(r"^(?:www\d?|m|mobile|amp)\.(?=[^.]+\.)")
_AMP_PATH = re.compile(r"(?:/amp(?:\.html?)?|\.amp|/)$|\.amp(?=\.html?$)", re.IGNORECASE)
_AMP_CACHE = re.compile(
    r"^https?://(?:(?:www\.)?google\.[a-z.]+/amp/(?:s/)?|"
    r"[a-z0-9-]+\.cdn\.ampproject\.org/[vc]/(?:s/)?)(?=[a-z0-9-]+\.)",
    re.IGNORECASE,
)
_BLANK = re.compile(r"\s")
_STANDARD_PORTS = (None, 80, 443)


def canonical_url(url: str) -> str:
    """Return an address without what does not change the page that it leads to.

    Scheme https, host in lower case without "www." and the prefixes of mobile and AMP pages, no
    fragment, no parameter that only tracks readers, the other parameters in the order of their
    names, no AMP suffix, no slash at the end.

    Returns:
        The address, empty where `url` is none of the web.
    """
    address = _BLANK.sub(lambda found: quote(found[0]), _AMP_CACHE.sub("https://", url.strip()))
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        return ""
    host = (parts.hostname or "").rstrip(".")
    if parts.scheme.lower() not in ("http", "https") or not host:
        return ""
    while (shorter := _MOBILE_HOST.sub("", host)) != host:
        host = shorter
    path = parts.path
    while (shorter := _AMP_PATH.sub("", path)) != path:
        path = shorter
    if ":" in host:
        host = f"[{host}]"
    place = host if port in _STANDARD_PORTS else f"{host}:{port}"
    kept = sorted(
        pair
        for pair in parse_qsl(parts.query, keep_blank_values=True)
        if not _TRACKING.fullmatch(pair[0])
    )
    query = f"?{urlencode(kept, errors='replace')}" if kept else ""
    return f"https://{place}{path}{query}"


def _is_page(url: str) -> bool:
    """Say whether a canonical address leads to something of its own, not to a whole site."""
    return bool(re.match(r"https://[^/?]+[/?].", url))


# --- headlines ----------------------------------------------------------------------------


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_COMMON = _set(
    "a an and are as at be been by for from has have in into is it its of on or per s so some "
    "that the their this to via was were will with percent pct cent says say said breaking update "
    "updated exclusive live"
)
_UNITS = {
    **dict.fromkeys(("k", "thousand"), "thousand"),
    **dict.fromkeys(("m", "mn", "mln", "mio", "million"), "million"),
    **dict.fromkeys(("b", "bn", "bln", "billion"), "billion"),
    **dict.fromkeys(("t", "tn", "trn", "trillion"), "trillion"),
}
_UNIT_WORDS = frozenset(_UNITS.values())
#: Single letters are units only right behind a number.
_LONG_UNITS = {name: unit for name, unit in _UNITS.items() if len(name) > 1}
_NUMBER_WORDS = {
    "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8",
    "nine": "9", "ten": "10", "eleven": "11", "twelve": "12",
}  # fmt: skip
_NEGATIONS = _set("no not never without nor denies deny denied fails failed cannot")
_UP = _set(
    "up rise rises rose rising gain gains gained gaining jump jumps jumped surge surges surged "
    "soar soars soared climb climbs climbed rally rallies rallied rebound rebounds higher high "
    "above beat beats top tops exceeds upgrade upgrades upgraded raise raises raised hike hikes "
    "increase increases increased grow grows grew buy buys bought bullish profit win wins won "
    "approve approves approved accept accepts accepted inflow inflows open opens best"
)
_DOWN = _set(
    "down fall falls fell falling drop drops dropped dropping slump slumps slumped plunge plunges "
    "plunged tumble tumbles tumbled slide slides slid sink sinks sank decline declines declined "
    "lower low below miss misses missed downgrade downgrades downgraded cut cuts lowers lowered "
    "decrease decreases decreased shrink shrinks shrank sell sells sold bearish loss lose loses "
    "lost reject rejects rejected outflow outflows close closes worst"
)

_QUARTERS = (("first", "1"), ("second", "2"), ("third", "3"), ("fourth", "4"))
_PERIOD = re.compile(r"\b(first|second|third|fourth)[\s-]+(quarter|half)\b")
_PERIOD_CODE = re.compile(r"([1-4])([qh])")
_SIGN_BEFORE_CURRENCY = re.compile(r"([-\u2212\u2013])[$€£¥]")
_TOKEN = re.compile(
    # A minus is one only at the start of a word: "2024-25" and "covid-19" have none.
    r"(?P<sign>(?<![^\s(])[-\u2212\u2013])?(?P<number>\d+(?:[.,]\d+)*)(?P<unit>[^\W\d_]*[^\W_]*)"
    r"|(?P<word>[^\W_]+)"
)
_THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_LAST_PART = re.compile(
    r"^(?P<head>.*\S)\s+(?P<mark>[|\u2013\u2014-])\s+(?P<tail>\S.*)$", re.DOTALL
)
_LONGEST_PUBLISHER_WORDS = 4
_SHORTEST_NAME = 3


class Headline(NamedTuple):
    """A headline as it is compared.

    Attributes:
        words: in their order, normalised; common words and the publisher are left out.
        tokens: the distinct ones.
        numbers: those of them that are numbers, periods ("q3") and units ("billion").
    """

    words: tuple[str, ...]
    tokens: frozenset[str]
    numbers: frozenset[str]


def read_headline(title: str, publisher: str = "") -> Headline:
    """Return a headline as it is compared.

    Args:
        title: as published; a last part " - Publisher" or " | Publisher" is left out.
        publisher: domain that it appeared in, which tells such a part from others.
    """
    words = tuple(_words(_without_publisher(title, publisher)))
    tokens = frozenset(words)
    return Headline(words, tokens, frozenset(token for token in tokens if _is_number(token)))


def _is_number(token: str) -> bool:
    return token in _UNIT_WORDS or any(character.isdigit() for character in token)


def _words(text: str) -> Iterator[str]:
    plain = unicodedata.normalize("NFKC", text).casefold().replace("\u2019", "'")
    plain = _PERIOD.sub(lambda found: found[2][0] + dict(_QUARTERS)[found[1]], plain)
    # "isn't" and "won't" say the opposite; "Australia's" only owns something.
    plain = re.sub(r"n't\b", " not", plain).replace("'s", "").replace("'", "")
    plain = re.sub(r"[$€£¥]", " ", _SIGN_BEFORE_CURRENCY.sub(r"\1", plain))
    for found in _TOKEN.finditer(plain):
        if found["word"] is None:
            yield from _number(bool(found["sign"]), found["number"], found["unit"])
        elif found["word"] not in _COMMON:
            word = _NUMBER_WORDS.get(found["word"], found["word"])
            yield _LONG_UNITS.get(word, word)


def _number(is_negative: bool, digits: str, unit: str) -> Iterator[str]:
    period = _PERIOD_CODE.fullmatch(digits + unit[:1])
    if period and len(unit) == 1:
        yield period[2] + period[1]
        return
    value = digits.replace(",", "" if _THOUSANDS.fullmatch(digits) else ".")
    if value.count(".") == 1:
        value = value.rstrip("0").rstrip(".")
    sign = "-" if is_negative else ""
    if unit in _UNITS:
        yield sign + value
        yield _UNITS[unit]
    else:
        yield sign + value + unit


def _without_publisher(title: str, publisher: str) -> str:
    match = _LAST_PART.match(title)
    while match is not None and _names_publisher(match, publisher):
        title = match["head"]
        match = _LAST_PART.match(title)
    return title


def _names_publisher(match: re.Match[str], publisher: str) -> bool:
    tail, words = match["tail"], match["tail"].split()
    name, site = _letters(tail), _letters(publisher)
    first_label = _letters(re.sub(r"^(?:www\.|r/)", "", publisher).partition(".")[0])
    if len(name) >= _SHORTEST_NAME and site.startswith(name):
        return True
    if len(first_label) > _SHORTEST_NAME and first_label in name:
        return True
    is_short = len(words) <= _LONGEST_PUBLISHER_WORDS and not any(map(str.isdigit, tail))
    is_name = match["mark"] == "|" or all(word[0].isupper() or "." in word for word in words)
    return is_short and is_name and len(set(_words(match["head"]))) >= FEWEST_TOKENS


def _letters(text: str) -> str:
    return re.sub(r"[\W_]+", "", text.casefold())


def _is_alike(first: Headline, second: Headline) -> bool:
    """Say whether two headlines, none of them short, report the same."""
    if first.numbers != second.numbers:
        return False
    shared = len(first.tokens & second.tokens)
    if _SHARED * shared < _OF_BOTH * (len(first.tokens) + len(second.tokens)):
        return False
    only_first, only_second = first.tokens - second.tokens, second.tokens - first.tokens
    if (only_first | only_second) & _NEGATIONS:
        return False
    return not (
        (only_first & _UP and only_second & _DOWN) or (only_first & _DOWN and only_second & _UP)
    )


_LINK = re.compile(r"https?://\S+")


def _post_text(item: StoryItem) -> str:
    """Return the whole text of a post as it is compared, empty where there is nothing to compare.

    Links are left out where there is more: every copy of a post has a short link of its own.
    """
    text = unicodedata.normalize("NFKC", f"{item.title}\n{item.body}").casefold()
    return " ".join(_LINK.sub(" ", text).split()) or " ".join(text.split())


# --- two items ----------------------------------------------------------------------------


def is_same_story(first: StoryItem, second: StoryItem) -> bool:
    """Say whether two items are one story by themselves, see the module's text."""
    apart = abs(first.published_at - second.published_at)
    if first.kind != second.kind or first.label != second.label or apart > REACH:
        return False
    if first.kind == "social":
        text = _post_text(first)
        return bool(text) and text == _post_text(second)
    if first.canonical_url == second.canonical_url and _is_page(first.canonical_url):
        return True
    if not _subjects(first) & _subjects(second):
        return False
    one = read_headline(first.title, first.publisher)
    other = read_headline(second.title, second.publisher)
    if min(len(one.tokens), len(other.tokens)) >= FEWEST_TOKENS:
        return _is_alike(one, other)
    is_same_day = _utc_day(first) == _utc_day(second)
    return bool(one.words) and one.words == other.words and is_same_day


def _subjects(item: StoryItem) -> frozenset[int]:
    """Return what an item is about; items of which that is not known have it in common."""
    return item.instruments or frozenset({0})


def _utc_day(item: StoryItem) -> int:
    return int(item.published_at.timestamp() // 86_400)


# --- many items ---------------------------------------------------------------------------


def group(items: Iterable[StoryItem], together: Iterable[Collection[Key]] = ()) -> list[list[Key]]:
    """Return the stories among some items, each as the keys of its items.

    The same as joining every two items for which `is_same_story` holds, without comparing all:
    10,000 items take seconds.

    Args:
        items: in any order; one that is given twice counts once.
        together: keys that are known to be one story already.

    Returns:
        Stories by their first key, keys sorted; each key stands in one of them.
    """
    forest = _Forest()
    news: list[StoryItem] = []
    by_time: dict[Hashable, list[tuple[datetime, Key]]] = defaultdict(list)
    for item in items:
        forest.find(item.key)
        if item.kind == "news":
            news.append(item)
            if _is_page(item.canonical_url):
                name = ("page", item.label, item.canonical_url)
                by_time[name].append((item.published_at, item.key))
        elif text := _post_text(item):
            by_time["post", item.label, text].append((item.published_at, item.key))
    for known in together:
        keys = list(known)
        for key in keys:
            forest.join(keys[0], key)
    for entries in by_time.values():
        _chain(forest, entries)
    _join_headlines(forest, news)
    return forest.groups()


class _Forest:
    """Sets of keys that can be joined."""

    def __init__(self) -> None:
        self._parents: dict[Key, Key] = {}

    def find(self, key: Key) -> Key:
        """Return the key that stands for the set of `key`."""
        root = self._parents.setdefault(key, key)
        while (above := self._parents[root]) != root:
            root = above
        while key != root:
            self._parents[key], key = root, self._parents[key]
        return root

    def join(self, first: Key, second: Key) -> None:
        """Make one set of two."""
        one, other = sorted((self.find(first), self.find(second)))
        self._parents[other] = one

    def groups(self) -> list[list[Key]]:
        """Return the sets, sorted."""
        sets: dict[Key, list[Key]] = defaultdict(list)
        for key in self._parents:
            sets[self.find(key)].append(key)
        return sorted(sorted(keys) for keys in sets.values())


class _Run(NamedTuple):
    """Items with the same headline, about the same, none further from the next than `REACH`."""

    headline: Headline
    subjects: frozenset[int]
    first: datetime
    last: datetime
    key: Key


def _chain(
    forest: _Forest, entries: list[tuple[datetime, Key]]
) -> list[tuple[datetime, datetime, Key]]:
    """Join items that follow each other within `REACH`; return the runs: first, last, a key."""
    runs: list[tuple[datetime, datetime, Key]] = []
    for at, key in sorted(entries):
        if runs and at - runs[-1][1] <= REACH:
            first, _, of_run = runs[-1]
            forest.join(of_run, key)
            runs[-1] = (first, at, of_run)
        else:
            runs.append((at, at, key))
    return runs


def _join_headlines(forest: _Forest, news: Iterable[StoryItem]) -> None:
    short: dict[Hashable, Key] = {}
    alike: dict[tuple[str, Headline, frozenset[int]], list[tuple[datetime, Key]]]
    alike = defaultdict(list)
    for item in news:
        headline = read_headline(item.title, item.publisher)
        if len(headline.tokens) >= FEWEST_TOKENS:
            # The order of the words does not count here.
            signature = Headline((), headline.tokens, headline.numbers)
            alike[item.label, signature, _subjects(item)].append((item.published_at, item.key))
        elif headline.words:
            for subject in _subjects(item):
                name = (item.label, headline.words, _utc_day(item), subject)
                forest.join(short.setdefault(name, item.key), item.key)
    blocks: dict[Hashable, list[_Run]] = defaultdict(list)
    for (label, headline, subjects), entries in alike.items():
        blocks[label, headline.numbers].extend(
            _Run(headline, subjects, *run) for run in _chain(forest, entries)
        )
    for runs in blocks.values():
        _join_alike(forest, runs)


def _join_alike(forest: _Forest, runs: Sequence[_Run]) -> None:
    """Join runs with nearly the same headline; their numbers are equal.

    Two sets that share three quarters of their words share one among the rarest of each: of n
    words n - ceil(3n/4) + 1. Only runs that meet in the index of these are compared.
    """
    counts = Counter(token for run in runs for token in run.headline.tokens)
    bits = {token: 1 << number for number, token in enumerate(counts)}
    index: dict[str, list[tuple[datetime, int, int, _Run]]] = defaultdict(list)
    for run in sorted(runs, key=lambda each: each.first):
        tokens = run.headline.tokens
        size, mask = len(tokens), sum(bits[token] for token in tokens)
        earliest = run.first - REACH
        entry = (run.last, size, mask, run)
        rarest = sorted(tokens, key=lambda token: (counts[token], token))
        for token in rarest[: size - (3 * size + 3) // 4 + 1]:
            # The other ones start earlier: what counts is when they end.
            for last, other_size, other_mask, other in index[token]:
                shared = (mask & other_mask).bit_count()
                if (
                    _SHARED * shared >= _OF_BOTH * (size + other_size)
                    and last >= earliest
                    and run.subjects & other.subjects
                    and _is_alike(run.headline, other.headline)
                ):
                    forest.join(run.key, other.key)
            index[token].append(entry)
