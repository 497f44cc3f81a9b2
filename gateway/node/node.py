"""One gateway process: the hub, the tasks that feed it, and the connections it serves.

    follow       reads the broker's feed into the hub; the only reader of the feed
    reconcile    reads states and events from the broker that the feed does not have
    scanner      reads the broker's list of jobs for the sets that clients watch
    probe        publishes an event of the node's own and waits for it
    timer wheel  resumes progress to clients that have limited their rate (`max_hz`)
    fan-out      writes to the connections that have messages to send
    staleness    sends clients whether their data may be stale

All run in one nursery: if one of them fails, the node fails with its error. While the broker is
unavailable they keep trying.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from importlib.util import find_spec
from random import Random
from types import MappingProxyType
from uuid import uuid4

import trio
from attrs import frozen

from ..auth.authenticator import Authenticator
from ..auth.permissions import Permissions
from ..brokers.base import BROKER_RETRY_PAUSE, Broker
from ..delivery.connection import serve_connection
from ..delivery.fan_out import FanOut
from ..delivery.hub import Delivery, Hub, HubStatistics
from ..delivery.outbox import Outbox
from ..delivery.session import Session
from ..delivery.set_registry import SetRegistry, SetStatistics
from ..delivery.timer_wheel import TimerWheel
from ..delivery.transport import Sink, Source
from ..model.errors import BrokerUnavailable, NodeFull
from ..model.limits import DEFAULT_LIMITS, Limits
from ..model.state import Event, Position
from ..observability.counters import Counters
from ..protocol import close_codes
from ..protocol.close_codes import CloseCode
from ..protocol.commands import Mode, WatchSet
from ..protocol.messages import Message, encode
from .connections import Connections
from .probe import Probe
from .reconcile import Reconciler
from .set_scanner import SetScanner

__all__ = ["Node", "NodeStatistics"]

log = logging.getLogger("gateway.node")

STALENESS_INTERVAL = 1.0
"""Seconds between two checks whether the node's data are stale."""
HAS_OPENTELEMETRY = find_spec("opentelemetry") is not None
"""Whether spans of deliveries can be recorded."""


@frozen
class NodeStatistics:
    """The load of a node at one moment."""

    connections: int
    hub: HubStatistics
    sets: SetStatistics


