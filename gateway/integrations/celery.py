"""Reports Celery tasks as jobs: queued, running, retried and ended, also if their process is
killed.

    app = Celery(...)
    report_tasks(app)


    @app.task(job="video:{video}")
    def encode(video: int) -> None:
        for frame in current_job().track(frames(video)):
            ...

Call `report_tasks` in the module that creates the app, so that the publishers and the workers of
tasks both call it. The task's option `job` is the name of its job, in which `{name}` is an argument
of the task; None reports nothing. Without it the job's id is the task's id. A task that is
published by name (`send_task`) is shown when it runs, not when it is queued, because only the task
itself has the option.

    Celery's event                         in the process      the job
    -------------------------------------  ------------------  ----------------------------
    after_task_publish                     of the publisher    queued; a retry is the next
                                                               attempt
    task_prerun                            of the task         running
    update_state(state, meta)              of the task         done, total: `meta["current"]`,
                                                               `meta["total"]`, and the message
    task_postrun  SUCCESS                  of the task         succeeded; failed if the option
                                                               `failed` or an `update_state`
                                                               of FAILURE says so
                  FAILURE                  of the task         failed
                  RETRY                    of the task         released for the next attempt
                  IGNORED                  of the task         unchanged if the task has ended it;
                                                               released if a task with the same
                                                               job replaces it; else cancelled
                  REJECTED                 of the task or the  failed, or released if requeued
                                           worker's main
                  none: `sys.exit()` in    of the task         failed (in a pool of processes the
                  a pool of threads                            main process reports it)
    task_failure  killed, out of time      the worker's main   failed
    task_revoked  terminated, expired too  the worker's main   cancelled
    revoke, of a task that waits there     the worker's main   cancelled, at once

With `accepts=["cancel"]` a request to cancel a job revokes its task. A pool of processes (or
greenlets) terminates it; in a pool of threads `track`, `advance` and `check` of its job raise
`Cancelled`. A queued task is revoked when a worker begins it, those of a cancelled group before
that (see `celery_revoke`).

`start_group` calls a group, chord or chain as one group of jobs (see `celery_groups`). Celery sends
no event for tasks that will not run any more: those after a failed task of a chain, and the body of
a chord with a failed task. They are cancelled when that task fails.

A task that was cancelled by a request (`named(accepts={"cancel"})`) is REVOKED for Celery.

These reports come from different processes and may arrive in any order, so they share a *run* (see
`gateway.integrations.tasks`). Only a task that Celery delivers again (because its worker was lost)
has a new run, so it is another attempt. A try that ends before it has reported
anything is not an attempt of the job.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial, wraps
from inspect import getattr_static
from time import monotonic
from typing import Any
from uuid import uuid4

from billiard import current_process
from celery import Celery, current_task, signals
from celery.backends.base import Backend
from celery.exceptions import Ignore, Reject

from ..model.constants import DEFAULT_LEASE
from ..worker import process_state
from ..worker.publisher import Token
from ..worker.requests import Cancelled, JobRequest
from .celery_groups import GROUP_HEADER, chain_of, child_id, group_of, start_group, unpublished
from .celery_revoke import Revocations, request_revocation
from .tasks import TaskJobs, current_job, named, run_of

__all__ = ["current_job", "named", "report_tasks", "start_group"]

_log = logging.getLogger("gateway.worker")
MAX_GROUPED = 10_000
"""The number of tasks whose group a worker's main process remembers: far more than it runs."""
META_KEYS = {"done": "current", "total": "total", "message": "message"}
"""The keys of `update_state` for the fields of the job."""


def report_tasks(
    app: Celery,
    *,
    url: str | None = None,
    token: Token = None,
    lease: float = DEFAULT_LEASE,
    traceparent: Callable[[], str | None] | str | None = None,
    meta: Mapping[str, str] = META_KEYS,
    accepts: Iterable[str] = (),
) -> None:
    """Reports the tasks of `app` from now on; the other arguments are as for `Job`.

    `meta` has the keys of `update_state` for `done`, `total`, `percent`, `message` and `phase`.
    `accepts` is `["cancel"]` if tasks may be revoked from their page. Tasks never wait for the
    gateway; a process of the worker waits when it exits, for unsent reports.

    Raises:
        TypeError, ValueError: An argument is invalid. Tasks raise nothing later.
    """
    jobs = TaskJobs(
        url=url,
        token=token,
        lease=lease,
        traceparent=traceparent,
        accepts=accepts,
        cancelled=_mark_revoked,
    )
    tasks = _Tasks(app, jobs, meta)
    for signal, receiver in (
        (signals.after_task_publish, tasks.on_published),
        (signals.task_received, tasks.on_received),
        (signals.task_prerun, tasks.on_prerun),
        (signals.task_postrun, tasks.on_postrun),
        (signals.task_failure, tasks.on_failure),
        (signals.task_revoked, tasks.on_revoked),
        (signals.worker_init, tasks.on_worker_init),
        (signals.worker_process_shutdown, _flush_reports),
    ):
        # Not weak, because there is no other reference. Celery logs exceptions of receivers.
        signal.connect(receiver, weak=False, dispatch_uid=f"gateway {id(app)} {receiver.__name__}")
    tasks.patch_update_state()
    tasks.patch_chord_errors()


