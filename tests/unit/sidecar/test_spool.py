"""The queue on disk: order, limits, and what a kill leaves of it."""

from pathlib import Path

import pytest

from scizor_sidecar.spool import Spool, SpoolFull

RECORDS = [b"one", b"two", b"three" * 20, b"four"]


def filled(folder: Path, **options: int) -> Spool:
    """Return a queue of the records; no file is left open."""
    return added(Spool(folder, **options), *RECORDS)


def added(spool: Spool, *records: bytes) -> Spool:
    for record in records:
        spool.append(record)
    spool.close()
    return spool


def test_records_come_out_in_the_order_in_which_they_went_in(tmp_path: Path):
    spool = filled(tmp_path, file_bytes=30)

    assert spool.peek(3) == RECORDS[:3]
    spool.take_off(3)
    assert spool.peek(10) == RECORDS[3:]


def test_what_was_not_taken_off_is_there_after_a_restart(tmp_path: Path):
    filled(tmp_path)

    assert Spool(tmp_path).peek(10) == RECORDS


def test_what_comes_after_a_restart_stands_behind_what_was_there(tmp_path: Path):
    filled(tmp_path)
    spool = Spool(tmp_path)

    added(spool, b"five")

    assert spool.peek(10) == [*RECORDS, b"five"]


def test_files_that_are_drained_are_gone(tmp_path: Path):
    spool = filled(tmp_path, file_bytes=30)

    spool.take_off(len(RECORDS))

    assert (list(tmp_path.iterdir()), spool.records, spool.size) == ([], 0, 0)


def test_a_drained_queue_takes_more(tmp_path: Path):
    spool = filled(tmp_path)
    spool.take_off(len(RECORDS))

    added(spool, b"five")

    assert spool.peek(10) == [b"five"]


def test_cut_off_at_any_byte_it_holds_the_whole_records_before_and_takes_more(tmp_path: Path):
    filled(tmp_path / "whole")
    (file,) = (tmp_path / "whole").iterdir()
    data = file.read_bytes()
    for length in range(len(data) + 1):
        folder = tmp_path / str(length)
        folder.mkdir()
        (folder / file.name).write_bytes(data[:length])
        spool = Spool(folder)
        left = spool.peek(10)
        assert left == RECORDS[: len(left)]
        # A record is whole when it and the eight bytes before it are.
        sizes = [8 + len(record) for record in RECORDS]
        assert len(left) == sum(sum(sizes[: n + 1]) <= length for n in range(len(sizes)))
        added(spool, b"more")
        assert spool.peek(10) == [*left, b"more"]


def test_a_full_queue_takes_nothing_and_says_so(tmp_path: Path):
    spool = filled(tmp_path, limit_bytes=150)

    with pytest.raises(SpoolFull, match="150 bytes"):
        spool.append(b"five" * 10)

    assert spool.peek(10) == RECORDS
