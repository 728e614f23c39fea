"""Names of users do not stay in texts and addresses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scizor_core.privacy import mask_address, mask_people

NAMES = st.from_regex(r"[a-z][a-z0-9_]{4,14}", fullmatch=True)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("thanks @jane_trader!", "thanks @user!"),
        ("(@jane) said so", "(@user) said so"),
        ("u/Jane-77 and /u/joe", "u/user and u/user"),
        ("write to jane.doe+x@example.com.au now", "write to e-mail now"),
        ("see https://x.com/jane_trader/status/12", "see https://x.com/user/status/12"),
        (
            "https://www.reddit.com/user/jane/comments/1",
            "https://www.reddit.com/user/user/comments/1",
        ),
        (
            "https://www.reddit.com/r/u_jane/comments/1",
            "https://www.reddit.com/r/u_user/comments/1",
        ),
    ],
)
def test_a_name_of_a_user_is_masked(text: str, masked: str) -> None:
    assert mask_people(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "bought $BHP @ 45.20",
        "r/ASX_Bets is loud",
        "CEO Matt Comyn resigns",
        "EU/US talks and AUD/USD",
        "https://x.com/i/web/status/12",
        "https://www.reddit.com/r/stocks/comments/1/title/",
    ],
)
def test_what_is_no_user_stays(text: str) -> None:
    assert mask_people(text) == text


@given(NAMES, st.sampled_from(["hi @{}", "by u/{} today", "https://twitter.com/{}/status/1"]))
def test_no_name_survives(name: str, form: str) -> None:
    name = f"zq{name}"  # no word of the forms themselves
    assert name not in mask_people(form.format(name))


@given(st.text())
def test_masking_twice_is_masking_once(text: str) -> None:
    assert mask_people(mask_people(text)) == mask_people(text)


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("https://medium.com/@jane/a-story-1", "https://medium.com/@user/a-story-1"),
        ("https://www.youtube.com/@jane", "https://www.youtube.com/@user"),
        (
            "https://bsky.app/profile/jane.bsky.social/post/1",
            "https://bsky.app/profile/user/post/1",
        ),
        ("https://www.linkedin.com/in/jane-doe/", "https://www.linkedin.com/in/user/"),
    ],
)
def test_an_address_of_a_profile_is_masked(url: str, masked: str) -> None:
    assert mask_address(url) == masked
    assert mask_people(masked) == masked


def test_an_address_keeps_everything_but_the_profile() -> None:
    assert mask_address("https://x.com/jane/status/5?s=1") == "https://x.com/user/status/5?s=1"
