"""The shell of the command line: exit codes, sentences, help."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from scizor_cli import main, status
from scizor_core.errors import ScizorError

COMMANDS = [
    ["up"],
    ["demo"],
    ["materialize"],
    ["query"],
    ["bars"],
    ["status"],
    ["health"],
    ["dashboard"],
    ["sidecar"],
    ["import"],
    *(["watchlist", each] for each in ("list", "add", "remove", "set", "import", "export")),
    *(["db", each] for each in ("upgrade", "current")),
    *(["archive", each] for each in ("list", "run", "verify", "restore")),
]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main.app, list(arguments))


def failing_with(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> None:
        raise error

    monkeypatch.setattr(status, "look", fail)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_the_help_of_every_command_shows_an_example(command: list[str]) -> None:
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert "Example" in result.stdout
    assert f"scizor {' '.join(command)}" in result.stdout


@pytest.mark.parametrize("arguments", [[], ["watchlist"], ["db"]], ids=["root", "watchlist", "db"])
def test_a_group_without_a_command_shows_its_help(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 0
    assert "Usage:" in result.stdout


def test_an_unknown_command_is_a_usage_error_in_one_line() -> None:
    result = run("nonsense")
    assert result.exit_code == 2
    assert result.stderr == "No such command 'nonsense'. See `scizor --help`.\n"


def test_a_missing_argument_names_the_help_to_read() -> None:
    result = run("bars")
    assert result.exit_code == 2
    assert "`scizor bars --help`" in result.stderr


def test_an_error_on_purpose_is_its_sentence_and_exit_code_1(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failing_with(ScizorError("The moon is full. Wait a day."), monkeypatch)
    result = run("status")
    assert result.exit_code == 1
    assert result.stderr == "The moon is full. Wait a day.\n"


def test_an_unexpected_error_is_one_sentence_and_exit_code_70(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failing_with(ZeroDivisionError("division by zero"), monkeypatch)
    result = run("status")
    assert result.exit_code == 70
    assert result.stderr == (
        "Unexpected ZeroDivisionError: division by zero - run again with --debug and report.\n"
    )


@pytest.mark.parametrize("arguments", [["--debug", "status"], ["status", "--debug"]])
def test_debug_shows_the_traceback_wherever_it_stands(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    failing_with(ScizorError("The moon is full."), monkeypatch)
    result = run(*arguments)
    assert result.exit_code == 1
    assert "Traceback (most recent call last)" in result.stderr


def test_ctrl_c_exits_with_130_and_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    failing_with(KeyboardInterrupt(), monkeypatch)
    result = run("status")
    assert result.exit_code == 130
    assert result.stderr == ""


def test_a_setting_that_cannot_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SCIZOR_HOME", str(tmp_path))
    monkeypatch.setenv("SCIZOR_UI_PORT", "ninety")
    result = run("status")
    assert result.exit_code == 1
    assert "SCIZOR_UI_PORT" in result.stderr


def test_parquet_without_a_file_is_refused_before_anything_is_opened() -> None:
    result = run("query", "SELECT 1", "--format", "parquet")
    assert result.exit_code == 1
    assert "--output FILE" in result.stderr


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, scizor_cli.main; heavy = {'pandas', 'dagster', 'sqlalchemy', 'pydantic'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
