"""Sends the messages about alerts: once each, again later where a channel fails, not too many.

One notifier at a time has a channel (an advisory lock of its connection). Each message is marked
as sent in the transaction that holds its row while it is sent: two notifiers never send the same
one, and one that is killed between sending and marking leads to a repetition, not to a loss.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import psycopg

from scizor_core.alerts import (
    Message,
    Notice,
    Severity,
    message_of,
    plan_messages,
    retry_after,
    summary_of,
)
from scizor_resources.alerts.channels import Channel, ChannelError, Channels
from scizor_resources.alerts.store import CHANNEL_FAILED, NO_CHANNEL, AlertStore
from scizor_resources.stores.connection import Row
from scizor_resources.stores.warehouse import Warehouse

#: Messages that nobody could be told of within this time are given up.
NO_CHANNEL_DAYS = 1
_HOUR = timedelta(hours=1)
#: First half of the key of the lock on a channel; any constant will do.
_LOCK_KEY = 7_249_012


@dataclass
class DeliveryReport:
    """What a round of deliveries came to.

    Attributes:
        sent: alerts' messages that were sent, those in summaries included.
        summaries: messages that told of several.
        held: messages that wait because the channel has had enough for now.
        errors: channel -> sentence, for each that failed.
        moved: messages that were addressed to a channel that is no longer set up.
    """

    sent: int = 0
    summaries: int = 0
    held: int = 0
    errors: dict[str, str] = field(default_factory=dict)
    moved: int = 0


class Notifier:
    """Sends what the outbox holds.

    Args:
        warehouse: where the outbox is.
        store: where alerts about channels go.
        channels: the ways to reach people.
        per_hour: most messages of a channel in 60 minutes.
    """

    def __init__(
        self, warehouse: Warehouse, store: AlertStore, channels: Channels, per_hour: int
    ) -> None:
        self._warehouse, self._store = warehouse, store
        self._channels, self._per_hour = channels, per_hour

    def deliver(self, now: datetime) -> DeliveryReport:
        """Send the messages that are due.

        A channel that fails raises an alert of kind `channel_failed`, which does not go over that
        channel; its messages wait and are tried again. Its next success closes the alert.

        Args:
            now: the present, aware.
        """
        report = DeliveryReport()
        self._forget_failures()
        with self._warehouse.connect() as connection:
            report.moved = self._address_anew(connection, now)
        for channel in self._channels.all():
            with self._alone(channel.name) as connection:
                if connection is not None:
                    self._deliver(connection, channel, now, report)
        return report

    @contextmanager
    def _alone(self, name: str) -> Iterator[psycopg.Connection[Row] | None]:
        """Lend a connection that has the channel for itself, None where another one has it."""
        with self._warehouse.connect() as connection:
            connection.autocommit = True
            row = connection.execute(
                "SELECT pg_try_advisory_lock(%s, hashtext(%s)) AS mine", [_LOCK_KEY, name]
            ).fetchone()
            yield connection if row is not None and row["mine"] else None

    def _deliver(
        self,
        connection: psycopg.Connection[Row],
        channel: Channel,
        now: datetime,
        report: DeliveryReport,
    ) -> None:
        due = connection.execute(_DUE, {"channel": channel.name, "now": now}).fetchall()
        sent = connection.execute(
            "SELECT count(DISTINCT sent_at) FILTER (WHERE is_summarised) "
            "+ count(*) FILTER (WHERE NOT is_summarised) AS n FROM public.alert_deliveries "
            "WHERE channel = %s AND status = 'sent' AND sent_at > %s",
            [channel.name, now - _HOUR],
        ).fetchone()
        severities = [Severity(row["severity"]) for row in due]
        plan = plan_messages(severities, sent["n"] if sent else 0, self._per_hour)
        batches = [[row["delivery_id"]] for row in due[: plan.single]]
        if plan.summarised:
            summarised = due[plan.single : plan.single + plan.summarised]
            batches.append([row["delivery_id"] for row in summarised])
        report.held += len(due) - sum(len(batch) for batch in batches)
        for batch in batches:
            try:
                count = self._send(connection, channel, batch, now)
            except ChannelError as error:
                report.errors[channel.name] = str(error)
                self._failed(connection, channel, batch, str(error), now)
                return
            report.sent += count
            report.summaries += len(batch) > 1
        if batches:
            self._store.resolve(CHANNEL_FAILED, (channel.name,), "it takes messages again")

    def _send(
        self,
        connection: psycopg.Connection[Row],
        channel: Channel,
        delivery_ids: Sequence[int],
        now: datetime,
    ) -> int:
        """Send one message about these deliveries; returns how many they still were."""
        with connection.transaction():
            rows = connection.execute(_TAKE, [list(delivery_ids)]).fetchall()
            if not rows:
                return 0
            channel.send(_message([_notice(row) for row in rows]))
            connection.execute(
                "UPDATE public.alert_deliveries SET status = 'sent', sent_at = %s, error = '', "
                "attempt = attempt + 1, is_summarised = %s WHERE delivery_id = ANY(%s)",
                [now, len(rows) > 1, [row["delivery_id"] for row in rows]],
            )
        return len(rows)

    def _failed(
        self,
        connection: psycopg.Connection[Row],
        channel: Channel,
        delivery_ids: Sequence[int],
        error: str,
        now: datetime,
    ) -> None:
        """Let the whole channel rest, and raise the alert about it."""
        with connection.transaction():
            row = connection.execute(
                "UPDATE public.alert_deliveries SET attempt = attempt + 1, error = %s "
                "WHERE delivery_id = ANY(%s) AND status = 'pending' RETURNING attempt",
                [error, list(delivery_ids)],
            ).fetchone()
            attempts = int(row["attempt"]) if row else 1
            connection.execute(
                "UPDATE public.alert_deliveries SET next_try_at = %s "
                "WHERE channel = %s AND status = 'pending'",
                [now + retry_after(attempts), channel.name],
            )
        self._store.raise_(
            CHANNEL_FAILED,
            Severity.HIGH,
            f"{error.rstrip('.')}. Its messages wait and are tried again.",
            (channel.name,),
            channel=channel.name,
        )

    # ---- channels that are no longer there

    def _forget_failures(self) -> None:
        if not self._channels.all():
            return
        for alert in self._store.of_kind(CHANNEL_FAILED):
            name = alert["detail"]["channel"]
            if self._channels.get(name) is None:
                self._store.resolve(CHANNEL_FAILED, (name,), "it is no longer set up")

    def _address_anew(self, connection: psycopg.Connection[Row], now: datetime) -> int:
        """Give messages of channels that the settings no longer have to those that they have."""
        names = [each.name for each in self._channels.all()]
        rows = connection.execute(
            "SELECT d.*, a.kind, a.detail FROM public.alert_deliveries AS d "
            "JOIN public.alerts AS a USING (alert_id) WHERE d.status = 'pending' "
            "AND NOT d.channel = ANY(%s) ORDER BY d.delivery_id FOR UPDATE OF d SKIP LOCKED",
            [names],
        ).fetchall()
        moved = 0
        for row in rows:
            about = row["detail"].get("channel") if row["kind"] == CHANNEL_FAILED else None
            severity = Severity(row["severity"])
            wanted = severity.and_above() if row["event"] == "escalated" else (severity,)
            heirs = [name for name in self._channels.names(*wanted) if name != about]
            if heirs:
                moved += 1
                _hand_over(connection, row, heirs)
            elif now - row["created_at"] > timedelta(days=NO_CHANNEL_DAYS):
                _close(connection, row, f"no channel was set up for severity {severity}")
        return moved


def _hand_over(connection: psycopg.Connection[Row], row: Row, heirs: Sequence[str]) -> None:
    for heir in heirs:
        connection.execute(
            "INSERT INTO public.alert_deliveries (alert_id, channel, event, level, severity, "
            "created_at, next_try_at) VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
            [
                row["alert_id"],
                heir,
                row["event"],
                row["level"],
                row["severity"],
                row["created_at"],
                row["created_at"],
            ],
        )
    why = "no channel was set up" if row["channel"] == NO_CHANNEL else "no longer set up"
    _close(connection, row, f"{why}; addressed to {', '.join(heirs)} instead")


def _close(connection: psycopg.Connection[Row], row: Row, error: str) -> None:
    connection.execute(
        "UPDATE public.alert_deliveries SET status = 'failed', error = %s WHERE delivery_id = %s",
        [error, row["delivery_id"]],
    )


def _message(notices: Sequence[Notice]) -> Message:
    return message_of(notices[0]) if len(notices) == 1 else summary_of(notices)


def _notice(row: Row) -> Notice:
    return Notice(
        alert_id=row["alert_id"],
        event=row["event"],
        severity=Severity(row["severity"]),
        kind=row["kind"],
        title=row["title"],
        raised_at=row["raised_at"],
        at=row["created_at"],
        level=row["level"],
        note=row["resolution"],
    )


_ORDER = "array_position(ARRAY['critical', 'high', 'medium', 'low'], a.severity), d.delivery_id"
_DUE = f"""
    SELECT d.delivery_id, a.severity
    FROM public.alert_deliveries AS d JOIN public.alerts AS a USING (alert_id)
    WHERE d.channel = %(channel)s AND d.status = 'pending' AND d.next_try_at <= %(now)s
    ORDER BY {_ORDER}
"""  # noqa: S608  # a constant
_TAKE = f"""
    SELECT d.delivery_id, d.alert_id, d.event, d.level, d.severity, d.created_at, a.kind, a.title,
           a.raised_at, a.resolution
    FROM public.alert_deliveries AS d JOIN public.alerts AS a USING (alert_id)
    WHERE d.delivery_id = ANY(%s) AND d.status = 'pending'
    ORDER BY {_ORDER} FOR UPDATE OF d SKIP LOCKED
"""  # noqa: S608  # a constant
