"""Score the feeling of finance headlines and of posts about stocks and crypto, without a model.

Method (`LexiconScorer`), one pass per text and nothing learned:

1. The first 5,000 characters are read, in lower case, as words, numbers, signs and emoji. Links
   and user names are skipped. Text in other scripts is allowed and says nothing.
2. Phrases of the lexicon are looked up, the longest first. A phrase that counts by itself
   ("profit warning", a rocket) has a valence. A direction ("rose", "cuts", "beats") takes its
   sign from the measure it acts on: "profit rose" and "costs fell" are good, "loss widened" is
   bad, "headcount rose" is nothing. "EUR 9 mn compared to EUR 11 mn" and "compared to a loss"
   are compared too where the sentence has no word of direction. Signed percentages count.
3. Each of these is weighed: turned over after a negation ("not profitable"), more or less by
   "sharply" or "slightly", less after "despite" and before "but", more after "but". The n-th
   repeat of a phrase counts 1/n.
4. The sum s is divided by sqrt(n / 4) where there are n > 4 such findings, so that a long text is
   not extreme for its length only, and score = s / sqrt(s^2 + 9), inside (-1, 1).

Thresholds: the label is "neutral" while |score| < 0.25 (about one weak word), otherwise the sign.
A text in which nothing is found has score 0.

Confidence of a positive or negative label is e / (e + 1.5) * |s| / e, where e is the sum of all
findings without their signs: how much evidence there is, times how one-sided it is. A neutral
label rests on the absence of evidence: at most 0.5, growing with the words that could be read and
falling with the evidence found on both sides. A text without any word has confidence 0.

Other words: `LexiconScorer({"phrase": valence, ...})`, on the scale of `lexicon_news`; extend
the default by `{**VALENCES, ...}`. Another scorer: anything with `name` and `score`, see `Scorer`.
The name is stored beside every score, so scores of two scorers are never mixed unseen; change
`DEFAULT_NAME` when the default words or this arithmetic change.

Measured in November 2026 on 243 held-out sentences of Financial PhraseBank and FiQA posts as they
are published together (noisy labels: some sentences are in it twice, with two labels): accuracy
0.74 where the majority class has 0.49, Spearman rank correlation with the labels 0.73.

Note: words are English only; irony is not seen; a text about two companies gets one score.
"""

import hashlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from scizor_core.errors import InvalidInputError
from scizor_core.sentiment.lexicon import TRADING_VALENCES, VALENCES, split_phrases
from scizor_core.sentiment.lexicon_grammar import (
    BARRIERS,
    COMPARISONS,
    CONCESSIONS,
    CONTRASTS,
    DIRECTIONS,
    INTENSITIES,
    MEASURES,
    NEGATIONS,
    NEGATIONS_ALONE,
    NOT_NEGATIONS,
    SKIPPED,
    UNITS,
    Side,
)

Label = Literal["negative", "neutral", "positive"]

DEFAULT_NAME = "lexicon-1"
MAX_CHARACTERS = 5_000
NEUTRAL_BAND = 0.25

_HALF_POINT = 9.0  # s^2 at which the score is 0.71
_FREE_FINDINGS = 4  # findings that are summed before the sum is damped
_NEGATED = -0.7
_BEFORE_BUT, _AFTER_BUT, _AFTER_DESPITE = 0.5, 1.4, 0.35
_PERCENT_MOVE = 0.9  # valence of "+5%", and least of "rose 5%" where nothing says what rose
_COMPARED = 1.3
_TURNED = 1.8  # a loss after a profit, or the other way round
_REPEATED_MEASURE = 0.3
_NEGATION_REACH = 3  # words, as all of these
_RIGHT_REACH = 4
_LEFT_REACH = 14
_SAME_SIZE = 0.02  # two numbers closer than this share are the same

_TOKEN = re.compile(
    r"https?://\S+|www\.\S+"
    r"|[$@#][^\W\d_]\w*"
    r"|[^\W\d_]+(?:'[^\W\d_]+)*"
    r"|(?:(?<![^\s(])[+\u2212-])?\d[\d,]*(?:\s?\.\d+)?(?:\s?%)?"
    r"|(?<!\.[a-z])[.!?]++\s|[.!?]+|\n|--"
    r"|[^\w\s]"
)
_ELONGATED = re.compile(r"([^\W\d_w])\1{2,}")
_LATIN = re.compile(r"[a-z]")

