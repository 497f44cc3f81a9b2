"""The HTTP side: updates in, states out, events as SSE, the page. See `docs/protocol.md`.

Every error is a problem (RFC 9457) that names what was wrong; nothing of the inside is
in it.
"""

from __future__ import annotations

import logging
from contextlib import aclosing
from http import HTTPStatus
from typing import Any, cast, get_args

import msgspec
import trio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from .errors import BrokerUnavailable, InvalidInput
from .job import STATUSES, Event, check_job_id
from .limits import Limits
from .node import Node
from .outbox import Outbox
from .page import SecurityHeaders, page_files
from .protocol import Mode, parse_update
from .transports.http import ASGIApp, Receive, Scope, Send
from .transports.sse import parse_event_id, serve_events

__all__ = ["create_http_app"]

log = logging.getLogger("gateway.api")

MAX_WAIT = 60.0  # seconds: what most proxies let a request idle
MAX_PAGE = 200
DEFAULT_PAGE = 50


def create_http_app(node: Node) -> ASGIApp:
    """The HTTP application of a node, page included."""
    api = _Api(node)
    return Starlette(
        routes=[
            Route("/api/jobs", api.list_jobs),
            Route("/api/jobs/{job:path}", api.publish, methods=["POST"]),
            Route("/api/jobs/{job:path}", api.read, methods=["GET"]),
            Route("/api/events", api.events),
            Route("/healthz", api.health),
            Route("/readyz", api.readiness),
            Mount("/", page_files()),
        ],
        middleware=[Middleware(SecurityHeaders)],
        exception_handlers={
            InvalidInput: _invalid,
            HTTPException: _http_error,
            ClientDisconnect: _gone,
            BrokerUnavailable: _unavailable,
            Exception: _defect,
        },
    )


class _Api:
    """The endpoints, over one node."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def publish(self, request: Request) -> Response:
        job = check_job_id(request.path_params["job"])
        update = parse_update(await _body(request, self._node.limits))
        receipt = await self._node.broker.publish(job, update)
        answer: dict[str, Any] = {
            "epoch": receipt.position.epoch,
            "seq": receipt.position.seq,
            "attempt": receipt.attempt,
            "applied": receipt.applied,
        }
        if receipt.reason is not None:
            answer["reason"] = receipt.reason
        return _json(answer)

    async def read(self, request: Request) -> Response:
        job = check_job_id(request.path_params["job"])
        known = _tags(request.headers.get("if-none-match", ""))
        wait = _number(request, "wait", default=0.0, most=MAX_WAIT)
        event = (await self._node.broker.read([job])).get(job)
        if wait and (event is None or _etag(event) in known):
            event = await self._next(request, job, event, wait) or event
        if event is None:
            return _problem(404, "No worker has reported this job.", field="job")
        headers = {"etag": _etag(event), "cache-control": "no-cache"}
        if _etag(event) in known:
            return Response(status_code=304, headers=headers)
        return _json(_document(event), headers=headers)

    async def _next(
        self, request: Request, job: str, event: Event | None, wait: float
    ) -> Event | None:
        """The first event newer than `event`; None if there is none for `wait` seconds, or
        before the client is gone or is to go."""
        outbox = Outbox(self._node.limits)
        subscription = self._node.hub.subscribe(
            job, outbox, position=event.position if event else None
        )
        latest: Event | None = None
        try:
            with trio.move_on_after(wait):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_cancel_when_gone, request, nursery.cancel_scope)
                    nursery.start_soon(_cancel_when_set, self._node.leaving, nursery.cancel_scope)
                    while latest is None or (event and latest.position <= event.position):
                        await outbox.receive()
                        latest = subscription.topic.latest
                    nursery.cancel_scope.cancel()
                return latest
        finally:
            self._node.hub.unsubscribe(subscription)
        return None

    async def list_jobs(self, request: Request) -> Response:
        query = request.query_params
        status = query.get("status") or None
        if status is not None and status not in STATUSES:
            raise InvalidInput(f"status is none of {', '.join(STATUSES)}", field="status")
        limit = _number(request, "limit", default=DEFAULT_PAGE, most=MAX_PAGE)
        if limit < 1 or limit != int(limit):
            raise InvalidInput("limit is not a whole number above 0", field="limit")
        page = await self._node.broker.recent(
            prefix=query.get("prefix", ""),
            status=status,
            limit=int(limit),
            after=query.get("after") or None,
        )
        return _json(
            {"jobs": [_document(event) for event in page.events], "next": page.next},
            headers={"cache-control": "no-cache"},
        )

    async def events(self, request: Request) -> Response:
        jobs = list(dict.fromkeys(request.query_params.getlist("job")))
        most = self._node.limits.max_jobs_per_stream
        if not 1 <= len(jobs) <= most:
            raise InvalidInput(f"name 1 to {most} jobs: ?job=a&job=b", field="job")
        for job in jobs:
            check_job_id(job)
        mode = cast("Mode", request.query_params.get("mode", "latest"))
        if mode not in get_args(Mode):
            raise InvalidInput("mode is neither latest nor every", field="mode")
        positions = parse_event_id(jobs, request.headers.get("last-event-id"))

        async def stream(scope: Scope, receive: Receive, send: Send) -> None:
            await serve_events(receive, send, node=self._node, positions=positions, mode=mode)

        return _Streamed(stream)

    async def health(self, request: Request) -> Response:
        return _json({"status": "ok", "node": self._node.name})

    async def readiness(self, request: Request) -> Response:
        reason = self._node.not_ready
        if reason is not None:
            return _problem(503, f"This node is {reason}.")
        return _json({"status": "ready", "node": self._node.name})


class _Streamed(Response):
    """A response that an ASGI callable writes: it drives a nursery, which a generator,
    the usual way, cannot."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__()
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


