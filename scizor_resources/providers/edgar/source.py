"""Placeholder until the real module lands."""

from typing import Any


class EdgarEvents:
    """Placeholder."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        raise NotImplementedError
