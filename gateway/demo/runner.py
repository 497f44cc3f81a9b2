"""Runs one attempt of a job of the demo: its process, from the start to the end of the job."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial

import trio
from attrs import define, field, frozen

from ..brokers.base import Broker
from ..model.constants import LOST_AFTER
from ..model.state import State
from .installation import SAMPLE
from .jobs import DemoJob

__all__ = ["Attempt", "WorkerLimit", "run_once"]

WorkerLimit = trio.Semaphore

WORKER_TIMEOUT = 300.0  # seconds for one worker: ten times what a slow machine needs
REPORT_TIMEOUT = (
    5.0  # seconds until the gateway must show the final state after the exit of the process
)
STOP_TIMEOUT = 4.0  # seconds for a worker to exit after SIGTERM
MAX_STDERR = 4_000  # bytes of a worker's stderr that are kept


@frozen
class Attempt:
    """How an attempt ended."""

    job: DemoJob
    state: State | None
    """The last state; None if there was no report."""
    stderr: str
    """The last bytes of the worker's stderr."""

    @property
    def as_expected(self) -> bool:
        """Whether the job has ended as expected."""
        return self.state is not None and self.job.ended_as_expected(self.state)


async def run_once(
    job: DemoJob, broker: Broker, *, url: str, quick: bool, worker_limit: WorkerLimit
) -> Attempt:
    """Runs one attempt when `worker_limit` allows it, and waits until the gateway at `url` shows
    its end. With `quick`, the worker works on fewer files.

    This kills the worker of a job that should be killed, and one that takes too long. After a
    cancellation it sends SIGTERM to the worker and waits for at most `STOP_TIMEOUT` seconds.
    """
    observer = _JobObserver(job)
    stderr = bytearray()
    async with trio.open_nursery() as nursery:
        async with worker_limit:
            await nursery.start(observer.follow, broker)
            with trio.move_on_after(WORKER_TIMEOUT):
                await _run_worker(observer, url=url, quick=quick, stderr=stderr)
        if observer.state is not None:  # otherwise there is nothing to wait for
            with trio.move_on_after(
                REPORT_TIMEOUT + (observer.state.lease * LOST_AFTER if job.killed_at else 0)
            ):
                await observer.ended.wait()
        nursery.cancel_scope.cancel()
    return Attempt(job, observer.state, bytes(stderr).decode(errors="replace").strip())


@define
class _JobObserver:
    """The gateway's view of one attempt."""

    job: DemoJob
    state: State | None = None
    kill_due: trio.Event = field(factory=trio.Event)
    """Set when the worker must be killed."""
    ended: trio.Event = field(factory=trio.Event)
    """Set when the job has ended."""

    async def follow(
        self, broker: Broker, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Follows the feed until cancelled. Reports to be started when no event can be missed."""
        async with broker.feed() as feed:
            task_status.started()
            async for events in feed:
                for event in events:
                    if event.job == self.job.name:
                        self._apply(event.state)

    def _apply(self, state: State) -> None:
        self.state = state
        if self.job.killed_at and (state.percent or 0) >= self.job.killed_at:
            self.kill_due.set()
        if state.final or state.health == "lost":
            self.ended.set()


async def _run_worker(observer: _JobObserver, *, url: str, quick: bool, stderr: bytearray) -> None:
    """Runs the worker until it exits."""
    variables = {"PROGRESS_GATEWAY_URL": url, SAMPLE: "5" if quick else "1"}
    async with trio.open_nursery() as nursery:
        process: trio.Process = await nursery.start(
            partial(
                trio.run_process,
                [sys.executable, "-m", observer.job.module, observer.job.name],
                stdin=subprocess.PIPE,  # see `gateway.demo.worker`
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                check=False,
                start_new_session=True,  # Ctrl-C must reach only the demo, which stops its workers
                env=os.environ | variables,
                deliver_cancel=_terminate,
            )
        )
        nursery.start_soon(_kill, process, observer)
        await _keep_stderr(process, stderr)
        await process.wait()
        nursery.cancel_scope.cancel()


async def _kill(process: trio.Process, observer: _JobObserver) -> None:
    """Kills the worker with SIGKILL at its percentage."""
    await observer.kill_due.wait()
    process.kill()


async def _keep_stderr(process: trio.Process, stderr: bytearray) -> None:
    """Keeps the end of the worker's stderr."""
    if process.stderr is not None:
        async for data in process.stderr:
            stderr += data
            del stderr[:-MAX_STDERR]


async def _terminate(process: trio.Process) -> None:
    process.terminate()
    await trio.sleep(STOP_TIMEOUT)
    process.kill()
