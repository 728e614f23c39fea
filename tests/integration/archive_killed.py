"""A process that archives and releases, and stops in the middle to be killed.

python -m tests.integration.archive_killed DATABASE_URL ARCHIVE STEP
"""

import signal
import sys
from datetime import UTC, datetime

from scizor_resources.stores.archive import Archive
from scizor_resources.stores.archive_files import ArchiveRoot
from scizor_resources.stores.warehouse import Warehouse


def main() -> None:
    url, root, wanted = sys.argv[1:]

    def at_step(step: str) -> None:
        if step == wanted:
            print("here", flush=True)  # noqa: T201  # the parent waits for it
            signal.pause()

    archive = Archive(
        Warehouse(url),
        ArchiveRoot(root),
        now=lambda: datetime(2026, 11, 20, tzinfo=UTC),
        after_days=730,
        at_step=at_step,
    )
    archive.run(release=True)


if __name__ == "__main__":
    main()
