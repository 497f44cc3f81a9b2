"""The demo as a user runs it."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from ..brokers.redis.server import Server, redis_server
from ..cli.processes import GATEWAY, Running

DEMO = (*GATEWAY, "demo")
PLAIN = {"COLUMNS": "200", "NO_COLOR": "1"}


def workers_of(url: str) -> list[int]:
    """Processes of the demo at `url`, by their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if (
                f"PROGRESS_GATEWAY_URL={url}".encode()
                in (path / "environ").read_bytes().split(b"\0")
                and b"gateway.demo." in (path / "cmdline").read_bytes()
            ):
                found.append(int(path.name))
        except OSError:
            continue  # the process has ended meanwhile
    return found


def wait_for_jobs(url: str, *, within: float = 20) -> list[dict[str, Any]]:
    """The jobs of a demo, as soon as one of them has made progress."""
    deadline = time.monotonic() + within
    etag, jobs = "", []
    while time.monotonic() < deadline:
        with urllib.request.urlopen(f"{url}/api/jobs", timeout=10) as response:  # noqa: S310 - ours
            jobs = json.load(response)["jobs"]
        if any(job["state"].get("percent") for job in jobs):
            return list(jobs)
        if jobs:  # wait for its next event, at the gateway
            name, etag = jobs[0]["job"], f'"{jobs[0]["epoch"]}-{jobs[0]["seq"]}"'
            request = urllib.request.Request(  # noqa: S310 - ours
                f"{url}/api/jobs/{name}?wait=5", headers={"If-None-Match": etag}
            )
            urllib.request.urlopen(request, timeout=10).close()  # noqa: S310 - ours
    raise AssertionError(f"no progress: {jobs}")


def address(demo: Running) -> str:
    words = demo.until("in a browser").split()
    return next(word for word in words if word.startswith("http://")).rstrip("/")


def gone(pids: list[int], *, within: float = 15) -> bool:
    """Wait until none of these processes is left."""
    deadline = time.monotonic() + within
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            if not select.select([descriptor], [], [], max(0, deadline - time.monotonic()))[0]:
                return False
        finally:
            os.close(descriptor)
    return True


def test_with_once_every_job_ends_as_expected() -> None:
    with Running(*DEMO, "--once", "--quick", "--bind", "127.0.0.1:0", env=PLAIN) as demo:
        code = demo.end(within=240)
        output = demo.output.decode()
        assert code == 0, output + demo.errors
        assert demo.errors == ""
    table = output.partition("How the jobs ended")[2]
    for job, close_code in (
        ("index", "lost"),
        ("archive", "succeeded"),
        ("checksums", "succeeded"),
        ("syntax-trees", "succeeded"),
        ("word-count", "failed"),
    ):
        (row,) = (line for line in table.splitlines() if f":{job} " in line)
        assert f"{close_code} " in row
        assert "yes" in row
    assert "UnicodeDecodeError" in table


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_its_workers_stop_with_it(number: signal.Signals) -> None:
    with Running(*DEMO, "--bind", "127.0.0.1:0", env=PLAIN) as demo:
        url = address(demo)
        wait_for_jobs(url)
        workers = workers_of(url)
        assert 1 <= len(workers) <= 2
        demo.tell(number)
        assert demo.end() == 0
        assert gone(workers)
        assert "Traceback" not in demo.errors


def test_its_group_can_be_stopped() -> None:
    with Running(*DEMO, "--bind", "127.0.0.1:0", env=PLAIN) as demo:
        url = address(demo)
        group = f"{url}/api/jobs/python{sys.version_info.major}.{sys.version_info.minor}:checksums"
        sent_request, status, etag = False, "", ""
        while status != "cancelled":
            request = urllib.request.Request(  # noqa: S310 - ours
                f"{group}?wait=10", headers={"If-None-Match": etag}
            )
            try:
                with urllib.request.urlopen(request, timeout=20) as response:  # noqa: S310 - ours
                    etag, state = response.headers["ETag"], json.load(response)["state"]
            except urllib.error.HTTPError as error:
                if error.code in (304, 404):  # 404: it has not begun
                    continue
                raise
            status = state["status"]
            if state["children"]["running"] and not sent_request:
                urllib.request.urlopen(f"{group}/requests", b'{"verb":"cancel"}').close()  # noqa: S310 - ours
                sent_request = True
        assert state["children"]["cancelled"] == 1
        demo.until("checksums  cancelled")
        assert "It should have" not in demo.output.decode()


def test_its_workers_stop_when_it_is_killed() -> None:
    with Running(*DEMO, "--bind", "127.0.0.1:0", env=PLAIN) as demo:
        url = address(demo)
        wait_for_jobs(url)
        workers = workers_of(url)
        assert workers
        demo.tell(signal.SIGKILL)
        assert demo.end() == -signal.SIGKILL
        assert gone(workers)


def test_with_redis_its_workers_report_directly_to_it() -> None:
    redis = Server(redis_server())
    try:
        with Running(*DEMO, "--bind", "127.0.0.1:0", "--redis", redis.url, env=PLAIN) as demo:
            (name, *_) = [job["job"] for job in wait_for_jobs(address(demo))]
            assert redis.client.hget(f"progress:last:{name}", "status")
            assert workers_of(redis.url)
            demo.tell(signal.SIGTERM)
            assert demo.end() == 0
            assert "Traceback" not in demo.errors
    finally:
        redis.close()


def test_an_unreachable_redis_is_named() -> None:
    with Running(*DEMO, "--bind", "127.0.0.1:0", "--redis", "redis://127.0.0.1:1") as demo:
        assert demo.end() == 3
        assert "--redis (PROGRESS_GATEWAY_REDIS): Redis:" in demo.errors
        assert "Traceback" not in demo.errors


def test_an_explicit_port_is_not_replaced() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        with Running(*DEMO, "--bind", bind) as demo:
            assert demo.end() == 2
            assert f"cannot listen on {bind}" in demo.errors
            assert "Traceback" not in demo.errors


def test_the_default_port_is_replaced_if_it_is_taken() -> None:
    with ExitStack() as stack:
        with suppress(OSError):  # another process uses it, which is fine too
            stack.enter_context(socket.create_server(("127.0.0.1", 8000)))
        demo = stack.enter_context(Running(*DEMO, env=PLAIN))
        assert not address(demo).endswith(":8000")
        assert "using another port" in demo.output.decode()
        demo.tell(signal.SIGINT)
        assert demo.end() == 0
