"""The rate budget, the breaker, the ledger and the spending guard in a real Valkey.

Most tests give the budget a clock of their own, so that hours pass in no time; the last ones let
real processes call a real server.
"""

import http.client
import itertools
import multiprocessing
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from scizor_resources.budget.breaker import ValkeyBreaker
from scizor_resources.budget.limits import (
    LIMITS,
    EndpointLimits,
    Pacing,
    ProviderLimits,
    Window,
    monthly,
)
from scizor_resources.budget.link import ValkeyLink
from scizor_resources.budget.spending import Price, SpendingGuard
from scizor_resources.budget.usage import UsageCollector, ValkeyLedger, read_usage
from scizor_resources.budget.valkey import ValkeyBudget
from scizor_resources.endpoints import Endpoints
from scizor_resources.errors import AuthError, BadRequest, RateLimited, TransientError
from scizor_resources.providers.gate import LANES, Lane

# 2027-01-15 08:00:00 UTC.
START = 1_800_000_000.0
_names = itertools.count(1)


class World:
    """A clock that budgets sleep on, in a corner of Valkey that no other test uses."""

    def __init__(self, link: ValkeyLink) -> None:
        self.link = link
        self.now = START
        self.name = f"provider{os.getpid()}x{next(_names)}"

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def limits(self, *windows: Window, **more: Any) -> ProviderLimits:
        return ProviderLimits(self.name, "Example", windows, **more)

    def budget(
        self,
        limits: ProviderLimits,
        lane: Lane = "backfill",
        wait: float | None = None,
        sleep: Callable[[float], None] | None = None,
    ) -> ValkeyBudget:
        return ValkeyBudget(
            self.link,
            replace(limits, provider=self.name),
            lane,
            max_wait_seconds=wait,
            now=lambda: self.now,
            clock=lambda: self.now,
            sleep=sleep or self.sleep,
        )

    def breaker(self) -> ValkeyBreaker:
        return ValkeyBreaker(self.link, self.name, "Example", clock=lambda: self.now)

    def saturate(self, budget: ValkeyBudget, seconds: float, **call: Any) -> list[float]:
        """Call as often as the budget lets, return when."""
        until, at = self.now + seconds, []
        while True:
            with budget.acquire(**{"endpoint": "/bars", **call}):
                if self.now >= until:
                    return at
                at.append(self.now)


@pytest.fixture
def link(servers: Endpoints) -> Iterator[ValkeyLink]:
    opened = ValkeyLink(servers.redis_url)
    yield opened
    opened.close()


@pytest.fixture
def world(link: ValkeyLink) -> World:
    return World(link)


def most_within(at: list[float], seconds: float) -> int:
    """Return the most instants that any interval of that length holds."""
    ordered, first, most = sorted(at), 0, 0
    for number, instant in enumerate(ordered):
        while instant - ordered[first] >= seconds:
            first += 1
        most = max(most, number - first + 1)
    return most


def take(budget: ValkeyBudget, calls: int = 1, endpoint: str = "/bars", **more: Any) -> None:
    for _ in range(calls):
        with budget.acquire(endpoint, **more):
            pass


# ---- windows


@pytest.mark.parametrize("provider", ["alpaca", "coinspot", "finnhub", "coinbase", "kraken"])
def test_no_interval_has_more_calls_than_the_provider_allows(world: World, provider: str) -> None:
    limits = LIMITS[provider]
    at = world.saturate(world.budget(limits), 150)
    for window in limits.windows:
        assert most_within(at, window.seconds) <= window.limit


def test_arrivals_that_are_late_by_up_to_300_ms_stay_within_the_limit(world: World) -> None:
    at = world.saturate(world.budget(LIMITS["alpaca"]), 240)
    delay = random.Random(7)
    assert most_within([each + delay.uniform(0, 0.3) for each in at], 60) <= 200


@pytest.mark.parametrize(("provider", "calls"), [("alpaca", 200), ("coinspot", 1000)])
def test_a_caller_that_never_rests_uses_over_95_percent_of_a_minute(
    world: World, provider: str, calls: int
) -> None:
    at = world.saturate(world.budget(LIMITS[provider]), 180)
    assert len(at) / 3 > 0.95 * calls


