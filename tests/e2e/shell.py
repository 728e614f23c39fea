"""Run `scizor` as a user does: in a process of its own, with a home of its own."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def eventually(what: Callable[[], T | None], seconds: float) -> T:
    deadline = time.monotonic() + seconds
    while True:
        found = what()
        if found:
            return found
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.5)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def environment(home: Path, chain_asx: str | None = "tape,simulated") -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SCIZOR_", "DAGSTER_"))
    }
    chosen = {"SCIZOR_CHAIN_ASX": chain_asx} if chain_asx else {}
    return {**kept, "SCIZOR_HOME": str(home), "SCIZOR_INTRADAY_START": "2021-12-01", **chosen}


def scizor(
    home: Path, *arguments: str, timeout: float = 180, chain_asx: str | None = "tape,simulated"
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "scizor_cli.main", *arguments],
        env=environment(home, chain_asx),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
