"""Links to a Redis that a test scripts: no server, no thread, so virtual time may be used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import trio
from attrs import define, field

from gateway.brokers.redis.links import Command

__all__ = ["ScriptedConnector", "ScriptedLink"]


@define(eq=False)
class ScriptedLink:
    """A link whose answers come from the test."""

    answer: Callable[[Command], Any]
    """Returns the answer to one command, or raises what breaks the connection."""
    server: bytes = b"one"
    current: bool = True
    takes: float = 0.0
    """Seconds until the answers are there."""
    closed: bool = field(default=False, init=False)

    @property
    def alive(self) -> bool:
        return not self.closed

    async def is_current(self) -> bool:
        await trio.lowlevel.checkpoint()
        return self.current

    async def execute(
        self, commands: Sequence[Command], convert: Callable[[list[Any]], Any] = lambda got: got
    ) -> Any:
        if self.closed:
            raise ConnectionError("the connection is closed")
        await trio.sleep(self.takes)
        return convert([self.answer(command) for command in commands])

    def close(self) -> None:
        self.closed = True


@define(eq=False)
class ScriptedConnector:
    """Gives the links of the test, one after the other; then it raises."""

    links: list[ScriptedLink] = field(factory=list)
    connected_at: list[float] = field(factory=list, init=False)
    """When `connect` was called, on Trio's clock."""

    async def connect(self, key: str, *, name: str, limiter: trio.CapacityLimiter) -> ScriptedLink:
        await trio.lowlevel.checkpoint()
        self.connected_at.append(trio.current_time())
        if not self.links:
            raise ConnectionError("no server")
        return self.links.pop(0)

    def close_idle_connections(self) -> None:
        pass