async def _cancel_when_gone(request: Request, scope: trio.CancelScope) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


async def _cancel_when_set(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


async def _body(request: Request, limits: Limits) -> bytes:
    """The whole request body, within its limits of size and time."""
    body = bytearray()
    try:
        with trio.fail_after(limits.body_timeout):
            async with aclosing(request.stream()) as chunks:
                async for chunk in chunks:
                    body += chunk
                    if len(body) > limits.max_body:
                        raise HTTPException(413, f"The body is over {limits.max_body} bytes.")
    except trio.TooSlowError:
        raise HTTPException(408, f"The body took over {limits.body_timeout:g} s.") from None
    return bytes(body)


def _number(request: Request, name: str, *, default: float, most: float) -> float:
    text = request.query_params.get(name)
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= most:
        raise InvalidInput(f"{name} is not a number from 0 to {most:g}", field=name)
    return value


def _document(event: Event) -> dict[str, Any]:
    epoch, seq = event.position
    return {"job": event.job, "epoch": epoch, "seq": seq, "state": event.state}


def _etag(event: Event) -> str:
    return '"{}-{}"'.format(*event.position)


def _tags(header: str) -> set[str]:
    """The tags of an If-None-Match (RFC 9110 §13.1.2; weak comparison)."""
    return {tag.strip().removeprefix("W/") for tag in header.split(",")}


def _json(
    document: Any,
    *,
    status: int = 200,
    headers: dict[str, str] | None = None,
    media_type: str = "application/json",
) -> Response:
    return Response(msgspec.json.encode(document), status, headers, media_type)


def _problem(
    status: int,
    detail: str,
    *,
    field: str | None = None,
    code: str | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    """An RFC 9457 problem: `type` is about:blank, so `title` is the status's own."""
    document: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    if code is not None:
        document["code"] = code
    if field is not None:
        document["field"] = field
    return _json(document, status=status, headers=headers, media_type="application/problem+json")


def _invalid(request: Request, error: Exception) -> Response:
    invalid = cast("InvalidInput", error)
    return _problem(400, str(invalid), field=invalid.field, code=invalid.code)


def _http_error(request: Request, error: Exception) -> Response:
    refused = cast("HTTPException", error)
    headers = dict(refused.headers) if refused.headers else None
    return _problem(refused.status_code, refused.detail, headers=headers)


def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=400)  # nobody reads it: the client left in mid-request


def _unavailable(request: Request, error: Exception) -> Response:
    return _problem(503, "The broker does not answer; try again.", headers={"retry-after": "1"})


def _defect(request: Request, error: Exception) -> Response:
    # Starlette raises it again after this answer, so that it reaches the log.
    return _problem(500, "A defect of the gateway; its log has the reason.")
