"""A middleware that reports taskiq's tasks as jobs.

    broker = RedisStreamBroker(url).with_middlewares(JobMiddleware())

    @broker.task
    @named("video:{video}")
    async def encode(video: int) -> None:
        for frame in current_job().track(frames(video)):
            ...

`named` and `current_job` are in `gateway.integrations.tasks`. Add it before a middleware that
retries.
"""

from __future__ import annotations

from typing import Any

from taskiq import TaskiqMessage, TaskiqMiddleware, TaskiqResult

from .tasks import TaskJobs, current_job, named, run_of

__all__ = ["JobMiddleware", "current_job", "named"]


class JobMiddleware(TaskiqMiddleware):
    """Reports tasks as jobs. The arguments are those of `tasks.TaskJobs`."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self._jobs = TaskJobs(**options)

    def post_send(self, message: TaskiqMessage) -> None:
        """The task was sent, perhaps again."""
        self._jobs.release(message.task_id)  # a retry is sent while its try ends
        self._jobs.announce_queued(self._job_name(message), _run(message))

    def pre_execute(self, message: TaskiqMessage) -> TaskiqMessage:
        """A worker begins to work on the task."""
        function = self._function(message)
        self._jobs.begin(message.task_id, self._job_name(message), _run(message), function=function)
        return message

    def post_save(self, message: TaskiqMessage, result: TaskiqResult[Any]) -> None:
        """The task has ended, and will not be retried."""
        function = self._function(message)
        error = result.error if result.is_err else None
        if result.is_err and error is None:
            error = RuntimeError("failed")
        self._jobs.end(message.task_id, error=error, result=result.return_value, function=function)

    def _function(self, message: TaskiqMessage) -> Any:
        task = self.broker.find_task(message.task_name)
        return None if task is None else task.original_func

    def _job_name(self, message: TaskiqMessage) -> str | None:
        function = self._function(message)
        return self._jobs.name(function, message.task_id, message.args, message.kwargs)


def _run(message: TaskiqMessage) -> str:
    return run_of(message.task_id, int(message.labels.get("_retries", 0)))