class _Tasks:
    """Reports the tasks of one app, from its signals."""

    def __init__(self, app: Celery, jobs: TaskJobs, meta: Mapping[str, str]) -> None:
        self._app = app
        self._jobs = jobs
        self._meta = dict(meta)
        self._revocations = Revocations(
            lambda task: task.app is app and jobs.accepts_cancel(task.run),
            lambda request: self._report_cancelled(request.task, request, None),
        )
        self._replaced: set[str] = set()
        self._failures: dict[str, str] = {}
        self._group_by_task: dict[str, tuple[str, list[Any]]] = {}
        """The group and the rest of the chain, by task, of the last tasks that this worker has
        received."""

    def on_published(self, sender: str, headers: Any, body: Any, **_: Any) -> None:
        task = self._app.tasks.get(sender)
        if task is None or "id" not in headers:  # no id: a message of Celery's old protocol
            return
        args, kwargs, _embedded = body
        task_id = headers["id"]
        name = self._job_name(task, task_id, args, kwargs, group=headers.get(GROUP_HEADER))
        run = run_of(task_id, headers.get("retries"))
        running = self._jobs.running_job(task_id)
        if running is not None and running.run != run:
            self._jobs.release(task_id)  # the task publishes its own retry
        elif running is not None:
            if running.name == name:
                self._replaced.add(task_id)
            else:
                running.cancel(f"replaced by {name or sender}")
        self._jobs.announce_queued(name, run)

    def on_received(self, request: Any, **_: Any) -> None:
        group = group_of(request)
        if group is not None:
            self._group_by_task[request.id] = group, chain_of(request)
            if len(self._group_by_task) > MAX_GROUPED:
                del self._group_by_task[next(iter(self._group_by_task))]
            self._revocations.on_received(request)

    def on_prerun(self, task: Any, args: Any, kwargs: Any, **_: Any) -> None:
        request = task.request
        if task.app is self._app:
            again = bool((request.delivery_info or {}).get("redelivered"))
            run = run_of(request.id, request.retries, again=again)
            group = group_of(request)
            name = self._job_name(task, request.id, args, kwargs, group=group)
            in_threads = current_process().name == "MainProcess"
            self._jobs.begin(
                request.id,
                name,
                run,
                function=task.run,
                on_request=partial(
                    self._on_request,
                    request.id,
                    request.hostname,
                    group=group,
                    began=monotonic(),
                    terminate=not in_threads,
                ),
                interrupt=in_threads,
            )

    def _on_request(self, task_id: str, worker: str, received: JobRequest, **more: Any) -> None:
        """Handles a request to a task that runs here. Called in the thread that sends reports,
        which must not wait for Celery's broker."""
        if received.verb == "cancel":
            request_revocation(
                self._app,
                worker,
                lambda: self._jobs.running_job(task_id) is not None,
                task_id=task_id,
                request=received.id,
                **more,
            )

    def on_postrun(self, task: Any, task_id: str, state: str | None, retval: Any, **_: Any) -> None:
        running = self._jobs.running_job(task_id)
        replaced = task_id in self._replaced
        self._replaced.discard(task_id)
        failure = self._failures.pop(task_id, None)
        if running is None:
            return
        if state in ("FAILURE", "REJECTED", "IGNORED") and not replaced:
            outcome = "was cancelled" if running.status == "cancelled" else "failed"
            self._end_chain(chain_of(task.request), running.name, outcome)
        if state == "SUCCESS":
            self._jobs.end(task_id, error=failure, result=retval, function=_failure_test(task))
        elif state == "FAILURE":
            error = retval if isinstance(retval, BaseException) else str(retval)
            self._jobs.end(task_id, error=error)
        elif state == "IGNORED" and not replaced:
            running.cancel("ignored")  # unless the task has ended it
            self._jobs.end(task_id)
        elif state == "REJECTED" and not getattr(retval, "requeue", False):
            self._jobs.end(task_id, error=_error_of(retval))
        elif state is None and current_process().name == "MainProcess":
            leaving_error = sys.exc_info()[1]
            if isinstance(leaving_error, Cancelled):
                self._jobs.end(task_id, error=leaving_error)
            else:
                self._jobs.end(task_id, error=f"the task was ended by {leaving_error!r}")
        else:
            self._jobs.release(task_id)

    def on_failure(
        self, sender: Any, task_id: str, exception: Exception, args: Any, kwargs: Any, **_: Any
    ) -> None:
        # Only failures that the task's process cannot report; `on_postrun` reports the others.
        # Celery 5.7 sends this for a rejected task too, in the main process, so either report may
        # be first.
        if self._jobs.running_job(task_id) is None and sender.app is self._app:
            group, chain = self._group_by_task.get(task_id, (None, []))
            name = self._job_name(sender, task_id, args, kwargs, group=group)
            self._end_chain(chain, name, "failed")
            # Without a run, because the number of the try is not always known here. No try follows.
            self._jobs.announce_end(name, "failed", error=_error_of(exception))

    def on_worker_init(self, **_: Any) -> None:
        self._revocations.install()

    def on_revoked(self, sender: Any, request: Any, expired: bool, **_: Any) -> None:
        if sender.app is self._app:
            self._report_cancelled(sender, request, "expired" if expired else None)

    def patch_update_state(self) -> None:
        """Lets `update_state` of all tasks of the app update their jobs."""
        base: Any = self._app.Task
        update_state = base.update_state

        @wraps(update_state)
        def update_state_and_report(
            task: Any, task_id: Any = None, state: Any = None, meta: Any = None, **kwargs: Any
        ) -> None:
            update_state(task, task_id=task_id, state=state, meta=meta, **kwargs)
            self._on_state(task_id or task.request.id, state, meta)

        base.update_state = update_state_and_report

    def patch_chord_errors(self) -> None:
        """Reports the body of a chord that will not be called. Celery sends no signal for it."""
        base: Any = Backend
        fail_body = base.chord_error_from_stack

        @wraps(fail_body)
        def fail_body_and_report(backend: Any, callback: Any, *args: Any, **kwargs: Any) -> Any:
            if backend.app is self._app:
                self._end_unpublished([callback], "not run: a task of its chord did not succeed")
            return fail_body(backend, callback, *args, **kwargs)

        base.chord_error_from_stack = fail_body_and_report

    def _on_state(self, task_id: str, state: str | None, meta: Any) -> None:
        running = self._jobs.running_job(task_id)
        if running is None:
            return
        self._failures.pop(task_id, None)
        if state == "FAILURE":
            error_text = meta.get("exc_message") if isinstance(meta, Mapping) else meta
            self._failures[task_id] = str(error_text or "FAILURE")
        if not isinstance(meta, Mapping):
            return
        for field, key in self._meta.items():
            if meta.get(key) is not None:
                try:
                    values: dict[str, Any] = {field: meta[key]}
                    running.update(**values)
                except (TypeError, ValueError):
                    continue  # the application uses this key for something else

    def _report_cancelled(self, task: Any, request: Any, message: str | None) -> None:
        group = group_of(request)
        name = self._job_name(task, request.id, request.args, request.kwargs, group=group)
        again = (getattr(request, "delivery_info", None) or {}).get("redelivered")
        # If the task was delivered again, only its process knows the run.
        run = None if again else run_of(request.id, getattr(request, "retries", None))
        self._jobs.announce_end(name, "cancelled", run=run, message=message)
        self._end_chain(chain_of(request), name, "was cancelled")

    def _end_chain(self, chain: Sequence[Any], failed_task: str | None, outcome: str) -> None:
        """Cancels the rest of a chain after a task that has not succeeded."""
        name = (failed_task or "a task").rpartition("/")[2]
        self._end_unpublished(chain, f"not run: {name} {outcome}")

    def _end_unpublished(self, canvases: Sequence[Any], message: str) -> None:
        """Cancels the jobs of tasks that will not be called, if they are in a group. Other tasks
        have no job yet."""
        for signature in unpublished(self._app, canvases):
            group = (signature.options.get("headers") or {}).get(GROUP_HEADER)
            task = self._app.tasks.get(signature.task)
            if group is not None and task is not None:
                args = (
                    signature.args if signature.immutable else (None, *signature.args)
                )  # the result before it
                task_id = signature.options.get("task_id") or str(uuid4())
                name = self._job_name(task, task_id, args, signature.kwargs, group=group)
                # Without a run, so that the task, if it runs nevertheless, starts the next attempt.
                self._jobs.announce_end(name, "cancelled", message=message)

    def _job_name(
        self,
        task: Any,
        task_id: str,
        args: Sequence[Any] | None,
        kwargs: Mapping[str, Any] | None,
        *,
        group: str | None,
    ) -> str | None:
        template = getattr(task, "job", "")
        return child_id(group, self._jobs.name(task.run, task_id, args, kwargs, template=template))


def _failure_test(task: Any) -> Any:
    """Returns a function whose `__gateway_failed__` decides whether a result is a failure: one with
    the task's option `failed`, or the task's own (`@named`)."""
    failed = getattr_static(task, "failed", None)
    return named("", failed=failed)(lambda: None) if callable(failed) else task.run


def _error_of(error: Any) -> Any:
    """Returns the text of a rejection, the same in each process; any other error unchanged."""
    reason = getattr(error, "reason", None)
    return f"rejected: {reason or error}" if isinstance(error, Reject) else error


def _mark_revoked() -> Ignore:
    """Tells Celery that the current task was cancelled. Returns the exception that it must
    raise."""
    task: Any = current_task
    keep = not task.ignore_result or task.store_errors_even_if_ignored
    task.backend.mark_as_revoked(
        task.request.id, "cancelled by request", request=task.request, store_result=keep
    )
    return Ignore("cancelled by request")


def _flush_reports(**_: Any) -> None:
    """Sends due reports, because a child of a prefork pool exits without `atexit`."""
    process_state.flush_all()
