from __future__ import annotations

import json
import subprocess
from typing import Any

from .processes import GATEWAY, clean_environment


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


def test_every_field_arrives(url: str) -> None:
    fields = (
        "--status", "running", "--percent", "12.5", "--done", "1", "--total", "8",
        "--unit", "frames", "--phase", "encode", "--message", "on it", "--error", "a bit",
        "--data", '{"a": [null]}', "--parent", "p", "--lease", "5",
    )  # fmt: skip
    assert answer("a", *fields, url=url)["applied"]
    # The same once more changes nothing: so each was taken as it was meant.
    assert answer("a", *fields, url=url)["reason"] == "unchanged"
    assert answer("a", "--data", "null", url=url)["applied"]
    assert answer("a", "--data", "null", url=url)["reason"] == "unchanged"


def test_what_only_the_gateway_finds_wrong(url: str) -> None:
    done = publish("a", "--unit", "x" * 100, "--url", url)
    assert done.returncode == 2
    assert "unit" in done.stderr


def test_nobody_there() -> None:
    done = publish("a", "--percent", "1", "--url", "http://127.0.0.1:9")
    assert done.returncode == 3
    assert "http://127.0.0.1:9 does not answer" in done.stderr
    assert done.stderr.count("\n") == 1