def test_of_several_windows_each_is_kept(world: World) -> None:
    limits = world.limits(Window(5, 1), Window(40, 60))
    at = world.saturate(world.budget(limits, "live", wait=120), 200)
    assert (most_within(at, 1) <= 5, most_within(at, 60) <= 40) == (True, True)


def test_weights_count_as_that_many_calls(world: World) -> None:
    at = world.saturate(world.budget(world.limits(Window(200, 60))), 180, weight=10)
    assert most_within(at, 60) <= 20


def test_an_endpoints_weight_is_taken_from_the_table(world: World) -> None:
    limits = world.limits(Window(6000, 60), endpoint_weights={"/klines": 2})
    budget = world.budget(limits)
    take(budget, 3, "/klines")
    assert budget.state().windows[0].used == 6


def test_a_call_that_is_heavier_than_its_window_is_a_bad_request(world: World) -> None:
    with pytest.raises(BadRequest, match="counts for 11"):
        take(world.budget(world.limits(Window(10, 60))), weight=11)


def test_a_clock_that_is_set_back_by_a_second_grants_nothing_twice(world: World) -> None:
    budget = world.budget(world.limits(Window(3, 60)), "live", wait=0)
    take(budget)
    world.now -= 1
    assert budget.state().windows[0].used == 1


def test_a_clock_that_is_set_back_by_a_day_does_not_stop_calls_for_a_day(world: World) -> None:
    budget = world.budget(world.limits(Window(2, 1)), "live", wait=10)
    take(budget, 2)
    world.now -= 86_400
    before = world.now
    take(budget)
    assert world.now - before < 2


# ---- groups, keys, calls under way


def test_the_limit_of_an_endpoint_does_not_hold_up_the_others(world: World) -> None:
    group = EndpointLimits("history", frozenset({"/history"}), (Window(2, 600),))
    budget = world.budget(world.limits(Window(100, 1), groups=(group,)), "live", wait=1)
    take(budget, 1, "/history")
    with pytest.raises(RateLimited):
        take(budget, 2, "/history")
    before = world.now
    take(budget, 1, "/quote")
    assert world.now == before


def test_ibkr_takes_at_most_60_historical_requests_in_10_minutes(world: World) -> None:
    budget = world.budget(LIMITS["ibkr"], wait=600)
    at = world.saturate(budget, 3600, endpoint="reqHistoricalData")
    assert 57 <= most_within(at, 600) <= 60


def test_an_identical_request_waits_15_seconds(world: World) -> None:
    budget = world.budget(LIMITS["ibkr"])
    call = {"endpoint": "reqHistoricalData", "keys": ("same:1|ASX|TRADES",)}
    take(budget, **call)
    before = world.now
    take(budget, **call)
    assert 15 <= world.now - before < 16


def test_fewer_than_6_requests_for_a_contract_leave_within_2_seconds(world: World) -> None:
    limits = world.limits(Window(1000, 1), pacing=(Pacing("contract", 5, 2),))
    at = world.saturate(world.budget(limits), 20, keys=("contract:CBA,ASX,TRADES",))
    assert most_within(at, 2) == 5


def test_a_call_held_up_by_its_key_does_not_hold_up_lower_lanes(world: World) -> None:
    limits = world.limits(Window(100, 1), pacing=(Pacing("same", 1, 15),))
    backfill = world.budget(limits, "backfill", wait=0)
    calls: list[float] = []

    def sleep(seconds: float) -> None:
        take(backfill)
        calls.append(seconds)
        world.now += seconds

    take(world.budget(limits, "live", wait=20, sleep=sleep), 2, keys=("same:1",))
    assert calls


def test_no_more_calls_are_under_way_than_allowed(world: World) -> None:
    budget = world.budget(world.limits(concurrency=2), wait=1)
    with ExitStack() as calls:
        calls.enter_context(budget.acquire("/bars"))
        calls.enter_context(budget.acquire("/bars"))
        with pytest.raises(RateLimited, match="2 calls are under way"):
            take(budget)
    take(budget)


def test_the_place_of_a_killed_process_is_free_after_half_a_minute(world: World) -> None:
    limits = world.limits(concurrency=1)
    killed = world.budget(limits).acquire("/bars")
    killed.__enter__()
    before = world.now
    take(world.budget(limits))
    assert 25 < world.now - before < 35


# ---- lanes


