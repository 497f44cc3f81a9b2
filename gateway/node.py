"""One gateway process: the hub, the tasks that feed it, and the connections it serves.

    follow     feed → hub             the one reader of the broker's feed
    load       hub → broker → hub     snapshots of jobs that somebody began to watch
    refill     hub → broker → hub     the past of jobs of which somebody wants every event
    reap       leases that ran out, topics nobody watches any more
    check      topics are compared with the broker now and then, and after each loss
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
from functools import partial
from importlib.util import find_spec
from random import uniform
from types import MappingProxyType
from uuid import uuid4

import trio
from attrs import frozen

from . import endings
from .auth.gate import Gate
from .auth.rights import Rights
from .broker import Broker
from .canary import Canary
from .connection import Sink, Source, serve_connection
from .endings import Ending
from .errors import BrokerUnavailable, NodeFull
from .hub import Delivery, Hub, HubStatistics
from .job import UNSEEN, Event, Position
from .limits import DEFAULT_LIMITS, Limits
from .metronome import Metronome
from .outbox import Outbox
from .protocol import Message, Mode, encode
from .session import Session
from .tally import Tally

__all__ = ["Node", "NodeStatistics"]

log = logging.getLogger("gateway.node")

LOAD_BATCH = 500
"""Jobs per read from the broker: one round trip, and a short one."""
REFILLS_AT_ONCE = 8
"""Histories that are read at a time: half of the calls a broker in a Redis takes."""
RETRY_EVERY = 1.0
"""Seconds between attempts to reach a broker that is away."""
LOOK_EVERY = 1.0
"""Seconds between two looks at whether what this node shows is fresh."""
WRITTEN = 2
"""Passes of Trio's scheduler from a fan-out until it is written: that in which connections
write, and as the order within a pass is chance, the next."""
HAS_OPENTELEMETRY = find_spec("opentelemetry") is not None
"""Whether there is anybody to tell of deliveries."""
DRAIN_STEPS = 20
"""In how many waves the clients of a node that leaves are sent away, if they are many."""
DRAIN_WAVE = 100
"""Clients another node takes at once without noticing."""
HANDOVER = 2.0
"""Seconds within which a client is at another node, once it goes: a handshake over TLS from a
phone, and a second one if the balancer did not know yet that we leave."""


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
        self._connections: dict[Outbox, None] = {}
        self._none_left = trio.Event()
        self._following = False
        self._lost = trio.Event()
        self._stale: str | None = None
        self.leaving = trio.Event()
        """Set when this node is to be left: whoever waits for something here shall go."""

    def __repr__(self) -> str:
        return f"<Node {self.name} {self.not_ready or 'ready'}, {len(self._connections)} clients>"

    @property
    def not_ready(self) -> str | None:
        """Why no new client should be sent here; None if this node is ready."""
        if self.leaving.is_set():
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
        return NodeStatistics(len(self._connections), self.hub.statistics())

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Follow the broker until cancelled. Started when nothing published can be missed."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.gate.run)
            nursery.start_soon(self.metronome.run)
            nursery.start_soon(self._load)
            for _ in range(REFILLS_AT_ONCE):
                nursery.start_soon(self._refill)
            nursery.start_soon(self._reap)
            nursery.start_soon(self._check)
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
                            self._lost.set()
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
        self._connections[outbox] = None
        began = trio.current_time()
        self.tally.connected[transport] += 1
        log.debug("connected")
        try:
            with self.gate.admit(outbox, rights) as pass_:
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
            del self._connections[outbox]
            ending, lasted = outbox.end(endings.INTERNAL), trio.current_time() - began
            self.tally.ended[transport, ending.code] += 1
            self.tally.lasted.observe(lasted)
            if log.isEnabledFor(logging.INFO):
                facts = {"code": ending.code, "why": ending.reason, "s": round(lasted, 3)}
                log.info("ended", extra=facts)
            if self.leaving.is_set() and not self._connections:
                self._none_left.set()

    async def turn_away(self, sink: Sink, ending: Ending) -> Ending:
        """Tell somebody who is not served here why. Returns `ending`."""
        self.tally.refused[ending.code] += 1
        await sink.close(ending)
        return ending

    async def drain(self) -> None:
        """Send the clients away, within `limits.drain_timeout`.

        Where other nodes serve the same jobs they are told to go, and served until they
        are there; elsewhere, and who stays, is ended. Returns when all are gone or the
        time is up; what is left then is the caller's to cancel. From the first moment on
        new clients are refused.
        """
        self.leaving.set()
        if not self._connections:
            return
        log.info("draining %d clients", len(self._connections))
        with trio.move_on_after(self.limits.drain_timeout):
            if self.broker.shared:
                await self._let_go()
            else:
                await self._send_away()
            await self._none_left.wait()

    async def _let_go(self) -> None:
        """Have the clients go by themselves, at random moments of a window that is the longer
        the more they are; then end who is left: it comes back within that window too."""
        drain = self.limits.drain_timeout
        crowd = min(1.0, len(self._connections) / (DRAIN_WAVE * DRAIN_STEPS))
        window = round(drain / 2 * crowd, 3)
        self._say_goaway((0.0, window))
        with trio.move_on_after(window + min(HANDOVER, drain / 4)):
            await self._none_left.wait()
        for outbox in list(self._connections):
            outbox.end(endings.GOING_AWAY)

    async def _send_away(self) -> None:
        """End the clients, in waves: nobody else has what they watch."""
        leaving = list(self._connections)
        self._say_goaway(self.limits.retry)
        wave = max(DRAIN_WAVE, -(-len(leaving) // DRAIN_STEPS))
        for start in range(0, len(leaving), wave):
            if start:
                await trio.sleep(self.limits.drain_timeout / 2 / DRAIN_STEPS)
            for outbox in leaving[start : start + wave]:
                outbox.end(endings.GOING_AWAY)

    def _say_goaway(self, window: tuple[float, float]) -> None:
        goaway = encode("goaway", code=endings.GOING_AWAY.code, retry=window)
        for outbox in self._connections:
            outbox.announce(goaway)

    def _refuse(self) -> Ending | None:
        if self.leaving.is_set():
            return endings.GOING_AWAY
        if len(self._connections) >= self.limits.max_connections:
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

    async def _load(self) -> None:
        while True:
            asked = await self.hub.next_loads(LOAD_BATCH)
            async with trio.open_nursery() as nursery:
                for part in self.broker.apart(list(asked)):
                    nursery.start_soon(self._load_part, {job: asked[job] for job in part})

    async def _load_part(self, asked: dict[str, Position]) -> None:
        try:
            self.hub.loaded(asked, await self.broker.read(list(asked)))
        except BrokerUnavailable as error:
            log.debug("no answer about %d jobs yet: %s", len(asked), error)
            await trio.sleep(RETRY_EVERY)
            self.hub.not_loaded(asked)

    async def _refill(self) -> None:
        while True:
            topic = await self.hub.next_refill()
            try:
                events = await self.broker.history(topic.job, after=UNSEEN)
            except BrokerUnavailable as error:
                log.warning("no history of %s: %s", topic.job, error)
                self.hub.refilled(topic, None)
            else:
                self.hub.refilled(topic, events)

    async def _check(self) -> None:
        """Compare the topics with the broker: not all nodes at once, but soon after a loss."""
        while True:
            with trio.move_on_after(self.limits.check_every * uniform(0.8, 1.2)):  # noqa: S311 - jitter
                await self._lost.wait()
            lost, self._lost = self._lost.is_set(), trio.Event()
            jobs = self.hub.jobs
            for start in range(0, len(jobs), LOAD_BATCH):
                topics = self.hub.positions(jobs[start : start + LOAD_BATCH])
                async with trio.open_nursery() as nursery:
                    for part in self.broker.apart(list(topics)):
                        some = {job: topics[job] for job in part}
                        nursery.start_soon(partial(self._compare, some, lost=lost))

    async def _compare(self, topics: dict[str, Position], *, lost: bool) -> None:
        try:
            found = await self.broker.positions(list(topics))
            if lost:
                # Not the broker's word alone counts now: it may have lost what we have seen.
                differing = [job for job in topics if found.get(job, UNSEEN) != topics[job]]
                await self.broker.restore(self.hub.seen(differing))
            self.hub.compared(topics, found)
        except BrokerUnavailable as error:
            log.debug("cannot compare %d jobs yet: %s", len(topics), error)
            await trio.sleep(RETRY_EVERY)
            if lost:
                self._lost.set()

    async def _reap(self) -> None:
        while True:
            await trio.sleep(self.limits.reap_every)
            self.hub.sweep()
            try:
                self.tally.reaped += await self.broker.reap()
            except BrokerUnavailable as error:
                log.debug("cannot look for silent workers: %s", error)

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
            news = encode("feed", stale=self._stale is not None)
            for outbox in self._connections:
                outbox.announce(news)
