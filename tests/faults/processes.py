"""The nodes and workers of a story: real processes, and what is done to them."""

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

from .accounts import Json

__all__ = ["Node", "Worker"]

HERE = Path(__file__).parent
PYTHON = (sys.executable, "-P")  # -P: the folder of the script is not a place to import from


class Node:
    """One `gateway serve` on a Redis."""

    def __init__(self, name: str, redis: str) -> None:
        self.name = name
        command = (*PYTHON, str(HERE / "node.py"), "serve", "--bind", "127.0.0.1:0")
        self._running = Running(*command, env={"GATEWAY_REDIS": redis})
        self._questions = count(1)
        self.url = ""
        self.touched = False
        """Whether something was done to it, so that its clients may lose their connection."""
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
        """Return when it serves; `url` is known then."""
        self.url = await trio.to_thread.run_sync(address, self._running)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def errors(self) -> list[str]:
        """The lines of its log that tell of an error, and those that are none of its log."""
        return [line for line in self._running.errors.splitlines() if not _is_harmless(line)]

    @property
    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self._running.process.pid}/fd"))

    async def tasks(self) -> int:
        """How many Trio tasks are living in it."""
        marker = f"census {next(self._questions)}: "
        self._running.tell(signal.SIGUSR2)
        ask = partial(self._running.until, " tasks\n", within=10)
        await trio.to_thread.run_sync(partial(self._running.until, marker, within=10))
        said = await trio.to_thread.run_sync(ask)
        return int(said.rpartition(marker)[2].split()[0])

    def kill(self) -> None:
        """SIGKILL."""
        self.touched = self.killed = True
        self._running.process.kill()

    def stop(self) -> None:
        """SIGSTOP."""
        self.touched = True
        self._running.tell(signal.SIGSTOP)

    def go_on(self) -> None:
        self._running.tell(signal.SIGCONT)

    async def leave(self) -> int:
        """SIGTERM; returns its exit code."""
        self._running.tell(signal.SIGTERM)
        return await trio.to_thread.run_sync(partial(self._running.end, within=20))


class Worker:
    """One process that reports on `job`, to whatever `url` names.

    `pace` is seconds between its steps, `lease` how long it may be silent, `skew` by how
    many seconds its clock is off.
    """

    def __init__(
        self, job: str, *, url: str, pace: float = 0.05, lease: float = 30.0, skew: float = 0.0
    ) -> None:
        self.job = job
        command = (*PYTHON, str(HERE / "worker.py"), job, str(pace), str(lease), str(skew))
        self._running = Running(*command, env={"GATEWAY_URL": url}, stdin=subprocess.PIPE)
        self.told_to_end = False
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
        """Tell it to `succeed`, `fail` or `cancel`, unless it was told before or is dead."""
        if not self.told_to_end and not self.killed:
            self.told_to_end = True
            stdin = self._running.process.stdin
            assert stdin is not None
            stdin.write(f"{how}\n".encode())
            stdin.flush()

    def kill(self) -> None:
        """SIGKILL."""
        self.killed = True
        self._running.process.kill()

    async def report(self, *, within: float) -> Json:
        """What it says that it has reported, when it has exited, which it must do with 0."""
        code = await trio.to_thread.run_sync(partial(self._running.end, within=within))
        assert code == 0, f"the worker of {self.job} exited with {code}: {self.log}"
        told: Json = json.loads(self._running.output)
        return told


def _is_harmless(line: str) -> bool:
    try:
        told: Json = json.loads(line)
    except ValueError:
        return False
    return told["level"] in ("debug", "info", "warning")
