"""One gateway process: the hub, the tasks that feed it, and the connections it serves.

    follow     feed → hub, the one reader of the broker's feed
    upkeep     hub → broker → hub, what the feed does not bring
    canary     an event of our own, by the same way as all others
    metronome  opens the outboxes of clients that want to hear only so often
    freshness  clients are told when what they see may be stale, and when no longer

They live in one nursery: if one of them dies for good the node does, visibly. A broker
that is away for a while kills none of them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from types import MappingProxyType
from uuid import uuid4

import trio
from attrs import frozen

from . import endings
from .auth.gate import Gate
from .auth.rights import Rights
from .broker import Broker
from .canary import Canary
from .clients import Clients
from .connection import Sink, Source, serve_connection
from .endings import Ending
from .errors import NodeFull
from .hub import Delivery, Hub, HubStatistics
from .job import Event, Position
from .limits import DEFAULT_LIMITS, Limits
from .metronome import Metronome
from .outbox import Outbox
from .protocol import Message, Mode, encode
from .session import Session
from .tally import Tally
from .upkeep import Upkeep

__all__ = ["Node", "NodeStatistics"]

log = logging.getLogger("gateway.node")

LOOK_EVERY = 1.0
"""Seconds between two looks at whether what this node shows is fresh."""
WRITTEN = 2
"""Passes of Trio's scheduler from a fan-out until it is written: that in which connections
write, and as the order within a pass is chance, the next."""
HAS_OPENTELEMETRY = find_spec("opentelemetry") is not None
"""Whether there is anybody to tell of deliveries."""


@frozen
class NodeStatistics:
    """How much a node carries, at one moment."""

    connections: int
    hub: HubStatistics


class Node:
    """Serves connections from a broker, while `run` is running."""

    def __init__(
        self,
        broker: Broker,
        *,
        limits: Limits = DEFAULT_LIMITS,
        gate: Gate | None = None,
        name: str | None = None,
    ) -> None:
        self.broker = broker
        self.gate = gate or Gate(limits=limits)
        self.limits = limits
        self.name = name or uuid4().hex[:8]
        self.hub = Hub(limits)
        self.tally = Tally()
        self.metronome = Metronome()
        self.canary = Canary(self.hub, broker, name=self.name, limits=limits)
        self.clients = Clients()
        self._upkeep = Upkeep(self.hub, broker, tally=self.tally, limits=lambda: self.limits)
        self._following = False
        self._stale: str | None = None

    def __repr__(self) -> str:
        return f"<Node {self.name} {self.not_ready or 'ready'}, {len(self.clients)} clients>"

    @property
    def not_ready(self) -> str | None:
        """Why no new client should be sent here; None if this node is ready."""
        if self.clients.leaving.is_set():
            return "draining"
        if not self._following:
            return "not running"
        return self.stale

    @property
    def stale(self) -> str | None:
        """Why what this node shows may be out of date; None if it is fresh."""
        if self.broker.away:
            return "cut off from its broker"
        return "behind its feed" if self.canary.late else None

    def statistics(self) -> NodeStatistics:
        return NodeStatistics(len(self.clients), self.hub.statistics())

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Follow the broker until cancelled. Started when nothing published can be missed."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.gate.run)
            nursery.start_soon(self.metronome.run)
            nursery.start_soon(self._upkeep.run)
            nursery.start_soon(self._watch_freshness)
            async with self.broker.feed() as feed:
                self._following = True
                try:
                    nursery.start_soon(self.canary.fly)
                    task_status.started()
                    async for events in feed:
                        if events:
                            began = time.time_ns()
                            traced = self.hub.deliver(events)
                            self._count(events)
                            if traced and HAS_OPENTELEMETRY:
                                await self._trace(traced, began=began)
                        else:  # broker.LOST
                            self.tally.lost += 1
                            self._upkeep.lost()
                finally:
                    self._following = False

    async def serve(
        self,
        source: Source,
        sink: Sink,
        *,
        positions: Mapping[str, Position | None] = MappingProxyType({}),
        mode: Mode = "latest",
        rights: Rights | None = None,
        transport: str = "websocket",
    ) -> Ending:
        """Serve one client until it ends; returns why it ended.

        `positions` are jobs it is subscribed to from the start, and where it is in each
        (None: nowhere yet). `rights` are what it has by its request; None: it has to show
        a token, if tokens are asked for here. `transport` is its name, for metrics.
        """
        refused = self._refuse()
        if refused is not None:
            return await self.turn_away(sink, refused)
        outbox = Outbox(self.limits, self.metronome)
        began = trio.current_time()
        self.tally.connected[transport] += 1
        log.debug("connected")
        try:
            with self.clients.served(outbox), self.gate.admit(outbox, rights) as pass_:
                session = Session(
                    self.hub, outbox, limits=self.limits, rights=pass_.rights, tally=self.tally
                )
                outbox.announce(self._welcome())
                try:
                    for job, position in positions.items():
                        session.subscribe(job, mode=mode, position=position)
                except NodeFull:
                    outbox.end(endings.FULL)
                return await serve_connection(
                    source,
                    sink,
                    session=session,
                    pass_=pass_,
                    limits=self.limits,
                )
        finally:
            ending, lasted = outbox.end(endings.INTERNAL), trio.current_time() - began
            self.tally.ended[transport, ending.code] += 1
            self.tally.lasted.observe(lasted)
            if log.isEnabledFor(logging.INFO):
                facts = {"code": ending.code, "why": ending.reason, "s": round(lasted, 3)}
                log.info("ended", extra=facts)

    async def turn_away(self, sink: Sink, ending: Ending) -> Ending:
        """Tell somebody who is not served here why. Returns `ending`."""
        self.tally.refused[ending.code] += 1
        await sink.close(ending)
        return ending

    async def drain(self) -> None:
        """Send the clients away, as `Clients.leave` does; new ones are refused from now on."""
        await self.clients.leave(elsewhere=self.broker.shared, limits=self.limits)

    def _refuse(self) -> Ending | None:
        if self.clients.leaving.is_set():
            return endings.GOING_AWAY
        if len(self.clients) >= self.limits.max_connections:
            return endings.FULL
        return None

    def _welcome(self) -> Message:
        limits = self.limits
        return encode(
            "welcome",
            node=self.name,
            time=round(time.time(), 3),
            ping_interval=limits.ping_after,
            limits={"jobs": limits.max_jobs_per_connection, "message": limits.max_message},
            retry=limits.retry,
            **({"stale": True} if self._stale else {}),
        )

    async def _trace(self, deliveries: Sequence[Delivery], *, began: int) -> None:
        """Tell of deliveries when the connections have written them."""
        for _ in range(WRITTEN):
            await trio.lowlevel.checkpoint()
        ended = time.time_ns()
        from .tracing import tell  # which takes its time, so not before it is needed

        tell(deliveries, began=began, ended=ended)

    def _count(self, events: Sequence[Event]) -> None:
        self.tally.events += len(events)
        reported_at = events[-1].state.reported_at
        if reported_at is not None:
            age = max(0.0, time.time() - reported_at)
            self.tally.age.observe(age, times=len(events))

    async def _watch_freshness(self) -> None:
        """Tell clients and the log, once, that what they see is stale, or fresh again."""
        while True:
            await trio.sleep(LOOK_EVERY)
            before, self._stale = self._stale, self.stale
            if (before is None) == (self._stale is None):
                continue
            if self._stale is None:
                log.info("fresh again")
            else:
                log.warning("what clients see may be stale: this node is %s", self._stale)
            self.clients.announce(encode("feed", stale=self._stale is not None))
