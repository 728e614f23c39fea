"""Which instruments a text is about: provider's codes, exchanges, cashtags, pairs, names, tickers.

A text names an instrument in one of six ways. Each has a certainty (`CERTAINTY`), and where a
text names an instrument in several ways the most certain one is kept.

=========  =========  ==========================================================================
how        certainty  what counts
=========  =========  ==========================================================================
provider   0.99       A code that the source attached to the text. With a market it names that
                      market's instrument. Codes of coins are the coin: BTC means every watched
                      instrument with that base, BTC/USD as well as BTC/AUD.
qualified  0.98       A code with its exchange: `ASX:BHP`, `(NASDAQ: AAPL)`, `NYSE:BRK.B`,
                      `BHP.AX`, `AAPL.O`, `BTC.X`. A code of an exchange that is not covered
                      (`LSE: RIO`, `RIO.L`) names nothing.
cashtag    0.92       `$BHP`, `$brk.b`, `$BTC`; not `$5`, `$100M`, `$360`.
pair       0.90       `BTC/USD`, `btc-usd`, `BTCUSDT` (without a sign between: capitals only), for
                      coins that are watched. A pair that is watched itself is that instrument,
                      any other pair is the coin. Inside a cashtag it is a cashtag.
name       0.85       The name or an alias, word for word, longest first. See below.
ticker     0.60       A bare code in capitals, three or more characters, not an ambiguous word,
                      in a text that is not mostly in capitals.
=========  =========  ==========================================================================

Names. Capitals do not matter in names of several words, unless all of them are ambiguous words
("Best Buy"). A one-word name needs its initial capital, or to be spelled exactly as it was given
("eBay"; give the alias "bitcoin" where the lower case is meant as well). Legal forms and the like
(Limited, Group, Inc, Holdings, Banking, of Australia, Class A, ...) may be left out where at least
four letters remain and what remains is not an ambiguous word: "Commonwealth Bank" is Commonwealth
Bank of Australia, "Commonwealth" is not. What remains of Block, Target, Gap or Zip is a word: such
a name needs its legal form ("Block, Inc."), any other mention, or serves only to settle a code
that could be several instruments. Names shorter than four letters have to be spelled as given.
Where several instruments carry the same name (two listings of a company, two classes of its
shares), the text is about all of them, unless `market` or a provider's, qualified or cashtag
mention of one of them narrows it.

Codes that several markets have. A hint without a market, a cashtag or a ticker that fits several
instruments is settled by the first of these that leaves one: `market` (where the feed is about
one market); an instrument of them that the text also names by provider, exchange, pair or name;
one that it names by a word ("Block"); a market that the text names by provider, exchange, pair or
name. If nothing settles it, the code is reported in `Mentions.ambiguous` and names nothing. So
is a bare code of two or more characters that is too short, or a word, or in a text in capitals.

Web and mail addresses are not read, hashtags are read as bare words, and only the first
`READ_LIMIT` characters of a text are read. `AMBIGUOUS_WORDS` can be replaced.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from scizor_core.ambiguous_words import AMBIGUOUS_WORDS, OTHER_NAMES
from scizor_core.markets import get_market

How = Literal["provider", "qualified", "cashtag", "pair", "name", "ticker"]

#: How far each way of naming an instrument can be trusted, 0 to 1, most certain first. Set by
#: judgement, not measured; the order is what the rest relies on.
CERTAINTY: dict[How, float] = {
    "provider": 0.99,
    "qualified": 0.98,
    "cashtag": 0.92,
    "pair": 0.90,
    "name": 0.85,
    "ticker": 0.60,
}

#: Characters of a text that are read; what comes after them is left.
READ_LIMIT = 20_000

#: Letters that what remains of a name needs after its legal form is left out.
SHORTEST_NAME = 4

_SHORTEST_TICKER = 3
_FEWEST_WORDS = 3


@dataclass(frozen=True)
class Nameable:
    """An instrument as texts may call it.

    Attributes:
        instrument_id: its permanent id.
        market: name of its market.
        symbol: its code there, for example CBA, BRK.B or BTC/USD.
        name: the company's or coin's name, with or without its legal form; may be empty.
        aliases: further names, former codes not among them.
    """

    instrument_id: int
    market: str
    symbol: str
    name: str = ""
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Hint:
    """A code that the source itself attached to the text; `market` None where it says none."""

    code: str
    market: str | None = None


@dataclass(frozen=True)
class Mention:
    """One instrument that a text is about.

    Attributes:
        instrument_id: its permanent id.
        how: the most certain way in which the text names it.
        certainty: the figure of `CERTAINTY` for that way, 0 to 1.
    """

    instrument_id: int
    how: How
    certainty: float


@dataclass(frozen=True)
class Mentions:
    """What a text is about.

    Attributes:
        found: one mention per instrument, ordered by instrument_id.
        ambiguous: codes seen that could be several instruments or a plain word, sorted.
    """

    found: tuple[Mention, ...]
    ambiguous: tuple[str, ...]


# --- How codes look ---------------------------------------------------------------------------

# A character that a code cannot stand next to. Latin only: in "比特币BTC上涨" there is a code.
_LETTER = r"A-Za-z0-9_À-ɏ"
_NOT_AFTER = rf"(?<![{_LETTER}$])"
_NOT_BEFORE = rf"(?![{_LETTER}])"

_US_EXCHANGES = (
    r"NYSE[ -]?(?:American|Arca|MKT)|NYSEARCA|NYSEAMERICAN|NYSEMKT|NYSE|NASDAQ(?:GS|GM|CM)?|AMEX"
    r"|ARCA|BATS|CBOE|OTCMKTS|OTCQB|OTCQX|OTC"
)
_OTHER_EXCHANGES = (
    "LSE|LON|AIM|TSXV|TSX-V|TSX|CSE|NEO|NZX|NZE|HKEX|SEHK|HKG|SGX|JSE|FRA|FWB|XETRA|ETR|EPA|AMS"
    "|BME|SWX|TSE|TYO|NSE|BSE|KRX|SSE|SZSE"
)
_EXCHANGE = rf"(?:(?i:ASX|{_US_EXCHANGES})|{_OTHER_EXCHANGES})"
_QUOTES = (
    "USDT", "USDC", "BUSD", "FDUSD", "PERP", "USD", "AUD", "EUR", "GBP", "JPY", "CAD", "NZD", "SGD",
)  # fmt: skip
_EXCHANGE_MARKETS: Mapping[str, str] = {"ASX": "asx", "NYSE": "us", "NASDAQ": "us", "AMEX": "us"}
_SUFFIX_MARKETS: Mapping[str, str] = {
    "AX": "asx", "ASX": "asx", "N": "us", "O": "us", "OQ": "us", "US": "us", "X": "crypto",
}  # fmt: skip

_UNREAD = re.compile(
    r"https?://[^\s<>\"'\])]+|www\.[^\s<>\"'\])]+"
    r"|(?<![\w.+-])[\w+-]+(?:\.[\w+-]+)*@[\w-]+(?:\.[\w-]+)+"
    r"|(?<![\w.-])[\w-]+(?:\.[\w-]+)*\.(?:com|net|org|gov|io|co|au|uk|me|ly|gg)/\S*",
    re.IGNORECASE,
)
_CODES = re.compile(
    rf"{_NOT_AFTER}(?P<exchanges>{_EXCHANGE}(?:\s?[/,;&|]\s?{_EXCHANGE}){{0,4}})"
    r"(?:\s(?:code|ticker|symbol))?\s?:"
    rf"(?:\s?\$?(?P<listed>[A-Z0-9]+(?:[./-][A-Z0-9]+)?){_NOT_BEFORE}"
    rf"|(?P<tight>[A-Za-z0-9]+(?:[./-][A-Za-z0-9]+)?){_NOT_BEFORE})"
    rf"|{_NOT_AFTER}(?P<cashtags>(?:\$[A-Za-z0-9]+(?:[./_-][A-Za-z0-9]+)?)+){_NOT_BEFORE}"
    rf"|{_NOT_AFTER}(?P<pair>[A-Za-z0-9]+[/_-](?i:{'|'.join(_QUOTES)})){_NOT_BEFORE}"
    rf"|{_NOT_AFTER}(?P<bare>[A-Z0-9]{{2,}}(?:[./_-][A-Z0-9]+)*"
    rf"|[A-Z0-9](?:[./_-][A-Z0-9]+)+){_NOT_BEFORE}"
)
# Accents piled up without end take quadratic time to put in order; no code or name is in them.
_LONG_RUN = re.compile(r"[^\w\s]{64,}")
_AMOUNT = re.compile(
    r"\d+(?:[.,]\d+)*(?:K|M|MM|MN|MLN|B|BN|BLN|T|TN|TRN|C|P|X|TH|ST|ND|RD|MILLION|BILLION)?"
)
_SEPARATORS = re.compile(r"[./_-]")
# Another class of a share or another exchange than ours: RDS.A, RIO.L, XRO.NZ.
_OTHER_CLASS = re.compile(r"[A-Za-z0-9]+[./_-][A-Z]{1,2}")
_WORD_IN_CAPITALS = re.compile(r" [A-Z]{2}")

# --- How names look ---------------------------------------------------------------------------

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
# What may stand between two words of one name; a full stop only after an initial or "St".
_JOINTS = frozenset({" ", "  ", "\n", ", ", ",", "-", "&", " & ", " + ", ".", "/"})
_LONGEST_ABBREVIATION = 2
_SMALL_WORDS = frozenset({"of", "and", "the"})
_LEGAL_FORMS = (
    "inc", "incorporated", "corp", "corporation", "co", "company", "ltd", "limited", "plc", "group",
    "holdings", "holding",
)  # fmt: skip
_LEFT_OUT = frozenset(_LEGAL_FORMS) | frozenset({
    "pty", "llc", "lp", "nv", "sa", "ag", "se", "spa", "ab", "asa", "oyj", "nl", "com", "global",
    "common", "ordinary", "stock", "stocks", "share", "shares", "class", "series", "adr", "ads",
    "cdi", "depositary", "receipt", "receipts", "the",
})  # fmt: skip
_COIN_LEFT_OUT = frozenset({"usd", "aud", "eur", "usdt", "usdc", "us", "dollar", "australian"})

_CHARACTERS: dict[int, str | None] = {
    **dict.fromkeys(map(ord, "\u2018\u2019\u02bc\uff07`"), "'"),
    **dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2212"), "-"),
    **dict.fromkeys(map(ord, "\u00a0\u2007\u202f\u3000\t"), " "),
    **dict.fromkeys(map(ord, "\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\u00ad"), None),
    **dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)], None),
    ord("\uff04"): "$",
    ord("\uff1a"): ":",
    ord("\r"): None,
}


# A company, or a coin with all its pairs: what a code or a name means as one.
@dataclass(frozen=True)
class _Subject:
    market: str
    ids: tuple[int, ...]


_Subjects = tuple[_Subject, ...]
# A word of a text, where it starts and where it ends.
_Token = tuple[str, int, int]


# One way to write a name: in "any" letters, with a "capital" in each word, or in the "spelling"
# given. `weak` where it is a plain word. Without a subject it only keeps its words from others.
@dataclass(frozen=True)
class _Naming:
    subject: _Subject | None
    needs: Literal["any", "capital", "spelling"]
    spelling: str = ""
    weak: bool = False

    def fits(self, text: str, tokens: Sequence[_Token], end: int) -> bool:
        if self.needs == "any" or text[tokens[0][1] : end] == self.spelling:
            return True
        return self.needs == "capital" and all(
            not word[0].islower() or word in _SMALL_WORDS for word, _, _ in tokens
        )


# A word in the tree of names: the words that may come next, and the names that end here.
@dataclass
class _Node:
    then: "dict[str, _Node]" = field(default_factory=dict)
    namings: list[_Naming] = field(default_factory=list)


# A name as found in a text.
@dataclass(frozen=True)
class _Named:
    words: int
    subjects: _Subjects
    weak: bool


# What one text has shown so far.
@dataclass
class _Reading:
    market: str | None
    found: dict[int, How] = field(default_factory=dict)
    markets: set[str] = field(default_factory=set)
    weak: set[int] = field(default_factory=set)
    unsettled: list[tuple[How, str, _Subjects]] = field(default_factory=list)
    bare: list[str] = field(default_factory=list)

    def add(self, how: How, subjects: _Subjects) -> None:
        for subject in subjects:
            if how not in ("cashtag", "ticker"):
                self.markets.add(subject.market)
            for instrument_id in subject.ids:
                known = self.found.get(instrument_id)
                if known is None or CERTAINTY[known] < CERTAINTY[how]:
                    self.found[instrument_id] = how

    def take(self, how: How, code: str, subjects: _Subjects) -> None:
        """Add what a code means, or keep it until the whole text has been read."""
        if len(subjects) == 1:
            self.add(how, subjects)
        elif subjects:
            self.unsettled.append((how, code, subjects))

    def settled(self, subjects: _Subjects) -> _Subjects:
        """Return the one subject that the evidence leaves, nothing where it leaves several."""
        found, weak, markets = frozenset(self.found), self.weak, self.markets
        if self.market is not None:
            here = tuple(subject for subject in subjects if subject.market == self.market)
            subjects = here or subjects
        tests: tuple[Callable[[_Subject], bool], ...] = (
            lambda _: True,
            lambda subject: not found.isdisjoint(subject.ids),
            lambda subject: not weak.isdisjoint(subject.ids),
            lambda subject: subject.market in markets,
        )
        for test in tests:
            left = tuple(subject for subject in subjects if test(subject))
            if len(left) == 1:
                return left
        return ()


class MentionFinder:
    """Finds the instruments that texts are about: built once, then one call for each text.

    Args:
        instruments: what can be found. Delisted ones are the caller's to pass or to leave out.
        words: codes and names, in upper case, that prove nothing on their own.

    Raises:
        UnknownMarketError: an instrument is of a market that the platform does not have.
    """

    def __init__(
        self, instruments: Iterable[Nameable], words: frozenset[str] = AMBIGUOUS_WORDS
    ) -> None:
        instruments = tuple(instruments)
        self._words = words
        self._codes: dict[str, _Subjects] = {}
        self._coins: dict[str, _Subject] = {}
        self._pairs: dict[str, _Subject] = {}
        self._names = _Node()
        bases: dict[tuple[str, str], list[int]] = {}
        for instrument in instruments:
            market, code = instrument.market, _code(instrument)
            bases.setdefault((market, code), []).append(instrument.instrument_id)
        for (market, code), ids in bases.items():
            subjects: _Subjects
            if _is_coin(market):
                subjects = (_Subject(market, tuple(sorted(ids))),)
                self._coins[code] = subjects[0]
            else:
                subjects = tuple(_Subject(market, (instrument_id,)) for instrument_id in ids)
            self._codes[code] = (*self._codes.get(code, ()), *subjects)
        for instrument in instruments:
            own = _Subject(instrument.market, (instrument.instrument_id,))
            subject, code = own, _code(instrument)
            if _is_coin(instrument.market):
                self._pairs[instrument.symbol.strip().upper()] = own
                subject = self._coins[code]
            for name in (instrument.name, *instrument.aliases):
                for name_words, naming in _namings(subject, code, name, words):
                    self._register(name_words, naming)
        # Last, so that an instrument that is watched under one of these names has it.
        for name in OTHER_NAMES:
            self._register(_lower_words(name), _Naming(None, "any"))

    def find(self, text: str, hints: Sequence[Hint] = (), market: str | None = None) -> Mentions:
        """Return what `text` is about; no text makes it raise.

        Args:
            text: title, body or post: plain text of any length, in any script.
            hints: codes that the source attached to it.
            market: the market that the source is about, where it is about one (a feed, a forum);
                decides between instruments of several markets that have the same code.
        """
        reading = _Reading(market.strip().lower() if market else None)
        for hint in hints:
            self._read_hint(reading, hint)
        masked = _CODES.sub(
            lambda match: self._read_code(reading, match), _UNREAD.sub(" \0 ", _plain(text))
        )
        tokens = [(match[0], match.start(), match.end()) for match in _WORD.finditer(masked)]
        self._read_names(reading, masked, tokens)
        return self._settle(reading, tokens)

    # --- Codes --------------------------------------------------------------------------------

    def _read_hint(self, reading: _Reading, hint: Hint) -> None:
        code = hint.code.strip().lstrip("$").upper()[:READ_LIMIT]
        market = hint.market.strip().lower() if hint.market else None
        exchange, colon, listed = code.partition(":")
        if colon and exchange in _EXCHANGE_MARKETS:
            market, code = market or _EXCHANGE_MARKETS[exchange], listed.strip()
        subjects = self._meant(code)[0]
        if market is not None:
            subjects = tuple(subject for subject in subjects if subject.market == market)
        reading.take("provider", code, subjects)

    def _read_code(self, reading: _Reading, match: re.Match[str]) -> str:
        """Take note of one code and return what is left of it for names to be read in."""
        if match["exchanges"]:
            return self._read_listed(reading, match)
        if match["cashtags"]:
            for code in match[0][1:].split("$"):
                self._read_cashtag(reading, code)
            return "\0"
        if self._read_pair(reading, match[0]):
            return "\0"
        return self._read_bare(reading, match[0]) if match[0].isupper() else match[0]

    def _read_listed(self, reading: _Reading, match: re.Match[str]) -> str:
        code = (match["listed"] or match["tight"]).upper()
        # "ASX: ALL EYES ON THE RBA" is a headline.
        if code in self._words and _WORD_IN_CAPITALS.match(match.string, match.end()):
            return match[0]
        exchanges = re.split(r"\s?[/,;&|]\s?", match["exchanges"].upper())
        markets = {_market_of(exchange) for exchange in exchanges}
        subjects = self._meant(code)[0]
        if not subjects and not _OTHER_CLASS.fullmatch(code):
            subjects = self._codes.get(_SEPARATORS.split(code)[0], ())
        reading.add("qualified", tuple(one for one in subjects if one.market in markets))
        return "\0"

    def _read_cashtag(self, reading: _Reading, written: str) -> None:
        code = written.upper()
        head, *rest = _SEPARATORS.split(code)
        if _AMOUNT.fullmatch(head) and (head.isdigit() or head not in self._codes):
            return
        subjects, how = self._meant(code)
        if subjects:
            reading.take("qualified" if how == "qualified" else "cashtag", code, subjects)
        elif not _OTHER_CLASS.fullmatch(written):
            reading.take("cashtag", head, self._codes.get(head, ()))
            if written.isupper():
                reading.bare.extend(rest)

    def _read_pair(self, reading: _Reading, written: str) -> bool:
        code = written.upper()
        subject = None if code in self._codes else self._pair(code)
        # Without a sign between coin and currency it has to be in capitals to be a pair.
        if subject is None or not (written.isupper() or _SEPARATORS.search(written)):
            return False
        reading.add("pair", (subject,))
        return True

    def _read_bare(self, reading: _Reading, written: str) -> str:
        subjects, how = self._meant(written)
        if subjects and how == "qualified":
            reading.add("qualified", subjects)
            return "\0"
        if subjects:
            reading.bare.append(_canonical(written))
        elif not _OTHER_CLASS.fullmatch(written):
            reading.bare.extend(_SEPARATORS.split(written))
        return written

    def _meant(self, code: str) -> tuple[_Subjects, How]:
        """Return what a code in upper case may mean, and what it is by its form."""
        subjects = self._codes.get(_canonical(code), ())
        if subjects:
            return subjects, "ticker"
        pair = self._pair(code)
        if pair is not None:
            return (pair,), "pair"
        head, _, suffix = code.rpartition(".")
        market = _SUFFIX_MARKETS.get(suffix)
        listed = self._codes.get(_canonical(head), ()) if market else ()
        return tuple(subject for subject in listed if subject.market == market), "qualified"

    def _pair(self, code: str) -> _Subject | None:
        """Return what a pair in upper case means, None where it is no pair of a watched coin."""
        base, _, quote = _SEPARATORS.sub("/", code, count=1).partition("/")
        if quote:
            exact = self._pairs.get(f"{base}/{quote}")
            return exact or (self._coins.get(base) if quote in _QUOTES else None)
        for ending in _QUOTES if code.endswith(_QUOTES) else ():
            base = code.removesuffix(ending)
            if base != code and len(base) > 1 and base in self._coins:
                return self._pairs.get(f"{base}/{ending}") or self._coins[base]
        return None

    # --- Names --------------------------------------------------------------------------------

    def _register(self, name_words: tuple[str, ...], naming: _Naming) -> None:
        """Put a way to write a name into the tree of names, with and without its "and"s."""
        for sequence in {name_words, tuple(word for word in name_words if word != "and")}:
            node = self._names
            for word in sequence:
                node = node.then.setdefault(word, _Node())
            node.namings.append(naming)

    def _read_names(self, reading: _Reading, text: str, tokens: Sequence[_Token]) -> None:
        first_words = self._names.then
        certain: list[_Subjects] = []
        position = 0
        while position < len(tokens):
            word = tokens[position][0]
            named = None
            if word.lower() in first_words or "'" in word:
                named = self._longest_name(text, tokens, position)
            if named is None:
                position += 1
                continue
            position += named.words
            if named.weak:
                reading.weak.update(one for subject in named.subjects for one in subject.ids)
            else:
                certain.append(named.subjects)
        narrowed = [self._narrowed(reading, subjects) for subjects in dict.fromkeys(certain)]
        for subjects in narrowed:
            reading.add("name", subjects)

    def _narrowed(self, reading: _Reading, subjects: _Subjects) -> _Subjects:
        """Return which of the instruments that share a name are meant: all, if nothing says."""
        known = tuple(one for one in subjects if not reading.found.keys().isdisjoint(one.ids))
        here = tuple(one for one in subjects if one.market == reading.market)
        return known or here or subjects

    def _longest_name(self, text: str, tokens: Sequence[_Token], first: int) -> _Named | None:
        """Return the longest name that starts at a word, None where there is none."""
        best: _Named | None = None
        node: _Node | None = self._names
        for last in range(first, len(tokens)):
            if node is None or (last > first and not _joined(text, tokens[last - 1 : last + 1])):
                break
            word, _, end = tokens[last]
            lower = word.lower()
            here = node
            node = here.then.get(lower.replace("'", ""))
            ends = [(node, end)]
            if lower.endswith("'s"):
                ends.append((here.then.get(lower[:-2].replace("'", "")), end - 2))
            for reached, name_end in ends:
                named = reached and _named(reached, text, tokens[first : last + 1], name_end)
                if named:
                    best = named
                    break
        return best

    # --- Settling -----------------------------------------------------------------------------

    def _settle(self, reading: _Reading, tokens: Sequence[_Token]) -> Mentions:
        """Decide what is open once the whole text has been read."""
        doubtful: dict[str, _Subjects] = {}
        bare = [code for code in dict.fromkeys(reading.bare) if code in self._codes]
        shouted = bool(bare) and _is_shouted(tokens, self._words)
        tickers: list[tuple[How, str, _Subjects]] = []
        for code in bare:
            if len(code) < _SHORTEST_TICKER or code in self._words or shouted:
                doubtful[code] = self._codes[code]
            elif not _AMOUNT.fullmatch(code):
                tickers.append(("ticker", code, self._codes[code]))
        # All are judged on the same evidence, whatever their order in the text.
        judged = [
            (how, code, subjects, reading.settled(subjects))
            for how, code, subjects in (*reading.unsettled, *tickers)
        ]
        for how, code, subjects, settled in judged:
            reading.add(how, settled)
            if not settled:
                doubtful[code] = subjects
        ambiguous = (
            code
            for code, subjects in doubtful.items()
            if len(code) > 1
            and all(one not in reading.found for subject in subjects for one in subject.ids)
        )
        found = (
            Mention(instrument_id, how, CERTAINTY[how])
            for instrument_id, how in sorted(reading.found.items())
        )
        return Mentions(tuple(found), tuple(sorted(ambiguous)))


def _is_coin(market: str) -> bool:
    return get_market(market).asset_class == "crypto"


def _canonical(code: str) -> str:
    """Return a code with its share class behind a full stop: BRK-B and BRK/B are BRK.B."""
    return _SEPARATORS.sub(".", code)


def _code(instrument: Nameable) -> str:
    """Return the code by which texts call an instrument: of a coin's pairs, the coin."""
    symbol = instrument.symbol.strip().upper()
    return symbol.partition("/")[0] if _is_coin(instrument.market) else _canonical(symbol)


