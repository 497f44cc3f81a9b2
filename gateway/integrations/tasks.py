"""The common part of the adapters for task queues: names, runs, and the job of the current task.

Several processes report a task: its publisher, its worker, and the process that notices that the
worker has died. Their reports may arrive in any order, so they share a *run*, made of the task's id
and the number of its try. The gateway takes reports with the same run as one attempt, and rejects
reports of an earlier try after those of a later one.

    event                                 the job
    ------------------------------------  ------------------------------------------------
    it is enqueued, or will be retried    `announce_queued`, with the run of that try
    a worker begins                       `begin`: running
    it has returned                       `end`: succeeded, or failed according to `failed`
    it has raised an exception            `end`: failed; a cancellation is cancelled
    it has raised, and will be retried    `release`: the next try continues
    it was cancelled by a request         `named` catches `Cancelled`: cancelled; the queue does
                                          not retry it
    its worker has died, it was revoked   `announce_end`

This module is public, so other adapters can be written with it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from hashlib import sha256
from inspect import iscoroutinefunction, signature
from secrets import token_hex
from typing import Any, Literal, TypeVar

from ..model.constants import DEFAULT_LEASE
from ..model.ids import job_id
from ..worker import Cancelled, Job, announce, checks
from ..worker.final_state import final_state_after
from ..worker.publisher import Token
from ..worker.requests import JobRequest
from ..worker.sender import sender_for

__all__ = ["TaskJobs", "as_current_job", "current_job", "named", "run_of"]

_log = logging.getLogger("gateway.worker")
_current_job: ContextVar[Job | None] = ContextVar("gateway_job", default=None)
_cancelled_exception: ContextVar[Callable[[], BaseException] | None] = ContextVar(
    "gateway_raised", default=None
)
"""Creates the exception that the current task raises if it is cancelled."""
_running_jobs: dict[object, Job] = {}
"""The jobs of the tasks that are running in this process, by the id of the task."""

F = TypeVar("F", bound=Callable[..., Any])
FailureTest = Callable[[Any], BaseException | str | bool | None]


def current_job() -> Job:
    """Returns the job of the current task. In the task's helper threads it works if the process
    runs only one task.

    Raises:
        LookupError: No task that is reported as a job is running here. For example, a test has
            called the task as a plain function.
    """
    job = _current_job.get()
    if job is None and len(_running_jobs) == 1:
        job = next(iter(_running_jobs.values()), None)  # a helper thread has no context of its own
    if job is None:
        raise LookupError("no task that is reported as a job is running here")
    return job


@contextmanager
def as_current_job(job: Job) -> Iterator[None]:
    """Makes `job` the current one inside the block."""
    token = _current_job.set(job)
    _running_jobs[id(job)] = job
    try:
        yield
    finally:
        del _running_jobs[id(job)]
        _current_job.reset(token)


def named(
    name: str | None,
    *,
    failed: FailureTest | None = None,
    accepts: Iterable[str] = (),
    interrupt: bool = False,
) -> Callable[[F], F]:
    """Sets the id of a task's job, the requests that it accepts, and which results are failures.

        @named("video:{video}", failed=lambda result: result.get("error"))
        def encode(video: int) -> dict[str, str]: ...

    `{video}` is an argument of the function. With the name None the task is not reported. `failed`
    is called with the result, and returns whether it is a failure, or the reason as a text or an
    exception. Put this decorator directly above the function, below the decorator of the queue.

        @named("video:{video}", accepts={"cancel"}, interrupt=True)

    `accepts` and `interrupt` are as for `Job`. The queue does not retry a task that has raised
    `Cancelled`.

    Raises:
        TypeError, ValueError: `accepts` is invalid.
    """
    verbs = checks.accepts("accepts", accepts)

    def decorate(function: F) -> F:
        task: Any = _handles_cancelled(function) if "cancel" in verbs else function
        task.__gateway_job__ = name
        task.__gateway_failed__ = failed
        task.__gateway_options__ = {"accepts": verbs, "interrupt": interrupt}
        return task  # type: ignore[no-any-return]  # it has the same arguments

    return decorate


def _handles_cancelled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a wrapper of `function` that raises, in place of `Cancelled`, the exception of its
    queue."""

    @wraps(function)
    async def async_wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return await function(*args, **kwargs)
        except Cancelled as cancelled:
            _end_cancelled(cancelled)

    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Cancelled as cancelled:
            _end_cancelled(cancelled)

    return async_wrapper if iscoroutinefunction(function) else wrapper


def _end_cancelled(cancelled: Cancelled) -> None:
    try:
        current_job().cancel()
    except LookupError:  # it was called as a plain function
        raise cancelled from None
    new_exception = _cancelled_exception.get()
    if new_exception is not None:
        raise new_exception()


def run_of(task_id: str, tried: int | None = 0, *, again: bool = False) -> str:
    """Returns the run of a try (0: the first) of a task. A try that is delivered `again`, because
    its worker was lost, gets a new run.

    The gateway rejects the reports of an earlier try after those of a later one.
    """
    name = sha256(task_id.encode()).hexdigest()[:32]
    return f"{name}#{tried or 0}" + (f"~{token_hex(8)}" if again else "")


