"""`scizor providers` and what stands behind it: budget, breaker, accounts, spending, queue."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from scizor_assets.definitions import defs
from scizor_assets.pending import pending_partitions
from scizor_cli.main import app
from scizor_cli.providers import look
from scizor_resources.errors import AuthError, TransientError
from scizor_resources.platform import Platform
from scizor_resources.providers.base import BarRequest, SymbolRef
from scizor_resources.stores.providers import CollectorRun
from tests.contract.lab.alpaca import PROVIDERS as ALPACA
from tests.contract.lab.server import Row

FIRST = datetime(2026, 11, 19, 15, 0, tzinfo=UTC)
WINDOW = BarRequest("us", "1m", FIRST, FIRST + timedelta(minutes=5), (SymbolRef(1, "AAPL"),))


@pytest.fixture
def lab() -> Iterator[Any]:
    (provider,) = [each for each in ALPACA if each.market == "us"]
    with provider.lab() as running:
        running.put(
            provider.wire_symbols[0], "1m", [Row(FIRST + timedelta(minutes=n)) for n in range(5)]
        )
        yield running


@pytest.fixture
def alpaca(platform: Platform, lab: Any) -> Platform:
    """A platform whose alpaca is the lab, with a key and at a price."""
    from tests.contract.lab.alpaca import KEY_ID, SECRET

    platform.settings = platform.settings.model_copy(
        update={
            "alpaca_base_url": lab.url,
            "alpaca_api_key": SecretStr(KEY_ID),
            "alpaca_secret": SecretStr(SECRET),
            "alpaca_cost_per_call_usd": 40.0,
            "provider_timeout_seconds": 1.0,
        }
    )
    return platform


def report_of(platform: Platform, name: str, **queued: int) -> Any:
    (found,) = [each for each in look(platform, queued) if each.name == name]
    return found


def test_a_provider_without_its_key_says_which_variable_is_missing(platform: Platform) -> None:
    answer = CliRunner().invoke(app, ["providers"], env={"COLUMNS": "200"})

    assert answer.exit_code == 0, answer.output
    assert "set SCIZOR_ALPACA_API_KEY and SCIZOR_ALPACA_SECRET" in answer.stdout
    assert "set SCIZOR_FINNHUB_API_KEY" in answer.stdout
    assert "set SCIZOR_IBKR_BASE_URL" in answer.stdout


def test_calls_show_in_budget_accounts_and_metrics(alpaca: Platform) -> None:
    before = report_of(alpaca, "alpaca")
    assert (before.health, before.budget_used, before.last_call_at) == ("ok", 0, None)

    alpaca.source("alpaca").fetch_bars(WINDOW)

    after = report_of(alpaca, "alpaca")
    assert (after.budget_used, after.budget_limit, after.spent_usd) == (1, 200, 40.0)
    assert after.last_call_at is not None
    assert after.budget_resets_at is not None
    text = CliRunner().invoke(app, ["providers", "--metrics"]).stdout
    line = next(
        each
        for each in text.splitlines()
        if each.startswith("scizor_provider_calls_total{") and 'provider="alpaca"' in each
    )
    assert 'outcome="ok"' in line
    assert line.endswith(" 1.0")


def test_the_spending_cap_stops_calls_with_a_clear_reason(alpaca: Platform, lab: Any) -> None:
    source = alpaca.source("alpaca")
    source.fetch_bars(WINDOW)
    source.fetch_bars(WINDOW)

    with pytest.raises(AuthError, match=r"80\.00 of 100\.00 USD are spent .* next call costs 40"):
        source.fetch_bars(WINDOW)

    assert len(lab.data_requests) == 2


def test_a_provider_that_fails_again_and_again_is_left_alone(alpaca: Platform, lab: Any) -> None:
    alpaca.settings = alpaca.settings.model_copy(update={"alpaca_cost_per_call_usd": 0.0})
    source = alpaca.source("alpaca")
    source.gate.sleep = lambda _seconds: None
    lab.inject("server_error")
    for _ in range(2):
        with pytest.raises(TransientError):
            source.fetch_bars(WINDOW)
    asked = len(lab.data_requests)
    assert asked >= 5

    with pytest.raises(TransientError):
        source.fetch_bars(WINDOW)

    assert len(lab.data_requests) == asked
    report = report_of(alpaca, "alpaca")
    assert report.health == "open"
    assert "failures in a row" in report.health_detail
    assert "Alpaca" in report.last_error


def test_a_pause_that_a_provider_asks_for_is_shown(alpaca: Platform) -> None:
    alpaca.budget("alpaca").pause(90, "429 too many requests")

    report = report_of(alpaca, "alpaca")

    assert report.health == "paused"
    assert "429 too many requests" in report.health_detail


def test_queued_work_has_a_forecast_end(alpaca: Platform) -> None:
    report = report_of(alpaca, "alpaca", alpaca=1000)

    # 1,000 calls at 200 a minute take nearly five minutes.
    seconds = (report.queue_ends_at - datetime.now(UTC)).total_seconds()
    assert 200 < seconds < 400


def test_queued_runs_and_backfills_count_by_partition() -> None:
    with dg.instance_for_test() as instance:
        for tags in (
            {"dagster/partition": "2022-01-10"},
            {
                "dagster/asset_partition_range_start": "2022-01-10",
                "dagster/asset_partition_range_end": "2022-01-14",
            },
        ):
            instance.create_run_for_job(
                defs.resolve_job_def("us_session"),
                tags=tags,
                status=dg.DagsterRunStatus.NOT_STARTED,
                asset_selection=frozenset({dg.AssetKey(["us", "bars_1m"])}),
            )
        assert pending_partitions(instance, defs)["us/bars_1m"] == 1 + 5


def test_json_has_a_row_per_provider(platform: Platform) -> None:
    answer = CliRunner().invoke(app, ["providers", "--json"])

    rows = {row["name"]: row for row in json.loads(answer.stdout)}
    assert rows["kraken"]["configured"]
    assert rows["kraken"]["markets"] == ["crypto"]
    assert rows["finnhub"]["missing"] == ["SCIZOR_FINNHUB_API_KEY"]


def test_a_wrong_key_shows_as_the_last_error(alpaca: Platform) -> None:
    alpaca.providers.record(
        [
            CollectorRun(
                provider="alpaca",
                asset="us/bars_1m",
                partition="2026-11-19",
                dagster_run_id="",
                status="failed",
                started_at=FIRST,
                completed_at=FIRST + timedelta(seconds=1),
                requests=1,
                error="Alpaca answered 401 for /v2/stocks/bars: unauthorized.",
            )
        ]
    )

    report = report_of(alpaca, "alpaca")

    assert report.last_error.startswith("Alpaca answered 401")
    assert report.last_call_at == FIRST + timedelta(seconds=1)
