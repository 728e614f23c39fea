"""What is older than its table's policy allows: counted, or taken away in small transactions."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from scizor_core.retention import RetentionPolicy
from scizor_resources.stores.warehouse import Warehouse

#: Rows of one transaction: small enough to hold nobody up, and to lose little when killed.
BATCH_ROWS = 20_000


@dataclass(frozen=True)
class _Target:
    """Where a policy's rows lie, and what happens to them.

    Attributes:
        table: physical table.
        age: expression of a row's time, a timestamptz.
        where: further condition on the rows.
        clear: assignments that empty the rows; they are deleted where there is none.
    """

    table: str
    age: str
    where: str = "true"
    clear: str = ""


_UTC_DAY = "(day::timestamp AT TIME ZONE 'UTC')"
_TARGETS: dict[str, tuple[_Target, ...]] = {
    "price_data_5min": (_Target("public.price_data_5min", '"timestamp"'),),
    "protocol_fundamentals": (_Target("glass.protocol_fundamental_values", _UTC_DAY),),
    "on_chain_metrics": (_Target("glass.on_chain_metric_values", "ts"),),
    "news_sentiment": (_Target("human.story_items", "published_at", "kind = 'news'"),),
    "social_sentiment": (_Target("human.story_items", "published_at", "kind = 'social'"),),
    "story_texts": (
        _Target(
            "human.story_items",
            "published_at",
            "text_removed_at IS NULL",
            "title = '', body = '', text_removed_at = %(now)s, updated_at = %(now)s",
        ),
        _Target(
            "human.story_revisions",
            "(SELECT i.published_at FROM human.story_items AS i WHERE (i.source, i.source_id) = "
            "(story_revisions.source, story_revisions.source_id))",
            # Score and label are what a reader of the time had; they go with the item.
            "(title, body) <> ('', '')",
            "title = '', body = ''",
        ),
        # What was refused holds a part of its text.
        _Target(
            "quality.quarantine",
            "quarantined_at",
            "dataset IN ('news_sentiment', 'social_sentiment')",
        ),
    ),
    "catalyst_events": (_Target("public.catalyst_events", "published_at"),),
    "collector_runs": (_Target("public.collector_runs", "started_at"),),
}
_EMPTY_STORIES = (
    "DELETE FROM human.stories AS s WHERE NOT EXISTS "
    "(SELECT 1 FROM human.story_items AS i WHERE i.story_id = s.story_id)"
)


@dataclass(frozen=True)
class RetentionReport:
    """What a policy came to.

    Attributes:
        name: public name of the table.
        days: of the policy, None where everything stays.
        cutoff: rows before it go, UTC; None where everything stays.
        due: rows that are older.
        oldest: the oldest row's time, None where there is no row.
        removed: rows that were deleted or emptied; 0 in a dry run.
    """

    name: str
    days: int | None
    cutoff: datetime | None
    due: int
    oldest: datetime | None
    removed: int


class RetentionStore:
    """Applies retention policies."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse

    def apply(
        self, policies: Sequence[RetentionPolicy], now: datetime, *, dry_run: bool
    ) -> list[RetentionReport]:
        """Take away what is older than its policy allows, or only count it.

        Each batch is a transaction of its own: killed at any point, the next run goes on.

        Args:
            policies: what to keep how long.
            now: the present, aware.
            dry_run: count only.
        """
        return [self._apply(policy, now.astimezone(UTC), dry_run=dry_run) for policy in policies]

    def _apply(self, policy: RetentionPolicy, now: datetime, *, dry_run: bool) -> RetentionReport:
        cutoff = policy.cutoff(now)
        due, removed = 0, 0
        oldest: datetime | None = None
        for target in _TARGETS[policy.name]:
            found, first = self._look(target, cutoff)
            due += found
            oldest = min(filter(None, (oldest, first)), default=None)
            if cutoff is not None and found and not dry_run:
                removed += self._remove(target, cutoff, now)
        if removed and policy.name in ("news_sentiment", "social_sentiment"):
            with self._warehouse.connect() as connection:
                connection.execute(_EMPTY_STORIES)
        return RetentionReport(policy.name, policy.days, cutoff, due, oldest, removed)

    def _look(self, target: _Target, cutoff: datetime | None) -> tuple[int, datetime | None]:
        with self._warehouse.connect() as connection:
            row = connection.execute(
                f"SELECT count(*) FILTER (WHERE {target.age} < %(cutoff)s) AS due, "  # noqa: S608  # names are constants of this module
                f"min({target.age}) AS oldest FROM {target.table} WHERE {target.where}",
                {"cutoff": cutoff},
            ).fetchone()
        return (row["due"], row["oldest"]) if row else (0, None)

    def _remove(self, target: _Target, cutoff: datetime, now: datetime) -> int:
        chosen = (
            f"SELECT ctid FROM {target.table} WHERE {target.age} < %(cutoff)s "  # noqa: S608  # names are constants of this module
            f"AND {target.where} LIMIT {BATCH_ROWS} FOR UPDATE SKIP LOCKED"
        )
        verb = f"UPDATE {target.table} SET {target.clear}"  # noqa: S608  # names are constants
        if not target.clear:
            verb = f"DELETE FROM {target.table}"  # noqa: S608  # names are constants
        statement = f"{verb} WHERE ctid = ANY(ARRAY({chosen}))"
        removed = 0
        while True:
            with self._warehouse.connect() as connection:
                count = connection.execute(statement, {"cutoff": cutoff, "now": now}).rowcount
            removed += count
            if count < BATCH_ROWS:
                return removed
