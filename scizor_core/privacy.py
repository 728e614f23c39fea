"""What is kept of the people who write: nothing that names them.

User names stand in the text of posts and in their addresses as well as in a field of their own.
`mask_people` and `mask_address` take them out of both; authors themselves are only stored as
keyed hashes (`scizor_resources.authors`).
"""

import re

#: What stands where a name stood.
MASKED_HANDLE = "@user"
MASKED_REDDIT = "u/user"
MASKED_EMAIL = "e-mail"

_EMAIL = re.compile(r"\b[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+\b")
# After a letter, digit or dot an @ is part of something else; "@ 5.20" is a price.
_HANDLE = re.compile(r"(?<![\w.])@\w{1,50}")
_REDDITOR = re.compile(r"(?<![\w/])/?u/[\w-]{1,50}", re.IGNORECASE)
_PROFILE = re.compile(
    r"((?:reddit\.com|redd\.it)/(?:user|u)/|reddit\.com/r/u_|"
    r"(?:twitter|x)\.com/(?!i/|search|hashtag/)|t\.me/|bsky\.app/profile/|"
    r"linkedin\.com/in/|instagram\.com/)[\w.-]{1,100}",
    re.IGNORECASE,
)


def mask_people(text: str) -> str:
    """Return a text without handles, names of redditors, profile addresses and e-mail addresses.

    Names that are part of the story (a minister, a chief executive) are not user names and stay.
    """
    masked = _EMAIL.sub(MASKED_EMAIL, text)
    masked = _PROFILE.sub(r"\1user", masked)
    masked = _REDDITOR.sub(MASKED_REDDIT, masked)
    return _HANDLE.sub(MASKED_HANDLE, masked)


def mask_address(url: str) -> str:
    """Return an address without the name of a profile in it: of known places, or after an @."""
    return _HANDLE.sub(MASKED_HANDLE, _PROFILE.sub(r"\1user", url))
