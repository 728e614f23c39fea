"""Corporate actions and listings on a real database: stored, judged, collected again, queryable."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pandas as pd
import pytest
from typer.testing import CliRunner

from scizor_assets.build import build_defs
from scizor_cli import listing
from scizor_core.adjust import SPLIT_ADJUSTED_SOURCES
from scizor_core.errors import InvalidInputError, UnknownSymbolError
from scizor_core.instruments import WatchlistEntry
from scizor_core.markets import TIMEFRAMES, Timeframe
from scizor_resources.errors import BadRequest, ProviderError, TransientError
from scizor_resources.market_data import MarketData
from scizor_resources.pipeline.actions import ActionCollector, ActionSource, action_sources
from scizor_resources.pipeline.enrich import enrich
from scizor_resources.platform import Platform
from scizor_resources.providers.actions import CorporateAction
from scizor_resources.providers.alpaca.source import CAPABILITIES as ALPACA
from scizor_resources.providers.base import Capabilities
from scizor_resources.providers.finnhub.source import CAPABILITIES as FINNHUB
from scizor_resources.providers.finnhub.source import FinnhubSource
from scizor_resources.providers.gate import Gate
from scizor_resources.providers.ibkr.source import CAPABILITIES as IBKR
from scizor_resources.providers.yahoo.source import CAPABILITIES as YAHOO

from .helpers import FixedSource, collector, execute, flat, query, rows_of

EX_DATE = date(2020, 8, 31)
AFTER = datetime(2020, 9, 1, 12, tzinfo=UTC)
BEFORE_SPLIT = "2020-08-29 12:00+00"
# Apple as traded: sessions before its split of 4 for 1, and the first in new shares.
TRADED = {
    "2020-08-21": 497.48,
    "2020-08-24": 503.43,
    "2020-08-25": 499.30,
    "2020-08-26": 506.09,
    "2020-08-27": 500.04,
    "2020-08-28": 499.23,
}
FIRST_NEW = rows_of("AAPL", [("2020-08-31", 127.58, 131.0, 126.0, 129.04, 225.0)])


class Rewriter(FixedSource):
    """A provider that adjusts its history for splits, as Yahoo does."""

    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, adjusted=True, max_age={"5m": timedelta(days=60)})


class Actions:
    """A provider of corporate actions that says what it was told to."""

    def __init__(
        self, *actions: CorporateAction, name: str = "yahoo", error: ProviderError | None = None
    ) -> None:
        self.name, self.batch_size = name, 1
        self.actions, self._error = actions, error

    def fetch_actions(
        self, market: str, symbols: Sequence[str], start: date, end: date
    ) -> list[CorporateAction]:
        if self._error is not None:
            raise self._error
        return [
            each
            for each in self.actions
            if each.market == market and each.symbol in symbols and start <= each.ex_date < end
        ]


def split(ratio: float = 4, source: str = "yahoo", day: date = EX_DATE) -> CorporateAction:
    return CorporateAction("AAPL", "us", day, "split", source, 1, ratio, payload={"says": source})


def dividend(amount: float, source: str = "yahoo", day: date = EX_DATE) -> CorporateAction:
    return CorporateAction(
        "AAPL", "us", day, "dividend", source, cash_amount=amount, currency="USD"
    )


def daily(ratio: float = 1.0, source: str = "yahoo") -> pd.DataFrame:
    """Return the sessions before the split, in shares of which `ratio` make an old one."""
    rows = [(day, *[close / ratio] * 4, 100 * ratio) for day, close in TRADED.items()]
    return rows_of("AAPL", rows).assign(source=source)


@pytest.fixture
def apple(platform: Platform) -> int:
    """The id of AAPL, the only equity that is watched."""
    execute(platform, "UPDATE public.watchlist SET active = false")
    platform.reference.add([WatchlistEntry("us", "AAPL")])
    return platform.reference.ensure("us", "AAPL")[0].instrument_id


def store(
    platform: Platform, source: FixedSource, timeframe: Timeframe = "1d", at: str = BEFORE_SPLIT
) -> None:
    """Collect what a source has and pretend that it came at that time."""
    collector(platform, timeframe, source, market="us", now=lambda: AFTER).collect(
        date(2020, 8, 1), date(2020, 9, 1), ["AAPL"]
    )
    execute(platform, "UPDATE market.bars SET ingested_at = %s WHERE timeframe = %s", at, timeframe)


def keeper(
    platform: Platform,
    source: FixedSource,
    *actions: Actions,
    now: datetime = AFTER,
) -> ActionCollector:
    def told(_sources: object) -> list[ActionSource]:
        return list(actions)

    return ActionCollector(
        warehouse=platform.warehouse,
        reference=platform.reference,
        actions=platform.actions,
        providers=platform.providers,
        alerts=platform.alerts,
        sources=lambda market: [source] if market == "us" else [],
        collector=lambda market, timeframe: collector(
            platform, timeframe, source, market=market, now=lambda: now
        ),
        action_sources=told,
        now=lambda: now,
    )


def alerts(platform: Platform) -> list[tuple[str, str]]:
    rows = query(platform, "SELECT kind, severity FROM public.alerts ORDER BY alert_id")
    return [(row["kind"], row["severity"]) for row in rows]


def stored_actions(platform: Platform) -> list[tuple[str, str, bool]]:
    rows = query(
        platform,
        "SELECT kind, source, applied FROM reference.corporate_actions "
        "WHERE symbol = 'AAPL' AND market = 'us' ORDER BY kind, source",
    )
    return [(row["kind"], row["source"], row["applied"]) for row in rows]


# ---- storing


def test_what_every_provider_says_is_kept_and_one_counts(platform: Platform, apple: int) -> None:
    source = FixedSource()
    told = [
        Actions(split(), dividend(0.205)),
        Actions(dividend(0.205, "alpaca"), name="alpaca"),
        Actions(split(source="finnhub"), name="finnhub"),
    ]
    report = keeper(platform, source, *told).collect()
    assert stored_actions(platform) == [
        ("dividend", "alpaca", True),
        ("dividend", "yahoo", False),
        ("split", "finnhub", False),
        ("split", "yahoo", True),
    ]
    assert report.received == {"yahoo": 2, "alpaca": 1, "finnhub": 1}
    assert alerts(platform) == []


def test_the_same_answer_again_changes_no_row(platform: Platform, apple: int) -> None:
    once = keeper(platform, FixedSource(), Actions(split(), dividend(0.205)))
    once.collect()
    everything = "SELECT *, xmin::text FROM public.corporate_actions ORDER BY kind"
    before = query(platform, everything)
    report = once.collect()
    assert query(platform, everything) == before
    assert (report.written.inserted, report.written.changed) == (0, 0)


def test_two_dividends_of_a_day_add_up(platform: Platform, apple: int) -> None:
    ordinary, special = dividend(0.5), replace(dividend(2.0), payload={"special": True})
    keeper(platform, FixedSource(), Actions(ordinary, ordinary, special)).collect()
    [row] = query(platform, "SELECT amount FROM public.corporate_actions")
    assert row["amount"] == 2.5


def test_a_disagreement_is_told_once(platform: Platform, apple: int) -> None:
    kept = keeper(
        platform,
        FixedSource(),
        Actions(dividend(0.205)),
        Actions(dividend(0.25, "alpaca"), name="alpaca"),
    )
    kept.collect()
    kept.collect()
    assert alerts(platform) == [("corporate_action_disagreement", "low")]
    [row] = query(platform, "SELECT note FROM public.corporate_actions WHERE source = 'yahoo'")
    assert row["note"] == "alpaca counts and has 0.25"


def test_a_split_that_raw_prices_contradict_is_flagged_and_not_applied(
    platform: Platform, apple: int
) -> None:
    bars = pd.concat([daily(source="tape"), FIRST_NEW.assign(source="tape")])
    store(platform, FixedSource(bars, "tape"))
    report = keeper(platform, FixedSource(), Actions(split(40))).collect()
    assert stored_actions(platform) == [("split", "yahoo", False)]
    assert "prices contradict it" in report.not_applied["AAPL 2020-08-31 split yahoo"]
    assert alerts(platform) == [("corporate_action_contradicted", "medium")]
    assert MarketData(platform).bars("AAPL", adjust="all")["close"].iloc[0] == 497.48


def test_actions_from_before_the_listing_were_another_companys(
    platform: Platform, apple: int
) -> None:
    execute(
        platform,
        "UPDATE public.listings SET valid_from = '2020-09-01' WHERE instrument_id = %s",
        apple,
    )
    keeper(platform, FixedSource(), Actions(split())).collect()
    assert stored_actions(platform) == []


def test_a_provider_that_fails_leaves_the_others_at_work(platform: Platform, apple: int) -> None:
    down = Actions(error=TransientError("It did not answer.", provider="yahoo"))
    report = keeper(
        platform, FixedSource(), down, Actions(split(source="finnhub"), name="finnhub")
    ).collect()
    assert report.failures == {"yahoo": "It did not answer."}
    assert stored_actions(platform) == [("split", "finnhub", True)]
    runs = query(platform, "SELECT provider, status FROM public.collector_runs ORDER BY 1")
    assert [(row["provider"], row["status"]) for row in runs] == [
        ("finnhub", "success"),
        ("yahoo", "failed"),
    ]


def test_an_unknown_symbol_is_refused(platform: Platform, apple: int) -> None:
    with pytest.raises(UnknownSymbolError, match="NOSUCH"):
        keeper(platform, FixedSource(), Actions()).collect(["AAPL", "NOSUCH"])


# ---- a rewritten history


def test_after_a_split_the_bars_are_collected_again_and_the_old_ones_kept(
    platform: Platform, apple: int
) -> None:
    source = Rewriter(daily(), "yahoo")
    store(platform, source)
    source.rows = Rewriter(daily(4)).rows
    report = keeper(platform, source, Actions(split())).collect()
    closes = query(platform, "SELECT close, volume FROM us.bars_1d ORDER BY ts")
    assert closes[-1] == {"close": 499.23 / 4, "volume": 400.0}
    old = query(platform, "SELECT close, superseded_by FROM market.bar_revisions ORDER BY ts")
    assert [row["close"] for row in old] == list(TRADED.values())
    assert {row["superseded_by"] for row in old} == {"yahoo"}
    [refetch] = report.refetched
    assert (refetch.start, refetch.end, refetch.rows_changed) == (date(2020, 8, 21), EX_DATE, 6)


def test_indicators_follow_the_bars_collected_again(platform: Platform, apple: int) -> None:
    source = Rewriter(daily(), "yahoo")
    store(platform, source)
    enrich(platform.warehouse, platform.reference, "us", "1d", date(2020, 8, 1), EX_DATE, ["AAPL"])
    source.rows = Rewriter(daily(4)).rows
    keeper(platform, source, Actions(split())).collect()
    rows = query(platform, "SELECT obv FROM us.indicators_1d ORDER BY ts")
    # Up, up, down, up, down, down, at 400 shares a session instead of 100.
    assert [row["obv"] for row in rows] == [400, 800, 400, 800, 400, 0]


def test_a_split_is_dealt_with_once(platform: Platform, apple: int) -> None:
    source = Rewriter(daily(), "yahoo")
    store(platform, source)
    # One bar has gone at the provider, and so stays as it was.
    source.rows = Rewriter(daily(4)).rows.iloc[1:]
    keeper(platform, source, Actions(split())).collect()
    again = keeper(platform, source, Actions(split())).collect()
    assert again.refetched == []
    assert query(platform, "SELECT count(*) AS n FROM public.history_refetches")[0]["n"] == 1


def test_a_provider_that_has_not_rewritten_yet_is_asked_again(
    platform: Platform, apple: int
) -> None:
    source = Rewriter(daily(), "yahoo")
    store(platform, source)
    early = keeper(platform, source, Actions(split())).collect()
    source.rows = Rewriter(daily(4)).rows
    late = keeper(platform, source, Actions(split())).collect()
    assert (early.unchanged, early.refetched) == (["AAPL 2020-08-31 yahoo"], [])
    assert [each.rows_changed for each in late.refetched] == [6]


def test_bars_fetched_after_the_split_are_left_alone(platform: Platform, apple: int) -> None:
    source = Rewriter(daily(4), "yahoo")
    store(platform, source, at="2020-08-31 12:00+00")
    report = keeper(platform, source, Actions(split())).collect()
    assert report.refetched == []
    assert MarketData(platform).bars("AAPL", adjust="splits")["close"].iloc[0] == 497.48 / 4


def test_raw_bars_are_never_collected_again(platform: Platform, apple: int) -> None:
    source = FixedSource(daily(source="alpaca"), "alpaca")
    store(platform, source)
    asked = len(source.asked)
    report = keeper(platform, source, Actions(split())).collect()
    assert (report.refetched, len(source.asked)) == ([], asked)


def test_intraday_bars_are_collected_again_as_far_as_the_provider_reaches(
    platform: Platform, apple: int
) -> None:
    def five(price: float) -> pd.DataFrame:
        # The first one lies further back than 60 days before the 15th of October.
        times = ["2020-08-14T14:30Z", "2020-08-28T14:30Z"]
        return flat("AAPL", times, price).assign(source="yahoo")

    source = Rewriter(five(500), "yahoo", timeframes=("5m",))
    store(platform, source, "5m")
    source.rows = Rewriter(five(125)).rows
    now = datetime(2020, 10, 15, tzinfo=UTC)
    report = keeper(platform, source, Actions(split()), now=now).collect()
    closes = query(platform, "SELECT close FROM us.bars_5m ORDER BY ts")
    assert [row["close"] for row in closes] == [500, 125]
    assert [(each.timeframe, each.start) for each in report.refetched] == [
        ("5m", date(2020, 8, 17))
    ]
    # What it cannot reach is brought to the shares of today on reading.
    adjusted = MarketData(platform).bars("AAPL", "5m", adjust="splits")
    assert adjusted["close"].tolist() == [125, 125]


def test_a_rewrite_without_a_reported_split_is_noticed(platform: Platform, apple: int) -> None:
    source = Rewriter(daily(), "yahoo")
    store(platform, source)
    source.rows = Rewriter(daily(4)).rows
    report = keeper(platform, source, Actions()).collect()
    assert [each.rows_changed for each in report.refetched] == [6]
    assert query(platform, "SELECT count(*) AS n FROM market.bar_revisions")[0]["n"] == 6
    assert alerts(platform) == [("history_rewritten", "low")]
    assert keeper(platform, source, Actions()).collect().refetched == []


def test_another_unit_is_told_and_stored_nowhere(platform: Platform, apple: int) -> None:
    source = Rewriter(daily(), "yahoo")
    store(platform, source)
    source.rows = Rewriter(daily(100)).rows
    report = keeper(platform, source, Actions()).collect()
    assert set(report.unit_errors) == {"us AAPL yahoo"}
    assert report.refetched == []
    assert query(platform, "SELECT count(*) AS n FROM market.bar_revisions")[0]["n"] == 0
    assert alerts(platform) == [("unit_error", "medium")]


def test_a_refetch_that_fails_is_told_and_done_later(platform: Platform, apple: int) -> None:
    source = Rewriter(daily(), "yahoo")
    store(platform, source)
    fetch, source.fetch_bars = source.fetch_bars, _refuse  # type: ignore[method-assign]
    failed = keeper(platform, source, Actions(split())).collect()
    source.fetch_bars = fetch  # type: ignore[method-assign]
    source.rows = Rewriter(daily(4)).rows
    later = keeper(platform, source, Actions(split())).collect()
    assert (failed.refetched, failed.failures) == ([], {"yahoo": "It did not answer."})
    assert [each.rows_changed for each in later.refetched] == [6]


def _refuse(_request: object) -> None:
    raise TransientError("It did not answer.", provider="yahoo")


@pytest.mark.parametrize(
    ("name", "capabilities"),
    [("yahoo", YAHOO), ("ibkr", IBKR), ("finnhub", FINNHUB), ("alpaca", ALPACA)],
)
def test_what_counts_as_adjusted_is_what_the_adapters_say(
    name: str, capabilities: Capabilities
) -> None:
    assert (name in SPLIT_ADJUSTED_SOURCES) == capabilities.adjusted


def test_the_real_adapters_are_recognised() -> None:
    source = FinnhubSource(Gate("finnhub"), now=lambda: AFTER)
    [found] = action_sources([FixedSource(), source])
    assert found.name == "finnhub"


# ---- the asset


def materialize(platform: Platform) -> dg.ExecuteInProcessResult:
    defs = build_defs({"platform": dg.ResourceDefinition.hardcoded_resource(platform)}, marts=False)
    with dg.DagsterInstance.ephemeral() as instance:
        return defs.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=instance,
            asset_selection=[dg.AssetKey(["reference", "corporate_actions"])],
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )


def test_the_asset_says_what_it_did(
    platform: Platform, apple: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = keeper(platform, FixedSource(), Actions(split(), dividend(0.205)))
    monkeypatch.setattr(platform, "action_collector", lambda: kept)
    result = materialize(platform)
    [event] = result.asset_materializations_for_node("reference__corporate_actions")
    metadata = {key: value.value for key, value in event.metadata.items()}
    assert metadata["symbols_asked"] == 1
    assert metadata["actions_received"] == {"yahoo": 2}
    assert metadata["rows_inserted"] == 2


def test_the_asset_fails_when_no_provider_answers(
    platform: Platform, apple: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    down = Actions(error=TransientError("It did not answer.", provider="yahoo"))
    kept = keeper(platform, FixedSource(), down)
    monkeypatch.setattr(platform, "action_collector", lambda: kept)
    with pytest.raises(dg.Failure, match="It did not answer"):
        materialize(platform)


def test_without_a_provider_of_actions_the_asset_says_so(
    platform: Platform, apple: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = platform.settings.model_copy(update={"chain_us": ("simulated",)})
    monkeypatch.setattr(platform, "settings", chosen)
    [event] = materialize(platform).asset_materializations_for_node("reference__corporate_actions")
    assert event.metadata["empty_reason"].value == (
        "no provider of the chains knows of corporate actions"
    )


# ---- listings


def unknown_to(source: str) -> Actions:
    return Actions(name=source, error=BadRequest("No data found.", provider=source))


def test_a_symbol_nobody_knows_and_without_bars_is_doubtful(platform: Platform, apple: int) -> None:
    store(platform, FixedSource(daily()))
    report = keeper(
        platform, FixedSource(), unknown_to("yahoo"), now=datetime(2020, 9, 8, tzinfo=UTC)
    ).collect()
    assert report.doubtful == {
        "us AAPL": "has had no bar since 2020-08-28 (5 sessions); yahoo: No data found."
    }
    assert alerts(platform) == [("listing_doubtful", "medium")]
    [instrument] = platform.reference.instruments("us", ["AAPL"])
    assert instrument.delisted_on is None


def test_a_symbol_with_recent_bars_is_not_doubtful(platform: Platform, apple: int) -> None:
    store(platform, FixedSource(daily()))
    report = keeper(platform, FixedSource(), unknown_to("yahoo")).collect()
    assert report.doubtful == {}
    assert list(report.unknown) == ["us AAPL"]


TODAY = date(2026, 11, 20)


def test_closing_a_listing_ends_it_everywhere_and_alerts(platform: Platform, apple: int) -> None:
    store(platform, FixedSource(daily()))
    platform.listings.close(
        "us", "aapl", date(2020, 8, 28), successor="Pear Inc.", reason="merged", today=TODAY
    )
    [instrument] = platform.reference.instruments("us", ["AAPL"])
    assert (instrument.delisted_on, instrument.successor) == (date(2020, 8, 28), "Pear Inc.")
    assert platform.listings.history(apple)[0]["valid_to"] == date(2020, 8, 28)
    entry = platform.reference.get_entry("us", "AAPL")
    assert (entry.active, entry.notes) == (False, "delisted 2020-08-28; merged; Pear Inc.")
    assert alerts(platform) == [("listing_closed", "medium")]
    assert len(MarketData(platform).bars("AAPL")) == 6


@pytest.mark.parametrize(
    ("on", "why"),
    [("2026-11-21", "is to come"), ("2020-08-27", "has bars up to 2020-08-28")],
    ids=["in the future", "before stored bars"],
)
def test_a_listing_cannot_end_when_it_did_not(
    platform: Platform, apple: int, on: str, why: str
) -> None:
    store(platform, FixedSource(daily()))
    with pytest.raises(InvalidInputError, match=why):
        platform.listings.close("us", "AAPL", date.fromisoformat(on), today=TODAY)


def test_a_dry_run_tells_and_changes_nothing(platform: Platform, apple: int) -> None:
    def everything() -> list[dict[str, object]]:
        return query(
            platform,
            "SELECT to_jsonb(s) AS row FROM public.symbols AS s UNION ALL "
            "SELECT to_jsonb(l) FROM public.listings AS l UNION ALL "
            "SELECT to_jsonb(w) FROM public.watchlist AS w UNION ALL "
            "SELECT to_jsonb(a) FROM public.alerts AS a",
        )

    before = everything()
    closed = platform.listings.close("us", "AAPL", TODAY, today=TODAY, dry_run=True)
    renamed = platform.listings.rename("us", "AAPL", "PEAR", TODAY, dry_run=True)
    assert everything() == before
    assert closed.steps[1] == "AAPL (us) is delisted: last traded on 2026-11-20."
    assert renamed.steps[1] == "AAPL (us) is called PEAR from 2026-11-20 on."


def test_a_renamed_instrument_is_found_under_both_codes(platform: Platform, apple: int) -> None:
    store(platform, FixedSource(daily()))
    platform.listings.rename("us", "AAPL", "PEAR", date(2020, 8, 31))
    data = MarketData(platform)
    for code in ("AAPL", "PEAR"):
        frame = data.bars(code, "1d", "2020-08-24", "2020-08-29")
        assert (frame.attrs["instrument_id"], frame.attrs["symbol"], len(frame)) == (
            apple,
            "PEAR",
            5,
        )
    codes = [
        (each["ticker"], each["valid_from"], each["valid_to"])
        for each in platform.listings.history(apple)
    ]
    assert codes == [
        ("AAPL", date(1970, 1, 1), date(2020, 8, 30)),
        ("PEAR", date(2020, 8, 31), None),
    ]
    assert platform.reference.get_entry("us", "PEAR").notes == "was AAPL"
    assert alerts(platform) == [("code_changed", "low")]


def test_a_former_code_makes_no_second_instrument(platform: Platform, apple: int) -> None:
    platform.listings.rename("us", "AAPL", "PEAR", date(2020, 8, 31))

    instrument, is_new = platform.reference.ensure("us", "AAPL")

    assert (instrument.instrument_id, instrument.symbol, is_new) == (apple, "PEAR", False)


def test_a_code_that_passes_to_another_company_means_each_in_its_time(
    platform: Platform, apple: int
) -> None:
    store(platform, FixedSource(daily()))
    platform.listings.rename("us", "AAPL", "PEAR", date(2020, 9, 1))
    other = platform.listings.open("us", "AAPL", date(2021, 1, 4), name="Apple Pie").instrument_id
    data = MarketData(platform)

    def holder(end: str | None) -> int:
        return int(data.bars("AAPL", end=end).attrs["instrument_id"])

    assert holder("2020-08-29") == apple
    assert holder("2021-06-01") == other != apple
    assert holder(None) == other


def test_a_code_that_left_and_was_given_again_means_each_in_its_time(
    platform: Platform, apple: int
) -> None:
    platform.listings.close("us", "AAPL", date(2020, 8, 28), today=TODAY)
    other = platform.listings.open("us", "AAPL", date(2021, 1, 4)).instrument_id
    data = MarketData(platform)
    assert data.bars("AAPL", end="2020-08-28").attrs["instrument_id"] == apple
    assert data.bars("AAPL", end="2021-06-01").attrs["instrument_id"] == other


def test_a_code_in_use_is_given_to_nobody_else(platform: Platform, apple: int) -> None:
    platform.reference.ensure("us", "MSFT")
    with pytest.raises(InvalidInputError, match="code of another listed instrument"):
        platform.listings.rename("us", "AAPL", "MSFT", TODAY)
    with pytest.raises(InvalidInputError, match="has the code AAPL still"):
        platform.listings.open("us", "AAPL", TODAY)


def test_the_commands_close_rename_and_show(platform: Platform, apple: int) -> None:
    def run(*arguments: str) -> str:
        result = CliRunner().invoke(listing.app, list(arguments))
        assert result.exit_code == 0, result.output
        return result.output

    run("rename", "AAPL", "PEAR", "--market", "us", "--on", "2020-08-31")
    told = run("close", "PEAR", "--market", "us", "--on", "2021-01-04", "--dry-run")
    assert "Nothing was changed" in told
    run("close", "PEAR", "--market", "us", "--on", "2021-01-04", "--successor", "Pie Inc.")
    run("open", "PEAR", "--market", "us", "--on", "2022-01-04", "--name", "Pear Tree")
    shown = run("show", "PEAR")
    assert "Pie Inc." in shown
    assert "Pear Tree" in shown
    assert '"symbol": "PEAR"' in run("show", "AAPL", "--json")


def test_timeframes_of_adjusted_sources_are_known() -> None:
    assert {each for times in SPLIT_ADJUSTED_SOURCES.values() for each in times} == set(TIMEFRAMES)
