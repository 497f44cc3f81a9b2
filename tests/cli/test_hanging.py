"""A worker of `--workers` that hangs, but lives: its supervisor notices, and nobody else does.

Real processes on a real Redis. How long one may be silent is set to a few seconds: what they
are is tried on a mock clock, in `test_leash`.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
import trio

from tests.brokers.server import session_server

from .processes import WITHIN
from .test_life import Notified, notified
from .test_workers import Crew, is_gone, one_of_each

__all__ = ["notified"]  # a fixture

SILENCE = 2.0


@pytest.fixture
def config(tmp_path: Path) -> str:
    file = tmp_path / "gateway.toml"
    file.write_text(f"[limits]\nworker_silence = {SILENCE}\n")
    return str(file)


def errors(crew: Crew) -> list[tuple[int, int, str]]:
    """What it complains of: a worker's number, its process, what is with it."""
    lines = [line for line in crew.log if line["level"] == "error"]
    return [(line["worker"], line["pid"], line["event"].partition(";")[0]) for line in lines]


async def test_one_that_is_stopped_is_replaced_and_nothing_else(
    config: str, notified: Notified
) -> None:
    with Crew(
        "--config", config,
        redis=session_server().url, NOTIFY_SOCKET=notified.path, WATCHDOG_USEC="1000000",
    ) as crew:  # fmt: skip
        port = crew.serving()
        before = crew.pids
        async with one_of_each(port, 2) as clients:
            os.kill(before[1], signal.SIGSTOP)
            ended: list[bool] = []

            async def ask(name: str) -> None:
                ended.append(await is_gone(clients[name]))

            with trio.fail_after(WITHIN):
                async with trio.open_nursery() as nursery:
                    for name in clients:
                        nursery.start_soon(ask, name)
            assert ended == [False, True]  # one answered while the other hung
        crew.until("a worker is ready", times=3)
        # SIGABRT waits until it goes on, which it does not: SIGKILL ends it all the same.
        assert errors(crew) == [
            (1, before[1], "a worker hangs: it says nothing, and is killed"),
            (1, before[1], "a worker ended: signal 9 (Killed)"),
        ]
        assert crew.pids[1] != before[1]
        assert crew.pids[2] == before[2]
        assert len(crew.pids) == 2
        async with one_of_each(port, 2):
            pass
        notified.hear("WATCHDOG=1")
        crew.tell(signal.SIGTERM)
        assert crew.end() == 0
        assert len(errors(crew)) == 2


HANGS_WHEN_TOLD = """
import signal, sys, time
from gateway.cli import main

def hang_for_ever(*_):
    while True:
        time.sleep(60)

signal.signal(signal.SIGUSR1, hang_for_ever)
main()
"""


def test_one_in_an_endless_loop_prints_where_it_stands(config: str) -> None:
    """A worker is called as its supervisor was: with the same program."""
    program = (sys.executable, "-c", HANGS_WHEN_TOLD)
    with Crew("--config", config, redis=session_server().url, gateway=program) as crew:
        crew.serving()
        hung = crew.pids[2]
        os.kill(hung, signal.SIGUSR1)
        crew.until("a worker is ready", times=3)
        assert b"Fatal Python error: Aborted" in crew.output
        assert b"in hang_for_ever" in crew.output
        assert errors(crew)[1] == (2, hung, "a worker ended: signal 6 (Aborted)")


HANGS_AT_THE_START = """
import os, time
from gateway.cli import main

while os.path.exists(os.environ["HANGS_WHILE_THERE_IS"]):
    time.sleep(60)
main()
"""


def test_one_that_hangs_before_it_serves_is_replaced_too(config: str, tmp_path: Path) -> None:
    obstacle = tmp_path / "obstacle"
    with Crew(
        "--config", config, redis=session_server().url,
        gateway=(sys.executable, "-c", HANGS_AT_THE_START), HANGS_WHILE_THERE_IS=str(obstacle),
    ) as crew:  # fmt: skip
        crew.serving()
        obstacle.touch()
        os.kill(crew.pids[2], signal.SIGKILL)
        crew.until("a worker hangs")
        obstacle.unlink()
        crew.until("a worker is ready", times=3)
        assert {number for number, _, _ in errors(crew)} == {2}


def test_what_was_stopped_with_its_supervisor_did_not_hang(config: str, notified: Notified) -> None:
    """As a suspended machine, or a Ctrl-Z, has it; the supervisor is the first to go on."""
    with Crew(
        "--config", config,
        redis=session_server().url, NOTIFY_SOCKET=notified.path, WATCHDOG_USEC="500000",
    ) as crew:  # fmt: skip
        crew.serving()
        notified.hear("WATCHDOG=1")
        os.killpg(crew.process.pid, signal.SIGSTOP)
        # Nor does it tell systemd that it lives while it does not.
        notified.hear_nothing(for_=1.5 * SILENCE)
        crew.tell(signal.SIGCONT)
        notified.hear("WATCHDOG=1")
        notified.hear("WATCHDOG=1")
        os.killpg(crew.process.pid, signal.SIGCONT)
        for _ in range(8):  # as long as one could be silent
            notified.hear("WATCHDOG=1")
        crew.tell(signal.SIGTERM)
        assert crew.end() == 0
        assert errors(crew) == []
