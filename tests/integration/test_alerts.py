"""Alerts from end to end: raised, said, escalated, closed; nothing lost, nothing shown of a URL."""

import json
import logging
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
from alembic import command as alembic
from dagster._core.definitions.run_status_sensor_definition import RunFailureSensorContext
from pydantic import SecretStr
from typer.testing import CliRunner, Result

from scizor_assets import alerting
from scizor_cli import main
from scizor_core.alerts import ESCALATIONS, Measurement, Rule, Severity
from scizor_core.errors import InvalidInputError
from scizor_core.instruments import WatchlistEntry
from scizor_resources.alerts import kpis
from scizor_resources.alerts.channels import Channel, ChannelError, Channels, stripped
from scizor_resources.alerts.evaluation import evaluate_alerts, open_markets
from scizor_resources.alerts.notifier import Notifier
from scizor_resources.alerts.rules import default_rules
from scizor_resources.alerts.store import AlertStore
from scizor_resources.budget.link import ValkeyAway
from scizor_resources.platform import Platform
from scizor_resources.stores import schema
from scizor_resources.streaming import STATE_KEY
from tests.contract.lab.server import HttpLab, Reply, Seen

from .helpers import execute, query

LOW, MEDIUM, HIGH, CRITICAL = Severity
START = datetime(2026, 11, 20, 1, tzinfo=UTC)  # Friday noon in Sydney
TOKEN, PASSWORD = "markedhooktoken0001", "markedhookpassword2"


class Hook(HttpLab):
    """Takes messages as a webhook does; `is_dead` refuses them."""

    is_dead = False

    def respond(self, seen: Seen) -> Reply:
        # What a careless service would do: repeat the secrets in its refusal.
        return Reply({"path": seen.path, **seen.headers}, status=500 if self.is_dead else 200)

    @property
    def apprise_url(self) -> str:
        return f"{self.url.replace('http', 'json')}/{TOKEN}".replace("//", f"//me:{PASSWORD}@")

    @property
    def taken(self) -> list[dict[str, Any]]:
        return [json.loads(each.body) for each in self.requests]

    @property
    def titles(self) -> list[str]:
        return [each["title"].removeprefix("SCIZOR ") for each in self.taken]


class Clock:
    """A clock that is moved by hand."""

    def __init__(self, at: datetime = START) -> None:
        self.at = at

    def __call__(self) -> datetime:
        return self.at

    def pass_minutes(self, minutes: float) -> datetime:
        self.at += timedelta(minutes=minutes)
        return self.at


@pytest.fixture
def hook() -> Iterator[Hook]:
    with Hook() as lab:
        yield lab


@pytest.fixture
def other_hook() -> Iterator[Hook]:
    with Hook() as lab:
        yield lab


@pytest.fixture
def clock(platform: Platform) -> Clock:
    found = Clock()
    platform.now = found
    return found


def set_up(platform: Platform, **urls: str) -> None:
    """Give the platform the channels of a severity, before it first asks for them."""
    for name in ("channels", "alerts", "notifier", "alert_rules"):
        platform.__dict__.pop(name, None)
    settings = {f"alert_urls_{each}": SecretStr(url) for each, url in urls.items()}
    none = {f"alert_urls_{each}": None for each in Severity}
    platform.settings = platform.settings.model_copy(update={**none, **settings})


def alerts(platform: Platform) -> list[dict[str, Any]]:
    return query(platform, "SELECT * FROM public.alerts ORDER BY alert_id")


def deliveries(platform: Platform) -> list[tuple[Any, ...]]:
    rows = query(
        platform,
        "SELECT alert_id, event, severity, status FROM public.alert_deliveries "
        "ORDER BY delivery_id",
    )
    return [tuple(row.values()) for row in rows]


def raise_one(platform: Platform, severity: Severity = HIGH, about: str = "x") -> bool:
    return platform.alerts.raise_("kind", severity, f"Trouble with {about}.", (about,))


# ---- alerts in the table


def test_a_matter_is_raised_once_while_it_stands_and_anew_after_its_recovery(
    platform: Platform, clock: Clock
) -> None:
    assert raise_one(platform)
    clock.pass_minutes(5)
    assert not raise_one(platform)
    (stands,) = alerts(platform)
    assert (stands["occurrences"], stands["raised_at"], stands["last_seen_at"]) == (
        2,
        START,
        clock.at,
    )

    assert platform.alerts.resolve("kind", ("x",), "it works again")
    assert not platform.alerts.resolve("kind", ("x",))
    assert raise_one(platform)

    first, second = alerts(platform)
    assert (first["resolved_at"], first["resolution"]) == (clock.at, "it works again")
    assert (second["resolved_at"], second["occurrences"]) == (None, 1)


