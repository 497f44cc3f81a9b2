"""Reports RQ's jobs: queued, running, retried and ended, also if their process is killed.

    from gateway.integrations.rq import Queue
    from gateway.integrations.tasks import current_job, named


    @named("video:{video}")
    def encode(video: int) -> None:
        for frame in current_job().track(frames(video)):
            ...


    Queue(connection=Redis()).enqueue(encode, 42)

    rq worker --worker-class gateway.integrations.rq.Worker \\
              --queue-class gateway.integrations.rq.Queue

The gateway's URL and the token come from the environment. There are also `SimpleWorker` and
`SpawnWorker`.

    what has killed the process of a job      who reports it
    (RQ's "work horse")
    ----------------------------------------  -----------------------------------------------------
    anything else than its worker             the worker, at once
    a cold shutdown of its worker (a second   that worker, before it exits, although for RQ the
    SIGTERM)                                  job is still `started`
    what has killed its worker as well        the worker that finds the job abandoned

Each of them reports the job as failed, or, if RQ will try it again, as queued.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import rq
import rq.job
import rq.worker

from ..worker import Cancelled, process
from .tasks import TaskJobs, run_of

__all__ = ["Queue", "SimpleWorker", "SpawnWorker", "Worker"]

MOST_RETRIES = 1_000_000
"""From which tries are counted, as RQ counts the remaining ones: more than any job may have."""


@cache
def _jobs() -> TaskJobs:
    return TaskJobs(cancelled=Cancelled)  # `handle_job_failure` knows by it


def _name(job: rq.job.Job) -> str | None:
    try:
        function = job.func
    except Exception:  # noqa: BLE001 - it cannot be imported here; the worker reports that
        function = None
    return _jobs().name(function, job.id, job.args, job.kwargs, template=job.meta.get("job", ""))


def _run(job: rq.job.Job, *, ahead: int = 0) -> str:
    """The run of the job's current try, or of a later one."""
    # RQ counts the tries that a task has requested, and the remaining tries after errors.
    return run_of(
        job.id, MOST_RETRIES + (job.number_of_retries or 0) - (job.retries_left or 0) + ahead
    )


class Queue(rq.Queue):
    """`rq.Queue` that reports its jobs as queued."""

    def _enqueue_job(self, job: rq.job.Job, *args: Any, **kwargs: Any) -> Any:
        enqueued = super()._enqueue_job(job, *args, **kwargs)
        _jobs().queued(_name(job), _run(job))
        return enqueued

    def schedule_job(self, job: rq.job.Job, *args: Any, **kwargs: Any) -> Any:
        scheduled = super().schedule_job(job, *args, **kwargs)
        _jobs().queued(_name(job), _run(job))
        return scheduled


class _Reports:
    """The reports of all workers. `perform_job` runs in the work horse, the rest in the worker."""

    queue_class = Queue
    horse_pid: int
    is_horse: bool
    push_exc_handler: Callable[[Callable[..., Any]], None]
    pop_exc_handler: Callable[[], Any]
    _stopped_job_id: str | None  # RQ's own

    def execute_job(self, job: rq.job.Job, *args: Any, **kwargs: Any) -> None:
        try:
            super().execute_job(job, *args, **kwargs)  # type: ignore[misc]  # a mixin
        except SystemExit:
            # A cold shutdown, after RQ has killed the work horse. It may have ended just before.
            if self.horse_pid and not self.is_horse and _is_started(job):
                _lost(job, "its worker was shut down")
            raise

    def clean_registries(self) -> None:
        # RQ calls these handlers for the jobs that it finds abandoned, before it retries them.
        self.push_exc_handler(_abandoned)
        try:
            super().clean_registries()  # type: ignore[misc]  # a mixin
        finally:
            self.pop_exc_handler()

    def prepare_job_execution(self, job: rq.job.Job, *args: Any, **kwargs: Any) -> None:
        super().prepare_job_execution(job, *args, **kwargs)  # type: ignore[misc]  # a mixin
        _jobs().begin(job.id, _name(job), _run(job), function=_function(job))

    def perform_job(self, job: rq.job.Job, *args: Any, **kwargs: Any) -> bool:
        try:
            done: bool = super().perform_job(job, *args, **kwargs)  # type: ignore[misc]  # a mixin
        finally:
            _jobs().leave(job.id)  # if its end was not reported
            process.flush_all()  # a work horse exits without `atexit`
        return done

    def handle_job_success(self, job: rq.job.Job, *args: Any, **kwargs: Any) -> None:
        super().handle_job_success(job, *args, **kwargs)  # type: ignore[misc]  # a mixin
        _jobs().end(job.id, result=job._result, function=_function(job))

    def handle_job_failure(self, job: rq.job.Job, *args: Any, **kwargs: Any) -> None:
        run = _run(job)
        running = _jobs().running(job.id)
        if running is not None and running.status == "cancelled":
            self._stopped_job_id = job.id  # as by `rq.command`: it is not tried again
        stopped = getattr(self, "_stopped_job_id", None) == job.id
        again = job.should_retry and not stopped
        super().handle_job_failure(job, *args, **kwargs)  # type: ignore[misc]  # a mixin
        why = str(kwargs.get("exc_string") or "").strip().splitlines()
        error = why[-1] if why else "the worker's process ended"
        if again:
            _jobs().leave(job.id)
            _jobs().queued(_name(job), _run(job))
        elif running is not None:
            _jobs().end(job.id, error=error)
        elif stopped:
            _jobs().ended_elsewhere(_name(job), "cancelled", run=run, message="stopped")
        else:
            _jobs().ended_elsewhere(_name(job), "failed", run=run, error=error)

    def handle_job_retry(self, job: rq.job.Job, *args: Any, **kwargs: Any) -> None:
        super().handle_job_retry(job, *args, **kwargs)  # type: ignore[misc]  # a mixin
        if job.get_status() == rq.job.JobStatus.FAILED:
            _jobs().end(job.id, error="retried too often")
        else:
            _jobs().leave(job.id)


def _is_started(job: rq.job.Job) -> bool:
    try:
        return job.get_status() == rq.job.JobStatus.STARTED
    except Exception:  # noqa: BLE001 - without the queue's Redis: what RQ believed last
        return True


def _abandoned(job: rq.job.Job, *_error: Any) -> None:
    _lost(job, "its worker has died")


def _lost(job: rq.job.Job, error: str) -> None:
    """Report a job whose process was killed. RQ tries it again when a worker finds it abandoned."""
    if job.should_retry:
        _jobs().queued(_name(job), _run(job, ahead=1))
    else:
        _jobs().ended_elsewhere(_name(job), "failed", run=_run(job), error=error)


def _function(job: rq.job.Job) -> Any:
    try:
        return job.func
    except Exception:  # noqa: BLE001 - it cannot be imported here
        return None


class Worker(_Reports, rq.Worker):
    """`rq.Worker` that reports its jobs."""


class SimpleWorker(_Reports, rq.SimpleWorker):
    """`rq.SimpleWorker` that reports its jobs."""


class SpawnWorker(_Reports, rq.worker.SpawnWorker):
    """`rq.SpawnWorker` that reports its jobs."""
