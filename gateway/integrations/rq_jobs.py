"""RQ's jobs as jobs of the gateway: their names and runs, and what is reported of one whose process
was killed. `rq` has the queue and the workers that report them.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import rq.job

from ..worker import Cancelled
from .tasks import TaskJobs, run_of

__all__ = ["abandoned", "function_of", "is_started", "jobs", "lost", "name_of", "try_of"]

MAX_RETRIES = 1_000_000
"""From which tries are counted, as RQ counts the remaining ones: more than any job may have."""


@cache
def jobs() -> TaskJobs:
    """What reports the jobs of this process."""
    return TaskJobs(cancelled=Cancelled)  # `handle_job_failure` knows by it


def function_of(job: rq.job.Job) -> Any:
    """The job's function; None if it cannot be imported here, which the worker reports."""
    try:
        return job.func
    except Exception:  # noqa: BLE001 - whatever its module raises
        return None


def name_of(job: rq.job.Job) -> str | None:
    """The name of the job at the gateway; None if it must not be reported."""
    template = job.meta.get("job", "")
    return jobs().name(function_of(job), job.id, job.args, job.kwargs, template=template)


def try_of(job: rq.job.Job, *, ahead: int = 0) -> str:
    """The run of the job's current try, or of a later one."""
    # RQ counts the tries that a task has requested, and the remaining tries after errors.
    tried = (job.number_of_retries or 0) - (job.retries_left or 0)
    return run_of(job.id, MAX_RETRIES + tried + ahead)


def is_started(job: rq.job.Job) -> bool:
    """Whether RQ holds the job for one that runs. Raises nothing."""
    try:
        return job.get_status() == rq.job.JobStatus.STARTED
    except Exception:  # noqa: BLE001 - without the queue's Redis: what RQ believed last
        return True


def abandoned(job: rq.job.Job, *_error: Any) -> None:
    """Reports a job that RQ has found abandoned: one of its exception handlers."""
    lost(job, "its worker has died")


def lost(job: rq.job.Job, error: str) -> None:
    """Reports a job whose process was killed. RQ tries it again when a worker finds it
    abandoned."""
    if job.should_retry:
        jobs().queued(name_of(job), try_of(job, ahead=1))
    else:
        jobs().ended_elsewhere(name_of(job), "failed", run=try_of(job), error=error)
