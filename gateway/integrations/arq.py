"""Reports arq's tasks as jobs. A decorator wraps each function, because arq's hooks do not get the
arguments.

@task("video:{video}")
async def encode(ctx: dict[str, Any], video: int) -> None:
    for frame in current_job().track(frames(video)):
        ...

class WorkerSettings:
    functions = [encode]


await enqueue(redis, encode, 42)  # redis.enqueue_job("encode", 42) is shown only when it runs

    how a try ends                            the job
    ----------------------------------------  -----------------------------------------------------
    it returns, or raises an exception        succeeded, failed
    `Retry`, or its worker shuts down         queued for its next try; failed if there is none
    it takes longer than its `timeout`        failed
    it is aborted (`Job.abort`)               cancelled

In the last three cases arq cancels the function. arq's worker has the information which case it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from functools import cache, wraps
from typing import Any, NamedTuple, TypeVar

from arq import Retry
from arq.worker import RetryJob, Worker

from .tasks import TaskJobs, current_job, named, run_of

__all__ = ["current_job", "enqueue", "task"]

F = TypeVar("F", bound=Callable[..., Awaitable[Any]])


class _TaskRun(NamedTuple):
    """The run of a task in a worker."""

    worker: Worker
    task: asyncio.Task[Any] | None
    """The asyncio task of `Worker.run_job`, which starts the function's task. It is cancelled if
    the worker shuts down."""

    def end_after(
        self, task_id: str, error: BaseException, function: Callable[..., Any], *, try_number: int
    ) -> BaseException | str | None:
        """Returns the error with which a task has ended after it raised `error`; None if arq will
        try it again. `Worker.run_job` decides it in the same way."""
        if not isinstance(error, Retry | RetryJob | asyncio.CancelledError):
            return error
        if isinstance(error, asyncio.CancelledError) and not _is_cancelling(self.task):
            if task_id in self.worker.aborting_tasks:
                return error
            if _is_cancelling(asyncio.current_task()):
                return "timed out"
        if not self.worker.retry_jobs:
            return error
        most = self._max_tries(function)
        return None if try_number < most else f"max tries ({most}) exceeded: {error!r}"

    def _max_tries(self, function: Callable[..., Any]) -> int:
        for registered in self.worker.functions.values():
            if registered.coroutine is function and registered.max_tries is not None:
                return int(registered.max_tries)
        return int(self.worker.max_tries)


def _is_cancelling(task: asyncio.Task[Any] | None) -> bool:
    return task is not None and task.cancelling() > 0


_current_run: ContextVar[_TaskRun | None] = ContextVar("gateway_arq_run", default=None)


def _patch_run_job() -> None:
    """Patches arq so that a task knows its worker, which arq does not pass to it."""
    patched: Any = Worker
    run_job = patched.run_job

    @wraps(run_job)
    async def run_job_and_remember(worker: Worker, *args: Any, **kwargs: Any) -> None:
        _current_run.set(_TaskRun(worker, asyncio.current_task()))
        await run_job(worker, *args, **kwargs)

    patched.run_job = run_job_and_remember


_patch_run_job()


@cache
def _task_jobs() -> TaskJobs:
    return TaskJobs()


def task(name: str | None = "", **options: Any) -> Callable[[F], F]:
    """Reports the calls of an arq function as jobs. The arguments are as for `tasks.named`."""

    def decorate(function: F) -> F:
        if name != "" or options:
            function = named(name, **options)(function)

        @wraps(function)
        async def wrapper(ctx: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
            task_id, tried = ctx["job_id"], ctx["job_try"]
            called = _task_jobs().name(function, task_id, (ctx, *args), kwargs)
            _task_jobs().begin(task_id, called, run_of(task_id, tried - 1), function=function)
            try:
                result = await function(ctx, *args, **kwargs)
            except BaseException as error:
                run = _current_run.get()
                end = (
                    error
                    if run is None
                    else run.end_after(task_id, error, wrapper, try_number=tried)
                )
                if end is not None:
                    _task_jobs().end(task_id, error=end)
                else:
                    _task_jobs().release(task_id)
                    _task_jobs().announce_queued(called, run_of(task_id, tried))
                raise
            _task_jobs().end(task_id, result=result, function=function)
            return result

        return wrapper  # type: ignore[return-value]  # it has the same arguments

    return decorate


async def enqueue(redis: Any, function: Any, *args: Any, **kwargs: Any) -> Any:
    """Calls `redis.enqueue_job`, and report the job as queued. Returns arq's job."""
    queued = await redis.enqueue_job(function.__name__, *args, **kwargs)
    if queued is not None:  # None: it is queued already
        task_kwargs = {name: v for name, v in kwargs.items() if not name.startswith("_")}
        name = _task_jobs().name(function, queued.job_id, (None, *args), task_kwargs)
        _task_jobs().announce_queued(name, run_of(queued.job_id))
    return queued
