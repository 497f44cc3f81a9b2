from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.brokers.server import session_server
from tests.worker.peer import Peer, problem

from .conftest import address
from .processes import GATEWAY, Running, clean_environment


def publish(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*GATEWAY, "publish", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env=clean_environment(**variables),
    )


def answer(*arguments: str, url: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(publish(*arguments, "--json", "--url", url).stdout)
    return found


def test_applied_unchanged_and_rejected(url: str) -> None:
    done = publish("a", "--percent", "0", "--phase", "x", GATEWAY_URL=url)
    assert (done.returncode, done.stdout, done.stderr) == (0, "a: applied\n", "")
    done = publish("a", "--percent", "0", "--url", url)
    assert done.returncode == 0
    assert done.stdout.startswith("a: unchanged")
    assert publish("a", "--status", "failed", "--error", "no", "--url", url).returncode == 0
    done = publish("a", "--percent", "50", "--url", url)
    assert done.returncode == 1
    assert "rejected (it has ended; --start opens a new attempt)" in done.stderr


def test_attempts_are_fenced(url: str) -> None:
    assert answer("a", "--start", url=url)["attempt"] == 1
    assert answer("a", "--start", url=url)["attempt"] == 2
    late = answer("a", "--attempt", "1", "--percent", "5", url=url)
    assert (late["applied"], late["reason"], late["attempt"]) == (False, "stale_attempt", 2)


EVERY_FIELD = (
    "--status", "running", "--percent", "12.5", "--done", "1", "--total", "8",
    "--unit", "frames", "--phase", "encode", "--message", "on it", "--error", "a bit",
    "--data", '{"a": [null]}', "--parent", "p", "--lease", "5",
)  # fmt: skip


def test_every_field_arrives(url: str) -> None:
    assert answer("a", *EVERY_FIELD, url=url)["applied"]
    # The same once more changes nothing: so each was taken as it was meant.
    assert answer("a", *EVERY_FIELD, url=url)["reason"] == "unchanged"
    assert answer("a", "--data", "null", url=url)["applied"]
    assert answer("a", "--data", "null", url=url)["reason"] == "unchanged"


def test_what_only_the_gateway_finds_wrong() -> None:
    peer = Peer()
    peer.plan.append(problem(400, "too odd", field="unit"))
    done = publish("a", "--unit", "x", "--url", peer.url)
    peer.go_away()
    assert done.returncode == 2
    assert done.stderr == "Error: rejected: 400 too odd\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--percent", "nan"), "--percent must be finite"),
        (("--percent", "101"), "--percent must be between 0 and 100, not 101"),
        (("--done", "-1"), "--done must be between 0 and 2**53"),
        (("--lease", "0.5"), "--lease must be between 1 and 86400 seconds"),
        (("--parent", "a b"), "--parent is not a job id"),
        (("--data", json.dumps("x" * 8192)), "--data has 8194 bytes of JSON; 8192 are allowed"),
    ],
)
def test_what_is_wrong_is_told_before_anybody_is_called(
    arguments: tuple[str, ...], said: str
) -> None:
    done = publish("a", *arguments, "--url", "http://127.0.0.1:9")
    assert done.returncode == 2
    assert done.stderr.startswith(f"Error: {said}")


class TestStraightToARedis:
    """By the publisher of workers; tests/worker tries that itself."""

    def test_every_field_arrives(self) -> None:
        url = session_server().url
        assert answer("a", *EVERY_FIELD, url=url)["applied"]
        assert answer("a", *EVERY_FIELD, url=url)["reason"] == "unchanged"
        assert answer("a", "--start", url=url)["attempt"] == 2
        done = publish("a", "--attempt", "1", "--percent", "9", GATEWAY_URL=url)
        assert (done.returncode, done.stdout) == (1, "")
        assert "rejected (a newer attempt has begun)" in done.stderr

    def test_a_text_is_cut_as_a_worker_cuts_it(self) -> None:
        server = session_server()
        assert answer("a", "--unit", "x" * 100, url=server.url)["applied"]
        assert server.client.hget("progress:last:a", "unit").decode() == "x" * 31 + "…"

    def test_it_is_followed_at_a_gateway(self) -> None:
        redis = session_server().url
        serve = (*GATEWAY, "serve", "--bind", "127.0.0.1:0", "--redis", redis)
        with (
            Running(*serve) as served,
            Running(*GATEWAY, "watch", "a", "--url", address(served)) as watching,
        ):
            watching.until("a not known yet")
            assert publish("a", "--percent", "37", "--url", redis).returncode == 0
            watching.until("a running 37%")
            assert publish("a", "--status", "succeeded", "--url", redis).returncode == 0
            assert watching.end() == 0

    def test_nobody_there(self) -> None:
        done = publish("a", "--percent", "1", "--url", "redis://:hush@127.0.0.1:9/0")
        assert done.returncode == 3
        assert "redis://127.0.0.1:9/0 does not answer" in done.stderr
        assert "refused" in done.stderr
        assert "hush" not in done.stderr
        assert done.stderr.count("\n") == 1

    def test_a_wrong_password(self, worker: str) -> None:
        assert publish("a", "--url", worker.format("hush")).returncode == 0
        done = publish("a", "--url", worker.format("push"))
        assert done.returncode == 1
        assert done.stderr.startswith("Error: rejected: invalid username-password pair")
        assert "push" not in done.stderr

    @pytest.fixture
    def worker(self) -> Iterator[str]:
        """The URL of a user whose password is `hush`, with a place for one."""
        server = session_server()
        server.client.acl_setuser(
            "worker", enabled=True, passwords=["+hush"], keys=["*"], categories=["+@all"]
        )
        yield server.url.replace("unix://", "unix://worker:{}@")
        server.client.acl_deluser("worker")


def test_nobody_there() -> None:
    done = publish("a", "--percent", "1", "--url", "http://127.0.0.1:9")
    assert done.returncode == 3
    assert "http://127.0.0.1:9 does not answer" in done.stderr
    assert done.stderr.count("\n") == 1