_SILENT = frozenset("-'\"`&/*")  # signs between the words of a phrase ("all-time", "S&P")
# Kinds of marks.
_POLAR, _TRADING, _DIRECTION, _MEASURE, _NEGATION, _INTENSITY = range(6)
_CONTRAST, _CONCESSION, _COMPARISON, _BARRIER, _NUMBER, _COMMA, _STOP, _NOTHING = range(6, 14)
_CLAUSE_ENDS = frozenset({_COMMA, _STOP, _CONTRAST, _CONCESSION})
_SENTENCE_ENDS = frozenset({_STOP, _CONTRAST})
_RIGHT_ENDS = _CLAUSE_ENDS | {_BARRIER, _COMPARISON, _NUMBER, _DIRECTION}
_ARTICLES = frozenset({"a", "an", "the", "by", "of", "to", "on", "this"})


@dataclass(frozen=True)
class Sentiment:
    """What a scorer says of one text.

    Attributes:
        score: -1 (bad news) to 1 (good news).
        label: "negative", "neutral" or "positive"; agrees with the sign of `score`.
        confidence: 0 (nothing to go by) to 1.
    """

    score: float
    label: Label
    confidence: float


class Scorer(Protocol):
    """What every scorer offers; a model behind these two members can replace the default."""

    @property
    def name(self) -> str:
        """Name and version, stored beside every score; changes whenever scores may change."""
        ...

    def score(self, texts: Sequence[str]) -> list[Sentiment]:
        """Return one `Sentiment` per text, in the order of `texts`; never raises on a text."""
        ...


class _Entry(NamedTuple):
    """What a phrase means: its kind, its strength, its valence alone, where its measure stands."""

    kind: int
    value: float = 0.0
    alone: float = 0.0
    side: Side = "both"


_COMMA_ENTRY, _STOP_ENTRY = _Entry(_COMMA), _Entry(_STOP)


class _Mark:
    """An entry found in a text: at tokens `start` to `end` (exclusive), with its weight."""

    __slots__ = ("end", "entry", "percent", "phrase", "start", "unit", "used", "weight")

    def __init__(self, entry: _Entry, start: int, end: int, phrase: str = "") -> None:
        self.entry = entry
        self.start = start
        self.end = end
        self.phrase = phrase
        self.weight = 1.0
        self.used = 0  # sign of the direction that a measure has served
        self.percent = False
        self.unit = 0.0


def tokenize(text: str) -> list[str]:
    """Return the tokens of the first `MAX_CHARACTERS` characters: words, numbers, signs, emoji."""
    lowered = text[:MAX_CHARACTERS].lower().replace("\u2019", "'").replace(" 's", " ")
    if _ELONGATED.search(lowered):
        lowered = _ELONGATED.sub(r"\1\1", lowered)
    return [
        token[:-2] if token.endswith("'s") else token
        for token in _TOKEN.findall(lowered)
        if token not in _SILENT and not token.startswith(("http://", "https://", "www."))
    ]


class LexiconScorer:
    """The default scorer; see the module's docstring for its method and thresholds.

    Args:
        lexicon: phrase to valence, -3 to 3; replaces the default words. The grammar (directions,
            measures, negations, weights) stays; where both know a phrase, the lexicon wins.
        trading_lexicon: the same for words that count only in a text with a cashtag, a hashtag
            or an emoji of the lexicon. Default: the platform's own if `lexicon` is left out,
            otherwise none.
        name: stored beside every score. Default: "lexicon-1", or for other words "lexicon-"
            with a digest of them, so that other words never pass for the default.

    Raises:
        InvalidInputError: a phrase has no word, or a valence is not a finite number.
    """

    def __init__(
        self,
        lexicon: Mapping[str, float] | None = None,
        trading_lexicon: Mapping[str, float] | None = None,
        name: str | None = None,
    ) -> None:
        words = VALENCES if lexicon is None else lexicon
        own_talk = TRADING_VALENCES if lexicon is None else {}
        talk = own_talk if trading_lexicon is None else trading_lexicon
        is_default = lexicon is None and trading_lexicon is None
        self._name = name or (DEFAULT_NAME if is_default else f"lexicon-{_digest(words, talk)}")
        self._entries = _compile(words, talk)
        self._lengths = _phrase_lengths(self._entries)

    @property
    def name(self) -> str:
        """Name of the method and its words, stored beside every score."""
        return self._name

    def score(self, texts: Sequence[str]) -> list[Sentiment]:
        """Return one `Sentiment` per text, in the order of `texts`.

        Each text is scored by itself; the same text always gets the same answer. Of a long text
        the first 5,000 characters count.
        """
        return [self._score_text(text) for text in texts]

    def _score_text(self, text: str) -> Sentiment:
        tokens = tokenize(text)
        marks, is_post = self._find_marks(tokens)
        _weigh_clauses(marks)
        findings = _find_valences(tokens, marks, is_post)
        words = sum(1 for token in tokens if _LATIN.match(token))
        return _summarize(findings, words)

    def _find_marks(self, tokens: list[str]) -> tuple[list[_Mark], bool]:
        """Return what is known of `tokens`, in order, and whether the text reads like a post."""
        marks: list[_Mark] = []
        is_post = False
        position, count = 0, len(tokens)
        while position < count:
            token = tokens[position]
            if token[0] in "$#" and len(token) > 1:
                is_post = True
                token = tokens[position] = token[1:] if token[0] == "#" else token
            mark = self._match(tokens, token, position)
            if mark is None:
                mark = _read_sign_or_number(tokens, token, position)
            if mark is None:
                position += 1
                continue
            if mark.entry.kind == _POLAR and len(mark.phrase) == 1:  # an emoji
                is_post = True
            marks.append(mark)
            position = mark.end
        return marks, is_post

    def _match(self, tokens: list[str], token: str, position: int) -> _Mark | None:
        """Return the longest phrase of the lexicon that starts at `position`."""
        for length in self._lengths.get(token, ()):
            end = position + length
            phrase = token if length == 1 else " ".join(tokens[position:end])
            entry = self._entries.get(phrase)
            if entry is not None:
                return _Mark(entry, position, min(end, len(tokens)), phrase)
        return None


