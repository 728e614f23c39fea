"""From the watchlist and the clients to what each feed is to stream."""

import asyncio
from collections.abc import Callable

import pytest

from scizor_core.instruments import WatchlistEntry
from scizor_resources.errors import WarehouseAway
from scizor_resources.platform import Platform
from scizor_sidecar import subscriptions
from scizor_sidecar.feeds.base import Feed, FeedLimits, Stream
from scizor_sidecar.feeds.connection import FeedState
from scizor_sidecar.pipeline import FeedPipeline
from scizor_sidecar.subscriptions import Name, Subscriptions
from tests.integration.helpers import execute
from tests.unit.sidecar.fakes import Clock, ScriptedFeed


class Streaming:
    """Subscriptions of two feeds of crypto, and one of the ASX."""

    def __init__(self, platform: Platform, only: frozenset[str] | None = None) -> None:
        self.looked_at: frozenset[Name] = frozenset()
        self.added: list[tuple[str, str]] = []
        clock = Clock()
        ibkr = ScriptedFeed()
        ibkr.limits = FeedLimits(depths=3)
        feeds: dict[str, Feed] = {
            "kraken": ScriptedFeed(),
            "coinbase": ScriptedFeed(),
            "ibkr": ibkr,
        }
        self.pipelines = {name: FeedPipeline(name, [], clock.now) for name in feeds}
        self.subscriptions = Subscriptions(
            platform,
            feeds,
            {"crypto": ("kraken", "coinbase"), "asx": ("ibkr",), "us": ()},
            self.pipelines,
            clients=lambda: self.looked_at,
            only=only,
        )
        self.subscriptions.on_added = self._note

    def _note(self, feed: str, stream: Stream) -> None:
        self.added.append((feed, stream.symbol))

    def refresh(self) -> None:
        asyncio.run(self.subscriptions.refresh())

    def of(self, feed: str) -> list[str]:
        return sorted(each.symbol for each in self.subscriptions.wanted[feed].streams)


@pytest.fixture
def watch(platform: Platform) -> Callable[..., None]:
    execute(platform, "DELETE FROM public.watchlist")

    def add(*symbols: str, market: str = "crypto", tier: int = 1) -> None:
        platform.reference.add([WatchlistEntry(market, each, tier) for each in symbols])

    return add


def test_the_watchlist_goes_to_the_first_feed_of_each_market(
    platform: Platform, watch: Callable[..., None]
) -> None:
    watch("BTC/USD", "ETH/USD")
    watch("CBA", market="asx")
    streaming = Streaming(platform)

    streaming.refresh()

    assert streaming.of("kraken") == ["BTC/USD", "ETH/USD"]
    assert streaming.of("coinbase") == []
    assert streaming.of("ibkr") == ["CBA"]


def test_what_is_added_and_taken_off_is_followed(
    platform: Platform, watch: Callable[..., None]
) -> None:
    watch("BTC/USD")
    streaming = Streaming(platform)
    streaming.refresh()

    watch("ETH/USD")
    platform.reference.change("crypto", "BTC/USD", active=False)
    streaming.refresh()

    assert streaming.of("kraken") == ["ETH/USD"]


def test_a_row_written_by_hand_becomes_an_instrument(
    platform: Platform, watch: Callable[..., None]
) -> None:
    execute(platform, "INSERT INTO watchlist (market, symbol) VALUES ('crypto', ' doge/usd ')")
    streaming = Streaming(platform)

    streaming.refresh()

    assert streaming.of("kraken") == ["DOGE/USD"]


def test_what_a_client_looks_at_is_streamed_if_it_is_known(
    platform: Platform, watch: Callable[..., None]
) -> None:
    platform.reference.ensure("crypto", "SOL/USD")
    streaming = Streaming(platform)
    streaming.looked_at = frozenset({("crypto", "SOL/USD"), ("crypto", "NEVER/USD")})

    streaming.refresh()

    assert streaming.of("kraken") == ["SOL/USD"]


def test_what_a_provider_rejects_goes_to_the_next_feed(
    platform: Platform, watch: Callable[..., None]
) -> None:
    watch("BTC/USD", "ETH/USD")
    streaming = Streaming(platform)
    streaming.refresh()
    (bitcoin,) = [
        each
        for each in streaming.subscriptions.wanted["kraken"].streams
        if each.symbol == "BTC/USD"
    ]

    streaming.pipelines["kraken"].rejected(bitcoin, "no such pair")
    streaming.refresh()

    assert streaming.of("kraken") == ["ETH/USD"]
    assert streaming.of("coinbase") == ["BTC/USD"]


