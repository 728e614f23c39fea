"""The dbt project as assets: every model one, every dbt test an asset check.

Belongs here: how dbt is called. Not here: the models (`dbt_project/`), whose sources have the same
names as the assets they read, so that lineage needs no translation.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import dagster as dg
from dagster_dbt import DbtCliResource, DbtProject, dbt_assets
from filelock import FileLock

from scizor_core.errors import ConfigError
from scizor_resources.platform import Platform
from scizor_resources.stores.warehouse import Warehouse

PROJECT_DIR = Path(__file__).parent.parent / "dbt_project"
_DBT_ENVIRONMENT = {
    "DBT_PROFILES_DIR": str(PROJECT_DIR),
    "DBT_SEND_ANONYMOUS_USAGE_STATS": "0",
}


@cache
def dbt_project() -> DbtProject:
    """Return the dbt project, its manifest made anew where a model is newer than it."""
    project = DbtProject(project_dir=PROJECT_DIR, profiles_dir=PROJECT_DIR)
    with FileLock(PROJECT_DIR / ".parse.lock"):
        if _is_stale(project.manifest_path):
            _parse()
    return project


def _is_stale(manifest: Path) -> bool:
    if not manifest.exists():
        return True
    try:
        json.loads(manifest.read_bytes())
    except ValueError:
        return True
    sources = [
        path
        for folder in ("models", "macros", "tests")
        for path in (PROJECT_DIR / folder).rglob("*")
        if path.is_file()
    ]
    newest = max(path.stat().st_mtime for path in (*sources, PROJECT_DIR / "dbt_project.yml"))
    return newest > manifest.stat().st_mtime


def _parse() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "dbt.cli.main", "--quiet", "parse", "--no-partial-parse"],
        cwd=PROJECT_DIR,
        env={**os.environ, **_DBT_ENVIRONMENT},
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise ConfigError(
            f"dbt cannot parse the project in {PROJECT_DIR}: {result.stdout.strip()[-800:]}"
        )


def outdated_tables(warehouse: Warehouse, manifest: Path) -> list[str]:
    """Return the incremental tables that have other columns than their models.

    dbt refuses to add rows to such a table, as it is after an upgrade; it has to be built anew,
    which loses nothing: marts hold what their sources hold.
    """
    nodes = json.loads(manifest.read_bytes())["nodes"].values()
    described = {
        f"{node['schema']}.{node['name']}": set(node["columns"])
        for node in nodes
        if node["resource_type"] == "model" and node["config"]["materialized"] == "incremental"
    }
    with warehouse.connect() as connection:
        rows = connection.execute(
            "SELECT table_schema || '.' || table_name AS name, "
            "array_agg(column_name::text) AS columns FROM information_schema.columns "
            "WHERE table_schema || '.' || table_name = ANY(%s) GROUP BY 1",
            [list(described)],
        ).fetchall()
    return sorted(row["name"] for row in rows if set(row["columns"]) != described[row["name"]])


def build_marts() -> dg.AssetsDefinition:
    """Return the assets of all dbt models."""
    project = dbt_project()

    @dbt_assets(manifest=project.manifest_path, project=project, name="marts")
    def marts(
        context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> Iterator[object]:
        # The connection goes to dbt by environment, never into a file or an argument, and
        # DbtCliResource hands on the environment of this process only.
        os.environ.update(platform.endpoints.dbt_environment, **_DBT_ENVIRONMENT)
        # Beside this interpreter: a virtual environment need not be on the PATH.
        executable = Path(sys.executable).parent / "dbt"
        dbt = DbtCliResource(project_dir=project, dbt_executable=str(executable))
        with platform.warehouse.connect() as connection:
            # Two builds at once would trip over each other's relations; the lock goes with the
            # connection, so a killed run leaves none behind.
            connection.execute("SELECT pg_advisory_lock(7249004)")
            arguments = ["build"]
            outdated = outdated_tables(platform.warehouse, project.manifest_path)
            if outdated:
                context.log.info("Built anew, their columns have changed: %s", ", ".join(outdated))
                arguments.append("--full-refresh")
            yield from dbt.cli(arguments, context=context).stream()

    return marts
