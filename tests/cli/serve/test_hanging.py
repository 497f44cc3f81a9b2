"""A server process of `--processes` that hangs: its supervisor detects it, and no other process is
affected.

Real processes on a real Redis. The silence limit is set to a few seconds; `test_supervisor_pipe`
tests the real limits on a mock clock.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
import trio

from tests.brokers.redis.server import session_server

from ..processes import WITHIN
from .test_lifetime import Notified, notified
from .test_processes import Supervised, is_gone, one_of_each

__all__ = ["notified"]  # a fixture

SILENCE = 2.0


@pytest.fixture
def config(tmp_path: Path) -> str:
    file = tmp_path / "gateway.toml"
    file.write_text(f"[limits]\nhang_timeout = {SILENCE}\n")
    return str(file)


def errors(processes: Supervised) -> list[tuple[int, int, str]]:
    """Returns the supervisor's log lines about server processes: number, pid and message."""
    lines = [line for line in processes.log if line["level"] == "error"]
    return [
        (line["server_process"], line["pid"], line["event"].partition(", restarting")[0])
        for line in lines
    ]


async def test_a_stopped_server_process_is_replaced_and_no_other(
    config: str, notified: Notified
) -> None:
    with Supervised(
        "--config", config,
        redis=session_server().url, NOTIFY_SOCKET=notified.path, WATCHDOG_USEC="1000000",
    ) as processes:  # fmt: skip
        port = processes.serving()
        before = processes.pids
        async with one_of_each(port, 2) as clients:
            os.kill(before[1], signal.SIGSTOP)
            end_results: list[bool] = []

            async def send_request(name: str) -> None:
                end_results.append(await is_gone(clients[name]))

            with trio.fail_after(WITHIN):
                async with trio.open_nursery() as nursery:
                    for name in clients:
                        nursery.start_soon(send_request, name)
            assert end_results == [False, True]  # one answered while the other hung
        processes.until("server process is ready", times=3)
        # A stopped process does not handle SIGABRT, but SIGKILL ends it.
        assert errors(processes) == [
            (1, before[1], "server process hangs (no watchdog message), killing it"),
            (1, before[1], "server process exited (signal 9 (Killed))"),
        ]
        assert processes.pids[1] != before[1]
        assert processes.pids[2] == before[2]
        assert len(processes.pids) == 2
        async with one_of_each(port, 2):
            pass
        notified.receive("WATCHDOG=1")
        processes.tell(signal.SIGTERM)
        assert processes.end() == 0
        assert len(errors(processes)) == 2


HANGS_WHEN_TOLD = """
import signal, sys, time
from gateway.cli.__main__ import main

def hang_for_ever(*_):
    while True:
        time.sleep(60)

signal.signal(signal.SIGUSR1, hang_for_ever)
main()
"""


def test_a_hanging_server_process_prints_its_stack(config: str) -> None:
    """A server process runs the same program as its supervisor."""
    program = (sys.executable, "-c", HANGS_WHEN_TOLD)
    with Supervised("--config", config, redis=session_server().url, gateway=program) as processes:
        processes.serving()
        hung = processes.pids[2]
        os.kill(hung, signal.SIGUSR1)
        processes.until("server process is ready", times=3)
        assert b"Fatal Python error: Aborted" in processes.output
        assert b"in hang_for_ever" in processes.output
        assert errors(processes)[1] == (2, hung, "server process exited (signal 6 (Aborted))")


HANGS_AT_THE_START = """
import os, time
from gateway.cli.__main__ import main

while os.path.exists(os.environ["HANGS_WHILE_THERE_IS"]):
    time.sleep(60)
main()
"""


def test_a_server_process_that_hangs_at_the_start_is_replaced(config: str, tmp_path: Path) -> None:
    obstacle = tmp_path / "obstacle"
    with Supervised(
        "--config", config, redis=session_server().url,
        gateway=(sys.executable, "-c", HANGS_AT_THE_START), HANGS_WHILE_THERE_IS=str(obstacle),
    ) as processes:  # fmt: skip
        processes.serving()
        obstacle.touch()
        os.kill(processes.pids[2], signal.SIGKILL)
        processes.until("server process hangs")
        obstacle.unlink()
        processes.until("server process is ready", times=3)
        assert {number for number, _, _ in errors(processes)} == {2}


def test_processes_stopped_with_their_supervisor_are_not_replaced(
    config: str, notified: Notified
) -> None:
    """The processes stop together after Ctrl-Z, or when the machine is suspended. The supervisor
    continues first."""
    with Supervised(
        "--config", config,
        redis=session_server().url, NOTIFY_SOCKET=notified.path, WATCHDOG_USEC="500000",
    ) as processes:  # fmt: skip
        processes.serving()
        notified.receive("WATCHDOG=1")
        os.killpg(processes.process.pid, signal.SIGSTOP)
        # It also sends systemd no watchdog message while it is stopped.
        notified.receive_nothing(for_=1.5 * SILENCE)
        processes.tell(signal.SIGCONT)
        notified.receive("WATCHDOG=1")
        notified.receive("WATCHDOG=1")
        os.killpg(processes.process.pid, signal.SIGCONT)
        for _ in range(8):  # as long as a process may be silent
            notified.receive("WATCHDOG=1")
        processes.tell(signal.SIGTERM)
        assert processes.end() == 0
        assert errors(processes) == []
