"""The process of a node. It serves clients over ASGI, ends, and is started again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import trio
from attrs import define, field

from gateway.auth.factory import open_authenticator
from gateway.brokers.base import Broker
from gateway.brokers.redis.broker import RedisBroker
from gateway.http.api import create_http_app
from gateway.model.errors import BrokerUnavailable
from gateway.model.limits import Limits
from gateway.node.node import Node

from .clients import Line
from .groups import FollowedMemoryBroker
from .rights import SECRET
from .sockets import Link
from .threads import SimulatedProcess, now

if TYPE_CHECKING:
    from .world import World

__all__ = ["Host", "leaves"]


@define(eq=False)
class Host:
    """A node's process, which is started again when it ends."""

    name: str
    world: World
    link: Link
    number: int = 0
    process: SimulatedProcess = field(init=False)
    node: Node = field(init=False)
    broker: Any = field(init=False)
    http: Any = field(init=False)
    alive: bool = False
    draining: bool = False
    down_until: float = 0.0
    since: float = 0.0
    """When the host began to serve."""
    draining_for: float | None = None

    def __attrs_post_init__(self) -> None:
        self.process = SimulatedProcess(self.name, self.world.seed)

    async def run(self) -> None:
        """Runs until cancelled."""
        while True:
            self.number += 1
            skew = self.process.skew
            self.process = SimulatedProcess(f"{self.name}.{self.number}", self.world.seed)
            self.process.skew = skew
            self.world.links[self.process.name] = self.link
            await self.process.run(self._main)
            self.alive = self.draining = False
            if self.world.scenario.broker == "redis":
                self.world.memories.node_has_ended(self, self.world.server.redis.store)
            self.link.reset()  # the connections of a process end with it
            self.world.note(f"{self.name} is gone")
            await trio.sleep_until(max(self.down_until, trio.current_time() + 0.5))

    async def _main(self) -> None:
        scenario = self.world.scenario
        limits = Limits(history=scenario.history, linger=scenario.linger)
        broker: Broker
        if self.world.scenario.broker == "redis":
            broker = _redis_broker(self, limits)
        else:
            broker = FollowedMemoryBroker(limits, clock=now, monotonic=trio.current_time)
            broker.group_model, broker.held = self.world.group_model, self.world.held
        self.broker = broker
        authenticator = open_authenticator(
            secret=SECRET if scenario.rights else None, limits=limits
        )
        self.node = Node(
            broker,
            limits=limits,
            authenticator=authenticator,
            name=self.process.name,
            random=self.process.rng,
        )
        self.http = create_http_app(self.node)
        started = False
        try:
            async with trio.open_nursery() as nursery:
                # Half of the nodes start while Redis is away, like those of `gateway serve`.
                waits = self.world.randomness(f"waits/{self.process.name}").random() < 0.5
                await nursery.start(partial(self.node.run, wait_for_broker=waits))
                started = self.alive = True
                self.since = trio.current_time()
                self.world.note(f"{self.name} serves")
                while self.draining_for is None:
                    await self._wake.wait()
                self.draining = True
                await self.node.drain()
                self.draining_for = None
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            other_errors = group.split(trio.Cancelled)[1]
            if (
                other_errors is not None
                and not started
                and other_errors.split(BrokerUnavailable)[1] is None
            ):
                self.world.note(f"{self.name} cannot start: {next(leaves(other_errors))}")
                return
            raise
        except BrokerUnavailable as error:
            self.world.note(f"{self.name} cannot start: {error}")

    _wake: trio.Event = field(factory=trio.Event)

    def drain(self) -> None:
        if self.alive and not self.draining:
            self.draining_for = 1.0
            self._wake.set()
            self._wake = trio.Event()

    def serve(self, line: Line, app: Callable[..., Awaitable[None]], scope: Any) -> None:
        """Runs an ASGI application for one connection, as a server would."""
        if not self.alive or self.process.nursery is None or self.process.dead:
            line.host_is_gone()
            return

        async def conversation() -> None:
            try:
                await app(scope, line.receive, line.send)
            finally:
                line.host_is_gone()

        self.process.start_soon(conversation)


def _redis_broker(host: Host, limits: Limits) -> RedisBroker:
    """Returns the broker as `gateway serve` makes it."""
    return RedisBroker("redis://simulated/0", limits, random=host.process.rng)


def leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error
