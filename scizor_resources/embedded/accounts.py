"""Whom the servers run as, and whose their files are.

PostgreSQL refuses to run as root, so that for root both servers run as an unprivileged account,
which owns its two data directories and nothing else. No other mode is changed: a server's working
directory is set to its data before the account is, so that the directories above may be closed.
"""

import contextlib
import os
import pwd
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scizor_resources.errors import ServerError

#: Shared by all accounts; what is made there is private, its owner and mode verified.
TEMPORARY = Path("/tmp")  # noqa: S108 - short and known, which a socket's path has to be
_SERVICE_ACCOUNTS = ("scizor", "postgres", "nobody")


@dataclass(frozen=True)
class Account:
    """The unprivileged account that servers run as when the caller is root."""

    name: str
    user_id: int
    group_id: int


def choose_account(home: Path) -> Account | None:
    """Choose whom the servers run as: for root the owner of the data or the home, else a service.

    Returns:
        None when the caller is not root and the servers run as the caller.
    """
    if os.geteuid() != 0:
        return None
    for directory in (home / "postgres", home):
        if directory.is_dir() and directory.stat().st_uid != 0:
            owner = directory.stat()
            try:
                entry = pwd.getpwuid(owner.st_uid)
            except KeyError:
                return Account(str(owner.st_uid), owner.st_uid, owner.st_gid)
            return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    for name in _SERVICE_ACCOUNTS:
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    raise ServerError(
        "Tried to find an account to run PostgreSQL as, since it refuses to run as root, but none "
        f"of {', '.join(_SERVICE_ACCOUNTS)} exists. Make one: useradd --system scizor."
    )


def give_to(directory: Path, account: Account | None) -> None:
    """Make `account` the owner of `directory` and of all below it, unless it already is.

    A link is followed when root made it (data moved to a larger disk), not when someone else did.
    """
    if account is None or (directory.is_symlink() and directory.lstat().st_uid != 0):
        return
    directory = directory.resolve()
    if directory.stat().st_uid == account.user_id:
        return
    for parent, names, files in os.walk(directory):
        for name in (*names, *files):
            path = Path(parent) / name
            os.chown(path, account.user_id, account.group_id, follow_symlinks=False)
    # Last, so that an interrupted hand-over is taken up again.
    os.chown(directory, account.user_id, account.group_id)


def replace_text(path: Path, text: str) -> None:
    """Write a file whole or not at all; it belongs to the owner of its directory.

    Root writes here into directories of other accounts: never through a link of theirs.
    """
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    with draft.open("x", encoding="utf-8") as file:
        file.write(text)
        give_file(file.fileno(), path.parent)
    draft.replace(path)


def give_file(descriptor: int, directory: Path) -> None:
    """Make the owner of `directory` the owner of a file that root has opened there."""
    if os.geteuid() == 0:
        owner = directory.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def child_options(account: Account | None) -> dict[str, Any]:
    """Options of every child: few variables (none of the caller's secrets), no group, no umask."""
    environment = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
    for name in ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"):
        if name in os.environ:
            environment[name] = os.environ[name]
    options: dict[str, Any] = {"env": environment, "umask": 0o077}
    if account is not None:
        options |= {"user": account.user_id, "group": account.group_id, "extra_groups": []}
    return options
