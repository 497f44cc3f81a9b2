"""The nodes and workers of a scenario: real processes, and what is done to them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from functools import partial
from itertools import count
from pathlib import Path
from types import TracebackType

import trio

from tests.cli.conftest import address
from tests.cli.processes import Running

from .client_logs import Json

__all__ = ["Node", "Worker"]

HERE = Path(__file__).parent
PYTHON = (sys.executable, "-P")  # -P: do not import from the folder of the script


class Node:
    """One `gateway serve` on a Redis."""

    def __init__(self, name: str, redis: str) -> None:
        self.name = name
        command = (*PYTHON, str(HERE / "node.py"), "serve", "--bind", "127.0.0.1:0")
        self._running = Running(*command, env={"PROGRESS_GATEWAY_REDIS": redis})
        self._questions = count(1)
        self.url = ""
        self.faulted = False
        """Whether a fault was injected into it, so that its clients may lose their connection."""
        self.killed = False

    def __enter__(self) -> Node:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._running.__exit__(kind, error, tb)

    async def serving(self) -> None:
        """Returns when the node serves. From then on `url` is known."""
        self.url = await trio.to_thread.run_sync(address, self._running)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def errors(self) -> list[str]:
        """The log lines with errors, and output that is not a log line."""
        return [line for line in self._running.errors.splitlines() if not _is_harmless(line)]

    @property
    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self._running.process.pid}/fd"))

    async def tasks(self) -> int:
        """Returns the number of Trio tasks in the process."""
        marker = f"task_counter {next(self._questions)}: "
        self._running.tell(signal.SIGUSR2)
        read_line = partial(self._running.until, " tasks\n", within=10)
        await trio.to_thread.run_sync(partial(self._running.until, marker, within=10))
        output = await trio.to_thread.run_sync(read_line)
        return int(output.rpartition(marker)[2].split()[0])

    def kill(self) -> None:
        """Sends SIGKILL."""
        self.faulted = self.killed = True
        self._running.process.kill()

    def stop(self) -> None:
        """Sends SIGSTOP."""
        self.faulted = True
        self._running.tell(signal.SIGSTOP)

    def resume(self) -> None:
        self._running.tell(signal.SIGCONT)

    async def stop_gracefully(self) -> int:
        """Sends SIGTERM. Returns the exit code of the process."""
        self._running.tell(signal.SIGTERM)
        return await trio.to_thread.run_sync(partial(self._running.end, within=20))


class Worker:
    """A process that reports on `job` to `url`.

    `pace` is the number of seconds between its steps, `lease` how long it may be silent, and
    `skew` the offset of its clock in seconds.
    """

    def __init__(
        self, job: str, *, url: str, pace: float = 0.05, lease: float = 30.0, skew: float = 0.0
    ) -> None:
        self.job = job
        command = (*PYTHON, str(HERE / "worker.py"), job, str(pace), str(lease), str(skew))
        self._running = Running(*command, env={"PROGRESS_GATEWAY_URL": url}, stdin=subprocess.PIPE)
        self.end_requested = False
        self.killed = False

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._running.__exit__(kind, error, tb)

    @property
    def log(self) -> str:
        return self._running.errors

    def end(self, how: str = "succeed") -> None:
        """Orders the worker to `succeed`, `fail` or `cancel`, unless it was ordered before or was
        killed."""
        if not self.end_requested and not self.killed:
            self.end_requested = True
            stdin = self._running.process.stdin
            assert stdin is not None
            stdin.write(f"{how}\n".encode())
            stdin.flush()

    def kill(self) -> None:
        """Sends SIGKILL."""
        self.killed = True
        self._running.process.kill()

    async def report(self, *, within: float) -> Json:
        """Waits until the worker has exited, which must be with 0. Returns the report that it
        prints."""
        code = await trio.to_thread.run_sync(partial(self._running.end, within=within))
        assert code == 0, f"the worker of {self.job} exited with {code}: {self.log}"
        entry: Json = json.loads(self._running.output)
        return entry


def _is_harmless(line: str) -> bool:
    try:
        entry: Json = json.loads(line)
    except ValueError:
        return False
    return entry["level"] in ("debug", "info", "warning")
