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

FIRST_TRY = 1_000_000
"""The number of the first try, because Huey counts the remaining ones: more than any task may
have."""


def report_tasks(huey: Any, **options: Any) -> None:
    """Reports the tasks of `huey` from now on; the other arguments are those of `TaskJobs`."""
    tasks = _Tasks(TaskJobs(cancelled=_cancelled_exception, **options))
    huey.signal(s.SIGNAL_ENQUEUED, s.SIGNAL_SCHEDULED)(tasks.on_queued)
    huey.signal(s.SIGNAL_EXECUTING)(tasks.on_executing)
    huey.signal(s.SIGNAL_COMPLETE)(tasks.on_complete)
    huey.signal(s.SIGNAL_ERROR)(tasks.on_error)
    huey.signal(s.SIGNAL_RETRYING)(tasks.on_retrying)
    huey.signal(s.SIGNAL_INTERRUPTED)(tasks.on_interrupted)
    huey.signal(s.SIGNAL_CANCELED)(tasks.on_cancelled)
    huey.signal(s.SIGNAL_REVOKED, s.SIGNAL_EXPIRED, s.SIGNAL_LOCKED)(tasks.on_cancelled)


class _Tasks:
    """Reports the tasks of one Huey instance, from its signals."""

    def __init__(self, jobs: TaskJobs) -> None:
        self._jobs = jobs

    def on_queued(self, signal: str, task: Any) -> None:
        self._jobs.announce_queued(self._job_name(task), _run(task))

    def on_executing(self, signal: str, task: Any) -> None:
        self._jobs.begin(task.id, self._job_name(task), _run(task), function=_function(task))

    def on_complete(self, signal: str, task: Any) -> None:
        self._jobs.end(task.id, function=_function(task))

    def on_error(self, signal: str, task: Any, exc: BaseException | None = None) -> None:
        if task.retries:
            self._jobs.release(task.id)  # `retrying` follows
        else:
            self._jobs.end(task.id, error=exc or "failed")

    def on_retrying(self, signal: str, task: Any) -> None:
        self._jobs.release(task.id)

    def on_interrupted(self, signal: str, task: Any) -> None:
        self._jobs.end(task.id, error="the consumer was stopped")

    def on_cancelled(self, signal: str, task: Any, *_: Any) -> None:
        if self._jobs.running_job(task.id) is not None:
            self._jobs.end(task.id, error=KeyboardInterrupt())
        else:
            name = self._job_name(task)
            self._jobs.announce_end(name, "cancelled", run=_run(task), message=signal)

    def _job_name(self, task: Any) -> str | None:
        return self._jobs.name(_function(task), task.id, task.args, task.kwargs)


def _cancelled_exception() -> CancelExecution:
    return CancelExecution(retry=False)


def _function(task: Any) -> Any:
    """Returns the user's function, from the class that Huey creates for it."""
    return getclosurevars(type(task).execute).nonlocals.get("func")


def _run(task: Any) -> str:
    return run_of(task.id, max(0, FIRST_TRY - (task.retries or 0)))
