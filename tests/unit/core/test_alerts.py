"""When rules fire and close, when alerts escalate, how many messages go out."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scizor_core.alerts import (
    Change,
    Notice,
    Plan,
    Rule,
    RuleState,
    Severity,
    evaluate,
    is_escalation_due,
    message_of,
    plan_messages,
    retry_after,
    summary_of,
)
from scizor_core.errors import InvalidInputError

LOW, MEDIUM, HIGH, CRITICAL = Severity
START = datetime(2026, 11, 20, 12, tzinfo=UTC)
DISK = Rule("disk_use_percent", "above", {MEDIUM: 85, HIGH: 90, CRITICAL: 95}, clears_at=83)
COMPLETENESS = Rule(
    "completeness_percent", "below", {MEDIUM: 99.5, HIGH: 98, CRITICAL: 95}, clears_at=99.7
)


def minutes(count: float) -> datetime:
    return START + timedelta(minutes=count)


def run(rule: Rule, values: list[float]) -> list[tuple[Change, Severity | None]]:
    """Judge values that come a minute apart; returns what each of them changed."""
    state, out = RuleState(), []
    for number, value in enumerate(values):
        verdict = evaluate(rule, state, value, minutes(number))
        state = verdict.state
        out.append((verdict.change, verdict.severity))
    return out


def test_severities_are_ordered_by_urgency() -> None:
    assert sorted(Severity, key=lambda each: each.rank) == [LOW, MEDIUM, HIGH, CRITICAL]
    assert HIGH.and_above() == (HIGH, CRITICAL)


@pytest.mark.parametrize(
    ("value", "severity"),
    [(99.5, None), (99.4, MEDIUM), (98, MEDIUM), (97.9, HIGH), (95, HIGH), (94.9, CRITICAL)],
)
def test_a_value_below_a_threshold_has_its_severity(
    value: float, severity: Severity | None
) -> None:
    assert COMPLETENESS.severity_of(value) is severity


@pytest.mark.parametrize(
    ("value", "severity"), [(85, None), (85.1, MEDIUM), (90.1, HIGH), (95.1, CRITICAL)]
)
def test_a_value_above_a_threshold_has_its_severity(
    value: float, severity: Severity | None
) -> None:
    assert DISK.severity_of(value) is severity


def test_a_rule_fires_once_and_closes_when_the_value_has_come_back() -> None:
    assert run(DISK, [80, 86, 86, 84, 83, 80]) == [
        ("none", None),
        ("raise", MEDIUM),
        ("none", MEDIUM),
        ("none", MEDIUM),
        ("resolve", None),
        ("none", None),
    ]


def test_a_value_that_swings_around_a_threshold_does_not_flap() -> None:
    changes = [change for change, _ in run(DISK, [84.9, 85.1] * 20)]
    assert changes.count("raise") == 1
    assert changes.count("resolve") == 0


def test_an_alert_that_stands_becomes_worse_but_not_milder() -> None:
    assert run(DISK, [86, 96, 91, 86, 96]) == [
        ("raise", MEDIUM),
        ("worsen", CRITICAL),
        ("none", CRITICAL),
        ("none", CRITICAL),
        ("none", CRITICAL),
    ]


def test_a_value_has_to_be_bad_for_the_time_of_the_rule() -> None:
    rule = Rule("memory_use_percent", "above", {MEDIUM: 85}, for_seconds=120)
    assert [change for change, _ in run(rule, [90, 90, 80, 90, 90, 90])] == [
        "none",
        "none",
        "none",
        "none",
        "none",
        "raise",
    ]


def test_the_severity_raised_is_the_worst_that_has_lasted() -> None:
    rule = Rule("memory_use_percent", "above", {MEDIUM: 85, CRITICAL: 95}, for_seconds=120)
    assert run(rule, [90, 90, 99, 99, 99]) == [
        ("none", None),
        ("none", None),
        ("raise", MEDIUM),
        ("none", MEDIUM),
        ("worsen", CRITICAL),
    ]


def test_a_recovery_has_to_last_as_long_as_the_trouble() -> None:
    rule = Rule("memory_use_percent", "above", {MEDIUM: 85}, for_seconds=60)
    changes = [change for change, _ in run(rule, [90, 90, 80, 90, 80, 80])]
    assert changes == ["none", "raise", "none", "none", "none", "resolve"]


def test_a_rule_without_a_place_to_clear_at_clears_at_its_mildest_threshold() -> None:
    rule = Rule("disk_use_percent", "above", {MEDIUM: 85, HIGH: 90})
    assert [change for change, _ in run(rule, [91, 86, 85])] == ["raise", "none", "resolve"]


@pytest.mark.parametrize(
    "rule",
    [
        Rule("a_percent", "above", {MEDIUM: 90, HIGH: 85}),
        Rule("a_percent", "below", {MEDIUM: 95, HIGH: 99}),
        Rule("a_percent", "above", {MEDIUM: 90}, clears_at=95),
        Rule("a_percent", "below", {MEDIUM: 90}, clears_at=85),
    ],
)
def test_a_rule_that_contradicts_itself_is_refused(rule: Rule) -> None:
    with pytest.raises(InvalidInputError, match=r"a_percent.*contradicts itself"):
        rule.checked()


RULES = st.builds(
    lambda base, steps, gap, seconds, above: Rule(
        "k",
        "above" if above else "below",
        {
            each: (1 if above else -1) * (base + sum(steps[: number + 1]))
            for number, each in enumerate(Severity)
        },
        clears_at=(1 if above else -1) * (base + steps[0] - gap),
        for_seconds=seconds,
    ),
    st.integers(-50, 50),
    st.lists(st.integers(0, 10), min_size=4, max_size=4),
    st.integers(0, 10),
    st.sampled_from([0, 60, 150]),
    st.booleans(),
)


@given(RULES, st.lists(st.integers(-120, 120), max_size=60))
def test_no_sequence_of_values_raises_twice_without_a_resolve_between(
    rule: Rule, values: list[int]
) -> None:
    stands: Severity | None = None
    for change, severity in run(rule.checked(), [float(value) for value in values]):
        if change == "raise":
            assert stands is None
        elif change == "worsen":
            assert stands is not None
            assert severity is not None
            assert severity.rank > stands.rank
        elif change == "resolve":
            assert stands is not None
            assert severity is None
        else:
            assert severity is stands
        stands = severity


@given(RULES, st.lists(st.integers(-120, 120), max_size=60))
def test_what_is_good_for_long_enough_has_no_alert(rule: Rule, values: list[int]) -> None:
    good = -1000.0 if rule.direction == "above" else 1000.0
    changes = run(rule, [*(float(value) for value in values), good, good, good, good])
    assert changes[-1][1] is None


# ---- escalation


@pytest.mark.parametrize(
    ("severity", "market_open", "wait"),
    [(CRITICAL, True, 5), (CRITICAL, False, 30), (HIGH, True, 15), (HIGH, False, 120)],
)
def test_an_alert_escalates_after_its_wait(
    severity: Severity, market_open: bool, wait: int
) -> None:
    def due(after: float) -> bool:
        return is_escalation_due(severity, 0, START, minutes(after), market_open=market_open)

    assert not due(wait - 0.1)
    assert due(wait)


@pytest.mark.parametrize("severity", [MEDIUM, LOW])
def test_medium_and_low_alerts_do_not_escalate(severity: Severity) -> None:
    assert not is_escalation_due(severity, 0, START, minutes(100_000), market_open=True)


@pytest.mark.parametrize(("severity", "levels"), [(CRITICAL, 3), (HIGH, 2)])
def test_escalation_ends_at_the_last_level(severity: Severity, levels: int) -> None:
    late = minutes(100_000)
    assert is_escalation_due(severity, levels - 1, START, late, market_open=True)
    assert not is_escalation_due(severity, levels, START, late, market_open=True)


# ---- messages


@pytest.mark.parametrize(
    ("due", "sent", "plan"),
    [
        ([], 0, Plan(0, 0)),
        ([MEDIUM] * 3, 0, Plan(3, 0)),
        ([MEDIUM] * 5, 0, Plan(5, 0)),
        ([MEDIUM] * 54, 0, Plan(4, 50)),
        ([MEDIUM] * 3, 17, Plan(0, 3)),
        ([MEDIUM], 17, Plan(1, 0)),
        ([MEDIUM], 18, Plan(0, 0)),
        ([CRITICAL], 18, Plan(1, 0)),
        ([CRITICAL, MEDIUM, MEDIUM], 18, Plan(1, 2)),
        ([CRITICAL], 20, Plan(0, 0)),
    ],
    ids=str,
)
def test_messages_of_a_round(due: list[Severity], sent: int, plan: Plan) -> None:
    assert plan_messages(due, sent, per_hour=20) == plan


@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=200),
    st.integers(3, 30),
    st.sampled_from(list(Severity)),
)
def test_no_hour_has_more_messages_than_allowed_and_none_is_lost(
    arrivals: list[int], per_hour: int, severity: Severity
) -> None:
    left: list[int] = []  # minutes in which messages left
    waiting, told = 0, 0
    for minute in range(len(arrivals) + 180):
        waiting += arrivals[minute] if minute < len(arrivals) else 0
        recent = sum(at > minute - 60 for at in left)
        plan = plan_messages([severity] * waiting, recent, per_hour)
        left += [minute] * (plan.single + (plan.summarised > 0))
        waiting -= plan.single + plan.summarised
        told += plan.single + plan.summarised
        assert sum(at > minute - 60 for at in left) <= per_hour
    assert (waiting, told) == (0, sum(arrivals))


def test_tries_become_rarer_up_to_half_an_hour() -> None:
    waits = [retry_after(attempts) / timedelta(minutes=1) for attempts in range(1, 9)]
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30]
    assert retry_after(100_000) == timedelta(minutes=30)


def notice(**changes: object) -> Notice:
    known = {
        "alert_id": 7,
        "event": "raised",
        "severity": HIGH,
        "kind": "disk_use_percent",
        "title": "Disk use of SCIZOR_HOME is 91 %.",
        "raised_at": START,
        "at": START,
    }
    return Notice(**{**known, **changes})  # type: ignore[arg-type]


def test_a_message_says_what_it_is_and_how_to_answer() -> None:
    message = message_of(notice())
    assert message.title == "SCIZOR high: Disk use of SCIZOR_HOME is 91 %."
    assert "scizor alerts ack 7" in message.body
    assert not message.is_recovery


def test_the_message_of_a_recovery_says_why_it_is_over() -> None:
    message = message_of(notice(event="resolved", note="Disk use is 80 %"))
    assert message.is_recovery
    assert "Disk use is 80 %" in message.body
    assert "ack" not in message.body


def test_a_summary_counts_what_it_does_not_list() -> None:
    message = summary_of([notice(alert_id=number) for number in range(1, 51)])
    assert message.title == "SCIZOR 50 more alerts, the worst high"
    assert "20 high: Disk use" in message.body
    assert "... and 30 more" in message.body
