"""The log of bars and states: numbers, replay, retention."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from scizor_core.stream.engine import BarState
from scizor_sidecar.event_log import EventLog
from scizor_sidecar.feeds.connection import FeedState
from tests.unit.sidecar.fakes import BTC
from tests.unit.sidecar.streamed import MINUTE, closed, window

DAY_US = 86_400_000_000


def logged(folder: Path, fill: Callable[[EventLog], None], **options: int) -> EventLog:
    """Return a log that was filled, written and closed."""

    async def play() -> EventLog:
        log = EventLog(folder, now_us=lambda: 0, **options)
        fill(log)
        await log.flush()
        log.close()
        return log

    return asyncio.run(play())


def three_bars(log: EventLog) -> None:
    for number in range(3):
        log.on_window(window(closed(BTC, number * MINUTE, close=10.0 + number)))


def test_bars_come_back_with_rising_numbers(tmp_path: Path):
    log = logged(tmp_path, three_bars)

    found = [(event.version, event.kind, event.data["close"]) for event in log.replay()]

    assert found == [(1, "bar", 10.0), (2, "bar", 11.0), (3, "bar", 12.0)]


def test_replay_begins_after_the_number_that_is_known(tmp_path: Path):
    log = logged(tmp_path, three_bars, file_bytes=100)

    assert [event.version for event in log.replay(after=1)] == [2, 3]


def test_the_numbers_go_on_after_a_restart(tmp_path: Path):
    logged(tmp_path, three_bars)

    log = logged(tmp_path, lambda each: each.on_state("kraken", FeedState.WAITING, "cut", 5))

    (event,) = log.replay(after=3)
    assert (event.version, event.at) == (4, 5)
    assert event.data == {"feed": "kraken", "state": "waiting", "why": "cut"}


def test_a_bar_that_forms_is_not_logged(tmp_path: Path):
    forming = window(closed(BTC, 0, state=BarState.FORMING))

    log = logged(tmp_path, lambda each: each.on_window(forming))

    assert (list(log.replay()), log.version) == ([], 0)


def test_the_oldest_files_go_when_all_are_too_large(tmp_path: Path):
    log = logged(tmp_path, three_bars, file_bytes=10, keep_bytes=300)

    assert log.first_version == 2
    assert [event.version for event in log.replay()] == [2, 3]


def test_cut_off_at_any_byte_the_events_before_are_whole_and_numbers_do_not_repeat(
    tmp_path: Path,
):
    logged(tmp_path / "whole", three_bars)
    (file,) = (tmp_path / "whole").iterdir()
    data = file.read_bytes()
    for length in range(0, len(data), 7):
        folder = tmp_path / str(length)
        folder.mkdir()
        (folder / file.name).write_bytes(data[:length])
        log = logged(folder, lambda each: each.on_state("kraken", FeedState.IDLE, "", 1))
        versions = [event.version for event in log.replay()]
        assert versions == list(range(1, len(versions) + 1))


def test_events_whose_writing_was_cancelled_at_the_end_stand_in_the_log_once(tmp_path: Path):
    async def play() -> EventLog:
        log = EventLog(tmp_path, now_us=lambda: 0)
        three_bars(log)
        writing = asyncio.ensure_future(log.flush())
        await asyncio.sleep(0)
        writing.cancel()
        await log.flush()
        log.close()
        return log

    log = asyncio.run(play())

    assert [event.version for event in log.replay()] == [1, 2, 3]
