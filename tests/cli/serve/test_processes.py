"""`gateway serve --processes N`: several processes at one address, and their failures.

Real processes on a real Redis. Their log and output use one pipe, which the tests read; it ends
when the last process has ended.
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

from gateway.cli.serve.supervisor import check_processes, internal_binds
from gateway.config.settings import PROCESSES
from gateway.model.errors import InvalidSettings
from tests.auth.signing import OTHER_SECRET, SECRET
from tests.brokers.redis.server import Server, redis_server, session_server
from tests.e2e.client import Closed, Reset, WebSocketClient, open_client
from tests.ports import free_port

from ..processes import GATEWAY, WITHIN, Running, run_command
from .test_lifetime import Notified, notified, publish
from .test_serve import stuck_client

__all__ = ["notified"]  # a fixture

BOTH_OUTPUTS = ("sh", "-c", 'exec "$@" 2>&1', "sh")


class Supervised(Running):
    """A supervisor and its server processes."""

    def __init__(
        self,
        *arguments: str,
        redis: str,
        processes: int = 2,
        bind: str = "127.0.0.1:0",
        gateway: tuple[str, ...] = GATEWAY,
        **env: str,
    ) -> None:
        command = (*gateway, "serve", "--processes", str(processes), "--bind", bind, *arguments)
        super().__init__(*BOTH_OUTPUTS, *command, env={"PROGRESS_GATEWAY_REDIS": redis, **env})

    @property
    def log(self) -> list[dict[str, Any]]:
        """The lines of the log that were read so far."""
        lines = self.output.decode().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    def serving(self) -> int:
        """Waits until all server processes serve. Returns their port."""
        output = self.until("/\n")
        match = re.search(r"^Serving on http://127.0.0.1:(\d+)/$", output, re.MULTILINE)
        assert match, output
        return int(match[1])

    @property
    def pids(self) -> dict[int, int]:
        """The current pid of each server process, by its number."""
        return {
            line["server_process"]: line["pid"] for line in self.log if "is ready" in line["event"]
        }


@asynccontextmanager
async def one_of_each(port: int, nodes: int) -> AsyncIterator[dict[str, WebSocketClient]]:
    """Connects until there is a client at each of so many nodes; returns the clients by the names
    of the nodes."""
    clients: dict[str, WebSocketClient] = {}
    async with AsyncExitStack() as opened:
        with trio.fail_after(WITHIN):
            while len(clients) < nodes:
                client = await opened.enter_async_context(open_client(port, patience=WITHIN))
                clients[(await client.receive_type("welcome"))["node"]] = client
        yield clients


async def test_all_server_processes_serve_at_one_address() -> None:
    with Supervised(redis=session_server().url, processes=3) as processes:
        port = processes.serving()
        async with one_of_each(port, 3) as clients:
            for client in clients.values():
                await client.request("subscribe", jobs=["a"])
                assert (await client.receive_type("progress"))["state"] is None
            url = f"http://127.0.0.1:{port}"
            assert (
                run_command("publish", "a", "--percent", "7", PROGRESS_GATEWAY_URL=url).returncode
                == 0
            )
            for client in clients.values():
                assert (await client.receive_type("progress"))["state"]["percent"] == 7
        assert sorted(processes.pids) == [1, 2, 3]
        processes.until('"event": "subscriptions changed"', times=3)
        subscribed = [
            line["server_process"]
            for line in processes.log
            if line["event"] == "subscriptions changed"
        ]
        assert sorted(subscribed) == [1, 2, 3]

        # They share the address with each other, and not with foreign processes.
        second_run = run_command(
            "serve", "--processes", "2", "--bind", f"127.0.0.1:{port}",
            PROGRESS_GATEWAY_REDIS=session_server().url,
        )  # fmt: skip
        assert (second_run.returncode, second_run.stderr.count("\n")) == (2, 1)
        assert second_run.stderr.startswith(
            "Error: --bind (PROGRESS_GATEWAY_BIND): cannot listen on"
        )
        assert processes.output.count(b"Serving on") == 1


async def test_a_killed_server_process_is_replaced_and_no_client_is_refused() -> None:
    with Supervised(redis=session_server().url) as processes:
        port = processes.serving()
        victim = processes.pids[1]
        async with one_of_each(port, 2) as before:
            os.kill(victim, signal.SIGKILL)
            welcomed: list[str] = []

            async def come() -> None:
                # Raises ConnectionRefusedError if the connection is refused; otherwise waits for a
                # response.
                async with open_client(port, patience=WITHIN) as client:
                    welcomed.append((await client.receive_type("welcome"))["node"])

            async with trio.open_nursery() as nursery:
                for _ in range(40):  # that none reaches the successor happens once in 2 ** 40 runs
                    nursery.start_soon(come)

            lost = [name for name, client in before.items() if await is_gone(client)]
            assert len(lost) == 1
            assert len(set(welcomed)) == 2
            assert not set(welcomed) & set(lost)
        processes.until("server process is ready", times=3)
        (death,) = [line for line in processes.log if line["level"] == "error"]
        assert (death["server_process"], death["pid"]) == (1, victim)
        assert death["event"].startswith("server process exited (signal 9 (Killed))")
        assert processes.pids[1] != victim


async def is_gone(client: WebSocketClient) -> bool:
    """Returns whether the gateway has closed the connection; otherwise the gateway must respond."""
    try:
        await client.send("ping")
        await client.receive_type("pong")
    except (Reset, Closed):
        return True
    return False


async def test_server_processes_recover_with_redis_after_a_pause() -> None:
    redis = Server(redis_server())
    try:
        with Supervised("--exit-if-unavailable", redis=redis.url) as processes:
            port = processes.serving()
            redis.kill()
            os.kill(processes.pids[1], signal.SIGKILL)
            processes.until("restarting in", times=4)
            redis.start()
            processes.until("server process is ready", times=3)
            async with one_of_each(port, 2):
                pass
            ends = [line["event"] for line in processes.log if "restarting in" in line["event"]]
        pauses = [float(end.split()[-2]) for end in ends]
        assert ends[1].startswith("server process exited (exit code 3),")
        for number, pause in enumerate(pauses):
            longest = min(5.0, 0.25 * 2**number)
            assert longest / 2 - 0.06 <= pause <= longest + 0.06  # the log has it rounded
    finally:
        redis.close()


@pytest.mark.parametrize("signalled", ["the supervisor", "all processes"])
async def test_sigterm_drains_all_server_processes_at_the_same_time(signalled: str) -> None:
    """`all processes`: systemd, and Ctrl-C in a terminal, signal all processes."""
    with Supervised("--shutdown-timeout", "3", redis=session_server().url) as processes:
        port = processes.serving()
        with stuck_client(f"http://127.0.0.1:{port}"):
            async with one_of_each(port, 2) as clients:
                began = time.monotonic()
                processes.tell(signal.SIGTERM)
                if signalled == "all processes":
                    for pid in processes.pids.values():
                        os.kill(pid, signal.SIGTERM)
                for client in clients.values():
                    assert (await client.receive_type("goaway"))["code"] == 1001
                    assert await client.close_code() == 1001
            assert processes.end() == 0
        assert time.monotonic() - began < 2 * 3  # one after the other they would take so long
        left = [line for line in processes.log if line["event"].startswith("exiting after")]
        assert sorted(line["server_process"] for line in left) == [1, 2]
        assert processes.log[-1]["event"] == "all server processes have exited after SIGTERM"


def test_a_second_signal_ends_all_server_processes_immediately() -> None:
    with Supervised("--shutdown-timeout", "60", redis=session_server().url) as processes:
        port = processes.serving()
        with stuck_client(f"http://127.0.0.1:{port}"):
            processes.tell(signal.SIGTERM)
            processes.tell(signal.SIGINT)
            assert processes.end() in (128 + signal.SIGINT, 128 + signal.SIGTERM)
        assert not [line for line in processes.log if line["event"].startswith("left")]


def test_a_server_process_that_does_not_exit_is_killed() -> None:
    with Supervised("--shutdown-timeout", "0.1", redis=session_server().url) as processes:
        processes.serving()
        os.kill(processes.pids[2], signal.SIGSTOP)
        processes.tell(signal.SIGTERM)
        assert processes.end() == 0
        (killed,) = [line for line in processes.log if line["level"] == "error"]
        assert (killed["server_process"], killed["pid"]) == (2, processes.pids[2])


async def test_server_processes_exit_when_their_supervisor_is_killed() -> None:
    with Supervised("--shutdown-timeout", "1", redis=session_server().url) as processes:
        async with one_of_each(processes.serving(), 2) as clients:
            processes.process.kill()
            with trio.fail_after(WITHIN):
                for client in clients.values():
                    assert await client.close_code() == 1001
        assert processes.end() == -signal.SIGKILL


def test_an_error_of_all_server_processes_is_shown_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        for arguments, code, output in [
            (["--bind", bind], 2, f"--bind (PROGRESS_GATEWAY_BIND): cannot listen on {bind}"),
            (["--bind", "0.0.0.0:0"], 2, "--bind (PROGRESS_GATEWAY_BIND): 0.0.0.0 can be reached"),
            (
                [
                    "--bind",
                    "127.0.0.1:0",
                    "--redis",
                    "redis://127.0.0.1:1",
                    "--exit-if-unavailable",
                ],
                3,
                "--redis",
            ),
            (["--bind", "127.0.0.1:0", "--keys", str(tmp_path / "none")], 2, "--keys"),
        ]:
            result = run_command(
                "serve", "--processes", "3", *arguments, PROGRESS_GATEWAY_REDIS=session_server().url
            )
            assert (result.returncode, result.stdout) == (code, "")
            assert result.stderr.startswith(f"Error: {output}")
            assert result.stderr.count("\n") == 1


def test_several_server_processes_need_a_redis() -> None:
    result = run_command("serve", "--processes", "2")
    assert result.returncode == 2
    assert result.stderr.startswith(
        "Error: --processes (PROGRESS_GATEWAY_PROCESSES): several processes need a Redis"
    )
    assert "--redis (PROGRESS_GATEWAY_REDIS)" in result.stderr
    check_processes(1, None)
    check_processes(2, "redis://h")
    with pytest.raises(InvalidSettings, match="from 1 to 1000"):
        PROCESSES.read("0")


def test_each_server_process_has_an_internal_port() -> None:
    first_port = free_port(1)
    bind = f"127.0.0.1:{first_port}"
    with Supervised("--internal-bind", bind, redis=session_server().url) as processes:
        processes.serving()
        assert processes.until(
            f"Serving the internal endpoints on http://127.0.0.1:{first_port + 1}/\n"
        )
        started: set[str] = set()
        for port in (first_port, first_port + 1):
            url = f"http://127.0.0.1:{port}/metrics"
            with urllib.request.urlopen(url, timeout=WITHIN) as response:
                page = response.read().decode()
            assert "progress_gateway_ready 1.0" in page
            started |= set(re.findall(r"^process_start_time_seconds .+$", page, re.MULTILINE))
        assert len(started) == 2


@pytest.mark.parametrize(
    ("bind", "processes", "expected"),
    [
        (None, 3, []),
        ("10.0.0.2:8001", 1, ["10.0.0.2:8001"]),
        ("10.0.0.2:8001", 2, ["10.0.0.2:8001", "10.0.0.2:8002"]),
        ("[::1]:65534", 2, ["[::1]:65534", "[::1]:65535"]),
        ("127.0.0.1:0", 2, ["127.0.0.1:0", "127.0.0.1:0"]),
        ("systemd", 1, ["systemd"]),
    ],
)
def test_internal_ports_are_consecutive(
    bind: str | None, processes: int, expected: list[str]
) -> None:
    assert internal_binds(bind, processes) == expected


@pytest.mark.parametrize("bind", ["127.0.0.1:65535", "systemd", "fd://3"])
def test_too_few_internal_ports_are_refused(bind: str) -> None:
    with pytest.raises(InvalidSettings, match="for 2 processes") as caught:
        internal_binds(bind, 2)
    assert caught.value.field == "internal_bind"


def test_the_supervisor_notifies_systemd_and_forwards_sighup(
    tmp_path: Path, notified: Notified
) -> None:
    keys = tmp_path / "keys"
    keys.write_text(SECRET)
    redis = session_server().url
    with Supervised("--keys", str(keys), redis=redis, NOTIFY_SOCKET=notified.path) as processes:
        notified.receive("READY=1")
        url = f"http://127.0.0.1:{processes.serving()}"
        keys.write_text(OTHER_SECRET)
        processes.tell(signal.SIGHUP)
        notified.receive("RELOADING=1")
        notified.receive("READY=1")
        for _ in range(
            8
        ):  # all of them: a process that has not reloaded would be missed once in 2 ** 8 runs
            assert publish(url, SECRET).returncode == 1
        assert publish(url, OTHER_SECRET).returncode == 0
        processes.until("keys and limits reloaded", times=2)
        processes.tell(signal.SIGTERM)
        notified.receive("STOPPING=1")
        assert processes.end() == 0


def test_a_starting_server_process_gets_sighup_when_it_is_ready() -> None:
    with Supervised(redis=session_server().url) as processes:
        processes.until("server process is ready")
        while (
            b"Serving on" not in processes.output
        ):  # the second process is starting, and a signal would end it
            assert processes.process.poll() is None, processes.output
            processes.tell(signal.SIGHUP)
            with suppress(AssertionError):
                processes.until("Serving on", within=0.02)
        processes.tell(signal.SIGTERM)
        assert processes.end() == 0
        assert {line["level"] for line in processes.log} == {"info"}
        reloaded = [
            line["server_process"] for line in processes.log if "limits reloaded" in line["event"]
        ]
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


async def test_a_systemd_socket_is_shared() -> None:
    serve = ("serve", "--processes", "2", "--bind", "systemd", "--redis", session_server().url)
    with Running(sys.executable, "-c", ACTIVATE, *serve) as served:
        port = int(served.until("/\n").strip().rstrip("/").rpartition(":")[2])
        async with one_of_each(port, 2):
            pass
        served.tell(signal.SIGTERM)
        assert served.end() == 0


class TestCheck:
    def test_the_check_succeeds(self) -> None:
        first_port = free_port(1)
        result = run_command(
            "check", "--bind", "127.0.0.1:0", "--processes", "2", "--redis", session_server().url,
            "--internal-bind", f"127.0.0.1:{first_port}",
        )  # fmt: skip
        assert re.search(
            r"^OK   processes +2, with the limits above each", result.stdout, re.MULTILINE
        )
        assert f"127.0.0.1:{first_port} is free" in result.stdout
        assert f"127.0.0.1:{first_port + 1} is free" in result.stdout

    def test_an_internal_port_in_use_is_reported(self) -> None:
        first_port = free_port(1)
        with socket.create_server(("127.0.0.1", first_port + 1)):
            result = run_command(
                "check", "--bind", "127.0.0.1:0", "--processes", "2", "--redis",
                session_server().url, "--internal-bind", f"127.0.0.1:{first_port}",
            )  # fmt: skip
        assert result.returncode == 1
        assert re.search(r"^FAIL internal .*cannot listen", result.stdout, re.MULTILINE)

    def test_a_missing_redis_is_reported(self) -> None:
        result = run_command("check", "--bind", "127.0.0.1:0", "--processes", "2")
        assert result.returncode == 1
        assert re.search(
            r"^FAIL processes +several processes need a Redis", result.stdout, re.MULTILINE
        )
