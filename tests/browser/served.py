"""A real gateway in its own process, which can be killed and restarted, and the workers that report
to it."""

from __future__ import annotations

import signal
import subprocess
import sys
from types import TracebackType
from typing import Any

import httpx

from tests.cli.processes import GATEWAY, Running

__all__ = ["Served", "worker"]

WORKER = """
import subprocess
import sys
from gateway import Job

job = Job("video:42", url=sys.argv[1], total=100, unit="frames", lease=1)
job.update(done=int(sys.argv[2]))
print("reported", flush=True)
sys.stdin.read()
"""
"""A worker that reports once, and then only renews its lease."""


class Served:
    """`gateway serve` on a free port of the loopback. Killed at the end of the `with` block."""

    def __init__(self, *options: str, token: str | None = None, origins: str | None = "*") -> None:
        """Takes more options, and the token with which `report` may report. Origins are not
        checked, because tests have pages of other origins, on ports that are not known yet."""
        self._options = (*options, *(("--origins", origins) if origins else ()))
        self._headers = {"authorization": f"Bearer {token}"} if token else {}
        self._bind = "127.0.0.1:0"
        self._running: Running | None = None
        self.url = ""
        """The page's, without a slash at its end."""

    def __enter__(self) -> Served:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Starts the gateway; after `kill`, on the same port. Returns when it serves."""
        running = Running(
            *GATEWAY,
            "serve",
            "--bind",
            self._bind,
            "--shutdown-timeout",
            "1",
            *self._options,
        ).__enter__()
        self._running = running
        self.url = running.until("\n").split()[-1].rstrip("/")
        self._bind = self.url.removeprefix("http://")

    def kill(self) -> None:
        """Sends SIGKILL: the gateway sends no close frames, and its states are lost."""
        if self._running is not None:
            self._running.__exit__(None, None, None)
            self._running = None

    def leave(self) -> None:
        """Sends SIGTERM: the gateway drains, and exits."""
        assert self._running is not None
        self._running.tell(signal.SIGTERM)

    @property
    def has_left(self) -> bool:
        assert self._running is not None
        return self._running.process.poll() is not None

    def report(self, job: str, **update: Any) -> None:
        """Sends one update of a job, as a worker does. Without a `lease` the job does not stall
        within a test, however slow the machine is."""
        answer = httpx.post(
            f"{self.url}/api/jobs/{job}",
            json={"lease": 3_600} | update,
            headers=self._headers,
            trust_env=False,
        )
        assert answer.status_code == 200, answer.text


def worker(url: str, *, done: int) -> Running:
    """Returns a process that works on `video:42` with a lease of a second, and has done this
    much."""
    return Running(sys.executable, "-c", WORKER, url, str(done), stdin=subprocess.PIPE)
