from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.model.constants import MAX_NUMBER
from tests.brokers.redis.server import session_server
from tests.worker.fake_gateway import FakeGateway, problem

from .conftest import address
from .processes import GATEWAY, Running, run_command


def publish(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return run_command("publish", *arguments, **variables)


def answer(*arguments: str, url: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(publish(*arguments, "--json", "--url", url).stdout)
    return found


def test_publish_prints_applied_unchanged_and_rejected(url: str) -> None:
    result = publish("a", "--percent", "0", "--phase", "x", PROGRESS_GATEWAY_URL=url)
    assert (result.returncode, result.stdout, result.stderr) == (0, "a: applied\n", "")
    result = publish("a", "--percent", "0", "--url", url)
    assert result.returncode == 0
    assert result.stdout.startswith("a: unchanged")
    assert publish("a", "--status", "failed", "--error", "no", "--url", url).returncode == 0
    result = publish("a", "--percent", "50", "--url", url)
    assert result.returncode == 1
    assert result.stderr == (
        "a: rejected: The job has ended. An update with `--start` opens its next attempt.\n"
    )


def test_publish_respects_attempts(url: str) -> None:
    assert answer("a", "--start", url=url)["attempt"] == 1
    assert answer("a", "--start", url=url)["attempt"] == 2
    late = answer("a", "--attempt", "1", "--percent", "5", url=url)
    assert (late["applied"], late["reason"], late["attempt"]) == (False, "stale_attempt", 2)


EVERY_FIELD = (
    "--status", "running", "--percent", "12.5", "--done", "1", "--total", "8",
    "--unit", "frames", "--phase", "encode", "--message", "on it", "--error", "a bit",
    "--data", '{"a": [null]}', "--weight", "2.5", "--lease", "600",
)  # fmt: skip


def test_publish_sends_every_field(url: str) -> None:
    assert answer("a", *EVERY_FIELD, url=url)["applied"]
    # The same command again changes nothing, so each field had the intended value.
    assert answer("a", *EVERY_FIELD, url=url)["reason"] == "unchanged"
    assert answer("a", "--data", "null", url=url)["applied"]
    assert answer("a", "--data", "null", url=url)["reason"] == "unchanged"


def test_a_group_is_declared_and_its_children_are_weighed(url: str) -> None:
    assert answer("g", "--children", "open", url=url)["applied"]
    assert answer("g", "--children", "open", url=url)["reason"] == "unchanged"
    assert answer("g", "--children", "2", url=url)["applied"]
    assert answer("g/a", "--weight", "2", "--status", "succeeded", url=url)["applied"]
    assert answer("g", "--percent", "1", url=url)["reason"] == "final"


def test_an_error_of_the_gateway_is_shown() -> None:
    fake_gateway = FakeGateway()
    fake_gateway.answers.append(problem(400, "too odd", field="unit"))
    result = publish("a", "--unit", "x", "--url", fake_gateway.url)
    fake_gateway.stop()
    assert result.returncode == 2
    assert result.stderr == "Error: rejected: 400 too odd\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--percent", "nan"), "--percent must be finite"),
        (("--percent", "101"), "--percent must be between 0 and 100, not 101"),
        (("--done", "-1"), f"--done must be between 0 and {MAX_NUMBER}"),
        (("--lease", "0.5"), "--lease must be between 1 and 86400 seconds"),
        (("--weight", "0"), "--weight must be between 0.001 and 1000"),
        (("--data", json.dumps("x" * 8192)), "--data has 8194 bytes of JSON; 8192 are allowed"),
    ],
)
def test_an_invalid_argument_is_reported_before_connecting(
    arguments: tuple[str, ...], expected: str
) -> None:
    result = publish("a", *arguments, "--url", "http://127.0.0.1:9")
    assert result.returncode == 2
    assert result.stderr.startswith(f"Error: {expected}")


class TestDirectlyToRedis:
    """The command uses the publisher of workers, which tests/worker tests."""

    def test_publish_sends_every_field(self) -> None:
        url = session_server().url
        assert answer("a", *EVERY_FIELD, url=url)["applied"]
        assert answer("a", *EVERY_FIELD, url=url)["reason"] == "unchanged"
        assert answer("a", "--start", url=url)["attempt"] == 2
        result = publish("a", "--attempt", "1", "--percent", "9", PROGRESS_GATEWAY_URL=url)
        assert (result.returncode, result.stdout) == (1, "")
        assert "rejected: The job has begun a later attempt" in result.stderr

    def test_a_long_text_is_cut(self) -> None:
        server = session_server()
        assert answer("a", "--unit", "x" * 100, url=server.url)["applied"]
        assert server.client.hget("progress:last:a", "unit").decode() == "x" * 31 + "…"

    def test_a_job_published_to_redis_is_shown_at_a_gateway(self) -> None:
        redis = session_server().url
        serve = (*GATEWAY, "serve", "--bind", "127.0.0.1:0", "--redis", redis)
        with (
            Running(*serve) as served,
            Running(*GATEWAY, "watch", "a", "--url", address(served)) as watch_process,
        ):
            watch_process.until("a not known yet")
            assert publish("a", "--percent", "37", "--url", redis).returncode == 0
            watch_process.until("a running 37%")
            assert publish("a", "--status", "succeeded", "--url", redis).returncode == 0
            assert watch_process.end() == 0

    def test_an_unreachable_gateway_is_reported(self) -> None:
        result = publish("a", "--percent", "1", "--url", "redis://:hush@127.0.0.1:9/0")
        assert result.returncode == 3
        assert "redis://127.0.0.1:9/0 does not answer" in result.stderr
        assert "refused" in result.stderr
        assert "hush" not in result.stderr
        assert result.stderr.count("\n") == 1

    def test_a_wrong_password_is_reported(self, worker: str) -> None:
        assert publish("a", "--percent", "1", "--url", worker.format("hush")).returncode == 0
        result = publish("a", "--url", worker.format("push"))
        assert result.returncode == 1
        assert result.stderr.startswith("Error: rejected: invalid username-password pair")
        assert "push" not in result.stderr

    @pytest.fixture
    def worker(self) -> Iterator[str]:
        """The URL of a user whose password is `hush`, with a placeholder for the password."""
        server = session_server()
        server.client.acl_setuser(
            "worker", enabled=True, passwords=["+hush"], keys=["*"], categories=["+@all"]
        )
        yield server.url.replace("unix://", "unix://worker:{}@")
        server.client.acl_deluser("worker")


def test_an_unreachable_gateway_is_reported() -> None:
    result = publish("a", "--percent", "1", "--url", "http://127.0.0.1:9")
    assert result.returncode == 3
    assert "http://127.0.0.1:9 does not answer" in result.stderr
    assert result.stderr.count("\n") == 1
