"""Bring the database to the schema this version of the code needs, or say why that cannot be."""

from functools import cache
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from scizor_resources.errors import WarehouseError

_MIGRATIONS = Path(__file__).parent.parent / "migrations"
#: Two shells that start at once must not migrate at once; any constant will do.
_LOCK_KEY = 7_249_001
_VERSION_TABLE = "scizor_schema_version"


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    return config


@cache
def latest_revision() -> str:
    """Return the revision that this code was written for."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    if head is None:
        raise WarehouseError(f"No migration found in {_MIGRATIONS}: reinstall scizor.")
    return head


def current_revision(engine: sa.Engine) -> str | None:
    """Return the revision the database is at, None where it has no schema yet.

    Raises:
        WarehouseError: the database cannot be reached.
    """
    try:
        with engine.connect() as connection:
            context = MigrationContext.configure(
                connection, opts={"version_table": _VERSION_TABLE, "version_table_schema": "public"}
            )
            return context.get_current_revision()
    except sa.exc.OperationalError as error:
        raise unreachable(engine, error) from error


def upgrade(engine: sa.Engine) -> tuple[str | None, str]:
    """Apply the migrations that are missing.

    Returns:
        The revision before and after.

    Raises:
        WarehouseError: not reachable, or the schema is newer than this code.
    """
    before = current_revision(engine)
    _check_known(before)
    config = _config()
    try:
        with engine.begin() as connection:
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except (sa.exc.DBAPIError, CommandError) as error:
        raise WarehouseError(
            f"The schema could not be upgraded from {before or 'nothing'} to {latest_revision()}: "
            f"{_first_line(error)}. Nothing was changed."
        ) from error
    return before, latest_revision()


def require_current(engine: sa.Engine) -> None:
    """Check that the schema is the one this code needs.

    Raises:
        WarehouseError: it is older, newer or missing; the message says what to run.
    """
    found = current_revision(engine)
    _check_known(found)
    if found != latest_revision():
        raise WarehouseError(
            f"The database schema is at revision {found or 'none'}, this version of scizor needs "
            f"{latest_revision()}. Run `scizor db upgrade`."
        )


def is_current(connection: psycopg.Connection[dict[str, Any]]) -> bool:
    """Say whether a database that has a schema has the one this code needs."""
    rows = connection.execute(f"SELECT version_num FROM public.{_VERSION_TABLE}").fetchall()  # noqa: S608  # a constant
    return [row["version_num"] for row in rows] == [latest_revision()]


def _check_known(revision: str | None) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if revision is not None and revision not in known:
        raise WarehouseError(
            f"The database schema is at revision {revision}, which this version of scizor does "
            f"not know (it knows up to {latest_revision()}). A newer scizor has upgraded it: "
            "install that version."
        )


def unreachable(engine: sa.Engine, error: Exception) -> WarehouseError:
    """Return the error to raise when PostgreSQL does not answer; the password is masked."""
    shown = engine.url.render_as_string(hide_password=True)
    return WarehouseError(
        f"PostgreSQL at {shown} cannot be used: {_first_line(error)}. "
        "Check SCIZOR_DATABASE_URL, or unset it to use the embedded server."
    )


def _first_line(error: Exception) -> str:
    cause = getattr(error, "orig", None) or error
    return str(cause).strip().splitlines()[0].rstrip(".")