def test_processes_that_raise_the_same_matter_at_once_raise_it_once(platform: Platform) -> None:
    new: list[bool] = []
    threads = [threading.Thread(target=lambda: new.append(raise_one(platform))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(new) == [False] * 7 + [True]
    (stands,) = alerts(platform)
    assert stands["occurrences"] == 8


def test_an_alert_that_becomes_worse_is_said_again_and_its_acknowledgement_ends(
    platform: Platform, clock: Clock, hook: Hook
) -> None:
    set_up(platform, medium=hook.apprise_url, critical=hook.apprise_url)
    raise_one(platform, MEDIUM)
    platform.alerts.acknowledge([1], "anna")
    raise_one(platform, CRITICAL)
    raise_one(platform, LOW)
    (stands,) = alerts(platform)
    assert (stands["severity"], stands["acknowledged_at"]) == ("critical", None)
    platform.notifier.deliver(clock.at)
    assert hook.titles == [
        "medium: Trouble with x.",
        "critical, worse than before: Trouble with x.",
    ]


def test_an_alert_and_its_messages_are_one_transaction(platform: Platform, hook: Hook) -> None:
    set_up(platform, high=hook.apprise_url)
    with platform.warehouse.connect() as connection:
        platform.alerts.raise_in(connection, "kind", HIGH, "Trouble.", ("x",), {})
        connection.rollback()
    assert (alerts(platform), deliveries(platform)) == ([], [])


def test_only_open_alerts_are_acknowledged_all_or_none(platform: Platform) -> None:
    raise_one(platform, about="x")
    raise_one(platform, about="y")
    platform.alerts.resolve("kind", ("y",))
    with pytest.raises(InvalidInputError, match=r"Alert 2 is over since"):
        platform.alerts.acknowledge([1, 2])
    with pytest.raises(InvalidInputError, match="There is no alert 99"):
        platform.alerts.acknowledge([1, 99])
    assert [row["acknowledged_at"] for row in alerts(platform)] == [None, None]
    assert platform.alerts.acknowledge([1], "anna") == 1
    assert platform.alerts.acknowledge([1], "bert") == 0
    assert alerts(platform)[0]["acknowledged_by"] == "anna"


# ---- every rule


@pytest.mark.parametrize("row", default_rules(), ids=lambda row: row["kpi"])
def test_every_rule_fires_once_escalates_and_closes(
    platform: Platform, clock: Clock, hook: Hook, row: dict[str, str]
) -> None:
    set_up(platform, **dict.fromkeys(map(str, Severity), hook.apprise_url))
    (rule,) = [each for each in platform.alert_rules.rules() if each.kpi == row["kpi"]]
    worst = max(rule.thresholds, key=lambda each: each.rank)
    sign = 1 if rule.direction == "above" else -1
    value = {"now": rule.thresholds[worst] + sign * 0.01}

    def evaluate(minutes: float = 1) -> None:
        clock.pass_minutes(minutes)
        measured = [Measurement(rule.kpi, "subject", value["now"])]
        evaluate_alerts(platform, {rule.kpi: lambda _platform, _now: measured})

    for _ in range(int(2 * rule.for_seconds / 60) + 4):
        evaluate(0.5)
    (alert,) = alerts(platform)
    assert (alert["kind"], alert["severity"], alert["resolved_at"]) == (rule.kpi, worst, None)
    assert len(hook.titles) == 1

    policy = ESCALATIONS.get(worst)
    levels = 0 if policy is None else policy.levels
    for _ in range(levels + 1):
        evaluate(0 if policy is None else policy.closed_minutes)
    (alert,) = alerts(platform)
    assert alert["escalation_level"] == levels
    assert len(hook.titles) == 1 + levels
    assert all("not acknowledged" in title for title in hook.titles[1:])

    assert rule.clears_at is not None
    value["now"] = rule.clears_at
    for _ in range(12):
        evaluate(0.5)
    (alert,) = alerts(platform)
    assert alert["resolved_at"] is not None
    assert hook.titles[-1].startswith("resolved: ")
    assert len(hook.titles) == 2 + levels
    assert {status for *_, status in deliveries(platform)} == {"sent"}


def test_thresholds_are_data_that_users_change(platform: Platform, clock: Clock) -> None:
    measured = [Measurement("disk_use_percent", "SCIZOR_HOME", 60.0)]
    assert platform.alert_rules.judge(measured, (), clock.at).raised == []
    execute(
        platform,
        "UPDATE public.alert_rules SET low = 50, clears_at = 50, for_seconds = 0 "
        "WHERE kpi = 'disk_use_percent'",
    )
    (title,) = platform.alert_rules.judge(measured, (), clock.pass_minutes(1)).raised
    assert title == "Disk use of SCIZOR_HOME is 60 %, above 50 %."
    execute(platform, "UPDATE public.alert_rules SET enabled = false")
    platform.alert_rules.judge(measured, (), clock.pass_minutes(1))
    (alert,) = alerts(platform)
    assert alert["resolution"] == "its rule is switched off"


def test_a_rule_that_contradicts_itself_is_an_alert_until_it_is_corrected(
    platform: Platform, clock: Clock
) -> None:
    platform.alert_rules.rules()
    execute(platform, "UPDATE public.alert_rules SET high = 1 WHERE kpi = 'disk_use_percent'")
    platform.alert_rules.judge([], (), clock.at)
    (alert,) = alerts(platform)
    assert (alert["kind"], alert["resolved_at"]) == ("alert_rule_invalid", None)
    assert "disk_use_percent" in alert["title"]
    execute(platform, "UPDATE public.alert_rules SET high = 90 WHERE kpi = 'disk_use_percent'")
    platform.alert_rules.judge([], (), clock.at)
    assert alerts(platform)[0]["resolved_at"] is not None


def test_a_subject_that_is_gone_closes_its_alert_and_one_without_a_value_keeps_it(
    platform: Platform, clock: Clock
) -> None:
    kpi = "completeness_percent"
    platform.alert_rules.judge([Measurement(kpi, "asx/CBA 5m", 90.0, "asx")], {kpi}, clock.at)
    platform.alert_rules.judge([Measurement(kpi, "asx/CBA 5m", None, "asx")], {kpi}, clock.at)
    assert alerts(platform)[0]["resolved_at"] is None
    platform.alert_rules.judge([], (), clock.at)
    assert alerts(platform)[0]["resolved_at"] is None
    platform.alert_rules.judge([], {kpi}, clock.at)
    assert alerts(platform)[0]["resolution"] == "it is no longer judged"


def test_a_kpi_that_cannot_be_measured_is_an_alert_and_keeps_those_that_stand(
    platform: Platform, clock: Clock
) -> None:
    kpi = "rate_limit_use_percent"
    measured = [Measurement("disk_use_percent", "SCIZOR_HOME", 99.0)]

    def away(_platform: Platform, _now: datetime) -> list[Measurement]:
        raise ValkeyAway("Valkey does not answer")

    measures = {kpi: away, "disk_use_percent": lambda _platform, _now: measured}
    evaluate_alerts(platform, measures)
    clock.pass_minutes(1)
    report = evaluate_alerts(platform, measures)
    assert report.not_measured == {kpi: "Valkey does not answer"}
    assert [row["kind"] for row in alerts(platform)] == ["measurement_failed", "disk_use_percent"]
    evaluate_alerts(platform, {**measures, kpi: lambda _platform, _now: []})
    assert [row["resolved_at"] is None for row in alerts(platform)] == [False, True]


# ---- escalation


def test_an_acknowledged_alert_does_not_escalate(platform: Platform, clock: Clock) -> None:
    raise_one(platform, CRITICAL)
    platform.alerts.acknowledge([1], "anna")
    clock.pass_minutes(600)
    assert platform.alerts.escalate({"asx"}) == 0


def test_an_alert_about_a_market_goes_by_the_hours_of_that_market(
    platform: Platform, clock: Clock
) -> None:
    platform.alerts.raise_("kind", HIGH, "Of a market.", ("a",), market="us")
    platform.alerts.raise_("kind", HIGH, "Of all.", ("b",))
    clock.pass_minutes(15)
    assert platform.alerts.escalate({"asx"}) == 1
    assert [row["escalation_level"] for row in alerts(platform)] == [0, 1]
    assert platform.alerts.escalate({"us"}) == 1


def test_an_escalation_goes_to_the_channels_of_worse_alerts_too(
    platform: Platform, clock: Clock, hook: Hook, other_hook: Hook
) -> None:
    set_up(platform, high=hook.apprise_url, critical=other_hook.apprise_url)
    raise_one(platform, HIGH)
    platform.notifier.deliver(clock.at)
    assert (len(hook.titles), len(other_hook.titles)) == (1, 0)
    clock.pass_minutes(15)
    platform.alerts.escalate({"asx"})
    platform.notifier.deliver(clock.at)
    assert (len(hook.titles), len(other_hook.titles)) == (2, 1)


def test_only_watched_markets_that_trade_are_open(platform: Platform) -> None:
    assert open_markets(platform, START) == {"asx"}
    assert open_markets(platform, START + timedelta(days=1)) == set()


# ---- channels that fail


def test_with_a_dead_channel_nothing_is_lost_and_all_is_said_when_it_is_back(
    platform: Platform, clock: Clock, hook: Hook
) -> None:
    set_up(platform, critical=hook.apprise_url, high=hook.apprise_url)
    hook.is_dead = True
    raise_one(platform, about="x")
    platform.notifier.deliver(clock.at)
    raise_one(platform, CRITICAL, about="y")
    platform.alerts.resolve("kind", ("x",))
    platform.notifier.deliver(clock.pass_minutes(1))
    assert {status for *_, status in deliveries(platform)} == {"pending"}
    tried = len(hook.requests)

    hook.is_dead = False
    platform.notifier.deliver(clock.at)
    assert len(hook.requests) == tried, "it was tried again before its time"
    platform.notifier.deliver(clock.pass_minutes(60))
    assert hook.titles[tried:] == [
        "critical: Trouble with y.",
        "high: Trouble with x.",
        "resolved: Trouble with x.",
    ]
    about_the_channel = 2
    assert {
        status for alert_id, *_, status in deliveries(platform) if alert_id != about_the_channel
    } == {"sent"}


def test_a_channel_that_fails_is_an_alert_that_closes_by_itself(
    platform: Platform, clock: Clock, hook: Hook, other_hook: Hook
) -> None:
    urls = f"{hook.apprise_url}, {other_hook.apprise_url}"
    set_up(platform, high=urls)
    hook.is_dead = True
    raise_one(platform)
    report = platform.notifier.deliver(clock.at)
    (name,) = report.errors
    _, failed = alerts(platform)
    assert (failed["kind"], failed["severity"]) == ("channel_failed", "high")
    assert failed["detail"] == {"channel": name}
    platform.notifier.deliver(clock.pass_minutes(1))
    assert [row["occurrences"] for row in alerts(platform)] == [1, 2]
    told = query(
        platform, "SELECT channel FROM public.alert_deliveries WHERE alert_id = 2 GROUP BY 1"
    )
    assert [row["channel"] for row in told] == [
        each.name for each in platform.channels.all() if each.name != name
    ]

    hook.is_dead = False
    platform.notifier.deliver(clock.pass_minutes(5))
    platform.notifier.deliver(clock.pass_minutes(1))
    assert alerts(platform)[1]["resolution"] == "it takes messages again"
    assert hook.titles[-1] == "high: Trouble with x."
    assert other_hook.titles[-1].startswith(f"resolved: Channel {name} did not take the message")


def test_messages_of_a_channel_that_was_replaced_go_to_its_successor(
    platform: Platform, clock: Clock, hook: Hook, other_hook: Hook
) -> None:
    set_up(platform, high=hook.apprise_url)
    hook.is_dead = True
    raise_one(platform)
    platform.notifier.deliver(clock.at)
    set_up(platform, high=other_hook.apprise_url)
    assert platform.notifier.deliver(clock.pass_minutes(1)).sent == 1
    assert other_hook.titles == ["high: Trouble with x."]
    assert alerts(platform)[1]["resolution"] == "it is no longer set up"


def test_an_alert_that_found_no_channel_is_said_when_one_is_set_up_within_a_day(
    platform: Platform, clock: Clock, hook: Hook
) -> None:
    set_up(platform)
    raise_one(platform, about="old")
    clock.pass_minutes(25 * 60)
    platform.notifier.deliver(clock.at)
    raise_one(platform, about="new")
    set_up(platform, high=hook.apprise_url)
    platform.notifier.deliver(clock.at)
    assert hook.titles == ["high: Trouble with new."]


def test_two_notifiers_at_once_send_each_message_once(
    platform: Platform, clock: Clock, hook: Hook
) -> None:
    set_up(platform, high=hook.apprise_url)
    for number in range(5):
        raise_one(platform, about=str(number))
    notifiers = [
        Notifier(platform.warehouse, platform.alerts, platform.channels, 100) for _ in range(4)
    ]
    threads = [
        threading.Thread(target=notifier.deliver, args=(clock.at,)) for notifier in notifiers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(hook.titles) == [f"high: Trouble with {number}." for number in range(5)]


def test_many_alerts_at_once_come_as_a_few_messages_and_a_summary(
    platform: Platform, clock: Clock, hook: Hook
) -> None:
    set_up(platform, medium=hook.apprise_url, critical=hook.apprise_url)
    for number in range(54):
        raise_one(platform, MEDIUM, about=str(number))
    raise_one(platform, CRITICAL, about="the disk")
    report = platform.notifier.deliver(clock.at)
    assert (report.sent, report.summaries, report.held) == (55, 1, 0)
    assert hook.titles[0] == "critical: Trouble with the disk."
    assert hook.titles[-1] == "51 more alerts, the worst medium"
    assert len(hook.titles) == 5


# ---- secrets


@pytest.fixture
def log() -> Iterator[list[str]]:
    """Everything that any logger says, at every level."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(f"{record.name} {record.getMessage()} {record.args!r}")

    handler = Keep(logging.DEBUG)
    loggers = [logging.getLogger(name) for name in ("", "apprise", "urllib3", "requests")]
    levels = [each.level for each in loggers]
    logging.getLogger().addHandler(handler)
    for each in loggers:
        each.setLevel(logging.DEBUG)
    yield lines
    logging.getLogger().removeHandler(handler)
    for each, level in zip(loggers, levels, strict=True):
        each.setLevel(level)


def test_a_url_shows_in_no_table_log_error_or_representation(
    platform: Platform, clock: Clock, hook: Hook, log: list[str]
) -> None:
    refused = f"json://me:{PASSWORD}@127.0.0.1:1/{TOKEN}"
    unusable = f"nosuchscheme://{PASSWORD}/{TOKEN}"
    set_up(platform, critical=f"{refused},{unusable}", high=hook.apprise_url)
    hook.is_dead = True
    raise_one(platform, CRITICAL)
    raise_one(platform, HIGH, about="y")
    report = platform.notifier.deliver(clock.at)
    hook.is_dead = False
    platform.notifier.deliver(clock.pass_minutes(5))
    assert len(report.errors) == 3
    with pytest.raises(ChannelError) as caught:
        Channel.of(refused).send(alerting_message())
    shown = {
        "alerts": str(alerts(platform)),
        "deliveries": str(query(platform, "SELECT * FROM public.alert_deliveries")),
        "log": str(log),
        "report": repr(report),
        "error": f"{caught.value!r} {caught.value.__context__!r} {vars(caught.value)}",
        "channels": f"{platform.channels!r} {platform.channels.all()!r} {platform.settings!r}",
        "command": command("alerts", "list", "--all", "--json").stdout,
    }
    for place, text in shown.items():
        for secret in (TOKEN, PASSWORD, "127.0.0.1:1/"):
            assert secret not in text, place


def alerting_message() -> Any:
    from scizor_core.alerts import Message

    return Message("A title", "A body", HIGH)


def test_channels_are_told_apart_by_name_and_split_between_urls_only() -> None:
    text = "mailto://me:word@example.org?to=a@example.org,b@example.org, json://example.org/hook"
    found = [each.name.rpartition("-")[0] for each in _channels(text).all()]
    assert found == ["mailto", "json"]
    first, second = Channel.of("json://example.org/one"), Channel.of("json://example.org/two")
    assert first.name != second.name


def _channels(urls: str) -> Channels:
    from scizor_resources.settings import Settings

    return Channels.of_settings(Settings(alert_urls_high=SecretStr(urls)))


def test_a_url_that_apprise_cannot_use_is_refused_with_a_sentence() -> None:
    with pytest.raises(ChannelError, match=r"^Channel nosuch-\w{6} has a URL that Apprise cannot"):
        Channel.of(f"nosuch://{TOKEN}").send(alerting_message())


def test_parts_of_a_url_are_taken_out_of_what_a_service_says() -> None:
    url = "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdn%6cazkcOXrIdevi7FQ"
    said = "POST /services/T1JJ3T3L2/a1brtd4jd/TIiajkdnlazkcOXrIdevi7FQ gave 404"
    assert stripped(said, url) == "POST /services/***/***/*** gave 404"


# ---- what is measured


def test_completeness_is_that_of_the_last_closed_session(platform: Platform) -> None:
    for session, coverage in ((date(2026, 11, 19), 0.97), (date(2026, 11, 20), 0.1)):
        execute(
            platform,
            "INSERT INTO quality.completeness (instrument_id, timeframe, session_date, expected, "
            "present, quiet, missing, not_fetched, unexpected, outliers, quarantined, coverage, "
            "score, reason) "
            "SELECT instrument_id, '5m', %s, 100, 97, 0, 3, 3, 0, 0, 0, %s, 97, '' FROM symbols "
            "WHERE symbol = 'CBA'",
            session,
            coverage,
        )
    found = {each.subject: each for each in kpis.completeness(platform, START)}
    assert found["asx/CBA 5m"].value == pytest.approx(97)
    assert found["asx/BHP 5m"].value is None
    assert "2026-11-19" in found["asx/BHP 5m"].note
    assert not any("APT" in subject for subject in found)


def put_bar(platform: Platform, market: str, symbol: str, ts: datetime) -> None:
    instrument, _ = platform.reference.ensure(market, symbol)
    month = ts.strftime("%Y%m")
    first = ts.replace(day=1, hour=0, minute=0)
    execute(
        platform,
        f"CREATE TABLE IF NOT EXISTS market.bars_test_{month} PARTITION OF market.bars "
        f"FOR VALUES FROM ('{first}') TO ('{first + timedelta(days=28)}')",
    )
    execute(
        platform,
        "INSERT INTO market.bars (instrument_id, timeframe, ts, session_date, open, high, low, "
        "close, volume, source, is_final) VALUES (%s, '5m', %s, %s, 1, 1, 1, 1, 1, 'lab', true)",
        instrument.instrument_id,
        ts,
        ts.date(),
    )


def test_staleness_counts_from_the_last_bar_and_not_from_before_the_open(
    platform: Platform,
) -> None:
    put_bar(platform, "asx", "CBA", START - timedelta(minutes=15))
    put_bar(platform, "asx", "BHP", START - timedelta(days=1))
    found = {each.subject: each.value for each in kpis.staleness(platform, START)}
    assert found["asx/CBA"] == pytest.approx(10)  # the bar of 12:45 ended at 12:50
    assert found["asx/BHP"] == pytest.approx(120)  # the ASX opened at 10:00
    assert kpis.staleness(platform, START + timedelta(days=1)) == []


def test_a_market_that_never_closes_is_stale_over_midnight(platform: Platform) -> None:
    platform.reference.add([WatchlistEntry("crypto", "BTC/USD"), WatchlistEntry("crypto", "X/USD")])
    midnight = datetime(2026, 11, 20, tzinfo=UTC)
    put_bar(platform, "crypto", "BTC/USD", midnight - timedelta(hours=3))
    found = {
        each.subject: each.value
        for each in kpis.staleness(platform, midnight)
        if each.market == "crypto"
    }
    assert found == {"crypto/BTC/USD": pytest.approx(175), "crypto/X/USD": None}


def test_rate_limit_use_is_that_of_the_tightest_limit(platform: Platform) -> None:
    with platform.budget("kraken", "live").acquire("Trades"):
        found = {each.subject: each for each in kpis.rate_limit_use(platform, START)}
    tightest = platform.budget("kraken").state().tightest
    assert tightest is not None
    assert found["kraken"].value == pytest.approx(100 / tightest.limit)
    assert "tape" not in found
    assert "alpaca" in found


def test_source_success_is_the_share_of_collections_that_did_not_fail(platform: Platform) -> None:
    for number, status in enumerate(["success", "failed", "partial", "success", "failed"]):
        execute(
            platform,
            "INSERT INTO public.collector_runs (provider, asset, status, started_at, "
            "completed_at) VALUES ('yahoo', 'asx/bars_5m', %s, %s, %s)",
            status,
            START - timedelta(hours=number * 7),
            START,
        )
    (found,) = kpis.source_success(platform, START)
    assert found.value == pytest.approx(75)  # four of five lie within 24 hours, one failed


def test_disk_and_memory_are_percentages(platform: Platform) -> None:
    (disk,), (memory,) = kpis.disk_use(platform, START), kpis.memory_use(platform, START)
    assert disk.value is not None
    assert memory.value is not None
    assert 0 < disk.value <= 100
    assert 0 < memory.value <= 100


def test_what_streams_measure_is_not_known_while_no_sidecar_runs(
    platform: Platform, clock: Clock
) -> None:
    unmeasured = evaluate_alerts(platform).judgement.unmeasured
    for kpi in ("data_latency_ms", "connection_uptime_percent"):
        assert "no streaming sidecar runs" in unmeasured[f"{kpi} streams"]


def test_what_a_sidecar_tells_of_its_streams_is_judged(platform: Platform) -> None:
    told = {"subject": "kraken", "market": "crypto", "value": 900.0, "note": "95 of 100 ticks"}
    state = {"kpis": {"data_latency_ms": [told], "connection_uptime_percent": []}}
    platform.link.call(lambda client: client.set(STATE_KEY, json.dumps(state)))

    (measured,) = kpis.MEASURES["data_latency_ms"](platform, platform.now())

    assert measured == Measurement("data_latency_ms", "kraken", 900.0, "crypto", "95 of 100 ticks")


def test_every_rule_has_a_measure() -> None:
    assert set(kpis.MEASURES) == {row["kpi"] for row in default_rules()}


# ---- runs that fail


class BadDay:
    """What an asset does that fails until it is told not to."""

    fails = True


def failing_definitions(bad: BadDay) -> dg.Definitions:
    @dg.asset(key=["asx", "bars_5m"])
    def bars() -> dg.MaterializeResult:
        if bad.fails:
            raise dg.Failure(description="yahoo refuses CBA: ask again tomorrow.")
        return dg.MaterializeResult()

    @dg.asset(key=["asx", "indicators_5m"], deps=[bars])
    def indicators() -> dg.MaterializeResult:
        return dg.MaterializeResult()

    @dg.asset(key=["asx", "other"])
    def other() -> dg.MaterializeResult:
        return dg.MaterializeResult()

    return dg.Definitions([bars, indicators, other])


def execute_run(
    platform: Platform, instance: dg.DagsterInstance, bad: BadDay, keys: list[str], priority: str
) -> dg.ExecuteInProcessResult:
    """Run assets as the UI does, and let the sensors see the outcome."""
    job = failing_definitions(bad).resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey.from_user_string(key) for key in keys],
        tags={"dagster/priority": priority},
        raise_on_error=False,
    )
    kind = "PIPELINE_SUCCESS" if result.success else "PIPELINE_FAILURE"
    (event,) = [each for each in result.all_events if each.event_type_value == kind]
    context = dg.build_run_status_sensor_context(
        sensor_name="sensor",
        dagster_instance=instance,
        dagster_run=result.dagster_run,
        dagster_event=event,
        resources={"platform": platform},
    )
    if result.success:
        alerting.run_recovered(context)
    else:
        failure = context.for_run_failure()
        assert isinstance(failure, RunFailureSensorContext)
        alerting.run_failed_alert(failure)
    return result


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as opened:
        yield opened


def test_a_failed_run_is_one_alert_until_the_same_asset_succeeds(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    bad, both = BadDay(), ["asx/bars_5m", "asx/indicators_5m"]
    execute_run(platform, instance, bad, both, "10")
    execute_run(platform, instance, bad, ["asx/bars_5m"], "10")
    (alert,) = alerts(platform)
    assert (alert["kind"], alert["severity"], alert["occurrences"]) == ("run_failed", "high", 2)
    assert alert["title"] == "asx/bars_5m failed: yahoo refuses CBA: ask again tomorrow."
    assert alert["detail"]["market"] == "asx"

    execute_run(platform, instance, bad, ["asx/other"], "0")
    assert alerts(platform)[0]["resolved_at"] is None
    bad.fails = False
    result = execute_run(platform, instance, bad, both, "0")
    assert alerts(platform)[0]["resolution"] == f"run {result.run_id[:8]} succeeded"


def test_a_failed_backfill_is_less_urgent_than_a_failed_refresh(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    execute_run(platform, instance, BadDay(), ["asx/bars_5m"], "0")
    assert alerts(platform)[0]["severity"] == "medium"


def test_a_run_whose_worker_has_gone_is_an_alert_about_all_of_its_assets(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    bad = BadDay()
    job = failing_definitions(bad).resolve_implicit_global_asset_job_def()
    run = instance.create_run_for_job(
        job, asset_selection=frozenset({dg.AssetKey(["asx", "bars_5m"])})
    )
    event = instance.report_run_failed(run, "The Celery worker that executed this run has gone.")
    failed = instance.get_run_by_id(run.run_id)
    assert failed is not None
    context = dg.build_run_status_sensor_context(
        sensor_name="sensor",
        dagster_instance=instance,
        dagster_run=failed,
        dagster_event=event,
        resources={"platform": platform},
    )
    alerting.run_failed_alert(context.for_run_failure())
    (alert,) = alerts(platform)
    assert "The Celery worker that executed this run has gone." in alert["title"]
    bad.fails = False
    execute_run(platform, instance, bad, ["asx/bars_5m"], "0")
    assert alerts(platform)[0]["resolved_at"] is not None


def test_the_job_does_a_round_of_alerts_and_says_what_came_of_it(
    platform: Platform, clock: Clock, hook: Hook, instance: dg.DagsterInstance
) -> None:
    clock.pass_minutes(24 * 60)  # Saturday: no market trades
    set_up(platform, high=hook.apprise_url)
    raise_one(platform)
    result = alerting.alerts_job.execute_in_process(
        instance=instance, resources={"platform": platform}
    )
    assert result.success
    assert hook.titles == ["high: Trouble with x."]
    (output,) = [
        each.step_output_data
        for each in result.get_step_success_events() and result.all_events
        if each.event_type_value == "STEP_OUTPUT"
    ]
    assert output.metadata["messages_sent"].value == 1


def test_the_schedule_asks_every_minute_unless_the_last_round_is_under_way() -> None:
    with dg.instance_for_test() as instance:
        first = alerting.alerts_evaluation(dg.build_schedule_context(instance))
        instance.create_run_for_job(alerting.alerts_job, status=dg.DagsterRunStatus.STARTED)
        second = alerting.alerts_evaluation(dg.build_schedule_context(instance))
    assert isinstance(first, dg.RunRequest)
    assert isinstance(second, dg.SkipReason)


# ---- commands


def command(*arguments: str) -> Result:
    return CliRunner().invoke(main.app, list(arguments))


def test_the_list_shows_what_stands_and_with_all_what_is_over(platform: Platform) -> None:
    raise_one(platform, MEDIUM, about="x")
    raise_one(platform, CRITICAL, about="y")
    raise_one(platform, HIGH, about="z")
    platform.alerts.resolve("kind", ("z",))
    found = json.loads(command("alerts", "list", "--json").stdout)
    assert [row["severity"] for row in found] == ["critical", "medium"]
    assert "Trouble with z." not in command("alerts", "list").stdout
    assert "Trouble with z." in command("alerts", "list", "--all").stdout


def test_an_alert_is_acknowledged_and_closed_by_command(platform: Platform) -> None:
    raise_one(platform)
    assert "1 acknowledged by anna" in command("alerts", "ack", "1", "--by", "anna").stderr
    assert "acknowledged by anna" in command("alerts", "list").stdout
    assert "acknowledged by anna" in command("status").stdout
    assert command("alerts", "resolve", "1", "--note", "mended").exit_code == 0
    assert alerts(platform)[0]["resolution"] == "mended"
    refused = command("alerts", "ack", "1")
    assert refused.exit_code == 1
    assert "Alert 1 is over since" in refused.stderr


def test_the_test_command_says_of_each_channel_how_it_went(
    platform: Platform, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    none = command("alerts", "test")
    assert none.exit_code == 1
    assert "No channel is set up" in none.stderr
    monkeypatch.setenv("SCIZOR_ALERT_URLS_HIGH", hook.apprise_url)
    assert command("alerts", "test").exit_code == 0
    assert hook.titles == ["test"]
    monkeypatch.setenv("SCIZOR_ALERT_URLS_LOW", f"json://127.0.0.1:1/{TOKEN}")
    failed = command("alerts", "test", "--json")
    assert failed.exit_code == 1
    assert [each["result"] == "sent" for each in json.loads(failed.stdout)] == [False, True]
    assert TOKEN not in failed.stdout


def test_the_rules_are_shown_with_the_worst_that_was_measured(
    platform: Platform, clock: Clock
) -> None:
    platform.alert_rules.judge(
        [
            Measurement("disk_use_percent", "SCIZOR_HOME", 61.0),
            Measurement("data_latency_ms", "streams", None, note="no streaming sidecar runs"),
        ],
        (),
        clock.at,
    )
    found = {row["rule"]: row for row in json.loads(command("alerts", "rules", "--json").stdout)}
    assert found["disk_use_percent"]["worst_now"] == 61.0
    assert found["data_latency_ms"]["note"] == "no streaming sidecar runs"
    assert "completeness_percent" in command("alerts", "rules").stdout


def test_the_seeded_rules_have_the_thresholds_of_the_design(platform: Platform) -> None:
    found = {rule.kpi: rule for rule in platform.alert_rules.rules()}

    def values(name: str) -> list[float]:
        rule: Rule = found[name].checked()
        return [rule.thresholds[each] for each in Severity if each in rule.thresholds]

    assert values("data_latency_ms") == [500, 2000]
    assert values("completeness_percent") == [99.5, 98, 95]
    assert values("connection_uptime_percent") == [99.9, 99, 95]
    assert values("rate_limit_use_percent") == [80, 90, 95]
    assert values("disk_use_percent") == values("memory_use_percent") == [85, 90, 95]


def test_a_store_of_its_own_needs_no_platform(platform: Platform) -> None:
    store = AlertStore(platform.warehouse, Channels({}), lambda: START)
    assert store.raise_("kind", LOW, "A title.", ["a"])


def test_the_sensors_see_real_runs_in_their_ticks(platform: Platform) -> None:
    bad = BadDay()
    defs = dg.Definitions.merge(
        failing_definitions(bad),
        dg.Definitions(
            sensors=alerting.ALERT_SENSORS,
            resources={"platform": dg.ResourceDefinition.none_resource()},
        ),
    )
    repository = defs.get_repository_def()
    cursors: dict[str, str | None] = {}

    def tick(instance: dg.DagsterInstance) -> None:
        for name in ("run_failed_alert", "run_recovered"):
            context = dg.build_sensor_context(
                instance,
                cursors.get(name),
                repository_def=repository,
                sensor_name=name,
                resources={"platform": platform},
            )
            with context:
                found = repository.get_sensor_def(name).evaluate_tick(context)
            assert [each.error for each in found.dagster_run_reactions or []].count(None) == len(
                found.dagster_run_reactions or []
            )
            cursors[name] = found.cursor

    with dg.instance_for_test() as instance:

        def run(*, fails: bool) -> None:
            bad.fails = fails
            job = defs.resolve_implicit_global_asset_job_def()
            selection = [dg.AssetKey(["asx", "bars_5m"])]
            job.execute_in_process(
                instance=instance, asset_selection=selection, raise_on_error=False
            )
            tick(instance)

        run(fails=False)  # the first tick only takes note of where it begins
        run(fails=True)
        assert [row["resolved_at"] is None for row in alerts(platform)] == [True]
        run(fails=False)
        assert [row["resolved_at"] is None for row in alerts(platform)] == [False]


def test_alerts_of_an_older_schema_keep_their_meaning(platform: Platform) -> None:
    engine = sa.create_engine(platform.endpoints.sqlalchemy_url, poolclass=sa.NullPool)

    def migrate(to: str) -> None:
        config = schema._config()
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            (alembic.downgrade if to == "0006" else alembic.upgrade)(config, to)

    migrate("0006")
    execute(
        platform,
        "INSERT INTO public.alerts (fingerprint, kind, severity, title, raised_at) "
        "SELECT severity, 'kind', severity, 'A title', %s "
        "FROM unnest(ARRAY['info', 'warning', 'error']) AS severity",
        START,
    )
    migrate("head")
    assert [(row["severity"], row["last_seen_at"]) for row in alerts(platform)] == [
        ("low", START),
        ("medium", START),
        ("high", START),
    ]