def _market_of(exchange: str) -> str | None:
    if re.fullmatch(_US_EXCHANGES, exchange, re.IGNORECASE):
        return "us"
    return _EXCHANGE_MARKETS.get(exchange)


def _plain(text: str) -> str:
    """Return what is read of a text, with one spelling for each quote, dash and blank."""
    text = text[:READ_LIMIT]
    if text.isascii():
        return text.replace("\t", " ").replace("\r", "")
    return unicodedata.normalize("NFC", _LONG_RUN.sub(" ", text.translate(_CHARACTERS)))


def _lower_words(name: str) -> tuple[str, ...]:
    return tuple(match[0].lower().replace("'", "") for match in _WORD.finditer(_plain(name)))


def _joined(text: str, two: Sequence[_Token]) -> bool:
    """Return whether two words that follow each other can be of one name."""
    (before, _, end), (_, start, _) = two
    between = text[end:start]
    return between in _JOINTS or (between == ". " and len(before) <= _LONGEST_ABBREVIATION)


def _named(node: _Node, text: str, tokens: Sequence[_Token], end: int) -> _Named | None:
    """Return the name that these words are, None where none of those that end here fits."""
    fitting = [naming for naming in node.namings if naming.fits(text, tokens, end)]
    if not fitting:
        return None
    weak = all(naming.weak for naming in fitting)
    subjects = dict.fromkeys(
        naming.subject for naming in fitting if naming.subject and (weak or not naming.weak)
    )
    return _Named(len(tokens), tuple(subjects), weak)


