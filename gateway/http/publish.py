"""Authorizes, parses and publishes updates that arrive over HTTP. Used by the route of the ASGI
application, and by the fast path on the gateway's own port, which skips routing and middleware.
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
from .headers import HEADERS, NODE_HEADER, GatewayHeaders
from .responses import problem_document, response_to, status_of, unavailable_detail

__all__ = ["direct_publishing", "publish", "publish_batch", "read_update"]

NOT_ALLOWED = "The token does not allow its client to publish on this job."
U = TypeVar("U", bound=Update)

_TARGET = re.compile(rb"/api/jobs/((?!.*/requests$)[\w.:/@+=~-]+)", re.ASCII)
"""A usual path with a job's id: without a percent sign and without a query."""


def read_update(
    job: str, body: bytes, *, permissions: Permissions, traceparent: str | None
) -> Update:
    """Returns the update in a request's body, if the sender may publish on `job`.

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
    """Publishes an update; returns the response document. `publisher` is the sender: the subject of
    a token, or an address. Raises `BrokerUnavailable` and `JobUnknown`."""
    return _document(node, await node.broker.publish(job, update, publisher=publisher))


async def publish_batch(
    node: Node,
    body: bytes,
    *,
    permissions: Permissions,
    publisher: str,
    traceparent: str | None,
) -> list[dict[str, Any]]:
    """Publishes the updates in a request's body, which is a list; returns a document for each. If
    an update is invalid, or its sender may not publish it, its document is a problem; the others
    are published. Raises `InvalidInput` if the body is not a list of objects, or has too many."""
    documents: list[dict[str, Any]] = []
    allowed: list[tuple[str, JobUpdate]] = []
    indexes: list[int] = []
    for update in parse_batch(body, maximum=node.limits.max_batch):
        if isinstance(update, InvalidInput):
            problem = problem_document(400, str(update), field=update.field, code=update.code)
        elif update.job not in permissions.publish:
            problem = problem_document(403, NOT_ALLOWED)
        else:
            indexes.append(len(documents))
            allowed.append((update.job, _traced(update, traceparent)))
            problem = {}
        documents.append(problem)
    results = await node.broker.publish_many(allowed, publisher=publisher) if allowed else []
    for index, result in zip(indexes, results, strict=True):
        try:
            if isinstance(result, GatewayError):
                raise result
            documents[index] = _document(node, result)
        except InvalidInput as error:
            documents[index] = problem_document(
                status_of(error), str(error), field=error.field, code=error.code
            )
        except GatewayError as error:
            documents[index] = problem_document(503, unavailable_detail(error))
    return documents


def _document(node: Node, result: PublishResult) -> dict[str, Any]:
    """Returns the response document for an update. Raises `JobUnknown`."""
    node.counters.updates[result.reason or "applied"] += 1
    if result.reason == "unknown":
        raise JobUnknown
    document: dict[str, Any] = {
        "epoch": result.position.epoch,
        "seq": result.position.seq,
        "attempt": result.attempt,
        "applied": result.applied,
    }
    if result.reason is not None:
        document["reason"] = result.reason
        if result.reason in HINTS:
            document["detail"] = HINTS[result.reason]
    if result.request is not None:
        document["request"] = result.request
    return document


def direct_publishing(node: Node) -> Direct:
    """Returns a function that answers `POST /api/jobs/{job}` and `POST /api/jobs` in their usual
    form, and leaves unusual or wrong requests to the application."""
    lines = {**HEADERS, NODE_HEADER: node.name, "content-type": "application/json"}
    head = "".join(
        ["HTTP/1.1 200 OK\r\n", *(f"{name}: {text}\r\n" for name, text in lines.items())]
    ).encode()

    async def direct(exchange: Exchange) -> bool:
        job_match = _TARGET.fullmatch(exchange.target) if exchange.method == b"POST" else None
        is_batch = exchange.method == b"POST" and exchange.target == BATCH_PATH
        if job_match is None and not is_batch:
            return False
        headers = _unique_headers(exchange)
        if headers is None:
            return False
        document: Any
        try:
            permissions = await node.authenticator.authenticate(headers)
            if permissions is None:
                return False
            traceparent = headers.get("traceparent")
            if job_match is not None:
                job = job_match[1].decode()
                update = read_update(
                    job, exchange.body, permissions=permissions, traceparent=traceparent
                )
        except (GatewayError, HTTPException):
            return False
        try:
            publisher = permissions.subject or exchange.client
            if job_match is not None:
                document = await publish(node, job, update, publisher=publisher)
            else:
                document = await publish_batch(
                    node,
                    exchange.body,
                    permissions=permissions,
                    publisher=publisher,
                    traceparent=traceparent,
                )
            body = msgspec.json.encode(document)
        except GatewayError as error:
            scope = exchange.scope()
            response = response_to(Request(scope), error, node.counters)
            await GatewayHeaders(response, node=node.name)(scope, exchange.receive, exchange.send)
        else:
            await exchange.answer_ok(head, body)
        return True

    return direct


def _unique_headers(exchange: Exchange) -> Mapping[str, str] | None:
    """Returns the request's headers; None if it comes from a page (CORS), or has a header twice."""
    headers = {name.decode(): text.decode("latin-1") for name, text in exchange.headers}
    if "origin" in headers or len(headers) < len(exchange.headers):
        return None
    return headers