def test_a_live_call_has_room_at_once_while_a_backfill_takes_all_it_can(world: World) -> None:
    limits = LIMITS["alpaca"]
    world.saturate(world.budget(limits), 180)
    before = world.now
    take(world.budget(limits, "live"))
    assert world.now == before


def test_while_a_live_caller_waits_no_other_lane_is_served(world: World) -> None:
    limits = world.limits(Window(2, 60))
    served: list[Lane] = []

    def sleep(seconds: float) -> None:
        # Just when the next place becomes free, everybody asks.
        world.now += seconds
        for lane in ("repair", "backfill", "research"):
            try:
                take(world.budget(limits, lane, wait=0))
            except RateLimited:
                continue
            served.append(lane)

    take(world.budget(limits, "live", wait=100, sleep=sleep), 3)
    assert served == []


def test_a_trickle_of_live_calls_leaves_the_rest_to_a_backfill(world: World) -> None:
    limits = LIMITS["alpaca"]
    live, backfill = world.budget(limits, "live"), world.budget(limits)
    made = {"live": 0, "backfill": 0}
    next_live = end = world.now
    end += 120
    while world.now < end:
        if world.now >= next_live:
            take(live)
            made["live"] += 1
            next_live += 1
        take(backfill)
        made["backfill"] += 1
    assert made["live"] >= 115
    assert made["backfill"] >= 260


def _wait_for_ever(url: str, name: str, waits: Any) -> None:
    """Wait for room in the live lane at a time that does not go on."""
    limits = ProviderLimits(name, "Example", (Window(1, 600),))

    def sleep(_: float) -> None:
        waits.set()
        time.sleep(600)

    budget = ValkeyBudget(
        ValkeyLink(url), limits, "live", max_wait_seconds=900, now=lambda: START, sleep=sleep
    )
    with budget.acquire("/bars"):
        pass


def test_a_killed_caller_of_a_higher_lane_holds_nobody_up_for_long(
    world: World, servers: Endpoints
) -> None:
    limits = world.limits(Window(1, 600))
    take(world.budget(limits, "live"))
    spawn = multiprocessing.get_context("spawn")
    waits = spawn.Event()
    process = spawn.Process(target=_wait_for_ever, args=(servers.redis_url, world.name, waits))
    process.start()
    assert waits.wait(60)
    waiting = world.budget(limits).state().waiting["live"]
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    world.now += 601
    take(world.budget(limits, wait=0))
    assert waiting == 1


@pytest.mark.parametrize(
    ("lane", "calls"), [("live", 100), ("repair", 95), ("backfill", 90), ("research", 70)]
)
def test_of_a_monthly_quota_a_lane_uses_its_share(world: World, lane: Lane, calls: int) -> None:
    budget = world.budget(world.limits(monthly(100)), lane)
    with pytest.raises(RateLimited, match="the 100 a month are used"):
        take(budget, 101)
    assert budget.state().windows[0].used == calls


def test_a_monthly_quota_begins_anew_with_the_month(world: World) -> None:
    budget = world.budget(world.limits(monthly(3)), "live")
    take(budget, 3)
    with pytest.raises(RateLimited) as refused:
        take(budget)
    world.now = datetime(2027, 2, 1, 0, 0, 1, tzinfo=UTC).timestamp()
    take(budget)
    # From 08:00 on 15 January to the end of the month.
    assert refused.value.retry_after == 16 * 86_400 + 16 * 3600


# ---- what providers say


def test_what_others_have_used_is_adopted_from_the_headers(world: World) -> None:
    budget = world.budget(LIMITS["alpaca"], wait=1)
    budget.learn({"X-RateLimit-Limit": "200", "X-RateLimit-Remaining": "0"})
    with pytest.raises(RateLimited, match="the 200 a minute are used"):
        take(budget)


def test_what_was_adopted_ends_when_the_provider_says(world: World) -> None:
    budget = world.budget(LIMITS["alpaca"])
    reset = str(int(world.now) + 20)
    budget.learn(
        {"x-ratelimit-limit": "200", "x-ratelimit-remaining": "0", "x-ratelimit-reset": reset}
    )
    before = world.now
    take(budget)
    assert 20 <= world.now - before < 21


