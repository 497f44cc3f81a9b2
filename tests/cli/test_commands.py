"""The help texts of the command line, and its errors for invalid calls."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import CliRunner

from gateway.cli.__main__ import cli
from gateway.config.settings import SETTINGS

from .processes import GATEWAY, Running, clean_environment

COMMANDS = ("serve", "publish", "watch", "run", "demo")


def invoke(*arguments: str, **variables: str) -> tuple[int, str]:
    environ = {setting.variable: "" for setting in SETTINGS} | variables
    result = CliRunner().invoke(cli, arguments, env=environ)
    return result.exit_code, result.output


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_a_help_text(command: str) -> None:
    code, output = invoke(command, "--help")
    assert code == 0
    assert "PROGRESS_GATEWAY_" in output
    assert "default" in output


def test_the_commands_and_the_version_are_shown() -> None:
    _, output = invoke("--help")
    assert all(command in output for command in COMMANDS)
    code, output = invoke("--version")
    assert code == 0
    assert output.startswith("gateway, version ")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["serve", "--bind", "8000"], ["--bind", "PROGRESS_GATEWAY_BIND", "HOST:PORT", "'8000'"]),
        (
            ["serve", "--shutdown-timeout", "soon"],
            ["--shutdown-timeout", "PROGRESS_GATEWAY_SHUTDOWN_TIMEOUT", "seconds"],
        ),
        (["serve", "--log-level", "loud"], ["--log-level", "PROGRESS_GATEWAY_LOG_LEVEL", "debug"]),
        (["demo", "--bind", "x"], ["--bind", "PROGRESS_GATEWAY_BIND"]),
        (["publish", "a", "--url", "ftp://x"], ["--url", "PROGRESS_GATEWAY_URL", "http://"]),
        (
            ["run", "a", "--url", "redis://", "--", "true"],
            ["--url", "PROGRESS_GATEWAY_URL", "no host"],
        ),
        (["watch", "a", "--url", "127.0.0.1:8000"], ["--url", "PROGRESS_GATEWAY_URL", "http://"]),
        (
            ["watch", "a", "--url", "redis://h"],
            ["--url", "PROGRESS_GATEWAY_URL", "must be the URL of a gateway"],
        ),
        (
            ["revoke", "x", "--url", "redis://h"],
            ["--url", "PROGRESS_GATEWAY_URL", "must be the URL of a gateway"],
        ),
        (["publish", "not a job"], ["JOB", "not a job id"]),
        (["publish", "a", "--percent", "101"], ["--percent", "101"]),
        (["publish", "a", "--status", "done"], ["--status", "succeeded"]),
        (["publish", "a", "--data", "{"], ["--data", "not JSON"]),
        (["publish"], ["JOB"]),
        (["watch"], ["JOB"]),
        (["watch", "a", "b c"], ["JOB", "not a job id", "b c"]),
        (["run", "a"], ["COMMAND"]),
        (["run", "a b", "--", "true"], ["not a job id"]),
        (["run", "a", "--weight", "0", "--", "true"], ["weight", "0.001"]),
        (["dance"], ["dance"]),
    ],
)
def test_an_invalid_call_exits_with_2(arguments: list[str], expected: list[str]) -> None:
    code, output = invoke(*arguments)
    assert code == 2
    assert all(part in output for part in expected), output
    assert "Traceback" not in output


def test_an_invalid_variable_is_named() -> None:
    code, output = invoke("serve", PROGRESS_GATEWAY_BIND="nowhere")
    assert code == 2
    assert "PROGRESS_GATEWAY_BIND" in output
    assert "'nowhere'" in output


@pytest.mark.parametrize("command", [["publish", "a"], ["watch", "a"], ["revoke", "x"]])
@pytest.mark.parametrize("url", ["redis://:hush@h:port", "http://me:hush@h"])
def test_a_password_is_not_shown(command: list[str], url: str) -> None:
    code, output = invoke(*command, PROGRESS_GATEWAY_URL=url)
    assert code == 2
    assert "PROGRESS_GATEWAY_URL" in output
    assert "hush" not in output


def test_a_misspelled_variable_is_reported() -> None:
    _, output = invoke("publish", "not a job", PROGRESS_GATEWAY_BNID="127.0.0.1:1")
    assert (
        "Warning: PROGRESS_GATEWAY_BNID is not a variable of the gateway; "
        "did you mean PROGRESS_GATEWAY_BIND?" in output
    )


def test_a_real_process_shows_the_same_errors() -> None:
    with Running(*GATEWAY, "serve", env={"PROGRESS_GATEWAY_SHUTDOWN_TIMEOUT": "x"}) as running:
        assert running.end() == 2
        assert "PROGRESS_GATEWAY_SHUTDOWN_TIMEOUT" in running.errors
        assert "Traceback" not in running.errors


def modules_loaded_by(*arguments: str) -> set[str]:
    """Returns the names of all modules that a process has imported after this command."""
    program = (
        "import sys; from click.testing import CliRunner; from gateway.cli.__main__ import cli; "
        "CliRunner().invoke(cli, sys.argv[1:]); print(*sys.modules)"
    )
    output = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True, text=True, check=True, timeout=30, env=clean_environment(),
    ).stdout  # fmt: skip
    return set(output.split())


def test_publish_imports_no_server_and_no_bars() -> None:
    loaded = modules_loaded_by("publish", "a", "--url", "http://127.0.0.1:9")
    assert "gateway.cli.publish" in loaded
    assert not {"trio", "rich", "hypercorn", "starlette", "msgspec"} & loaded


def test_a_command_imports_no_other_command() -> None:
    loaded = modules_loaded_by("token", "--help")
    assert "gateway.cli.token" in loaded
    assert not {"gateway.cli.cancel", "gateway.worker", "gateway.demo"} & loaded
