"""The files for containers: they parse, and they say what the code says."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from scizor_resources.dagster_home import instance_config
from scizor_resources.health.report import GROUPS
from scizor_resources.settings import Settings

DOCKER = Path(__file__).parents[2] / "docker"


def loaded(name: str) -> Any:
    return yaml.safe_load((DOCKER / name).read_text())


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The dagster.yaml that scizor writes with nothing set."""
    for name in Settings.model_fields:
        monkeypatch.delenv(f"SCIZOR_{name.upper()}", raising=False)
    parsed: dict[str, Any] = yaml.safe_load(instance_config(Settings()))
    return parsed


def test_the_instance_of_containers_is_the_one_that_scizor_writes(written: dict[str, Any]) -> None:
    assert loaded("dagster.yaml") == written


def test_the_chart_has_the_launcher_that_scizor_writes(written: dict[str, Any]) -> None:
    launcher = loaded("helm/values.yaml")["runLauncher"]
    assert launcher["type"] == "CustomRunLauncher"
    assert launcher["config"]["customRunLauncher"] == written["run_launcher"]


def test_the_chart_has_the_limits_that_scizor_writes(written: dict[str, Any]) -> None:
    coordinator = loaded("helm/values.yaml")["dagsterDaemon"]["runCoordinator"]
    assert coordinator["type"] == "CustomRunCoordinator"
    assert coordinator["config"]["customRunCoordinator"] == written["run_coordinator"]


def test_the_chart_watches_and_retries_as_scizor_does(written: dict[str, Any]) -> None:
    daemon = loaded("helm/values.yaml")["dagsterDaemon"]
    monitoring, retries = written["run_monitoring"], written["run_retries"]
    assert daemon["runMonitoring"] == {
        "enabled": monitoring["enabled"],
        "startTimeoutSeconds": monitoring["start_timeout_seconds"],
        "cancelTimeoutSeconds": monitoring["cancel_timeout_seconds"],
        "pollIntervalSeconds": monitoring["poll_interval_seconds"],
    }
    assert daemon["runRetries"] == {
        "enabled": retries["enabled"],
        "maxRetries": retries["max_retries"],
        "retryOnAssetOrOpFailure": retries["retry_on_asset_or_op_failure"],
    }


def test_workers_start_with_their_profile_only() -> None:
    services = loaded("compose.yaml")["services"]
    assert services["worker"]["profiles"] == ["workers"]
    assert {name for name, each in services.items() if "profiles" in each} == {"worker"}


@pytest.mark.parametrize("service", ["scizor", "worker"])
def test_every_process_in_compose_is_told_of_both_servers(service: str) -> None:
    environment = loaded("compose.yaml")["services"][service]["environment"]
    assert {"SCIZOR_DATABASE_URL", "SCIZOR_REDIS_URL"} <= set(environment)


def test_a_worker_in_a_container_gets_longer_to_stop_than_its_runs_get() -> None:
    worker = loaded("compose.yaml")["services"]["worker"]
    grace = int(worker["command"][worker["command"].index("--grace") + 1])
    assert int(worker["stop_grace_period"].removesuffix("s")) > grace


def test_a_worker_in_a_pod_gets_longer_to_stop_than_its_runs_get() -> None:
    documents = yaml.safe_load_all((DOCKER / "helm" / "workers.yaml").read_text())
    (deployment,) = (each for each in documents if each["kind"] == "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    arguments = pod["containers"][0]["args"]
    grace = int(arguments[arguments.index("--grace") + 1])
    assert pod["terminationGracePeriodSeconds"] > grace


@pytest.mark.parametrize("service", ["scizor", "worker"])
def test_containers_are_healthy_by_groups_that_health_knows(service: str) -> None:
    command = loaded("compose.yaml")["services"][service]["healthcheck"]["test"]
    assert command[:4] == ["CMD", "scizor", "health", "--only"]
    assert set(command[4].split(",")) <= set(GROUPS)


def test_a_pod_is_judged_by_its_own_worker() -> None:
    documents = yaml.safe_load_all((DOCKER / "helm" / "workers.yaml").read_text())
    (deployment,) = (each for each in documents if each["kind"] == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    command = container["livenessProbe"]["exec"]["command"]
    assert command[:5] == ["scizor", "health", "--only", "workers", "--here"]
