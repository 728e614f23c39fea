import asyncio

from scizor_resources.errors import AuthError
from scizor_sidecar.feeds.base import Sink, Stream, Wanted
from scizor_sidecar.feeds.connection import Connection, FeedState, Patience
from scizor_sidecar.pipeline import FeedPipeline
from tests.unit.sidecar.fakes import BTC, ETH, Clock, Recorder, ScriptedFeed, eventually

AT_ONCE = Patience(first_seconds=0, longest_seconds=0, refused_seconds=0, silence_seconds=5)


async def connects_and_ends(_wanted: Wanted, sink: Sink) -> None:
    sink.connected()


async def breaks(_wanted: Wanted, _sink: Sink) -> None:
    raise ConnectionResetError("reset by peer")


async def is_refused(_wanted: Wanted, _sink: Sink) -> None:
    raise AuthError("the key is wrong", provider="scripted", endpoint="stream")


async def stays(_wanted: Wanted, sink: Sink) -> None:
    sink.connected()
    await asyncio.Event().wait()


async def states_of(feed: ScriptedFeed, connections: int, patience: Patience = AT_ONCE) -> Recorder:
    """Let a feed make so many connections and return what was told of them."""
    recorder = Recorder()
    sink = FeedPipeline("scripted", [recorder], Clock().now)
    keeper = Connection(feed, Wanted(frozenset({BTC})), sink, patience=patience)
    task = asyncio.ensure_future(keeper.keep())
    await eventually(lambda: feed.started >= connections)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return recorder


def test_a_connection_that_ends_is_made_again():
    recorder = asyncio.run(states_of(ScriptedFeed(connects_and_ends, stays), 2))

    assert [state for state, _ in recorder.states][:4] == [
        FeedState.CONNECTING,
        FeedState.CONNECTED,
        FeedState.WAITING,
        FeedState.CONNECTING,
    ]


def test_a_broken_connection_is_told_with_its_reason():
    recorder = asyncio.run(states_of(ScriptedFeed(breaks, stays), 2))

    assert (FeedState.WAITING, "the connection broke: reset by peer") in recorder.states


def test_a_refused_key_is_told_apart_from_an_outage():
    recorder = asyncio.run(states_of(ScriptedFeed(is_refused, stays), 2))

    assert FeedState.REFUSED in [state for state, _ in recorder.states]


PATIENT = Patience(first_seconds=0, longest_seconds=0, refused_seconds=3600)


async def refused_while_wanted_changes(*changes: frozenset[Stream]) -> list[int]:
    """Return how many connections a feed has begun that refuses all, after each change."""
    feed, wanted = ScriptedFeed(*[is_refused] * 9), Wanted(frozenset({BTC}))
    recorder = Recorder()
    sink = FeedPipeline("scripted", [recorder], Clock().now)
    task = asyncio.ensure_future(Connection(feed, wanted, sink, patience=PATIENT).keep())
    begun = []
    for streams in (wanted.streams, *changes):
        await wanted.set(streams)
        # Nothing here takes time: whoever can go on has gone on by then.
        for _ in range(50):
            await asyncio.sleep(0)
        begun.append(feed.started)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return begun


def test_a_refused_feed_is_tried_at_once_for_what_it_has_not_been_refused_for():
    begun = asyncio.run(refused_while_wanted_changes(frozenset(), frozenset({ETH})))

    assert begun == [1, 1, 2]


def test_a_refused_feed_is_not_tried_again_for_what_it_was_refused_for():
    both, bitcoin, ether = frozenset({BTC, ETH}), frozenset({BTC}), frozenset({ETH})

    begun = asyncio.run(refused_while_wanted_changes(both, bitcoin, ether, frozenset(), both))

    assert begun == [1, 2, 2, 2, 2, 2]


def test_a_connection_from_which_nothing_comes_is_ended_and_made_again():
    patience = Patience(first_seconds=0, longest_seconds=0, silence_seconds=0.05)

    recorder = asyncio.run(states_of(ScriptedFeed(stays, stays), 2, patience))

    sentences = [why for state, why in recorder.states if state is FeedState.WAITING]
    assert sentences[0].startswith("the connection broke: connected, but silent")


def test_pauses_double_up_to_the_longest_and_half_of_each_is_chance():
    async def pauses(jitter: float) -> list[float]:
        patience = Patience(first_seconds=1, longest_seconds=8)
        sink = FeedPipeline("scripted", [], Clock().now)
        keeper = Connection(
            ScriptedFeed(), Wanted(), sink, patience=patience, jitter=lambda: jitter
        )
        return [keeper.pause(failures) for failures in range(1, 7)]

    assert asyncio.run(pauses(1.0)) == [1, 2, 4, 8, 8, 8]
    assert asyncio.run(pauses(0.0)) == [0.5, 1, 2, 4, 4, 4]


def test_no_connection_is_made_while_nothing_is_wanted():
    async def play() -> tuple[int, int]:
        wanted, feed = Wanted(), ScriptedFeed(stays)
        sink = FeedPipeline("scripted", [], Clock().now)
        task = asyncio.ensure_future(Connection(feed, wanted, sink, patience=AT_ONCE).keep())
        for _ in range(20):
            await asyncio.sleep(0)
        before = feed.started
        await wanted.set(frozenset({BTC}))
        await eventually(lambda: feed.started > 0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return before, feed.started

    assert asyncio.run(play()) == (0, 1)
