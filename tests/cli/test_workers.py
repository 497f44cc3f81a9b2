"""`gateway serve --workers N`: several processes at one address, and what becomes of them.

Real processes on a real Redis. Their log and what they print come by one pipe, so that
both are waited for by reading; and it ends when the last of them has ended.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
import time
import urllib.request
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trio

from gateway.cli.supervising import check_workers, internal_binds
from gateway.errors import InvalidSettings
from gateway.settings import WORKERS
from tests.auth.signing import OTHER_SECRET, SECRET
from tests.brokers.server import Server, redis_server, session_server
from tests.e2e.client import Client, Closed, Reset, open_client

from .processes import GATEWAY, WITHIN, Running
from .test_life import Notified, notified, publish
from .test_serve import stuck_client
from .test_token import ran

__all__ = ["notified"]  # a fixture

BOTH_OUTPUTS = ("sh", "-c", 'exec "$@" 2>&1', "sh")


class Crew(Running):
    """A supervisor and its workers."""

    def __init__(
        self,
        *arguments: str,
        redis: str,
        workers: int = 2,
        bind: str = "127.0.0.1:0",
        gateway: tuple[str, ...] = GATEWAY,
        **env: str,
    ) -> None:
        command = (*gateway, "serve", "--workers", str(workers), "--bind", bind, *arguments)
        super().__init__(*BOTH_OUTPUTS, *command, env={"GATEWAY_REDIS": redis, **env})

    @property
    def log(self) -> list[dict[str, Any]]:
        """The lines of the log that were read so far."""
        lines = self.output.decode().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    def serving(self) -> int:
        """Return its port when all workers serve."""
        said = self.until("/\n")
        found = re.search(r"^Serving on http://127.0.0.1:(\d+)/$", said, re.MULTILINE)
        assert found, said
        return int(found[1])

    @property
    def pids(self) -> dict[int, int]:
        """The process of each worker at present, by its number."""
        return {line["worker"]: line["pid"] for line in self.log if "is ready" in line["event"]}


@asynccontextmanager
async def one_of_each(port: int, nodes: int) -> AsyncIterator[dict[str, Client]]:
    """A client at each of so many nodes, by their names; however often that takes to connect."""
    found: dict[str, Client] = {}
    async with AsyncExitStack() as opened:
        with trio.fail_after(WITHIN):
            while len(found) < nodes:
                client = await opened.enter_async_context(open_client(port, patience=WITHIN))
                found[(await client.hear_type("welcome"))["node"]] = client
        yield found


async def test_all_of_them_serve_at_one_address() -> None:
    with Crew(redis=session_server().url, workers=3) as crew:
        port = crew.serving()
        async with one_of_each(port, 3) as clients:
            for client in clients.values():
                await client.ask("subscribe", jobs=["a"])
                assert (await client.hear_type("progress"))["state"] is None
            url = f"http://127.0.0.1:{port}"
            assert ran("publish", "a", "--percent", "7", GATEWAY_URL=url).code == 0
            for client in clients.values():
                assert (await client.hear_type("progress"))["state"]["percent"] == 7
        assert sorted(crew.pids) == [1, 2, 3]
        crew.until('"event": "subscriptions"', times=3)
        subscribed = [line["worker"] for line in crew.log if line["event"] == "subscriptions"]
        assert sorted(subscribed) == [1, 2, 3]

        # They share the address with each other, not with whoever comes along.
        other = ran(
            "serve", "--workers", "2", "--bind", f"127.0.0.1:{port}",
            GATEWAY_REDIS=session_server().url,
        )  # fmt: skip
        assert (other.code, other.errors.count("\n")) == (2, 1)
        assert other.errors.startswith("Error: --bind (GATEWAY_BIND): cannot listen on")
        assert crew.output.count(b"Serving on") == 1


async def test_one_that_is_killed_is_replaced_and_nobody_is_refused() -> None:
    with Crew(redis=session_server().url) as crew:
        port = crew.serving()
        victim = crew.pids[1]
        async with one_of_each(port, 2) as before:
            os.kill(victim, signal.SIGKILL)
            welcomed: list[str] = []

            async def come() -> None:
                # Raises ConnectionRefusedError if it is, and waits for an answer otherwise.
                async with open_client(port, patience=WITHIN) as client:
                    welcomed.append((await client.hear_type("welcome"))["node"])

            async with trio.open_nursery() as nursery:
                for _ in range(40):  # none of them to the successor: once in 2 ** 40
                    nursery.start_soon(come)

            lost = [name for name, client in before.items() if await is_gone(client)]
            assert len(lost) == 1
            assert len(set(welcomed)) == 2
            assert not set(welcomed) & set(lost)
        crew.until("a worker is ready", times=3)
        (death,) = [line for line in crew.log if line["level"] == "error"]
        assert (death["worker"], death["pid"]) == (1, victim)
        assert death["event"].startswith("a worker ended: signal 9 (Killed)")
        assert crew.pids[1] != victim


async def is_gone(client: Client) -> bool:
    """Whether its gateway has left it; otherwise it answers."""
    try:
        await client.say("ping")
        await client.hear_type("pong")
    except (Reset, Closed):
        return True
    return False


async def test_it_comes_back_when_redis_does_and_does_not_hurry() -> None:
    redis = Server(redis_server())
    try:
        with Crew(redis=redis.url) as crew:
            port = crew.serving()
            redis.kill()
            os.kill(crew.pids[1], signal.SIGKILL)
            crew.until("the next comes in", times=4)
            redis.start()
            crew.until("a worker is ready", times=3)
            async with one_of_each(port, 2):
                pass
            ends = [line["event"] for line in crew.log if "the next comes in" in line["event"]]
        pauses = [float(end.split()[-2]) for end in ends]
        assert ends[1].startswith("a worker ended: exit code 3;")
        for number, pause in enumerate(pauses):
            longest = min(5.0, 0.25 * 2**number)
            assert longest / 2 - 0.06 <= pause <= longest + 0.06  # it is shown rounded
    finally:
        redis.close()


@pytest.mark.parametrize("told", ["the supervisor", "everybody"])
async def test_sigterm_drains_all_of_them_side_by_side(told: str) -> None:
    """`everybody` is what systemd tells, and a terminal's Ctrl-C."""
    with Crew("--drain", "3", redis=session_server().url) as crew:
        port = crew.serving()
        with stuck_client(f"http://127.0.0.1:{port}"):
            async with one_of_each(port, 2) as clients:
                began = time.monotonic()
                crew.tell(signal.SIGTERM)
                if told == "everybody":
                    for pid in crew.pids.values():
                        os.kill(pid, signal.SIGTERM)
                for client in clients.values():
                    assert (await client.hear_type("goaway"))["code"] == 1001
                    assert await client.ending() == 1001
            assert crew.end() == 0
        assert time.monotonic() - began < 3 + 1  # and the end of three processes
        left = [line for line in crew.log if line["event"].startswith("left, as told by")]
        assert sorted(line["worker"] for line in left) == [1, 2]
        assert crew.log[-1]["event"] == "all have left, as told by SIGTERM"


