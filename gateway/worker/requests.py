"""Requests to a running job, such as to cancel it, as the worker receives them.

A worker receives a request with the result of its next update, within `REQUEST_POLL_INTERVAL` if
its job accepts any. `request_handler` handles it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["Cancelled", "JobRequest", "parse_request"]


class Cancelled(BaseException):
    """A client has requested to cancel this job.

    It is not an `Exception`, like the cancellations of asyncio and Trio, so that code that handles
    errors does not catch it. If a job's block ends with it, the job ends as `cancelled`.
    """


class JobRequest(NamedTuple):
    """A request to a job."""

    id: str
    verb: str
    """`cancel`, `pause`, `resume`, or a verb of the application."""
    args: Any = None
    by: str | None = None
    """The subject of the sender's token."""
    at: float | None = None
    """When the gateway received it, in Unix seconds."""


def parse_request(fields: Mapping[str, Any] | None) -> JobRequest | None:
    """Returns the request in a result of the gateway; None if there is none."""
    if fields is None or not isinstance(fields.get("id"), str):
        return None
    known_fields = {name: fields[name] for name in JobRequest._fields if name in fields}
    return JobRequest(**{"verb": ""} | known_fields)
