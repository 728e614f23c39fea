"""What a journal still knows after a kill at any moment."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from scizor_sidecar.feeds.base import Stream
from scizor_sidecar.journal import FILE_NAME, Journal, LastTrade
from scizor_sidecar.records import RecordFile

from .fakes import BTC, ETH

MINUTE = 60_000_000
T = 1_772_452_800_000_000


Open = Callable[..., Journal]


@pytest.fixture
def opened() -> Iterator[Open]:
    """Opens journals; nothing of them is written at the end that was not before."""
    with ExitStack() as stack:

        def open_(folder: Path, **settings: int) -> Journal:
            journal = Journal(folder, **settings)
            stack.callback(journal.close)
            return journal

        yield open_


def test_what_was_written_is_known_after_a_kill(tmp_path: Path, opened: Open):
    journal = opened(tmp_path)
    journal.stored_until(BTC, T)
    journal.trade_seen("kraken", BTC, LastTrade(T + 5, 77))
    hole = journal.open_hole("kraken", "crypto", {BTC: T, ETH: T + 1}, "the connection broke")
    journal.write()

    again = opened(tmp_path)

    assert again.holes == [hole]
    assert again.last_trade("kraken", BTC) == LastTrade(T + 5, 77)
    assert again.whole_until("kraken", BTC) == T


class Held:
    """A permit that is taken away."""

    is_sure = True

    async def sure(self) -> None:
        raise AssertionError("a journal does not wait")


def test_nothing_is_written_after_another_has_taken_over(tmp_path: Path):
    permit = Held()
    journal = Journal(tmp_path, permit=permit)
    journal.stored_until(BTC, T)
    journal.write()
    before = (tmp_path / FILE_NAME).read_bytes()
    permit.is_sure = False
    journal.stored_until(BTC, T + MINUTE)
    journal.open_hole("kraken", "crypto", {BTC: T}, "frozen")
    asyncio.run(journal.flush())
    journal.close()

    assert (tmp_path / FILE_NAME).read_bytes() == before


def test_what_waited_until_the_lease_was_sure_is_written_in_order(tmp_path: Path, opened: Open):
    permit = Held()
    journal = Journal(tmp_path, permit=permit)
    permit.is_sure = False
    first = journal.open_hole("kraken", "crypto", {BTC: T}, "frozen")
    journal.close_hole(first.number)
    second = journal.open_hole("kraken", "crypto", {BTC: T}, "cut")
    permit.is_sure = True
    journal.write()
    journal.close()

    assert opened(tmp_path).holes == [second]


def test_closing_writes_nothing(tmp_path: Path):
    journal = Journal(tmp_path)
    journal.stored_until(BTC, T)
    journal.close()

    assert (tmp_path / FILE_NAME).read_bytes() == b""


def test_a_closed_hole_stays_closed_and_its_number_is_not_given_again(tmp_path: Path, opened: Open):
    journal = opened(tmp_path)
    first = journal.open_hole("kraken", "crypto", {BTC: T}, "cut")
    journal.close_hole(first.number)

    again = opened(tmp_path)

    assert again.holes == []
    assert again.open_hole("kraken", "crypto", {BTC: T}, "cut").number > first.number


def test_a_journal_cut_off_at_any_byte_says_that_no_more_is_stored_than_was(
    tmp_path: Path, opened: Open
):
    journal = opened(tmp_path / "whole")
    journal.stored_until(BTC, T)
    journal.write()
    journal.open_hole("kraken", "crypto", {BTC: T}, "cut")
    journal.stored_until(BTC, T + MINUTE)
    journal.trade_seen("kraken", BTC, LastTrade(T + 2 * MINUTE, 9))
    journal.write()
    content = (tmp_path / "whole" / FILE_NAME).read_bytes()

    found = []
    for length in range(len(content) + 1):
        folder = tmp_path / f"cut-{length}"
        folder.mkdir()
        (folder / FILE_NAME).write_bytes(content[:length])
        cut = opened(folder)
        found.append((cut.whole_until("kraken", BTC), len(cut.holes)))
        cut.stored_until(BTC, T + 9 * MINUTE)
        cut.write()
        assert opened(folder).whole_until("kraken", BTC) == T + 9 * MINUTE

    assert list(dict.fromkeys(found)) == [(None, 0), (T, 0), (T, 1), (T + MINUTE, 1)]


def test_a_journal_that_has_grown_is_made_short_and_says_the_same(tmp_path: Path, opened: Open):
    journal = opened(tmp_path, longest_file=2_000)
    hole = journal.open_hole("kraken", "crypto", {BTC: T}, "cut", instrument_id=1)
    for minute in range(200):
        journal.stored_until(BTC, T + minute * MINUTE)
        journal.write()
    asyncio.run(journal.flush())

    assert (tmp_path / FILE_NAME).stat().st_size < 2_000
    journal.stored_until(ETH, T)
    journal.write()
    again = opened(tmp_path)
    assert again.whole_until("kraken", BTC) == T + 199 * MINUTE
    assert again.whole_until("kraken", ETH) == T
    assert again.holes == [hole]


@pytest.mark.parametrize(
    ("last", "until"),
    [(T - 1, T + 49 * MINUTE), (T + 1, T), (None, T + 49 * MINUTE)],
    ids=["all stored", "not stored yet", "never traded"],
)
def test_quiet_minutes_count_as_stored_when_all_that_came_is(
    tmp_path: Path, opened: Open, last: int | None, until: int
):
    journal = opened(tmp_path)
    journal.stored_until(BTC, T)
    journal.follow("kraken", [BTC])
    if last is not None:
        journal.trade_seen("kraken", BTC, LastTrade(last))
    journal.heard("kraken", T + 50 * MINUTE)

    assert journal.whole_until("kraken", BTC) == until


def test_a_stream_that_was_never_streamed_has_nothing_stored(tmp_path: Path, opened: Open):
    assert opened(tmp_path).whole_until("kraken", Stream("asx", "CBA", 3)) is None


def test_the_begin_of_a_stream_changes_nothing_where_it_is_known_already(
    tmp_path: Path, opened: Open
):
    journal = opened(tmp_path)
    journal.stored_until(BTC, T)
    journal.begin(BTC, T + 10 * MINUTE)

    assert journal.whole_until("kraken", BTC) == T


def test_what_a_feed_hears_says_nothing_of_streams_that_it_does_not_have(
    tmp_path: Path, opened: Open
):
    journal = opened(tmp_path)
    for stream in (BTC, ETH):
        journal.stored_until(stream, T)
    journal.follow("kraken", [BTC, ETH])
    journal.heard("kraken", T + 20 * MINUTE)
    journal.leave("kraken", ETH)
    journal.heard("kraken", T + 50 * MINUTE)

    assert journal.whole_until("kraken", BTC) == T + 49 * MINUTE
    assert journal.whole_until("kraken", ETH) == T + 19 * MINUTE
    # Another feed's symbols are none of its own.
    journal.heard("binance", T + 80 * MINUTE)
    assert journal.whole_until("binance", ETH) == T + 19 * MINUTE


def test_after_a_kill_a_feed_has_no_stream_until_it_is_told(tmp_path: Path, opened: Open):
    journal = opened(tmp_path)
    journal.stored_until(BTC, T)
    journal.follow("kraken", [BTC])
    journal.heard("kraken", T + 20 * MINUTE)
    journal.write()
    found = []
    for later in (50, 80):
        again = opened(tmp_path)
        found.append(again.whole_until("kraken", BTC))
        again.heard("kraken", T + later * MINUTE)
        again.write()
        found.append(again.whole_until("kraken", BTC))

    assert found == [T + 19 * MINUTE] * 4


class FullDisk(RecordFile):
    """A file on a disk that takes nothing more."""

    def append(self, record: bytes) -> None:
        del record
        raise OSError(28, "No space left on device")

    def sync(self) -> None:
        raise OSError(28, "No space left on device")


def test_what_a_full_disk_has_not_taken_is_written_when_it_takes_it(tmp_path: Path, opened: Open):
    journal = opened(tmp_path)
    journal._file.close()  # noqa: SLF001
    journal._file = FullDisk(tmp_path / FILE_NAME)  # noqa: SLF001  # there is no other way to fill it
    hole = journal.open_hole("kraken", "crypto", {BTC: T}, "the connection broke")
    journal.stored_until(BTC, T)
    journal.write()
    problem = journal.problem
    asyncio.run(journal.flush())

    assert "No space left" in problem
    assert journal.problem == ""
    again = opened(tmp_path)
    assert again.holes == [hole]
    assert again.whole_until("kraken", BTC) == T


def test_quarters_that_are_to_be_made_anew_are_known_after_a_kill(tmp_path: Path, opened: Open):
    journal = opened(tmp_path, longest_file=0)
    for quarter in (T, T + 15 * MINUTE):
        journal.begin_anew("kraken", BTC, quarter)
    journal.end_anew("kraken", BTC, T)

    assert opened(tmp_path).to_make_anew("kraken", BTC) == [T + 15 * MINUTE]
    # As the file is made short again.
    asyncio.run(journal.flush())
    assert opened(tmp_path).to_make_anew("kraken", BTC) == [T + 15 * MINUTE]
