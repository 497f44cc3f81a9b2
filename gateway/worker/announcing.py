"""`announce`, the public function that sends an update of a job from a program that is not its
worker. (`announcement_queue` keeps such updates until they are sent.)

A program that distributes work uses it for jobs that have no worker: they are queued, or they were
withdrawn. The same sender that sends the reports of workers sends the update. The module reads the
environment (`PROGRESS_GATEWAY_URL`, `PROGRESS_GATEWAY_TOKEN`, `PROGRESS_GATEWAY_TOKEN_FILE`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any, Literal, get_args

from . import checks
from .announcement_queue import Announcement
from .checks import KEEP, Keep
from .final_state import error_text
from .limits import ANNOUNCEMENT_LIFETIME
from .publisher import Token
from .sender import sender_for

__all__ = ["announce"]

AnnouncedStatus = Literal["queued", "succeeded", "failed", "cancelled"]


def announce(
    name: str,
    *,
    status: AnnouncedStatus = "queued",
    run: str | None = None,
    error: BaseException | str | None = None,
    message: str | None = None,
    children: float | Keep | None = KEEP,
    weight: float | None = None,
    accepts: Iterable[str] = (),
    data: object = None,
    url: str | None = None,
    token: Token = None,
    traceparent: Callable[[], str | None] | str | None = None,
) -> None:
    """Reports that the job `name` is queued, or how it ended without a report of its worker.

        announce("video:42")
        queue.put(42)  # its worker begins with Job("video:42")

    Takes microseconds, like `Job.update`: a thread sends it, within a minute or not at all. It
    raises only TypeError and ValueError, for an invalid argument. If it arrives after the worker
    has begun or ended, `queued` changes nothing. So it also changes nothing if a job that has ended
    is queued again, unless both this call and the worker (`Job(name, run=…)`) give the same `run`
    (1-64 characters, such as the id of the queue's task). Then both belong to the next attempt.
    `children`, `weight`, `accepts` and `traceparent` are as for `Job`.
    """
    fields: dict[str, Any] = {"status": status}
    if status not in get_args(AnnouncedStatus):
        raise ValueError(
            f"status must be one of {', '.join(get_args(AnnouncedStatus))}: {status!r}"
        )
    if run is not None:
        fields |= {"start": True, "run": checks.run("run", run)}
    if isinstance(error, BaseException):
        error = error_text(error)
    if error is not None:
        fields["error"] = checks.text("error", error)
    if children is not KEEP:
        fields["children"] = checks.children("children", children)
    if weight is not None:
        fields["weight"] = checks.weight("weight", weight)
    if verbs := checks.accepts("accepts", accepts):
        fields["accepts"] = list(verbs)
    fields |= checks.texts_and_data(
        message=KEEP if message is None else message, data=KEEP if data is None else data
    )
    if callable(traceparent):
        traceparent = traceparent()
    if traceparent is not None:
        fields["traceparent"] = checks.traceparent("traceparent", traceparent)
    announcement = Announcement(
        checks.job_id("name", name), fields, expires=monotonic() + ANNOUNCEMENT_LIFETIME
    )
    sender_for(url, token).announce(announcement)
