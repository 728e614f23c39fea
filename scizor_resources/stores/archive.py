"""The archive of bars: months go to Parquet, are verified row by row, and may leave PostgreSQL.

A month passes through three states, kept in `market.archive_files`:
- written: there is a file;
- verified: it has been read back and compared with PostgreSQL, every column of every row;
- released: the bars were deleted from PostgreSQL, in a transaction that held all writers of the
  month off and found its content to be what was verified.

A file counts once its row in `market.archive_files` is committed, and is not written over. Killed
at any point, either the bars are in PostgreSQL or a verified file is on record; the next run goes
on from there. Bars of a released month that come late are merged into a new version of its file.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime

import pandas as pd
import psycopg
import pyarrow as pa

from scizor_core.archive import (
    RELEASED_TIMEFRAMES,
    due_on,
    is_due,
    month_of_date,
)
from scizor_core.errors import InvalidInputError
from scizor_core.markets import MARKETS, TIMEFRAMES, Timeframe
from scizor_resources.errors import ArchiveError
from scizor_resources.stores.archive_files import (
    ArchiveRoot,
    FileFacts,
    MonthKey,
    is_temporary,
    version_of,
)
from scizor_resources.stores.archive_records import (
    ArchivedMonth,
    key_parts,
    put_record,
    recorded,
    recorded_months,
    require_record,
)
from scizor_resources.stores.archive_rows import first_difference, overlay
from scizor_resources.stores.archive_stored import (
    DIGEST,
    STORED_COLUMNS,
    StoredMonth,
    instrument_chunks,
    partition_of,
    stored_by,
    stored_in,
    stored_tables,
    together,
)
from scizor_resources.stores.connection import Row, database_errors
from scizor_resources.stores.copy_format import copy_chunks
from scizor_resources.stores.merging import take_turns
from scizor_resources.stores.tables import BARS
from scizor_resources.stores.warehouse import Warehouse

#: Tries to catch a month in which nobody writes.
_TRIES = 3
_LOCK_KEY = 7_249_011
_LOCK_WAIT = "30s"


@dataclass(frozen=True)
class MonthReport:
    """What a run did with a month, or would do.

    Attributes:
        key: the month.
        action: what was done, in words.
        rows: rows of the file, or of PostgreSQL where there is none.
        bytes: size of the file.
        state: of the month afterwards; "" where it is not archived.
        problem: why nothing could be done, a sentence; "" where nothing is wrong.
    """

    key: MonthKey
    action: str
    rows: int
    bytes: int = 0
    state: str = ""
    problem: str = ""


class Archive:
    """Moves closed months of bars to the archive and back.

    Args:
        warehouse: PostgreSQL.
        root: where the files go.
        now: clock, aware.
        after_days: a month is archived when it ended more than so many days ago.
        at_step: called with the name of each step; what it raises ends the run there.
    """

    def __init__(
        self,
        warehouse: Warehouse,
        root: ArchiveRoot,
        *,
        now: Callable[[], datetime],
        after_days: int,
        at_step: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._warehouse, self._root = warehouse, root
        self._now, self._after_days, self._at_step = now, after_days, at_step

    def months(self) -> list[ArchivedMonth]:
        """Return what is archived, by market, timeframe and month."""
        return recorded_months(self._warehouse)

    def unrecorded(self) -> list[str]:
        """Return the files that are on no record; nobody reads them, and no run removes them."""
        known = {path for each in self.months() for path in (each.path, each.replaced_path)}
        return [
            path for path in self._root.listing() if path not in known and not is_temporary(path)
        ]

    def due(self, *, release: bool) -> list[date]:
        """Return the months in which there is something to do, oldest first.

        Args:
            release: count months that are verified and could leave PostgreSQL too.
        """
        known = {each.key: each for each in self.months()}
        out = set()
        for key, stored in self._stored_months():
            month = known.get(key)
            if month is None or month.state == "written":
                out.add(key.month)
            elif month.state == "released":
                if release or stored.last_ingested_at != month.last_ingested_at:
                    out.add(key.month)
            elif (release and key.timeframe in RELEASED_TIMEFRAMES) or (
                (stored.rows, stored.last_ingested_at) != (month.rows, month.last_ingested_at)
            ):
                out.add(key.month)
        return sorted(out)

    def run(
        self,
        months: Sequence[date] | None = None,
        *,
        markets: Sequence[str] | None = None,
        timeframes: Sequence[Timeframe] | None = None,
        release: bool = False,
        dry_run: bool = False,
    ) -> list[MonthReport]:
        """Archive months that are due.

        Args:
            months: firsts of months, by default all that are due.
            markets: only these, by default all.
            timeframes: only these, by default all.
            release: delete from PostgreSQL what is verified (not daily bars).
            dry_run: say what would be done and do nothing.

        Returns:
            A report for each month, market and timeframe with bars; what cannot be archived says
            so and keeps nothing else from being archived.

        Raises:
            InvalidInputError: a month is not due yet.
            ArchiveError: another run is under way.
            WarehouseError: PostgreSQL refused.
        """
        for month in months or ():
            self._check_due(month)
        with self._turn():
            if not dry_run:
                self._clean()
            chosen = self.due(release=release) if months is None else months
            keys = self._keys(chosen, markets or list(MARKETS), timeframes or TIMEFRAMES)
            return [self._report(key, release=release, dry_run=dry_run) for key in keys]

    def verify(self, keys: Sequence[MonthKey] | None = None) -> list[MonthReport]:
        """Compare files with what is on record: the digest of their bytes, and their rows.

        Returns:
            A report for each archived month; `problem` says what is wrong.
        """
        reports = []
        for month in self.months():
            if keys is None or month.key in keys:
                problem = self._damage(month)
                reports.append(
                    MonthReport(month.key, "checked", month.rows, month.bytes, month.state, problem)
                )
        return reports

    def restore(self, market: str, timeframe: Timeframe, month: date) -> MonthReport:
        """Bring the bars of a month back into PostgreSQL; what it has already stays.

        Raises:
            InvalidInputError: the month is not archived.
            ArchiveError: its file is missing or damaged; nothing was changed.
            WarehouseError: PostgreSQL refused.
        """
        key = MonthKey(market, timeframe, month_of_date(month))
        with self._turn():
            self._clean()
            found = recorded(self._warehouse, key)
            if found is None:
                raise InvalidInputError(
                    f"Month {key} is not in the archive: see `scizor archive list`."
                )
            self._require_sound(found)
            if found.state == "released":
                self._merge_late(found, release=False)
                found = require_record(self._warehouse, key)
            self._copy_back(found)
            self._at_step("copied back")
            if not self._verify(found):
                raise ArchiveError(
                    f"Month {key} was brought back, but PostgreSQL's bars differ from the file's: "
                    "bars of it have been written meanwhile. Restore it once more."
                )
            self._at_step("restored")
            found = require_record(self._warehouse, key)
            return MonthReport(key, "restored", found.rows, found.bytes, found.state)

    def _check_due(self, month: date) -> None:
        if not is_due(month, self._now(), self._after_days):
            raise InvalidInputError(
                f"Month {month:%Y-%m} is not archived before "
                f"{due_on(month, self._after_days):%Y-%m-%d} (SCIZOR_ARCHIVE_AFTER_DAYS="
                f"{self._after_days})."
            )

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Keep other runs out; the lock goes with the connection, so a killed run holds none."""
        with self._warehouse.connect() as connection:
            connection.execute(f"SET lock_timeout = '{_LOCK_WAIT}'")
            try:
                connection.execute("SELECT pg_advisory_lock(%s)", [_LOCK_KEY])
            except psycopg.errors.LockNotAvailable:
                raise ArchiveError(
                    "Another run of the archive is under way: try again when it is over."
                ) from None
            # Nothing that is open keeps PostgreSQL from cleaning up.
            connection.commit()
            yield
            connection.execute("SELECT pg_advisory_unlock(%s)", [_LOCK_KEY])

    def _clean(self) -> None:
        """Remove what killed runs have left: temporary files, and versions that were replaced.

        A file that is on no record stays: with the records lost, files may be all there is.
        """
        for path in self._root.listing():
            if is_temporary(path):
                self._root.remove(path)
        for month in self.months():
            self._drop_replaced(month)

    def _keys(
        self, months: Sequence[date], markets: Sequence[str], timeframes: Sequence[Timeframe]
    ) -> list[MonthKey]:
        wanted = {month_of_date(month) for month in months}
        keys = {key for key, _ in self._stored_months() if key.month in wanted}
        keys |= {each.key for each in self.months() if each.key.month in wanted}
        return sorted(
            (key for key in keys if key.market in markets and key.timeframe in timeframes),
            key=lambda key: (key.month, key.market, TIMEFRAMES.index(key.timeframe)),
        )

    def _stored_months(self) -> list[tuple[MonthKey, StoredMonth]]:
        """Return what PostgreSQL has of months that are due; without digests, which take longer."""
        out = []
        with self._warehouse.connect() as connection:
            names = connection.execute(
                "SELECT c.relname AS name FROM pg_inherits AS i "
                "JOIN pg_class AS c ON c.oid = i.inhrelid "
                "WHERE i.inhparent = 'market.bars'::regclass "
                r"AND c.relname ~ '^bars_y\d{4}m\d{2}$' ORDER BY 1"
            ).fetchall()
            for each in names:
                name = str(each["name"])
                month = date(int(name[6:10]), int(name[11:13]), 1)
                if is_due(month, self._now(), self._after_days):
                    rows = connection.execute(
                        "SELECT s.market, b.timeframe, count(*) AS rows, "  # noqa: S608  # the name is one of a partition
                        "max(b.ingested_at) AS last_ingested_at "
                        f"FROM market.{name} AS b JOIN public.symbols AS s USING (instrument_id) "
                        "GROUP BY 1, 2"
                    ).fetchall()
                    out += [
                        (
                            MonthKey(row["market"], row["timeframe"], month),
                            StoredMonth(row["rows"], "", row["last_ingested_at"]),
                        )
                        for row in rows
                    ]
        return out

    def _report(self, key: MonthKey, *, release: bool, dry_run: bool) -> MonthReport:
        found = recorded(self._warehouse, key)
        leaves = release and key.timeframe in RELEASED_TIMEFRAMES
        try:
            if dry_run:
                action = self._plan(key, found, release=leaves)
            elif found is not None and found.state == "released":
                action = self._merge_late(found, release=leaves)
            else:
                action = self._archive(key, found, release=leaves)
        except (ArchiveError, InvalidInputError) as error:
            return self._told(key, "refused", str(error))
        return self._told(key, action)

    def _told(self, key: MonthKey, action: str, problem: str = "") -> MonthReport:
        found = recorded(self._warehouse, key)
        if found is None:
            return MonthReport(key, action, self._stored(key).rows, problem=problem)
        return MonthReport(key, action, found.rows, found.bytes, found.state, problem)

    def _plan(self, key: MonthKey, found: ArchivedMonth | None, *, release: bool) -> str:
        stored = self._stored(key)
        leaves = " and release" if release else ""
        if found is None:
            return f"write, verify{leaves}"
        if found.state == "released":
            return f"merge {stored.rows} late bars{leaves}" if stored.rows else "nothing to do"
        if found.state == "verified" and not _has_changed(found, stored):
            return "release" if release else "nothing to do"
        return f"write anew, verify{leaves}"

    def _archive(self, key: MonthKey, found: ArchivedMonth | None, *, release: bool) -> str:
        """Bring a month that is in PostgreSQL to state verified, or further to released."""
        done: list[str] = []
        anew = found is None or self._damage(found) != ""
        for _ in range(_TRIES):
            stored = self._stored(key)
            if found is not None and stored.rows < found.rows:
                raise ArchiveError(
                    f"PostgreSQL has {stored.rows:,} bars of {key}, its file {found.rows:,}: the "
                    "file is left as it is. Bring the others back with `scizor archive restore "
                    f"{key}`, or, if they are to go, remove {found.path} and its row in "
                    "market.archive_files."
                )
            if found is None or anew or _has_changed(found, stored):
                found, anew = self._write(key, found), False
                done.append("written")
            if found.state != "verified":
                if not self._verify(found):
                    anew = True
                    continue
                found = require_record(self._warehouse, key)
                done.append("verified")
            self._drop_replaced(found)
            if not release:
                return " and ".join(dict.fromkeys(done)) or "nothing to do"
            if self._release(found):
                return " and ".join(dict.fromkeys([*done, "released"]))
        raise ArchiveError(
            f"Bars of {key} kept changing while they were archived: run it again when nobody "
            "writes to that month."
        )

    def _write(self, key: MonthKey, found: ArchivedMonth | None) -> ArchivedMonth:
        version = 1 if found is None else version_of(found.path) + 1
        while self._root.exists(key.path(version)):
            # Left by a run that was killed before it came on record; or not ours at all.
            if self._difference(key, key.path(version)) is None:
                return self._record(key, key.path(version), self._root.facts(key.path(version)))
            version += 1
        self._at_step("begin")
        with self._warehouse.snapshot() as query:
            chunks = instrument_chunks(query, key)
            facts = self._root.write(
                key.path(version),
                stored_tables(query, key, chunks),
                rows=sum(rows for _, _, rows in chunks),
                at_step=self._at_step,
            )
        return self._record(key, key.path(version), facts)

    def _record(self, key: MonthKey, path: str, facts: FileFacts) -> ArchivedMonth:
        with self._warehouse.connect() as connection:
            put_record(connection, key, path, facts)
        self._at_step("recorded")
        return require_record(self._warehouse, key)

    def _verify(self, found: ArchivedMonth) -> bool:
        """Compare a file with PostgreSQL; they are compared in the snapshot that is digested."""
        if self._damage(found):
            return False
        with self._warehouse.snapshot() as query:
            stored = stored_by(query, found.key)
            tables = stored_tables(query, found.key, instrument_chunks(query, found.key))
            difference = first_difference(self._root.row_groups(found.path), tables)
        if difference is not None or stored.rows != found.rows:
            return False
        self._at_step("compared")
        with self._warehouse.connect() as connection:
            connection.execute(
                "UPDATE market.archive_files SET state = 'verified', verified_at = now(), "
                "released_at = NULL, content = %s, last_ingested_at = %s "
                "WHERE (market, timeframe, month) = (%s, %s, %s) AND path = %s",
                [stored.content, stored.last_ingested_at, *key_parts(found.key), found.path],
            )
        self._at_step("verified")
        return True

    def _difference(self, key: MonthKey, path: str) -> str | None:
        try:
            with self._warehouse.snapshot() as query:
                tables = stored_tables(query, key, instrument_chunks(query, key))
                return first_difference(self._root.row_groups(path), tables)
        except ArchiveError as error:
            return str(error)

    def _release(self, found: ArchivedMonth) -> bool:
        """Delete a month's bars from PostgreSQL; false where they are not what was verified."""
        self._require_sound(found)
        with self._locked(found.key) as connection:
            self._at_step("locked")
            stored = stored_in(connection, found.key)
            if found.state != "verified" or _has_changed(found, stored):
                return False
            self._delete(connection, found.key, stored.rows)
            self._at_step("deleted")
            connection.execute(
                "UPDATE market.archive_files SET state = 'released', released_at = now() "
                "WHERE (market, timeframe, month) = (%s, %s, %s)",
                key_parts(found.key),
            )
            self._at_step("before commit")
        self._at_step("released")
        self._vacuum(found.key)
        return True

    def _merge_late(self, found: ArchivedMonth, *, release: bool) -> str:
        """Put what PostgreSQL has of a released month into the file."""
        for _ in range(_TRIES):
            with self._warehouse.snapshot() as query:
                stored = stored_by(query, found.key)
                late = together(
                    stored_tables(query, found.key, instrument_chunks(query, found.key))
                )
            if not stored.rows:
                self._drop_replaced(found)
                return "nothing to do"
            self._require_sound(found)
            action = self._merge(found, late, stored, release=release)
            if action is not None:
                self._drop_replaced(require_record(self._warehouse, found.key))
                return action
        raise ArchiveError(
            f"Bars of {found.key} kept coming while they were merged into its file: run it again "
            "when nobody writes to that month."
        )

    def _merge(
        self, found: ArchivedMonth, late: pa.Table, stored: StoredMonth, *, release: bool
    ) -> str | None:
        def merged() -> Iterator[pa.Table]:
            return overlay(self._root.row_groups(found.path), late)

        facts, content, path = None, "", found.path
        if first_difference(self._root.row_groups(found.path), merged()) is not None:
            path, facts = self._write_merged(found, merged, rows=found.rows + len(late))
            if first_difference(self._root.row_groups(path), merged()) is not None:
                raise ArchiveError(
                    f"{path} does not hold what was written to it: check the disk. The version "
                    "before counts."
                )
            content = self._content_of(path)
        elif not release:
            return "nothing to do"
        with self._locked(found.key) as connection:
            self._at_step("locked")
            now = stored_in(connection, found.key)
            if (now.rows, now.content) != (stored.rows, stored.content):
                return None
            if facts is not None:
                put_record(connection, found.key, path, facts, released_content=content)
            if release:
                self._delete(connection, found.key, stored.rows)
                self._at_step("deleted")
        self._at_step("merged")
        if release:
            self._vacuum(found.key)
        what = f"{stored.rows} late bars merged" if facts is not None else "late bars were there"
        return f"{what} and released" if release else what

    def _write_merged(
        self, found: ArchivedMonth, merged: Callable[[], Iterator[pa.Table]], *, rows: int
    ) -> tuple[str, FileFacts]:
        version = version_of(found.path) + 1
        while self._root.exists(path := found.key.path(version)):
            # Left by a run that was killed before it came on record; or not ours at all.
            if first_difference(self._root.row_groups(path), merged()) is None:
                return path, self._root.facts(path)
            version += 1
        self._at_step("begin")
        return path, self._root.write(path, merged(), rows=rows, at_step=self._at_step)

    @contextmanager
    def _locked(self, key: MonthKey) -> Iterator[psycopg.Connection[Row]]:
        """Open a transaction in which nobody else writes to a month; readers go on."""
        with database_errors(), self._warehouse.connect() as connection:
            take_turns(connection, BARS, [partition_of(key)])
            connection.execute(
                f"LOCK TABLE market.{partition_of(key).partition} IN SHARE ROW EXCLUSIVE MODE"
            )
            yield connection

    def _delete(self, connection: psycopg.Connection[Row], key: MonthKey, rows: int) -> None:
        deleted = connection.execute(
            f"DELETE FROM market.{partition_of(key).partition} AS b USING public.symbols AS s "  # noqa: S608  # the name is made of numbers
            "WHERE s.instrument_id = b.instrument_id AND s.market = %s AND b.timeframe = %s",
            [key.market, key.timeframe],
        ).rowcount
        if deleted != rows:
            raise ArchiveError(
                f"{deleted:,} bars of {key} would have been deleted instead of {rows:,}: nothing "
                "was."
            )

    def _vacuum(self, key: MonthKey) -> None:
        """Give the room back; for the next reader too, who would walk over dead rows."""
        with self._warehouse.connect() as connection:
            connection.autocommit = True
            connection.execute(f"VACUUM (ANALYZE) market.{partition_of(key).partition}")

    def _content_of(self, path: str) -> str:
        """Return the digest of a file's rows, as PostgreSQL makes it."""
        with database_errors(), self._warehouse.connect() as connection:
            self._load(connection, path)
            row = connection.execute(f"SELECT {DIGEST} FROM pg_temp.archived AS b").fetchone()  # noqa: S608
            connection.rollback()
        return str(row["content"]) if row else ""

    def _copy_back(self, found: ArchivedMonth) -> None:
        columns = ", ".join(STORED_COLUMNS)
        self._warehouse.ensure_partitions(BARS.name, pd.Series([pd.Timestamp(found.first_ts)]))
        with database_errors(), self._warehouse.connect() as connection:
            take_turns(connection, BARS, [partition_of(found.key)])
            self._load(connection, found.path)
            connection.execute(
                f"INSERT INTO market.bars ({columns}) SELECT {columns} FROM pg_temp.archived "  # noqa: S608  # names are constants
                "ORDER BY instrument_id, ts ON CONFLICT DO NOTHING"
            )
            self._at_step("before commit of the restored bars")

    def _load(self, connection: psycopg.Connection[Row], path: str) -> None:
        """Copy a file into the temporary table `archived`."""
        columns = ", ".join(STORED_COLUMNS)
        connection.execute(
            "CREATE TEMPORARY TABLE archived ON COMMIT DROP AS "  # noqa: S608  # names are constants
            f"SELECT {columns} FROM market.bars WITH NO DATA"
        )
        with (
            connection.cursor() as cursor,
            cursor.copy(f"COPY pg_temp.archived ({columns}) FROM STDIN (FORMAT binary)") as copy,
        ):
            for chunk in copy_chunks(together(self._root.row_groups(path)).drop(["symbol"])):
                copy.write(chunk)

    def _stored(self, key: MonthKey) -> StoredMonth:
        with self._warehouse.connect() as connection:
            return stored_in(connection, key)

    def _damage(self, found: ArchivedMonth) -> str:
        """Return what is wrong with a file, a sentence; "" where nothing is."""
        try:
            if self._root.sha256(found.path) != found.sha256:
                return (
                    f"{found.path} is damaged: its bytes are not those on record. Bring it back "
                    "from a backup."
                )
            rows = self._root.rows_of(found.path)
        except ArchiveError as error:
            return str(error)
        if rows != found.rows:
            return f"{found.path} has {rows:,} rows, {found.rows:,} are on record."
        return ""

    def _require_sound(self, found: ArchivedMonth) -> None:
        problem = self._damage(found)
        if problem:
            raise ArchiveError(problem)

    def _drop_replaced(self, found: ArchivedMonth) -> None:
        if found.replaced_path is not None:
            self._root.remove(found.replaced_path)


def _has_changed(found: ArchivedMonth, stored: StoredMonth) -> bool:
    """Say whether PostgreSQL's bars are not those that a file was verified against."""
    if found.state != "verified":
        return False
    return (stored.rows, stored.content) != (found.rows, found.content)
