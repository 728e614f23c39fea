"""Rules against measurements: what was measured becomes alerts, and recoveries close them."""

import csv
import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib import resources
from typing import Any

from psycopg.types.json import Jsonb

from scizor_core.alerts import Measurement, Rule, RuleState, Severity, Verdict, evaluate
from scizor_core.errors import InvalidInputError
from scizor_resources.alerts.store import AlertStore, Connection, fingerprint_of
from scizor_resources.stores.connection import Row
from scizor_resources.stores.warehouse import Warehouse

#: Two evaluations go one after the other; any constant will do.
_LOCK_KEY = 7_249_013
#: Kind of the alert about a rule that contradicts itself.
RULE_INVALID = "alert_rule_invalid"
_UNITS = {"percent": " %", "ms": " ms", "minutes": " minutes"}


@dataclass
class Judgement:
    """What an evaluation came to.

    Attributes:
        measured: values that were judged.
        unmeasured: subject -> why it has no value.
        raised: titles of new alerts.
        worsened: titles of those that became worse.
        resolved: subjects whose alert was closed.
    """

    measured: int = 0
    unmeasured: dict[str, str] = field(default_factory=dict)
    raised: list[str] = field(default_factory=list)
    worsened: list[str] = field(default_factory=list)
    resolved: list[str] = field(default_factory=list)


class RuleBook:
    """Access to the rules, and their judgement.

    Args:
        warehouse: where they are.
        alerts: where alerts go.
    """

    def __init__(self, warehouse: Warehouse, alerts: AlertStore) -> None:
        self._warehouse, self._alerts = warehouse, alerts

    def rules(self) -> list[Rule]:
        """Return the rules as users have them; absent defaults are put there first."""
        with self._warehouse.connect() as connection:
            return _rules(connection)

    def measurements(self) -> list[Row]:
        """Return the last value of every rule and subject, by rule and subject."""
        with self._warehouse.connect() as connection:
            return connection.execute(
                "SELECT kpi, subject, value, note, measured_at FROM public.alert_measurements "
                "ORDER BY kpi, subject"
            ).fetchall()

    def judge(
        self, found: Sequence[Measurement], complete: Collection[str], at: datetime
    ) -> Judgement:
        """Judge measurements, all in one transaction.

        Args:
            found: the measurements.
            complete: KPIs of which every subject is among them; an alert about any other subject
                of theirs is closed, as it is no longer judged.
            at: when it was measured, aware.
        """
        judgement = Judgement()
        with self._warehouse.connect() as connection:
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK_KEY])
            rules = {rule.kpi: rule for rule in self._usable(connection)}
            states = _states(connection)
            standing = _standing(connection)
            for each in found:
                rule = rules.get(each.kpi)
                if rule is None or not rule.is_enabled:
                    continue
                state = states.get((each.kpi, each.subject), RuleState())
                raised = standing.get(fingerprint_of(each.kpi, (each.subject,)))
                state = RuleState(raised, state.since, state.clear_since)
                self._judge(connection, rule, each, state, at, judgement)
            kept = {(each.kpi, each.subject) for each in found}
            for kpi, subject in states.keys() - kept:
                if kpi in complete:
                    self._forget(connection, kpi, subject, "it is no longer judged", judgement)
            for kpi, subject in states:
                if kpi not in rules or not rules[kpi].is_enabled:
                    self._forget(connection, kpi, subject, "its rule is switched off", judgement)
        return judgement

    def _judge(
        self,
        connection: Connection,
        rule: Rule,
        each: Measurement,
        state: RuleState,
        at: datetime,
        judgement: Judgement,
    ) -> None:
        if each.value is None or not math.isfinite(each.value):
            judgement.unmeasured[f"{each.kpi} {each.subject}"] = each.note
            _remember(connection, each, state, at)
            return
        judgement.measured += 1
        verdict = evaluate(rule, state, each.value, at)
        _remember(connection, each, verdict.state, at)
        if verdict.change == "resolve":
            note = f"{_label(rule.kpi)} is {_amount(rule.kpi, each.value)}"
            self._alerts.resolve_in(connection, rule.kpi, (each.subject,), note)
            judgement.resolved.append(f"{rule.kpi} {each.subject}")
        elif verdict.severity is not None and rule.severity_of(each.value) is not None:
            title = self._tell(connection, rule, each, each.value, verdict)
            if verdict.change == "raise":
                judgement.raised.append(title)
            elif verdict.change == "worsen":
                judgement.worsened.append(title)

    def _tell(
        self, connection: Connection, rule: Rule, each: Measurement, value: float, verdict: Verdict
    ) -> str:
        if verdict.severity is None:
            raise AssertionError("nothing to tell")
        threshold = rule.thresholds[verdict.severity]
        title = (
            f"{_label(rule.kpi)} of {each.subject} is {_amount(rule.kpi, value)}, {rule.direction} "
            f"{_amount(rule.kpi, threshold)}{f' ({each.note})' if each.note else ''}."
        )
        detail: dict[str, Any] = {
            "subject": each.subject,
            "value": value,
            "threshold": threshold,
            "note": each.note,
        }
        if each.market:
            detail["market"] = each.market
        self._alerts.raise_in(
            connection, rule.kpi, verdict.severity, title, (each.subject,), detail
        )
        return title

    def _forget(
        self, connection: Connection, kpi: str, subject: str, why: str, judgement: Judgement
    ) -> None:
        connection.execute(
            "DELETE FROM public.alert_measurements WHERE kpi = %s AND subject = %s", [kpi, subject]
        )
        if self._alerts.resolve_in(connection, kpi, (subject,), why):
            judgement.resolved.append(f"{kpi} {subject}")

    def _usable(self, connection: Connection) -> Iterable[Rule]:
        for rule in _rules(connection):
            try:
                usable = rule.checked()
            except InvalidInputError as error:
                self._alerts.raise_in(
                    connection, RULE_INVALID, Severity.MEDIUM, str(error), (rule.kpi,), {}
                )
                continue
            self._alerts.resolve_in(connection, RULE_INVALID, (rule.kpi,), "it was corrected")
            yield usable


