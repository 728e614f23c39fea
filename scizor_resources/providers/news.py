"""What all sources of news share: items read one by one, HTML as text, queries one after the other.

Pure functions, no I/O and no clock.
"""

import html
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from math import isfinite
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from scizor_core.errors import ContractError, InvalidInputError
from scizor_core.stories import LONGEST_ADDRESS, LONGEST_BODY, LONGEST_ID, Story, clean
from scizor_resources.errors import AuthError, ProviderError, RateLimited, TransientError
from scizor_resources.providers.stories import StorySieve


@dataclass(frozen=True)
class RefusedItem:
    """An item that cannot be read: its place from 1, why, and what identifies it."""

    number: int
    reason: str
    payload: dict[str, str]


@dataclass
class ReadItems:
    """The items of one answer, each with its place in it, from 1."""

    stories: list[tuple[int, Story]] = field(default_factory=list)
    refused: list[RefusedItem] = field(default_factory=list)


def without_key(key: SecretStr | None, words_of: Callable[[Any], str]) -> Callable[[Any], str]:
    """Return what finds the words of a refusal, with the key taken out if it is echoed.

    Args:
        key: None where there is none.
        words_of: finds the words in a decoded answer.
    """
    hidden = key.get_secret_value() if key is not None else ""

    def words(answer: Any) -> str:
        said = words_of(answer)
        return said.replace(hidden, "***") if hidden else said

    return words


def read_items(
    items: Any, read: Callable[[Mapping[str, Any]], Story], needed: tuple[str, ...]
) -> ReadItems:
    """Read each item of an answer; one that cannot be read does not cost the others.

    Args:
        items: the answer's list.
        read: reads one; raises InvalidInputError with a short clause where it cannot.
        needed: fields without which none can be read; the first one is the id.

    Raises:
        ContractError: it is no list, a needed field is absent from every item, or none of several
            items can be read: the shape has changed.
    """
    if not isinstance(items, list):
        raise ContractError("there is no list of items")
    rows = [item for item in items if isinstance(item, Mapping)]
    for name in needed:
        if items and not any(name in row for row in rows):
            raise ContractError(f"no item has a field '{name}'")
    found = ReadItems()
    for number, item in enumerate(items, start=1):
        try:
            found.stories.append((number, read(_whole(item, needed))))
        except InvalidInputError as error:
            payload = {"id": text_of(item.get(needed[0]))} if isinstance(item, Mapping) else {}
            found.refused.append(RefusedItem(number, str(error), payload))
    if len(items) > 1 and not found.stories:
        raise ContractError(f"no item can be read, the first because {found.refused[0].reason}")
    return found


@dataclass
class Asking:
    """Queries put one after the other, and what became of them.

    Attributes:
        source: name of the provider.
        sieve: sorts their items.
        answers: answers that could be read.
    """

    source: str
    sieve: StorySieve
    answers: int = 0

    def take(self, items: ReadItems, origin: str) -> None:
        """Sort the items of an answer; `origin` is the call it came from."""
        self.answers += 1
        for number, story in items.stories:
            self.sieve.add(story, origin=origin, number=number)
        for each in items.refused:
            self.sieve.refuse(
                each.reason,
                origin=origin,
                source=self.source,
                payload=each.payload,
                number=each.number,
            )

    def each(self, queries: Sequence[str], ask: Callable[[str], bool]) -> bool:
        """Ask every query and say whether each was answered in whole.

        A query that fails does not keep the others from being asked, unless the same would happen
        to them.

        Args:
            queries: also the names under which failures are noted.
            ask: asks one; says whether nothing of it is absent.

        Raises:
            ProviderError: not one answer could be had.
        """
        is_complete = True
        refusal: ProviderError | None = None
        for query in queries:
            if refusal is None:
                try:
                    is_complete &= ask(query)
                    continue
                except ProviderError as error:
                    failure = error
            self.sieve.failed(query, refusal or failure)
            refusal = refusal or (failure if _meets_all(failure) else None)
        if self.sieve.batch.failure is not None and not self.answers:
            raise self.sieve.batch.failure
        return is_complete


def _meets_all(error: ProviderError) -> bool:
    """Say whether the same would happen to every other query; 403 can be about one of them."""
    if isinstance(error, AuthError):
        return error.status != 403  # noqa: PLR2004
    unreachable = isinstance(error, TransientError) and error.status is None
    return unreachable or isinstance(error, RateLimited)


def _whole(item: Any, needed: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(item, Mapping):
        raise InvalidInputError("it is no object")
    for name in needed:
        if item.get(name) is None:
            raise InvalidInputError(f"it has no '{name}'")
    return item


def text_of(value: Any) -> str:
    """Return an id or a word as text; empty where it is neither text nor a whole number."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    return clean(str(value), LONGEST_ID + 1)


def number_of(value: Any) -> float | None:
    """Return a finite number, None for everything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        return None
    return float(value)


def plain_text(value: Any) -> str:
    """Return the text of HTML, of its beginning where it is long; plain text stays as it is.

    Empty where the value is no text. Scripts, styles and comments are left out.
    """
    if not isinstance(value, str):
        return ""
    head = value[: LONGEST_BODY * 2]
    if "<" not in head and "&" not in head:
        return head.strip()
    # A "<" that no ">" closes is text. Besides, thousands of them, or of comments without an end,
    # cost the parser minutes.
    closed = _UNCLOSED.sub("&lt;", _COMMENT.sub("", html.unescape(head)))
    parser = _TextParser()
    parser.feed(closed)
    parser.close()
    return _BLANKS.sub(" ", "".join(parser.parts)).strip()


def headline(value: Any) -> str:
    """Return a headline with its character references resolved; empty where it is no text."""
    return html.unescape(value).strip() if isinstance(value, str) else ""


def address_of(value: Any) -> str:
    """Return a web address, empty where it is none."""
    if not isinstance(value, str) or not value.lower().startswith(("http://", "https://")):
        return ""
    return clean(value, LONGEST_ADDRESS)


def domain_of(url: str) -> str:
    """Return the host of an address without "www.", empty where there is none."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return ""
    return host.removeprefix("www.")


_COMMENT = re.compile(r"<!--(?:-?>|.*?(?:--!?>|\Z))", re.DOTALL)
_UNCLOSED = re.compile(r"<(?=[^<>]*(?:<|\Z))")
_BLANKS = re.compile(r"\s+")
_INLINE = frozenset({"a", "abbr", "b", "em", "i", "mark", "small", "span", "strong", "sub", "u"})
_UNSHOWN = frozenset({"script", "style"})


class _TextParser(HTMLParser):
    """Keeps what a page would show; tags that begin a line become blanks."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self._is_shown = True

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002  # the base class calls it so
        self._is_shown = tag not in _UNSHOWN
        self._space(tag)

    def handle_endtag(self, tag: str) -> None:
        self._is_shown = True
        self._space(tag)

    def handle_data(self, data: str) -> None:
        if self._is_shown:
            self.parts.append(data)

    def parse_marked_section(self, i: int, report: int = 1) -> int:  # noqa: ARG002  # as above
        # The parser fails with an AssertionError on sections that it does not know: "<![ x>".
        return self.parse_bogus_comment(i)

    def _space(self, tag: str) -> None:
        if tag not in _INLINE:
            self.parts.append(" ")
