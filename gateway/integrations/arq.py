"""Reports arq's tasks as jobs. A decorator wraps each function, because arq's hooks do not get the
arguments.

@task("video:{video}")
async def encode(ctx: dict[str, Any], video: int) -> None:
    for frame in current_job().track(frames(video)):
        ...

class WorkerSettings:
    functions = [encode]


await enqueue(redis, encode, 42)  # redis.enqueue_job("encode", 42) is shown only when it runs
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cache, wraps
from typing import Any, TypeVar

from arq import Retry
from arq.worker import RetryJob

from .tasks import TaskJobs, current_job, named, run_of

__all__ = ["current_job", "enqueue", "task"]

F = TypeVar("F", bound=Callable[..., Awaitable[Any]])


@cache
def _jobs() -> TaskJobs:
    return TaskJobs()


def task(name: str | None = "", **options: Any) -> Callable[[F], F]:
    """Report the calls of an arq function as jobs. The arguments are as for `tasks.named`."""

    def decorate(function: F) -> F:
        if name != "" or options:
            function = named(name, **options)(function)

        @wraps(function)
        async def reported(ctx: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
            task_id, tried = ctx["job_id"], ctx["job_try"]
            called = _jobs().name(function, task_id, (ctx, *args), kwargs)
            _jobs().begin(task_id, called, run_of(task_id, tried - 1), function=function)
            try:
                result = await function(ctx, *args, **kwargs)
            except (Retry, RetryJob):
                _jobs().leave(task_id)
                _jobs().queued(called, run_of(task_id, tried))
                raise
            except BaseException as error:
                _jobs().end(task_id, error=error)
                raise
            _jobs().end(task_id, result=result, function=function)
            return result

        return reported  # type: ignore[return-value]  # it has the same arguments

    return decorate


async def enqueue(redis: Any, function: Any, *args: Any, **kwargs: Any) -> Any:
    """Call `redis.enqueue_job`, and report the job as queued. Returns arq's job."""
    queued = await redis.enqueue_job(function.__name__, *args, **kwargs)
    if queued is not None:  # None: it is queued already
        own = {name: v for name, v in kwargs.items() if not name.startswith("_")}
        name = _jobs().name(function, queued.job_id, (None, *args), own)
        _jobs().queued(name, run_of(queued.job_id))
    return queued