def test_more_left_than_we_think_changes_nothing(world: World) -> None:
    budget = world.budget(LIMITS["alpaca"], "live")
    take(budget, 10)
    budget.learn({"x-ratelimit-limit": "200", "x-ratelimit-remaining": "199"})
    assert budget.state().windows[0].used == 10


def test_the_weight_that_binance_has_counted_is_adopted(world: World) -> None:
    budget = world.budget(LIMITS["binance"])
    budget.learn({"x-mbx-used-weight-1m": "4500"})
    assert budget.state().windows[0].used == pytest.approx(4500, abs=150)


# ---- pauses


def fail_inside(budget: ValkeyBudget) -> None:
    with budget.acquire("/bars"):
        raise TransientError("Example answered 503 for /bars.", provider="example")


def test_a_pause_holds_for_every_process(world: World, servers: Endpoints) -> None:
    world.budget(world.limits()).pause(90, "Example answered 429 for /bars.")
    other = World(ValkeyLink(servers.redis_url))
    other.name = world.name
    with pytest.raises(RateLimited) as refused:
        take(other.budget(other.limits(), "live"))
    assert refused.value.retry_after == 90
    assert str(refused.value) == (
        "Example is paused for all processes until 2027-01-15 08:01:30 UTC (90 s), because: "
        "Example answered 429 for /bars. Calls go on by themselves then."
    )


def test_a_short_pause_is_waited_for(world: World) -> None:
    budget = world.budget(world.limits(), "live")
    budget.pause(3, "429")
    take(budget)
    assert world.now == START + 3


def test_pauses_without_a_length_double_until_a_call_comes_through(world: World) -> None:
    budget = world.budget(world.limits(), wait=2000)
    lengths = []
    for _ in range(6):
        before = world.now
        budget.pause(None, "429")
        with pytest.raises(TransientError):
            fail_inside(budget)
        lengths.append(world.now - before)
    take(budget)
    before = world.now
    budget.pause(None, "429")
    take(budget)
    assert lengths == [60, 120, 240, 480, 900, 900]
    assert world.now - before == 60


def test_refusals_of_one_moment_are_one_pause(world: World) -> None:
    budget = world.budget(world.limits(), wait=2000)
    for _ in range(6):
        budget.pause(None, "429")
    take(budget)
    assert world.now - START == 60


def test_a_pause_without_sense_is_the_usual_one(world: World) -> None:
    budget = world.budget(world.limits(), wait=2000)
    budget.pause(float("nan"), "429")
    take(budget)
    assert world.now - START == 60


# ---- without Valkey


def test_without_valkey_a_process_keeps_to_its_share_and_says_so_once(
    servers: Endpoints, tmp_path: Path
) -> None:
    told: list[str] = []
    path = tmp_path / "valkey.sock"
    world = World(ValkeyLink(f"unix://{path}", tell=told.append, again_after_seconds=0))
    budget = world.budget(LIMITS["alpaca"])
    at = world.saturate(budget, 300)
    state = budget.state()
    # 200 a minute for eight processes.
    assert 20 <= most_within(at, 60) <= 25
    assert (state.local, len(told)) == (True, 1)
    assert state.note == (
        "Valkey cannot be used (ConnectionError): this process keeps to 1/8 of the limits."
    )


def test_when_valkey_is_back_the_calls_made_meanwhile_are_counted(
    servers: Endpoints, tmp_path: Path
) -> None:
    told: list[str] = []
    path = tmp_path / "valkey.sock"
    world = World(ValkeyLink(f"unix://{path}", tell=told.append, again_after_seconds=0))
    budget = world.budget(LIMITS["alpaca"])
    take(budget, 3)
    path.symlink_to(urlsplit(servers.redis_url).path)
    take(budget)
    assert (budget.state().local, budget.state().windows[0].used) == (False, 4)
    assert told[-1] == "Valkey answers again: all processes share the providers' limits."


def test_a_pause_without_valkey_is_told_to_the_others_later(
    servers: Endpoints, tmp_path: Path
) -> None:
    path = tmp_path / "valkey.sock"
    world = World(ValkeyLink(f"unix://{path}", tell=lambda _: None, again_after_seconds=0))
    budget = world.budget(LIMITS["alpaca"], "live")
    budget.pause(100, "429")
    path.symlink_to(urlsplit(servers.redis_url).path)
    with pytest.raises(RateLimited):
        take(budget)
    state = budget.state()
    assert (state.local, state.paused_why) == (False, "429")


