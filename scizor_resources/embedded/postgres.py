"""PostgreSQL 18: its data, its settings and its command line."""

import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg

from scizor_resources.embedded.accounts import Account, child_options, give_to, replace_text
from scizor_resources.embedded.failures import start_error
from scizor_resources.embedded.kind import ServerKind
from scizor_resources.embedded.programs import Programs
from scizor_resources.errors import ServerError

_PORT = 5432  # names the socket only; nothing listens on TCP
_USER = "scizor"
_DATABASE = "scizor"

_SETTINGS = """\
# Written by SCIZOR at each start; to change a setting use ALTER SYSTEM, which overrides this file.
shared_buffers = '256MB'
max_connections = 200
wal_level = minimal
max_wal_senders = 0
checkpoint_timeout = '15min'
max_wal_size = '4GB'
synchronous_commit = on
jit = off
timezone = 'UTC'
log_timezone = 'UTC'
lc_messages = 'C'
log_checkpoints = off
"""


class Postgres(ServerKind):
    """The platform's database."""

    name = "postgres"
    title = "PostgreSQL"
    process_name = "postgres"
    socket_name = f".s.PGSQL.{_PORT}"
    pid_file = "postmaster.pid"
    stop_signal = signal.SIGINT  # "fast": ends connections, writes a checkpoint
    last_signal = signal.SIGQUIT  # "immediate": recovery at the next start

    def url(self, sockets: Path) -> str:
        """Return the URL for libpq; there is no password."""
        return f"postgresql://{_USER}@/{_DATABASE}?host={quote(str(sockets))}&port={_PORT}"

    def prepare_data(self, directory: Path, programs: Programs, account: Account | None) -> None:
        """Create the cluster when there is none, check its version and write the settings."""
        if not (directory / "PG_VERSION").exists():
            _create_cluster(directory, programs, account)
        _check_version(directory, programs)
        replace_text(directory / "scizor.conf", _SETTINGS)

    def arguments(self, programs: Programs, directory: Path, sockets: Path) -> list[str]:
        """Return the command line: one socket for the servers' account, no port."""
        return [
            str(programs.postgres),
            *("-D", _as_own_directory(directory)),
            *("-p", str(_PORT)),
            *("-c", "listen_addresses="),
            *("-c", f"unix_socket_directories={sockets}"),
            *("-c", "unix_socket_permissions=0700"),
            *("-c", "logging_collector=off"),
        ]

    def answers(self, sockets: Path) -> bool:
        """Say whether PostgreSQL is past recovery."""
        try:
            _connect(sockets).close()
        except psycopg.OperationalError:
            return False
        return True

    def create_database(self, sockets: Path) -> None:
        """Create the platform's database when it does not exist.

        Raises:
            ServerError: PostgreSQL refuses.
        """
        try:
            with _connect(sockets) as connection:
                query = "SELECT 1 FROM pg_database WHERE datname = %s"
                if connection.execute(query, [_DATABASE]).fetchone() is None:
                    connection.execute(f"CREATE DATABASE {_DATABASE}")
        except psycopg.Error as error:
            raise ServerError(
                f"Tried to create the database '{_DATABASE}', but PostgreSQL said '{error}'. "
                "Look into postgres.log in SCIZOR_HOME."
            ) from error


def _connect(sockets: Path) -> psycopg.Connection[tuple[Any, ...]]:
    return psycopg.connect(
        host=str(sockets),
        port=_PORT,
        user=_USER,
        dbname="postgres",
        connect_timeout=5,
        autocommit=True,
    )


def _as_own_directory(directory: Path) -> str:
    """Name a directory for a program whose working directory it is.

    Linux follows this name straight to the directory: the parents may be closed to the program,
    and neither quotes nor blanks nor length of the path matter.
    """
    return "/proc/self/cwd" if sys.platform == "linux" else str(directory)


def _create_cluster(directory: Path, programs: Programs, account: Account | None) -> None:
    """Run initdb beside `directory` and move the result there, so that it is whole or absent.

    The locale is C with PostgreSQL's built-in C.UTF-8, which no system upgrade can change.
    """
    if directory.is_dir() and any(directory.iterdir()):
        raise ServerError(
            f"Tried to create a database in {directory}, but there are files in it and none "
            "of them is PG_VERSION. Move the directory away, or restore it from a copy."
        )
    draft = directory.with_name("postgres.new")
    if draft.exists():
        shutil.rmtree(draft)
    draft.mkdir(mode=0o700)
    give_to(draft, account)
    options = [
        f"--username={_USER}",
        "--auth=trust",
        "--encoding=UTF8",
        "--locale=C",
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
        "--no-instructions",
        "--no-sync",
    ]
    for arguments in (options, ["--sync-only"]):
        done = subprocess.run(
            [programs.initdb, "-D", _as_own_directory(draft), *arguments],
            cwd=draft,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
            **child_options(account),
        )
        if done.returncode != 0:
            raise start_error("create a PostgreSQL database", directory, done.stdout)
    with (draft / "postgresql.conf").open("a", encoding="utf-8") as file:
        file.write("\ninclude 'scizor.conf'\n")
    if directory.is_dir():
        directory.rmdir()
    draft.rename(directory)


def _check_version(directory: Path, programs: Programs) -> None:
    found = (directory / "PG_VERSION").read_text(encoding="utf-8").strip()
    asked = subprocess.run(
        [programs.postgres, "--version"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        **child_options(None),
    )
    said = asked.stdout.strip()
    if asked.returncode != 0:
        raise start_error("run PostgreSQL", directory, said)
    version = re.search(r"(\d+)", said)
    if version is None or version[1] != found:
        raise ServerError(
            f"Tried to start '{said}' on {directory}, but that data was written by "
            f"PostgreSQL {found}. Install the version of SCIZOR that wrote it, dump the database "
            "with it and restore the dump here, or move the directory away to start empty."
        )
