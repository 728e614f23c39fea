"""Latencies and uptime: the figures of the sidecar that are not mere counts."""

from datetime import timedelta

import numpy as np
import pytest

from scizor_sidecar.feeds.connection import FeedState
from scizor_sidecar.latency import Latency, bucket_names
from scizor_sidecar.metrics import Metrics
from scizor_sidecar.pipeline import FeedPipeline
from scizor_sidecar.uptime import Uptime
from tests.unit.sidecar.fakes import BTC, Clock


def test_percentiles_are_those_of_the_values_within_five_percent():
    values = np.random.default_rng(1).lognormal(2, 1, 5_000)
    latency = Latency()
    for value in values:
        latency.add(float(value), at=0)

    found = latency.percentiles((0.5, 0.95, 0.99), at=0)

    expected = np.percentile(values, [50, 95, 99])
    assert [float(each or 0) for each in found] == pytest.approx(expected.tolist(), rel=0.06)


def test_without_a_value_there_is_no_percentile():
    assert Latency().percentiles((0.5,), at=0) == [None]


def test_buckets_count_what_is_below_their_edge():
    latency = Latency()
    for value in (1, 9.9, 10, 24, 30, 60, 100, 5_000):
        latency.add(value, at=0)

    assert dict(zip(bucket_names(), latency.totals, strict=True)) == {
        "<10": 2,
        "<25": 2,
        "<50": 1,
        "<100": 1,
        ">=100": 2,
    }


def test_what_is_old_is_forgotten_by_percentiles_and_not_by_buckets():
    latency = Latency(half_seconds=150)
    latency.add(1_000, at=0)
    latency.add(1, at=200)

    assert latency.percentiles((1.0,), at=200)[0] == pytest.approx(1_000, rel=0.06)
    assert latency.percentiles((1.0,), at=400)[0] == pytest.approx(1, rel=0.06)
    assert sum(latency.totals) == 2


def test_a_clock_that_is_behind_makes_no_negative_latency():
    latency = Latency()
    latency.add(-5, at=0)

    assert latency.percentiles((0.5,), at=0) == [0.05]


def test_uptime_is_the_share_of_the_time_in_which_the_market_traded():
    uptime = Uptime()
    uptime.add("kraken", 100, 45, is_connected=True)
    uptime.add("kraken", 100, 15, is_connected=False)

    assert uptime.percent("kraken", 100) == 75


def test_uptime_forgets_what_is_older_than_an_hour():
    uptime = Uptime()
    uptime.add("kraken", 100, 60, is_connected=False)
    uptime.add("kraken", 160, 60, is_connected=True)

    assert uptime.percent("kraken", 160) == 100


def test_a_market_that_did_not_trade_has_no_uptime():
    assert Uptime().percent("ibkr", 100) is None


def test_the_time_in_which_no_sidecar_ran_counts_as_not_connected():
    earlier, later = Uptime(), Uptime()
    earlier.add("kraken", 100, 60, is_connected=True)

    later.go_on(earlier.as_json(), 104, lambda _feed, _minute: True)

    # One minute connected, three without a process.
    assert later.percent("kraken", 104) == 25


def test_nor_does_the_time_in_which_the_market_was_closed_meanwhile():
    earlier, later = Uptime(), Uptime()
    earlier.add("ibkr", 100, 60, is_connected=True)

    later.go_on(earlier.as_json(), 104, lambda _feed, _minute: False)

    assert later.percent("ibkr", 104) == 100


def test_a_feed_that_has_nothing_to_stream_is_neither_up_nor_down():
    clock = Clock()
    pipeline = FeedPipeline("kraken", [], clock.now)
    metrics = Metrics({"kraken": pipeline}, clock.now, monotonic=clock.monotonic)
    pipeline.number(BTC)
    pipeline.connected()
    clock.at += timedelta(seconds=30)
    metrics.sample(30)
    # Its instruments went to another feed.
    pipeline.disconnected(FeedState.IDLE, "nothing is to be streamed")
    clock.at += timedelta(seconds=30)
    metrics.sample(30)

    assert metrics.state()["feeds"]["kraken"]["uptime_percent"] == 100