def test_a_second_signal_ends_all_of_them_at_once() -> None:
    with Crew("--drain", "60", redis=session_server().url) as crew:
        port = crew.serving()
        with stuck_client(f"http://127.0.0.1:{port}"):
            crew.tell(signal.SIGTERM)
            crew.tell(signal.SIGINT)
            assert crew.end() in (128 + signal.SIGINT, 128 + signal.SIGTERM)
        assert not [line for line in crew.log if line["event"].startswith("left")]


def test_one_that_does_not_leave_is_killed() -> None:
    with Crew("--drain", "0.1", redis=session_server().url) as crew:
        crew.serving()
        os.kill(crew.pids[2], signal.SIGSTOP)
        crew.tell(signal.SIGTERM)
        assert crew.end() == 0
        (killed,) = [line for line in crew.log if line["level"] == "error"]
        assert (killed["worker"], killed["pid"]) == (2, crew.pids[2])


async def test_workers_leave_when_their_supervisor_is_killed() -> None:
    with Crew("--drain", "1", redis=session_server().url) as crew:
        async with one_of_each(crew.serving(), 2) as clients:
            crew.process.kill()
            with trio.fail_after(WITHIN):
                for client in clients.values():
                    assert await client.ending() == 1001
        assert crew.end() == -signal.SIGKILL


def test_what_is_wrong_for_all_of_them_is_told_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        for arguments, code, said in [
            (["--bind", bind], 2, f"--bind (GATEWAY_BIND): cannot listen on {bind}"),
            (["--bind", "0.0.0.0:0"], 2, "--bind (GATEWAY_BIND): 0.0.0.0 can be reached"),
            (["--bind", "127.0.0.1:0", "--redis", "redis://127.0.0.1:1"], 3, "--redis"),
            (["--bind", "127.0.0.1:0", "--keys", str(tmp_path / "none")], 2, "--keys"),
        ]:
            done = ran("serve", "--workers", "3", *arguments, GATEWAY_REDIS=session_server().url)
            assert (done.code, done.output) == (code, "")
            assert done.errors.startswith(f"Error: {said}")
            assert done.errors.count("\n") == 1


def test_several_need_a_redis() -> None:
    done = ran("serve", "--workers", "2")
    assert done.code == 2
    assert done.errors.startswith("Error: --workers (GATEWAY_WORKERS): more than one need a Redis")
    assert "--redis (GATEWAY_REDIS)" in done.errors
    check_workers(1, None)
    check_workers(2, "redis://h")
    with pytest.raises(InvalidSettings, match="from 1 to 1000"):
        WORKERS.read("0")


def test_each_has_a_port_inside() -> None:
    first = two_free_ports()
    bind = f"127.0.0.1:{first}"
    with Crew("--internal-bind", bind, redis=session_server().url) as crew:
        crew.serving()
        assert crew.until(f"Serving inside on http://127.0.0.1:{first + 1}/\n")
        processes: set[str] = set()
        for port in (first, first + 1):
            url = f"http://127.0.0.1:{port}/metrics"
            with urllib.request.urlopen(url, timeout=WITHIN) as response:
                page = response.read().decode()
            assert "gateway_ready 1.0" in page
            processes |= set(re.findall(r"^process_start_time_seconds .+$", page, re.MULTILINE))
        assert len(processes) == 2


