"""What the command line says of itself, and of calls that are wrong."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import CliRunner

from gateway.cli import cli
from gateway.settings import SETTINGS

from .processes import GATEWAY, Running, clean_environment

COMMANDS = ("serve", "publish", "watch", "run", "demo")


def invoke(*arguments: str, **variables: str) -> tuple[int, str]:
    environ = {setting.variable: "" for setting in SETTINGS} | variables
    result = CliRunner().invoke(cli, arguments, env=environ)
    return result.exit_code, result.output


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself(command: str) -> None:
    code, output = invoke(command, "--help")
    assert code == 0
    assert "GATEWAY_" in output
    assert "default" in output


def test_the_commands_are_listed_and_the_version_is_told() -> None:
    _, output = invoke("--help")
    assert all(command in output for command in COMMANDS)
    code, output = invoke("--version")
    assert code == 0
    assert output.startswith("gateway, version ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serve", "--bind", "8000"], ["--bind", "GATEWAY_BIND", "HOST:PORT", "'8000'"]),
        (["serve", "--drain", "soon"], ["--drain", "GATEWAY_DRAIN", "seconds"]),
        (["serve", "--log-level", "loud"], ["--log-level", "GATEWAY_LOG_LEVEL", "debug"]),
        (["demo", "--bind", "x"], ["--bind", "GATEWAY_BIND"]),
        (["publish", "a", "--url", "ftp://x"], ["--url", "GATEWAY_URL", "http://"]),
        (["run", "a", "--url", "redis://", "--", "true"], ["--url", "GATEWAY_URL", "no host"]),
        (["watch", "a", "--url", "127.0.0.1:8000"], ["--url", "GATEWAY_URL", "http://"]),
        (["watch", "a", "--url", "redis://h"], ["--url", "GATEWAY_URL", "a gateway is needed"]),
        (["revoke", "x", "--url", "redis://h"], ["--url", "GATEWAY_URL", "a gateway is needed"]),
        (["publish", "not a job"], ["JOB", "not a job id"]),
        (["publish", "a", "--percent", "101"], ["--percent", "101"]),
        (["publish", "a", "--status", "done"], ["--status", "succeeded"]),
        (["publish", "a", "--data", "{"], ["--data", "not JSON"]),
        (["publish"], ["JOB"]),
        (["watch"], ["JOB"]),
        (["watch", "a", "b c"], ["JOB", "not a job id", "b c"]),
        (["run", "a"], ["COMMAND"]),
        (["run", "a b", "--", "true"], ["not a job id"]),
        (["run", "a", "--parent", "b c", "--", "true"], ["parent", "not a job id"]),
        (["dance"], ["dance"]),
    ],
)
def test_a_wrong_call_is_named_and_exits_with_2(arguments: list[str], said: list[str]) -> None:
    code, output = invoke(*arguments)
    assert code == 2
    assert all(part in output for part in said), output
    assert "Traceback" not in output


def test_a_wrong_variable_is_named_too() -> None:
    code, output = invoke("serve", GATEWAY_BIND="nowhere")
    assert code == 2
    assert "GATEWAY_BIND" in output
    assert "'nowhere'" in output


@pytest.mark.parametrize("command", [["publish", "a"], ["watch", "a"], ["revoke", "x"]])
@pytest.mark.parametrize("url", ["redis://:hush@h:port", "http://me:hush@h"])
def test_a_password_is_not_shown(command: list[str], url: str) -> None:
    code, output = invoke(*command, GATEWAY_URL=url)
    assert code == 2
    assert "GATEWAY_URL" in output
    assert "hush" not in output


def test_a_mistyped_variable_is_pointed_out() -> None:
    _, output = invoke("publish", "not a job", GATEWAY_BNID="127.0.0.1:1")
    assert (
        "Warning: GATEWAY_BNID is no variable of the gateway; did you mean GATEWAY_BIND?" in output
    )


def test_a_real_process_says_the_same() -> None:
    with Running(*GATEWAY, "serve", env={"GATEWAY_DRAIN": "x"}) as running:
        assert running.end() == 2
        assert "GATEWAY_DRAIN" in running.errors
        assert "Traceback" not in running.errors


def test_a_publish_loads_no_server_and_no_bars() -> None:
    program = (
        "import sys; from click.testing import CliRunner; from gateway.cli import cli; "
        "CliRunner().invoke(cli, ['publish', 'a', '--url', 'http://127.0.0.1:9']); "
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, check=True, timeout=30, env=clean_environment(),
    ).stdout.split()  # fmt: skip
    assert not {"trio", "rich", "hypercorn", "starlette", "msgspec"} & set(loaded)
