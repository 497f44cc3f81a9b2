"""The HTTP API: updates in, states out, events as SSE, the page. See `docs/protocol.md`.

Endpoints raise errors; `responses` turns them into problem documents.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from math import inf
from typing import Any, cast, get_args

import trio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route

from ..auth.origins import Origins
from ..auth.permissions import Permissions
from ..brokers.base import Page
from ..model.addresses import network_of
from ..model.constants import MAX_NUMBER, MIN_HZ
from ..model.errors import InvalidInput, Unauthorized
from ..model.ids import check_job_id
from ..model.state import STATUSES, Event, Position
from ..node.node import Node
from ..protocol.close_codes import FORBIDDEN_ORIGIN
from ..protocol.commands import Mode
from ..transports.asgi_types import ASGIApp, Receive, Scope, Send
from ..transports.sse import parse_event_id, serve_events
from . import waiting
from .control import request_control
from .endpoints import ENDPOINTS
from .headers import NODE_HEADER, GatewayHeaders
from .history import history_after
from .publish import publish, publish_batch, read_update
from .request_values import (
    address_of,
    body_of,
    check_query,
    count_in,
    number_in,
    revocation_in,
    tags_in,
)
from .responses import as_json, handlers, problem
from .sets import read_set, sets_in
from .static import static_files

__all__ = ["MAX_PAGE", "MAX_WAIT", "create_http_app"]

log = logging.getLogger("gateway.http")

MAX_WAIT = 60.0  # seconds of `?wait=`: most proxies allow a request to be idle that long
MAX_PAGE = 200
DEFAULT_PAGE = 50
MAX_LIST_WAIT = 10.0  # seconds that a list may wait for other lists: as long as the page waits


def create_http_app(
    node: Node, *, endpoints: Collection[str] = ENDPOINTS, internal: bool = False
) -> ASGIApp:
    """Returns the HTTP application of a node, with these `ENDPOINTS`. `internal`: whether it serves
    the internal address, where `/metrics` needs no token."""
    api = _Api(node, internal=internal)
    routes: list[BaseRoute] = [
        Route("/api/jobs", api.jobs, methods=["GET", "POST"])
        if "publish" in endpoints
        else Route("/api/jobs", api.list_jobs, methods=["GET"]),
        Route("/api/jobs/{job:path}/events", api.history, methods=["GET"]),
        *(
            [Route("/api/jobs/{job:path}/requests", api.request, methods=["POST"])]
            if "publish" in endpoints
            else []
        ),
        Route("/api/jobs/{job:path}", api.job, methods=["GET", "POST"])
        if "publish" in endpoints
        else Route("/api/jobs/{job:path}", api.read, methods=["GET"]),
        Route("/api/events", api.events),
        Route("/api/sets", api.read_set, methods=["GET"]),
        Route("/healthz", api.health),
        Route("/readyz", api.readiness),
    ]
    if node.authenticator.keys is not None:
        routes.append(Route("/api/revocations", api.revoke, methods=["POST"]))
    if "metrics" in endpoints:
        routes.append(Route("/metrics", api.metrics))
    if "page" in endpoints:
        routes.append(Mount("/", static_files()))
    return Starlette(
        routes=routes,
        middleware=[
            Middleware(GatewayHeaders, node=node.name),
            *_for_other_origins(node.authenticator.origins),
        ],
        exception_handlers=handlers(node.counters),
    )


def _for_other_origins(origins: Origins) -> list[Middleware]:
    """Returns the middleware with the CORS headers that allow pages of the listed origins to read
    responses."""
    if not origins.listed and not origins.every:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=["*"] if origins.every else sorted(origins.listed),
            allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type", "if-none-match", "last-event-id"],
            expose_headers=["date", "etag", "retry-after", NODE_HEADER],
        )
    ]


class _Api:
    """The endpoints of one node."""

    def __init__(self, node: Node, *, internal: bool) -> None:
        self._node = node
        self._is_internal = internal

    async def _authenticate(self, request: Request) -> Permissions:
        """Returns the client's permissions, and stores them in the request. Raises
        `Unauthorized`."""
        authenticator = self._node.authenticator
        permissions = await authenticator.authenticate(request.headers)
        if permissions is None:
            raise Unauthorized("A token is required: Authorization: Bearer …")
        request.scope["permissions"] = permissions
        return permissions

    async def job(self, request: Request) -> Response:
        # One route for both methods, so that a 405 response names both.
        return await (self.publish if request.method == "POST" else self.read)(request)

    async def publish(self, request: Request) -> Response:
        permissions = await self._authenticate(request)
        check_query(request)
        job = request.path_params["job"]
        update = read_update(
            job,
            await body_of(request, self._node.limits),
            permissions=permissions,
            traceparent=request.headers.get("traceparent"),
        )
        publisher = _publisher(request, permissions)
        return as_json(await publish(self._node, job, update, publisher=publisher))

    async def jobs(self, request: Request) -> Response:
        # One route for both methods, so that a 405 response names both.
        return await (self.publish_batch if request.method == "POST" else self.list_jobs)(request)

    async def publish_batch(self, request: Request) -> Response:
        permissions = await self._authenticate(request)
        check_query(request)
        body = await body_of(request, self._node.limits, maximum=self._node.limits.max_batch_body)
        return as_json(
            await publish_batch(
                self._node,
                body,
                permissions=permissions,
                publisher=_publisher(request, permissions),
                traceparent=request.headers.get("traceparent"),
            )
        )

    async def history(self, request: Request) -> Response:
        if not request.scope["raw_path"].endswith(b"/events"):
            # The slash is part of the job's id: the client sent it as %2F.
            request.path_params["job"] += "/events"
            return await self.read(request)
        permissions = await self._authenticate(request)
        check_query(request, "epoch", "after")
        job = check_job_id(request.path_params["job"])
        epoch = count_in(request, "epoch", default=0, maximum=MAX_NUMBER)
        seq = count_in(request, "after", default=0, maximum=MAX_NUMBER)
        broker = self._node.broker
        head = (await broker.read([job])).get(job) if job in permissions.watch else None
        if head is None:
            return _unknown_job()
        after = Position(head.position.epoch, 0 if epoch not in (0, head.position.epoch) else seq)
        stored = await broker.history(job, after=after)
        return as_json(
            history_after(head, stored, after=after, bytes_left=self._node.limits.list_bytes),
            headers={"cache-control": "no-cache"},
        )

    async def request(self, request: Request) -> Response:
        if not request.scope["raw_path"].endswith(b"/requests"):
            # The slash is part of the job's id: the client sent it as %2F.
            request.path_params["job"] += "/requests"
            return await self.publish(request)
        permissions = await self._authenticate(request)
        check_query(request)
        body = await body_of(request, self._node.limits)
        return await request_control(
            self._node, request.path_params["job"], body, permissions=permissions
        )

    async def read(self, request: Request) -> Response:
        permissions = await self._authenticate(request)
        check_query(request, "wait")
        job = check_job_id(request.path_params["job"])
        known = tags_in(request.headers.get("if-none-match", ""))
        wait = number_in(request, "wait", default=0.0, maximum=MAX_WAIT)
        if job not in permissions.watch:
            if wait:  # wait as for a job that was never reported
                await waiting.wait_for(
                    trio.sleep_forever, request, self._node, permissions=permissions, timeout=wait
                )
            return _unknown_job()
        event = (await self._node.broker.read([job])).get(job)
        if wait and (event is None or _etag(event) in known):
            event = await waiting.next_event(
                job, event, request, self._node, permissions=permissions, timeout=wait
            )
        if event is None:
            return _unknown_job()
        headers = {"etag": _etag(event), "cache-control": "no-cache"}
        if _etag(event) in known:
            return Response(status_code=304, headers=headers)
        return as_json(_document(event), headers=headers)

    async def list_jobs(self, request: Request) -> Response:
        permissions = await self._authenticate(request)
        check_query(request, "status", "prefix", "limit", "after")
        query = request.query_params
        status = query.get("status") or None
        if status is not None and status not in STATUSES:
            raise InvalidInput(f"status must be one of {', '.join(STATUSES)}", field="status")
        limit = count_in(request, "limit", default=DEFAULT_PAGE, minimum=1, maximum=MAX_PAGE)
        jobs = permissions.watch.within(query.get("prefix", ""))
        page = Page((), None)
        if jobs:
            with trio.move_on_after(MAX_LIST_WAIT) as wait:
                page = await self._node.broker.recent(
                    jobs, status=status, limit=limit, after=query.get("after") or None
                )
            if wait.cancelled_caught:
                raise HTTPException(
                    503, "Too many lists are being requested.", {"retry-after": "1"}
                )
        return as_json(
            {"jobs": [_document(event) for event in page.events], "next": page.next_cursor},
            headers={"cache-control": "no-cache"},
        )

    async def read_set(self, request: Request) -> Response:
        permissions = await self._authenticate(request)
        check_query(request, "prefix", "statuses", "limit", "wait")
        sets = sets_in(request, "prefix")
        if len(sets) != 1:
            raise InvalidInput("one prefix is needed: ?prefix=user:7:", field="prefix")
        wait = number_in(request, "wait", default=0.0, maximum=MAX_WAIT)
        return await read_set(request, self._node, sets[0], permissions=permissions, wait=wait)

    async def events(self, request: Request) -> Response:
        permissions = await self._authenticate(request)
        check_query(request, "job", "mode", "max_hz", "lastEventId", "set", "statuses", "limit")
        jobs = list(dict.fromkeys(request.query_params.getlist("job")))
        sets = sets_in(request, "set")
        limits = self._node.limits
        max_jobs = limits.max_jobs_per_stream
        if not (1 if not sets else 0) <= len(jobs) <= max_jobs:
            raise InvalidInput(f"1 to {max_jobs} jobs are needed: ?job=a&job=b", field="job")
        if len(sets) > limits.max_sets_per_connection:
            raise InvalidInput(f"over {limits.max_sets_per_connection} sets", field="set")
        for job in jobs:
            check_job_id(job)
        mode = cast("Mode", request.query_params.get("mode", "latest"))
        if mode not in get_args(Mode):
            raise InvalidInput("mode must be latest or every", field="mode")
        # EventSource polyfills cannot set a header that is missing in CORS's list.
        last_id = request.headers.get("last-event-id") or request.query_params.get("lastEventId")
        positions = parse_event_id(jobs, last_id)
        max_hz = number_in(request, "max_hz", default=0.0, maximum=self._node.limits.max_hz)

        async def stream(scope: Scope, receive: Receive, send: Send) -> None:
            await serve_events(
                receive,
                send,
                node=self._node,
                positions=positions,
                sets=sets,
                resumed=bool(last_id),
                mode=mode,
                permissions=permissions,
                address=address_of(request),
                max_hz=max(max_hz, MIN_HZ) if max_hz else None,
            )

        return _ASGIResponse(stream)

    async def revoke(self, request: Request) -> Response:
        permissions = await self._authenticate(request)
        check_query(request)
        revocation = revocation_in(await body_of(request, self._node.limits))
        if not permissions.revoke and revocation.id != permissions.token_id:
            raise HTTPException(403, "The token does not allow its client to revoke other tokens.")
        until = inf if revocation.until is None else revocation.until
        await self._node.authenticator.revoke(revocation.id, until=until)
        return as_json({"id": revocation.id, "until": revocation.until})

    async def metrics(self, request: Request) -> Response:
        if not self._is_internal:
            await self._authenticate(request)
        from .metrics import CONTENT_TYPE_LATEST, Metrics  # only jobs that are watched need it

        return Response(Metrics(self._node).page(), media_type=CONTENT_TYPE_LATEST)

    async def health(self, request: Request) -> Response:
        """Pages of every origin may read this response. If an origin is not allowed, it has the
        close code with which the page's WebSocket would be closed."""
        origins = self._node.authenticator.origins
        host = request.headers.get("host", "")
        reason = origins.refusal(request.headers.get("origin"), host=host)
        refused = {} if reason is None else {"close_code": FORBIDDEN_ORIGIN.code, "detail": reason}
        return as_json({"status": "ok", "node": self._node.name, **refused})

    async def readiness(self, request: Request) -> Response:
        reason = self._node.not_ready_reason
        if reason is not None:
            return problem(503, f"This node is not ready: {reason}.")
        free = self._node.statistics().hub.free
        # A full node still serves its clients, and new ones that watch the same jobs.
        status = "ready" if free else "full"
        return as_json({"status": status, "node": self._node.name, "topics_free": free})


class _ASGIResponse(Response):
    """A response that an ASGI callable writes. The callable runs a nursery, which a generator, as
    Starlette's streaming responses use, could not do."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__()
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


def _publisher(request: Request, permissions: Permissions) -> str:
    """Returns the publisher (a token's subject, or an address), whose jobs the memory broker
    counts together."""
    return permissions.subject or network_of(address_of(request))


def _unknown_job() -> Response:
    """Returns the response for an unknown job, and for a job that the client may not watch."""
    return problem(404, "No worker has reported this job.", field="job")


def _document(event: Event) -> dict[str, Any]:
    epoch, seq = event.position
    return {"job": event.job, "epoch": epoch, "seq": seq, "state": event.state}


def _etag(event: Event) -> str:
    return '"{}-{}"'.format(*event.position)
