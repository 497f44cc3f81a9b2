"""The gateway as a complete ASGI application: WebSocket, HTTP API, page.

It needs Trio, and a server (or a parent application) that runs its lifespan. If one of them is
missing, it answers with an error that names what is missing.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from ipaddress import ip_address
from typing import Any, Unpack

import trio

from .auth.authenticator import Authenticator
from .auth.factory import open_authenticator
from .brokers.base import Broker, PublishResult
from .brokers.memory import MemoryBroker
from .config.settings import KEYS, SECRET
from .config.single_process import claim_single_process
from .http.api import create_http_app
from .http.responses import problem
from .model.errors import InvalidSettings
from .model.ids import check_job_id
from .model.limits import DEFAULT_LIMITS, Limits
from .node.node import Node
from .protocol import close_codes
from .protocol.close_codes import CloseCode
from .protocol.update_fields import UpdateFields, update_from
from .transports.asgi_types import Receive, Scope, Send
from .transports.asgi_websocket import refuse_asgi_websocket, serve_asgi_websocket
from .transports.hypercorn_guard import guard_hypercorn

__all__ = ["NEEDS_LIFESPAN", "NEEDS_TRIO", "GatewayApp", "create_app"]

log = logging.getLogger("gateway.asgi")

NEEDS_TRIO = "the gateway needs Trio: run `gateway serve` or `hypercorn -k trio gateway.asgi:app`"
NEEDS_LIFESPAN = (
    "the gateway is not running: its server has to run its lifespan; an application that mounts "
    "it enters `async with gateway.running():` in its own (docs/embedding.md)"
)


class GatewayApp:
    """An ASGI application with its own node, which runs during the lifespan."""

    def __init__(
        self, node: Node, *, hypercorn_guard: bool = True, wait_for_broker: bool = False
    ) -> None:
        self.node = node
        self._wait_for_broker = wait_for_broker
        self._http = create_http_app(node)
        self._hypercorn_guard = hypercorn_guard
        self._is_running = False
        self._reason_logged = False

    def __repr__(self) -> str:
        return f"<GatewayApp {self.node!r}>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one connection, or the lifespan (ASGI 3)."""
        if scope["type"] == "lifespan":
            await self._run_lifespan(receive, send)
        elif not self._is_running:
            await self._refuse_unusable(scope, receive, send)
        elif self._serves_local_only and not _is_local(scope.get("client")):
            detail = f"Without {KEYS.variable} or {SECRET.variable} only local clients are served."
            await _refuse(scope, receive, send, close_codes.UNAUTHORIZED, 403, detail)
        elif scope["type"] == "websocket":
            await serve_asgi_websocket(scope, receive, send, node=self.node)
        else:
            await self._http(scope, receive, send)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[GatewayApp]:
        """Runs the node while the context is open, for an application that mounts this one.

        At the end of the context the clients are asked to reconnect, and their connections are
        closed. If the node fails, the body is cancelled and the node's error is raised.

        Raises:
            InvalidSettings: The gateway cannot run here: this is not Trio, or the server is one
                that a client can terminate, or there are several processes without a Redis.
            BrokerUnavailable: The broker cannot be reached, and the application was not made to
                wait for it.

        Cancellation: connections are dropped without notice.
        """
        self._check()
        with claim_single_process(shared=self.node.broker.shared):
            async with trio.open_nursery() as nursery:
                await nursery.start(partial(self.node.run, wait_for_broker=self._wait_for_broker))
                self._is_running = True
                try:
                    yield self
                    await self.node.drain()
                finally:
                    self._is_running = False
                nursery.cancel_scope.cancel()

    async def publish(self, job: str, **fields: Unpack[UpdateFields]) -> PublishResult:
        """Reports on a job from inside this process, like `Gateway.publish`."""
        return await self.node.broker.publish(check_job_id(job), update_from(fields))

    @property
    def _serves_local_only(self) -> bool:
        authenticator = self.node.authenticator
        return authenticator.keys is None and authenticator.origins.local_only

    def _check(self) -> None:
        if not trio.lowlevel.in_trio_run():
            raise InvalidSettings(NEEDS_TRIO)
        if self._hypercorn_guard:
            guard_hypercorn()

    async def _run_lifespan(self, receive: Receive, send: Send) -> None:
        """Runs the node from startup to shutdown.

        If the node fails in between, the server is notified, and exits: a gateway that no longer
        follows its broker must not appear healthy.
        """
        await receive()  # lifespan.startup
        phase, failure = "startup", None
        try:
            async with self.running():
                await send({"type": "lifespan.startup.complete"})
                phase = "shutdown"
                await receive()  # lifespan.shutdown
        except* Exception as group:
            failure = _first_exception(group)
            if isinstance(failure, InvalidSettings):
                log.error("%s", failure)  # noqa: TRY400 - an operator's mistake: no traceback
            else:
                log.exception("the node failed")
        # After the clause above, not in it, because some servers raise an error in this `send`.
        if failure is None:
            await send({"type": "lifespan.shutdown.complete"})
        else:
            message = str(failure) or repr(failure)
            await send({"type": f"lifespan.{phase}.failed", "message": message})

    async def _refuse_unusable(self, scope: Scope, receive: Receive, send: Send) -> None:
        reason = NEEDS_LIFESPAN if trio.lowlevel.in_trio_run() else NEEDS_TRIO
        if not self._reason_logged:
            log.error("%s", reason)
            self._reason_logged = True
        await _refuse(scope, receive, send, close_codes.GOING_AWAY, 503, reason)


def create_app(
    broker: Broker | None = None,
    *,
    limits: Limits = DEFAULT_LIMITS,
    authenticator: Authenticator | None = None,
    hypercorn_guard: bool = True,
    wait_for_broker: bool = False,
) -> GatewayApp:
    """Returns an ASGI application with its own node, which runs during the lifespan.

    Args:
        broker: The store of job states; `MemoryBroker(limits)` by default.
        limits: The limits of the node.
        authenticator: Checks tokens and origins. The default accepts clients on this machine
            without tokens, and no others.
        hypercorn_guard: Whether to guard each connection of hypercorn, if that is the server
            (`transports/hypercorn_guard.py`).
        wait_for_broker: Whether to start while the broker cannot be reached, and to be not ready
            until it can be; otherwise the start fails.
    """
    node = Node(
        MemoryBroker(limits) if broker is None else broker,
        limits=limits,
        authenticator=authenticator or open_authenticator(limits=limits),
    )
    return GatewayApp(node, hypercorn_guard=hypercorn_guard, wait_for_broker=wait_for_broker)


def _first_exception(error: BaseException) -> BaseException:
    """Returns the first exception in a group, at any depth."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _is_local(client: Sequence[Any] | None) -> bool:
    """Returns whether a client is on this machine. A client that is None uses a Unix socket."""
    if client is None:
        return True
    try:
        return ip_address(str(client[0]).partition("%")[0]).is_loopback
    except ValueError:  # the server passes host names
        return False


async def _refuse(
    scope: Scope, receive: Receive, send: Send, close_code: CloseCode, status: int, detail: str
) -> None:
    """Sends a client the reason why it is not served, in the form that its request allows."""
    if scope["type"] == "websocket":
        await refuse_asgi_websocket(receive, send, close_code)
    else:
        await problem(status, detail)(scope, receive, send)
