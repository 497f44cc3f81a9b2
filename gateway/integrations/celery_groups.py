"""Reports Celery's groups, chords and chains as one group of jobs, with one bar for all tasks.

    result = start_group("batch:1", group(encode.s(video) for video in videos))

The tasks are children of the group: `batch:1/video:42`. Each task's message has the group's name in
a header, so its retries and its worker have the name too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from celery.canvas import Signature, maybe_signature

from ..worker import announce
from ..worker.publisher import Token

__all__ = ["chain_of", "child_id", "group_of", "start_group", "tasks_of", "unpublished"]

GROUP_HEADER = "gateway_group"
"""The header of a task's message that contains the name of its group."""


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
        task.set(headers=headers | {GROUP_HEADER: name})
    report = partial(announce, name, url=url, token=token, traceparent=traceparent)
    report(children=len(tasks), accepts=accepts)
    try:
        return copy.apply_async(**options)
    except BaseException as error:  # without tasks nothing else would end the group
        report(status="failed", error=error)
        raise


def group_of(request: Any) -> str | None:
    """Returns the group of a task, from its request (in the worker or in the task)."""
    group = getattr(request, GROUP_HEADER, None)
    for source in ("request_dict", "headers"):
        headers = getattr(request, source, None)
        if group is None and isinstance(headers, dict):
            group = headers.get(GROUP_HEADER)
    return group if isinstance(group, str) else None


def chain_of(request: Any) -> list[Any]:
    """Returns the signatures that follow a task in its chain, from its request (in the worker or in
    the task)."""
    chain = getattr(request, "chain", None)
    if chain is None and hasattr(request, "message"):
        chain = request.message.payload[2].get("chain")
    return chain or []


def child_id(group: str | None, name: str | None) -> str | None:
    """Returns the id of a task's job in this group. Slashes in the task's name are replaced,
    because each would add a level below the group."""
    return name if group is None or name is None else f"{group}/{name.replace('/', ':')}"


def tasks_of(canvas: Any) -> Iterator[Any]:
    """Yields the individual tasks of a canvas."""
    kind = canvas.get("subtask_type")
    if kind not in ("group", "chain", "chord"):
        yield canvas
        return
    for task in canvas.tasks:
        yield from tasks_of(task)
    if kind == "chord" and canvas.body is not None:
        yield from tasks_of(canvas.body)


def unpublished(app: Any, canvases: Iterable[Any]) -> Iterator[Any]:
    """Yields the individual tasks of canvases that will not be called, and of those chained to
    them."""
    for signature in canvases:
        canvas: Any = maybe_signature(signature, app=app)
        yield from tasks_of(canvas)
        yield from unpublished(app, canvas.options.get("chain") or ())
