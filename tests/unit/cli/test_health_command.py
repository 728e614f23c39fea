"""`scizor health` without servers: what is printed, and exit codes."""

import json
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner, Result

from scizor_cli import health, main
from scizor_cli.health import chosen_groups, gathered, summary
from scizor_core.errors import InvalidInputError
from scizor_resources.health.report import GROUPS, Check, State

NOW = datetime(2026, 11, 20, 1, tzinfo=UTC)
WELL = Check("servers", "valkey", "ok", "Valkey 9, embedded.", {"since": NOW})


def run(monkeypatch: pytest.MonkeyPatch, checks: list[Check], *arguments: str) -> Result:
    monkeypatch.setattr(health, "_look", lambda *_: (checks, NOW))
    return CliRunner().invoke(main.app, ["health", *arguments])


def one(state: State) -> list[Check]:
    return [WELL, Check("dagster", "daemon", state, "It was [heard] of.")]


@pytest.mark.parametrize(
    ("state", "plain", "strict"),
    [("ok", 0, 0), ("warn", 0, 1), ("unknown", 0, 1), ("fail", 1, 1)],
    ids=["ok", "warn", "unknown", "fail"],
)
def test_only_failures_count_unless_it_is_strict(
    state: State, plain: int, strict: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(monkeypatch, one(state)).exit_code == plain
    assert run(monkeypatch, one(state), "--strict").exit_code == strict


def test_quiet_prints_only_what_is_not_well(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = run(monkeypatch, one("fail"), "--quiet").stdout
    assert shown.split() == ["fail", "dagster", "daemon", "It", "was", "[heard]", "of."]
    assert run(monkeypatch, [WELL], "--quiet").stdout == ""


def test_json_has_every_check_and_the_worst_state(monkeypatch: pytest.MonkeyPatch) -> None:
    told = json.loads(run(monkeypatch, one("warn"), "--json").stdout)
    assert (told["state"], told["at"]) == ("warn", "2026-11-20T01:00:00Z")
    assert [each["name"] for each in told["checks"]] == ["valkey", "daemon"]
    assert told["checks"][0]["detail"] == {"since": "2026-11-20T01:00:00Z"}


def test_an_unknown_group_is_a_mistake_that_lists_the_known_ones() -> None:
    result = CliRunner().invoke(main.app, ["health", "--only", "servers,weather"])
    assert result.exit_code == 2
    assert "nothing called 'weather'" in result.stderr
    assert "servers, dagster" in result.stderr


def test_a_setting_that_cannot_be_used_means_that_health_is_not_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SCIZOR_UI_PORT", "many")
    result = CliRunner().invoke(main.app, ["health"])
    assert result.exit_code == 2
    assert "SCIZOR_UI_PORT" in result.stderr


def test_groups_are_looked_at_in_their_order() -> None:
    assert chosen_groups("") == GROUPS
    assert chosen_groups(" Alerts,servers,") == ("servers", "alerts")
    with pytest.raises(InvalidInputError):
        chosen_groups("nothing")


def test_providers_that_are_well_share_a_line() -> None:
    checks = [
        Check("providers", "yahoo", "ok", "1 of 900 calls used."),
        Check("providers", "kraken", "warn", "Paused."),
        Check("providers", "coinbase", "ok", "No limit."),
    ]
    assert [(each.name, each.said) for each in gathered(checks)] == [
        ("", "yahoo (1 of 900 calls used); coinbase (No limit)."),
        ("kraken", "Paused."),
    ]


def test_the_summary_counts_the_worst_first() -> None:
    assert summary([*one("fail"), *one("warn")]) == "1 failed, 1 to look at, 2 well."
