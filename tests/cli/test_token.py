"""`gateway token`, `gateway revoke`, and a gateway that requires tokens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest

from tests.auth.signing import SECRET, private_pem, public_pem

from .conftest import address
from .processes import GATEWAY, Running, run_command

WITH_SECRET = {"PROGRESS_GATEWAY_SECRET": SECRET}


def make_token(*arguments: str, **env: str) -> str:
    process = run_command("token", *arguments, **(WITH_SECRET | env))
    assert process.stderr == ""
    return process.stdout.strip()


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
    claims = jwt.decode(process.stdout.strip(), public_pem("EdDSA"), algorithms=["EdDSA"])
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
    assert process.returncode == 2
    assert expected in process.stderr
    assert "short" not in process.stderr


@pytest.fixture
def url() -> Iterator[str]:
    with Running(*GATEWAY, "serve", "--bind", "127.0.0.1:0", env=WITH_SECRET) as served:
        yield address(served)


def test_publish_and_watch_use_a_token(url: str) -> None:
    token = make_token("--watch", "*", "--publish", "mine:*")
    env = {"PROGRESS_GATEWAY_URL": url, "PROGRESS_GATEWAY_TOKEN": token}
    assert run_command("publish", "mine:1", "--status", "succeeded", **env).returncode == 0
    refused_result = run_command("publish", "theirs:1", **env)
    assert refused_result.returncode == 1
    assert "403" in refused_result.stderr
    nobody = run_command("publish", "mine:1", PROGRESS_GATEWAY_URL=url)
    assert nobody.returncode == 1
    assert "401" in nobody.stderr
    watched = run_command("watch", "mine:1", **env)
    assert watched.returncode == 0
    nobody = run_command("watch", "mine:1", PROGRESS_GATEWAY_URL=url)
    assert nobody.returncode == 3
    assert "(4500)" in nobody.stderr


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
            assert (result.returncode, result.stderr) == (0, ""), command

    @pytest.mark.parametrize("command", [["publish", "a"], ["cancel", "a"], ["revoke", "t1"]])
    def test_an_empty_token_file_is_named(
        self, url: str, tmp_path: Path, command: list[str]
    ) -> None:
        file = tmp_path / "token"
        result = run_command(*command, "--url", url, "--token-file", str(file))
        assert result.returncode == 2
        assert f"no token in {file}: " in result.stderr
        assert result.stderr.count("\n") == 1

    def test_a_token_that_the_gateway_refuses_is_not_an_unavailable_gateway(
        self, url: str, tmp_path: Path
    ) -> None:
        file = tmp_path / "token"
        file.write_text("no.such.token")
        result = run_command("publish", "a", "--done", "1", "--url", url, "--token-file", str(file))
        assert result.returncode == 1
        assert result.stderr.startswith("Error: rejected: 401 ")

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
                run_command(
                    "publish", "a", "--done", "1", "--url", url, *flags, **variables
                ).returncode
                == code
            )


def test_a_revoked_token_is_refused(url: str) -> None:
    token = make_token("--publish", "*", "--id", "t1")
    env = {"PROGRESS_GATEWAY_URL": url, "PROGRESS_GATEWAY_TOKEN": token}
    assert run_command("publish", "a", "--done", "1", **env).returncode == 0
    result = run_command("revoke", token, PROGRESS_GATEWAY_URL=f"{url}/")
    assert (result.returncode, result.stdout) == (0, "revoked t1\n")
    again = run_command("publish", "a", **env)
    assert again.returncode == 1
    assert "revoked" in again.stderr


def test_serving_others_without_keys_is_refused() -> None:
    process = run_command("serve", "--bind", "0.0.0.0:0")
    assert process.returncode == 2
    assert process.stderr.startswith(
        "Error: --bind (PROGRESS_GATEWAY_BIND): 0.0.0.0 can be reached"
    )
    assert "--insecure" in process.stderr
    with Running(*GATEWAY, "serve", "--bind", "0.0.0.0:0", "--insecure") as served:
        assert address(served)
