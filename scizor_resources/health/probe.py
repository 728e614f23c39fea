"""Look at the platform without starting, changing or waiting long for anything.

PostgreSQL, Valkey and this machine are asked side by side, each with time-outs of its own, and
after `DEADLINE_SECONDS` what has not answered is given up. The database is asked over one
connection, which is kept for the next look.
"""

import csv
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import UTC, datetime
from importlib import import_module, resources
from pathlib import Path
from typing import Any

from scizor_core.errors import ScizorError
from scizor_resources.errors import WarehouseError
from scizor_resources.health import queries
from scizor_resources.health.database import Database
from scizor_resources.health.processes import read_machine, read_up, ui_problem
from scizor_resources.health.report import (
    GROUPS,
    NOT_RUNNING,
    DagsterFacts,
    Facts,
    ServerFact,
    StreamFacts,
    Thresholds,
)
from scizor_resources.settings import Settings

DEADLINE_SECONDS = 8.0

_POSTGRES, _VALKEY = "postgresql", "valkey"
#: Groups that PostgreSQL knows something of; freshness needs to know what runs by itself.
_IN_DATABASE = frozenset(GROUPS) - {"workers", "markets", "providers", "machine", "streaming"}
_NEEDS_SCHEMA = _IN_DATABASE - {"servers", "dagster", "runs"}
_IN_VALKEY = frozenset({"servers", "workers", "providers", "streaming"})
_AUTOMATED = frozenset({"dagster", "freshness", "completeness", "collectors"})

Found = dict[str, Any]


def needed_revision() -> str:
    """Return the schema's revision that this code needs.

    By the names of the migrations: loading alembic to ask it takes longer than all the rest.
    """
    migrations = Path(__file__).parent.parent / "migrations" / "versions"
    return max(path.name.partition("_")[0] for path in migrations.glob("[0-9]*.py"))


def default_thresholds() -> dict[str, Thresholds]:
    """Return the limits of the alert rules as they are without anybody's changes."""
    text = resources.files("scizor_resources").joinpath("seeds/alert_rules.csv").read_text("utf-8")
    found = {}
    for row in csv.DictReader(text.splitlines()):
        bounds = [float(row[each]) for each in ("medium", "high", "critical") if row[each]]
        found[row["kpi"]] = Thresholds(bounds[0], bounds[-1])
    return found


