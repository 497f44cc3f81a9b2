"""Reports Django's tasks (`django.tasks`, or its backport `django-tasks`) as jobs, with signals.

    # apps.py
    class VideosConfig(AppConfig):
        def ready(self) -> None:
            report_tasks()

    # tasks.py
    @task
    @named("video:{video}")
    def encode(video: int) -> None:
        for frame in current_job().track(frames(video)):
            ...

`named` and `current_job` are in `gateway.integrations.tasks`. Call `report_tasks` in the processes
that enqueue tasks and in those that run them.
"""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from typing import Any

from .tasks import TaskJobs, current_job, named, run_of

__all__ = ["current_job", "named", "report_tasks"]


def report_tasks(**options: Any) -> None:
    """Reports all tasks of this process from now on; the arguments are those of `TaskJobs`.

    Raises:
        ImportError: Neither Django 6 nor `django-tasks` is installed.
    """
    tasks = _Tasks(TaskJobs(**options))
    installed = False
    for module in ("django.tasks.signals", "django_tasks.signals"):
        with suppress(ImportError):
            signals = import_module(module)
            for signal, receiver in (
                (signals.task_enqueued, tasks.on_enqueued),
                (signals.task_started, tasks.on_started),
                (signals.task_finished, tasks.on_finished),
            ):
                signal.connect(receiver, weak=False, dispatch_uid=f"gateway {receiver.__name__}")
            installed = True
    if not installed:
        raise ImportError("django.tasks (Django 6) or django-tasks is needed")


class _Tasks:
    """Reports the tasks of this process, from Django's signals."""

    def __init__(self, jobs: TaskJobs) -> None:
        self._jobs = jobs

    def on_enqueued(self, task_result: Any, **_: Any) -> None:
        self._jobs.announce_queued(self._job_name(task_result), run_of(task_result.id))

    def on_started(self, task_result: Any, **_: Any) -> None:
        name, function = self._job_name(task_result), task_result.task.func
        self._jobs.begin(task_result.id, name, run_of(task_result.id), function=function)

    def on_finished(self, task_result: Any, **_: Any) -> None:
        errors = task_result.errors
        if str(task_result.status).rpartition(".")[2].upper() != "FAILED":
            result = getattr(task_result, "_return_value", None)
            self._jobs.end(task_result.id, result=result, function=task_result.task.func)
            return
        reason = errors[-1].traceback.strip().splitlines()[-1] if errors else "failed"
        self._jobs.end(task_result.id, error=reason)

    def _job_name(self, task_result: Any) -> str | None:
        function = task_result.task.func
        return self._jobs.name(function, task_result.id, task_result.args, task_result.kwargs)
