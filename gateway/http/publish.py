"""Updates over HTTP: authorized, parsed, published. Used by the route of the ASGI application, and
by the fast path on the gateway's own port, which skips routing and middleware.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace
from starlette.exceptions import HTTPException
from starlette.requests import Request

from ..auth.permissions import Permissions
from ..brokers.base import PublishResult
from ..model.errors import GatewayError, InvalidInput, JobUnknown
from ..model.ids import check_job_id
from ..model.state import JobUpdate, Update
from ..model.statuses import HINTS
from ..model.traceparent import is_traceparent
from ..node.node import Node
from ..protocol.commands import parse_batch, parse_update
from ..transports.exchange import BATCH_PATH, Exchange
from ..transports.http1 import Direct
from .headers import HEADERS, MARK, GatewayHeaders
from .responses import problem_document, response_to, status_of, unavailable_detail

__all__ = ["direct_publishing", "publish", "publish_batch", "read_update"]

NOT_ALLOWED = "The token does not allow to publish on this job."
U = TypeVar("U", bound=Update)

_TARGET = re.compile(rb"/api/jobs/((?!.*/requests$)[\w.:/@+=~-]+)", re.ASCII)
"""A job's id in most paths: without a percent sign and without a query."""


def read_update(
    job: str, body: bytes, *, permissions: Permissions, traceparent: str | None
) -> Update:
    """The update in a request's body, if the sender may publish on `job`.

    `traceparent` is the request's header; it is used if the update has none. A malformed one is
    ignored (W3C Trace Context §4), since a proxy may have written it. So is one whose trace is
    not sampled, because no span would be recorded for it.

    Raises `InvalidInput`, and `HTTPException` (403).
    """
    check_job_id(job)
    if job not in permissions.publish:
        raise HTTPException(403, NOT_ALLOWED)
    return _traced(parse_update(body), traceparent)


def _traced(update: U, traceparent: str | None) -> U:
    if traceparent is None or update.traceparent is not None or not is_traceparent(traceparent):
        return update
    return replace(update, traceparent=traceparent) if int(traceparent[-2:], 16) & 1 else update


async def publish(node: Node, job: str, update: Update, *, publisher: str) -> dict[str, Any]:
    """Publish an update; returns the response document. `publisher` is who sent it: the subject
    of a token, or an address. Raises `BrokerUnavailable`, `JobUnknown`."""
    return _answer(node, await node.broker.publish(job, update, publisher=publisher))


async def publish_batch(
    node: Node,
    body: bytes,
    *,
    permissions: Permissions,
    publisher: str,
    traceparent: str | None,
) -> list[dict[str, Any]]:
    """Publish the updates in a request's body, a list; the documents that answer each. An update
    that is invalid, or that its sender may not publish, is answered with a problem; the others are
    published. Raises `InvalidInput` if the body is not a list of objects, or has too many.
    """
    answers: list[dict[str, Any]] = []
    allowed: list[tuple[str, JobUpdate]] = []
    places: list[int] = []
    for update in parse_batch(body, most=node.limits.max_batch):
        if isinstance(update, InvalidInput):
            problem = problem_document(400, str(update), field=update.field, code=update.code)
        elif update.job not in permissions.publish:
            problem = problem_document(403, NOT_ALLOWED)
        else:
            places.append(len(answers))
            allowed.append((update.job, _traced(update, traceparent)))
            problem = {}
        answers.append(problem)
    results = await node.broker.publish_many(allowed, publisher=publisher) if allowed else []
    for place, result in zip(places, results, strict=True):
        try:
            if isinstance(result, GatewayError):
                raise result
            answers[place] = _answer(node, result)
        except InvalidInput as error:
            answers[place] = problem_document(
                status_of(error), str(error), field=error.field, code=error.code
            )
        except GatewayError as error:
            answers[place] = problem_document(503, unavailable_detail(error))
    return answers


def _answer(node: Node, result: PublishResult) -> dict[str, Any]:
    """The document that answers an update. Raises `JobUnknown`."""
    node.counters.updates[result.reason or "applied"] += 1
    if result.reason == "unknown":
        raise JobUnknown
    answer: dict[str, Any] = {
        "epoch": result.position.epoch,
        "seq": result.position.seq,
        "attempt": result.attempt,
        "applied": result.applied,
    }
    if result.reason is not None:
        answer["reason"] = result.reason
        if result.reason in HINTS:
            answer["detail"] = HINTS[result.reason]
    if result.request is not None:
        answer["request"] = result.request
    return answer


def direct_publishing(node: Node) -> Direct:
    """Answers `POST /api/jobs/{job}` in its usual form, and leaves unusual or wrong requests to
    the application."""
    lines = {**HEADERS, MARK: node.name, "content-type": "application/json"}
    head = "".join(
        ["HTTP/1.1 200 OK\r\n", *(f"{name}: {text}\r\n" for name, text in lines.items())]
    ).encode()

    async def direct(exchange: Exchange) -> bool:
        target = _TARGET.fullmatch(exchange.target) if exchange.method == b"POST" else None
        in_batch = exchange.method == b"POST" and exchange.target == BATCH_PATH
        if target is None and not in_batch:
            return False
        headers = _usual(exchange)
        if headers is None:
            return False
        answer: Any
        try:
            permissions = await node.authenticator.authenticate(headers)
            if permissions is None:
                return False
            traceparent = headers.get("traceparent")
            if target is not None:
                job = target[1].decode()
                update = read_update(
                    job, exchange.body, permissions=permissions, traceparent=traceparent
                )
        except (GatewayError, HTTPException):
            return False
        try:
            publisher = permissions.subject or exchange.client
            if target is not None:
                answer = await publish(node, job, update, publisher=publisher)
            else:
                answer = await publish_batch(
                    node,
                    exchange.body,
                    permissions=permissions,
                    publisher=publisher,
                    traceparent=traceparent,
                )
            body = msgspec.json.encode(answer)
        except GatewayError as error:
            scope = exchange.scope()
            response = response_to(Request(scope), error, node.counters)
            await GatewayHeaders(response, node=node.name)(scope, exchange.receive, exchange.send)
        else:
            await exchange.answer_ok(head, body)
        return True

    return direct


def _usual(exchange: Exchange) -> Mapping[str, str] | None:
    """Its headers; None if it comes from a page (CORS), or has a header twice."""
    headers = {name.decode(): text.decode("latin-1") for name, text in exchange.headers}
    if "origin" in headers or len(headers) < len(exchange.headers):
        return None
    return headers
