from __future__ import annotations

import signal
import socket
import time
import urllib.request

import pytest

from ..conftest import address
from ..processes import GATEWAY, Running

SERVE = (*GATEWAY, "serve")


def stuck_client(url: str) -> socket.socket:
    """Returns a WebSocket client that subscribes and then neither reads nor answers."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    client = socket.create_connection((host.strip("[]"), int(port)), timeout=10)
    client.sendall(
        b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    assert b"101" in client.recv(1024)
    return client


@pytest.mark.parametrize("bind", ["127.0.0.1:0", "[::1]:0", "localhost:0"])
def test_the_address_is_logged_and_served(bind: str) -> None:
    with Running(*SERVE, "--bind", bind) as served:
        url = address(served)
        with urllib.request.urlopen(f"{url}/healthz", timeout=10) as response:  # noqa: S310 - ours
            assert response.status == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_drains_and_exits_within_the_drain_time(number: signal.Signals) -> None:
    with Running(
        *SERVE,
        env={"PROGRESS_GATEWAY_BIND": "127.0.0.1:0", "PROGRESS_GATEWAY_SHUTDOWN_TIMEOUT": "2"},
    ) as served:
        with stuck_client(address(served)):
            told_at = time.monotonic()
            served.tell(number)
            assert served.end() == 0
            assert time.monotonic() - told_at < 2 + 0.5  # and the end of a process
        assert f"exiting after {number.name}" in served.errors
        assert "Traceback" not in served.errors


def test_a_second_signal_ends_it_immediately() -> None:
    with (
        Running(*SERVE, "--bind", "127.0.0.1:0", "--shutdown-timeout", "60") as served,
        stuck_client(address(served)),  # this client delays the drain by `close_timeout`
    ):
        served.tell(signal.SIGTERM)
        served.tell(signal.SIGINT)
        assert served.end() in (128 + signal.SIGINT, 128 + signal.SIGTERM)


def test_an_address_in_use_is_reported_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        with Running(*SERVE, "--bind", bind) as served:
            assert served.end() == 2
            assert served.errors.count("\n") == 1
            assert served.errors.startswith(
                f"Error: --bind (PROGRESS_GATEWAY_BIND): cannot listen on {bind}"
            )


def test_an_unknown_host_is_reported() -> None:
    with Running(*SERVE, "--bind", "no-such-host.invalid:80") as served:
        assert served.end() == 2
        assert "cannot listen on no-such-host.invalid:80" in served.errors
        assert "Traceback" not in served.errors
