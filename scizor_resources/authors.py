"""Authors as keyed hashes: the same person is recognised, nobody can be named.

A plain hash of a user name is no protection, as names can be tried out; the key is what keeps them.
"""

import hashlib
import secrets
from collections.abc import Callable

from filelock import FileLock

from scizor_resources.settings import Settings

#: Hash of an author's name, empty for none.
HashAuthor = Callable[[str | None], str]
_KEY_BYTES = 32
_DIGEST_BYTES = 16
#: What sources say where an account is gone.
_NOBODY = frozenset({"", "[deleted]", "[removed]"})


def author_key(settings: Settings) -> bytes:
    """Return the key: SCIZOR_AUTHOR_KEY, or one that is made once and kept in SCIZOR_HOME."""
    if settings.author_key is not None:
        return hashlib.blake2b(settings.author_key.get_secret_value().encode()).digest()
    path = settings.home / "author.key"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not path.exists():
            path.touch(mode=0o600)
            path.write_bytes(secrets.token_bytes(_KEY_BYTES))
        return path.read_bytes()


def author_hasher(key: bytes, provider: str) -> HashAuthor:
    """Return what hashes the authors of a provider; the same name elsewhere is another person."""

    def hashed(name: str | None) -> str:
        if name is None or name.strip().lower() in _NOBODY:
            return ""
        text = f"{provider}\0{name.strip().lower()}".encode("utf-8", "replace")
        return hashlib.blake2b(text, key=key[:64], digest_size=_DIGEST_BYTES).hexdigest()

    return hashed