def _compile(words: Mapping[str, float], talk: Mapping[str, float]) -> dict[str, _Entry]:
    """Return every phrase, as its tokens joined by blanks, with its entry; the lexicon wins."""
    found = dict(_compile_grammar())
    for kind, mapping in ((_TRADING, talk), (_POLAR, words)):
        for phrase, valence in mapping.items():
            key = " ".join(tokenize(phrase))
            if not key or not math.isfinite(valence):
                raise InvalidInputError(
                    f"The lexicon gives {phrase!r} the valence {valence}: expected a phrase with "
                    "at least one word or emoji, and a number from -3 to 3."
                )
            if kind == _POLAR or key not in found:
                found[key] = _Entry(kind, float(valence))
    return found


def _compile_grammar() -> Iterator[tuple[str, _Entry]]:
    """Yield the phrases of the grammar with their entries; the later of two wins."""
    plain = (
        (SKIPPED, _NOTHING),
        (NOT_NEGATIONS, _NOTHING),
        (BARRIERS, _BARRIER),
        (COMPARISONS, _COMPARISON),
        (CONTRASTS, _CONTRAST),
        (CONCESSIONS, _CONCESSION),
        (NEGATIONS, _NEGATION),
    )
    groups = [
        *((text, _Entry(kind)) for text, kind in plain),
        *((text, _Entry(_NEGATION, valence)) for valence, text in NEGATIONS_ALONE),
        *((text, _Entry(_INTENSITY, factor)) for factor, text in INTENSITIES),
        *((text, _Entry(_MEASURE, measure.polarity, measure.alone)) for measure, text in MEASURES),
        *(
            (text, _Entry(_DIRECTION, direction.strength, direction.alone, direction.side))
            for direction, text in DIRECTIONS
        ),
    ]
    for text, entry in groups:
        for phrase in split_phrases(text):
            yield " ".join(tokenize(phrase)), entry


def _phrase_lengths(entries: Mapping[str, _Entry]) -> dict[str, tuple[int, ...]]:
    """Return, for each first token, the lengths in tokens of its phrases, longest first."""
    lengths: dict[str, set[int]] = {}
    for phrase in entries:
        parts = phrase.split(" ")
        lengths.setdefault(parts[0], set()).add(len(parts))
    return {first: tuple(sorted(found, reverse=True)) for first, found in lengths.items()}


def _digest(*mappings: Mapping[str, float]) -> str:
    """Return eight hexadecimal digits that stand for these words."""
    text = repr([sorted(mapping.items()) for mapping in mappings])
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:8]


def _read_sign_or_number(tokens: list[str], token: str, position: int) -> _Mark | None:
    """Return the mark of a number or of a sign that ends a clause, or None for anything else."""
    first = token[0]
    if first.isalpha():
        return None
    if first.isdigit() or (len(token) > 1 and token[1].isdigit()):
        return _read_number(tokens, token, position)
    if first in ";\n" or (first in ".!?" and token[-1].isspace()):
        return _Mark(_STOP_ENTRY, position, position + 1)
    if first in ",:()\u2013\u2014" or first == "-":
        return _Mark(_COMMA_ENTRY, position, position + 1)
    return None


