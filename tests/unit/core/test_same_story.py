"""When two items are one story, and that neither order nor chunks change which ones are."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scizor_core.same_story import REACH, StoryItem, canonical_url, group, is_same_story

NOON = datetime(2026, 11, 18, 12, tzinfo=UTC)


def item(number: int, title: str = "", hours: float = 0, **fields: Any) -> StoryItem:
    values: dict[str, Any] = {
        "key": ("cryptopanic", str(number)),
        "kind": "news",
        "published_at": NOON + timedelta(hours=hours),
        "title": title,
    }
    return StoryItem(**(values | fields))


def same(first: str, second: str, **fields: Any) -> bool:
    return is_same_story(item(1, first), item(2, second, **fields))


# --- addresses ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "canonical"),
    [
        ("http://WWW.Reuters.com/Markets/a-b/", "https://reuters.com/Markets/a-b"),
        ("https://m.afr.com/x?utm_source=rss&utm_medium=y", "https://afr.com/x"),
        ("https://www.m.example.org/x", "https://example.org/x"),
        ("https://a.com/x?b=2&fbclid=1&a=1#top", "https://a.com/x?a=1&b=2"),
        ("https://a.com/x?ref=home&CMP=soc&gclid=7", "https://a.com/x"),
        ("https://amp.a.com/x/amp/", "https://a.com/x"),
        ("https://a.com/x.amp.html", "https://a.com/x.html"),
        ("https://a.com/x/amp.html?outputType=amp", "https://a.com/x"),
        ("https://www.google.com/amp/s/www.a.com/x/amp", "https://a.com/x"),
        ("https://www-a-com.cdn.ampproject.org/c/s/www.a.com/x", "https://a.com/x"),
        ("https://a.com:443/x", "https://a.com/x"),
        ("https://a.com:8443/x", "https://a.com:8443/x"),
        ("https://amp.dev/x", "https://amp.dev/x"),
        ("https://a.com/ampere", "https://a.com/ampere"),
        ("https://a.com/watch?v=Ab_9", "https://a.com/watch?v=Ab_9"),
        ("https://a.com", "https://a.com"),
        ("https://user:secret@a.com/x", "https://a.com/x"),
        ("https://a.com/\u062e\u0628\u0631", "https://a.com/\u062e\u0628\u0631"),
        ("", ""),
        ("no address", ""),
        ("ftp://a.com/x", ""),
        ("https://[broken/x", ""),
        ("https://a.com:port/x", ""),
    ],
)
def test_an_address_loses_what_does_not_change_the_page(url: str, canonical: str) -> None:
    assert canonical_url(url) == canonical


@given(
    st.from_regex(
        r"https?://(www\.|m\.|amp\.){0,3}[a-z]{1,5}\.[a-z]{2,3}(:\d{1,4})?(/[A-Za-z.]{0,6}){0,3}"
        r"(/amp|\.amp|\.html){0,3}/?(\?([a-z_%;]{1,5}=[a-z%&+=]{0,4}&?){0,4})?(#x)?",
        fullmatch=True,
    )
)
def test_a_canonical_address_stays_as_it_is(url: str) -> None:
    assert canonical_url(canonical_url(url)) == canonical_url(url)


@given(st.text() | st.text().map("https://a.com/?b=".__add__) | st.text().map("http://".__add__))
def test_whatever_is_given_as_an_address_has_no_blank_in_it(url: str) -> None:
    canonical = canonical_url(url)
    assert canonical == "" or canonical.startswith("https://")
    assert not any(map(str.isspace, canonical))


# --- two items ----------------------------------------------------------------------------

EARNINGS = "Commonwealth Bank posts record half year profit of $5.1bn"


@pytest.mark.parametrize(
    "other",
    [
        "COMMONWEALTH BANK posts record half-year profit of $5.1bn!",
        "Commonwealth Bank posts record half year profit of $5.10 billion - Reuters",
        "Commonwealth Bank posts record half year profit of $5.1bn | The Australian",
        "Commonwealth Bank\u2019s record half year profit of $5.1bn",
    ],
)
def test_nearly_the_same_headline_is_one_story(other: str) -> None:
    assert same(EARNINGS, other)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("BHP shares rise 3% after record iron ore output", "BHP shares rise 5% after record iron "
         "ore output"),
        ("Apple reports Q3 results ahead of market view", "Apple reports Q4 results ahead of "
         "market view"),
        ("Apple third quarter results beat market view again", "Apple fourth quarter results beat "
         "market view again"),
        ("Fund buys stake worth 2 billion in chip maker", "Fund buys stake worth 2 million in "
         "chip maker"),
        ("Bitcoin ends volatile trading week in Asia +3%", "Bitcoin ends volatile trading week in "
         "Asia -3%"),
        ("Zip hits two-year peak in Sydney trading", "Zip hits three-year peak in Sydney trading"),
        ("Commonwealth Bank shares rise sharply after quarterly trading figures", "Commonwealth "
         "Bank shares fall sharply after quarterly trading figures"),
        ("Regulator confirms spot Solana fund launch next week", "Regulator not confirms spot "
         "Solana fund launch next week"),
        ("Woolworths opens new stores", "Coles opens new stores"),
        ("CBA: half year results - Trading halt", "CBA: half year results - Dividend"),
    ],
)  # fmt: skip
def test_other_numbers_and_opposite_words_are_two_stories(first: str, second: str) -> None:
    assert not same(first, second)


def test_three_quarters_of_the_words_are_enough_and_less_is_not() -> None:
    # 6 of 8 words in common are 0.75, 5 of 7 are 0.71.
    assert same(
        "alpha beta gamma delta epsilon zeta eta", "alpha beta gamma delta epsilon zeta psi"
    )
    assert not same("alpha beta gamma delta epsilon zeta", "alpha beta gamma delta epsilon psi")


def test_a_short_headline_has_to_be_equal_and_of_the_same_day() -> None:
    assert same("Trading halt", "TRADING HALT.", hours=11.9)
    assert not same("Trading halt", "Trading halt", hours=12)
    assert not same("Trading halt", "Trading halt lifted")
    assert not same("BHP trading halt", "BHP trading halt lifted")


def test_items_about_different_instruments_are_two_stories_unless_the_page_is_the_same() -> None:
    fields: dict[str, Any] = {"canonical_url": "https://a.com/x"}
    bhp = item(1, "Trading halt", instruments=frozenset({1, 2}), **fields)
    rio = item(2, "Trading halt", instruments=frozenset({3}))
    assert not is_same_story(bhp, rio)
    assert is_same_story(bhp, item(3, "Trading halt", instruments=frozenset({2, 3})))
    assert is_same_story(bhp, item(4, "Halted", instruments=frozenset({3}), **fields))


def test_the_same_page_is_one_story_for_two_days() -> None:
    page = {"canonical_url": "https://a.com/x"}
    assert same("", "", canonical_url="") is False
    first = item(1, "One", **page)
    assert is_same_story(first, item(2, "Two", 48, **page))
    assert not is_same_story(first, item(2, "Two", 48.1, **page))


def test_a_whole_site_is_no_story() -> None:
    site = {"canonical_url": "https://a.com"}
    assert not is_same_story(item(1, "One", **site), item(2, "Two", **site))


def test_posts_are_one_story_only_where_all_of_their_text_is_equal() -> None:
    def post(number: int, body: str) -> StoryItem:
        return item(number, kind="social", body=body, canonical_url="https://a.com/x")

    assert is_same_story(post(1, "$CBA to the moon 🚀\n now"), post(2, "$cba TO THE MOON 🚀 now"))
    assert is_same_story(
        post(1, "Apple beats https://t.co/x1"), post(2, "Apple beats https://t.co/x2")
    )
    assert not is_same_story(post(1, "$CBA to the moon 🚀 now"), post(2, "$CBA to the moon 🚀"))
    assert not is_same_story(post(1, ""), post(2, ""))
    assert not is_same_story(post(1, "https://t.co/x1"), post(2, "https://t.co/x2"))


def test_news_and_posts_and_samples_and_real_items_are_never_one_story() -> None:
    text = "Commonwealth Bank posts record profit"
    assert not is_same_story(item(1, text), item(2, text, kind="social"))
    assert not is_same_story(item(1, text), item(2, text, key=("sample:cryptopanic", "2")))


# --- many items ---------------------------------------------------------------------------

_WORDS = st.sampled_from(
    ["bhp", "record", "iron", "ore", "output", "rises", "falls", "q3", "q4", "sydney", "not", "the"]
)
_ITEMS = st.lists(
    st.builds(
        lambda number, kind, hours, words, page, instruments, source: StoryItem(
            key=(source, str(number)),
            kind=kind,
            published_at=NOON + timedelta(hours=hours),
            title=" ".join(words),
            canonical_url=page,
            instruments=frozenset(instruments),
        ),
        st.integers(0, 10**6),
        st.sampled_from(["news", "news", "news", "social"]),
        st.integers(0, 240),
        st.lists(_WORDS, max_size=7),
        st.sampled_from(["", "", "", "https://a.com", "https://a.com/x", "https://a.com/y"]),
        st.sets(st.integers(1, 3), max_size=2),
        st.sampled_from(["reddit", "finnhub", "sample:finnhub"]),
    ),
    max_size=25,
    unique_by=lambda each: each.key,
)


def joined_pairwise(items: Sequence[StoryItem]) -> list[list[tuple[str, str]]]:
    """Every pair compared, sets joined until none can be: slow and plain."""
    stories = [{each.key} for each in items]
    for first, second in combinations(items, 2):
        if is_same_story(first, second):
            touched = [story for story in stories if story & {first.key, second.key}]
            stories = [story for story in stories if story not in touched]
            stories.append(set().union(*touched))
    return sorted(sorted(story) for story in stories)


@given(_ITEMS)
def test_groups_are_those_of_comparing_every_pair(items: list[StoryItem]) -> None:
    assert group(items) == joined_pairwise(items)


@given(_ITEMS, st.randoms(use_true_random=False))
def test_neither_order_nor_duplicates_change_the_groups(
    items: list[StoryItem], chance: Any
) -> None:
    mixed = [*items, *chance.sample(items, len(items) // 2)]
    chance.shuffle(mixed)
    assert group(mixed) == group(items)


@given(_ITEMS, st.lists(st.integers(1, 6), min_size=25))
def test_items_that_come_in_chunks_make_the_same_groups(
    items: list[StoryItem], sizes: list[int]
) -> None:
    """Each chunk meets only what is near it in time, and the stories that there are already."""
    seen: list[StoryItem] = []
    stories: list[list[tuple[str, str]]] = []
    for size in sizes:
        chunk = items[len(seen) : len(seen) + size]
        times = [each.published_at for each in chunk] or [NOON]
        near = [
            each for each in seen if min(times) - REACH <= each.published_at <= max(times) + REACH
        ]
        stories = group([*chunk, *near], together=stories)
        seen += chunk
    assert stories == group(items)


def test_one_story_passes_through_items_between() -> None:
    items = [item(number, EARNINGS, hours=40 * number) for number in range(4)]
    assert len(group(items)) == 1
    assert len(group(items[::2])) == 2


@pytest.mark.slow
def test_ten_thousand_items_make_the_stories_that_they_were_made_of() -> None:
    # Forty variants of each of 250 headlines; the words of one headline are in no other.
    def headline(story: int, variant: int) -> str:
        words = [f"{name}{chr(97 + story // 26)}{chr(97 + story % 26)}" for name in STEMS]
        return " ".join([*words, f"ending{chr(97 + variant // 26)}{chr(97 + variant % 26)}"])

    items = [
        item(number, headline(number % 250, number // 250), hours=number % 24)
        for number in range(10_000)
    ]

    stories = group(items)

    assert len(stories) == 250
    assert all(len({int(number) % 250 for _, number in story}) == 1 for story in stories)


def test_items_out_of_few_words_are_followed_from_one_to_the_next() -> None:
    # Every headline has three others that differ from it in one word of eight only.
    items = [
        item(
            number,
            " ".join(
                f"{stem}{digit}x" for stem, digit in zip(STEMS, f"{number:04}0000", strict=False)
            ).translate(str.maketrans("0123456789", "abcdefghij")),
            hours=number % 24,
        )
        for number in range(2_000)
    ]
    assert len(group(items)) == 1


STEMS = ("red", "green", "blue", "iron", "lead", "gold", "salt", "tin")
