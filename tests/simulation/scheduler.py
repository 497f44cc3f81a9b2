"""The scheduling of a run: its virtual clock, and a queue in which the tasks of paused processes
wait."""

from __future__ import annotations

from collections import deque
from math import inf

import trio
from attrs import define
from trio._core._run import GLOBAL_RUN_CONTEXT

from .threads import process_of

__all__ = ["JumpingClock", "let_processes_pause"]


@define
class JumpingClock(trio.abc.Clock):
    """A clock that moves to the next deadline as soon as no task can run. `MockClock` does the same
    in two passes of the scheduler instead of one."""

    _now: float = 0.0

    def start_clock(self) -> None:
        """Does nothing."""

    def current_time(self) -> float:
        return self._now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Moves the clock. Trio calls it when no task can run."""
        if deadline != inf:
            self._now = max(self._now, deadline)
        return 0.0


class _RunQueue(deque[trio.lowlevel.Task]):
    """The tasks that can run. Those of a paused process wait with it."""

    def append(self, task: trio.lowlevel.Task) -> None:
        process = process_of(task.context)
        if process is None or process.waiting_tasks is None:
            super().append(task)
        else:
            process.waiting_tasks.append(task)


def let_processes_pause() -> None:
    """Makes `SimulatedProcess.pause` work in the current run. There is no public way to delay a
    task, so it replaces Trio's queue."""
    runner = GLOBAL_RUN_CONTEXT.runner
    runner.runq = _RunQueue(runner.runq)