def _is_shouted(tokens: Sequence[_Token], words: frozenset[str]) -> bool:
    """Return whether a text is mostly in capitals.

    Words of one letter and what looks like a code (three or four capitals that are no word) do
    not count, whatever is watched; three others at least have to be there to tell.
    """
    capitals = others = 0
    for word, _, _ in tokens:
        if len(word) < 2 or not word.isalpha():
            continue
        if not word.isupper():
            others += 1
        elif len(word) not in (3, 4) or word in words:
            capitals += 1
    return capitals + others >= _FEWEST_WORDS and capitals > others


def _namings(
    subject: _Subject, code: str, name: str, words: frozenset[str]
) -> Iterator[tuple[tuple[str, ...], _Naming]]:
    """Yield each way in which a name may be written: its words, and what they need."""
    left_out = _LEFT_OUT | _COIN_LEFT_OUT if _is_coin(subject.market) else _LEFT_OUT
    plain = _plain(name).replace("&", " and ")
    spans = [match.span() for match in _WORD.finditer(plain)]
    full = _lower_words(plain)
    for first, last in _shortened(full, left_out):
        part = full[first:last]
        spelling = plain[spans[first][0] : spans[last - 1][1]].replace(" and ", "&")
        is_code = len(part) == 1 and part[0].upper() == code
        letters = sum(len(word) for word in part if word not in _SMALL_WORDS)
        is_short = letters < SHORTEST_NAME
        is_word = len(part) == 1 and part[0].upper() in words
        if is_word or is_short:
            for form in _LEGAL_FORMS:
                yield (*part, form), _Naming(subject, "capital")
        if is_word:
            yield part, _Naming(subject, "capital", spelling, weak=True)
        elif is_code or is_short:
            # A name that is only the code is read as a code; "Aave" says more than AAVE.
            if (part == full or not is_short) and not (is_code and spelling.isupper()):
                yield part, _Naming(subject, "spelling", spelling)
        elif len(part) == 1 or all(
            word in left_out or word in _SMALL_WORDS or word.upper() in words for word in part
        ):
            yield part, _Naming(subject, "capital", spelling)
        else:
            yield part, _Naming(subject, "any", spelling)


def _shortened(full: tuple[str, ...], left_out: frozenset[str]) -> Iterator[tuple[int, int]]:
    """Yield first and last (excluded) word of a name and of what it is called for short."""
    first_words = (0, 1) if full[:1] == ("the",) and len(full) > 1 else (0,)
    for first in first_words if full else ():
        last = len(full)
        yield first, last
        while count := _left_out_at_end(full[first:last], left_out):
            last -= count
            yield first, last


def _left_out_at_end(part: tuple[str, ...], left_out: frozenset[str]) -> int:
    """Return how many words at the end of a name may be left out, 0 where it is at its shortest."""
    if len(part) >= 4 and part[-2:] == ("of", "australia"):
        return 2
    if len(part) >= 3 and part[-2] in ("class", "series"):
        return 2
    if len(part) >= 2 and (part[-1] in left_out or part[-1] == "and"):
        return 1
    return int(len(part) == 2 and part[-1] == "banking")
