"""`announce`: what somebody who does not work on a job says of it.

Whoever hands out work knows of jobs that nobody works on: they are queued, or they have
been taken back. The word goes out by the same sender as the reports of workers. It may
touch the environment (`GATEWAY_URL`, `GATEWAY_TOKEN`, `GATEWAY_TOKEN_FILE`).
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any, Literal, get_args

from . import checks
from .checks import KEEP
from .job import Job
from .limits import NOTICE
from .notices import Notice
from .outcome import describe
from .publisher import Token
from .sender import sender_for

__all__ = ["announce"]

Announced = Literal["queued", "succeeded", "failed", "cancelled"]


def announce(
    name: str,
    *,
    status: Announced = "queued",
    run: str | None = None,
    error: BaseException | str | None = None,
    message: str | None = None,
    parent: Job | str | None = None,
    data: object = None,
    url: str | None = None,
    token: Token = None,
    traceparent: Callable[[], str | None] | str | None = None,
) -> None:
    """Say that the job `name` is queued, or how it ended without a word of its worker.

        announce("video:42")
        queue.put(42)  # its worker begins with Job("video:42")

    Microseconds, like `Job.update`: a thread sends it, within a minute or not at all, and
    nothing is raised but TypeError and ValueError for a wrong argument. It may arrive
    when the worker has long begun, or has ended: then `queued` changes nothing. For the
    same reason it changes nothing of a job that has ended before and is queued again,
    unless it names the `run` (1-64 characters, such as the id that the queue gave it) and
    the worker does too (`Job(name, run=…)`): then both mean the same, next attempt.
    `traceparent` is as for `Job`.
    """
    fields: dict[str, Any] = {"status": status}
    if status not in get_args(Announced):
        raise ValueError(f"status must be one of {', '.join(get_args(Announced))}: {status!r}")
    if run is not None:
        fields |= {"start": True, "run": checks.run("run", run)}
    if isinstance(error, BaseException):
        error = describe(error)
    if error is not None:
        fields["error"] = checks.text("error", error)
    if isinstance(parent, Job):
        parent = parent.name
    if parent is not None:
        fields["parent"] = checks.job_id("parent", parent)
    fields |= checks.said(
        message=KEEP if message is None else message, data=KEEP if data is None else data
    )
    if callable(traceparent):
        traceparent = traceparent()
    if traceparent is not None:
        fields["traceparent"] = checks.traceparent("traceparent", traceparent)
    notice = Notice(checks.job_id("name", name), fields, expires=monotonic() + NOTICE)
    sender_for(url, token).tell(notice)
