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
from typing import Any

import rq
import rq.job
import rq.worker

from ..worker import process_state
from .rq_jobs import abandoned, function_of, is_started, jobs, lost, name_of, try_of

__all__ = ["Queue", "SimpleWorker", "SpawnWorker", "Worker"]


class Queue(rq.Queue):
    """`rq.Queue` that reports its jobs as queued."""

    def _enqueue_job(self, job: rq.job.Job, *args: Any, **kwargs: Any) -> Any:
        enqueued = super()._enqueue_job(job, *args, **kwargs)
        jobs().queued(name_of(job), try_of(job))
        return enqueued

    def schedule_job(self, job: rq.job.Job, *args: Any, **kwargs: Any) -> Any:
        scheduled = super().schedule_job(job, *args, **kwargs)
        jobs().queued(name_of(job), try_of(job))
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
            if self.horse_pid and not self.is_horse and is_started(job):
                lost(job, "its worker was shut down")
            raise

    def clean_registries(self) -> None:
        # RQ calls these handlers for the jobs that it finds abandoned, before it retries them.
        self.push_exc_handler(abandoned)
        try:
            super().clean_registries()  # type: ignore[misc]  # a mixin
        finally:
            self.pop_exc_handler()

    def prepare_job_execution(self, job: rq.job.Job, *args: Any, **kwargs: Any) -> None:
        super().prepare_job_execution(job, *args, **kwargs)  # type: ignore[misc]  # a mixin
        jobs().begin(job.id, name_of(job), try_of(job), function=function_of(job))

    def perform_job(self, job: rq.job.Job, *args: Any, **kwargs: Any) -> bool:
        try:
            done: bool = super().perform_job(job, *args, **kwargs)  # type: ignore[misc]  # a mixin
        finally:
            jobs().leave(job.id)  # if its end was not reported
            process_state.flush_all()  # a work horse exits without `atexit`
        return done

    def handle_job_success(self, job: rq.job.Job, *args: Any, **kwargs: Any) -> None:
        super().handle_job_success(job, *args, **kwargs)  # type: ignore[misc]  # a mixin
        jobs().end(job.id, result=job._result, function=function_of(job))

    def handle_job_failure(self, job: rq.job.Job, *args: Any, **kwargs: Any) -> None:
        run = try_of(job)
        running = jobs().running(job.id)
        if running is not None and running.status == "cancelled":
            self._stopped_job_id = job.id  # as by `rq.command`: it is not tried again
        stopped = getattr(self, "_stopped_job_id", None) == job.id
        again = job.should_retry and not stopped
        super().handle_job_failure(job, *args, **kwargs)  # type: ignore[misc]  # a mixin
        why = str(kwargs.get("exc_string") or "").strip().splitlines()
        error = why[-1] if why else "the worker's process ended"
        if again:
            jobs().leave(job.id)
            jobs().queued(name_of(job), try_of(job))
        elif running is not None:
            jobs().end(job.id, error=error)
        elif stopped:
            jobs().ended_elsewhere(name_of(job), "cancelled", run=run, message="stopped")
        else:
            jobs().ended_elsewhere(name_of(job), "failed", run=run, error=error)

    def handle_job_retry(self, job: rq.job.Job, *args: Any, **kwargs: Any) -> None:
        super().handle_job_retry(job, *args, **kwargs)  # type: ignore[misc]  # a mixin
        if job.get_status() == rq.job.JobStatus.FAILED:
            jobs().end(job.id, error="retried too often")
        else:
            jobs().leave(job.id)


class Worker(_Reports, rq.Worker):
    """`rq.Worker` that reports its jobs."""


class SimpleWorker(_Reports, rq.SimpleWorker):
    """`rq.SimpleWorker` that reports its jobs."""


class SpawnWorker(_Reports, rq.worker.SpawnWorker):
    """`rq.SpawnWorker` that reports its jobs."""
