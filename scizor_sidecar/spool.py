"""What cannot be stored now, on disk, in order, until it can be.

A queue of records in files. What has been given out and taken off is gone with its file; after a
kill some of it may be given out again, so whoever drains it has to be able to write a thing twice.
"""

import threading
from collections.abc import Iterator
from pathlib import Path

from scizor_sidecar.records import RecordFile, read_records

#: A file of the queue is closed at this size; it is deleted when all of it is drained.
FILE_BYTES = 4 * 1024**2
#: Bytes that the head of a record adds to it.
_HEAD_BYTES = 8


class SpoolFull(Exception):
    """The queue may not take more of the disk."""


class Spool:
    """A queue on disk. Its methods block; call them from a thread. Safe for several threads.

    Args:
        folder: where the files are; made where it is not there.
        limit_bytes: the files may take so much together.
        file_bytes: size at which the next file is begun.
    """

    def __init__(
        self, folder: Path, limit_bytes: int = 2 * 1024**3, file_bytes: int = FILE_BYTES
    ) -> None:
        self._folder, self._limit, self._file_bytes = folder, limit_bytes, file_bytes
        self._lock = threading.RLock()
        folder.mkdir(parents=True, exist_ok=True)
        self._files = [_Part(path) for path in sorted(folder.glob("*.spool"))]
        self._last: RecordFile | None = None
        self.cut_bytes = 0
        for part in self._files:
            with RecordFile(part.path) as file:
                self.cut_bytes += file.cut_bytes
                part.size = file.size
                part.records = sum(1 for _ in file.read())
        self._forget_drained()

    @property
    def records(self) -> int:
        """Records that wait; asking does not block."""
        return sum(part.records - part.taken for part in tuple(self._files))

    @property
    def size(self) -> int:
        """Bytes of the files; asking does not block."""
        return sum(part.size for part in tuple(self._files))

    def append(self, record: bytes) -> None:
        """Put a record at the end; it is on the disk when this returns.

        Raises:
            SpoolFull: the limit is reached; nothing was written.
            OSError: the disk is full or gone; nothing of the record stays.
        """
        with self._lock:
            needed = len(record) + _HEAD_BYTES
            if self.size + needed > self._limit:
                raise SpoolFull(
                    f"The spool in {self._folder} has reached {self._limit:,} bytes: PostgreSQL "
                    "has been away too long. Bring it back; what is lost now has to be healed."
                )
            if self._last is None or self._files[-1].size >= self._file_bytes:
                self._last = self._begin_file()
            self._last.append(record)
            part = self._files[-1]
            part.size += needed
            part.records += 1
            self._last.sync()

    def peek(self, most: int) -> list[bytes]:
        """Return the oldest records, at most so many; they stay until `take_off`."""
        with self._lock:
            return [record for _, _, record in self._oldest(most)]

    def take_off(self, count: int) -> None:
        """Take the oldest records off the queue: they are stored now."""
        with self._lock:
            for part, offset, _ in list(self._oldest(count)):
                part.offset, part.taken = offset, part.taken + 1
            self._forget_drained()

    def close(self) -> None:
        """Close the file that is written to."""
        with self._lock:
            if self._last is not None:
                self._last.close()
                self._last = None

    def _oldest(self, most: int) -> Iterator[tuple["_Part", int, bytes]]:
        left = most
        for part in self._files:
            if left <= 0:
                return
            for offset, record in read_records(part.path, part.offset):
                yield part, offset, record
                left -= 1
                if left <= 0:
                    return

    def _begin_file(self) -> RecordFile:
        number = int(self._files[-1].path.stem) + 1 if self._files else 1
        self.close()
        path = self._folder / f"{number:012d}.spool"
        file = RecordFile(path)
        self._files.append(_Part(path))
        return file

    def _forget_drained(self) -> None:
        while self._files and self._files[0].taken == self._files[0].records:
            part = self._files[0]
            if len(self._files) == 1:
                self.close()
            part.path.unlink(missing_ok=True)
            self._files.pop(0)


class _Part:
    """One file of the queue, and how far it is drained."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = self.records = self.taken = self.offset = 0
