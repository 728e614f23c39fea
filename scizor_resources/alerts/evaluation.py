"""One round of alerts: measure, judge, escalate, send."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from scizor_core.alerts import Measurement, Severity
from scizor_core.errors import ScizorError
from scizor_core.markets import MARKETS
from scizor_core.sessions import get_calendar
from scizor_resources.alerts.kpis import MEASURES, Measure
from scizor_resources.alerts.notifier import DeliveryReport
from scizor_resources.alerts.rules import Judgement
from scizor_resources.budget.link import ValkeyAway
from scizor_resources.platform import Platform

#: Kind of the alert about a KPI that could not be measured.
MEASUREMENT_FAILED = "measurement_failed"


@dataclass
class EvaluationReport:
    """What a round of alerts came to.

    Attributes:
        judgement: of the rules.
        not_measured: KPI -> the error that kept it from being measured.
        escalated: alerts that were said again.
        delivery: of the messages.
    """

    judgement: Judgement
    not_measured: dict[str, str] = field(default_factory=dict)
    escalated: int = 0
    delivery: DeliveryReport = field(default_factory=DeliveryReport)


def evaluate_alerts(
    platform: Platform, measures: Mapping[str, Measure] = MEASURES
) -> EvaluationReport:
    """Evaluate every rule, raise and resolve alerts, escalate them, send what is due.

    A KPI that cannot be measured is an alert itself, and leaves its alerts as they are.

    Args:
        platform: the opened platform.
        measures: KPI -> what measures it.

    Raises:
        WarehouseError: PostgreSQL cannot be reached.
    """
    now = platform.now()
    enabled = {rule.kpi for rule in platform.alert_rules.rules() if rule.is_enabled}
    found: list[Measurement] = []
    failed: dict[str, str] = {}
    for kpi, measure in measures.items():
        if kpi not in enabled:
            continue
        try:
            found += measure(platform, now)
        except (ScizorError, ValkeyAway) as error:
            failed[kpi] = str(error)
            title = f"{kpi} could not be measured: {error}"
            platform.alerts.raise_(MEASUREMENT_FAILED, Severity.MEDIUM, title, (kpi,), kpi=kpi)
    for alert in platform.alerts.of_kind(MEASUREMENT_FAILED):
        if alert["detail"].get("kpi") not in failed:
            platform.alerts.resolve(
                MEASUREMENT_FAILED, (alert["detail"]["kpi"],), "it is measured again"
            )
    judgement = platform.alert_rules.judge(found, set(measures) - set(failed), now)
    escalated = platform.alerts.escalate(open_markets(platform, now))
    return EvaluationReport(judgement, failed, escalated, platform.notifier.deliver(now))


def open_markets(platform: Platform, now: datetime) -> set[str]:
    """Return the markets that are watched and trade now."""
    watched = {each.market for each in platform.reference.watchlist(active_only=True)}
    return {each for each in MARKETS if each in watched and get_calendar(each).is_open(now)}