# ---- what is shown


def test_the_state_says_what_is_used_and_when_it_is_free_again(world: World) -> None:
    budget = world.budget(LIMITS["alpaca"], "live")
    take(budget, 5)
    shown = budget.state().windows[0]
    assert (shown.used, shown.limit, shown.remaining) == (5, 200, 195)
    # A minute and the half second that it is widened by.
    assert shown.resets_at == datetime(2027, 1, 15, 8, 1, 0, 500_000, tzinfo=UTC)


def test_the_forecast_of_a_backfill_is_near_what_it_takes(world: World) -> None:
    budget = world.budget(LIMITS["alpaca"])
    world.saturate(budget, 90)
    expected = budget.forecast(500)
    before = world.now
    take(budget, 500)
    assert expected == pytest.approx(world.now - before, rel=0.1)


# ---- breaker


def fail(breaker: ValkeyBreaker, times: int = 1) -> None:
    for _ in range(times):
        breaker.failed(TransientError("Example answered 503 for /bars.", provider="example"))


def test_failures_of_all_processes_open_the_breaker_together(world: World) -> None:
    first, second = world.breaker(), world.breaker()
    fail(first, 3)
    fail(second, 2)
    with pytest.raises(TransientError) as refused:
        first.check()
    assert str(refused.value) == (
        "Example is left alone until 2027-01-15 08:00:30 UTC (30 s) after 5 failures in a row; "
        "the last: Example answered 503 for /bars. The next call then tries again by itself."
    )


def test_one_process_tries_whether_the_provider_is_back(world: World) -> None:
    first, second = world.breaker(), world.breaker()
    fail(first, 5)
    world.now += 31
    first.check()
    with pytest.raises(TransientError):
        second.check()
    first.succeeded()
    second.check()


def test_a_breaker_without_valkey_goes_by_its_own_calls(world: World, tmp_path: Path) -> None:
    away = ValkeyLink(f"unix://{tmp_path}/none.sock", tell=lambda _: None)
    breaker = ValkeyBreaker(away, "example", "Example", clock=lambda: world.now)
    fail(breaker, 5)
    with pytest.raises(TransientError):
        breaker.check()


def test_the_last_error_is_shown_after_the_breaker_has_closed(world: World) -> None:
    breaker = world.breaker()
    fail(breaker)
    breaker.succeeded()
    health = breaker.health()
    assert (health.is_open, health.last_error) == (False, "Example answered 503 for /bars.")


# ---- ledger and spending


def test_the_calls_of_all_processes_are_one_count(world: World) -> None:
    for _ in range(2):
        ledger = ValkeyLedger(world.link, world.name)
        ledger.count("/bars", "ok", 0.25)
        ledger.count("/bars", "RateLimited", 0.1)
    found = {
        used.outcome: (used.calls, used.seconds)
        for used in read_usage(world.link)
        if used.provider == world.name
    }
    assert found == {"ok": (2, 0.5), "RateLimited": (2, 0.2)}


def test_calls_counted_without_valkey_are_written_when_it_is_back(
    servers: Endpoints, tmp_path: Path
) -> None:
    path = tmp_path / "valkey.sock"
    link = ValkeyLink(f"unix://{path}", tell=lambda _: None, again_after_seconds=0)
    world = World(link)
    ledger = ValkeyLedger(link, world.name)
    ledger.count("/bars", "ok", 1.0)
    path.symlink_to(urlsplit(servers.redis_url).path)
    ledger.count("/bars", "ok", 1.0)
    assert [used.calls for used in read_usage(link) if used.provider == world.name] == [2]


def test_prometheus_reads_calls_budget_breaker_and_spending(world: World) -> None:
    budget, breaker = world.budget(world.limits(Window(200, 60))), world.breaker()
    guard = world_guard(world, {world.name: Price(per_call_usd=0.5)})
    ledger = ValkeyLedger(world.link, world.name, guard)
    take(budget)
    ledger.check("/bars")
    ledger.count("/bars", "ok", 0.25)
    fail(breaker, 5)
    registry = CollectorRegistry()
    registry.register(
        UsageCollector(world.link, lambda: [budget], lambda: [(world.name, breaker)], guard)
    )
    lines = generate_latest(registry).decode().splitlines()
    call = f'endpoint="/bars",outcome="ok",provider="{world.name}"'
    assert f"scizor_provider_calls_total{{{call}}} 1.0" in lines
    assert f"scizor_provider_call_seconds_total{{{call}}} 0.25" in lines
    window = f'group="",provider="{world.name}",window="60s"'
    assert f"scizor_provider_budget_used{{{window}}} 1.0" in lines
    assert f"scizor_provider_budget_remaining{{{window}}} 199.0" in lines
    assert f'scizor_provider_breaker_open{{provider="{world.name}"}} 1.0' in lines
    assert f'scizor_provider_spent_usd{{provider="{world.name}"}} 0.5' in lines


