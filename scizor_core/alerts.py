"""Alerts: how bad, when a rule fires, when nobody has answered, how many messages are too many.

Everything here is a decision about values that are handed in; nothing is measured, kept or sent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal

from scizor_core.errors import InvalidInputError


class Severity(StrEnum):
    """How bad it is; the order of the members is the order of urgency."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """0 for low to 3 for critical."""
        return _ORDER[self]

    def and_above(self) -> tuple["Severity", ...]:
        """Return this severity and those that are worse, this one first."""
        return tuple(each for each in Severity if each.rank >= self.rank)


_ORDER = {each: number for number, each in enumerate(Severity)}

Direction = Literal["above", "below"]
Change = Literal["none", "raise", "worsen", "resolve"]
Event = Literal["raised", "worsened", "escalated", "resolved"]


# ---- rules


@dataclass(frozen=True)
class Rule:
    """When a measured value is an alert.

    Attributes:
        kpi: what is measured, with its unit: `completeness_percent`.
        direction: the values that are bad: above or below the thresholds.
        thresholds: severity -> the value beyond which it applies; a value equal to it is good.
        clears_at: an alert closes when the value has come back to it; None: to the mildest
            threshold. Between the two an alert that stands stays, and none is raised.
        for_seconds: how long a value has to be bad, and good again, to count.
        is_enabled: off: nothing is raised, and what stands is closed.
        description: for people.
    """

    kpi: str
    direction: Direction
    thresholds: Mapping[Severity, float]
    clears_at: float | None = None
    for_seconds: float = 0
    is_enabled: bool = True
    description: str = ""

    def checked(self) -> "Rule":
        """Return the rule itself, if it can be used.

        Raises:
            InvalidInputError: a worse severity has a milder threshold, or the alert could never
                close; rules are edited by hand.
        """
        ordered = [self.thresholds[each] for each in Severity if each in self.thresholds]
        if not self.is_bad_order(ordered):
            return self
        raise InvalidInputError(
            f"The rule '{self.kpi}' contradicts itself: going from low to critical its thresholds "
            f"have to go {'up' if self.direction == 'above' else 'down'}, and clears_at has to lie "
            "on the good side of them. Correct it in public.alert_rules."
        )

    def is_bad_order(self, thresholds: Sequence[float]) -> bool:
        """Say whether thresholds, mildest first, contradict each other or `clears_at`."""
        clears = [] if self.clears_at is None else [self.clears_at]
        signed = [self._signed(each) for each in (*clears, *thresholds)]
        return any(later < earlier for earlier, later in zip(signed, signed[1:], strict=False))

    def severity_of(self, value: float) -> Severity | None:
        """Return the worst severity whose threshold the value is beyond, None where it is good."""
        beyond = [each for each in self.thresholds if self._is_beyond(value, self.thresholds[each])]
        return max(beyond, key=lambda each: each.rank, default=None)

    def is_clear(self, value: float) -> bool:
        """Say whether the value is good enough to close an alert."""
        if not self.thresholds:
            return True
        mildest = min(self.thresholds, key=lambda each: each.rank)
        limit = self.thresholds[mildest] if self.clears_at is None else self.clears_at
        return not self._is_beyond(value, limit)

    def _is_beyond(self, value: float, threshold: float) -> bool:
        return self._signed(value) > self._signed(threshold)

    def _signed(self, value: float) -> float:
        return value if self.direction == "above" else -value


@dataclass(frozen=True)
class RuleState:
    """What is remembered of a rule and a subject between two measurements.

    Attributes:
        raised: severity of the alert that stands, None without one.
        since: severity -> since when the value has been at least so bad without a break.
        clear_since: since when it has been good enough to close the alert.
    """

    raised: Severity | None = None
    since: Mapping[Severity, datetime] = field(default_factory=dict)
    clear_since: datetime | None = None


@dataclass(frozen=True)
class Verdict:
    """What a measurement means.

    Attributes:
        change: raise an alert, make the one that stands worse, resolve it, or nothing.
        severity: of the alert after the change, None where none stands.
        state: what to remember.
    """

    change: Change
    severity: Severity | None
    state: RuleState


def evaluate(rule: Rule, state: RuleState, value: float, at: datetime) -> Verdict:
    """Judge one measurement.

    An alert is raised when a value has been beyond a threshold for `for_seconds`, at the worst
    severity of which that is true. While it stands it only becomes worse. It is resolved when the
    value has been on the good side of `clears_at` for `for_seconds`.

    Args:
        rule: the rule.
        state: what the last judgement left, and the severity of the alert that stands.
        value: in the rule's unit.
        at: when it was measured, aware; not before the last one.
    """
    level = rule.severity_of(value)
    since = {
        each: state.since.get(each, at)
        for each in rule.thresholds
        if level is not None and each.rank <= level.rank
    }
    hold = timedelta(seconds=rule.for_seconds)
    held = [each for each, start in since.items() if at - start >= hold]
    worst = max(held, key=lambda each: each.rank, default=None)
    clear_since = (state.clear_since or at) if rule.is_clear(value) else None
    if state.raised is None:
        after = RuleState(worst, since, clear_since)
        return Verdict("none" if worst is None else "raise", worst, after)
    if worst is not None and worst.rank > state.raised.rank:
        return Verdict("worsen", worst, RuleState(worst, since, clear_since))
    if clear_since is not None and at - clear_since >= hold:
        return Verdict("resolve", None, RuleState(None, since, clear_since))
    return Verdict("none", state.raised, RuleState(state.raised, since, clear_since))


@dataclass(frozen=True)
class Measurement:
    """One value of a KPI.

    Attributes:
        kpi: name of its rule.
        subject: what was measured: a symbol, a provider, a disk.
        value: in the unit of the rule; None where it cannot be measured now.
        market: the market that it concerns, "" for all.
        note: why there is no value, or more about it.
    """

    kpi: str
    subject: str
    value: float | None
    market: str = ""
    note: str = ""


# ---- escalation


@dataclass(frozen=True)
class Escalation:
    """When an alert that nobody has acknowledged is said again, and how often.

    Attributes:
        open_minutes: wait while the market is open, from the alert or the escalation before.
        closed_minutes: the same while it is closed.
        levels: number of escalations.
    """

    open_minutes: int
    closed_minutes: int
    levels: int

    def wait(self, *, market_open: bool) -> timedelta:
        """Return the wait before the next escalation."""
        return timedelta(minutes=self.open_minutes if market_open else self.closed_minutes)


#: Medium and low alerts wait for somebody to look.
ESCALATIONS: Mapping[Severity, Escalation] = {
    Severity.CRITICAL: Escalation(open_minutes=5, closed_minutes=30, levels=3),
    Severity.HIGH: Escalation(open_minutes=15, closed_minutes=120, levels=2),
}


def is_escalation_due(
    severity: Severity, level: int, since: datetime, at: datetime, *, market_open: bool
) -> bool:
    """Say whether an unacknowledged alert has to be said again.

    Args:
        severity: of the alert.
        level: escalations so far.
        since: the last escalation, or when it was raised or became worse; aware.
        at: the present, aware.
        market_open: whether the market that it concerns trades.
    """
    policy = ESCALATIONS.get(severity)
    if policy is None or level >= policy.levels:
        return False
    return at - since >= policy.wait(market_open=market_open)


# ---- messages

#: Messages that go out at once; when more are due the rest comes as one summary.
BURST_MESSAGES = 5
#: Messages of each hour that only critical alerts may use.
KEPT_FOR_CRITICAL = 2
_FIRST_RETRY = timedelta(minutes=1)
_LONGEST_RETRY = timedelta(minutes=30)
_SUMMARY_LINES = 20


@dataclass(frozen=True)
class Plan:
    """How many of the messages that are due go out now.

    Attributes:
        single: the first so many, one by one.
        summarised: the next so many, together in one message.
    """

    single: int
    summarised: int


def plan_messages(due: Sequence[Severity], sent_last_hour: int, per_hour: int) -> Plan:
    """Return how the messages due on a channel go out.

    At most `per_hour` messages leave in an hour and five at once, the last of them a summary where
    more are due. What finds no room waits for the next round.

    Args:
        due: severities of the messages, the most severe first.
        sent_last_hour: messages of the last 60 minutes.
        per_hour: most messages in 60 minutes.
    """
    if not due:
        return Plan(0, 0)
    kept = 0 if due[0] is Severity.CRITICAL else min(KEPT_FOR_CRITICAL, per_hour - 1)
    room = min(per_hour - kept - sent_last_hour, BURST_MESSAGES)
    if room <= 0:
        return Plan(0, 0)
    if len(due) <= room:
        return Plan(len(due), 0)
    return Plan(room - 1, len(due) - room + 1)


def retry_after(attempts: int) -> timedelta:
    """Return the wait after so many failed attempts: 1, 2, 4, 8, 16, then 30 minutes."""
    doublings = min(max(attempts, 1) - 1, 10)
    return min(_FIRST_RETRY * int(2**doublings), _LONGEST_RETRY)


@dataclass(frozen=True)
class Notice:
    """One thing to say.

    Attributes:
        alert_id: of the alert.
        event: what has happened to it.
        severity: how bad it was then.
        kind: of the alert.
        title: a sentence.
        raised_at: UTC.
        at: when the event was, UTC.
        level: escalations so far.
        note: why it is over, for a resolved one.
    """

    alert_id: int
    event: Event
    severity: Severity
    kind: str
    title: str
    raised_at: datetime
    at: datetime
    level: int = 0
    note: str = ""


@dataclass(frozen=True)
class Message:
    """What goes over a channel.

    Attributes:
        title: one line.
        body: plain text.
        severity: the worst in it.
        is_recovery: nothing in it is bad any more.
    """

    title: str
    body: str
    severity: Severity
    is_recovery: bool = False


def message_of(notice: Notice) -> Message:
    """Return the message that tells of one notice."""
    lines = [
        notice.title,
        "",
        f"alert {notice.alert_id}, {notice.kind}, {notice.severity}",
        f"raised {notice.raised_at:%Y-%m-%d %H:%M:%S} UTC",
    ]
    if notice.event == "resolved":
        lines.append(f"resolved {notice.at:%Y-%m-%d %H:%M:%S} UTC: {notice.note or 'it is over'}")
    else:
        lines.append(f"acknowledge: scizor alerts ack {notice.alert_id}")
    return Message(
        title=f"SCIZOR {_label(notice)}: {_shortened(notice.title)}",
        body="\n".join(lines),
        severity=notice.severity,
        is_recovery=notice.event == "resolved",
    )


def summary_of(notices: Sequence[Notice]) -> Message:
    """Return one message that tells of several notices."""
    worst = max((each.severity for each in notices), key=lambda each: each.rank)
    lines = [
        f"{each.alert_id} {_label(each)}: {_shortened(each.title)}"
        for each in notices[:_SUMMARY_LINES]
    ]
    if len(notices) > _SUMMARY_LINES:
        lines.append(f"... and {len(notices) - _SUMMARY_LINES} more")
    lines += ["", "all of them: scizor alerts list --all"]
    return Message(
        title=f"SCIZOR {len(notices)} more alerts, the worst {worst}",
        body="\n".join(lines),
        severity=worst,
        is_recovery=all(each.event == "resolved" for each in notices),
    )


def _label(notice: Notice) -> str:
    words = {
        "raised": f"{notice.severity}",
        "worsened": f"{notice.severity}, worse than before",
        "escalated": f"{notice.severity}, not acknowledged (escalation {notice.level})",
        "resolved": "resolved",
    }
    return words[notice.event]


def _shortened(text: str, length: int = 200) -> str:
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[: length - 3]}..."
