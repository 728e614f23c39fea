"""What sidecars that share the work tell in Valkey, each of itself."""

import asyncio

import redis.asyncio

from scizor_resources.platform import Platform
from scizor_resources.streaming import read_state
from scizor_sidecar.feeds.base import Stream
from scizor_sidecar.metrics import Metrics
from scizor_sidecar.pipeline import FeedPipeline
from tests.unit.sidecar.fakes import Clock


def metrics_of(feed: str, clock: Clock, client: redis.asyncio.Redis) -> Metrics:
    pipeline = FeedPipeline(feed, [], clock.now)
    pipeline.number(Stream("crypto", "BTC/USD", 1))
    pipeline.connected()
    return Metrics(
        {feed: pipeline},
        clock.now,
        client=client,
        choice=f"feeds={feed}",
        markets={feed: ["crypto"]},
        monotonic=clock.monotonic,
    )


def test_those_that_share_the_work_are_told_together_and_each_withdraws_itself(
    platform: Platform,
) -> None:
    clock = Clock()
    feeds: list[list[str]] = []

    def look() -> None:
        state = read_state(platform.link.call)
        feeds.append([] if state is None else sorted(state["feeds"]))

    async def play() -> None:
        client = redis.asyncio.Redis.from_url(platform.endpoints.redis_url)
        first = metrics_of("kraken", clock, client)
        second = metrics_of("coinbase", clock, client)
        for act in (first.publish, second.publish, first.publish, first.withdraw, second.withdraw):
            await act()
            await asyncio.to_thread(look)
        await client.aclose()

    asyncio.run(play())

    both = ["coinbase", "kraken"]
    assert feeds == [["kraken"], both, both, ["coinbase"], []]
