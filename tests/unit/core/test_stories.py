"""Which items are believed, and what of their texts is kept."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scizor_core.stories import CLOCK_TOLERANCE, Story, clean, why_refused

SEEN = datetime(2026, 11, 19, tzinfo=UTC)
STORY = Story("cryptopanic", "1", "news", SEEN - timedelta(hours=1), SEEN, title="Bitcoin rises")


def test_a_sound_item_is_taken() -> None:
    assert why_refused(STORY) is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"source_id": ""}, "no id"),
        ({"source_id": "x" * 201}, "longer than 200"),
        ({"published_at": datetime(1970, 1, 1, tzinfo=UTC)}, "1970-01-01 lies before 2000"),
        ({"published_at": datetime(2099, 1, 1, tzinfo=UTC)}, "lies in the future"),
        ({"title": ""}, "neither title nor text"),
    ],
)
def test_an_item_that_cannot_be_is_refused_with_the_reason(
    change: dict[str, object], reason: str
) -> None:
    assert reason in (why_refused(replace(STORY, **change)) or "")  # type: ignore[arg-type]


def test_clocks_may_differ_a_little() -> None:
    assert why_refused(replace(STORY, published_at=SEEN + CLOCK_TOLERANCE)) is None


def test_a_deleted_item_needs_no_text() -> None:
    assert why_refused(replace(STORY, title="", is_deleted=True)) is None


@given(st.text(st.characters(), max_size=400), st.integers(1, 300))
def test_a_cleaned_text_can_be_stored_and_is_no_longer_than_allowed(text: str, most: int) -> None:
    kept = clean(text, most)
    kept.encode("utf-8")
    assert "\0" not in kept
    assert len(kept) <= most


def test_emoji_and_other_scripts_stay_whole() -> None:
    text = "🚀 ارتفاع שיא 株価"
    assert clean(text, 100) == text
