"""Django's tasks, by the backport: its immediate backend runs them as they are enqueued."""

from __future__ import annotations

from typing import Any

from django.conf import settings

settings.configure(
    USE_TZ=True,
    TASKS={"default": {"BACKEND": "django_tasks.backends.immediate.ImmediateBackend"}},
)

from django_tasks import task  # noqa: E402 - Django must be configured first

from gateway.integrations.django_tasks import named, report_tasks  # noqa: E402 - as above

from . import work  # noqa: E402 - as above

report_tasks()


@task
@named("video:{video}")
def encode(video: str) -> None:
    work.encode(int(video))


@task
@named("broken")
def broken() -> None:
    work.fail()


@task
@named("threaded")
def threaded() -> None:
    work.from_a_helper_thread()


def submit(name: str, *args: Any) -> None:
    globals()[name].enqueue(*args)