def test_what_nobody_serves_is_told_with_the_reason(
    platform: Platform, watch: Callable[..., None]
) -> None:
    watch("CBA", market="asx")
    streaming = Streaming(platform)
    streaming.refresh()
    (stream,) = streaming.subscriptions.wanted["ibkr"].streams

    streaming.pipelines["ibkr"].rejected(stream, "no market data subscription")
    streaming.refresh()

    assert streaming.subscriptions.not_streamed == {
        ("asx", "CBA"): "ibkr: no market data subscription"
    }


def test_order_books_are_wanted_of_the_three_liquid_stocks(
    platform: Platform, watch: Callable[..., None]
) -> None:
    watch("CBA", "CSL", market="asx")
    streaming = Streaming(platform)

    streaming.refresh()

    depth = {each.symbol: each.depth for each in streaming.subscriptions.wanted["ibkr"].streams}
    assert depth == {"CBA": True, "CSL": False}


def test_an_order_book_that_the_broker_does_not_serve_is_told_with_its_words(
    platform: Platform, watch: Callable[..., None]
) -> None:
    watch("BHP", "CBA", "CSL", market="asx")
    streaming = Streaming(platform)
    streaming.refresh()
    deep = next(
        each for each in streaming.subscriptions.wanted["ibkr"].streams if each.symbol == "CBA"
    )

    streaming.pipelines["ibkr"].limited([], {deep: "error 309"})

    assert streaming.subscriptions.without_book == {("asx", "CBA"): "ibkr: error 309"}


def test_the_healer_is_told_of_what_joins_a_connection_that_stands(
    platform: Platform, watch: Callable[..., None]
) -> None:
    watch("BTC/USD")
    streaming = Streaming(platform)
    streaming.refresh()
    assert streaming.added == []

    streaming.pipelines["kraken"].connected()
    watch("ETH/USD")
    streaming.refresh()

    assert streaming.added == [("kraken", "ETH/USD")]


def test_while_postgresql_is_away_what_is_streamed_stays(
    platform: Platform, watch: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    watch("BTC/USD")
    streaming = Streaming(platform)
    streaming.refresh()

    def away(**_: object) -> None:
        raise WarehouseAway("PostgreSQL did not answer.")

    monkeypatch.setattr(platform.reference, "watchlist", away)
    streaming.refresh()

    assert streaming.of("kraken") == ["BTC/USD"]
    assert streaming.subscriptions.problem == "PostgreSQL did not answer."


def test_symbols_may_be_chosen(platform: Platform, watch: Callable[..., None]) -> None:
    watch("BTC/USD", "ETH/USD")
    streaming = Streaming(platform, only=frozenset({"ETH/USD"}))

    streaming.refresh()

    assert streaming.of("kraken") == ["ETH/USD"]


def refused(platform: Platform, feed: str, why: str) -> tuple[Streaming, FeedPipeline]:
    """Return what streams, and a feed of it that has been refused as a whole."""
    streaming = Streaming(platform)
    streaming.refresh()
    pipeline = streaming.pipelines[feed]
    pipeline.connecting()
    pipeline.disconnected(FeedState.REFUSED, why)
    streaming.refresh()
    return streaming, pipeline


def test_a_feed_that_was_refused_takes_nothing_from_the_one_that_stands_in_for_it(
    platform: Platform, watch: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    watch("BTC/USD")
    streaming, kraken = refused(platform, "kraken", "the key is wrong")
    # After its pause there is nothing for it to do.
    kraken.disconnected(FeedState.IDLE, "nothing is to be streamed")

    streaming.refresh()
    stays = streaming.of("coinbase")
    monkeypatch.setattr(subscriptions, "REFUSED_SECONDS", 0)
    streaming.refresh()

    assert stays == ["BTC/USD"]
    assert streaming.of("kraken") == ["BTC/USD"]


def test_a_feed_that_was_refused_and_has_no_other_beside_it_is_tried_again(
    platform: Platform, watch: Callable[..., None]
) -> None:
    watch("CBA", market="asx")
    streaming, ibkr = refused(platform, "ibkr", "another session")
    left = streaming.of("ibkr")
    ibkr.disconnected(FeedState.IDLE, "nothing is to be streamed")

    streaming.refresh()

    assert (left, streaming.of("ibkr")) == ([], ["CBA"])


def test_a_refused_feed_is_offered_what_it_has_not_been_refused_for(
    platform: Platform, watch: Callable[..., None]
) -> None:
    watch("CBA", market="asx")
    streaming, _ = refused(platform, "ibkr", "it serves none of the symbols")
    watch("BHP", market="asx")

    streaming.refresh()
    offered = streaming.of("ibkr")
    # It is refused for that one too.
    streaming.refresh()

    assert offered == ["BHP"]
    assert streaming.of("ibkr") == []
    assert streaming.subscriptions.not_streamed == {
        ("asx", name): "ibkr: it serves none of the symbols" for name in ("BHP", "CBA")
    }
