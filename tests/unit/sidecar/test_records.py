import resource
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scizor_sidecar.records import LONGEST_RECORD, RecordFile, replace_records


def written(path: Path, *records: bytes) -> Path:
    with RecordFile(path) as file:
        for record in records:
            file.append(record)
    return path


def read(path: Path) -> list[bytes]:
    with RecordFile(path) as file:
        return [record for _, record in file.read()]


def test_records_come_back_in_order(tmp_path: Path):
    assert read(written(tmp_path / "log", b"one", b"", b"three")) == [b"one", b"", b"three"]


def test_a_file_cut_off_at_any_byte_keeps_its_whole_records_and_takes_new_ones(tmp_path: Path):
    whole = written(tmp_path / "log", b"one", b"two", b"three").read_bytes()
    ends = [8 + 3, 2 * (8 + 3), 2 * (8 + 3) + 8 + 5]

    for length in range(len(whole) + 1):
        path = tmp_path / f"cut-{length}"
        path.write_bytes(whole[:length])
        with RecordFile(path) as file:
            file.append(b"after")
        kept = [b"one", b"two", b"three"][: sum(end <= length for end in ends)]
        assert read(path) == [*kept, b"after"]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(position=st.integers(0, 29), change=st.integers(1, 255))
def test_a_changed_byte_ends_the_file_before_its_record(tmp_path: Path, position: int, change: int):
    path = tmp_path / f"damaged-{position}-{change}"
    path.unlink(missing_ok=True)
    data = bytearray(written(path, b"one", b"two", b"four").read_bytes())
    data[position] ^= change
    path.write_bytes(data)

    assert read(path) == [b"one", b"two", b"four"][: min(position // 11, 2)]


def test_what_was_cut_off_is_told(tmp_path: Path):
    path = written(tmp_path / "log", b"one")
    path.write_bytes(path.read_bytes() + b"\x05\x00")

    with RecordFile(path) as file:
        assert file.cut_bytes == 2


def test_reading_goes_on_where_it_stopped(tmp_path: Path):
    with RecordFile(written(tmp_path / "log", b"one", b"two")) as file:
        offset, first = next(file.read())
        file.append(b"three")

        assert first == b"one"
        assert [record for _, record in file.read(offset)] == [b"two", b"three"]


def test_a_file_is_replaced_as_a_whole(tmp_path: Path):
    path = written(tmp_path / "log", b"one", b"two")

    replace_records(path, iter([b"new"]))

    assert read(path) == [b"new"]
    assert [each.name for each in tmp_path.iterdir()] == ["log"]


def test_a_record_too_long_is_refused_and_leaves_nothing(tmp_path: Path):
    with RecordFile(tmp_path / "log") as file:
        with pytest.raises(ValueError, match="longer than"):
            file.append(bytes(LONGEST_RECORD + 1))
        assert file.size == 0


def test_of_a_record_that_the_disk_does_not_take_nothing_stays(tmp_path: Path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with RecordFile(tmp_path / "log") as file:
        file.append(b"one")
        resource.setrlimit(resource.RLIMIT_FSIZE, (20, hard))
        try:
            with pytest.raises(OSError, match="File too large"):
                file.append(bytes(100))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert read(tmp_path / "log") == [b"one"]
        file.append(b"two")

    assert read(tmp_path / "log") == [b"one", b"two"]
