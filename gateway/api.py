"""The HTTP side: updates in, states out, events as SSE, the page. See `docs/protocol.md`.

What is wrong is raised; `answers` makes problems of it.
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

from .answers import as_json, handlers, problem
from .auth.origins import Origins
from .auth.rights import Rights
from .broker import Page
from .errors import InvalidInput, Unauthorized
from .history import history_after
from .job import STATUSES, Event, Position, check_job_id
from .limits import MAX_NUMBER
from .node import Node
from .outbox import Outbox
from .page import SecurityHeaders, page_files
from .protocol import Mode, parse_update
from .request import (
    body_of,
    cancel_when_gone,
    cancel_when_set,
    count_in,
    number_in,
    revocation_in,
    tags_in,
    traced,
)
from .transports.http import ASGIApp, Receive, Scope, Send
from .transports.sse import parse_event_id, serve_events

__all__ = ["MAX_PAGE", "MAX_WAIT", "PARTS", "create_http_app"]

log = logging.getLogger("gateway.api")

MAX_WAIT = 60.0  # seconds: what most proxies let a request idle
MAX_PAGE = 200
DEFAULT_PAGE = 50
MAX_TURN = 10.0  # seconds that a list may wait for those before it: as long as a page does


PARTS = frozenset(("publish", "metrics", "page"))
"""What need not be served at every address."""


def create_http_app(node: Node, *, parts: Collection[str] = PARTS, inside: bool = False) -> ASGIApp:
    """The HTTP application of a node, with these `PARTS` of it. `inside` is for an address
    that not everybody reaches: there `/metrics` needs no token."""
    api = _Api(node, inside=inside)
    routes: list[BaseRoute] = [
        Route("/api/jobs", api.list_jobs),
        Route("/api/jobs/{job:path}/events", api.history, methods=["GET"]),
        Route("/api/jobs/{job:path}", api.job, methods=["GET", "POST"])
        if "publish" in parts
        else Route("/api/jobs/{job:path}", api.read, methods=["GET"]),
        Route("/api/events", api.events),
        Route("/healthz", api.health),
        Route("/readyz", api.readiness),
    ]
    if node.gate.keys is not None:
        routes.append(Route("/api/revocations", api.revoke, methods=["POST"]))
    if "metrics" in parts:
        routes.append(Route("/metrics", api.metrics))
    if "page" in parts:
        routes.append(Mount("/", page_files()))
    return Starlette(
        routes=routes,
        middleware=[Middleware(SecurityHeaders), *_for_other_origins(node.gate.origins)],
        exception_handlers=handlers(node.tally),
    )


def _for_other_origins(origins: Origins) -> list[Middleware]:
    """What browsers want to hear (CORS) before pages of the listed origins may read."""
    if not origins.listed and not origins.every:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=["*"] if origins.every else sorted(origins.listed),
            allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type", "if-none-match", "last-event-id"],
            expose_headers=["etag", "retry-after"],
        )
    ]


class _Api:
    """The endpoints, over one node."""

    def __init__(self, node: Node, *, inside: bool) -> None:
        self._node = node
        self._inside = inside

    async def _enter(self, request: Request) -> Rights:
        """What the client may do, kept with the request as well. Raises `Unauthorized`."""
        gate = self._node.gate
        rights = await gate.welcome(request.headers)
        if rights is None:
            raise Unauthorized("A token is needed: Authorization: Bearer …")
        request.scope["rights"] = rights
        return rights

    async def job(self, request: Request) -> Response:
        # One route for both, so that a 405 names both.
        return await (self.publish if request.method == "POST" else self.read)(request)

    async def publish(self, request: Request) -> Response:
        rights = await self._enter(request)
        job = check_job_id(request.path_params["job"])
        if job not in rights.publish:
            raise HTTPException(403, "The token does not allow to publish on this job.")
        update = traced(parse_update(await body_of(request, self._node.limits)), request)
        receipt = await self._node.broker.publish(job, update)
        self._node.tally.published[receipt.reason or "applied"] += 1
        answer: dict[str, Any] = {
            "epoch": receipt.position.epoch,
            "seq": receipt.position.seq,
            "attempt": receipt.attempt,
            "applied": receipt.applied,
        }
        if receipt.reason is not None:
            answer["reason"] = receipt.reason
        return as_json(answer)

    async def history(self, request: Request) -> Response:
        if not request.scope["raw_path"].endswith(b"/events"):
            # The slash is part of the job's id: it was written as %2F.
            request.path_params["job"] += "/events"
            return await self.read(request)
        rights = await self._enter(request)
        job = check_job_id(request.path_params["job"])
        epoch = count_in(request, "epoch", default=0, most=MAX_NUMBER)
        seq = count_in(request, "after", default=0, most=MAX_NUMBER)
        broker = self._node.broker
        head = (await broker.read([job])).get(job) if job in rights.watch else None
        if head is None:
            return _never_seen()
        after = Position(head.position.epoch, 0 if epoch not in (0, head.position.epoch) else seq)
        kept = await broker.history(job, after=after)
        return as_json(
            history_after(head, kept, after=after, room=self._node.limits.page_bytes),
            headers={"cache-control": "no-cache"},
        )

    async def read(self, request: Request) -> Response:
        rights = await self._enter(request)
        job = check_job_id(request.path_params["job"])
        known = tags_in(request.headers.get("if-none-match", ""))
        wait = number_in(request, "wait", default=0.0, most=MAX_WAIT)
        if job not in rights.watch:
            await _nothing(request, wait, self._node.clients.leaving)
            return _never_seen()
        event = (await self._node.broker.read([job])).get(job)
        if wait and (event is None or _etag(event) in known):
            event = await self._next(request, job, event, wait) or event
        if event is None:
            return _never_seen()
        headers = {"etag": _etag(event), "cache-control": "no-cache"}
        if _etag(event) in known:
            return Response(status_code=304, headers=headers)
        return as_json(_document(event), headers=headers)

    async def _next(
        self, request: Request, job: str, event: Event | None, wait: float
    ) -> Event | None:
        """The first event newer than `event`; None if there is none for `wait` seconds, or
        before the client is gone or is to go."""
        outbox = Outbox(self._node.limits, self._node.metronome)
        subscription = self._node.hub.subscribe(
            job, outbox, position=event.position if event else None
        )
        latest: Event | None = None
        try:
            with trio.move_on_after(wait):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(cancel_when_gone, request, nursery.cancel_scope)
                    nursery.start_soon(
                        cancel_when_set, self._node.clients.leaving, nursery.cancel_scope
                    )
                    while latest is None or (event and latest.position <= event.position):
                        await outbox.receive()
                        latest = subscription.topic.latest
                    nursery.cancel_scope.cancel()
                return latest
        finally:
            self._node.hub.unsubscribe(subscription)
        return None

    async def list_jobs(self, request: Request) -> Response:
        rights = await self._enter(request)
        query = request.query_params
        status = query.get("status") or None
        if status is not None and status not in STATUSES:
            raise InvalidInput(f"status is none of {', '.join(STATUSES)}", field="status")
        limit = count_in(request, "limit", default=DEFAULT_PAGE, least=1, most=MAX_PAGE)
        jobs = rights.watch.within(query.get("prefix", ""))
        page = Page((), None)
        if jobs:
            with trio.move_on_after(MAX_TURN) as turn:
                page = await self._node.broker.recent(
                    jobs, status=status, limit=limit, after=query.get("after") or None
                )
            if turn.cancelled_caught:
                raise HTTPException(503, "Too many lists are asked for.", {"retry-after": "1"})
        return as_json(
            {"jobs": [_document(event) for event in page.events], "next": page.next},
            headers={"cache-control": "no-cache"},
        )

    async def events(self, request: Request) -> Response:
        rights = await self._enter(request)
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
            await serve_events(
                receive, send, node=self._node, positions=positions, mode=mode, rights=rights
            )

        return _Streamed(stream)

    async def revoke(self, request: Request) -> Response:
        rights = await self._enter(request)
        asked = revocation_in(await body_of(request, self._node.limits))
        if not rights.revoke and asked.id != rights.token_id:
            raise HTTPException(403, "The token does not allow to revoke others.")
        until = inf if asked.until is None else asked.until
        await self._node.gate.revoke(asked.id, until=until)
        return as_json({"id": asked.id, "until": asked.until})

    async def metrics(self, request: Request) -> Response:
        if not self._inside:
            await self._enter(request)
        from .metrics import CONTENT_TYPE_LATEST, Metrics  # only who is watched needs it

        return Response(Metrics(self._node).page(), media_type=CONTENT_TYPE_LATEST)

    async def health(self, request: Request) -> Response:
        return as_json({"status": "ok", "node": self._node.name})

    async def readiness(self, request: Request) -> Response:
        reason = self._node.not_ready
        if reason is not None:
            return problem(503, f"This node is {reason}.")
        return as_json({"status": "ready", "node": self._node.name})


class _Streamed(Response):
    """A response that an ASGI callable writes: it drives a nursery, which a generator,
    the usual way, cannot."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__()
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


def _never_seen() -> Response:
    """Also what is said of jobs that the client may not watch."""
    return problem(404, "No worker has reported this job.", field="job")


async def _nothing(request: Request, wait: float, leaving: trio.Event) -> None:
    """Wait as for a job on which nothing is reported."""
    with trio.move_on_after(wait):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel_when_gone, request, nursery.cancel_scope)
            nursery.start_soon(cancel_when_set, leaving, nursery.cancel_scope)


def _document(event: Event) -> dict[str, Any]:
    epoch, seq = event.position
    return {"job": event.job, "epoch": epoch, "seq": seq, "state": event.state}


def _etag(event: Event) -> str:
    return '"{}-{}"'.format(*event.position)
