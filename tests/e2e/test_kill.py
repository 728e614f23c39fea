"""A range killed with SIGKILL and run again is a range that was never killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.shell import environment, eventually, scizor

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

_RANGE = ("materialize", "asx/bars_5m", "--range", "2022-01-01...2023-12-31")
_SYMBOLS = ("--symbols", "CBA,COL")
_CONTENT = """
    SELECT count(*) AS bars, count(DISTINCT (symbol, ts)) AS distinct_bars,
           md5(string_agg(row(symbol, ts, open, high, low, close, volume, vwap)::text, '|'
                          ORDER BY symbol, ts)) AS hash
    FROM asx.bars_5m
"""


def content(home: Path) -> tuple[str, str, str]:
    answer = scizor(home, "query", _CONTENT, "--format", "csv")
    assert answer.returncode == 0, answer.stderr
    bars, distinct_bars, digest = answer.stdout.split()[1].split(",")
    return bars, distinct_bars, digest


def test_a_two_year_range_killed_in_the_middle_and_run_again_has_no_hole_and_no_double(
    tmp_path: Path,
) -> None:
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    assert scizor(unbroken, *_RANGE, *_SYMBOLS, timeout=600).returncode == 0

    process = subprocess.Popen(
        [sys.executable, "-m", "scizor_cli.main", *_RANGE, *_SYMBOLS],
        env=environment(broken),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )

    def under_way() -> bool:
        assert process.poll() is None, "it ended before it could be killed"
        answer = scizor(broken, "query", "SELECT count(*) FROM asx.bars_5m", "--format", "csv")
        return answer.returncode == 0 and int(answer.stdout.split()[1]) > 10_000

    eventually(under_way, 300)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    part = int(content(broken)[0])

    assert scizor(broken, *_RANGE, *_SYMBOLS, timeout=600).returncode == 0

    expected = content(unbroken)
    assert 10_000 < part < int(expected[0])
    assert content(broken) == expected
    assert expected[0] == expected[1]
