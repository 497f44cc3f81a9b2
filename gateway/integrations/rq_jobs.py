"""RQ's jobs as jobs of the gateway: their names and runs, and the reports of a job whose process
was killed. `rq` has the queue and the workers that report them.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import rq.job

from ..worker import Cancelled
from .tasks import TaskJobs, run_of

__all__ = [
    "function_of",
    "is_started",
    "name_of",
    "report_abandoned",
    "report_killed",
    "run_of_try",
    "task_jobs",
]

FIRST_TRY = 1_000_000
"""The number of the first try, because RQ counts the remaining ones: more than any job may have."""


@cache
def task_jobs() -> TaskJobs:
    """Returns the `TaskJobs` of this process."""
    return TaskJobs(cancelled=Cancelled)  # so that RQ calls `handle_job_failure`


def function_of(job: rq.job.Job) -> Any:
    """Returns the job's function; None if it cannot be imported here, which the worker reports."""
    try:
        return job.func
    except Exception:  # noqa: BLE001 - whatever its module raises
        return None


def name_of(job: rq.job.Job) -> str | None:
    """Returns the name of the job at the gateway; None if it must not be reported."""
    template = job.meta.get("job", "")
    return task_jobs().name(function_of(job), job.id, job.args, job.kwargs, template=template)


def run_of_try(job: rq.job.Job, *, ahead: int = 0) -> str:
    """Returns the run of the job's current try, or of the one `ahead` tries later."""
    # RQ counts the tries that a task has requested, and the remaining tries after errors.
    tried = (job.number_of_retries or 0) - (job.retries_left or 0)
    return run_of(job.id, FIRST_TRY + tried + ahead)


def is_started(job: rq.job.Job) -> bool:
    """Returns whether the job is running according to RQ. Raises nothing."""
    try:
        return job.get_status() == rq.job.JobStatus.STARTED
    except Exception:  # noqa: BLE001 - the queue's Redis is unavailable
        return True


def report_abandoned(job: rq.job.Job, *_error: Any) -> None:
    """Reports a job that RQ has found abandoned. RQ calls it as an exception handler."""
    report_killed(job, "its worker has died")


def report_killed(job: rq.job.Job, error: str) -> None:
    """Reports a job whose process was killed. RQ tries it again when a worker finds it
    abandoned."""
    if job.should_retry:
        task_jobs().announce_queued(name_of(job), run_of_try(job, ahead=1))
    else:
        task_jobs().announce_end(name_of(job), "failed", run=run_of_try(job), error=error)
