"""Stored bars against a second source: what is asked, what is kept, what is said."""

from datetime import UTC, date, datetime
from typing import Any

import dagster as dg
import pytest

from scizor_assets.build import build_defs
from scizor_core.markets import Timeframe
from scizor_resources.errors import TransientError
from scizor_resources.pipeline import second_source
from scizor_resources.pipeline.second_source import Reconciliation, SecondSource
from scizor_resources.platform import Platform
from scizor_resources.providers.base import BarSource

from .helpers import FailingSource, FixedSource, collector, execute, fingerprint, flat, query

#: A week of Sydney, 4 to 10 January 2022, and some five minutes of its Wednesday.
WEEK = (date(2022, 1, 4), date(2022, 1, 11))
TIMES = ["2022-01-05 00:00", "2022-01-05 00:05", "2022-01-05 00:10"]
NOW = datetime(2022, 1, 15, 5, tzinfo=UTC)


def source(name: str, symbol: str = "CBA", price: float = 10.0, **more: Any) -> FixedSource:
    rows = flat(symbol, more.pop("times", TIMES), price)
    return FixedSource(rows.assign(source=name), name, **more)


def compare(
    platform: Platform,
    *sources: BarSource,
    symbols: list[str] | None = None,
    timeframes: tuple[Timeframe, ...] = ("5m",),
) -> Reconciliation:
    return SecondSource(
        "asx",
        warehouse=platform.warehouse,
        reference=platform.reference,
        providers=platform.providers,
        sources=sources,
        now=lambda: NOW,
    ).compare(*WEEK, timeframes, symbols, dagster_run_id="some run")


@pytest.fixture
def first(platform: Platform) -> FixedSource:
    """The provider whose bars of CBA are stored."""
    made = source("first")
    collector(platform, "5m", made, now=lambda: NOW).collect(*WEEK, ["CBA"])
    return made


def test_the_first_provider_that_has_not_delivered_them_is_asked(
    platform: Platform, first: FixedSource
) -> None:
    second, third = source("second"), source("third")
    asked_before = len(first.asked)
    report = compare(platform, first, second, third, symbols=["CBA"])
    assert (len(first.asked) - asked_before, len(second.asked), len(third.asked)) == (0, 1, 0)
    assert report.pairs == {"first and second": 3}
    assert (report.agreement, report.empty_reason) == (1.0, None)


def test_prices_that_are_apart_are_kept_and_stored_bars_stay(
    platform: Platform, first: FixedSource
) -> None:
    before = fingerprint(platform)["market.bars"]
    # The first two bars are 1 % higher there, the third one agrees.
    rows = [flat("CBA", TIMES[:2], 10.1), flat("CBA", TIMES[2:], 10.001)]
    second = source("second")
    second.rows = second.rows.assign(**{
        name: [*rows[0][name], *rows[1][name]] for name in ("open", "high", "low", "close")
    })  # fmt: skip
    report = compare(platform, first, second, symbols=["CBA"])
    assert (report.compared["5m"], report.differing["5m"], report.newly_found) == (3, 2, 2)
    assert report.agreement == pytest.approx(1 / 3)
    kept = query(
        platform,
        "SELECT ts, kept_source, other_source, kept ->> 'close' AS kept, "
        "other ->> 'close' AS other FROM quality.disagreements ORDER BY ts",
    )
    assert [row["ts"].minute for row in kept] == [0, 5]
    assert {tuple(row.values())[1:] for row in kept} == {("first", "second", "10.0", "10.1")}
    assert fingerprint(platform)["market.bars"] == before
    assert compare(platform, first, second, symbols=["CBA"]).newly_found == 0


def test_bars_that_only_one_of_them_has_are_counted(platform: Platform, first: FixedSource) -> None:
    second = source("second", times=[TIMES[0], "2022-01-05 00:15", "2022-01-05 00:20"])
    report = compare(platform, first, second, symbols=["CBA"])
    assert (report.only_stored["5m"], report.only_there["5m"]) == (2, 2)
    assert report.compared["5m"] == 1


def test_without_a_second_provider_it_says_so(platform: Platform, first: FixedSource) -> None:
    daily_only = source("second", timeframes=("1d",))
    report = compare(platform, first, daily_only, symbols=["CBA"])
    assert report.empty_reason == (
        "beside first no provider of 5m bars is configured for asx: add one to SCIZOR_CHAIN_ASX"
    )


def test_where_nothing_is_stored_nobody_is_asked(platform: Platform, first: FixedSource) -> None:
    second = source("second")
    report = compare(platform, first, second, symbols=["BHP"])
    assert second.asked == []
    assert report.empty_reason == "no final 5m bars are stored for these days"


def test_invented_prices_are_not_compared(platform: Platform) -> None:
    made = source("simulated")
    collector(platform, "5m", made, now=lambda: NOW).collect(*WEEK, ["CBA"])
    assert compare(platform, source("second"), symbols=["CBA"]).compared.total() == 0


def test_a_provider_that_fails_is_said_and_booked(platform: Platform, first: FixedSource) -> None:
    error = TransientError("failing did not answer.", provider="failing", endpoint="/bars")
    report = compare(platform, first, FailingSource(error), symbols=["CBA"])
    assert report.failures == {"failing": "failing did not answer."}
    assert report.last_error is error
    (account,) = query(platform, "SELECT * FROM collector_runs WHERE dagster_run_id = 'some run'")
    assert (account["provider"], account["asset"]) == ("failing", "asx/reconciliation")
    assert (account["status"], account["error"]) == ("failed", "failing did not answer.")


def test_by_default_the_watchlist_is_compared_by_turns(
    platform: Platform, first: FixedSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(second_source, "SYMBOLS_A_WEEK", 7)
    watched = {each.symbol for each in platform.reference.watchlist("asx", active_only=True)}
    turns = [
        SecondSource(
            "asx",
            warehouse=platform.warehouse,
            reference=platform.reference,
            providers=platform.providers,
            sources=[first],
            now=lambda: NOW,
        )
        .compare(date(2022, 1, 1 + 7 * week), date(2022, 1, 8 + 7 * week), ["5m"])
        .symbols
        for week in range(3)
    ]
    assert [len(each) for each in turns] == [7, 7, 7]
    assert {symbol for each in turns for symbol in each} == watched


def test_the_asset_says_why_nothing_is_compared_in_a_chain_of_one(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = platform.settings.model_copy(update={"chain_asx": ("tape", "yahoo")})
    monkeypatch.setattr(platform, "settings", chosen)
    stored = source("yahoo")
    collector(platform, "5m", stored, now=lambda: NOW).collect(*WEEK, ["CBA"])
    execute(platform, "DELETE FROM public.watchlist WHERE symbol <> 'CBA'")
    defs = build_defs({"platform": dg.ResourceDefinition.hardcoded_resource(platform)}, marts=False)
    config = {"until": "2022-01-11", "timeframes": ["5m"]}
    with dg.DagsterInstance.ephemeral() as instance:
        result = defs.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=instance,
            asset_selection=[dg.AssetKey(["asx", "reconciliation"])],
            run_config={
                "ops": {"asx__reconciliation": {"config": config}},
                "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
            },
        )
    (event,) = result.asset_materializations_for_node("asx__reconciliation")
    assert event.metadata["bars_compared"].value == 0
    assert event.metadata["empty_reason"].value == (
        "beside yahoo no provider of 5m bars is configured for asx: add one to SCIZOR_CHAIN_ASX"
    )