def world_guard(
    world: World, prices: dict[str, Price], cap: float = 100, journal: Path | None = None
) -> SpendingGuard:
    return SpendingGuard(
        world.link, prices, cap, journal, lambda: world.now, prefix=f"spent:{world.name}"
    )


def test_the_call_that_would_go_beyond_the_cap_is_refused(world: World) -> None:
    guard = world_guard(world, {"nansen": Price(per_call_usd=0.4), "glassnode": Price(0.3)}, 1.0)
    guard.charge("nansen")
    guard.charge("glassnode")
    with pytest.raises(AuthError) as refused:
        guard.charge("nansen", "/tgm/flows")
    guard.charge("glassnode")
    assert str(refused.value) == (
        "nansen is not called: 0.70 of 1.00 USD are spent in 2027-01 (UTC) and the next call costs "
        "0.4 USD. Raise the spending cap in the settings, or wait for the next month."
    )
    assert guard.spent() == {"glassnode": 0.6, "nansen": 0.4}


def test_a_providers_own_cap_stops_that_provider_alone(world: World) -> None:
    prices = {"nansen": Price(1.0, cap_usd=2.0), "glassnode": Price(1.0)}
    guard = world_guard(world, prices)
    guard.charge("nansen", calls=2)
    with pytest.raises(AuthError, match="of 2.00 USD for nansen"):
        guard.charge("nansen")
    guard.charge("glassnode")


def test_spending_begins_anew_with_the_month_in_utc(world: World) -> None:
    guard = world_guard(world, {"nansen": Price(100.0)})
    guard.charge("nansen")
    world.now = datetime(2027, 2, 1, tzinfo=UTC).timestamp()
    guard.charge("nansen")
    assert guard.spent() == {"nansen": 100.0}


def test_a_plan_is_paid_once_a_month(world: World) -> None:
    guard = world_guard(world, {"nansen": Price(plan_usd=49.0)})
    guard.charge("nansen")
    guard.charge("nansen")
    assert guard.spent() == {"nansen": 49.0}


def test_spending_outlives_a_valkey_that_lost_its_data(world: World, tmp_path: Path) -> None:
    journal = tmp_path / "spending.json"
    world_guard(world, {"nansen": Price(60.0)}, journal=journal).charge("nansen")
    world.link.call(lambda client: client.delete(f"spent:{world.name}:2027-01"))
    with pytest.raises(AuthError):
        world_guard(world, {"nansen": Price(60.0)}, journal=journal).charge("nansen")


def test_without_valkey_the_file_says_what_was_spent(world: World, tmp_path: Path) -> None:
    journal = tmp_path / "spending.json"
    world_guard(world, {"nansen": Price(60.0)}, journal=journal).charge("nansen")
    away = World(ValkeyLink(f"unix://{tmp_path}/none.sock", tell=lambda _: None))
    with pytest.raises(AuthError, match="60.00 of 100.00 USD"):
        world_guard(away, {"nansen": Price(60.0)}, journal=journal).charge("nansen")


def test_a_spending_file_that_cannot_be_written_does_not_stop_calls(
    world: World, tmp_path: Path
) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    guard = world_guard(world, {"nansen": Price(1.0)}, journal=blocked / "spending.json")
    guard.charge("nansen")
    assert guard.spent() == {"nansen": 1.0}


def test_a_paid_call_that_was_not_made_is_not_paid_twice(world: World) -> None:
    guard = world_guard(world, {world.name: Price(1.0)})
    ledger = ValkeyLedger(world.link, world.name, guard)
    ledger.check("/bars")
    ledger.check("/bars")
    ledger.count("/bars", "ok", 0.1)
    assert guard.spent() == {world.name: 1.0}


