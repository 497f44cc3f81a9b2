"""A rolling update: a process that gets SIGTERM still serves for a while, not ready; and one
that starts without its Redis waits for it, not ready."""

from __future__ import annotations

import json
import signal
import time
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from gateway.cli.serve.server_process import SHUTDOWN_DELAY, default_shutdown_delay
from tests.brokers.redis.server import Server, redis_server, session_server
from tests.ports import free_port

from ..conftest import address
from ..processes import GATEWAY, WITHIN, Running


def get(url: str, body: bytes | None = None) -> tuple[int, dict[str, Any]]:
    """Returns the status and the JSON of a response, over a new connection."""
    try:
        with urlopen(Request(url, body), timeout=WITHIN) as answer:  # noqa: S310 - http
            return answer.status, json.load(answer)
    except HTTPError as error:
        with error:
            return error.code, json.load(error)


def until(url: str, status: int, body: bytes | None = None) -> dict[str, Any]:
    """Repeats the request until the response has this status; returns it."""
    deadline = time.monotonic() + WITHIN
    while True:
        current_status, answer = get(url, body)
        if current_status == status:
            return answer
        assert time.monotonic() < deadline, f"it still answers {current_status} {answer}"
        time.sleep(0.05)


@pytest.mark.parametrize("processes", [1, 2])
def test_it_accepts_connections_during_the_drain_delay_and_is_not_ready(processes: int) -> None:
    arguments = ["serve", "--bind", "127.0.0.1:0", "--shutdown-delay", "60"]
    if processes > 1:
        arguments += ["--processes", str(processes), "--redis", session_server().url]
    with Running(*GATEWAY, *arguments) as served:
        url = address(served)
        until(f"{url}/readyz", 200)
        served.tell(signal.SIGTERM)
        assert "shutting down" in json.dumps(until(f"{url}/readyz", 503))
        for _ in range(8):  # whichever process responds
            assert get(f"{url}/api/jobs/a", b'{"percent": 1}')[0] == 200
        served.tell(signal.SIGTERM)
        assert served.end() in (-signal.SIGTERM, 128 + signal.SIGTERM)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_exits_after_the_delay(number: signal.Signals) -> None:
    delay = (
        "0.2" if number == signal.SIGTERM else "3600"
    )  # without the delay, because SIGINT comes from a person
    with Running(*GATEWAY, "serve", "--bind", "127.0.0.1:0", "--shutdown-delay", delay) as served:
        address(served)
        served.tell(number)
        assert served.end() == 0


def test_the_drain_delay_applies_only_to_routed_addresses() -> None:
    assert default_shutdown_delay(False, {}) == 0
    assert default_shutdown_delay(False, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}) == SHUTDOWN_DELAY
    assert default_shutdown_delay(True, {}) == SHUTDOWN_DELAY


@pytest.mark.parametrize("processes", ["1", "2"])
def test_an_unavailable_redis_at_the_start_is_waited_for(processes: str) -> None:
    redis = Server(redis_server())
    redis.kill()
    arguments = ("--redis", redis.url, "--processes", processes)
    with Running(*GATEWAY, "serve", "--bind", "127.0.0.1:0", *arguments) as served:
        url = address(served)
        assert "waiting for its broker" in json.dumps(until(f"{url}/readyz", 503))
        assert get(f"{url}/healthz")[0] == 200
        assert get(f"{url}/api/jobs/a", b'{"percent": 1}')[0] == 503
        redis.start()
        until(f"{url}/readyz", 200)
        until(f"{url}/api/jobs/a", 200, b'{"percent": 1}')  # perhaps of a process that still waits
        served.tell(signal.SIGTERM)
        assert served.end() == 0
        assert "not ready, waiting for the broker" in served.errors
    redis.close()


@pytest.mark.parametrize("processes", ["1", "2"])
def test_exit_if_unavailable_exits_without_a_redis(processes: str) -> None:
    url = f"redis://127.0.0.1:{free_port()}"
    arguments = ("--redis", url, "--processes", processes, "--exit-if-unavailable")
    with Running(*GATEWAY, "serve", "--bind", "127.0.0.1:0", *arguments) as served:
        assert served.end() == 3
        assert "--redis" in served.errors