def two_free_ports() -> int:
    """The first of two that follow each other."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as one, socket.socket() as two:
            first: int = one.getsockname()[1]
            try:
                two.bind(("127.0.0.1", first + 1))
            except OSError:
                continue
            return first


@pytest.mark.parametrize(
    ("bind", "workers", "expected"),
    [
        (None, 3, []),
        ("10.0.0.2:8001", 1, ["10.0.0.2:8001"]),
        ("10.0.0.2:8001", 2, ["10.0.0.2:8001", "10.0.0.2:8002"]),
        ("[::1]:65534", 2, ["[::1]:65534", "[::1]:65535"]),
        ("127.0.0.1:0", 2, ["127.0.0.1:0", "127.0.0.1:0"]),
        ("systemd", 1, ["systemd"]),
    ],
)
def test_the_ports_inside_follow_each_other(
    bind: str | None, workers: int, expected: list[str]
) -> None:
    assert internal_binds(bind, workers) == expected


@pytest.mark.parametrize("bind", ["127.0.0.1:65535", "systemd", "fd://3"])
def test_there_must_be_a_port_for_each(bind: str) -> None:
    with pytest.raises(InvalidSettings, match="each of 2 workers") as caught:
        internal_binds(bind, 2)
    assert caught.value.field == "internal_bind"


def test_the_supervisor_speaks_for_all_and_passes_on_sighup(
    tmp_path: Path, notified: Notified
) -> None:
    keys = tmp_path / "keys"
    keys.write_text(SECRET)
    redis = session_server().url
    with Crew("--keys", str(keys), redis=redis, NOTIFY_SOCKET=notified.path) as crew:
        notified.hear("READY=1")
        url = f"http://127.0.0.1:{crew.serving()}"
        keys.write_text(OTHER_SECRET)
        crew.tell(signal.SIGHUP)
        notified.hear("RELOADING=1")
        notified.hear("READY=1")
        for _ in range(8):  # all of them: one that has not reloaded would be missed once in 2 ** 8
            assert publish(url, SECRET).code == 1
        assert publish(url, OTHER_SECRET).code == 0
        crew.until("keys and limits are reloaded", times=2)
        crew.tell(signal.SIGTERM)
        notified.hear("STOPPING=1")
        assert crew.end() == 0


def test_a_worker_that_starts_hears_of_sighup_when_it_is_there() -> None:
    with Crew(redis=session_server().url) as crew:
        crew.until("a worker is ready")
        while b"Serving on" not in crew.output:  # the second starts, and a signal would end it
            assert crew.process.poll() is None, crew.output
            crew.tell(signal.SIGHUP)
            with suppress(AssertionError):
                crew.until("Serving on", within=0.02)
        crew.tell(signal.SIGTERM)
        assert crew.end() == 0
        assert {line["level"] for line in crew.log} == {"info"}
        reloaded = [line["worker"] for line in crew.log if "are reloaded" in line["event"]]
        assert 2 in reloaded


ACTIVATE = """
import os, socket, sys
sock = socket.create_server(("127.0.0.1", 0))
print(f"Serving on http://127.0.0.1:{sock.getsockname()[1]}/", flush=True)
os.dup2(sock.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.executable, [sys.executable, "-m", "gateway.cli", *sys.argv[1:]])
"""


async def test_a_socket_of_systemds_is_shared() -> None:
    serve = ("serve", "--workers", "2", "--bind", "systemd", "--redis", session_server().url)
    with Running(sys.executable, "-c", ACTIVATE, *serve) as served:
        port = int(served.until("/\n").strip().rstrip("/").rpartition(":")[2])
        async with one_of_each(port, 2):
            pass
        served.tell(signal.SIGTERM)
        assert served.end() == 0


class TestCheck:
    def test_all_is_well(self) -> None:
        first = two_free_ports()
        done = ran(
            "check", "--bind", "127.0.0.1:0", "--workers", "2", "--redis", session_server().url,
            "--internal-bind", f"127.0.0.1:{first}",
        )  # fmt: skip
        assert re.search(r"^ok  workers +2, with the limits above each", done.output, re.MULTILINE)
        assert f"127.0.0.1:{first} is free" in done.output
        assert f"127.0.0.1:{first + 1} is free" in done.output

    def test_a_port_inside_is_taken(self) -> None:
        first = two_free_ports()
        with socket.create_server(("127.0.0.1", first + 1)):
            done = ran(
                "check", "--bind", "127.0.0.1:0", "--workers", "2", "--redis",
                session_server().url, "--internal-bind", f"127.0.0.1:{first}",
            )  # fmt: skip
        assert done.code == 1
        assert re.search(r"^NO  internal .*cannot listen", done.output, re.MULTILINE)

    def test_without_a_redis(self) -> None:
        done = ran("check", "--bind", "127.0.0.1:0", "--workers", "2")
        assert done.code == 1
        assert re.search(r"^NO  workers +more than one need a Redis", done.output, re.MULTILINE)