class Node:
    """Serves connections from a broker while `run` is running."""

    def __init__(
        self,
        broker: Broker,
        *,
        limits: Limits = DEFAULT_LIMITS,
        authenticator: Authenticator | None = None,
        name: str | None = None,
        random: Random | None = None,
    ) -> None:
        random = random or Random()  # noqa: S311 - for the jitter of pauses
        self.broker = broker
        self.authenticator = authenticator or Authenticator(limits=limits)
        self.limits = limits
        self.name = name or uuid4().hex[:8]
        self.hub = Hub(limits)
        self.counters = Counters()
        self.timer_wheel = TimerWheel()
        self.sets = SetRegistry(limits, timer_wheel=self.timer_wheel, clock=time.time)
        self.fan_out = FanOut()
        self.probe = Probe(self.hub, broker, name=self.name, limits=limits)
        self.connections = Connections()
        self._reconciler = Reconciler(
            self.hub,
            self.sets,
            broker,
            counters=self.counters,
            limits=lambda: self.limits,
            random=random,
        )
        self._set_scanner = SetScanner(
            self.sets, self.hub, broker, limits=lambda: self.limits, random=random
        )
        self._following = False
        self._shutting_down = False
        self._waiting_for_broker: str | None = None
        """The reason why the broker cannot be reached at the start; None after it was reached."""
        self._announced_stale_reason: str | None = None
        """The `stale_reason` of the last announcement to clients."""

    def __repr__(self) -> str:
        state = self.not_ready_reason or "ready"
        return f"<Node {self.name} {state}, {len(self.connections)} clients>"

    @property
    def not_ready_reason(self) -> str | None:
        """The reason why load balancers should send no new clients here; None if the node is
        ready."""
        if self.connections.draining.is_set():
            return "draining"
        if self._shutting_down:
            return "shutting down"
        if self._waiting_for_broker:
            return f"waiting for its broker ({self._waiting_for_broker})"
        if not self._following:
            return "not running"
        if self.stale_reason is None and not self.broker.ready:
            return "waiting until all nodes have restored the states that clients have seen"
        return self.stale_reason

    @property
    def stale_reason(self) -> str | None:
        """The reason why the node's data may be out of date; None if they are fresh."""
        reason = self._waiting_for_broker or self.broker.unavailable_reason
        if reason:
            return f"its broker is unavailable ({reason})"
        return "its feed delivers events too late" if self.probe.overdue else None

    def statistics(self) -> NodeStatistics:
        return NodeStatistics(len(self.connections), self.hub.statistics(), self.sets.statistics())

    def announce_shutdown(self) -> None:
        """Makes the node not ready, because it will drain soon; it still serves."""
        self._shutting_down = True

    async def run(
        self,
        *,
        wait_for_broker: bool = False,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Follows the broker until cancelled. It counts as started when it can miss no event.

        Args:
            wait_for_broker: If the broker cannot be reached, count as started, be not ready, and
                try again until it can be.

        Raises:
            BrokerUnavailable: The broker cannot be reached, and `wait_for_broker` is false.
        """
        async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
            await nursery.start(self.authenticator.run)
            nursery.start_soon(self.timer_wheel.run)
            nursery.start_soon(self.fan_out.run)
            nursery.start_soon(self._reconciler.run)
            nursery.start_soon(self._set_scanner.run)
            nursery.start_soon(self._announce_staleness)
            feed = await self._open_feed(stack, task_status, wait=wait_for_broker)
            self._following = True
            try:
                nursery.start_soon(self.probe.run)
                if self._waiting_for_broker is None:
                    task_status.started()
                self._waiting_for_broker = None
                async for events in feed:
                    if events:
                        began = time.time_ns()
                        traced = self.hub.deliver(events)
                        self.sets.deliver(events)
                        self._count(events)
                        # Reading the next batch before this one is written would deliver no event
                        # earlier.
                        await self.fan_out.wait_until_written()
                        if traced and HAS_OPENTELEMETRY:
                            self._trace(traced, began=began)
                    else:  # FEED_RESET
                        self.counters.feed_resets += 1
                        self._reconciler.compare_all_soon()
                        self.sets.scan_all()
                        self.probe.reset_after_outage()
                await trio.lowlevel.checkpoint()  # if the feed failed, its error is raised here
                raise RuntimeError("the broker's feed has ended")
            finally:
                self._following = False

    async def _open_feed(
        self, stack: AsyncExitStack, task_status: trio.TaskStatus[None], *, wait: bool
    ) -> trio.abc.ReceiveChannel[Sequence[Event]]:
        """Enters the broker's feed. While `run` waits for the broker, it counts as started."""
        while True:
            try:
                feed = self.broker.feed(observed=self.hub.latest_events)
                return await stack.enter_async_context(feed)
            except BrokerUnavailable as error:
                if not wait:
                    raise
                if self._waiting_for_broker is None:
                    task_status.started()
                if self._waiting_for_broker != str(error):
                    self._waiting_for_broker = str(error)
                    log.warning("not ready, waiting for the broker: %s", error)
            await trio.sleep(BROKER_RETRY_PAUSE)

    async def serve(
        self,
        source: Source,
        sink: Sink,
        *,
        positions: Mapping[str, Position | None] = MappingProxyType({}),
        sets: Sequence[WatchSet] = (),
        resumed: bool = False,
        mode: Mode = "latest",
        permissions: Permissions | None = None,
        max_hz: float | None = None,
        transport: str = "websocket",
        address: str = "",
    ) -> CloseCode:
        """Serves one client until its connection ends; returns the close code.

        Args:
            positions: The jobs to which it is subscribed from the start, and its position in
                each (None: it has nothing yet).
            sets: The sets that it watches from the start.
            resumed: Whether it may have received states before that `positions` does not have. It
                is then sent no snapshot before the broker was read.
            mode: The mode of these subscriptions.
            permissions: The permissions that its request grants. None: it must send a token if the
                node requires tokens.
            max_hz: Maximum writes of progress per second.
            transport: The transport's name, for metrics.
            address: The client's address, in whose quota its jobs count.
        """
        refused = self._refusal()
        if refused is not None:
            return await self.refuse(sink, refused)
        if self._announced_stale_reason is None:
            self._update_staleness()  # so that the welcome of a new client has the current value
        outbox = Outbox(self.limits, fan_out=self.fan_out, timer_wheel=self.timer_wheel)
        began = trio.current_time()
        self.counters.connections_opened[transport] += 1
        log.debug("connection opened")
        try:
            self.connections.add(outbox)
            with self.authenticator.admit(
                permissions,
                end=lambda refusal, detail: outbox.end(
                    close_codes.CODE_BY_REFUSAL[refusal], detail=detail
                ),
                expire=lambda: outbox.announce(self._token_expired()),
            ) as auth:
                session = Session(
                    self.hub,
                    outbox,
                    sets=self.sets,
                    limits=self.limits,
                    auth=auth,
                    counters=self.counters,
                    address=address,
                )
                outbox.announce(self._welcome())
                if max_hz is not None:
                    outbox.limit_rate(max_hz)
                try:
                    session.watch_initial(positions, sets, mode=mode, resumed=resumed)
                except NodeFull as error:
                    outbox.end(close_codes.OVERLOADED, detail=str(error))
                return await serve_connection(
                    source,
                    sink,
                    session=session,
                    limits=self.limits,
                )
        finally:
            self.connections.remove(outbox)
            close_code, lasted = outbox.end(close_codes.INTERNAL), trio.current_time() - began
            self.counters.connections_closed[transport, close_code.code] += 1
            self.counters.connection_durations.observe(lasted)
            if log.isEnabledFor(logging.INFO):
                reason = outbox.close_detail or close_code.reason
                extra = {"code": close_code.code, "reason": reason, "duration_s": round(lasted, 3)}
                log.info("connection closed", extra=extra)

    async def refuse(self, sink: Sink, close_code: CloseCode) -> CloseCode:
        """Closes a connection that is not served, with the reason. Returns `close_code`."""
        self.counters.connections_refused[close_code.code] += 1
        extra = {"code": close_code.code, "reason": close_code.reason}
        log.info("connection refused", extra=extra)
        await sink.close(close_code)
        return close_code

    async def drain(self) -> None:
        """Closes all connections, as `Connections.drain` does; new ones are refused from now on."""
        await self.connections.drain(other_nodes=self.broker.shared, limits=self.limits)

    def _refusal(self) -> CloseCode | None:
        if self.connections.draining.is_set():
            return close_codes.GOING_AWAY
        if len(self.connections) >= self.limits.max_connections:
            return close_codes.OVERLOADED
        return None

    def _welcome(self) -> Message:
        limits = self.limits
        return encode(
            "welcome",
            node=self.name,
            time=round(time.time(), 3),
            ping_interval=limits.ping_interval,
            limits={"jobs": limits.max_jobs_per_connection, "message": limits.max_frame},
            retry=limits.reconnect_window,
            **({"stale": True} if self._announced_stale_reason else {}),
        )

    def _token_expired(self) -> Message:
        grace = self.limits.expiry_grace
        return encode(
            "error",
            code="token_expired",
            message=f"send `hello` with a new token within {grace:g} s",
        )

    def _trace(self, deliveries: Sequence[Delivery], *, began: int) -> None:
        """Records spans of deliveries that have just been written."""
        ended = time.time_ns()
        from .tracing import export_spans  # slow to import, so only when it is needed

        export_spans(deliveries, began=began, ended=ended)

    def _count(self, events: Sequence[Event]) -> None:
        self.counters.feed_events += len(events)
        now = time.time()
        reported_at = [event.state.reported_at for event in events]
        self.counters.event_ages.observe_all(
            [max(0.0, now - at) for at in reported_at if at is not None]
        )

    async def _announce_staleness(self) -> None:
        """Sends clients a message, and logs it, when the node's data become stale, and when they no
        longer are."""
        while True:
            await trio.sleep(STALENESS_INTERVAL)
            self._update_staleness()

    def _update_staleness(self) -> None:
        previous, self._announced_stale_reason = self._announced_stale_reason, self.stale_reason
        if (previous is None) == (self._announced_stale_reason is None):
            return
        if self._announced_stale_reason is None:
            log.info("data are up to date again; they may have been stale: %s", previous)
        else:
            log.warning("data may be stale: %s", self._announced_stale_reason)
        self.connections.announce(encode("feed", stale=self._announced_stale_reason is not None))
