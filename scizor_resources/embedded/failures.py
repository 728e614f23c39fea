"""What went wrong, in a sentence that says what to do."""

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from scizor_resources.errors import ServerError

_CAUSES = (
    ("No space left on device", "the disk is full", "Free some space and start again."),
    (
        "Cannot allocate memory",
        "there is not enough memory",
        "Close other programs or lower shared_buffers.",
    ),
    (
        "could not look up effective user ID",
        "the user it runs as has no entry in /etc/passwd",
        "Add one, or run as a user that has one.",
    ),
    (
        "is still in use",
        "another PostgreSQL still uses this data",
        "End that server and start again.",
    ),
    (
        "configuration parameter",
        "a setting is not valid",
        "Correct postgresql.conf or postgresql.auto.conf in that directory.",
    ),
    (
        "configuration file",
        "a setting is not valid",
        "Correct postgresql.conf or postgresql.auto.conf in that directory.",
    ),
    (
        "Permission denied",
        "it may not read or write a file",
        "Check who owns that directory and the files in it.",
    ),
    (
        "Bad file format reading the append only file",
        "its journal is damaged",
        "Move the directory away to start with empty queues, or restore it from a copy.",
    ),
)


def start_error(action: str, directory: Path, said: str) -> ServerError:
    """Put into one sentence what was tried, what the server said last, and what to do."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    tail = " | ".join(lines[-4:]) or "nothing"
    for needle, cause, advice in _CAUSES:
        if needle in said:
            return ServerError(
                f"Tried to {action} in {directory}, but {cause}; it said last: {tail}. {advice}"
            )
    return ServerError(
        f"Tried to {action} in {directory}, but it did not come up; it said last: {tail}. "
        "Look into the log beside that directory, or move the directory away to start empty."
    )


@contextlib.contextmanager
def os_errors_explained(verb: str, home: Path) -> Iterator[None]:
    """Turn what the operating system refuses into a sentence for the user.

    Raises:
        ServerError: in place of any OSError.
    """
    try:
        yield
    except OSError as error:
        advice = {
            errno.ENOSPC: "Free some space on that disk and try again.",
            errno.EDQUOT: "Free some space within the disk quota and try again.",
            errno.EROFS: "Set SCIZOR_HOME to a directory that can be written.",
            errno.EACCES: "Check who owns it (was it made by root?) or set SCIZOR_HOME.",
            errno.EPERM: "Check who owns it (was it made by root?) or set SCIZOR_HOME.",
        }.get(error.errno or 0, "Check that directory or set SCIZOR_HOME to another one.")
        raise ServerError(
            f"Could not {verb} the servers under {home}: the system said '{error}'. {advice}"
        ) from error
