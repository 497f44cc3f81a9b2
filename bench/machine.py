"""The machine: its cores, the processes, and their CPU time and memory from /proc."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

__all__ = [
    "GENERATOR_CORE",
    "SERVER_CORE",
    "DidNotStart",
    "cpu_seconds",
    "free_port",
    "memory",
    "on_core",
    "run_program",
    "takes_connections",
]

SERVER_CORE, GENERATOR_CORE = sorted(os.sched_getaffinity(0))[:2]
START_TIMEOUT = 20.0
STOP_TIMEOUT = 3.0
_TICKS = os.sysconf("SC_CLK_TCK")


class DidNotStart(Exception):
    """A program ended, or was not ready in time; the text has the end of its log."""


def free_port(count: int = 1) -> int:
    """Returns a free port below the ephemeral ones; the next `count - 1` ports are free too."""
    for port in range(21_000 + os.getpid() % 500 * 20, 32_000, count):
        try:
            for offset in range(count):
                with socket.socket() as sock:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    sock.bind(("127.0.0.1", port + offset))
        except OSError:
            continue
        return port
    raise OSError("no port is free")


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Runs this thread, and processes that it starts meanwhile, on that core only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def run_program(
    arguments: Sequence[str],
    *,
    core: int,
    ready: Callable[[], bool],
    log: Path,
    env: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a program on `core`, waits until it is `ready`, and stops it after the block.

    Its output is written to `log`. It leads a process group, so its children end with it. Raises
    `DidNotStart`.
    """
    with log.open("wb") as output:
        with on_core(core):
            process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )
        try:
            until = time.monotonic() + START_TIMEOUT
            while not ready():
                if process.poll() is not None or time.monotonic() > until:
                    end = log.read_text(errors="replace").strip().splitlines()[-3:]
                    raise DidNotStart(" / ".join(end) or "it printed nothing")
                time.sleep(0.01)
            yield process
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Stops the process with SIGTERM, and with SIGKILL if that does not help."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def takes_connections(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def _family(pid: int) -> list[int]:
    """Returns a process and all its descendants."""
    pids = [pid]
    for parent in pids:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            pids += map(int, task.read_text().split())
    return pids


def cpu_seconds(pid: int) -> float:
    """Returns the CPU seconds that a process and its children have used so far."""
    used = 0.0
    for member in _family(pid):
        fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        used += (int(fields[11]) + int(fields[12])) / _TICKS
    return used


def memory(pid: int) -> int:
    """Returns the memory of a process and its children in bytes (PSS)."""
    used = 0
    for member in _family(pid):
        for line in Path(f"/proc/{member}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                used += int(line.split()[1]) * 1024
    return used
