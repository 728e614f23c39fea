"""How the sidecar waits: `asyncio.wait_for` of Python 3.11 loses cancellations."""

import ast
from pathlib import Path

SIDECAR = Path(__file__).parents[2] / "scizor_sidecar"


def _calls_wait_for(path: Path) -> list[str]:
    return [
        f"{path.name}:{node.lineno}"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "wait_for"
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "asyncio"
    ]


def test_the_sidecar_waits_with_timeout_and_not_with_wait_for() -> None:
    """Cancelled in the turn in which its future is done, `wait_for` returns and goes on."""
    assert [found for path in SIDECAR.rglob("*.py") for found in _calls_wait_for(path)] == []
