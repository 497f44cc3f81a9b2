"""Reports Huey's tasks as jobs, with its signals.

    report_tasks(huey)

    @huey.task(retries=2)
    @named("video:{video}")
    def encode(video: int) -> None:
        for frame in current_job().track(frames(video)):
            ...

`named` and `current_job` are in `gateway.integrations.tasks`.
"""

from __future__ import annotations

from inspect import getclosurevars
from typing import Any

from huey import CancelExecution
from huey import signals as s

from .tasks import TaskJobs, current_job, named, run_of

__all__ = ["current_job", "named", "report_tasks"]

MAX_RETRIES = 1_000_000
"""From which tries are counted: more than any task may have."""


def report_tasks(huey: Any, **to: Any) -> None:
    """Reports the tasks of `huey` from now on; the other arguments are those of `TaskJobs`."""
    tasks = _Tasks(TaskJobs(cancelled=_cancelled, **to))
    huey.signal(s.SIGNAL_ENQUEUED, s.SIGNAL_SCHEDULED)(tasks.queued)
    huey.signal(s.SIGNAL_EXECUTING)(tasks.begins)
    huey.signal(s.SIGNAL_COMPLETE)(tasks.complete)
    huey.signal(s.SIGNAL_ERROR)(tasks.error)
    huey.signal(s.SIGNAL_RETRYING)(tasks.retrying)
    huey.signal(s.SIGNAL_INTERRUPTED)(tasks.interrupted)
    huey.signal(s.SIGNAL_CANCELED)(tasks.cancelled)
    huey.signal(s.SIGNAL_REVOKED, s.SIGNAL_EXPIRED, s.SIGNAL_LOCKED)(tasks.cancelled)


class _Tasks:
    """Reports the tasks of one Huey instance, from its signals."""

    def __init__(self, jobs: TaskJobs) -> None:
        self._jobs = jobs

    def queued(self, signal: str, task: Any) -> None:
        self._jobs.queued(self._name(task), _run(task))

    def begins(self, signal: str, task: Any) -> None:
        self._jobs.begin(task.id, self._name(task), _run(task), function=_function(task))

    def complete(self, signal: str, task: Any) -> None:
        self._jobs.end(task.id, function=_function(task))

    def error(self, signal: str, task: Any, exc: BaseException | None = None) -> None:
        if task.retries:
            self._jobs.leave(task.id)  # `retrying` follows
        else:
            self._jobs.end(task.id, error=exc or "failed")

    def retrying(self, signal: str, task: Any) -> None:
        self._jobs.leave(task.id)

    def interrupted(self, signal: str, task: Any) -> None:
        self._jobs.end(task.id, error="the consumer was stopped")

    def cancelled(self, signal: str, task: Any, *_: Any) -> None:
        if self._jobs.running(task.id) is not None:
            self._jobs.end(task.id, error=KeyboardInterrupt())
        else:
            name = self._name(task)
            self._jobs.ended_elsewhere(name, "cancelled", run=_run(task), message=signal)

    def _name(self, task: Any) -> str | None:
        return self._jobs.name(_function(task), task.id, task.args, task.kwargs)


def _cancelled() -> CancelExecution:
    return CancelExecution(retry=False)


def _function(task: Any) -> Any:
    """The user's function, from the class that Huey makes of it."""
    return getclosurevars(type(task).execute).nonlocals.get("func")


def _run(task: Any) -> str:
    # Huey counts the remaining tries.
    return run_of(task.id, max(0, MAX_RETRIES - (task.retries or 0)))
