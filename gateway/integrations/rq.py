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
    anything but its worker                   the worker, at once
    a cold shutdown of its worker (a second   that worker, before it exits, although for RQ the
    SIGTERM)                                  job is still `started`
    what has killed its worker as well        the worker that finds the job abandoned

Each of them reports the job as failed, or, if RQ will try it again, as queued.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import rq
import rq.job
import rq.worker

from ..worker import process_state
from .rq_jobs import (
    function_of,
    is_started,
    name_of,
    report_abandoned,
    report_killed,
    run_of_try,
    task_jobs,
)

__all__ = ["Queue", "SimpleWorker", "SpawnWorker", "Worker"]


class Queue(rq.Queue):
    """`rq.Queue` that reports its jobs as queued."""

    def _enqueue_job(self, job: rq.job.Job, *args: Any, **kwargs: Any) -> Any:
        enqueued = super()._enqueue_job(job, *args, **kwargs)
        task_jobs().announce_queued(name_of(job), run_of_try(job))
        return enqueued

    def schedule_job(self, job: rq.job.Job, *args: Any, **kwargs: Any) -> Any:
        scheduled = super().schedule_job(job, *args, **kwargs)
        task_jobs().announce_queued(name_of(job), run_of_try(job))
        return scheduled


class _ReportingWorkerMixin:
    """Reports the jobs of a worker. `perform_job` runs in the work horse, the rest in the
    worker."""

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
            # A cold shutdown: RQ has killed the work horse, which may have ended just before.
            if self.horse_pid and not self.is_horse and is_started(job):
                report_killed(job, "its worker was shut down")
            raise

    def clean_registries(self) -> None:
        # RQ calls these handlers for the jobs that it finds abandoned, before it retries them.
        self.push_exc_handler(report_abandoned)
        try:
            super().clean_registries()  # type: ignore[misc]  # a mixin
        finally:
            self.pop_exc_handler()

    def prepare_job_execution(self, job: rq.job.Job, *args: Any, **kwargs: Any) -> None:
        super().prepare_job_execution(job, *args, **kwargs)  # type: ignore[misc]  # a mixin
        task_jobs().begin(job.id, name_of(job), run_of_try(job), function=function_of(job))

    def perform_job(self, job: rq.job.Job, *args: Any, **kwargs: Any) -> bool:
        try:
            done: bool = super().perform_job(job, *args, **kwargs)  # type: ignore[misc]  # a mixin
        finally:
            task_jobs().release(job.id)  # if its end was not reported
            process_state.flush_all()  # a work horse exits without `atexit`
        return done

    def handle_job_success(self, job: rq.job.Job, *args: Any, **kwargs: Any) -> None:
        super().handle_job_success(job, *args, **kwargs)  # type: ignore[misc]  # a mixin
        task_jobs().end(job.id, result=job._result, function=function_of(job))

    def handle_job_failure(self, job: rq.job.Job, *args: Any, **kwargs: Any) -> None:
        run = run_of_try(job)
        running = task_jobs().running_job(job.id)
        if running is not None and running.status == "cancelled":
            self._stopped_job_id = job.id  # like `rq.command`, so that it is not tried again
        was_stopped = getattr(self, "_stopped_job_id", None) == job.id
        will_retry = job.should_retry and not was_stopped
        super().handle_job_failure(job, *args, **kwargs)  # type: ignore[misc]  # a mixin
        traceback_lines = str(kwargs.get("exc_string") or "").strip().splitlines()
        error = traceback_lines[-1] if traceback_lines else "the worker's process ended"
        if will_retry:
            task_jobs().release(job.id)
            task_jobs().announce_queued(name_of(job), run_of_try(job))
        elif running is not None:
            task_jobs().end(job.id, error=error)
        elif was_stopped:
            task_jobs().announce_end(name_of(job), "cancelled", run=run, message="stopped")
        else:
            task_jobs().announce_end(name_of(job), "failed", run=run, error=error)

    def handle_job_retry(self, job: rq.job.Job, *args: Any, **kwargs: Any) -> None:
        super().handle_job_retry(job, *args, **kwargs)  # type: ignore[misc]  # a mixin
        if job.get_status() == rq.job.JobStatus.FAILED:
            task_jobs().end(job.id, error="retried too often")
        else:
            task_jobs().release(job.id)


class Worker(_ReportingWorkerMixin, rq.Worker):
    """`rq.Worker` that reports its jobs."""


class SimpleWorker(_ReportingWorkerMixin, rq.SimpleWorker):
    """`rq.SimpleWorker` that reports its jobs."""


class SpawnWorker(_ReportingWorkerMixin, rq.worker.SpawnWorker):
    """`rq.SpawnWorker` that reports its jobs."""
