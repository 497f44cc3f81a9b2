"""Runs the services of `compose.yaml` in their own network namespace: `test_container` starts this
with `unshare`. Argument: a YAML file with the commands. Exits with 0 if all checks succeed,
otherwise with a traceback.
"""

from __future__ import annotations

import fcntl
import json
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import yaml

WITHIN = 60.0
FRONT = "http://127.0.0.1"  # nginx
DIRECT = "http://127.0.0.1:8000"


def raise_loopback() -> None:
    """Like `ip link set lo up`; a bare machine may not have that command."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, 0x8914, struct.pack("16sH14x", b"lo", 0x1 | 0x40))  # SIOCSIFFLAGS


def fetched(url: str, token: str, body: bytes | None = None) -> tuple[int, dict[str, Any]]:
    try:
        request = Request(url, body, {"authorization": f"Bearer {token}"})  # noqa: S310 - http
        with urlopen(request, timeout=10) as answer:  # noqa: S310 - http
            return answer.status, json.load(answer)
    except HTTPError as error:
        with error:
            text = error.read()
        return error.code, json.loads(text) if text.startswith(b"{") else {}
    except (URLError, OSError) as error:
        return 0, {"error": str(error)}


def until(url: str, token: str, status: int) -> dict[str, Any]:
    deadline = time.monotonic() + WITHIN
    while True:
        found, answer = fetched(url, token)
        if found == status:
            return answer
        assert time.monotonic() < deadline, f"{url} still answers {found} {answer}"
        time.sleep(0.1)


def main(plan: dict[str, list[str]]) -> None:
    raise_loopback()
    # In the worst order: the gateway waits for Redis.
    running = {"gateway": subprocess.Popen(plan["gateway"])}
    answer = until(f"{DIRECT}/readyz", "", 503)
    assert "waiting for its broker" in json.dumps(answer), answer
    subprocess.run(plan["health"], check=True, timeout=WITHIN)  # it is alive, but not ready
    running["redis"] = subprocess.Popen(plan["redis"])
    running["nginx"] = subprocess.Popen(plan["nginx"])
    try:
        token = subprocess.run(
            [*plan["tool"], "token", "--watch", "*", "--publish", "*"],
            check=True, capture_output=True, text=True, timeout=WITHIN,
        ).stdout.strip()  # fmt: skip
        until(f"{FRONT}/readyz", token, 200)
        assert fetched(f"{FRONT}/api/jobs/a", "", b"{}")[0] == 401
        assert fetched(f"{FRONT}/api/jobs/a", token, b'{"percent": 37}')[0] == 200
        watching = subprocess.Popen(
            [*plan["tool"], "watch", "a", "--json", "--url", FRONT, "--token", token],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert watching.stdout is not None
        assert json.loads(watching.stdout.readline())["state"]["percent"] == 37

        # After SIGTERM it is not ready, and still accepts and serves connections.
        running["gateway"].send_signal(signal.SIGTERM)
        assert "shutting down" in json.dumps(until(f"{FRONT}/readyz", token, 503))
        assert fetched(f"{FRONT}/api/jobs/a", token, b'{"percent": 40}')[0] == 200
        assert json.loads(watching.stdout.readline())["state"]["percent"] == 40
        assert running["gateway"].wait(WITHIN) == 0

        # The next version finds the job unchanged.
        running["gateway"] = subprocess.Popen(plan["gateway"])
        until(f"{FRONT}/readyz", token, 200)
        assert fetched(f"{FRONT}/api/jobs/a", token, b'{"status": "succeeded"}')[0] == 200
        assert watching.wait(WITHIN) == 0
    finally:
        for process in running.values():
            process.kill()


if __name__ == "__main__":
    main(yaml.safe_load(Path(sys.argv[1]).read_text()))
