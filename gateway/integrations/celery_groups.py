"""Reports Celery's groups, chords and chains as one group of jobs, with one bar for all tasks.

    result = start_group("batch:1", group(encode.s(video) for video in videos))

The tasks are children of the group: `batch:1/video:42`. Each task's message has the group's name in
a header, so its retries and its worker have it too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from celery.canvas import Signature, maybe_signature

from ..worker import announce
from ..worker.publisher import Token

__all__ = ["chain_of", "child_of", "group_of", "start_group", "tasks_of", "unpublished"]

HEADER = "gateway_group"
"""The header of a message with the group of its task."""


def start_group(
    name: str,
    canvas: Signature[Any],
    *,
    url: str | None = None,
    token: Token = None,
    traceparent: Callable[[], str | None] | str | None = None,
    accepts: Iterable[str] = (),
    **options: Any,
) -> Any:
    """Calls a group, chord or chain (also one within another) as the group `name`.

    The tasks must belong to an app that `report_tasks` was called with. A task with `job=None` is
    never reported, so the group would wait for it for ever. Each call needs a new `name`, because a
    group does not start again.

    Args:
        name: The id of the group.
        canvas: The signature to call. It is copied, not changed.
        url, token, traceparent: As for `Job`.
        accepts: The requests that the group accepts. They are sent to those of its tasks that
            accept them (`report_tasks(accepts=…)` or `named(accepts=…)`), also to those that begin
            later.
        options: Passed to `apply_async`, whose result is returned.

    Raises:
        TypeError: `canvas` is not a Celery signature.
        Exception: An exception of `apply_async`. Then the group fails with its text.
    """
    if not isinstance(canvas, Signature):
        raise TypeError(f"canvas must be a signature of Celery, not {type(canvas).__name__}")
    copy = canvas.clone()
    tasks = list(tasks_of(copy))
    for task in tasks:
        headers = dict(task.options.get("headers") or {})
        task.set(headers=headers | {HEADER: name})
    report = partial(announce, name, url=url, token=token, traceparent=traceparent)
    report(children=len(tasks), accepts=accepts)
    try:
        return copy.apply_async(**options)
    except BaseException as error:  # without tasks nothing else would end the group
        report(status="failed", error=error)
        raise


def group_of(request: Any) -> str | None:
    """The group of a task, from its request (in the worker or in the task)."""
    found = getattr(request, HEADER, None)
    for source in ("request_dict", "headers"):
        more = getattr(request, source, None)
        if found is None and isinstance(more, dict):
            found = more.get(HEADER)
    return found if isinstance(found, str) else None


def chain_of(request: Any) -> list[Any]:
    """What a chain has after a task, by its request as a worker or the task itself has it."""
    found = getattr(request, "chain", None)
    if found is None and hasattr(request, "message"):
        found = request.message.payload[2].get("chain")
    return found or []


def child_of(group: str | None, name: str | None) -> str | None:
    """The id of a task's job in this group. Slashes in its name are replaced: they would nest
    it."""
    return name if group is None or name is None else f"{group}/{name.replace('/', ':')}"


def tasks_of(canvas: Any) -> Iterator[Any]:
    """The individual tasks of a canvas."""
    kind = canvas.get("subtask_type")
    if kind not in ("group", "chain", "chord"):
        yield canvas
        return
    for task in canvas.tasks:
        yield from tasks_of(task)
    if kind == "chord" and canvas.body is not None:
        yield from tasks_of(canvas.body)


def unpublished(app: Any, canvases: Iterable[Any]) -> Iterator[Any]:
    """The single tasks of canvases that will not be called, and of what is chained to them."""
    for one in canvases:
        canvas: Any = maybe_signature(one, app=app)
        yield from tasks_of(canvas)
        yield from unpublished(app, canvas.options.get("chain") or ())