# ---- real processes against a real server


@contextmanager
def counting_server() -> Iterator[tuple[int, list[float]]]:
    """Give the port of a server and the list it writes each request's arrival to."""
    arrivals: list[float] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path != "/warm":
                arrivals.append(time.monotonic())
            self.send_response(204)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server.server_address[1], arrivals
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _caller(port: int) -> Callable[[str], None]:
    connection = http.client.HTTPConnection("127.0.0.1", port)

    def call(path: str) -> None:
        connection.request("GET", path)
        connection.getresponse().read()

    call("/warm")
    return call


def _saturate(url: str, limits: ProviderLimits, port: int, ready: Any, go: Any, end: float) -> None:
    call = _caller(port)
    budget = ValkeyBudget(ValkeyLink(url), limits, "backfill", max_wait_seconds=300)
    budget.state()
    ready.release()
    go.wait()
    stop = time.monotonic() + end
    while time.monotonic() < stop:
        with budget.acquire("/bars"):
            call("/bars")


def _ask_each_second(
    url: str,
    limits: ProviderLimits,
    port: int,
    ready: Any,
    go: Any,
    end: float,
    waits: "Queue[list[float]]",
) -> None:
    call = _caller(port)
    budget = ValkeyBudget(ValkeyLink(url), limits, "live", max_wait_seconds=300)
    budget.state()
    ready.release()
    go.wait()
    started, found = time.monotonic(), []
    for number in range(int(end) - 1):
        time.sleep(max(0.0, started + number + 1 - time.monotonic()))
        asked = time.monotonic()
        with budget.acquire("/quote"):
            found.append(time.monotonic() - asked)
            call("/quote")
    waits.put(found)


def seven_processes(
    url: str, limits: ProviderLimits, seconds: float
) -> tuple[list[float], list[float]]:
    """Let six processes take all they can and a seventh ask each second in the live lane.

    Returns:
        When the server saw a request, and how long the seventh waited for room.
    """
    spawn: SpawnContext = multiprocessing.get_context("spawn")
    ready, go, waits = spawn.Semaphore(0), spawn.Event(), spawn.Queue()
    with counting_server() as (port, arrivals):
        shared = (url, limits, port, ready, go, seconds)
        processes: list[SpawnProcess] = [
            spawn.Process(target=_saturate, args=shared) for _ in range(6)
        ]
        processes.append(spawn.Process(target=_ask_each_second, args=(*shared, waits)))
        for process in processes:
            process.start()
        for _ in processes:
            assert ready.acquire(timeout=60)
        go.set()
        found = waits.get(timeout=seconds + 60)
        for process in processes:
            process.join(60)
        assert [process.exitcode for process in processes] == [0] * 7
    return arrivals, found


def used_within(arrivals: list[float], seconds: float) -> int:
    first = min(arrivals)
    return sum(1 for each in arrivals if each - first < seconds)


def test_six_processes_share_a_budget_and_a_live_caller_does_not_wait(
    servers: Endpoints, world: World
) -> None:
    arrivals, waits = seven_processes(servers.redis_url, world.limits(Window(60, 6)), 12)
    assert most_within(arrivals, 6) <= 60
    assert used_within(arrivals, 12) > 0.95 * 120
    # A bound on waiting is what is claimed here.
    assert max(waits) < 2


@pytest.mark.slow
def test_six_processes_use_200_calls_a_minute_and_never_more(
    servers: Endpoints, world: World
) -> None:
    arrivals, waits = seven_processes(servers.redis_url, world.limits(Window(200, 60)), 60)
    assert most_within(arrivals, 60) <= 200
    assert used_within(arrivals, 60) > 0.95 * 200
    assert max(waits) < 2


@pytest.mark.slow
def test_in_two_minutes_six_processes_keep_every_minute_within_200_calls(
    servers: Endpoints, world: World
) -> None:
    arrivals, waits = seven_processes(servers.redis_url, world.limits(Window(200, 60)), 125)
    assert most_within(arrivals, 60) <= 200
    assert used_within(arrivals, 120) > 0.95 * 400
    assert max(waits) < 2


def test_every_lane_is_known_to_the_state(world: World) -> None:
    assert tuple(world.budget(world.limits(Window(1, 1))).state().waiting) == LANES
