"""A node on a mock clock, with clients that the test connects."""

from __future__ import annotations

from typing import Any

import trio
import trio.testing
from trio.testing import wait_all_tasks_blocked

from gateway import Limits, MemoryBroker, Node
from gateway.delivery.set_registry import NOTIFY_INTERVAL
from gateway.model.state import Position, Update
from gateway.protocol.close_codes import CloseCode

from ..fakes import FakeSource, Sink


class HarnessClient:
    """A connection to the node under test."""

    def __init__(self, sink: Sink, address: str = "") -> None:
        self.source = FakeSource()
        self.sink = sink
        self.address = address
        self.ended = trio.Event()
        self.close_code: CloseCode | None = None

    async def run(self, node: Node) -> None:
        self.close_code = await node.serve(self.source, self.sink, address=self.address)
        self.ended.set()

    async def subscribe(self, *jobs: str, **more: Any) -> None:
        await self.source.send(type="subscribe", jobs=jobs, **more)
        await wait_all_tasks_blocked()

    @property
    def seen(self) -> list[tuple[int | None, int]]:
        return [(frame["prev"], frame["seq"]) for frame in self.sink.frames_of("progress")]


class Harness:
    """A running node, its broker, and the clients a test opens."""

    def __init__(self, nursery: trio.Nursery, limits: Limits) -> None:
        self.nursery = nursery
        self.broker = MemoryBroker(limits, clock=trio.current_time, monotonic=trio.current_time)
        self.node = Node(self.broker, limits=limits)

    async def publish(self, job: str, **fields: Any) -> Position:
        return (await self.broker.publish(job, Update(**fields))).position

    async def connect(self, sink: Sink | None = None, address: str = "") -> HarnessClient:
        client = HarnessClient(sink or Sink(), address)
        self.nursery.start_soon(client.run, self.node)
        await wait_all_tasks_blocked()
        return client


async def messages_sent() -> None:
    """Waits until all messages are sent, including those that wait for the interval of sets."""
    await wait_all_tasks_blocked()
    await trio.sleep(NOTIFY_INTERVAL + 0.02)
    await wait_all_tasks_blocked()
