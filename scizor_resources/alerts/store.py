"""Alerts in PostgreSQL, each with the messages that have to be sent about it.

An alert and its messages are written in one transaction (`alert_deliveries` is an outbox): what
has been raised is said, however often a channel or a process fails in between.
"""

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from scizor_core.alerts import Event, Severity, is_escalation_due
from scizor_core.errors import InvalidInputError
from scizor_resources.alerts.channels import Channels
from scizor_resources.stores.connection import Row
from scizor_resources.stores.warehouse import Warehouse

#: Stands for the channel of a message that was written where none was set up.
NO_CHANNEL = ""
#: Kind of the alerts about channels; they do not go over the channel that they are about.
CHANNEL_FAILED = "channel_failed"

Connection = psycopg.Connection[Row]


@dataclass(frozen=True)
class Raised:
    """What raising an alert came to.

    Attributes:
        alert_id: of the alert.
        is_new: it did not stand before.
        is_worse: it stood, less severe.
    """

    alert_id: int
    is_new: bool
    is_worse: bool = False


def fingerprint_of(kind: str, about: Iterable[str]) -> str:
    """Return what makes two alerts the same matter."""
    return hashlib.sha256(repr((kind, *about)).encode()).hexdigest()


class AlertStore:
    """Access to `alerts` and the messages about them.

    Args:
        warehouse: where they are.
        channels: who is told.
        now: clock, aware.
    """

    def __init__(
        self, warehouse: Warehouse, channels: Channels, now: Callable[[], datetime]
    ) -> None:
        self._warehouse, self._channels, self._now = warehouse, channels, now

    def raise_(
        self, kind: str, severity: Severity, title: str, about: Iterable[str], **detail: Any
    ) -> bool:
        """Raise an alert, once for each matter while it stands; returns whether it is new.

        One that stands counts an occurrence more; where it is worse now, that is said too, and an
        acknowledgement no longer holds.

        Args:
            kind: machine-readable kind, `listing_closed`.
            severity: how bad it is.
            title: a sentence for people.
            about: what makes it this matter and not another.
            detail: further facts; `market` makes that market's hours count for escalation.
        """
        with self._warehouse.connect() as connection:
            return self.raise_in(connection, kind, severity, title, about, detail).is_new

    def raise_in(
        self,
        connection: Connection,
        kind: str,
        severity: Severity,
        title: str,
        about: Iterable[str],
        detail: Mapping[str, Any],
    ) -> Raised:
        """Raise an alert within a transaction of the caller's; see `raise_`."""
        values = {
            "fingerprint": fingerprint_of(kind, about),
            "kind": kind,
            "severity": severity.value,
            "title": title,
            "detail": Jsonb(dict(detail)),
            "at": self._now(),
        }
        while True:
            new = connection.execute(_INSERT, values).fetchone()
            if new is not None:
                self._announce(connection, new, "raised", severity.and_above()[:1])
                return Raised(new["alert_id"], is_new=True)
            stands = connection.execute(_STANDING, values).fetchone()
            if stands is not None:
                break
            # It was resolved between the two statements: then it is a new one.
        if Severity(stands["severity"]).rank >= severity.rank:
            connection.execute(_SEEN_AGAIN, {**values, "alert_id": stands["alert_id"]})
            return Raised(stands["alert_id"], is_new=False)
        worse = connection.execute(_WORSENED, {**values, "alert_id": stands["alert_id"]}).fetchone()
        if worse is None:
            raise AssertionError("a locked row has gone")
        self._announce(connection, worse, "worsened", (severity,))
        return Raised(worse["alert_id"], is_new=False, is_worse=True)

    def resolve(self, kind: str, about: Iterable[str], note: str = "") -> bool:
        """Close the alert of a matter that is over; returns whether one stood.

        Args:
            kind: as it was raised.
            about: as it was raised.
            note: why it is over, for people.
        """
        with self._warehouse.connect() as connection:
            return self.resolve_in(connection, kind, about, note)

    def resolve_in(
        self, connection: Connection, kind: str, about: Iterable[str], note: str
    ) -> bool:
        """Close an alert within a transaction of the caller's; see `resolve`."""
        row = connection.execute(
            "UPDATE public.alerts SET resolved_at = greatest(%s, raised_at), resolution = %s "
            "WHERE fingerprint = %s AND resolved_at IS NULL RETURNING *",
            [self._now(), note, fingerprint_of(kind, about)],
        ).fetchone()
        if row is not None:
            self._announce_recovery(connection, row)
        return row is not None

    def resolve_id(self, alert_id: int, note: str) -> None:
        """Close an alert by its id.

        Raises:
            InvalidInputError: there is no open alert of that id.
        """
        with self._warehouse.connect() as connection:
            row = connection.execute(
                "UPDATE public.alerts SET resolved_at = greatest(%s, raised_at), resolution = %s "
                "WHERE alert_id = %s AND resolved_at IS NULL RETURNING *",
                [self._now(), note, alert_id],
            ).fetchone()
            if row is None:
                raise _not_open(connection, [alert_id])
            self._announce_recovery(connection, row)

    def acknowledge(self, alert_ids: Sequence[int], by: str = "") -> int:
        """Say that somebody looks after these alerts, all or none: they no longer escalate.

        Returns:
            How many had not been acknowledged before.

        Raises:
            InvalidInputError: one of them is not open.
        """
        wanted = sorted(set(alert_ids))
        with self._warehouse.connect() as connection:
            rows = connection.execute(
                "SELECT alert_id, acknowledged_at FROM public.alerts WHERE alert_id = ANY(%s) "
                "AND resolved_at IS NULL ORDER BY alert_id FOR UPDATE",
                [wanted],
            ).fetchall()
            missing = set(wanted) - {row["alert_id"] for row in rows}
            if missing:
                raise _not_open(connection, sorted(missing))
            return connection.execute(
                "UPDATE public.alerts SET acknowledged_at = %s, acknowledged_by = %s "
                "WHERE alert_id = ANY(%s) AND acknowledged_at IS NULL",
                [self._now(), by, wanted],
            ).rowcount

    def escalate(self, open_markets: Collection[str]) -> int:
        """Say the alerts again that nobody has acknowledged in time.

        An alert about a market goes by that market's hours, any other by those of all: it is
        urgent while one of them trades.

        Args:
            open_markets: markets that trade now, of those that are watched.

        Returns:
            Number of alerts that were escalated.
        """
        now, count = self._now(), 0
        with self._warehouse.connect() as connection:
            rows = connection.execute(
                "SELECT *, greatest(raised_at, worsened_at, escalated_at) AS since "
                "FROM public.alerts WHERE resolved_at IS NULL AND acknowledged_at IS NULL "
                "AND severity IN ('critical', 'high') ORDER BY alert_id FOR UPDATE SKIP LOCKED"
            ).fetchall()
            for row in rows:
                severity, market = Severity(row["severity"]), row["detail"].get("market")
                market_open = market in open_markets if market else bool(open_markets)
                if not is_escalation_due(
                    severity, row["escalation_level"], row["since"], now, market_open=market_open
                ):
                    continue
                count += 1
                row["escalation_level"] += 1
                connection.execute(
                    "UPDATE public.alerts SET escalated_at = %s, escalation_level = %s "
                    "WHERE alert_id = %s",
                    [now, row["escalation_level"], row["alert_id"]],
                )
                self._announce(connection, row, "escalated", severity.and_above())
        return count

    def open_alerts(self) -> list[Row]:
        """Return the alerts that stand, the worst and newest first."""
        return self._list("WHERE a.resolved_at IS NULL", _RANK_DOWN, None)

    def history(self, limit: int = 200) -> list[Row]:
        """Return the newest alerts, open or not."""
        return self._list("", "a.raised_at DESC, a.alert_id DESC", limit)

    def of_kind(self, kind: str) -> list[Row]:
        """Return the alerts of a kind that stand, oldest first."""
        with self._warehouse.connect() as connection:
            return connection.execute(
                "SELECT * FROM public.alerts WHERE kind = %s AND resolved_at IS NULL "
                "ORDER BY alert_id",
                [kind],
            ).fetchall()

    def _list(self, where: str, order: str, limit: int | None) -> list[Row]:
        with self._warehouse.connect() as connection:
            return connection.execute(
                "SELECT a.*, count(d.delivery_id) FILTER (WHERE d.status = 'sent') AS sent, "  # noqa: S608  # constants of this module
                "count(d.delivery_id) FILTER (WHERE d.status = 'pending') AS pending "
                "FROM public.alerts AS a LEFT JOIN public.alert_deliveries AS d USING (alert_id) "
                f"{where} GROUP BY a.alert_id ORDER BY {order} LIMIT %s",
                [limit],
            ).fetchall()

    # ---- messages

    def _announce(
        self, connection: Connection, alert: Row, event: Event, severities: Sequence[Severity]
    ) -> None:
        about = alert["detail"].get("channel") if alert["kind"] == CHANNEL_FAILED else None
        names = [name for name in self._channels.names(*severities) if name != about]
        self._write(connection, alert, event, names or [NO_CHANNEL])

    def _announce_recovery(self, connection: Connection, alert: Row) -> None:
        """Tell those of the end who were, or are going to be, told of the beginning."""
        connection.execute(
            "UPDATE public.alert_deliveries SET status = 'failed', "
            "error = 'it was over before a channel was set up' "
            "WHERE alert_id = %s AND channel = %s AND status = 'pending'",
            [alert["alert_id"], NO_CHANNEL],
        )
        rows = connection.execute(
            "SELECT DISTINCT channel FROM public.alert_deliveries "
            "WHERE alert_id = %s AND status <> 'failed' ORDER BY channel",
            [alert["alert_id"]],
        ).fetchall()
        self._write(connection, alert, "resolved", [row["channel"] for row in rows])

    def _write(
        self, connection: Connection, alert: Row, event: Event, channels: Sequence[str]
    ) -> None:
        for channel in channels:
            connection.execute(
                "INSERT INTO public.alert_deliveries (alert_id, channel, event, level, severity, "
                "created_at, next_try_at) VALUES (%(alert_id)s, %(channel)s, %(event)s, "
                "%(level)s, %(severity)s, %(at)s, %(at)s) ON CONFLICT DO NOTHING",
                {
                    "alert_id": alert["alert_id"],
                    "channel": channel,
                    "event": event,
                    "level": alert["escalation_level"],
                    "severity": alert["severity"],
                    "at": self._now(),
                },
            )


