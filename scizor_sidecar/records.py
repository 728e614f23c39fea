"""Append-only files of records that survive being cut off at any byte.

Each record is its length and its checksum, then its bytes. What a kill -9 leaves half written is
found by the checksum when the file is opened, and cut off; what stands before it is whole.
"""

import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from struct import Struct
from types import TracebackType

_HEAD = Struct("<II")
#: No record is longer: a length beyond it is damage.
LONGEST_RECORD = 64 * 1024**2


class RecordFile:
    """A file of records that can be read from the front and written at the end.

    Args:
        path: the file; made where it is not there. Damage at its end is cut off.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        # Without a buffer: what the disk has refused would stay in it and be written later.
        self._file = path.open("ab+", buffering=0)
        self.cut_bytes = 0
        end = _whole_end(path)
        self.cut_bytes = self.size - end
        if self.cut_bytes:
            self._file.truncate(end)

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return self._file.seek(0, os.SEEK_END)

    def append(self, record: bytes) -> None:
        """Write a record; it is safe from a power cut only after `sync`.

        Raises:
            ValueError: the record is longer than any may be.
            OSError: the disk is full or gone; nothing of the record stays.
        """
        if len(record) > LONGEST_RECORD:
            raise ValueError(f"A record of {len(record)} bytes is longer than {LONGEST_RECORD}.")
        end = self.size
        try:
            # Handed to the system: a kill -9 of this process no longer loses it.
            left = memoryview(_HEAD.pack(len(record), zlib.crc32(record)) + record)
            while left:
                left = left[self._file.write(left) :]
        except OSError:
            self._file.truncate(end)
            raise

    def sync(self) -> None:
        """Wait until the disk has it all. Blocks; call it from a thread."""
        os.fsync(self._file.fileno())

    def read(self, offset: int = 0) -> Iterator[tuple[int, bytes]]:
        """Return each record from an offset on with the offset after it."""
        yield from read_records(self.path, offset)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> "RecordFile":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def replace_records(path: Path, records: Iterator[bytes]) -> None:
    """Put a new file of those records in the place of an old one, all of it or nothing."""
    fresh = path.with_suffix(path.suffix + ".new")
    fresh.unlink(missing_ok=True)
    with RecordFile(fresh) as file:
        for record in records:
            file.append(record)
        file.sync()
    fresh.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def read_records(path: Path, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """Return each whole record from an offset on with the offset after it; changes nothing."""
    with path.open("rb") as file:
        file.seek(offset)
        while len(head := file.read(_HEAD.size)) == _HEAD.size:
            length, checksum = _HEAD.unpack(head)
            if length > LONGEST_RECORD:
                return
            record = file.read(length)
            if len(record) < length or zlib.crc32(record) != checksum:
                return
            offset += _HEAD.size + length
            yield offset, record


def _whole_end(path: Path) -> int:
    end = 0
    for offset, _ in read_records(path):
        end = offset
    return end
