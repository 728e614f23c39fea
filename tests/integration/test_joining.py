"""What a further worker joins, and what it refuses."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from scizor_core.errors import ConfigError
from scizor_resources.embedded.servers import EmbeddedServers
from scizor_resources.endpoints import Endpoints
from scizor_resources.errors import ServerError, WarehouseError
from scizor_resources.joining import joined
from scizor_resources.platform import Platform
from scizor_resources.settings import Settings, load_settings
from tests.conftest import Database
from tests.integration.helpers import execute


def settings_for(endpoints: Endpoints, home: Path, **changes: str) -> Settings:
    urls = {"database_url": endpoints.libpq_url, "redis_url": endpoints.redis_url, **changes}
    return load_settings(home=home, **urls)


def test_configured_servers_are_joined_as_they_are(database: Database, tmp_path: Path) -> None:
    with joined(settings_for(database.endpoints, tmp_path)) as endpoints:
        assert endpoints == Endpoints(database.libpq_url, database.endpoints.redis_url)


def test_nothing_is_started_for_a_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCIZOR_DATABASE_URL", raising=False)
    monkeypatch.delenv("SCIZOR_REDIS_URL", raising=False)
    with (
        pytest.raises(ConfigError, match=f"none runs on {tmp_path}.*--database and --broker"),
        joined(load_settings(home=tmp_path)),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_only_the_server_that_is_not_named_has_to_run_here(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SCIZOR_REDIS_URL", raising=False)
    chosen = load_settings(home=tmp_path, database_url=database.libpq_url)
    with pytest.raises(ConfigError, match="servers are with --broker "), joined(chosen):
        pass


def test_embedded_servers_that_run_are_joined_and_held(
    embedded: EmbeddedServers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SCIZOR_DATABASE_URL", raising=False)
    monkeypatch.delenv("SCIZOR_REDIS_URL", raising=False)
    started = embedded.start()
    # Their database has no tables of ours, which is as far as joining gets.
    with (
        pytest.raises(WarehouseError, match="no SCIZOR tables"),
        joined(load_settings(home=embedded.home)),
    ):
        pass
    assert embedded.start() == started


def test_a_broker_out_of_reach_is_named_without_its_password(
    database: Database, tmp_path: Path
) -> None:
    chosen = settings_for(database.endpoints, tmp_path, redis_url="redis://:s3cret@127.0.0.1:1/0")
    expected = pytest.raises(ServerError, match=r"redis://127\.0\.0\.1:1/0 cannot be")
    with expected as raised, joined(chosen):
        pass
    assert "s3cret" not in str(raised.value)


def test_a_database_out_of_reach_is_named_without_its_password(
    database: Database, tmp_path: Path
) -> None:
    chosen = settings_for(
        database.endpoints, tmp_path, database_url="postgresql://scizor:s3cret@127.0.0.1:1/scizor"
    )
    with pytest.raises(WarehouseError, match="cannot be used") as raised, joined(chosen):
        pass
    assert "s3cret" not in str(raised.value)


def test_a_database_without_tables_is_not_set_up_by_a_worker(
    servers: Endpoints, tmp_path: Path
) -> None:
    with (
        pytest.raises(WarehouseError, match="scizor db upgrade"),
        joined(settings_for(servers, tmp_path)),
    ):
        pass
    engine = sa.create_engine(servers.sqlalchemy_url, poolclass=sa.NullPool)
    assert not sa.inspect(engine).has_table("scizor_schema_version", schema="public")


def test_a_schema_of_another_version_is_refused(platform: Platform, tmp_path: Path) -> None:
    execute(platform, "UPDATE public.scizor_schema_version SET version_num = '9999'")
    with (
        pytest.raises(WarehouseError, match="revision 9999"),
        joined(settings_for(platform.endpoints, tmp_path)),
    ):
        pass
