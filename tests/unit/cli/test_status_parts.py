"""The parts of `scizor status` that need no server."""

import json
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from scizor_cli import main
from scizor_cli.status import hide_password, run_subject, sessions_behind, summarise

# XASX trades Monday to Friday; 20 November 2026 is a Friday and closes at 05:00 UTC.
FRIDAY = date(2026, 11, 20)


@pytest.mark.parametrize(
    ("last_session", "now", "behind"),
    [
        pytest.param(FRIDAY, datetime(2026, 11, 22, 12, tzinfo=UTC), 0, id="weekend"),
        pytest.param(FRIDAY, datetime(2026, 11, 23, 4, 59, tzinfo=UTC), 0, id="still open"),
        pytest.param(FRIDAY, datetime(2026, 11, 23, 5, tzinfo=UTC), 1, id="closed"),
        pytest.param(date(2026, 11, 13), datetime(2026, 11, 22, tzinfo=UTC), 5, id="a week"),
    ],
)
def test_only_closed_sessions_count_as_behind(
    last_session: date, now: datetime, behind: int
) -> None:
    assert sessions_behind("asx", last_session, now) == behind


def test_freshness_adds_up_symbols_and_the_share_of_simulated_bars() -> None:
    first, last = datetime(2026, 11, 19, 23, tzinfo=UTC), datetime(2026, 11, 20, 4, tzinfo=UTC)
    row = {
        "market": "asx",
        "timeframe": "5m",
        "first_ts": first,
        "last_ts": last,
        "last_session": FRIDAY,
    }
    rows = [
        row | {"source": "simulated", "instrument_id": 1, "bars": 30},
        row | {"source": "tape", "instrument_id": 1, "bars": 50},
        row | {"source": "simulated+tape", "instrument_id": 2, "bars": 20},
    ]
    (found,) = summarise(rows, datetime(2026, 11, 22, tzinfo=UTC))
    assert found["bars"] == 100
    assert found["symbols"] == 2
    assert found["simulated_share"] == 0.5


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:secret@host:1/0", "redis://:***@host:1/0"),
        ("redis://me:secret@host/0", "redis://me:***@host/0"),
        ("redis://host:1/0", "redis://host:1/0"),
        ("unix:///tmp/a.sock?db=0", "unix:///tmp/a.sock?db=0"),
        ("unix:///a.sock?db=0&password=secret", "unix:///a.sock?db=0&password=***"),
        ("redis://h/0?password=secret&db=1", "redis://h/0?password=***&db=1"),
    ],
)
def test_a_password_is_never_shown(url: str, shown: str) -> None:
    assert hide_password(url) == shown


def test_a_run_of_assets_is_named_by_them() -> None:
    keys = [{"__class__": "AssetKey", "path": ["asx", name]} for name in ("c", "a", "b")]
    body = json.dumps({"asset_selection": {"__frozenset__": keys}})
    assert run_subject("__ASSET_JOB", body) == "asx/a, asx/b +1"


def test_a_run_of_a_job_is_named_by_it() -> None:
    assert run_subject("nightly", "{}") == "nightly"


def test_status_starts_no_server_and_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCIZOR_DATABASE_URL", raising=False)
    monkeypatch.delenv("SCIZOR_REDIS_URL", raising=False)
    monkeypatch.setenv("SCIZOR_HOME", str(home))
    result = CliRunner().invoke(main.app, ["status"])
    assert result.exit_code == 0
    assert "embedded, not running" in result.stdout
    assert "`scizor up`" in result.stdout
    assert not home.exists()


def test_a_configured_database_out_of_reach_is_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCIZOR_HOME", str(tmp_path))
    monkeypatch.setenv("SCIZOR_DATABASE_URL", "postgresql://me:secret@127.0.0.1:1/x")
    monkeypatch.setenv("SCIZOR_REDIS_URL", "redis://127.0.0.1:1")
    result = CliRunner().invoke(main.app, ["status", "--json"])
    assert result.exit_code == 1
    servers = json.loads(result.stdout)["servers"]
    assert [server["running"] for server in servers] == [False, False]
    assert "secret" not in result.stdout