def _not_open(connection: Connection, alert_ids: Sequence[int]) -> InvalidInputError:
    rows = connection.execute(
        "SELECT alert_id, resolved_at FROM public.alerts WHERE alert_id = ANY(%s)",
        [list(alert_ids)],
    ).fetchall()
    known = {row["alert_id"]: row["resolved_at"] for row in rows}
    alert_id = alert_ids[0]
    if known.get(alert_id) is not None:
        when = f"{known[alert_id]:%Y-%m-%d %H:%M} UTC"
        return InvalidInputError(f"Alert {alert_id} is over since {when}: nothing was changed.")
    return InvalidInputError(
        f"There is no alert {alert_id}: `scizor alerts list` shows those that stand. Nothing was "
        "changed."
    )


_RANK_DOWN = (
    "array_position(ARRAY['critical', 'high', 'medium', 'low'], a.severity), "
    "a.raised_at DESC, a.alert_id DESC"
)
_INSERT = """
    INSERT INTO public.alerts (fingerprint, kind, severity, title, detail, raised_at, last_seen_at)
    VALUES (%(fingerprint)s, %(kind)s, %(severity)s, %(title)s, %(detail)s, %(at)s, %(at)s)
    ON CONFLICT (fingerprint) WHERE resolved_at IS NULL DO NOTHING RETURNING *
"""
_STANDING = """
    SELECT alert_id, severity FROM public.alerts
    WHERE fingerprint = %(fingerprint)s AND resolved_at IS NULL FOR UPDATE
"""
_SEEN_AGAIN = """
    UPDATE public.alerts SET last_seen_at = %(at)s, occurrences = occurrences + 1,
        detail = %(detail)s WHERE alert_id = %(alert_id)s
"""
_WORSENED = """
    UPDATE public.alerts SET last_seen_at = %(at)s, occurrences = occurrences + 1,
        detail = %(detail)s, title = %(title)s, severity = %(severity)s, worsened_at = %(at)s,
        escalated_at = NULL, escalation_level = 0, acknowledged_at = NULL, acknowledged_by = ''
    WHERE alert_id = %(alert_id)s RETURNING *
"""
