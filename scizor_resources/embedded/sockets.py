"""The private directory of the servers' unix sockets."""

import hashlib
import os
import re
import stat
import tempfile
from pathlib import Path

from scizor_resources.embedded.accounts import TEMPORARY, Account, give_to

# sun_path has 104 bytes on macOS and 108 on Linux, NUL included; "/.s.PGSQL.5432" takes 14.
_PATH_LIMIT_BYTES = 88
# Nothing in such a path has to be quoted in a URL, a libpq parameter or a list of PostgreSQL.
_PLAIN_PATH = re.compile(r"[A-Za-z0-9/._-]+")


def make_socket_directory(home: Path, account: Account | None) -> Path:
    """Make the private directory of the sockets: `run` in the home, or a short one elsewhere."""
    digest = hashlib.sha256(os.fsencode(home.resolve())).hexdigest()[:12]
    name = f"scizor-{os.geteuid()}-{digest}"
    # The home of root is often closed to the servers' account.
    candidates = [home / "run"] if account is None else [Path("/run") / name]
    candidates.append(TEMPORARY / name)
    for path in candidates:
        text = os.fsencode(path)
        plain = _PLAIN_PATH.fullmatch(os.fsdecode(text)) is not None
        if plain and len(text) <= _PATH_LIMIT_BYTES and _make_private(path, account):
            return path
    # Someone else was quicker to make the known name in the shared directory.
    path = Path(tempfile.mkdtemp(prefix="scizor-", dir=TEMPORARY))
    give_to(path, account)
    return path


def _make_private(path: Path, account: Account | None) -> bool:
    """Make `path` a directory that only the servers' account can enter; False when it cannot be."""
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        pass
    except OSError:
        return False
    found = path.lstat()
    owners = {os.geteuid()} if account is None else {0, account.user_id}
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in owners or found.st_mode & 0o077:
        return False
    give_to(path, account)
    return True
