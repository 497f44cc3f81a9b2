"""A middleware that reports Dramatiq's messages as jobs.

    broker.add_middleware(JobMiddleware())

    @dramatiq.actor
    @named("video:{video}")
    def encode(video: int) -> None:
        for frame in current_job().track(frames(video)):
            ...

`named` and `current_job` are in `gateway.integrations.tasks`. Add the middleware before actors are
declared, in the processes that send messages and in those that process them.
"""

from __future__ import annotations

from typing import Any

import dramatiq

from .tasks import TaskJobs, current_job, named, run_of

__all__ = ["JobMiddleware", "current_job", "named"]


class JobMiddleware(dramatiq.Middleware):
    """Reports messages as jobs. The arguments are those of `tasks.TaskJobs`."""

    def __init__(self, **options: Any) -> None:
        self._jobs = TaskJobs(**options)
        self._errors: dict[str, BaseException] = {}

    def after_enqueue(self, broker: Any, message: Any, delay: int) -> None:
        """The message was sent, perhaps again."""
        self._jobs.announce_queued(self._job_name(broker, message), self._run(message))

    def before_process_message(self, broker: Any, message: Any) -> None:
        """A worker begins to work on the message."""
        self._jobs.begin(
            message.message_id,
            self._job_name(broker, message),
            self._run(message),
            function=self._function(broker, message),
        )

    def after_process_message(
        self, broker: Any, message: Any, *, result: Any = None, exception: Any = None
    ) -> None:
        """The actor has returned or raised. `after_ack` decides whether it will be retried."""
        if exception is None:
            self._jobs.end(
                message.message_id, result=result, function=self._function(broker, message)
            )
        else:
            self._errors[message.message_id] = exception

    def after_skip_message(self, broker: Any, message: Any) -> None:
        """Another middleware has skipped the message."""
        name, run = self._job_name(broker, message), self._run(message)
        self._jobs.release(message.message_id)
        self._jobs.announce_end(name, "cancelled", run=run, message="skipped")

    def after_ack(self, broker: Any, message: Any) -> None:
        """The message has ended, or its retry was sent."""
        if self._errors.pop(message.message_id, None) is not None:
            self._jobs.release(message.message_id)

    def after_nack(self, broker: Any, message: Any) -> None:
        """The message has failed permanently."""
        error = self._errors.pop(message.message_id, None) or "rejected"
        self._jobs.end(message.message_id, error=error)

    @staticmethod
    def _function(broker: Any, message: Any) -> Any:
        try:
            return broker.get_actor(message.actor_name).fn
        except dramatiq.ActorNotFound:
            return None

    def _job_name(self, broker: Any, message: Any) -> str | None:
        function = self._function(broker, message)
        return self._jobs.name(function, message.message_id, message.args, message.kwargs)

    @staticmethod
    def _run(message: Any) -> str:
        return run_of(message.message_id, message.options.get("retries"))
