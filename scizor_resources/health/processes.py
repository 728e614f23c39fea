"""Facts of this machine: what `scizor up` keeps running, the UI, disk and memory."""

import json
import re
import shutil
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import psutil

from scizor_resources.health.report import DagsterFacts, MachineFacts, ProcessFact

UI_TIMEOUT_SECONDS = 2.0


def read_up(home: Path) -> DagsterFacts:
    """Return the processes of the `scizor up` that runs on this home, on this machine.

    Source: `up.lock` and `up.json`, which the supervisor writes. One that was killed leaves them
    behind; its process is gone then.
    """
    try:
        holder = (home / "up.lock").read_text(encoding="utf-8")
        recorded = json.loads((home / "up.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return DagsterFacts(up=False)
    found = re.fullmatch(r"(\S+) \(process (\d+)\)\s*", holder)
    if found is None or not psutil.pid_exists(int(found[2])):
        return DagsterFacts(up=False)
    processes = tuple(_process(each) for each in recorded if isinstance(each, dict))
    return DagsterFacts(up=True, processes=processes, ui_url=found[1])


def _process(record: dict[str, Any]) -> ProcessFact:
    pid = int(record.get("pid", 0))
    try:
        process = psutil.Process(pid)
        # A pid may have been given away since, and a zombie does nothing.
        alive = (
            abs(process.create_time() - float(record.get("created", 0))) < 1
            and process.status() != psutil.STATUS_ZOMBIE
        )
    except psutil.Error:
        alive = False
    return ProcessFact(str(record.get("name", "process")), pid, alive)


def ui_problem(url: str) -> str | None:
    """Return why the UI does not answer, None where it does."""
    # A server that listens on all addresses is asked on this machine's own.
    asked = url.replace("//0.0.0.0", "//127.0.0.1").replace("//[::]", "//[::1]")
    try:
        with urllib.request.urlopen(  # noqa: S310  # the address that `up` has written
            f"{asked}/server_info", timeout=UI_TIMEOUT_SECONDS
        ) as answer:
            return None if answer.status == 200 else f"it answers {answer.status}"  # noqa: PLR2004
    except urllib.error.HTTPError as error:
        return f"it answers {error.code}"
    except (urllib.error.URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return str(getattr(reason, "strerror", None) or reason or type(error).__name__)


def read_machine(home: Path) -> MachineFacts:
    """Return the use of the disk that holds the home, and of the memory."""
    place = next((each for each in (home, *home.parents) if each.exists()), Path("/"))
    disk = shutil.disk_usage(place)
    memory = psutil.virtual_memory()
    # As df has it: what is reserved for root is not there for us.
    used = 100 * disk.used / max(disk.used + disk.free, 1)
    return MachineFacts(used, disk.free, memory.percent, memory.available)
