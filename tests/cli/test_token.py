"""`gateway token`, `gateway revoke`, and a gateway that requires tokens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest
from attrs import frozen

from tests.auth.signing import SECRET, private_pem, public_pem

from .conftest import address
from .processes import GATEWAY, Running

WITH_SECRET = {"PROGRESS_GATEWAY_SECRET": SECRET}


@frozen
class Ran:
    code: int
    output: str
    errors: str


def run_command(*arguments: str, **env: str) -> Ran:
    with Running(*GATEWAY, *arguments, env=env) as process:
        code = process.end()
        return Ran(code, process.output.decode(), process.errors)


def make_token(*arguments: str, **env: str) -> str:
    process = run_command("token", *arguments, **(WITH_SECRET | env))
    assert process.errors == ""
    return process.output.strip()


def test_a_token_has_the_requested_claims() -> None:
    token = make_token("--watch", "video:*", "--watch", "a", "--ttl", "2h", "--subject", "me")
    claims = jwt.decode(token, SECRET, algorithms=["HS256"])
    assert claims["watch"] == ["video:*", "a"]
    assert claims["publish"] == []
    assert claims["exp"] - claims["iat"] == 7200
    assert claims["sub"] == "me"
    assert claims["jti"]


def test_a_key_file_signs_tokens(tmp_path: Path) -> None:
    private = tmp_path / "key.pem"
    private.write_text(private_pem("EdDSA"))
    process = run_command("token", "--publish", "*", "--keys", str(private))
    claims = jwt.decode(process.output.strip(), public_pem("EdDSA"), algorithms=["EdDSA"])
    assert claims["publish"] == ["*"]


@pytest.mark.parametrize(
    ("arguments", "env", "expected"),
    [
        (["--watch", "a"], {}, "PROGRESS_GATEWAY_KEYS"),
        (["--watch", "a"], {"PROGRESS_GATEWAY_SECRET": "short"}, "openssl rand"),
        (["--watch", "a"], {"PROGRESS_GATEWAY_KEYS": "/no/such/file"}, "/no/such/file"),
        ([], WITH_SECRET, "allows nothing"),
        (["--watch", "a*b"], WITH_SECRET, "'a*b'"),
        ([f"--watch={'a' * 100}*"] * 99, WITH_SECRET, "fewer patterns"),
        (["--watch", "a", "--ttl", "soon"], WITH_SECRET, "10m"),
        (["--watch", "a", "--ttl", "0m"], WITH_SECRET, "10m"),
    ],
)
def test_an_error_names_the_setting(
    arguments: list[str], env: dict[str, str], expected: str
) -> None:
    process = run_command("token", *arguments, **env)
    assert process.code == 2
    assert expected in process.errors
    assert "short" not in process.errors


@pytest.fixture
def url() -> Iterator[str]:
    with Running(*GATEWAY, "serve", "--bind", "127.0.0.1:0", env=WITH_SECRET) as served:
        yield address(served)


def test_publish_and_watch_use_a_token(url: str) -> None:
    token = make_token("--watch", "*", "--publish", "mine:*")
    env = {"PROGRESS_GATEWAY_URL": url, "PROGRESS_GATEWAY_TOKEN": token}
    assert run_command("publish", "mine:1", "--status", "succeeded", **env).code == 0
    refused_result = run_command("publish", "theirs:1", **env)
    assert refused_result.code == 1
    assert "403" in refused_result.errors
    nobody = run_command("publish", "mine:1", PROGRESS_GATEWAY_URL=url)
    assert nobody.code == 1
    assert "401" in nobody.errors
    watched = run_command("watch", "mine:1", **env)
    assert watched.code == 0
    nobody = run_command("watch", "mine:1", PROGRESS_GATEWAY_URL=url)
    assert nobody.code == 3
    assert "(4500)" in nobody.errors


class TestATokenInAFile:
    """The same for all commands that call a gateway."""

    def test_each_command_sends_the_token(self, url: str, tmp_path: Path) -> None:
        file = tmp_path / "token"
        file.write_text(make_token("--publish", "*", "--watch", "*", "--revoke"))
        env = {"PROGRESS_GATEWAY_URL": url, "PROGRESS_GATEWAY_TOKEN_FILE": str(file)}
        for command in (
            ["publish", "a", "--status", "succeeded"],
            ["watch", "a"],
            ["run", "b", "--", "true"],
            ["watch", "b"],
            ["revoke", "t1"],
        ):
            result = run_command(*command, **env)
            assert (result.code, result.errors) == (0, ""), command

    @pytest.mark.parametrize("command", [["publish", "a"], ["cancel", "a"], ["revoke", "t1"]])
    def test_an_empty_token_file_is_named(
        self, url: str, tmp_path: Path, command: list[str]
    ) -> None:
        file = tmp_path / "token"
        result = run_command(*command, "--url", url, "--token-file", str(file))
        assert result.code == 2
        assert f"no token in {file}: " in result.errors
        assert result.errors.count("\n") == 1

    def test_a_token_that_the_gateway_refuses_is_not_an_unavailable_gateway(
        self, url: str, tmp_path: Path
    ) -> None:
        file = tmp_path / "token"
        file.write_text("no.such.token")
        result = run_command("publish", "a", "--done", "1", "--url", url, "--token-file", str(file))
        assert result.code == 1
        assert result.errors.startswith("Error: rejected: 401 ")

    def test_an_option_overrides_a_variable_and_a_token_its_file(
        self, url: str, tmp_path: Path
    ) -> None:
        good, bad = make_token("--publish", "*"), make_token("--watch", "*")
        goods, bads = tmp_path / "good", tmp_path / "bad"
        goods.write_text(good)
        bads.write_text(bad)
        for flags, variables, code in [
            (["--token-file", str(goods)], {"PROGRESS_GATEWAY_TOKEN": bad}, 0),
            (["--token-file", str(bads)], {"PROGRESS_GATEWAY_TOKEN": good}, 1),
            (["--token", good], {"PROGRESS_GATEWAY_TOKEN_FILE": str(bads)}, 0),
            ([], {"PROGRESS_GATEWAY_TOKEN": good, "PROGRESS_GATEWAY_TOKEN_FILE": str(bads)}, 0),
            (["--token", bad, "--token-file", str(goods)], {}, 1),
        ]:
            assert (
                run_command("publish", "a", "--done", "1", "--url", url, *flags, **variables).code
                == code
            )


def test_a_revoked_token_is_refused(url: str) -> None:
    token = make_token("--publish", "*", "--id", "t1")
    env = {"PROGRESS_GATEWAY_URL": url, "PROGRESS_GATEWAY_TOKEN": token}
    assert run_command("publish", "a", "--done", "1", **env).code == 0
    result = run_command("revoke", token, PROGRESS_GATEWAY_URL=f"{url}/")
    assert (result.code, result.output) == (0, "revoked t1\n")
    again = run_command("publish", "a", **env)
    assert again.code == 1
    assert "revoked" in again.errors


def test_serving_others_without_keys_is_refused() -> None:
    process = run_command("serve", "--bind", "0.0.0.0:0")
    assert process.code == 2
    assert process.errors.startswith(
        "Error: --bind (PROGRESS_GATEWAY_BIND): 0.0.0.0 can be reached"
    )
    assert "--insecure" in process.errors
    with Running(*GATEWAY, "serve", "--bind", "0.0.0.0:0", "--insecure") as served:
        assert address(served)