class TaskJobs:
    """Reports the tasks of one app. The arguments are as for `Job`.

    `cancelled` creates the exception that a task raises after it was cancelled by a request.
    Without it such a task returns None.

    Raises:
        TypeError, ValueError: An argument is invalid. After construction no exception is
            raised: an error in one task is logged, and that task is not reported.
    """

    def __init__(
        self,
        *,
        url: str | None = None,
        token: Token = None,
        lease: float = DEFAULT_LEASE,
        traceparent: Callable[[], str | None] | str | None = None,
        accepts: Iterable[str] = (),
        cancelled: Callable[[], BaseException] | None = None,
    ) -> None:
        self._accepts = checks.accepts("accepts", accepts)
        sender_for(url, token)  # raises for an invalid URL here, and not in every task
        if traceparent is not None and not callable(traceparent):
            checks.traceparent("traceparent", traceparent)
        self._gateway_options: dict[str, Any] = {
            "url": url,
            "token": token,
            "traceparent": traceparent,
        }
        self._lease = checks.lease("lease", lease)
        self._cancelled_exception = cancelled

    def name(
        self,
        function: Callable[..., Any] | None,
        task_id: str,
        args: Sequence[Any] | None = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        template: str | None = "",
    ) -> str | None:
        """Returns the id of the job of a task with these arguments; None if it must not be
        reported.

        `template` is the value of the queue's own option, if it has one. If it is empty, the id
        comes from `@named`, and without that it is the task's id.
        """
        if template == "":
            template = getattr(function, "__gateway_job__", "")
        if template is None:
            return None
        if template == "":
            return job_id(task_id)
        try:
            values: dict[str, Any] = dict(kwargs or {})
            if function is not None:
                bound = signature(function).bind(*args or (), **kwargs or {})
                bound.apply_defaults()
                values = bound.arguments
            return checks.job_id("job", template.format(**values))
        except Exception as error:  # noqa: BLE001 - an invalid template must not fail the task
            _log.warning(
                "task %s: cannot make the job's id, using the task's id: %r", task_id, error
            )
            return job_id(task_id)

    def accepts_cancel(self, function: Callable[..., Any] | None) -> bool:
        """Returns whether the job of a task with this function accepts a request to cancel it."""
        function_options = getattr(function, "__gateway_options__", {})
        return "cancel" in (function_options.get("accepts") or self._accepts)

    def announce_queued(self, name: str | None, run: str) -> None:
        """Reports that the task waits for a worker, or for its next try."""
        if name is not None:
            announce(name, run=run, accepts=self._accepts, **self._gateway_options)

    def begin(
        self,
        key: object,
        name: str | None,
        run: str | None,
        *,
        function: Callable[..., Any] | None = None,
        on_request: Callable[[JobRequest], object] | None = None,
        interrupt: bool = False,
    ) -> Job | None:
        """Begins the task's job here. `key` identifies the task in this process until `end`.

        If `named` has set what `function` accepts, the task handles requests itself. Otherwise
        `on_request` is called with each request, and `interrupt` is as for `Job`.
        """
        if name is None:
            return None
        outer = _running_jobs.get(key)
        if outer is not None:
            outer.release()  # the task is retried inside itself
        function_options = getattr(function, "__gateway_options__", {})
        if function_options.get("accepts"):
            job = Job(name, run=run, lease=self._lease, **function_options, **self._gateway_options)
        else:
            options: dict[str, Any] = {"accepts": self._accepts, "interrupt": interrupt}
            job = Job(name, run=run, lease=self._lease, **options, **self._gateway_options)
            if on_request is not None:
                job.on_request(on_request)
        _running_jobs[key] = job
        _current_job.set(job)
        _cancelled_exception.set(self._cancelled_exception)
        job.update()
        return job

    def end(
        self,
        key: object,
        *,
        error: BaseException | str | None = None,
        result: object = None,
        function: Callable[..., Any] | None = None,
    ) -> None:
        """Ends the task's job, with `error`, or with `result`, which may mean a failure."""
        job = self._remove(key)
        if job is None:
            return
        is_failure = getattr(function, "__gateway_failed__", None)
        if error is None and is_failure is not None:
            try:
                failure = is_failure(result)
            except Exception as failed_error:  # noqa: BLE001 - a defect of the application must not fail the task
                _log.warning("job %s: failed() raised %r", job.name, failed_error)
                failure = None
            error = "the result is a failure" if failure is True else failure or None
        if isinstance(error, str):
            job.fail(error)
        elif error is None:
            job.succeed()
        elif final_state_after(error).status == "cancelled":
            job.cancel()
        else:
            job.fail(error)

    def release(self, key: object) -> None:
        """Releases the task's job, because its next try or another task continues it."""
        job = self._remove(key)
        if job is not None:
            job.release()

    def announce_end(
        self,
        name: str | None,
        status: Literal["failed", "cancelled"],
        *,
        run: str | None = None,
        error: BaseException | str | None = None,
        message: str | None = None,
    ) -> None:
        """Reports the end of a task whose worker cannot do so, because it has died or never
        began."""
        if name is not None:
            announce(
                name, status=status, run=run, error=error, message=message, **self._gateway_options
            )

    def running_job(self, key: object) -> Job | None:
        """Returns the job of a task that is running in this process; None if it is not."""
        return _running_jobs.get(key)

    def _remove(self, key: object) -> Job | None:
        job = _running_jobs.pop(key, None)
        if _current_job.get() is job:
            _current_job.set(None)
        return job
