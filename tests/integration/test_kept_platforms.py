"""Platforms that are lent again, and what a tick of a sensor opens."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import psycopg
import pytest

from scizor_assets.build import build_defs
from scizor_resources.embedded.servers import EmbeddedServers
from scizor_resources.errors import WarehouseError
from scizor_resources.kept import KeptPlatforms
from scizor_resources.platform import Platform
from scizor_resources.resources import PLATFORMS


@pytest.fixture
def kept(platform: Platform) -> Iterator[KeptPlatforms]:
    """Those of a process whose settings are the fixture's."""
    del platform
    made = KeptPlatforms()
    yield made
    made.close()


def lent(kept: KeptPlatforms) -> Platform:
    with kept.lend() as platform:
        return platform


class ClosingSource:
    """Remembers whether it was closed."""

    closed = False

    def close(self) -> None:
        self.closed = True


def test_the_next_user_gets_the_same_platform(kept: KeptPlatforms) -> None:
    assert lent(kept) is lent(kept)


def test_two_users_at_a_time_have_a_platform_each(kept: KeptPlatforms) -> None:
    with kept.lend() as one, kept.lend() as other:
        assert one is not other


def test_providers_are_let_go_of_between_two_users(kept: KeptPlatforms) -> None:
    source: Any = ClosingSource()
    with kept.lend() as platform:
        platform._sources["ibkr", "live"] = source
    assert source.closed
    assert lent(kept)._sources == {}


def test_the_clock_that_a_user_has_set_is_not_the_next_ones(kept: KeptPlatforms) -> None:
    with kept.lend() as platform:
        usual = platform.now
        platform.now = lambda: pytest.fail("the clock of another")
    assert lent(kept).now is usual


def test_after_an_error_a_new_platform_is_opened(kept: KeptPlatforms) -> None:
    before = lent(kept)
    with suppress(ValueError), kept.lend():
        raise ValueError
    assert lent(kept) is not before


def test_changed_settings_open_a_new_platform(
    kept: KeptPlatforms, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = lent(kept)
    monkeypatch.setenv("SCIZOR_CHAIN_ASX", "tape")
    after = lent(kept)
    assert after is not before
    assert after.settings.chain_asx == ("tape",)


def test_a_database_that_was_migrated_meanwhile_is_noticed(
    kept: KeptPlatforms, platform: Platform
) -> None:
    lent(kept)
    with platform.warehouse.connect() as connection:
        connection.execute("UPDATE public.scizor_schema_version SET version_num = '9999'")
    with pytest.raises(WarehouseError, match="9999"):
        lent(kept)


def test_embedded_servers_are_not_held_between_two_users(
    platform: Platform, embedded: EmbeddedServers
) -> None:
    closed: list[str] = []

    class Holding(Platform):
        def close(self) -> None:
            closed.append("closed")

    kept = KeptPlatforms(lambda: Holding(platform.settings, platform.endpoints, embedded))
    lent(kept)
    assert closed == ["closed"]


# ---- what a tick opens


def sensors() -> list[dg.SensorDefinition]:
    found = [
        each
        for each in build_defs(marts=False).sensors or ()
        if isinstance(each, dg.SensorDefinition)
    ]
    return [each for each in found if "platform" in each.required_resource_keys]


class WhileTrading(dg.ConfigurableResource[Platform]):
    """The platform as `PlatformResource` gives it, in the middle of a session of Sydney."""

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[Platform]:
        del context
        with PLATFORMS.lend() as platform:
            platform.now = lambda: datetime(2026, 11, 19, 2, 3, 20, tzinfo=UTC)
            yield platform


def evaluate(sensor: dg.SensorDefinition) -> None:
    with (
        dg.DagsterInstance.ephemeral() as instance,
        dg.build_sensor_context(
            instance=instance,
            definitions=build_defs(marts=False),
            resources={"platform": WhileTrading()},
        ) as context,
    ):
        sensor.evaluate_tick(context)


@pytest.mark.parametrize("name", [each.name for each in sensors()])
def test_a_tick_connects_to_postgresql_only_once(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (sensor,) = [each for each in sensors() if each.name == name]
    evaluate(sensor)
    opened: list[str] = []
    connect = psycopg.Connection.connect

    def counting(*arguments: Any, **options: Any) -> Any:
        opened.append("connection")
        return connect(*arguments, **options)

    monkeypatch.setattr(psycopg, "connect", counting)
    evaluate(sensor)
    PLATFORMS.close()
    assert len(opened) <= 1