class Probe:
    """Looks at one platform, again and again.

    Args:
        settings: of the platform; servers that they do not name are the embedded ones of its home.
        now: clock, aware.
        deadline_seconds: longest time for one look.
    """

    def __init__(
        self,
        settings: Settings,
        now: Callable[[], datetime],
        deadline_seconds: float = DEADLINE_SECONDS,
    ) -> None:
        self.settings = settings
        self.database = Database()
        self._now, self._deadline = now, deadline_seconds
        self._links: dict[str, Any] = {}
        self._jobs: dict[str, _Job] = {}

    def close(self) -> None:
        """Close the connections, unless somebody still waits on one."""
        if not self._is_busy(_POSTGRES):
            self.database.close()
        for link in self._links.values():
            link.close()
        self._links.clear()

    def look(self, groups: Collection[str] = GROUPS) -> Facts:
        """Return what is known now; what could not be read stands in `problems`.

        Args:
            groups: what to look at, of `GROUPS`.
        """
        wanted, now = set(groups), self._now()
        _load(wanted)
        facts = Facts(now, thresholds=default_thresholds(), needed_revision=needed_revision())
        work: dict[str, Callable[[], Found]] = {}
        if wanted & _IN_DATABASE:
            work[_POSTGRES] = lambda: self._in_database(wanted, now, facts)
        if wanted & _IN_VALKEY:
            work[_VALKEY] = lambda: self._in_valkey(wanted)
        if wanted & {"dagster", "machine"}:
            work["machine"] = lambda: self._here(wanted)
        for name, found in self._done(work).items():
            self._take(facts, name, wanted, found)
        return facts

    # ---- side by side

    def _done(self, work: dict[str, Callable[[], Found]]) -> dict[str, Found | str]:
        """Do all the work at once; returns what each found, or why it did not."""
        until = time.monotonic() + self._deadline
        for name, each in work.items():
            if not self._is_busy(name):
                self._jobs[name] = _Job(each)
        return {name: self._jobs[name].result(until) for name in work}

    def _is_busy(self, name: str) -> bool:
        return name in self._jobs and self._jobs[name].is_alive()

    def _take(self, facts: Facts, name: str, wanted: set[str], found: Found | str) -> None:
        """Put what was found into the facts."""
        if isinstance(found, str):
            self._missed(facts, name, wanted, found)
            return
        facts.servers += found.pop("servers", [])
        facts.problems.update(found.pop("problems", {}))
        dagster = found.pop("dagster", None)
        if dagster is not None:
            known = facts.dagster or DagsterFacts(up=False)
            facts.dagster = replace(known, **dagster)
        for attribute, value in found.items():
            setattr(facts, attribute, value)

    def _missed(self, facts: Facts, name: str, wanted: set[str], why: str) -> None:
        groups = {_POSTGRES: _IN_DATABASE, _VALKEY: _IN_VALKEY}.get(name, {"dagster", "machine"})
        if name in (_POSTGRES, _VALKEY):
            facts.servers.append(ServerFact(name, self._is_embedded(name), why))
        facts.problems.update(dict.fromkeys((wanted & set(groups)) - {"servers"}, why))

    # ---- PostgreSQL

    def _in_database(self, wanted: set[str], now: datetime, facts: Facts) -> Found:
        url = self._url(_POSTGRES)
        if url is None:
            return self._away(_POSTGRES, wanted & _IN_DATABASE)
        self.database.use(url)
        try:
            (tables,) = self.database.rows(queries.TABLES)
            revision = _revision(self.database) if tables["has_schema"] else ""
        except WarehouseError as error:
            return self._away(_POSTGRES, wanted & _IN_DATABASE, str(error))
        found: Found = {
            "servers": [
                ServerFact(_POSTGRES, self._is_embedded(_POSTGRES), version=tables["version"])
            ],
            "revision": revision,
            "problems": {},
        }
        if not tables["has_dagster"]:
            why = "Dagster has no tables in this database yet: `scizor up` makes them"
            found["problems"].update(dict.fromkeys(wanted & {"dagster", "runs"}, why))
        readable = set(wanted) if tables["has_dagster"] else wanted - {"dagster", "runs"}
        if revision != facts.needed_revision:
            why = "the schema of the database is another one than this version of scizor needs"
            found["problems"].update(dict.fromkeys(wanted & _NEEDS_SCHEMA, why))
            readable -= _NEEDS_SCHEMA
        self._read(found, readable, now, facts, has_dagster=tables["has_dagster"])
        return found

    def _read(
        self, found: Found, wanted: set[str], now: datetime, facts: Facts, *, has_dagster: bool
    ) -> None:
        database = self.database
        if has_dagster and wanted & _AUTOMATED:
            found["dagster"] = _daemons(database)
        if not wanted & (_IN_DATABASE - {"servers", "dagster"}):
            return
        # Calendars and what comes with them take a second to load, and not everybody needs them.
        from scizor_resources.health import warehouse_facts as read
        from scizor_resources.health.clock import market_clocks

        steps: list[tuple[set[str], Callable[[], Found]]] = [
            (
                {"freshness", "completeness", "machine"},
                lambda: {"thresholds": read.read_thresholds(database, facts.thresholds)},
            ),
            (
                {"freshness", "completeness"},
                lambda: {"symbols": read.read_symbols(database, market_clocks(now), now)},
            ),
            ({"completeness"}, lambda: {"gaps": read.read_gaps(database, now)}),
            ({"alerts"}, lambda: {"alerts": read.read_alerts(database, now)}),
            ({"collectors"}, lambda: {"collectors": read.read_collectors(database, self.settings)}),
            ({"archive"}, lambda: {"archive": read.read_archive(database, now)}),
            ({"runs"}, lambda: {"runs": read.read_runs(database, now)}),
        ]
        for groups, step in steps:
            if not groups & wanted:
                continue
            try:
                found.update(step())
            except WarehouseError as error:
                found["problems"].update(dict.fromkeys(groups & wanted, str(error)))

    # ---- Valkey

    def _in_valkey(self, wanted: set[str]) -> Found:
        import redis

        from scizor_resources.health import broker

        url = self._url(_VALKEY)
        if url is None:
            return self._away(_VALKEY, wanted & _IN_VALKEY)
        try:
            version = broker.server_version(url)
        except (redis.RedisError, OSError, ValueError) as error:
            told = str(error).strip().rstrip(".") or type(error).__name__
            return self._away(_VALKEY, wanted & _IN_VALKEY, told)
        found: Found = {
            "servers": [ServerFact(_VALKEY, self._is_embedded(_VALKEY), version=version)],
            "problems": {},
        }
        if "workers" in wanted:
            found["workers"] = broker.read_workers(url)
        if "providers" in wanted:
            self._add(found, "providers", lambda: self._providers(url))
        if "streaming" in wanted:
            self._add(found, "streaming", lambda: self._streaming(url))
        return found

    @staticmethod
    def _add(found: Found, group: str, read: Callable[[], Any]) -> None:
        from scizor_resources.budget.link import ValkeyAway

        try:
            found[group] = read()
        except ValkeyAway as error:
            found["problems"][group] = str(error)

    def _link(self, url: str) -> Any:
        from scizor_resources.budget.link import ValkeyLink

        if url not in self._links:
            # Who looks tells of it himself.
            self._links[url] = ValkeyLink(url, tell=lambda _: None)
        return self._links[url]

    def _providers(self, url: str) -> Any:
        from scizor_resources.health.provider_facts import read_providers

        return read_providers(self._link(url), self.settings)

    def _streaming(self, url: str) -> StreamFacts:
        from scizor_resources.streaming import is_wanted, read_state

        return StreamFacts(is_wanted(self.settings), read_state(self._link(url).call))

    # ---- this machine

    def _here(self, wanted: set[str]) -> Found:
        found: Found = {}
        if "machine" in wanted:
            found["machine"] = read_machine(self.settings.home)
        if "dagster" in wanted:
            up = read_up(self.settings.home)
            problem = ui_problem(up.ui_url) if up.ui_url is not None else None
            found["dagster"] = {
                "up": up.up,
                "processes": up.processes,
                "ui_url": up.ui_url,
                "ui_problem": problem,
            }
        return found

    # ---- where the servers are

    def _is_embedded(self, name: str) -> bool:
        configured = {_POSTGRES: self.settings.database_url, _VALKEY: self.settings.redis_url}
        return configured[name] is None

    def _url(self, name: str) -> str | None:
        """Return where a server is, None where an embedded one does not run."""
        from scizor_resources.embedded.servers import EmbeddedServers

        if name == _POSTGRES and self.settings.database_url is not None:
            from scizor_resources.endpoints import Endpoints

            given = self.settings.database_url.get_secret_value()
            return Endpoints(given, "redis://127.0.0.1").libpq_url
        if name == _VALKEY and self.settings.redis_url is not None:
            return self.settings.redis_url.get_secret_value()
        kind = {_POSTGRES: "postgres", _VALKEY: "valkey"}[name]
        running = {
            each.name: each.endpoint for each in EmbeddedServers(self.settings.home).status()
        }
        return running.get(kind)

    def _away(self, name: str, groups: set[str], why: str = NOT_RUNNING) -> Found:
        title = {_POSTGRES: "PostgreSQL", _VALKEY: "Valkey"}[name]
        return {
            "servers": [ServerFact(name, self._is_embedded(name), why)],
            "problems": dict.fromkeys(groups - {"servers"}, f"{title} cannot be asked: {why}"),
        }


