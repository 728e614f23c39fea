"""What is believed of the headers about rate limits."""

import pytest

from scizor_resources.budget.headers import Remaining, parse_headers

NOW = 1_800_000_000.0


def test_alpacas_headers_name_limit_remaining_and_an_instant() -> None:
    headers = {
        "X-RateLimit-Limit": "200",
        "X-RateLimit-Remaining": "198",
        "X-RateLimit-Reset": "1800000042",
    }
    assert parse_headers(headers, NOW) == Remaining(198, limit=200, resets_at=NOW + 42)


def test_reddits_headers_are_texts_of_floats_and_seconds_from_now() -> None:
    headers = {
        "x-ratelimit-remaining": "590.0",
        "x-ratelimit-used": "10",
        "x-ratelimit-reset": "246",
    }
    assert parse_headers(headers, NOW) == Remaining(590, resets_at=NOW + 246)


def test_xs_headers_have_a_hyphen_more() -> None:
    headers = {"x-rate-limit-limit": "450", "x-rate-limit-remaining": "449"}
    assert parse_headers(headers, NOW) == Remaining(449, limit=450)


def test_an_instant_in_milliseconds_is_understood() -> None:
    headers = {"x-ratelimit-remaining": "1", "x-ratelimit-reset": "1800000042000"}
    assert parse_headers(headers, NOW) == Remaining(1, resets_at=NOW + 42)


def test_binance_says_the_weight_that_a_minute_has_used() -> None:
    headers = {"X-MBX-USED-WEIGHT-1M": "4500", "X-MBX-USED-WEIGHT": "4500"}
    assert parse_headers(headers, NOW) == Remaining(None, used=4500, seconds=60)


@pytest.mark.parametrize(
    "value", ["-1", "nan", "inf", "many", "", "99999999999"], ids=lambda value: value or "empty"
)
def test_a_count_without_sense_says_nothing(value: str) -> None:
    assert parse_headers({"x-ratelimit-remaining": value}, NOW) is None


def test_more_left_than_the_limit_says_nothing() -> None:
    headers = {"x-ratelimit-limit": "10", "x-ratelimit-remaining": "11"}
    assert parse_headers(headers, NOW) is None


@pytest.mark.parametrize("reset", ["-5", "nan", "soon"])
def test_a_reset_without_sense_is_left_out(reset: str) -> None:
    headers = {"x-ratelimit-remaining": "3", "x-ratelimit-reset": reset}
    assert parse_headers(headers, NOW) == Remaining(3)


def test_other_headers_say_nothing() -> None:
    assert parse_headers({"Content-Type": "application/json"}, NOW) is None
