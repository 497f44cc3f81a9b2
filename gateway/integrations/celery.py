"""Celery tasks as jobs: queued, running, retried, ended, also when their process is killed.

    app = Celery(...)
    report_tasks(app)


    @app.task(job="video:{video}")
    def encode(video: int) -> None:
        for frame in current_job().track(frames(video)):
            ...

`report_tasks` belongs where the app is made, so that whoever publishes a task and whoever
works on it both have it. The task's option `job` names its job: a text in which `{name}`
is an argument of the task; None reports nothing. Without it the job's name is the task's
id. What is published by name alone (`send_task`) shows when it runs, not when it is queued:
only the task itself knows what its job is called.

    Celery says                            in the process      the job
    -------------------------------------  ------------------  ----------------------------
    after_task_publish                     of the publisher    queued; a retry is the next
                                                               attempt
    task_prerun                            of the task         running
    task_postrun  SUCCESS, FAILURE         of the task         succeeded, failed
                  RETRY                    of the task         left to the next attempt
                  IGNORED, REJECTED        of the task         left: a task ends its job before
                                                               it raises Ignore, or another
                                                               task goes on with it
    task_failure  killed, out of time      the worker's main   failed
    task_revoked  terminated, expired too  the worker's main   cancelled

All of them may speak at once and be heard in any order, so they share a *run*, made of the
task's id and its retries: the gateway takes what they say for one attempt. Only a task
that Celery delivers again (its worker was lost) is a run of its own, so another attempt. A
try that was over before the gateway heard of it is not counted.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from inspect import signature
from typing import Any

from celery import Celery, current_task, signals

from ..worker import Job, announce, checks, process
from ..worker.limits import DEFAULT_LEASE, MAX_JOB_ID
from ..worker.publisher import Token
from ..worker.sender import sender_for

__all__ = ["current_job", "report_tasks"]

_log = logging.getLogger("gateway.worker")
_jobs: dict[str, Job] = {}
"""Those of the tasks that run in this process, by task id: one for each of its threads."""


def current_job() -> Job:
    """The job of the task that runs here. Raises LookupError if there is none.

    For a task that is called as a plain function (in a test, say) there is none either;
    `task.apply()` has one.
    """
    # Celery keeps the task that runs for each thread and greenlet.
    running = bool(current_task)  # it is a proxy, and false if there is none
    job = _jobs.get(current_task.request.id or "") if running else None
    if job is None:
        raise LookupError("no task that is reported as a job runs here")
    return job


def report_tasks(
    app: Celery,
    *,
    url: str | None = None,
    token: Token = None,
    lease: float = DEFAULT_LEASE,
    traceparent: Callable[[], str | None] | str | None = None,
) -> None:
    """Report the tasks of `app` from now on; the other arguments are as for `Job`.

    Raises TypeError or ValueError if one of them is wrong; later on, nothing. Nothing waits
    for the gateway but a process of the worker when it ends, for its last words.
    """
    sender_for(url, token)  # a wrong URL shows here, and not in every task
    if traceparent is not None and not callable(traceparent):
        checks.traceparent("traceparent", traceparent)
    to = {"url": url, "token": token, "traceparent": traceparent}
    tasks = _Tasks(app, to=to, lease=checks.lease("lease", lease))
    for signal, receiver in (
        (signals.after_task_publish, tasks.published),
        (signals.task_prerun, tasks.begins),
        (signals.task_postrun, tasks.ended),
        (signals.task_failure, tasks.failed),
        (signals.task_revoked, tasks.revoked),
        (signals.worker_process_shutdown, _flush),
    ):
        # Not weak: nobody else holds the receiver. Celery logs what a receiver raises.
        signal.connect(receiver, weak=False, dispatch_uid=f"gateway {id(app)} {receiver.__name__}")


class _Tasks:
    """The tasks of one app, as its signals tell of them."""

    def __init__(self, app: Celery, *, to: dict[str, Any], lease: float) -> None:
        self._app = app
        self._to = to
        self._lease = lease

    def published(self, sender: str, headers: Any, body: Any, **_: Any) -> None:
        task = self._app.tasks.get(sender)
        if task is None or "id" not in headers:  # or it is a message of Celery's old protocol
            return
        args, kwargs, _embedded = body
        name = _name(task, headers["id"], args, kwargs)
        if name is None:
            return
        run = _run(headers["id"], headers.get("retries"))
        running = _jobs.get(headers["id"])
        if running is not None and running.run != run:
            running.hand_over()  # the task itself publishes its retry
        announce(name, run=run, **self._to)

    def begins(self, task: Any, args: Any, kwargs: Any, **_: Any) -> None:
        request = task.request
        name = _name(task, request.id, args, kwargs)
        if task.app is not self._app or name is None:
            return
        again = (request.delivery_info or {}).get("redelivered")
        run = None if again else _run(request.id, request.retries)
        outer = _jobs.get(request.id)
        if outer is not None:
            outer.hand_over()  # it is retried within itself: by `apply`, or eagerly
        _jobs[request.id] = Job(name, run=run, lease=self._lease, **self._to)
        _jobs[request.id].update()

    def ended(self, task_id: str, state: str | None, retval: Any, **_: Any) -> None:
        job = _jobs.pop(task_id, None)
        if job is None:
            return
        if state == "SUCCESS":
            job.succeed()
        elif state == "FAILURE":
            job.fail(retval if isinstance(retval, BaseException) else str(retval))
        else:
            job.hand_over()

    def failed(
        self, sender: Any, task_id: str, exception: Exception, args: Any, kwargs: Any, **_: Any
    ) -> None:
        # Only what the task's own process cannot tell: `ended` has the rest.
        if task_id in _jobs or sender.app is not self._app:
            return
        name = _name(sender, task_id, args, kwargs)
        if name is not None:
            # Not which try it was: it is not known here in every case, and no other follows.
            announce(name, status="failed", error=exception, **self._to)

    def revoked(self, sender: Any, request: Any, expired: bool, **_: Any) -> None:
        name = _name(sender, request.id, request.args, request.kwargs)
        if sender.app is not self._app or name is None:
            return
        run = _run(request.id, request.retries)
        message = "expired" if expired else None
        announce(name, status="cancelled", run=run, message=message, **self._to)


def _flush(**_: Any) -> None:
    """A child of a prefork pool ends without `atexit`."""
    process.flush_all()


def _run(task_id: str, retries: int | None) -> str:
    return sha256(f"{task_id} {retries or 0}".encode()).hexdigest()


def _name(
    task: Any, task_id: str, args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None
) -> str | None:
    """The job of a task that is called with these arguments; None if it is to have none."""
    by_id = re.sub(r"[^\w.:/@-]", "-", task_id, flags=re.ASCII)[:MAX_JOB_ID]
    template = getattr(task, "job", by_id)
    if template is None or template is by_id:
        return template
    try:
        bound = signature(task.run).bind(*args or (), **kwargs or {})
        bound.apply_defaults()
        return checks.job_id("job", template.format(**bound.arguments))
    except Exception as error:  # noqa: BLE001 - a wrong template is no reason for a task to fail
        _log.warning("task %s: its id is its job's name, because of %r", task.name, error)
        return by_id