def default_rules() -> list[dict[str, str]]:
    """Return the rules that come with the platform (`seeds/alert_rules.csv`)."""
    text = resources.files("scizor_resources").joinpath("seeds/alert_rules.csv").read_text()
    return list(csv.DictReader(text.splitlines()))


def _rules(connection: Connection) -> list[Rule]:
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO public.alert_rules (kpi, direction, low, medium, high, critical, "
            "clears_at, for_seconds, enabled, description) VALUES (%(kpi)s, %(direction)s, "
            "%(low)s, %(medium)s, %(high)s, %(critical)s, %(clears_at)s, %(for_seconds)s, "
            "%(enabled)s, %(description)s) ON CONFLICT (kpi) DO NOTHING",
            [{key: value or None for key, value in row.items()} for row in default_rules()],
        )
        rows = cursor.execute("SELECT * FROM public.alert_rules ORDER BY kpi").fetchall()
    return [
        Rule(
            kpi=row["kpi"],
            direction=row["direction"],
            thresholds={each: row[each] for each in Severity if row[each] is not None},
            clears_at=row["clears_at"],
            for_seconds=row["for_seconds"],
            is_enabled=row["enabled"],
            description=row["description"],
        )
        for row in rows
    ]


def _states(connection: Connection) -> dict[tuple[str, str], RuleState]:
    rows = connection.execute("SELECT * FROM public.alert_measurements").fetchall()
    return {
        (row["kpi"], row["subject"]): RuleState(
            since={
                Severity(name): datetime.fromisoformat(text) for name, text in row["since"].items()
            },
            clear_since=row["clear_since"],
        )
        for row in rows
    }


def _standing(connection: Connection) -> dict[str, Severity]:
    rows = connection.execute(
        "SELECT fingerprint, severity FROM public.alerts WHERE resolved_at IS NULL"
    ).fetchall()
    return {row["fingerprint"]: Severity(row["severity"]) for row in rows}


def _remember(connection: Connection, each: Measurement, state: RuleState, at: datetime) -> None:
    connection.execute(
        "INSERT INTO public.alert_measurements AS m (kpi, subject, value, note, since, "
        "clear_since, measured_at) VALUES (%s, %s, %s, %s, %s, %s, %s) "
        "ON CONFLICT (kpi, subject) DO UPDATE SET value = excluded.value, note = excluded.note, "
        "since = excluded.since, clear_since = excluded.clear_since, "
        "measured_at = excluded.measured_at",
        [
            each.kpi,
            each.subject,
            each.value,
            each.note,
            Jsonb({name.value: start.isoformat() for name, start in state.since.items()}),
            state.clear_since,
            at,
        ],
    )


def _label(kpi: str) -> str:
    words = kpi.split("_")
    known = words[:-1] if words[-1] in _UNITS else words
    return " ".join(known).capitalize()


def _amount(kpi: str, value: float) -> str:
    return f"{value:,.4g}{_UNITS.get(kpi.rsplit('_', 1)[-1], '')}"
