"""The walls between the rooms: imports point down only."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: Room -> rooms that it may import.
ALLOWED = {
    "scizor_core": {"scizor_core"},
    "scizor_resources": {"scizor_core", "scizor_resources"},
    "scizor_assets": {"scizor_core", "scizor_resources", "scizor_assets"},
    "scizor_sidecar": {"scizor_core", "scizor_resources", "scizor_sidecar"},
    "scizor_cli": {
        "scizor_core",
        "scizor_resources",
        "scizor_assets",
        "scizor_sidecar",
        "scizor_cli",
    },
}
MODULES = sorted(path for room in ALLOWED for path in (ROOT / room).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Return the top-level packages that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found.add(node.module.partition(".")[0])
    return found


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_import_runs_back_up(path: Path) -> None:
    rooms = {name for name in imported(path) if name in ALLOWED}
    assert rooms <= ALLOWED[path.relative_to(ROOT).parts[0]]


@pytest.mark.parametrize(
    "path", [path for path in MODULES if "scizor_assets" not in path.parts], ids=name_of
)
def test_dagster_stays_in_its_room(path: Path) -> None:
    if name_of(path) == "scizor_resources/resources.py":
        return
    dagster = {name for name in imported(path) if name.startswith("dagster")}
    assert dagster == set()


@pytest.mark.parametrize(
    "path", [path for path in MODULES if "scizor_core" in path.parts], ids=name_of
)
def test_the_core_does_no_input_or_output(path: Path) -> None:
    talking = {"httpx", "requests", "socket", "psycopg", "sqlalchemy", "redis", "os", "subprocess"}
    assert imported(path) & talking == set()


@pytest.mark.parametrize(
    "path", [path for path in MODULES if path.name == "__init__.py"], ids=name_of
)
def test_package_files_stay_empty(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == ""
