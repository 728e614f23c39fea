"""The providers' limits as data, and the margins below them."""

import pytest

from scizor_core.errors import ConfigError
from scizor_resources.budget.limits import (
    LIMITS,
    ProviderLimits,
    Window,
    limits_of,
    monthly,
    with_requests_per_minute,
)
from scizor_resources.providers.gate import LANES


@pytest.mark.parametrize(
    "name", ["yahoo", "alpaca", "finnhub", "kraken", "binance", "coinbase", "coinspot", "ibkr"]
)
def test_every_provider_has_limits(name: str) -> None:
    assert LIMITS[name].windows


@pytest.mark.parametrize(
    "window",
    [Window(60, 6), Window(200, 60), Window(60, 60), Window(6000, 60), Window(60, 600)],
    ids=repr,
)
def test_the_margins_leave_over_95_percent_of_a_window(window: Window) -> None:
    for lane in LANES:
        assert window.allowed(lane) * window.seconds / window.kept_seconds > 0.95 * window.limit


@pytest.mark.parametrize("seconds", [1, 2, 6, 10, 60, 600])
def test_a_paced_window_is_kept_longer_than_it_is(seconds: float) -> None:
    assert Window(10, seconds).kept_seconds >= seconds + 0.2


def test_a_month_is_not_paced() -> None:
    assert not monthly(100).is_paced


def test_a_quota_of_one_call_is_open_to_every_lane() -> None:
    assert [monthly(1).allowed(lane) for lane in LANES] == [1, 1, 1, 1]


def test_the_users_rate_takes_the_place_of_the_providers() -> None:
    assert limits_of("alpaca", 10_000).windows == (Window(10_000, 60),)


def test_a_faster_limit_by_the_second_stays_beside_the_users_rate() -> None:
    assert limits_of("finnhub", 300).windows == (Window(30, 1), Window(300, 60))


def test_a_limit_by_the_second_that_is_slower_than_the_users_rate_goes() -> None:
    assert limits_of("kraken", 120).windows == (Window(120, 60),)


def test_a_quota_stays_beside_the_users_rate() -> None:
    limits = ProviderLimits("cryptopanic", "CryptoPanic", (Window(2, 1), monthly(100)))
    assert with_requests_per_minute(limits, 30).windows == (
        Window(2, 1),
        monthly(100),
        Window(30, 60),
    )


@pytest.mark.parametrize("requests", [0, -5])
def test_a_rate_below_one_names_its_setting(requests: int) -> None:
    with pytest.raises(ConfigError, match="SCIZOR_ALPACA_REQUESTS_PER_MINUTE"):
        limits_of("alpaca", requests)


def test_a_negative_limit_is_refused() -> None:
    with pytest.raises(ConfigError, match="1 or more, not -1"):
        Window(-1, 60)


def test_a_provider_nobody_knows_has_no_limits_of_its_own() -> None:
    assert limits_of("example").windows == ()


def test_the_callers_weight_goes_before_the_table() -> None:
    limits = ProviderLimits("example", "Example", endpoint_weights={"/klines": 2})
    assert [limits.weight_of("/klines", 1), limits.weight_of("/klines", 5)] == [2, 5]