def _load(wanted: set[str]) -> None:
    """Load what a look needs: on a busy machine that takes seconds, and is nobody's failure."""
    modules = {
        "database": wanted & _IN_DATABASE,
        "warehouse_facts": wanted & (_IN_DATABASE - {"servers", "dagster"}),
        "broker": wanted & _IN_VALKEY,
        "provider_facts": wanted & {"providers"},
    }
    for name, needed in modules.items():
        if needed:
            import_module(f"scizor_resources.health.{name}")
    if wanted & {"freshness", "completeness"}:
        from scizor_resources.health.clock import market_clocks

        market_clocks(datetime.now(UTC))
    if "workers" in wanted:
        import_module("celery.app.control")
        import_module("kombu.transport.redis")


def _revision(database: Database) -> str:
    rows = database.rows(queries.REVISION)
    return str(rows[0]["version_num"]) if rows else ""


def _daemons(database: Database) -> Found:
    heartbeats = database.rows(queries.HEARTBEATS)
    return {
        "heartbeats": {row["daemon_type"]: row["at"] for row in heartbeats},
        "errors": {row["daemon_type"]: row["error"] for row in heartbeats if row["error"]},
        "automations": {row["name"]: row["is_on"] for row in database.rows(queries.AUTOMATIONS)},
    }


class _Job(threading.Thread):
    """Work that can be given up: a process that ends does not wait for it."""

    def __init__(self, work: Callable[[], Found]) -> None:
        super().__init__(daemon=True)
        self._work = work
        self._found: Found | str = "it found nothing"
        self._began = time.monotonic()
        self.start()

    def run(self) -> None:
        try:
            self._found = self._work()
        except ScizorError as error:
            self._found = str(error)
        except Exception as error:  # noqa: BLE001  # in a thread it would be lost: it is told
            self._found = f"unexpected {type(error).__name__}: {error}"

    def result(self, until: float) -> Found | str:
        """Return what was found, waiting until that time of the monotonic clock."""
        self.join(max(0.0, until - time.monotonic()))
        if self.is_alive():
            return f"it has not answered for {time.monotonic() - self._began:.0f} s"
        found, self._found = self._found, "it found nothing"
        return found
