"""A decorator: each call of a function is a job.

    @job("video:{video}", unit="frames")
    def encode(video: int) -> None:
        for frame in current_job().track(frames(video)):
            ...

It is for functions that no task queue calls: FastAPI's `BackgroundTasks`, threads, scripts, cron.
It works with plain and `async` functions; in Trio and asyncio a cancellation ends the job as
cancelled.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import iscoroutinefunction, signature
from typing import Any, TypeVar

from ..worker import Job, checks
from .tasks import as_current_job, current_job

__all__ = ["current_job", "job"]

F = TypeVar("F", bound=Callable[..., Any])


def job(name: str, **options: Any) -> Callable[[F], F]:
    """Runs each call as the job `name`, in which `{x}` is the argument `x` of the function.

    Args:
        name: The id of the job, such as `"video:{video}"`.
        options: As for `Job`: `total`, `unit`, `lease`, `url`, `token`, …

    Raises:
        ValueError: The arguments of a call do not make a valid job id.

    Cancellation: the job ends as cancelled, and the exception is raised.
    """

    def decorate(function: F) -> F:
        parameters = signature(function)

        def new_job(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Job:
            bound = parameters.bind(*args, **kwargs)
            bound.apply_defaults()
            return Job(checks.job_id("name", name.format(**bound.arguments)), **options)

        @wraps(function)
        async def async_wrapper(*args: Any, **kwargs: Any) -> Any:
            async with new_job(args, kwargs) as job:
                with as_current_job(job):
                    return await function(*args, **kwargs)

        @wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with new_job(args, kwargs) as job, as_current_job(job):
                return function(*args, **kwargs)

        return async_wrapper if iscoroutinefunction(function) else wrapper  # type: ignore[return-value]  # the same arguments

    return decorate