def _read_number(tokens: list[str], token: str, position: int) -> _Mark | None:
    """Return the mark of a number with its unit; a signed percentage has a valence of its own."""
    is_percent = token.endswith("%")
    digits = re.sub(r"[,%\s\u2212+-]", "", token)
    try:
        value = float(digits)
    except ValueError:  # digits of scripts that float() does not read
        return None
    if token[0] in "+-\u2212":
        if not is_percent:
            return None
        sign = 1.0 if token[0] == "+" else -1.0
        return _Mark(_Entry(_POLAR, sign * _PERCENT_MOVE), position, position + 1, token[0] + "%")
    if not is_percent and 1900 <= value <= 2100 and len(digits) == 4:
        return None  # a year
    end = position + 1
    following = tokens[end] if end < len(tokens) else ""
    mark = _Mark(_Entry(_NUMBER, value), position, end)
    if following in UNITS:
        mark.unit = UNITS[following]
        mark.end += 1
    mark.percent = (
        is_percent or following in ("percent", "pct") or (tokens[end : end + 2] == ["per", "cent"])
    )
    return mark


def _weigh_clauses(marks: list[_Mark]) -> None:
    """Set the weights of marks around "but" and after "despite"."""
    weight, sentence_start, conceded = 1.0, 0, False
    for index, mark in enumerate(marks):
        kind = mark.entry.kind
        if kind == _STOP:
            weight, sentence_start, conceded = 1.0, index + 1, False
        elif kind == _CONTRAST:
            for earlier in marks[sentence_start:index]:
                earlier.weight *= _BEFORE_BUT
            weight, sentence_start, conceded = _AFTER_BUT, index + 1, False
        elif kind == _CONCESSION:
            conceded = True
        elif kind == _COMMA:
            conceded = False
        mark.weight = weight * (_AFTER_DESPITE if conceded else 1.0)


def _find_valences(tokens: list[str], marks: list[_Mark], is_post: bool) -> list[float]:
    """Return the weighed valences of everything in a text that has one."""
    findings: list[float] = []
    repeats: dict[str, int] = {}
    has_direction = False
    for index, mark in enumerate(marks):
        kind = mark.entry.kind
        if kind == _POLAR or (kind == _TRADING and is_post):
            repeats[mark.phrase] = repeats.get(mark.phrase, 0) + 1
            valence = mark.entry.value / repeats[mark.phrase]
            findings.append(valence * _modify(marks, index))
        elif kind == _DIRECTION:
            valence = _direct(tokens, marks, index)
            has_direction = True
            findings.append(valence * _modify(marks, index))
        elif kind == _NEGATION:
            findings.append(mark.entry.value * mark.weight)
        elif kind == _COMPARISON and not has_direction:
            findings.append(_compare(marks, index) * mark.weight)
        elif kind == _STOP:
            has_direction = False
    for index, mark in enumerate(marks):
        if mark.entry.kind == _MEASURE and mark.entry.alone and not mark.used:
            findings.append(mark.entry.alone * _modify(marks, index))
    return [finding for finding in findings if finding]


def _modify(marks: list[_Mark], index: int) -> float:
    """Return the factor of the words around a mark: negation, intensity and clause."""
    mark = marks[index]
    factor = mark.weight
    for other in reversed(marks[max(0, index - 4) : index]):
        distance = mark.start - other.end
        if distance > _NEGATION_REACH or other.entry.kind in _CLAUSE_ENDS:
            break
        if other.entry.kind == _NEGATION:
            factor *= _NEGATED
            break
        if other.entry.kind == _INTENSITY and distance <= 1:
            factor *= other.entry.value
    if mark.entry.kind == _DIRECTION and index + 1 < len(marks):
        following = marks[index + 1]
        if following.entry.kind == _INTENSITY and following.start == mark.end:
            factor *= following.entry.value
    return factor


def _direct(tokens: list[str], marks: list[_Mark], index: int) -> float:
    """Return the valence of a direction, from the measure it acts on or else by itself."""
    mark = marks[index]
    entry = mark.entry
    measure = _find_measure(tokens, marks, index)
    if measure is None:
        if abs(entry.alone) < _PERCENT_MOVE and entry.side != "right" and _moves(marks, index):
            return math.copysign(_PERCENT_MOVE, entry.value)
        return entry.alone
    sign = 1 if entry.value > 0 else -1
    repeated = measure.used == sign
    measure.used = sign
    return entry.value * measure.entry.value * (_REPEATED_MEASURE if repeated else 1.0)


