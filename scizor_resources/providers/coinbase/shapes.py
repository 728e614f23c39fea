"""Reading decoded answers whose shape is only agreed, not certain."""

from collections.abc import Mapping
from typing import Any


def field_in(answer: Any, name: str) -> Any:
    """Return a field of an object.

    Raises:
        ValueError: there is no such field.
    """
    if isinstance(answer, Mapping) and name in answer:
        return answer[name]
    raise ValueError(f"there is no '{name}'")


def list_in(answer: Any, name: str) -> list[Any]:
    """Return a list in a field of an object.

    Raises:
        ValueError: there is no such field, or it is not a list.
    """
    found = field_in(answer, name)
    if isinstance(found, list):
        return found
    raise ValueError(f"'{name}' is not a list")
