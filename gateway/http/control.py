"""Requests to workers over HTTP: `POST /api/jobs/{job}/requests`.

A request to a group is also sent to the running jobs below it. The reducer sends it to jobs that
begin later (`model/requests.py`).

A request needs the permission `control`; tokens for watching or publishing only lack it. Pages of
other origins are refused as for all requests (`auth/origins.py`).
"""

from __future__ import annotations

import logging
from secrets import token_urlsafe
from typing import Any

from msgspec.structs import replace
from starlette.exceptions import HTTPException
from starlette.responses import Response

from ..auth.permissions import Permissions
from ..model.constants import MAX_GROUP_LEVELS
from ..model.errors import BrokerUnavailable
from ..model.ids import check_job_id
from ..model.state import Request, RequestUpdate
from ..node.node import Node
from ..protocol.commands import parse_job_request
from .responses import as_json, problem

__all__ = ["request_control"]

log = logging.getLogger("gateway.http")

REQUEST_BATCH_SIZE = 500
"""Children whose requests are published together."""
REFUSALS = {
    "not_accepted": "The job does not accept this request.",
    "final": "The job has ended.",
    "stale_attempt": "The job has begun another attempt.",
}


async def request_control(
    node: Node, job: str, body: bytes, *, permissions: Permissions
) -> Response:
    """Stores the request in `body` in the job's state, for its worker.

    Raises:
        InvalidInput: The body is not a request, or `job` is not a job id.
        HTTPException: The token does not allow it (403).
        BrokerUnavailable: The broker does not answer. The request may have been stored; sending
            it again with the same `id` is harmless.
    """
    check_job_id(job)
    if job not in permissions.control:
        raise HTTPException(403, "The token does not allow requests on this job.")
    body_request = parse_job_request(body)
    request = Request(
        id=body_request.id or token_urlsafe(12),
        verb=body_request.verb,
        args=body_request.args,
        by=permissions.subject,
        alone=_lacks_permission_below(job, permissions),
    )
    result = await node.broker.publish(
        job, RequestUpdate(request=request, attempt=body_request.attempt)
    )
    node.counters.job_requests[result.reason or "applied"] += 1
    log.info(
        "job request",
        extra={
            "job": job,
            "verb": body_request.verb,
            "id": request.id,
            "result": result.reason or "applied",
        }
        | ({"subject": permissions.subject} if permissions.subject else {}),
    )
    if result.reason == "unknown":
        return problem(404, "No worker has reported this job.", field="job")
    if result.reason in REFUSALS:
        return problem(409, REFUSALS[result.reason], code=result.reason)
    if result.applied or await _is_current(node, job, request.id):
        await _send_to_children(node, job, request, permissions=permissions)
    epoch, seq = result.position
    document: dict[str, Any] = {
        "id": request.id,
        "epoch": epoch,
        "seq": seq,
        "attempt": result.attempt,
        "applied": result.applied,
    }
    return as_json(document, status=202 if result.applied else 200)


async def _is_current(node: Node, job: str, request: str) -> bool:
    """Returns whether a request that was sent again is still the job's request. Then jobs below the
    group may lack it. If it was replaced, or there is a cancel, it must not be sent to them."""
    event = (await node.broker.read([job])).get(job)
    return bool(event and event.state.request and event.state.request.id == request)


def _lacks_permission_below(job: str, permissions: Permissions) -> bool:
    """Returns whether the token does not allow requests on all jobs that may begin below `job`."""
    return not permissions.control.covers(f"{job}/")


async def _send_to_children(
    node: Node, job: str, request: Request, *, permissions: Permissions
) -> None:
    """Sends the request to all running jobs below a group, level by level. A child that does not
    accept it, or has just ended, is skipped. If this fails in the middle, sending the request again
    with the same id reaches the remaining jobs."""
    groups = [job]
    for _ in range(MAX_GROUP_LEVELS):
        children = [
            child for group in groups for child in await node.broker.running_children(group)
        ]
        allowed = [child for child in children if child in permissions.control]
        for start in range(0, len(allowed), REQUEST_BATCH_SIZE):
            batch = allowed[start : start + REQUEST_BATCH_SIZE]
            results = await node.broker.publish_many(
                [
                    (
                        child,
                        RequestUpdate(
                            request=replace(
                                request, alone=_lacks_permission_below(child, permissions)
                            )
                        ),
                    )
                    for child in batch
                ]
            )
            for result in results:
                if isinstance(result, BrokerUnavailable):
                    raise result
        groups = children
        if not groups:
            return