def _moves(marks: list[_Mark], index: int) -> bool:
    """Return whether a percentage stands beside a direction ("up by 5%", "0.3 pct lower")."""
    mark = marks[index]
    return any(
        other.entry.kind == _NUMBER
        and other.percent
        and mark.start - other.end <= 2
        and other.start - mark.end <= 2
        for other in marks[max(0, index - 1) : index + 3]
    )


def _find_measure(tokens: list[str], marks: list[_Mark], index: int) -> _Mark | None:
    """Return the measure that a direction acts on, by the side on which its kind stands."""
    mark = marks[index]
    side = mark.entry.side
    if side == "right":
        return _measure_right(marks, index)
    before = tokens[mark.start - 1] if mark.start else ""
    after = tokens[mark.end] if mark.end < len(tokens) else ""
    is_noun = after in ("in", "of") and (before in _ARTICLES or not before)
    if side == "both" or is_noun:
        return _measure_right(marks, index) or _measure_left(marks, index, _LEFT_REACH)
    return _measure_left(marks, index, _LEFT_REACH) or _measure_right(marks, index)


def _measure_right(marks: list[_Mark], index: int) -> _Mark | None:
    end = marks[index].end
    for other in marks[index + 1 : index + 1 + _RIGHT_REACH]:
        if other.start - end > _RIGHT_REACH or other.entry.kind in _RIGHT_ENDS:
            return None
        if other.entry.kind == _MEASURE:
            return other
    return None


def _measure_left(marks: list[_Mark], index: int, reach: int) -> _Mark | None:
    start = marks[index].start
    for position in range(index - 1, -1, -1):
        other = marks[position]
        is_end = other.entry.kind in _SENTENCE_ENDS and other.phrase != "however"
        if is_end or start - other.end > reach:
            return None
        if other.entry.kind == _MEASURE:
            return other
    return None


def _compare(marks: list[_Mark], index: int) -> float:
    """Return the valence of two figures of one measure, the newer before the comparing word."""
    comparing = marks[index]
    is_from = comparing.phrase == "from"
    reach = 2 if is_from else 8
    measure = _measure_left(marks, index, 2 * _LEFT_REACH)
    newer = _nearest_number(marks[:index][::-1], comparing, reach)
    if measure is None or newer is None or not measure.entry.value:
        return 0.0
    older = _nearest_number(marks[index + 1 :], comparing, reach)
    sign = math.copysign(1.0, measure.entry.value)
    other = _measure_right(marks, index)
    if other is not None and other.entry.value * sign < 0:
        measure.used = other.used = 1
        return sign * _TURNED
    if older is None or older.percent != newer.percent:
        return 0.0
    unit = newer.unit or older.unit or 1.0
    new_size = newer.entry.value * (newer.unit or unit)
    old_size = older.entry.value * (older.unit or unit)
    if abs(new_size - old_size) <= _SAME_SIZE * old_size or not math.isfinite(new_size + old_size):
        return 0.0
    measure.used = 1
    return measure.entry.value * (_COMPARED if new_size > old_size else -_COMPARED)


def _nearest_number(marks: list[_Mark], origin: _Mark, reach: int) -> _Mark | None:
    for mark in marks:
        distance = max(mark.start - origin.end, origin.start - mark.end)
        if distance > reach or mark.entry.kind in _SENTENCE_ENDS:
            return None
        if mark.entry.kind == _NUMBER:
            return mark
    return None


def _summarize(findings: list[float], words: int) -> Sentiment:
    """Return the sentiment of weighed valences; `words` is the number of words that were read."""
    evidence = sum(map(abs, findings))
    total = sum(findings)
    balance = abs(total) / evidence if evidence else 0.0
    if len(findings) > _FREE_FINDINGS:
        total /= math.sqrt(len(findings) / _FREE_FINDINGS)
    score = total / math.sqrt(total * total + _HALF_POINT)
    score = round(max(-1.0, min(1.0, score)), 4)
    if abs(score) < NEUTRAL_BAND:
        calm = (1.0 - abs(score) / NEUTRAL_BAND) / (1.0 + evidence * (1.0 - balance))
        return Sentiment(score, "neutral", round(0.5 * calm * words / (words + 10.0), 4))
    confidence = balance * evidence / (evidence + 1.5)
    return Sentiment(score, "positive" if score > 0 else "negative", round(confidence, 4))
